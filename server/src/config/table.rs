//! The one table of settings of `serve`.
//!
//! From it come the command-line flags, the environment variables, the keys of the file, the
//! typed [`Settings`], `/api/v1/status/flags` and (by a test) `docs/configuration.md`. Adding a
//! setting is adding an entry here.

use std::path::PathBuf;
use std::time::Duration;

use super::ConfigError;
use super::values::{ByteSize, Listen, LogFormat, SettingValue, Sync};

/// What is known of a setting besides its value.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Key in the file; flag and variable derive from it.
    pub key: &'static str,
    /// The default, as it would be written.
    pub default: &'static str,
    /// What kind of value it takes.
    pub kind: &'static str,
    /// What the flag means when it stands alone, if it may.
    pub flag_alone: Option<&'static str>,
    /// What it does.
    pub help: &'static str,
}

impl Setting {
    /// The flag, without the dashes in front.
    #[must_use]
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("CHRONOLITH_{}", self.key.to_uppercase())
    }
}

/// Where a value came from, strongest last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The table.
    Default,
    /// The file, at this line.
    File(PathBuf, u64),
    /// This environment variable.
    Environment(String),
    /// This flag.
    Flag(String),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{} line {line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

macro_rules! settings {
    ($( $(#[doc = $help:literal])+ $key:ident: $type:ty = $default:literal; )+) => {
        /// Every setting of `serve`, typed.
        #[derive(Clone, Debug)]
        pub struct Settings {
            $( $(#[doc = $help])+ pub $key: $type, )+
        }

        /// Every setting, in the order of the documentation.
        pub const TABLE: &[Setting] = &[
            $( Setting {
                key: stringify!($key),
                default: $default,
                kind: <$type as SettingValue>::KIND,
                flag_alone: <$type as SettingValue>::FLAG_ALONE,
                help: concat!($($help),+),
            }, )+
        ];

        impl Settings {
            /// Reads each setting from the text that `look_up` finds for it.
            ///
            /// # Errors
            /// The first text that is not a value of its setting, with its source.
            pub fn resolve(
                mut look_up: impl FnMut(&Setting) -> (String, Source),
            ) -> Result<Self, ConfigError> {
                let mut table = TABLE.iter();
                Ok(Self {
                    $( $key: {
                        let setting = table.next().ok_or_else(|| {
                            ConfigError::Invalid("bug: settings table is short".into())
                        })?;
                        debug_assert_eq!(setting.key, stringify!($key), "bug: table order");
                        let (text, source) = look_up(setting);
                        <$type>::parse(text.trim()).map_err(|expected| ConfigError::Value {
                            key: setting.key.into(),
                            origin: source.to_string(),
                            text,
                            expected,
                        })?
                    }, )+
                })
            }
        }
    };
}

settings! {
    /// Directory of the store; made if missing.
    data_dir: PathBuf = "./chronolith-data";
    /// Address of the HTTP API.
    listen: Listen = "127.0.0.1:9009";
    /// Address of OTLP over gRPC.
    otlp_grpc_listen: Listen = "127.0.0.1:4317";
    /// Address of OTLP over HTTP, besides the main port.
    otlp_http_listen: Listen = "127.0.0.1:4318";
    /// Address of Arrow Flight SQL.
    flight_listen: Listen = "127.0.0.1:32010";
    /// Address of the PostgreSQL protocol.
    pg_listen: Listen = "127.0.0.1:5433";
    /// Address of syslog over TCP.
    syslog_tcp_listen: Listen = "off";
    /// Address of syslog over UDP.
    syslog_udp_listen: Listen = "off";
    /// Memory that the whole process may use; reaching it slows ingest (429, 503), it never ends the process.
    memory_max: ByteSize = "2GiB";
    /// When a write is acknowledged: `always` after it is on the medium, `interval` and `off` before.
    sync: Sync = "always";
    /// How often the log is synced with `sync: interval`.
    sync_interval: Duration = "1s";
    /// Age after which data goes; 0 keeps everything.
    retention: Duration = "15d";
    /// Bytes on disk above which the oldest data goes; 0 for no limit.
    retention_size: ByteSize = "0";
    /// Active series that a tenant may have; samples of more are refused with 429; 0 for no limit. The section `tenants` gives single tenants limits of their own.
    tenant_series_max: u64 = "2000000";
    /// How far back queries with `as_of` see what has been overwritten or replaced since; 0 keeps no such rows.
    as_of_retention: Duration = "0";
    /// Store the server's own metrics, as job `chronolith` of the default tenant.
    self_scrape: bool = "on";
    /// How often the server's own metrics are stored.
    self_scrape_interval: Duration = "15s";
    /// Features to turn on, by Prometheus' names.
    enable_feature: Vec<String> = "";
    /// Answer the calls under `/api/v1/admin/`; without it they are refused with 403.
    enable_admin_api: bool = "off";
    /// Longest time that a query may take; a request's own `timeout` can only shorten it.
    query_timeout: Duration = "2m";
    /// Queries that run at the same time; more wait, up to `query_queue_max`.
    query_concurrency_max: u32 = "20";
    /// Queries that may wait for their turn; more are refused with 503.
    query_queue_max: u32 = "200";
    /// Samples that one query may hold in memory.
    query_samples_max: u64 = "50000000";
    /// Memory that one query may reserve for its intermediate results and its answer; queries of PromQL together have an eighth of `memory_max`, those of SQL as well.
    query_memory_max: ByteSize = "256MiB";
    /// Points that a range query may ask for of each series.
    query_points_max: u32 = "11000";
    /// How deeply a PromQL expression may nest, one level an operator, call or pair of parentheses; at most 500.
    query_depth_max: u32 = "500";
    /// Bytes of PromQL answers that are kept, so that a repeated dashboard costs only its newest steps; at most a sixteenth of `memory_max`; 0 keeps none.
    query_cache_max: ByteSize = "128MiB";
    /// Bytes of a query's text.
    query_text_max: ByteSize = "256KiB";
    /// How far back an instant selector looks for a sample.
    query_lookback: Duration = "5m";
    /// The longest answer that a request of the search API (feature `search-api`) may ask for; 0 for any.
    search_limit_max: u32 = "10000";
    /// Listeners to `/api/v1/notifications/live` at the same time; more get 204.
    notification_subscribers_max: u32 = "16";
    /// Clients that follow logs at `/loki/api/v1/tail` at the same time; more get 429.
    tail_clients_max: u32 = "64";
    /// Answer `/-/reload` and `/-/quit`; without it they are refused with 403.
    enable_lifecycle: bool = "off";
    /// Queries that take longer are logged with their text; 0 logs none.
    slow_query: Duration = "10s";
    /// Bytes of a write request, after decompression.
    write_body_max: ByteSize = "32MiB";
    /// Bytes of all write requests in flight, compressed and decompressed; more are refused with 429.
    write_inflight_max: ByteSize = "256MiB";
    /// How far in the future a sample may lie; later ones are refused with 400.
    write_future_max: Duration = "10m";
    /// Bytes of a log record's text; longer ones are refused and named.
    log_line_max: ByteSize = "1MiB";
    /// Attributes that a log record or a span may have, and events and links of a span; rows with more are refused and named.
    row_attributes_max: u32 = "1024";
    /// Streams (of logs or spans: labels, resource and scope) that a tenant may write to within an hour; rows of more are refused with 429; 0 for no limit.
    tenant_streams_max: u64 = "100000";
    /// Count spans and requests between services as they arrive, as series `traces_spanmetrics_…` and `traces_service_graph_…`.
    span_metrics: bool = "on";
    /// How often these series are written.
    span_metrics_interval: Duration = "15s";
    /// Combinations of service, operation, kind and status that have series of their own (19 each); more are counted in one with the label `metric_overflow`.
    span_metrics_keys_max: u32 = "5000";
    /// Resource attributes that become labels of streams of OTLP logs and spans, with `_` for what labels do not allow; all others are kept with their types.
    otlp_stream_labels: Vec<String> = "service.name,service.namespace,service.instance.id,deployment.environment,deployment.environment.name,cloud.region,cloud.availability_zone,k8s.cluster.name,k8s.namespace.name,k8s.pod.name,k8s.container.name,container.name,k8s.replicaset.name,k8s.deployment.name,k8s.statefulset.name,k8s.daemonset.name,k8s.cronjob.name,k8s.job.name";
    /// Memory for the running totals of OTLP deltas (feature `otlp-deltatocumulative`), at most 1/32 of `memory_max`; new series beyond it are refused.
    otlp_delta_memory_max: ByteSize = "64MiB";
    /// Age after which the running total of an OTLP delta is forgotten.
    otlp_delta_stale: Duration = "5m";
    /// Open connections per listener; beyond it a newcomer takes the place of the connection that has been idle for the longest, or waits. At most three quarters of the file descriptors that the system allows.
    connections_max: u32 = "8192";
    /// Time that a client has to send a request's head; also how long an idle connection is kept.
    header_timeout: Duration = "30s";
    /// Time that a client has to send a request's body.
    body_timeout: Duration = "60s";
    /// Origins that browsers may call from (`*` for any); empty for none but the own.
    cors_origins: Vec<String> = "";
    /// File with TLS and users in the shape of Prometheus' `--web.config.file`; the same keys may stand under `web:` in the main file.
    web_config_file: Option<PathBuf> = "";
    /// `text` or `json`.
    log_format: LogFormat = "text";
    /// `error`, `warn`, `info`, `debug` or `trace`, also per module: `info,chronolith_engine=debug`.
    log_level: String = "info";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_setting() {
        let settings =
            Settings::resolve(|s| (s.default.to_owned(), Source::Default)).expect("defaults");
        assert_eq!(settings.listen, Listen::At("127.0.0.1:9009".into()));
        assert_eq!(settings.memory_max, ByteSize(2 << 30));
        assert_eq!(settings.retention, Duration::from_secs(15 * 86_400));
    }

    #[test]
    fn flags_and_variables_follow_from_the_key() {
        let setting = TABLE.iter().find(|s| s.key == "memory_max").unwrap();
        assert_eq!(setting.flag(), "memory-max");
        assert_eq!(setting.variable(), "CHRONOLITH_MEMORY_MAX");
    }
}
