// Times, numbers and names as a reader wants them. No page, no server: tested by themselves.

/** Seconds between steps so that a range has about 250 of them, a round number. */
export function roundStep(seconds) {
  const wanted = seconds / 250;
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400];
  return steps.find((step) => step >= wanted) ?? Math.ceil(wanted / 86400) * 86400;
}

/** A short form of a number: `1.25 k`, `3.1 M`, `0.00042`. */
export function shortNumber(value) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e15)) return value.toExponential(3);
  for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (size >= unit) {
      const scale = letter === "k" ? 1e3 : unit;
      return `${Number((value / scale).toPrecision(4))} ${letter}`;
    }
  }
  return String(Number(value.toPrecision(5)));
}

/** A duration given in microseconds. */
export function duration(micros) {
  if (micros < 1000) return `${micros} µs`;
  if (micros < 1e6) return `${Number((micros / 1e3).toPrecision(4))} ms`;
  if (micros < 60e6) return `${Number((micros / 1e6).toPrecision(4))} s`;
  const seconds = Math.round(micros / 1e6);
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor((seconds % 3600) / 60);
  return `${hours ? `${hours} h ` : ""}${minutes} min ${seconds % 60} s`;
}

const two = (number) => String(number).padStart(2, "0");

/** Local time of a moment in seconds since the epoch; the date too when `withDate`. */
export function clock(seconds, withDate) {
  const at = new Date(seconds * 1000);
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  if (!withDate) return time;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}

/** Nanoseconds as text to local time with milliseconds: the last six digits do not fit a number. */
export function clockOfNanos(nanos) {
  const millis = Number(BigInt(nanos) / 1000000n);
  return `${clock(millis / 1000, true)}.${String(((millis % 1000) + 1000) % 1000).padStart(3, "0")}`;
}

/** A series as PromQL writes it. */
export function seriesName(labels) {
  const { __name__: name = "", ...others } = labels;
  const pairs = Object.entries(others).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return pairs.length || !name ? `${name}{${pairs.join(", ")}}` : name;
}

/** Round numbers between `low` and `high`, about `count` of them. */
export function ticks(low, high, count) {
  if (!(high > low)) return [low];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) found.push(at);
  return found;
}

/** Whether text is a trace id: hexadecimal digits, 8 to 32. */
export function isTraceId(text) {
  return /^[0-9a-fA-F]{8,32}$/.test(text.trim());
}

/**
 * Lines to draw from a table: the first time column, its numeric columns, and one line per
 * combination of the text columns. `null` when the table has no such shape.
 */
export function linesOfTable({ columns, rows }) {
  const kinds = columns.map(({ type }) => kindOfColumn(type));
  const time = kinds.indexOf("time");
  const numeric = kinds.flatMap((kind, index) => (kind === "number" ? [index] : []));
  if (time < 0 || !numeric.length || !rows.length) return null;
  const texts = kinds.flatMap((kind, index) => (kind === "text" ? [index] : []));
  const lines = new Map();
  for (const row of rows) {
    const at = Date.parse(row[time]) / 1000;
    if (!Number.isFinite(at)) continue;
    const labels = texts.map((index) => [columns[index].name, String(row[index] ?? "")]);
    for (const index of numeric) {
      if (row[index] === null) continue;
      const metric = Object.fromEntries([["__name__", columns[index].name], ...labels]);
      const key = JSON.stringify(metric);
      if (!lines.has(key)) lines.set(key, { metric, points: [] });
      lines.get(key).points.push([at, Number(row[index])]);
    }
  }
  for (const line of lines.values()) line.points.sort((a, b) => a[0] - b[0]);
  return [...lines.values()];
}

/** `time`, `number`, `text` or `other` for a column's type, as `/api/v1/sql` names it. */
export function kindOfColumn(type) {
  if (/^timestamp/i.test(type)) return "time";
  if (/^(u?int|float|decimal)/i.test(type)) return "number";
  if (/^(large)?utf8/i.test(type)) return "text";
  return "other";
}

/**
 * Spans of a trace in the order of a tree, children by start below their parent:
 * `[{span, depth}]`. Spans whose parent is missing stand at the top; cycles end.
 */
export function tree(spans) {
  const byId = new Map(spans.map((span) => [span.spanID, span]));
  const children = new Map();
  const top = [];
  for (const span of spans) {
    const parent = span.references?.find((reference) => reference.refType === "CHILD_OF")?.spanID;
    if (parent && parent !== span.spanID && byId.has(parent)) {
      if (!children.has(parent)) children.set(parent, []);
      children.get(parent).push(span);
    } else {
      top.push(span);
    }
  }
  const byStart = (a, b) => a.startTime - b.startTime;
  const out = [];
  const seen = new Set();
  const walk = (from) => {
    const stack = from.sort(byStart).reverse().map((span) => ({ span, depth: 0 }));
    while (stack.length) {
      const item = stack.pop();
      if (seen.has(item.span)) continue;
      seen.add(item.span);
      out.push(item);
      const below = (children.get(item.span.spanID) ?? []).sort(byStart).reverse();
      for (const span of below) stack.push({ span, depth: item.depth + 1 });
    }
  };
  walk(top);
  // What is left hangs in cycles of parents.
  walk(spans.filter((span) => !seen.has(span)));
  return out;
}
