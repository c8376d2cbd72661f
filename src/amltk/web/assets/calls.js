// The table of calls, of which the source gives one page at a time, and a single call.

const PAGE = 50, PATIENCE = 2000;

const FILTERS = [["", "all"], ["pending", "pending"], ["result", "done"], ["exception,lost", "failed"], ["cancelled", "cancelled"]];

class CallsTable {
  constructor(open) {
    this.open = open;
    this.query = { search: "", states: "", sort: "number", order: "desc", offset: 0, limit: PAGE };
    this.seen = "";
    this.fetch = oneAtATime(() => this.update(), (error) => { this.foot.textContent = `The calls cannot be shown: ${error.message}`; });
    this.search = el("input", { type: "search", placeholder: "Search calls, errors, workers ( / )", "aria-label": "Search calls", maxlength: "200",
      oninput: () => { clearTimeout(this.typing); this.typing = setTimeout(() => this.change({ search: this.search.value }), 200); } });
    this.filters = FILTERS.map(([states, name]) => el("button", { type: "button", "aria-pressed": String(states === ""), onclick: () => this.change({ states }) }, name));
    this.chips = el("div", { class: "chips" });
    this.body = el("tbody");
    this.head = el("thead");
    this.foot = el("p", { class: "soft" });
    const turn = (by) => () => this.change({ offset: Math.max(0, this.query.offset + by * PAGE) });
    this.back = el("button", { type: "button", onclick: turn(-1) }, "‹ Previous");
    this.next = el("button", { type: "button", onclick: turn(1) }, "Next ›");
    this.element = el("section", { class: "card calls", "aria-labelledby": "calls-title" },
      el("header", {}, el("h2", { id: "calls-title", tabindex: "-1" }, "Calls"), el("div", { class: "tools" }, el("div", { class: "group", role: "group", "aria-label": "State" }, this.filters), this.search)),
      this.chips,
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of calls" }, el("table", {}, this.head, this.body)),
      el("footer", {}, this.foot, el("div", { class: "tools" }, this.back, this.next)));
  }

  show(place, data) {
    const moved = this.place !== place;
    this.place = place;
    this.data = data;
    if (moved) { this.measured = false; for (const name of ["task", "error", "worker"]) delete this.query[name]; this.query.offset = 0; }
    const version = `${place} ${data.version} ${JSON.stringify(this.query)}`;
    if (version === this.seen) return;
    const wait = moved ? 0 : Math.max(0, (this.asked ?? 0) + PATIENCE - performance.now());
    if (!this.waiting) this.waiting = setTimeout(() => { this.waiting = null; this.fetch(); }, wait);
  }

  change(given) {
    Object.assign(this.query, { offset: 0 }, given);
    for (const name of ["task", "error", "worker"]) if (this.query[name] === undefined) delete this.query[name];
    if (given.search !== undefined && this.search.value !== given.search) this.search.value = given.search;
    this.filters.forEach((button, n) => button.setAttribute("aria-pressed", String(FILTERS[n][0] === this.query.states)));
    this.fetch();
  }

  async update() {
    this.asked = performance.now();
    this.seen = `${this.place} ${this.data.version} ${JSON.stringify(this.query)}`;
    this.draw(await source.calls(this.place, this.query));
  }

  draw({ count: total, calls }) {
    this.measured ||= calls.some((call) => call.cpu !== null); // once there, the columns stay
    const columns = [["number", "Call"], ["state", "State"], ["task", "Function and arguments"], ["result", "Result or error"], ["duration", "Duration"],
      ...(this.measured ? [["cpu", "CPU time"], ["memory", "Memory"]] : []), ["worker", "Worker"], ["ended", "Ended"]];
    const head = ([name, label]) => {
      const mine = this.query.sort === name, down = this.query.order === "desc";
      return el("th", { class: name, scope: "col", "aria-sort": mine ? (down ? "descending" : "ascending") : null },
        el("button", { type: "button", "data-key": `sort-${name}`, onclick: () => this.change({ sort: name, order: mine && down ? "asc" : "desc" }) }, label, el("span", { class: "arrow", "aria-hidden": "true" }, mine ? (down ? " ↓" : " ↑") : "")));
    };
    fill(this.head, el("tr", {}, columns.map(head)));
    fill(this.body, calls.map((call) => this.row(call)));
    if (!calls.length) fill(this.body, el("tr", {}, el("td", { colspan: String(columns.length), class: "empty" }, this.data.counts && Object.values(this.data.counts).some(Boolean) ? "No such calls." : "No calls yet.")));
    const { offset } = this.query, all = setup.experiments?.[this.place].count;
    const of = all > setup.experiments?.[this.place].calls.length ? `, of ${count(all)} in the experiment; the journal has all of them` : "";
    this.foot.textContent = total ? `${count(offset + 1)} to ${count(offset + calls.length)} of ${counted(total, "call")}${of}` : "";
    this.back.disabled = offset === 0;
    this.next.disabled = offset + calls.length >= total;
    const chips = ["task", "error", "worker"].filter((name) => this.query[name] !== undefined);
    fill(this.chips, chips.map((name) => el("button", { type: "button", class: "chip", onclick: () => this.change({ [name]: undefined }), "aria-label": `Remove the filter ${name} ${this.query[name]}` }, `${name}: ${this.query[name]} ✕`)));
  }

