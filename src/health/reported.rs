//! Checks that somebody outside makes and reports (DogStatsD service checks): no entry declares them, the first report
//! does. The last report of a name holds until the next one, for ten minutes at most, and ends with its source. A check
//! that the configuration declares is never overruled.

use super::{CheckReport, Checks, SavedCheck, Status, Transition};
use crate::model::{Timestamp, format_duration_ms};
use crate::source::counts::ReportedCheck;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Names that are remembered; reports of further ones are events only.
const REPORTED_CHECKS: usize = 100;
/// How long a report holds, in milliseconds. Agents report every 15 s to some minutes; Datadog itself takes reports that
/// are up to ten minutes old.
const HOLDS_MS: i64 = 600_000;
/// In a checkpoint they stand among the others, under names that no entry can have.
const MARK: &str = "\0reported\0";

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Reported {
    name: String,
    /// Who reported it last.
    source: Arc<str>,
    status: Status,
    reason: String,
    since: Timestamp,
    heard: Timestamp,
}

impl Reported {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn report(&self) -> CheckReport {
        CheckReport {
            name: self.name.clone(),
            kind: "reported",
            status: self.status,
            reason: self.reason.clone(),
            since: Some(self.since),
        }
    }

    /// When its last report holds no more; `None` when nothing changes then.
    pub fn ends(&self) -> Option<Timestamp> {
        (self.status != Status::Unknown).then(|| self.heard.plus_millis(HOLDS_MS + 1))
    }

    /// Under its marked name, as the others are saved.
    pub fn saved(&self) -> SavedCheck {
        let (name, from) = (format!("{MARK}{}", self.name), BTreeSet::from([self.source.clone()]));
        (name, self.status, self.reason.clone(), Some(self.since), self.heard, true, from)
    }

    /// From what [`Self::saved`] gave; `None` for another check.
    pub fn restored((name, status, reason, since, heard, _, from): &SavedCheck) -> Option<Self> {
        Some(Self {
            name: name.strip_prefix(MARK)?.to_owned(),
            source: from.first()?.clone(),
            status: *status,
            reason: reason.clone(),
            since: (*since)?,
            heard: *heard,
        })
    }

    fn set(&mut self, now: Timestamp, status: Status, reason: String) -> Option<Transition> {
        let from = std::mem::replace(&mut self.status, status);
        self.reason.clone_from(&reason);
        if from == status {
            return None;
        }
        self.since = now;
        Some(Transition { check: self.name.clone(), at: now, from, to: status, reason })
    }
}

impl Checks {
    /// Takes a report from outside. False when there are too many names for this one.
    pub fn reported(&mut self, now: Timestamp, source: &Arc<str>, told: &ReportedCheck) -> bool {
        self.now = now;
        if self.checks.iter().any(|check| check.name == told.name) {
            return true;
        }
        let status = match told.status {
            0 => Status::Healthy,
            1 => Status::Degraded,
            2 => Status::Unhealthy,
            _ => Status::Unknown,
        };
        let reason = match (status, told.message.as_str()) {
            (Status::Healthy, _) => String::new(),
            (_, "") => "reported so, without a message".to_owned(),
            (_, message) => message.to_owned(),
        };
        let at = match self.reported.iter().position(|known| known.name == told.name) {
            Some(at) => at,
            None if self.reported.len() < REPORTED_CHECKS => {
                let (name, source, reason) = (told.name.clone(), source.clone(), String::new());
                self.reported.push(Reported { name, source, status: Status::Unknown, reason, since: now, heard: now });
                self.reported.len() - 1
            }
            None => return false,
        };
        let known = &mut self.reported[at];
        (known.heard, known.source) = (now, source.clone());
        self.transitions.extend(known.set(now, status, reason));
        true
    }

    /// What was reported too long ago is unknown now.
    pub(super) fn expire_reports(&mut self) {
        for known in &mut self.reported {
            if known.ends().is_some_and(|end| end <= self.now) {
                let reason = format!("no report since {}; one holds for {}", known.heard, format_duration_ms(HOLDS_MS));
                self.transitions.extend(known.set(self.now, Status::Unknown, reason));
            }
        }
    }

    /// Forgets what was reported by sources that are no more.
    pub fn keep_reported(&mut self, now: Timestamp, is_source: impl Fn(&Arc<str>) -> bool) {
        let (kept, mut gone): (Vec<_>, Vec<_>) = self.reported.drain(..).partition(|known| is_source(&known.source));
        self.reported = kept;
        for known in &mut gone {
            let reason = format!("the source {} that reported it is no more", known.source);
            self.transitions.extend(known.set(now, Status::Unknown, reason));
        }
    }
}
