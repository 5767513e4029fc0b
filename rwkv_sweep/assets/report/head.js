// The top of a sweep's page: what it was, its best runs, its answer.
const finished = MODELS.filter((run) => run.done);

function tiles() {
  const tile = ({ name, value, of }) =>
    el(
      "div",
      { class: "tile" },
      el("div", { class: "eyebrow" }, name),
      el("b", {}, value),
      el("div", { class: "of" }, of),
    );
  return DATA.cards.length ? el("div", { class: "tiles" }, DATA.cards.map(tile)) : "";
}

function heading() {
  const count = (name) => RUNS.filter((run) => run.model && run.status === name).length;
  const counts = [
    counted(finished.length, "run") + " finished",
    ...["FAILED", "KILLED", "UNSUPPORTED"].filter(count).map((name) => `${count(name)} ${name.toLowerCase()}`),
  ];
  if (DATA.missing) counts.push(`${DATA.missing} without a record`);
  const machine = DATA.environment.find((entry) => entry.key === "device_name");
  const facts = [
    counts.join(", "),
    moment(DATA.started),
    DATA.ended > DATA.started && DATA.started ? `took ${span(DATA.ended - DATA.started)}` : "",
    machine ? machine.values.map(([value]) => value).join(", ") : "",
  ];
  return el(
    "header",
    {},
    el("div", { class: "eyebrow" }, DATA.multirun || MODELS.length > 1 ? "rwkv_sweep · sweep" : "rwkv_sweep · run"),
    el("h1", {}, headline()),
    el("div", { class: "what" }, DATA.title),
    el("p", { class: "soft small" }, facts.filter(Boolean).join(" · ")),
  );
}
function headline() {
  const plural = (name) => (name.endsWith("s") ? `${name}es` : `${name}s`);
  const what = KEYS.filter((key) => valuesOf(key).length > 1).map(
    (key) => `${valuesOf(key).length} ${plural(key.split(".").pop())}`,
  );
  if (!MODELS.length) return "A sweep without runs";
  if (what.length) return `${counted(MODELS.length, "run")}: ${what.slice(0, 5).join(" × ")}`;
  return MODELS.length === 1 ? `One run: ${MODELS[0].name}` : counted(MODELS.length, "run");
}
const SECTIONS_SHOWN = 3;
function answerCard() {
  const { question, sections } = DATA.answer;
  if (!RUNS.length || !sections.length) return null;
  const shown = ({ name, sentences }) => [
    name ? el("h3", {}, name) : null,
    el(
      "ul",
      {},
      sentences.map((text) => el("li", {}, text)),
    ),
  ];
  const more = sections.slice(SECTIONS_SHOWN);
  return el(
    "section",
    { class: "card answer", id: "answer", "aria-labelledby": "answer-title" },
    el("h2", { id: "answer-title" }, "Answer"),
    el("p", { class: "soft" }, question),
    sections.slice(0, SECTIONS_SHOWN).map(shown),
    more.length
      ? el("details", {}, el("summary", {}, counted(more.length, "more group")), more.map(shown))
      : null,
  );
}