  row(call) {
    const told = call.error !== null ? el("span", { class: "error" }, call.message ? `${call.error}: ${call.message}` : call.error)
      : call.result !== null ? number(call.result) : call.returned ?? "";
    const runs = call.state === "pending" ? this.data.running.find((one) => one.call === call.number && one.began !== null) : undefined;
    return el("tr", { class: kindOf(call.state), onclick: (event) => { if (!event.target.closest("a") && !getSelection().toString()) location.hash = this.open.link(call.number); } },
      el("td", { class: "number" }, el("a", { href: this.open.link(call.number), "data-key": `call-${call.number}` }, count(call.number))),
      el("td", { class: "state" }, badge(runs ? "running" : call.state)),
      el("td", { class: "task" }, el("code", {}, el("b", {}, call.task), call.arguments), call.attempt ? el("span", { class: "soft" }, ` attempt ${call.attempt + 1}`) : null),
      el("td", { class: "result" }, told),
      el("td", { class: "duration" }, runs ? el("span", { class: "soft" }, `${duration(Math.max(0, this.data.until - runs.began))} …`) : duration(call.duration)),
      this.measured ? [el("td", { class: "cpu" }, duration(call.cpu)), el("td", { class: "memory" }, call.memory === null ? "" : bytes(call.memory))] : null,
      el("td", { class: "worker" }, call.worker ?? runs?.worker ?? ""),
      el("td", { class: "ended" }, call.ended === null ? "" : moment(call.ended, this.data.now)));
  }
}

class CallPanel {
  constructor(open) {
    this.open = open;
    this.box = document.getElementById("call");
    // The event comes after the box has closed: by then another call may have been asked for, or be shown already.
    this.box.addEventListener("close", () => { if (!this.box.open) this.open.close(this.shown); });
    this.box.addEventListener("click", (event) => { if (event.target === this.box) this.box.close(); });
  }

  async show(place, number, data) {
    if (number === undefined) { this.number = undefined; this.box.close(); return; }
    this.number = number;
    const close = el("button", { type: "button", "aria-label": "Close", onclick: () => this.box.close() }, "✕");
    const frame = (...children) => fill(this.box, el("header", {}, el("h2", { id: "call-title" }, `Call ${count(number)}`), close), children);
    try {
      const call = await source.call(place, number);
      if (this.number !== number) return;
      frame(...this.parts(call, data));
    } catch (error) {
      frame(el("p", { class: "empty" }, error.message));
    }
    this.shown = number;
    if (!this.box.open) this.box.showModal();
  }

  parts(call, data) {
    const time = (value) => (value === null || value === undefined ? null : `${date(value)} ${clock(value)}`);
    const seconds = call.duration ?? (call.is_running && call.began ? Math.max(0, data.until - call.began) : null);
    const facts = [
      ["State", badge(call.is_running && call.state === "pending" ? "running" : call.state)],
      ["Result", call.result === null || call.result === undefined ? null : number(call.result)],
      ["Duration", seconds === null ? null : duration(seconds)],
      ["Worker", call.worker],
      ["Resources", call.resources],
      ["Devices", call.devices?.join(", ")],
      [call.is_running ? "Memory now" : "Most memory", (call.memory ?? null) === null ? null : bytes(call.memory)],
      [call.is_running ? "CPU time of its worker" : "CPU time", (call.cpu ?? null) === null ? null : duration(call.cpu)],
      ["Attempts before", call.attempt || null],
      ["Submitted", time(call.submitted)], ["Began", time(call.began)], ["Ended", time(call.ended)],
    ].filter(([, told]) => told !== null && told !== undefined && told !== "");
    const numbers = Object.entries(call.numbers ?? {});
    const block = (title, text, note) => text && [el("h3", {}, title, note ? el("span", { class: "soft" }, note) : null), el("pre", { tabindex: "0" }, text)];
    return [
      el("pre", { class: "what" }, el("b", {}, call.task), call.arguments),
      call.error ? el("p", { class: "error" }, call.message ? `${call.error}: ${call.message}` : call.error) : null,
      el("dl", { class: "facts" }, facts.map(([name, told]) => el("div", {}, el("dt", {}, name), el("dd", {}, told)))),
      numbers.length ? el("dl", { class: "facts" }, numbers.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, number(value))))) : null,
      call.after?.length ? el("p", {}, "Needed the results of ", call.after.flatMap((n, at) => [at ? ", " : "", el("a", { href: this.open.link(n) }, `call ${count(n)}`)])) : null,
      ...(numbers.length ? [] : block("Returned", call.returned) || []),
      ...(block("Traceback", call.traceback) || []),
      ...(block("Output", call.output, call.output_cut ? ` the last ${bytes(65536)} of ${bytes(call.output_size)}` : "") || []),
    ];
  }
}
