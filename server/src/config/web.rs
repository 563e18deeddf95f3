//! TLS and users, in the shape of Prometheus' web configuration file, plus bearer tokens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::file::{Section, parse_yaml, read_text};
use super::{ConfigError, Secret};

/// Who may connect, and how.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebConfig {
    /// Certificates; without it the server speaks plain HTTP.
    #[serde(default)]
    pub tls_server_config: Option<TlsConfig>,
    /// User name to bcrypt hash.
    #[serde(default)]
    pub basic_auth_users: BTreeMap<String, Secret>,
    /// Name of a principal to the token that it sends.
    #[serde(default)]
    pub bearer_tokens: BTreeMap<String, Secret>,
}

/// The certificate that the server shows, and whether it wants one of its clients.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the certificate chain.
    pub cert_file: PathBuf,
    /// PEM file with the private key.
    pub key_file: PathBuf,
    /// PEM file with the authorities that sign client certificates.
    #[serde(default)]
    pub client_ca_file: Option<PathBuf>,
    /// What is asked of clients.
    #[serde(default)]
    pub client_auth_type: ClientAuth,
    /// The oldest protocol version that is spoken.
    #[serde(default)]
    pub min_version: TlsVersion,
}

/// What is asked of clients, by Go's names as Prometheus has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ClientAuth {
    /// No certificate.
    #[default]
    NoClientCert,
    /// A certificate is verified if one is sent.
    VerifyClientCertIfGiven,
    /// A certificate signed by one of the authorities.
    RequireAndVerifyClientCert,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum TlsVersion {
    /// 1.2
    #[default]
    TLS12,
    /// 1.3
    TLS13,
}

impl WebConfig {
    /// Reads a file of this shape; its paths are relative to the file.
    ///
    /// # Errors
    /// It cannot be read or has another shape.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = parse_yaml(path, &read_text(path)?)?;
        config.anchor(path);
        Ok(config)
    }

    /// Reads the section `web:` of the main file `path`.
    ///
    /// # Errors
    /// It has another shape.
    pub fn from_section(path: &Path, section: &Section) -> Result<Self, ConfigError> {
        let mut config: Self =
            serde_json::from_value(section.value.clone()).map_err(|e| ConfigError::Syntax {
                path: path.to_owned(),
                message: format!("section web: at line {}: {e}", section.line),
            })?;
        config.anchor(path);
        Ok(config)
    }

    fn anchor(&mut self, file: &Path) {
        let (Some(tls), Some(dir)) = (&mut self.tls_server_config, file.parent()) else {
            return;
        };
        tls.cert_file = dir.join(&tls.cert_file);
        tls.key_file = dir.join(&tls.key_file);
        tls.client_ca_file = tls.client_ca_file.as_ref().map(|p| dir.join(p));
    }

    /// Whether anyone may come in without saying who they are.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.basic_auth_users.is_empty() && self.bearer_tokens.is_empty()
    }
}
