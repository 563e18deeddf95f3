//! The files of one signal and day: written under another name, synced, then renamed.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use chronolith_engine::io::{Disk, FileSystem as _};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::ledger::Written;
use super::{ExportError, ExportRequest, Result, file_encoder};
use crate::sql::{Encoder, Format};

/// Rows of a row group: what readers skip by statistics, and what is held in memory.
const GROUP_ROWS: usize = 1 << 18;
/// Bytes put together before they go to the file.
const WRITE_BYTES: usize = 1 << 20;

/// How Parquet files are written, also those that are sent over HTTP.
pub(super) fn parquet_properties() -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(GROUP_ROWS));
    // Steady steps and small differences: deltas beat dictionaries.
    for column in ["time", "time_ns", "observed_time", "duration_ns"] {
        let path = ColumnPath::from(column);
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
    }
    // Every one is different.
    for column in ["trace_id", "span_id", "parent_span_id", "body"] {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(column), false);
    }
    properties.build()
}

struct Open {
    file: File,
    encoder: Encoder,
    /// Not yet in the file.
    ready: Vec<u8>,
    bytes: u64,
    rows: u64,
}

/// Writes the parts of a partition.
pub(super) struct DayWriter {
    folder: PathBuf,
    format: Format,
    schema: SchemaRef,
    open: Option<Open>,
    done: Vec<Written>,
}

/// A file that is still being written; removed unless it is renamed.
fn unfinished(folder: &Path) -> PathBuf {
    folder.join(".unfinished")
}

impl DayWriter {
    pub(super) fn new(request: &ExportRequest, partition: &str, schema: SchemaRef) -> Self {
        Self {
            folder: request.dir.join(partition),
            format: request.format,
            schema,
            open: None,
            done: Vec::new(),
        }
    }

    /// Rows of the file that is being written.
    pub(super) fn rows_in_file(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.rows)
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> u64 {
        self.done.iter().map(|file| file.rows).sum::<u64>() + self.rows_in_file()
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        let open = self.open.as_ref().map_or(0, |open| open.bytes);
        self.done.iter().map(|file| file.bytes).sum::<u64>() + open
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let path = unfinished(&self.folder);
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                fs::create_dir_all(&self.folder).map_err(ExportError::io(&self.folder))?;
                let file = File::create(&path).map_err(ExportError::io(&path))?;
                let schema = Arc::clone(&self.schema);
                let mut encoder = file_encoder(self.format, schema)?;
                none.insert(Open {
                    file,
                    ready: encoder.start()?,
                    encoder,
                    bytes: 0,
                    rows: 0,
                })
            }
        };
        open.ready.append(&mut open.encoder.batch(batch)?);
        open.rows += batch.num_rows() as u64;
        if open.ready.len() >= WRITE_BYTES {
            open.flush().map_err(ExportError::io(&path))?;
        }
        Ok(())
    }

    /// Completes the file that is being written, if there is one.
    pub(super) fn end_file(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let Open {
            mut file,
            encoder,
            mut ready,
            bytes,
            rows,
        } = open;
        let path = unfinished(&self.folder);
        let extension = match self.format {
            Format::Csv => "csv",
            Format::NdJson => "jsonl",
            _ => "parquet",
        };
        let name = format!("part-{:05}.{extension}", self.done.len());
        let target = self.folder.join(&name);
        ready.append(&mut encoder.finish()?);
        let mut write = || -> std::io::Result<()> {
            file.write_all(&ready)?;
            file.sync_all()
        };
        write().map_err(ExportError::io(&path))?;
        Disk.rename(&path, &target)?;
        Disk.sync_dir(&self.folder)?;
        self.done.push(Written {
            name,
            rows,
            bytes: bytes + ready.len() as u64,
        });
        Ok(())
    }

    /// Completes the last file. A partition without rows has none.
    pub(super) fn finish(mut self) -> Result<Vec<Written>> {
        self.end_file()?;
        Ok(std::mem::take(&mut self.done))
    }
}

impl Open {
    fn flush(&mut self) -> std::io::Result<()> {
        self.file.write_all(&self.ready)?;
        self.bytes += self.ready.len() as u64;
        self.ready.clear();
        Ok(())
    }
}

impl Drop for DayWriter {
    fn drop(&mut self) {
        if self.open.take().is_some() {
            let _ = fs::remove_file(unfinished(&self.folder));
        }
    }
}
