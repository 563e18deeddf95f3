//! The two forms of an answer: one message of samples, or frames of chunks.
//!
//! ```text
//! ReadResponse        { 1: QueryResult{ 1: TimeSeries{1: Label*, 2: Sample*, 4: Histogram*}* }* }
//! ChunkedReadResponse { 1: ChunkedSeries{1: Label*, 2: Chunk{1: min ms, 2: max ms, 3: type, 4: data}*}*, 2: query }
//! frame               = uvarint length of the message, CRC-32C of the message (big endian), message
//! ```

use chronolith_engine::codec::checksum::crc32c;
use chronolith_engine::model::{Histogram, Labels, NANOS_PER_MILLI, SampleColumns};

use super::chunk;
use crate::wire::protobuf::{
    push_bytes, push_double, push_doubles, push_number, push_signed, push_varint,
};

/// Bytes of chunks after which a frame is closed.
const FRAME_BYTES: usize = 1 << 20;

/// A sample with its time in milliseconds.
pub(super) enum Point<'a> {
    Float(f64),
    Histogram(&'a Histogram),
}

/// All samples of a series by time; of two within one millisecond the later.
pub(super) fn points(columns: &SampleColumns) -> Vec<(i64, Point<'_>)> {
    let ms = |time_ns: i64| time_ns.div_euclid(NANOS_PER_MILLI);
    let floats = columns.timestamps.iter().zip(&columns.values);
    let mut points: Vec<_> = floats
        .map(|(time, value)| (*time, Point::Float(*value)))
        .chain(
            columns
                .histograms
                .iter()
                .map(|h| (h.time.0, Point::Histogram(&h.histogram))),
        )
        .collect();
    if !columns.histograms.is_empty() {
        points.sort_by_key(|(time, _)| *time);
    }
    let mut last: Vec<(i64, Point<'_>)> = Vec::with_capacity(points.len());
    for (time, point) in points {
        let time = ms(time);
        match last.last_mut() {
            Some(before) if before.0 == time => before.1 = point,
            _ => last.push((time, point)),
        }
    }
    last
}

fn push_labels(out: &mut Vec<u8>, labels: &Labels) {
    let mut message = Vec::new();
    for label in labels {
        message.clear();
        push_bytes(&mut message, 1, label.name.as_bytes());
        push_bytes(&mut message, 2, label.value.as_bytes());
        push_bytes(out, 1, &message);
    }
}

/// Appends a `TimeSeries` to a `QueryResult`.
pub(super) fn push_series(result: &mut Vec<u8>, labels: &Labels, points: &[(i64, Point<'_>)]) {
    let mut series = Vec::new();
    push_labels(&mut series, labels);
    let mut message = Vec::new();
    for (time_ms, point) in points {
        message.clear();
        match point {
            Point::Float(value) => {
                push_double(&mut message, 1, *value);
                push_number(&mut message, 2, time_ms.cast_unsigned());
                push_bytes(&mut series, 2, &message);
            }
            Point::Histogram(histogram) => {
                push_histogram(&mut message, *time_ms, histogram);
                push_bytes(&mut series, 4, &message);
            }
        }
    }
    push_bytes(result, 1, &series);
}

/// A histogram with float populations, whatever they were sent as.
fn push_histogram(out: &mut Vec<u8>, time_ms: i64, histogram: &Histogram) {
    push_double(out, 2, histogram.count);
    push_double(out, 3, histogram.sum);
    push_signed(out, 4, histogram.schema.into());
    push_double(out, 5, histogram.zero_threshold);
    push_double(out, 7, histogram.zero_count);
    let sides = [
        (
            8,
            10,
            &histogram.negative_spans,
            &histogram.negative_buckets,
        ),
        (
            11,
            13,
            &histogram.positive_spans,
            &histogram.positive_buckets,
        ),
    ];
    for (spans_field, buckets_field, spans, buckets) in sides {
        for span in spans {
            let mut message = Vec::new();
            push_signed(&mut message, 1, span.offset.into());
            push_number(&mut message, 2, span.length.into());
            push_bytes(out, spans_field, &message);
        }
        push_doubles(out, buckets_field, buckets);
    }
    push_number(out, 14, histogram.counter_reset_hint as u64);
    push_number(out, 15, time_ms.cast_unsigned());
    push_doubles(out, 16, histogram.custom_bounds());
}

/// Makes frames of series with chunks.
pub(super) struct Frames {
    /// The query that is being answered.
    query: u64,
    /// `ChunkedSeries` of the next frame.
    series: Vec<u8>,
}

impl Frames {
    pub(super) fn new(query: usize) -> Self {
        Self {
            query: query as u64,
            series: Vec::new(),
        }
    }

    /// Adds a series; calls `send` with each frame that is full. A series may be spread over frames.
    pub(super) fn push<E>(
        &mut self,
        labels: &Labels,
        points: &[(i64, Point<'_>)],
        mut send: impl FnMut(Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut head = Vec::new();
        push_labels(&mut head, labels);
        let mut series = head.clone();
        for message in chunks(points) {
            push_bytes(&mut series, 2, &message);
            if self.series.len() + series.len() >= FRAME_BYTES {
                push_bytes(&mut self.series, 1, &series);
                send(self.take())?;
                series.clone_from(&head);
            }
        }
        if series.len() > head.len() {
            push_bytes(&mut self.series, 1, &series);
        }
        Ok(())
    }

    /// The last frame of the query, if anything is left for it.
    pub(super) fn finish(mut self) -> Option<Vec<u8>> {
        (!self.series.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> Vec<u8> {
        let mut message = std::mem::take(&mut self.series);
        push_number(&mut message, 2, self.query);
        let mut frame = Vec::with_capacity(message.len() + 16);
        push_varint(&mut frame, message.len() as u64);
        frame.extend_from_slice(&crc32c(&message).to_be_bytes());
        frame.extend_from_slice(&message);
        frame
    }
}

/// `Chunk` messages: runs of floats, and histograms one by one.
fn chunks<'a>(points: &'a [(i64, Point<'a>)]) -> impl Iterator<Item = Vec<u8>> + 'a {
    const XOR: u64 = 1;
    const FLOAT_HISTOGRAM: u64 = 3;
    let message = |first: i64, last: i64, kind: u64, data: &[u8]| {
        let mut message = Vec::with_capacity(data.len() + 32);
        push_number(&mut message, 1, first.cast_unsigned());
        push_number(&mut message, 2, last.cast_unsigned());
        push_number(&mut message, 3, kind);
        push_bytes(&mut message, 4, data);
        message
    };
    let mut rest = points;
    std::iter::from_fn(move || {
        let (time_ms, first) = rest.first()?;
        if let Point::Histogram(histogram) = first {
            rest = &rest[1..];
            let data = chunk::histogram(*time_ms, histogram);
            return Some(message(*time_ms, *time_ms, FLOAT_HISTOGRAM, &data));
        }
        let floats: Vec<(i64, f64)> = rest
            .iter()
            .take(chunk::SAMPLES_MAX)
            .map_while(|(time_ms, point)| match point {
                Point::Float(value) => Some((*time_ms, *value)),
                Point::Histogram(_) => None,
            })
            .collect();
        rest = &rest[floats.len()..];
        let (first, last) = (floats.first()?.0, floats.last()?.0);
        Some(message(first, last, XOR, &chunk::floats(&floats)))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chronolith_engine::model::{HistogramSample, TimestampNs};

    use super::*;
    use crate::ingest::protobuf::Reader;

    fn columns() -> SampleColumns {
        let ms = NANOS_PER_MILLI;
        SampleColumns {
            timestamps: (0..300)
                .map(|i| i * 1000 * ms + i % 2)
                .chain([300_000 * ms, 300_000 * ms + 1])
                .collect(),
            values: (0..302).map(f64::from).collect(),
            histograms: vec![HistogramSample {
                time: TimestampNs(50_500 * ms),
                histogram: Arc::new(Histogram::default()),
                start_time: None,
            }],
            ..SampleColumns::default()
        }
    }

    #[test]
    fn of_two_samples_in_a_millisecond_the_later_is_sent() {
        let columns = columns();
        let points = points(&columns);
        assert_eq!(points.len(), 302);
        assert!(matches!(
            points.last(),
            Some((300_000, Point::Float(301.0)))
        ));
        assert!(matches!(points[51], (50_500, Point::Histogram(_))));
    }

    #[test]
    fn frames_have_their_length_and_checksum() {
        let columns = columns();
        let labels = Labels::from_pairs([("__name__", "up")]).unwrap();
        let mut frames = Frames::new(3);
        frames
            .push(&labels, &points(&columns), |_| Err("one frame is enough"))
            .unwrap();
        let frame = frames.finish().unwrap();
        let mut at = 0;
        let length = chronolith_engine::codec::varint::read_u64(&frame, &mut at).unwrap();
        let message = &frame[at + 4..];
        assert_eq!(length, message.len() as u64);
        assert_eq!(frame[at..at + 4], crc32c(message).to_be_bytes());
        let mut reader = Reader::new(message);
        let series = reader.next_field().unwrap().unwrap().bytes().unwrap();
        let query = reader.next_field().unwrap().unwrap();
        assert_eq!((query.number, query.varint()), (2, Ok(3)));
        let mut series = Reader::new(series);
        let mut kinds = Vec::new();
        while let Some(field) = series.next_field().unwrap() {
            if field.number == 2 {
                let mut chunk = Reader::new(field.bytes().unwrap());
                let mut numbers = [0; 3];
                for number in &mut numbers {
                    *number = chunk.next_field().unwrap().unwrap().varint().unwrap();
                }
                kinds.push((numbers[2], numbers[0]));
            }
        }
        assert_eq!(
            kinds,
            [(1, 0), (3, 50_500), (1, 51_000), (1, 171_000), (1, 291_000)]
        );
    }

    #[test]
    fn large_answers_take_several_frames() {
        let columns = SampleColumns {
            timestamps: (0..400_000).map(|i| i * 1_234_567_891).collect(),
            values: (0..400_000).map(|i| f64::from(i).sin()).collect(),
            ..SampleColumns::default()
        };
        let labels = Labels::from_pairs([("__name__", "up")]).unwrap();
        let mut frames = Frames::new(0);
        let mut sent = Vec::new();
        let send = |frame: Vec<u8>| -> Result<(), ()> {
            sent.push(frame.len());
            Ok(())
        };
        frames.push(&labels, &points(&columns), send).unwrap();
        assert!(frames.finish().is_some());
        assert!(sent.len() > 2);
        assert!(sent.iter().all(|size| *size < FRAME_BYTES + (16 << 10)));
    }
}
