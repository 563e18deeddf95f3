// The query page: state in the address, so that a link shows the same question again.

import * as api from "/ui/api.js";
import { plot } from "/ui/plot.js";
import { element, lines, seriesTable, table } from "/ui/table.js";
import { traceList, waterfall } from "/ui/trace.js";
import { isTraceId, linesOfTable, roundStep } from "/ui/values.js";

const get = (id) => document.getElementById(id);

const LANGUAGES = {
  promql: {
    help: "Metrics, as Prometheus answers it.",
    examples: ({ metrics }) => {
      const counter = metrics.find((name) => name.endsWith("_total"));
      const gauge = metrics.find((name) => !/_(total|bucket|sum|count|created)$/.test(name));
      return [counter && `sum(rate(${counter}[5m]))`, gauge, 'count by (__name__) ({__name__!=""})'];
    },
    run: async (asked) => seriesAnswer(await api.promql(asked), asked),
  },
  logql: {
    help: "Log lines and what can be counted of them.",
    examples: ({ services }) => {
      const stream = services[0] === undefined ? '{service_name=~".+"}' : `{service_name=${JSON.stringify(services[0])}}`;
      return [stream, `${stream} |= "error"`, 'sum by (service_name) (count_over_time({service_name=~".+"}[5m]))'];
    },
    run: async (asked) => {
      const data = await api.logql(asked);
      if (data.resultType !== "streams") return seriesAnswer(data, asked);
      const count = data.result.reduce((sum, { values }) => sum + values.length, 0);
      return { text: `${count} lines`, table: (place) => lines(place, data.result) };
    },
  },
  sql: {
    help: "Tables metrics, metric.\"name\", series, logs, events, spans and system.*; the time range above does not apply: write it as WHERE time > now() - interval '1 hour'.",
    examples: () => [
      "SELECT metric, count(*) AS samples FROM metrics GROUP BY metric ORDER BY samples DESC LIMIT 20",
      "SELECT table_schema, table_name FROM information_schema.tables ORDER BY 1, 2",
    ],
    run: async (asked) => {
      const answer = await api.sql(asked);
      const drawn = linesOfTable(answer);
      const result = { text: `${answer.rows.length} rows`, table: (place) => table(place, answer.columns, answer.rows) };
      if (drawn) {
        const times = drawn.flatMap(({ points }) => points.map(([at]) => at));
        const window = { start: times.reduce((a, b) => Math.min(a, b)), end: times.reduce((a, b) => Math.max(a, b)), step: 0 };
        result.plot = (place) => plot(place, drawn, window);
      }
      return result;
    },
  },
  traces: {
    help: "A trace by its id, or TraceQL to find traces.",
    examples: () => ["{ status = error }", "{ duration > 1s }", "{ } | count() > 10"],
    run: async (asked) => {
      if (isTraceId(asked.query)) {
        const trace = await api.trace(asked);
        return { text: "", table: (place) => waterfall(place, trace) };
      }
      const traces = await api.traceql(asked);
      return { text: `${traces.length} traces`, table: (place) => traceList(place, traces) };
    },
  },
};

/** A scalar, vector or matrix, of PromQL or LogQL. */
function seriesAnswer({ resultType, result }, { window }) {
  if (resultType === "scalar" || resultType === "string") {
    return { text: resultType, table: (place) => place.append(element("p", result[1])) };
  }
  const series = result.map(({ metric, values, value, histograms, histogram }) => {
    const points = (values ?? (value ? [value] : [])).map(([at, text]) => [at, Number(text)]);
    const last = histograms?.at(-1) ?? histogram;
    const text = points.length || !last ? undefined : `histogram of ${last[1].count}, sum ${last[1].sum}`;
    return { metric, points: points.map(([at, number]) => [at, Number.isNaN(number) ? NaN : number]), text };
  });
  return {
    text: `${series.length} series`,
    plot: (place) => plot(place, series, window),
    table: (place) => seriesTable(place, series),
  };
}

let language = "promql";
let view = "plot";
let answer = null;
let running = null;

function select(group, key, value) {
  for (const tab of document.querySelectorAll(`#${group} [role=tab]`)) {
    tab.setAttribute("aria-selected", String(tab.dataset[key] === value));
  }
}

