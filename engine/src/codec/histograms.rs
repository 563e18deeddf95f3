//! Blocks of native histograms: layouts stored once, populations column by column.
//!
//! Consecutive samples of a series nearly always have the same buckets, and most populations change
//! little. So a *layout* (schema, zero threshold, spans, custom boundaries) is stored once and rows
//! refer to it; populations are transposed, so that each bucket is a run of its own, and differenced
//! along time. Whole numbers, the usual case, then pack into a few bits each. Sums and counts are
//! ordinary float blocks.

use super::block::Tag;
use super::choose::EncodeEffort;
use super::reader::ByteReader;
use super::varint;
use super::{CodecError, floats, intstream};
use crate::model::{BucketSpan as Span, CounterResetHint, Histogram};
use std::sync::Arc;

const CODEC: &str = "histograms";

/// Whole numbers below this are stored as integers.
const INTEGER_BOUND: f64 = (1_u64 << 53) as f64;

const FLAG_INTEGER: u8 = 1;
const FLAG_CUSTOM: u8 = 2;

/// Populations of one layout: differenced integers, or a float block.
const POPULATIONS_INTEGER: u8 = 0;
const POPULATIONS_FLOAT: u8 = 1;

/// What samples have in common, populations aside.
#[derive(Debug, Clone, PartialEq)]
struct Layout {
    schema: i32,
    zero_threshold_bits: u64,
    integer: bool,
    positive_spans: Vec<Span>,
    negative_spans: Vec<Span>,
    custom_bits: Option<Vec<u64>>,
}

impl Layout {
    fn of(histogram: &Histogram) -> Layout {
        Layout {
            schema: histogram.schema,
            zero_threshold_bits: histogram.zero_threshold.to_bits(),
            integer: histogram.integer,
            positive_spans: histogram.positive_spans.clone(),
            negative_spans: histogram.negative_spans.clone(),
            custom_bits: histogram
                .custom_values
                .as_ref()
                .map(|bounds| bounds.iter().map(|bound| bound.to_bits()).collect()),
        }
    }

    /// Whether `histogram` has this layout, without building another.
    fn fits(&self, histogram: &Histogram) -> bool {
        let custom_fits = match (&self.custom_bits, &histogram.custom_values) {
            (None, None) => true,
            (Some(bits), Some(bounds)) => bits
                .iter()
                .copied()
                .eq(bounds.iter().map(|bound| bound.to_bits())),
            _ => false,
        };
        custom_fits
            && self.schema == histogram.schema
            && self.zero_threshold_bits == histogram.zero_threshold.to_bits()
            && self.integer == histogram.integer
            && self.positive_spans == histogram.positive_spans
            && self.negative_spans == histogram.negative_spans
    }

    fn write(&self, out: &mut Vec<u8>) {
        varint::write_i64(out, i64::from(self.schema));
        let integer = if self.integer { FLAG_INTEGER } else { 0 };
        out.push(
            integer
                | if self.custom_bits.is_some() {
                    FLAG_CUSTOM
                } else {
                    0
                },
        );
        out.extend_from_slice(&self.zero_threshold_bits.to_le_bytes());
        for spans in [&self.positive_spans, &self.negative_spans] {
            varint::write_u64(out, spans.len() as u64);
            for span in spans {
                varint::write_i64(out, i64::from(span.offset));
                varint::write_u64(out, u64::from(span.length));
            }
        }
        if let Some(bits) = &self.custom_bits {
            varint::write_u64(out, bits.len() as u64);
            out.extend(bits.iter().flat_map(|bits| bits.to_le_bytes()));
        }
    }

