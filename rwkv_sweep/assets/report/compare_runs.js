// The table of matched runs.
const RANGE = (range, digits, sign) =>
  range
    ? [range.value, range.lo, range.hi]
        .map((value) => (sign ? signed : fixed)(value, digits))
        .map((text, i) => [text, ` [${text}`, `, ${text}]`][i])
        .join("")
    : "";

function runsTable() {
  const pair = (name, key, digits) =>
    ["A", "B"].map((label, side) => ({
      name: `${name} ${label}`,
      number: true,
      value: (run) => run.metrics[key][side],
      text: (run) => fixed(run.metrics[key][side], digits),
    }));
  const columns = [
    { name: "run", value: (run) => run.name, text: (run) => run.name },
    {
      name: "more than noise",
      value: (run) => run.verdicts.join(", "),
      text: (run) =>
        run.verdicts.map((word) => el("span", { class: `pill${/worse|slower/.test(word) ? " failed" : ""}` }, word)),
    },
    ...pair("Spearman", "quality/spearman", 3),
    {
      name: "B − A [95 %]",
      number: true,
      value: (run) => run.quality && run.quality.value,
      text: (run) => (run.quality ? RANGE(run.quality, 3, true) : run.no_quality),
    },
    {
      name: "p, Holm",
      number: true,
      value: (run) => run.adjusted,
      text: (run) => (run.adjusted === null ? "" : short(run.adjusted)),
    },
    ...pair("ms", "latency/mean_ms", 2),
    {
      name: "time B / A [95 %]",
      number: true,
      value: (run) => run.latency && run.latency.value,
      text: (run) => (run.latency ? RANGE(run.latency, 3) : run.no_latency),
    },
    ...pair("tokens/s", "throughput/tokens_per_s", 0),
    ...pair("MiB", "memory/weights_mib", 1),
  ];
  const body = el("tbody");
  const row = (run) =>
    el(
      "tr",
      {},
      columns.map((column, i) =>
        el(i ? "td" : "th", { scope: i ? null : "row", class: column.number ? "number" : null }, column.text(run)),
      ),
    );
  const show = () => body.replaceChildren(...sorted(DATA.runs).map(row));
  const { heads, sorted } = sortable(columns, show);
  show();
  return el(
    "section",
    { class: "card", id: "runs" },
    el("h2", {}, "Runs"),
    el(
      "div",
      { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "Table of runs" },
      el("table", {}, el("thead", {}, el("tr", {}, heads)), body),
    ),
  );
}
