//! The metric families: name, type, unit, help.

/// What a metric family is, in the words of the text exposition format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// Goes up, and begins again at zero after a restart.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Classic histogram: series `_bucket` (label `le`), `_sum` and `_count`.
    Histogram,
    /// Quantiles over a moving window (label `quantile`), and series `_sum` and `_count`.
    Summary,
}

impl MetricKind {
    /// The word after `# TYPE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// Metadata of a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricMetadata {
    /// Family name: the metric name without `_bucket`, `_sum`, `_count` of histograms and summaries.
    pub name: &'static str,
    /// Type.
    pub kind: MetricKind,
    /// Base unit (`seconds`, `bytes`, `dollars`, ...), empty if it counts things.
    pub unit: &'static str,
    /// One sentence.
    pub help: &'static str,
}

macro_rules! families {
    ($($name:ident $kind:ident $unit:literal $help:literal,)*) => {
        /// All families of the story, by name.
        pub(crate) static FAMILIES: &[MetricMetadata] = &[
            $(MetricMetadata {
                name: stringify!($name),
                kind: MetricKind::$kind,
                unit: $unit,
                help: $help,
            },)*
        ];
    };
}

families! {
    cache_hits_total Counter "" "Look-ups answered by the cache.",
    cache_misses_total Counter "" "Look-ups that went to the database.",
    cache_size_bytes Gauge "bytes" "Memory held by the cache.",
    cpu_usage_percent Gauge "percent" "Busy share of all processors of the machine.",
    data_freshness_seconds Gauge "seconds" "Age of the newest loaded data of a place.",
    data_quality_score Gauge "ratio" "Share of checks passed, by dimension, from 0 to 1.",
    data_watermark_timestamp_seconds Gauge "seconds" "Time up to which the data of a place is loaded.",
    dataflow_active_connections Gauge "" "Open database connections.",
    dataflow_queries_total Counter "" "Database queries by entity, operation and status.",
    dataflow_query_duration_seconds Histogram "seconds" "Duration of database queries.",
    disk_read_bytes_total Counter "bytes" "Bytes read from disk.",
    disk_usage_percent Gauge "percent" "Used share of a file system.",
    disk_written_bytes_total Counter "bytes" "Bytes written to disk.",
    memory_usage_percent Gauge "percent" "Used share of the memory of the machine.",
    model_cost_dollars Counter "dollars" "Money spent on model requests.",
    model_latency_seconds Histogram "seconds" "Time until the full answer of a model.",
    model_requests_total Counter "" "Model requests by outcome.",
    model_tokens_used Counter "" "Tokens sent to (input) and received from (output) models.",
    network_receive_bytes_total Counter "bytes" "Bytes received.",
    network_transmit_bytes_total Counter "bytes" "Bytes sent.",
    pipeline_active_count Gauge "" "Runs under way.",
    pipeline_duration_seconds Histogram "seconds" "Duration of finished runs, without their wait in the queue.",
    pipeline_errors_total Counter "" "Failed runs by error code.",
    pipeline_executions_total Counter "" "Finished runs.",
    pipeline_records_processed Counter "" "Rows written, by table.",
    pipeline_success_total Counter "" "Runs that ended well.",
    process_cpu_seconds_total Counter "seconds" "Processor time of the process.",
    process_resident_memory_bytes Gauge "bytes" "Resident memory of the process.",
    process_start_time_seconds Gauge "seconds" "Start of the process since the epoch.",
    queue_depth Gauge "" "Messages waiting in a queue of the broker.",
    task_duration_seconds Summary "seconds" "Duration of finished tasks over ten minutes.",
    task_executions_total Counter "" "Finished tasks by status.",
    task_queue_size Gauge "" "Runs that wait for a worker.",
    task_retry_count Counter "" "Tasks tried again.",
    up Gauge "" "1 if the last scrape of the target succeeded.",
}

/// Index of a family in [`FAMILIES`].
pub(crate) fn family(name: &str) -> usize {
    FAMILIES
        .binary_search_by_key(&name, |family| family.name)
        .unwrap_or_else(|_| panic!("bug: metric family {name} is not in the catalogue"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_sorted_and_named_as_they_should_be() {
        assert!(FAMILIES.windows(2).all(|pair| pair[0].name < pair[1].name));
        for family in FAMILIES {
            assert!(family.help.ends_with('.'), "{}", family.name);
            if family.name.ends_with("_total") {
                assert_eq!(family.kind, MetricKind::Counter, "{}", family.name);
            }
        }
    }
}
