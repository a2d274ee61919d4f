//! `/health`, which tells how the service is, and the probes of sidewatch itself.

use super::Shared;
use super::dashboard::{health, sources};
use super::error::{ApiError, json as answer_json};
use super::prometheus::Params;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How far sidewatch has come; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

const STARTING: u8 = 0;
const READY: u8 = 1;
const STOPPING: u8 = 2;

impl Readiness {
    /// State is restored and both listeners are bound. Sources may still be connecting: nobody waits for a broker.
    pub fn set_ready(&self) {
        self.0.store(READY, Ordering::Relaxed);
    }

    /// The end has begun: no new requests should come.
    pub fn set_stopping(&self) {
        self.0.store(STOPPING, Ordering::Relaxed);
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}

fn ok() -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], "ok\n").into_response()
}

/// Whether the core answers: a core that hangs is what a restart would cure, and nothing else fails this probe.
///
/// # Errors
/// 503.
pub async fn livez(State(backend): State<Shared>) -> Result<Response, ApiError> {
    backend.core.call(|_, _| ()).await?;
    Ok(ok())
}

/// Whether requests are taken. A firing alert, an unhealthy service or a lost broker never fails it.
///
/// # Errors
/// 503 while starting and stopping.
pub async fn readyz(State(backend): State<Shared>) -> Result<Response, ApiError> {
    match backend.readiness.get() {
        READY => Ok(ok()),
        STOPPING => Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "sidewatch is stopping", "")),
        _ => Err(starting()),
    }
}

/// Whether the start is over; it stays so until the end.
///
/// # Errors
/// 503 while starting.
pub async fn startupz(State(backend): State<Shared>) -> Result<Response, ApiError> {
    if backend.readiness.get() == STARTING { Err(starting()) } else { Ok(ok()) }
}

fn starting() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "sidewatch is starting", "ask again").retry_after(1)
}

/// `GET /health`: 200, or 503 when the service is unhealthy. `?verbose=false` leaves out everything but the status.
///
/// # Errors
/// 503 when the core does not answer.
pub async fn health_of_the_service(State(backend): State<Shared>, params: Params) -> Result<Response, ApiError> {
    let (report, sources) = backend.core.call(|core, _| (health(core), sources(core))).await?;
    let status = if report.status == "unhealthy" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let mut answer = json!({
        "status": report.status,
        "service": backend.identity.service,
        "instance": backend.identity.instance,
    });
    if params.get("verbose") != Some("false") {
        let sources: Map<String, Value> = sources
            .into_iter()
            .map(|source| (source.name.to_string(), json!({"state": source.state, "reason": source.reason})))
            .collect();
        let failing: Vec<String> = (backend.surroundings.outbox)()
            .lanes
            .iter()
            .filter_map(|lane| Some(format!("{}: {}", lane.receiver, lane.last_error.as_ref()?.error)))
            .collect();
        let reload = (backend.surroundings.reload_status)();
        answer["checks"] = report.checks_by_name().into();
        // How sidewatch itself is. It has no part in the status: a receiver that fails says nothing about the service.
        answer["sidewatch"] = json!({
            "sources": sources,
            "queue": backend.queue(),
            "failing_receivers": failing,
            "configuration": {"succeeded": reload.succeeded, "error": reload.error},
        });
    }
    Ok(answer_json(status, &answer))
}
