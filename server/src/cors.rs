//! Calls from browsers: cross-origin headers, and `OPTIONS`.
//!
//! Stands in front of authentication: a browser asks without credentials whether it may send some,
//! and a page can show "unauthorized" only if it may read the answer. Nothing of the server's is in
//! an answer to `OPTIONS`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

/// The origins that may call.
#[derive(Clone, Debug)]
pub struct Origins {
    any: bool,
    listed: Vec<String>,
}

impl Origins {
    /// `*` for any, `https://grafana.example` for one.
    #[must_use]
    pub fn new(origins: &[String]) -> Arc<Self> {
        Arc::new(Self {
            any: origins.iter().any(|o| o == "*"),
            listed: origins.to_vec(),
        })
    }

    /// What `Access-Control-Allow-Origin` says to a page of `origin`.
    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        if self.any {
            return Some(HeaderValue::from_static("*"));
        }
        let text = origin.to_str().ok()?;
        self.listed
            .iter()
            .any(|listed| listed == text)
            .then(|| origin.clone())
    }
}

/// Answers `OPTIONS` with 204 and adds the headers that let pages of allowed origins read answers.
pub async fn cross_origin(
    State(origins): State<Arc<Origins>>,
    request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = match *request.method() {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    if !origins.any && !origins.listed.is_empty() {
        // A cache must not give the answer for one origin to another.
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    if let Some(allowed) = origin.and_then(|origin| origins.allowed(&origin)) {
        allow(headers, allowed);
    }
    response
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let fixed = [
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "GET, POST, PUT, DELETE, OPTIONS",
        ),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Accept, Authorization, Content-Type, Origin, X-Scope-OrgID",
        ),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date, Retry-After"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_origins_are_allowed() {
        let allowed = |listed: &[&str], origin: &str| {
            let listed: Vec<String> = listed.iter().map(ToString::to_string).collect();
            let origin = HeaderValue::from_str(origin).unwrap();
            let allowed = Origins::new(&listed).allowed(&origin)?;
            Some(allowed.to_str().unwrap().to_owned())
        };
        let page = "https://a.example";
        assert_eq!(allowed(&[], page), None);
        assert_eq!(allowed(&[page], page).as_deref(), Some(page));
        assert_eq!(allowed(&[page], "https://a.example.evil"), None);
        assert_eq!(
            allowed(&["https://b.example", "*"], page).as_deref(),
            Some("*")
        );
    }
}
