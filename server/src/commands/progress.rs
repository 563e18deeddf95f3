//! How far a long command has got: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use chronolith_engine::store::{Progress, Step};
use parking_lot::Mutex;

/// Between two drawings of the bar.
const REDRAW: Duration = Duration::from_millis(100);
/// Between two lines where there is no terminal.
const LINE: Duration = Duration::from_secs(10);
/// Characters of the bar.
const BAR_WIDTH: u64 = 24;

/// Draws on standard error, so that the output of the command can be used.
pub(super) struct ProgressBar {
    terminal: bool,
    state: Mutex<State>,
}

struct State {
    step: Option<Step>,
    step_began: Instant,
    shown: Instant,
    drawn: bool,
}

impl ProgressBar {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            terminal: std::io::stderr().is_terminal(),
            state: Mutex::new(State {
                step: None,
                step_began: now,
                shown: now,
                drawn: false,
            }),
        }
    }

    /// Shows the progress if it is time to.
    pub(super) fn show(&self, progress: &Progress) -> ControlFlow<()> {
        let mut state = self.state.lock();
        let now = Instant::now();
        let begins = state.step != Some(progress.step);
        if begins {
            state.step = Some(progress.step);
            state.step_began = now;
        }
        let ends = progress.files_done == progress.files && !begins;
        let pause = if self.terminal { REDRAW } else { LINE };
        if begins || ends || now.duration_since(state.shown) >= pause {
            state.shown = now;
            let text = line(
                progress,
                now.duration_since(state.step_began),
                self.terminal,
            );
            let mut out = std::io::stderr().lock();
            // A progress bar that cannot be shown is no reason to stop.
            let _ = match (self.terminal, ends) {
                (false, _) => writeln!(out, "{text}"),
                (true, true) => writeln!(out, "\r{text}\x1b[K"),
                (true, false) => write!(out, "\r{text}\x1b[K").and_then(|()| out.flush()),
            };
            state.drawn = self.terminal && !ends;
        }
        ControlFlow::Continue(())
    }

    /// Leaves the line of a bar that was not drawn to its end.
    pub(super) fn end(&self) {
        if self.state.lock().drawn {
            eprintln!();
        }
    }
}

fn line(progress: &Progress, took: Duration, with_bar: bool) -> String {
    let what = match progress.step {
        Step::Copy => "copying  ",
        Step::Verify => "verifying",
    };
    let percent = match progress.bytes {
        0 => 100,
        bytes => (u128::from(progress.bytes_done) * 100 / u128::from(bytes)).min(100) as u64,
    };
    let mut text = format!("{what} {percent:>3} %");
    if with_bar {
        let filled = percent * BAR_WIDTH / 100;
        text.push_str(" [");
        for at in 0..BAR_WIDTH {
            text.push(if at < filled { '#' } else { ' ' });
        }
        text.push(']');
    }
    let seconds = took.as_secs_f64();
    text.push_str(&format!(
        " {}/{} files, {} of {}",
        progress.files_done,
        progress.files,
        bytes_text(progress.bytes_done),
        bytes_text(progress.bytes)
    ));
    if seconds > 0.5 {
        let rate = progress.bytes_done as f64 / seconds;
        text.push_str(&format!(", {}/s", bytes_text(rate as u64)));
    }
    text
}

/// `1.5 GiB`
pub(super) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS.get(unit).unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_fitting_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(bytes_text(bytes), text);
        }
    }

    #[test]
    fn a_line_tells_step_share_and_rate() {
        let progress = Progress {
            step: Step::Verify,
            files_done: 1,
            files: 4,
            bytes_done: 1 << 20,
            bytes: 4 << 20,
        };
        let took = Duration::from_secs(2);
        assert_eq!(
            line(&progress, took, false),
            "verifying  25 % 1/4 files, 1.0 MiB of 4.0 MiB, 512.0 KiB/s"
        );
        assert!(line(&progress, took, true).contains("[######                  ]"));
        let nothing = Progress::default();
        assert!(line(&nothing, Duration::ZERO, false).starts_with("copying   100 % 0/0 files"));
    }
}
