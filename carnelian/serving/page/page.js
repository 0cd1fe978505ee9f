// The page of a Carnelian service: record or drop sound, watch it, read it, hear any word of it, correct it, take it away.
// One file, no build step. From the top: the microphone, sound in memory, the service, edits, drawing, the page itself.

// ── Microphone ──────────────────────────────────────────────────────────────────────────────────────────────────────────
// This file is also the audio worklet: there it only hands the microphone's samples on, an eighth of a second at a time.
if (typeof AudioWorkletProcessor !== "undefined") {
  registerProcessor("microphone", class extends AudioWorkletProcessor {
    constructor() { super(); this.held = new Float32Array(Math.round(sampleRate / 8)); this.count = 0; }
    process([[channel]]) {
      for (const sample of channel ?? []) {
        this.held[this.count++] = sample;
        if (this.count === this.held.length) { this.port.postMessage(this.held.slice()); this.count = 0; }
      }
      return true;
    }
  });
} else addEventListener("DOMContentLoaded", start);

// ── Sound in memory ─────────────────────────────────────────────────────────────────────────────────────────────────────
const PEAK = 0.02;                // seconds that one peak of the overview covers
const LONG = 20 * 60;             // seconds from which a file is kept at 8 kHz, to be drawn
const PART = 10 * 60;             // seconds in a part, where a file is sent as several

class Sound {                     // mono samples that may still grow, and their peaks
  constructor(rate) { this.rate = rate; this.samples = new Int16Array(rate * 30); this.length = 0; this.peaks = []; }
  get seconds() { return this.length / this.rate; }
  push(floats) {
    if (this.length + floats.length > this.samples.length) {
      const larger = new Int16Array(Math.max(2 * this.samples.length, this.length + floats.length));
      larger.set(this.samples);
      this.samples = larger;
    }
    for (const value of floats) this.samples[this.length++] = Math.max(-1, Math.min(1, value)) * 32767;
    const step = Math.round(PEAK * this.rate);
    while ((this.peaks.length + 1) * step <= this.length) {
      let peak = 0;
      for (let i = this.peaks.length * step, end = i + step; i < end; i++) peak = Math.max(peak, Math.abs(this.samples[i]));
      this.peaks.push(peak / 32768);
    }
  }
  slice(from, to) { return this.samples.subarray(Math.round(from * this.rate), Math.min(this.length, Math.round(to * this.rate))); }
  wav(from = 0, to = this.seconds) {
    const samples = this.slice(from, to), head = new DataView(new ArrayBuffer(44));
    const text = (at, letters) => [...letters].forEach((letter, i) => head.setUint8(at + i, letter.charCodeAt(0)));
    text(0, "RIFF"); head.setUint32(4, 36 + samples.byteLength, true); text(8, "WAVEfmt ");
    [[16, 16, 4], [20, 1, 2], [22, 1, 2], [24, this.rate, 4], [28, this.rate * 2, 4], [32, 2, 2], [34, 16, 2]]
      .forEach(([at, value, size]) => size === 4 ? head.setUint32(at, value, true) : head.setUint16(at, value, true));
    text(36, "data"); head.setUint32(40, samples.byteLength, true);
    return new Blob([head, samples], { type: "audio/wav" });
  }
  quietest(from, to) {            // the second between these two at which a part is best cut
    const first = Math.round(from / PEAK), window = this.peaks.slice(first, Math.round(to / PEAK));
    let best = 0, least = Infinity;
    for (let i = 2; i < window.length - 2; i++) {
      const loud = window[i - 2] + window[i - 1] + window[i] + window[i + 1] + window[i + 2];
      if (loud < least) [best, least] = [i, loud];
    }
    return (first + best) * PEAK;
  }
}

async function decode(file, seconds) {
  const rate = seconds > LONG ? 8000 : 16000;
  const buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
  const sound = new Sound(rate), channels = Array.from({ length: buffer.numberOfChannels }, (_, i) => buffer.getChannelData(i));
  for (let first = 0; first < buffer.length; first += rate * 60) {
    const block = channels[0].slice(first, first + rate * 60);
    for (const other of channels.slice(1)) block.forEach((_, i) => { block[i] += other[first + i]; });
    sound.push(block.map(value => value / channels.length));
    await new Promise(done => setTimeout(done));          // an hour is a long loop; let the page answer meanwhile
  }
  return sound;
}

