//! Elasticsearch's `_bulk`, and the pages that shippers ask for before they send; and JSON lines.
//!
//! Both take one JSON object per record (see [`super::documents`]). The names of its fields come from
//! arguments or headers as VictoriaLogs has them: `_msg_field`, `_time_field`, `_stream_fields`,
//! `ignore_fields`, `extra_fields`; `VL-Msg-Field` and so on.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;

use super::documents::{DocumentFields, Documents, take_lines};
use crate::error::{ApiError, ErrorType};
use crate::otlp::decompress::Compression;
use crate::otlp::envelope::{Decoded, read_decompressed};
use crate::request::Caller;
use crate::rows::take::{self, Source};
use crate::rows::{LogSink, Reason};
use crate::state::AppState;
use crate::telemetry::rows::Protocol;
use crate::wire::json::push_string;

/// Stand behind the tenant in keys of streams: no other protocol's keys have them there.
const BULK_KEY_MARK: u8 = 2;
const LINES_KEY_MARK: u8 = 3;
/// The version that shippers believe to speak to: the last whose handshake is open to all.
const ELASTIC_VERSION: &str = "8.17.0";

/// Names of fields, from the query string or from headers.
fn fields(query: Option<&str>, headers: &HeaderMap) -> DocumentFields {
    let pairs: Vec<(String, String)> = query.map(query_pairs).unwrap_or_default();
    let given = |argument: &str, name: &str| {
        let from_query = pairs.iter().find(|(key, _)| key == argument);
        let from_query = from_query.map(|(_, value)| value.clone());
        let from_header = || headers.get(name)?.to_str().ok().map(str::to_owned);
        from_query
            .or_else(from_header)
            .filter(|text| !text.is_empty())
    };
    let list = |text: String| -> Vec<String> {
        let names = text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    };
    let mut fields = DocumentFields::default();
    if let Some(names) = given("_msg_field", "vl-msg-field").map(list) {
        fields.message = names;
    }
    if let Some(names) = given("_time_field", "vl-time-field").map(list) {
        fields.time = names;
    }
    if let Some(names) = given("_stream_fields", "vl-stream-fields").map(list) {
        fields.stream = names;
    }
    if let Some(names) = given("ignore_fields", "vl-ignore-fields").map(list) {
        fields.ignored = names;
    }
    if let Some(pairs) = given("extra_fields", "vl-extra-fields").map(list) {
        let pairs = pairs.iter().filter_map(|pair| pair.split_once('='));
        fields.extra = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    }
    fields
}

fn query_pairs(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        let decoded = percent_encoding::percent_decode_str(&text).decode_utf8_lossy();
        decoded.into_owned()
    };
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(k, v)| (decode(k), decode(v))).collect()
}

async fn read(state: &AppState, headers: &HeaderMap, body: Body) -> Result<Decoded, ApiError> {
    let encoding = headers.get(header::CONTENT_ENCODING);
    let encoding = encoding.map_or("", |v| v.to_str().unwrap_or("?"));
    let compression = Compression::from_header(encoding).ok_or_else(|| {
        let words = format!("unsupported compression {encoding:?}");
        ApiError::new(ErrorType::UnsupportedMedia, words)
    })?;
    let settings = state.settings();
    let bytes_max = settings.write_body_max.as_usize();
    let timeout = settings.body_timeout;
    read_decompressed(state, headers, body, compression, bytes_max, timeout).await
}

fn source(protocol: Protocol, body: &Decoded) -> Source {
    Source {
        protocol,
        received_bytes: body.received_bytes,
        decoded_bytes: body.message().len(),
    }
}

