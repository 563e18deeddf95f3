//! Asks a server over HTTP: one request, one connection.

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
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
    let response = send(url, path, headers, body).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Answer { status, body })
}

/// As [`post`], for an answer that comes line by line: calls `on_line` with each line but the last,
/// which is answered as the body.
///
/// # Errors
/// As for [`post`]; a line of more than [`LINE_BYTES_MAX`].
pub(super) async fn post_for_lines(
    url: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
    mut on_line: impl FnMut(&[u8]),
) -> anyhow::Result<Answer> {
    let response = send(url, path, headers, body).await?;
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut rest: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        rest.extend_from_slice(&data);
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            if end + 1 == rest.len() {
                // It may be the last one.
                break;
            }
            let line: Vec<u8> = rest.drain(..=end).collect();
            on_line(&line);
        }
        if rest.len() > LINE_BYTES_MAX {
            bail!("{url} sent a line of more than {LINE_BYTES_MAX} bytes");
        }
    }
    let body = Bytes::from(rest);
    Ok(Answer { status, body })
}

/// Bytes of a line of an answer.
const LINE_BYTES_MAX: usize = 1 << 20;

async fn send(
    url: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
) -> anyhow::Result<Response<Incoming>> {
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
    Ok(sender.send_request(request).await?)
}
