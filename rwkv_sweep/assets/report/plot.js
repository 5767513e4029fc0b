// The frame all charts share: scales, axes, points with intervals, and a way through the points by keyboard.
function ticks(lo, hi, count) {
  const raw = (hi - lo) / Math.max(1, count),
    power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((factor) => factor >= raw * 0.999);
  const values = [];
  for (let i = Math.ceil(lo / step - 1e-9); i * step <= hi + step * 1e-9; i++)
    values.push(Number((i * step).toPrecision(12)));
  return values;
}
function logTicks(lo, hi) {
  for (const steps of [[1], [1, 3], [1, 2, 5]]) {
    const values = [];
    for (let e = Math.floor(Math.log10(lo)); e <= Math.ceil(Math.log10(hi)); e++) {
      for (const step of steps) {
        const value = Number((step * 10 ** e).toPrecision(6));
        if (value >= lo * 0.999 && value <= hi * 1.001) values.push(value);
      }
    }
    if (values.length >= 3) return values;
  }
  return ticks(lo, hi, 4);
}
function scale(values, from, to, { log = false, zero = false, pad = 0.05, count = 5, include = [] } = {}) {
  const all = [...values, ...include].filter((value) => finite(value) && (!log || value > 0));
  let lo = Math.min(...all),
    hi = Math.max(...all);
  if (!all.length) [lo, hi] = log ? [1, 10] : [0, 1];
  if (zero) lo = Math.min(0, lo);
  if (log) {
    const margin = Math.max(1.03, (hi / lo) ** pad);
    [lo, hi] = [lo / margin, hi * margin];
  } else {
    const margin = (hi - lo) * pad || Math.abs(hi) * 0.1 || 1;
    if (!zero || lo < 0) lo -= margin;
    hi += margin;
  }
  const f = log ? Math.log : (value) => value;
  const place = (value) => from + ((to - from) * (f(value) - f(lo))) / (f(hi) - f(lo));
  place.ticks = log ? logTicks(lo, hi) : ticks(lo, hi, count);
  place.lo = lo;
  place.hi = hi;
  place.log = log;
  return place;
}