/// `POST /insert/jsonline`: 200 with the number of lines; bad ones are passed over and counted.
pub async fn json_lines(
    State(state): State<AppState>,
    caller: Result<Caller, ApiError>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let caller = caller?;
    let fields = fields(query.as_deref(), &headers);
    let body = read(&state, &headers, body).await?;
    let source = source(Protocol::JsonLines, &body);
    let counts = Arc::new(Mutex::new(Default::default()));
    let counted = Arc::clone(&counts);
    let taken = take::logs(&state, caller, source, body, move |body, sink| {
        *counted.lock() = take_lines(body.message(), &fields, LINES_KEY_MARK, sink);
        Ok(())
    })
    .await?;
    if taken.rows == 0 && taken.refused_for(Reason::Streams) > 0 {
        return Err(ApiError::new(
            ErrorType::TooMany,
            taken.rejections.message(),
        ));
    }
    let counts = *counts.lock();
    let answer = json!({
        "lines": counts.lines,
        "refused": counts.refused,
        "reasons": taken.rejections.message(),
    });
    Ok(json_answer(StatusCode::OK, answer.to_string()))
}

/// Everything below an Elasticsearch prefix: `_bulk`, and the handshake.
pub async fn elastic(
    State(state): State<AppState>,
    caller: Result<Caller, ApiError>,
    method: Method,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let path = uri.path().trim_end_matches('/');
    let is_write = matches!(method, Method::POST | Method::PUT);
    if let Some(before) = path.strip_suffix("/_bulk")
        && is_write
    {
        let index = before.rsplit('/').next().unwrap_or("");
        let index = (!matches!(index, "" | "elastic" | "elasticsearch")).then(|| index.to_owned());
        let fields = fields(query.as_deref(), &headers);
        return match bulk(&state, caller, index, fields, &headers, body).await {
            Ok(answer) => json_answer(StatusCode::OK, answer),
            Err(error) => elastic_error(&error),
        };
    }
    handshake(path, &method)
}

/// An answer in JSON that says which product it is from: clients refuse to go on without.
fn json_answer(status: StatusCode, body: String) -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (
            header::HeaderName::from_static("x-elastic-product"),
            HeaderValue::from_static("Elasticsearch"),
        ),
    ];
    (status, headers, body).into_response()
}

fn elastic_error(error: &ApiError) -> Response {
    if error.kind == ErrorType::Internal {
        tracing::error!(%error, "cannot store a bulk request");
    }
    let status = error.kind.status();
    let kind = match error.kind {
        ErrorType::TooMany | ErrorType::Unavailable => "es_rejected_execution_exception",
        _ => "illegal_argument_exception",
    };
    let cause = json!({"type": kind, "reason": error.message});
    let body = json!({"error": {"root_cause": [cause], "type": kind, "reason": error.message}, "status": status.as_u16()});
    json_answer(status, body.to_string())
}

fn handshake(path: &str, method: &Method) -> Response {
    let last = path.rsplit('/').next().unwrap_or("");
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    let body = match last {
        "elastic" | "elasticsearch" | "" if is_read => json!({
            "name": "chronolith", "cluster_name": "chronolith", "cluster_uuid": "chronolith",
            "version": {"number": ELASTIC_VERSION, "build_flavor": "default",
                "minimum_wire_compatibility_version": "7.17.0",
                "minimum_index_compatibility_version": "7.0.0"},
            "tagline": "You Know, for Search",
        }),
        "_license" => json!({"license": {"status": "active", "type": "basic", "mode": "basic",
            "uid": "chronolith", "expiry_date_in_millis": 4_000_000_000_000_i64}}),
        "_xpack" => json!({"build": {}, "features": {"ilm": {"available": true, "enabled": true}},
            "license": {"status": "active", "type": "basic", "mode": "basic"}}),
        "health" if path.contains("_cluster") => json!({"cluster_name": "chronolith",
            "status": "green", "number_of_nodes": 1, "number_of_data_nodes": 1}),
        "http" | "_nodes" if path.contains("_nodes") => json!({"nodes": {}}),
        _ if [
            "_index_template",
            "_template",
            "_component_template",
            "_ilm",
            "_ingest",
            "_alias",
            "_data_stream",
        ]
        .iter()
        .any(|part| path.contains(part)) =>
        {
            // What a shipper wants to set up is there already.
            json!({"acknowledged": true})
        }
        _ => {
            let error = json!({"error": {"type": "invalid_index_name_exception",
                "reason": "no such page"}, "status": 404});
            return json_answer(StatusCode::NOT_FOUND, error.to_string());
        }
    };
    json_answer(StatusCode::OK, body.to_string())
}

