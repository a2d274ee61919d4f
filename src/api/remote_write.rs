//! `POST /api/v1/write`: the receiver of Prometheus remote write 1.0 and 2.0.
//!
//! Statuses as both specifications have them: 204 when everything was taken; 400 when something was refused for what it
//! is (the rest is taken; senders do not repeat); 415 for another format; 413 for too much at once; 5xx and 429 to be
//! repeated. A series that is not known is made within `limits.series`.

use super::error::ApiError;
use super::push::read_body;
use super::{Shared, origin};
use crate::series::Written;
use crate::source::remote_write::{RequestError, Version, read};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// The message of protocol 2.0 in the content type.
const V2: &str = "io.prometheus.write.v2.Request";
const V1: &str = "prometheus.WriteRequest";

/// `POST /api/v1/write`.
///
/// # Errors
/// 400, 413, 415, 503; see the module.
pub async fn write(State(backend): State<Shared>, request: Request) -> Result<Response, ApiError> {
    origin::refuse_foreign(request.headers())?;
    let version = version(request.headers())?;
    let limits = backend.limits();
    let (limit_bytes, window_ms) = (limits.body_bytes, limits.late_samples_ms);
    let body = read_body(request, limit_bytes).await?;
    let decoded = tokio::task::spawn_blocking(move || read(&body, version, limit_bytes.saturating_mul(4)));
    let request = decoded
        .await
        .map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string(), "please report this"))?
        .map_err(not_readable)?;
    let (invalid, reasons) = (request.invalid, request.reasons.clone());
    let written = backend.core.call(move |core, now| core.engine.receive(now, &request, window_ms)).await?;
    Ok(answer(&written, invalid, &reasons, version))
}

fn not_readable(error: RequestError) -> ApiError {
    match error {
        RequestError::TooLarge { .. } => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            error.to_string(),
            "send smaller requests (max_samples_per_send), or raise limits.body_bytes",
        ),
        _ => ApiError::bad_request(error.to_string(), "remote write is snappy-compressed protobuf"),
    }
}

/// "Remote-Write 2.0", section "Protocol": the content type names the message; without a name it is the first protocol.
fn version(headers: &HeaderMap) -> Result<Version, ApiError> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let unsupported = |what: String| {
        let hint = format!("send application/x-protobuf;proto={V1} or proto={V2}, with Content-Encoding: snappy");
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, what, hint)
    };
    let encoding = text(header::CONTENT_ENCODING);
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("snappy") {
        return Err(unsupported(format!("the content encoding {encoding:?} is not understood")));
    }
    let content_type = text(header::CONTENT_TYPE);
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    if !media.is_empty() && !media.eq_ignore_ascii_case("application/x-protobuf") {
        return Err(unsupported(format!("the content type {content_type:?} is not understood")));
    }
    let mut version = Version::V1;
    for parameter in parts {
        let Some((name, value)) = parameter.split_once('=') else {
            return Err(unsupported(format!("the content type {content_type:?} is not understood")));
        };
        if name.trim().eq_ignore_ascii_case("proto") {
            version = match value.trim() {
                V1 => Version::V1,
                V2 => Version::V2,
                other => return Err(unsupported(format!("the message {other:?} is not understood"))),
            };
        }
    }
    Ok(version)
}

fn answer(written: &Written, invalid: usize, reasons: &[String], version: Version) -> Response {
    let refused: usize = invalid + written.refused.values().sum::<usize>();
    let mut response = if refused == 0 {
        StatusCode::NO_CONTENT.into_response()
    } else {
        let mut list: Vec<&str> = reasons.iter().chain(&written.named).map(String::as_str).collect();
        list.truncate(10);
        let error = format!("{refused} samples or exemplars were refused: {}", list.join("; "));
        ApiError::bad_request(error, "the others are taken; sending these again does not help").into_response()
    };
    // "Required Written Response Headers" of 2.0; the first protocol has none, and its senders ignore them.
    if version == Version::V2 {
        for (name, count) in [
            ("x-prometheus-remote-write-samples-written", written.floats),
            ("x-prometheus-remote-write-histograms-written", written.histograms),
            ("x-prometheus-remote-write-exemplars-written", written.exemplars),
        ] {
            response.headers_mut().insert(name, HeaderValue::from(count));
        }
    }
    response
}
