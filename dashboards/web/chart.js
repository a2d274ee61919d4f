// A small line chart in SVG: points [unix seconds, value...], a fixed window, gaps where a value is null, a cursor for
// pointer and keyboard, and a sentence for those who cannot see it.

const SVG = "http://www.w3.org/2000/svg";
/** What a chart may span: seconds, and where its ticks stand. */
const WINDOWS = [
  { seconds: 60, ticks: [45, 30, 15, 0], name: (ago) => `−${ago} s`, said: "last minute" },
  { seconds: 120, ticks: [90, 60, 30, 0], name: (ago) => `−${ago} s`, said: "last 2 minutes" },
  { seconds: 300, ticks: [240, 180, 120, 60, 0], name: (ago) => `−${ago / 60} min`, said: "last 5 minutes" },
];

/** The smallest window that shows everything since `began`: a chart that has just begun is not an empty one. */
export function windowSince(began, now) {
  return WINDOWS.find((candidate) => now - began <= candidate.seconds) ?? WINDOWS.at(-1);
}
const PAD = { top: 10, bottom: 22, left: 48 };

function svg(name, attributes, parent) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent?.append(node);
  return node;
}

/** The smallest round number (1 to 8 times a power of ten) that is not below `value`. */
function niceCeiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value * 0.999) ?? value;
}

