//! Steps: commands with a name and a duration, and the report that closes a run.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::workspace::Workspace;

/// A command to run.
#[derive(Debug)]
pub(crate) struct Step {
    name: &'static str,
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    workspace: Workspace,
    /// Keeps the test runner's closing lines for the end of the report.
    runs_tests: bool,
}

impl Step {
    /// A step that runs cargo in the workspace.
    pub(crate) fn cargo(workspace: &Workspace, name: &'static str) -> Self {
        Self {
            name,
            program: Workspace::cargo(),
            arguments: Vec::new(),
            environment: Vec::new(),
            workspace: workspace.clone(),
            runs_tests: false,
        }
    }

    pub(crate) fn arguments<I: Into<OsString>>(
        mut self,
        arguments: impl IntoIterator<Item = I>,
    ) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub(crate) fn environment(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Marks a step whose closing lines are repeated at the end of the report.
    pub(crate) fn running_tests(mut self) -> Self {
        self.runs_tests = true;
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .current_dir(&self.workspace.root);
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }

    fn command_line(&self) -> String {
        let environment = self
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={} ", value.to_string_lossy()));
        let arguments = self
            .arguments
            .iter()
            .map(|argument| format!(" {}", argument.to_string_lossy()));
        environment
            .chain(["cargo".to_owned()])
            .chain(arguments)
            .collect()
    }

    /// Runs the command; returns whether it succeeded and the closing lines of its tests.
    fn execute(&self) -> Result<(bool, Vec<String>), String> {
        let failed = |error| format!("{}: {error}", self.program.to_string_lossy());
        let mut command = self.command();
        if !self.runs_tests {
            let status = command.status().map_err(failed)?;
            return Ok((status.success(), Vec::new()));
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stdout = child
            .stdout
            .take()
            .map(|pipe| thread::spawn(|| copy(pipe, std::io::stdout())));
        let stderr = child
            .stderr
            .take()
            .map(|pipe| thread::spawn(|| copy(pipe, std::io::stderr())));
        let status = child.wait().map_err(failed)?;
        let mut closing = Vec::new();
        for copier in [stdout, stderr].into_iter().flatten() {
            closing.extend(copier.join().unwrap_or_default());
        }
        Ok((status.success(), closing))
    }
}

/// Copies lines as they come; returns those that close a test run.
fn copy(from: impl Read, mut to: impl Write) -> Vec<String> {
    let mut closing = Vec::new();
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    while reader
        .read_until(b'\n', &mut line)
        .is_ok_and(|length| length > 0)
    {
        // A closed terminal must not end the tests.
        let _ = to.write_all(&line);
        let text = String::from_utf8_lossy(&line);
        if is_closing(&text) {
            closing.push(text.trim_end().to_owned());
        }
        line.clear();
    }
    let _ = to.flush();
    closing
}

/// True for nextest's `Summary [ 1.2s] 10 tests run: ...` and libtest's `test result: ...`.
fn is_closing(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("test result: ") || (line.starts_with("Summary [") && line.contains(" run: "))
}

/// Adds the counts of libtest's closing lines: one line per test binary says little.
fn total_of_results(lines: &[String]) -> Option<String> {
    let mut totals = [0_u64; 3];
    let results: Vec<&String> = lines
        .iter()
        .filter(|line| line.starts_with("test result: "))
        .collect();
    for line in &results {
        for (total, word) in totals.iter_mut().zip([" passed", " failed", " ignored"]) {
            let count = line
                .split(word)
                .next()
                .and_then(|head| head.rsplit(' ').next());
            *total += count
                .and_then(|count| count.parse::<u64>().ok())
                .unwrap_or(0);
        }
    }
    let [passed, failed, ignored] = totals;
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    (!results.is_empty()).then(|| {
        format!(
            "test result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored \
             ({} test binaries)",
            results.len()
        )
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Skipped(&'static str),
}

/// What ran, how long it took, and how it went.
#[derive(Debug)]
pub(crate) struct Report {
    began: Instant,
    steps: Vec<(&'static str, Duration, Outcome)>,
    closing: Vec<String>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            steps: Vec::new(),
            closing: Vec::new(),
        }
    }

    /// Runs a step. A failure is reported at the end; later steps run all the same.
    pub(crate) fn run(&mut self, step: Step) {
        announce(step.name, &step.command_line());
        let began = Instant::now();
        let outcome = match step.execute() {
            Ok((succeeded, closing)) => {
                self.closing.extend(total_of_results(&closing));
                let summaries = closing
                    .into_iter()
                    .filter(|line| !line.starts_with("test "));
                self.closing
                    .extend(summaries.map(|line| line.trim().to_owned()));
                if succeeded {
                    Outcome::Passed
                } else {
                    Outcome::Failed
                }
            }
            Err(error) => {
                eprintln!("{error}");
                Outcome::Failed
            }
        };
        self.record(step.name, began.elapsed(), outcome);
    }

    /// Runs a check of our own; its findings are printed, and any finding is a failure.
    pub(crate) fn inspect(
        &mut self,
        name: &'static str,
        check: impl FnOnce() -> Result<Vec<String>, String>,
    ) {
        announce(name, "");
        let began = Instant::now();
        let outcome = match check() {
            Ok(findings) if findings.is_empty() => Outcome::Passed,
            Ok(findings) => {
                for finding in &findings {
                    println!("{finding}");
                }
                println!("{} findings", findings.len());
                Outcome::Failed
            }
            Err(error) => {
                eprintln!("{error}");
                Outcome::Failed
            }
        };
        self.record(name, began.elapsed(), outcome);
    }

    /// Notes a step that could not run here, and why.
    pub(crate) fn skip(&mut self, name: &'static str, reason: &'static str) {
        announce(name, "");
        println!("skipped: {reason}");
        self.record(name, Duration::ZERO, Outcome::Skipped(reason));
    }

    fn record(&mut self, name: &'static str, took: Duration, outcome: Outcome) {
        println!(
            "== {name}: {} in {:.1} s",
            word(&outcome),
            took.as_secs_f64()
        );
        self.steps.push((name, took, outcome));
    }

    /// Prints the summary; the last lines are the test runner's own.
    pub(crate) fn finish(self) -> ExitCode {
        println!("\n== summary, {:.1} s", self.began.elapsed().as_secs_f64());
        for (name, took, outcome) in &self.steps {
            let reason = match outcome {
                Outcome::Skipped(reason) => format!(" ({reason})"),
                Outcome::Passed | Outcome::Failed => String::new(),
            };
            println!(
                "{:<7} {name:<10} {:7.1} s{reason}",
                word(outcome),
                took.as_secs_f64()
            );
        }
        for line in &self.closing {
            println!("{line}");
        }
        let failed = self
            .steps
            .iter()
            .any(|(_, _, outcome)| *outcome == Outcome::Failed);
        if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

fn announce(name: &str, command_line: &str) {
    println!("\n== {name}  {command_line}");
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "ok",
        Outcome::Failed => "FAILED",
        Outcome::Skipped(_) => "skipped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_recognised() {
        assert!(is_closing(
            "     Summary [   1.204s] 31 tests run: 31 passed, 0 skipped\n"
        ));
        assert!(is_closing(
            "test result: ok. 14 passed; 0 failed; 0 ignored; 0 measured\n"
        ));
        assert!(!is_closing(
            "test random::tests::moments_are_right ... ok\n"
        ));
        assert!(!is_closing("Summary of changes\n"));
    }

    #[test]
    fn results_of_binaries_are_added() {
        let lines = [
            "test result: ok. 14 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out",
        ]
        .map(str::to_owned);
        assert_eq!(
            total_of_results(&lines).as_deref(),
            Some("test result: FAILED. 16 passed; 3 failed; 1 ignored (2 test binaries)")
        );
        assert_eq!(total_of_results(&[]), None);
    }
}
