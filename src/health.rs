//! Health checks and their report: a deterministic state machine.
//!
//! Three kinds: an event that must keep coming (heartbeat), a PromQL expression that must stay empty, an HTTP endpoint
//! that must answer. The shell evaluates and probes; what it finds comes back as an input. Deaf is not silent: while a
//! source that it was heard from (or that `source:` names) is lost or catching up, a heartbeat is unknown, not failed; one
//! that was heard from nowhere yet may be waiting for any source. Downtime of sidewatch itself counts for nothing.

mod reported;

use crate::config::schema::{HealthConfig, HealthKind, Named};
use crate::config::{Diagnostics, Spanned};
use crate::mapping::select::Select;
use crate::model::{EventBatch, FieldPlanBuilder, Timestamp, format_duration_ms};
use crate::promql::{Options, Query, Value};
use crate::series::Storage;
use crate::source::SourceState;
use reported::Reported;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a check, or all of them together, says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All is well.
    Healthy,
    /// Nobody can tell: not heard yet, a source is lost, an expression cannot be evaluated.
    Unknown,
    /// Something is wrong, and the service still does its work.
    Degraded,
    /// It does not.
    Unhealthy,
}

impl Status {
    /// The word in JSON, on the page and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unknown => "unknown",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What a probe found: nothing wrong, or why not.
pub type ProbeOutcome = Result<(), String>;

/// A check changed its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The check.
    pub check: String,
    /// When.
    pub at: Timestamp,
    /// Before.
    pub from: Status,
    /// Now.
    pub to: Status,
    /// Why.
    pub reason: String,
}

/// One check in the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// Its name.
    pub name: String,
    /// `event`, `expr`, `http` or `reported`.
    pub kind: &'static str,
    /// What it says.
    pub status: Status,
    /// Why; empty while healthy.
    pub reason: String,
    /// Since when; `None` before the first result.
    pub since: Option<Timestamp>,
}

/// The service's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The worst of the checks; healthy when there are none.
    pub status: Status,
    /// The checks in their order.
    pub checks: Vec<CheckReport>,
}

/// An HTTP probe that the shell runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSpec {
    /// The check's name.
    pub check: String,
    /// What to ask.
    pub url: String,
    /// The status that is right; `None` for any 2xx.
    pub status: Option<u16>,
    /// A text that the answer must hold.
    pub body: Option<String>,
    /// How long to wait, in milliseconds.
    pub timeout_ms: i64,
    /// How often to ask, in milliseconds.
    pub every_ms: i64,
}

/// Sources that a heartbeat remembers having been heard from.
const MAX_SOURCES: usize = 64;

#[derive(Clone, Debug)]
enum Kind {
    Event { select: Arc<Select>, within_ms: i64, sources: Vec<String> },
    Expr { query: Arc<Query>, text: String },
    Http(ProbeSpec),
}

#[derive(Clone, Debug)]
struct Check {
    name: String,
    kind: Kind,
    /// The entry as it was read, to see whether a reload changes it.
    config: HealthConfig,
    failing: Status,
    status: Status,
    reason: String,
    since: Option<Timestamp>,
    /// A heartbeat: last heard, or when it began to be listened for.
    heard: Timestamp,
    ever_heard: bool,
    /// The sources that it was heard from.
    from: BTreeSet<Arc<str>>,
    /// An expression: when it is evaluated next, and whether it is being evaluated.
    next_ms: i64,
    in_flight: bool,
}

/// All checks.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    checks: Vec<Check>,
    interval_ms: i64,
    now: Timestamp,
    /// Sources that are lost or catching up, with the reason.
    deaf: BTreeMap<Arc<str>, String>,
    transitions: Vec<Transition>,
    /// Checks that are reported from outside.
    reported: Vec<Reported>,
}

/// Name, status, reason, since when, last heard, ever heard, heard from where.
type SavedCheck = (String, Status, String, Option<Timestamp>, Timestamp, bool, BTreeSet<Arc<str>>);

#[derive(Serialize, Deserialize)]
struct Saved {
    at: Timestamp,
    checks: Vec<SavedCheck>,
}

