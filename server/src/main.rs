//! The `chronolith` binary: reads the command line, runs the command, sets the exit code.

use std::process::ExitCode;

use chronolith_server::cli::Cli;
use chronolith_server::commands;
use clap::Parser as _;

fn main() -> ExitCode {
    match commands::run(Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("chronolith: {error:#}");
            ExitCode::FAILURE
        }
    }
}
