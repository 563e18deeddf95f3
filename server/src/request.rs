//! What is taken from a request's head: tenant and principal.

use axum::extract::FromRequestParts;
use chronolith_engine::TenantId;
use http::request::Parts;

use crate::error::ApiError;
use crate::listen::Principal;

/// The header that names the tenant.
pub const TENANT_HEADER: &str = "x-scope-orgid";

/// Who asks, and for whose data.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The tenant; `default` when nobody is named.
    pub tenant: TenantId,
    /// Who was authenticated, if that is asked for.
    pub principal: Option<Principal>,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let tenant = match parts.headers.get(TENANT_HEADER) {
            None => TenantId::default(),
            Some(value) => {
                let name = value
                    .to_str()
                    .map_err(|_| ApiError::bad_data("X-Scope-OrgID: not a tenant's name"))?;
                TenantId::new(name)
                    .map_err(|e| ApiError::bad_data(format!("X-Scope-OrgID: {e}")))?
            }
        };
        let principal = parts.extensions.get::<Principal>().cloned();
        Ok(Self { tenant, principal })
    }
}
