// Spearman by layer, quality against a cost, the heat map.
const scored = (runs, key = SPEARMAN) => runs.filter((run) => interval(run, key));

function baselineLines(plot, y, place = "right", key = SPEARMAN) {
  // Each baseline across the panel, named at its end, names pushed apart.
  const lines = BASELINES.map((run) => ({ run, at: metric(run, key) }))
    .filter((line) => line.at !== null)
    .sort((a, b) => a.at - b.at);
  let least = Infinity;
  const taken = [];
  lines.forEach(({ run, at }, i) => {
    plot.rule(at, y, "var(--soft)", ["6 4", "2 3", "9 3 2 3"][i % 3]);
    least = Math.min(least - 13, y(at));
    const inside = place === "inside";
    const text = `${run.name.replace("_", " ")} ${fixed(at, 3)}`,
      left = inside ? plot.x0 + 6 : plot.x1 + 6,
      base = least + (inside ? -4 : 4);
    plot.text(left, base, text);
    taken.push([left, base - 10, left + text.length * 6, base + 3]);
  });
  return taken;
}
const spearmanBounds = (runs, key = SPEARMAN) =>
  [...runs, ...BASELINES].flatMap((run) => {
    const range = interval(run, key);
    return range ? [range.lo, range.hi] : [];
  });

function legendOf(runs, line) {
  if (!colourKey) return null;
  const values = valuesOf(colourKey, runs);
  if (values.length < 2) return null;
  const shown = values.slice(0, 12).map((value) => ({
    name: `${/^\d|^(true|false|none|all)/.test(value) ? `${colourKey} ` : ""}${value}`,
    ...looks.get(value),
    line,
  }));
  return legend(values.length > 12 ? [...shown, { name: `and ${values.length - 12} more` }] : shown);
}

function drawByLayer(host, runs, below, key = SPEARMAN) {
  const all = scored(runs, key);
  if (!all.length) return "No run here has a Spearman.";
  const singles = all.filter(isSingle),
    several = all.filter((run) => !isSingle(run));
  const wide = host.clientWidth > 620;
  const categories = [...new Set(several.map((run) => `${run.aggregation || ""} ${shortLayer(layerOf(run))}`.trim()))];
  const places = [...new Set(singles.map((run) => layerPlace(layerOf(run))))].sort((a, b) => a - b);
  const spots = categories.length + (places.length ? places[places.length - 1] - places[0] + 1 : 0);
  const slanted =
    Math.max(0, ...categories.map((name) => name.length * 6.4)) >
    ((host.clientWidth || 600) - (wide ? 184 : 70)) / spots;
  const plot = new Plot(host, "Spearman by layer with 95 % intervals", wide ? 360 : 300, {
    right: wide ? 128 : 14,
    bottom: slanted ? 74 : 40,
  });
  const first = places.length ? places[0] : 0,
    end = places.length ? places[places.length - 1] + 1 : 0;
  const slot = (run) =>
    isSingle(run)
      ? layerPlace(layerOf(run))
      : end + categories.indexOf(`${run.aggregation || ""} ${shortLayer(layerOf(run))}`.trim());
  const slots = end - first + categories.length;
  const x = (value) => plot.x0 + ((value - first + 0.5) / slots) * (plot.x1 - plot.x0);
  const y = scale(spearmanBounds(all, key), plot.y0, plot.y1);
  plot.yAxis(y, SPLITS.length > 1 ? `Spearman, ${SPLITS.find((split) => split.key === key).name}` : "Spearman");
  const names = new Map(singles.map((run) => [layerPlace(layerOf(run)), layerOf(run)]));
  // Names from the deepest layer down, as many as there is room for.
  const named = [];
  for (const [place, name] of [...names].sort((a, b) => b[0] - a[0])) {
    const width = name.length * 6.5 + 10;
    if (!named.length || x(named[0][0]) - x(place) > (width + named[0][1].length * 6.5) / 2)
      named.unshift([place, name]);
  }
  x.ticks = [];
  plot.xAxis(x, places.length ? "layer" : slanted ? "" : "aggregation and layers", { grid: false, labels: named });
  categories.forEach((name, i) =>
    plot.text(0, 0, name, {
      transform: slanted
        ? `translate(${x(end + i) + 4} ${plot.y0 + 12}) rotate(-32)`
        : `translate(${x(end + i)} ${plot.y0 + 15})`,
      "text-anchor": slanted ? "end" : "middle",
    }),
  );
  if (categories.length && places.length)
    plot.add("line", { x1: x(end - 0.5), x2: x(end - 0.5), y1: plot.y1, y2: plot.y0, stroke: "var(--line)" });
  if (wide) baselineLines(plot, y, "right", key);
  else baselineLines(plot, y, "inside", key);
  const rest = KEYS.filter((param) => param !== "layer" && !param.startsWith("aggregation"));
  const groups = new Map();
  for (const run of all) {
    const name = rest.map((param) => run.params[param]).join("\u0000");
    groups.set(name, [...(groups.get(name) || []), run]);
  }
  const apart = Math.min(0.14, 0.7 / groups.size);
  [...groups.values()].forEach((group, i) => {
    const shift = (i - (groups.size - 1) / 2) * apart;
    const line = group.filter(isSingle).sort((a, b) => slot(a) - slot(b));
    const path = line
      .map((run, k) => `${k ? "L" : "M"}${x(slot(run) + shift).toFixed(1)} ${y(metric(run, key)).toFixed(1)}`)
      .join("");
    const { colour, dash } = lookOf(group[0]);
    if (line.length > 1)
      plot.add("path", {
        d: path,
        fill: "none",
        stroke: colour,
        "stroke-width": 1.6,
        "stroke-dasharray": dash,
        "stroke-opacity": groups.size > 24 ? 0.35 : 0.8,
      });
    for (const run of group) {
      const value = interval(run, key),
        at = x(slot(run) + shift);
      if (all.length <= 300) plot.whisker(at, 0, y(value.lo), y(value.hi), colour);
      plot.point(at, y(value.value), lookOf(run), summaryOf(run), { size: all.length > 120 ? 2.8 : 4.2 });
    }
  });
  plot.done();
  const colours = legendOf(all, true);
  if (colours) below.append(colours);
}

