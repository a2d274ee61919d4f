//! What the dashboard takes from the core in one call, and from the parts around it.

use super::figures;
use crate::api::{CoreGone, QueueStatus, Shared};
use crate::engine::{Core, SecondTotals};
use crate::health::Status;
use crate::model::{Labels, Timestamp};
use crate::notify::{OutboxStatus, Silence};
use crate::rules::AlertPhase;
use crate::series::{StoreStats, View};
use crate::source::SourceState;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Alerts of each state in the answer; a page shows fifty.
const ALERTS: usize = 200;

/// An alert as the page shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alert {
    name: String,
    state: &'static str,
    severity: Option<String>,
    labels: BTreeMap<Arc<str>, Arc<str>>,
    annotations: BTreeMap<Arc<str>, Arc<str>>,
    value: String,
    active_at: Option<String>,
    fired_at: Option<String>,
    resolved_at: Option<String>,
    summary: String,
    silenced_by: Vec<SilencedBy>,
    /// Names of the alerts that inhibit it.
    inhibited_by: Vec<String>,
    /// Time intervals that mute its routes.
    muted_by: Vec<String>,
}

/// A silence that holds for an alert.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SilencedBy {
    id: Arc<str>,
    created_by: String,
    comment: String,
    ends_at: String,
}

/// One health check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// What kind of check.
    pub kind: &'static str,
    /// healthy, degraded, unhealthy or unknown.
    pub status: &'static str,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Option<String>,
}

/// The service's health.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Health {
    /// The worst of the checks.
    pub status: &'static str,
    /// The checks in order of their names.
    pub checks: Vec<Check>,
}

/// A source.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    pub name: Arc<str>,
    pub kind: &'static str,
    pub state: &'static str,
    pub reason: String,
    pub received: u64,
}

/// How full the series store is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Series {
    count: usize,
    limit: usize,
    limited: Vec<Limited>,
}

/// A metric that met a limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limited {
    metric: String,
    /// The label with the most values.
    label: Option<String>,
    /// Updates that got no series of their own.
    dropped: u64,
}

/// A receiver of notifications.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Receiver {
    name: Arc<str>,
    sent: u64,
    failed: u64,
    pending: usize,
    last_error: Option<String>,
}

/// Everything.
pub struct Facts {
    pub now: Timestamp,
    pub view: View,
    pub history: Vec<SecondTotals>,
    pub health: Health,
    pub alerts: Vec<Alert>,
    pub sources: Vec<Source>,
    pub queue: QueueStatus,
    /// `None` when it was not asked for.
    pub series: Option<Series>,
    pub receivers: Vec<Receiver>,
}

/// Asks the core, and the parts around it.
pub async fn read(backend: &Shared, counts_series: bool) -> Result<Facts, CoreGone> {
    let (outbox, queue) = ((backend.surroundings.outbox)(), backend.queue());
    let limit = backend.limits().series;
    let facts = backend.core.call(move |core, now| Facts {
        now,
        view: core.engine.view(&figures::selections(now)),
        history: core.engine.totals().history(now),
        health: health(core),
        alerts: alerts(core, now),
        sources: sources(core),
        queue,
        series: counts_series.then(|| series(&core.engine.store().stats(), limit)),
        receivers: receivers(&outbox),
    });
    facts.await
}

fn map(labels: &Labels) -> BTreeMap<Arc<str>, Arc<str>> {
    labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect()
}

/// One line about an alert: its summary, else its description.
fn summary(annotations: &Labels) -> String {
    let first = ["summary", "description", "message"].iter().find_map(|name| annotations.get(name));
    first.and_then(|text| text.lines().next()).unwrap_or("").to_owned()
}

