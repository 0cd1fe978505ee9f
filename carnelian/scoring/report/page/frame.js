"use strict";
/* what all pages have: elements, tables, histograms, sound, and the list of utterances */
const data = JSON.parse(document.getElementById("payload").textContent);
const PAGE = 50;
const percent = (rate) => (rate === null ? "–" : (100 * rate).toFixed(2) + " %");
const count = (number) => number.toLocaleString("en");
const words = (text) => text.split(/\s+/).filter(Boolean);

/* an element with attributes and children; text is never read as HTML */
function make(name, attributes = {}, ...children) {
  const vector = ["svg", "rect", "line", "text", "circle", "path", "title"].includes(name);
  const element = vector ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

function table(heads, rows) {
  const numeric = (value) => (typeof value === "number" || /^[\d.–-]/.test(value) ? { class: "number" } : {});
  return make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head, index) => make("th", rows.length ? numeric(rows[0][index]) : {}, head)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((value) => make("td", numeric(value), value))))));
}

const card = (title, ...children) => make("div", { class: "card" }, make("h3", {}, title), ...children);

/* counts between edges; the height is the square root where one slot would hide the others */
function histogram(title, { edges, counts, unit }) {
  const most = Math.max(1, ...counts), width = 340 / counts.length;
  const svg = make("svg", { viewBox: "0 0 380 150", role: "img", "aria-label": title });
  counts.forEach((each, index) => {
    const height = 110 * Math.sqrt(each / most);
    svg.append(make("rect", { x: 20 + width * index, y: 120 - height, width: Math.max(1, width - 1), height, fill: "var(--bar)" },
      make("title", {}, `${edges[index]} to ${edges[index + 1]} ${unit}: ${count(each)}`)));
  });
  for (const index of [0, Math.floor(counts.length / 2), counts.length]) {
    svg.append(make("text", { x: 20 + width * index, y: 136, "text-anchor": "middle" }, `${edges[index]}`));
  }
  svg.append(make("line", { x1: 20, x2: 360, y1: 120, y2: 120, stroke: "var(--line)" }));
  return card(title, svg, make("p", { class: "note" }, `${unit}; heights are square roots of counts`));
}

async function unzip(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
}

function wave(outline) {
  const path = outline.map((level, index) => `M${index} ${18 - 17 * level}V${18 + 17 * level}`).join("");
  return make("svg", { class: "wave", viewBox: `0 0 ${outline.length} 36`, preserveAspectRatio: "none", "aria-hidden": "true" },
    make("path", { d: path, stroke: "currentColor", "stroke-width": 0.7 }));
}

/* the power of a frame of 512 samples in decibels, 256 bins: a fast Fourier transform by decimation in time */
const SIZE = 512, HOP = 160, RANGE = 70;
const turned = Array.from({ length: SIZE }, (_, index) => parseInt(index.toString(2).padStart(9, "0").split("").reverse().join(""), 2));
const bell = Float32Array.from({ length: SIZE }, (_, index) => 0.5 - 0.5 * Math.cos(2 * Math.PI * index / SIZE));
function powers(samples, first) {
  const real = new Float32Array(SIZE), imaginary = new Float32Array(SIZE), levels = new Float32Array(SIZE / 2);
  for (let at = 0; at < SIZE; at++) real[turned[at]] = (samples[first + at] ?? 0) * bell[at];
  for (let size = 2; size <= SIZE; size *= 2) for (let pair = 0; pair < size / 2; pair++) {
    const c = Math.cos(2 * Math.PI * pair / size), s = -Math.sin(2 * Math.PI * pair / size);
    for (let even = pair; even < SIZE; even += size) {
      const odd = even + size / 2, r = c * real[odd] - s * imaginary[odd], i = c * imaginary[odd] + s * real[odd];
      real[odd] = real[even] - r; imaginary[odd] = imaginary[even] - i;
      real[even] += r; imaginary[even] += i;
    }
  }
  for (let at = 0; at < SIZE / 2; at++) levels[at] = 10 * Math.log10(real[at] ** 2 + imaginary[at] ** 2 + 1e-10);
  return levels;
}

