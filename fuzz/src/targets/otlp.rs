//! What OpenTelemetry's exporters send: any bytes are rows or a refusal, JSON becomes protobuf that
//! can be read, nothing is counted that was not stored, and a request that is dropped leaves no trace
//! in the totals of deltas.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chronolith_engine::{RequestContext, Store, StoreOptions};
use chronolith_server::config::{OtlpConfig, TranslationStrategy};
use chronolith_server::ingest::append::TimeLimits;
use chronolith_server::otlp::json::{schema, to_protobuf};
use chronolith_server::otlp::metrics::delta::Deltas;
use chronolith_server::otlp::metrics::translate::{DeltaMode, Refusal, Translator, prepare};

use crate::Target;

/// Metrics. The lowest bit of the first byte picks JSON or protobuf, the others the configuration.
pub static OTLP_METRICS: Target = Target {
    name: "otlp_metrics",
    body: otlp_metrics,
    seeds: otlp_metrics_seeds,
    dictionary: &[
        "\"dataPoints\":[",
        "\"timeUnixNano\":\"5000000\"",
        "\"attributes\":[{\"key\":\"a.b\",\"value\":",
        "{\"stringValue\":\"x\"}",
        "{\"kvlistValue\":{\"values\":[",
        "\"aggregationTemporality\":1",
        "\"explicitBounds\":[",
        "\"bucketCounts\":[",
        "\"scale\":",
        "\"flags\":1",
        "\"NaN\"",
        "18446744073709551615",
        "service.name",
        "\n",
        "\u{12}",
        "\u{19}",
        "{",
        "}",
        "]",
        ",",
    ],
};

const TIMES: TimeLimits = TimeLimits {
    latest_ms: 2_000_000_000_000,
};
/// Bytes that a message made of JSON may have.
const BYTES_MAX: usize = 1 << 20;

/// Appends are prepared and never committed, so that one empty store serves all inputs.
static STORE: LazyLock<Store> = LazyLock::new(|| {
    let options = StoreOptions {
        background: false,
        ..StoreOptions::default()
    };
    match Store::in_memory(options) {
        Ok(store) => store,
        Err(error) => panic!("bug: a store in memory cannot be opened: {error}"),
    }
});

static DELTAS: LazyLock<Arc<Deltas>> =
    LazyLock::new(|| Arc::new(Deltas::new(1 << 20, Duration::from_secs(60))));

/// A configuration for each value of the first byte.
fn translator(choice: u8) -> Translator {
    let bit = |index: u8| choice >> index & 1 == 1;
    let config = OtlpConfig {
        convert_histograms_to_nhcb: bit(1),
        promote_scope_metadata: bit(2),
        promote_all_resource_attributes: bit(3),
        label_name_preserve_multiple_underscores: bit(4),
        translation_strategy: match bit(5) {
            true => TranslationStrategy::NoUTF8EscapingWithSuffixes,
            false => TranslationStrategy::UnderscoreEscapingWithSuffixes,
        },
        ..OtlpConfig::default()
    };
    let deltas = match (bit(6), bit(7)) {
        (false, _) => DeltaMode::AddedUp(Arc::clone(&DELTAS)),
        (true, false) => DeltaMode::Native,
        (true, true) => DeltaMode::Refused,
    };
    Translator::new(&config, bit(3), deltas, 300_000)
}

fn otlp_metrics(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else {
        return;
    };
    let from_json = choice & 1 == 1;
    let mut rewritten = Vec::new();
    let message = if from_json {
        let table = schema::export_metrics_request();
        if let Err(error) = to_protobuf(body, table, &mut rewritten, BYTES_MAX) {
            assert!(!error.to_string().is_empty());
            return;
        }
        &rewritten
    } else {
        body
    };
    let totals = DELTAS.size();
    let context = RequestContext::new();
    let prepared = prepare(&STORE, &context, &translator(*choice), message, TIMES, 0);
    match prepared {
        Ok(prepared) => {
            let counts = prepared.counts;
            assert_eq!(
                prepared.append.rows() as u64,
                counts.samples + counts.histograms
            );
            assert!(prepared.over_limit <= prepared.rejections.count());
            // A reason may be a warning, but a refusal never comes without a reason.
            assert!(prepared.rejections.count() == 0 || !prepared.rejections.is_empty());
        }
        Err(Refusal::Message(error)) => {
            assert!(
                !from_json,
                "JSON became a message that cannot be read: {error}"
            );
        }
        Err(Refusal::Engine(error)) => panic!("the store has no reason to refuse: {error}"),
    }
    assert_eq!(DELTAS.size(), totals, "nothing was committed");
}

