//! sidewatch's own life cycle as events of the stream: start, stop, reload, checks, sources, alerts.
//!
//! They are CloudEvents of the built-in source `sidewatch`. As a shell's `*` takes no dot-files, patterns take them only
//! when they begin with `sidewatch` themselves, and `events_total` leaves them out: what a service does is not mixed with
//! what its watcher does. They are counted in `sidewatch_lifecycle_events_total`.
//!
//! None causes itself again: what an event of the life cycle brings about (an alert that fires, a check that fails) is
//! told to those who subscribe ([`super::Engine::take_told`]) and makes no further event, nor does its end. Whatever
//! goes through a metric instead meets the limit [`EVENTS_A_MINUTE`].

use super::{Change, SourceStatus};
use crate::config::Diagnostics;
use crate::config::schema::{FormatConfig, PublishedKind};
use crate::health::{self, Status};
use crate::model::{Timestamp, format_duration_ms};
use crate::rules::{AlertPhase, RuleTransition};
use crate::source::SourceState;
use crate::source::decode::{DecodeLimits, Decoder};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The name of the built-in source.
pub const SOURCE: &str = "sidewatch";
/// Every type of these events begins so.
pub const PREFIX: &str = "sidewatch.";
/// Events about one thing within a minute; more are told and not put into the stream.
const EVENTS_A_MINUTE: u32 = 10;
/// Things whose events are counted for that limit.
const SUBJECTS: usize = 10_000;
/// Events that wait to be taken; without anybody who takes them the oldest are forgotten.
const WAITING: usize = 10_000;

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// service.name.
    pub service: String,
    /// service.instance.
    pub instance: String,
    /// The version of sidewatch.
    pub version: &'static str,
}

/// What only the shell knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Everything is up.
    Started {
        /// The state that was restored, when there was one: as of when.
        restored: Option<Timestamp>,
    },
    /// The drain begins.
    Stopping {
        /// Why.
        reason: String,
    },
    /// The configuration was read again and holds.
    Reloaded {
        /// What changed, in words.
        changed: Vec<String>,
    },
    /// The configuration was read again and is wrong.
    ReloadFailed {
        /// Every finding.
        error: String,
    },
}

/// One event of the life cycle, to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What it is about.
    pub kind: PublishedKind,
    /// Its type.
    pub event_type: String,
    /// Its id: the same whenever the same thing is told again.
    pub id: String,
    /// What it is about: an alert's name, a check, a source.
    pub subject: String,
    /// When.
    pub at: Timestamp,
    /// The CloudEvent as JSON.
    pub document: String,
    /// What the limit and the cut of loops know it by.
    key: String,
    /// Whether it begins something that a later one ends.
    begins: Option<bool>,
}

/// The state of the telling.
#[derive(Debug)]
pub(super) struct LifeCycle {
    speaker: Speaker,
    pub decoder: Arc<Decoder>,
    /// While events of the life cycle go through the rules: what changes now is their doing.
    pub inside: bool,
    /// What began because of an event of the life cycle: its end makes no event, either.
    silent: BTreeSet<String>,
    /// Checks whose failure was told.
    failed: BTreeMap<String, Timestamp>,
    /// Sources whose loss was told, since when.
    lost: BTreeMap<Arc<str>, Timestamp>,
    /// Events by key in the current minute.
    counts: BTreeMap<String, u32>,
    minute: i64,
    /// Events that were told and not put into the stream.
    pub suppressed: u64,
    pub told: Vec<Told>,
}

impl LifeCycle {
    pub fn new(speaker: Speaker) -> Option<Self> {
        let mut found = Diagnostics::new();
        let decoder = Decoder::compile(&FormatConfig::default(), DecodeLimits::default(), &mut found)?;
        Some(Self {
            speaker,
            decoder: Arc::new(decoder),
            inside: false,
            silent: BTreeSet::new(),
            failed: BTreeMap::new(),
            lost: BTreeMap::new(),
            counts: BTreeMap::new(),
            minute: 0,
            suppressed: 0,
            told: Vec::new(),
        })
    }

    /// Tells, and says whether the stream gets it, too.
    pub fn tell(&mut self, told: Told) -> bool {
        let minute = told.at.millis().div_euclid(60_000);
        if minute != self.minute {
            self.minute = minute;
            self.counts.clear();
        }
        let mut streams = !self.inside;
        match told.begins {
            Some(true) if self.inside && self.silent.len() < SUBJECTS => {
                self.silent.insert(told.key.clone());
            }
            Some(false) if self.silent.remove(&told.key) => streams = false,
            _ => {}
        }
        if streams {
            let room = self.counts.len() < SUBJECTS;
            match self.counts.get_mut(&told.key) {
                Some(count) if *count >= EVENTS_A_MINUTE => streams = false,
                Some(count) => *count += 1,
                None if room => drop(self.counts.insert(told.key.clone(), 1)),
                None => streams = false,
            }
        }
        self.suppressed += u64::from(!streams);
        if self.told.len() >= WAITING {
            self.told.remove(0);
        }
        self.told.push(told);
        streams
    }

    fn event(
        &self,
        kind: PublishedKind,
        name: &str,
        subject: &str,
        at: Timestamp,
        key: String,
        mut data: Value,
    ) -> Told {
        let event_type = format!("{PREFIX}{name}");
        data["service"] = self.speaker.service.as_str().into();
        data["instance"] = self.speaker.instance.as_str().into();
        data["version"] = self.speaker.version.into();
        let id = id(&[&self.speaker.service, &self.speaker.instance, &event_type, &key, &at.micros().to_string()]);
        let document = json!({
            "specversion": "1.0", "id": id, "source": SOURCE, "type": event_type, "subject": subject,
            "time": at.rfc3339(), "datacontenttype": "application/json", "data": data,
        });
        let document = document.to_string();
        Told { kind, event_type, id, subject: subject.to_owned(), at, document, key, begins: None }
    }

