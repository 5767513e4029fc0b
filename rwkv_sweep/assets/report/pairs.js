// The pairs whose place among all pairs differs most from run to run.
const AT_ONCE = 6;
function pairsCard(runs) {
  const shown = new Set(runs.map((run) => run.index));
  const sets = DATA.pairs
    .map((set) => ({ ...set, at: set.runs.map((index, i) => [index, i]).filter(([index]) => shown.has(index)) }))
    .filter((set) => set.at.length > 1);
  if (!sets.length) return el("p", { class: "empty" }, "Two or more finished runs over the same pairs are needed.");
  return sets.map((set) =>
    el(
      "div",
      { class: "pairs-of" },
      el(
        "p",
        { class: "small soft" },
        `Split ${set.split}, ${counted(set.pairs, "pair")} looked at. Each dot is a run; left: among the ` +
          "least alike of all pairs, right: among the most alike.",
      ),
      set.absent ? el("p", { class: "small" }, `Texts are not shown: ${set.absent}`) : null,
      set.items.slice(0, AT_ONCE).map((item) => pairRow(item, set)),
      set.items.length > AT_ONCE
        ? el(
            "details",
            {
              ontoggle: (event) => {
                if (event.target.open && event.target.children.length === 1)
                  event.target.append(...set.items.slice(AT_ONCE).map((item) => pairRow(item, set)));
              },
            },
            el("summary", {}, counted(set.items.length - AT_ONCE, "more pair")),
          )
        : null,
    ),
  );
}

function pairRow(item, set) {
  const order = set.at
    .map(([index, i]) => ({ run: RUNS[index], score: item.scores[i], rank: item.ranks[i] }))
    .sort((a, b) => a.rank - b.rank);
  const low = order[0],
    high = order[order.length - 1];
  const picture = el("div");
  const texts = item.texts
    ? item.texts.map((text) => el("blockquote", {}, text))
    : el("p", { class: "soft" }, `row ${item.row}`);
  const place = (entry) =>
    `${entry.run.label}: cosine ${fixed(entry.score, 3)}, above ${Math.round(entry.rank * 100)} % of the pairs`;
  const all = el(
    "details",
    {
      ontoggle: (event) => {
        if (event.target.open && event.target.children.length === 1)
          event.target.append(
            grid(
              ["run", "cosine", "less alike"],
              [null, "number", "number"],
              order.map((entry) => [entry.run.label, fixed(entry.score, 4), `${fixed(entry.rank * 100, 1)} %`]),
            ),
          );
      },
    },
    el("summary", {}, `scores of ${counted(order.length, "run")}`),
  );
  const row = el(
    "article",
    { class: "pair" },
    el("div", {}, texts),
    el(
      "div",
      {},
      el(
        "div",
        { class: "small" },
        el("b", {}, `label ${short(item.label)}`),
        el("span", { class: "soft" }, ` · row ${item.row} · spread ${fixed(item.spread, 2)}`),
      ),
      picture,
      el("div", { class: "small soft" }, `highest with ${place(high)}`),
      el("div", { class: "small soft" }, `lowest with ${place(low)}`),
      all,
    ),
  );
  strip(picture, order, `Place of row ${item.row} among all pairs, by run`);
  return row;
}

function strip(host, order, name) {
  const svg = mark(
    "svg",
    { viewBox: "0 0 400 30", role: "img", "aria-label": name },
    mark("title", {}, name),
    mark("line", { x1: 6, x2: 394, y1: 15, y2: 15, stroke: "var(--line)", "stroke-width": 2 }),
    mark("line", { x1: 200, x2: 200, y1: 8, y2: 22, stroke: "var(--line)" }),
  );
  const stacked = new Map();
  for (const entry of order) {
    // Equal places lie above one another, a little apart.
    const slot = Math.round(entry.rank * 64),
      above = stacked.get(slot) || 0;
    stacked.set(slot, above + 1);
    const y = 15 + (above % 2 ? 1 : -1) * Math.min(11, Math.ceil(above / 2) * 4);
    svg.append(
      mark(
        "circle",
        { cx: 6 + entry.rank * 388, cy: y, r: 3.4, fill: colourOf(entry.run), "fill-opacity": 0.8 },
        mark("title", {}, `${entry.run.label}: cosine ${fixed(entry.score, 3)}`),
      ),
    );
  }
  host.append(svg);
}
