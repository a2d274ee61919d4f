//! Prometheus's HTTP API (`/api/v1`), so that Grafana and other clients point straight at sidewatch.
//!
//! Envelope, error types, status codes and the reading of parameters are those of `web/api/v1/api.go`.

mod encode;
mod labels;
pub mod params;
mod parse_query;
mod query;
mod rules;
mod status;

pub use labels::{label_values, labels, metadata, query_exemplars, series};
pub use params::Params;
pub use parse_query::parse_query;
pub use query::{format_query, query, query_range};
pub use rules::{alerts, rules};
pub use status::{buildinfo, flags, runtimeinfo, tsdb};

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;

/// What kind of error, and with it the status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is wrong: 400.
    BadData,
    /// The query could not be executed: 422.
    Execution,
    /// It took too long: 503.
    Timeout,
    /// A fault of sidewatch: 500.
    Internal,
    /// The core does not answer: 503.
    Unavailable,
}

impl ErrorKind {
    const fn name(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::BadData => StatusCode::BAD_REQUEST,
            Self::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Timeout | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An error in Prometheus's envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromError {
    /// Its type.
    pub kind: ErrorKind,
    /// For a person.
    pub message: String,
}

impl PromError {
    /// An error.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl From<super::backend::CoreGone> for PromError {
    fn from(gone: super::backend::CoreGone) -> Self {
        Self::new(ErrorKind::Unavailable, gone.to_string())
    }
}

impl IntoResponse for PromError {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Failure<'a> {
            status: &'a str,
            error_type: &'a str,
            error: &'a str,
        }
        let body = Failure { status: "error", error_type: self.kind.name(), error: &self.message };
        super::error::json(self.kind.status(), &body)
    }
}

/// Warnings and infos that go beside the data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// What may make the result wrong.
    pub warnings: Vec<String>,
    /// What is worth knowing.
    pub infos: Vec<String>,
}

/// `{"status":"success","data":DATA}` from JSON text.
pub(super) fn success_text(data: &str, notes: &Notes) -> Response {
    let mut text = String::with_capacity(data.len() + 64);
    text.push_str("{\"status\":\"success\",\"data\":");
    text.push_str(data);
    for (name, notes) in [("warnings", &notes.warnings), ("infos", &notes.infos)] {
        if !notes.is_empty() {
            text.push_str(&format!(",\"{name}\":"));
            encode::strings(&mut text, notes);
        }
    }
    text.push('}');
    super::error::json_text(StatusCode::OK, text)
}

/// The same from a value.
pub(super) fn success<T: Serialize>(data: &T) -> Result<Response, PromError> {
    let text = serde_json::to_string(data).map_err(|error| PromError::new(ErrorKind::Internal, error.to_string()))?;
    Ok(success_text(&text, &Notes::default()))
}

/// Cuts a list to `limit`, with Prometheus's warning.
pub(super) fn truncate<T>(list: &mut Vec<T>, limit: Option<usize>, notes: &mut Notes) {
    if let Some(limit) = limit.filter(|limit| list.len() > *limit) {
        list.truncate(limit);
        notes.warnings.push("results truncated due to limit".into());
    }
}
