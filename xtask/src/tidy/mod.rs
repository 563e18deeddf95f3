//! House rules that no other tool checks. Each rule returns findings, one line each, that name the
//! place and what to do; no finding means that the rule holds.

mod documents;
mod lock_file;
mod manifests;
mod sources;

use crate::workspace::Workspace;

/// Runs all rules.
pub(crate) fn findings(workspace: &Workspace) -> Result<Vec<String>, String> {
    let files = workspace.files()?;
    let mut findings = Vec::new();
    for file in &files {
        let Some(text) = workspace.text(file) else {
            continue;
        };
        findings.extend(sources::machine_paths(file, &text));
        if file.ends_with(".rs") {
            findings.extend(sources::rust_file(file, &text));
        }
        if file.ends_with(".md") {
            findings.extend(documents::broken_links(workspace, file, &text));
        }
    }
    findings.extend(documents::required(&files));
    findings.extend(documents::format_versions(workspace, &files));
    findings.extend(manifests::layers(workspace));
    findings.extend(manifests::reasons(workspace));
    findings.extend(manifests::unsafe_code(workspace));
    match workspace.text("Cargo.lock") {
        Some(lock) => findings.extend(lock_file::findings(&lock)),
        None => findings.push("Cargo.lock: missing".to_owned()),
    }
    Ok(findings)
}
