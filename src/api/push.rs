//! `POST /events`: one event or many, in every form of CloudEvents' HTTP binding and as plain JSON or lines.

use super::error::{ApiError, json, json_text};
use super::listen::Peer;
use super::{Shared, origin};
use crate::config::schema::Overflow;
use crate::model::Refusal;
use crate::source::decode::{Decoder, Framing};
use crate::source::rate::{Client, Limited, RateLimits};
use crate::source::{Full, Ingest, Offered};
use crate::telemetry::{clock, self_metrics};
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use std::borrow::Cow;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

/// A configured `http` source.
#[derive(Clone, Debug)]
pub struct PushSource {
    /// Its name.
    pub name: Arc<str>,
    /// How its input is read.
    pub decoder: Arc<Decoder>,
    /// What happens when the queue is full.
    pub overflow: Overflow,
    /// How many events it takes, altogether and of each client.
    pub limits: Option<Arc<RateLimits>>,
    /// Answer when a checkpoint holds the events.
    pub ack_checkpoint: bool,
}

/// Refused items that an answer names; the rest is only counted.
const REFUSALS_SHOWN: usize = 100;
/// Bodies from this size on are decoded off the threads that serve connections.
const LARGE_BODY_BYTES: usize = 256 << 10;
/// Bytes that are read and thrown away after the limit, so that the sender reads the answer before the connection ends.
const DISCARDED_BYTES: usize = 32 << 20;
/// What the sender is told to wait while the queue is full.
const RETRY_AFTER_SECONDS: u32 = 1;
/// How long a request waits for the checkpoint that holds its events (`ack: checkpoint`).
const ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// How often that checkpoint is asked for.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// What became of a push.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    accepted: usize,
    refused: Vec<RefusedItem<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused_total: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct RefusedItem<'a> {
    item: u32,
    reason: &'a str,
    message: &'a str,
}

/// `POST /events`, `POST /events?source=NAME`.
///
/// # Errors
/// See the module `error`: 400, 403, 404, 413, 415, 429.
pub async fn events(State(backend): State<Shared>, request: Request) -> Result<Response, ApiError> {
    let params = super::prometheus::Params::parse(request.uri().query().unwrap_or(""));
    let name = params.get("source").map(str::to_owned);
    take(&backend, name.as_deref(), request).await
}

/// `POST /events/NAME`.
///
/// # Errors
/// As [`events`].
pub async fn events_of(
    State(backend): State<Shared>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    take(&backend, Some(&name), request).await
}

async fn take(backend: &Shared, name: Option<&str>, request: Request) -> Result<Response, ApiError> {
    origin::refuse_foreign(request.headers())?;
    let params = super::prometheus::Params::parse(request.uri().query().unwrap_or(""));
    let asked_ack = params.get("ack");
    let push = backend.push.load_full();
    let source = push.source(name)?.clone();
    let client = client(&request);
    let limits = source.limits.clone();
    // Whoever is over the limit already need not be read.
    if let Some(Err(limited)) = limits.as_ref().map(|limits| limits.admit(client, 0, Some("refused"))) {
        return Ok(nothing_taken(&too_fast(limited)));
    }
    let waits_for_checkpoint = match asked_ack {
        None => source.ack_checkpoint,
        Some("checkpoint") => true,
        Some("queued") => false,
        Some(other) => {
            return Err(ApiError::bad_request(format!("ack: {other:?} is unknown"), "there is queued and checkpoint"));
        }
    };
    let framing = framing(request.headers(), source.decoder.cuts_lines())?;
    let limit_bytes = backend.limits().body_bytes;
    let packed = is_gzip(request.headers())?;
    let mut body = read_body(request, limit_bytes).await?;
    if packed {
        body = tokio::task::spawn_blocking(move || unpack(&body, limit_bytes)).await.map_err(decoding_failed)??;
    }
    if body.is_empty() && !matches!(framing, Framing::CloudEventsBinary { .. }) {
        return Err(ApiError::bad_request(
            "the body is empty",
            "send an event, for example {\"type\":\"order.placed\"}",
        ));
    }
    let (arrived, size, overflow) = (clock::now(), body.len(), source.overflow);
    let (plan, decoder) = (Arc::clone(&push.plan), Arc::clone(&source.decoder));
    let batch = if body.len() < LARGE_BODY_BYTES {
        source.decoder.decode(body, framing, &plan, &source.name, arrived)
    } else {
        let decoding =
            tokio::task::spawn_blocking(move || source.decoder.decode(body, framing, &plan, &source.name, arrived));
        decoding.await.map_err(decoding_failed)?
    };
    let (accepted, refused) = (batch.events.len(), batch.refused.clone());
    let limits = limits.filter(|_| accepted > 0);
    if let Some(Err(limited)) = limits.as_ref().map(|limits| limits.admit(client, accepted, Some("refused"))) {
        return Ok(nothing_taken(&too_fast(limited)));
    }
    // A batch of refusals alone goes to the core as well: that is where they are counted.
    let offered = fits_queue(backend, size).and_then(|()| {
        backend.sink.offer(Ingest::Batch(batch, decoder), overflow).map_err(|full| not_taken(full, false))
    });
    // Nothing of it was taken: the sender's next attempt must not find its own events spent.
    if let (Err(_), Some(limits)) = (&offered, &limits) {
        limits.give_back(client, accepted);
    }
    let (number, dropped) = match offered? {
        Offered::Taken(number) => (number, 0),
        Offered::Partly { number, dropped } => (number, dropped),
        // Only where the configuration says so: the sender is told, and need not send again.
        Offered::Dropped => {
            let body = serde_json::json!({"accepted": 0, "refused": [], "dropped": accepted});
            return Ok(json(StatusCode::ACCEPTED, &body));
        }
    };
    if waits_for_checkpoint {
        stored(backend, number).await?;
    }
    Ok(answer(accepted - dropped, &refused, dropped))
}

