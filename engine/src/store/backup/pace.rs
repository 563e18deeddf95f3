//! Keeps a long copy from taking the whole medium, tells its progress and hears of its end.

use std::time::{Duration, Instant};

use super::{BackupOptions, Pace, Progress, Step};
use crate::context::CancelToken;
use crate::error::{EngineError, Result};

/// The longest rest at a time: progress and cancellation stay prompt.
const REST_MAX: Duration = Duration::from_millis(200);

/// Called after every piece of work.
pub(super) struct Pacer<'a> {
    options: &'a BackupOptions<'a>,
    cancel: Option<&'a CancelToken>,
    progress: Progress,
    /// When the present step began.
    step_began: Instant,
    /// When the present piece began.
    piece_began: Instant,
}

impl<'a> Pacer<'a> {
    pub(super) fn new(options: &'a BackupOptions<'a>, cancel: Option<&'a CancelToken>) -> Self {
        let now = Instant::now();
        Self {
            options,
            cancel,
            progress: Progress::default(),
            step_began: now,
            piece_began: now,
        }
    }

    /// Begins a step that has this much to do.
    pub(super) fn begin(&mut self, step: Step, files: u64, bytes: u64) -> Result<()> {
        self.progress = Progress {
            step,
            files,
            bytes,
            ..Progress::default()
        };
        self.step_began = Instant::now();
        self.tell()
    }

    /// Notes a piece of a file, rests as the pace asks for, and ends the work if that is wanted.
    pub(super) fn piece(&mut self, bytes: u64) -> Result<()> {
        self.progress.bytes_done += bytes;
        self.tell()?;
        let rest = match self.options.pace {
            Pace::Unlimited => Duration::ZERO,
            Pace::Shared => self.piece_began.elapsed(),
            Pace::BytesPerSecond(rate) => {
                let due = self.progress.bytes_done as f64 / rate.max(1) as f64;
                Duration::from_secs_f64(due).saturating_sub(self.step_began.elapsed())
            }
        };
        let until = Instant::now() + rest;
        while let Some(left) = until.checked_duration_since(Instant::now())
            && !left.is_zero()
        {
            std::thread::sleep(left.min(REST_MAX));
            self.check()?;
        }
        self.piece_began = Instant::now();
        Ok(())
    }

    /// Notes the end of a file.
    pub(super) fn file_done(&mut self) -> Result<()> {
        self.progress.files_done += 1;
        self.tell()
    }

    fn check(&self) -> Result<()> {
        match self.cancel {
            Some(cancel) if cancel.is_cancelled() => Err(EngineError::Cancelled),
            _ => Ok(()),
        }
    }

    fn tell(&self) -> Result<()> {
        self.check()?;
        match self.options.progress {
            Some(progress) if progress(&self.progress).is_break() => Err(EngineError::Cancelled),
            _ => Ok(()),
        }
    }
}
