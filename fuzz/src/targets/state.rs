//! State snapshots: refused, or the same documents again. Inputs get the checksums they need, so that
//! the parser behind them is reached.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use chronolith_engine::TenantId;
use chronolith_engine::model::Generation;
use chronolith_engine::state::StateStore;
use chronolith_engine::wal::StateOp;

use super::manifest::with_right_checksums;
use crate::{Target, patch};

/// A snapshot file, or patches to one of ours.
pub static STATE: Target = Target {
    name: "state",
    body: snapshot,
    seeds,
    dictionary: &["default", "dashboards", "\u{1}"],
};

static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(files);

fn snapshot(data: &[u8]) {
    let file = if data.starts_with(&FILES[0][..8]) {
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
    let open = |bytes: &[u8]| StateStore::from_snapshot(Path::new("fuzz.state"), bytes);
    let Ok(state) = open(bytes) else { return };
    let (_, written) = state.snapshot(Generation(1));
    let Ok(again) = open(&written) else {
        panic!("what we write can be read");
    };
    assert_eq!(state.size(), again.size());
    assert_eq!(again.snapshot(Generation(1)).1, written);
}

fn files() -> Vec<Vec<u8>> {
    [0_u64, 1, 30]
        .map(|documents| {
            let state = StateStore::default();
            for number in 0..documents {
                let op = StateOp {
                    collection: "dashboards".into(),
                    key: format!("board-{number}").into(),
                    version: number + 1,
                    value: Some(Arc::from(vec![number as u8; number as usize])),
                };
                state.apply(&TenantId::default(), &op);
            }
            state.snapshot(Generation(1)).1
        })
        .to_vec()
}

fn seeds() -> Vec<Vec<u8>> {
    FILES.iter().cloned().chain(patch::seeds()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_checksums_change_nothing_in_a_good_file() {
        for file in files() {
            assert_eq!(with_right_checksums(file.clone()), Some(file));
        }
    }
}
