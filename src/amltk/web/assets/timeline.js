// When calls ended and which workers were busy: the whole experiment as it grows, or a part of it call by call.

const LANE = 15, ENDS = 64, AXIS = 20;

class Timeline {
  constructor(open) {
    this.open = open;
    this.view = null; // begin and end of the part that is shown; null for everything
    this.part = null; // what the source says of that part
    this.fetch = oneAtATime(() => this.update(), (error) => { this.note.textContent = error.message; });
    this.canvas = el("canvas", { tabindex: "0", role: "img", "data-key": "timeline" });
    this.room = el("div", { class: "lanes" }, this.canvas);
    this.note = el("span", { class: "soft" });
    const button = (label, title, act) => el("button", { type: "button", title, "aria-label": title, onclick: act }, label);
    this.element = el("section", { class: "card timeline", "aria-labelledby": "timeline-title" },
      el("header", {}, el("h2", { id: "timeline-title" }, "Timeline"), this.note,
        el("div", { class: "tools" }, button("−", "Zoom out (−)", () => this.zoom(2)), button("+", "Zoom in (+)", () => this.zoom(0.5)),
          button("Fit", "Show everything (0)", () => this.look(null)))),
      this.room,
      el("ul", { class: "key" }, ...["done", "failed", "cancelled", "running"].map((name) => el("li", {}, el("i", { class: name }), name)),
        el("li", { class: "soft" }, "drag to look closer · arrow keys move, + and − zoom, 0 shows everything")));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => tip.hide());
    this.canvas.addEventListener("dblclick", () => this.look(null));
    new ResizeObserver(() => this.draw()).observe(this.room);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  show(place, data) {
    if (this.place !== place) { this.place = place; this.view = this.part = null; }
    this.data = data;
    this.element.hidden = data.timeline.start === null && !data.running.some((call) => call.began !== null);
    if (this.view && data.owner && this.view[1] > data.until - 5) this.fetch();
    this.draw();
  }

  whole() {
    const { start, width, size } = this.data.timeline;
    const running = this.data.running.filter((call) => call.began !== null).map((call) => call.began);
    const begin = Math.min(start ?? Infinity, ...running);
    const end = start === null ? begin : Math.min(start + width * size, Math.max(this.data.until, start + width));
    return [begin, Math.max(end, this.data.until, begin + 0.5)];
  }

  look(view) {
    const [begin, end] = this.whole();
    if (view !== null) {
      const size = Math.max(view[1] - view[0], 0.01);
      if (size >= end - begin) view = null;
      else { const from = Math.min(Math.max(view[0], begin), end - size); view = [from, from + size]; }
    }
    this.view = view;
    this.part = null;
    if (view === null) this.draw();
    else this.fetch();
  }

  zoom(by) {
    const [begin, end] = this.view ?? this.whole(), middle = (begin + end) / 2, half = ((end - begin) * by) / 2;
    this.look([middle - half, middle + half]);
  }

  key(event) {
    const [begin, end] = this.view ?? this.whole(), step = (end - begin) / 4;
    const acts = { "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2), 0: () => this.look(null),
      ArrowLeft: () => this.look([begin - step, end - step]), ArrowRight: () => this.look([begin + step, end + step]) };
    if (acts[event.key]) { event.preventDefault(); acts[event.key](); }
  }

  async update() {
    const [begin, end] = this.view ?? [0, 0];
    if (end > begin) this.part = await source.timeline(this.place, begin, end);
    this.draw();
  }

  x(time) { const [begin, end] = this.shown; return this.left + ((time - begin) / (end - begin)) * (this.wide - this.left); }
  time(event) {
    const [begin, end] = this.shown, px = event.clientX - this.canvas.getBoundingClientRect().left;
    return begin + (Math.max(0, px - this.left) / (this.wide - this.left)) * (end - begin);
  }

  press(event) {
    if (event.button !== 0) return;
    const from = event.clientX, begin = this.time(event);
    this.canvas.setPointerCapture(event.pointerId);
    const move = (next) => { this.range = [Math.min(from, next.clientX), Math.max(from, next.clientX)]; this.draw(); };
    const end = (next) => {
      this.canvas.removeEventListener("pointermove", move);
      this.range = null;
      if (next.type === "pointerup" && Math.abs(next.clientX - from) > 5) {
        const to = this.time(next);
        this.look([Math.min(begin, to), Math.max(begin, to)]);
      } else {
        const hit = this.hit(next);
        if (next.type === "pointerup" && hit?.call !== undefined) location.hash = this.open.link(hit.call);
        this.draw();
      }
    };
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", end, { once: true });
    this.canvas.addEventListener("pointercancel", end, { once: true });
  }

