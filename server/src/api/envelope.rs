//! Prometheus' envelope around an answer.

use axum::response::{IntoResponse, Response};
use http::header;

use crate::wire::json;

/// `{"status":"success","data":<data>,"warnings":[..],"infos":[..]}`; empty lists are left out.
#[must_use]
pub fn success(data: &str, warnings: &[String], infos: &[String]) -> Response {
    json_response(success_text(data, warnings, infos))
}

/// The text of [`success`].
#[must_use]
pub fn success_text(data: &str, warnings: &[String], infos: &[String]) -> String {
    let mut body = String::with_capacity(data.len() + 64);
    body.push_str("{\"status\":\"success\",\"data\":");
    body.push_str(data);
    push_remarks(&mut body, warnings, infos);
    body.push('}');
    body
}

/// Appends `,"warnings":[..],"infos":[..]`, each only if there are any.
pub fn push_remarks(out: &mut String, warnings: &[String], infos: &[String]) {
    for (name, remarks) in [("warnings", warnings), ("infos", infos)] {
        if !remarks.is_empty() {
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":");
            json::push_array(out, remarks, |out, text| json::push_string(out, text));
        }
    }
}

/// A JSON body.
#[must_use]
pub fn json_response(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The warning that goes with an answer cut short.
pub const TRUNCATED: &str = "results truncated due to limit";

/// Cuts a list that was asked for with one element more than the limit.
pub fn truncate<T>(items: &mut Vec<T>, limit: Option<usize>) -> Vec<String> {
    match limit {
        Some(limit) if items.len() > limit => {
            items.truncate(limit);
            vec![TRUNCATED.to_owned()]
        }
        _ => Vec::new(),
    }
}