    fn read(reader: &mut ByteReader<'_>) -> Result<Layout, CodecError> {
        let schema = reader.varint_i64()?;
        let schema = i32::try_from(schema).map_err(|_| reader.corrupt("schema beyond 32 bits"))?;
        let flags = reader.u8()?;
        if flags & !(FLAG_INTEGER | FLAG_CUSTOM) != 0 {
            return Err(reader.corrupt("unknown histogram flags"));
        }
        let zero_threshold_bits = reader.u64_le()?;
        let positive_spans = read_spans(reader)?;
        let negative_spans = read_spans(reader)?;
        let custom_bits = if flags & FLAG_CUSTOM == 0 {
            None
        } else {
            let count = reader.varint_max(reader.remaining() / 8, "more boundaries than bytes")?;
            let (bits, _) = reader.take(count * 8)?.as_chunks::<8>();
            Some(bits.iter().map(|bits| u64::from_le_bytes(*bits)).collect())
        };
        let integer = flags & FLAG_INTEGER != 0;
        Ok(Layout {
            schema,
            zero_threshold_bits,
            integer,
            positive_spans,
            negative_spans,
            custom_bits,
        })
    }

    fn custom_values(&self) -> Option<Arc<[f64]>> {
        let bits = self.custom_bits.as_ref()?;
        Some(bits.iter().map(|&bits| f64::from_bits(bits)).collect())
    }
}

fn read_spans(reader: &mut ByteReader<'_>) -> Result<Vec<Span>, CodecError> {
    let count = reader.varint_max(reader.remaining() / 2, "more spans than bytes")?;
    (0..count)
        .map(|_| {
            let offset = reader.varint_i64()?;
            let length = reader.varint_u64()?;
            match (i32::try_from(offset), u32::try_from(length)) {
                (Ok(offset), Ok(length)) => Ok(Span { offset, length }),
                _ => Err(reader.corrupt("span beyond 32 bits")),
            }
        })
        .collect()
}

/// Buckets that `spans` name; saturates.
fn bucket_count(spans: &[Span]) -> usize {
    spans.iter().fold(0, |count: usize, span| {
        count.saturating_add(span.length as usize)
    })
}

/// Appends one block with `histograms`.
///
/// Each must have as many populations as its spans name (see [`Histogram::validate`]).
pub fn encode(histograms: &[Histogram], effort: EncodeEffort, out: &mut Vec<u8>) {
    let (layouts, layout_of_row) = collect_layouts(histograms);
    out.push(Tag::Histograms as u8);
    varint::write_u64(out, layouts.len() as u64);
    for layout in &layouts {
        layout.write(out);
    }
    intstream::encode(&layout_of_row, effort, out);
    let hints: Vec<i64> = histograms
        .iter()
        .map(|h| h.counter_reset_hint as i64)
        .collect();
    intstream::encode(&hints, effort, out);
    for column in [count_of, zero_count_of, sum_of] {
        let values: Vec<f64> = histograms.iter().map(column).collect();
        write_floats(&values, effort, out);
    }
    for (index, layout) in layouts.iter().enumerate() {
        let rows: Vec<&Histogram> = histograms
            .iter()
            .zip(&layout_of_row)
            .filter(|&(_, &of_row)| of_row == index as i64)
            .map(|(histogram, _)| histogram)
            .collect();
        write_populations(layout, &rows, effort, out);
    }
}

fn count_of(histogram: &Histogram) -> f64 {
    histogram.count
}

fn zero_count_of(histogram: &Histogram) -> f64 {
    histogram.zero_count
}

fn sum_of(histogram: &Histogram) -> f64 {
    histogram.sum
}

/// The distinct layouts in order of first appearance, and the layout of each row.
fn collect_layouts(histograms: &[Histogram]) -> (Vec<Layout>, Vec<i64>) {
    let mut layouts: Vec<Layout> = Vec::new();
    let mut current = 0;
    let layout_of_row = histograms
        .iter()
        .map(|histogram| {
            if !layouts
                .get(current)
                .is_some_and(|layout| layout.fits(histogram))
            {
                let known = layouts.iter().position(|layout| layout.fits(histogram));
                current = known.unwrap_or_else(|| {
                    layouts.push(Layout::of(histogram));
                    layouts.len() - 1
                });
            }
            current as i64
        })
        .collect();
    (layouts, layout_of_row)
}

