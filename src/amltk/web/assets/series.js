// The best result so far, and how it developed.

const HIGHER = /acc|auc|f1|score|reward|return|precision|recall|r2|bleu|iou|map$|fitness|gain|profit/i;

/* What a search is usually about; shown first, if a call returns several numbers. */
const LIKELY = new RegExp(`loss|err|cost|mse|mae|objective|perplexity|${HIGHER.source}`, "i");

class SeriesChart {
  constructor(open) {
    this.open = open;
    this.chosen = null; // the series, as the user has chosen it
    this.directions = new Map(); // by the key of the series: whether higher is better, as the user has chosen it
    this.log = false;
    this.select = el("select", { "aria-label": "Number to show", "data-key": "series", onchange: () => { this.chosen = this.select.value; this.draw(); } });
    this.toggle = el("button", { type: "button", "data-key": "direction", onclick: () => this.turn() });
    this.scale = el("button", { type: "button", "data-key": "scale", "aria-pressed": "false", onclick: () => { this.log = !this.log; this.draw(); } }, "log");
    this.best = el("p", { class: "best" });
    this.plot = el("div", { class: "plot" });
    this.element = el("section", { class: "card series", "aria-labelledby": "series-title" },
      el("header", {}, el("h2", { id: "series-title" }, "Best so far"), el("div", { class: "tools" }, this.select, this.toggle, this.scale)),
      this.best, this.plot);
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  turn() {
    const series = this.current();
    if (series) this.directions.set(series.key, !this.isHigher(series));
    this.draw();
  }

  isHigher(series) { return this.directions.get(series.key) ?? HIGHER.test(series.key); }

  current() {
    const all = this.data?.series ?? [];
    return all.find((series) => series.id === this.chosen) ?? all.find((series) => LIKELY.test(series.key)) ?? all[0];
  }

  show(data, others) {
    this.data = data;
    this.others = others;
    const names = data.series.map((series) => series.name);
    if (this.names?.join("\n") !== names.join("\n")) {
      this.names = names;
      fill(this.select, data.series.map((series) => el("option", { value: series.id }, series.name)));
      if (data.series.length) this.select.value = this.current().id;
    }
    this.element.classList.toggle("nothing", !names.length);
    this.draw();
  }

  draw() {
    const series = this.current();
    this.select.hidden = this.toggle.hidden = this.scale.hidden = !series;
    if (!series) {
      fill(this.best);
      fill(this.plot, el("p", { class: "empty" }, this.data ? "No call has returned a number, or a dict with numbers." : ""));
      return;
    }
    const higher = this.isHigher(series);
    const steps = higher ? series.highest : series.lowest;
    const [time, value, call] = steps.at(-1);
    this.toggle.textContent = higher ? "higher is better" : "lower is better";
    this.scale.setAttribute("aria-pressed", String(this.log));
    fill(this.best, el("strong", {}, number(value)), " by ", this.link(call), ` at ${moment(time, this.data.now)}, ${counted(series.count, "value")}`);
    this.paint(series, steps, higher);
  }

  link(call) { return el("a", { href: this.open.link(call), "data-key": `best-${call}` }, `call ${count(call)}`); }

  paint(series, steps, higher) {
    const width = this.plot.clientWidth, height = 230;
    if (width < 50) return;
    const left = 58, right = 10, top = 8, bottom = 24;
    const start = this.data.began ?? series.points[0][0];
    const end = Math.max(this.data.until, series.points.at(-1)[0], start + 1e-3);
    const log = this.log && [...series.points, ...steps].every((point) => point[1] > 0);
    const f = log ? Math.log10 : (value) => value;
    const others = this.others.map((other) => {
      const same = other.series.find((one) => one.name === series.name);
      return same && { name: other.name, steps: (higher ? same.highest : same.lowest).map(([t, v]) => [t - other.began + start, v]) };
    }).filter(Boolean);
    const values = series.points.map((point) => f(point[1])).sort((a, b) => a - b);
    const at = (share) => values[Math.min(values.length - 1, Math.floor(share * values.length))];
    let low = values[0], high = values.at(-1);
    const usual = at(0.95) - at(0.05); // a few values far away would leave no room for all others
    if (usual > 0 && high > at(0.95) + 4 * usual) high = at(0.95) + usual;
    if (usual > 0 && low < at(0.05) - 4 * usual) low = at(0.05) - usual;
    for (const value of [f(steps.at(-1)[1]), ...others.map((other) => f(other.steps.at(-1)[1])).filter(Number.isFinite)]) {
      low = Math.min(low, value); high = Math.max(high, value);
    }
    if (high === low) { high += Math.abs(high) * 0.05 || 1; low -= Math.abs(low) * 0.05 || 1; }
    const pad = (high - low) * 0.05;
    low -= pad; high += pad;
    const x = (time) => left + ((time - start) / (end - start)) * (width - left - right);
    const y = (value) => top + (1 - (Math.min(Math.max(f(value), low), high) - low) / (high - low)) * (height - top - bottom);
    const drawn = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": `${series.name}: the best value is ${number(steps.at(-1)[1])}, by call ${steps.at(-1)[2]}; ${steps.length} improvements` });
    for (const tick of ticks(low, high, 4)) {
      const real = log ? 10 ** tick : tick, place = y(real);
      drawn.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: place, y2: place }));
      drawn.append(textAt(number(real), left - 8, place + 4, "end"));
    }
    const shown = Math.max(2, Math.floor((width - left) / 130));
    for (let n = 0; n <= shown; n++) {
      const seconds = ((end - start) * n) / shown;
      drawn.append(textAt(n ? duration(seconds) : "0", x(start + seconds), height - 6, n === shown ? "end" : n ? "middle" : "start"));
    }
    for (const [time, value] of series.points) drawn.append(svg("circle", { class: "dot", cx: x(time), cy: y(value), r: 2.2 }));
    for (const other of others) drawn.append(svg("path", { class: "other", d: stairs(other.steps, x, y, width - right) }));
    drawn.append(svg("path", { class: "line", d: stairs(steps, x, y, x(end)) }));
    const last = steps.at(-1);
    drawn.append(svg("circle", { class: "top", cx: x(last[0]), cy: y(last[1]), r: 4.5 }));
    const near = (event) => {
      const box = drawn.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
      let found = null, least = 900;
      for (const point of [...steps, ...series.points]) {
        const far = (x(point[0]) - px) ** 2 + (y(point[1]) - py) ** 2;
        if (far < least) { least = far; found = point; }
      }
      return found;
    };
    drawn.addEventListener("pointermove", (event) => {
      const found = near(event);
      drawn.classList.toggle("points", found !== null);
      if (found) tip.show(event, el("strong", {}, number(found[1])), ` · call ${count(found[2])} · ${moment(found[0], this.data.now)}`);
      else tip.hide();
    });
    drawn.addEventListener("pointerleave", () => tip.hide());
    drawn.addEventListener("click", (event) => { const found = near(event); if (found) { tip.hide(); location.hash = this.open.link(found[2]); } });
    const legend = others.length ? el("p", { class: "key" }, el("i", { class: "mine" }), this.data.name, ...others.flatMap((other) => [el("i"), other.name])) : null;
    fill(this.plot, drawn, legend);
  }
}

const textAt = (text, x, y, anchor) => { const made = svg("text", { x, y, "text-anchor": anchor }); made.textContent = text; return made; };

const stairs = (steps, x, y, end) => {
  let d = "";
  for (const [time, value] of steps) d += d ? `H${x(time).toFixed(1)}V${y(value).toFixed(1)}` : `M${x(time).toFixed(1)},${y(value).toFixed(1)}`;
  return `${d}H${end.toFixed(1)}`;
};

const ticks = (low, high, most) => {
  const rough = (high - low) / most, unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * unit).find((n) => n >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) found.push(Number(at.toPrecision(12)));
  return found;
};
