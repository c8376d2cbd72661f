// The state of the whole, what runs, what failed, tasks, workers and sessions.

const total = (data) => Object.values(data.counts).reduce((sum, n) => sum + n, 0);
const ended = (data) => total(data) - data.counts.pending;
const failed = (data) => data.counts.exception + data.counts.lost;

const WORDS = { reading: "reading", running: "running", finished: "finished", suspended: "suspended", interrupted: "interrupted", retried: "to be retried", new: "not started", missing: "no journal" };

const pill = (state) => el("span", { class: `pill ${state}` }, WORDS[state] ?? state);

/* When it will end, or how it ended, in a sentence. */
const outlook = (data) => {
  if (data.state === "running") {
    if (data.to_go !== null) return [el("b", {}, `about ${duration(data.to_go)} to go`), `, until ${moment(data.now + data.to_go, data.now)}`];
    if (data.deadline !== null) return [el("b", {}, `${duration(Math.max(0, data.deadline - data.now))} to the timeout`), `, until ${moment(data.deadline, data.now)}`];
    return ["No estimate yet of when it ends"];
  }
  const last = data.latest === null ? "" : ` at ${moment(data.latest, data.now)}`;
  if (data.state === "finished") return [el("b", {}, `Finished`), `${last}${data.reason ? `: ${data.reason}` : ""}`];
  if (data.state === "interrupted") return [el("b", {}, "Its process was killed"), `; the last record is of ${data.latest === null ? "?" : moment(data.latest, data.now)}. Start the program again to continue: what has ended is not computed again.`];
  if (data.state === "suspended") return [el("b", {}, "Suspended"), `${last}${data.reason ? `: ${data.reason}` : ""}. Start the program again to continue.`];
  if (data.state === "retried") return ["Failed calls are forgotten. Start the program again to compute them once more."];
  if (data.state === "reading") return ["Reading the journal"];
  if (data.state === "missing") return ["Waiting for a journal to be written here"];
  return ["Nothing was recorded yet"];
};

const bar = (data) => {
  const all = Math.max(total(data), data.total ?? 0, 1);
  const parts = [["done", data.counts.result], ["failed", failed(data)], ["cancelled", data.counts.cancelled], ["running", data.n_running]];
  return el("div", { class: "bar", role: "progressbar", "aria-label": "Calls that have ended", "aria-valuemin": "0", "aria-valuemax": String(all), "aria-valuenow": String(ended(data)) },
    parts.filter(([, n]) => n).map(([name, n]) => el("i", { class: name, style: { "flex-grow": String(n) }, title: `${count(n)} ${name}` })),
    el("i", { class: "rest", style: { "flex-grow": String(Math.max(0, all - parts.reduce((sum, [, n]) => sum + n, 0))) } }));
};

const tile = (name, told, kind = "") => el("div", { class: kind }, el("dd", {}, told), el("dt", {}, name));

const hero = (data) => {
  const all = data.total ?? total(data), share = all ? (data.total !== null || data.state !== "running" ? ended(data) / all : null) : null;
  const waiting = data.counts.pending - data.n_running;
  return el("section", { class: "card hero", "aria-labelledby": "hero-title" },
    el("header", {}, el("h1", { id: "hero-title" }, data.name), pill(data.state), el("span", { class: "soft path" }, data.folder)),
    data.problem && data.state !== "missing" ? el("p", { class: "problem", role: "alert" }, data.problem) : null,
    data.reading !== null ? el("p", { class: "soft" }, `${Math.floor(data.reading * 100)} % of the journal has been read; the numbers are those of that part`) : null,
    el("div", { class: "progress" },
      el("p", { class: "much" }, el("strong", {}, count(ended(data))), data.total === null && data.state === "running" ? " calls ended" : ` of ${counted(all, "call")}`, share === null ? "" : el("span", { class: "share" }, `${Math.floor(share * 100)} %`)),
      el("p", { class: "when" }, outlook(data))),
    bar(data),
    data.pools.length || data.waits ? el("p", { class: "pools" }, [...data.pools, data.waits].filter(Boolean).flatMap((part, n) => [n ? " · " : "", el("span", {}, part)])) : null,
    el("dl", { class: "tiles" },
      tile("running", count(data.n_running), data.n_running ? "running" : "none"),
      tile("waiting", count(Math.max(0, waiting)), waiting > 0 ? "" : "none"),
      tile("done", count(data.counts.result), data.counts.result ? "done" : "none"),
      tile("failed", count(failed(data)), failed(data) ? "failed" : "none"),
      data.counts.cancelled ? tile("cancelled", count(data.counts.cancelled)) : null,
      tile("throughput", rate(data.rate)),
      tile("elapsed", duration(data.alive) || "0 s"),
      data.began === null ? null : tile("begun", moment(data.began, data.now)),
      data.deadline !== null ? tile("to the timeout", duration(Math.max(0, data.deadline - data.now))) : null));
};

const brief = (data, place, chosen, choose) => el("button", { type: "button", class: "brief", "aria-pressed": String(chosen), "data-key": `brief-${place}`, onclick: () => choose(place) },
  el("span", { class: "top" }, el("b", {}, data.name), pill(data.state)), bar(data),
  el("span", { class: "soft" }, `${count(ended(data))} of ${count(data.total ?? total(data))}${failed(data) ? ` · ${count(failed(data))} failed` : ""}${data.to_go !== null ? ` · ${duration(data.to_go)} to go` : ""}`));

