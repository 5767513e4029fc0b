// The table of runs: columns as on the terminal, and what else there is; any of them sorts.
const isReference = (run, key) =>
  key.startsWith("speedup/") &&
  run.model &&
  run.params.precision === "fp32" &&
  RUNS.some((other) => interval(other, key));
const ALONE = "Runs were timed one after another: what else the machine did meanwhile shows too.";
function tableColumns() {
  const number = (name, key, digits, title) => ({
    name,
    title,
    number: true,
    down: !/ms|MiB|overhead|J \//.test(name),
    value: (run) => metric(run, key),
    text: (run) => fixed(metric(run, key), digits),
  });
  const keys = [...new Set(["layer", "precision", ...KEYS])];
  const columns = keys.map((key, i) => ({
    name: key,
    title: key,
    value: (run) =>
      run.model
        ? key === "layer"
          ? layerPlace(layerOf(run)) * 1000 + valuesOf("layer").indexOf(layerOf(run))
          : run.params[key]
        : i
          ? null
          : 1e9 + run.index,
    text: (run) => (run.model ? shownValue(run, key) : i ? "" : run.name),
  }));
  if (!RUNS.some((run) => run.model && run.params.layer !== undefined)) columns[0].text = (run) => run.name;
  const spearman = (name, split, key) => ({
    name,
    title: `Rank correlation of cosine and label${split}, 95 % bootstrap interval; lines stand for the baselines`,
    number: true,
    down: true,
    value: (run) => metric(run, key),
    text: (run) => withRange(interval(run, key), 3),
    cell: (run) => spearmanCell(run, key),
  });
  if (SPLITS.length > 1)
    for (const { name, key } of SPLITS) columns.push(spearman(`Spearman ${name} [95 %]`, ` on ${name}`, key));
  else columns.push(spearman("Spearman [95 %]", "", SPEARMAN));
  const against = new Set(
    RUNS.flatMap((run) => Object.keys(run.metrics)).filter((key) => /^(baseline\/.+|final)\/delta$/.test(key)),
  );
  for (const key of against) {
    const name = key.split("/").slice(-2)[0];
    const p = (run) => (DATA.family.adjusted[run.name] || {})[name];
    columns.push({
      name: `vs ${name.replace("_", " ")}${ON}`,
      title:
        `Spearman less that of ${name === "final" ? "final-layer inference" : name}; ▲ ▼ survive Holm's ` +
        `correction for all ${DATA.family.count} comparisons`,
      number: true,
      down: true,
      value: (run) => metric(run, key),
      text: (run) => signed(metric(run, key), 3),
      cell: (run) => [
        signed(metric(run, key), 3),
        p(run) !== undefined && run.model ? holmMark(p(run), metric(run, key)) : null,
      ],
    });
  }
  columns.push(
    ...["accuracy", "spearman"].map((name) => ({
      name: `probe ${name} [95 %]`,
      title: `${name} of a linear probe that was trained on another split`,
      number: true,
      down: true,
      value: (run) => metric(run, `probe/${name}`),
      text: (run) => withRange(interval(run, `probe/${name}`), 3),
    })),
    number("effective rank", "representation/effective_rank", 1, "Directions of equal weight with the vectors' entropy"),
    number("anisotropy", "representation/anisotropy", 3, "Mean cosine of two different sentences"),
    number("InfoNCE", "representation/infonce", 3, "How well two views of a sentence are matched, 1 at most"),
    ...[
      ["batch speed / fp32", "speedup/over_fp32", true, "Speed in packed batches over that of fp32, interleaved"],
      ["pair speed / fp32", "speedup/pair_over_fp32", true, "Speed for single pairs over that of fp32, interleaved"],
      ["pair time / final", "overhead/latency_ratio", false, "Time of a pair over final-layer inference's, interleaved"],
      ["batch time / final", "overhead/batch_ratio", false, "Time of a batch over final-layer inference's, interleaved"],
    ].map(([name, key, down, title]) => ({
      name,
      title,
      number: true,
      down,
      value: (run) => metric(run, key),
      text: (run) =>
        withRange(interval(run, key), 2) || (run.done && isReference(run, key) ? "reference" : ""),
    })),
    number("ms/pair", "latency/mean_ms", 2, `Mean time of one pair: two strings in, one score out. ${ALONE}`),
    number("p99 ms", "latency/p99_ms", 2, `99th percentile of one pair's time. ${ALONE}`),
    number("tokens/s", "throughput/tokens_per_s", 0, `Real tokens a second in packed batches. ${ALONE}`),
    number("weights MiB", "memory/weights_mib", 1, "Parameters, buffers and scales"),
    {
      name: onDevice ? "peak MiB" : "process MiB",
      title: onDevice ? "Peak of the device's memory" : "Peak of the whole process's memory, other runs' remains included",
      number: true,
      value: peak,
      text: (run) => fixed(peak(run), 0),
    },
    number("parity", "parity/cosine_mean", 5, "Mean cosine with fp32's vectors"),
    number("J / 1k pairs", "energy/joules_per_1k_pairs", 2, "Energy of a GPU for a thousand pairs"),
  );
  columns.push({
    name: "status",
    title: "How the run ended",
    value: (run) => run.status,
    text: (run) => run.status.toLowerCase(),
    cell: (run) => statusPill(run),
  });
  return columns.filter((column, i) => i === 0 || RUNS.some((run) => column.text(run) !== ""));
}

