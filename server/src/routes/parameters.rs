//! Parameters that routes take, each described once.

/// What values a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// Part of the path.
    Path,
    /// A whole number from 0.
    Count,
    /// Unix seconds with a fraction, or RFC 3339.
    Time,
    /// Seconds, or a duration like `1h30m`.
    Duration,
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text, as often as wanted.
    Many,
}

/// A parameter of the query string or of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub kind: Kind,
    /// Whether it must be there.
    pub required: bool,
    /// What it does, with its default.
    pub help: &'static str,
}

const fn optional(name: &'static str, kind: Kind, help: &'static str) -> Parameter {
    Parameter {
        name,
        kind,
        required: false,
        help,
    }
}

const fn required(name: &'static str, kind: Kind, help: &'static str) -> Parameter {
    Parameter {
        name,
        kind,
        required: true,
        help,
    }
}

pub(super) const QUERY: Parameter = required("query", Kind::Text, "A PromQL expression.");
pub(super) const TIME: Parameter = optional("time", Kind::Time, "When to evaluate; default now.");
pub(super) const START: Parameter = required("start", Kind::Time, "The first step.");
pub(super) const END: Parameter = required("end", Kind::Time, "No step is later.");
pub(super) const STEP: Parameter = required(
    "step",
    Kind::Duration,
    "From step to step, above 0; at most 11,000 steps.",
);
pub(super) const TIMEOUT: Parameter = optional(
    "timeout",
    Kind::Duration,
    "How long it may take; can only shorten the server's own limit.",
);
pub(super) const LIMIT: Parameter = optional(
    "limit",
    Kind::Count,
    "The most elements that are answered; 0 for all. A shortened answer bears a warning.",
);
pub(super) const LOOKBACK: Parameter = optional(
    "lookback_delta",
    Kind::Duration,
    "How far back an instant selector looks; default the server's.",
);
pub(super) const STATS: Parameter = optional(
    "stats",
    Kind::Text,
    "`true` adds statistics; `all` also those of each step, with promql-per-step-stats.",
);
pub(super) const AS_OF: Parameter = optional(
    "as_of",
    Kind::Time,
    "Answer with the metrics as they were known then; as far back as as_of_retention.",
);
pub(super) const NO_CACHE: Parameter =
    optional("nocache", Kind::Flag, "Evaluate all; default `false`.");
pub(super) const MATCH: Parameter = optional(
    "match[]",
    Kind::Many,
    "Selectors of series; each needs a matcher that refuses the empty string.",
);
pub(super) const MATCH_REQUIRED: Parameter = required("match[]", Kind::Many, MATCH.help);
pub(super) const FROM: Parameter = optional("start", Kind::Time, "Default: the beginning of time.");
pub(super) const UNTIL: Parameter = optional("end", Kind::Time, "Default: the end of time.");
pub(super) const LABEL_NAME: Parameter = required(
    "name",
    Kind::Path,
    "A label's name; `U__` escapes what a path cannot hold.",
);
pub(super) const QUERY_ID: Parameter =
    required("id", Kind::Path, "A query's number in `system.queries`.");
pub(super) const PIPELINE: Parameter =
    optional("pipeline", Kind::Text, "Only runs of this pipeline.");