  hit(event) {
    const box = this.canvas.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
    return this.bars?.findLast((bar) => px >= bar.x - 1 && px <= bar.x + bar.w + 1 && py >= bar.y && py < bar.y + LANE);
  }

  point(event) {
    if (this.range || !this.lanes) return;
    const hit = this.hit(event), py = event.clientY - this.canvas.getBoundingClientRect().top;
    const lane = this.lanes[Math.floor((py - ENDS - AXIS) / LANE)];
    this.canvas.classList.toggle("points", Boolean(hit));
    if (hit) tip.show(event, el("strong", {}, `call ${count(hit.call)}`), ` · ${STATES[hit.state] ?? hit.state} · ${duration(hit.seconds)}`, el("br"), hit.worker);
    else if (py > ENDS + AXIS && lane) tip.show(event, lane);
    else if (py < ENDS && this.rates) {
      const place = Math.floor((this.time(event) - this.rates.start) / this.rates.width);
      const told = Object.entries(this.rates.ends).map(([name, sums]) => [name, sums[place] ?? 0]).filter(([, n]) => n);
      if (told.length) tip.show(event, told.map(([name, n]) => `${count(n)} ${name === "result" ? "done" : name}`).join(", "), el("br"), `${moment(this.rates.start + place * this.rates.width, this.data.now)}, in ${duration(this.rates.width)}`);
      else tip.hide();
    } else tip.hide();
  }

  draw() {
    const data = this.data;
    this.wide = this.room.clientWidth;
    if (!data || this.element.hidden || this.wide < 60) return;
    this.left = this.wide < 600 ? 0 : 150;
    this.shown = this.view ?? this.whole();
    const part = this.view && this.part;
    const added = part ? part.added : this.view ? null : data.timeline;
    const running = data.running.filter((call) => call.began !== null && call.worker);
    this.lanes = [...new Set([...(part?.calls ? part.lanes : added ? added.lanes.map((lane) => lane.name) : this.lanes ?? []),
      ...running.map((call) => call.worker)])].slice(0, 64);
    const height = ENDS + AXIS + this.lanes.length * LANE + 4, scale = devicePixelRatio || 1;
    this.canvas.width = this.wide * scale;
    this.canvas.height = height * scale;
    this.canvas.style.height = `${height}px`;
    const pen = this.canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    pen.scale(scale, scale);
    pen.font = "11px system-ui, sans-serif";
    this.bars = [];
    this.drawAxis(pen, colour, height);
    this.rates = part?.calls ? this.ratesOf(part) : added;
    if (this.rates) this.drawEnds(pen, colour);
    if (added) this.drawBusy(pen, colour, added);
    const bar = (lane, begin, seconds, state, call) => {
      const x = Math.max(this.left, this.x(begin)), w = Math.max(1.5, Math.min(this.wide, this.x(begin + seconds)) - x);
      if (x > this.wide || this.x(begin + seconds) < this.left || lane < 0) return;
      const y = ENDS + AXIS + lane * LANE;
      pen.fillStyle = colour(state === "running" ? "running" : isFailed(state) ? "failed" : state === "result" ? "done" : "cancelled");
      pen.fillRect(x, y + 2, w > 4 ? w - 1 : w, LANE - 4);
      this.bars.push({ x, w, y, call, state, seconds, worker: this.lanes[lane] });
    };
    for (const [n, state, lane, began, seconds] of part?.calls ?? []) bar(lane, began, seconds, state, n);
    for (const call of running) bar(this.lanes.indexOf(call.worker), call.began, Math.max(0, data.until - call.began), "running", call.call);
    if (this.left) {
      pen.fillStyle = colour("soft");
      pen.textAlign = "right";
      this.lanes.forEach((name, n) => pen.fillText(name.length > 24 ? `${name.slice(0, 23)}…` : name, this.left - 8, ENDS + AXIS + n * LANE + 11));
    }
    if (this.range) {
      const box = this.canvas.getBoundingClientRect();
      pen.fillStyle = colour("shade");
      pen.fillRect(this.range[0] - box.left, 0, this.range[1] - this.range[0], height);
    }
    const more = data.timeline.more ? `, ${counted(data.timeline.more, "more worker")} not shown` : "";
    this.note.textContent = `${counted(this.lanes.length, "worker")}${more}${this.view ? ` · ${duration(this.shown[1] - this.shown[0])} from ${moment(this.shown[0], data.now)}` : ""}`;
    this.canvas.setAttribute("aria-label", `Timeline of ${counted(this.lanes.length, "worker")} over ${duration(this.shown[1] - this.shown[0])}; the tables below say the same in words`);
  }