/// A body that alone is larger than the queue is not let in: the sender can make it smaller.
pub(super) fn fits_queue(backend: &Shared, body_bytes: usize) -> Result<(), ApiError> {
    if body_bytes <= backend.sink.limits().bytes {
        return Ok(());
    }
    self_metrics::queue_full().increment(1);
    Err(not_taken(Full::Later, true))
}

/// Who sends it.
pub(super) fn client(request: &Request) -> Option<Client> {
    request.extensions().get::<ConnectInfo<Peer>>().map(|peer| Client::Ip(peer.0.0.ip().to_canonical()))
}

/// Waits until a checkpoint holds everything up to a number.
pub(super) async fn stored(backend: &Shared, number: u64) -> Result<(), ApiError> {
    let mut checkpointed = backend.sink.checkpointed();
    let waiting = async {
        while *checkpointed.borrow_and_update() < number {
            // Asked again: the one that is being written may have been begun before these events came.
            backend.sink.want_checkpoint();
            if let Ok(Err(_)) = tokio::time::timeout(ASK_AGAIN, checkpointed.changed()).await {
                return false;
            }
        }
        true
    };
    match tokio::time::timeout(ACK_TIMEOUT, waiting).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(ApiError::core_gone()),
        Err(_) => {
            let seconds = ACK_TIMEOUT.as_secs();
            let error = format!("the events were taken, but no checkpoint held them within {seconds} s");
            let hint = "they may be counted all the same: send them again only if counting them twice does no harm";
            Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, error, hint))
        }
    }
}

/// An error whose body also says, as every answer to events does, how many were accepted.
fn nothing_taken(error: &ApiError) -> Response {
    let body = serde_json::json!({"accepted": 0, "refused": [], "error": error.error, "hint": error.hint});
    let mut response = json(error.status, &body);
    if let Some(seconds) = error.retry_after_seconds {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// 429 for a sender above its limit.
pub(super) fn too_fast(limited: Limited) -> ApiError {
    let whose = if limited.by == "client" { "of this client" } else { "of this source" };
    ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        format!("the rate limit {whose} is reached; nothing of this request was taken"),
        "wait for Retry-After and send it again; rate_limit of the source says how much is taken",
    )
    .retry_after(limited.wait.as_secs_f64().ceil().max(1.0) as u32)
}

fn decoding_failed(error: tokio::task::JoinError) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("decoding failed: {error}"), "please report this")
}

pub(super) fn not_taken(full: Full, is_too_large: bool) -> ApiError {
    match full {
        Full::Closed => ApiError::core_gone(),
        Full::Later => {
            let hint = if is_too_large {
                "this batch is larger than limits.queue_bytes: send smaller ones"
            } else {
                "wait for Retry-After and send it again; limits.queue_batches and limits.queue_bytes bound the queue"
            };
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "the queue is full; nothing of this request was taken", hint)
                .retry_after(RETRY_AFTER_SECONDS)
        }
    }
}

