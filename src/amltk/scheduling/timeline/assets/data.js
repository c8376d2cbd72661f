"use strict";
// What there is to draw, and how what lies within some time is found in it.

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
