"""Drives the service's page in headless Chromium: `python browser.py CALL URL RECORDING`; prints what it saw as JSON.

`pictures` writes light.png, dark.png and phone.png into the current folder: the pictures of the documentation.
"""

import base64
import json
import sys
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

call, url, path = sys.argv[1:4]
AXE = Path(sys.executable).parent.parent / "node_modules" / "axe-core" / "axe.min.js"
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1100", "--hide-scrollbars"),
    *("--autoplay-policy=no-user-gesture-required", "--use-fake-device-for-media-stream"),
    *("--use-fake-ui-for-media-stream", f"--use-file-for-fake-audio-capture={path}%noloop"),
)
DROP = """
const [name, content] = arguments, bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], name, { type: "audio/wav" }));
dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
"""
CATCH = """
window.files = {};
const create = URL.createObjectURL;
URL.createObjectURL = blob => { const url = create(blob); window.last = blob; return url; };
window.plays = 0;
document.getElementById("audio").addEventListener("play", () => window.plays++);
HTMLAnchorElement.prototype.click = function () { window.files[this.download] = window.last; };
"""

options = Options()
for flag in FLAGS:
    options.add_argument(flag)
options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
browser = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
browser.set_script_timeout(120)


def find(name: str):
    return browser.find_element(By.ID, name)


def words() -> list[str]:
    return [each.text for each in browser.find_elements(By.CSS_SELECTOR, "#text span")]


def until(condition, seconds: float = 30):
    try:
        return WebDriverWait(browser, seconds, 0.05).until(lambda _: condition())
    except Exception:
        raise AssertionError(f"status: {find('status').text}; words: {words()}") from None


def drop() -> None:
    browser.execute_script(DROP, "scale.wav", base64.b64encode(Path(path).read_bytes()).decode())
    until(lambda: " words in " in find("status").text)


def axe() -> list:
    browser.execute_script(AXE.read_text())
    found = browser.execute_async_script("axe.run().then(arguments[0])")
    return [[each["id"], [node["html"][:200] for node in each["nodes"]]] for each in found["violations"]]


def problems() -> list:
    """What the browser complained of, and what was fetched from elsewhere."""
    said = [each["message"] for each in browser.get_log("browser") if each["level"] in ("SEVERE", "WARNING")]
    names = browser.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
    return said + [name for name in names if not name.startswith((url, "blob:"))]


def played() -> list:
    """How often something was played, whether it ended, and where."""
    return browser.execute_script("const a = document.getElementById('audio'); return [plays, a.paused, a.currentTime]")


def dropped():
    browser.execute_script(CATCH)
    drop()
    found = {"words": words(), "lane": len(browser.find_elements(By.CSS_SELECTOR, "#lane span"))}
    browser.find_elements(By.CSS_SELECTOR, "#text span")[3].click()
    until(lambda: played()[:2] == [1, True])
    found["heard"] = played()[2]
    find("text").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ENTER)
    found["chosen"] = find("spoken").get_attribute("textContent")
    until(lambda: played()[0] == 2)
    find("edit").click()
    line = browser.find_elements(By.CSS_SELECTOR, "#text textarea")[0]
    line.send_keys(Keys.HOME, "well ")
    find("edit").click()
    found["edited"] = words()
    for form in ("txt", "srt", "vtt", "json"):
        browser.find_element(By.CSS_SELECTOR, f"[data-form={form}]").click()
        text = f"window.files['scale.{form}'].text().then(arguments[0])"
        found[form] = browser.execute_async_script(text)
    image = browser.execute_script(
        "const c = document.getElementById('view');"
        "return new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
    )
    return found | {"colours": image, "problems": problems()}


def accessible():
    found = {"empty": axe()}
    drop()
    found["light"] = axe()
    find("theme").click()
    time.sleep(0.5)
    found["dark"] = axe()
    find("edit").click()
    found["edit"] = axe()
    browser.set_window_size(500, 900)
    found["phone"] = axe()
    return found


def recorded():
    browser.execute_script(CATCH)
    find("words").send_keys("do, re")
    find("record").click()
    until(lambda: find("partial").text or words())
    early = [find("partial").text, words()]
    until(lambda: len(words()) >= 5)
    found = {"early": early, "words": words()}
    find("record").click()
    until(lambda: find("record-label").text == "Record")
    browser.find_elements(By.CSS_SELECTOR, "#text span")[1].click()
    until(lambda: played()[0] == 1)
    return found | {"playable": True, "problems": problems()}


def locked():
    until(lambda: find("lock").get_attribute("open") is not None)
    found = {"axe": axe()}
    find("key").send_keys("right", Keys.ENTER)
    until(lambda: find("model").text == "tones")
    drop()
    found["words"] = words()
    find("record").click()
    until(lambda: len(words()) and find("record-label").text == "Stop")
    return found


def hour():
    find("files").send_keys(path)
    until(lambda: " words in " in find("status").text, 280)
    browser.execute_script("document.getElementById('overview').focus()")
    find("overview").send_keys(Keys.END)
    time.sleep(0.5)
    lane = [each.text for each in browser.find_elements(By.CSS_SELECTOR, "#lane span")]
    count = len(browser.find_elements(By.CSS_SELECTOR, "#text span"))
    return {"count": count, "clock": find("clock").text, "lane": lane, "axe": axe(), "problems": problems()}


def pictures():
    """The page with a recording, light and dark, and on a telephone while one speaks."""

    def picture(name: str) -> None:
        time.sleep(1)
        browser.save_screenshot(f"{name}.png")

    def screen(width: int, height: int, scale: float) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    screen(1180, 947, 1)
    find("files").send_keys(path)
    until(lambda: " words in " in find("status").text, 280)
    picture("light")
    find("theme").click()
    picture("dark")
    find("theme").click()
    screen(390, 844, 2)
    find("record").click()
    spoken = (
        "return document.querySelectorAll('#text span').length > 3 && document.getElementById('partial').textContent"
    )
    until(lambda: browser.execute_script(spoken), 60)
    ActionChains(browser).move_to_element(find("status")).perform()  # away from what a pointer colours
    picture("phone")
    return {"problems": problems()}


try:
    browser.get(url)
    answers = {
        "dropped": dropped,
        "accessible": accessible,
        "recorded": recorded,
        "locked": locked,
        "hour": hour,
        "pictures": pictures,
    }
    print(json.dumps({"answer": answers[call]()}))
finally:
    browser.quit()
