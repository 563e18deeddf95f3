//! The answer of a PromQL query in pieces, so that a large matrix is never held as one text.
//!
//! Of an answer that the result cache will know whole the next time, the pieces are kept beside it; the
//! next time they are sent as they are.

use std::sync::Arc;

use bytes::Bytes;
use chronolith_query::promql::result::{
    FloatPoint, KeptText, SampleValue, Series, Value, VectorElement,
};

use crate::wire::{json, number, prometheus};

/// Bytes of an answer that are made before they are sent.
const CHUNK_BYTES: usize = 256 << 10;

/// The pieces of an answer; each is made when the one before is on its way.
pub(super) struct Pieces {
    head: String,
    rest: Rest,
    tail: String,
    times: prometheus::SampleTimes,
    stage: Stage,
    /// Nothing of the list has been written.
    first: bool,
    recorder: Option<Recorder>,
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Body,
    Tail,
    End,
}

/// What is still to be written.
enum Rest {
    Nothing,
    /// Not in a list.
    Scalar(FloatPoint),
    String(i64, String),
    Vector(std::vec::IntoIter<VectorElement>),
    Matrix(std::vec::IntoIter<Series>),
    /// The list as it was written before, and how many pieces of it have been sent.
    Written(Arc<[Bytes]>, usize),
}

/// Collects what is written of an answer that may be asked for again.
struct Recorder {
    place: KeptText,
    pieces: Vec<Bytes>,
    bytes_left: usize,
}

impl Recorder {
    fn new(place: KeptText) -> Self {
        let bytes_left = place.bytes_max();
        Self {
            place,
            pieces: Vec::new(),
            bytes_left,
        }
    }

    /// Adds a piece; `None` once it is too much to be kept.
    fn with(mut self, piece: &Bytes) -> Option<Self> {
        self.bytes_left = self.bytes_left.checked_sub(piece.len())?;
        self.pieces.push(piece.clone());
        Some(self)
    }

    fn keep(self) {
        self.place.keep(self.pieces);
    }
}

impl Rest {
    fn of(value: Value, text: Option<&KeptText>) -> Self {
        if let Some(written) = text.and_then(KeptText::written) {
            return Self::Written(Arc::clone(written), 0);
        }
        match value {
            Value::Scalar(point) => Self::Scalar(point),
            Value::String { time_ms, value } => Self::String(time_ms, value),
            Value::Vector(elements) => Self::Vector(elements.into_iter()),
            Value::Matrix(series) => Self::Matrix(series.into_iter()),
        }
    }

    /// Roughly what the text of the rest takes, to be reserved.
    fn bytes_about(&self) -> usize {
        match self {
            Self::Vector(elements) => elements.len() * 256,
            Self::Matrix(series) => {
                let points = |s: &Series| s.floats.len();
                let sizes = series.as_slice().iter().map(|s| 256 + 32 * points(s));
                sizes.take(1024).sum()
            }
            _ => 0,
        }
    }

    fn is_list(&self) -> bool {
        matches!(self, Self::Vector(_) | Self::Matrix(_))
    }
}

impl Pieces {
    /// `value` between `head` and `tail`; `text` is where the engine keeps what is written of it, or has
    /// it already.
    pub(super) fn new(head: String, value: Value, tail: String, text: Option<KeptText>) -> Self {
        let rest = Rest::of(value, text.as_ref());
        let recorder = text.filter(|text| text.written().is_none());
        Self {
            head,
            rest,
            tail,
            times: prometheus::SampleTimes::default(),
            stage: Stage::Head,
            first: true,
            recorder: recorder.map(Recorder::new),
        }
    }

    /// Appends the next element; false when there is none.
    fn push_next(&mut self, text: &mut String) -> bool {
        let separator = if self.first { "" } else { "," };
        match &mut self.rest {
            Rest::Nothing | Rest::Written(..) => return false,
            Rest::Scalar(point) => {
                prometheus::push_sample(text, point.time_ms, point.value);
                self.rest = Rest::Nothing;
            }
            Rest::String(time_ms, value) => {
                text.push('[');
                number::push_timestamp(text, *time_ms);
                text.push(',');
                json::push_string(text, value);
                text.push(']');
                self.rest = Rest::Nothing;
            }
            Rest::Vector(elements) => {
                let Some(element) = elements.next() else {
                    return false;
                };
                text.push_str(separator);
                push_element(text, &element);
            }
            Rest::Matrix(series) => {
                let Some(series) = series.next() else {
                    return false;
                };
                text.push_str(separator);
                push_series(text, &series, &mut self.times);
            }
        }
        self.first = false;
        true
    }

    /// Appends elements until the piece is large enough or none is left.
    fn push_body(&mut self, text: &mut String) {
        text.reserve(CHUNK_BYTES.min(self.rest.bytes_about()));
        let is_list = self.rest.is_list();
        if is_list && self.first {
            text.push('[');
        }
        while text.len() < CHUNK_BYTES {
            if !self.push_next(text) {
                if is_list {
                    text.push(']');
                }
                self.stage = Stage::Tail;
                return;
            }
        }
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut text = String::new();
        if self.stage == Stage::Head {
            text = std::mem::take(&mut self.head);
            self.stage = Stage::Body;
            // What is kept of the body is pieces of nothing else.
            if self.recorder.is_some() || matches!(self.rest, Rest::Written(..)) {
                return Some(Bytes::from(text));
            }
        }
        if self.stage == Stage::Body {
            if let Rest::Written(pieces, sent) = &mut self.rest {
                if let Some(piece) = pieces.get(*sent) {
                    *sent += 1;
                    return Some(piece.clone());
                }
                self.stage = Stage::Tail;
            } else {
                self.push_body(&mut text);
            }
            if let Some(recorder) = self.recorder.take() {
                let piece = Bytes::from(text);
                let recorder = recorder.with(&piece);
                match self.stage {
                    Stage::Tail => recorder.into_iter().for_each(Recorder::keep),
                    _ => self.recorder = recorder,
                }
                return Some(piece);
            }
            if self.stage == Stage::Body {
                return Some(Bytes::from(text));
            }
        }
        if self.stage == Stage::Tail {
            text.push_str(&self.tail);
            self.stage = Stage::End;
            return Some(Bytes::from(text));
        }
        None
    }
}

fn push_element(out: &mut String, element: &VectorElement) {
    out.push_str("{\"metric\":");
    json::push_labels(out, &element.labels);
    match &element.value {
        SampleValue::Float(value) => {
            out.push_str(",\"value\":");
            prometheus::push_sample(out, element.time_ms, *value);
        }
        SampleValue::Histogram(histogram) => {
            out.push_str(",\"histogram\":");
            prometheus::push_histogram_sample(out, element.time_ms, histogram);
        }
    }
    out.push('}');
}

fn push_series(out: &mut String, series: &Series, times: &mut prometheus::SampleTimes) {
    out.push_str("{\"metric\":");
    json::push_labels(out, &series.labels);
    if !series.floats.is_empty() {
        out.push_str(",\"values\":");
        json::push_array(
            out,
            series.floats.iter().enumerate(),
            |out, (index, point)| {
                times.push_sample(out, index, point.time_ms, point.value);
            },
        );
    }
    if !series.histograms.is_empty() {
        out.push_str(",\"histograms\":");
        json::push_array(out, &series.histograms, |out, point| {
            prometheus::push_histogram_sample(out, point.time_ms, &point.histogram);
        });
    }
    out.push('}');
}
