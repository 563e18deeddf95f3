//! Chunks of native histograms.
//!
//! Consecutive histograms mostly share their layout (schema, zero threshold, spans, boundaries), so a
//! chunk is a list of runs of one layout each, and within a run every field is a float column of its
//! own: a bucket over time is a slowly rising whole number, which the float codec packs well.
//!
//! Run: histograms varint; flags u8 (bits 0-1 reset hint, bit 2 whole numbers, bit 3 custom
//! boundaries); schema (zig-zag varint); zero threshold (8 bytes); positive and negative spans (count,
//! then offset zig-zag and length varints); custom boundaries (count varint, 8 bytes each); then blocks,
//! each with its length (varint): zero counts, counts, sums, positive buckets, negative buckets, the
//! bucket columns one after the other in one block.

use std::sync::Arc;

use crate::codec::{EncodeEffort, floats};
use crate::error::Result;
use crate::model::{BucketSpan, CounterResetHint, Histogram, HistogramSample};

use super::super::column;
use super::super::file::SegmentFile;
use super::super::format::CHUNK_SAMPLES_MAX;
use super::super::wire::{Cursor, put_bytes, put_f64, put_i64, put_u64};

const HINT_MASK: u8 = 3;
const INTEGER: u8 = 4;
const CUSTOM: u8 = 8;

/// Buckets of one histogram that a reader accepts; ingest allows far fewer.
const BUCKETS_MAX: u64 = 1 << 16;

/// Appends the chunk of `samples` (without their times).
pub(crate) fn encode(samples: &[HistogramSample], effort: EncodeEffort, out: &mut Vec<u8>) {
    let mut rest = samples;
    while let [first, ..] = rest {
        let same = rest
            .iter()
            .take_while(|s| same_layout(&s.histogram, &first.histogram))
            .count();
        let (run, later) = rest.split_at(same);
        encode_run(run, effort, out);
        rest = later;
    }
}

fn same_layout(a: &Histogram, b: &Histogram) -> bool {
    let boundaries =
        |h: &Histogram| -> Vec<u64> { h.custom_bounds().iter().map(|b| b.to_bits()).collect() };
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.counter_reset_hint == b.counter_reset_hint
        && a.integer == b.integer
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && a.positive_buckets.len() == b.positive_buckets.len()
        && a.negative_buckets.len() == b.negative_buckets.len()
        && a.custom_values.is_some() == b.custom_values.is_some()
        && boundaries(a) == boundaries(b)
}

fn encode_run(run: &[HistogramSample], effort: EncodeEffort, out: &mut Vec<u8>) {
    let layout = &run[0].histogram;
    put_u64(out, run.len() as u64);
    let mut flags = layout.counter_reset_hint as u8;
    flags |= if layout.integer { INTEGER } else { 0 };
    flags |= if layout.custom_values.is_some() {
        CUSTOM
    } else {
        0
    };
    out.push(flags);
    put_i64(out, i64::from(layout.schema));
    put_f64(out, layout.zero_threshold);
    for (spans, buckets) in [
        (&layout.positive_spans, &layout.positive_buckets),
        (&layout.negative_spans, &layout.negative_buckets),
    ] {
        put_u64(out, spans.len() as u64);
        for span in spans {
            put_i64(out, i64::from(span.offset));
            put_u64(out, u64::from(span.length));
        }
        put_u64(out, buckets.len() as u64);
    }
    put_u64(out, layout.custom_bounds().len() as u64);
    layout.custom_bounds().iter().for_each(|b| put_f64(out, *b));

    let mut values = Vec::new();
    let mut block = Vec::new();
    let mut put = |values: &mut Vec<f64>| {
        block.clear();
        if !values.is_empty() {
            floats::encode(values, effort, &mut block);
        }
        put_bytes(out, &block);
        values.clear();
    };
    let histograms = || run.iter().map(|s| &s.histogram);
    values.extend(histograms().map(|h| h.zero_count));
    put(&mut values);
    values.extend(histograms().map(|h| h.count));
    put(&mut values);
    values.extend(histograms().map(|h| h.sum));
    put(&mut values);
    for bucket in 0..layout.positive_buckets.len() {
        values.extend(histograms().map(|h| h.positive_buckets[bucket]));
        put(&mut values);
    }
    for bucket in 0..layout.negative_buckets.len() {
        values.extend(histograms().map(|h| h.negative_buckets[bucket]));
        put(&mut values);
    }
}