pub(super) const RUN_STATE: Parameter = optional(
    "state",
    Kind::Choice(&[
        "queued",
        "running",
        "succeeded",
        "failed",
        "cancelled",
        "lost",
        "missed",
    ]),
    "Only runs in this state.",
);
pub(super) const RUNS_FROM: Parameter = optional(
    "start",
    Kind::Time,
    "Only runs that were heard of at or after this time; without it, those that are in memory.",
);
pub(super) const RUNS_UNTIL: Parameter = optional(
    "end",
    Kind::Time,
    "Only runs that began at or before this time.",
);
pub(super) const RUNS_LIMIT: Parameter = optional(
    "limit",
    Kind::Count,
    "The most runs that are answered, default 100, at most 10,000; 0 for that.",
);
pub(super) const ONE_RUN: Parameter = optional("run", Kind::Text, "Only the run of this id.");
pub(super) const RUN_ID: Parameter = required(
    "id",
    Kind::Path,
    "A run's id, 1 to 256 bytes; to read it, its trace id will do.",
);
pub(super) const INDEX: Parameter = required(
    "index",
    Kind::Path,
    "Becomes the label `index` of the stream.",
);
pub(super) const ELASTIC_PAGE: Parameter = required("page", Kind::Path, "`_bulk` or another page.");
pub(super) const MSG_FIELD: Parameter = optional(
    "_msg_field",
    Kind::Text,
    "Members that hold the message, the first that is there.",
);
pub(super) const TIME_FIELD: Parameter = optional(
    "_time_field",
    Kind::Text,
    "Members that hold the time, the first that is there.",
);
pub(super) const STREAM_FIELDS: Parameter = optional(
    "_stream_fields",
    Kind::Text,
    "Members that become labels of the stream, with commas between.",
);
pub(super) const IGNORE_FIELDS: Parameter =
    optional("ignore_fields", Kind::Text, "Members that are passed over.");
pub(super) const EXTRA_FIELDS: Parameter = optional(
    "extra_fields",
    Kind::Text,
    "Further labels: `name=value`, with commas between.",
);
pub(super) const METRIC: Parameter = optional("metric", Kind::Text, "Only this metric.");
pub(super) const LIMIT_METRICS: Parameter =
    optional("limit", Kind::Count, "The most metrics; 0 for all.");
pub(super) const LIMIT_PER_METRIC: Parameter = optional(
    "limit_per_metric",
    Kind::Count,
    "The most entries of a metric; 0 for all.",
);
pub(super) const TOP: Parameter = optional(
    "limit",
    Kind::Count,
    "Length of each list, 1 to 10000; default 10.",
);
pub(super) const SKIP_HEAD: Parameter = optional(
    "skip_head",
    Kind::Flag,
    "Leave out what is in no segment yet.",
);
pub(super) const BACKUP_TO: Parameter =
    required("to", Kind::Text, "Absolute path on the server's machine.");
pub(super) const READ_BACK: Parameter = optional(
    "read_back",
    Kind::Choice(&["all", "copied", "ends"]),
    "What is read again and compared; default `all`.",
);
pub(super) const RATE: Parameter = optional(
    "rate",
    Kind::Text,
    "Bytes a second, such as 50MiB; default half of the time.",
);
pub(super) const PROGRESS: Parameter = optional(
    "progress",
    Kind::Flag,
    "Answer with lines of JSON: how far it has got now and then, at the end the usual answer.",
);
pub(super) const GROUP: Parameter = required(
    "group",
    Kind::Path,
    "`job/<job>{/<label>/<value>}`; `@base64` after a name for values that a path cannot hold.",
);
pub(super) const TARGET_STATE: Parameter = optional(
    "state",
    Kind::Choice(&["any", "active", "dropped"]),
    "Which targets; default `any`.",
);
pub(super) const SCRAPE_POOL: Parameter =
    optional("scrapePool", Kind::Text, "Only this pool (job).");
pub(super) const SCRAPE_POOL_REQUIRED: Parameter = required("scrapePool", Kind::Text, "The pool.");
pub(super) const DISCOVERED_LABELS: Parameter = required(
    "labels",
    Kind::Text,
    "A label set before relabelling, as a JSON object.",
);
pub(super) const MATCH_TARGET: Parameter = optional(
    "match_target",
    Kind::Text,
    "A selector over the targets' labels; default all targets.",
);
pub(super) const RULE_TYPE: Parameter = optional(
    "type",
    Kind::Choice(&["alert", "record"]),
    "Only alerting or only recording rules.",
);
pub(super) const RULE_NAME: Parameter =
    optional("rule_name[]", Kind::Many, "Only rules of these names.");
pub(super) const RULE_GROUP: Parameter =
    optional("rule_group[]", Kind::Many, "Only groups of these names.");
