//! The commands of the binary, one file each.

mod backup;
mod check;
mod demo;
mod export;
mod inspect;
mod logql;
mod progress;
mod query;
mod remote;
pub mod serve;
mod test_traceql;
mod traceql;

use std::path::PathBuf;

use chronolith_query::promql::testscript;

use crate::cli::{CheckCommand, Cli, Command, TestCommand};

/// Exit code of a command that is not built yet.
const NOT_BUILT: u8 = 3;

/// Runs a command; answers the exit code.
///
/// # Errors
/// A message for whoever typed the command.
pub fn run(cli: Cli) -> anyhow::Result<u8> {
    match cli.command {
        Command::Serve(args) => serve::run(&args).map(|()| 0),
        Command::Check(CheckCommand::Config { file }) => check::config(&file),
        Command::Demo(args) => demo::run(&args),
        Command::Promql(args) => query::promql(&args),
        Command::Sql(args) => query::sql(&args),
        Command::Logql(args) => logql::logql(&args),
        Command::Traceql(args) => traceql::traceql(&args),
        Command::Export(args) => export::run(&args),
        Command::Import(_) => Ok(not_built("import")),
        Command::Test(TestCommand::Promql { files }) => test_promql(&files),
        Command::Test(TestCommand::Logql { files }) => test_logql(&files),
        Command::Test(TestCommand::Traceql { files }) => test_traceql::run(&files),
        Command::Test(TestCommand::Rules(_)) => Ok(not_built("test rules")),
        Command::Check(CheckCommand::Rules(_)) => Ok(not_built("check rules")),
        Command::Verify { dir } => inspect::verify(&dir),
        Command::Inspect { file } => inspect::inspect(&file),
        Command::Backup(args) => backup::backup(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Forecast(_) => Ok(not_built("forecast")),
        Command::Anomalies(_) => Ok(not_built("anomalies")),
    }
}

/// Runs conformance scripts; the exit code is 1 if a case failed.
fn test_promql(files: &[PathBuf]) -> anyhow::Result<u8> {
    let totals = testscript::run_files(files, &mut std::io::stdout().lock())?;
    Ok(u8::from(totals.failed() > 0))
}

/// The same for scripts and lists of LogQL.
fn test_logql(files: &[PathBuf]) -> anyhow::Result<u8> {
    let totals =
        chronolith_query::logql::testscript::run_files(files, &mut std::io::stdout().lock())?;
    Ok(u8::from(totals.failed > 0))
}

fn not_built(command: &str) -> u8 {
    eprintln!(
        "chronolith {command}: not built yet in version {}",
        crate::VERSION
    );
    NOT_BUILT
}
