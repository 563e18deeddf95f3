//! `check config FILE`

use std::path::Path;

use anyhow::Context as _;

use crate::config::Config;
use crate::files;
use crate::listen::{Authenticator, acceptor};
use crate::scrape::config::ScrapeConfigs;

/// Reads a file as `serve` would, environment included, and checks what it refers to.
///
/// # Errors
/// The first thing wrong.
pub(super) fn config(file: &Path) -> anyhow::Result<u8> {
    let config = Config::load(Some(file), |_| None, |name| std::env::var(name).ok())?;
    Authenticator::new(&config.web).map_err(anyhow::Error::msg)?;
    ScrapeConfigs::of(&config.file).map_err(anyhow::Error::msg)?;
    files::config::jobs(&config.file).map_err(anyhow::Error::msg)?;
    if let Some(tls) = &config.web.tls_server_config {
        acceptor(tls)
            .map_err(anyhow::Error::msg)
            .context("tls_server_config")?;
    }
    println!("{}: ok", file.display());
    Ok(0)
}