pub(super) const RULE_FILE: Parameter = optional("file[]", Kind::Many, "Only these files.");
pub(super) const EXCLUDE_ALERTS: Parameter =
    optional("exclude_alerts", Kind::Flag, "Leave active alerts out.");
pub(super) const GROUP_LIMIT: Parameter =
    optional("group_limit", Kind::Count, "The most groups of an answer.");
pub(super) const GROUP_NEXT_TOKEN: Parameter = optional(
    "group_next_token",
    Kind::Text,
    "Where the answer before this one ended; needs `group_limit`.",
);
pub(super) const OPENAPI_VERSION: Parameter = optional(
    "openapi_version",
    Kind::Choice(&["3.1", "3.2"]),
    "Version of the description language; default 3.1.",
);
pub(super) const NAME_PATTERN: Parameter = optional(
    "metric_name_pattern",
    Kind::Text,
    "A regular expression that the whole name must match.",
);
pub(super) const LABEL: Parameter = required("label", Kind::Text, "The label.");
pub(super) const SEARCH: Parameter = optional(
    "search[]",
    Kind::Many,
    "What is looked for, at most 32; what matches one of them is found. Default: everything.",
);
pub(super) const FUZZ_THRESHOLD: Parameter = optional(
    "fuzz_threshold",
    Kind::Count,
    "How alike a match must be, 0 to 100; default 0.",
);
pub(super) const FUZZ_ALGORITHM: Parameter = optional(
    "fuzz_alg",
    Kind::Choice(&["subsequence", "jarowinkler"]),
    "How likeness is measured; default `subsequence`.",
);
pub(super) const CASE_SENSITIVE: Parameter = optional(
    "case_sensitive",
    Kind::Flag,
    "Whether case counts; default `true`.",
);
pub(super) const INCLUDE_SCORE: Parameter = optional(
    "include_score",
    Kind::Flag,
    "Add how well each result matches; default `false`.",
);
pub(super) const INCLUDE_METADATA: Parameter = optional(
    "include_metadata",
    Kind::Flag,
    "Add type, help and unit; default `false`.",
);
pub(super) const SORT_BY: Parameter = optional(
    "sort_by",
    Kind::Choice(&["alpha", "score"]),
    "Order of the results; default `alpha`. `score` needs `search[]`.",
);
pub(super) const SORT_DIRECTION: Parameter = optional(
    "sort_dir",
    Kind::Choice(&["asc", "dsc"]),
    "Direction of `sort_by=alpha`; default `asc`.",
);
pub(super) const SEARCH_START: Parameter = optional("start", Kind::Time, "Default: an hour ago.");
pub(super) const SEARCH_END: Parameter = optional("end", Kind::Time, "Default: now.");
pub(super) const SEARCH_LIMIT: Parameter =
    optional("limit", Kind::Count, "The most results; default 100.");
pub(super) const BATCH_SIZE: Parameter =
    optional("batch_size", Kind::Count, "Results of a line; default 100.");

pub(super) const DATABASE: Parameter =
    optional("db", Kind::Text, "Becomes the label `db`; default none.");
