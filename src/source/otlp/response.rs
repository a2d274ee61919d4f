//! Answers: Export*ServiceResponse with its partial success, and google.rpc.Status for what failed.

use super::{Encoding, Signal};
use crate::source::wire::Writer;
use serde_json::json;

/// The answer to a request that was taken, `rejected` items of it left out for the given reason. Without any it is empty,
/// which means complete success (OTLP 1.x, "Full Success").
pub fn partial_success(signal: Signal, encoding: Encoding, rejected: u64, reason: &str) -> Vec<u8> {
    let name = match signal {
        Signal::Logs => "rejectedLogRecords",
        Signal::Metrics => "rejectedDataPoints",
        Signal::Traces => "rejectedSpans",
    };
    match (encoding, rejected) {
        (Encoding::Json, 0) => b"{}".to_vec(),
        (Encoding::Protobuf, 0) => Vec::new(),
        // 64-bit numbers are texts in this encoding.
        (Encoding::Json, _) => {
            json!({"partialSuccess": {name: rejected.to_string(), "errorMessage": reason}}).to_string().into_bytes()
        }
        (Encoding::Protobuf, _) => {
            let mut inner = Writer::default();
            inner.uint(1, rejected);
            inner.text(2, reason);
            let mut outer = Writer::default();
            outer.bytes(1, &inner.out);
            outer.out
        }
    }
}

/// A google.rpc.Status with the code that fits the HTTP status.
pub fn status(encoding: Encoding, http: u16, message: &str) -> Vec<u8> {
    let code = match http {
        400 | 413 | 415 => 3,
        403 => 7,
        404 => 5,
        429 => 8,
        503 => 14,
        _ => 13,
    };
    match encoding {
        Encoding::Json => json!({"code": code, "message": message}).to_string().into_bytes(),
        Encoding::Protobuf => {
            let mut out = Writer::default();
            out.uint(1, code);
            out.text(2, message);
            out.out
        }
    }
}