// ── The service ─────────────────────────────────────────────────────────────────────────────────────────────────────────
class Fault extends Error { constructor(error, status) { super(error.message); Object.assign(this, error, { status }); } }

const key = { get value() { return sessionStorage.getItem("key") ?? ""; }, set value(given) { sessionStorage.setItem("key", given); } };

async function ask(path, options = {}) {                  // an answer of the service; asks for a key where it needs one
  const headers = key.value ? { authorization: `Bearer ${key.value}` } : {};
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) { await askKey(); return ask(path, options); }
  if (answer.status === 503 || answer.status === 429) {
    const wait = Number(answer.headers.get("retry-after")) || 2;
    say(`The service is busy; trying again in ${wait} s …`);
    await new Promise(done => setTimeout(done, 1000 * wait));
    return ask(path, options);
  }
  if (!answer.ok) throw new Fault((await answer.json()).error, answer.status);
  return answer;
}

async function* recognized(recording, name, words) {      // segments with words, as the service finds them
  const form = new FormData();
  form.append("file", recording, name);
  for (const [field, value] of [["stream", "true"], ["response_format", "verbose_json"], ["timestamp_granularities[]", "word"]]) form.append(field, value);
  for (const word of words) form.append("keywords[]", word);
  const reader = (await ask("v1/audio/transcriptions", { method: "POST", body: form })).body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = "", part; !(part = await reader.read()).done;) {
    const events = (text += part.value).split("\n\n");
    text = events.pop();
    for (const event of events.map(each => each.slice(6)).filter(each => each !== "[DONE]").map(JSON.parse)) {
      if (event.error) throw new Fault(event.error);
      if (event.type === "transcript.text.segment") yield event.words;
    }
  }
}

function openLive(rate, words, on) {                      // a live session; `on` has a function for each kind of message
  const protocols = key.value ? ["realtime", `openai-insecure-api-key.${key.value}`] : [];
  const socket = new WebSocket(new URL("v1/stream", location.href.replace(/^http/, "ws")), protocols);
  socket.onopen = () => socket.send(JSON.stringify({ type: "start", sample_rate: rate, keywords: words }));
  socket.onmessage = ({ data }) => { const message = JSON.parse(data); on[message.type]?.(message); };
  socket.onclose = ({ wasClean }) => on.closed(wasClean);
  return {
    send(floats) { if (socket.readyState === WebSocket.OPEN) socket.send(Int16Array.from(floats, value => Math.max(-1, Math.min(1, value)) * 32767)); },
    finish() { if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "finish" })); },
  };
}

// ── Edits and files ─────────────────────────────────────────────────────────────────────────────────────────────────────
// An edited line keeps the times of the words that stayed; new words share the time between their neighbours.
function corrected(words, text) {
  const wanted = text.split(/\s+/).filter(Boolean), old = words.map(each => each.word);
  const common = Array.from({ length: old.length + 1 }, () => new Uint16Array(wanted.length + 1));
  for (let i = old.length - 1; i >= 0; i--) for (let j = wanted.length - 1; j >= 0; j--)
    common[i][j] = old[i] === wanted[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
  const kept = new Map();
  for (let i = 0, j = 0; i < old.length && j < wanted.length;) {
    if (old[i] === wanted[j]) kept.set(j++, words[i++]);
    else if (common[i + 1][j] >= common[i][j + 1]) i++; else j++;
  }
  const start = words[0]?.start ?? 0, end = words.at(-1)?.end ?? start, result = [];
  for (let j = 0; j < wanted.length;) {
    if (kept.has(j)) { result.push(kept.get(j++)); continue; }
    let next = j;
    while (next < wanted.length && !kept.has(next)) next++;
    const from = result.at(-1)?.end ?? start, to = Math.max(from, kept.get(next)?.start ?? end), each = (to - from) / (next - j);
    for (let n = 0; j < next; j++, n++) result.push({ word: wanted[j], start: from + n * each, end: from + (n + 1) * each, confidence: 1 });
  }
  return result;
}

const line = words => words.map(each => each.word).join(" ");
const clock = (seconds, digits = 1) => {
  const units = Math.floor(seconds * 10 ** digits + 1e-6), whole = Math.floor(units / (60 * 10 ** digits));
  const rest = (units / 10 ** digits - 60 * whole).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return whole >= 60 ? `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}:${rest}` : `${whole}:${rest}`;
};
const stamp = (seconds, point) => {
  const milliseconds = Math.round(1000 * seconds), part = (unit, of, size) => String(Math.floor(milliseconds / unit) % of).padStart(size, "0");
  return `${part(3600000, 1000, 2)}:${part(60000, 60, 2)}:${part(1000, 60, 2)}${point}${part(1, 1000, 3)}`;
};
const escaped = text => text.replace(/[&<>]/g, letter => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[letter]);
const FILES = {
  txt: take => take.segments.map(line).join("\n") + "\n",
  srt: take => take.segments.map((words, i) => `${i + 1}\n${stamp(words[0].start, ",")} --> ${stamp(words.at(-1).end, ",")}\n${line(words)}\n\n`).join(""),
  vtt: take => "WEBVTT\n\n" + take.segments.map(words => `${stamp(words[0].start, ".")} --> ${stamp(words.at(-1).end, ".")}\n${escaped(line(words))}\n\n`).join(""),
  json: take => JSON.stringify({ text: take.segments.map(line).join(" "), duration: take.seconds, words: take.segments.flat() }, null, 1) + "\n",
};

// ── Drawing ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
const SIZE = 512;                 // samples in a column of the spectrogram
const HANN = Float32Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos(2 * Math.PI * i / SIZE));
const REVERSED = Uint16Array.from({ length: SIZE }, (_, i) => parseInt(i.toString(2).padStart(9, "0").split("").reverse().join(""), 2));
const re = new Float32Array(SIZE), im = new Float32Array(SIZE);