/// The line before a document.
#[derive(Default, Deserialize)]
struct Action {
    create: Option<Target>,
    index: Option<Target>,
    update: Option<Target>,
    delete: Option<Target>,
}

#[derive(Default, Deserialize)]
struct Target {
    #[serde(rename = "_index")]
    index: Option<String>,
}

async fn bulk(
    state: &AppState,
    caller: Result<Caller, ApiError>,
    index: Option<String>,
    fields: DocumentFields,
    headers: &HeaderMap,
    body: Body,
) -> Result<String, ApiError> {
    let caller = caller?;
    let began = Instant::now();
    let body = read(state, headers, body).await?;
    let source = source(Protocol::ElasticBulk, &body);
    let items = Arc::new(Mutex::new(Items::default()));
    let answered = Arc::clone(&items);
    take::logs(state, caller, source, body, move |body, sink| {
        let items = take_bulk(body.message(), index.as_deref(), &fields, sink);
        *answered.lock() = items.map_err(ApiError::bad_data)?;
        Ok(())
    })
    .await?;
    let items = std::mem::take(&mut *items.lock());
    let took = began.elapsed().as_millis();
    Ok(format!(
        "{{\"took\":{took},\"errors\":{},\"items\":[{}]}}",
        items.errors, items.text
    ))
}

/// What a bulk request is answered with, item by item.
#[derive(Debug, Default, PartialEq)]
pub struct Items {
    text: String,
    errors: bool,
}

impl Items {
    fn add(&mut self, action: &str, index: &str, outcome: Result<(), (Reason, String)>) {
        if !self.text.is_empty() {
            self.text.push(',');
        }
        self.text.push_str("{\"");
        self.text.push_str(action);
        self.text.push_str("\":{\"_index\":");
        push_string(&mut self.text, index);
        match outcome {
            Ok(()) => self
                .text
                .push_str(",\"result\":\"created\",\"status\":201}}"),
            Err((reason, words)) => {
                self.errors = true;
                let (status, kind) = match reason {
                    Reason::Streams | Reason::Rows => (429, "es_rejected_execution_exception"),
                    _ => (400, "document_parsing_exception"),
                };
                self.text.push_str(&format!(
                    ",\"status\":{status},\"error\":{{\"type\":\"{kind}\",\"reason\":"
                ));
                push_string(&mut self.text, &words);
                self.text.push_str("}}}");
            }
        }
    }
}

