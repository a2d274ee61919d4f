//! `/api/quarantine`: refused input, kept to be looked at. Payloads are shown on this machine only, and never what
//! `redact:` hides.

use super::error::{ApiError, json};
use super::events::{limit_of, type_pattern};
use super::listen::Peer;
use super::prometheus::Params;
use super::{Shared, origin};
use crate::engine::QuarantineEntry;
use axum::extract::{ConnectInfo, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// `GET /api/quarantine?source=&reason=&type=&schema=&before=&limit=`: the latest first.
///
/// # Errors
/// 400 for a bad parameter, 503 when the core does not answer.
pub async fn list(
    State(backend): State<Shared>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let shows_payload = origin::is_local(peer.ip(), &headers);
    let limit = limit_of(&params)?;
    let before = match params.get("before") {
        None => u64::MAX,
        Some(text) => text.parse().map_err(|_| {
            ApiError::bad_request(format!("before: {text:?} is no number"), "the number of an item, to see older ones")
        })?,
    };
    let pattern = params.get("type").map(type_pattern).transpose()?;
    let asked = |name: &str| params.get(name).map(str::to_owned);
    let (source, reason, schema) = (asked("source"), asked("reason"), asked("schema"));
    let keep = move |entry: &QuarantineEntry| {
        source.as_ref().is_none_or(|source| *entry.source == **source)
            && reason.as_ref().is_none_or(|reason| entry.what.reason == *reason)
            && schema.as_ref().is_none_or(|schema| entry.what.schema == *schema)
            && pattern.as_ref().is_none_or(|pattern| pattern.is_match(&entry.what.event_type))
    };
    let read = backend.core.call(move |core, _| {
        let quarantine = core.engine.quarantine();
        (quarantine.latest(before, limit, keep), quarantine.size(), quarantine.limits(), quarantine.total())
    });
    let (entries, (events, bytes), (limit_events, limit_bytes), total) = read.await?;
    let rows: Vec<Value> = entries.iter().map(|entry| row(entry, shows_payload)).collect();
    let answer = json!({
        "events": events, "bytes": bytes, "limit_events": limit_events, "limit_bytes": limit_bytes, "total": total,
        "payloads_hidden": !shows_payload, "quarantine": rows,
    });
    Ok(json(StatusCode::OK, &answer))
}

/// `DELETE /api/quarantine`: forgets all of it. For whoever sits on this machine.
///
/// # Errors
/// 403 for anybody else, 503 when the core does not answer.
pub async fn clear(
    State(backend): State<Shared>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    origin::refuse_foreign(&headers)?;
    if !origin::is_local(peer.ip(), &headers) {
        let hint = "ask on the machine that sidewatch runs on";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "the quarantine is emptied on this machine only", hint));
    }
    let cleared = backend.core.call(|core, _| core.engine.quarantine_mut().clear()).await?;
    Ok(json(StatusCode::OK, &json!({"cleared": cleared})))
}

fn row(entry: &QuarantineEntry, shows_payload: bool) -> Value {
    let what = &entry.what;
    let faults: Vec<Value> =
        what.faults.iter().map(|fault| json!({"pointer": fault.pointer, "message": fault.message})).collect();
    let mut row = json!({
        "number": entry.number, "time": entry.at.rfc3339(), "source": *entry.source, "reason": what.reason,
        "type": what.event_type, "id": what.id, "schema": what.schema, "version": what.version,
        "reasons": faults, "bytes": what.size,
    });
    if shows_payload {
        // A document that is whole is shown as JSON, anything else as the text that came.
        row["payload"] = match serde_json::from_str::<&RawValue>(&what.payload) {
            Ok(_) => serde_json::from_str(&what.payload).unwrap_or_default(),
            Err(_) => Value::String(what.payload.clone()),
        };
    }
    row
}
