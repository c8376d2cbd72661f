"use strict";
// Draws the timeline. What one frame costs depends on the size of the window, not on how much was computed: within a
// lane, what is narrower than a pixel is found by bisection and drawn as one.

// ------------------------------------------------------------------------------------------------------------- data

const data = JSON.parse(document.getElementById("data").textContent);
const { outcomes, lanes, rows } = data;
const began = Float64Array.from(rows.began);
const ended = Float64Array.from(rows.ended);
const outcomeOf = Uint8Array.from(rows.outcome);
const size = began.length;

// The outcome that is shown where several share a pixel: the one that one would not want to miss.
const BY_URGENCY = ["failed", "retried", "cancelled", "running", "succeeded", "pending"].map((name) => outcomes.indexOf(name));

const sums = (values) => {
  const result = new Float64Array(values.length + 1);
  values.forEach((value, n) => { result[n + 1] = result[n] + value; });
  return result;
};

// countsOf[outcome][n]: how many of the first n rows have it. workOf[n]: the microseconds that those took.
const countsOf = outcomes.map((_, outcome) => sums(outcomeOf.map((other) => other === outcome)));
const workOf = sums(ended.map((end, n) => end - began[n]));

// reach[n]: when the last of the rows of that lane, up to n, has ended. Sorted, which `ended` need not be quite.
const reach = ended.slice();
let rowsBefore = 0;
for (const lane of lanes) {
  lane.first = rowsBefore;
  lane.end = rowsBefore += lane.size;
  for (let row = lane.first + 1; row < lane.end; row++) reach[row] = Math.max(reach[row], reach[row - 1]);
}

/** The first index from `low` on, below `high`, whose value is at least `limit`; `high` if there is none. */
function bisect(values, limit, low = 0, high = values.length) {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < limit) low = middle + 1; else high = middle;
  }
  return low;
}

const begins = began.slice().sort();
const ends = ended.slice().sort();
const sumOfBegins = sums(begins);
const sumOfEnds = sums(ends);

/** How many microseconds all workers together have worked until then. */
function workUntil(time) {
  const begun = bisect(begins, time);
  const over = bisect(ends, time);
  return begun * time - sumOfBegins[begun] - (over * time - sumOfEnds[over]);
}

// ------------------------------------------------------------------------------------------------------------- words

const number = new Intl.NumberFormat("en");

/** A duration in microseconds, as one writes it. */
function duration(us) {
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 1e6) return `${(us / 1000).toPrecision(3)} ms`;
  if (us < 60e6) return `${(us / 1e6).toPrecision(3)} s`;
  const seconds = Math.round(us / 1e6);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const clock = `${String(minutes).padStart(hours ? 2 : 1, "0")}:${String(seconds % 60).padStart(2, "0")}`;
  return hours ? `${hours}:${clock} h` : `${clock} min`;
}

/** A point of time, in microseconds from the start, as exact as `step` needs it. */
function moment(us, step) {
  if (step >= 60e6) return duration(us);
  const digits = Math.max(0, Math.ceil(-Math.log10(step / 1e6)));
  const seconds = us / 1e6;
  if (Math.abs(seconds) < 60) return `${seconds.toFixed(digits)} s`;
  const minutes = Math.floor(seconds / 60);
  const rest = (seconds - 60 * minutes).toFixed(digits);
  return `${minutes}:${rest.padStart(digits ? digits + 3 : 2, "0")}`;
}

const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

function element(name, text, properties = {}) {
  const made = Object.assign(document.createElement(name), properties);
  made.textContent = text;
  return made;
}

const find = (id) => document.getElementById(id);

