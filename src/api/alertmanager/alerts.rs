//! `/alerts` and `/alerts/groups`.

use super::body::{self, Fields};
use super::{AmError, ReceiverName, filters, flag, map, may_change, meets, moment, receiver_filter, stored};
use crate::api::Shared;
use crate::api::error::json;
use crate::api::prometheus::Params;
use crate::engine::Core;
use crate::model::{Alert, AlertStatus, Timestamp};
use crate::notify::{Matcher, PostRefused, PostedAlert, Suppression};
use crate::telemetry::self_metrics;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use regex::Regex;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reasons that one answer spells out.
const REASONS_SHOWN: usize = 10;

/// An alert in Alertmanager's JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Gettable {
    annotations: BTreeMap<Arc<str>, Arc<str>>,
    ends_at: String,
    fingerprint: String,
    receivers: Vec<ReceiverName>,
    starts_at: String,
    status: Status,
    updated_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "String::is_empty")]
    generator_url: String,
    labels: BTreeMap<Arc<str>, Arc<str>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    inhibited_by: Vec<String>,
    muted_by: Vec<String>,
    silenced_by: Vec<Arc<str>>,
    state: &'static str,
}

#[derive(Debug, Serialize)]
struct Group {
    alerts: Vec<Gettable>,
    labels: BTreeMap<Arc<str>, Arc<str>>,
    receiver: ReceiverName,
}

/// Which alerts are asked for.
struct Filter {
    matchers: Vec<Matcher>,
    receiver: Option<Regex>,
    active: bool,
    silenced: bool,
    inhibited: bool,
    unprocessed: bool,
    muted: bool,
}

impl Filter {
    fn read(params: &Params) -> Result<Self, AmError> {
        Ok(Self {
            matchers: filters(params)?,
            receiver: receiver_filter(params)?,
            active: flag(params, "active"),
            silenced: flag(params, "silenced"),
            inhibited: flag(params, "inhibited"),
            unprocessed: flag(params, "unprocessed"),
            muted: flag(params, "muted"),
        })
    }

    fn takes_receiver(&self, name: &str) -> bool {
        self.receiver.as_ref().is_none_or(|wanted| wanted.is_match(name))
    }

    fn takes(&self, alert: &Alert, suppression: &Suppression, state: &str) -> bool {
        alert.status() == AlertStatus::Firing
            && (self.active || state != "active")
            && (self.unprocessed || state != "unprocessed")
            && (self.silenced || suppression.silences.is_empty())
            && (self.inhibited || suppression.inhibitors.is_empty())
            && meets(&self.matchers, &alert.labels)
    }
}

fn state(core: &Core, suppression: &Suppression) -> &'static str {
    if suppression.is_suppressed() {
        "suppressed"
    } else if core.notifier.is_held() {
        // Not before every rule was evaluated once is it known what becomes of it.
        "unprocessed"
    } else {
        "active"
    }
}

/// The alert as it is shown, with everything about it; `None` when it is not asked for. `muted_by` are the intervals of
/// its group, or of all its routes.
fn show(
    core: &Core,
    alert: &Alert,
    filter: &Filter,
    muted_by: Option<&[String]>,
    now: Timestamp,
) -> Option<(Gettable, Suppression)> {
    let suppression = core.notifier.suppression(&alert.labels, now);
    let state = state(core, &suppression);
    if !filter.takes(alert, &suppression, state) {
        return None;
    }
    let fingerprint = alert.fingerprint();
    // The rules' own are said again with each evaluation; they end when nobody says so for the timeout.
    let times = core.posted.times(fingerprint);
    let ends_at = times.map_or_else(|| now.plus_millis(core.notifier.resolve_timeout_ms()), |times| times.ends_at);
    let shown = Gettable {
        annotations: map(&alert.annotations),
        ends_at: moment(ends_at),
        fingerprint: format!("{fingerprint:016x}"),
        receivers: suppression.receivers.iter().map(|name| ReceiverName { name: name.clone() }).collect(),
        starts_at: moment(alert.fired_at),
        status: Status {
            inhibited_by: suppression.inhibitors.iter().map(|source| format!("{source:016x}")).collect(),
            muted_by: muted_by.unwrap_or(&suppression.intervals).to_vec(),
            silenced_by: suppression.silences.iter().map(|silence| silence.id.clone()).collect(),
            state,
        },
        updated_at: moment(times.map_or(now, |times| times.updated_at)),
        generator_url: alert.generator_url.clone(),
        labels: map(&alert.labels),
    };
    Some((shown, suppression))
}