    pub fn of_moment(&self, now: Timestamp, moment: &Moment) -> Told {
        let (name, data) = match moment {
            Moment::Started { restored } => {
                let reason = if restored.is_some() { "started, going on from the last checkpoint" } else { "started" };
                ("started", json!({"reason": reason, "since": restored.unwrap_or(now).rfc3339()}))
            }
            Moment::Stopping { reason } => ("stopping", json!({"reason": reason, "since": now.rfc3339()})),
            Moment::Reloaded { changed } => {
                let reason = if changed.is_empty() { "nothing has changed".to_owned() } else { changed.join("; ") };
                ("reloaded", json!({"reason": reason, "changed": changed, "since": now.rfc3339()}))
            }
            Moment::ReloadFailed { error } => {
                let reason: String = error.chars().take(2_000).collect();
                ("reload_failed", json!({"reason": reason, "since": now.rfc3339()}))
            }
        };
        self.event(PublishedKind::LifeCycle, name, &self.speaker.instance, now, name.to_owned(), data)
    }

    pub fn of_change(&mut self, change: &Change) -> Option<Told> {
        match change {
            Change::Alert(transition) => self.of_alert(transition),
            Change::Health(transition) => self.of_check(transition),
            Change::Rule { .. } => None,
        }
    }

    fn of_alert(&self, transition: &RuleTransition) -> Option<Told> {
        let change = &transition.change;
        let (name, status) = match (change.from, change.to) {
            (_, AlertPhase::Firing) => ("alert.firing", "firing"),
            (AlertPhase::Firing, AlertPhase::Inactive) => ("alert.resolved", "resolved"),
            _ => return None,
        };
        let pairs = |labels: &crate::model::Labels| -> serde_json::Map<String, Value> {
            labels.iter().map(|label| (label.name.to_string(), Value::from(&*label.value))).collect()
        };
        let fingerprint = format!("{:016x}", change.labels.fingerprint());
        let number = change.value.is_finite().then_some(change.value);
        let ends = (status == "resolved").then(|| change.at.rfc3339());
        let alertname = change.labels.get("alertname").unwrap_or_default();
        let data = json!({
            "alertname": alertname, "status": status, "fingerprint": fingerprint,
            "labels": pairs(&change.labels), "annotations": pairs(&change.annotations),
            "value": number, "value_text": crate::promql::format_value(change.value), "reason": change.reason,
            "since": change.since.rfc3339(), "starts_at": change.fired_at.unwrap_or(change.at).rfc3339(),
            "ends_at": ends, "file": &*transition.file, "group": &*transition.group,
        });
        let key = format!("alert {}/{}/{fingerprint}", transition.file, transition.group);
        let mut told = self.event(PublishedKind::Alerts, name, alertname, change.at, key, data);
        told.begins = Some(status == "firing");
        Some(told)
    }

    fn of_check(&mut self, change: &health::Transition) -> Option<Told> {
        let fails = |status| matches!(status, Status::Degraded | Status::Unhealthy);
        let since = match (fails(change.to), self.failed.get(&change.check).copied()) {
            (true, None) => {
                self.failed.insert(change.check.clone(), change.at);
                change.at
            }
            (false, Some(since)) if change.to == Status::Healthy => {
                self.failed.remove(&change.check);
                since
            }
            _ => return None,
        };
        let name = if fails(change.to) { "check.failed" } else { "check.recovered" };
        let data = json!({
            "check": change.check, "status": change.to, "from": change.from, "reason": change.reason,
            "since": since.rfc3339(), "lasted_seconds": change.at.micros_since(since) as f64 / 1e6,
        });
        let key = format!("check {}", change.check);
        let mut told = self.event(PublishedKind::Health, name, &change.check, change.at, key, data);
        told.begins = Some(fails(change.to));
        Some(told)
    }

    pub fn of_source(
        &mut self,
        now: Timestamp,
        name: &Arc<str>,
        known: Option<&SourceStatus>,
        state: &SourceState,
    ) -> Option<Told> {
        let kind = known.map_or("", |status| status.kind);
        let (word, since, reason) = match state {
            SourceState::Lost { reason } if !self.lost.contains_key(name) => {
                self.lost.insert(name.clone(), now);
                ("source.lost", now, reason.clone())
            }
            SourceState::Connected | SourceState::CatchingUp { .. } => {
                let since = self.lost.remove(name)?;
                let lost_for = format_duration_ms(now.millis_since(since));
                ("source.recovered", since, format!("connected again after {lost_for}"))
            }
            SourceState::Ended => {
                self.lost.remove(name);
                return None;
            }
            _ => return None,
        };
        let data = json!({
            "source": **name, "kind": kind, "state": state.word(), "reason": reason, "since": since.rfc3339(),
            "lasted_seconds": now.micros_since(since) as f64 / 1e6,
        });
        let mut told = self.event(PublishedKind::LifeCycle, word, name, now, format!("source {name}"), data);
        told.begins = Some(word == "source.lost");
        Some(told)
    }
}

/// 32 hex digits of two FNV-1a hashes: ids are told apart, nobody is kept from guessing them.
fn id(parts: &[&str]) -> String {
    let hash = |mut hash: u64| {
        for part in parts {
            for byte in part.bytes().chain([0xff]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        hash
    };
    format!("{:016x}{:016x}", hash(0xcbf2_9ce4_8422_2325), hash(0x6c62_272e_07bb_0142))
}