function writeTotals() {
  const { total } = data;
  const failed = total.attempts[outcomes.indexOf("failed")];
  const workers = lanes.filter((lane) => lane.known).length;
  const facts = [
    ["calls", number.format(total.calls)],
    ["failed", number.format(failed)],
    ["elapsed", duration(data.span)],
    ["computed", duration(1e6 * total.seconds)],
    ["workers", workers || "not known"],
  ];
  if (data.utilisation !== null) facts.push(["utilisation", percent(data.utilisation)]);
  for (const [name, value] of facts) {
    const pair = document.createElement("div");
    pair.append(element("dt", name), element("dd", value));
    find("totals").append(pair);
  }
  find("when").textContent = data.start ? `from ${new Date(data.start).toLocaleString()}` : "nothing was recorded";

  const drawn = total.attempts.reduce((sum, n) => sum + n, 0);
  const notes = [];
  if (drawn > size) notes.push(`${number.format(drawn - size)} never began and are not drawn.`);
  if (data.dropped) notes.push(`${number.format(data.dropped)} earlier ones were not kept.`);
  if (lanes.some((lane) => !lane.known)) {
    const whose = workers ? "Of some calls no worker is known" : "The executor does not tell its workers";
    notes.push(`${whose}: bars go from the submission to the end, waiting included.`);
  }
  find("notes").textContent = notes.join(" ");
}

function writeLegend() {
  outcomes.forEach((outcome, n) => {
    const count = data.total.attempts[n];
    if (!count && n > 1) return; // what is usual is always explained
    const item = document.createElement("li");
    const sample = document.createElement("i");
    sample.style.background = `var(--${outcome})`;
    item.append(sample, outcome, element("b", number.format(count)));
    find("legend").append(item);
  });
}

function writeFunctions() {
  const shown = outcomes.filter((_, n) => data.total.attempts[n] || n < 2);
  const head = document.createElement("tr");
  for (const name of ["function", "calls", ...shown, "computed", "mean", "longest"]) head.append(element("th", name));
  find("functions").append(head);
  for (const made of data.functions) {
    const line = document.createElement("tr");
    const mean = made.computed ? duration(1e6 * made.seconds / made.computed) : "–";
    const counts = shown.map((name) => number.format(made.attempts[outcomes.indexOf(name)]));
    const times = [duration(1e6 * made.seconds), mean, duration(1e6 * made.longest)];
    for (const value of [made.function, number.format(made.calls), ...counts, ...times]) line.append(element("td", value));
    find("functions").append(line);
  }
}

// -------------------------------------------------------------------------------------------------------------- view

const chart = find("chart");
const scroller = find("lanes");
const [overview, busy, bars] = ["overview", "busy", "bars"].map(find);
const LANE = lanes.length > 40 ? 15 : lanes.length > 12 ? 20 : 26; // pixels
const SHORTEST = 20; // microseconds that can fill the window
const MARGIN = Math.max(1, data.span * 0.008);
const view = { from: -MARGIN, to: data.span + MARGIN };
let selected = -1; // a row
let width = 0; // of the canvases, in pixels, as is
let gutter = 0; // what the names of the lanes take of it
let due = false; // a frame was asked for

const x = (time) => gutter + (time - view.from) / (view.to - view.from) * (width - gutter);
const timeAt = (pixel) => view.from + (pixel - gutter) / (width - gutter) * (view.to - view.from);

function show(from, to) {
  const whole = data.span + 2 * MARGIN;
  const length = Math.min(whole, Math.max(SHORTEST, to - from));
  const middle = (from + to) / 2;
  view.from = Math.min(Math.max(middle - length / 2, -MARGIN), data.span + MARGIN - length);
  view.to = view.from + length;
  draw();
}

const fit = () => show(-MARGIN, data.span + MARGIN);
const move = (time) => show(view.from + time, view.to + time);

/** Make what takes one pixel take `factor` pixels; what is at `time` stays where it is. */
function zoom(factor, time = (view.from + view.to) / 2) {
  const whole = data.span + 2 * MARGIN;
  const length = Math.min(whole, Math.max(SHORTEST, (view.to - view.from) / factor));
  const from = time - (time - view.from) * length / (view.to - view.from);
  show(from, from + length);
}

