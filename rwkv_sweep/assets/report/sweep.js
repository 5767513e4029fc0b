// The page of one sweep, from the top down.
const finished = MODELS.filter(run => run.done);

function tile(name, run, value, of) {
  return run ? el("div", { class: "tile" }, el("div", { class: "eyebrow" }, name), el("b", {}, value), el("div", { class: "of" }, of || run.label)) : null;
}
function bestBy(key, more) {
  const known = finished.filter(run => metric(run, key) !== null);
  return known.sort((a, b) => (more ? -1 : 1) * (metric(a, key) - metric(b, key)))[0];
}
function tiles() {
  const best = bestBy(SPEARMAN, true), fast = bestBy("latency/mean_ms", false), many = bestBy("throughput/tokens_per_s", true), light = bestBy("memory/weights_mib", false);
  const base = BASELINES.filter(run => metric(run, SPEARMAN) !== null).sort((a, b) => metric(b, SPEARMAN) - metric(a, SPEARMAN))[0];
  const one = finished.length === 1;
  return el("div", { class: "tiles" },
    tile(one ? "Spearman" : "highest Spearman", best, best && fixed(metric(best, SPEARMAN), 3), best && [best.label, interval(best, SPEARMAN).bounded ? `, ${withRange(interval(best, SPEARMAN), 3).split(" ").slice(1).join(" ")}` : ""]),
    tile("best baseline", base, base && fixed(metric(base, SPEARMAN), 3), base && base.label),
    tile(one ? "time of a pair" : "fastest pair", fast, fast && `${fixed(metric(fast, "latency/mean_ms"), 2)} ms`),
    tile(one ? "throughput" : "most tokens/s", many, many && fixed(metric(many, "throughput/tokens_per_s"), 0)),
    tile(one ? "weights" : "smallest weights", light, light && `${fixed(metric(light, "memory/weights_mib"), 1)} MiB`));
}

function heading() {
  const count = name => RUNS.filter(run => run.model && run.status === name).length;
  const told = [counted(finished.length, "run") + " finished", ...["FAILED", "KILLED", "UNSUPPORTED"].filter(count).map(name => `${count(name)} ${name.toLowerCase()}`)];
  if (DATA.missing) told.push(`${DATA.missing} without a record`);
  const machine = DATA.environment.find(each => each.key === "device_name");
  const facts = [told.join(", "), moment(DATA.started), DATA.ended > DATA.started && DATA.started ? `took ${span(DATA.ended - DATA.started)}` : "", machine ? machine.values.map(([value]) => value).join(", ") : ""];
  return el("header", {}, el("div", { class: "eyebrow" }, DATA.multirun || MODELS.length > 1 ? "rwkv_sweep · sweep" : "rwkv_sweep · run"), el("h1", {}, headline()),
    el("div", { class: "what" }, DATA.title), el("p", { class: "soft small" }, facts.filter(Boolean).join(" · ")));
}
function headline() {
  const plural = name => name.endsWith("s") ? `${name}es` : `${name}s`;
  const what = KEYS.filter(key => valuesOf(key).length > 1).map(key => `${valuesOf(key).length} ${plural(key.split(".").pop())}`);
  if (!MODELS.length) return "A sweep without runs";
  if (what.length) return `${counted(MODELS.length, "run")}: ${what.slice(0, 5).join(" × ")}`;
  return MODELS.length === 1 ? `One run: ${MODELS[0].name}` : counted(MODELS.length, "run");
}
function answerCard() {
  if (!DATA.answer) return null;
  return el("section", { class: "card answer", id: "answer", "aria-labelledby": "answer-title" }, el("h2", { id: "answer-title" }, "Answer"),
    el("p", { class: "soft" }, DATA.answer.question), DATA.answer.paragraphs.slice(0, 3).map(text => el("p", {}, text)),
    DATA.answer.paragraphs.length > 3 ? el("details", {}, el("summary", {}, `${counted(DATA.answer.paragraphs.length - 3, "more group")}`), DATA.answer.paragraphs.slice(3).map(text => el("p", {}, text))) : null);
}

let order = [];
function update() {
  const runs = sorted(RUNS.filter(passes));
  order = runs;
  document.getElementById("count").textContent = `${fixed(runs.length, 0)} of ${counted(RUNS.length, "run")}`;
  TABLE.show(runs);
  drawAll();
}
function drawAll() {
  const shown = order.filter(run => run.model && run.done);
  for (const chart of CHARTS) chart.draw(shown);
  const host = document.getElementById("pairs-of");
  if (host) host.replaceChildren(...[pairsCard(shown)].flat());
}
const TABLE = runsTable(update);

function chosen(id, title, caption, options, draw, start) {
  // A chart with a choice of what it shows.
  let key = start || options[0][0];
  const picked = select(`${title}: what is shown`, options, key, value => { key = value; drawAll(); });
  return chartCard(id, title, caption, (host, runs, below) => draw(host, runs, below, key), [options.length > 1 ? picked : null]);
}
const known = keys => keys.filter(key => finished.some(run => costOf(run, key)));
// What differs between runs first: a cost that all share tells nothing.
const telling = keys => known(keys).sort((a, b) => varies(b) - varies(a));
const varies = key => new Set(finished.map(run => costOf(run, key)?.value)).size > 1;

