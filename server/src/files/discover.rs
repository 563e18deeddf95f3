//! Which files a job means now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use glob::MatchOptions;

use super::config::Job;
use super::position::FileId;
use super::source::{hint, id_of};

/// Errors of a look that are kept.
const ERRORS_MAX: usize = 16;
/// Hidden files are not meant by `*`.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// A file that is there.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its path; the first of several.
    pub path: PathBuf,
}

/// What a look found.
#[derive(Debug, Default)]
pub struct Look {
    /// The files.
    pub files: BTreeMap<FileId, Found>,
    /// Whether there were more than the job may follow.
    pub too_many: bool,
    /// What could not be looked at, and why.
    pub errors: BTreeSet<(PathBuf, String)>,
}

impl Look {
    fn error(&mut self, path: &Path, error: &std::io::Error) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.insert((path.to_owned(), hint(error)));
        }
    }
}

/// Looks for the files of a job.
#[must_use]
pub fn look(job: &Job) -> Look {
    let mut look = Look::default();
    for pattern in &job.config.paths {
        // The patterns were checked with the configuration.
        let Ok(paths) = glob::glob_with(pattern, OPTIONS) else {
            continue;
        };
        for path in paths {
            let path = match path {
                Ok(path) => path,
                Err(error) => {
                    look.error(error.path(), error.error());
                    continue;
                }
            };
            if !job.takes(&path) {
                continue;
            }
            let metadata = match std::fs::metadata(&path) {
                Ok(metadata) => metadata,
                // It went between the two calls, or is a link to nowhere.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    look.error(&path, &error);
                    continue;
                }
            };
            if !metadata.is_file() {
                continue;
            }
            let id = id_of(&metadata);
            if look.files.len() >= job.config.files_max && !look.files.contains_key(&id) {
                look.too_many = true;
                return look;
            }
            look.files.entry(id).or_insert(Found { path });
        }
    }
    look
}

/// The files beside `path`, that one left out.
pub fn siblings(path: &Path) -> impl Iterator<Item = PathBuf> {
    let folder = path.parent().map(std::fs::read_dir).and_then(Result::ok);
    let path = path.to_owned();
    let entries = folder.into_iter().flatten().filter_map(Result::ok);
    entries.map(|e| e.path()).filter(move |p| *p != path)
}
