//! Live segments in memory: opened once, shared by every view that holds them.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Corruption, EngineError, Result};
use crate::io::FileSystem;
use crate::model::{Generation, SegmentId, Signal, TimeRange};
use crate::segment::{
    self, FileIdentity, LogSegmentReader, MetricSegmentReader, SegmentFile, SegmentMeta, SpanReader,
};

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    /// Bytes of the file.
    pub(crate) bytes: u64,
    pub(crate) body: SegmentBody,
}

/// The reader of a segment's signal.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "segments lie behind an Arc and are never moved"
)]
pub(crate) enum SegmentBody {
    Metrics(MetricSegmentReader),
    Logs(LogSegmentReader),
    Spans(SpanReader),
}

impl Segment {
    /// Opens a segment file and compares it with what the manifest knows of it.
    pub(crate) fn open(
        fs: &dyn FileSystem,
        path: &Path,
        id: SegmentId,
        signal: Signal,
        identity: FileIdentity,
    ) -> Result<Arc<Self>> {
        let bytes = segment::map(fs, path)?;
        let body = match signal {
            Signal::Metrics => SegmentBody::Metrics(MetricSegmentReader::open(bytes, path)?),
            Signal::Logs => SegmentBody::Logs(LogSegmentReader::open(bytes, path)?),
            Signal::Spans => SegmentBody::Spans(SpanReader::open(bytes, path)?),
        };
        let found = match &body {
            SegmentBody::Metrics(reader) => reader.file().identity(),
            SegmentBody::Logs(reader) => reader.file().identity(),
            SegmentBody::Spans(reader) => reader.file().identity(),
        };
        if found != identity {
            return Err(EngineError::Corruption(Corruption {
                path: path.to_owned(),
                offset: 0,
                expected: format!("{identity:?}, which the manifest names"),
                found: format!("{found:?}"),
            }));
        }
        Ok(Arc::new(Self {
            id,
            bytes: identity.length,
            body,
        }))
    }

    pub(crate) fn meta(&self) -> &SegmentMeta {
        match &self.body {
            SegmentBody::Metrics(reader) => reader.meta(),
            SegmentBody::Logs(reader) => reader.meta(),
            SegmentBody::Spans(reader) => reader.meta(),
        }
    }

    /// The file.
    pub(crate) fn file(&self) -> &SegmentFile {
        match &self.body {
            SegmentBody::Metrics(reader) => reader.file(),
            SegmentBody::Logs(reader) => reader.file(),
            SegmentBody::Spans(reader) => reader.file(),
        }
    }

    /// Estimated bytes held in memory besides the mapped file.
    pub(crate) fn heap_bytes(&self) -> u64 {
        (size_of::<Self>() + self.file().heap_bytes()) as u64
    }

    pub(crate) fn metrics(&self) -> Option<&MetricSegmentReader> {
        match &self.body {
            SegmentBody::Metrics(reader) => Some(reader),
            _ => None,
        }
    }

    /// The order of arrival: rows of a segment with a higher number arrived later.
    pub(crate) fn generation(&self) -> Generation {
        self.meta().origin.generation
    }

    pub(crate) fn range(&self) -> TimeRange {
        self.meta().range
    }
}
