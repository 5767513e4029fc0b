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
    DATA.charts.map((chart) => chartCard(chart)),
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
CHARTS.forEach((chart) => chart.draw(null));
