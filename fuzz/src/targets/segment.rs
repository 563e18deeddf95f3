//! Segment files: damage is an error, never a panic and never an allocation beyond the file's size.
//!
//! Every byte is covered by a checksum, so that a mutant would be refused at once and the readers
//! behind the checksums never see it. The body therefore reads each file twice: as it is, and with
//! all checksums made right, as a faulty writer or a forger would leave it.
//!
//! An input is a segment file, or a list of patches to one of our seeds: bytes that are inserted or
//! removed shift the tail, which every reader refuses at once, while patches keep the frame and
//! reach the tables inside.

use std::sync::{Arc, LazyLock};

use chronolith_engine::codec::checksum::crc32c;
use chronolith_engine::model::{
    Exemplar, Generation, Labels, Metadata, SampleColumns, TimeRange, TimestampNs,
};
use chronolith_engine::segment::format::{
    HEADER_CRC_AT, MAGIC, PAGE_CRC_SIZE, PAGE_SIZE, TRAILER_BODY_AT, TRAILER_CRC_AT, TRAILER_SIZE,
};
use chronolith_engine::segment::{
    DecodeCache, MetricBuildOptions, MetricSegmentBuilder, MetricSegmentReader, SegmentOrigin,
};
use chronolith_engine::{Matcher, Result, TenantId};

use crate::{Target, patch};

/// Metrics segments.
pub static METRIC_SEGMENT: Target = Target {
    name: "metric_segment",
    body: metric_segment,
    seeds,
    dictionary: &[],
};

/// Rows that are read of an input: hostile counts must not turn into hours.
const ROWS_MAX: u32 = 64;

/// Files that patches are applied to.
static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(files);

fn metric_segment(data: &[u8]) {
    let file = if data.starts_with(&MAGIC[..4]) {
        data.to_vec()
    } else {
        patch::apply(&FILES, data)
    };
    let _ = read_all(file.clone());
    if let Some(repaired) = with_right_checksums(file) {
        let _ = read_all(repaired);
    }
}

/// Reads everything that a segment offers.
fn read_all(bytes: Vec<u8>) -> Result<()> {
    let reader = MetricSegmentReader::open(Arc::new(bytes), "fuzz.seg")?;
    let _ = reader.file().check_all_pages();
    let _ = reader.metadata();
    let _ = reader.cardinality();
    for name in reader.label_names(None).unwrap_or_default().iter().take(16) {
        let _ = reader.label_values(name, None);
        let _ = reader.series_per_value(name);
    }
    let _ = reader.select(&[Matcher::equal("job", "demo")], TimeRange::ALL);
    let mut cache = DecodeCache::new();
    let mut samples = SampleColumns::default();
    for row in 0..reader.row_count().min(ROWS_MAX) {
        let _ = reader.labels(row);
        let _ = reader.exemplars(row, TimeRange::ALL);
        let _ = reader.approximate_samples(row, TimeRange::ALL, &mut cache);
        for chunk in reader
            .chunks(row, TimeRange::ALL)
            .unwrap_or_default()
            .iter()
            .take(64)
        {
            let _ = reader.chunk_stats(chunk);
            let _ = reader.arrivals(chunk);
        }
        samples.clear();
        let _ = reader.read(row, TimeRange::ALL, &mut cache, &mut samples);
    }
    Ok(())
}

