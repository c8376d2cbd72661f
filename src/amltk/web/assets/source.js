// Where the data come from: the server of this page, or the page itself if it is a report.

const setup = JSON.parse(document.getElementById("setup").textContent);

const ask = async (path) => {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
};

/* A function that does `work`, and does it once more if it was called meanwhile: one request at a time, and the last one counts. */
const oneAtATime = (work, failed) => {
  let busy = false, again = false;
  return async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      do { again = false; await work(); } while (again);
    } catch (error) {
      failed(error);
    } finally {
      busy = false;
    }
  };
};

const server = {
  live: true,
  /* Calls `tell(place, overview)` whenever there is news, and `say(connected)` when the connection changes. A page that is
     hidden does not listen: a browser has only a few connections for each server. */
  follow(tell, say) {
    let stream = null;
    const open = () => {
      if (stream !== null || document.hidden) return;
      stream = new EventSource("api/events");
      stream.onopen = () => say(true);
      stream.onerror = () => say(false);
      stream.onmessage = (message) => tell(Number(message.lastEventId), JSON.parse(message.data));
    };
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) { stream?.close(); stream = null; } else open();
    });
    open();
  },
  calls: (place, query) => ask(`api/${place}/calls?${new URLSearchParams(query)}`),
  call: (place, n) => ask(`api/${place}/calls/${n}`),
  timeline: (place, begin, end) => ask(`api/${place}/timeline?begin=${begin}&end=${end}`),
};

const embedded = {
  live: false,
  follow(tell) { setup.experiments.forEach((experiment, place) => tell(place, experiment.overview)); },
  async calls(place, query) {
    const words = query.search.toLowerCase().split(/\s+/).filter(Boolean);
    const states = query.states ? query.states.split(",") : [];
    const fits = (call) => {
      if (states.length && !states.includes(call.state)) return false;
      for (const name of ["task", "error", "worker"]) if (query[name] !== undefined && call[name] !== query[name]) return false;
      const text = `${call.task}${call.arguments} ${call.error}: ${call.message} ${call.worker} ${call.returned}`.toLowerCase();
      return words.every((word) => text.includes(word) || String(call.number) === word);
    };
    const found = setup.experiments[place].calls.filter(fits);
    const sign = query.order === "asc" ? 1 : -1;
    found.sort((a, b) => {
      const [x, y] = [a[query.sort], b[query.sort]];
      if (x === null || y === null) return (x === null) - (y === null) || b.number - a.number;
      return x < y ? -sign : x > y ? sign : b.number - a.number;
    });
    const offset = Number(query.offset);
    return { count: found.length, calls: found.slice(offset, offset + Number(query.limit)) };
  },
  async call(place, n) {
    const { details, calls } = setup.experiments[place];
    const found = details[n] ?? calls.find((call) => call.number === n);
    if (found === undefined) throw new Error(`call ${n} is not in this report`);
    return found;
  },
  async timeline(place, begin, end) {
    const calls = setup.experiments[place].calls.filter((call) => call.worker && call.began !== null
      && call.began < end && call.began + call.duration > begin);
    const lanes = [...new Set(calls.map((call) => call.worker))];
    return { begin, end, lanes, calls: calls.map((call) => [call.number, call.state, lanes.indexOf(call.worker), call.began, call.duration]) };
  },
};

const source = setup.experiments === undefined ? server : embedded;
