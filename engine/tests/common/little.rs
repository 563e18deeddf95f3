//! A little content of every kind.

use std::sync::Arc;

use chronolith_engine::model::{Stream, TimeRange, TimestampNs};
use chronolith_engine::{Matcher, Signal, Store};

use crate::story::{chapter_start, labels, log_record, span, tenant, write_state};

/// A row of each signal, a document and a deletion: for tests that write the same a thousand times.
pub(crate) fn write_little(store: &Store, chapter: u32) {
    let context = tenant("default");
    let start = chapter_start(chapter);
    let mut append = store.begin(&context).unwrap();
    let set = labels(&[("__name__", "little"), ("chapter", &chapter.to_string())]);
    let series = append.define(None, &set).unwrap();
    for step in 0..3 {
        append.sample(series, TimestampNs(start + step), step as f64);
    }
    let stream = Arc::new(Stream::from_labels(labels(&[("service", "orders")])));
    append.log(&stream, log_record(start, i64::from(chapter), 1));
    append.span(&stream, span(start, i64::from(chapter), 1));
    append.commit().unwrap();
    write_state(store, &context, chapter);
    let range = TimeRange::new(start + 1, start + 1);
    let name = Matcher::equal("__name__", "little");
    store
        .delete(&context, Signal::Metrics, &[name], range)
        .unwrap();
}
