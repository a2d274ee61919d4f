//! `GET /api/status`: the state of every part.

use super::Shared;
use super::dashboard::{health, receivers};
use super::error::{ApiError, json as json_answer};
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Serialize)]
struct Status {
    service: String,
    instance: String,
    version: &'static str,
    now: String,
    started: String,
    uptime_seconds: f64,
    listen: Value,
    configuration: Value,
    health: &'static str,
    events: Value,
    sources: Vec<Value>,
    queue: super::QueueStatus,
    series: Value,
    rules: Value,
    notifications: Value,
    watchdog: Value,
    exports: Vec<super::ExportStatus>,
}

/// `GET /api/status`.
///
/// # Errors
/// 503 when the core does not answer.
pub async fn status(State(backend): State<Shared>) -> Result<Response, ApiError> {
    let (identity, limits) = (backend.identity.clone(), backend.limits());
    let reload = (backend.surroundings.reload_status)();
    let (queue, outbox) = (backend.queue(), (backend.surroundings.outbox)());
    let notifications = json!({
        "pending": outbox.pending, "limit_messages": outbox.limit_messages, "receivers": receivers(&outbox),
        "receiver_gone": outbox.receiver_gone, "dead_letters": outbox.dead_letters.len(),
        "dead_letters_forgotten": outbox.dead_letters_forgotten,
    });
    let watchdog = (backend.surroundings.watchdog)().map_or(Value::Null, |dog| {
        json!({
            "arrives": dog.arrives, "sent": dog.sent, "failed": dog.failed, "withheld": dog.withheld,
            "last_sent": dog.last_sent.map(|at| at.rfc3339()), "last_error": dog.last_error,
            "every": crate::model::format_duration_ms(dog.every_ms),
        })
    });
    let exports = (backend.surroundings.exports)();
    let addresses = backend.addresses;
    let status = backend.core.call(move |core, now| {
        let engine = &core.engine;
        let (stats, totals, counters) = (engine.store().stats(), engine.totals(), engine.rules().counters());
        let set = engine.rules().set();
        let limited: Vec<Value> = stats
            .metrics
            .iter()
            .filter(|metric| !metric.limited.is_empty())
            .map(|metric| json!({"metric": metric.name, "series": metric.series, "limited": metric.limited, "widest_label": metric.widest_label}))
            .collect();
        let sources = engine.sources().iter().map(|(name, source)| {
            let (state, reason) = (source.state.word(), source.state.detail());
            json!({"name": **name, "kind": source.kind, "state": state, "reason": reason,
                   "since": source.since.rfc3339(), "received_total": source.events})
        });
        Status {
            service: identity.service,
            instance: identity.instance,
            version: super::VERSION,
            now: now.rfc3339(),
            started: identity.started.rfc3339(),
            uptime_seconds: now.micros_since(identity.started) as f64 / 1e6,
            listen: json!({"observe": addresses.observe.to_string(), "ingest": addresses.ingest.to_string()}),
            configuration: json!({"last_read": reload.at.rfc3339(), "succeeded": reload.succeeded, "error": reload.error}),
            health: health(core).status,
            events: json!({"total": totals.events, "failed": totals.failed}),
            sources: sources.collect(),
            queue,
            series: json!({
                "live": stats.live_series, "received": stats.received_series, "ended": stats.ended_series,
                "histograms": stats.histogram_series, "limit": limits.series, "bytes": stats.bytes,
                "limit_bytes": limits.series_bytes, "expired": stats.expired_series,
                "truncated_values": stats.truncated_values, "refused": stats.refused, "limited": limited,
            }),
            rules: json!({
                "groups": set.groups.len(),
                "timing": core.engine.rules().timing().map(|timing| json!({
                    "file": &*timing.file, "group": &*timing.group, "interval_seconds": timing.interval_ms as f64 / 1e3,
                    "lag_seconds": timing.lag_ms as f64 / 1e3, "last_duration_seconds": timing.took.as_secs_f64(),
                    "missed": timing.missed, "evaluated": timing.evaluated_at.map(|at| at.rfc3339()),
                })).collect::<Vec<_>>(),
                "rules": set.groups.iter().map(|group| group.rules.len()).sum::<usize>(),
                "event_conditions": set.events.len(),
                "evaluations": counters.evaluations, "reactive": counters.reactive,
                "reactive_over_budget": counters.reactive_over_budget, "missed": counters.missed,
                "failures": counters.failures,
            }),
            notifications,
            watchdog,
            exports,
        }
    });
    Ok(json_answer(StatusCode::OK, &status.await?))
}
