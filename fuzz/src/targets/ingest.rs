//! What writers and scraped targets send: any bytes are rows or a refusal, nothing is counted that
//! was not stored, and the fast ways agree with the general ones.

use std::sync::LazyLock;

use chronolith_engine::model::LabelsBuilder;
use chronolith_engine::{RequestContext, Store, StoreOptions};
use chronolith_server::ingest::append::{TimeLimits, prepare_v1, prepare_v2};
use chronolith_server::ingest::write_request::{Item, Row, WriteRequest};
use chronolith_server::scrape::exposition::{Dialect, Entry, Reader, parse_exemplar, parse_series};
use chronolith_server::wire::protobuf::{
    push_bytes as field, push_double as double, push_number as number,
};

use crate::Target;

/// Remote write, decompressed. The first byte picks the version.
pub static REMOTE_WRITE: Target = Target {
    name: "remote_write",
    body: remote_write,
    seeds: remote_write_seeds,
    dictionary: &["__name__", "\n", "\u{12}", "\u{9}", "\u{10}", "\u{2}"],
};

/// The text formats of scraping. The first byte picks the dialect.
pub static EXPOSITION: Target = Target {
    name: "exposition",
    body: exposition,
    seeds: exposition_seeds,
    dictionary: &[
        "# TYPE ",
        "# HELP ",
        "# UNIT ",
        "# EOF\n",
        "_bucket",
        "{le=\"",
        "\"}",
        "+Inf",
        "NaN",
        " # {",
        "\\\"",
        "\\n",
        "1e-300",
        "\n",
        ",",
        "=",
        "{\"a.b\"",
        "0x1p4",
        " 1700000000.123",
    ],
};

const TIMES: TimeLimits = TimeLimits {
    latest_ms: 2_000_000_000_000,
};

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

