// One filter for the table and every chart: words, one choice for each key that varies, status, what is picked in a
// legend; of the table alone: the runs within a brush.
const FILTER = { words: "", chosen: new Map(), status: "", picked: null, brushed: null };
const MANY = 40,
  FACETS = 6;

function passes(run) {
  if (FILTER.status && run.status !== FILTER.status) return false;
  for (const [key, value] of FILTER.chosen) if (run.model && run.params[key] !== value) return false;
  if (FILTER.picked && run.model && !FILTER.picked.includes((DATA.fields[run.index] || {}).colour)) return false;
  const words = FILTER.words.toLowerCase().split(/\s+/);
  return words.every((word) => run.text.includes(word));
}
for (const run of RUNS) {
  const params = Object.entries(run.params).map(([key, value]) => `${key}=${value}`);
  run.text = [run.name, run.label, run.kind, run.status, ...params].join(" ").toLowerCase();
}

function facet(name, box) {
  return el("label", { class: "facet" }, el("span", {}, name), box);
}

function keyFacet(key, changed) {
  // Choices by their place among the values: a value may be any text.
  const values = valuesOf(key);
  const options = values.map((value, i) => [String(i), key === "layer" ? shortLayer(value) : value]);
  const choose = (at) => {
    if (at === "") FILTER.chosen.delete(key);
    else FILTER.chosen.set(key, values[Number(at)]);
    changed();
  };
  return facet(key, select(key, [["", `any ${key.split(".").pop()}`], ...options], "", choose));
}

function statusFacet(changed) {
  const statuses = [...new Set(RUNS.map((run) => run.status))];
  if (statuses.length < 2) return null;
  const options = statuses.map((status) => [status, status.toLowerCase()]);
  const choose = (value) => {
    FILTER.status = value;
    changed();
  };
  return facet("status", select("status", [["", "any status"], ...options], "", choose));
}

function filterBar(changed) {
  let waiting = 0;
  const typed = (event) => {
    FILTER.words = event.target.value.trim();
    clearTimeout(waiting);
    waiting = setTimeout(changed, RUNS.length > 150 ? 160 : 40);
  };
  const clear = () => {
    FILTER.words = FILTER.status = "";
    FILTER.chosen.clear();
    FILTER.picked = FILTER.brushed = null;
    words.value = "";
    for (const box of filters.flatMap((choice) => [...choice.querySelectorAll("select")])) box.selectedIndex = 0;
    changed(true);
  };
  const words = el("input", {
    type: "search",
    id: "filter",
    placeholder: "Filter runs",
    "aria-label": "Filter runs by words",
    oninput: typed,
  });
  const telling = KEYS.filter((key) => valuesOf(key).length > 1 && valuesOf(key).length <= MANY).slice(0, FACETS);
  const filters = [...telling.map((key) => keyFacet(key, changed)), statusFacet(changed)].filter(Boolean);
  return el(
    "div",
    { class: "filters", role: "search" },
    words,
    filters,
    el("button", { type: "button", id: "clear", onclick: clear }, "Clear"),
    el("span", { class: "count", role: "status", id: "count" }),
  );
}
