//! `POST /-/reload`: read the configuration again.

use super::error::{ApiError, json};
use super::{Shared, origin};
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Serialize;

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// One sentence a change; empty when nothing did.
    pub changed: Vec<String>,
    /// Keys that changed in the file and need a restart.
    pub needs_restart: Vec<String>,
}

/// `POST /-/reload` (and PUT, as Prometheus).
///
/// # Errors
/// 400 with every error of the configuration: then nothing has changed.
pub async fn reload(State(backend): State<Shared>, headers: HeaderMap) -> Result<Response, ApiError> {
    origin::refuse_foreign(&headers)?;
    let reloaded = (backend.reload)().await.map_err(|errors| {
        ApiError::bad_request(
            errors,
            "nothing has changed: the configuration from before still holds; mend it and try again",
        )
    })?;
    Ok(json(StatusCode::OK, &reloaded))
}
