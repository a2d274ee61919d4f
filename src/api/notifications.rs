//! `/api/notifications`: messages on their way and dead letters, to be listed, looked at, tried again and dropped.
//!
//! Reading is free on the observe listener. Trying again and dropping is for whoever sits on this machine, and never for a
//! page of another site (DESIGN.md, HTTP).

use super::error::{ApiError, json};
use super::listen::Peer;
use super::prometheus::Params;
use super::{Shared, origin};
use crate::model::Labels;
use crate::notify::{GivenUp, Letter, Notification, Place, Requeued};
use axum::extract::{ConnectInfo, Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Messages in an answer.
const LISTED: usize = 1_000;
/// Alerts of one message in an answer.
const ALERTS_SHOWN: usize = 1_000;

/// `GET /api/notifications?state=waiting|sending|dead&receiver=`.
///
/// # Errors
/// 400 for an unknown state.
pub async fn list(State(backend): State<Shared>, params: Params) -> Result<Response, ApiError> {
    let wanted = match params.get("state") {
        None => None,
        Some("waiting") => Some(Place::Waiting),
        Some("sending") => Some(Place::Sending),
        Some("dead") => Some(Place::Dead),
        Some(other) => {
            let error = format!("state: {other:?} is no state of a message");
            return Err(ApiError::bad_request(error, "there is waiting, sending, dead"));
        }
    };
    let receiver = params.get("receiver");
    let deliveries = &backend.surroundings.deliveries;
    let mut letters = deliveries.letters();
    letters.retain(|letter| {
        wanted.is_none_or(|wanted| letter.state == wanted) && receiver.is_none_or(|name| *letter.receiver == *name)
    });
    let total = letters.len();
    // The newest matter most.
    let shown: Vec<Value> = letters.iter().rev().take(LISTED).map(letter).collect();
    let outbox = (backend.surroundings.outbox)();
    let receivers: Vec<Value> = outbox
        .lanes
        .iter()
        .map(|lane| {
            json!({
                "receiver": *lane.receiver, "integration": lane.integration, "pending": lane.pending,
                "oldest": lane.oldest.map(|at| at.rfc3339()),
                "last_delivery": lane.last_delivery.map(|at| at.rfc3339()),
                "last_error": lane.last_error.as_ref().map(|last| json!({"at": last.at.rfc3339(), "error": last.error})),
                "breaker": breaker(lane.breaker), "counters": lane.counters,
            })
        })
        .collect();
    let answer = json!({
        "total": total, "limit_messages": outbox.limit_messages,
        "dead_letters_forgotten": outbox.dead_letters_forgotten, "notifications": shown, "receivers": receivers,
    });
    Ok(json(StatusCode::OK, &answer))
}

/// `GET /api/notifications/{id}`.
///
/// # Errors
/// 404 when there is none of this number.
pub async fn one(State(backend): State<Shared>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let id = number(&id)?;
    let found = backend.surroundings.deliveries.letter(id).ok_or_else(|| unknown(id))?;
    let mut answer = letter(&found.0);
    answer["message"] = message(&found.1);
    Ok(json(StatusCode::OK, &answer))
}

/// `POST /api/notifications/{id}/retry`.
///
/// # Errors
/// 403 from elsewhere, 404 when there is none of this number, 409 when it cannot be tried.
pub async fn retry(
    State(backend): State<Shared>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    allowed(peer.ip(), &headers)?;
    let id = number(&id)?;
    let deliveries = &backend.surroundings.deliveries;
    let (found, _) = deliveries.letter(id).ok_or_else(|| unknown(id))?;
    if !deliveries.is_configured(&found.receiver, found.integration) {
        let error = format!("the receiver {} is no longer configured", found.receiver);
        let hint = "configure it again and reload, or drop the message";
        return Err(ApiError::new(StatusCode::CONFLICT, error, hint));
    }
    let text = match deliveries.requeue(id) {
        Requeued::Waiting => "it waits to be sent, at once",
        Requeued::Hurried => "it waited already: it is tried at once",
        Requeued::Sending => "it is just being sent",
        Requeued::NewerWaits => "a newer message of its group waits and took its place",
        Requeued::Unknown => return Err(unknown(id)),
    };
    Ok(json(StatusCode::ACCEPTED, &json!({"id": id, "result": text})))
}

/// `DELETE /api/notifications/{id}`.
///
/// # Errors
/// 403 from elsewhere, 404 when there is none of this number, 409 while it is being sent.
pub async fn discard(
    State(backend): State<Shared>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    allowed(peer.ip(), &headers)?;
    let id = number(&id)?;
    let deliveries = &backend.surroundings.deliveries;
    match deliveries.discard(id) {
        Some(dropped) => Ok(json(StatusCode::OK, &letter(&dropped))),
        None if deliveries.letter(id).is_some() => {
            let error = format!("the message {id} is just being sent");
            Err(ApiError::new(StatusCode::CONFLICT, error, "try again when the attempt has ended"))
        }
        None => Err(unknown(id)),
    }
}

fn allowed(peer: std::net::IpAddr, headers: &HeaderMap) -> Result<(), ApiError> {
    origin::refuse_foreign(headers)?;
    if origin::is_local(peer, headers) {
        return Ok(());
    }
    let hint = "ask on the machine (or in the pod) itself: sidewatch notifications retry ID";
    Err(ApiError::new(StatusCode::FORBIDDEN, "messages are tried again and dropped on loopback only", hint))
}

fn number(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request(format!("{text:?} is no number of a message"), "GET /api/notifications lists them")
    })
}