pub(super) const BUCKET: Parameter = optional("bucket", Kind::Text, "The same, by its newer name.");
pub(super) const PRECISION: Parameter = optional(
    "precision",
    Kind::Choice(&["n", "ns", "u", "us", "ms", "s", "m", "h"]),
    "Unit of the times; default `ns`.",
);
pub(super) const VERBOSE: Parameter = optional("verbose", Kind::Flag, "Answer with the version.");
pub(super) const STATEMENT: Parameter = required(
    "q",
    Kind::Text,
    "`CREATE DATABASE …` or `SHOW DATABASES`; there is no InfluxQL.",
);
pub(super) const LOGQL: Parameter = required("query", Kind::Text, "A LogQL expression.");
pub(super) const LOKI_TIME: Parameter = optional(
    "time",
    Kind::Text,
    "Nanoseconds, seconds with a fraction, or RFC 3339; default now.",
);
pub(super) const LOKI_START: Parameter = optional(
    "start",
    Kind::Text,
    "Nanoseconds, seconds with a fraction, or RFC 3339; default `since` before the end.",
);
pub(super) const LOKI_END: Parameter = optional("end", Kind::Text, "As `start`; default now.");
pub(super) const SINCE: Parameter = optional(
    "since",
    Kind::Duration,
    "How far before the end; default 1 h, of listings 6 h.",
);
pub(super) const LOKI_STEP: Parameter = optional(
    "step",
    Kind::Duration,
    "From step to step; default a 250th of the range, at least 1 s.",
);
pub(super) const INTERVAL: Parameter = optional(
    "interval",
    Kind::Duration,
    "Lines are at least so far apart.",
);
pub(super) const LINES: Parameter = optional("limit", Kind::Count, "The most lines; default 100.");
pub(super) const DIRECTION: Parameter = optional(
    "direction",
    Kind::Choice(&["backward", "forward"]),
    "Which lines come first; default backward.",
);
pub(super) const STREAMS: Parameter = optional(
    "query",
    Kind::Text,
    "A stream selector; default all streams.",
);

pub(super) const TRACE_ID: Parameter = required(
    "id",
    Kind::Path,
    "A trace's id: up to 32 hexadecimal digits, leading zeros may be left out.",
);
pub(super) const SERVICE_IN_PATH: Parameter =
    required("service", Kind::Path, "The name of a service.");
pub(super) const SERVICE: Parameter = optional(
    "service",
    Kind::Text,
    "The service of the span (`service.name`).",
);
pub(super) const SERVICE_REQUIRED: Parameter = required("service", Kind::Text, SERVICE.help);
pub(super) const SERVICES: Parameter = required("service", Kind::Many, "The services.");
pub(super) const OPERATION: Parameter = optional("operation", Kind::Text, "The name of the span.");
pub(super) const TAGS: Parameter = optional(
    "tags",
    Kind::Text,
    "`{\"key\":\"value\"}`: what the span has as attribute, on its resource, scope or an event.",
);
pub(super) const TAG: Parameter = optional("tag", Kind::Many, "`key:value`, as `tags`.");
pub(super) const START_US: Parameter = optional(
    "start",
    Kind::Count,
    "When the span began at the earliest, microseconds since the epoch; default two days before the end.",
);
pub(super) const END_US: Parameter = optional(
    "end",
    Kind::Count,
    "When the span began at the latest, microseconds since the epoch; default now.",
);
pub(super) const LOOKBACK_SEARCH: Parameter = optional(
    "lookback",
    Kind::Text,
    "`2h`, `7d`: how far before the end, if there is no start.",
);
pub(super) const MIN_DURATION: Parameter = optional(
    "minDuration",
    Kind::Text,
    "`1.2s`, `300ms`, `20us`: how long the span took.",
);
pub(super) const MAX_DURATION: Parameter =
    optional("maxDuration", Kind::Text, "The longest that the span took.");
pub(super) const TRACES: Parameter = optional(
    "limit",
    Kind::Count,
    "The most traces; default 100, at most 100,000.",
);
pub(super) const TRACE_IDS: Parameter =
    optional("traceID", Kind::Many, "These traces instead of a search.");
