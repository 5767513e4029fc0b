// Elements, numbers as text, the tooltip, saving. Text only ever enters as text nodes: nothing in the data is markup.
const DATA = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const mark = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

function grid(heads, classes, rows, caption) {
  // A plain table. heads: none, or one for each column. classes: of each column's cells. rows: lists of cells, of which
  // the first names the row.
  const cell = (content, i) => el(i ? "td" : "th", { scope: i ? null : "row", class: classes[i] }, content);
  const head = (content, i) => el("th", { scope: "col", class: classes[i] === "number" ? "number" : null }, content);
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      {},
      caption ? el("caption", { hidden: true }, caption) : null,
      heads.length ? el("thead", {}, el("tr", {}, heads.map(head))) : null,
      el(
        "tbody",
        {},
        rows.map((row) => el("tr", {}, row.map(cell))),
      ),
    ),
  );
}

const finite = (value) => typeof value === "number" && Number.isFinite(value);
function fixed(value, digits) {
  if (!finite(value)) return "";
  const text = value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return text.replace("-", "−");
}
const signed = (value, digits) => (finite(value) ? (value < 0 ? "−" : "+") + fixed(Math.abs(value), digits) : "");
function short(value) {
  // Three figures that matter, for axes and tooltips.
  if (!finite(value)) return "";
  const size = Math.abs(value);
  if (size >= 1000) return fixed(value, 0);
  if (size && size < 0.001) return value.toExponential(1).replace("-", "−");
  return String(Number(value.toPrecision(3))).replace("-", "−");
}
const counted = (count, noun) => `${fixed(count, 0)} ${noun}${count === 1 ? "" : "s"}`;
function span(seconds) {
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}
function moment(seconds) {
  return seconds ? new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC" : "";
}

const tip = document.getElementById("tip");
function showTip(text, box) {
  tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.left + box.width / 2 - width / 2), innerWidth - width - 8);
  const above = box.top - height - 10;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 4 ? above : box.bottom + 10}px`;
}
const hideTip = () => {
  tip.hidden = true;
};
addEventListener("scroll", hideTip, { passive: true, capture: true });
addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
});

function save(name, blob) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function select(label, options, value, change) {
  const box = el("select", { "aria-label": label, onchange: (event) => change(event.target.value) });
  for (const [key, text] of options) box.append(el("option", { value: key, selected: key === value }, text));
  return box;
}