fn answer(accepted: usize, refused: &[Refusal], dropped: usize) -> Response {
    let total = refused.len();
    // One event a request is what most senders do: nothing needs to be printed for them.
    if accepted == 1 && total == 0 && dropped == 0 {
        return json_text(StatusCode::ACCEPTED, Bytes::from_static(br#"{"accepted":1,"refused":[]}"#));
    }
    json(
        if total == 0 { StatusCode::ACCEPTED } else { StatusCode::BAD_REQUEST },
        &described(accepted, refused, dropped),
    )
}

/// What became of one message of a WebSocket, as JSON: the body that a request would be answered with.
pub(super) fn answer_text(accepted: usize, refused: &[Refusal]) -> String {
    // Texts and numbers alone: nothing in it can fail to be written.
    serde_json::to_string(&described(accepted, refused, 0)).unwrap_or_default()
}

fn described(accepted: usize, refused: &[Refusal], dropped: usize) -> Answer<'_> {
    let total = refused.len();
    let shown = refused.iter().take(REFUSALS_SHOWN);
    Answer {
        accepted,
        refused: shown.map(|one| RefusedItem { item: one.item, reason: one.reason, message: &one.message }).collect(),
        refused_total: (total > REFUSALS_SHOWN).then_some(total),
        dropped: (dropped > 0).then_some(dropped),
        error: (total > 0).then(|| format!("{total} of {} items were refused", accepted + dropped + total)),
        hint: (total > 0).then_some("the others are accepted: mend and send only the refused ones again"),
    }
}

/// Whether the body comes compressed.
pub(super) fn is_gzip(headers: &HeaderMap) -> Result<bool, ApiError> {
    match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(false),
        Some(b"gzip" | b"x-gzip") => Ok(true),
        Some(_) => {
            let hint = "send it plain or with Content-Encoding: gzip";
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content encoding is not understood", hint))
        }
    }
}

/// Unpacks all members of a gzip body (RFC 1952) as far as the limit allows.
pub(super) fn unpack(packed: &[u8], limit_bytes: usize) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    let most = (limit_bytes as u64).saturating_add(1);
    flate2::read::MultiGzDecoder::new(packed).take(most).read_to_end(&mut body).map_err(|error| {
        ApiError::bad_request(format!("the body could not be read: {error}"), "it ended early, or its gzip is broken")
    })?;
    if body.len() > limit_bytes { Err(ApiError::too_large(limit_bytes)) } else { Ok(body) }
}

/// Reads the body up to the limit. What is larger is read on for a while and thrown away.
pub(super) async fn read_body(request: Request, limit_bytes: usize) -> Result<Vec<u8>, ApiError> {
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    if announced > limit_bytes.saturating_add(DISCARDED_BYTES) {
        return Err(ApiError::too_large(limit_bytes));
    }
    let mut chunks = Body::into_data_stream(request.into_body());
    let (mut body, mut size) = (Vec::with_capacity(announced.min(limit_bytes)), 0_usize);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk
            .map_err(|error| ApiError::bad_request(format!("the body could not be read: {error}"), "it ended early"))?;
        size += chunk.len();
        if size <= limit_bytes {
            body.extend_from_slice(&chunk);
        } else {
            body = Vec::new();
            if size > limit_bytes.saturating_add(DISCARDED_BYTES) {
                break;
            }
        }
    }
    if size > limit_bytes { Err(ApiError::too_large(limit_bytes)) } else { Ok(body) }
}

/// How the body is divided into events: CloudEvents' HTTP binding 1.0.2, section 3 (batch, structured, binary), then JSON
/// and lines. What curl sends without `-H` (a form) is read as plain JSON would be.
fn framing(headers: &HeaderMap, cuts_lines: bool) -> Result<Framing, ApiError> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or("").trim();
    let media_type: Cow<str> = match media_type.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => media_type.to_ascii_lowercase().into(),
        false => media_type.into(),
    };
    match &*media_type {
        "application/cloudevents-batch+json" => return Ok(Framing::CloudEventsBatch),
        "application/cloudevents+json" => return Ok(Framing::CloudEvents),
        other if other.starts_with("application/cloudevents") => return Err(unsupported(other)),
        _ => {}
    }
    if headers.contains_key("ce-specversion") || headers.contains_key("ce-type") {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let attributes = headers.iter().filter(|(name, _)| name.as_str().starts_with("ce-"));
        return Ok(Framing::CloudEventsBinary {
            attributes: attributes.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
            content_type: content_type.map(str::to_owned),
        });
    }
    let plain = if cuts_lines { Framing::Lines } else { Framing::Auto };
    match &*media_type {
        "" | "text/plain" | "application/octet-stream" | "application/x-www-form-urlencoded" => Ok(plain),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
            Ok(Framing::Ndjson)
        }
        "application/json" | "text/json" => Ok(Framing::Auto),
        other if other.ends_with("+json") => Ok(Framing::Auto),
        other => Err(unsupported(other)),
    }
}