function spectrum(samples, at, out) {                     // decibels of the 256 lower frequencies, radix-2 FFT
  for (let i = 0; i < SIZE; i++) { re[REVERSED[i]] = (samples[at + i] ?? 0) * HANN[i]; im[i] = 0; }
  for (let half = 1; half < SIZE; half *= 2) for (let k = 0; k < half; k++) {
    const c = Math.cos(-Math.PI * k / half), s = Math.sin(-Math.PI * k / half);
    for (let a = k; a < SIZE; a += 2 * half) {
      const b = a + half, x = re[b] * c - im[b] * s, y = re[b] * s + im[b] * c;
      re[b] = re[a] - x; im[b] = im[a] - y; re[a] += x; im[a] += y;
    }
  }
  for (let i = 0; i < SIZE / 2; i++) out[i] = 10 * Math.log10(re[i] * re[i] + im[i] * im[i] + 1);
}

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
function palette() {                                      // 256 colours through those that the style sheet names
  const stops = css("--spectrum").split(",").map(hex => [1, 3, 5].map(at => parseInt(hex.trim().slice(at, at + 2), 16)));
  return Uint32Array.from({ length: 256 }, (_, level) => {
    const place = level / 255 * (stops.length - 1), low = Math.min(Math.floor(place), stops.length - 2);
    const [r, g, b] = stops[low].map((value, i) => value + (place - low) * (stops[low + 1][i] - value));
    return 255 << 24 | b << 16 | g << 8 | r;
  });
}

function fitted(canvas) {                                 // a canvas's context, with as many pixels as the screen has there
  const scale = devicePixelRatio || 1, width = Math.round(canvas.clientWidth * scale), height = Math.round(canvas.clientHeight * scale);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  return [context, width, height];
}

function drawOverview(canvas, take, view, now) {
  const [context, width, height] = fitted(canvas), { peaks } = take.sound, total = Math.max(take.seconds, 0.1);
  context.fillStyle = css("--glow");
  context.fillRect(view.start / total * width, 0, Math.max(3, view.seconds / total * width), height);
  for (const [colour, from, to] of [[css("--heard"), 0, now / total], [css("--wave"), now / total, 1]]) {
    context.fillStyle = colour;
    for (let x = Math.floor(from * width); x < to * width; x += 2) {
      let peak = 0;
      const first = Math.floor(x / width * total / PEAK), last = Math.max(first + 1, Math.floor((x + 2) / width * total / PEAK));
      for (let i = first; i < last; i++) peak = Math.max(peak, peaks[i] ?? 0);
      const tall = Math.max(1, Math.sqrt(peak) * height * 0.9);
      context.fillRect(x, (height - tall) / 2, 1.4, tall);
    }
  }
}