pub(super) const RAW: Parameter = optional(
    "raw",
    Kind::Flag,
    "As stored: ids as they came, no warnings; default `false`.",
);
pub(super) const SPAN_KIND: Parameter = optional(
    "spanKind",
    Kind::Text,
    "`server`, `client`, `producer`, `consumer` or `internal`; default all.",
);
pub(super) const SPAN_KIND_V3: Parameter = optional("span_kind", Kind::Text, SPAN_KIND.help);
pub(super) const SPAN_KINDS: Parameter = optional(
    "spanKind",
    Kind::Many,
    "Kinds of spans that count; default `server`.",
);
pub(super) const END_TS: Parameter = optional(
    "endTs",
    Kind::Count,
    "Milliseconds since the epoch; default now.",
);
pub(super) const LOOKBACK_MS: Parameter = optional(
    "lookback",
    Kind::Count,
    "Milliseconds before the end; default a day, of metrics an hour.",
);
pub(super) const STEP_MS: Parameter = optional(
    "step",
    Kind::Count,
    "Milliseconds from step to step; default 5,000.",
);
pub(super) const RATE_PER: Parameter = optional(
    "ratePer",
    Kind::Count,
    "Milliseconds that each step looks back; default 600,000.",
);
pub(super) const QUANTILE: Parameter = required("quantile", Kind::Text, "0 to 1.");
pub(super) const GROUP_BY_OPERATION: Parameter = optional(
    "groupByOperation",
    Kind::Flag,
    "One series per operation; default `false`.",
);
pub(super) const V3_SERVICE: Parameter = optional("query.service_name", Kind::Text, SERVICE.help);
pub(super) const V3_OPERATION: Parameter =
    optional("query.operation_name", Kind::Text, OPERATION.help);
pub(super) const V3_START: Parameter = required(
    "query.start_time_min",
    Kind::Text,
    "RFC 3339: when the span began at the earliest.",
);
pub(super) const V3_END: Parameter = required(
    "query.start_time_max",
    Kind::Text,
    "RFC 3339: when the span began at the latest.",
);
pub(super) const V3_DURATION_MIN: Parameter =
    optional("query.duration_min", Kind::Text, MIN_DURATION.help);
pub(super) const V3_DURATION_MAX: Parameter =
    optional("query.duration_max", Kind::Text, MAX_DURATION.help);
pub(super) const V3_DEPTH: Parameter = optional("query.search_depth", Kind::Count, TRACES.help);
pub(super) const V3_ATTRIBUTES: Parameter = optional("query.attributes", Kind::Text, TAGS.help);

pub(super) const TRACEQL: Parameter = optional("q", Kind::Text, "A TraceQL query; default `{}`.");
pub(super) const TRACEQL_METRICS: Parameter = required("q", Kind::Text, "A TraceQL metrics query.");
pub(super) const TEMPO_TAGS: Parameter = optional(
    "tags",
    Kind::Text,
    "Without `q`: `key=value` pairs that a span has, in logfmt.",
);
pub(super) const TEMPO_MIN_DURATION: Parameter = optional(
    "minDuration",
    Kind::Text,
    "Without `q`: how long the trace took.",
);
pub(super) const TEMPO_MAX_DURATION: Parameter = optional(
    "maxDuration",
    Kind::Text,
    "Without `q`: the longest that the trace took.",
);
pub(super) const TEMPO_LIMIT: Parameter = optional(
    "limit",
    Kind::Count,
    "The most traces; default 20, at most 10,000.",
);
pub(super) const SPSS: Parameter = optional(
    "spss",
    Kind::Count,
    "Spans shown per spanset; default 3, 0 for all.",
);
pub(super) const TEMPO_START: Parameter =
    optional("start", Kind::Time, "When a span began at the earliest.");
pub(super) const TEMPO_END: Parameter =
    optional("end", Kind::Time, "When a span began at the latest.");
pub(super) const TEMPO_STEP: Parameter = optional(
    "step",
    Kind::Duration,
    "From step to step; default a 120th of the range, at least 1 s.",
);
pub(super) const EXEMPLARS: Parameter = optional(
    "exemplars",
    Kind::Count,
    "The most exemplars; default 100, at most 1,000.",
);
pub(super) const SCOPE: Parameter = optional(
    "scope",
    Kind::Choice(&[
        "resource",
        "span",
        "intrinsic",
        "event",
        "link",
        "instrumentation",
    ]),
    "Only keys of this scope.",
);
pub(super) const FILTER: Parameter = optional(
    "q",
    Kind::Text,
    "Only spans that this filter may take; what is no query narrows nothing.",
);
pub(super) const TEMPO_NAMES: Parameter =
    optional("limit", Kind::Count, "The most of a scope; default all.");
