"use strict";
// The data to draw, and searches for the part of it within a span of time.

const data = JSON.parse(document.getElementById("data").textContent);
const { outcomes, lanes, rows } = data;
const began = Float64Array.from(rows.began);
const ended = Float64Array.from(rows.ended);
const outcomeOf = Uint8Array.from(rows.outcome);
const workers = lanes.filter((lane) => !lane.device); // the rows of devices, which follow, are the same calls again
const size = workers.reduce((sum, lane) => sum + lane.size, 0);

// If several outcomes share a pixel, the first in this list is shown: the one that must not be missed.
const BY_URGENCY = ["failed", "retried", "cancelled", "running", "succeeded", "pending"].map((name) => outcomes.indexOf(name));

const sums = (values) => {
  const result = new Float64Array(values.length + 1);
  values.forEach((value, n) => { result[n + 1] = result[n] + value; });
  return result;
};

// countsOf[outcome][n]: how many of the first n rows have that outcome. workOf[n]: their total microseconds.
const countsOf = outcomes.map((_, outcome) => sums(outcomeOf.map((other) => other === outcome)));
const workOf = sums(ended.map((end, n) => end - began[n]));

// reach[n]: the latest end of the rows of that lane, up to n. Sorted, unlike `ended`, which may not be.
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

/** A tree of the maxima of stretches, to find the next value of a minimum size without looking at all values. */
class Peaks {
  constructor(values) {
    this.size = 1;
    while (this.size < values.length) this.size *= 2;
    this.tree = new Float64Array(2 * this.size).fill(-Infinity); // the children of node n are 2 n and 2 n + 1
    this.tree.set(values, this.size);
    for (let node = this.size - 1; node > 0; node--) this.tree[node] = Math.max(this.tree[2 * node], this.tree[2 * node + 1]);
  }

  /** The first index from `low` on, below `high`, whose value is at least `limit`; `high` if there is none. */
  next(limit, low, high) {
    if (low >= high) return high;
    let node = this.size + low;
    while (this.tree[node] < limit) {
      while (node % 2) node >>= 1; // its sibling comes before it
      if (!node) return high;
      node++;
    }
    while (node < this.size) {
      node *= 2;
      if (this.tree[node] < limit) node++;
    }
    return Math.min(node - this.size, high);
  }

  /** The last index below `high`, from `low` on, whose value is at least `limit`; -1 if there is none. */
  last(limit, low, high) {
    if (low >= high) return -1;
    let node = this.size + high - 1;
    while (this.tree[node] < limit) {
      while (node % 2 === 0) node >>= 1;
      if (node === 1) return -1;
      node--;
    }
    while (node < this.size) {
      node = 2 * node + 1;
      if (this.tree[node] < limit) node--;
    }
    return node - this.size < low ? -1 : node - this.size;
  }
}

const durations = new Peaks(ended.map((end, row) => end - began[row]));
const latest = new Peaks(ended);

const begins = began.slice(0, size).sort();
const ends = ended.slice(0, size).sort();
const sumOfBegins = sums(begins);
const sumOfEnds = sums(ends);

// linksOf.get(row): the pairs of rows, a call and one that needed its result, to which it belongs.
const allLinks = [];
const linksOf = new Map();
for (let n = 0; n < data.links.length; n += 2) {
  const link = data.links.slice(n, n + 2);
  allLinks.push(link);
  for (const row of link) linksOf.get(row)?.push(link) ?? linksOf.set(row, [link]);
}

/** How many microseconds all workers together have worked until a time. */
function workUntil(time) {
  const begun = bisect(begins, time);
  const over = bisect(ends, time);
  return begun * time - sumOfBegins[begun] - (over * time - sumOfEnds[over]);
}