// What a run costs: speed where runs were timed on one scale, else the figures of runs that were timed one after another,
// of which none is called the best. margin: relative difference below which two runs are alike.
const COSTS = {};
for (const [raw, { regime, reference, margin, of }] of Object.entries(DATA.speeds)) {
  const rate = raw === "throughput/tokens_per_s";
  COSTS[raw] = Object.keys(of).length
    ? { name: `speed for ${regime} over ${reference}`, more: true, margin, ranked: true, of: (run) => bounds(of[run.index]) }
    : { name: `${rate ? "tokens/s" : "ms per pair"}, timed one after another`, more: rate, of: (run) => interval(run, raw) };
}
const plainCost = (name, margin, key) => ({ name, more: false, margin, ranked: true, of: (run) => interval(run, key) });
COSTS["memory/weights_mib"] = plainCost("weights, MiB", 0, "memory/weights_mib");
if (onDevice) {
  COSTS["memory/peak"] = plainCost("peak memory, MiB", 0.01, "memory/peak_allocated_mib");
  COSTS["memory/peak_above_weights_mib"] = plainCost("peak above the weights, MiB", 0.01, "memory/peak_above_weights_mib");
}
function bounds(values) {
  return values ? { value: values[0], lo: values[1], hi: values[2], bounded: true } : null;
}
const costOf = (run, key) => COSTS[key].of(run);