/// Every kind of metric.
const REQUEST: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[
{"key":"service.name","value":{"stringValue":"api"}},
{"key":"host.ids","value":{"arrayValue":{"values":[{"intValue":"1"},{"doubleValue":0.5},{"kvlistValue":{"values":[{"key":"k","value":{"boolValue":true}}]}},{"bytesValue":"AAE="}]}}}]},
"scopeMetrics":[{"scope":{"name":"lib","version":"1","attributes":[{"key":"s","value":{"stringValue":"t"}}]},"metrics":[
{"name":"cpu.load","unit":"1","description":"Load.","gauge":{"dataPoints":[{"timeUnixNano":"1700000000000000000","asDouble":0.5,"attributes":[{"key":"a.b","value":{"stringValue":"x"}},{"key":"a_b","value":{"intValue":3}}]},{"timeUnixNano":"1700000300000000000","flags":1}]}},
{"name":"requests","sum":{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{"startTimeUnixNano":"1699999990000000000","timeUnixNano":"1700000000000000000","asInt":"7","exemplars":[{"asDouble":1,"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","filteredAttributes":[{"key":"u","value":{"stringValue":"v"}}]}]}]}},
{"name":"latency","unit":"s","histogram":{"aggregationTemporality":1,"dataPoints":[{"timeUnixNano":"1700000000000000000","count":"10","sum":12.5,"bucketCounts":["1","2","7"],"explicitBounds":[0.005,10],"exemplars":[{"asInt":"4"}]},{"timeUnixNano":"1700000010000000000","count":"10","sum":12.5,"bucketCounts":["1","2","7"],"explicitBounds":[0.005,10]}]}},
{"name":"size","unit":"By/s","exponentialHistogram":{"aggregationTemporality":1,"dataPoints":[{"timeUnixNano":"1700000000000000000","count":9,"sum":40,"scale":11,"zeroCount":"2","positive":{"offset":-1,"bucketCounts":["3","4"]},"negative":{}},{"timeUnixNano":"1700000010000000000","count":7,"sum":4,"scale":3,"positive":{"offset":1000,"bucketCounts":["3"]},"negative":{"offset":-7,"bucketCounts":["4"]}}]}},
{"name":"rpc","summary":{"dataPoints":[{"timeUnixNano":"1700000000000000000","count":"4","sum":2,"quantileValues":[{"quantile":0.5,"value":1.5}]}]}}]}]}]}"#;

fn otlp_metrics_seeds() -> Vec<Vec<u8>> {
    let mut message = Vec::new();
    let table = schema::export_metrics_request();
    if let Err(error) = to_protobuf(REQUEST.as_bytes(), table, &mut message, BYTES_MAX) {
        panic!("bug: the seed is not a request: {error}");
    }
    let mut seeds = Vec::new();
    for choice in [0x00_u8, 0x02, 0x2e, 0x40, 0xd8] {
        seeds.push([&[choice], message.as_slice()].concat());
        seeds.push([&[choice | 1], REQUEST.as_bytes()].concat());
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_stored_whole() {
        for seed in otlp_metrics_seeds() {
            let (choice, body) = seed.split_first().unwrap();
            if choice & 1 == 1 {
                continue;
            }
            let context = RequestContext::new();
            let translator = translator(*choice);
            let prepared = prepare(&STORE, &context, &translator, body, TIMES, 0).unwrap();
            let taken = (prepared.points, prepared.rejections.count());
            match matches!(translator.deltas(), DeltaMode::Refused) {
                true => assert_eq!(taken, (3, 5), "{}", prepared.rejections.message()),
                false => assert_eq!(taken, (8, 0), "{}", prepared.rejections.message()),
            }
        }
    }
}