fn remote_write(data: &[u8]) {
    let Some((version, message)) = data.split_first() else {
        return;
    };
    let context = RequestContext::new();
    if version & 1 == 1 {
        if let Ok(prepared) = prepare_v2(&STORE, &context, message, TIMES) {
            let counts = prepared.counts;
            assert_eq!(
                prepared.append.rows() as u64,
                counts.samples + counts.histograms
            );
        }
        return;
    }
    let stored = prepare_v1(&STORE, &context, message, TIMES);
    let walked = walk(message);
    match stored {
        Ok(prepared) => {
            let counts = prepared.counts;
            assert_eq!(
                prepared.append.rows() as u64,
                counts.samples + counts.histograms
            );
            let walked = walked.expect("what is stored can be walked over");
            if counts.series_invalid == 0 {
                assert_eq!(counts.samples, walked, "both ways find the same samples");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Counts the samples of a 1.0 message the general way; `None` if it is malformed.
fn walk(message: &[u8]) -> Option<u64> {
    let mut items = WriteRequest::new(message);
    let mut samples = 0;
    while let Some(item) = items.next_item().ok()? {
        let Item::Series(series) = item else { continue };
        assert!(message.len() >= series.raw_labels.len());
        let mut rows = series.rows();
        while let Some(row) = rows.next_row().ok()? {
            samples += u64::from(matches!(row, Row::Sample { .. }));
        }
    }
    Some(samples)
}

fn exposition(data: &[u8]) {
    let Some((dialect, body)) = data.split_first() else {
        return;
    };
    let dialect = match dialect & 1 {
        0 => Dialect::Prometheus,
        _ => Dialect::OpenMetrics,
    };
    let lines = body.iter().filter(|byte| **byte == b'\n').count() + 1;
    let mut reader = match Reader::new(body, dialect) {
        Ok(reader) => reader,
        Err(error) => {
            assert!((1..=lines).contains(&error.line), "{error}");
            return;
        }
    };
    let mut entries = 0;
    loop {
        match reader.next_entry() {
            Ok(Some(entry)) => entries += usize::from(check_entry(&entry)),
            Ok(None) => break,
            Err(error) => {
                assert!(error.line <= lines + 1, "{error}");
                break;
            }
        }
    }
    assert!(entries <= lines);
}

fn check_entry(entry: &Entry<'_>) -> bool {
    let Entry::Sample(sample) = entry else {
        return false;
    };
    let mut labels = LabelsBuilder::new();
    if parse_series(sample.series, &mut labels).is_ok() {
        // What has two labels of one name is refused here, as it is by the scraper.
        let _ = labels.finish();
    }
    if let Some(text) = sample.exemplar {
        let _ = parse_exemplar(text);
    }
    true
}

fn sample(value: f64, time_ms: u64) -> Vec<u8> {
    let mut out = Vec::new();
    double(&mut out, 1, value);
    number(&mut out, 2, time_ms);
    out
}

/// Samples, a native histogram, an exemplar and metadata, in both versions.
fn remote_write_seeds() -> Vec<Vec<u8>> {
    let now = 1_763_600_400_000;
    let mut histogram = Vec::new();
    number(&mut histogram, 1, 5);
    number(&mut histogram, 4, 2);
    let mut span = Vec::new();
    number(&mut span, 1, 2);
    number(&mut span, 2, 2);
    field(&mut histogram, 11, &span);
    field(&mut histogram, 12, &[4, 2]);
    number(&mut histogram, 15, now);

    let mut first = vec![0];
    for (job, rows) in [("demo", 1_u64), ("other", 3)] {
        let mut series = Vec::new();
        for (name, value) in [("__name__", "queue_depth"), ("job", job)] {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut series, 1, &label);
        }
        for row in 0..rows {
            field(
                &mut series,
                2,
                &sample(row as f64 / 3.0, now + row * 15_000),
            );
        }
        if job == "other" {
            field(&mut series, 4, &histogram);
            let mut label = Vec::new();
            field(&mut label, 1, b"trace_id");
            field(&mut label, 2, b"abc");
            let mut exemplar = Vec::new();
            field(&mut exemplar, 1, &label);
            double(&mut exemplar, 2, 1.5);
            number(&mut exemplar, 3, now);
            field(&mut series, 3, &exemplar);
        }
        field(&mut first, 1, &series);
    }
    let mut metadata = Vec::new();
    number(&mut metadata, 1, 2);
    field(&mut metadata, 2, b"queue_depth");
    field(&mut metadata, 4, b"records that wait");
    field(&mut first, 3, &metadata);

    let mut second = vec![1];
    for symbol in [
        "",
        "__name__",
        "queue_depth",
        "job",
        "demo",
        "records that wait",
    ] {
        field(&mut second, 4, symbol.as_bytes());
    }
    let mut series = Vec::new();
    field(&mut series, 1, &[1, 2, 3, 4]);
    field(&mut series, 2, &sample(7.0, now));
    field(&mut series, 3, &histogram);
    let mut metadata = Vec::new();
    number(&mut metadata, 1, 2);
    number(&mut metadata, 3, 5);
    field(&mut series, 5, &metadata);
    field(&mut second, 5, &series);
    vec![first, second]
}

fn exposition_seeds() -> Vec<Vec<u8>> {
    [
        "0# HELP up Whether it is.\n# TYPE up gauge\nup{job=\"demo\",path=\"a\\\\b\\\"c\\n\"} 1 1763600400000\nup NaN\nx_bucket{le=\"+Inf\"} 5\n",
        "1# TYPE requests counter\n# UNIT requests requests\nrequests_total{code=\"200\"} 5 1763600400.5 # {trace_id=\"abc\"} 0.5 1763600400\nrequests_created 1763600000\n# EOF\n",
        "0{\"utf8.name\",\"l.a\"=\"b\"} -Inf\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_accepted() {
        let context = RequestContext::new();
        let [first, second] = remote_write_seeds().try_into().unwrap();
        let counts = prepare_v1(&STORE, &context, &first[1..], TIMES)
            .unwrap()
            .counts;
        assert_eq!(
            (counts.samples, counts.histograms, counts.exemplars),
            (4, 1, 1)
        );
        let counts = prepare_v2(&STORE, &context, &second[1..], TIMES)
            .unwrap()
            .counts;
        assert_eq!((counts.samples, counts.histograms), (1, 1));
        for seed in exposition_seeds() {
            let dialect = if seed[0] == b'0' {
                Dialect::Prometheus
            } else {
                Dialect::OpenMetrics
            };
            let mut reader = Reader::new(&seed[1..], dialect).unwrap();
            while reader.next_entry().unwrap().is_some() {}
        }
    }
}
