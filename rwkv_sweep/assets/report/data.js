// What runs are called, their places on axes, their looks.
// What did not go wrong, but has no figure either: the machine cannot do it, or the data leave it undefined.
const FINDINGS = ["UNSUPPORTED", "UNDEFINED"];
const RUNS = DATA.runs.map((run, index) => ({
  ...run,
  index,
  model: run.kind === "model",
  done: run.status === "FINISHED",
}));
const MODELS = RUNS.filter((run) => run.model);
const BASELINES = RUNS.filter((run) => !run.model && run.done);
const KEYS = DATA.keys.filter((key) => !key.includes(".") || !DATA.keys.includes(key.split(".")[0]));

const metric = (run, key) => {
  const value = run.metrics[key];
  return finite(value) ? value : null;
};
function interval(run, key) {
  // A value with its bounds; without bounds, as wide as a point.
  const value = metric(run, key);
  if (value === null) return null;
  const lo = metric(run, `${key}_lo`),
    hi = metric(run, `${key}_hi`);
  return { value, lo: lo === null ? value : lo, hi: hi === null ? value : hi, bounded: lo !== null && hi !== null };
}
const withRange = (range, digits) =>
  range
    ? `${fixed(range.value, digits)}${range.bounded ? ` [${fixed(range.lo, digits)}, ${fixed(range.hi, digits)}]` : ""}`
    : "";
// The first split is the one that runs are chosen on; where there are several, its name stands beside every figure.
const SPEARMAN = "quality/spearman";
const SPLITS = DATA.splits.map(({ name, key }, i) => ({ name, key: i ? key : SPEARMAN }));
const ON = SPLITS.length > 1 ? `, ${SPLITS[0].name}` : "";
const onDevice = RUNS.some((run) => finite(run.metrics["memory/peak_allocated_mib"]));
const peak = (run) => metric(run, onDevice ? "memory/peak_allocated_mib" : "memory/process_peak_mib");

const layerOf = (run) => run.params.layer ?? "";
const isSingle = (run) => /^(\d+|final|embedding)$/.test(layerOf(run));
const LAST = Math.max(
  0,
  ...MODELS.map((run) => run.depth || 0),
  ...MODELS.filter((run) => /^\d+$/.test(layerOf(run))).map((run) => Number(layerOf(run)) + 1),
);
function layerPlace(name) {
  if (name === "embedding") return -1;
  if (name === "final") return LAST;
  return /^\d+$/.test(name) ? Number(name) : LAST + 1;
}
function shortLayer(name) {
  const parts = name.split("+");
  return parts.length > 2 && parts.every((part, i) => /^\d+$/.test(part) && Number(part) === Number(parts[0]) + i)
    ? `${parts[0]}–${parts[parts.length - 1]}`
    : name;
}
function shownValue(run, key) {
  const value = run.params[key];
  return value === undefined ? "" : key === "layer" ? shortLayer(value) : value;
}
function compareValues(key) {
  return (a, b) => (key === "layer" ? layerPlace(a) - layerPlace(b) || natural.compare(a, b) : natural.compare(a, b));
}
function valuesOf(key, runs = MODELS) {
  // Layers and numbers by size; words as the sweep named them.
  const values = [...new Set(runs.map((run) => run.params[key]).filter((value) => value !== undefined))];
  return key === "layer" || values.every((value) => value !== "" && !isNaN(value))
    ? values.sort(compareValues(key))
    : values;
}

// One look for each value of the key that runs are coloured by: colour and shape say the same, for any colour vision.
const COLOURS = 8,
  SHAPES = ["circle", "square", "up", "diamond", "down"];
let colourKey =
  ["precision", "model", "pooling", "aggregation", ...KEYS].find(
    (key) => KEYS.includes(key) && key !== "layer" && valuesOf(key).length > 1,
  ) || null;
let looks = new Map();
function setColourKey(key) {
  colourKey = key;
  looks = new Map((key ? valuesOf(key) : []).map((value, i) => [value, look(i)]));
}
function look(i) {
  return {
    colour: `var(--c${i % COLOURS})`,
    shape: SHAPES[i % SHAPES.length],
    dash: ["", "6 3", "2 3", "8 3 2 3"][Math.floor(i / COLOURS) % 4],
  };
}
const lookOf = (run) => looks.get(run.params[colourKey]) || look(0);
setColourKey(colourKey);

function summaryOf(run) {
  const lines = [run.label];
  const add = (name, text) => {
    if (text) lines.push(`${name} ${text}`);
  };
  add("Spearman", withRange(interval(run, SPEARMAN), 3));
  add("ms per pair", fixed(metric(run, "latency/mean_ms"), 2));
  add("tokens/s", fixed(metric(run, "throughput/tokens_per_s"), 0));
  add("weights MiB", fixed(metric(run, "memory/weights_mib"), 1));
  return lines.join("\n");
}