/// Evaluates a check's expression: `Some` value when its condition holds (a result that is not empty, a scalar that is
/// not 0), `None` when it does not.
///
/// # Errors
/// The expression cannot be evaluated, or gives a text.
pub fn evaluate(
    query: &Query,
    storage: &dyn Storage,
    at_ms: i64,
    options: &Options<'_>,
) -> Result<Option<f64>, String> {
    match query.instant(storage, at_ms, options).map_err(|error| error.to_string())?.value {
        Value::Scalar { value, .. } => Ok((value != 0.0).then_some(value)),
        Value::Vector(samples) => Ok(samples.first().map(|sample| match &sample.value {
            crate::promql::SampleValue::Float(value) => *value,
            crate::promql::SampleValue::Histogram(histogram) => histogram.count,
        })),
        _ => Err("the expression gives neither a vector nor a scalar".into()),
    }
}

impl Check {
    /// Whether the loss of a source makes the silence of this check mean nothing.
    fn depends_on(&self, source: &Arc<str>) -> bool {
        match &self.kind {
            Kind::Event { sources, .. } if !sources.is_empty() => sources.iter().any(|known| **known == **source),
            Kind::Event { .. } => self.from.is_empty() || self.from.contains(source),
            Kind::Expr { .. } | Kind::Http(_) => false,
        }
    }
}

impl Checks {
    /// Compiles every entry; `interval_ms` is how often expressions are evaluated.
    pub fn compile(
        entries: &[Named<HealthConfig>],
        interval_ms: i64,
        plan: &mut FieldPlanBuilder,
        found: &mut Diagnostics,
    ) -> Self {
        let check = |Named { name, value }: &Named<HealthConfig>| compile_one(name, value, plan, found);
        Self { checks: entries.iter().filter_map(check).collect(), interval_ms, ..Self::default() }
    }

    /// Begins to listen: heartbeats have their whole time from now on.
    pub fn start(&mut self, now: Timestamp) {
        self.now = now;
        for check in &mut self.checks {
            (check.heard, check.next_ms) = (now, now.millis());
        }
    }

    /// Takes heartbeats from a batch.
    pub fn observe(&mut self, now: Timestamp, batch: &EventBatch) {
        self.now = now;
        for at in 0..self.checks.len() {
            let Kind::Event { select, sources, .. } = &self.checks[at].kind else { continue };
            if !sources.is_empty() && !sources.iter().any(|source| **source == *batch.source) {
                continue;
            }
            let select = select.clone();
            let heard = batch.events.iter().enumerate().any(|(row, event)| {
                select.matches_type(batch.text(event.event_type)) && select.matches_fields(batch, row, event)
            });
            if heard {
                let check = &mut self.checks[at];
                (check.heard, check.ever_heard) = (now, true);
                if !check.from.contains(&batch.source) && check.from.len() < MAX_SOURCES {
                    check.from.insert(batch.source.clone());
                }
                self.judge_heartbeat(at);
            }
        }
    }

    /// Takes what a probe found.
    pub fn probe_result(&mut self, now: Timestamp, name: &str, outcome: ProbeOutcome) {
        self.now = now;
        let Some(at) = self.checks.iter().position(|check| check.name == name) else { return };
        match outcome {
            Ok(()) => self.set(at, Status::Healthy, String::new()),
            Err(reason) => self.set(at, self.checks[at].failing, reason),
        }
    }

    /// Takes what an expression gave.
    pub fn expr_result(&mut self, now: Timestamp, name: &str, outcome: Result<Option<f64>, String>) {
        self.now = now;
        let Some(at) = self.checks.iter().position(|check| check.name == name) else { return };
        let Kind::Expr { text, .. } = &self.checks[at].kind else { return };
        let text = text.clone();
        self.checks[at].in_flight = false;
        match outcome {
            Ok(None) => self.set(at, Status::Healthy, String::new()),
            Ok(Some(value)) => {
                self.set(at, self.checks[at].failing, format!("{text} holds, with the value {}", shown(value)));
            }
            Err(error) => self.set(at, Status::Unknown, format!("{text} cannot be evaluated: {error}")),
        }
    }

