//! The history: what changed and who was told, as lines of the journal.
//!
//! With `state:`, lines are written in the same transaction as the checkpoint (transitions, decisions) or the outbox
//! (what became of messages) that holds what they say: after a kill -9 the history knows what the restored state knows.
//! Without it a database in memory keeps the latest lines.

use crate::engine::Change;
use crate::health;
use crate::model::{Labels, Timestamp};
use crate::notify::{Fate, Notification, Record, Withheld, WithheldNote};
use crate::rules::{AlertPhase, RuleTransition};
use crate::state::HistoryEntry;
use crate::telemetry::self_metrics;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

/// Lines that may wait for the disk; beyond it the oldest are dropped and counted.
pub(super) const WAITING_LINES: usize = 50_000;

/// A line before it is put into words: that is done by the task that writes, not by the core's.
#[derive(Debug)]
pub(super) enum Line {
    Alert(Box<RuleTransition>),
    Health(health::Transition, Timestamp),
    Record(Box<Record>),
    Withheld(Box<WithheldNote>),
    Written(Box<HistoryEntry>),
}

/// The lines that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Lines(VecDeque<Line>);

impl Lines {
    pub fn push(&mut self, line: Line) {
        if self.0.len() >= WAITING_LINES {
            self.0.pop_front();
            self_metrics::history_lost("disk_too_slow").increment(1);
        }
        self.0.push_back(line);
    }

    /// A message that was decided.
    pub fn queued(&mut self, notification: &Notification) {
        self.push(Line::Record(Box::new(Record::new(notification, Fate::Queued, notification.at))));
    }

    pub fn take(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.0).into()
    }

    /// Takes back what could not be written.
    pub fn put_back(&mut self, entries: Vec<HistoryEntry>) {
        for entry in entries.into_iter().rev() {
            if self.0.len() >= WAITING_LINES {
                self_metrics::history_lost("disk_failed").increment(1);
            } else {
                self.0.push_front(Line::Written(Box::new(entry)));
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The line of a change of the core; rules that fail are said in the log.
pub(super) fn line(change: &Change) -> Option<Line> {
    match change {
        Change::Alert(transition) => Some(Line::Alert(Box::new(transition.clone()))),
        Change::Health(change) => Some(Line::Health(change.clone(), change.at)),
        Change::Rule { .. } => None,
    }
}

/// Adds a transition to the times by rule.
pub(super) fn observe(transition: &RuleTransition) {
    let (detect, resolve) = seconds(transition);
    let rule = transition.change.labels.get("alertname").unwrap_or_default();
    if let Some(seconds) = detect {
        self_metrics::alert_time_to_detect(rule).record(seconds);
    }
    if let Some(seconds) = resolve {
        self_metrics::alert_time_to_resolve(rule).record(seconds);
    }
}

/// Counts what was withheld; of what flaps each change counts, which the notifier does itself.
pub(super) fn count(note: &WithheldNote) {
    if note.reason != Withheld::Flapping
        && let Ok(Value::String(reason)) = serde_json::to_value(note.reason)
    {
        self_metrics::notifications_withheld(&reason).increment(1);
    }
}

/// From the condition (or its event) to the firing; from the firing to the end.
fn seconds(transition: &RuleTransition) -> (Option<f64>, Option<f64>) {
    let change = &transition.change;
    let between = |from: Timestamp| change.at.micros_since(from).max(0) as f64 / 1e6;
    let detect = (change.to == AlertPhase::Firing).then(|| between(change.since));
    let resolve = (change.from == AlertPhase::Firing).then(|| change.fired_at.map(between)).flatten();
    (detect, resolve)
}

impl Line {
    /// In words.
    pub fn entry(self) -> HistoryEntry {
        let (at, kind, key, body) = match self {
            Self::Written(entry) => return *entry,
            Self::Alert(transition) => {
                let change = &transition.change;
                let key = change.labels.get("alertname").unwrap_or_default().to_owned();
                (change.at, "alert", key, alert(&transition))
            }
            Self::Health(change, at) => {
                let body = json!({"from": change.from, "to": change.to, "reason": change.reason});
                (at, "health", change.check, body)
            }
            Self::Record(record) => {
                let key = record.receiver.to_string();
                (record.at, "notification", key, serde_json::to_value(&*record).unwrap_or_default())
            }
            Self::Withheld(note) => {
                let mut body = serde_json::to_value(&*note).unwrap_or_default();
                body["outcome"] = "withheld".into();
                (note.at, "notification", note.receiver.to_string(), body)
            }
        };
        HistoryEntry { at, kind: kind.into(), key, body: body.to_string() }
    }
}

fn alert(transition: &RuleTransition) -> Value {
    let change = &transition.change;
    let to = match (change.from, change.to) {
        (AlertPhase::Firing, AlertPhase::Inactive) => "resolved",
        (_, to) => to.name(),
    };
    let mut body = json!({
        "file": *transition.file, "group": *transition.group, "labels": pairs(&change.labels), "from": change.from.name(),
        "to": to, "reason": change.reason, "value": crate::promql::format_value(change.value),
        "since": change.since.rfc3339(),
    });
    let (detect, resolve) = seconds(transition);
    for (name, seconds) in [("detect_seconds", detect), ("resolve_seconds", resolve)] {
        if let Some(seconds) = seconds {
            body[name] = seconds.into();
        }
    }
    body
}

fn pairs(labels: &Labels) -> BTreeMap<&str, &str> {
    labels.iter().map(|label| (&*label.name, &*label.value)).collect()
}

/// Records of the outbox as lines.
pub(super) fn entries(records: Vec<Record>) -> Vec<HistoryEntry> {
    records.into_iter().map(|record| Line::Record(Box::new(record)).entry()).collect()
}