const holmMark = (p, delta) =>
  el(
    "span",
    { class: `mark${delta < 0 ? " less" : ""}`, title: `p = ${p} after Holm's correction` },
    p > 0.05 ? "" : delta < 0 ? "▼" : "▲",
  );

function statusPill(run) {
  const kind = run.done ? "" : FINDINGS.includes(run.status) ? " other" : " failed";
  return el("span", { class: `pill${kind}`, title: run.error ? run.error.message : null }, run.status.toLowerCase());
}

const SPREAD = RUNS.flatMap((run) => SPLITS.map(({ key }) => interval(run, key))).filter(Boolean);
const [LEAST, MOST] = SPREAD.length
  ? [Math.min(...SPREAD.map((range) => range.lo)), Math.max(...SPREAD.map((range) => range.hi))]
  : [0, 1];
const MINI = (value) => 4 + (84 * (value - LEAST)) / (MOST - LEAST || 1);
function spearmanCell(run, key) {
  const spearman = interval(run, key);
  // As on the terminal, how the run ended stands where its number would.
  if (!spearman) return run.done ? "" : statusPill(run);
  const colour = run.model ? colourOf(run) : "var(--soft)";
  const range = spearman.bounded ? el("span", { class: "range" }, ` [${fixed(spearman.lo, 3)}, ${fixed(spearman.hi, 3)}]`) : null;
  const picture = mark(
    "svg",
    { class: "mini", viewBox: "0 0 92 14", "aria-hidden": "true" },
    BASELINES.filter((base) => interval(base, key)).map((base) =>
      mark("line", {
        x1: MINI(metric(base, key)),
        x2: MINI(metric(base, key)),
        y1: 0,
        y2: 14,
        stroke: "var(--faint)",
        "stroke-dasharray": "2 2",
      }),
    ),
    mark("line", {
      x1: MINI(spearman.lo),
      x2: MINI(spearman.hi),
      y1: 7,
      y2: 7,
      stroke: colour,
      "stroke-width": 2,
      "stroke-opacity": 0.5,
    }),
    mark("circle", { cx: MINI(spearman.value), cy: 7, r: 3.4, fill: colour }),
  );
  return [fixed(spearman.value, 3), range, picture];
}

const AT_FIRST = 60;
function runsTable(changed) {
  const columns = tableColumns();
  const { heads, sorted } = sortable(columns, changed);
  const rows = new Map(),
    body = el("tbody");
  const row = (run) =>
    el(
      "tr",
      {
        class: FINDINGS.includes(run.status) ? "base" : !run.done ? "failed" : run.model ? null : "base",
        "data-run": run.index,
      },
      columns.map((column, i) =>
        el(
          i ? "td" : "th",
          { scope: i ? null : "row", class: column.number ? "number" : null },
          column.cell ? column.cell(run) : column.text(run),
        ),
      ),
    );
  const table = el(
    "table",
    { id: "runs-table" },
    el("caption", { hidden: true }, "Runs"),
    el("thead", {}, el("tr", {}, heads)),
    body,
  );
  let waiting = 0;
  const show = (runs) => {
    const made = (run) => {
      if (!rows.has(run)) rows.set(run, row(run));
      return rows.get(run);
    };
    // What is seen first; the rest once the page stands.
    body.replaceChildren(...runs.slice(0, AT_FIRST).map(made));
    clearTimeout(waiting);
    if (runs.length > AT_FIRST) waiting = setTimeout(() => body.append(...runs.slice(AT_FIRST).map(made)), 30);
  };
  const lines = (runs) => [
    columns.map((column) => column.name),
    ...runs.map((run) => columns.map((column) => column.text(run))),
  ];
  return { table, show, sorted, lines };
}

function csvText(lines) {
  // Other programs read this: a minus is a hyphen there, and thousands have no comma.
  const plain = (cell) => cell.replace(/−/g, "-").replace(/(\d),(?=\d{3}\b)/g, "$1");
  const quoted = (cell) => (/[",\n]/.test(cell) ? `"${cell.replace(/"/g, '""')}"` : cell);
  return lines.map((line) => line.map((cell) => quoted(plain(String(cell)))).join(",")).join("\n") + "\n";
}
function markdownText([head, ...lines]) {
  const row = (cells) =>
    `| ${cells.map((cell) => String(cell).replace(/\|/g, "\\|").replace(/\n/g, " ")).join(" | ")} |`;
  return [row(head), `|${head.map(() => " --- |").join("")}`, ...lines.map(row)].join("\n") + "\n";
}
