/* the report of `carnelian evaluate` */
const range = (pair) => (pair ? `${(100 * pair[0]).toFixed(2)} – ${(100 * pair[1]).toFixed(2)}` : "");

function showSystems() {
  document.getElementById("about").textContent =
    `${count(data.utterances)} utterances, ${data.duration}. Normalisation: ${data.normalization}.`;
  const heads = ["System", "WER", "95 % (utterances)", "95 % (speakers)", "CER", "Words", "Substituted", "Deleted", "Inserted", "Outside the language model"];
  document.getElementById("systems").append(table(heads, data.systems.map((each) => {
    const [hits, substitutions, deletions, insertions] = each.counts;
    const unknown = each.unknown ? `${each.unknown.errors} of ${each.unknown.words} words` : "";
    return [each.name, make("span", { class: "big" }, percent(each.rate)), range(each.interval), range(each.speakerInterval),
      percent(each.characterRate), count(hits + substitutions + deletions), substitutions, deletions, insertions, unknown];
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
    document.getElementById("groups").append(card(group.kind, bars(group), rest));
  }
  if (!data.groups.length) document.getElementById("by").parentElement.hidden = true;
}

function showConfusions() {
  const kinds = { substitution: ["Confused", "reference", "hypothesis"], deletion: ["Missed", "reference"], insertion: ["Inserted", "hypothesis"] };
  for (const system of data.systems) for (const [kind, [title, ...heads]] of Object.entries(kinds)) {
    const rows = system.confusions.filter((each) => each[0] === kind).map(([, reference, hypothesis, count]) =>
      [...(reference === null ? [] : [reference]), ...(hypothesis === null ? [] : [hypothesis]), count]);
    const name = data.systems.length > 1 ? ` (${system.name})` : "";
    document.getElementById("confusions").append(card(title + name,
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
    document.getElementById("reliability").append(card(system.name, svg,
      make("p", { class: "note" }, `Share of correct words over confidence. Expected calibration error ${error.toFixed(3)}, normalised cross entropy ${entropy}.`)));
    document.getElementById("calibrations").hidden = false;
  }
}

/* a row: name, reference, and the alignment of each system */
function textOf([name, reference, found]) {
  return [make("div", { class: "who" }, name), ...found.flatMap((each, number) => [
    ...(found.length > 1 ? [make("div", { class: "who" }, data.systems[number].name)] : []), alignedRow(reference, each)])];
}

showSystems(); showGroups(); showConfusions(); showCalibration();
openList(textOf,
  ([name, reference, found]) => [name, reference, ...found.map(([operations, others]) => hypothesisOf(reference, operations, others).join(" "))],
  { "with errors": (place) => valueAt("errors", place) > 0 },
  data.systems.map((each) => each.name));
