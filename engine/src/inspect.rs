//! Prints a file of a store for people, whichever it is: told by its first bytes, not by its name.

use std::io::Write;
use std::path::Path;

use crate::error::{EngineError, Result};
use crate::io::FileSystem;
use crate::manifest::{self, Manifest};
use crate::segment::{self, format};
use crate::state::{self, StateStore};
use crate::wal;

/// Writes a description of a log file, segment, manifest or state snapshot to `out`.
///
/// # Errors
/// [`EngineError::InvalidArgument`] for another kind of file, damage that stands in the way of the
/// description (what was printed before is right), what the file system or `out` says.
pub fn inspect(fs: &dyn FileSystem, path: &Path, out: &mut dyn Write) -> Result<()> {
    let file = fs.open_read(path)?;
    let mut magic = [0; 8];
    let read = file.read_at(0, &mut magic)?;
    let written = if magic == wal::FILE_MAGIC {
        return wal::inspect(file, out);
    } else if magic == format::MAGIC {
        let text = segment::inspect(segment::map(fs, path)?, path)?;
        out.write_all(text.as_bytes())
    } else if magic == manifest::KIND.magic {
        let manifest = Manifest::decode(path, &fs.map(path)?)?;
        describe_manifest(path, &manifest, out)
    } else if magic == state::KIND.magic {
        let documents = StateStore::from_snapshot(path, &fs.map(path)?)?;
        describe_state(path, &documents, out)
    } else {
        return Err(EngineError::InvalidArgument(format!(
            "{}: neither log file, segment, manifest nor state snapshot: it begins with {:02x?}",
            path.display(),
            &magic[..read]
        )));
    };
    written.map_err(|error| EngineError::io("output", error))
}

fn describe_manifest(path: &Path, manifest: &Manifest, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "manifest     {}", path.display())?;
    writeln!(out, "version      {}", manifest::FORMAT_VERSION)?;
    writeln!(out, "generation   {}", manifest.generation)?;
    let (sequence, file) = (manifest.log.sequence, manifest.log.first_file);
    writeln!(
        out,
        "log          from record {sequence} on, in file {file} or later"
    )?;
    writeln!(
        out,
        "next ids     segment {}, tombstone {}, series {}",
        manifest.segment_id_next, manifest.tombstone_id_next, manifest.series_id_next
    )?;
    match &manifest.state {
        None => writeln!(out, "documents    none")?,
        Some(state) => writeln!(
            out,
            "documents    {}, {} bytes, checksum {:08x}",
            state.name, state.length, state.checksum
        )?,
    }
    let bytes = manifest.segments.iter().map(|entry| entry.identity.length);
    let (count, bytes) = (manifest.segments.len(), bytes.sum::<u64>());
    writeln!(out, "segments     {count}, {bytes} bytes")?;
    for entry in &manifest.segments {
        let meta = &entry.meta;
        let origin = &meta.origin;
        writeln!(
            out,
            "\n  {}  {} of tenant {}, level {}, generation {}",
            segment::file_name(entry.id),
            meta.signal.as_str(),
            origin.tenant.as_str(),
            origin.level,
            origin.generation
        )?;
        writeln!(out, "    {} to {}", meta.range.start, meta.range.end)?;
        writeln!(
            out,
            "    {} series, {} rows, {} chunks, {} bytes, checksum {:08x}",
            meta.series_count,
            meta.row_count,
            meta.chunk_count,
            entry.identity.length,
            entry.identity.checksum
        )?;
        if let Some(derivation) = &origin.derivation {
            writeln!(out, "    derived by {derivation}")?;
        }
        if !origin.sources.is_empty() {
            let sources: Vec<String> = origin.sources.iter().map(ToString::to_string).collect();
            writeln!(out, "    made from generations {}", sources.join(", "))?;
        }
    }
    writeln!(out, "\ntombstones   {}", manifest.tombstones.len())?;
    for tombstone in &manifest.tombstones {
        let matchers: Vec<String> = tombstone.matchers.iter().map(ToString::to_string).collect();
        writeln!(
            out,
            "\n  {}  {} of tenant {}: {{{}}}\n    {} to {}\n    rows of segments before generation {}, \
             of records before {}",
            tombstone.id,
            tombstone.signal.as_str(),
            tombstone.tenant.as_str(),
            matchers.join(", "),
            tombstone.range.start,
            tombstone.range.end,
            tombstone.generation,
            tombstone.sequence
        )?;
    }
    Ok(())
}

fn describe_state(path: &Path, documents: &StateStore, out: &mut dyn Write) -> std::io::Result<()> {
    let (count, bytes) = documents.size();
    writeln!(out, "state        {}", path.display())?;
    writeln!(out, "version      {}", state::FORMAT_VERSION)?;
    writeln!(out, "documents    {count}, {bytes} bytes")?;
    documents.for_each(|tenant, collection, key, version, value| {
        let (tenant, bytes) = (tenant.as_str(), value.len());
        writeln!(
            out,
            "\n  {collection}/{key}  tenant {tenant}, version {version}, {bytes} bytes"
        )?;
        // Most documents are JSON or YAML; of what is not text the length says enough.
        match std::str::from_utf8(value) {
            Ok(text) => writeln!(out, "    {}", text.trim_end().replace('\n', "\n    ")),
            Err(_) => writeln!(out, "    (no text)"),
        }
    })
}