/// Computes header, page and tail checksums anew; none if the file is too short or its trailer
/// places the body outside of it.
pub(super) fn with_right_checksums(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let trailer_at = bytes.len().checked_sub(TRAILER_SIZE)?;
    let header_crc = crc32c(bytes.get(..HEADER_CRC_AT)?);
    put(&mut bytes, HEADER_CRC_AT, header_crc)?;
    let body_field = bytes
        .get(trailer_at + TRAILER_BODY_AT..)?
        .first_chunk::<8>()?;
    let body_length = usize::try_from(u64::from_le_bytes(*body_field)).ok()?;
    if body_length > trailer_at {
        return None;
    }
    for page in 0..body_length.div_ceil(PAGE_SIZE) {
        let start = page * PAGE_SIZE;
        let end = (start + PAGE_SIZE).min(body_length);
        let crc = crc32c(bytes.get(start..end)?);
        put(&mut bytes, body_length + page * PAGE_CRC_SIZE, crc)?;
    }
    let tail_crc = crc32c(bytes.get(body_length..trailer_at + TRAILER_CRC_AT)?);
    put(&mut bytes, trailer_at + TRAILER_CRC_AT, tail_crc)?;
    Some(bytes)
}

fn put(bytes: &mut [u8], at: usize, crc: u32) -> Option<()> {
    bytes
        .get_mut(at..at + 4)?
        .copy_from_slice(&crc.to_le_bytes());
    Some(())
}

/// The files themselves, and lists of patches spread over them.
fn seeds() -> Vec<Vec<u8>> {
    FILES.iter().cloned().chain(patch::seeds()).collect()
}

/// Segments of some series, small enough to read quickly.
fn files() -> Vec<Vec<u8>> {
    [(0, 0), (1, 1), (6, 130), (40, 300)]
        .into_iter()
        .map(|(series, samples)| match segment(series, samples) {
            Ok(bytes) => bytes,
            Err(error) => panic!("bug: the seed of {series} series cannot be built: {error}"),
        })
        .collect()
}

fn segment(series_count: usize, sample_count: usize) -> Result<Vec<u8>> {
    let origin = SegmentOrigin::received(TenantId::default(), Generation(1), TimeRange::new(1, 2));
    let mut builder = MetricSegmentBuilder::new(Vec::new(), origin, MetricBuildOptions::default())?;
    for series in 0..series_count {
        let instance = format!("host-{series:03}:9100");
        let pairs = [
            ("__name__", "queue_depth"),
            ("instance", instance.as_str()),
            ("job", "demo"),
        ];
        let labels = Labels::from_pairs(pairs)
            .map_err(|error| chronolith_engine::EngineError::InvalidArgument(error.to_string()))?;
        builder.begin_series(&labels)?;
        let mut samples = SampleColumns::default();
        for index in 0..sample_count {
            samples
                .timestamps
                .push(1_763_600_400_000_000_000 + index as i64 * 15_000_000_000);
            samples.values.push((index * series % 17) as f64);
        }
        builder.push_samples(&samples)?;
        if series == 2 {
            builder.push_exemplars(&[Exemplar {
                labels: labels.clone(),
                time: TimestampNs(1_763_600_400_000_000_000),
                value: 2.5,
            }])?;
        }
    }
    builder.push_metadata("queue_depth", &Metadata::default());
    Ok(builder.finish()?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_checksums_change_nothing_in_a_good_file() {
        for seed in files() {
            assert!(read_all(seed.clone()).is_ok());
            assert_eq!(with_right_checksums(seed.clone()), Some(seed.clone()));
            // A flipped byte in the first section is found as it is, and read once repaired.
            let mut damaged = seed;
            damaged[30] ^= 1;
            let repaired = with_right_checksums(damaged.clone()).unwrap();
            assert_ne!(repaired, damaged);
            let reader = |bytes: Vec<u8>| MetricSegmentReader::open(Arc::new(bytes), "x.seg");
            assert!(reader(damaged).is_err());
            let _ = reader(repaired);
        }
    }

    #[test]
    fn patches_reach_behind_the_checksums() {
        let seeds = seeds();
        let opened = seeds[FILES.len()..].iter().filter(|patches| {
            let repaired = with_right_checksums(patch::apply(&FILES, patches));
            repaired.is_some_and(|bytes| MetricSegmentReader::open(Arc::new(bytes), "x").is_ok())
        });
        let opened = opened.count();
        assert!(opened > 20, "{opened} of 100 patched files open");
    }
}
