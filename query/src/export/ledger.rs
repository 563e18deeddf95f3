//! `export.json`: what an export directory holds, so that an export can go on and later ones can add.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use chronolith_engine::RequestContext;
use chronolith_engine::io::{Disk, replace};
use chronolith_engine::model::TimeRange;
use serde::{Deserialize, Serialize};

use super::{ExportError, ExportRequest, Result};
use crate::sql::Format;

const VERSION: u32 = 1;

/// A complete file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) name: String,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

/// A signal's day that is complete for some times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Partition {
    /// Nanoseconds since the epoch, both inside.
    start_ns: i64,
    end_ns: i64,
    files: Vec<Written>,
}

impl Partition {
    pub(super) fn new(range: TimeRange, files: Vec<Written>) -> Self {
        Self {
            start_ns: range.start.0,
            end_ns: range.end.0,
            files,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: u32,
    tenant: String,
    matchers: String,
    format: String,
    partitions: BTreeMap<String, Partition>,
}

/// The ledger of a directory.
#[derive(Debug)]
pub(super) struct Ledger {
    dir: PathBuf,
    content: Content,
}

impl Ledger {
    /// Reads the ledger of the request's directory, or begins one.
    pub(super) fn open(request: &ExportRequest, context: &RequestContext) -> Result<Self> {
        let matchers: Vec<String> = request.matchers.iter().map(ToString::to_string).collect();
        let fresh = Content {
            version: VERSION,
            tenant: context.tenant.as_str().to_owned(),
            matchers: matchers.join(","),
            format: match request.format {
                Format::Parquet => "parquet",
                Format::Csv => "csv",
                Format::NdJson => "jsonl",
                other => {
                    return Err(ExportError::Target(format!(
                        "{other:?} is no format of export"
                    )));
                }
            }
            .to_owned(),
            partitions: BTreeMap::new(),
        };
        let dir = request.dir.clone();
        let path = dir.join("export.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self {
                    dir,
                    content: fresh,
                });
            }
            Err(error) => return Err(ExportError::io(&path)(error)),
        };
        let content: Content = serde_json::from_str(&text).map_err(|error| {
            ExportError::Target(format!(
                "{} is no ledger of an export: {error}",
                path.display()
            ))
        })?;
        let same = content.version == fresh.version
            && content.tenant == fresh.tenant
            && content.matchers == fresh.matchers
            && content.format == fresh.format;
        if !same {
            return Err(ExportError::Target(format!(
                "{} holds another export ({} of tenant {}, matchers {{{}}}); choose another directory",
                dir.display(),
                content.format,
                content.tenant,
                content.matchers
            )));
        }
        Ok(Self { dir, content })
    }

    /// Whether a partition is complete for these times, and its files are still there.
    pub(super) fn has(&self, partition: &str, range: TimeRange) -> bool {
        let Some(known) = self.content.partitions.get(partition) else {
            return false;
        };
        let is_there = |file: &Written| {
            let path = self.dir.join(partition).join(&file.name);
            fs::metadata(path).is_ok_and(|found| found.len() == file.bytes)
        };
        known.start_ns <= range.start.0
            && range.end.0 <= known.end_ns
            && known.files.iter().all(is_there)
    }

    /// Notes a complete partition, durably. Parts that an earlier export of it had more are removed.
    pub(super) fn add(&mut self, partition: &str, written: Partition) -> Result<()> {
        let before = self.content.partitions.remove(partition);
        let dropped = before.iter().flat_map(|before| &before.files);
        let dropped = dropped.filter(|file| !written.files.iter().any(|new| new.name == file.name));
        for file in dropped {
            let path = self.dir.join(partition).join(&file.name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ExportError::io(&path)(error));
                }
                _ => {}
            }
        }
        self.content
            .partitions
            .insert(partition.to_owned(), written);
        let path = self.dir.join("export.json");
        let text = serde_json::to_vec_pretty(&self.content)
            .map_err(|error| ExportError::Target(error.to_string()))?;
        Ok(replace(&Disk, &path, &text)?)
    }
}
