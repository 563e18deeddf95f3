//! OpenTelemetry's protocol, OTLP, over HTTP and gRPC.
//!
//! [`envelope`] is what every signal shares: forms, compression, limits, answers and errors;
//! [`signal`] is where the signals part. A signal is a module ([`metrics`], [`logs`], [`traces`]) and
//! tables in [`json::schema`]: it gets protobuf, borrows from it and makes one append of it; what it
//! refuses goes into [`partial::Rejections`].
//!
//! **Invariants**: nothing is allocated by a claimed length; one request is one append; a data point
//! is stored whole or named in the answer; what a client may retry changes nothing when it comes
//! again.

pub mod any_value;
pub mod attributes;
pub mod decompress;
pub mod envelope;
pub mod grpc;
pub mod json;
pub mod logs;
pub mod metrics;
pub mod partial;
pub mod resource;
pub mod signal;
pub mod traces;

use std::sync::Arc;
use std::time::Duration;

use self::metrics::delta::Deltas;
use self::metrics::translate::{DeltaMode, Translator};
use crate::config::Config;

/// Share of the memory that the totals of deltas may take, as a divisor.
const DELTA_MEMORY_SHARE: u64 = 32;

/// The translation of metrics that a configuration asks for.
#[must_use]
pub fn translator(config: &Config) -> Translator {
    let settings = &config.settings;
    let enabled = |name: &str| settings.enable_feature.iter().any(|f| f == name);
    let deltas = if enabled(FEATURE_DELTAS_ADDED_UP) {
        let bytes_max = settings.otlp_delta_memory_max.0;
        let bytes_max = bytes_max.min(settings.memory_max.0 / DELTA_MEMORY_SHARE);
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        DeltaMode::AddedUp(Arc::new(Deltas::new(bytes_max, settings.otlp_delta_stale)))
    } else if enabled(FEATURE_DELTAS_NATIVE) {
        DeltaMode::Native
    } else {
        DeltaMode::Refused
    };
    let lookback_ms = millis(settings.query_lookback);
    let type_and_unit = enabled("type-and-unit-labels");
    Translator::new(&config.otlp, type_and_unit, deltas, lookback_ms)
}

/// Feature: deltas become counters.
pub const FEATURE_DELTAS_ADDED_UP: &str = "otlp-deltatocumulative";
/// Feature: deltas are stored as they come.
pub const FEATURE_DELTAS_NATIVE: &str = "otlp-native-delta-ingestion";

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
