//! The manifest: refused, or the same bytes again. Inputs get the checksums they need, so that the
//! parser behind them is reached.

use std::path::Path;
use std::sync::LazyLock;

use chronolith_engine::codec::checksum::crc32c;
use chronolith_engine::manifest::{FileReference, Manifest, SegmentEntry, Tombstone};
use chronolith_engine::model::{Generation, SegmentId, Signal, TimeRange, TimestampNs};
use chronolith_engine::segment::{FileIdentity, SegmentMeta, SegmentOrigin};
use chronolith_engine::{MatchOp, Matcher, TenantId};

use crate::{Target, patch};

/// A manifest's content, or patches to one of ours.
pub static MANIFEST: Target = Target {
    name: "manifest",
    body: manifest,
    seeds,
    dictionary: &["default", "job", "\u{1}"],
};

/// The header as `docs/formats/manifest.md` has it: magic, version, zero, length, checksum of the
/// content, checksum of the header.
const HEADER_BYTES: usize = 32;
const LENGTH_AT: usize = 16;
const CONTENT_CRC_AT: usize = 24;
const HEADER_CRC_AT: usize = 28;

static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(files);

fn seeds() -> Vec<Vec<u8>> {
    FILES.iter().cloned().chain(patch::seeds()).collect()
}

fn manifest(data: &[u8]) {
    let magic = FILES[0].get(..8).unwrap_or_default();
    let file = if data.starts_with(magic) {
        data.to_vec()
    } else {
        patch::apply(&FILES, data)
    };
    read(&file);
    if let Some(repaired) = with_right_checksums(file) {
        read(&repaired);
    }
}

fn read(bytes: &[u8]) {
    let path = Path::new("MANIFEST");
    match Manifest::decode(path, bytes) {
        Ok(manifest) => {
            let again = Manifest::decode(path, &manifest.encode());
            match again {
                Ok(again) => assert_eq!(again, manifest),
                Err(error) => panic!("what was read cannot be read again: {error}"),
            }
        }
        Err(error) => assert!(error.to_string().contains("MANIFEST"), "{error}"),
    }
}

pub(super) fn with_right_checksums(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let content = bytes.get(HEADER_BYTES..)?;
    let (length, crc) = (content.len() as u64, crc32c(content));
    bytes[LENGTH_AT..LENGTH_AT + 8].copy_from_slice(&length.to_le_bytes());
    bytes[CONTENT_CRC_AT..CONTENT_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    let header_crc = crc32c(&bytes[..HEADER_CRC_AT]);
    bytes[HEADER_CRC_AT..HEADER_BYTES].copy_from_slice(&header_crc.to_le_bytes());
    Some(bytes)
}

/// An empty manifest, and one with segments, a deletion and state documents.
fn files() -> Vec<Vec<u8>> {
    let mut full = Manifest {
        generation: Generation(9),
        segment_id_next: 4,
        tombstone_id_next: 2,
        series_id_next: 800,
        state: Some(FileReference::of("state-000007".to_owned(), b"documents")),
        ..Manifest::default()
    };
    for id in 1..4 {
        let origin = SegmentOrigin {
            level: 1,
            derivation: (id == 2).then(|| "rule:success_rate".to_owned()),
            sources: vec![Generation(id), Generation(id + 1)],
            ..SegmentOrigin::received(
                TenantId::default(),
                Generation(5 + id),
                TimeRange::from_millis(1_763_600_000_000, 1_763_600_400_000),
            )
        };
        full.segments.push(SegmentEntry {
            id: SegmentId(id),
            identity: FileIdentity {
                length: 70_000 * id,
                checksum: 0x1234_5678,
            },
            meta: SegmentMeta {
                signal: Signal::Metrics,
                origin,
                range: TimeRange::from_millis(1_763_500_000_000, 1_763_600_000_000),
                series_count: 800,
                row_count: 190_000,
                chunk_count: 1_600,
                superseded_count: 12,
            },
        });
    }
    let matchers = [
        ("job", MatchOp::Equal, "demo"),
        ("region", MatchOp::Regex, "eu|us"),
    ];
    full.tombstones.push(Tombstone {
        id: 1,
        tenant: TenantId::default(),
        signal: Signal::Metrics,
        matchers: matchers
            .iter()
            .filter_map(|(name, op, value)| Matcher::new(name, *op, value).ok())
            .collect(),
        range: TimeRange::ALL,
        generation: Generation(8),
        sequence: 77,
        derivation: Some("rule/a".into()),
        arrival: TimestampNs(5),
    });
    vec![Manifest::default().encode(), full.encode()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_manifests_read_and_need_no_repair() {
        for file in files() {
            assert!(Manifest::decode(Path::new("MANIFEST"), &file).is_ok());
            assert_eq!(with_right_checksums(file.clone()), Some(file));
        }
    }
}
