// The page of one sweep, from the top down.
let order = [];
function update(again = false) {
  const runs = TABLE.sorted(RUNS.filter(passes));
  order = runs;
  showTable();
  drawAll(again);
}
function showTable() {
  const runs = FILTER.brushed ? order.filter((run) => FILTER.brushed.has(run.index)) : order;
  document.getElementById("count").textContent = `${fixed(runs.length, 0)} of ${counted(RUNS.length, "run")}`;
  TABLE.show(runs);
}
function drawAll(again) {
  const shown = order.filter((run) => run.model && run.done);
  for (const chart of CHARTS) chart.draw(shown, again);
}
const TABLE = runsTable(update);

function picked(values) {
  if (JSON.stringify(values) === JSON.stringify(FILTER.picked)) return;
  FILTER.picked = values;
  update();
}
function brushed(runs) {
  FILTER.brushed = runs;
  showTable();
}

function chartCards() {
  // Both costs of quality stand beside each other.
  const cards = new Map(DATA.charts.map((chart) => [chart.id, chartCard(chart, picked, brushed)]));
  const pair = ["speed", "memory"].map((id) => cards.get(id)).filter(Boolean);
  if (pair.length < 2) return [...cards.values()];
  const both = el("div", { class: "two" }, pair);
  cards.delete("memory");
  return [...cards].map(([id, card]) => (id === "speed" ? both : card));
}

function disagreementCard() {
  const host = el("div", { style: "min-height: 300px" });
  const card = el(
    "section",
    { class: "card", id: "pairs", "aria-labelledby": "pairs-title" },
    el("h2", { id: "pairs-title" }, "Pairs on which runs disagree most"),
    host,
  );
  lazily(card, (runs) => {
    host.style.minHeight = "0";
    host.replaceChildren(...[pairsCard(runs)].flat());
  });
  return card;
}

function build() {
  const saveAs = (kind, text) =>
    el(
      "button",
      {
        type: "button",
        "aria-label": `Save the shown runs as ${kind}`,
        onclick: () =>
          save(kind === "CSV" ? "runs.csv" : "runs.md", new Blob([text(TABLE.lines(order))], { type: "text/plain" })),
      },
      kind,
    );
  const runs = el(
    "section",
    { class: "card", id: "runs", "aria-labelledby": "runs-title" },
    el(
      "div",
      { class: "head" },
      el("h2", { id: "runs-title" }, "Runs"),
      DATA.family.count
        ? el(
            "span",
            { class: "small soft" },
            `▲ ▼ survive Holm's correction for ${counted(DATA.family.count, "comparison")}`,
            DATA.family.limited ? `. ${DATA.family.limited}` : "",
          )
        : null,
      el("div", { class: "tools" }, saveAs("CSV", csvText), saveAs("Markdown", markdownText)),
    ),
    RUNS.length
      ? el("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "Table of runs" }, TABLE.table)
      : el("p", { class: "empty" }, "There are no runs yet."),
  );
  const disagreement = DATA.pairs.length ? disagreementCard() : null;
  const sections = [answerCard(), failuresCard(), runs, ...chartCards(), disagreement, environmentCard()].filter(Boolean);
  const main = el("main", { id: "main" }, sections);
  const links = [...main.querySelectorAll("[aria-labelledby]")].map((section) =>
    el("a", { href: `#${section.id}` }, section.querySelector("h2").textContent),
  );
  const bar = el("div", { class: "bar" }, el("nav", { "aria-label": "Sections" }, links), filterBar(update));
  const foot = el(
    "footer",
    { class: "small soft" },
    `Written ${moment(DATA.written)} from the records of the sweep. This file is whole: it asks ` +
      "nothing of any network.",
  );
  document.getElementById("page").append(heading(), tiles(), bar, main, foot);
  update();
}
build();
