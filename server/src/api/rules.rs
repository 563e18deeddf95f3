//! `/api/v1/rules`, `/api/v1/alerts`, `/api/v1/alertmanagers`.
//!
//! There is no rule engine yet, so there is nothing to list; but Grafana and others ask, and what
//! they ask for is checked as it will be once there is one.

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use super::envelope::success;
use super::params::Params;
use super::selectors::matcher_sets;
use crate::error::ApiError;
use crate::state::AppState;

/// `GET /api/v1/rules`: no groups.
pub async fn rules(State(_): State<AppState>, params: Params) -> Result<Response, ApiError> {
    let kind = params.get("type").unwrap_or_default().to_lowercase();
    if !matches!(kind.as_str(), "" | "alert" | "record") {
        let reason = format!("not supported value {kind:?}");
        return Err(ApiError::parameter("type", reason));
    }
    matcher_sets(&params)?;
    params.flag("exclude_alerts")?;
    check_page(&params)?;
    Ok(success(&json!({ "groups": [] }).to_string(), &[], &[]))
}

/// Checks where an answer is to go on. With no groups at all, no token can name one.
fn check_page(params: &Params) -> Result<(), ApiError> {
    let limit = params.get_filled("group_limit");
    let token = params.get_filled("group_next_token");
    match (limit, token) {
        (None, Some(_)) => {
            return Err(ApiError::parameter(
                "group_limit",
                "group_limit needs to be present in order to paginate over the groups",
            ));
        }
        (Some(text), _) => match text.parse::<i64>() {
            Ok(1..) => {}
            Ok(_) => {
                let reason = "group_limit needs to be greater than 0";
                return Err(ApiError::parameter("group_limit", reason));
            }
            Err(_) => {
                let reason = format!("group_limit needs to be a valid number, not {text:?}");
                return Err(ApiError::parameter("group_limit", reason));
            }
        },
        (None, None) => {}
    }
    match token {
        None => Ok(()),
        Some(token) => Err(ApiError::parameter(
            "group_next_token",
            format!("invalid group_next_token '{token}'. were rule groups changed?"),
        )),
    }
}

/// `GET /api/v1/alerts`: none without rules.
pub async fn alerts() -> Response {
    success(&json!({ "alerts": [] }).to_string(), &[], &[])
}

/// `GET /api/v1/alertmanagers`: without rules nothing is sent to any.
pub async fn alertmanagers() -> Response {
    let none = json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] });
    success(&none.to_string(), &[], &[])
}