/// `GET /api/v2/alerts`: what fires, by fingerprint.
///
/// # Errors
/// 400 for a filter that is none.
pub async fn get_alerts(State(backend): State<Shared>, params: Params) -> Result<Response, AmError> {
    let filter = Filter::read(&params)?;
    let list = backend.core.call(move |core, now| {
        core.notifier.silences(now);
        let (_, alerts) = core.alerts(now);
        let shown = alerts.iter().filter_map(|alert| show(core, alert, &filter, None, now));
        let taken =
            shown.filter(|(_, suppression)| suppression.receivers.iter().any(|name| filter.takes_receiver(name)));
        let mut list: Vec<Gettable> = taken.map(|(alert, _)| alert).collect();
        list.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint));
        list
    });
    Ok(json(StatusCode::OK, &list.await?))
}

/// `GET /api/v2/alerts/groups`: what fires, as it is sent together.
///
/// # Errors
/// 400 for a filter that is none.
pub async fn get_groups(State(backend): State<Shared>, params: Params) -> Result<Response, AmError> {
    let filter = Filter::read(&params)?;
    let list = backend.core.call(move |core, now| {
        core.notifier.silences(now);
        let mut list = Vec::new();
        for group in core.notifier.alert_groups(now) {
            if !filter.takes_receiver(&group.receiver) || (!filter.muted && !group.muted_by.is_empty()) {
                continue;
            }
            let shown = group.alerts.iter().filter_map(|alert| show(core, alert, &filter, Some(&group.muted_by), now));
            let mut alerts: Vec<Gettable> = shown.map(|(alert, _)| alert).collect();
            // Here Alertmanager names those that are asked for, sorted; in /alerts they stand in the order of the routes.
            for alert in &mut alerts {
                alert.receivers.retain(|receiver| filter.takes_receiver(&receiver.name));
                alert.receivers.sort();
            }
            if !alerts.is_empty() {
                list.push(Group {
                    alerts,
                    labels: map(&group.labels),
                    receiver: ReceiverName { name: group.receiver.clone() },
                });
            }
        }
        list
    });
    Ok(json(StatusCode::OK, &list.await?))
}

/// `POST /api/v2/alerts`: alerts from outside. The valid ones are taken even where others are refused.
///
/// # Errors
/// 400 with what is wrong with those that are not valid, 503 beyond `limits.posted_alerts`, 422 for what is missing, 403
/// for whom may not.
pub async fn post_alerts(State(backend): State<Shared>, request: Request) -> Result<Response, AmError> {
    may_change(&request)?;
    let body = body::read(&backend, request, "alerts").await?;
    let posted = match &body {
        Value::Null => Vec::new(),
        Value::Array(list) => {
            let read = list.iter().enumerate().map(|(at, one)| read_alert(at, one));
            read.collect::<Result<Vec<PostedAlert>, AmError>>()?
        }
        _ => return Err(body::unreadable("alerts", "the body is not an array of alerts")),
    };
    let total = posted.len();
    let (refused, commands) =
        backend.core.call(move |core, now| (core.post_alerts(posted, now), core.commands())).await?;
    self_metrics::posted_alerts("taken").increment((total - refused.len()) as u64);
    for (_, reason) in &refused {
        self_metrics::posted_alerts(reason.reason()).increment(1);
    }
    if refused.len() < total {
        stored(&backend, commands).await?;
    }
    if refused.is_empty() {
        return Ok(StatusCode::OK.into_response());
    }
    let mut reasons: Vec<String> = Vec::new();
    for (_, reason) in &refused {
        let reason = reason.to_string();
        if !reasons.contains(&reason) && reasons.len() < REASONS_SHOWN {
            reasons.push(reason);
        }
    }
    let is_full = refused.iter().any(|(_, reason)| matches!(reason, PostRefused::Full(_)));
    let status = if is_full { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_REQUEST };
    tracing::warn!(refused = refused.len(), of = total, reasons = reasons.join("; "), "posted alerts were refused");
    Err(AmError::text(status, reasons.join("; ")))
}

fn read_alert(at: usize, value: &Value) -> Result<PostedAlert, AmError> {
    let fields = Fields::of("alerts", format!("{at}."), value)?;
    Ok(PostedAlert {
        labels: fields.required_labels("labels")?,
        annotations: fields.labels("annotations")?,
        starts_at: fields.moment("startsAt")?,
        ends_at: fields.moment("endsAt")?,
        generator_url: fields.uri("generatorURL")?,
    })
}
