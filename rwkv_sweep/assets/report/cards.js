// Cards with charts: drawn for the runs that the filter leaves, each only once it comes near what is seen, so that a page
// of many runs opens at once. The charts themselves are Vega-Lite specifications made in Python.
const CHARTS = [];
// For tests and the console: the Vega view of each chart that is drawn.
const PLOTS = (window.plots = new Map());
const NEAR = "700px";
const DARK = matchMedia("(prefers-color-scheme: dark)");
const NARROW = 560;

function lazily(card, draw) {
  const chart = { near: false, runs: null, stale: false };
  chart.flush = () => {
    if (!chart.stale) return;
    chart.stale = false;
    chart.done = draw(chart.runs);
  };
  chart.draw = (runs, again) => {
    chart.runs = runs;
    if (again && chart.renew) chart.renew();
    chart.stale = true;
    if (chart.near) chart.flush();
  };
  new IntersectionObserver(
    ([seen]) => {
      chart.near = seen.isIntersecting;
      if (chart.near) chart.flush();
    },
    { rootMargin: `${NEAR} 0px` },
  ).observe(card);
  CHARTS.push(chart);
  return chart;
}
addEventListener("beforeprint", () => CHARTS.forEach((chart) => chart.flush()));

function themed(host) {
  // The look of this ground; on a phone, names and legends take less of the width.
  const config = structuredClone(DATA.themes[DARK.matches ? "dark" : "light"]);
  if (host.clientWidth < NARROW) {
    config.axisY.labelLimit = 120;
    Object.assign(config.legend, { columns: 2, labelLimit: 130 });
    config.axis.tickCount = 4;
  }
  return config;
}

const MOST_ROWS = 40;
function rowsOf(chart, view, runs) {
  // The rows of the runs shown, in the table's order, each with what all charts show of its run.
  if (!runs) return view.rows;
  const places = new Map(runs.map((run, place) => [run.index, place]));
  return view.rows
    .filter((row) => places.has(row.run) && (!chart.by_run || places.get(row.run) < MOST_ROWS))
    .sort((a, b) => (chart.by_run ? places.get(a.run) - places.get(b.run) : 0))
    .map((row) => ({ ...DATA.fields[row.run], ...row }));
}

function chartCard(chart, picked, brushed) {
  // picked, brushed: called with the values picked in the legend, and the runs within the brush; null for none.
  let at = 0,
    drawn = null,
    shown = null;
  const host = el("div", { class: "chart", tabindex: 0, role: "img", "aria-label": chart.title }),
    note = el("p", { class: "small soft" });
  const again = () => {
    drawn = null;
    return show(shown);
  };
  const choice = select(`${chart.title}: what is shown`, chart.views.map((view, i) => [String(i), view.name]), "0", (value) => {
    at = Number(value);
    again();
  });
  async function show(runs) {
    shown = runs;
    const view = chart.views[at],
      rows = rowsOf(chart, view, runs);
    const cut = chart.by_run && runs && runs.filter((run) => view.rows.some((row) => row.run === run.index)).length;
    note.textContent =
      cut > MOST_ROWS ? `The first ${MOST_ROWS} of ${cut} runs in the table's order: sort or filter to see others.` : "";
    for (const button of saving) button.hidden = !rows.length;
    if (!rows.length) {
      drawn = null;
      host.replaceChildren(el("p", { class: "empty" }, "No run here has these figures."));
      return;
    }
    if (drawn) {
      await drawn.then(({ view: plot }) => sized(plot, view.spec, rows).data("rows", rows).resize().runAsync());
      return;
    }
    drawn = embedded(host, view.spec, rows);
    const { view: plot } = await drawn;
    PLOTS.set(chart.id, plot);
    listen(plot, "picked", (value) => picked && picked(value.colour || null));
    listen(plot, "brush", (box) => brushed && brushed(runsWithin(box, plot.data("rows"))));
  }
  const saving = ["SVG", "PNG"].map((kind) =>
    el("button", { type: "button", "aria-label": `Save the chart “${chart.title}” as ${kind}`, onclick: () => saved(kind) }, kind),
  );
  async function saved(kind) {
    if (!drawn) await show(shown);
    const { view: plot } = await drawn;
    save(`${chart.id}.${kind.toLowerCase()}`, await fileOf(plot, kind));
  }
  arrows(host, () => drawn);
  DARK.addEventListener("change", again);
  const tools = el("div", { class: "tools" }, chart.views.length > 1 ? choice : null, saving);
  const card = el(
    "section",
    { class: "card", id: chart.id, "aria-labelledby": `${chart.id}-title` },
    el("div", { class: "head" }, el("h2", { id: `${chart.id}-title` }, chart.title), tools),
    el("figure", {}, host, note, el("figcaption", {}, chart.caption)),
  );
  // What was picked in a legend or brushed is forgotten with the drawing.
  lazily(card, show).renew = () => (drawn = null);
  return card;
}

