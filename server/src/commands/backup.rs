//! `backup` and `restore`: a directory beside or without a server, or a server over HTTP.
//!
//! A directory is read beside the process that writes it, so that nothing has to be stopped, and the
//! command needs no right to write to it.

use anyhow::{Context as _, bail};
use chronolith_engine::store::{BackupOptions, BackupReport, Pace, Progress, Step};
use chronolith_engine::{Store, StoreOptions};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::progress::{ProgressBar, bytes_text};
use super::remote;
use crate::cli::{BackupArgs, ReadBackArg, RestoreArgs};

/// `chronolith backup --to DIR`
///
/// # Errors
/// What kept the backup from being complete; the one before is then still there.
pub(super) fn backup(args: &BackupArgs) -> anyhow::Result<u8> {
    if let Some(url) = &args.url {
        return backup_remote(args, url);
    }
    let dir = &args.data_dir;
    let store = Store::open_read_only(dir, StoreOptions::default())
        .with_context(|| format!("cannot read the store in {}", dir.display()))?;
    let bar = ProgressBar::new();
    let progress = |progress: &_| bar.show(progress);
    let report = store.backup(
        &args.to,
        &BackupOptions {
            hard_links: args.hard_links,
            read_back: args.read_back.to_engine(),
            pace: pace(args.rate),
            progress: Some(&progress),
            ..BackupOptions::default()
        },
    );
    bar.end();
    println!("{}: {}", args.to.display(), describe(&report?));
    Ok(0)
}

fn pace(rate: Option<u64>) -> Pace {
    rate.map_or(Pace::Unlimited, Pace::BytesPerSecond)
}

/// What was done, in one sentence.
fn describe(report: &BackupReport) -> String {
    let seconds = report.took.as_secs_f64();
    let mut text = format!(
        "generation {}, {} segments, {}; copied {} ({})",
        report.generation,
        report.segments,
        bytes_text(report.bytes),
        report.segments_copied,
        bytes_text(report.bytes_copied),
    );
    if report.segments_linked > 0 {
        text.push_str(&format!(", linked {}", report.segments_linked));
    }
    text.push_str(&format!(
        ", {} there already; read back {}; {seconds:.1} s",
        report.segments_reused,
        bytes_text(report.bytes_verified)
    ));
    text
}

/// The server copies, on its own machine.
fn backup_remote(args: &BackupArgs, url: &str) -> anyhow::Result<u8> {
    // Most servers that one asks run on the same machine: a relative path means this directory's.
    let to = std::path::absolute(&args.to)?;
    let to = to.to_str().context("--to: the path is not UTF-8")?;
    let mut form = format!("to={}", utf8_percent_encode(to, NON_ALPHANUMERIC));
    form.push_str(match args.read_back {
        ReadBackArg::All => "&read_back=all",
        ReadBackArg::Copied => "&read_back=copied",
        ReadBackArg::Ends => "&read_back=ends",
    });
    if let Some(rate) = args.rate {
        form.push_str(&format!("&rate={rate}"));
    }
    form.push_str("&progress=true");
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let runtime = super::serve::runtime()?;
    let bar = ProgressBar::new();
    let show = |line: &[u8]| {
        if let Some(progress) = progress_of(line) {
            let _ = bar.show(&progress);
        }
    };
    let path = "/api/v1/admin/backup";
    let answer = runtime.block_on(remote::post_for_lines(url, path, &headers, form, show));
    bar.end();
    let answer = answer?;
    let body: Value = serde_json::from_slice(&answer.body)
        .with_context(|| format!("{url} answered {} without JSON", answer.status))?;
    // Once progress was told the status cannot say any more what became of it.
    if answer.status != 200 || body["status"] != "success" {
        bail!("{}", body["error"].as_str().unwrap_or("the server refused"));
    }
    let data = &body["data"];
    let number = |name: &str| data[name].as_u64().unwrap_or_default();
    println!(
        "{to}: generation {}, {} segments, {}; copied {} ({}), {} there already; read back {}; {:.1} s",
        number("generation"),
        number("segments"),
        bytes_text(number("bytes")),
        number("segments_copied"),
        bytes_text(number("bytes_copied")),
        number("segments_reused"),
        bytes_text(number("bytes_verified")),
        data["took_seconds"].as_f64().unwrap_or_default()
    );
    Ok(0)
}

/// A line of a server's progress.
fn progress_of(line: &[u8]) -> Option<Progress> {
    let line: Value = serde_json::from_slice(line).ok()?;
    let number = |name: &str| line[name].as_u64();
    Some(Progress {
        step: match line["step"].as_str()? {
            "copy" => Step::Copy,
            _ => Step::Verify,
        },
        files_done: number("files_done")?,
        files: number("files")?,
        bytes_done: number("bytes_done")?,
        bytes: number("bytes")?,
    })
}

/// `chronolith restore --from DIR --data-dir DIR`
///
/// # Errors
/// What kept the store from being complete; it cannot be opened then, and the next call goes on.
pub(super) fn restore(args: &RestoreArgs) -> anyhow::Result<u8> {
    let bar = ProgressBar::new();
    let progress = |progress: &_| bar.show(progress);
    let report = Store::restore(
        &args.from,
        &args.data_dir,
        &BackupOptions {
            pace: pace(args.rate),
            progress: Some(&progress),
            ..BackupOptions::default()
        },
    );
    bar.end();
    println!("{}: {}", args.data_dir.display(), describe(&report?));
    Ok(0)
}
