// The top of a sweep's page: what it was, its best runs, its answer.
const finished = MODELS.filter((run) => run.done);

function tile(name, run, value, of) {
  return run
    ? el(
        "div",
        { class: "tile" },
        el("div", { class: "eyebrow" }, name),
        el("b", {}, value),
        el("div", { class: "of" }, of || run.label),
      )
    : null;
}
function bestBy(key, more) {
  const known = finished.filter((run) => metric(run, key) !== null);
  return known.sort((a, b) => (more ? -1 : 1) * (metric(a, key) - metric(b, key)))[0];
}
function tiles() {
  const best = bestBy(SPEARMAN, true),
    fast = bestBy("latency/mean_ms", false),
    many = bestBy("throughput/tokens_per_s", true),
    light = bestBy("memory/weights_mib", false);
  const base = BASELINES.filter((run) => metric(run, SPEARMAN) !== null).sort(
    (a, b) => metric(b, SPEARMAN) - metric(a, SPEARMAN),
  )[0];
  const one = finished.length === 1;
  return el(
    "div",
    { class: "tiles" },
    tile(
      one ? "Spearman" : "highest Spearman",
      best,
      best && fixed(metric(best, SPEARMAN), 3),
      best && [
        best.label,
        interval(best, SPEARMAN).bounded
          ? `, ${withRange(interval(best, SPEARMAN), 3).split(" ").slice(1).join(" ")}`
          : "",
      ],
    ),
    tile("best baseline", base, base && fixed(metric(base, SPEARMAN), 3), base && base.label),
    tile(one ? "time of a pair" : "fastest pair", fast, fast && `${fixed(metric(fast, "latency/mean_ms"), 2)} ms`),
    tile(one ? "throughput" : "most tokens/s", many, many && fixed(metric(many, "throughput/tokens_per_s"), 0)),
    tile(one ? "weights" : "smallest weights", light, light && `${fixed(metric(light, "memory/weights_mib"), 1)} MiB`),
  );
}

function heading() {
  const count = (name) => RUNS.filter((run) => run.model && run.status === name).length;
  const told = [
    counted(finished.length, "run") + " finished",
    ...["FAILED", "KILLED", "UNSUPPORTED"].filter(count).map((name) => `${count(name)} ${name.toLowerCase()}`),
  ];
  if (DATA.missing) told.push(`${DATA.missing} without a record`);
  const machine = DATA.environment.find((each) => each.key === "device_name");
  const facts = [
    told.join(", "),
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
function answerCard() {
  if (!DATA.answer) return null;
  return el(
    "section",
    { class: "card answer", id: "answer", "aria-labelledby": "answer-title" },
    el("h2", { id: "answer-title" }, "Answer"),
    el("p", { class: "soft" }, DATA.answer.question),
    DATA.answer.paragraphs.slice(0, 3).map((text) => el("p", {}, text)),
    DATA.answer.paragraphs.length > 3
      ? el(
          "details",
          {},
          el("summary", {}, `${counted(DATA.answer.paragraphs.length - 3, "more group")}`),
          DATA.answer.paragraphs.slice(3).map((text) => el("p", {}, text)),
        )
      : null,
  );
}