const column = new Float32Array(SIZE / 2);
function drawView(canvas, take, view, now) {
  const [context, width, height] = fitted(canvas), { sound } = take, band = Math.round(height * 0.3);
  const image = context.createImageData(width, height - band), pixels = new Uint32Array(image.data.buffer), colours = palette();
  const samples = sound.slice(0, sound.seconds), visible = Math.min(SIZE / 2, Math.round(SIZE * 8000 / sound.rate)), rows = image.height;
  for (let x = 0; x < width; x += 2) {
    const at = Math.round((view.start + x / width * view.seconds) * sound.rate) - SIZE / 2;
    if (at < 0 || at > sound.length) continue;
    spectrum(samples, at, column);
    for (let y = 0; y < rows; y++) {
      const level = column[Math.min(visible - 1, Math.floor((1 - y / rows) ** 1.4 * visible))];
      const colour = colours[Math.max(0, Math.min(255, Math.round((level - 42) * 4)))];
      pixels[y * width + x] = colour;
      if (x + 1 < width) pixels[y * width + x + 1] = colour;
    }
  }
  context.putImageData(image, 0, band);
  context.fillStyle = css("--wave");
  for (let x = 0; x < width; x++) {
    let low = 0, high = 0;
    const from = Math.round((view.start + x / width * view.seconds) * sound.rate), to = Math.round((view.start + (x + 1) / width * view.seconds) * sound.rate);
    for (let i = from, step = Math.max(1, (to - from) >> 5); i < Math.min(to, sound.length); i += step) { low = Math.min(low, samples[i]); high = Math.max(high, samples[i]); }
    context.fillRect(x, band / 2 - high / 32768 * band * 0.48, 1, Math.max(1, (high - low) / 32768 * band * 0.48));
  }
  context.fillStyle = css("--stone");
  const head = (now - view.start) / view.seconds * width;
  if (head >= 0 && head <= width) context.fillRect(head - 1, 0, 2, height);
}

// ── The page ────────────────────────────────────────────────────────────────────────────────────────────────────────────
const at = id => document.getElementById(id);
const make = (tag, fields = {}) => Object.assign(document.createElement(tag), fields);
const takes = [];                 // every recording of this visit: { name, sound, seconds, segments, url, live }
const view = { start: 0, seconds: 5 };
let take = null, live = null, chosen = -1, stopAt = Infinity, dirty = false, editing = false;
const expected = () => at("words").value.split(/[,;\n]/).map(each => each.trim()).filter(Boolean);
const sureness = word => word.confidence >= 0.95 ? 4 : word.confidence >= 0.85 ? 3 : word.confidence >= 0.7 ? 2 : word.confidence >= 0.5 ? 1 : 0;

function say(text, fault = false) { at("status").textContent = text; at("status").classList.toggle("fault", fault); }

async function askKey() {
  const lock = at("lock");
  if (!lock.open) lock.showModal();
  await new Promise(done => lock.addEventListener("close", done, { once: true }));
  key.value = at("key").value;
}

function addTake(name, fields) {
  const added = { name, seconds: 0, segments: [], ...fields };
  takes.push(added);
  show(added);
  return added;
}

function show(which) {
  take = which; chosen = -1; stopAt = Infinity;
  view.start = 0;
  view.seconds = innerWidth < 620 ? 2 : 5;
  at("timeline").hidden = at("transcript").hidden = false;
  at("takes").hidden = takes.length < 2;
  at("takes").replaceChildren(...takes.map(each => {
    const button = make("button", { type: "button", textContent: each.name, onclick: () => show(each) });
    if (each === take) button.setAttribute("aria-current", "true");
    return button;
  }));
  const audio = at("audio");
  audio.pause();
  if (take.url) audio.src = take.url; else audio.removeAttribute("src");
  at("text").replaceChildren();
  take.segments.forEach(appendSegment);
  at("partial").textContent = "";
  changed();
}

function wordSpan(word, data) {
  const span = make("span", { textContent: word.word, title: `${Math.round(100 * word.confidence)} % sure, at ${clock(word.start)}` });
  Object.assign(span.dataset, { sure: sureness(word), ...data });
  return span;
}

function fillSegment(row, words) {
  const cell = make(editing ? "textarea" : "div");
  if (editing) {
    Object.assign(cell, { value: line(words), rows: 1 });
    cell.setAttribute("aria-label", `Text from ${clock(words[0].start)}`);
    cell.oninput = () => { words.splice(0, words.length, ...corrected(words, cell.value)); dirty = true; };
  } else words.forEach(word => { const span = wordSpan(word, {}); span.word = word; cell.append(span, " "); });
  row.replaceChildren(row.firstChild, cell);
}

