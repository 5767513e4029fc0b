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

// The colour that charts give a run.
const COLOURS = DATA.themes.light.range.category.length;
const VALUES = [...new Set(DATA.fields.filter(Boolean).map((fields) => fields.colour))];
const colourOf = (run) => `var(--c${Math.max(0, VALUES.indexOf((DATA.fields[run.index] || {}).colour)) % COLOURS})`;
