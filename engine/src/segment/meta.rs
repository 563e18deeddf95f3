//! What a segment says about itself: whose data, from when, made of what.

use crate::context::TenantId;
use crate::error::Result;
use crate::model::{Generation, Signal, TimeRange, TimestampNs};

use super::file::SegmentFile;
use super::format::SectionKind;
use super::wire::{put_i64, put_str, put_u64};

/// What the maker of a segment knows before its first row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentOrigin {
    /// Whose data.
    pub tenant: TenantId,
    /// 0 from the head, one more with each merge.
    pub level: u8,
    /// The manifest change that brings the segment in; between equal timestamps of a series the
    /// segment of the higher generation wins.
    pub generation: Generation,
    /// When the rows arrived, by the store's clock: first and last.
    pub arrival: TimeRange,
    /// Names what computed the rows (rule, downsampling, template count); `None` for received ones.
    pub derivation: Option<String>,
    /// Generations that the segment was made from; empty when it comes from the head.
    pub sources: Vec<Generation>,
}

impl SegmentOrigin {
    /// Received rows of the default tenant: tests and examples.
    #[must_use]
    pub fn received(tenant: TenantId, generation: Generation, arrival: TimeRange) -> Self {
        Self {
            tenant,
            level: 0,
            generation,
            arrival,
            derivation: None,
            sources: Vec::new(),
        }
    }
}

/// What a segment says about itself; stored in the file and repeated in the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentMeta {
    /// Which kind of telemetry.
    pub signal: Signal,
    /// Whose, whence.
    pub origin: SegmentOrigin,
    /// First and last timestamp of the rows; an empty range when there is none.
    pub range: TimeRange,
    /// Series (metrics) or streams (logs, spans).
    pub series_count: u64,
    /// Samples, log records or spans.
    pub row_count: u64,
    /// Chunks (metrics) or blocks (logs, spans).
    pub chunk_count: u64,
    /// Samples besides the rows that later ones have taken the place of, kept for reads as of then.
    pub superseded_count: u64,
}

impl SegmentMeta {
    /// The stored form. Also used by the manifest.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let origin = &self.origin;
        put_str(&mut out, origin.tenant.as_str());
        out.push(origin.level);
        put_u64(&mut out, origin.generation.0);
        put_i64(&mut out, origin.arrival.start.0);
        put_i64(&mut out, origin.arrival.end.0);
        out.push(u8::from(origin.derivation.is_some()));
        if let Some(derivation) = &origin.derivation {
            put_str(&mut out, derivation);
        }
        put_u64(&mut out, origin.sources.len() as u64);
        for source in &origin.sources {
            put_u64(&mut out, source.0);
        }
        put_i64(&mut out, self.range.start.0);
        put_i64(&mut out, self.range.end.0);
        put_u64(&mut out, self.series_count);
        put_u64(&mut out, self.row_count);
        put_u64(&mut out, self.chunk_count);
        put_u64(&mut out, self.superseded_count);
        out
    }

    /// Reads the meta section of `file`.
    ///
    /// # Errors
    /// [`crate::EngineError::Corruption`] when it is missing or damaged.
    pub fn read(file: &SegmentFile) -> Result<Self> {
        let mut cursor = file.cursor(SectionKind::Meta)?;
        let name = cursor.str()?;
        let tenant = TenantId::new(name).map_err(|_| cursor.corrupt("a tenant's name", name))?;
        let level = cursor.u8()?;
        let generation = Generation(cursor.varint()?);
        let arrival = TimeRange {
            start: TimestampNs(cursor.varint_i64()?),
            end: TimestampNs(cursor.varint_i64()?),
        };
        let derivation = match cursor.u8()? {
            0 => None,
            1 => Some(cursor.str()?.to_owned()),
            other => return Err(cursor.corrupt("0 or 1", other)),
        };
        let source_count = cursor.count("source count")?;
        let mut sources = Vec::new();
        for _ in 0..source_count {
            sources.push(Generation(cursor.varint()?));
        }
        let meta = Self {
            signal: file.signal(),
            origin: SegmentOrigin {
                tenant,
                level,
                generation,
                arrival,
                derivation,
                sources,
            },
            range: TimeRange {
                start: TimestampNs(cursor.varint_i64()?),
                end: TimestampNs(cursor.varint_i64()?),
            },
            series_count: cursor.varint()?,
            row_count: cursor.varint()?,
            chunk_count: cursor.varint()?,
            superseded_count: match file.version() {
                1 => 0,
                _ => cursor.varint()?,
            },
        };
        // Rows are u32 everywhere, so this bounds what a damaged count can make us allocate or walk.
        if meta.series_count > u64::from(u32::MAX) {
            return Err(cursor.corrupt("at most 2^32 - 1 series", meta.series_count));
        }
        cursor.finish()?;
        Ok(meta)
    }
}

/// A range that grows with every timestamp seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GrowingRange(pub(crate) TimeRange);

impl Default for GrowingRange {
    fn default() -> Self {
        Self(TimeRange {
            start: TimestampNs::MAX,
            end: TimestampNs::MIN,
        })
    }
}

impl GrowingRange {
    pub(crate) fn include(&mut self, first: i64, last: i64) {
        self.0.start = self.0.start.min(TimestampNs(first));
        self.0.end = self.0.end.max(TimestampNs(last));
    }
}
