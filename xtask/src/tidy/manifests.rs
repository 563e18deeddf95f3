//! Rules for the crates: who may depend on whom, and where unsafe code may live.

use crate::workspace::Workspace;

/// Crates that must not name these dependencies (prefixes), even for tests.
const FORBIDDEN: [(&str, &[&str]); 4] = [
    (
        "engine",
        &[
            "axum",
            "hyper",
            "http",
            "tokio",
            "tonic",
            "prost",
            "datafusion",
            "sqlparser",
            "futures",
            "chronolith-query",
            "chronolith-server",
            "chronolith-analysis",
        ],
    ),
    (
        "analysis",
        &["chronolith-", "tokio", "datafusion", "arrow", "axum"],
    ),
    (
        "query",
        &[
            "axum",
            "hyper",
            "http",
            "tonic",
            "prost",
            "chronolith-server",
        ],
    ),
    ("datasets", &["chronolith-", "tokio", "datafusion", "arrow"]),
];

/// Crates that forbid unsafe code altogether; the engine denies it with exceptions by file.
const SAFE_CRATES: [&str; 4] = ["query", "analysis", "server", "datasets"];

/// Dependencies point one way: server -> query -> {engine, analysis}.
pub(super) fn layers(workspace: &Workspace) -> Vec<String> {
    let mut findings = Vec::new();
    for (member, forbidden) in FORBIDDEN {
        let manifest = format!("{member}/Cargo.toml");
        let Some(text) = workspace.text(&manifest) else {
            findings.push(format!("{manifest}: missing"));
            continue;
        };
        for dependency in dependencies(&text) {
            if forbidden
                .iter()
                .any(|prefix| dependency.starts_with(prefix))
            {
                findings.push(format!(
                    "{manifest}: {member} must not depend on {dependency}"
                ));
            }
        }
    }
    findings
}

/// The page that gives each dependency its reason.
const REASONS: &str = "docs/decisions/0001-dependencies.md";

/// Every dependency of the workspace has a line that says why it is there.
pub(super) fn reasons(workspace: &Workspace) -> Vec<String> {
    let (Some(manifest), Some(page)) = (workspace.text("Cargo.toml"), workspace.text(REASONS))
    else {
        return vec![format!("{REASONS}: missing")];
    };
    dependencies(&manifest)
        .into_iter()
        .filter(|name| !name.starts_with("chronolith-") && !page.contains(&format!("`{name}`")))
        .map(|name| format!("{REASONS}: says nothing about {name}"))
        .collect()
}

/// Names in all dependency tables of a manifest.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut in_dependencies = false;
    for line in manifest.lines() {
        if let Some(table) = line.strip_prefix('[') {
            in_dependencies = table.trim_end_matches(']').ends_with("dependencies");
        } else if in_dependencies && !line.starts_with([' ', '#', ']', '}']) {
            names.extend(
                line.split(['.', ' ', '='])
                    .next()
                    .filter(|name| !name.is_empty()),
            );
        }
    }
    names
}

/// Every library says what it allows in its first lines.
pub(super) fn unsafe_code(workspace: &Workspace) -> Vec<String> {
    let expected = |member: &str| {
        if member == "engine" {
            "#![deny(unsafe_code)]"
        } else {
            "#![forbid(unsafe_code)]"
        }
    };
    SAFE_CRATES
        .into_iter()
        .chain(["engine"])
        .filter_map(|member| {
            let file = format!("{member}/src/lib.rs");
            let text = workspace.text(&file)?;
            let attribute = expected(member);
            (!text.contains(attribute)).then(|| format!("{file}: should say {attribute}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependency_names_are_read() {
        let manifest = "[package]\nname = \"x\"\n\n[dependencies]\nserde.workspace = true\n\
                        regex = { workspace = true,\n  features = [] }\n\n\
                        [dev-dependencies]\ntempfile.workspace = true\n\n[lints]\nworkspace = true\n";
        assert_eq!(dependencies(manifest), ["serde", "regex", "tempfile"]);
    }
}
