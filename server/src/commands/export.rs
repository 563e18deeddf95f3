//! `export`: a store, or some of it, as Parquet, CSV or JSON lines in a directory.

use std::io::{IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use chronolith_engine::model::{TimeRange, TimestampNs};
use chronolith_engine::{Matcher, RequestContext, Store, StoreOptions, TenantId};
use chronolith_query::export::{ExportProgress, ExportRequest, ExportSignal, export};
use chronolith_query::promql::parser;
use chronolith_query::sql::Format;

use crate::api::params::parse_time_ms;
use crate::api::selectors;
use crate::cli::ExportArgs;

/// Runs the command.
///
/// # Errors
/// What kept it from completing. Complete files stay, and the same command goes on with the rest.
pub(super) fn run(args: &ExportArgs) -> anyhow::Result<u8> {
    let dir = &args.data_dir;
    let store = Store::open_read_only(dir, StoreOptions::default())
        .with_context(|| format!("cannot read the store in {}", dir.display()))?;
    let context = RequestContext::for_tenant(TenantId::new(&args.tenant)?);
    let request = request(args)?;
    let runtime = super::serve::runtime()?;
    let stopped = Arc::new(AtomicBool::new(false));
    let on_signal = Arc::clone(&stopped);
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            on_signal.store(true, Ordering::Relaxed);
        }
    });
    let mut shown = Shown::new();
    let report = runtime.block_on(export(&store, &context, &request, &mut |now| {
        shown.show(now);
        match stopped.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }));
    shown.end();
    let report = report?;
    println!(
        "{} rows in {} files, {} bytes, to {}",
        report.rows,
        report.files,
        report.bytes,
        request.dir.display()
    );
    if report.partitions_kept > 0 {
        println!("{} days were there already", report.partitions_kept);
    }
    Ok(0)
}

fn request(args: &ExportArgs) -> anyhow::Result<ExportRequest> {
    let signals = args.signal.iter().map(|name| {
        ExportSignal::from_name(name)
            .with_context(|| format!("--signal {name}: expected metrics, logs or spans"))
    });
    let time = |text: &Option<String>, open: i64| -> anyhow::Result<i64> {
        match text {
            None => Ok(open),
            Some(text) => {
                let millis = parse_time_ms(text).map_err(anyhow::Error::msg)?;
                millis
                    .checked_mul(1_000_000)
                    .with_context(|| format!("{text} is out of range"))
            }
        }
    };
    let (start, end) = (time(&args.start, i64::MIN)?, time(&args.end, i64::MAX)?);
    if end < start {
        bail!("--end is before --start");
    }
    Ok(ExportRequest {
        signals: signals.collect::<anyhow::Result<_>>()?,
        matchers: match &args.matcher {
            Some(text) => matchers(text)?,
            None => Vec::new(),
        },
        range: TimeRange {
            start: TimestampNs(start),
            end: TimestampNs(end),
        },
        format: match args.format.as_str() {
            "parquet" => Format::Parquet,
            "csv" => Format::Csv,
            "jsonl" => Format::NdJson,
            other => bail!("--format {other}: expected parquet, csv or jsonl"),
        },
        dir: args.to.clone(),
    })
}

fn matchers(text: &str) -> anyhow::Result<Vec<Matcher>> {
    let selector =
        parser::parse_selector(text).map_err(|error| anyhow::anyhow!("--match {text}: {error}"))?;
    selectors::matchers(&selector)
        .map_err(|error| anyhow::anyhow!("--match {text}: {}", error.message))
}

/// Between two drawings of the line.
const REDRAW: Duration = Duration::from_millis(200);
/// Between two lines where there is no terminal.
const LINE: Duration = Duration::from_secs(10);
/// Characters of the bar.
const BAR_WIDTH: usize = 24;

/// Draws on standard error, so that the output of the command can be used.
struct Shown {
    terminal: bool,
    began: Instant,
    last: Option<Instant>,
}

impl Shown {
    fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            began: Instant::now(),
            last: None,
        }
    }

    fn show(&mut self, now: &ExportProgress) {
        let pause = if self.terminal { REDRAW } else { LINE };
        let since = self.last.unwrap_or(self.began).elapsed();
        if since < pause {
            return;
        }
        self.last = Some(Instant::now());
        let text = line(now, self.began.elapsed());
        let mut out = std::io::stderr().lock();
        // Nobody to tell is no reason to stop.
        let _ = match self.terminal {
            true => write!(out, "\r\x1b[K{text}"),
            false => writeln!(out, "{text}"),
        };
        let _ = out.flush();
    }

    fn end(&self) {
        if self.terminal && self.last.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(now: &ExportProgress, elapsed: Duration) -> String {
    let filled = BAR_WIDTH * now.partitions_done / now.partitions.max(1);
    let bar: String = (0..BAR_WIDTH)
        .map(|at| if at < filled { '#' } else { '.' })
        .collect();
    let per_second = now.rows as f64 / elapsed.as_secs_f64().max(1e-3);
    format!(
        "[{bar}] {} of {} days, {} ({} rows, {:.1} MB, {per_second:.0} rows/s)",
        now.partitions_done,
        now.partitions,
        now.partition,
        now.rows,
        now.bytes as f64 / 1e6,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_days_and_rows() {
        let now = ExportProgress {
            partition: "logs/date=2026-11-21".into(),
            partitions_done: 1,
            partitions: 2,
            rows: 2000,
            bytes: 3_000_000,
        };
        assert_eq!(
            line(&now, Duration::from_secs(2)),
            "[############............] 1 of 2 days, logs/date=2026-11-21 (2000 rows, 3.0 MB, 1000 rows/s)"
        );
    }
}
