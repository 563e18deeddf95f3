//! Asks a server over HTTP: one request, one connection.

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What a server answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// Posts a body to a path below `url`.
///
/// # Errors
/// The address is wrong or the server does not answer.
pub(super) async fn post(
    url: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
) -> anyhow::Result<Answer> {
    let base: Uri = url.parse().with_context(|| format!("--url {url}"))?;
    if base.scheme_str() != Some("http") {
        bail!("--url {url}: only http:// is spoken by the command line");
    }
    let authority = base
        .authority()
        .ok_or_else(|| anyhow!("--url {url}: no host"))?;
    let host = base.host().unwrap_or_default();
    let port = base.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((host, port))
        .await
        .with_context(|| format!("cannot reach {url}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let prefix = base.path().trim_end_matches('/');
    let mut request =
        Request::post(format!("{prefix}{path}")).header(header::HOST, format!("{host}:{port}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some((user, _)) = authority.as_str().rsplit_once('@') {
        let encoded = base64::engine::general_purpose::STANDARD.encode(user);
        request = request.header(header::AUTHORIZATION, format!("Basic {encoded}"));
    }
    let request = request.body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Answer { status, body })
}
