// Two sweeps beside each other.

function changes() {
  const table = (name, list) =>
    list.length
      ? [
          el("h3", {}, name),
          grid(
            [el("span", { class: "soft" }, "key"), "A", "B"],
            [null, "wrap code", "wrap code"],
            list.map((change) => [el("code", {}, change.key), change.a, change.b]),
          ),
        ]
      : null;
  const any = DATA.params.length || DATA.tags.length;
  return el(
    "section",
    { class: "card", id: "changed" },
    el("h2", {}, "What changed"),
    table("Parameters", DATA.params),
    table("What it ran on", DATA.tags),
    any ? null : el("p", {}, "Nothing that the records tell."),
  );
}

function drawRows(host, key, name, centre, band, words) {
  const compared = DATA.runs.filter((run) => run[key]);
  if (!compared.length) return "Nothing could be compared.";
  const shown = compared.slice(0, MOST),
    longest = Math.max(...shown.map((run) => run.name.length));
  const plot = new Plot(host, name, 52 + shown.length * 24, {
    left: Math.min(Math.max(60, (host.clientWidth || 600) * 0.4), 20 + longest * 6.4),
    top: 8,
    bottom: 42,
  });
  const most = Math.floor((plot.x0 - 14) / 6.3);
  const x = scale(
    shown.flatMap((run) => [run[key].lo, run[key].hi]),
    plot.x0,
    plot.x1,
    { include: [centre, ...(band || [])], count: Math.max(3, Math.floor(plot.width / 150)) },
  );
  if (band)
    plot.add("rect", {
      x: x(band[0]),
      width: x(band[1]) - x(band[0]),
      y: plot.y1,
      height: plot.y0 - plot.y1,
      fill: "var(--grid)",
    });
  plot.xAxis(x, name);
  plot.rule(centre, x, "var(--ink)", "", "x");
  shown.forEach((run, i) => {
    const y = plot.y1 + i * 24 + 12,
      range = run[key],
      clear = run.verdicts.some((word) => words.includes(word));
    const style = {
      colour: clear
        ? words.indexOf(run.verdicts.find((word) => words.includes(word)))
          ? "var(--c1)"
          : "var(--c0)"
        : "var(--faint)",
      shape: clear ? "diamond" : "circle",
    };
    plot.text(plot.x0 - 8, y + 4, run.name.length > most ? `${run.name.slice(0, most - 1)}…` : run.name, {
      "text-anchor": "end",
    });
    plot.whisker(0, y, x(range.lo), x(range.hi), style.colour, true);
    plot.point(
      x(range.value),
      y,
      style,
      `${run.name}\n${RANGE(range, 3, centre === 0)}${clear ? "\nmore than noise" : ""}`,
    );
  });
  plot.done();
  return null;
}

const bands = DATA.reach
  ? "The band is noise: the largest factor by which the baselines, timed in both, differ."
  : "No baseline was timed in both sweeps, so nothing shows how much of this is due to the machine.";
const controls = Object.entries(DATA.control).map(([name, range]) => el("li", {}, `${name}: ${RANGE(range, 3)}`));
const lonely = ["A", "B"]
  .filter((label) => DATA.only[label].length)
  .map((label) =>
    el(
      "details",
      {},
      el("summary", {}, `${counted(DATA.only[label].length, "run")} of ${label} alone`),
      el(
        "ul",
        { class: "plain" },
        DATA.only[label].map((name) => el("li", {}, name)),
      ),
    ),
  );
document.getElementById("page").append(
  el(
    "header",
    {},
    el("div", { class: "eyebrow" }, "rwkv_sweep · comparison"),
    el("h1", {}, `B against A: ${counted(DATA.runs.length, "run")} side by side`),
    el("div", { class: "what" }, `A  ${DATA.a}`),
    el("div", { class: "what" }, `B  ${DATA.b}`),
  ),
  el(
    "main",
    { id: "main" },
    el(
      "section",
      { class: "card answer" },
      el("h2", {}, "By how much"),
      DATA.conclusion.map((text) => el("p", {}, text)),
      lonely,
    ),
    changes(),
    runsTable(),
    chartCard(
      "quality",
      "Quality",
      "Spearman of B less that of A, paired bootstrap over the same pairs. Diamonds: more than noise " +
        "after Holm's correction.",
      (host) => drawRows(host, "quality", "Spearman, B less A", 0, null, ["better", "worse"]),
    ),
    chartCard(
      "latency",
      "Time of a pair",
      `Median of B over that of A, with 95 % bootstrap intervals. ${bands}`,
      (host) => drawRows(host, "latency", "time, B over A", 1, DATA.reach, ["faster", "slower"]),
    ),
    controls.length
      ? el(
          "section",
          { class: "card" },
          el("h2", {}, "Control"),
          el("p", { class: "soft" }, "Time of the baselines in B over that in A."),
          el("ul", { class: "plain" }, controls),
        )
      : null,
  ),
);
const redraw = () => CHARTS.forEach((chart) => chart.draw([]));
redraw();
let waited = 0;
addEventListener("resize", () => {
  clearTimeout(waited);
  waited = setTimeout(redraw, 120);
});
