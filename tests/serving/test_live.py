"""Live recognition: this service's own messages, Vosk's on the same socket, and Wyoming over TCP."""

import json
import socket
import time

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect


def pcm(audio: np.ndarray) -> bytes:
    return (audio * 32767).astype("<i2").tobytes()


def pieces(content: bytes, size: int = 6400):
    return (content[first : first + size] for first in range(0, len(content), size))


def everything(client) -> list[dict]:
    """Messages until the service closes."""
    found = []
    while True:
        try:
            found.append(json.loads(client.recv(timeout=20)))
        except ConnectionClosed:
            return found


@pytest.fixture(scope="module")
def fed(start):
    """A service whose model is fed with live audio as it comes, and sees 0.4 s ahead."""
    return start(ahead=0.4)


@pytest.fixture(scope="module", params=["service", "fed"])
def live(request):
    """A service that recognizes each segment anew, and one whose model is fed."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def open_stream(live):
    def make(path="/v1/stream", **options):
        return connect(f"ws://127.0.0.1:{live.port}{path}", **options)

    return make


def test_partials_come_while_one_speaks_and_a_final_after_each_pause(open_stream, singer):
    with open_stream() as client:
        client.send(json.dumps({"type": "start", "sample_rate": 16_000}))
        assert json.loads(client.recv())["type"] == "ready"
        received = []
        for piece in pieces(pcm(singer("do re mi . fa sol"))):
            client.send(piece)
            time.sleep(0.1)  # twice as fast as spoken
            try:
                while True:
                    received.append(json.loads(client.recv(timeout=0)))
            except TimeoutError:
                pass
        early = [each["type"] for each in received]
        client.send(json.dumps({"type": "finish"}))
        received += everything(client)
    assert "partial" in early and "final" in early  # before the end was sent
    finals = [each for each in received if each["type"] == "final"]
    assert [each["text"] for each in finals] == ["do re mi", "fa sol"]
    assert received[-1] == {"type": "done"}
    starts = [word["start"] for each in finals for word in each["words"]]
    assert starts == pytest.approx([0, 0.5, 1.0, 2.5, 3.0], abs=0.06)
    longest = max((each["text"] for each in received if each["type"] == "partial"), key=len)
    assert longest in ("do re mi", "do re")


def test_sent_at_once_it_is_the_same(open_stream, singer):
    words = "do re . mi fa . sol la . ti do"
    with open_stream() as client:
        for piece in pieces(pcm(singer(words))):
            client.send(piece)
        client.send(json.dumps({"type": "finish"}))
        finals = [each["text"] for each in everything(client) if each["type"] == "final"]
    assert finals == ["do re", "mi fa", "sol la", "ti do"]


def test_a_speaker_without_pauses_is_cut_at_quiet_moments(open_stream, singer):
    words = " ".join(np.random.default_rng(0).choice(["do", "re", "mi", "fa", "sol", "la", "ti"], 120))
    with open_stream() as client:
        client.send(json.dumps({"type": "start", "sample_rate": 8000}))
        for piece in pieces(pcm(singer(words, rate=8000))):
            client.send(piece)
        client.send(json.dumps({"type": "finish"}))
        finals = [each["text"] for each in everything(client) if each["type"] == "final"]
    assert len(finals) > 3 and " ".join(finals) == words


def test_a_commit_ends_a_segment(open_stream, singer):
    with open_stream() as client:
        client.send(json.dumps({"type": "start", "silence": None}))
        client.send(pcm(singer("do . . re")))
        client.send(json.dumps({"type": "commit"}))
        client.send(pcm(singer("mi")))
        client.send(json.dumps({"type": "finish"}))
        finals = [each["text"] for each in everything(client) if each["type"] == "final"]
    assert finals == ["do re", "mi"]


@pytest.mark.parametrize(
    "message, code",
    [
        ("no json", "invalid_json"),
        ("[1]", "invalid_json"),
        ("[" * 100_000, "invalid_json"),
        ('{"type": "start", "sample_rate": 1}', "invalid_value"),
        ('{"type": "start", "keywords": [1]}', "invalid_value"),
        ('{"type": "start", "silence": -1}', "invalid_value"),
        ('{"type": "dance"}', "unknown_message"),
        ('{"config": 3}', "invalid_value"),
        ('{"type": "start", "sample_rate": NaN}', "invalid_value"),
        ('{"type": "\\ud800"}', "invalid_json"),
    ],
)
def test_odd_messages_end_in_an_error(open_stream, message, code):
    with open_stream() as client:
        client.send(message)
        errors = [each["error"] for each in everything(client) if each["type"] == "error"]
    assert [error["code"] for error in errors] == [code]


def test_the_settings_of_a_realtime_session_are_limited(service):
    """A session keeps them, and sends them back: many updates may not fill the memory."""
    event = {"type": "session.update", "session": {"audio": {"input": {"noise_reduction": {"x": "y" * (1 << 18)}}}}}
    with connect(f"ws://127.0.0.1:{service.port}/v1/realtime") as client:
        client.send(json.dumps(event))
        kinds = [json.loads(client.recv(timeout=10)) for _ in range(2)]
    assert kinds[1]["type"] == "error" and kinds[1]["error"]["param"] == "session"


def test_a_page_of_another_site_may_not_open_a_session(service):
    address = f"127.0.0.1:{service.port}"
    with connect(f"ws://{address}/v1/stream", origin=f"http://{address}"):
        pass
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://{address}/v1/stream", origin="https://elsewhere.example")
    assert refused.value.response.status_code == 403


def test_keys_and_the_number_of_sessions(start, singer):
    served = start(keys=["right"], max_live=1, idle_seconds=1.0)
    address = f"ws://127.0.0.1:{served.port}/v1/stream"
    with pytest.raises(InvalidStatus) as refused:
        connect(address)
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body)["error"]["code"] == "invalid_api_key"
    with connect(address, subprotocols=["realtime", "openai-insecure-api-key.right"]) as client:
        assert client.subprotocol == "realtime"
        with pytest.raises(InvalidStatus) as refused:
            connect(address, additional_headers={"authorization": "Bearer right"})
        assert refused.value.response.status_code == 503
        assert 1 <= int(refused.value.response.headers["retry-after"]) <= 120
        [error] = everything(client)  # it sent nothing
        assert error["error"]["code"] == "idle_timeout"


@pytest.mark.parametrize("path", ["/", "/v1/stream"])
def test_vosk_clients_get_one_answer_for_each_message(open_stream, singer, path):
    with open_stream(path) as client:
        client.send(json.dumps({"config": {"sample_rate": 16_000, "phrase_list": ["do"]}}))
        answers = []
        for piece in pieces(pcm(singer("do re . . mi fa"))):
            client.send(piece)
            answers.append(json.loads(client.recv(timeout=10)))
            time.sleep(0.05)
        client.send('{"eof" : 1}')
        answers.append(json.loads(client.recv(timeout=10)))
    finals = [each for each in answers if each.get("text")]
    assert [each["text"] for each in finals] == ["do re", "mi fa"]
    assert [word["word"] for word in finals[0]["result"]] == ["do", "re"]
    assert set(finals[0]["result"][0]) == {"conf", "start", "end", "word"}
    assert any(each.get("partial") for each in answers)


def test_a_client_that_leaves_takes_its_session_with_it(open_stream, live, singer):
    with open_stream() as client:
        client.send(pcm(singer("do re mi")))
        client.recv(timeout=10)
        assert live.metric("carnelian_live_sessions") == 1
        client.socket.close()
    for _ in range(50):
        time.sleep(0.1)
        if live.metric("carnelian_live_sessions") == 0:
            return
    pytest.fail("the session is still there")


def test_a_sender_that_floods_is_slowed_down_and_memory_stays_flat(start, singer):
    served = start(work=0.05, max_backlog_seconds=5.0)
    content = pcm(np.tile(singer("do re mi fa"), 600))  # 20 minutes
    before = served.memory()
    with connect(f"ws://127.0.0.1:{served.port}/v1/stream") as client:
        started = time.monotonic()
        try:
            for piece in pieces(content, 320_000):
                client.send(piece)
                assert served.memory() - before < 64 << 20
                if time.monotonic() - started > 5:
                    break
        finally:
            client.socket.close()
    assert served.request("GET", "/health/ready").status == 200


class Wyoming:
    """A client of the protocol in its plainest form."""

    def __init__(self, port: int):
        self.file = socket.create_connection(("127.0.0.1", port), timeout=10).makefile("rwb")

    def send(self, kind: str, data=None, payload: bytes = b""):
        content = json.dumps(data).encode() if data else b""
        head = {"type": kind, "data_length": len(content), "payload_length": len(payload)}
        self.file.write(json.dumps(head).encode() + b"\n" + content + payload)
        self.file.flush()

    def receive(self) -> tuple[str, dict]:
        head = json.loads(self.file.readline())
        return head["type"], json.loads(self.file.read(head.get("data_length", 0)) or b"{}")


def test_wyoming(start, singer, free_port):
    start(wyoming=free_port)
    client = Wyoming(free_port)
    client.send("describe")
    kind, info = client.receive()
    assert kind == "info" and info["asr"][0]["models"][0]["name"] == "tones"
    for _ in range(2):  # a connection may ask again
        client.send("transcribe", {"language": "en", "transcript_names": ["do"]})
        form = {"rate": 16_000, "width": 2, "channels": 2}
        client.send("audio-start", form)
        stereo = np.repeat(singer("do re mi . fa"), 2)
        for piece in pieces(pcm(stereo), 4096):
            client.send("audio-chunk", form, piece)
        client.send("audio-stop")
        answers = [client.receive() for _ in range(4)]
        assert [kind for kind, _ in answers] == [
            "transcript-start",
            "transcript-chunk",
            "transcript",
            "transcript-stop",
        ]
        assert answers[2][1]["text"] == "do re mi fa"
    for odd in ({"rate": 3}, {"rate": 16_000, "width": True}, {"rate": 16_000, "channels": 1.0}):
        client = Wyoming(free_port)
        client.send("audio-start", odd)
        assert client.receive()[0] == "error"
    hostile = socket.create_connection(("127.0.0.1", free_port), timeout=10)
    hostile.sendall(b'{"type": "audio-chunk", "payload_length": 99999999999}\n')
    assert b"at most" in hostile.recv(4096)
    hostile = socket.create_connection(("127.0.0.1", free_port), timeout=10)
    try:
        hostile.sendall(b"x" * 200_000)
        assert hostile.recv(4096) == b""
    except ConnectionError:
        pass
    assert Wyoming(free_port).file is not None


def test_a_live_session_gets_its_last_words_at_a_shutdown(start, singer):
    served = start()
    with connect(f"ws://127.0.0.1:{served.port}/v1/stream") as client:
        client.send(pcm(singer("do re mi")))
        client.recv(timeout=10)
        served.process.terminate()
        received = everything(client)
    assert [each["text"] for each in received if each["type"] == "final"] == ["do re mi"]
    assert received[-1] == {"type": "done"}
    served.stop()