function appendSegment(words) {
  if (!words.length) return;
  const row = make("p"), button = make("button", { type: "button", textContent: clock(words[0].start, 0) });
  button.setAttribute("aria-label", `${button.textContent}, play from here`);
  button.onclick = () => play(words[0].start, words.at(-1)?.end);
  row.append(button);
  fillSegment(row, words);
  row.words = words;
  at("text").append(row);
}

function changed() { dirty = true; }

function frame() {                // draws what has changed, at most once for each image of the screen
  requestAnimationFrame(frame);
  const audio = at("audio"), now = take?.live ? take.sound.seconds : audio.currentTime || 0;
  if (!audio.paused) {
    if (now >= stopAt) { audio.pause(); audio.currentTime = stopAt; stopAt = Infinity; }
    dirty = true;
  }
  if (!dirty || !take) return;
  dirty = false;
  take.seconds = Math.max(take.sound.seconds, Number.isFinite(audio.duration) && take.url ? audio.duration : 0);
  if (take.live) view.start = Math.max(0, now - view.seconds);
  else if (!audio.paused && (now < view.start || now > view.start + view.seconds * 0.9)) view.start = now - view.seconds * 0.1;
  view.start = Math.max(0, Math.min(view.start, take.seconds - view.seconds));
  drawOverview(at("overview"), take, view, now);
  drawView(at("view"), take, view, now);
  drawLane(now);
  at("clock").textContent = `${clock(now)} / ${clock(take.seconds)}`;
  const slider = at("overview");
  slider.ariaValueMax = take.seconds.toFixed(1); slider.ariaValueNow = now.toFixed(1); slider.ariaValueText = `${clock(now)} of ${clock(take.seconds)}`;
  at("play").classList.toggle("playing", !audio.paused);
  at("play").setAttribute("aria-label", audio.paused ? "Play" : "Pause");
  at("play").disabled = !take.url;
}

function drawLane(now) {
  const lane = at("lane"), scale = lane.clientWidth / view.seconds, end = view.start + view.seconds;
  const words = take.segments.flat(), first = words.findIndex(word => word.end > view.start), spans = [];
  for (let i = first; i >= 0 && i < words.length && words[i].start < end; i++) {
    const span = wordSpan(words[i], {});
    span.word = words[i];
    span.style.left = `${(words[i].start - view.start) * scale}px`;
    span.style.width = `${Math.max(8, (words[i].end - words[i].start) * scale - 1)}px`;
    spans.push(span);
  }
  lane.replaceChildren(...spans);
  for (const span of [...spans, ...at("text").querySelectorAll("span")]) span.classList.toggle("now", span.word.start <= now && now < span.word.end && !at("audio").paused);
}

function play(from = at("audio").currentTime, to = Infinity) {
  const audio = at("audio");
  if (!take?.url) return;
  audio.currentTime = from;
  stopAt = to;
  audio.play();
  changed();
}

function seek(seconds) {
  if (!take || take.live) return;
  at("audio").currentTime = Math.max(0, Math.min(seconds, take.seconds));
  stopAt = Infinity;
  if (seconds < view.start || seconds > view.start + view.seconds) view.start = seconds - view.seconds / 2;
  changed();
}

function zoom(factor) { const middle = view.start + view.seconds / 2; view.seconds = Math.max(1, Math.min(60, view.seconds * factor)); view.start = middle - view.seconds / 2; changed(); }

// ── Files ──
async function* parts(file, sound) {                      // [blob, name, seconds it starts at]: the file itself, or its sound cut at quiet moments
  try {
    for await (const words of recognized(file, file.name, expected())) yield [words, 0];
    return;
  } catch (fault) {
    if (!["invalid_audio", "content_too_large", "audio_too_long"].includes(fault.code) || !sound.length) throw fault;
  }
  for (let from = 0; from < sound.seconds;) {
    const to = sound.seconds - from > PART ? sound.quietest(from + PART / 2, from + PART) : sound.seconds;
    for await (const words of recognized(sound.wav(from, to), "part.wav", expected())) yield [words, from];
    from = to;
  }
}