function charts() {
  const has = key => finished.some(run => metric(run, key) !== null);
  const cards = [], quality = has(SPEARMAN);
  if (quality) cards.push(chartCard("layers", KEYS.includes("layer") || !KEYS.includes("aggregation") ? "Spearman by layer" : "Spearman by aggregation", `Points with 95 % bootstrap intervals over pairs; dashed lines are the baselines. The best of ${finished.length} runs was chosen after looking, so its own number is optimistic.`, drawByLayer));
  const speeds = telling(["throughput/tokens_per_s", "latency/mean_ms", "overhead/latency_ratio"]), sizes = telling(["memory/weights_mib", "memory/peak", "memory/peak_above_weights_mib"]);
  const costs = keys => keys.map(key => [key, COSTS[key].name]);
  const pair = [];
  if (quality && speeds.length) pair.push(chosen("speed", "Quality against speed", "The dashed line joins what no other run beats in both (the Pareto front); its runs are filled and named.", costs(speeds), drawScatter));
  if (quality && sizes.length) pair.push(chosen("memory", "Quality against memory", "The dashed line joins what no other run beats in both; its runs are filled and named.", costs(sizes), drawScatter));
  if (pair.length) cards.push(el("div", { class: pair.length > 1 ? "two" : "" }, pair));
  const keys = KEYS.filter(key => valuesOf(key, finished).length > 1);
  if (keys.length > 1) cards.push(heatCard(keys));
  if (finished.some(run => run.latency.length)) cards.push(chartCard("latency", "Latency of one pair", "Box: the middle half; line: 5 to 95 %; ticks: each twentieth of the samples; mark: the median. Runs were timed one after another, so a busy machine shows too.", drawLatency));
  if (known(Object.keys(RATIOS)).length) cards.push(chartCard("overhead", "Overhead over final-layer inference", "Both timed turn by turn in one process on the same sentences; an interval that holds 1 shows no measurable difference.", drawOverhead));
  if (has("parity/cosine_mean")) cards.push(chosen("parity", "Parity with fp32", "The same sentences in fp32 on the same device. Of vectors: the mean cosine, the line reaches to the first percentile. Of Spearman: paired bootstrap.", [["parity/cosine_mean", "vectors"], ...(has("parity/spearman_delta") ? [["parity/spearman_delta", "Spearman"]] : [])], drawParity));
  return cards;
}
function heatCard(keys) {
  const pick = { value: known(Object.keys(HEATS))[0], rows: keys[0], columns: keys[1] };
  const names = keys.map(key => [key, key]);
  const choose = (name, options) => select(`Heat map: ${name}`, options, pick[name], value => { pick[name] = value; drawAll(); });
  const title = keys[0] === "layer" && keys[1] === "precision" ? "Layer × precision" : `${keys[0]} × ${keys[1]}`;
  return chartCard("map", keys.length > 2 ? "Heat map" : title, "Darker (lighter on a dark ground) is more. Empty cells were not run, or did not finish.", (host, runs, below) => drawHeat(host, runs, below, pick),
    [choose("value", known(Object.keys(HEATS)).map(key => [key, HEATS[key][0]])), keys.length > 2 ? [choose("rows", names), choose("columns", names)] : null]);
}

function build() {
  const saveAs = (kind, text) => el("button", { type: "button", "aria-label": `Save the shown runs as ${kind}`, onclick: () => save(kind === "CSV" ? "runs.csv" : "runs.md", new Blob([text(TABLE.lines(order))], { type: "text/plain" })) }, kind);
  const runs = el("section", { class: "card", id: "runs", "aria-labelledby": "runs-title" },
    el("div", { class: "head" }, el("h2", { id: "runs-title" }, "Runs"),
      DATA.family.count ? el("span", { class: "small soft" }, `▲ ▼ survive Holm's correction for ${counted(DATA.family.count, "comparison")}${DATA.family.too_few ? " (too few bootstrap resamples for any to)" : ""}`) : null,
      el("div", { class: "tools" }, saveAs("CSV", csvText), saveAs("Markdown", markdownText))),
    RUNS.length ? el("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "Table of runs" }, TABLE.table) : el("p", { class: "empty" }, "There are no runs yet."));
  const disputed = DATA.pairs.length ? el("section", { class: "card", id: "pairs", "aria-labelledby": "pairs-title" }, el("h2", { id: "pairs-title" }, "Pairs on which runs disagree most"), el("div", { id: "pairs-of" })) : null;
  const sections = [answerCard(), failuresCard(), runs, ...charts(), disputed, environmentCard()].filter(Boolean);
  const main = el("main", { id: "main" }, sections);
  const links = [...main.querySelectorAll("[aria-labelledby]")].map(section => el("a", { href: `#${section.id}` }, section.querySelector("h2").textContent));
  const bar = el("div", { class: "bar" }, el("nav", { "aria-label": "Sections" }, links), filterBar(update));
  const foot = el("footer", { class: "small soft" }, `Written ${moment(DATA.written)} from the records of the sweep. This file is whole: it asks nothing of any network.`);
  document.getElementById("page").append(heading(), finished.length ? tiles() : "", bar, main, foot);
  update();
}
build();
let width = innerWidth, resized = 0;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; clearTimeout(resized); resized = setTimeout(drawAll, 120); } });
