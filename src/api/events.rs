//! `GET /api/events`: recent events, and the coming ones as server-sent events.

use super::error::{ApiError, json};
use super::listen::Peer;
use super::prometheus::Params;
use super::{Shared, origin};
use crate::engine::RecentEvent;
use axum::extract::{ConnectInfo, State};
use axum::response::sse::{self, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use serde_json::value::RawValue;
use std::convert::Infallible;
use std::time::Duration;

/// Events in an answer that names no limit.
const LIMIT: usize = 100;
/// The most that one answer holds.
const MAX_LIMIT: usize = 1_000;
/// How often a live stream looks for new events.
const LIVE_EVERY: Duration = Duration::from_millis(250);
/// The length of a type pattern.
const PATTERN_BYTES: usize = 200;

#[derive(Serialize)]
struct Row<'a> {
    sequence: u64,
    r#type: &'a str,
    source: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    subject: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    correlation: &'a str,
    arrived: String,
    failed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Payload<'a>>,
}

/// The document as it came: JSON as JSON, a cut document or a text line as a string.
#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'a> {
    Json(&'a RawValue),
    Text(&'a str),
}

impl<'a> Row<'a> {
    fn of(event: &'a RecentEvent, shows_payload: bool) -> Self {
        let payload = || match serde_json::from_str::<&RawValue>(&event.document) {
            Ok(json) => Payload::Json(json),
            Err(_) => Payload::Text(&event.document),
        };
        Self {
            sequence: event.number,
            r#type: &event.event_type,
            source: &event.source,
            id: &event.id,
            subject: &event.subject,
            correlation: &event.correlation,
            arrived: event.arrived.rfc3339(),
            failed: event.failed,
            duration_seconds: Some(event.duration_seconds).filter(|seconds| seconds.is_finite()),
            payload: shows_payload.then(payload),
        }
    }
}

/// Which events are asked for.
#[derive(Clone, Debug)]
struct Filter {
    pattern: Option<regex::Regex>,
    failed_only: bool,
}

impl Filter {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let pattern = params.get("type").map(type_pattern).transpose()?;
        Ok(Self { pattern, failed_only: params.get("failed") == Some("true") })
    }

    fn takes(&self, event: &RecentEvent) -> bool {
        (event.failed || !self.failed_only)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&event.event_type))
    }
}

/// How many are asked for.
pub(super) fn limit_of(params: &Params) -> Result<usize, ApiError> {
    Ok(match params.get("limit").map(str::parse::<usize>) {
        None => LIMIT,
        Some(Ok(limit)) if (1..=MAX_LIMIT).contains(&limit) => limit,
        Some(_) => {
            let error = format!("limit is not a number from 1 to {MAX_LIMIT}");
            return Err(ApiError::bad_request(error, "example: ?limit=50"));
        }
    })
}

/// The patterns of the configuration: `*` is any text, `+` one segment.
pub(super) fn type_pattern(text: &str) -> Result<regex::Regex, ApiError> {
    if text.len() > PATTERN_BYTES {
        let error = format!("the type pattern is longer than {PATTERN_BYTES} bytes");
        return Err(ApiError::bad_request(error, "example: ?type=order.*"));
    }
    let mut source = String::from("^(?s:");
    for c in text.chars() {
        match c {
            '*' => source.push_str(".*"),
            '+' => source.push_str("[^.]+"),
            c => source.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    source.push_str(")$");
    regex::Regex::new(&source)
        .map_err(|error| ApiError::bad_request(format!("the type pattern: {error}"), "example: ?type=order.*"))
}

/// `GET /api/events`.
///
/// # Errors
/// 400 for a bad parameter, 503 when the core does not answer.
pub async fn events(
    State(backend): State<Shared>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let filter = Filter::read(&params)?;
    let shows_payload = origin::is_local(peer.ip(), &headers);
    let wants_stream = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"));
    if wants_stream || params.has("live") {
        let last_seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
        return Ok(live(backend, filter, shows_payload, last_seen).into_response());
    }
    let limit = limit_of(&params)?;
    let found = backend.core.call(move |core, _| core.engine.recent(0, limit, |event| filter.takes(event))).await?;
    #[derive(Serialize)]
    struct Answer<'a> {
        events: Vec<Row<'a>>,
        payloads: &'static str,
    }
    let rows = found.iter().map(|event| Row::of(event, shows_payload)).collect();
    Ok(json(StatusCode::OK, &Answer { events: rows, payloads: if shows_payload { "shown" } else { "hidden" } }))
}

/// What a live stream remembers.
struct Live {
    backend: Shared,
    filter: Filter,
    shows_payload: bool,
    /// The last number that was looked at; `None` before the first look.
    seen: Option<u64>,
    waiting: std::vec::IntoIter<sse::Event>,
}

/// Each coming event as `event: event` with its number as id. `event: gap` says how many could not be shown because they
/// came faster than the ring of recent events keeps them.
fn live(
    backend: Shared,
    filter: Filter,
    shows_payload: bool,
    last_seen: Option<u64>,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let state = Live { backend, filter, shows_payload, seen: last_seen, waiting: Vec::new().into_iter() };
    let stream = futures_util::stream::unfold(state, |mut state| async move {
        loop {
            if let Some(event) = state.waiting.next() {
                return Some((Ok(event), state));
            }
            let closing = state.backend.closing.clone();
            tokio::select! {
                // An open stream must not hold up the end of the process.
                () = closing.cancelled() => return None,
                () = tokio::time::sleep(LIVE_EVERY) => {}
            }
            // A core that is gone ends the stream; the client comes back with Last-Event-ID.
            state.look().await?;
        }
    });
    Sse::new(stream).keep_alive(sse::KeepAlive::new().interval(Duration::from_secs(15)))
}

impl Live {
    async fn look(&mut self) -> Option<()> {
        let seen = self.seen;
        // The filter is applied here and not in the core, so that numbers left out by it are not taken for a gap.
        let found = self
            .backend
            .core
            .call(move |core, _| match seen {
                Some(seen) => core.engine.recent(seen, MAX_LIMIT, |_| true),
                // The first look only finds out where the stream begins.
                None => core.engine.recent(0, 1, |_| true),
            })
            .await
            .ok()?;
        let newest = found.first().map_or(seen.unwrap_or(0), |event| event.number);
        let Some(seen) = self.seen.replace(newest) else { return Some(()) };
        let mut out = Vec::with_capacity(found.len());
        let missed = newest.saturating_sub(seen).saturating_sub(found.len() as u64);
        if missed > 0 {
            out.push(sse::Event::default().event("gap").data(format!("{{\"missed\":{missed}}}")));
        }
        for event in found.iter().rev().filter(|event| self.filter.takes(event)) {
            let data = serde_json::to_string(&Row::of(event, self.shows_payload)).unwrap_or_default();
            out.push(sse::Event::default().event("event").id(event.number.to_string()).data(data));
        }
        self.waiting = out.into_iter();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_patterns_are_those_of_the_configuration() {
        for (pattern, event_type, expected) in [
            ("order.*", "order.placed", true),
            ("order.*", "order.item.added", true),
            ("order.+", "order.item.added", false),
            ("*.failed", "payment.failed", true),
            ("order", "order.placed", false),
            ("a.b", "axb", false),
            ("*", "", true),
        ] {
            assert_eq!(type_pattern(pattern).unwrap().is_match(event_type), expected, "{pattern} {event_type}");
        }
        assert_eq!(type_pattern(&"*".repeat(201)).unwrap_err().status, StatusCode::BAD_REQUEST);
    }
}