/// Takes action lines and documents.
///
/// # Errors
/// A line that should be an action and is none; nothing may be stored then.
pub fn take_bulk(
    body: &[u8],
    index: Option<&str>,
    fields: &DocumentFields,
    sink: &mut LogSink<'_>,
) -> Result<Items, String> {
    let mut items = Items::default();
    let mut documents = Documents::new(fields, BULK_KEY_MARK);
    let mut lines = body
        .split(|b| *b == b'\n')
        .map(<[u8]>::trim_ascii)
        .enumerate()
        .filter(|(_, line)| !line.is_empty());
    while let Some((number, line)) = lines.next() {
        let action: Action = serde_json::from_slice(line)
            .map_err(|e| format!("Malformed action/metadata line [{}]: {e}", number + 1))?;
        let (name, target) = match action {
            Action {
                create: Some(t), ..
            } => ("create", t),
            Action { index: Some(t), .. } => ("index", t),
            Action {
                update: Some(t), ..
            } => ("update", t),
            Action {
                delete: Some(t), ..
            } => ("delete", t),
            _ => {
                return Err(format!(
                    "Malformed action/metadata line [{}], expected create, index, update or delete",
                    number + 1
                ));
            }
        };
        let target = target.index.as_deref().or(index);
        let outcome = match name {
            "delete" => Err((
                Reason::Malformed,
                "log records cannot be deleted here".into(),
            )),
            _ => match lines.next() {
                None => {
                    return Err("The bulk request must be terminated by a newline and hold a document behind each action".into());
                }
                Some(_) if name == "update" => {
                    Err((Reason::Malformed, "log records cannot be updated".into()))
                }
                Some((_, document)) => documents.take(document, target, sink),
            },
        };
        items.add(name, target.unwrap_or(""), outcome);
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use chronolith_engine::TenantId;
    use chronolith_engine::model::TimestampNs;

    use super::*;
    use crate::process::Processor;
    use crate::rows::{RowLimits, SinkContext, StreamCache};

    #[test]
    fn each_document_is_answered() {
        let streams = StreamCache::new(1 << 20, 0);
        let mut sink = LogSink::new(SinkContext {
            tenant: TenantId::default(),
            streams: &streams,
            processor: Arc::new(Processor::default()),
            limits: RowLimits {
                now: TimestampNs(7),
                latest: TimestampNs(2_000_000_000_000_000_000),
                line_bytes_max: 100,
                attributes_max: 10,
            },
        });
        let body = b"{\"create\":{\"_index\":\"a\"}}\n{\"message\":\"x\"}\n\n{\"index\":{}}\nnot json\n{\"delete\":{\"_id\":\"1\"}}\n{\"update\":{}}\n{}\n";
        let fields = DocumentFields::default();
        let items = take_bulk(body, Some("b"), &fields, &mut sink).unwrap();
        assert!(items.errors);
        let text = format!("[{}]", items.text);
        let items: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(items[0]["create"]["status"], 201);
        assert_eq!(items[0]["create"]["_index"], "a");
        assert_eq!(items[1]["index"]["status"], 400);
        assert_eq!(items[1]["index"]["_index"], "b");
        assert_eq!(items[2]["delete"]["status"], 400);
        assert_eq!(items[3]["update"]["status"], 400);
        for bad in [&b"{}\n{}\n"[..], b"x\n", b"{\"create\":{}}\n"] {
            assert!(take_bulk(bad, None, &fields, &mut sink).is_err());
        }
        let (batch, _) = sink.finish();
        assert_eq!(batch.len(), 1);
        let labels = batch.streams()[0].labels.to_string();
        assert_eq!(labels, r#"{index="a", service_name="unknown_service"}"#);
    }

    #[test]
    fn fields_are_named_by_arguments_and_headers() {
        let mut headers = HeaderMap::new();
        headers.insert("vl-time-field", HeaderValue::from_static("t"));
        headers.insert("vl-extra-fields", HeaderValue::from_static("env=prod,x"));
        let fields = fields(Some("_msg_field=a%2Cb&_stream_fields=s,,+u"), &headers);
        assert_eq!(fields.message, ["a", "b"]);
        assert_eq!(fields.stream, ["s", "u"]);
        assert_eq!(fields.time, ["t"]);
        assert_eq!(fields.extra, [("env".to_owned(), "prod".to_owned())]);
    }

    #[test]
    fn shippers_get_their_pages() {
        for (path, status) in [
            ("/elastic", 200),
            ("/elastic/_license", 200),
            ("/elastic/_cluster/health", 200),
            ("/elastic/_index_template/logs", 200),
            ("/elastic/other", 404),
        ] {
            let response = handshake(path, &Method::GET);
            assert_eq!(response.status().as_u16(), status, "{path}");
            assert!(response.headers().contains_key("x-elastic-product"));
        }
    }
}
