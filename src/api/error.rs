//! Errors as JSON: what went wrong and what to do about it.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// An answer that is not a success: `{"error": ..., "hint": ...}`. The Prometheus API has an envelope of its own
/// (`prometheus::PromError`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// What went wrong, for a person.
    pub error: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// `Retry-After` in seconds, where trying again makes sense.
    pub retry_after_seconds: Option<u32>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    hint: &'a str,
}

impl ApiError {
    /// An error with a hint.
    pub fn new(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, error: error.into(), hint: hint.into(), retry_after_seconds: None }
    }

    /// 400.
    pub fn bad_request(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, hint)
    }

    /// 413 that names the limit.
    pub fn too_large(limit_bytes: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {limit_bytes} bytes"),
            "send smaller batches, or raise limits.body_bytes in sidewatch.yaml",
        )
    }

    /// 503: the core has ended or does not answer in time.
    pub fn core_gone() -> Self {
        let mut error = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the core does not answer",
            "sidewatch is stopping or overloaded; try again, and see its log",
        );
        error.retry_after_seconds = Some(1);
        error
    }

    /// The same with `Retry-After`.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }
}

impl From<super::backend::CoreGone> for ApiError {
    fn from(_: super::backend::CoreGone) -> Self {
        Self::core_gone()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &Body { error: &self.error, hint: &self.hint });
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A JSON answer that no cache keeps.
pub fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let text = serde_json::to_vec(body).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}").into_bytes());
    json_text(status, text)
}

/// The same from JSON text.
pub fn json_text(status: StatusCode, text: impl Into<axum::body::Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