async function transcribe(file) {
  say(`Reading ${file.name} …`);
  const url = URL.createObjectURL(file), probe = new Audio(url);
  const seconds = await new Promise(done => { probe.onloadedmetadata = () => done(probe.duration); probe.onerror = () => done(0); });
  let sound = new Sound(16000), drawn = true;
  try { sound = await decode(file, seconds); } catch { drawn = false; }   // the service may know a format that the browser does not
  const added = addTake(file.name, { sound, url: drawn ? url : null });
  const started = performance.now();
  for await (const [words, offset] of parts(file, sound)) {
    const shifted = words.map(word => ({ ...word, start: word.start + offset, end: word.end + offset }));
    added.segments.push(shifted);
    if (added === take) { appendSegment(shifted); changed(); }
    const done = shifted.at(-1)?.end ?? 0;
    say(`${file.name}: ${clock(done, 0)}${sound.seconds ? ` of ${clock(sound.seconds, 0)}` : ""} …`);
  }
  const took = (performance.now() - started) / 1000;
  say(added.segments.length ? `${file.name}: ${added.segments.flat().length} words in ${took.toFixed(1)} s` : `${file.name}: no words were found`);
}

async function transcribeAll(files) {
  for (const file of files) {
    try { await transcribe(file); } catch (fault) { say(`${file.name}: ${fault.message}`, true); }
  }
}

// ── Recording ──
async function record() {
  if (live) return stopRecording();
  if (!navigator.mediaDevices) return say("A browser gives the microphone to pages over https or on localhost only.", true);
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false } });
    await ask("v1/models");                               // asks for the key before the session needs it
    let context = new AudioContext({ sampleRate: 16000 }), source;
    try { source = context.createMediaStreamSource(stream); } catch {     // some browsers do not resample a microphone
      context = new AudioContext();
      source = context.createMediaStreamSource(stream);
    }
    await context.audioWorklet.addModule("page.js");
    const microphone = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0 });
    const added = addTake(`Recording ${takes.length + 1}`, { sound: new Sound(context.sampleRate), live: true });
    const session = openLive(context.sampleRate, expected(), {
      partial: ({ text }) => { if (added === take) at("partial").textContent = text; follow(); },
      final: ({ words }) => {
        if (words.length) added.segments.push(words);
        if (added !== take) return;
        at("partial").textContent = "";
        appendSegment(words);
        follow();
        changed();
      },
      error: ({ error }) => say(error.message, true),
      closed: clean => { if (live?.take === added) stopRecording(); if (!clean) say("The connection to the service broke off.", true); },
    });
    microphone.port.onmessage = ({ data }) => { added.sound.push(data); session.send(data); if (added === take) changed(); };
    source.connect(microphone);
    live = { take: added, session, context, stream };
    say("Speak; the text appears as you go.");
    at("transcript").scrollIntoView({ block: "end" });
  } catch (fault) { say(fault.name === "NotAllowedError" ? "The microphone is not allowed to this page." : fault.message, true); }
  recordingShown();
}

function follow() {               // keeps the newest words in sight, unless the reader has scrolled away from them
  const below = at("transcript").getBoundingClientRect().bottom + 12 - innerHeight;
  if (live && below > 0 && below < 200) scrollBy(0, below);
}

function stopRecording() {
  const { take: recorded, session, context, stream } = live;
  live = null;
  stream.getTracks().forEach(track => track.stop());
  context.close();
  session.finish();
  recorded.live = false;
  recorded.url = URL.createObjectURL(recorded.sound.wav());
  if (recorded === take) at("audio").src = recorded.url;
  say(`${recorded.name}: ${clock(recorded.sound.seconds)} recorded`);
  recordingShown();
  changed();
}

function recordingShown() {
  at("record").setAttribute("aria-pressed", String(Boolean(live)));
  at("record-label").textContent = live ? "Stop" : "Record";
}

// ── Reading, editing, taking away ──
function choose(index) {          // a word, by the keyboard
  const spans = [...at("text").querySelectorAll("span")];
  if (!spans.length) return;
  spans[chosen]?.classList.remove("chosen");
  chosen = Math.max(0, Math.min(index, spans.length - 1));
  spans[chosen].classList.add("chosen");
  spans[chosen].scrollIntoView({ block: "nearest" });
  at("spoken").textContent = `${spans[chosen].textContent}, ${spans[chosen].title}`;
}