fn write_floats(values: &[f64], effort: EncodeEffort, out: &mut Vec<u8>) {
    let mut block = Vec::new();
    floats::encode(values, effort, &mut block);
    varint::write_u64(out, block.len() as u64);
    out.extend_from_slice(&block);
}

fn read_floats(reader: &mut ByteReader<'_>, count: usize) -> Result<Vec<f64>, CodecError> {
    let size = reader.varint_max(reader.remaining(), "column outside the block")?;
    let mut values = Vec::new();
    floats::decode(reader.take(size)?, count, &mut values)?;
    Ok(values)
}

/// All populations of the rows of one layout, bucket by bucket (positive ones first).
fn write_populations(
    layout: &Layout,
    rows: &[&Histogram],
    effort: EncodeEffort,
    out: &mut Vec<u8>,
) {
    let positive = bucket_count(&layout.positive_spans);
    let buckets = positive + bucket_count(&layout.negative_spans);
    if buckets == 0 {
        return;
    }
    let mut populations = Vec::with_capacity(buckets * rows.len());
    for bucket in 0..buckets {
        populations.extend(rows.iter().map(|row| match bucket.checked_sub(positive) {
            None => row.positive_buckets[bucket],
            Some(bucket) => row.negative_buckets[bucket],
        }));
    }
    let is_integer =
        |&v: &f64| v.abs() < INTEGER_BOUND && (v as i64 as f64).to_bits() == v.to_bits();
    if !populations.iter().all(is_integer) {
        out.push(POPULATIONS_FLOAT);
        write_floats(&populations, effort, out);
        return;
    }
    out.push(POPULATIONS_INTEGER);
    let (mut first_row, mut changes) = (Vec::new(), Vec::new());
    for bucket in populations.chunks_exact(rows.len()) {
        first_row.push(bucket[0] as i64);
        changes.extend(
            bucket
                .windows(2)
                .map(|pair| pair[1] as i64 - pair[0] as i64),
        );
    }
    intstream::encode(&first_row, effort, out);
    intstream::encode(&changes, effort, out);
}

/// Bucket by bucket, as written.
fn read_populations(
    reader: &mut ByteReader<'_>,
    buckets: usize,
    rows: usize,
) -> Result<Vec<f64>, CodecError> {
    let count = buckets * rows;
    match reader.u8()? {
        POPULATIONS_FLOAT => read_floats(reader, count),
        POPULATIONS_INTEGER => {
            let mut first_row = Vec::with_capacity(buckets);
            intstream::decode(reader, buckets, |values| {
                first_row.extend_from_slice(values)
            })?;
            let mut populations = Vec::with_capacity(count);
            let mut bucket = 0;
            // Integers grow by wrapping: only damaged blocks get there.
            let mut population = first_row[0];
            populations.push(population as f64);
            let mut in_bucket = 1;
            intstream::decode(reader, count - buckets, |changes| {
                for &change in changes {
                    while in_bucket == rows {
                        bucket += 1;
                        in_bucket = 1;
                        population = first_row[bucket];
                        populations.push(population as f64);
                    }
                    population = population.wrapping_add(change);
                    populations.push(population as f64);
                    in_bucket += 1;
                }
            })?;
            // Buckets of a single row have no changes at all.
            populations.extend(first_row[bucket + 1..].iter().map(|&first| first as f64));
            Ok(populations)
        }
        _ => Err(reader.corrupt("unknown kind of populations")),
    }
}

