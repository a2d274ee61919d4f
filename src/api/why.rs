//! `GET /api/alerts/why?name=NAME`: why an alert is in the state it is in, and who is told of it.
//!
//! The core gives what it knows in one bounded piece of work; the clauses are evaluated on a read view elsewhere.

use super::error::{ApiError, json};
use super::prometheus::Params;
use super::{Shared, history, notifications};
use crate::config::diagnostic::nearest;
use crate::engine::Core;
use crate::model::{Labels, Timestamp};
use crate::notify::{Decision, GroupWhy, Letter};
use crate::promql::{Options, Query, SampleValue, Value as Result_, format_value};
use crate::rules::clauses::Clause;
use crate::rules::{AlertWhy, RuleWhy};
use crate::series::{Selection, View};
use crate::state::HistoryQuery;
use crate::telemetry::clock;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Series of one clause in the answer.
const SERIES_SHOWN: usize = 20;
/// Lines of the history about the rule's notifications.
const LAST_LINES: usize = 5;
/// Messages that wait, in the answer.
const WAITING_SHOWN: usize = 20;
/// How long the clauses may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the core knows.
struct Facts {
    now: Timestamp,
    rules: Vec<Rule>,
    names: Vec<std::sync::Arc<str>>,
}

struct Rule {
    why: RuleWhy,
    /// By alert, in order; for a rule without alerts one entry for the labels that an alert would have.
    routes: Vec<Vec<GroupWhy>>,
}

