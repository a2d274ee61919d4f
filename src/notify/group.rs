//! A group: the alerts that one route sends together, and its timers.

use super::routing::Timing;
use crate::model::{Alert, AlertStatus, Labels, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Alerts that are sent together. It lives from its first alert until the last one has ended and was told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    /// The receiver's name.
    pub(super) receiver: Arc<str>,
    /// Route key and labels, as Alertmanager prints them.
    pub(super) key: Arc<str>,
    pub(super) labels: Labels,
    pub(super) members: BTreeMap<u64, Arc<Alert>>,
    pub(super) next_flush: Timestamp,
    pub(super) last_flush: Option<Timestamp>,
    /// Its route no longer takes these alerts; only their endings are still told.
    pub(super) orphaned: bool,
    /// At the last flush something was muted; another look is due when what mutes it changes.
    pub(super) withheld: bool,
}

impl Group {
    pub(super) fn new(receiver: Arc<str>, key: Arc<str>, labels: Labels) -> Self {
        Self {
            receiver,
            key,
            labels,
            members: BTreeMap::new(),
            next_flush: Timestamp::from_micros(i64::MAX),
            last_flush: None,
            orphaned: false,
            withheld: false,
        }
    }

    /// Takes an alert's state. An ending counts only for a member: what nobody was told of and is over is no news.
    pub(super) fn put(&mut self, fingerprint: u64, alert: &Arc<Alert>, timing: Timing, now: Timestamp) {
        let known = self.members.get(&fingerprint);
        if known.is_none() && alert.status() == AlertStatus::Resolved {
            return;
        }
        let changed = known.is_none_or(|known| known.status() != alert.status() || known.fired_at != alert.fired_at);
        let first = known.is_none() && self.members.is_empty() && self.last_flush.is_none();
        self.members.insert(fingerprint, alert.clone());
        if !changed {
            return;
        }
        match self.last_flush {
            None => {
                // As Alertmanager: an alert that already fires for longer than group_wait is not held back by it.
                let late = alert.fired_at.plus_millis(timing.group_wait_ms) <= now;
                if first {
                    self.next_flush = now.plus_millis(timing.group_wait_ms);
                }
                if late {
                    self.next_flush = self.next_flush.min(now);
                }
            }
            Some(_) => self.hurry(timing, now),
        }
    }

    /// Makes an eager group due as soon as `group_interval` allows; others keep to their multiples of it.
    pub(super) fn hurry(&mut self, timing: Timing, now: Timestamp) {
        if timing.eager {
            let soonest = self.last_flush.map_or(now, |last| last.plus_millis(timing.group_interval_ms));
            self.next_flush = self.next_flush.min(soonest.max(now));
        }
    }

    /// After a flush: ended alerts leave, but for those whose ending a silence holds back, and the next flush is set.
    /// Returns whether the group is over.
    pub(super) fn after_flush(
        &mut self,
        timing: Timing,
        repeat_due: Option<Timestamp>,
        owed: &BTreeSet<u64>,
        now: Timestamp,
    ) -> bool {
        self.members.retain(|f, alert| alert.status() == AlertStatus::Firing || owed.contains(f));
        let interval_ms = timing.group_interval_ms.max(1);
        if timing.eager {
            let quiet_since = self.last_flush;
            if self.members.is_empty() {
                // An empty group is remembered for one interval, so that a flapping alert stays within the rate.
                let end = quiet_since.map_or(now, |last| last.plus_millis(interval_ms));
                self.next_flush = end;
                return end <= now;
            }
            self.next_flush = repeat_due.unwrap_or(Timestamp::from_micros(i64::MAX)).max(now.plus_millis(interval_ms));
            return false;
        }
        let missed = now.millis_since(self.next_flush).max(0) / interval_ms;
        self.next_flush = self.next_flush.plus_millis(interval_ms.saturating_mul(missed + 1));
        self.members.is_empty()
    }
}
