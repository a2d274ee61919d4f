//! `GET /api/dashboard`: what the page shows, in one answer.
//!
//! The core gives facts and a read view, a bounded piece of work; the quantiles and the rates by type are PromQL on the
//! view, outside the core. All pages that are open share one answer for [`FRESH`].

mod facts;
mod figures;

pub use facts::{Alert, Health, Receiver, health, receivers, sources};

use super::Shared;
use super::error::{ApiError, json_text};
use crate::telemetry::clock;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use facts::{Facts, Source};
use figures::Figures;
use http::StatusCode;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an answer serves.
const FRESH: Duration = Duration::from_millis(500);
/// How long the count of series serves.
const SERIES_FRESH: Duration = Duration::from_secs(5);
/// The events of so many seconds make the rate of now.
const RATE_SECONDS: usize = 5;
/// The share of failed events now, and each point of its history, are over so many seconds.
const SHARE_SECONDS: usize = 60;
const SHARE_HISTORY_SECONDS: usize = 10;
/// Types in the answer.
const TYPES: usize = 20;

/// The answer that is shared, and what rates of sources are taken from.
#[derive(Debug, Default)]
pub struct Cache {
    answer: Option<(Instant, Bytes)>,
    /// How full the store was: counting goes through all series, so it is done every [`SERIES_FRESH`].
    series: Option<(Instant, facts::Series)>,
    /// What had been received, in the last seconds, the oldest first.
    received: VecDeque<Received>,
}

/// Events by source at one moment.
#[derive(Debug)]
struct Received {
    at: Instant,
    by_source: Vec<(Arc<str>, u64)>,
}

/// A point of history: seconds since the epoch, then values; null where there was nothing to measure.
type Point<const N: usize> = [Option<f64>; N];

#[derive(Debug, Serialize)]
struct Dashboard {
    service: String,
    instance: String,
    version: &'static str,
    now: String,
    uptime_seconds: f64,
    ingest_url: String,
    health: Health,
    rate: Rate,
    errors: Errors,
    latency: Latency,
    alerts: Vec<Alert>,
    sources: Vec<SourceRow>,
    types: Vec<TypeRow>,
    queue: super::QueueStatus,
    series: facts::Series,
    notifications: Notifications,
}

#[derive(Debug, Serialize)]
struct Rate {
    now: f64,
    history: Vec<Point<2>>,
}

#[derive(Debug, Serialize)]
struct Errors {
    share: Option<f64>,
    history: Vec<Point<2>>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Latency {
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    history: Vec<Point<4>>,
}

#[derive(Debug, Serialize)]
struct SourceRow {
    name: Arc<str>,
    kind: &'static str,
    state: &'static str,
    reason: String,
    received_total: u64,
    rate: f64,
}

/// One event type.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct TypeRow {
    r#type: String,
    rate: f64,
    failed_share: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Notifications {
    receivers: Vec<Receiver>,
}

/// `GET /api/dashboard`.
///
/// # Errors
/// 503 when the core does not answer.
pub async fn dashboard(State(backend): State<Shared>) -> Result<Response, ApiError> {
    // An async lock: whoever comes while an answer is made waits for that one instead of making another.
    let mut cache = backend.dashboard.lock().await;
    let now = clock::instant();
    if let Some((made, answer)) = &cache.answer
        && now.duration_since(*made) < FRESH
    {
        return Ok(json_text(StatusCode::OK, answer.clone()));
    }
    let counts_series = cache.series.as_ref().is_none_or(|(made, _)| now.duration_since(*made) >= SERIES_FRESH);
    let mut facts = facts::read(&backend, counts_series).await?;
    if let Some(series) = facts.series.take() {
        cache.series = Some((now, series));
    }
    let series = cache.series.as_ref().map(|(_, series)| series.clone()).unwrap_or_default();
    let rates = cache.source_rates(now, &facts.sources);
    let identity = backend.identity.clone();
    let ingest_url = format!("http://{}", backend.addresses.ingest);
    let making = tokio::task::spawn_blocking(move || {
        let figures = Figures::of(&facts.view, facts.now);
        let dashboard = assemble(facts, figures, series, &rates, identity, ingest_url);
        serde_json::to_vec(&dashboard).map(Bytes::from)
    });
    let failed = |error: &dyn std::fmt::Display| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the dashboard failed: {error}"), "please report this")
    };
    let answer = making.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    cache.answer = Some((now, answer.clone()));
    Ok(json_text(StatusCode::OK, answer))
}

