//! `cargo xtask check`: everything that must hold before a change lands.
//!
//! Cheap steps come first. Tests come before clippy: on an empty machine both build the
//! dependencies, and the tests say more. Tools that are not installed are skipped and said to be.

use std::process::{Command, Stdio};

use crate::features;
use crate::step::{Report, Step};
use crate::tidy;
use crate::workspace::Workspace;

/// All checks.
pub(crate) fn full(workspace: &Workspace) -> Report {
    let mut report = Report::new();
    report.run(format(workspace));
    report.inspect("tidy", || tidy::findings(workspace));
    report.inspect("features", || features::findings(workspace));
    deny(workspace, &mut report);
    report.run(tests(workspace));
    report.run(
        Step::cargo(workspace, "doc tests")
            .arguments(["test", "--workspace", "--doc"])
            .running_tests(),
    );
    report.run(clippy(workspace));
    report
}

/// What takes under a minute once the workspace has been checked before.
pub(crate) fn quick(workspace: &Workspace) -> Report {
    let mut report = Report::new();
    report.run(format(workspace));
    report.inspect("tidy", || tidy::findings(workspace));
    report.inspect("features", || features::findings(workspace));
    report.run(clippy(workspace));
    report
}

/// Only the house rules.
pub(crate) fn tidy_only(workspace: &Workspace) -> Report {
    let mut report = Report::new();
    report.inspect("tidy", || tidy::findings(workspace));
    report.inspect("features", || features::findings(workspace));
    report
}

fn format(workspace: &Workspace) -> Step {
    Step::cargo(workspace, "format").arguments(["fmt", "--all", "--", "--check"])
}

fn clippy(workspace: &Workspace) -> Step {
    Step::cargo(workspace, "clippy").arguments([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "--deny",
        "warnings",
    ])
}

/// What may come into the tree, and what is known against what is there.
fn deny(workspace: &Workspace, report: &mut Report) {
    if !is_installed("deny") {
        let how = "cargo-deny is not installed: `cargo install cargo-deny --locked`";
        return report.skip("deny", how);
    }
    let step = |name, arguments: &[&str]| {
        Step::cargo(workspace, name).arguments(arguments.iter().copied())
    };
    let tree = [
        "deny",
        "--workspace",
        "check",
        "bans",
        "licenses",
        "sources",
    ];
    report.run(step("deny", &tree));
    // The list of advisories lies on a server that a machine may not reach.
    let is_fetched = Command::new(Workspace::cargo())
        .args(["deny", "fetch", "db"])
        .current_dir(&workspace.root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if is_fetched {
        let known = [
            "deny",
            "--workspace",
            "check",
            "--disable-fetch",
            "advisories",
        ];
        report.run(step("advisories", &known));
    } else {
        report.skip(
            "advisories",
            "the advisory database cannot be fetched from here",
        );
    }
}

fn tests(workspace: &Workspace) -> Step {
    let runner: &[&str] = if is_installed("nextest") {
        &["nextest", "run", "--workspace", "--cargo-quiet"]
    } else {
        &[
            "test",
            "--workspace",
            "--quiet",
            "--lib",
            "--bins",
            "--tests",
            "--examples",
        ]
    };
    Step::cargo(workspace, "tests")
        .arguments(runner.iter().copied())
        .running_tests()
}

/// True if `cargo TOOL` exists.
fn is_installed(tool: &str) -> bool {
    Command::new(Workspace::cargo())
        .args([tool, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