export class Chart {
  /** `series`: [{name, css}]; `format`: value -> text; `floor`: the least height of the scale. */
  constructor(box, { title, series, format, floor = 1, ceiling = Infinity }) {
    Object.assign(this, { box, title, series, format, floor, ceiling });
    // Several lines are named behind their ends.
    this.right = series.length > 1 ? 36 : 10;
    this.points = [];
    this.now = 0;
    this.window = WINDOWS.at(-1);
    this.cursor = null;
    this.width = 0;
    this.svg = svg("svg", { role: "img", tabindex: "0", "aria-roledescription": "chart" }, box);
    this.say = document.createElement("div");
    this.say.className = "hidden";
    this.say.setAttribute("aria-live", "polite");
    this.tip = document.createElement("div");
    this.tip.className = "tip";
    this.tip.hidden = true;
    box.append(this.tip, this.say);
    this.svg.addEventListener("pointermove", (event) => this.point(event.clientX));
    this.svg.addEventListener("pointerleave", () => this.moveTo(null));
    this.svg.addEventListener("blur", () => this.moveTo(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(box);
  }

  update(points, now, window) {
    this.window = window;
    this.points = points;
    this.now = now;
    this.draw();
  }

  key(event) {
    const last = this.points.length - 1;
    if (last < 0) return;
    const at = this.cursor === null ? last : Math.max(0, this.points.findIndex((point) => point[0] >= this.cursor));
    const next = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 30, PageDown: at + 30, Home: 0, End: last }[event.key];
    if (event.key === "Escape") this.moveTo(null);
    if (next === undefined) return;
    event.preventDefault();
    this.moveTo(this.points[Math.min(last, Math.max(0, next))][0]);
    this.say.textContent = this.tip.innerText.replaceAll("\n", ", ");
  }

  point(clientX) {
    const frame = this.svg.getBoundingClientRect();
    const time = this.now - this.window.seconds * (1 - (clientX - frame.left - PAD.left) / (this.width - PAD.left - this.right));
    let best = null;
    for (const point of this.points) if (best === null || Math.abs(point[0] - time) < Math.abs(best - time)) best = point[0];
    this.moveTo(best);
  }

  moveTo(time) {
    this.cursor = time;
    this.draw();
  }

  draw() {
    const width = this.box.clientWidth;
    const height = this.box.clientHeight;
    if (width < 60 || height < 60) return;
    this.width = width;
    const from = this.now - this.window.seconds;
    const shown = this.points.filter((point) => point[0] >= from - 2);
    const values = shown.flatMap((point) => point.slice(1)).filter((value) => value !== null && Number.isFinite(value));
    const top = Math.min(this.ceiling, niceCeiling(Math.max(this.floor, ...values)));
    const x = (time) => PAD.left + ((time - from) / this.window.seconds) * (width - PAD.left - this.right);
    const y = (value) => height - PAD.bottom - (Math.min(value, top) / top) * (height - PAD.top - PAD.bottom);

    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren();
    for (const part of [0, 0.5, 1]) {
      const level = y(top * part);
      svg("line", { class: "grid", x1: PAD.left, x2: width - this.right, y1: level, y2: level }, this.svg);
      svg("text", { class: "axis", x: PAD.left - 8, y: level + 4, "text-anchor": "end" }, this.svg).textContent = this.format(top * part);
    }
    for (const ago of this.window.ticks) {
      const text = ago === 0 ? "now" : this.window.name(ago);
      svg("text", { class: "axis", x: x(this.now - ago), y: height - 4, "text-anchor": ago === 0 ? "end" : "middle" }, this.svg).textContent = text;
    }
    if (values.length === 0) {
      svg("text", { class: "none", x: (PAD.left + width) / 2, y: height / 2, "text-anchor": "middle" }, this.svg).textContent = `No data in the ${this.window.said}`;
    }
    const ends = [];
    this.series.forEach((series, at) => {
      const runs = this.runs(shown, at + 1);
      for (const run of runs) {
        const path = run.map((point, i) => `${i ? "L" : "M"}${x(point[0]).toFixed(1)} ${y(point[1]).toFixed(1)}`).join("");
        if (this.series.length === 1) {
          const base = height - PAD.bottom;
          svg("path", { class: `area ${series.css}`, d: `${path}L${x(run.at(-1)[0]).toFixed(1)} ${base}L${x(run[0][0]).toFixed(1)} ${base}Z` }, this.svg);
        }
        if (run.length === 1) svg("circle", { class: series.css, cx: x(run[0][0]), cy: y(run[0][1]), r: 1.5 }, this.svg);
        else svg("path", { class: `line ${series.css}`, d: path }, this.svg);
      }
      const last = runs.at(-1)?.at(-1);
      if (last && last[0] > this.now - 15) {
        svg("circle", { class: `end ${series.css}`, cx: x(last[0]), cy: y(last[1]), r: 4 }, this.svg);
        ends.push({ series, x: x(last[0]), y: y(last[1]) });
      }
    });
    if (this.series.length > 1) this.nameEnds(ends, height);
    this.drawCursor(shown, x, y, height);
    const latest = shown.at(-1);
    const sentence = latest
      ? this.series.map((series, at) => `${series.name} ${this.format(latest[at + 1])}`).join(", ")
      : "no data";
    this.svg.setAttribute("aria-label", `${this.title}, ${this.window.said}; now ${sentence}; scale up to ${this.format(top)}. Arrow keys read single moments.`);
  }

  /** The parts of a series without gaps: null values and holes of more than 10 s break the line. */
  runs(points, column) {
    const runs = [];
    let open = null;
    for (const point of points) {
      const value = point[column];
      if (value === null || value === undefined || !Number.isFinite(value)) {
        open = null;
        continue;
      }
      if (open === null || point[0] - open.at(-1)[0] > 10) runs.push((open = []));
      open.push([point[0], value]);
    }
    return runs;
  }

  /** Names beside the ends of the lines, pushed apart so that none covers another. */
  nameEnds(ends, height) {
    ends.sort((a, b) => a.y - b.y);
    let least = PAD.top;
    for (const end of ends) {
      end.at = Math.max(end.y + 4, least);
      least = end.at + 13;
    }
    const over = least - 13 - (height - PAD.bottom + 3);
    for (const end of ends) {
      const at = over > 0 ? end.at - over : end.at;
      svg("text", { class: `name ${end.series.css}`, x: end.x + 8, y: at }, this.svg).textContent = end.series.name;
    }
  }

  drawCursor(shown, x, y, height) {
    const point = this.cursor === null ? undefined : shown.find((candidate) => candidate[0] >= this.cursor);
    this.tip.hidden = point === undefined;
    if (point === undefined) return;
    const at = x(point[0]);
    svg("line", { class: "cursor", x1: at, x2: at, y1: PAD.top, y2: height - PAD.bottom }, this.svg);
    this.tip.replaceChildren(new Date(point[0] * 1000).toLocaleTimeString("en-GB"));
    this.series.forEach((series, index) => {
      const value = point[index + 1];
      if (value !== null && Number.isFinite(value)) svg("circle", { class: `end ${series.css}`, cx: at, cy: y(value), r: 4 }, this.svg);
      const bold = document.createElement("b");
      bold.textContent = this.format(value);
      this.tip.append(document.createElement("br"), `${series.name} `, bold);
    });
    const side = at > this.width / 2 ? at - this.tip.offsetWidth - 10 : at + 10;
    this.tip.style.left = `${Math.max(0, side)}px`;
  }
}
