// Headers of a table that sort it, by mouse or keyboard.
const natural = new Intl.Collator("en", { numeric: true });
const nothing = (value) => value === null || value === undefined || value === "";

function sortable(columns, changed) {
  // columns: name, value(run), and, where wanted, number, title, down (its first click puts the largest first).
  // Returns the headers, and what puts runs in the order chosen: what has no value comes last, whichever way.
  let by = null,
    down = false;
  const choose = (column) => {
    down = by === column ? !down : Boolean(column.down);
    by = column;
    heads.forEach((head, i) =>
      head.setAttribute("aria-sort", columns[i] !== by ? "none" : down ? "descending" : "ascending"),
    );
    changed();
  };
  const heads = columns.map((column) =>
    el(
      "th",
      { scope: "col", class: column.number ? "number" : null, "aria-sort": "none", title: column.title },
      el("button", { type: "button", onclick: () => choose(column) }, column.name),
    ),
  );
  const compare = (x, y) =>
    nothing(x) || nothing(y)
      ? nothing(x) - nothing(y)
      : (down ? -1 : 1) * (typeof x === "number" ? x - y : natural.compare(x, y));
  // Equals keep their places: sorting is stable.
  const sorted = (runs) => (by ? [...runs].sort((a, b) => compare(by.value(a), by.value(b))) : runs);
  return { heads, sorted };
}