/// `GET /api/alerts/why?name=NAME`.
///
/// # Errors
/// 400 without a name, 404 with the nearest names, 503 when the core does not answer.
pub async fn why(State(backend): State<Shared>, params: Params) -> Result<Response, ApiError> {
    let Some(name) = params.get("name").map(str::to_owned) else {
        return Err(ApiError::bad_request("name: which alert?", "example: /api/alerts/why?name=LowStock"));
    };
    let wanted = name.clone();
    let facts = backend.core.call(move |core, now| facts(core, &wanted, now)).await?;
    if facts.rules.is_empty() {
        return Err(unknown(&name, &facts.names));
    }
    let mut clauses: Vec<(usize, usize, Clause, i64)> = Vec::new();
    for (at, rule) in facts.rules.iter().enumerate() {
        let at_ms = facts.now.millis() - rule.why.query_offset_ms;
        clauses.extend(rule.why.clauses.iter().cloned().enumerate().map(|(index, clause)| (at, index, clause, at_ms)));
    }
    let options = Options { max_samples: backend.limits().query_samples, ..Options::default() };
    let parsed: Vec<Parsed> = clauses.iter().map(|(_, _, clause, at_ms)| Parsed::new(clause, *at_ms)).collect();
    let selections: Vec<Selection> = parsed.iter().flat_map(|one| one.selections(&options)).collect();
    let view = backend.core.call(move |core, _| core.engine.view(&selections)).await?;
    let making = tokio::task::spawn_blocking(move || evaluate(&parsed, &view, options));
    let values = making.await.map_err(|error| {
        let error = format!("the evaluation failed: {error}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error, "please report this")
    })?;
    let letters: Vec<Letter> = backend.surroundings.deliveries.letters();
    let waiting = letters.iter().filter(|letter| letter.rules.contains(&name)).rev().take(WAITING_SHOWN);
    let waiting: Vec<Value> = waiting.map(notifications::letter).collect();
    let query = HistoryQuery {
        kind: Some("notification".into()),
        rule: Some(name.clone()),
        limit: LAST_LINES,
        ..HistoryQuery::default()
    };
    // Without a history the rest still helps.
    let last = backend.surroundings.history.history(query).await.unwrap_or_default();
    let last: Vec<Value> = last.iter().map(history::parse).collect();
    let by_rule = |at: usize| {
        let mine = clauses.iter().zip(&values).filter(move |((rule, ..), _)| *rule == at);
        mine.map(|(_, value)| value.clone()).collect::<Vec<Value>>()
    };
    let rules: Vec<Value> = facts.rules.iter().enumerate().map(|(at, rule)| rule.json(by_rule(at))).collect();
    let answer = json!({
        "name": name, "now": facts.now.rfc3339(), "rules": rules, "waiting": waiting, "last_notifications": last,
    });
    Ok(json(StatusCode::OK, &answer))
}

fn facts(core: &mut Core, name: &str, now: Timestamp) -> Facts {
    let rules = core.engine.rules();
    let found = rules.why(name, now);
    let names = if found.is_empty() { rules.alert_names() } else { Vec::new() };
    let routes = |why: &RuleWhy| {
        if why.alerts.is_empty() {
            return vec![core.notifier.why(&why.labels, now)];
        }
        why.alerts.iter().map(|alert| core.notifier.why(&alert.labels, now)).collect()
    };
    let rules = found.into_iter().map(|why| Rule { routes: routes(&why), why }).collect();
    Facts { now, rules, names }
}

fn unknown(name: &str, names: &[std::sync::Arc<str>]) -> ApiError {
    let lower = name.to_ascii_lowercase();
    let near = nearest(name, names.iter().map(|name| &**name));
    let mut alike: Vec<&str> = near.into_iter().collect();
    for known in names.iter().filter(|known| known.to_ascii_lowercase().contains(&lower)).take(5) {
        if !alike.contains(&&**known) {
            alike.push(known);
        }
    }
    let hint = match alike.as_slice() {
        [] if names.len() <= 20 => format!("there is {}", names.join(", ")),
        [] => format!("there are {} rules: GET /api/v1/rules?type=alert lists them", names.len()),
        alike => format!("did you mean {}?", alike.join(" or ")),
    };
    ApiError::new(StatusCode::NOT_FOUND, format!("there is no alert named {name:?}"), hint)
}

/// A clause, ready to be evaluated.
struct Parsed {
    clause: Clause,
    at_ms: i64,
    whole: Option<Query>,
    left: Option<Query>,
}

impl Parsed {
    fn new(clause: &Clause, at_ms: i64) -> Self {
        // The texts come from a tree, so that they parse.
        let parse = |text: &str| Query::parse(text).ok();
        Self { at_ms, whole: parse(&clause.text), left: parse(&clause.left), clause: clause.clone() }
    }

    fn selections(&self, options: &Options<'_>) -> Vec<Selection> {
        let queries = [&self.whole, &self.left].into_iter().flatten();
        queries.flat_map(|query| query.selections(self.at_ms, self.at_ms, options)).collect()
    }
}

fn evaluate(parsed: &[Parsed], view: &View, options: Options<'static>) -> Vec<Value> {
    let end = clock::instant() + TIMEOUT;
    let is_over = move || clock::instant() >= end;
    let options = Options { deadline: Some(&is_over), ..options };
    parsed.iter().map(|one| one.value(view, &options)).collect()
}

impl Parsed {
    /// The clause with its values now, and for which of them it holds.
    fn value(&self, view: &View, options: &Options<'_>) -> Value {
        let Clause { joined_by, text, left, operator, right } = &self.clause;
        let mut answer = json!({
            "joined_by": joined_by, "text": text, "left": left, "operator": operator, "right": right,
        });
        let samples = |query: &Option<Query>| -> Result<Vec<(Labels, String)>, String> {
            let Some(query) = query else { return Err("it cannot be read".into()) };
            let evaluation = query.instant(view, self.at_ms, options).map_err(|error| error.to_string())?;
            let text = |value: &SampleValue| match value {
                SampleValue::Float(value) => format_value(*value),
                SampleValue::Histogram(histogram) => histogram.to_string(),
            };
            Ok(match evaluation.value {
                Result_::Vector(samples) => {
                    samples.into_iter().map(|sample| (sample.labels, text(&sample.value))).collect()
                }
                Result_::Scalar { value, .. } => vec![(Labels::default(), format_value(value))],
                Result_::String { value, .. } => vec![(Labels::default(), value)],
                Result_::Matrix(_) => Vec::new(),
            })
        };
        match (samples(&self.left), samples(&self.whole)) {
            (Ok(left), Ok(whole)) => {
                let bare = |labels: &Labels| labels.filtered(|name| name != crate::model::METRIC_NAME);
                let holding: BTreeSet<Labels> = whole.iter().map(|(labels, _)| bare(labels)).collect();
                let mut rows: Vec<(bool, Labels, String)> =
                    left.into_iter().map(|(labels, value)| (holding.contains(&bare(&labels)), labels, value)).collect();
                rows.sort_by(|a, b| (!a.0, &a.1).cmp(&(!b.0, &b.1)));
                answer["series_total"] = rows.len().into();
                answer["holds_total"] = whole.len().into();
                let shown = rows.into_iter().take(SERIES_SHOWN);
                answer["series"] = shown
                    .map(|(holds, labels, value)| json!({"labels": map(&labels), "value": value, "holds": holds}))
                    .collect();
            }
            (Err(error), _) | (_, Err(error)) => answer["error"] = error.into(),
        }
        answer
    }
}

fn map(labels: &Labels) -> BTreeMap<&str, &str> {
    labels.iter().map(|label| (&*label.name, &*label.value)).collect()
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1e3
}

impl Rule {
    fn json(&self, clauses: Vec<Value>) -> Value {
        let why = &self.why;
        let event = why.event.as_ref().map(|event| {
            let keys =
                event.keys.iter().map(|key| json!({"labels": map(&key.labels), "holds": key.holds, "text": key.text}));
            json!({
                "within_seconds": seconds(event.within_ms), "keys_total": event.keys_total, "paused": event.paused,
                "keys": keys.collect::<Vec<Value>>(), "counters": event.counters,
            })
        });
        let alerts = why.alerts.iter().zip(&self.routes).map(|(alert, routes)| alert_json(alert, routes));
        let alerts: Vec<Value> = alerts.collect();
        let routes: Vec<Value> = match why.alerts.is_empty() {
            true => self.routes.iter().flatten().map(route_json).collect(),
            false => Vec::new(),
        };
        json!({
            "file": *why.file, "group": *why.group, "kind": why.kind, "condition": why.condition, "state": why.state.name(),
            "for_seconds": seconds(why.timing.for_ms), "keep_firing_for_seconds": seconds(why.timing.keep_firing_for_ms),
            "interval_seconds": seconds(why.interval_ms),
            "last_evaluation": why.last_evaluation.map(Timestamp::rfc3339),
            "next_evaluation": why.next_evaluation.map(Timestamp::rfc3339),
            "last_error": why.last_error, "clauses": clauses, "event": event, "alerts": alerts,
            "alerts_total": why.alerts_total, "routes": routes,
        })
    }
}

fn alert_json(alert: &AlertWhy, routes: &[GroupWhy]) -> Value {
    json!({
        "labels": map(&alert.labels), "state": alert.state, "summary": alert.summary, "value": format_value(alert.value),
        "active_at": alert.active_at.rfc3339(), "fired_at": alert.fired_at.map(Timestamp::rfc3339),
        "resolved_at": alert.resolved_at.map(Timestamp::rfc3339), "for_left_seconds": alert.for_left_ms.map(seconds),
        "keep_firing_left_seconds": alert.keep_left_ms.map(seconds),
        "routes": routes.iter().map(route_json).collect::<Vec<Value>>(),
    })
}

fn route_json(route: &GroupWhy) -> Value {
    let in_the_way = route
        .in_the_way
        .iter()
        .map(|way| json!({"by": way.by, "what": way.what, "until": way.until.map(Timestamp::rfc3339)}));
    let decision = |decision: &Decision| match decision {
        Decision::Send(reason) => json!({"send": reason}),
        Decision::Withhold(reason) => json!({"withhold": reason}),
    };
    let flapping = route.flapping.map(|flap| {
        json!({
            "since": flap.since.rfc3339(), "changes": flap.changes, "withheld": flap.withheld,
            "steady_at": flap.steady_at.rfc3339(),
        })
    });
    json!({
        "receiver": *route.receiver, "integrations": route.integrations, "route": *route.route,
        "group_key": route.group_key, "group_labels": map(&route.group_labels),
        "group_wait_seconds": seconds(route.group_wait_ms), "group_interval_seconds": seconds(route.group_interval_ms),
        "repeat_interval_seconds": seconds(route.repeat_interval_ms), "at_once": route.at_once,
        "next_flush": route.next_flush.map(Timestamp::rfc3339), "last_flush": route.last_flush.map(Timestamp::rfc3339),
        "told_at": route.told.map(|told| told.at.rfc3339()), "receiver_knows": route.told.is_some_and(|told| told.knows),
        "decisions": route.decisions.iter().map(decision).collect::<Vec<Value>>(),
        "in_the_way": in_the_way.collect::<Vec<Value>>(), "flapping": flapping,
    })
}