function embedded(host, spec, rows) {
  const whole = { ...spec, datasets: { ...spec.datasets, rows } };
  if (spec.usermeta) whole.height = heightOf(spec, rows);
  // Expressions are interpreted, so that the page needs no right to make code from text.
  const options = { ast: true, actions: false, logLevel: 1, renderer: "canvas", config: themed(host), tooltip: { theme: DARK.matches ? "dark" : "light" } };
  return vegaEmbed(host, whole, options);
}

const heightOf = (spec, rows) => spec.usermeta.step * new Set(rows.map((row) => row.label)).size;
const sized = (plot, spec, rows) => (spec.usermeta ? plot.height(heightOf(spec, rows)) : plot);

function listen(plot, name, changed) {
  try {
    plot.addSignalListener(name, (_, value) => changed(value));
  } catch {
    // This chart has no such selection.
  }
}

function runsWithin(box, rows) {
  const sides = Object.entries(box || {});
  if (!sides.length) return null;
  const within = ([field, range], row) =>
    range.length === 2 && range.every(finite)
      ? row[field] >= Math.min(...range) && row[field] <= Math.max(...range)
      : range.includes(row[field]);
  return new Set(rows.filter((row) => sides.every((side) => within(side, row))).map((row) => row.run));
}

async function fileOf(plot, kind) {
  // As a file, without asking any network, not even for an image of the page's own.
  if (kind === "SVG") return new Blob([await plot.toSVG()], { type: "image/svg+xml" });
  const canvas = await plot.toCanvas(2);
  return new Promise((ready) => canvas.toBlob(ready, "image/png"));
}

function marksOf(plot) {
  // The points of a chart with their places on the page, by x.
  const points = [];
  const walk = (items, x, y) => {
    for (const item of items) {
      if (item.marktype && item.name && /points/.test(item.name)) {
        for (const mark of item.items)
          points.push({ x: x + (mark.bounds.x1 + mark.bounds.x2) / 2, y: y + (mark.bounds.y1 + mark.bounds.y2) / 2, text: mark.tooltip });
      } else if (item.items) walk(item.items, x + (item.marktype ? 0 : item.x || 0), y + (item.marktype ? 0 : item.y || 0));
    }
  };
  const [left, top] = plot.origin(),
    padding = plot.padding();
  walk([plot.scenegraph().root], left + padding.left, top + padding.top);
  return points.sort((a, b) => a.x - b.x || a.y - b.y);
}

function arrows(host, drawn) {
  // Arrow keys walk through the points of a chart and read their figures.
  let at = -1;
  host.addEventListener("blur", hideTip);
  host.addEventListener("keydown", async (event) => {
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!move || !drawn()) return;
    event.preventDefault();
    const points = marksOf((await drawn()).view);
    if (!points.length) return;
    at = (at + move + points.length) % points.length;
    const { x, y, text } = points[at],
      box = host.getBoundingClientRect();
    const lines = Object.entries(text || {}).map(([name, value]) => (name === "run" ? value : `${name} ${value}`));
    showTip(lines.join("\n"), { left: box.left + x - 8, width: 16, top: box.top + y - 8, bottom: box.top + y + 8 });
  });
}
