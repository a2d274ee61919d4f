//! `/silences` and `/silence/{silenceID}`.

use super::body::{self, Fields};
use super::{AmError, filters, may_change, moment, stored};
use crate::api::Shared;
use crate::api::error::json;
use crate::api::prometheus::Params;
use crate::model::Timestamp;
use crate::notify::{MatchOp, Matcher, Silence, SilenceDraft, SilenceError, SilenceState};
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json as object};
use std::sync::Arc;

/// A silence in Alertmanager's JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Gettable {
    id: Arc<str>,
    status: Status,
    updated_at: String,
    comment: String,
    created_by: String,
    ends_at: String,
    matchers: Vec<MatcherJson>,
    starts_at: String,
}

#[derive(Debug, Serialize)]
struct Status {
    state: SilenceState,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MatcherJson {
    is_equal: bool,
    is_regex: bool,
    name: String,
    value: String,
}

impl Gettable {
    fn of(silence: &Silence, now: Timestamp) -> Self {
        let matcher = |matcher: &Matcher| MatcherJson {
            is_equal: matches!(matcher.op, MatchOp::Equal | MatchOp::Matches),
            is_regex: matches!(matcher.op, MatchOp::Matches | MatchOp::NotMatches),
            name: matcher.name.clone(),
            value: matcher.value.clone(),
        };
        Self {
            id: silence.id.clone(),
            status: Status { state: silence.state(now) },
            updated_at: moment(silence.updated_at),
            comment: silence.comment.clone(),
            created_by: silence.created_by.clone(),
            ends_at: moment(silence.ends_at),
            matchers: silence.matchers.iter().map(matcher).collect(),
            starts_at: moment(silence.starts_at),
        }
    }
}

/// `GET /api/v2/silences`. A filter takes silences that have that very matcher.
///
/// # Errors
/// 400 for a filter that is none.
pub async fn get_silences(State(backend): State<Shared>, params: Params) -> Result<Response, AmError> {
    let filters = filters(&params)?;
    let list = backend.core.call(move |core, now| {
        let silences = core.notifier.silences(now).list(now);
        let taken = silences.iter().filter(|silence| filters.iter().all(|filter| silence.matchers.contains(filter)));
        taken.map(|silence| Gettable::of(silence, now)).collect::<Vec<_>>()
    });
    Ok(json(StatusCode::OK, &list.await?))
}

/// `GET /api/v2/silence/{silenceID}`.
///
/// # Errors
/// 404, and 422 for what is no UUID.
pub async fn get_silence(State(backend): State<Shared>, Path(id): Path<String>) -> Result<Response, AmError> {
    body::uuid(&id)?;
    let found = backend.core.call(move |core, now| {
        let silence = core.notifier.silences(now).get(&id, now);
        silence.map(|silence| Gettable::of(&silence, now))
    });
    let silence = found.await?.ok_or(AmError::Empty(StatusCode::NOT_FOUND))?;
    Ok(json(StatusCode::OK, &silence))
}

/// `POST /api/v2/silences`: makes a silence, or changes the one with this id.
///
/// # Errors
/// 400 and 404 as Alertmanager, 422 for what is missing, 403 for whom may not.
pub async fn post_silences(State(backend): State<Shared>, request: Request) -> Result<Response, AmError> {
    may_change(&request)?;
    let draft = draft(&body::read(&backend, request, "silence").await?)?;
    if draft.starts_at >= draft.ends_at {
        return Err(AmError::bad("Failed to create silence: start time must be before end time"));
    }
    let fresh_id = fresh_uuid()?;
    let set = backend.core.call(move |core, now| {
        if draft.ends_at < now {
            return Err(AmError::bad("Failed to create silence: end time can't be in the past"));
        }
        let id = core.set_silence(draft, &fresh_id, now).map_err(|error| match error {
            SilenceError::NotFound => AmError::text(StatusCode::NOT_FOUND, error.to_string()),
            error => AmError::bad(error.to_string()),
        })?;
        Ok((id, core.commands()))
    });
    let (id, commands) = set.await??;
    stored(&backend, commands).await?;
    tracing::info!(silence = %id, "a silence was made or changed");
    Ok(json(StatusCode::OK, &object!({"silenceID": *id})))
}

/// `DELETE /api/v2/silence/{silenceID}`: expires it.
///
/// # Errors
/// 404, 422 for what is no UUID, 500 where it stands in the configuration: Alertmanager's API has no other refusal, and
/// amtool shows the text of that one.
pub async fn delete_silence(
    State(backend): State<Shared>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, AmError> {
    may_change(&request)?;
    body::uuid(&id)?;
    let named = id.clone();
    let expired = backend.core.call(move |core, now| core.expire_silence(&named, now).map(|()| core.commands()));
    let commands = expired.await?.map_err(|error| match error {
        SilenceError::NotFound => AmError::text(StatusCode::NOT_FOUND, error.to_string()),
        error => AmError::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    })?;
    stored(&backend, commands).await?;
    tracing::info!(silence = id, "a silence was expired");
    Ok(StatusCode::OK.into_response())
}

fn draft(body: &Value) -> Result<SilenceDraft, AmError> {
    let fields = Fields::of("silence", String::new(), body)?;
    let (comment, created_by) = (fields.required_text("comment")?, fields.required_text("createdBy")?);
    let (ends_at, starts_at) = (fields.required_moment("endsAt")?, fields.required_moment("startsAt")?);
    let mut matchers = Vec::new();
    for (at, one) in fields.required_list("matchers")?.iter().enumerate() {
        let one = Fields::of("silence", format!("matchers.{at}."), one)?;
        let is_equal = one.boolean("isEqual")?.unwrap_or(true);
        let is_regex = one.required_boolean("isRegex")?;
        let (name, value) = (one.required_text("name")?, one.required_text("value")?);
        let op = match (is_equal, is_regex) {
            (true, false) => MatchOp::Equal,
            (false, false) => MatchOp::NotEqual,
            (true, true) => MatchOp::Matches,
            (false, true) => MatchOp::NotMatches,
        };
        let matcher = Matcher::new(name, op, value);
        let invalid = |reason| AmError::bad(format!("silence invalid: invalid label matcher {at}: {reason}"));
        matchers.push(matcher.map_err(invalid)?);
    }
    let id = fields.text("id")?;
    Ok(SilenceDraft { id: (!id.is_empty()).then_some(id), matchers, starts_at, ends_at, created_by, comment })
}

/// A UUID of version 4 (RFC 9562, section 5.4).
fn fresh_uuid() -> Result<String, AmError> {
    let mut bytes = [0_u8; 16];
    rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).map_err(|_| {
        AmError::text(StatusCode::INTERNAL_SERVER_ERROR, "the system gives no random numbers for an id")
    })?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}