fn unknown(id: u64) -> ApiError {
    let hint =
        "GET /api/notifications lists those that wait or were given up; GET /api/history knows what became of others";
    ApiError::new(StatusCode::NOT_FOUND, format!("there is no message {id}"), hint)
}

/// A breaker in words.
pub(super) fn breaker(state: crate::notify::BreakerState) -> Value {
    use crate::notify::BreakerState::{Closed, HalfOpen, Open};
    match state {
        Closed => json!({"state": "closed"}),
        HalfOpen => json!({"state": "half_open"}),
        Open { until } => json!({"state": "open", "until": until.rfc3339()}),
    }
}

pub(super) fn letter(letter: &Letter) -> Value {
    json!({
        "id": letter.id, "state": letter.state, "receiver": *letter.receiver, "integration": letter.integration,
        "group_key": *letter.group_key, "key": letter.key, "status": letter.status, "reason": letter.reason,
        "alerts": letter.alerts, "rules": letter.rules, "attempts": letter.attempts,
        "decided": letter.decided.rfc3339(), "next_try": letter.next_try.map(|at| at.rfc3339()),
        "given_up": letter.given_up.map(|at| at.rfc3339()), "why": letter.why, "why_text": letter.why.map(GivenUp::words),
        "error": letter.error,
    })
}

fn map(labels: &Labels) -> BTreeMap<&str, &str> {
    labels.iter().map(|label| (&*label.name, &*label.value)).collect()
}

fn message(notification: &Notification) -> Value {
    let alerts: Vec<Value> = notification
        .alerts
        .iter()
        .take(ALERTS_SHOWN)
        .map(|alert| {
            json!({
                "status": alert.status(), "labels": map(&alert.labels), "annotations": map(&alert.annotations),
                "fired_at": alert.fired_at.rfc3339(), "resolved_at": alert.resolved_at.map(|at| at.rfc3339()),
                "value": crate::promql::format_value(alert.value),
                "value_at_firing": crate::promql::format_value(alert.value_at_firing),
                "value_at_resolve": alert.value_at_resolve.map(crate::promql::format_value),
                "generator_url": alert.generator_url,
            })
        })
        .collect();
    let truncated = notification.truncated + notification.alerts.len().saturating_sub(ALERTS_SHOWN);
    json!({
        "group_labels": map(&notification.group_labels), "common_labels": map(&notification.common_labels),
        "common_annotations": map(&notification.common_annotations), "alerts": alerts, "truncated_alerts": truncated,
    })
}