// ----------------------------------------------------------------------------------------------------------- drawing

let colours = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["panel", "stripe", "line", "text", "soft", "accent", "busy", "ink", "ink-on-retried", ...outcomes]) {
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

/** Make a canvas as sharp as the screen is, and empty. */
function cleared(canvas, height) {
  const ratio = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.fillStyle = colours.panel;
  pen.fillRect(0, 0, width, height);
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  pen.textBaseline = "middle";
  return pen;
}

/** Write what fits into so many pixels. */
function write(pen, text, left, y, room) {
  if (pen.measureText(text).width > room) {
    let length = text.length;
    while (length > 0 && pen.measureText(`${text.slice(0, length)}…`).width > room) length--;
    if (!length) return;
    text = `${text.slice(0, length)}…`;
  }
  pen.fillText(text, left, y);
}

/** A step of the axis that is easy to read, for labels at least so many pixels apart. */
function tickStep(pixels) {
  const least = (view.to - view.from) / (width - gutter) * pixels;
  const clock = [60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400].map((seconds) => seconds * 1e6);
  if (least > 30e6) return clock.find((step) => step >= least) || Math.ceil(least / 864e8) * 864e8;
  const power = 10 ** Math.floor(Math.log10(least));
  return Math.max(1, [1, 2, 5, 10].map((n) => n * power).find((step) => step >= least));
}

/** A column for each pixel: how many workers are busy, of all. */
function drawLoad(pen, top, height, from, to, left, right) {
  const perPixel = (to - from) / (right - left);
  pen.fillStyle = colours.busy;
  let before = workUntil(from);
  for (let pixel = left; pixel < right; pixel++) {
    const after = workUntil(from + (pixel + 1 - left) * perPixel);
    const share = Math.min(1, (after - before) / perPixel / Math.max(1, lanes.length));
    if (share > 0) pen.fillRect(pixel, top + height * (1 - share), 1, height * share);
    before = after;
  }
}

function drawOverview() {
  const pen = cleared(overview, 34);
  drawLoad(pen, 5, 24, -MARGIN, data.span + MARGIN, gutter, width);
  const place = (time) => gutter + (time + MARGIN) / (data.span + 2 * MARGIN) * (width - gutter);
  const [left, right] = [place(view.from), Math.max(place(view.to), place(view.from) + 3)];
  pen.fillStyle = colours.panel;
  pen.globalAlpha = 0.65;
  pen.fillRect(gutter, 0, left - gutter, 34);
  pen.fillRect(right, 0, width - right, 34);
  pen.globalAlpha = 1;
  pen.strokeStyle = colours.accent;
  pen.lineWidth = 1.5;
  pen.strokeRect(left + 0.75, 2, right - left - 1.5, 30);
  pen.fillStyle = colours.soft;
  write(pen, "whole run", 12, 17, gutter - 20);
}

function drawBusy() {
  const pen = cleared(busy, 92);
  const [top, height] = [12, 54];
  drawLoad(pen, top, height, view.from, view.to, gutter, width);
  pen.fillStyle = colours.soft;
  const what = lanes.some((lane) => lane.known) ? "busy workers" : "pending calls";
  write(pen, gutter > 130 ? what : what.split(" ")[0], 12, top + height / 2, gutter - 40);
  pen.textAlign = "right";
  pen.fillText(number.format(lanes.length), gutter - 7, top + 3);
  pen.fillText("0", gutter - 7, top + height - 3);
  pen.textAlign = "center";
  const step = tickStep(92);
  for (let time = Math.ceil(Math.max(0, view.from) / step) * step; time <= view.to; time += step) {
    const pixel = Math.round(x(time));
    pen.fillStyle = colours.line;
    pen.fillRect(pixel, top, 1, height + 6);
    pen.fillStyle = colours.soft;
    const half = pen.measureText(moment(time, step)).width / 2;
    pen.fillText(moment(time, step), Math.min(Math.max(pixel, gutter + half), width - half - 4), top + height + 15);
  }
  pen.textAlign = "left";
  pen.fillStyle = colours.line;
  pen.fillRect(gutter, top + height, width - gutter, 1);
}

/** The bars of one lane; returns how many were drawn. */
function drawLane(pen, lane, top) {
  let drawn = 0;
  let row = bisect(reach, view.from, lane.first, lane.end);
  while (row < lane.end && began[row] < view.to) {
    const left = Math.max(gutter, x(began[row]));
    const right = Math.min(width, x(ended[row]));
    let next = row + 1;
    if (right - left >= 1) {
      pen.fillStyle = colours[outcomes[outcomeOf[row]]];
      const gap = right - left > 3 ? 0.7 : 0; // neighbours can be told apart
      pen.fillRect(left, top, right - left - gap, LANE - 5);
      if (right - left > 42) label(pen, row, left, right, top);
    } else {
      // Everything that begins within this pixel is one column, the more solid the more of the pixel it takes.
      const pixel = Math.floor(left);
      const edge = timeAt(pixel + 1);
      next = Math.max(next, bisect(began, edge, next, lane.end));
      const taken = (workOf[next] - workOf[row]) / (edge - timeAt(pixel));
      pen.fillStyle = colours[outcomes[urgent(row, next)]];
      pen.globalAlpha = Math.min(1, 0.45 + 0.55 * taken);
      pen.fillRect(pixel, top, 1, LANE - 5);
      pen.globalAlpha = 1;
    }
    drawn++;
    row = next;
  }
  return drawn;
}

/** The outcome to be shown for some rows. */
const urgent = (first, end) => BY_URGENCY.find((outcome) => countsOf[outcome][end] > countsOf[outcome][first]);

function label(pen, row, left, right, top) {
  if (LANE < 18) return;
  pen.fillStyle = outcomes[outcomeOf[row]] === "retried" ? colours["ink-on-retried"] : colours.ink;
  write(pen, labelOf(row), left + 6, top + (LANE - 5) / 2 + 1, right - left - 12);
}

const nameOf = (row) => `${data.functions[rows.function[row]].function}(${rows.arguments[row]})`;
const labelOf = (row) => (data.functions.length === 1 && rows.arguments[row]) || nameOf(row); // the name tells nothing

function drawBars() {
  const all = lanes.length * LANE + 8;
  find("room").style.height = `${all}px`;
  const height = Math.min(all, scroller.clientHeight || all);
  const pen = cleared(bars, height);
  const scrolled = scroller.scrollTop;
  let drawn = 0;
  const last = Math.min(lanes.length, Math.ceil((scrolled + height) / LANE));
  for (let n = Math.floor(scrolled / LANE); n < last; n++) {
    const top = n * LANE + 5 - scrolled;
    if (n % 2) {
      pen.fillStyle = colours.stripe;
      pen.fillRect(0, top - 2.5, width, LANE);
    }
    drawn += drawLane(pen, lanes[n], top);
    pen.fillStyle = colours.soft;
    write(pen, lanes[n].name, 12, top + (LANE - 5) / 2, gutter - 20);
  }
  if (selected >= 0) outline(pen, selected, scrolled);
  pen.fillStyle = colours.line;
  pen.fillRect(gutter - 1, 0, 1, height);
  return drawn;
}

function outline(pen, row, scrolled) {
  const left = Math.max(gutter, x(began[row]));
  const right = Math.min(width, Math.max(x(ended[row]), left + 2));
  if (right < gutter || left > width) return;
  pen.strokeStyle = colours.text;
  pen.lineWidth = 1.5;
  pen.strokeRect(left - 1, laneOf(row) * LANE + 4 - scrolled, right - left + 1.3, LANE - 3);
}

const laneOf = (row) => lanes.findIndex((lane) => row < lane.end);

/** Draw everything with the next frame of the screen. */
function draw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    width = chart.clientWidth;
    gutter = Math.round(Math.min(170, width * 0.27));
    const drawn = drawBars();
    width = chart.clientWidth;
    drawBusy();
    drawOverview();
    // What a program that looks at the page can know of it.
    Object.assign(chart.dataset, { drawn, frames: 1 + Number(chart.dataset.frames || 0), from: view.from, to: view.to });
  });
}