/// What a run's histograms share.
struct Layout {
    template: Histogram,
    positive_count: usize,
    negative_count: usize,
}

/// Decodes the `count` histograms of a chunk.
pub(crate) fn decode(
    file: &SegmentFile,
    offset: u64,
    bytes: &[u8],
    count: usize,
) -> Result<Vec<Arc<Histogram>>> {
    let mut cursor = Cursor::new(file, bytes, offset);
    let mut all = Vec::new();
    while all.len() < count {
        let left = (count - all.len()).min(CHUNK_SAMPLES_MAX) as u64;
        let run = cursor.varint_max(left, "histograms in a run")? as usize;
        if run == 0 {
            return Err(cursor.corrupt("a run of histograms", "an empty one"));
        }
        decode_run(file, &mut cursor, run, &mut all)?;
    }
    cursor.finish()?;
    Ok(all)
}

fn decode_run(
    file: &SegmentFile,
    cursor: &mut Cursor<'_>,
    run: usize,
    all: &mut Vec<Arc<Histogram>>,
) -> Result<()> {
    let layout = decode_layout(cursor)?;
    let column = |cursor: &mut Cursor<'_>| -> Result<Vec<f64>> {
        let block = cursor.bytes()?;
        let mut values = Vec::with_capacity(run);
        column::decode_floats(file, cursor.offset(), block, run, &mut values)?;
        Ok(values)
    };
    let zero_counts = column(cursor)?;
    let counts = column(cursor)?;
    let sums = column(cursor)?;
    // One byte at least is needed per column, so this is bounded by what is there.
    let mut histograms: Vec<Histogram> = (0..run)
        .map(|at| Histogram {
            zero_count: zero_counts[at],
            count: counts[at],
            sum: sums[at],
            ..layout.template.clone()
        })
        .collect();
    for _ in 0..layout.positive_count {
        let values = column(cursor)?;
        for (histogram, value) in histograms.iter_mut().zip(values) {
            histogram.positive_buckets.push(value);
        }
    }
    for _ in 0..layout.negative_count {
        let values = column(cursor)?;
        for (histogram, value) in histograms.iter_mut().zip(values) {
            histogram.negative_buckets.push(value);
        }
    }
    all.extend(histograms.into_iter().map(Arc::new));
    Ok(())
}

fn decode_layout(cursor: &mut Cursor<'_>) -> Result<Layout> {
    let flags = cursor.u8()?;
    let counter_reset_hint = CounterResetHint::from_u8(flags & HINT_MASK).unwrap_or_default();
    if flags & !(HINT_MASK | INTEGER | CUSTOM) != 0 {
        return Err(cursor.corrupt("known histogram flags", flags));
    }
    let schema = cursor.varint_i64()?;
    let Ok(schema) = i32::try_from(schema) else {
        return Err(cursor.corrupt("a histogram schema", schema));
    };
    let zero_threshold = cursor.f64()?;
    let mut sides = [(Vec::new(), 0), (Vec::new(), 0)];
    for (spans, buckets) in &mut sides {
        for _ in 0..cursor.count("span count")? {
            let offset = cursor.varint_i64()?;
            let length = cursor.varint_max(u64::from(u32::MAX), "span length")? as u32;
            let Ok(offset) = i32::try_from(offset) else {
                return Err(cursor.corrupt("a span offset", offset));
            };
            spans.push(BucketSpan { offset, length });
        }
        *buckets = cursor.varint_max(BUCKETS_MAX, "bucket count")? as usize;
    }
    let mut bounds = Vec::new();
    for _ in 0..cursor.count("boundary count")? {
        bounds.push(cursor.f64()?);
    }
    let [
        (positive_spans, positive_count),
        (negative_spans, negative_count),
    ] = sides;
    Ok(Layout {
        template: Histogram {
            counter_reset_hint,
            schema,
            zero_threshold,
            positive_spans,
            negative_spans,
            custom_values: (flags & CUSTOM != 0).then(|| Arc::from(bounds)),
            integer: flags & INTEGER != 0,
            ..Histogram::default()
        },
        positive_count,
        negative_count,
    })
}
