// One filter for the table and every chart: words, one choice for each key that varies, status.
const FILTER = { words: "", chosen: new Map(), status: "" };
const MANY = 40;

function passes(run) {
  if (FILTER.status && run.status !== FILTER.status) return false;
  for (const [key, value] of FILTER.chosen) if (run.model && run.params[key] !== value) return false;
  return (
    !FILTER.words ||
    FILTER.words
      .toLowerCase()
      .split(/\s+/)
      .every((word) => run.text.includes(word))
  );
}
for (const run of RUNS) {
  run.text = [
    run.name,
    run.label,
    run.kind,
    run.status,
    ...Object.entries(run.params).map(([key, value]) => `${key}=${value}`),
  ]
    .join(" ")
    .toLowerCase();
}

function filterBar(changed) {
  const count = el("span", { class: "count", role: "status", id: "count" });
  let waiting = 0;
  const later = () => {
    clearTimeout(waiting);
    waiting = setTimeout(changed, RUNS.length > 150 ? 160 : 40);
  };
  const words = el("input", {
    type: "search",
    id: "filter",
    placeholder: "Filter runs",
    "aria-label": "Filter runs by words",
    oninput: (event) => {
      FILTER.words = event.target.value.trim();
      later();
    },
  });
  const facets = KEYS.map((key) => [key, valuesOf(key)])
    .filter(([, values]) => values.length > 1 && values.length <= MANY)
    .slice(0, 6)
    .map(([key, values]) =>
      el(
        "label",
        { class: "facet" },
        el("span", {}, key),
        select(
          key,
          [
            ["", `any ${key.split(".").pop()}`],
            ...values.map((value, i) => [String(i), key === "layer" ? shortLayer(value) : value]),
          ],
          "",
          (at) => {
            if (at === "") FILTER.chosen.delete(key);
            else FILTER.chosen.set(key, values[Number(at)]);
            changed();
          },
        ),
      ),
    );
  const statuses = [...new Set(RUNS.map((run) => run.status))];
  if (statuses.length > 1)
    facets.push(
      el(
        "label",
        { class: "facet" },
        el("span", {}, "status"),
        select("status", [["", "any status"], ...statuses.map((each) => [each, each.toLowerCase()])], "", (value) => {
          FILTER.status = value;
          changed();
        }),
      ),
    );
  const colours = KEYS.filter(
    (key) => key !== "layer" && valuesOf(key).length > 1 && valuesOf(key).length <= COLOURS * 4,
  );
  if (colours.length > 1)
    facets.push(
      el(
        "label",
        { class: "facet" },
        el("span", {}, "colour by"),
        select(
          "Colour by",
          colours.map((key) => [key, key]),
          colourKey,
          (key) => {
            setColourKey(key);
            changed();
          },
        ),
      ),
    );
  const clear = el(
    "button",
    {
      type: "button",
      id: "clear",
      onclick: () => {
        FILTER.words = FILTER.status = "";
        FILTER.chosen.clear();
        words.value = "";
        for (const box of bar.querySelectorAll("select"))
          if (box.getAttribute("aria-label") !== "Colour by") box.selectedIndex = 0;
        changed();
      },
    },
    "Clear",
  );
  const bar = el("div", { class: "filters", role: "search" }, words, facets, clear, count);
  return bar;
}
