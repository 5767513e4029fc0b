// The heat map: one value by two keys.
const HEATS = {
  "quality/spearman": ["Spearman", 3, false],
  "latency/mean_ms": ["ms per pair", 2, true],
  "throughput/tokens_per_s": ["tokens/s", 0, false],
  "overhead/latency_ratio": ["pair time / final", 3, true],
  "parity/cosine_mean": ["cosine with fp32", 4, false],
  "memory/weights_mib": ["weights, MiB", 1, true],
};

function drawHeat(host, runs, below, { value: key, rows: rowKey, columns: columnKey }) {
  const [name, digits] = HEATS[key];
  const measured = runs.filter((run) => metric(run, key) !== null);
  if (!measured.length || rowKey === columnKey)
    return measured.length ? "Choose two different keys." : `No run here has ${name}.`;
  const rows = valuesOf(rowKey, measured),
    columns = valuesOf(columnKey, measured);
  if (rows.length > 60 || columns.length > 40)
    return (
      `Too many values for a map: ${rows.length} of ${rowKey}, ${columns.length} of ${columnKey}. A ` +
      "filter above makes them fewer."
    );
  const cells = new Map();
  for (const run of measured) {
    const at = `${run.params[rowKey]}\u0000${run.params[columnKey]}`;
    cells.set(at, [...(cells.get(at) || []), run]);
  }
  const mean = (list) => list.reduce((sum, run) => sum + metric(run, key), 0) / list.length;
  const values = [...cells.values()].map(mean),
    lo = Math.min(...values),
    hi = Math.max(...values);
  const longest = Math.max(...rows.map((value) => (rowKey === "layer" ? shortLayer(value) : value).length));
  const plot = new Plot(host, `${name} by ${rowKey} and ${columnKey}`, 56 + rows.length * 28, {
    left: Math.min(200, 40 + longest * 7),
    top: 34,
    right: 6,
    bottom: 10,
  });
  const width = Math.min(190, (plot.x1 - plot.x0) / columns.length);
  plot.text(plot.x0, 12, columnKey, { class: "strong" });
  plot.text(0, 0, rowKey, {
    transform: `translate(12 ${(plot.y0 + plot.y1) / 2}) rotate(-90)`,
    "text-anchor": "middle",
    class: "strong",
  });
  columns.forEach((value, i) =>
    plot.text(plot.x0 + (i + 0.5) * width, 28, columnKey === "layer" ? shortLayer(value) : value, {
      "text-anchor": "middle",
    }),
  );
  rows.forEach((value, r) => {
    plot.text(plot.x0 - 8, plot.y1 + r * 28 + 18, rowKey === "layer" ? shortLayer(value) : value, {
      "text-anchor": "end",
    });
    columns.forEach((other, c) => {
      const list = cells.get(`${value}\u0000${other}`),
        x = plot.x0 + c * width,
        y = plot.y1 + r * 28;
      if (!list)
        return plot.add("rect", {
          x: x + 1,
          y: y + 1,
          width: width - 2,
          height: 26,
          fill: "none",
          stroke: "var(--grid)",
          rx: 3,
        });
      const at = mean(list),
        share = hi > lo ? (at - lo) / (hi - lo) : 0.5;
      plot.add("rect", { x: x + 1, y: y + 1, width: width - 2, height: 26, rx: 3, fill: "var(--heat-low)" });
      plot.add("rect", {
        x: x + 1,
        y: y + 1,
        width: width - 2,
        height: 26,
        rx: 3,
        fill: "var(--heat-high)",
        "fill-opacity": (0.04 + 0.96 * share).toFixed(3),
      });
      // Text keeps its contrast on both ends of the scale.
      if (width > 34)
        plot.text(x + width / 2, y + 18, fixed(at, digits) + (list.length > 1 ? "*" : ""), {
          "text-anchor": "middle",
          style: `fill:${share > 0.6 ? "var(--card)" : "var(--ink)"}`,
        });
      plot.points.push({
        x: x + width / 2,
        y: y + 14,
        text:
          `${rowKey} ${value}, ${columnKey} ${other}\n${name} ${fixed(at, digits)}` +
          (list.length > 1 ? `, mean of ${list.length} runs` : ""),
      });
    });
  });
  plot.done();
  if ([...cells.values()].some((list) => list.length > 1))
    below.append(
      el(
        "p",
        { class: "small soft" },
        "* mean of several runs, which differ in other keys: a filter above separates them.",
      ),
    );
}
