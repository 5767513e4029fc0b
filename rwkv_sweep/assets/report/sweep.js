// The page of one sweep, from the top down.
let order = [];
function update() {
  const runs = TABLE.sorted(RUNS.filter(passes));
  order = runs;
  document.getElementById("count").textContent = `${fixed(runs.length, 0)} of ${counted(RUNS.length, "run")}`;
  TABLE.show(runs);
  drawAll();
}
function drawAll() {
  const shown = order.filter((run) => run.model && run.done);
  for (const chart of CHARTS) chart.draw(shown);
}
const TABLE = runsTable(update);

function chosen(id, title, caption, options, draw, start) {
  // A chart with a choice of what it shows.
  let key = start || options[0][0];
  const picked = select(`${title}: what is shown`, options, key, (value) => {
    key = value;
    drawAll();
  });
  return chartCard(id, title, caption, (host, runs, below) => draw(host, runs, below, key), [
    options.length > 1 ? picked : null,
  ]);
}
const known = (keys) => keys.filter((key) => finished.some((run) => (COSTS[key] ? costOf(run, key) : interval(run, key))));
// What differs between runs first, as a cost that all share says nothing; then what can be compared.
const telling = (keys) =>
  known(keys).sort((a, b) => varies(b) - varies(a) || Boolean(COSTS[b].ranked) - Boolean(COSTS[a].ranked));
const varies = (key) => new Set(finished.map((run) => costOf(run, key)?.value)).size > 1;

const UNBEATEN =
  "Filled and named: runs that no other is shown to beat in one of both without being worse in the other. Differences " +
  "within noise do not count.";
function charts() {
  const has = (key) => finished.some((run) => metric(run, key) !== null);
  const cards = [],
    quality = has(SPEARMAN);
  if (quality)
    cards.push(
      chosen(
        "layers",
        `Spearman${["layer", "aggregation"].filter((key) => KEYS.includes(key)).map((key) => ` by ${key}`)[0] || ""}`,
        "Points with 95 % bootstrap intervals over pairs; dashed lines are the baselines. The best of " +
          `${finished.length} runs was chosen after looking, so its own number is optimistic.`,
        SPLITS.map(({ name, key }) => [key, name]),
        drawByLayer,
      ),
    );
  const speeds = telling(Object.keys(DATA.speeds)),
    sizes = telling(Object.keys(COSTS).filter((key) => key.startsWith("memory/")));
  const costs = (keys) => keys.map((key) => [key, COSTS[key].name]);
  const pair = [];
  if (quality && speeds.length)
    pair.push(
      chosen(
        "speed",
        "Quality against speed",
        `${UNBEATEN} Where runs were timed one after another there are none such: speeds of different times do not compare.`,
        costs(speeds),
        drawScatter,
      ),
    );
  if (quality && sizes.length)
    pair.push(
      chosen(
        "memory",
        "Quality against memory",
        UNBEATEN,
        costs(sizes),
        drawScatter,
      ),
    );
  if (pair.length) cards.push(el("div", { class: pair.length > 1 ? "two" : "" }, pair));
  const keys = KEYS.filter((key) => valuesOf(key, finished).length > 1);
  if (keys.length > 1) cards.push(heatCard(keys));
  if (finished.some((run) => run.latency.length))
    cards.push(
      chartCard(
        "latency",
        "Latency of one pair",
        "Box: the middle half; line: 5 to 95 %; ticks: each twentieth of the samples; mark: the median. " +
          "Runs were timed one after another, so a busy machine shows too.",
        drawLatency,
      ),
    );
  if (known(Object.keys(RATIOS)).length)
    cards.push(
      chartCard(
        "overhead",
        "Overhead over final-layer inference",
        "Both timed interleaved in one process on the same sentences. An interval that contains 1 does not show that there is " +
          "no overhead: its upper bound is what can be excluded. The final layer's own ratio is the control.",
        drawOverhead,
      ),
    );
  if (has("parity/cosine_mean"))
    cards.push(
      chosen(
        "parity",
        "Parity with fp32",
        "The same sentences in fp32 on the same device. Of vectors: the mean cosine, the line reaches to " +
          "the first percentile. Of Spearman: paired bootstrap.",
        [
          ["parity/cosine_mean", "vectors"],
          ...(has("parity/spearman_delta") ? [["parity/spearman_delta", "Spearman"]] : []),
        ],
        drawParity,
      ),
    );
  return cards;
}
function heatCard(keys) {
  const pick = { value: known(Object.keys(HEATS))[0], rows: keys[0], columns: keys[1] };
  const names = keys.map((key) => [key, key]);
  const choose = (name, options) =>
    select(`Heat map: ${name}`, options, pick[name], (value) => {
      pick[name] = value;
      drawAll();
    });
  const title = keys[0] === "layer" && keys[1] === "precision" ? "Layer × precision" : `${keys[0]} × ${keys[1]}`;
  return chartCard(
    "map",
    keys.length > 2 ? "Heat map" : title,
    "Darker (lighter on a dark ground) is more. Empty cells were not run, or did not finish.",
    (host, runs, below) => drawHeat(host, runs, below, pick),
    [
      choose(
        "value",
        known(Object.keys(HEATS)).map((key) => [key, HEATS[key][0]]),
      ),
      keys.length > 2 ? [choose("rows", names), choose("columns", names)] : null,
    ],
  );
}

function disagreementCard() {
  const host = el("div", { style: "min-height: 300px" });
  const card = el(
    "section",
    { class: "card", id: "pairs", "aria-labelledby": "pairs-title" },
    el("h2", { id: "pairs-title" }, "Pairs on which runs disagree most"),
    host,
  );
  return lazily(card, (runs) => {
    host.style.minHeight = "0";
    host.replaceChildren(...[pairsCard(runs)].flat());
  });
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
  const sections = [answerCard(), failuresCard(), runs, ...charts(), disagreement, environmentCard()].filter(Boolean);
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
let width = innerWidth,
  resized = 0;
addEventListener("resize", () => {
  if (innerWidth !== width) {
    width = innerWidth;
    clearTimeout(resized);
    resized = setTimeout(drawAll, 120);
  }
});
