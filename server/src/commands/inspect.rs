//! `verify DIR` and `inspect FILE`: looks at a store's files without opening the store.

use std::io::Write as _;
use std::path::Path;

use anyhow::bail;
use chronolith_engine::io::Disk;
use chronolith_engine::store::{Finding, verify_dir};

/// Checks the manifest, every file that it names, every checksum and value of every segment, the
/// documents and the log. One line a file; what is damaged is named with the offset, and the rest is
/// still checked.
///
/// # Errors
/// Something is damaged, or there is no store.
pub(super) fn verify(dir: &Path) -> anyhow::Result<u8> {
    let mut out = std::io::stdout().lock();
    let mut written = Ok(());
    let summary = verify_dir(&Disk, dir, &mut |file, finding| {
        let line = match finding {
            Finding::Sound(what) => writeln!(out, "ok       {file}: {what}"),
            Finding::Damaged(error) => writeln!(out, "DAMAGED  {file}: {error}"),
            Finding::Ignored(why) => writeln!(out, "ignored  {file}: {why}"),
        };
        if written.is_ok() {
            written = line;
        }
    })?;
    written?;
    if summary.damaged > 0 {
        bail!("{}: {} damaged", dir.display(), summary.damaged);
    }
    Ok(0)
}

/// Prints the content of a manifest, a segment, a state snapshot or a log file.
///
/// # Errors
/// The file is none of them, or damaged.
pub(super) fn inspect(file: &Path) -> anyhow::Result<u8> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let inspected = chronolith_engine::inspect(&Disk, file, &mut out);
    // What came before the damage is worth seeing.
    out.flush()?;
    inspected?;
    Ok(0)
}
