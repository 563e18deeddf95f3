//! Fuzz targets: one body per decoder, parser and file format, as plain functions.
//!
//! A body takes any bytes and must return: a panic, a hang or a broken property (a round trip that
//! differs, a position outside of the text) is a fault. `cargo test` replays every body over its
//! seeds and over `fuzz/corpus/<target>/`, then mutates them for a moment; `cargo xtask fuzz-smoke
//! SECONDS` goes on for longer. Inputs that found a fault join the corpus.
//!
//! Everything runs on stable Rust and is seeded, so that a failure can be run again. A wrapper for
//! cargo-fuzz is one line per body (`fuzz_target!(|data: &[u8]| (target.body)(data))`) and needs a
//! nightly compiler, which is why none is part of the workspace.

#![forbid(unsafe_code)]

pub mod mutate;
pub mod patch;
pub mod targets;

use std::path::PathBuf;

/// One body with its seeds.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name; also of its folder in the corpus.
    pub name: &'static str,
    /// Takes any bytes; panics on a fault.
    pub body: fn(&[u8]),
    /// Valid inputs made by our own encoders, so that they follow the formats.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Pieces that mutations insert: keywords, magic numbers.
    pub dictionary: &'static [&'static str],
}

/// All targets.
pub static TARGETS: &[&Target] = &[
    &targets::codec::VARINT,
    &targets::codec::BLOCK,
    &targets::labels::LABELS,
    &targets::labels::MATCHER,
    &targets::segment::METRIC_SEGMENT,
    &targets::rows::LOG_SEGMENT,
    &targets::spans::SPAN_SEGMENT,
    &targets::wal::WAL,
    &targets::manifest::MANIFEST,
    &targets::state::STATE,
    &targets::store::STORE,
    &targets::promql::PROMQL,
    &targets::promql::NUMBERS,
    &targets::traceql::TRACEQL,
    &targets::sql::SQL,
    &targets::ingest::REMOTE_WRITE,
    &targets::ingest::EXPOSITION,
    &targets::influx::LINE_PROTOCOL,
    &targets::otlp::OTLP_METRICS,
    &targets::rows_ingest::LOG_ROWS,
    &targets::rows_ingest::SPAN_ROWS,
    &targets::config::CONFIG,
];

impl Target {
    /// The inputs that every run starts from: seeds, then the corpus in order of file names.
    ///
    /// # Errors
    /// A corpus that cannot be read.
    pub fn inputs(&self) -> std::io::Result<Vec<Vec<u8>>> {
        let mut inputs = (self.seeds)();
        inputs.push(Vec::new());
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(self.name);
        if folder.is_dir() {
            let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?
                .map(|entry| Ok(entry?.path()))
                .collect::<std::io::Result<_>>()?;
            files.sort();
            for file in files {
                inputs.push(std::fs::read(file)?);
            }
        }
        Ok(inputs)
    }
}