  drawAxis(pen, colour, height) {
    const [begin, end] = this.shown, n = Math.max(2, Math.floor((this.wide - this.left) / 140)), zero = this.data.began ?? begin;
    for (const at of timeTicks(begin - zero, end - zero, n)) {
      const x = Math.round(this.x(zero + at)) + 0.5;
      pen.fillStyle = colour("line");
      pen.fillRect(x, 0, 1, height);
      pen.fillStyle = colour("soft");
      pen.textAlign = x > this.wide - 40 ? "right" : x < this.left + 30 ? "left" : "center";
      pen.fillText(at ? duration(at) : "start", x, ENDS + 14);
    }
  }

  ratesOf(part) { // so that a part has its ends as well
    const size = 120, width = (part.end - part.begin) / size, ends = { result: Array(size).fill(0), failed: Array(size).fill(0), cancelled: Array(size).fill(0) };
    for (const [, state, , began, seconds] of part.calls) {
      const place = Math.floor((began + seconds - part.begin) / width);
      const sums = ends[isFailed(state) ? "failed" : state];
      if (sums && place >= 0 && place < size) sums[place] += 1;
    }
    return { start: part.begin, width, size, ends };
  }

  drawEnds(pen, colour) {
    const { start, width, size, ends } = this.rates;
    const columns = Math.max(1, Math.floor((this.wide - this.left) / 7));
    const step = Math.max(1, Math.ceil((this.shown[1] - this.shown[0]) / width / columns));
    const sums = [];
    for (let n = 0; n < size; n += step) {
      const sum = {};
      for (const name of ["result", "failed", "cancelled"]) { sum[name] = 0; for (let k = n; k < n + step; k++) sum[name] += ends[name]?.[k] ?? 0; }
      sums.push(sum);
    }
    const most = Math.max(1, ...sums.map((sum) => sum.result + sum.failed + sum.cancelled));
    sums.forEach((sum, n) => {
      const x = this.x(start + n * step * width), w = Math.max(1, this.x(start + (n + 1) * step * width) - x - 0.5);
      let y = ENDS;
      for (const [name, of] of [["failed", "failed"], ["result", "done"], ["cancelled", "cancelled"]]) {
        const h = sum[name] && Math.max(1.5, (sum[name] / most) * (ENDS - 6));
        pen.fillStyle = colour(of);
        pen.fillRect(x, y - h, w, h);
        y -= h;
      }
    });
    if (this.left) {
      pen.fillStyle = colour("soft");
      pen.textAlign = "right";
      pen.fillText("calls ended", this.left - 8, 14);
      pen.fillText(`max ${rate(most / (step * width))}`, this.left - 8, 28);
    }
  }

  drawBusy(pen, colour, { start, width, lanes }) {
    pen.fillStyle = colour("done");
    for (const lane of lanes) {
      const n = this.lanes.indexOf(lane.name);
      if (n < 0) continue;
      const y = ENDS + AXIS + n * LANE;
      lane.busy.forEach((share, place) => {
        if (!share) return;
        const x = this.x(start + place * width), w = this.x(start + (place + 1) * width) - x;
        pen.globalAlpha = 0.15 + 0.75 * Math.min(1, share);
        pen.fillRect(x, y + 2, w + 0.3, LANE - 4);
      });
    }
    pen.globalAlpha = 1;
  }
}

const timeTicks = (begin, end, most) => {
  const steps = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 432000, 864000];
  const step = steps.find((one) => (end - begin) / one <= most) ?? 2592000;
  const found = [];
  for (let n = Math.ceil(begin / step); n * step <= end; n++) found.push(Number((n * step).toPrecision(12)));
  return found;
};
