//! TLS, passwords and tokens.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::sync::Arc;

use chronolith_tests::{Client, Server};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

const ALICE: &str = "Basic YWxpY2U6c2VzYW1l"; // alice:sesame
const ALICE_WRONG: &str = "Basic YWxpY2U6d3Jvbmc="; // alice:wrong

fn trusting(certificate: CertificateDer<'static>) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[test]
fn users_and_tokens_are_asked_for_but_not_by_probes() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("chronolith.yml");
    let hash = bcrypt::hash("sesame", 4).unwrap();
    let yaml =
        format!("web:\n  basic_auth_users:\n    alice: {hash}\n  bearer_tokens:\n    ci: t0ken\n");
    fs::write(&file, yaml).unwrap();
    let server = Server::start(&["--config", file.to_str().unwrap()]);
    let status = |authorization: Option<&str>, path: &str| {
        let client = server.client();
        let client = match authorization {
            Some(value) => client.with_header("authorization", value),
            None => client,
        };
        client.get(path).status
    };
    assert_eq!(status(None, "/-/ready"), 200);
    assert_eq!(status(None, "/api/v1/labels"), 401);
    assert_eq!(status(None, "/metrics"), 401);
    assert_eq!(status(Some(ALICE), "/api/v1/labels"), 200);
    assert_eq!(status(Some(ALICE_WRONG), "/api/v1/labels"), 401);
    assert_eq!(status(Some("Bearer t0ken"), "/api/v1/labels"), 200);
    assert_eq!(status(Some("Bearer other"), "/api/v1/labels"), 401);
    let refused = server.client().get("/api/v1/labels");
    assert!(
        refused
            .header("www-authenticate")
            .unwrap()
            .starts_with("Basic")
    );
    let yaml = server
        .client()
        .with_header("authorization", ALICE)
        .get("/api/v1/status/config")
        .text();
    assert!(!yaml.contains("t0ken") && !yaml.contains("$2b$"), "{yaml}");
    assert!(!server.log().contains("t0ken"));
}

#[test]
fn https_works_and_plain_http_does_not() {
    let dir = TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let file = dir.path().join("web.yml");
    let yaml =
        "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  min_version: TLS13\n";
    fs::write(&file, yaml).unwrap();
    let server = Server::start(&["--web-config-file", file.to_str().unwrap()]);
    assert!(
        server.log().contains("listening on https://"),
        "{}",
        server.log()
    );
    let client = Client::new(server.address()).with_tls(trusting(made.cert.der().clone()));
    assert_eq!(client.get("/-/ready").status, 200);
    assert_eq!(client.get("/api/v1/labels").json()["status"], "success");
    assert!(
        server
            .client()
            .try_request("GET", "/-/ready", &[], b"")
            .is_err()
    );
}