    /// Says how a source stands.
    pub fn source_state(&mut self, now: Timestamp, source: &Arc<str>, state: &SourceState) {
        self.now = now;
        if *state == SourceState::Ended {
            self.keep_reported(now, |reporter| reporter != source);
        }
        match state {
            SourceState::Lost { reason } => {
                drop(self.deaf.insert(source.clone(), format!("source {source} is lost: {reason}")))
            }
            SourceState::CatchingUp { .. } => {
                drop(self.deaf.insert(source.clone(), format!("source {source} is catching up")))
            }
            _ => {
                if self.deaf.remove(source).is_some() {
                    // What was not heard was not silent, and not well either: the time begins anew, unknown until heard.
                    for check in self.checks.iter_mut().filter(|check| check.depends_on(source)) {
                        (check.heard, check.ever_heard) = (now, false);
                    }
                }
            }
        }
        self.tick(now);
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Timestamp) {
        self.now = now;
        for at in 0..self.checks.len() {
            if matches!(self.checks[at].kind, Kind::Event { .. }) {
                self.judge_heartbeat(at);
            }
        }
        self.expire_reports();
    }

    fn judge_heartbeat(&mut self, at: usize) {
        let check = &self.checks[at];
        let Kind::Event { select, within_ms, .. } = &check.kind else { return };
        let deaf = self.deaf.iter().find(|(source, _)| check.depends_on(source));
        if let Some((_, reason)) = deaf {
            self.set(at, Status::Unknown, reason.clone());
            return;
        }
        let within = format_duration_ms(*within_ms);
        if self.now.millis_since(check.heard) > *within_ms {
            let what = select.text();
            let reason = if check.ever_heard {
                format!("no {what} since {}, expected every {within}", check.heard)
            } else {
                format!("no {what} within {within} of listening")
            };
            self.set(at, check.failing, reason);
        } else if check.ever_heard {
            self.set(at, Status::Healthy, String::new());
        } else {
            self.set(at, Status::Unknown, format!("not heard yet, expected every {within}"));
        }
    }

    fn set(&mut self, at: usize, status: Status, reason: String) {
        let check = &mut self.checks[at];
        if check.since.is_none() || check.status != status {
            let (from, to) = (check.status, status);
            if from != to {
                self.transitions.push(Transition {
                    check: check.name.clone(),
                    at: self.now,
                    from,
                    to,
                    reason: reason.clone(),
                });
            }
            check.since = Some(self.now);
        }
        (check.status, check.reason) = (status, reason);
    }

    /// The expressions whose time has come; each result must come back through [`Checks::expr_result`].
    pub fn due(&mut self, now: Timestamp) -> Vec<(String, Arc<Query>)> {
        self.now = now;
        let (now_ms, interval_ms) = (now.millis(), self.interval_ms.max(1));
        let mut due = Vec::new();
        for check in &mut self.checks {
            let Kind::Expr { query, .. } = &check.kind else { continue };
            if !check.in_flight && check.next_ms <= now_ms {
                check.in_flight = true;
                check.next_ms = now_ms + interval_ms;
                due.push((check.name.clone(), query.clone()));
            }
        }
        due
    }

    /// When [`Checks::tick`] or [`Checks::due`] has something to do.
    pub fn next_due(&self) -> Option<Timestamp> {
        let next = |check: &Check| match &check.kind {
            Kind::Expr { .. } => (!check.in_flight).then(|| Timestamp::from_millis(check.next_ms)),
            Kind::Event { within_ms, .. } => {
                let end = check.heard.plus_millis(*within_ms + 1);
                (end > self.now).then_some(end)
            }
            Kind::Http(_) => None,
        };
        self.checks.iter().filter_map(next).chain(self.reported.iter().filter_map(Reported::ends)).min()
    }

    /// The probes that the shell has to run.
    pub fn probes(&self) -> Vec<ProbeSpec> {
        let probe = |check: &Check| if let Kind::Http(spec) = &check.kind { Some(spec.clone()) } else { None };
        self.checks.iter().filter_map(probe).collect()
    }

    /// Changes of status since the last call.
    pub fn take_transitions(&mut self) -> Vec<Transition> {
        std::mem::take(&mut self.transitions)
    }

    /// The service's health as the checks tell it.
    pub fn report(&self) -> Report {
        let checks: Vec<CheckReport> = self
            .checks
            .iter()
            .map(|check| CheckReport {
                name: check.name.clone(),
                kind: match check.kind {
                    Kind::Event { .. } => "event",
                    Kind::Expr { .. } => "expr",
                    Kind::Http(_) => "http",
                },
                status: check.status,
                reason: check.reason.clone(),
                since: check.since,
            })
            .chain(self.reported.iter().map(Reported::report))
            .collect();
        Report { status: checks.iter().map(|check| check.status).max().unwrap_or(Status::Healthy), checks }
    }