const card = (id, title, note, ...children) => el("section", { class: `card ${id}`, "aria-labelledby": `${id}-title` },
  el("header", {}, el("h2", { id: `${id}-title` }, title), note ? el("span", { class: "soft" }, note) : null), children);

const runningCard = (data, open) => {
  if (!data.running.length && data.state !== "running") return null;
  const was = data.state === "interrupted", longest = Math.max(1, ...data.running.map((call) => (call.began === null ? 0 : data.until - call.began)));
  const rows = data.running.map((call) => {
    const seconds = call.began === null ? null : Math.max(0, (was ? data.latest : data.now) - call.began);
    const facts = [call.worker, ...(call.devices?.length ? call.devices : [call.resources]), call.memory !== undefined && bytes(call.memory), call.attempt ? `attempt ${call.attempt + 1}` : ""].filter(Boolean).join(" · ");
    return el("li", {}, el("a", { href: open.link(call.call), "data-key": `running-${call.call}` },
      el("span", { class: "since" }, seconds === null ? "–" : duration(seconds)),
      el("span", { class: "what" }, el("code", {}, el("b", {}, call.task), call.arguments), el("span", { class: "soft" }, `call ${count(call.call)}${facts ? ` · ${facts}` : ""}`),
        seconds === null ? null : el("i", { class: "meter", style: { width: `${Math.max(1, (100 * seconds) / longest)}%` } }))));
  });
  const more = data.n_running - data.running.length;
  const unknown = data.running.length && data.running.every((call) => call.began === null);
  return card("running", was ? "Running when it was killed" : unknown ? "Waiting or running" : "Running now", more > 0 ? `${count(data.running.length)} of ${count(data.n_running)}` : data.n_workers ? `${data.n_running} on ${counted(data.n_workers, "worker")}` : "",
    rows.length ? el("ol", { class: "list", tabindex: "0", "aria-labelledby": "running-title" }, rows) : el("p", { class: "empty" }, "No call has been running for more than a second."));
};

const failuresCard = (data, open, filter) => {
  const { kinds, count: n } = data.failures;
  return card("failures", "Failures", n ? `${count(n)}, of ${counted(kinds.length, "kind")}` : "",
    kinds.length ? el("ol", { class: "list", tabindex: "0", "aria-labelledby": "failures-title" }, kinds.map((kind) => el("li", {},
      el("span", { class: "since failed" }, `${count(kind.count)}×`),
      el("span", { class: "what" },
        el("span", {}, el("b", { class: "error" }, kind.error), kind.where ? el("span", { class: "soft" }, ` in ${kind.where}`) : null),
        kind.message ? el("code", { class: "message" }, kind.message) : null,
        el("span", { class: "soft" }, "last: ", el("a", { href: open.link(kind.last), "data-key": `kind-${kind.error}-${kind.where}` }, `call ${count(kind.last)}`), ` at ${moment(kind.time, data.now)} · `,
          el("button", { type: "button", class: "link", onclick: () => filter({ error: kind.error, states: "" }) }, "show these calls")))))) : el("p", { class: "empty" }, "No call has failed."));
};

const table = (heads, rows) => el("div", { class: "scroll", tabindex: "0" }, el("table", {}, el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))), el("tbody", {}, rows)));

const tasksCard = (data, filter) => card("tasks", "Functions", "", table(["Function", "done", "failed", "unended", "mean", "longest"], data.tasks.map((task) => el("tr", {},
  el("td", {}, el("button", { type: "button", class: "link", "data-key": `task-${task.name}`, onclick: () => filter({ task: task.name }) }, task.name || "(no name)")),
  [task.counts.result, task.counts.exception + task.counts.lost, task.counts.pending].map((n, at) => el("td", { class: n ? (at === 1 ? "error" : "") : "soft" }, count(n))),
  el("td", {}, duration(task.mean)), el("td", {}, task.computed ? duration(task.longest) : "")))));

const workersCard = (data, filter) => card("workers", "Workers", data.timeline.more ? `the last ${data.workers.length} of ${data.workers.length + data.timeline.more}` : "", data.workers.length
  ? table(["Worker", "calls", "failed", "computed for", "last seen"], data.workers.map((worker) => el("tr", {},
    el("td", {}, el("button", { type: "button", class: "link", "data-key": `worker-${worker.name}`, onclick: () => filter({ worker: worker.name }) }, worker.name), worker.busy ? el("span", { class: "badge running" }, "busy") : null),
    el("td", {}, count(worker.calls)), el("td", { class: worker.failed ? "error" : "soft" }, count(worker.failed)), el("td", {}, duration(worker.seconds)), el("td", {}, moment(worker.last, data.now)))))
  : el("p", { class: "empty" }, "No worker has computed anything yet."));

const sessionsCard = (data) => card("sessions", "Sessions", data.n_sessions > data.sessions.length ? `the last ${data.sessions.length} of ${count(data.n_sessions)}` : "",
  table(["Begun", "Process", "Python", "Program"], data.sessions.toReversed().map((session) => el("tr", {},
    el("td", {}, `${date(session.began)} ${clock(session.began)}`), el("td", {}, session.pid === null ? session.host : `${session.pid}@${session.host}`), el("td", {}, session.python), el("td", { class: "program" }, el("code", {}, session.program))))));
