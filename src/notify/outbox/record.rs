//! What became of messages, for the history: one record when a message first fails and one at each end of its way.
//!
//! Not every attempt is recorded: a receiver that is down for a week would push everything else out of the history. The
//! record at the end says how often it was tried.

use super::{Entry, Outbox};
use crate::model::{AlertStatus, Timestamp};
use crate::notify::decision::Reason;
use crate::notify::notification::Notification;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Records that may wait to be written; beyond it the oldest are dropped and counted.
pub const RECORDS: usize = 10_000;
/// Rules that one record names.
const RULES_NAMED: usize = 20;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It was decided and waits to be sent.
    Queued,
    /// The first attempt failed; it is tried again.
    Failing,
    /// The receiver has it.
    Delivered,
    /// A newer message of its group took its place before it was delivered.
    Superseded,
    /// It was given up: it is a dead letter now.
    GivenUp,
    /// Somebody put it in again by hand.
    RetriedByHand,
    /// Somebody dropped it by hand.
    DroppedByHand,
    /// There were too many dead letters: this one, the oldest, is no longer kept.
    Forgotten,
}

/// One line of a message's history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// When, for the line of the history.
    #[serde(skip)]
    pub at: Timestamp,
    /// The receiver.
    pub receiver: Arc<str>,
    /// Which of its integrations.
    pub integration: usize,
    /// The group.
    pub group_key: Arc<str>,
    /// The message's key: the same in all its lines.
    pub key: String,
    /// The number under which the outbox keeps it; `None` before it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// What became of it.
    pub outcome: Fate,
    /// Why it was to be sent.
    pub reason: Reason,
    /// Firing or resolved.
    pub status: AlertStatus,
    /// How many alerts it tells of.
    pub alerts: usize,
    /// The names of their rules, the first twenty.
    pub rules: Vec<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// How long the last attempt took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// From the decision to this moment, in milliseconds.
    pub latency_ms: i64,
    /// What the receiver said, or why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// By rule, the longest time from an alert's firing to this delivery, in seconds: for alerts whose firing is the news.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub notify_seconds: BTreeMap<String, f64>,
}

impl Record {
    /// A record of a message at a moment; nothing tried yet.
    pub fn new(notification: &Notification, outcome: Fate, at: Timestamp) -> Self {
        let mut rules: Vec<String> = Vec::new();
        for alert in &notification.alerts {
            if rules.len() == RULES_NAMED {
                break;
            }
            if !rules.iter().any(|known| known == alert.name()) {
                rules.push(alert.name().to_owned());
            }
        }
        Self {
            at,
            receiver: notification.receiver.clone(),
            integration: notification.integration,
            group_key: notification.group_key.clone(),
            key: notification.key(),
            id: None,
            outcome,
            reason: notification.reason,
            status: notification.status,
            alerts: notification.alerts.len() + notification.truncated,
            rules,
            attempts: 0,
            duration_ms: None,
            latency_ms: at.millis_since(notification.at),
            detail: String::new(),
            notify_seconds: BTreeMap::new(),
        }
    }

    pub(super) fn of(entry: &Entry, outcome: Fate, at: Timestamp) -> Self {
        let mut record = Self::new(&entry.notification, outcome, at);
        (record.id, record.attempts) = (Some(entry.id), entry.attempts);
        record.detail.clone_from(&entry.last_error);
        record
    }
}

/// By rule, how long it took from the firing of the alerts that are the news to `at`: the slowest of each rule counts, so
/// that one message is one observation for each rule.
pub fn notify_seconds(notification: &Notification, at: Timestamp) -> BTreeMap<String, f64> {
    let mut by_rule: BTreeMap<String, f64> = BTreeMap::new();
    if matches!(notification.reason, Reason::Repeat | Reason::Test) {
        return by_rule;
    }
    let news: BTreeSet<u64> = notification.news.iter().copied().collect();
    for alert in notification.firing().filter(|alert| news.contains(&alert.fingerprint())) {
        let seconds = at.micros_since(alert.fired_at).max(0) as f64 / 1e6;
        if let Some(longest) = by_rule.get_mut(alert.name()) {
            *longest = longest.max(seconds);
        } else if by_rule.len() < RULES_NAMED {
            by_rule.insert(alert.name().to_owned(), seconds);
        }
    }
    by_rule
}

/// The records that are not known to be written yet.
#[derive(Debug, Default)]
pub(super) struct Records {
    waiting: VecDeque<(u64, Record)>,
    made: u64,
    /// Records that were dropped before they were written.
    pub(super) dropped: u64,
    /// Dead letters that gave way to newer ones.
    pub(super) forgotten: u64,
}

impl Records {
    pub(super) fn note(&mut self, record: Record) {
        while self.waiting.len() >= RECORDS {
            self.waiting.pop_front();
            self.dropped += 1;
        }
        self.made += 1;
        self.waiting.push_back((self.made, record));
    }

    /// The end of an attempt, where it is worth a record.
    pub(super) fn note_attempt(&mut self, entry: &Entry, fate: Fate, detail: &str, took_ms: i64, now: Timestamp) {
        if fate == Fate::Failing && entry.attempts > 1 {
            return;
        }
        let mut record = Record::of(entry, fate, now);
        detail.clone_into(&mut record.detail);
        record.duration_ms = Some(took_ms);
        if fate == Fate::Delivered {
            record.notify_seconds = notify_seconds(&entry.notification, now);
        }
        self.note(record);
    }
}

impl Outbox {
    /// The records that are not known to be written, and the number to give to [`Outbox::records_written`] once they are.
    pub fn records(&self) -> (u64, Vec<Record>) {
        (self.records.made, self.records.waiting.iter().map(|(_, record)| record.clone()).collect())
    }

    /// Records that were dropped before they were written, because there were too many.
    pub fn records_dropped(&self) -> u64 {
        self.records.dropped
    }

    /// Forgets the records up to this number.
    pub fn records_written(&mut self, number: u64) {
        while self.records.waiting.front().is_some_and(|(made, _)| *made <= number) {
            self.records.waiting.pop_front();
        }
    }
}