    /// Swaps in the checks of a new configuration; those whose entry is unchanged keep their state.
    pub fn reconfigure(&mut self, mut new: Self, now: Timestamp) {
        new.start(now);
        for check in &mut new.checks {
            if let Some(old) = self.checks.iter().find(|old| old.name == check.name && old.config == check.config) {
                let next_ms = check.next_ms;
                *check = Check { in_flight: false, next_ms, ..old.clone() };
            }
        }
        self.checks = new.checks;
        self.reported.retain(|reported| !self.checks.iter().any(|check| check.name == reported.name()));
        self.interval_ms = new.interval_ms;
        self.tick(now);
    }

    /// What the checks remember.
    pub fn snapshot(&self) -> Vec<u8> {
        let one = |check: &Check| {
            let (name, reason, from) = (check.name.clone(), check.reason.clone(), check.from.clone());
            (name, check.status, reason, check.since, check.heard, check.ever_heard, from)
        };
        let checks = self.checks.iter().map(one).chain(self.reported.iter().map(Reported::saved)).collect();
        postcard::to_stdvec(&Saved { at: self.now, checks }).unwrap_or_default()
    }

    /// Restores what they remembered. The time between snapshot and `now` counts for nothing.
    ///
    /// # Errors
    /// The bytes are not a snapshot.
    pub fn restore(&mut self, bytes: &[u8], now: Timestamp) -> Result<(), String> {
        let saved: Saved = postcard::from_bytes(bytes).map_err(|error| error.to_string())?;
        let down_us = now.micros_since(saved.at).max(0);
        for mut check in saved.checks {
            check.4 = check.4.plus_micros(down_us);
            if let Some(reported) = Reported::restored(&check) {
                // What is declared by now is no longer what somebody reports.
                if !self.checks.iter().any(|declared| declared.name == reported.name()) {
                    self.reported.push(reported);
                }
                continue;
            }
            let (name, status, reason, since, heard, ever_heard, from) = check;
            if let Some(check) = self.checks.iter_mut().find(|check| check.name == name) {
                (check.status, check.reason, check.since) = (status, reason, since);
                (check.heard, check.ever_heard) = (heard, ever_heard);
                check.from = from;
            }
        }
        self.now = now;
        Ok(())
    }
}

fn shown(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-4 || value.abs() >= 1e6 {
        format!("{value:e}")
    } else {
        format!("{}", (value * 1e4).round() / 1e4)
    }
}

fn compile_one(
    name: &Spanned<String>,
    config: &HealthConfig,
    plan: &mut FieldPlanBuilder,
    found: &mut Diagnostics,
) -> Option<Check> {
    let mut reason = String::from("not evaluated yet");
    let kind = match &config.kind {
        HealthKind::Event { selector, within_ms, sources } => {
            reason = format!("not heard yet, expected every {}", format_duration_ms(*within_ms));
            let select = Arc::new(Select::compile(selector, plan, found)?);
            let sources = sources.iter().map(|source| source.value.clone()).collect();
            Kind::Event { select, within_ms: *within_ms, sources }
        }
        HealthKind::Expr { expr } => match Query::parse(&expr.value) {
            Ok(query) => Kind::Expr { text: query.expr().to_string(), query: Arc::new(query) },
            Err(error) => {
                let place = found.locate(expr, error.line as u32, error.column as u32);
                found.error(&place, format!("parse error: {}", error.message));
                return None;
            }
        },
        HealthKind::Http { url, status, body, timeout_ms, every_ms } => {
            reason = "not asked yet".into();
            Kind::Http(ProbeSpec {
                check: name.value.clone(),
                url: url.value.clone(),
                status: *status,
                body: body.clone(),
                timeout_ms: *timeout_ms,
                every_ms: *every_ms,
            })
        }
    };
    Some(Check {
        name: name.value.clone(),
        kind,
        config: config.clone(),
        failing: if config.degraded { Status::Degraded } else { Status::Unhealthy },
        status: Status::Unknown,
        reason,
        since: None,
        heard: Timestamp::EPOCH,
        ever_heard: false,
        from: BTreeSet::new(),
        next_ms: 0,
        in_flight: false,
    })
}

#[cfg(test)]
mod tests;
