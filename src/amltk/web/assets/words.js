"use strict";
// Elements, numbers and times in words. Texts of users become text nodes only, never markup.

const el = (tag, given = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, to] of Object.entries(value)) made.style.setProperty(key, to);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
};

const svg = (tag, given = {}, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(given)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

const whole = new Intl.NumberFormat("en");
const count = (n) => whole.format(n);
const counted = (n, what) => `${count(n)} ${what}${n === 1 ? "" : "s"}`;

const number = (value) => {
  if (typeof value === "string") return value; // inf and nan
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return count(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(3).replace("e+", "e");
  return String(Number(value.toPrecision(5)));
};

const duration = (seconds) => {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 0.0995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min${minutes < 10 ? ` ${Math.floor(seconds % 60)} s` : ""}`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
};

const rate = (perSecond) => {
  if (!perSecond) return "0 /s";
  if (perSecond >= 1) return `${count(Number(perSecond.toPrecision(3)))} /s`;
  if (perSecond >= 1 / 60) return `${Number((perSecond * 60).toPrecision(3))} /min`;
  return `${Number((perSecond * 3600).toPrecision(3))} /h`;
};

const bytes = (size) => {
  if (size < 1000) return `${size} B`;
  const unit = Math.min(4, Math.floor(Math.log10(size) / 3));
  return `${Number((size / 1000 ** unit).toPrecision(3))} ${["B", "kB", "MB", "GB", "TB"][unit]}`;
};

const two = (n) => String(n).padStart(2, "0");
const date = (time) => { const d = new Date(time * 1000); return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`; };
const clock = (time) => { const d = new Date(time * 1000); return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`; };
const moment = (time, now) => (date(time) === date(now) ? clock(time) : `${date(time)} ${clock(time).slice(0, 5)}`);

const STATES = {
  pending: "pending", running: "running", result: "done", exception: "failed", lost: "worker lost", cancelled: "cancelled",
};
const isFailed = (state) => state === "exception" || state === "lost";
const kindOf = (state) => (isFailed(state) ? "failed" : state === "result" ? "done" : state);

const badge = (state) => el("span", { class: `badge ${kindOf(state)}` }, STATES[state] ?? state);

/* Replaces the children of an element, but keeps the focus on what has the same key. */
const fill = (parent, ...children) => {
  const key = document.activeElement && parent.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  parent.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  if (key !== undefined) parent.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
};

const tip = {
  box: document.getElementById("tip"),
  show(event, ...children) {
    this.box.replaceChildren(...children);
    this.box.hidden = false;
    const { width, height } = this.box.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, innerWidth - width - 8);
    const top = event.clientY + 18 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 18;
    this.box.style.left = `${Math.max(8, left)}px`;
    this.box.style.top = `${Math.max(8, top)}px`;
  },
  hide() { this.box.hidden = true; },
};
