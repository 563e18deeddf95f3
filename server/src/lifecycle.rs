//! What changes while the server runs: the configuration file read anew, and the wish to end.

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::{FileConfig, OtlpConfig, TABLE};
use crate::files;
use crate::notifications::RELOAD_FAILED;
use crate::process::Processor;
use crate::scrape::config::ScrapeConfigs;
use crate::state::AppState;

/// The configuration file as it is in force, and whether somebody asked the server to end.
#[derive(Debug)]
pub struct Lifecycle {
    loaded: Mutex<Loaded>,
    quit: Notify,
}

/// The last reading of the configuration file.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What is in force.
    pub file: Arc<FileConfig>,
    /// When it was read.
    pub at: SystemTime,
    /// Whether the last attempt succeeded; if not, what was before is in force.
    pub succeeded: bool,
}

impl Lifecycle {
    /// With the file that the server was started with.
    #[must_use]
    pub fn new(file: FileConfig) -> Self {
        let loaded = Loaded {
            file: Arc::new(file),
            at: SystemTime::now(),
            succeeded: true,
        };
        Self {
            loaded: Mutex::new(loaded),
            quit: Notify::new(),
        }
    }

    /// The last reading.
    #[must_use]
    pub fn loaded(&self) -> Loaded {
        self.loaded.lock().clone()
    }

    /// Asks the server to end as SIGTERM does.
    pub fn quit(&self) {
        self.quit.notify_one();
    }

    /// Comes back when somebody has asked.
    pub async fn quit_asked(&self) {
        self.quit.notified().await;
    }
}

/// Reads the configuration file again and takes over its sections `global`, `otlp`, `process`,
/// `scrape_configs`, `scrape_config_files` and `logs_configs`. Answers with the names of the settings that changed too: they count from
/// the next start on. Blocks; must be called inside a tokio runtime.
///
/// # Errors
/// What is wrong with the file; then nothing changes.
pub fn reload(state: &AppState) -> Result<Vec<String>, String> {
    let lifecycle = state.lifecycle();
    let before = lifecycle.loaded().file;
    let result = if before.path.as_os_str().is_empty() {
        // Without a file there is nothing that could have changed.
        Ok(Arc::clone(&before))
    } else {
        read_and_apply(state, &before)
    };
    let mut loaded = lifecycle.loaded.lock();
    loaded.succeeded = result.is_ok();
    match result {
        Ok(file) => {
            loaded.file = Arc::clone(&file);
            loaded.at = SystemTime::now();
            drop(loaded);
            state.notifications().clear(RELOAD_FAILED);
            let waiting = changed_since_start(&state.config().file, &file);
            tracing::info!(?waiting, "configuration reloaded");
            Ok(waiting)
        }
        Err(error) => {
            drop(loaded);
            state.notifications().raise(RELOAD_FAILED);
            tracing::error!(error, "configuration not reloaded");
            Err(error)
        }
    }
}

fn read_and_apply(state: &AppState, before: &FileConfig) -> Result<Arc<FileConfig>, String> {
    let file = FileConfig::read(&before.path).map_err(|e| e.to_string())?;
    let scrape_configs = ScrapeConfigs::of(&file)?;
    let otlp = OtlpConfig::of(&file).map_err(|e| e.to_string())?;
    let process = crate::config::process(&file).map_err(|e| e.to_string())?;
    let processor = Processor::new(&process)?;
    let log_files = files::config::jobs(&file)?;
    state.scraper().apply(&scrape_configs)?;
    state.configure_otlp(&otlp);
    state.set_processor(processor);
    state.files().apply(state, log_files);
    Ok(Arc::new(file))
}

/// What only a start takes over and is not as it was at the last one.
fn changed_since_start(start: &FileConfig, now: &FileConfig) -> Vec<String> {
    let value = |file: &FileConfig, key: &str| file.values.get(key).map(|v| v.value.clone());
    let web = |file: &FileConfig| file.section("web").map(|section| section.value.clone());
    let settings = TABLE.iter().map(|setting| setting.key);
    let mut changed: Vec<String> = settings
        .filter(|key| value(start, key) != value(now, key))
        .map(str::to_owned)
        .collect();
    if web(start) != web(now) {
        changed.push("web".to_owned());
    }
    changed
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn settings_that_wait_for_a_start_are_named() {
        let parse = |text: &str| FileConfig::parse(Path::new("c.yml"), text.to_owned()).unwrap();
        let start = parse("retention: 1d\nglobal: {}\n");
        let now = parse("retention: 2d\nsync: off\nweb: {}\nglobal: {scrape_interval: 5s}\n");
        assert_eq!(
            changed_since_start(&start, &now),
            ["sync", "retention", "web"]
        );
    }
}
