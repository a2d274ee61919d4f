//! `status/buildinfo`, `status/runtimeinfo`, `status/flags`, `status/tsdb`.

use super::{Params, PromError, success};
use crate::api::Shared;
use crate::model::format_duration_ms;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

/// The version of Prometheus whose API and PromQL this is: clients choose their requests by it.
const PROMETHEUS_VERSION: &str = "3.0.0";

/// `/api/v1/status/buildinfo`. `features` is absent, which tells Grafana that this is no Mimir.
///
/// # Errors
/// None in practice.
pub async fn buildinfo() -> Result<Response, PromError> {
    let version = concat!("sidewatch-", env!("CARGO_PKG_VERSION"));
    success(&json!({
        "version": format!("{PROMETHEUS_VERSION}+{version}"),
        "revision": version,
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }))
}

/// `/api/v1/status/runtimeinfo`.
///
/// # Errors
/// In Prometheus's envelope.
pub async fn runtimeinfo(State(backend): State<Shared>) -> Result<Response, PromError> {
    let series = backend.core.call(|core, _| core.engine.store().stats().live_series).await?;
    let reload = (backend.surroundings.reload_status)();
    success(&json!({
        "startTime": backend.identity.started.rfc3339(),
        "serverTime": crate::telemetry::clock::now().rfc3339(),
        "reloadConfigSuccess": reload.succeeded,
        "lastConfigTime": reload.at.rfc3339(),
        "storageRetention": "1h",
        "timeSeriesCount": series,
        "corruptionCount": 0,
        "goroutineCount": 0,
    }))
}

/// `/api/v1/status/flags`: what holds here, under Prometheus's names.
///
/// # Errors
/// None in practice.
pub async fn flags(State(backend): State<Shared>) -> Result<Response, PromError> {
    let limits = backend.limits();
    success(&json!({
        "query.lookback-delta": format_duration_ms(crate::promql::Options::default().lookback_ms),
        "query.max-samples": limits.query_samples.to_string(),
        "query.timeout": format_duration_ms(limits.query_timeout_ms),
        "query.max-concurrency": crate::api::QUERIES.to_string(),
        "web.listen-address": backend.addresses.observe.to_string(),
    }))
}

/// `/api/v1/status/tsdb`.
///
/// # Errors
/// In Prometheus's envelope.
pub async fn tsdb(State(backend): State<Shared>, params: Params) -> Result<Response, PromError> {
    #[derive(Serialize)]
    struct Count {
        name: String,
        value: usize,
    }
    let limit = params.limit("limit")?.unwrap_or(10);
    let stats = backend.core.call(|core, _| core.engine.store().stats()).await?;
    let mut by_metric: Vec<Count> =
        stats.metrics.into_iter().map(|metric| Count { name: metric.name, value: metric.series }).collect();
    by_metric.sort_by(|a, b| b.value.cmp(&a.value).then_with(|| a.name.cmp(&b.name)));
    let series: usize = by_metric.iter().map(|metric| metric.value).sum();
    by_metric.truncate(limit);
    success(&json!({
        "headStats": {"numSeries": series, "chunkCount": stats.chunks},
        "seriesCountByMetricName": by_metric,
    }))
}
