"use strict";
const data = JSON.parse(document.getElementById("payload").textContent);
const clips = JSON.parse(document.getElementById("clips").textContent);
const PAGE = 50;
const percent = (rate) => (rate === null ? "–" : (100 * rate).toFixed(2) + " %");
const range = (pair) => (pair ? `${(100 * pair[0]).toFixed(2)} – ${(100 * pair[1]).toFixed(2)}` : "");

/* an element with attributes and children; text is never read as HTML */
function make(name, attributes = {}, ...children) {
  const vector = ["svg", "rect", "line", "text", "circle", "path", "title"].includes(name);
  const element = vector ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

function table(heads, rows) {
  const cell = (tag, value) => make(tag, typeof value === "number" || /^[\d.–-]/.test(value) ? { class: "number" } : {}, value);
  return make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", {}, head)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((value) => cell("td", value))))));
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function showSystems() {
  document.getElementById("about").textContent =
    `${data.utterances.toLocaleString("en")} utterances, ${data.hours.toFixed(2)} hours. Normalisation: ${data.normalization}.`;
  const heads = ["System", "WER", "95 % (utterances)", "95 % (speakers)", "CER", "Words", "Substituted", "Deleted", "Inserted", "Outside the language model"];
  document.getElementById("systems").append(table(heads, data.systems.map((each) => {
    const [hits, substitutions, deletions, insertions] = each.counts;
    const unknown = each.unknown ? `${each.unknown.errors} of ${each.unknown.words} words` : "";
    return [each.name, make("span", { class: "big" }, percent(each.rate)), range(each.interval), range(each.speakerInterval),
      percent(each.characterRate), (hits + substitutions + deletions).toLocaleString("en"), substitutions, deletions, insertions, unknown];
  })));
  for (const each of data.comparisons) {
    const chance = each.probability < 0.0001 ? "below 0.0001" : each.probability.toFixed(4);
    document.getElementById("comparisons").append(make("p", { class: "note" },
      `${each.systems.join(" and ")}: ${each.words} (matched pairs, MAPSSWE: z ${each.z === null ? "–" : each.z.toFixed(2)}, probability ${chance}).`));
  }
}

/* horizontal bars with intervals, one row for each group and system */
function bars(group) {
  const rows = group.rows, systems = data.systems.length, height = 10 + rows.length * (8 + 14 * systems);
  const top = Math.max(0.01, ...rows.flatMap((row) => row.intervals.map((pair) => Math.min(pair[1], 1.5))), ...rows.flatMap((row) => row.rates));
  const x = (rate) => 120 + 200 * Math.min(rate, top) / top;
  const svg = make("svg", { viewBox: `0 0 380 ${height}`, role: "img", "aria-label": `Word error rates by ${group.kind}` });
  rows.forEach((row, index) => {
    const y = 10 + index * (8 + 14 * systems);
    svg.append(make("text", { x: 112, y: y + 9, "text-anchor": "end" }, row.name.slice(0, 18),
      make("title", {}, `${row.name}: ${row.utterances} utterances, ${row.words} words`)));
    row.rates.forEach((rate, system) => {
      const line = y + 14 * system, [low, high] = row.intervals[system];
      svg.append(make("rect", { x: 120, y: line, width: Math.max(1, x(rate ?? 0) - 120), height: 10, rx: 2, fill: "var(--bar)", opacity: 1 - 0.35 * system }),
        make("line", { x1: x(low), x2: x(high), y1: line + 5, y2: line + 5, stroke: "var(--ink)", "stroke-width": 1.2 }),
        make("text", { x: x(Math.max(high, rate ?? 0)) + 6, y: line + 9, class: "value" }, percent(rate)));
    });
  });
  return svg;
}

function showGroups() {
  for (const group of data.groups) {
    const rest = group.leftOut ? make("p", { class: "note" }, `${group.leftOut} more with fewer errors`) : "";
    document.getElementById("groups").append(make("div", { class: "card" }, make("h3", {}, group.kind), bars(group), rest));
  }
  if (!data.groups.length) document.getElementById("by").parentElement.hidden = true;
}

function showConfusions() {
  const kinds = { substitution: ["Confused", "reference", "hypothesis"], deletion: ["Missed", "reference"], insertion: ["Inserted", "hypothesis"] };
  for (const system of data.systems) for (const [kind, [title, ...heads]] of Object.entries(kinds)) {
    const rows = system.confusions.filter((each) => each[0] === kind).map(([, reference, hypothesis, count]) =>
      [...(reference === null ? [] : [reference]), ...(hypothesis === null ? [] : [hypothesis]), count]);
    const name = data.systems.length > 1 ? ` (${system.name})` : "";
    document.getElementById("confusions").append(make("div", { class: "card" }, make("h3", {}, title + name),
      rows.length ? table([...heads, "times"], rows) : make("p", { class: "note" }, "none")));
  }
}

/* the reliability curve: the share of correct words over their confidence; on the diagonal confidences are probabilities */
function showCalibration() {
  for (const system of data.systems.filter((each) => each.calibration)) {
    const { slots, error, crossEntropy } = system.calibration, most = Math.max(...slots.map((slot) => slot[2]));
    const x = (value) => 40 + 240 * value, y = (value) => 250 - 230 * value;
    const svg = make("svg", { viewBox: "0 0 300 280", role: "img", "aria-label": `Reliability of ${system.name}` },
      make("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), stroke: "var(--line)", "stroke-width": 2 }));
    for (const tick of [0, 0.5, 1]) svg.append(make("text", { x: x(tick), y: 268, "text-anchor": "middle" }, tick),
      make("text", { x: 32, y: y(tick) + 4, "text-anchor": "end" }, tick));
    svg.append(make("path", { d: slots.map(([confidence, share], index) => `${index ? "L" : "M"}${x(confidence)} ${y(share)}`).join(""), fill: "none", stroke: "var(--stone)", "stroke-width": 2 }));
    for (const [confidence, share, count] of slots) svg.append(make("circle", { cx: x(confidence), cy: y(share), r: 3 + 6 * Math.sqrt(count / most), fill: "var(--stone)", opacity: 0.8 },
      make("title", {}, `confidence ${confidence.toFixed(2)}: ${percent(share)} of ${count} words correct`)));
    const entropy = crossEntropy === null ? "–" : crossEntropy.toFixed(3);
    document.getElementById("reliability").append(make("div", { class: "card" }, make("h3", {}, system.name), svg,
      make("p", { class: "note" }, `Share of correct words over confidence. Expected calibration error ${error.toFixed(3)}, normalised cross entropy ${entropy}.`)));
    document.getElementById("calibrations").hidden = false;
  }
}

/* the table of utterances: parts are unpacked as they are looked at */
const parts = [...document.querySelectorAll(".part")], unpacked = new Map();
let columns, order = [], page = 0, column = "errors", descending = true;

async function part(index) {
  if (!unpacked.has(index)) unpacked.set(index, unpack(parts[index].textContent));
  return unpacked.get(index);
}
const utterance = async (index) => (await part(Math.floor(index / data.part)))[index % data.part];

function value(index, system) {
  const errors = columns.errors[system][index], words = columns.words[index];
  if (column === "errors") return errors;
  if (column === "rate") return words ? errors / words : errors ? Infinity : 0;
  return column === "index" ? index : columns[column][index] ?? -Infinity;
}

async function matches(index, query) {
  if (!query) return true;
  const [name, reference, found] = await utterance(index);
  return [name, reference, columns.speaker[index], columns.subset[index], ...found.map((each) => each[0])].some((text) => text.toLowerCase().includes(query));
}

let asked = 0;
async function arrange() {
  const mine = ++asked, query = document.getElementById("search").value.trim().toLowerCase();
  const show = document.getElementById("show").value, system = Number(document.getElementById("system").value);
  let indices = Array.from({ length: data.utterances }, (_, index) => index);
  if (show === "errors") indices = indices.filter((index) => columns.errors[system][index]);
  if (show === "audio") indices = indices.filter((index) => index in clips);
  if (query) {
    const kept = [];
    for (const index of indices) {
      if (await matches(index, query)) kept.push(index);
      if (mine !== asked) return;
    }
    indices = kept;
  }
  const sign = descending ? -1 : 1;
  indices.sort((a, b) => { const one = value(a, system), other = value(b, system); return one < other ? -sign : one > other ? sign : a - b; });
  order = indices; page = 0;
  document.getElementById("found").textContent = `${order.length.toLocaleString("en")} utterances`;
  await draw();
}

function aligned(reference, [hypothesis, operations, confidences]) {
  const spoken = reference.split(/\s+/).filter(Boolean), found = hypothesis.split(/\s+/).filter(Boolean);
  let at = 0, other = 0;
  return make("div", { class: "aligned" }, ...[...operations].map((operation) => {
    const one = operation === "i" ? "·" : spoken[at++];
    const confidence = operation === "d" ? undefined : confidences[other];
    const two = operation === "d" ? "·" : found[other++];
    const word = make("span", { class: operation, ...(confidence === undefined ? {} : { title: `confidence ${confidence} %` }) }, one);
    if (operation !== "h") word.append(make("small", {}, two));
    return word;
  }));
}

function wave(outline) {
  const path = outline.map((level, index) => `M${index} ${18 - 17 * level}V${18 + 17 * level}`).join("");
  return make("svg", { class: "wave", viewBox: `0 0 ${outline.length} 36`, preserveAspectRatio: "none", "aria-hidden": "true" },
    make("path", { d: path, stroke: "currentColor", "stroke-width": 0.7 }));
}

async function draw() {
  const system = Number(document.getElementById("system").value), indices = order.slice(page * PAGE, (page + 1) * PAGE);
  const rows = await Promise.all(indices.map(async (index) => {
    const [name, reference, found] = await utterance(index), errors = columns.errors[system][index], words = columns.words[index];
    const text = make("td", {}, make("div", { class: "who" }, name));
    found.forEach((each, number) => {
      if (found.length > 1) text.append(make("div", { class: "who" }, data.systems[number].name));
      text.append(aligned(reference, each));
    });
    if (index in clips) text.append(wave(clips[index].outline), make("audio", { controls: "", preload: "none", src: clips[index].audio }));
    const numbers = [index + 1, errors, words ? (100 * errors / words).toFixed(0) + " %" : "–", columns.duration[index].toFixed(1), columns.snr[index] ?? ""];
    return make("tr", {}, ...numbers.map((each) => make("td", { class: "number" }, each)), make("td", {}, columns.speaker[index]), text);
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
  for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
    descending = column === button.dataset.column ? !descending : button.dataset.column !== "index";
    column = button.dataset.column;
    for (const other of document.querySelectorAll("th button")) other.removeAttribute("aria-sort");
    button.setAttribute("aria-sort", descending ? "descending" : "ascending");
    arrange();
  });
}

async function start() {
  showSystems(); showGroups(); showConfusions(); showCalibration();
  document.getElementById("system").append(...data.systems.map((each, index) => make("option", { value: index }, each.name)));
  document.getElementById("system").parentElement.hidden = data.systems.length < 2;
  columns = await unpack(data.columns);
  listen();
  await arrange();
  document.body.dataset.ready = "true";
}
start();
