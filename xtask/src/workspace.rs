//! The workspace: where it is and which files git tracks in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the checkout.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
}

impl Workspace {
    /// Finds the root from what cargo says about this package.
    ///
    /// The variable is read at run time: clones may share a target directory, and a path compiled
    /// into the binary could be that of another clone.
    pub(crate) fn find() -> Result<Self, String> {
        let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR")
            .ok_or("CARGO_MANIFEST_DIR is not set: run this as `cargo xtask`")?;
        let root = Path::new(&manifest_dir)
            .parent()
            .ok_or("the xtask package has no parent directory")?
            .to_path_buf();
        Ok(Self { root })
    }

    /// The cargo that started us.
    pub(crate) fn cargo() -> OsString {
        std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))
    }

    /// Paths of all files that git tracks, or would track if added, relative to the root.
    pub(crate) fn files(&self) -> Result<Vec<String>, String> {
        let output = Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(&self.root)
            .output()
            .map_err(|error| format!("git ls-files: {error}"))?;
        if !output.status.success() {
            return Err(format!(
                "git ls-files: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut files: Vec<String> = names
            .split('\0')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        files.sort();
        // A file that is deleted but not yet staged is still listed.
        files.retain(|file| self.root.join(file).is_file());
        Ok(files)
    }

    /// The text of a file; none if it is not UTF-8 (then it is data, not text).
    pub(crate) fn text(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(file)).ok()
    }
}
