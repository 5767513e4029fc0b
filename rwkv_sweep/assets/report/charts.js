// Spearman by layer, quality against a cost, the heat map.
const scored = (runs) => runs.filter((run) => interval(run, SPEARMAN));

function baselineLines(plot, y, place = "right") {
  // Each baseline across the panel, named at its end, names pushed apart.
  const lines = BASELINES.map((run) => ({ run, at: metric(run, SPEARMAN) }))
    .filter((each) => each.at !== null)
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
const spearmanBounds = (runs) =>
  [...runs, ...BASELINES].flatMap((run) => {
    const each = interval(run, SPEARMAN);
    return each ? [each.lo, each.hi] : [];
  });

function legendOf(runs, line) {
  if (!colourKey) return null;
  const values = valuesOf(colourKey, runs);
  if (values.length < 2) return null;
  const told = values.slice(0, 12).map((value) => ({
    name: `${/^\d|^(true|false|none|all)/.test(value) ? `${colourKey} ` : ""}${value}`,
    ...looks.get(value),
    line,
  }));
  return legend(values.length > 12 ? [...told, { name: `and ${values.length - 12} more` }] : told);
}

function drawByLayer(host, runs, below) {
  const all = scored(runs);
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
  const y = scale(spearmanBounds(all), plot.y0, plot.y1);
  plot.yAxis(y, "Spearman");
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
  if (wide) baselineLines(plot, y);
  else baselineLines(plot, y, "inside");
  const rest = KEYS.filter((key) => key !== "layer" && !key.startsWith("aggregation"));
  const groups = new Map();
  for (const run of all) {
    const name = rest.map((key) => run.params[key]).join("\u0000");
    groups.set(name, [...(groups.get(name) || []), run]);
  }
  const apart = Math.min(0.14, 0.7 / groups.size);
  [...groups.values()].forEach((group, i) => {
    const shift = (i - (groups.size - 1) / 2) * apart;
    const line = group.filter(isSingle).sort((a, b) => slot(a) - slot(b));
    const path = line
      .map((run, k) => `${k ? "L" : "M"}${x(slot(run) + shift).toFixed(1)} ${y(metric(run, SPEARMAN)).toFixed(1)}`)
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
      const value = interval(run, SPEARMAN),
        at = x(slot(run) + shift);
      if (all.length <= 300) plot.whisker(at, 0, y(value.lo), y(value.hi), colour);
      plot.point(at, y(value.value), lookOf(run), summaryOf(run), { size: all.length > 120 ? 2.8 : 4.2 });
    }
  });
  plot.done();
  const told = legendOf(all, true);
  if (told) below.append(told);
}

const COSTS = {
  "throughput/tokens_per_s": { name: "tokens/s", more: true },
  "latency/mean_ms": { name: "ms per pair", more: false },
  "overhead/latency_ratio": { name: "time over final-layer inference", more: false },
  "memory/weights_mib": { name: "weights, MiB", more: false },
  "memory/peak": { name: "peak memory, MiB", more: false },
  "memory/peak_above_weights_mib": { name: "peak above the weights, MiB", more: false },
};
const costOf = (run, key) =>
  key === "memory/peak"
    ? peak(run) === null
      ? null
      : { value: peak(run), lo: peak(run), hi: peak(run) }
    : interval(run, key);

function front(points, more) {
  // What no other point beats in both.
  const best = [...points].sort((a, b) => (more ? b.x - a.x : a.x - b.x) || b.y - a.y);
  let highest = -Infinity;
  return best.filter((each) => each.y > highest && ((highest = each.y), true));
}

function drawScatter(host, runs, below, key) {
  const { name, more } = COSTS[key];
  const found = scored(runs)
    .map((run) => ({ run, cost: costOf(run, key), score: interval(run, SPEARMAN) }))
    .filter((each) => each.cost && each.cost.value > 0);
  if (!found.length) return `No run here has both a Spearman and ${name}.`;
  const plot = new Plot(host, `Spearman against ${name}`, 340, { right: 18 });
  const values = found.flatMap(({ cost }) => [cost.lo, cost.hi]);
  const log = Math.max(...values) / Math.min(...values) > 4;
  const x = scale(values, plot.x0, plot.x1, { log, count: Math.max(3, Math.floor(plot.width / 110)), pad: 0.07 });
  const y = scale(spearmanBounds(found.map((each) => each.run)), plot.y0, plot.y1);
  plot.yAxis(y, "Spearman");
  plot.xAxis(x, `${name} (${more ? "more" : "less"} is better${log ? ", log scale" : ""})`);
  const taken = baselineLines(plot, y, "inside");
  const points = found.map((each) => ({ ...each, x: each.cost.value, y: each.score.value }));
  const best = front(points, more);
  plot.add("path", {
    d: best.map((each, i) => `${i ? "L" : "M"}${x(each.x).toFixed(1)} ${y(each.y).toFixed(1)}`).join(""),
    fill: "none",
    stroke: "var(--ink)",
    "stroke-width": 1.3,
    "stroke-dasharray": "5 4",
    class: "front",
  });
  const crowded = points.length > 60;
  for (const each of points) {
    const at = [x(each.x), y(each.y)],
      look = lookOf(each.run);
    if (!crowded || (best.includes(each) && best.length <= 40)) {
      plot.whisker(at[0], 0, y(each.score.lo), y(each.score.hi), look.colour);
      if (each.cost.hi > each.cost.lo) plot.whisker(0, at[1], x(each.cost.lo), x(each.cost.hi), look.colour, true);
    }
    plot.point(at[0], at[1], look, summaryOf(each.run) + (best.includes(each) ? "\non the front" : ""), {
      size: best.includes(each) ? 5.2 : crowded ? 2.8 : 4,
      hollow: !best.includes(each) && !crowded,
    });
  }
  nameFront(plot, best, x, y, taken);
  plot.done();
  const told = legendOf(
    found.map((each) => each.run),
    false,
  );
  if (told) below.append(told);
}

function nameFront(plot, best, x, y, taken) {
  // Names of the front where there is room; the tooltip has them all.
  for (const each of best.slice(0, 10)) {
    const text = each.run.label,
      width = text.length * 6.1;
    for (const [dx, dy, anchor] of [
      [9, -8, "start"],
      [-9, -8, "end"],
      [9, 16, "start"],
      [-9, 16, "end"],
    ]) {
      const at = x(each.x) + dx,
        top = y(each.y) + dy,
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
