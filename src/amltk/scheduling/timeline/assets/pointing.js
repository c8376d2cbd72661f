// Mouse and keyboard.

const tip = find("tip");
const NEAR = 4; // pixels
const isFramed = window.parent !== window;
let isEntered = !isFramed; // whether the wheel zooms; in a notebook it scrolls past the page until a click

let pointer = null; // position over the bars, in the window; null if the row was selected with a key

/** The row at or near a position; -1 if there is none. */
function rowAt(pixel, y) {
  const lane = lanes[Math.floor((y + scroller.scrollTop - 2.5) / LANE)];
  if (!lane || pixel < gutter) return -1;
  const shown = inWindow(lane);
  const column = columnAt(shown, Math.floor(pixel));
  return column.size ? column.row : barAt(lane, shown, pixel);
}

/** The rows drawn as one column in a pixel. */
function columnAt(shown, pixel) {
  const first = pixel > gutter ? bisect(began, timeAt(pixel), shown.firstShort, shown.end) : shown.firstShort;
  return shortOnes(shown, first, bisect(began, timeAt(pixel + 1), first, shown.end));
}

/** The bar in a pixel, the last to begin if there are several; otherwise the nearest row. */
function barAt(lane, shown, pixel) {
  const time = timeAt(Math.floor(pixel) + 0.5);
  const after = bisect(began, time, lane.first, lane.end);
  const bar = latest.last(time, lane.first, after);
  if (bar >= 0) return bar;
  let [best, least] = [-1, NEAR * shown.long];
  for (const row of [after - 1, after]) {
    if (row < lane.first || row >= lane.end) continue;
    const distance = Math.max(began[row] - time, time - ended[row]);
    if (distance < least) [best, least] = [row, distance];
  }
  return best >= 0 && isShort(best, shown) ? columnAt(shown, pixelOf(best)).row : best;
}

const isShort = (row, shown) => ended[row] - began[row] < shown.long;

/** How many rows share a column with a row. */
function crowd(row) {
  const shown = inWindow(lanes[laneOf(row)]);
  return isShort(row, shown) ? columnAt(shown, pixelOf(row)).size : 1;
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
  parts.push(element("div", lane.known ? `${lane.name}, ${at}` : `unknown worker, ${at}`, { className: "soft" }));
  if (rows.used[row]) {
    const [cpu, memory] = rows.used[row];
    const most = memory ? `, at most ${memory < 1e9 ? `${Math.round(memory / 1e6)} MB` : `${(memory / 1e9).toFixed(1)} GB`} of memory` : "";
    parts.push(element("div", `${duration(1e6 * cpu)} of CPU time${most}`, { className: "soft" }));
  }
  if (rows.devices[row] && !lane.device) parts.push(element("div", `with ${rows.devices[row]}`, { className: "soft" }));
  const needed = (linksOf.get(row) || []).filter((link) => link[1] === row).length;
  if (needed) parts.push(element("div", `needed ${needed === 1 ? "the result of another" : `the results of ${number.format(needed)} others`}`, { className: "soft" }));
  const others = crowd(row) - 1;
  if (others > 0) parts.push(element("div", `and ${number.format(others)} more in this pixel: zoom in`, { className: "soft" }));
  tip.replaceChildren(...parts);
}

/** Select a row and show its details at a position of the window; nothing if it is -1. */
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

/** Select nothing until the pointer moves. */
function forget() {
  pointer = null;
  point(-1);
}

/** Bars move below the pointer, and away from their details: update the details after each frame. */
function follow() {
  const box = bars.getBoundingClientRect();
  if (pointer) {
    point(rowAt(pointer.x - box.left, pointer.y - box.top), pointer.x, pointer.y);
  } else if (selected >= 0) {
    const [left, right] = [Math.max(gutter, x(began[selected])), Math.min(width, x(ended[selected]))];
    const top = laneOf(selected) * LANE - scroller.scrollTop;
    const isSeen = left <= right && top > -LANE && top < box.height;
    if (isSeen) point(selected, box.left + (left + right) / 2, box.top + top + LANE);
    else tip.hidden = true;
  }
}

const failures = Array.from(began.keys()).filter((row) => row < size && outcomes[outcomeOf[row]] === "failed");
failures.sort((one, other) => began[one] - began[other]);

/** Show the next or previous failure, from the selected one or from the middle of the view. */
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
  const top = laneOf(row) * LANE;
  if (top < scroller.scrollTop || top + LANE > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top - 2 * LANE;
  pointer = null;
  selected = row;
  show(centre - length / 2, centre + length / 2);
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
      if (!drag) {
        pointer = canvas === bars ? { x: event.clientX, y: event.clientY } : null;
        if (pointer) follow();
        else point(-1);
        return;
      }
      forget();
      scroller.scrollTop -= event.clientY - drag.y;
      move((drag.x - event.clientX) / (width - gutter) * (view.to - view.from));
      drag = { x: event.clientX, y: event.clientY };
    });
    canvas.addEventListener("pointerleave", forget);
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
  document.addEventListener("pointerdown", () => { isEntered = true; });
  window.addEventListener("blur", () => { isEntered = !isFramed; });
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
  if (!isEntered) return;
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
    0: fit, f: () => goToFailure(1), F: () => goToFailure(-1), Escape: forget,
  };
  if (acts[event.key]) acts[event.key]();
  else if (rowsUp && document.activeElement === chart) scroller.scrollTop += rowsUp * 2 * LANE;
  else return;
  event.preventDefault();
}

writeTotals();
writeLegend();
writeFunctions();
if (isFramed) {
  document.documentElement.classList.add("framed");
  find("wheel").textContent = "Click, then wheel";
}
readColours();
listen();
draw();