// ---------------------------------------------------------------------------------------------------------- pointing

const tip = find("tip");
const NEAR = 4; // pixels

/** The row that is drawn there, or nearly; -1 if there is none. */
function rowAt(pixel, y) {
  const lane = lanes[Math.floor((y + scroller.scrollTop - 2.5) / LANE)];
  if (!lane || pixel < gutter) return -1;
  const time = timeAt(pixel);
  const near = timeAt(pixel + NEAR) - time;
  const after = bisect(began, time, lane.first, lane.end);
  let [best, least] = [-1, near];
  for (const row of [after - 1, after]) {
    if (row < lane.first || row >= lane.end) continue;
    const distance = Math.max(0, began[row] - time, time - ended[row]);
    if (distance < least || (distance === 0 && least !== 0)) [best, least] = [row, distance];
  }
  return best;
}

/** How many rows share its pixel with it. */
function crowd(row) {
  const lane = lanes[laneOf(row)];
  if (x(ended[row]) - x(began[row]) >= 1) return 1;
  const pixel = Math.floor(x(began[row]));
  const edges = [timeAt(pixel), timeAt(pixel + 1)].map((edge) => bisect(began, edge, lane.first, lane.end));
  return edges[1] - edges[0];
}

function describe(row) {
  const outcome = outcomes[outcomeOf[row]];
  const how = element("div", outcome + (rows.attempt[row] ? `, attempt ${rows.attempt[row]}` : ""), { className: "how" });
  how.style.color = `var(--${outcome})`;
  const parts = [element("strong", nameOf(row)), how];
  if (rows.error[row]) parts.push(element("div", rows.error[row], { className: "error" }));
  const took = duration(ended[row] - began[row]);
  const waited = Math.max(0, began[row] - rows.submitted[row]);
  const lane = lanes[laneOf(row)];
  parts.push(element("div", lane.known ? `${took}, after ${duration(waited)} of waiting` : `${took}, waiting included`));
  const at = `${moment(began[row], 1000)} after the start`;
  parts.push(element("div", lane.known ? `${lane.name}, ${at}` : `worker not known, ${at}`, { className: "soft" }));
  const others = crowd(row) - 1;
  if (others > 0) parts.push(element("div", `and ${number.format(others)} more in this pixel: zoom in`, { className: "soft" }));
  tip.replaceChildren(...parts);
}

