// The visible part of the data, and how it is drawn. The cost of a frame depends on the size of the window, not on the
// amount of data: within a lane, bars narrower than a pixel are found by bisection and drawn as one.

const chart = find("chart");
const scroller = find("lanes");
const [overview, busy, bars] = ["overview", "busy", "bars"].map(find);
const LANE = lanes.length > 40 ? 15 : lanes.length > 12 ? 20 : 26; // pixels
const MOST_LINKS = 300; // with more arrows than this, only those of the selected call are drawn
const SHORTEST = 20; // the fewest microseconds that can fill the window
const MARGIN = Math.max(1, data.span * 0.008);
const view = { from: -MARGIN, to: data.span + MARGIN };
let selected = -1; // a row
let width = 0; // of the canvases, in pixels
let gutter = 0; // the part of the width for the names of the lanes
let due = false; // whether a frame has been requested

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

/** Zoom by `factor`; `time` stays where it is. */
function zoom(factor, time = (view.from + view.to) / 2) {
  const whole = data.span + 2 * MARGIN;
  const length = Math.min(whole, Math.max(SHORTEST, (view.to - view.from) / factor));
  const from = time - (time - view.from) * length / (view.to - view.from);
  show(from, from + length);
}

let colours = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["panel", "stripe", "line", "text", "soft", "accent", "busy", "ink", "ink-on-retried", ...outcomes]) {
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

/** Clear a canvas, and match its resolution to the screen. */
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

/** Write as much of a text as fits into some pixels. */
function write(pen, text, left, y, room) {
  if (pen.measureText(text).width > room) {
    let length = text.length;
    while (length > 0 && pen.measureText(`${text.slice(0, length)}…`).width > room) length--;
    if (!length) return;
    text = `${text.slice(0, length)}…`;
  }
  pen.fillText(text, left, y);
}

/** A readable step of the axis, with a minimum distance of labels in pixels. */
function tickStep(pixels) {
  const least = (view.to - view.from) / (width - gutter) * pixels;
  const clock = [60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400].map((seconds) => seconds * 1e6);
  if (least > 30e6) return clock.find((step) => step >= least) || Math.ceil(least / 864e8) * 864e8;
  const power = 10 ** Math.floor(Math.log10(least));
  return Math.max(1, [1, 2, 5, 10].map((n) => n * power).find((step) => step >= least));
}

/** A column for each pixel: the share of busy workers. */
function drawLoad(pen, top, height, from, to, left, right) {
  const perPixel = (to - from) / (right - left);
  pen.fillStyle = colours.busy;
  let before = workUntil(from);
  for (let pixel = left; pixel < right; pixel++) {
    const after = workUntil(from + (pixel + 1 - left) * perPixel);
    const share = Math.min(1, (after - before) / perPixel / Math.max(1, workers.length));
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
  const what = workers.some((lane) => lane.known) ? "busy workers" : "pending calls";
  write(pen, gutter > 130 ? what : what.split(" ")[0], 12, top + height / 2, gutter - 40);
  pen.textAlign = "right";
  pen.fillText(number.format(workers.length), gutter - 7, top + 3);
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

/** The duration of one pixel. */
const pixelTime = () => (view.to - view.from) / (width - gutter);

/** The visible rows of a lane; those of at least `long`, one pixel, are drawn as separate bars. */
function inWindow(lane) {
  const long = pixelTime();
  const first = bisect(reach, view.from, lane.first, lane.end);
  const end = bisect(began, view.to, first, lane.end);
  return { long, first, end, firstShort: bisect(began, view.from - long, first, end) }; // earlier ones have ended before the window
}

/** The pixel in which a row shorter than a pixel is drawn: the one in which it begins, according to `timeAt`. */
function pixelOf(row) {
  const pixel = Math.floor(x(began[row]));
  const rounded = began[row] < timeAt(pixel) ? -1 : began[row] >= timeAt(pixel + 1) ? 1 : 0;
  return Math.max(gutter, pixel + rounded);
}

/** The rows of a range that are too short for bars: their number, total microseconds, and first most urgent row. */
function shortOnes({ long }, first, end) {
  const found = { size: 0, work: 0, row: -1, urgency: BY_URGENCY.length };
  for (let low = first; low < end;) {
    const high = durations.next(long, low, end);
    found.size += high - low;
    found.work += workOf[high] - workOf[low];
    const urgency = BY_URGENCY.findIndex((outcome) => countsOf[outcome][high] > countsOf[outcome][low]);
    if (urgency >= 0 && urgency < found.urgency) {
      const counts = countsOf[BY_URGENCY[urgency]];
      Object.assign(found, { urgency, row: bisect(counts, counts[low] + 1, low, high) - 1 });
    }
    low = high + 1;
  }
  return found;
}

/** The bars of one lane; returns how many were drawn. */
function drawLane(pen, lane, top) {
  const shown = inWindow(lane);
  return drawLong(pen, shown, top) + drawShort(pen, shown, top);
}

function drawLong(pen, { long, first, end }, top) {
  let drawn = 0;
  for (let row = durations.next(long, first, end); row < end; row = durations.next(long, row + 1, end)) {
    const left = Math.max(gutter, x(began[row]));
    const right = Math.min(width, x(ended[row]));
    if (right <= left) continue; // it ended before the window; one that it overlaps has not
    pen.fillStyle = colours[outcomes[outcomeOf[row]]];
    const gap = right - left > 3 ? 0.7 : 0; // keeps neighbours apart
    pen.fillRect(left, top, right - left - gap, LANE - 5);
    if (right - left > 42) label(pen, row, left, right, top);
    drawn++;
  }
  return drawn;
}

/** Rows that begin in the same pixel and are shorter than it are one column, drawn over the bars in that pixel. */
function drawShort(pen, shown, top) {
  let drawn = 0;
  for (let row = shown.firstShort, next; row < shown.end; row = next) {
    const pixel = pixelOf(row);
    next = bisect(began, timeAt(pixel + 1), row + 1, shown.end);
    const found = shortOnes(shown, row, next);
    if (!found.size) continue;
    const outcome = outcomes[outcomeOf[found.row]];
    pen.fillStyle = colours[outcome];
    // The more of the pixel they take, the more solid the column; but urgent outcomes are always solid.
    pen.globalAlpha = outcome === "succeeded" ? Math.min(1, 0.45 + 0.55 * found.work / shown.long) : 1;
    pen.fillRect(pixel, top, 1, LANE - 5);
    pen.globalAlpha = 1;
    drawn++;
  }
  return drawn;
}

function label(pen, row, left, right, top) {
  if (LANE < 18) return;
  pen.fillStyle = outcomes[outcomeOf[row]] === "retried" ? colours["ink-on-retried"] : colours.ink;
  write(pen, labelOf(row), left + 6, top + (LANE - 5) / 2 + 1, right - left - 12);
}

const nameOf = (row) => `${data.functions[rows.function[row]].function}(${rows.arguments[row]})`;
const labelOf = (row) => (data.functions.length === 1 && rows.arguments[row]) || nameOf(row); // the name is the same for all

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
  if (workers.length < lanes.length) {
    pen.fillStyle = colours.soft;
    pen.fillRect(0, Math.round(workers.length * LANE + 2 - scrolled), width, 1); // devices are below
  }
  drawLinks(pen, scrolled);
  if (selected >= 0) outline(pen, selected, scrolled);
  pen.fillStyle = colours.line;
  pen.fillRect(gutter - 1, 0, 1, height);
  return drawn;
}

/** An arrow from each call to those that needed its result. */
function drawLinks(pen, scrolled) {
  const mine = (linksOf.get(selected) || []).slice(0, MOST_LINKS);
  const others = allLinks.length > MOST_LINKS ? [] : allLinks;
  pen.save();
  pen.beginPath();
  pen.rect(gutter, 0, width - gutter, lanes.length * LANE);
  pen.clip();
  for (const link of others) if (!mine.includes(link)) arrow(pen, link, scrolled, colours.soft, 1);
  for (const link of mine) arrow(pen, link, scrolled, colours.text, 2);
  pen.restore();
}

function arrow(pen, [needed, needing], scrolled, colour, weight) {
  const [left, right] = [x(ended[needed]), x(began[needing])];
  if (Math.max(left, right) < gutter || Math.min(left, right) > width) return;
  const [from, to] = [needed, needing].map((row) => laneOf(row) * LANE + 5 + (LANE - 5) / 2 - scrolled);
  const bend = Math.max(12, Math.abs(right - left) / 2);
  Object.assign(pen, { strokeStyle: colour, fillStyle: colour, lineWidth: weight });
  pen.beginPath();
  pen.moveTo(left, from);
  pen.bezierCurveTo(left + bend, from, right - bend, to, right - 4, to);
  pen.stroke();
  pen.beginPath();
  pen.moveTo(right, to);
  pen.lineTo(right - 6, to - 3.5);
  pen.lineTo(right - 6, to + 3.5);
  pen.fill();
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
    follow();
    // For programs that inspect the page, such as tests.
    Object.assign(chart.dataset, { drawn, frames: 1 + Number(chart.dataset.frames || 0), from: view.from, to: view.to });
  });
}
