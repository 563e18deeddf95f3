//! The store inside another program: write, read, seal, reopen.
//!
//! `cargo run -p chronolith-engine --example embed [directory]`

use std::error::Error;
use std::path::PathBuf;

use chronolith_engine::model::{Labels, SampleColumns, TimeRange, TimestampNs};
use chronolith_engine::{Matcher, RequestContext, ScanRequest, Store, StoreOptions};

const SECOND_NS: i64 = 1_000_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = match std::env::args_os().nth(1) {
        Some(dir) => PathBuf::from(dir),
        None => std::env::temp_dir().join(format!("chronolith-embed-{}", std::process::id())),
    };
    let context = RequestContext::new();

    // A directory belongs to one writing process at a time.
    let store = Store::open(&dir, StoreOptions::default())?;

    // One session is one request: all of it is durable when `commit` returns, or none of it.
    let mut append = store.begin(&context)?;
    for host in ["a", "b"] {
        let labels = Labels::from_pairs([("__name__", "temperature_celsius"), ("host", host)])?;
        let series = append.define(None, &labels)?;
        for second in 0..60 {
            append.sample(
                series,
                TimestampNs(second * SECOND_NS),
                20.0 + second as f64 / 10.0,
            );
        }
    }
    let committed = append.commit()?;
    println!("stored {} rows in {}", committed.rows, dir.display());

    // Late rows and corrections need nothing special: the later arrival wins.
    let mut append = store.begin(&context)?;
    let labels = Labels::from_pairs([("__name__", "temperature_celsius"), ("host", "a")])?;
    let series = append.define(None, &labels)?;
    append.sample(series, TimestampNs(30 * SECOND_NS), 99.0);
    append.commit()?;

    // Sealing happens by itself; asking for it shows what a merge of both writes looks like.
    store.compact()?;
    store.close()?;

    let store = Store::open(&dir, StoreOptions::default())?;
    let matchers = vec![Matcher::equal("__name__", "temperature_celsius")];
    let range = TimeRange::new(28 * SECOND_NS, 32 * SECOND_NS);
    let scan = store.scan_metrics(&context, &ScanRequest::new(matchers, range))?;
    let mut samples = SampleColumns::default();
    for index in 0..scan.len() {
        scan.read(index, range, &mut samples)?;
        println!("{} {:?}", scan.labels(index), samples.values);
    }
    let stats = store.stats();
    println!("{} segments, {} bytes", stats.segments, stats.segment_bytes);
    store.close()?;
    Ok(())
}