function point(row, left, top) {
  if (row !== selected) {
    selected = row;
    draw();
  }
  tip.hidden = row < 0;
  if (row < 0) return;
  describe(row);
  const [wide, high] = [tip.offsetWidth, tip.offsetHeight];
  tip.style.left = `${Math.max(6, Math.min(left + 14, window.innerWidth - wide - 6))}px`;
  tip.style.top = `${top + 16 + high < window.innerHeight ? top + 16 : Math.max(6, top - high - 12)}px`;
}

const failures = Array.from(began.keys()).filter((row) => outcomes[outcomeOf[row]] === "failed");
failures.sort((one, other) => began[one] - began[other]);

/** Show the next failure, or the one before: from the one that is selected, or from the middle of the view. */
function goToFailure(step) {
  if (!failures.length) return;
  const here = failures.indexOf(selected);
  const middle = (view.from + view.to) / 2;
  const after = failures.findIndex((row) => began[row] > middle);
  const start = step > 0 ? (after < 0 ? 0 : after) : (after < 0 ? failures.length : after) - 1;
  const next = here >= 0 ? here + step : start;
  const row = failures[(next + failures.length) % failures.length];
  const length = Math.min(view.to - view.from, Math.max(SHORTEST, 25 * (ended[row] - began[row])));
  const centre = (began[row] + ended[row]) / 2;
  show(centre - length / 2, centre + length / 2);
  const top = laneOf(row) * LANE;
  if (top < scroller.scrollTop || top + LANE > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top - 2 * LANE;
  const box = bars.getBoundingClientRect();
  point(row, box.left + x(centre), box.top + top - scroller.scrollTop + LANE);
}

function listen() {
  let drag = null; // where the pointer was

  for (const canvas of [busy, bars]) {
    canvas.addEventListener("pointerdown", (event) => {
      drag = { x: event.clientX, y: event.clientY };
      canvas.setPointerCapture(event.pointerId);
      chart.classList.add("dragged");
    });
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      if (!drag) {
        point(canvas === bars ? rowAt(event.clientX - box.left, event.clientY - box.top) : -1, event.clientX, event.clientY);
        return;
      }
      point(-1);
      scroller.scrollTop -= event.clientY - drag.y;
      move((drag.x - event.clientX) / (width - gutter) * (view.to - view.from));
      drag = { x: event.clientX, y: event.clientY };
    });
    canvas.addEventListener("pointerleave", () => point(-1));
    canvas.addEventListener("dblclick", fit);
  }
  overview.addEventListener("pointerdown", (event) => {
    overview.setPointerCapture(event.pointerId);
    chart.classList.add("dragged");
    drag = {};
    centre(event);
  });
  overview.addEventListener("pointermove", (event) => drag && centre(event));
  overview.addEventListener("dblclick", fit);
  for (const name of ["pointerup", "pointercancel"]) {
    chart.addEventListener(name, () => {
      drag = null;
      chart.classList.remove("dragged");
    });
  }
  for (const canvas of [overview, busy, bars]) canvas.addEventListener("wheel", turn, { passive: false });
  scroller.addEventListener("scroll", draw);
  new ResizeObserver(draw).observe(chart);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); draw(); });
  document.addEventListener("keydown", press);
  const buttons = { in: () => zoom(1.6), out: () => zoom(1 / 1.6), fit, next: () => goToFailure(1), previous: () => goToFailure(-1) };
  for (const [id, act] of Object.entries(buttons)) find(id).addEventListener("click", act);
  find("next").disabled = find("previous").disabled = !failures.length;
}

