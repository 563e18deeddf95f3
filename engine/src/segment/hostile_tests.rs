//! Damaged files: an error that names the file, or the right answer; never a panic.

use std::sync::Arc;

use super::logs::tests::log_segment;
use super::metrics::tests::{Model, build, labels};
use super::rows::tests::{OLD_LOGS, OLD_SPANS};
use super::spans::tests::span_columns_segment;
use super::*;
use crate::EngineError;
use crate::model::SampleColumns;

fn metric_segment() -> Vec<u8> {
    let mut model = Model::new();
    for series in 0..6 {
        let samples = SampleColumns {
            timestamps: (0..20).map(|t| t * 1_000_000_000).collect(),
            values: (0..20).map(|t| f64::from(t * series)).collect(),
            start_timestamps: if series == 3 { vec![1; 20] } else { vec![] },
            ..SampleColumns::default()
        };
        let set = labels(&[("__name__", "m"), ("s", &series.to_string())]);
        model.insert(set, samples);
    }
    build(&model, MetricBuildOptions::default())
}

/// One of every form.
fn segments() -> [Vec<u8>; 5] {
    [
        metric_segment(),
        log_segment(),
        span_columns_segment(),
        OLD_LOGS[2].to_vec(),
        OLD_SPANS[2].to_vec(),
    ]
}

fn must_name_the_file(bytes: Vec<u8>, what: &str) {
    match verify(Arc::new(bytes), "damaged.seg") {
        Ok(_) => panic!("{what}: not noticed"),
        Err(EngineError::Corruption(corruption)) => {
            assert!(corruption.path.ends_with("damaged.seg"), "{what}");
        }
        Err(other) => panic!("{what}: {other}"),
    }
}

#[test]
fn whole_files_verify_and_describe_themselves() {
    for (bytes, signal) in [
        (metric_segment(), "metrics"),
        (log_segment(), "logs"),
        (OLD_LOGS[2].to_vec(), "logs"),
        (OLD_SPANS[2].to_vec(), "spans"),
        (span_columns_segment(), "spans"),
    ] {
        let length = bytes.len() as u64;
        let bytes: SegmentBytes = Arc::new(bytes);
        let verified = verify(SegmentBytes::clone(&bytes), "a.seg").unwrap();
        assert_eq!(verified.bytes, length);
        assert!(verified.rows > 0 && verified.chunks > 0 && verified.series > 0);
        let text = inspect(bytes, "a.seg").unwrap();
        assert!(text.contains(&format!("signal       {signal}")), "{text}");
    }
}

#[test]
fn a_file_cut_anywhere_is_noticed() {
    for bytes in segments() {
        for length in 0..bytes.len() {
            must_name_the_file(bytes[..length].to_vec(), &format!("cut to {length}"));
        }
        let mut longer = bytes.clone();
        longer.push(0);
        must_name_the_file(longer, "one byte more");
    }
}

#[test]
fn a_flip_of_any_byte_is_noticed() {
    for bytes in segments() {
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            must_name_the_file(damaged, &format!("flip at {at}"));
        }
    }
}

/// Behind the checksums too: bytes changed and checksums made right again, as an attacker would.
#[test]
fn wrong_bytes_with_right_checksums_do_no_harm() {
    for bytes in segments() {
        let file = SegmentFile::open(Arc::new(bytes.clone()), "a.seg").unwrap();
        let body = file
            .sections()
            .iter()
            .map(|(_, s)| s.offset + s.length)
            .max();
        let body = body.unwrap() as usize;
        for at in format::HEADER_SIZE..body {
            for value in [bytes[at] ^ (1 << (at % 8)), 0xff, 0] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                repair_checksums(&mut damaged, body);
                let damaged: SegmentBytes = Arc::new(damaged);
                let _ = verify(SegmentBytes::clone(&damaged), "damaged.seg");
                let _ = inspect(damaged, "damaged.seg");
            }
        }
    }
}

fn repair_checksums(bytes: &mut [u8], body: usize) {
    let pages = body.div_ceil(format::PAGE_SIZE);
    for page in 0..pages {
        let start = page * format::PAGE_SIZE;
        let crc = crc32c::crc32c(&bytes[start..(start + format::PAGE_SIZE).min(body)]);
        let at = body + page * format::PAGE_CRC_SIZE;
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    }
    let at = bytes.len() - format::TRAILER_SIZE + format::TRAILER_CRC_AT;
    let crc = crc32c::crc32c(&bytes[body..at]);
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}
