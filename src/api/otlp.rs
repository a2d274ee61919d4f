//! `POST /v1/logs`, `/v1/metrics`, `/v1/traces`: OTLP over HTTP (OpenTelemetry Protocol specification, "OTLP/HTTP").
//!
//! A request is answered 200 when all of it is queued, with a partial success where items could not be used; 400 means
//! that the same bytes will never be taken, 429 and 503 that they should come again after Retry-After. Answers come in the
//! encoding of the request, errors as a google.rpc.Status.

use super::error::ApiError;
use super::push::{client, fits_queue, is_gzip, not_taken, read_body, too_fast, unpack};
use super::{PushSource, Shared, origin};
use crate::source::Ingest;
use crate::source::decode::Framing;
use crate::source::otlp::{self, Encoding, Request as Otlp, Signal};
use crate::telemetry::{clock, self_metrics};
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::sync::Arc;

/// `POST /v1/logs`.
pub async fn logs(State(backend): State<Shared>, request: Request) -> Response {
    answer(&backend, Signal::Logs, request).await
}

/// `POST /v1/metrics`.
pub async fn metrics(State(backend): State<Shared>, request: Request) -> Response {
    answer(&backend, Signal::Metrics, request).await
}

/// `POST /v1/traces`.
pub async fn traces(State(backend): State<Shared>, request: Request) -> Response {
    answer(&backend, Signal::Traces, request).await
}

async fn answer(backend: &Shared, signal: Signal, request: Request) -> Response {
    // An encoding that is not known is answered in JSON.
    let encoding = encoding(request.headers());
    let answered_in = encoding.as_ref().map_or(Encoding::Json, |encoding| *encoding);
    let (status, body, retry_after) = match take(backend, signal, encoding, request).await {
        Ok(body) => (StatusCode::OK, body, None),
        Err(error) => {
            let hint = if error.hint.is_empty() { String::new() } else { format!(" ({})", error.hint) };
            let body = otlp::status(answered_in, error.status.as_u16(), &format!("{}{hint}", error.error));
            (error.status, body, error.retry_after_seconds)
        }
    };
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answered_in.media_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    match media.split(';').next().unwrap_or("").trim().to_ascii_lowercase().as_str() {
        "application/json" => Ok(Encoding::Json),
        "application/x-protobuf" | "application/protobuf" => Ok(Encoding::Protobuf),
        other => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("the content type {other:?} is not understood"),
            "OTLP over HTTP is application/x-protobuf or application/json",
        )),
    }
}

async fn take(
    backend: &Shared,
    signal: Signal,
    encoding: Result<Encoding, ApiError>,
    request: Request,
) -> Result<Vec<u8>, ApiError> {
    origin::refuse_foreign(request.headers())?;
    let encoding = encoding?;
    let push = backend.push.load_full();
    let Some(source) = push.otlp.clone() else {
        let hint = "add one: sources: {otlp: {otlp: {}}}";
        return Err(ApiError::new(StatusCode::NOT_FOUND, "no otlp source is configured", hint));
    };
    let PushSource { name, decoder, limits, .. } = source;
    let client = client(&request);
    // Whoever is over the limit already need not be read.
    if let Some(Err(limited)) = limits.as_ref().map(|limits| limits.admit(client, 0, Some("refused"))) {
        return Err(too_fast(limited));
    }
    let limit_bytes = backend.limits().body_bytes;
    let packed = is_gzip(request.headers())?;
    let body = read_body(request, limit_bytes).await?;
    let (arrived, size, plan) = (clock::now(), body.len(), Arc::clone(&push.plan));
    self_metrics::source_messages(&name).increment(1);
    self_metrics::source_received_bytes(&name).increment(size as u64);
    // Reading is work for a thread that serves no connections: requests are large as a rule.
    let reading = tokio::task::spawn_blocking(move || {
        let body = if packed { unpack(&body, limit_bytes)? } else { body };
        let read = otlp::read(signal, encoding, &body, &name, arrived.millis())
            .map_err(|message| ApiError::bad_request(message, "the same request will not be taken again"))?;
        Ok::<_, ApiError>(match read {
            Otlp::Events(lines, count) => {
                let batch = decoder.decode(lines, Framing::Ndjson, &plan, &name, arrived);
                let rejected = count.saturating_sub(batch.events.len()) as u64;
                let reason = batch.refused.first().map(|refusal| refusal.message.clone()).unwrap_or_default();
                (vec![Ingest::Batch(batch, decoder)], rejected, reason)
            }
            Otlp::Metrics(metrics) => {
                let mut inputs = Vec::new();
                let mut counts = metrics.counts;
                if metrics.rejected > 0 {
                    counts.refuse("otlp_rejected", metrics.rejected);
                }
                inputs.push(Ingest::Counts(Box::new(counts)));
                if !metrics.received.samples.is_empty() {
                    inputs.push(Ingest::Received(Box::new(metrics.received)));
                }
                (inputs, metrics.rejected, metrics.reason)
            }
        })
    });
    let failed = |error: tokio::task::JoinError| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("reading failed: {error}"), "please report this")
    };
    let (inputs, rejected, reason) = reading.await.map_err(failed)??;
    // All or nothing: what was half taken would come twice.
    let events = inputs.iter().map(Ingest::events).sum();
    let limits = limits.filter(|_| events > 0);
    if let Some(Err(limited)) = limits.as_ref().map(|limits| limits.admit(client, events, Some("refused"))) {
        return Err(too_fast(limited));
    }
    let taken = fits_queue(backend, size)
        .and_then(|()| backend.sink.try_send_all(inputs).map_err(|full| not_taken(full, false)));
    if let (Err(_), Some(limits)) = (&taken, &limits) {
        limits.give_back(client, events);
    }
    taken?;
    Ok(otlp::partial_success(signal, encoding, rejected, &reason))
}