class Plot {
  constructor(host, name, height, margin) {
    this.host = host;
    this.width = Math.max(300, Math.round(host.clientWidth || 600));
    this.height = height;
    this.m = { top: 12, right: 16, bottom: 40, left: 56, ...margin };
    this.svg = mark("svg", { viewBox: `0 0 ${this.width} ${height}`, role: "img", tabindex: 0, "aria-label": name });
    this.svg.append(mark("title", {}, name));
    this.points = [];
    this.at = -1;
    this.ring = mark("circle", { r: 9, fill: "none", stroke: "var(--ink)", "stroke-width": 1.5, visibility: "hidden" });
    this.svg.addEventListener("keydown", (event) => this.step(event));
    this.svg.addEventListener("blur", () => this.leave());
    this.svg.addEventListener("pointermove", (event) => this.near(event));
    this.svg.addEventListener("pointerleave", () => this.leave());
  }
  get x0() {
    return this.m.left;
  }
  get x1() {
    return this.width - this.m.right;
  }
  get y0() {
    return this.height - this.m.bottom;
  }
  get y1() {
    return this.m.top;
  }
  add(tag, attributes, ...children) {
    const node = mark(tag, attributes, ...children);
    this.svg.append(node);
    return node;
  }
  text(x, y, text, attributes) {
    return this.add("text", { x, y, ...attributes }, text);
  }
  xAxis(place, name, { grid = true, form = short, labels = place.ticks.map((value) => [value, form(value)]) } = {}) {
    for (const [value, text] of labels) {
      const x = place(value);
      if (grid) this.add("line", { x1: x, x2: x, y1: this.y1, y2: this.y0, stroke: "var(--grid)" });
      this.text(x, this.y0 + 15, text, { "text-anchor": "middle" });
    }
    this.add("line", { x1: this.x0, x2: this.x1, y1: this.y0, y2: this.y0, stroke: "var(--line)" });
    this.text((this.x0 + this.x1) / 2, this.height - 6, name, { "text-anchor": "middle", class: "strong" });
  }
  yAxis(place, name, form = short) {
    for (const value of place.ticks) {
      const y = place(value);
      this.add("line", { x1: this.x0, x2: this.x1, y1: y, y2: y, stroke: "var(--grid)" });
      this.text(this.x0 - 7, y + 4, form(value), { "text-anchor": "end" });
    }
    this.text(0, 0, name, {
      transform: `translate(12 ${(this.y0 + this.y1) / 2}) rotate(-90)`,
      "text-anchor": "middle",
      class: "strong",
    });
  }
  rule(value, place, colour, dash, across = "y") {
    const at = place(value);
    const ends =
      across === "y" ? { x1: this.x0, x2: this.x1, y1: at, y2: at } : { y1: this.y1, y2: this.y0, x1: at, x2: at };
    this.add("line", { ...ends, stroke: colour, "stroke-width": 1.3, "stroke-dasharray": dash });
  }
  whisker(x, y, lo, hi, colour, sideways) {
    const ends = sideways ? { x1: lo, x2: hi, y1: y, y2: y } : { x1: x, x2: x, y1: lo, y2: hi };
    this.add("line", { ...ends, stroke: colour, "stroke-width": 1.4, "stroke-opacity": 0.55 });
  }
  point(x, y, { colour, shape }, text, { size = 4.2, hollow = false } = {}) {
    this.add("path", {
      d: shapePath(shape, x, y, size),
      fill: hollow ? "var(--card)" : colour,
      stroke: hollow ? colour : "var(--card)",
      "stroke-width": hollow ? 1.6 : 0.8,
    });
    this.points.push({ x, y, text });
  }
  step(event) {
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!move || !this.points.length) return;
    event.preventDefault();
    this.go((this.at + move + this.points.length) % this.points.length);
  }
  go(at) {
    this.at = at;
    const { x, y, text } = this.points[at];
    this.ring.setAttribute("cx", x);
    this.ring.setAttribute("cy", y);
    this.ring.setAttribute("visibility", "visible");
    const box = this.svg.getBoundingClientRect(),
      ratio = box.width / this.width;
    showTip(text, {
      left: box.left + x * ratio - 8,
      width: 16,
      top: box.top + y * ratio - 8,
      bottom: box.top + y * ratio + 8,
    });
  }
  near(event) {
    const box = this.svg.getBoundingClientRect(),
      ratio = this.width / box.width;
    const x = (event.clientX - box.left) * ratio,
      y = (event.clientY - box.top) * ratio;
    let best = -1,
      least = 26 ** 2;
    this.points.forEach((point, i) => {
      const far = (point.x - x) ** 2 + (point.y - y) ** 2;
      if (far < least) {
        least = far;
        best = i;
      }
    });
    if (best < 0) this.leave();
    else this.go(best);
  }
  leave() {
    this.ring.setAttribute("visibility", "hidden");
    hideTip();
  }
  done() {
    this.points.sort((a, b) => a.x - b.x || a.y - b.y);
    this.svg.append(this.ring);
    this.host.replaceChildren(this.svg);
    return this.svg;
  }
}

function shapePath(shape, x, y, r) {
  const p = (dx, dy) => `${(x + dx * r).toFixed(1)} ${(y + dy * r).toFixed(1)}`;
  if (shape === "square") return `M${p(-0.9, -0.9)}L${p(0.9, -0.9)}L${p(0.9, 0.9)}L${p(-0.9, 0.9)}Z`;
  if (shape === "up") return `M${p(0, -1.2)}L${p(1.1, 0.9)}L${p(-1.1, 0.9)}Z`;
  if (shape === "down") return `M${p(0, 1.2)}L${p(1.1, -0.9)}L${p(-1.1, -0.9)}Z`;
  if (shape === "diamond") return `M${p(0, -1.3)}L${p(1.3, 0)}L${p(0, 1.3)}L${p(-1.3, 0)}Z`;
  return `M${p(-1, 0)}A${r} ${r} 0 1 0 ${p(1, 0)}A${r} ${r} 0 1 0 ${p(-1, 0)}Z`;
}

function legend(entries) {
  return el(
    "ul",
    { class: "legend" },
    entries.map(({ name, colour, shape, dash, line }) =>
      el(
        "li",
        {},
        mark(
          "svg",
          { viewBox: "0 0 24 12", "aria-hidden": "true" },
          line
            ? mark("line", {
                x1: 0,
                x2: 24,
                y1: 6,
                y2: 6,
                stroke: colour,
                "stroke-width": 1.6,
                "stroke-dasharray": dash,
              })
            : null,
          shape ? mark("path", { d: shapePath(shape, 12, 6, 4), fill: colour }) : null,
        ),
        name,
      ),
    ),
  );
}