function setEditing(on) {
  editing = on;
  at("edit").setAttribute("aria-pressed", String(on));
  at("edit").textContent = on ? "Done" : "Edit";
  take.segments = take.segments.filter(words => words.length);
  at("text").replaceChildren();
  take.segments.forEach(appendSegment);
  changed();
}

function download(form) {
  const url = URL.createObjectURL(new Blob([FILES[form](take)], { type: "text/plain;charset=utf-8" }));
  make("a", { href: url, download: `${take.name.replace(/\.[^.]*$/, "")}.${form}` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function dragging(canvas, moved) { // a pointer held down on a canvas
  canvas.addEventListener("pointerdown", down => {
    const move = event => moved((event.clientX - canvas.getBoundingClientRect().left) / canvas.clientWidth, event, down);
    const before = view.start;
    down.before = before;
    canvas.setPointerCapture(down.pointerId);
    canvas.addEventListener("pointermove", move);
    canvas.addEventListener("pointerup", event => { canvas.removeEventListener("pointermove", move); if (Math.abs(event.clientX - down.clientX) < 4) move(event); }, { once: true });
  });
}

function listen() {
  const audio = at("audio");
  at("record").onclick = record;
  at("files").onchange = ({ target }) => { transcribeAll([...target.files]); target.value = ""; };
  addEventListener("dragover", event => { event.preventDefault(); document.body.classList.add("dragging"); });
  addEventListener("dragleave", event => { if (!event.relatedTarget) document.body.classList.remove("dragging"); });
  addEventListener("drop", event => { event.preventDefault(); document.body.classList.remove("dragging"); transcribeAll([...event.dataTransfer.files]); });
  at("play").onclick = () => audio.paused ? play() : audio.pause();
  for (const name of ["pause", "play", "seeked", "loadedmetadata"]) audio.addEventListener(name, changed);
  at("in").onclick = () => zoom(1 / 1.6);
  at("out").onclick = () => zoom(1.6);
  dragging(at("overview"), place => seek(place * take.seconds));
  dragging(at("view"), (place, event, down) => {
    if (Math.abs(event.clientX - down.clientX) < 4) seek(view.start + place * view.seconds);
    else { view.start = down.before - (event.clientX - down.clientX) / at("view").clientWidth * view.seconds; changed(); }
  });
  at("view").addEventListener("wheel", event => {
    if (event.ctrlKey) { event.preventDefault(); zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2); }
    else if (event.deltaX) { event.preventDefault(); view.start += event.deltaX / at("view").clientWidth * view.seconds; changed(); }
  }, { passive: false });
  at("overview").onkeydown = event => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity }[event.key];
    if (step) { event.preventDefault(); seek(Number.isFinite(step) ? audio.currentTime + step : step < 0 ? 0 : take.seconds); }
  };
  for (const place of ["text", "lane"]) at(place).addEventListener("click", ({ target }) => { if (target.word) play(target.word.start, target.word.end + 0.05); });
  at("text").onkeydown = event => {
    if (event.target !== at("text")) return;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -8, ArrowDown: 8 }[event.key];
    if (step) { event.preventDefault(); choose(chosen < 0 ? 0 : chosen + step); }
    if (event.key === "Enter") at("text").querySelectorAll("span")[chosen]?.click();
  };
  addEventListener("keydown", event => {
    if (event.key === " " && !event.target.closest("button, input, textarea, dialog")) { event.preventDefault(); at("play").click(); }
  });
  at("edit").onclick = () => setEditing(!editing);
  at("copy").onclick = async () => { await navigator.clipboard.writeText(FILES.txt(take)); say("Copied."); };
  at("downloads").onclick = ({ target }) => { if (target.dataset.form) download(target.dataset.form); };
  at("theme").onclick = () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  new ResizeObserver(changed).observe(at("view"));
}

function setTheme(theme, remember = true) {
  document.documentElement.dataset.theme = theme;
  if (remember) localStorage.setItem("theme", theme);
  changed();
}

async function start() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  setTheme(localStorage.getItem("theme") ?? (dark.matches ? "dark" : "light"), false);
  dark.addEventListener("change", () => { if (!localStorage.getItem("theme")) setTheme(dark.matches ? "dark" : "light", false); });
  listen();
  requestAnimationFrame(frame);
  try {
    const { data: [model] } = await (await ask("v1/models")).json();
    at("model").textContent = model.id;
  } catch { at("model").textContent = "no answer from the service"; }
}
