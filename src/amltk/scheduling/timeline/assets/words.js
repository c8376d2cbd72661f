// The texts of the page: totals, legend, functions.

const number = new Intl.NumberFormat("en");

/** A readable duration, from microseconds. */
function duration(us) {
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 1e6) return `${(us / 1000).toPrecision(3)} ms`;
  if (us < 60e6) return `${(us / 1e6).toPrecision(3)} s`;
  const seconds = Math.round(us / 1e6);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const clock = `${String(minutes).padStart(hours ? 2 : 1, "0")}:${String(seconds % 60).padStart(2, "0")}`;
  return hours ? `${hours}:${clock} h` : `${clock} min`;
}

/** A point in time, in microseconds from the start, with the precision of `step`. */
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
  const known = workers.filter((lane) => lane.known).length;
  const facts = [
    ["calls", number.format(total.calls)],
    ["failed", number.format(failed)],
    ["elapsed", duration(data.span)],
    ["computed", duration(1e6 * total.seconds)],
    ["workers", known || "unknown"],
  ];
  if (data.devices) facts.push(["devices", data.devices]);
  if (data.utilisation !== null) facts.push(["utilisation", percent(data.utilisation)]);
  for (const [name, value] of facts) {
    const pair = document.createElement("div");
    pair.append(element("dt", name), element("dd", value));
    find("totals").append(pair);
  }
  find("when").textContent = data.start ? `from ${new Date(data.start).toLocaleString()}` : "nothing was recorded";

  const drawn = total.attempts.reduce((sum, n) => sum + n, 0);
  const notes = [];
  const begun = total.attempts[outcomes.indexOf("pending")] ? "have not begun" : "never began";
  if (drawn > size) notes.push(`${number.format(drawn - size)} ${begun} and are not drawn.`);
  if (data.dropped) notes.push(`${number.format(data.dropped)} earlier ones were not kept.`);
  if (lanes.some((lane) => !lane.known)) {
    const whose = known ? "For some calls the worker is unknown" : "The executor does not report its workers";
    notes.push(`${whose}: bars go from the submission to the end, waiting included.`);
  }
  find("notes").textContent = notes.join(" ");
}

function writeLegend() {
  outcomes.forEach((outcome, n) => {
    const count = data.total.attempts[n];
    if (!count && n > 1) return; // the usual outcomes are always in the legend
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