pub(super) const TAG_KEY: Parameter = required(
    "tag",
    Kind::Path,
    "The key of an attribute, or an intrinsic.",
);
pub(super) const TAG_FIELD: Parameter = required(
    "tag",
    Kind::Path,
    "A field of TraceQL: `resource.service.name`, `.http.status`, `name`.",
);

pub(super) const SERVICE_NAME: Parameter =
    required("serviceName", Kind::Text, "The name of a service.");
pub(super) const ZIPKIN_SERVICE: Parameter =
    optional("serviceName", Kind::Text, "The service of the span.");
pub(super) const SPAN_NAME: Parameter = optional("spanName", Kind::Text, "The name of the span.");
pub(super) const REMOTE_SERVICE_NAME: Parameter = optional(
    "remoteServiceName",
    Kind::Text,
    "The other side, as the span says (`peer.service`).",
);
pub(super) const ANNOTATION_QUERY: Parameter = optional(
    "annotationQuery",
    Kind::Text,
    "`error and http.method=GET`: attributes with values, or names of attributes or events.",
);
pub(super) const MIN_DURATION_US: Parameter = optional(
    "minDuration",
    Kind::Count,
    "Microseconds that the span took at least.",
);
pub(super) const MAX_DURATION_US: Parameter = optional(
    "maxDuration",
    Kind::Count,
    "Microseconds that the span took at most.",
);
pub(super) const ZIPKIN_LIMIT: Parameter = optional(
    "limit",
    Kind::Count,
    "The most traces; default 10, at most 10,000.",
);
pub(super) const ZIPKIN_IDS: Parameter =
    required("traceIds", Kind::Text, "Ids with commas between.");
pub(super) const KEY: Parameter = required("key", Kind::Text, "The key of an attribute.");
pub(super) const EXPORT_SIGNAL: Parameter = optional(
    "signal",
    Kind::Choice(&["metrics", "logs", "spans"]),
    "Which rows; default metrics.",
);
pub(super) const EXPORT_FORMAT: Parameter = optional(
    "format",
    Kind::Choice(&["parquet", "csv", "jsonl"]),
    "The file's format; default parquet.",
);
pub(super) const PAGE_FILE: Parameter = required("file", Kind::Path, "The file's name.");
pub(super) const LOG_SELECTOR: Parameter = required(
    "query",
    Kind::Text,
    "A selector of log streams, with or without filters.",
);
pub(super) const TARGET_LABELS: Parameter = optional(
    "targetLabels",
    Kind::Text,
    "The labels that are told apart, with commas between; default those of the selector.",
);
pub(super) const AGGREGATE_BY: Parameter = optional(
    "aggregateBy",
    Kind::Choice(&["series", "labels"]),
    "Add up by combinations of labels, or by the labels' names alone; default series.",
);
pub(super) const VOLUMES: Parameter =
    optional("limit", Kind::Count, "The most volumes; default 100.");
pub(super) const FIELD_LINES: Parameter = optional(
    "line_limit",
    Kind::Count,
    "How many of the last lines are looked at; default 1000.",
);
pub(super) const FIELDS: Parameter = optional(
    "limit",
    Kind::Count,
    "The most fields or values; default and at most 1000.",
);
pub(super) const FIELD_NAME: Parameter = required("name", Kind::Path, "A field's name.");
pub(super) const PATTERN_STEP: Parameter = optional(
    "step",
    Kind::Duration,
    "Lines are counted in pieces of this length; at least 10 s.",
);
pub(super) const LOGQL_LINES: Parameter =
    required("query", Kind::Text, "A LogQL expression that gives lines.");
pub(super) const DELAY_FOR: Parameter = optional(
    "delay_for",
    Kind::Count,
    "Seconds for which lines are held back for others to come, 0 to 5; default 0.",
);
pub(super) const DELETE_START: Parameter = required(
    "start",
    Kind::Text,
    "Nanoseconds, seconds with a fraction, or RFC 3339.",
);
pub(super) const REQUEST_ID: Parameter =
    required("request_id", Kind::Text, "A request of the list.");
