//! `verify DIR` and `inspect FILE`: looks at a store's files without opening the store.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use chronolith_engine::io::Disk;
use chronolith_engine::manifest::{MANIFEST_FILE, Manifest};
use chronolith_engine::segment;
use chronolith_engine::wal::{LogStart, Record, replay};

/// Where a store's log files lie.
const WAL_DIR: &str = "wal";

/// Checks the manifest, every file that it names, every checksum and value of every segment, and
/// the log. One line a file; what is damaged is named, and the rest is still checked.
///
/// # Errors
/// There is no store, or its manifest cannot be read.
pub(super) fn verify(dir: &Path) -> anyhow::Result<u8> {
    let manifest = Manifest::load(&Disk, dir)?
        .ok_or_else(|| anyhow!("{}: no {MANIFEST_FILE}, so no store", dir.display()))?;
    let mut damaged = 0_u64;
    let mut report =
        |file: &str, outcome: Result<String, chronolith_engine::EngineError>| match outcome {
            Ok(what) => println!("ok       {file}: {what}"),
            Err(error) => {
                damaged += 1;
                println!("DAMAGED  {file}: {error}");
            }
        };
    report(
        MANIFEST_FILE,
        manifest.check_files(&Disk, dir).map(|()| {
            let count = manifest.segments.len();
            format!("generation {}, {count} segments", manifest.generation.0)
        }),
    );
    for entry in &manifest.segments {
        let name = segment::file_name(entry.id);
        let path = dir.join(&name);
        let verified = segment::map(&Disk, &path).and_then(|bytes| segment::verify(bytes, &path));
        report(
            &name,
            verified.map(|v| format!("{} series, {} rows, {} bytes", v.series, v.rows, v.bytes)),
        );
    }
    let log = replay(&Disk, &dir.join(WAL_DIR), manifest.log, |_, _| Ok(()));
    report(
        WAL_DIR,
        log.map(|(report, _)| {
            let torn = match &report.torn_tail {
                Some(torn) => format!(
                    ", torn tail in {} at byte {}, as a crash leaves it",
                    torn.path.display(),
                    torn.offset
                ),
                None => String::new(),
            };
            let (files, records, rows) = (report.files, report.records, report.rows);
            format!("{files} files, {records} records, {rows} rows{torn}")
        }),
    );
    if damaged > 0 {
        bail!("{}: {damaged} damaged", dir.display());
    }
    Ok(0)
}

/// Prints the content of a manifest, a segment or a log file.
///
/// # Errors
/// The file is none of them, or damaged.
pub(super) fn inspect(file: &Path) -> anyhow::Result<u8> {
    let name = file
        .file_name()
        .and_then(|n| n.to_str())
        .ok_or_else(|| anyhow!("{}: not a file of a store", file.display()))?;
    if name == MANIFEST_FILE {
        let bytes = fs::read(file).with_context(|| file.display().to_string())?;
        println!("{:#?}", Manifest::decode(file, &bytes)?);
    } else if name.ends_with(segment::FILE_SUFFIX) {
        let bytes = segment::map(&Disk, file)?;
        print!("{}", segment::inspect(bytes, file)?);
    } else {
        inspect_log(file, name)?;
    }
    Ok(0)
}

/// Replays one log file alone: it is copied into a store of its own in memory, so that neither its
/// neighbours nor the manifest matter.
fn inspect_log(file: &Path, name: &str) -> anyhow::Result<()> {
    use chronolith_engine::io::{FileSystem as _, Memory};

    let digits = name.split('.').next().unwrap_or_default();
    let number: u64 = digits
        .parse()
        .map_err(|_| anyhow!("{}: neither manifest, segment nor log file", file.display()))?;
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    let (memory, dir) = (Memory::new(), Path::new("/log"));
    memory.create_dir_all(dir)?;
    let copy = memory.create(&dir.join(name))?;
    copy.write_at(0, &bytes)?;
    let start = LogStart {
        first_file: number,
        ..LogStart::default()
    };
    let (report, _) = replay(&memory, dir, start, |sequence, record| {
        println!("{}", describe(sequence, &record));
        Ok(())
    })?;
    println!("{} records, {} rows", report.records, report.rows);
    if let Some(torn) = report.torn_tail {
        println!("torn tail at byte {}", torn.offset);
    }
    Ok(())
}

fn describe(sequence: u64, record: &Record) -> String {
    let counts = [
        ("new series", record.series.len()),
        ("histograms", record.histograms.len()),
        ("exemplars", record.exemplars.len()),
        ("metadata", record.metadata.len()),
        ("log records", record.logs.len()),
        ("spans", record.spans.len()),
    ];
    let mut text = format!(
        "record {sequence}: tenant {}, arrived at {} ns, {} samples",
        record.tenant.as_str(),
        record.arrival.0,
        record.samples.values.len()
    );
    for (what, count) in counts {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}
