// Tables and lists of lines. Text of the store goes in as text, never as HTML.

import { clock, clockOfNanos, isTraceId, kindOfColumn, seriesName } from "/ui/values.js";

/** Rows put into the page; a table of a million rows would stop a browser. */
const ROWS_MAX = 2000;

/** An element with text and children. */
export function element(name, content = [], attributes = {}) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...[content].flat());
  return made;
}

function shown(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** A link that opens a trace on this page. */
export function traceLink(id) {
  const state = new URLSearchParams({ language: "traces", query: id });
  return element("a", id, { href: `#${state}` });
}

/** A table of `columns` (`[{name, type}]`) and `rows` (lists of JSON values). */
export function table(place, columns, rows) {
  const kinds = columns.map(({ type }) => kindOfColumn(type ?? ""));
  const head = element("tr", columns.map(({ name, type }) => element("th", name, { title: type ?? "" })));
  const body = rows.slice(0, ROWS_MAX).map((row) => element("tr", row.map((value, index) => {
    const text = shown(value);
    if (columns[index].name === "trace_id" && isTraceId(text)) return element("td", traceLink(text));
    return element("td", text, kinds[index] === "number" ? { class: "number" } : {});
  })));
  place.append(element("div", element("table", [element("thead", head), element("tbody", body)]), { class: "scroll" }));
  if (rows.length > ROWS_MAX) place.append(element("p", `${ROWS_MAX} of ${rows.length} rows are shown.`));
}

/** A vector or matrix as a table: one row a series, its last value. */
export function seriesTable(place, series) {
  const columns = [{ name: "series" }, { name: "time" }, { name: "value", type: "float64" }, { name: "points", type: "int64" }];
  const rows = series.map(({ metric, points, text }) => {
    const last = points.at(-1);
    return [seriesName(metric), last ? clock(last[0], true) : "", text ?? (last ? last[1] : ""), points.length];
  });
  table(place, columns, rows);
}

/** Log lines, newest first, each with its labels below. */
export function lines(place, streams) {
  const all = streams.flatMap(({ stream, values }) => values.map(([nanos, line]) => ({ nanos: BigInt(nanos), line, stream })));
  all.sort((a, b) => (a.nanos < b.nanos ? 1 : a.nanos > b.nanos ? -1 : 0));
  for (const { nanos, line, stream } of all.slice(0, ROWS_MAX)) {
    const summary = element("summary", [element("time", clockOfNanos(nanos)), line]);
    const row = element("details", summary, { class: "log" });
    row.dataset.level = (stream.detected_level ?? stream.level ?? "").toLowerCase();
    // Labels are made when somebody looks.
    row.addEventListener("toggle", () => {
      if (row.open && row.children.length === 1) row.append(pairs(stream));
    });
    place.append(row);
  }
  if (all.length > ROWS_MAX) place.append(element("p", `${ROWS_MAX} of ${all.length} lines are shown.`));
}

/** Names and values, trace ids as links. */
export function pairs(values) {
  return element("dl", Object.entries(values).flatMap(([name, value]) => {
    const text = shown(value);
    const link = /trace_?id/i.test(name) && isTraceId(text);
    return [element("dt", name), element("dd", link ? traceLink(text) : text)];
  }));
}
