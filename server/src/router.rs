//! All routes of the main port, and what every request passes through.
//!
//! From the outside in: counting, authentication, CORS, compression of answers, the handler.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use http::{HeaderValue, Method, StatusCode, header};
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use crate::api::{admin, federate, health, metadata, query, sql, status, targets};
use crate::error::{ApiError, ErrorType};
use crate::ingest::{pushgateway, remote_write};
use crate::listen::Authenticator;
use crate::remote_read;
use crate::state::AppState;

/// Builds the router.
pub fn router(state: AppState, authenticator: Arc<Authenticator>) -> Router {
    let compression = CompressionLayer::new().gzip(true).deflate(true);
    let cors = cors(&state.settings().cors_origins);
    let routes = Router::new()
        .route("/", get(health::version))
        .route("/metrics", get(health::metrics))
        .route("/health", get(health::health))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/-/healthy", get(health::live))
        .route("/-/ready", get(health::ready))
        .route("/version", get(health::version))
        .route("/federate", get(federate::federate))
        .route(
            "/metrics/{*group}",
            put(pushgateway::push)
                .post(pushgateway::push)
                .delete(pushgateway::delete)
                .layer(DefaultBodyLimit::max(pushgateway::PUSH_BYTES_MAX)),
        )
        .nest("/api/v1", api_v1())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(compression);
    let routes = match cors {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    let guarded = match authenticator.is_open() {
        true => routes,
        false => routes.layer(middleware::from_fn_with_state(authenticator, authenticate)),
    };
    guarded
        .layer(middleware::from_fn_with_state(state.clone(), count))
        .with_state(state)
}

fn api_v1() -> Router<AppState> {
    Router::new()
        .route("/write", post(remote_write::write))
        .route("/read", post(remote_read::read))
        .route("/query", get(query::instant).post(query::instant))
        .route("/query_range", get(query::range).post(query::range))
        .route("/format_query", get(query::format).post(query::format))
        .route("/parse_query", get(query::parse).post(query::parse))
        .route("/sql", post(sql::sql))
        .route("/series", get(metadata::series).post(metadata::series))
        .route(
            "/labels",
            get(metadata::label_names).post(metadata::label_names),
        )
        .route("/label/{name}/values", get(metadata::label_values))
        .route("/metadata", get(metadata::metadata))
        .route(
            "/query_exemplars",
            get(metadata::query_exemplars).post(metadata::query_exemplars),
        )
        .route("/status/buildinfo", get(status::build_info))
        .route("/status/runtimeinfo", get(status::runtime_info))
        .route("/status/flags", get(status::flags))
        .route("/status/config", get(status::config))
        .route("/status/tsdb", get(status::tsdb))
        .route("/status/walreplay", get(status::wal_replay))
        .route("/status/tsdb/blocks", get(status::blocks))
        .route("/features", get(status::features))
        .route("/notifications", get(status::notifications))
        .route("/alertmanagers", get(status::alertmanagers))
        .route("/targets", get(targets::targets))
        .route("/scrape_pools", get(targets::scrape_pools))
        .route("/rules", get(status::rules))
        .route("/alerts", get(status::alerts))
        .route("/admin/flush", post(admin::flush))
        .route("/admin/compact", post(admin::compact))
        .route("/admin/backup", post(admin::backup))
        .route(
            "/admin/tsdb/delete_series",
            post(admin::delete_series).put(admin::delete_series),
        )
        .route(
            "/admin/tsdb/clean_tombstones",
            post(admin::clean_tombstones).put(admin::clean_tombstones),
        )
        .route(
            "/admin/tsdb/snapshot",
            put(admin::snapshot).post(admin::snapshot),
        )
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

fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let allowed = if origins.iter().any(|o| o == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|o| HeaderValue::from_str(o).ok()))
    };
    Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::GET, Method::POST, Method::OPTIONS])
            .allow_headers([
                header::ACCEPT,
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                header::ORIGIN,
            ])
            .expose_headers(Any),
    )
}

/// Health checks tell nothing but whether the process works, and come from probes without names.
fn is_open_to_all(path: &str) -> bool {
    matches!(
        path,
        "/health" | "/health/live" | "/health/ready" | "/-/healthy" | "/-/ready"
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
