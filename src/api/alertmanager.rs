//! Alertmanager's HTTP API (`/api/v2`), so that amtool, Prometheus, Grafana and karma work with sidewatch as with
//! Alertmanager: paths, parameters, JSON and status codes are those of its `api/v2/openapi.yaml` and `api/v2/api.go`.
//!
//! Two differences on purpose: label names may be any UTF-8 (Alertmanager from 0.27 on), and what changes something is
//! answered only when it is stored.
//!
//! Reading is free on both listeners. Changing is free on the ingest listener, and on the observe listener for programs on
//! this machine; never for pages of another origin.

mod alerts;
mod body;
mod silences;
mod status;

pub use alerts::{get_alerts, get_groups, post_alerts};
pub use silences::{delete_silence, get_silence, get_silences, post_silences};
pub use status::{get_receivers, get_status};

use super::listen::Peer;
use super::prometheus::Params;
use super::{ApiError, Shared, origin};
use crate::model::{Labels, Timestamp};
use crate::notify::{MatchOp, Matcher, parse_matchers};
use axum::extract::ConnectInfo;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use regex::Regex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The request came through the ingest listener.
#[derive(Clone, Copy, Debug)]
pub struct OnIngest;

/// An answer that is not a success, in one of Alertmanager's three forms.
#[derive(Debug)]
pub enum AmError {
    /// A JSON string: what Alertmanager's own handlers say.
    Text(StatusCode, String),
    /// `{"code", "message"}`: what its reader of requests says (go-openapi/errors).
    Coded(StatusCode, u16, String),
    /// No body.
    Empty(StatusCode),
    /// sidewatch's own: who may not change anything, and a core that does not answer.
    Own(ApiError),
}

impl AmError {
    fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::Text(status, text.into())
    }

    /// 400 with a JSON string.
    fn bad(text: impl Into<String>) -> Self {
        Self::Text(StatusCode::BAD_REQUEST, text.into())
    }

    /// 422 with one of go-openapi's codes.
    fn invalid(code: u16, message: impl Into<String>) -> Self {
        Self::Coded(StatusCode::UNPROCESSABLE_ENTITY, code, message.into())
    }
}

impl From<super::CoreGone> for AmError {
    fn from(gone: super::CoreGone) -> Self {
        Self::Own(gone.into())
    }
}

impl IntoResponse for AmError {
    fn into_response(self) -> Response {
        match self {
            Self::Text(status, text) => super::error::json(status, &text),
            Self::Coded(status, code, message) => {
                super::error::json(status, &serde_json::json!({"code": code, "message": message}))
            }
            Self::Empty(status) => status.into_response(),
            Self::Own(error) => error.into_response(),
        }
    }
}

/// Refuses pages of other sites everywhere, and on the observe listener everybody who is not on this machine.
fn may_change(request: &Request) -> Result<(), AmError> {
    origin::refuse_foreign(request.headers()).map_err(AmError::Own)?;
    if request.extensions().get::<OnIngest>().is_some() {
        return Ok(());
    }
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    if peer.is_some_and(|ConnectInfo(Peer(peer))| origin::is_local(peer.ip(), request.headers())) {
        return Ok(());
    }
    Err(AmError::Own(ApiError::new(
        StatusCode::FORBIDDEN,
        "alerts and silences are changed on the observe listener only from this machine itself",
        "send it from there, or to the ingest listener (listen.ingest in sidewatch.yaml)",
    )))
}

/// Waits until what was commanded is on disk.
async fn stored(backend: &Shared, commands: u64) -> Result<(), AmError> {
    if (backend.surroundings.stored)(commands).await {
        return Ok(());
    }
    Err(AmError::text(
        StatusCode::INTERNAL_SERVER_ERROR,
        "it holds now, but it could not be stored: a restart would forget it; see the log and mend the state folder",
    ))
}

/// A boolean as go-openapi reads it (swag, `ConvertBool`); what it does not know is false.
fn flag(params: &Params, name: &str) -> bool {
    const YES: [&str; 10] = ["true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled"];
    params.get(name).is_none_or(|word| YES.contains(&word.to_ascii_lowercase().as_str()))
}

/// `filter=`, each a matcher.
fn filters(params: &Params) -> Result<Vec<Matcher>, AmError> {
    let mut matchers = Vec::new();
    for text in params.all("filter").filter(|text| !text.is_empty()) {
        if !text.contains(['=', '!']) {
            return Err(AmError::bad(format!("bad matcher format: {text}")));
        }
        matchers.extend(parse_matchers(text).map_err(AmError::bad)?);
    }
    Ok(matchers)
}

/// `receiver=`, an anchored expression.
fn receiver_filter(params: &Params) -> Result<Option<Regex>, AmError> {
    let Some(text) = params.get("receiver") else { return Ok(None) };
    let compiled = regex::RegexBuilder::new(&format!("^(?:{text})$")).size_limit(1 << 20).build();
    compiled.map(Some).map_err(|error| {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        AmError::bad(format!("failed to parse receiver param: {last}"))
    })
}

/// Whether labels meet the filters. A comparison with nothing tells a label that is absent from one that is there
/// (api.go, `matchFilterLabels`).
fn meets(filters: &[Matcher], labels: &Labels) -> bool {
    filters.iter().all(|filter| {
        let present = labels.get(&filter.name).is_some();
        let negative = matches!(filter.op, MatchOp::NotEqual | MatchOp::NotMatches);
        (filter.value.is_empty() && present == negative) || filter.matches(labels)
    })
}

/// Go's format of strfmt.DateTime: UTC with milliseconds.
fn moment(at: Timestamp) -> String {
    match jiff::Timestamp::from_microsecond(at.micros()) {
        Ok(moment) => moment.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        // Later than jiff's last year, 9999: an end that never comes.
        Err(_) => "9999-12-31T23:59:59.000Z".into(),
    }
}

fn map(labels: &Labels) -> BTreeMap<Arc<str>, Arc<str>> {
    labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect()
}

/// A receiver's name in Alertmanager's JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct ReceiverName {
    name: Arc<str>,
}

#[cfg(test)]
mod tests;
