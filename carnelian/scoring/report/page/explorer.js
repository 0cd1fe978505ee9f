/* the page of `carnelian explore` */
function showCorpus() {
  const [least, low, middle, high, most] = data.seconds.map((each) => each.toFixed(1));
  document.getElementById("about").textContent = `${count(data.utterances)} utterances, ${data.duration}`
    + (data.speakers ? `, ${count(data.speakers)} speakers.` : ".") + (data.model ? ` ${data.model.name}: ${percent(data.model.rate)} WER.` : "");
  const share = data.outside ? `${count(data.outside.words)} (${percent(data.outside.words / Math.max(1, data.words))})` : "";
  document.getElementById("totals").append(table(
    ["Seconds, shortest", "5 %", "median", "95 %", "longest", "Words", "Different words", "Only once", "Characters", ...(data.outside ? ["Words outside the language model"] : [])],
    [[least, low, middle, high, most, count(data.words), count(data.distinct), count(data.once), count(data.letters), ...(data.outside ? [share] : [])]]));
  for (const [title, slots] of Object.entries(data.histograms)) if (slots) document.getElementById("histograms").append(histogram(title, slots));
}

function showTexts() {
  const shown = [
    ["Outliers", ["reason", "utterances"], data.outliers.filter(([, times]) => times)],
    ["Alphabet", ["", "code", "times", "utterances"], data.alphabet.map(([letter, ...rest]) => [letter.trim() ? letter : "space", ...rest])],
    ["Most frequent words", ["word", "times"], data.vocabulary],
    ["Words outside the language model", ["word", "times"], data.outside ? data.outside.most : []],
    ["Speakers", ["speaker", "utterances", "minutes"], data.most.map(([name, times, minutes]) => [name, times, minutes.toFixed(1)])],
  ];
  document.getElementById("texts").append(...shown.filter(([, , rows]) => rows.length).map(([title, heads, rows]) => card(title, table(heads, rows))));
}

/* a row: name, text, the reasons why it is unlike the others, and of a model operations, other words, and confidences as letters */
function textOf([name, text, reasons, found]) {
  return [make("div", { class: "who" }, name), ...reasons.map((each) => make("span", { class: "reason" }, each)),
    found ? alignedRow(text, found) : make("div", {}, text || "–")];
}

showCorpus(); showTexts();
openList(textOf, ([name, text, reasons, found]) => [name, text, ...reasons, ...(found ? [hypothesisOf(text, found[0], found[1]).join(" ")] : [])],
  { outliers: (place) => valueAt("score", place) >= data.outlier, ...(data.model ? { "with errors": (place) => valueAt("errors", place) > 0 } : {}) });
