//! One build of DataFusion: every selection of packages must ask for the same features of the
//! crates below it.
//!
//! Cargo unites features over the selected packages. If the demo, one crate's tests and the
//! workspace's tests disagree about one small crate, each compiles DataFusion anew, which takes
//! minutes. `docs/decisions/0001-dependencies.md` tells the story.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::workspace::Workspace;

/// What people and `cargo xtask check` build, as arguments of `cargo tree`.
const SELECTIONS: [(&str, &[&str]); 3] = [
    (
        "the server alone",
        &["--package", "chronolith-server", "--edges", "normal,build"],
    ),
    (
        "the query crate's tests",
        &[
            "--package",
            "chronolith-query",
            "--edges",
            "normal,build,dev",
        ],
    ),
    (
        "the fuzz targets",
        &[
            "--package",
            "chronolith-fuzz",
            "--edges",
            "normal,build,dev",
        ],
    ),
];
const WHOLE: &[&str] = &["--workspace", "--edges", "normal,build,dev"];

/// Packages (name and version) with the sets of features that are asked of them.
type Features = BTreeMap<String, BTreeSet<String>>;

/// Finds packages below DataFusion whose features depend on the selection.
pub(crate) fn findings(workspace: &Workspace) -> Result<Vec<String>, String> {
    let whole = features(workspace, WHOLE)?;
    let below = features(
        workspace,
        &["--package", "datafusion", "--edges", "normal,build"],
    )?;
    let mut findings = Vec::new();
    for (name, selection) in SELECTIONS {
        let selected = features(workspace, selection)?;
        findings.extend(differences(name, &below, &selected, &whole));
    }
    Ok(findings)
}

fn differences(name: &str, below: &Features, selected: &Features, whole: &Features) -> Vec<String> {
    let words = |sets: &BTreeSet<String>| sets.iter().cloned().collect::<Vec<_>>().join(" and ");
    let differing = selected
        .iter()
        .filter(|(package, _)| below.contains_key(*package));
    differing
        .filter_map(|(package, features)| {
            let of_whole = whole
                .get(package)
                .filter(|of_whole| *of_whole != features)?;
            Some(format!(
                "{package}: {name} builds it with [{}], the workspace with [{}]: name the \
                 missing features in Cargo.toml or query/Cargo.toml",
                words(features),
                words(of_whole)
            ))
        })
        .collect()
}

fn features(workspace: &Workspace, selection: &[&str]) -> Result<Features, String> {
    let output = Command::new(Workspace::cargo())
        .args([
            "tree", "--quiet", "--prefix", "none", "--format", "{p}\t{f}",
        ])
        .args(selection)
        .current_dir(&workspace.root)
        .output()
        .map_err(|error| format!("cargo tree: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "cargo tree: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Lines of package, tab, features; ` (*)` marks what was listed before.
fn parse(listing: &str) -> Features {
    let mut features = Features::new();
    for line in listing.lines() {
        let Some((package, list)) = line.split_once('\t') else {
            continue;
        };
        let list = list.trim_end_matches("(*)").trim();
        // Packages of the workspace show their path; they are not below DataFusion.
        if !package.contains('/') {
            features
                .entry(package.trim().to_owned())
                .or_default()
                .insert(list.to_owned());
        }
    }
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_below_datafusion_are_found() {
        let whole = parse("serde v1.0.0\talloc,std\nregex v1.0.0\tstd\nclap v4.0.0\tcolor\n");
        let selected = parse("serde v1.0.0\tstd (*)\nregex v1.0.0\tstd\nclap v4.0.0\t\n");
        let below = parse("serde v1.0.0\tstd\nregex v1.0.0\tstd\n");
        let found = differences("the demo", &below, &selected, &whole);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("serde v1.0.0: the demo builds it with [std]"));
    }
}
