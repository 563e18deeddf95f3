// A trace as a tree of bars, and lists of traces.

import { clock, duration, tree } from "/ui/values.js";
import { element, pairs, traceLink } from "/ui/table.js";

/** Spans put into the page. */
const SPANS_MAX = 2000;

function tag(span, key) {
  return span.tags?.find((tag) => tag.key === key)?.value;
}

/** Draws a trace of Jaeger's form. */
export function waterfall(place, trace) {
  const spans = trace.spans;
  const start = spans.reduce((least, span) => Math.min(least, span.startTime), Infinity);
  const end = spans.reduce((most, span) => Math.max(most, span.startTime + span.duration), -Infinity);
  const whole = Math.max(end - start, 1);
  const services = new Set(Object.values(trace.processes).map((process) => process.serviceName));
  place.append(element("p", `${spans.length} spans of ${services.size} services, ${duration(whole)}, from ${clock(start / 1e6, true)}`));
  for (const { span, depth } of tree(spans).slice(0, SPANS_MAX)) {
    const failed = tag(span, "error") === true || tag(span, "otel.status_code") === "ERROR";
    const service = trace.processes[span.processID]?.serviceName ?? "";
    const name = element("span", `${service}: ${span.operationName}`, { class: failed ? "name failed" : "name" });
    name.style.paddingLeft = `${Math.min(depth, 20) * 0.8}rem`;
    const bar = element("span", [], { class: failed ? "bar failed" : "bar" });
    const from = (span.startTime - start) / whole * 100;
    bar.style.left = `${from}%`;
    bar.style.width = `${span.duration / whole * 100}%`;
    const length = element("span", duration(span.duration), { class: "length" });
    if (from < 70) length.style.left = `calc(${from + span.duration / whole * 100}% + .4em)`;
    else length.style.right = `calc(${100 - from}% + .4em)`;
    if (from < 70 && from + span.duration / whole * 100 > 88) length.style.left = `calc(${from}% + .4em)`;
    const row = element("details", element("summary", [name, element("span", [bar, length], { class: "track" })]), { class: "span" });
    row.addEventListener("toggle", () => {
      if (row.open && row.children.length === 1) row.append(detail(span, trace));
    });
    place.append(row);
  }
  if (spans.length > SPANS_MAX) place.append(element("p", `${SPANS_MAX} of ${spans.length} spans are shown.`));
}

function detail(span, trace) {
  const fields = { "span id": span.spanID, start: clock(span.startTime / 1e6, true) };
  for (const { key, value } of span.tags ?? []) fields[key] = value;
  for (const { key, value } of trace.processes[span.processID]?.tags ?? []) fields[`resource ${key}`] = value;
  for (const [index, log] of (span.logs ?? []).entries()) {
    const text = log.fields.map(({ key, value }) => `${key}=${value}`).join(" ");
    fields[`event ${index + 1}`] = `+${duration(log.timestamp - span.startTime)} ${text}`;
  }
  for (const warning of span.warnings ?? []) fields.warning = warning;
  return pairs(fields);
}

/** Traces as Tempo's search lists them. */
export function traceList(place, traces) {
  const head = element("tr", ["trace", "service", "name", "start", "duration"].map((name) => element("th", name)));
  const rows = traces.map((trace) => element("tr", [
    element("td", traceLink(trace.traceID)),
    element("td", trace.rootServiceName ?? ""),
    element("td", trace.rootTraceName ?? ""),
    element("td", clock(Number(BigInt(trace.startTimeUnixNano) / 1000000n) / 1000, true)),
    element("td", duration((trace.durationMs ?? 0) * 1000), { class: "number" }),
  ]));
  place.append(element("div", element("table", [element("thead", head), element("tbody", rows)]), { class: "scroll" }));
}