fn unsupported(media_type: &str) -> ApiError {
    let hint = "send application/json (an event or an array), application/x-ndjson, application/cloudevents+json, \
                application/cloudevents-batch+json, CloudEvents binary mode, or text/plain lines";
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the content type {media_type} is not understood"), hint)
}

/// `OPTIONS /events`: the handshake of CloudEvents' HTTP webhooks 1.0.2, section 4. Any origin may send at any rate: the
/// listener is on loopback or behind what the operator put before it.
pub async fn handshake(headers: HeaderMap) -> Response {
    let allow = [(header::ALLOW, "POST, OPTIONS")];
    let Some(origin) = headers.get("webhook-request-origin") else {
        return (StatusCode::NO_CONTENT, allow).into_response();
    };
    let granted = [("webhook-allowed-origin", origin.clone()), ("webhook-allowed-rate", HeaderValue::from_static("*"))];
    (StatusCode::OK, allow, granted).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&str, &str)], cuts_lines: bool) -> Result<Framing, StatusCode> {
        let pairs = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        framing(&pairs.collect(), cuts_lines).map_err(|error| error.status)
    }

    #[test]
    fn content_types_say_how_a_body_is_divided() {
        let unsupported = Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        for (content_type, cuts_lines, expected) in [
            ("application/json", false, Ok(Framing::Auto)),
            ("Application/JSON; charset=utf-8", true, Ok(Framing::Auto)),
            ("application/vnd.shop+json", false, Ok(Framing::Auto)),
            ("application/x-ndjson", false, Ok(Framing::Ndjson)),
            ("application/cloudevents+json;charset=utf-8", false, Ok(Framing::CloudEvents)),
            ("application/cloudevents-batch+json", false, Ok(Framing::CloudEventsBatch)),
            ("application/cloudevents+avro", false, unsupported.clone()),
            ("application/cloudevents-batch+xml", false, unsupported.clone()),
            ("text/plain", false, Ok(Framing::Auto)),
            ("text/plain", true, Ok(Framing::Lines)),
            ("application/x-www-form-urlencoded", false, Ok(Framing::Auto)),
            ("image/png", false, unsupported.clone()),
            ("multipart/form-data; boundary=x", true, unsupported.clone()),
        ] {
            assert_eq!(check(&[("content-type", content_type)], cuts_lines), expected, "{content_type}");
        }
        assert_eq!(check(&[], false), Ok(Framing::Auto));
        let encoded = |encoding: &'static str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(encoding))]);
            is_gzip(&headers).map_err(|error| error.status)
        };
        assert_eq!(
            (encoded("br"), encoded("gzip"), encoded("identity")),
            (Err(StatusCode::UNSUPPORTED_MEDIA_TYPE), Ok(true), Ok(false))
        );
    }

    #[test]
    fn attributes_in_headers_mean_binary_mode() {
        let headers = [("content-type", "image/png"), ("ce-specversion", "1.0"), ("ce-type", "a"), ("x-other", "1")];
        let Ok(Framing::CloudEventsBinary { attributes, content_type }) = check(&headers, false) else { panic!() };
        let names: Vec<&str> = attributes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names, content_type.as_deref()), (vec!["ce-specversion", "ce-type"], Some("image/png")));
        // Structured mode wins over stray headers: the media type decides first.
        let headers = [("content-type", "application/cloudevents+json"), ("ce-type", "a")];
        assert_eq!(check(&headers, false), Ok(Framing::CloudEvents));
    }

    #[test]
    fn a_compressed_body_is_held_to_the_limit_too() {
        use std::io::Write;
        let packed = |size: usize| {
            let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            to.write_all(&vec![b' '; size]).unwrap();
            to.finish().unwrap()
        };
        let unpacked = |packed: &[u8]| unpack(packed, 1_000).map(|body| body.len()).map_err(|error| error.status);
        assert_eq!(unpacked(&packed(1_000)), Ok(1_000));
        assert_eq!(unpacked(&[packed(400), packed(600)].concat()), Ok(1_000), "members follow one another");
        assert_eq!(unpacked(&packed(1 << 20)), Err(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(unpacked(&packed(10)[..20]), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn a_body_is_read_up_to_the_limit() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = |size: usize| {
            let request = Request::new(Body::from(vec![b' '; size]));
            runtime.block_on(read_body(request, 100)).map(|body| body.len()).map_err(|error| error.status)
        };
        assert_eq!((read(0), read(100), read(101)), (Ok(0), Ok(100), Err(StatusCode::PAYLOAD_TOO_LARGE)));
    }
}