/// Appends the `count` histograms of `block`, which may have `buckets_max` populations in all.
///
/// # Errors
/// [`CodecError`] if the block is damaged, of another kind or too large; `out` is then as it was.
/// The result keeps the invariant of populations matching spans; other rules of
/// [`Histogram::validate`] are the writer's.
pub fn decode(
    block: &[u8],
    count: usize,
    buckets_max: usize,
    out: &mut Vec<Histogram>,
) -> Result<(), CodecError> {
    match Tag::of(block, CODEC)? {
        Tag::Histograms => {}
        tag => return Err(tag.unexpected(CODEC)),
    }
    let mut reader = ByteReader::new(CODEC, block, 1);
    let layout_count = reader.varint_max(count, "more layouts than rows")?;
    let layouts: Vec<Layout> = (0..layout_count)
        .map(|_| Layout::read(&mut reader))
        .collect::<Result<_, _>>()?;
    let layout_of_row = read_indices(&mut reader, count, layouts.len(), "unknown layout")?;
    let hints = read_indices(&mut reader, count, 4, "unknown counter reset hint")?;
    let counts = read_floats(&mut reader, count)?;
    let zero_counts = read_floats(&mut reader, count)?;
    let sums = read_floats(&mut reader, count)?;

    let mut rows_of_layout = vec![0_usize; layouts.len()];
    layout_of_row
        .iter()
        .for_each(|&layout| rows_of_layout[layout] += 1);
    let mut populations = Vec::with_capacity(layouts.len());
    let mut buckets_left = buckets_max;
    // Each row gets its own copy of the spans; of those that name buckets there can be no more.
    let mut spans_left = buckets_max.saturating_add(count.saturating_mul(4));
    for (layout, &rows) in layouts.iter().zip(&rows_of_layout) {
        let positive = bucket_count(&layout.positive_spans);
        let buckets = positive.saturating_add(bucket_count(&layout.negative_spans));
        buckets_left = buckets_left
            .checked_sub(buckets.saturating_mul(rows.max(1)))
            .ok_or_else(|| reader.corrupt("more buckets than declared"))?;
        let spans = layout.positive_spans.len() + layout.negative_spans.len();
        spans_left = spans_left
            .checked_sub(spans.saturating_mul(rows))
            .ok_or_else(|| reader.corrupt("more spans than buckets"))?;
        populations.push(match buckets * rows {
            0 => Vec::new(),
            _ => read_populations(&mut reader, buckets, rows)?,
        });
    }
    reader.finish()?;

    let custom_values: Vec<_> = layouts.iter().map(Layout::custom_values).collect();
    let mut next_row = vec![0_usize; layouts.len()];
    out.extend((0..count).map(|at| {
        let index = layout_of_row[at];
        let (layout, rows) = (&layouts[index], rows_of_layout[index]);
        let row = next_row[index];
        next_row[index] += 1;
        let mut buckets = populations[index].iter().skip(row).step_by(rows).copied();
        let positive = bucket_count(&layout.positive_spans);
        Histogram {
            counter_reset_hint: CounterResetHint::from_u8(hints[at] as u8).unwrap_or_default(),
            schema: layout.schema,
            zero_threshold: f64::from_bits(layout.zero_threshold_bits),
            zero_count: zero_counts[at],
            count: counts[at],
            sum: sums[at],
            positive_buckets: buckets.by_ref().take(positive).collect(),
            negative_buckets: buckets.collect(),
            positive_spans: layout.positive_spans.clone(),
            negative_spans: layout.negative_spans.clone(),
            custom_values: custom_values[index].clone(),
            integer: layout.integer,
        }
    }));
    Ok(())
}

