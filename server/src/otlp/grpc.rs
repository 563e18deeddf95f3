//! OTLP over gRPC: one unary method per signal, by hand on HTTP/2.
//!
//! A unary call is one length-prefixed message each way and a status in the trailers; that is all of
//! gRPC that OTLP uses, so no framework is needed. Everything behind the frame is what HTTP uses.
//! An error is an answer without a body whose headers carry the status; where a retry may succeed,
//! `RetryInfo` says after how long.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::envelope::{decode_frame, may_be_retried, rpc_code};
use super::signal::{Signal, response_message};
use crate::error::{ApiError, ErrorType, RETRY_AFTER_SECONDS};
use crate::request::Caller;
use crate::state::AppState;
use crate::wire::protobuf::{push_bytes, push_number};

/// Path of the method that takes metrics.
pub const METRICS_PATH: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// Path of the method that takes log records.
pub const LOGS_PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// Path of the method that takes spans.
pub const TRACES_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Bytes before a message: whether it is compressed, and its length.
pub const FRAME_HEAD_BYTES: usize = 5;
/// Characters of a status' message; headers are bounded.
const MESSAGE_CHARS_MAX: usize = 1_000;
/// What a status' message has to escape.
const MESSAGE_ESCAPES: &AsciiSet = &CONTROLS.add(b'%');

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// The status of a method that does not exist.
const UNIMPLEMENTED: u8 = 12;

/// Takes metrics.
pub async fn export_metrics(
    State(state): State<AppState>,
    caller: Result<Caller, ApiError>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    export(Signal::Metrics, state, caller, headers, body).await
}

/// Takes log records.
pub async fn export_logs(
    State(state): State<AppState>,
    caller: Result<Caller, ApiError>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    export(Signal::Logs, state, caller, headers, body).await
}

/// Takes spans.
pub async fn export_traces(
    State(state): State<AppState>,
    caller: Result<Caller, ApiError>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    export(Signal::Traces, state, caller, headers, body).await
}

async fn export(
    signal: Signal,
    state: AppState,
    caller: Result<Caller, ApiError>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE);
    if !content_type.is_some_and(|v| v.as_bytes().starts_with(b"application/grpc")) {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let taken = async {
        let caller = caller?;
        let settings = state.settings();
        let bytes_max = settings.write_body_max.as_usize();
        let decoded =
            decode_frame(&state, &headers, body, bytes_max, settings.body_timeout).await?;
        signal.store(&state, caller, decoded).await
    };
    match taken.await {
        Ok(rejections) => answer(&response_message(&rejections)),
        Err(error) => {
            if error.kind == ErrorType::Internal {
                tracing::error!(%error, ?signal, "cannot store OTLP");
            }
            refusal(
                rpc_code(error.kind),
                &error.message,
                may_be_retried(error.kind),
            )
        }
    }
}

/// Answers a call of a method that does not exist.
pub async fn unknown_method() -> Response {
    refusal(UNIMPLEMENTED, "no such method", false)
}

fn answer(message: &[u8]) -> Response {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + message.len());
    frame.push(0);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    let body = Full::new(Bytes::from(frame)).with_trailers(async {
        let mut trailers = HeaderMap::new();
        trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
        Some(Ok(trailers))
    });
    let mut response = Body::new(body).into_response();
    set_content_type(&mut response);
    response
}

fn refusal(code: u8, message: &str, retry: bool) -> Response {
    let mut response = StatusCode::OK.into_response();
    set_content_type(&mut response);
    let shown: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
    let escaped = utf8_percent_encode(&shown, MESSAGE_ESCAPES).to_string();
    let headers = response.headers_mut();
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(code)));
    if let Ok(value) = HeaderValue::from_str(&escaped) {
        headers.insert(GRPC_MESSAGE, value);
    }
    if retry {
        let details = STANDARD_NO_PAD.encode(status_with_retry(code, &shown));
        if let Ok(value) = HeaderValue::from_str(&details) {
            headers.insert(GRPC_DETAILS, value);
        }
    }
    response
}

fn set_content_type(response: &mut Response) {
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
}