async function drawSpectrogram(canvas, address) {
  const bytes = Uint8Array.from(atob(address.slice(address.indexOf(",") + 1)), (letter) => letter.charCodeAt(0));
  const sound = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(bytes.buffer);
  const samples = sound.getChannelData(0), hop = Math.max(HOP, Math.ceil(samples.length / 1500));
  const frames = Array.from({ length: Math.ceil(samples.length / hop) }, (_, index) => powers(samples, index * hop));
  const top = frames.reduce((most, frame) => Math.max(most, ...frame), -100);
  canvas.width = frames.length; canvas.height = SIZE / 2;
  const paint = canvas.getContext("2d"), image = paint.createImageData(canvas.width, canvas.height);
  const [red, green, blue] = getComputedStyle(document.body).color.match(/\d+/g).map(Number);
  frames.forEach((frame, x) => frame.forEach((level, bin) => {
    image.data.set([red, green, blue, 255 * Math.max(0, 1 + (level - top) / RANGE)], 4 * ((canvas.height - 1 - bin) * canvas.width + x));
  }));
  paint.putImageData(image, 0, 0);
  canvas.dataset.drawn = "true";
}

/* spectrograms are computed when they come into sight */
const sight = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
  sight.unobserve(target);
  drawSpectrogram(target, target.nextSibling.src).catch(() => target.remove());
}));

function sound(place) {
  const clip = JSON.parse(document.getElementById(`clip-${place}`).textContent);
  const canvas = make("canvas", { class: "spectrogram", role: "img", "aria-label": "Spectrogram, 0 to 8 kHz" });
  sight.observe(canvas);
  return [wave(clip.outline), canvas, make("audio", { controls: "", preload: "none", src: clip.audio })];
}

/* the list of utterances: parts are unpacked as they are looked at. A place is an utterance's number in the file's order */
const parts = [...document.querySelectorAll(".part")], unpacked = new Map(), listed = Math.min(data.utterances, parts.length * data.part);
const audible = new Set(data.clips.filter((place) => place < listed)), values = {};
let list, order = [], page = 0, column = "", descending = true, asked = 0;

const rowAt = async (place) => (await partAt(Math.floor(place / data.part)))[place % data.part];
async function partAt(index) {
  if (!unpacked.has(index)) unpacked.set(index, unzip(parts[index].textContent).then((part) => part.json()));
  return unpacked.get(index);
}

const valueAt = (key, place, system = Number(document.getElementById("system").value)) => (values[key][system] ?? values[key][0])[place];
const nameAt = (key, place) => {
  const described = data.columns.find((each) => each.key === key);
  return described && Number.isFinite(valueAt(key, place)) ? described.names[valueAt(key, place)] : "";
};

async function arrange() {
  const mine = ++asked, query = document.getElementById("search").value.trim().toLowerCase();
  const show = list.shown[document.getElementById("show").value], kept = [];
  for (let place = 0; place < listed; place++) {
    if (show && !show(place)) continue;
    if (query) {
      const texts = [...list.searched(await rowAt(place)), nameAt("speaker", place), nameAt("subset", place)];
      if (mine !== asked) return;
      if (!texts.some((text) => text.toLowerCase().includes(query))) continue;
    }
    kept.push(place);
  }
  if (column) {
    const system = Number(document.getElementById("system").value), keys = values[column][system] ?? values[column][0];
    const sign = descending ? -1 : 1, rank = (place) => (Number.isNaN(keys[place]) ? -Infinity : keys[place]);
    kept.sort((a, b) => { const one = rank(a), other = rank(b); return one < other ? -sign : one > other ? sign : a - b; });
  }
  order = kept; page = 0;
  document.getElementById("found").textContent = `${count(order.length)} utterances`;
  await draw();
}

function cellOf({ key, digits, names }, place) {
  const value = valueAt(key, place);
  if (names.length) return make("td", {}, nameAt(key, place));
  return make("td", { class: "number" }, Number.isNaN(value) ? "" : Number.isFinite(value) ? value.toFixed(digits) : "–");
}