function chooseLanguage(name) {
  language = name in LANGUAGES ? name : "promql";
  select("languages", "language", language);
  get("help").textContent = LANGUAGES[language].help;
  showExamples();
}

let known = { metrics: [], services: [] };

function showExamples() {
  const buttons = LANGUAGES[language].examples(known).filter(Boolean).map((text) => {
    const button = element("button", text, { type: "button" });
    button.addEventListener("click", () => {
      get("query").value = text;
      ask();
    });
    return button;
  });
  get("examples").replaceChildren(...buttons);
}

/** The range asked for, in seconds since the epoch. */
function rangeAsked() {
  const choice = get("range").value;
  let [start, end] = [0, Date.now() / 1000];
  if (choice === "custom") {
    [start, end] = [Date.parse(get("from").value) / 1000, Date.parse(get("to").value) / 1000];
    if (!(end > start)) throw new api.Refusal("choose a start and an end, the start first");
  } else {
    start = end - Number(choice);
  }
  const typed = get("step").value.trim();
  const step = typed === "" ? roundStep(end - start) : typed;
  return { start, end, step: Number(step) || step };
}

function remember() {
  const state = { language, query: get("query").value };
  for (const id of ["range", "from", "to", "step", "limit", "tenant"]) {
    const value = get(id).value;
    if (value) state[id] = value;
  }
  const hash = `#${new URLSearchParams(state)}`;
  if (hash !== location.hash) history.pushState(null, "", hash);
}

function recall() {
  const state = new URLSearchParams(location.hash.slice(1));
  chooseLanguage(state.get("language") ?? language);
  for (const id of ["query", "range", "from", "to", "step", "limit", "tenant"]) {
    if (state.has(id)) get(id).value = state.get(id);
  }
  get("custom").hidden = get("range").value !== "custom";
  return state.has("query");
}

function say(text, failed = false) {
  get("status").textContent = text;
  get("status").classList.toggle("error", failed);
}

function show() {
  const place = get("answer");
  place.replaceChildren();
  get("views").hidden = !(answer?.plot && answer?.table);
  if (!answer) return;
  const wanted = answer[view] ?? answer.table;
  select("views", "view", wanted === answer.plot ? "plot" : "table");
  wanted(place);
}

async function ask() {
  running?.abort();
  const mine = new AbortController();
  running = mine;
  get("stop").disabled = false;
  remember();
  say("running …");
  const began = performance.now();
  try {
    const asked = {
      query: get("query").value.trim(),
      window: rangeAsked(),
      limit: Math.max(1, Math.floor(Number(get("limit").value)) || 200),
      tenant: get("tenant").value.trim(),
      signal: mine.signal,
    };
    if (!asked.query) throw new api.Refusal("write a query, or take one of the examples");
    const found = await LANGUAGES[language].run(asked);
    if (running !== mine) return;
    answer = found;
    say(`${found.text}${found.text ? ", " : ""}${Math.round(performance.now() - began)} ms`);
    show();
  } catch (error) {
    if (running !== mine) return;
    answer = null;
    show();
    if (error.name === "AbortError") say("stopped");
    else if (error instanceof api.Refusal) say(error.message, true);
    else say(`the server cannot be reached: ${error.message}`, true);
  } finally {
    if (running === mine) {
      running = null;
      get("stop").disabled = true;
    }
  }
}

for (const tab of document.querySelectorAll("#languages [role=tab]")) {
  tab.addEventListener("click", () => {
    chooseLanguage(tab.dataset.language);
    get("query").focus();
  });
}
for (const tab of document.querySelectorAll("#views [role=tab]")) {
  tab.addEventListener("click", () => {
    view = tab.dataset.view;
    show();
  });
}
get("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
get("query").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    ask();
  }
});
get("stop").addEventListener("click", () => running?.abort());
get("range").addEventListener("change", () => {
  get("custom").hidden = get("range").value !== "custom";
});
addEventListener("hashchange", () => recall() && ask());

if (recall()) ask();
known = await api.names({ tenant: get("tenant").value.trim() });
showExamples();