function centre(event) {
  const share = (event.clientX - overview.getBoundingClientRect().left - gutter) / (width - gutter);
  const time = share * (data.span + 2 * MARGIN) - MARGIN;
  const half = (view.to - view.from) / 2;
  show(time - half, time + half);
}

function turn(event) {
  event.preventDefault();
  if (event.shiftKey) {
    scroller.scrollTop += event.deltaX || event.deltaY;
  } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    move(event.deltaX / (width - gutter) * (view.to - view.from));
  } else {
    const lines = event.deltaMode === 1 ? 20 : 1;
    zoom(Math.exp(-event.deltaY * lines * 0.0018), timeAt(event.clientX - event.currentTarget.getBoundingClientRect().left));
  }
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const step = (view.to - view.from) / 8;
  const rowsUp = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  const acts = {
    ArrowLeft: () => move(-step), a: () => move(-step), ArrowRight: () => move(step), d: () => move(step),
    "+": () => zoom(1.6), "=": () => zoom(1.6), w: () => zoom(1.6), "-": () => zoom(1 / 1.6), s: () => zoom(1 / 1.6),
    0: fit, f: () => goToFailure(1), F: () => goToFailure(-1), Escape: () => point(-1),
  };
  if (acts[event.key]) acts[event.key]();
  else if (rowsUp && document.activeElement === chart) scroller.scrollTop += rowsUp * 2 * LANE;
  else return;
  event.preventDefault();
}

writeTotals();
writeLegend();
writeFunctions();
readColours();
listen();
draw();