/// `count` integers, each below `bound`.
fn read_indices(
    reader: &mut ByteReader<'_>,
    count: usize,
    bound: usize,
    what: &'static str,
) -> Result<Vec<usize>, CodecError> {
    let mut indices = Vec::with_capacity(count);
    let mut in_range = true;
    intstream::decode(reader, count, |block| {
        in_range &= block
            .iter()
            .all(|&index| index >= 0 && index < bound as i64);
        indices.extend(block.iter().map(|&index| index as usize));
    })?;
    if in_range {
        Ok(indices)
    } else {
        Err(reader.corrupt(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::EncodeEffort::{Compact, Flush};

    fn sample(row: u64, buckets: u32, fraction: f64) -> Histogram {
        let populations: Vec<f64> = (0..buckets)
            .map(|b| (row * u64::from(b + 1)) as f64 + fraction)
            .collect();
        Histogram {
            schema: 3,
            zero_threshold: 1e-128,
            zero_count: row as f64,
            count: populations.iter().sum(),
            sum: row as f64 * 0.37,
            positive_spans: vec![
                Span {
                    offset: -3,
                    length: buckets / 2,
                },
                Span {
                    offset: 2,
                    length: buckets - buckets / 2,
                },
            ],
            positive_buckets: populations,
            negative_spans: vec![Span {
                offset: 1,
                length: 1,
            }],
            negative_buckets: vec![row as f64],
            integer: fraction == 0.0,
            ..Histogram::default()
        }
    }

    fn columns() -> Vec<Vec<Histogram>> {
        let custom = Histogram {
            schema: crate::model::CUSTOM_BUCKETS_SCHEMA,
            custom_values: Some(Arc::from([0.1, 1.0])),
            positive_spans: vec![Span {
                offset: 0,
                length: 3,
            }],
            positive_buckets: vec![1.0, 0.0, 4.0],
            counter_reset_hint: CounterResetHint::Reset,
            ..Histogram::default()
        };
        let stale = Histogram {
            sum: f64::from_bits(0x7ff0_0000_0000_0002),
            ..Histogram::default()
        };
        let mut mixed: Vec<Histogram> = (0..200).map(|row| sample(row, 12, 0.0)).collect();
        mixed.insert(50, stale);
        mixed.insert(120, custom.clone());
        mixed.extend((0..150).map(|row| sample(row, 14, 0.0)));
        mixed.extend((0..20).map(|row| sample(row, 14, 0.5)));
        vec![vec![], vec![custom], mixed, vec![Histogram::default(); 3]]
    }

    /// Equality by bits, since the stale marker is a NaN.
    fn text(histograms: &[Histogram]) -> String {
        let sums: Vec<u64> = histograms.iter().map(|h| h.sum.to_bits()).collect();
        format!("{histograms:?} {sums:?}")
    }

    #[test]
    fn histograms_survive_and_damage_is_harmless() {
        for histograms in columns() {
            for effort in [Flush, Compact] {
                let mut block = vec![];
                encode(&histograms, effort, &mut block);
                let mut out = vec![];
                assert_eq!(decode(&block, histograms.len(), 10_000, &mut out), Ok(()));
                assert_eq!(text(&out), text(&histograms));
                for at in 0..block.len() {
                    let mut damaged = block.clone();
                    damaged[at] ^= 0xff;
                    let _ = decode(&damaged, histograms.len(), 10_000, &mut vec![]);
                    damaged[at] ^= 0xfe;
                    let _ = decode(&damaged, histograms.len(), 10_000, &mut vec![]);
                    assert!(decode(&block[..at], histograms.len(), 10_000, &mut vec![]).is_err());
                }
            }
        }
    }

    #[test]
    fn populations_beyond_what_the_caller_allows_are_refused() {
        let histograms: Vec<Histogram> = (0..10).map(|row| sample(row, 12, 0.0)).collect();
        let mut block = vec![];
        encode(&histograms, Flush, &mut block);
        assert!(decode(&block, 10, 129, &mut vec![]).is_err());
        assert_eq!(decode(&block, 10, 130, &mut vec![]), Ok(()));
    }

    #[test]
    fn a_steady_histogram_takes_few_bytes() {
        let histograms: Vec<Histogram> = (0..240).map(|row| sample(row, 20, 0.0)).collect();
        let mut block = vec![];
        encode(&histograms, Flush, &mut block);
        assert!(block.len() < 240 * 4, "{} bytes", block.len());
    }
}
