// Cards with charts: drawn for the runs that the filter leaves, and again when these or the width change; each only
// once it comes near what is seen, so that a page of many runs opens at once.
const CHARTS = [];
const NEAR = "700px";

function lazily(card, draw) {
  const chart = { near: false, runs: null, stale: false };
  chart.flush = () => {
    if (!chart.stale) return;
    chart.stale = false;
    draw(chart.runs);
  };
  chart.draw = (runs) => {
    chart.runs = runs;
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
  return card;
}
addEventListener("beforeprint", () => CHARTS.forEach((chart) => chart.flush()));

function chartCard(id, title, caption, draw, tools = []) {
  const host = el("div", { style: "min-height: 300px" }),
    below = el("div");
  const saving = ["SVG", "PNG"].map((kind) =>
    el(
      "button",
      {
        type: "button",
        "aria-label": `Save the chart “${title}” as ${kind}`,
        onclick: () => {
          const svg = host.querySelector("svg");
          if (svg) saveFigure(svg, id, kind);
        },
      },
      kind,
    ),
  );
  const card = el(
    "section",
    { class: "card", id, "aria-labelledby": `${id}-title` },
    el("div", { class: "head" }, el("h2", { id: `${id}-title` }, title), el("div", { class: "tools" }, tools, saving)),
    el("figure", {}, host, below, el("figcaption", {}, caption)),
  );
  return lazily(card, (runs) => {
    below.replaceChildren();
    const message = draw(host, runs, below);
    host.style.minHeight = "0";
    for (const button of saving) button.hidden = Boolean(message);
    if (message) host.replaceChildren(el("p", { class: "empty" }, message));
  });
}
