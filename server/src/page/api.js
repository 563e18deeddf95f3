// What the page asks the server: the same HTTP APIs that Grafana speaks, nothing of its own.

/** An answer that says why there is none. */
export class Refusal extends Error {}

/**
 * The reason in an answer that failed: Prometheus', SQL's and Jaeger's envelopes, or plain text.
 * @param {string} text body of the answer
 * @param {number} status HTTP status
 */
export function reasonOf(text, status) {
  try {
    const body = JSON.parse(text);
    const reason = body.error ?? body.errors?.[0]?.msg ?? body.message;
    if (reason) {
      const at = body.position;
      return at ? `line ${at.line}, column ${at.column}: ${reason}` : String(reason);
    }
  } catch {
    // Not JSON: the text itself is the reason.
  }
  return text.trim() || `the server answered with status ${status}`;
}

/** Asks and reads JSON; `signal` of `asked` ends it early. */
async function call(path, asked, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  if (asked.tenant) headers["X-Scope-OrgID"] = asked.tenant;
  const answer = await fetch(path, { ...options, headers, signal: asked.signal });
  const text = await answer.text();
  if (!answer.ok) throw new Refusal(reasonOf(text, answer.status));
  return JSON.parse(text);
}

function form(fields) {
  return { method: "POST", body: new URLSearchParams(fields) };
}

/** PromQL over the range: `{resultType, result}` of Prometheus. */
export async function promql(asked) {
  const { start, end, step } = asked.window;
  const answer = await call("/api/v1/query_range", asked,
    form({ query: asked.query, start, end, step, limit: asked.limit }));
  return answer.data;
}

/** LogQL over the range, newest first: `{resultType, result}` of Loki. */
export async function logql(asked) {
  const { start, end, step } = asked.window;
  const answer = await call("/loki/api/v1/query_range", asked,
    form({ query: asked.query, start, end, step, limit: asked.limit, direction: "backward" }));
  return answer.data;
}

/** SQL: `{columns: [{name, type}], rows}`. */
export async function sql(asked) {
  return call("/api/v1/sql", asked, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ query: asked.query }),
  });
}

/** A trace by its id, as Jaeger has it. */
export async function trace(asked) {
  const answer = await call(`/jaeger/api/traces/${encodeURIComponent(asked.query)}`, asked);
  return answer.data[0];
}

/** Traces that TraceQL finds, as Tempo lists them. */
export async function traceql(asked) {
  const { start, end } = asked.window;
  const fields = new URLSearchParams({
    q: asked.query, start: Math.floor(start), end: Math.ceil(end), limit: Math.min(asked.limit, 100),
  });
  return (await call(`/tempo/api/search?${fields}`, asked)).traces ?? [];
}

/** Some names of what is stored, for the examples; empty lists where there is nothing. */
export async function names(asked) {
  const list = async (path) => {
    try {
      return (await call(path, asked)).data ?? [];
    } catch {
      return [];
    }
  };
  const [metrics, services] = await Promise.all([
    list("/api/v1/label/__name__/values?limit=200"),
    list("/loki/api/v1/label/service_name/values"),
  ]);
  return { metrics, services };
}
