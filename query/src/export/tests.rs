//! Exports of a small store, read back.

use std::fs::File;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use chronolith_engine::model::{AttributeValue, Labels, LogRecord, Stream, TimestampNs};
use chronolith_engine::{Matcher, StoreOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;

const DAY_NS: i64 = 86_400_000_000_000;

fn store() -> Store {
    let store = Store::in_memory(StoreOptions::default()).unwrap();
    let mut append = store.begin(&RequestContext::new()).unwrap();
    for host in ["a", "b"] {
        let labels = Labels::from_pairs([("__name__", "load"), ("host", host)]).unwrap();
        let series = append.define(None, &labels).unwrap();
        for step in 0..20 {
            append.sample(series, TimestampNs(step * DAY_NS / 10 + 1), step as f64);
        }
    }
    let labels = Labels::from_pairs([("service_name", "shop"), ("host", "a")]).unwrap();
    let stream = Arc::new(Stream::from_labels(labels));
    // The last on a day of which no sample tells.
    for at in [5_i64, 3, 5 * DAY_NS] {
        let record = LogRecord {
            time: TimestampNs(at),
            observed_time: TimestampNs(at),
            severity: 9,
            severity_text: String::new(),
            body: AttributeValue::String(format!("line {at}")),
            attributes: Vec::new(),
            trace_id: None,
            span_id: None,
            event_name: String::new(),
        };
        append.log(&stream, record);
    }
    append.commit().unwrap();
    store
}

fn request(dir: &Path) -> ExportRequest {
    ExportRequest {
        signals: ExportSignal::ALL.to_vec(),
        matchers: Vec::new(),
        range: TimeRange::ALL,
        format: Format::Parquet,
        dir: dir.join("out"),
    }
}

async fn run(store: &Store, request: &ExportRequest) -> Result<ExportReport> {
    let context = RequestContext::new();
    export(store, &context, request, &mut |_| ControlFlow::Continue(())).await
}

fn read(path: &Path) -> Vec<RecordBatch> {
    let file = File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    reader.build().unwrap().map(Result::unwrap).collect()
}

fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap();
                found.push(name.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_is_a_folder_and_a_file_holds_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let request = request(dir.path());
    let report = run(&store(), &request).await.unwrap();
    assert_eq!((report.files, report.rows), (4, 43));
    let expected = [
        "export.json",
        "logs/date=1970-01-01/part-00000.parquet",
        "logs/date=1970-01-06/part-00000.parquet",
        "metrics/date=1970-01-01/part-00000.parquet",
        "metrics/date=1970-01-02/part-00000.parquet",
    ];
    assert_eq!(files(&request.dir), expected);
    let batches = read(&request.dir.join(expected[4]));
    let batch = &batches[0];
    assert_eq!(batch.num_rows(), 20);
    let column = |name| batch.column_by_name(name).unwrap();
    // By series, then time; the second day begins with step 10.
    let values = column("value").as_primitive::<Float64Type>();
    assert_eq!(values.value(0), 10.0);
    assert_eq!(values.value(9), 19.0);
    let exact = column("time_ns").as_primitive::<Int64Type>();
    assert_eq!(exact.value(0), DAY_NS + 1);
    let micros = column("time").as_primitive::<TimestampMicrosecondType>();
    assert_eq!(micros.value(0), DAY_NS / 1000);
    let logs = read(&request.dir.join(expected[1]));
    let bodies = logs[0].column_by_name("body").unwrap().as_string::<i32>();
    let bodies: Vec<_> = bodies.iter().flatten().collect();
    assert_eq!(bodies, ["line 3", "line 5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_complete_is_kept_and_what_is_not_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = store();
    let request = request(dir.path());
    run(&store, &request).await.unwrap();
    let again = run(&store, &request).await.unwrap();
    assert_eq!((again.files, again.partitions_kept > 0), (0, true));
    let damaged = request
        .dir
        .join("metrics/date=1970-01-02/part-00000.parquet");
    std::fs::write(&damaged, b"cut").unwrap();
    let repaired = run(&store, &request).await.unwrap();
    assert_eq!((repaired.files, repaired.rows), (1, 20));
    // A longer range makes the last day incomplete.
    let shorter = ExportRequest {
        range: TimeRange::new(0, DAY_NS + DAY_NS / 2),
        dir: dir.path().join("short"),
        ..request.clone()
    };
    run(&store, &shorter).await.unwrap();
    let longer = ExportRequest {
        range: TimeRange::ALL,
        ..shorter
    };
    let added = run(&store, &longer).await.unwrap();
    assert!(added.rows >= 20, "{added:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_export_leaves_nothing_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = store();
    let request = request(dir.path());
    let context = RequestContext::new();
    let mut after_one = |now: &ExportProgress| match now.partitions_done {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    let stopped = export(&store, &context, &request, &mut after_one).await;
    assert!(matches!(stopped, Err(ExportError::Stopped)));
    let found = files(&request.dir);
    assert!(
        found.iter().all(|name| !name.contains("unfinished")),
        "{found:?}"
    );
    run(&store, &request).await.unwrap();
    assert_eq!(files(&request.dir).len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn matchers_choose_and_another_export_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = store();
    let request = ExportRequest {
        matchers: vec![Matcher::equal("host", "a")],
        format: Format::NdJson,
        ..request(dir.path())
    };
    let report = run(&store, &request).await.unwrap();
    assert_eq!(report.rows, 23);
    let other = ExportRequest {
        matchers: Vec::new(),
        ..request.clone()
    };
    let error = run(&store, &other).await.unwrap_err().to_string();
    assert!(error.contains("another export"), "{error}");
    let text = std::fs::read_to_string(request.dir.join("logs/date=1970-01-01/part-00000.jsonl"));
    let first: serde_json::Value =
        serde_json::from_str(text.unwrap().lines().next().unwrap()).unwrap();
    assert_eq!(first["body"], "line 3");
    assert_eq!(first["time_ns"], 3);
}