async function draw() {
  const rows = await Promise.all(order.slice(page * PAGE, (page + 1) * PAGE).map(async (place) => {
    const text = make("td", {}, ...list.text(await rowAt(place), place));
    if (audible.has(place)) text.append(...sound(place));
    return make("tr", {}, ...data.columns.map((each) => cellOf(each, place)), text);
  }));
  document.querySelector("#utterances tbody").replaceChildren(...rows);
  const pages = Math.max(1, Math.ceil(order.length / PAGE));
  document.getElementById("page").textContent = `page ${page + 1} of ${pages}`;
  document.getElementById("before").disabled = page === 0;
  document.getElementById("after").disabled = page + 1 >= pages;
}

function listen() {
  let waiting;
  document.getElementById("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(arrange, 200); });
  document.getElementById("filter").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["system", "show"]) document.getElementById(id).addEventListener("change", arrange);
  document.getElementById("before").addEventListener("click", () => { page -= 1; draw(); });
  document.getElementById("after").addEventListener("click", () => { page += 1; draw(); });
}

function head({ key, title }) {
  const button = make("button", { "data-column": key }, title);
  button.addEventListener("click", () => {
    descending = column === key ? !descending : key !== "index";
    column = key;
    for (const other of document.querySelectorAll("th button")) other.removeAttribute("aria-sort");
    button.setAttribute("aria-sort", descending ? "descending" : "ascending");
    arrange();
  });
  return make("th", {}, button);
}

/* text: the nodes that show a row; searched: the texts of a row; shown: what the list may be limited to, as {words: whether} */
async function openList(text, searched, shown, systems = [""]) {
  list = { text, searched, shown: { ...shown, "with audio": (place) => audible.has(place) } };
  document.getElementById("system").append(...systems.map((each, index) => make("option", { value: index }, each)));
  document.getElementById("system").parentElement.hidden = systems.length < 2;
  document.getElementById("show").append(...Object.keys(list.shown).map((each) => make("option", { value: each }, each)));
  document.querySelector("#utterances thead tr").append(...data.columns.map(head), make("th", {}, "Text"));
  const numbers = new Float32Array(await (await unzip(document.getElementById("values").textContent)).arrayBuffer());
  let first = 0;
  for (const { key, rows } of data.columns) {
    values[key] = Array.from({ length: rows }, (_, row) => numbers.subarray(first + row * data.utterances, first + (row + 1) * data.utterances));
    first += rows * data.utterances;
  }
  if (listed < data.utterances) document.getElementById("all").after(make("p", { class: "note" },
    `The ${count(data.utterances - listed)} utterances that would come last are not listed: the file would be too large.`));
  listen();
  await arrange();
  document.body.dataset.ready = Math.round(performance.now());  // milliseconds since the page was asked for
}

/* the words of a hypothesis: those of the reference where the operation is a hit */
function hypothesisOf(reference, operations, others) {
  const spoken = words(reference), found = [];
  let at = 0, other = 0;
  for (const operation of operations) {
    if (operation !== "d") found.push(operation === "h" ? spoken[at] : others[other++]);
    if (operation !== "i") at += 1;
  }
  return found;
}

/* a reference with the operations of an alignment, the words that are no hits, and the confidences as letters, in steps of 2 % */
function alignedRow(reference, [operations, others, letters]) {
  const spoken = words(reference), hypothesis = hypothesisOf(reference, operations, others);
  let at = 0, other = 0;
  return make("div", { class: "aligned" }, ...[...operations].map((operation) => {
    const one = operation === "i" ? "·" : spoken[at++];
    const sure = operation === "d" || !letters ? {} : { title: `confidence ${2 * (letters.charCodeAt(other) - 48)} %` };
    const two = operation === "d" ? "·" : hypothesis[other++];
    const word = make("span", { class: operation, ...sure }, one);
    if (operation !== "h") word.append(make("small", {}, two));
    return word;
  }));
}
