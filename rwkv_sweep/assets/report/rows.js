// Charts with a row for each run, in the table's order: latency, overhead, parity.
const MOST_ROWS = 40;
const ROW = 22;

function rowPlot(host, name, runs, below, lanes = 1) {
  // Names to the left in wide frames; above each row on a phone.
  const shown = runs.slice(0, MOST_ROWS);
  const longest = Math.max(...shown.map((run) => run.label.length)),
    stacked = (host.clientWidth || 600) < 560;
  const row = (stacked ? 14 : 0) + Math.max(ROW, lanes * 6 + 10);
  const plot = new Plot(host, name, 52 + shown.length * row, {
    left: stacked ? 12 : Math.min(330, 18 + longest * 6.3),
    top: 8,
    bottom: 42,
  });
  const most = stacked ? 60 : 50;
  shown.forEach((run, i) => {
    const text = run.label.length > most ? `${run.label.slice(0, most - 1)}…` : run.label;
    if (stacked) plot.text(plot.x0, plot.y1 + i * row + 11, text);
    else plot.text(plot.x0 - 8, plot.y1 + i * row + row / 2 + 4, text, { "text-anchor": "end" });
  });
  if (runs.length > shown.length)
    below.append(
      el(
        "p",
        { class: "small soft" },
        `The first ${shown.length} of ${runs.length} runs in the table's order: sort the table or filter ` +
          "it to see others.",
      ),
    );
  const y = (i) => plot.y1 + i * row + (stacked ? 14 + (row - 14) / 2 : row / 2);
  return { plot, shown, y };
}

function drawLatency(host, runs, below) {
  const timed = runs.filter((run) => run.latency.length);
  if (!timed.length) return "No run here timed single pairs (measure.latency_pairs).";
  const { plot, shown, y } = rowPlot(host, "Distribution of the time of one pair", timed, below);
  const at = (run, share) => run.latency[Math.round(share * (run.latency.length - 1))];
  const values = shown.flatMap((run) => [at(run, 0), at(run, 0.95)]);
  const log = Math.max(...values) / Math.min(...values) > 8;
  const x = scale(values, plot.x0, plot.x1, { log, zero: !log, count: Math.max(3, Math.floor(plot.width / 130)) });
  plot.xAxis(x, `ms per pair${log ? " (log scale)" : ""}`);
  shown.forEach((run, i) => {
    const { colour } = lookOf(run),
      top = y(i);
    plot.whisker(0, top, x(at(run, 0.05)), x(at(run, 0.95)), colour, true);
    plot.add("rect", {
      x: x(at(run, 0.25)),
      y: top - 5,
      width: Math.max(1, x(at(run, 0.75)) - x(at(run, 0.25))),
      height: 10,
      rx: 2,
      fill: colour,
      "fill-opacity": 0.3,
    });
    for (const value of run.latency)
      if (x(value) <= plot.x1)
        plot.add("line", {
          x1: x(value),
          x2: x(value),
          y1: top - 3,
          y2: top + 3,
          stroke: colour,
          "stroke-opacity": 0.45,
        });
    plot.point(
      x(at(run, 0.5)),
      top,
      lookOf(run),
      [
        run.label,
        `median ${fixed(at(run, 0.5), 2)} ms`,
        `middle half ${fixed(at(run, 0.25), 2)} to ${fixed(at(run, 0.75), 2)} ms`,
        `mean ${fixed(metric(run, "latency/mean_ms"), 2)} ms, p99 ${fixed(metric(run, "latency/p99_ms"), 2)} ms`,
      ].join("\n"),
    );
  });
  plot.done();
}

const RATIOS = {
  "overhead/latency_ratio": "single pairs",
  "overhead/batch_ratio": "full batches",
  "overhead/naive_latency_ratio": "layers kept, single pairs",
  "overhead/naive_batch_ratio": "layers kept, full batches",
};
function drawOverhead(host, runs, below) {
  const timed = runs.filter((run) => Object.keys(RATIOS).some((key) => interval(run, key)));
  if (!timed.length) return "No run here was timed against final-layer inference (measure.overhead=true).";
  const kinds = Object.keys(RATIOS).filter((key) => timed.some((run) => interval(run, key)));
  const { plot, shown, y } = rowPlot(
    host,
    "Time over that of final-layer inference, with 95 % intervals",
    timed,
    below,
    kinds.length,
  );
  const values = shown.flatMap((run) =>
    kinds
      .map((key) => interval(run, key))
      .filter(Boolean)
      .flatMap((range) => [range.lo, range.hi]),
  );
  const x = scale(values, plot.x0, plot.x1, { include: [1], count: Math.max(3, Math.floor(plot.width / 130)) });
  plot.xAxis(x, "time / time of final-layer inference");
  plot.rule(1, x, "var(--ink)", "", "x");
  shown.forEach((run, i) =>
    kinds.forEach((key, k) => {
      const range = interval(run, key);
      if (!range) return;
      const style = look(k),
        top = y(i) + (k - (kinds.length - 1) / 2) * 6;
      plot.whisker(0, top, x(range.lo), x(range.hi), style.colour, true);
      plot.point(x(range.value), top, style, `${run.label}\n${RATIOS[key]}: ${withRange(range, 3)}`, {
        size: 3.4,
        hollow: key.includes("naive"),
      });
    }),
  );
  plot.done();
  below.append(legend(kinds.map((key, k) => ({ name: RATIOS[key], ...look(k) }))));
}

function drawParity(host, runs, below, key) {
  const compared = runs.filter((run) => interval(run, key));
  if (!compared.length) return "No run here was compared with fp32: all are fp32, or measure.parity was off.";
  const cosine = key === "parity/cosine_mean";
  const { plot, shown, y } = rowPlot(
    host,
    cosine ? "Distance of vectors from those of fp32" : "Spearman less that of fp32, with 95 % intervals",
    compared,
    below,
  );
  const off = (run) => Math.max(1e-8, 1 - metric(run, key));
  const worst = (run) => Math.max(off(run), 1 - (metric(run, "parity/cosine_p01") ?? metric(run, key)));
  const count = Math.max(3, Math.floor(plot.width / 130));
  if (cosine) {
    const x = scale(
      shown.flatMap((run) => [off(run), worst(run)]),
      plot.x0,
      plot.x1,
      { log: true, pad: 0.1 },
    );
    plot.xAxis(x, "1 − cosine with fp32 (log scale, less is better)");
    shown.forEach((run, i) => {
      plot.whisker(0, y(i), x(off(run)), x(worst(run)), lookOf(run).colour, true);
      plot.point(
        x(off(run)),
        y(i),
        lookOf(run),
        `${run.label}\nmean cosine ${fixed(metric(run, key), 6)}\n1st percentile ` +
          `${fixed(metric(run, "parity/cosine_p01"), 6)}`,
      );
    });
  } else {
    const x = scale(
      shown.flatMap((run) => {
        const range = interval(run, key);
        return [range.lo, range.hi];
      }),
      plot.x0,
      plot.x1,
      { include: [0], count },
    );
    plot.xAxis(x, "Spearman less that of fp32");
    plot.rule(0, x, "var(--ink)", "", "x");
    shown.forEach((run, i) => {
      const range = interval(run, key);
      plot.whisker(0, y(i), x(range.lo), x(range.hi), lookOf(run).colour, true);
      plot.point(
        x(range.value),
        y(i),
        lookOf(run),
        `${run.label}\n${signed(range.value, 4)} [${signed(range.lo, 4)}, ${signed(range.hi, 4)}]`,
      );
    });
  }
  plot.done();
}
