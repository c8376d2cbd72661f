// Puts the page together, keeps its address up to date, and passes news to its parts.

const overviews = setup.names.map(() => null);
const address = () => new URLSearchParams(location.hash.slice(1));
const chosen = () => Math.min(setup.names.length - 1, Math.max(0, Number(address().get("x")) || 0));
const addressOf = (place, call) => `#${new URLSearchParams({ ...(setup.names.length > 1 ? { x: place } : {}), ...(call === undefined ? {} : { call }) })}`;

const open = {
  link: (call) => addressOf(chosen(), call),
  close: (call) => {
    if (panel.number === call) panel.number = undefined;
    if (address().get("call") === String(call)) location.hash = addressOf(chosen());
  },
};
const choose = (place) => { location.hash = addressOf(place); };

const series = new SeriesChart(open), timelineView = new Timeline(open), callsTable = new CallsTable(open), panel = new CallPanel(open);
const filter = (given) => { callsTable.change({ states: "", search: "", task: undefined, error: undefined, worker: undefined, ...given }); callsTable.element.scrollIntoView({ behavior: "smooth" }); };

const parts = Object.fromEntries(["briefs", "hero", "running", "failures", "tasks", "workers", "sessions"].map((name) => [name, el("div", { class: `slot-${name}` })]));
const connection = el("span", { class: "connection" });
const app = document.getElementById("app");

const build = () => {
  fill(app,
    el("header", { class: "strip" }, el("span", { class: "brand" }, "amltk"), connection),
    setup.names.length > 1 ? el("nav", { class: "briefs", "aria-label": "Experiments" }, parts.briefs) : null,
    el("main", {}, parts.hero, el("div", { class: "pair" }, parts.running, series.element), timelineView.element,
      el("div", { class: "pair" }, parts.failures, el("div", { class: "stack" }, parts.tasks, parts.workers)), callsTable.element, parts.sessions));
};

const scrolled = (part, made) => { // a list that was scrolled stays where it is
  const before = part.querySelector(".list, .scroll")?.scrollTop ?? 0;
  fill(part, made);
  if (made === null) return;
  const list = part.querySelector(".list, .scroll");
  if (list) list.scrollTop = before;
};

const draw = () => {
  const place = chosen(), data = overviews[place];
  if (setup.names.length > 1) fill(parts.briefs, overviews.map((one, n) => one && brief(one, n, n === place, choose)));
  if (!data) return;
  if (source.live && data.state === "running") { // between two messages time goes on
    const passed = (performance.now() - data.received) / 1000;
    data.now = data.sent + passed;
    data.until = data.now;
  }
  fill(parts.hero, hero(data));
  if (!parts.running.matches(":active")) scrolled(parts.running, runningCard(data, open));
  if (!parts.failures.matches(":active")) scrolled(parts.failures, failuresCard(data, open, filter));
  scrolled(parts.tasks, tasksCard(data, filter));
  scrolled(parts.workers, workersCard(data, filter));
  fill(parts.sessions, sessionsCard(data));
  series.show(data, overviews.filter((other, n) => other && n !== place && other.began !== null));
  timelineView.show(place, data);
  callsTable.show(place, data);
  say(data);
};

let said = "";
const say = (data) => { // for screen readers: only what matters, not each call
  const text = `${data.name}: ${WORDS[data.state] ?? data.state}${data.problem ? `, ${data.problem}` : ""}`;
  if (text !== said) { said = text; document.getElementById("said").textContent = text; }
  document.title = `${failed(data) ? `(${count(failed(data))} failed) ` : ""}${data.total ? `${Math.floor((100 * ended(data)) / data.total)} % · ` : ""}${data.name}`;
};

const route = () => {
  const call = address().get("call");
  draw();
  if (overviews[chosen()]) panel.show(chosen(), call === null || !/^\d{1,15}$/.test(call) ? undefined : Number(call), overviews[chosen()]);
};

let due = false;
const tell = (place, overview) => {
  const isFirst = overviews[place] === null;
  overviews[place] = Object.assign(overview, { received: performance.now(), sent: overview.now });
  if (isFirst && place === chosen()) { build(); route(); return; }
  if (!due) { due = true; requestAnimationFrame(() => { due = false; draw(); }); }
};

const connected = (is) => {
  connection.textContent = source.live ? (is ? "live" : "not connected: is the server still running?") : `report of ${date(overviews[0]?.now ?? 0)} ${clock(overviews[0]?.now ?? 0)}`;
  connection.className = `connection ${is ? "on" : "off"}`;
};

fill(app, el("p", { class: "empty" }, "Reading the journal …"));
source.follow(tell, connected);
if (!source.live) connected(false);
else setInterval(() => { if (!document.hidden && overviews[chosen()]?.state === "running") draw(); }, 1000);
addEventListener("hashchange", route);
addEventListener("click", (event) => { // in a frame of a notebook, such an address would lead out of the frame
  const link = event.target.closest("a[href^='#']:not(.skip)");
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) { event.preventDefault(); location.hash = link.getAttribute("href"); }
});
addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.closest("input, select, dialog")) { event.preventDefault(); callsTable.search.focus(); callsTable.element.scrollIntoView(); }
});
