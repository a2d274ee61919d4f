//! OTLP over HTTP: logs and spans become events of the stream, metrics become samples and counts. JSON and Protocol
//! Buffers say the same here: both are read into one model first.

mod events;
mod json;
mod metrics;
mod model;
mod naming;
mod protobuf;
mod response;
#[cfg(test)]
mod tests;
mod values;

pub use metrics::Metrics;
pub use response::{partial_success, status};

use crate::source::wire::Damaged;
use std::sync::Arc;

/// What a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of OpenTelemetry")]
pub enum Signal {
    Logs,
    Metrics,
    Traces,
}

/// How a request is written, and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `application/json`.
    Json,
    /// `application/x-protobuf`.
    Protobuf,
}

impl Encoding {
    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
        }
    }
}

/// What a request gives.
#[derive(Debug)]
pub enum Request {
    /// Events, one JSON document a line, and how many.
    Events(Vec<u8>, usize),
    /// Samples and counts.
    Metrics(Box<Metrics>),
}

/// Reads a request; `now_ms` serves where a point has no time.
///
/// # Errors
/// Why it cannot be read, with the path where the encoding has one. Nothing of it counts then.
pub fn read(
    signal: Signal,
    encoding: Encoding,
    body: &[u8],
    source: &Arc<str>,
    now_ms: i64,
) -> Result<Request, String> {
    let damaged = |_: Damaged| "the body is no OTLP request in Protocol Buffers".to_owned();
    let documents = |documents: events::Documents| Request::Events(documents.lines, documents.count);
    Ok(match (signal, encoding) {
        (Signal::Logs, Encoding::Json) => {
            let names = ["resourceLogs", "scopeLogs", "logRecords"];
            documents(events::logs(&json::request(body, names, json::log_record)?))
        }
        (Signal::Logs, Encoding::Protobuf) => {
            documents(events::logs(&protobuf::request(body, protobuf::log_record).map_err(damaged)?))
        }
        (Signal::Traces, Encoding::Json) => {
            documents(events::spans(&json::request(body, ["resourceSpans", "scopeSpans", "spans"], json::span)?))
        }
        (Signal::Traces, Encoding::Protobuf) => {
            documents(events::spans(&protobuf::request(body, protobuf::span).map_err(damaged)?))
        }
        (Signal::Metrics, Encoding::Json) => {
            let resources = json::request(body, ["resourceMetrics", "scopeMetrics", "metrics"], json::metric)?;
            Request::Metrics(Box::new(metrics::metrics(source, &resources, now_ms)))
        }
        (Signal::Metrics, Encoding::Protobuf) => {
            let resources = protobuf::request(body, protobuf::metric).map_err(damaged)?;
            Request::Metrics(Box::new(metrics::metrics(source, &resources, now_ms)))
        }
    })
}
