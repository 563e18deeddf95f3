//! Rules for `Cargo.lock`: one version of every heavy dependency, crates.io only.
//!
//! cargo-deny checks the same where it is installed; these rules hold everywhere.

/// Dependencies that would cost minutes of build, or types that do not fit, in a second version.
const SINGLE: [&str; 15] = [
    "arrow",
    "arrow-array",
    "arrow-buffer",
    "arrow-schema",
    "axum",
    "datafusion",
    "hyper",
    "parquet",
    "prost",
    "regex",
    "rustls",
    "serde",
    "tokio",
    "zstd",
    "zstd-sys",
];

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks the text of the lock file.
pub(super) fn findings(lock: &str) -> Vec<String> {
    let packages = packages(lock);
    let mut findings = Vec::new();
    for name in SINGLE {
        let versions: Vec<&str> = packages
            .iter()
            .filter(|package| package.name == name)
            .map(|package| package.version)
            .collect();
        if versions.len() > 1 {
            findings.push(format!(
                "Cargo.lock: {} versions of {name} ({}): see `cargo tree --duplicates`",
                versions.len(),
                versions.join(", ")
            ));
        }
    }
    for package in &packages {
        if package.source.is_some_and(|source| source != CRATES_IO) {
            findings.push(format!(
                "Cargo.lock: {} {} is not from crates.io",
                package.name, package.version
            ));
        }
    }
    findings
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Package<'a> {
    name: &'a str,
    version: &'a str,
    source: Option<&'a str>,
}

/// The packages of a lock file. Its layout is made by cargo and regular: no TOML parser needed.
fn packages(lock: &str) -> Vec<Package<'_>> {
    lock.split("[[package]]")
        .skip(1)
        .map(|block| {
            let mut package = Package::default();
            for line in block.lines() {
                let Some((key, value)) = line.split_once(" = ") else {
                    continue;
                };
                let value = value.trim_matches('"');
                match key {
                    "name" => package.name = value,
                    "version" => package.version = value,
                    "source" => package.source = Some(value),
                    _ => {}
                }
            }
            package
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, source: &str) -> String {
        format!(
            "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"{source}\"\n\n"
        )
    }

    #[test]
    fn second_versions_and_other_sources_are_found() {
        let one = package("tokio", "1.50.0", CRATES_IO);
        assert!(findings(&one).is_empty());
        let two = one.clone() + &package("tokio", "0.3.0", CRATES_IO);
        assert_eq!(findings(&two).len(), 1);
        let elsewhere = one + &package("left-pad", "1.0.0", "git+https://example.org/left-pad");
        assert_eq!(findings(&elsewhere).len(), 1);
        let own = "[[package]]\nname = \"xtask\"\nversion = \"0.1.0\"\n";
        assert!(
            findings(own).is_empty(),
            "packages of the workspace have no source"
        );
    }
}