/// A `google.rpc.Status` with a `RetryInfo`.
fn status_with_retry(code: u8, message: &str) -> Vec<u8> {
    let (mut delay, mut retry_info, mut any, mut status) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    push_number(&mut delay, 1, u64::from(RETRY_AFTER_SECONDS));
    push_bytes(&mut retry_info, 1, &delay);
    push_bytes(&mut any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
    push_bytes(&mut any, 2, &retry_info);
    push_number(&mut status, 1, u64::from(code));
    push_bytes(&mut status, 2, message.as_bytes());
    push_bytes(&mut status, 3, &any);
    status
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::net::TcpStream;

    use super::*;
    use crate::commands::serve;
    use crate::config::Config;
    use crate::otlp::json::{schema, to_protobuf};

    async fn server(dir: &tempfile::TempDir) -> serve::Running {
        let data = dir.path().join("data").display().to_string();
        let flags = [
            ("listen", "127.0.0.1:0"),
            ("otlp_grpc_listen", "127.0.0.1:0"),
            ("otlp_http_listen", "off"),
            ("self_scrape", "off"),
            ("write_body_max", "64KiB"),
            ("data_dir", data.as_str()),
        ];
        let flag = |key: &str| flags.iter().find(|(k, _)| *k == key);
        let config = Config::load(
            None,
            |s| flag(s.key).map(|(_, v)| (*v).to_owned()),
            |_| None,
        );
        serve::start(config.unwrap()).await.unwrap()
    }

    /// Sends a frame; answers `grpc-status`, `grpc-message` and the body.
    async fn call(
        url: &str,
        path: &str,
        headers: &[(&str, &str)],
        frame: Vec<u8>,
    ) -> (String, String, Bytes) {
        let address = url.strip_prefix("http://").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        let mut request = http::Request::post(format!("{url}{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(frame))).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let (head, body) = response.into_parts();
        let collected = body.collect().await.unwrap();
        let mut all = head.headers;
        all.extend(collected.trailers().cloned().unwrap_or_default());
        let text = |name: &HeaderName| {
            let value = all.get(name).map(|v| v.to_str().unwrap().to_owned());
            value.unwrap_or_default()
        };
        (
            text(&GRPC_STATUS),
            text(&GRPC_MESSAGE),
            collected.to_bytes(),
        )
    }

    fn frame(compressed: u8, message: &[u8]) -> Vec<u8> {
        let mut out = vec![compressed];
        out.extend_from_slice(&(message.len() as u32).to_be_bytes());
        out.extend_from_slice(message);
        out
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_call_is_a_frame_each_way_and_a_status() {
        let dir = tempfile::tempdir().unwrap();
        let running = server(&dir).await;
        let url = running.otlp_grpc_url.clone().unwrap();
        let text = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"g","gauge":{"dataPoints":[{"timeUnixNano":"1700000000000000000","asInt":"1"},{"asInt":"2"}]}}]}]}]}"#;
        let mut message = Vec::new();
        let table = schema::export_metrics_request();
        to_protobuf(text.as_bytes(), table, &mut message, 1 << 20).unwrap();

        let empty = call(&url, METRICS_PATH, &[], frame(0, &[])).await;
        assert_eq!((empty.0.as_str(), empty.2.as_ref()), ("0", &[0; 5][..]));

        let packed = zstd::bulk::compress(&message, 1).unwrap();
        let cases = [
            (frame(0, &message), vec![]),
            (frame(1, &packed), vec![("grpc-encoding", "zstd")]),
        ];
        for (frame, headers) in cases {
            let (status, _, body) = call(&url, METRICS_PATH, &headers, frame).await;
            assert_eq!(status, "0");
            let answer = String::from_utf8_lossy(&body);
            assert!(answer.contains("without a time"), "{answer}");
        }
        let stats = running.state.store().stats();
        assert!(stats.head_samples >= 1, "{stats:?}");

        let cut = message[..message.len() - 2].to_vec();
        for (path, frame, status, part) in [
            (METRICS_PATH, frame(0, &cut), "3", "protobuf"),
            (METRICS_PATH, vec![0, 0, 0, 0, 9], "3", "frame"),
            (METRICS_PATH, vec![0, 0], "3", "frame"),
            (METRICS_PATH, frame(1, &message), "3", "grpc-encoding"),
            (METRICS_PATH, frame(0, &[0; 70 << 10]), "3", "bytes"),
            (
                "/other.Service/Export",
                frame(0, &[]),
                "12",
                "no such method",
            ),
        ] {
            let got = call(&url, path, &[], frame).await;
            assert_eq!(got.0, status, "{}", got.1);
            assert!(got.1.contains(part), "{}", got.1);
        }
        let bad = [("x-scope-orgid", "a b")];
        assert_eq!(call(&url, METRICS_PATH, &bad, frame(0, &[])).await.0, "3");
        running.stop().await.unwrap();
    }

    #[test]
    fn what_may_be_retried_says_when() {
        let response = refusal(8, "50 % full\n", true);
        let headers = response.headers();
        assert_eq!(headers.get(GRPC_STATUS).unwrap(), "8");
        assert_eq!(headers.get(GRPC_MESSAGE).unwrap(), "50 %25 full%0A");
        let details = headers.get(GRPC_DETAILS).unwrap().as_bytes();
        let status = STANDARD_NO_PAD.decode(details).unwrap();
        assert!(String::from_utf8_lossy(&status).contains("google.rpc.RetryInfo"));
        assert!(!refusal(3, "x", false).headers().contains_key(GRPC_DETAILS));
    }
}