const PLACES = new Map(
  DATA.rankings.flatMap((ranking) => ranking.runs.map((index, place) => [index, { ranking, place }])),
);
function qualitySign(a, b) {
  // 1 where run a is shown to be better in Spearman than run b, -1 where worse, 0 where noise could explain it.
  const [ours, theirs] = [PLACES.get(a.index), PLACES.get(b.index)];
  if (!ours || !theirs || ours.ranking !== theirs.ranking) return 0;
  const { better } = ours.ranking;
  if (better.length)
    return better[ours.place][theirs.place] === "1" ? 1 : better[theirs.place][ours.place] === "1" ? -1 : 0;
  // Very many runs: by their own intervals, which are wider than that of a difference.
  const [x, y] = [interval(a, SPEARMAN), interval(b, SPEARMAN)];
  const noise = Math.hypot(x.hi - x.lo, y.hi - y.lo) / 2;
  return Math.abs(x.value - y.value) <= noise ? 0 : x.value > y.value ? 1 : -1;
}
function costSign(a, b, { more, margin }) {
  const gap = (more ? 1 : -1) * Math.log(a.value / b.value);
  const reach = (range) => Math.log(range.hi / range.lo) / 2;
  return Math.abs(gap) <= Math.max(Math.log(1 + margin), Math.hypot(reach(a), reach(b))) ? 0 : Math.sign(gap);
}
function unbeaten(points, cost) {
  // Those that no other is shown to beat in one without being shown to be worse in the other.
  const beats = (a, b) => {
    const signs = [qualitySign(a.run, b.run), costSign(a.cost, b.cost, cost)];
    return Math.max(...signs) > 0 && Math.min(...signs) >= 0;
  };
  const left = points.filter((b) => !points.some((a) => a !== b && beats(a, b)));
  return (left.length ? left : points).sort((a, b) => a.x - b.x);
}

function drawScatter(host, runs, below, key) {
  const { name, more, ranked } = COSTS[key];
  const priced = scored(runs)
    .map((run) => ({ run, cost: costOf(run, key), score: interval(run, SPEARMAN) }))
    .filter((point) => point.cost && point.cost.value > 0);
  if (!priced.length) return `No run here has both a Spearman and ${name}.`;
  const plot = new Plot(host, `Spearman against ${name}`, 340, { right: 18 });
  const values = priced.flatMap(({ cost }) => [cost.lo, cost.hi]);
  const log = Math.max(...values) / Math.min(...values) > 4;
  const x = scale(values, plot.x0, plot.x1, { log, count: Math.max(3, Math.floor(plot.width / 110)), pad: 0.07 });
  const y = scale(spearmanBounds(priced.map((point) => point.run)), plot.y0, plot.y1);
  plot.yAxis(y, `Spearman${ON}`);
  plot.xAxis(x, `${name} (${more ? "more" : "less"} is better${log ? ", log scale" : ""})`);
  const taken = baselineLines(plot, y, "inside");
  const points = priced.map((point) => ({ ...point, x: point.cost.value, y: point.score.value }));
  const best = ranked ? unbeaten(points, COSTS[key]) : [];
  const crowded = points.length > 60;
  for (const point of points) {
    const at = [x(point.x), y(point.y)],
      look = lookOf(point.run);
    if (!crowded || (best.includes(point) && best.length <= 40)) {
      plot.whisker(at[0], 0, y(point.score.lo), y(point.score.hi), look.colour);
      if (point.cost.hi > point.cost.lo) plot.whisker(0, at[1], x(point.cost.lo), x(point.cost.hi), look.colour, true);
    }
    plot.point(at[0], at[1], look, summaryOf(point.run) + (best.includes(point) ? "\nnot beaten" : ""), {
      size: best.includes(point) ? 5.2 : crowded ? 2.8 : 4,
      hollow: !best.includes(point) && !crowded,
    });
  }
  nameFront(plot, best, x, y, taken);
  plot.done();
  const colours = legendOf(
    priced.map((point) => point.run),
    false,
  );
  if (colours) below.append(colours);
}

function nameFront(plot, best, x, y, taken) {
  // Names of the front where there is room; the tooltip has them all.
  for (const point of best.slice(0, 10)) {
    const text = point.run.label,
      width = text.length * 6.1;
    for (const [dx, dy, anchor] of [
      [9, -8, "start"],
      [-9, -8, "end"],
      [9, 16, "start"],
      [-9, 16, "end"],
    ]) {
      const at = x(point.x) + dx,
        top = y(point.y) + dy,
        from = anchor === "start" ? at : at - width;
      const box = [from, top - 10, from + width, top + 3];
      if (
        box[0] < plot.x0 + 2 ||
        box[2] > plot.width - 2 ||
        box[1] < 2 ||
        taken.some((other) => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1])
      )
        continue;
      taken.push(box);
      plot.text(at, top, text, {
        "text-anchor": anchor,
        class: "strong",
        stroke: "var(--card)",
        "stroke-width": 3,
        "paint-order": "stroke",
      });
      break;
    }
  }
}