fn alerts(core: &mut Core, now: Timestamp) -> Vec<Alert> {
    let severity = |labels: &Labels| labels.get("severity").map(str::to_owned);
    let active = core.engine.rules().describe_alerts().alerts.into_iter();
    let pending = active.filter(|alert| alert.state == AlertPhase::Pending).take(ALERTS).map(|alert| Alert {
        name: alert.labels.get("alertname").unwrap_or("").to_owned(),
        state: "pending",
        severity: severity(&alert.labels),
        summary: summary(&alert.annotations),
        labels: map(&alert.labels),
        annotations: map(&alert.annotations),
        value: alert.value,
        active_at: Some(alert.active_at),
        fired_at: None,
        resolved_at: None,
        silenced_by: Vec::new(),
        inhibited_by: Vec::new(),
        muted_by: Vec::new(),
    });
    let mut all: Vec<Alert> = pending.collect();
    core.notifier.silences(now);
    let (_, published) = core.alerts(now);
    for is_firing in [true, false] {
        let of_state = published.iter().filter(|alert| alert.resolved_at.is_none() == is_firing);
        all.extend(of_state.take(ALERTS).map(|alert| {
            suppressed(
                core,
                alert,
                now,
                Alert {
                    name: alert.name().to_owned(),
                    state: if is_firing { "firing" } else { "resolved" },
                    severity: severity(&alert.labels),
                    summary: summary(&alert.annotations),
                    labels: map(&alert.labels),
                    annotations: map(&alert.annotations),
                    // A posted alert has none.
                    value: if core.posted.times(alert.fingerprint()).is_some() && alert.value.is_nan() {
                        String::new()
                    } else {
                        crate::promql::format_exponent(alert.value, None)
                    },
                    active_at: Some(alert.active_at.rfc3339()),
                    fired_at: Some(alert.fired_at.rfc3339()),
                    resolved_at: alert.resolved_at.map(Timestamp::rfc3339),
                    silenced_by: Vec::new(),
                    inhibited_by: Vec::new(),
                    muted_by: Vec::new(),
                },
            )
        }));
    }
    all
}

/// Adds by whom a firing alert is suppressed.
fn suppressed(core: &Core, alert: &crate::model::Alert, now: Timestamp, shown: Alert) -> Alert {
    if alert.resolved_at.is_some() {
        return shown;
    }
    let suppression = core.notifier.suppression(&alert.labels, now);
    let silence = |silence: &Arc<Silence>| SilencedBy {
        id: silence.id.clone(),
        created_by: silence.created_by.clone(),
        comment: silence.comment.clone(),
        ends_at: silence.ends_at.rfc3339(),
    };
    let name = |source: &u64| core.notifier.alert(*source).map(|source| source.name().to_owned());
    let mut inhibited_by: Vec<String> = suppression.inhibitors.iter().filter_map(name).collect();
    inhibited_by.dedup();
    Alert {
        silenced_by: suppression.silences.iter().map(silence).collect(),
        inhibited_by,
        muted_by: suppression.intervals,
        ..shown
    }
}

/// What the checks say. A source that is lost makes a healthy service one that nobody can judge: what it would have said
/// is missing.
pub fn health(core: &Core) -> Health {
    let report = core.engine.checks().report();
    let is_deaf = core.engine.sources().values().any(|source| matches!(source.state, SourceState::Lost { .. }));
    let status = if is_deaf { report.status.max(Status::Unknown) } else { report.status };
    Health {
        status: status.name(),
        checks: report
            .checks
            .into_iter()
            .map(|check| Check {
                name: check.name,
                kind: check.kind,
                status: check.status.name(),
                reason: check.reason,
                since: check.since.map(Timestamp::rfc3339),
            })
            .collect(),
    }
}

impl Health {
    /// The checks as an object by name.
    pub fn checks_by_name(&self) -> serde_json::Map<String, serde_json::Value> {
        let value = |check: &Check| serde_json::json!({"status": check.status, "reason": check.reason, "since": check.since, "kind": check.kind});
        self.checks.iter().map(|check| (check.name.clone(), value(check))).collect()
    }
}

/// The sources in order of their names.
pub fn sources(core: &Core) -> Vec<Source> {
    let one = |(name, status): (&Arc<str>, &crate::engine::SourceStatus)| {
        let (state, reason) = (status.state.word(), status.state.detail());
        Source { name: name.clone(), kind: status.kind, state, reason, received: status.events }
    };
    core.engine.sources().iter().map(one).collect()
}

fn series(stats: &StoreStats, limit: usize) -> Series {
    let limited = stats.metrics.iter().filter(|metric| !metric.limited.is_empty());
    Series {
        count: stats.live_series + stats.received_series,
        limit,
        limited: limited
            .map(|metric| Limited {
                metric: metric.name.clone(),
                label: metric.widest_label.as_ref().map(|(name, _)| name.clone()),
                dropped: metric.limited.values().sum(),
            })
            .collect(),
    }
}

/// The receivers in order of their names, their integrations together.
pub fn receivers(outbox: &OutboxStatus) -> Vec<Receiver> {
    let mut by_name: BTreeMap<Arc<str>, Receiver> = BTreeMap::new();
    for lane in &outbox.lanes {
        let name = lane.receiver.clone();
        let entry = by_name.entry(name.clone()).or_insert_with(|| Receiver { name, ..Receiver::default() });
        let counters = &lane.counters;
        entry.sent += counters.delivered;
        entry.failed += counters.retried + counters.refused + counters.expired + counters.outbox_full;
        entry.pending += lane.pending;
        if let Some(error) = &lane.last_error {
            entry.last_error = Some(error.error.clone());
        }
    }
    by_name.into_values().collect()
}
