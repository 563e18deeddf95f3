//! What every request passes through, on the main port and on OTLP's own two.
//!
//! From the outside in: counting, cross-origin headers, authentication, compression of answers,
//! the handler.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderValue, Method, StatusCode, header};
use tower_http::compression::CompressionLayer;

use crate::cors::{Origins, cross_origin};
use crate::error::{ApiError, ErrorType};
use crate::listen::Authenticator;
use crate::otlp::grpc;
use crate::routes::{self, Route};
use crate::state::AppState;

/// Builds the router of all [`routes`].
pub fn router(state: AppState, authenticator: Arc<Authenticator>) -> Router {
    build(state, authenticator, |_| true)
}

/// Builds the router of the port that OpenTelemetry's exporters use unless they are told otherwise:
/// OTLP at the paths of its specification, and nothing else.
pub fn otlp_router(state: AppState, authenticator: Arc<Authenticator>) -> Router {
    build(state, authenticator, |route| route.path.starts_with("/v1/"))
}

fn build(
    state: AppState,
    authenticator: Arc<Authenticator>,
    wanted: impl Fn(&Route) -> bool,
) -> Router {
    let compression = CompressionLayer::new().gzip(true).deflate(true);
    let origins = Origins::new(&state.settings().cors_origins);
    let routes = routes::register(Router::new(), wanted)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(compression);
    guarded(routes, authenticator)
        .layer(middleware::from_fn_with_state(origins, cross_origin))
        .layer(middleware::from_fn_with_state(state.clone(), count))
        .with_state(state)
}

/// Builds the router of OTLP over gRPC.
pub fn otlp_grpc_router(state: AppState, authenticator: Arc<Authenticator>) -> Router {
    let routes = Router::new()
        .route(grpc::METRICS_PATH, post(grpc::export_metrics))
        .route(grpc::LOGS_PATH, post(grpc::export_logs))
        .route(grpc::TRACES_PATH, post(grpc::export_traces))
        .fallback(grpc::unknown_method);
    guarded(routes, authenticator)
        .layer(middleware::from_fn_with_state(state.clone(), count))
        .with_state(state)
}

/// Lets only those in who may.
fn guarded(routes: Router<AppState>, authenticator: Arc<Authenticator>) -> Router<AppState> {
    match authenticator.is_open() {
        true => routes,
        false => routes.layer(middleware::from_fn_with_state(authenticator, authenticate)),
    }
}

async fn not_found() -> ApiError {
    ApiError::new(ErrorType::NotFound, "no such path")
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(
        ErrorType::MethodNotAllowed,
        "the path exists, but not for this method",
    )
}

/// Health checks tell nothing but whether the process works, and come from probes without names.
fn is_open_to_all(path: &str) -> bool {
    matches!(
        path,
        "/health"
            | "/health/live"
            | "/health/ready"
            | "/-/healthy"
            | "/-/ready"
            | "/ping"
            | "/influx/ping"
            | "/influx/health"
            | "/ready"
    )
}

async fn authenticate(
    State(authenticator): State<Arc<Authenticator>>,
    mut request: Request,
    next: Next,
) -> Response {
    if is_open_to_all(request.uri().path()) {
        return next.run(request).await;
    }
    match authenticator.check(request.headers()).await {
        Some(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        None => {
            let challenge = HeaderValue::from_static(authenticator.challenge());
            let headers = [(header::WWW_AUTHENTICATE, challenge)];
            (StatusCode::UNAUTHORIZED, headers, "Unauthorized\n").into_response()
        }
    }
}

async fn count(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("other".to_owned(), |path| path.as_str().to_owned());
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    let response = next.run(request).await;
    let status = response.status().as_u16();
    state
        .metrics()
        .request(&route, method, status, began.elapsed());
    response
}