impl Cache {
    /// Events a second by source, over the last [`RATE_SECONDS`] as far as this page was asked for in that time.
    fn source_rates(&mut self, now: Instant, sources: &[Source]) -> Vec<f64> {
        let window = Duration::from_secs(RATE_SECONDS as u64);
        while self.received.len() > 1 && now.duration_since(self.received[0].at) > window {
            self.received.pop_front();
        }
        let rates = sources
            .iter()
            .map(|source| {
                let then = self.received.front()?;
                let before = then.by_source.iter().find(|(name, _)| *name == source.name)?.1;
                let seconds = now.duration_since(then.at).as_secs_f64();
                (seconds > 0.1).then(|| source.received.saturating_sub(before) as f64 / seconds)
            })
            .map(Option::unwrap_or_default)
            .collect();
        let by_source = sources.iter().map(|source| (source.name.clone(), source.received)).collect();
        self.received.push_back(Received { at: now, by_source });
        rates
    }
}

fn assemble(
    facts: Facts,
    figures: Figures,
    series: facts::Series,
    rates: &[f64],
    identity: super::Identity,
    ingest_url: String,
) -> Dashboard {
    let counts: Vec<(i64, u64, u64)> = facts.history.iter().map(|one| (one.second, one.events, one.failed)).collect();
    let recent = &counts[counts.len().saturating_sub(RATE_SECONDS)..];
    let events: u64 = recent.iter().map(|one| one.1).sum();
    let Figures { latency, mut types } = figures;
    types.truncate(TYPES);
    Dashboard {
        uptime_seconds: facts.now.micros_since(identity.started) as f64 / 1e6,
        service: identity.service,
        instance: identity.instance,
        version: super::VERSION,
        now: facts.now.rfc3339(),
        ingest_url,
        rate: Rate {
            now: if recent.is_empty() { 0.0 } else { events as f64 / recent.len() as f64 },
            history: counts.iter().map(|one| [Some(one.0 as f64), Some(one.1 as f64)]).collect(),
        },
        errors: Errors {
            share: share(&counts[counts.len().saturating_sub(SHARE_SECONDS)..]),
            history: counts
                .iter()
                .enumerate()
                .map(|(at, one)| {
                    [Some(one.0 as f64), share(&counts[(at + 1).saturating_sub(SHARE_HISTORY_SECONDS)..=at])]
                })
                .collect(),
        },
        latency,
        health: facts.health,
        alerts: facts.alerts,
        sources: facts
            .sources
            .into_iter()
            .zip(rates)
            .map(|(source, rate)| SourceRow {
                name: source.name,
                kind: source.kind,
                state: source.state,
                reason: source.reason,
                received_total: source.received,
                rate: *rate,
            })
            .collect(),
        types,
        queue: facts.queue,
        series,
        notifications: Notifications { receivers: facts.receivers },
    }
}

/// Failed events of all events; `None` without events.
fn share(counts: &[(i64, u64, u64)]) -> Option<f64> {
    let (events, failed) = counts.iter().fold((0, 0), |(events, failed), one| (events + one.1, failed + one.2));
    (events > 0).then(|| failed as f64 / events as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_events_that_came() {
        assert_eq!(share(&[(1, 4, 1), (2, 0, 0), (3, 4, 1)]), Some(0.25));
        assert_eq!(share(&[(1, 0, 0)]), None);
        assert_eq!(share(&[]), None);
    }

    #[test]
    fn rates_of_sources_are_over_the_last_seconds() {
        let mut cache = Cache::default();
        let start = clock::instant();
        let source =
            |received| Source { name: "a".into(), kind: "http", state: "live", reason: String::new(), received };
        let mut rates = Vec::new();
        for second in 0..10 {
            let now = start + Duration::from_secs(second);
            rates.push(cache.source_rates(now, &[source(second * second)])[0]);
        }
        assert_eq!(rates[..3], [0.0, 1.0, 2.0]);
        // From second 4 (16 events) to second 9 (81): 65 in 5 s.
        assert_eq!(rates[9], 13.0);
    }
}
