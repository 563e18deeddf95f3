//! Native histograms as bytes inside record batches. Not a storage format: it never leaves the
//! process (a plan may be spread over machines of one version, though, so it is little-endian).
//!
//! Layout: hint u8, integer u8, schema i32, zero threshold, zero count, count, sum as f64, then
//! positive spans, positive buckets, negative spans, negative buckets, custom boundaries: each a
//! u32 count followed by the items (span: i32 offset, u32 length; else f64).

use std::sync::Arc;

use chronolith_engine::model::{BucketSpan, CounterResetHint, Histogram};

/// Appends `histogram`.
pub fn encode(histogram: &Histogram, out: &mut Vec<u8>) {
    let h = histogram;
    out.push(h.counter_reset_hint as u8);
    out.push(u8::from(h.integer));
    out.extend_from_slice(&h.schema.to_le_bytes());
    for number in [h.zero_threshold, h.zero_count, h.count, h.sum] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for (spans, buckets) in [
        (&h.positive_spans, &h.positive_buckets),
        (&h.negative_spans, &h.negative_buckets),
    ] {
        out.extend_from_slice(&(spans.len() as u32).to_le_bytes());
        for span in spans {
            out.extend_from_slice(&span.offset.to_le_bytes());
            out.extend_from_slice(&span.length.to_le_bytes());
        }
        put_floats(buckets, out);
    }
    put_floats(h.custom_bounds(), out);
}

fn put_floats(floats: &[f64], out: &mut Vec<u8>) {
    out.extend_from_slice(&(floats.len() as u32).to_le_bytes());
    for float in floats {
        out.extend_from_slice(&float.to_le_bytes());
    }
}

/// Reads what [`encode`] wrote; `None` if the bytes are something else.
pub fn decode(bytes: &[u8]) -> Option<Histogram> {
    let mut from = Reader { bytes };
    let counter_reset_hint = CounterResetHint::from_u8(from.take::<1>()?[0])?;
    let integer = from.take::<1>()?[0] != 0;
    let schema = i32::from_le_bytes(from.take()?);
    let [zero_threshold, zero_count, count, sum] =
        [from.float()?, from.float()?, from.float()?, from.float()?];
    let (positive_spans, positive_buckets) = (from.spans()?, from.floats()?);
    let (negative_spans, negative_buckets) = (from.spans()?, from.floats()?);
    let custom = from.floats()?;
    let custom_values = (!custom.is_empty()).then(|| Arc::from(custom));
    Some(Histogram {
        counter_reset_hint,
        schema,
        zero_threshold,
        zero_count,
        count,
        sum,
        positive_spans,
        positive_buckets,
        negative_spans,
        negative_buckets,
        custom_values,
        integer,
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = tail;
        Some(*head)
    }

    fn float(&mut self) -> Option<f64> {
        self.take().map(f64::from_le_bytes)
    }

    fn count(&mut self, item_bytes: usize) -> Option<usize> {
        let count = usize::try_from(u32::from_le_bytes(self.take()?)).ok()?;
        (count <= self.bytes.len() / item_bytes).then_some(count)
    }

    fn floats(&mut self) -> Option<Vec<f64>> {
        let count = self.count(8)?;
        (0..count).map(|_| self.float()).collect()
    }

    fn spans(&mut self) -> Option<Vec<BucketSpan>> {
        let count = self.count(8)?;
        (0..count)
            .map(|_| {
                let offset = i32::from_le_bytes(self.take()?);
                let length = u32::from_le_bytes(self.take()?);
                Some(BucketSpan { offset, length })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_round_trip_and_cuts_are_refused() {
        let histogram = Histogram {
            counter_reset_hint: CounterResetHint::Gauge,
            schema: -53,
            zero_threshold: 0.5,
            zero_count: 2.0,
            count: 7.0,
            sum: -1.5,
            positive_spans: vec![BucketSpan {
                offset: 1,
                length: 2,
            }],
            positive_buckets: vec![1.0, 2.0],
            negative_spans: vec![BucketSpan {
                offset: -3,
                length: 1,
            }],
            negative_buckets: vec![4.0],
            custom_values: Some(Arc::from([1.0, 2.0])),
            integer: true,
        };
        let mut bytes = Vec::new();
        encode(&histogram, &mut bytes);
        assert_eq!(decode(&bytes), Some(histogram));
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), None);
        }
    }
}
