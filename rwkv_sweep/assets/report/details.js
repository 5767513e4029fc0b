// What failed and why; configuration and environment.
function failuresCard() {
  const failed = RUNS.filter((run) => !run.done);
  if (!failed.length && !DATA.missing) return null;
  const wrong = failed.some((run) => !FINDINGS.includes(run.status)) || DATA.missing;
  const unsupported = failed.every((run) => run.status === "UNSUPPORTED");
  const title = wrong ? "What did not finish" : unsupported ? "What this machine cannot run" : "What has no figure";
  return el(
    "section",
    { class: `card${wrong ? " wrong" : ""}`, id: "failures", "aria-labelledby": "failures-title" },
    el("h2", { id: "failures-title" }, title),
    DATA.missing
      ? el(
          "p",
          {},
          `${counted(DATA.missing, "job")} left no record: the same command with resume=true runs ` +
            `${DATA.missing === 1 ? "it" : "them"}.`,
        )
      : null,
    failed.length ? failuresTable(failed) : null,
  );
}

function failuresTable(failed) {
  const table = grid(["run", "status", "reason"], [null, null, "wrap"], failed.map(failureRow));
  table.classList.add("tall");
  return table;
}

function failureRow(run) {
  const { kind, message, traceback } = run.error || {};
  return [
    run.label,
    [statusPill(run), kind ? el("div", { class: "small soft" }, kind) : null],
    [
      message || "no reason was recorded",
      traceback ? el("details", {}, el("summary", {}, "traceback"), el("pre", {}, traceback)) : null,
    ],
  ];
}

function countsTable(entries, caption) {
  const values = (entry) =>
    entry.values.map(([value, count], i) => [
      i ? ", " : "",
      el("span", { class: "code" }, value),
      entry.shared ? null : el("span", { class: "soft small" }, ` ×${count}`),
    ]);
  const rows = entries.map((entry) => [
    el("code", {}, entry.key),
    [values(entry), entry.more ? `, and ${entry.more} more` : ""],
  ]);
  return grid([], [null, "wrap"], rows, caption);
}

function environmentCard() {
  const varied = DATA.configuration.filter((entry) => !entry.shared),
    shared = DATA.configuration.filter((entry) => entry.shared);
  const name = (key) => DATA.environment.find((entry) => entry.key === key);
  return el(
    "section",
    { class: "card", id: "environment", "aria-labelledby": "environment-title" },
    el("h2", { id: "environment-title" }, "Environment and configuration"),
    name("device_name") && !name("device_name").shared
      ? el("p", {}, "The runs are from several machines: compare ratios, not times.")
      : null,
    DATA.notes.length
      ? [
          el("h3", {}, "Notes of the runs"),
          el(
            "ul",
            { class: "plain" },
            DATA.notes.map((note) => el("li", {}, note)),
          ),
        ]
      : null,
    el("h3", {}, "What it ran on"),
    DATA.environment.length
      ? countsTable(DATA.environment, "Environment")
      : el("p", { class: "empty" }, "Nothing was recorded."),
    varied.length ? [el("h3", {}, "Keys that differ between runs"), countsTable(varied, "Keys that differ")] : null,
    shared.length
      ? el(
          "details",
          {},
          el("summary", {}, `${counted(shared.length, "key")} all runs share`),
          countsTable(shared, "Keys all runs share"),
        )
      : null,
  );
}
