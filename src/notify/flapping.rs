//! Flapping: an alert that fires and ends again and again is told of once, then not before it is steady.
//!
//! Beyond so many changes within the window an alert that fires is *flapping*: each receiver gets one message that says so,
//! its further changes are withheld and counted. When it has not changed for a while it is *steady*, and each receiver
//! that was told of the flapping is told how it stands now. Alerts are judged one by one, so that a flapping member of a
//! group holds back none of the others.
//!
//! Routes of Alertmanager's own file are left alone unless `flapping` is configured: Alertmanager knows no such thing.

use super::notifier::LogKey;
use crate::model::{Alert, AlertStatus, Label, Labels, Timestamp, format_duration_ms};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Alerts whose changes are remembered; what comes beyond it is never taken for flapping.
const TRACKS: usize = 50_000;
/// How often what is over is forgotten, in milliseconds.
const PRUNE_EVERY_MS: i64 = 60_000;

/// What counts as flapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlapPolicy {
    /// More changes than this within the window.
    pub changes: usize,
    /// The window, in milliseconds.
    pub window_ms: i64,
    /// An alert that has not changed for so long is steady, in milliseconds.
    pub steady_ms: i64,
    /// Also on the routes of Alertmanager's file.
    pub everywhere: bool,
}

/// What holds where nothing is configured.
pub const DEFAULT_FLAPPING: FlapPolicy =
    FlapPolicy { changes: 6, window_ms: 600_000, steady_ms: 300_000, everywhere: false };

/// How one receiver is to see an alert that flaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damping {
    /// It flaps, and the receiver is to be told that it does.
    Began,
    /// It flaps, and the receiver knows: nothing about it is said.
    Damped,
    /// It is steady again, and the receiver is to be told.
    Steady,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flap {
    /// The first of the changes.
    since: Timestamp,
    changes: u64,
    last_change: Timestamp,
    /// Changes that nobody was told of.
    withheld: u64,
    told: BTreeSet<LogKey>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Track {
    fires: bool,
    fired_at: Timestamp,
    changes: VecDeque<Timestamp>,
    flap: Option<Flap>,
}

/// The changes of all alerts. A part of the notifier, restored with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Flapping {
    tracks: BTreeMap<u64, Track>,
    withheld: u64,
    pruned: Timestamp,
}

impl Flapping {
    /// Takes note of an alert's state.
    pub(super) fn observe(&mut self, fingerprint: u64, alert: &Alert, policy: FlapPolicy, now: Timestamp) {
        let fires = alert.status() == AlertStatus::Firing;
        let room = self.tracks.len() < TRACKS;
        let track = match self.tracks.get_mut(&fingerprint) {
            Some(track) => track,
            None if !fires || !room => return,
            None => self.tracks.entry(fingerprint).or_insert(Track {
                fires: false,
                fired_at: alert.fired_at,
                changes: VecDeque::new(),
                flap: None,
            }),
        };
        if track.fires == fires && track.fired_at == alert.fired_at {
            return;
        }
        // Fired anew without an ending in between that anybody saw: that ending counts, too.
        let changes = if track.fires && fires { 2 } else { 1 };
        (track.fires, track.fired_at) = (fires, alert.fired_at);
        if let Some(flap) = &mut track.flap {
            if now.millis_since(flap.last_change) < policy.steady_ms {
                flap.changes += changes;
                flap.last_change = now;
                flap.withheld += changes;
                self.withheld += changes;
                return;
            }
            track.flap = None;
            track.changes.clear();
        }
        track.changes.extend((0..changes).map(|_| now));
        while track.changes.front().is_some_and(|at| now.millis_since(*at) >= policy.window_ms)
            || track.changes.len() > policy.changes.saturating_add(2)
        {
            track.changes.pop_front();
        }
        // Only a firing begins it: the message then says that something is wrong, and stays so until it is steady.
        if fires && track.changes.len() > policy.changes {
            let since = track.changes.front().copied().unwrap_or(now);
            track.flap = Some(Flap {
                since,
                changes: track.changes.len() as u64,
                last_change: now,
                withheld: 0,
                told: BTreeSet::new(),
            });
        }
    }

    /// How a receiver is to see an alert; `None` for one that does not flap. `knows`: the receiver believes that it fires.
    pub(super) fn damping(
        &self,
        fingerprint: u64,
        key: &LogKey,
        knows: bool,
        policy: FlapPolicy,
        now: Timestamp,
    ) -> Option<Damping> {
        let track = self.tracks.get(&fingerprint)?;
        let flap = track.flap.as_ref()?;
        let told = knows && flap.told.contains(key);
        let steady = now.millis_since(flap.last_change) >= policy.steady_ms;
        match (steady, told) {
            (true, true) => Some(Damping::Steady),
            (true, false) => None,
            (false, true) => Some(Damping::Damped),
            (false, false) => track.fires.then_some(Damping::Began),
        }
    }

    /// When an alert that flaps will be steady, unless it changes again, and this group's receiver waits to hear of it.
    pub(super) fn steady_at(
        &self,
        fingerprint: u64,
        receiver: &str,
        group_key: &str,
        policy: FlapPolicy,
    ) -> Option<Timestamp> {
        let flap = self.tracks.get(&fingerprint)?.flap.as_ref()?;
        let waits = flap.told.iter().any(|(name, _, key)| **name == *receiver && **key == *group_key);
        waits.then(|| flap.last_change.plus_millis(policy.steady_ms))
    }

    /// The alert as the message shows it: what is said of its flapping stands in the annotation `flapping` and begins the
    /// summary, so that every receiver and template shows it.
    pub(super) fn annotated(
        &self,
        fingerprint: u64,
        alert: &Arc<Alert>,
        damping: Damping,
        policy: FlapPolicy,
    ) -> Arc<Alert> {
        let Some(flap) = self.tracks.get(&fingerprint).and_then(|track| track.flap.as_ref()) else {
            return alert.clone();
        };
        let lasted = |ms: i64| format_duration_ms(ms.max(0) / 1_000 * 1_000);
        let span = lasted(flap.last_change.millis_since(flap.since));
        let sentence = match damping {
            Damping::Began | Damping::Damped => format!(
                "is flapping: {} changes in {span}; further ones are withheld until it has been steady for {}.",
                flap.changes,
                format_duration_ms(policy.steady_ms)
            ),
            Damping::Steady => format!(
                "is steady again ({}) after {} changes in {span}, {} of them withheld.",
                if alert.status() == AlertStatus::Firing { "firing" } else { "resolved" },
                flap.changes,
                flap.withheld
            ),
        };
        let mut copy = Alert::clone(alert);
        let summary = match alert.annotations.get("summary") {
            Some(summary) => format!("{sentence} {summary}"),
            None => sentence.clone(),
        };
        let own = [("flapping", sentence), ("summary", summary)];
        let kept = alert.annotations.filtered(|name| !own.iter().any(|(mine, _)| *mine == name));
        let mut all = kept.as_slice().to_vec();
        all.extend(own.map(|(name, value)| Label { name: name.into(), value: value.into() }));
        copy.annotations = Labels::new(all);
        Arc::new(copy)
    }

    /// A receiver was told that an alert flaps, or that it is steady again.
    pub(super) fn told(&mut self, fingerprint: u64, key: &LogKey, damping: Damping) {
        let Some(track) = self.tracks.get_mut(&fingerprint) else { return };
        let Some(flap) = &mut track.flap else { return };
        match damping {
            Damping::Began => {
                flap.told.insert(key.clone());
            }
            Damping::Steady => {
                flap.told.remove(key);
                if flap.told.is_empty() {
                    track.flap = None;
                    track.changes.clear();
                }
            }
            Damping::Damped => {}
        }
    }

    /// What receivers that are gone were told matters no more.
    pub(super) fn keep_receivers(&mut self, kept: impl Fn(&LogKey) -> bool) {
        for flap in self.tracks.values_mut().filter_map(|track| track.flap.as_mut()) {
            flap.told.retain(&kept);
        }
    }

    /// Forgets what is over, once a minute.
    pub(super) fn prune(&mut self, policy: FlapPolicy, now: Timestamp) {
        if now.millis_since(self.pruned) < PRUNE_EVERY_MS {
            return;
        }
        self.pruned = now;
        let longest_ms = policy.window_ms.max(policy.steady_ms.saturating_mul(2));
        self.tracks.retain(|_, track| {
            let changed = track.flap.as_ref().map(|flap| flap.last_change).or(track.changes.back().copied());
            changed.is_some_and(|at| now.millis_since(at) < longest_ms)
        });
    }

    /// Changes that nobody was told of, since the state began.
    pub(super) fn withheld(&self) -> u64 {
        self.withheld
    }

    /// In words, when an alert flaps: since when, how many changes, when it would be steady.
    pub(super) fn describe(&self, fingerprint: u64, policy: FlapPolicy) -> Option<FlapView> {
        let flap = self.tracks.get(&fingerprint)?.flap.as_ref()?;
        Some(FlapView {
            since: flap.since,
            changes: flap.changes,
            withheld: flap.withheld,
            steady_at: flap.last_change.plus_millis(policy.steady_ms),
        })
    }
}

/// An alert that flaps, for the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FlapView {
    /// The first of its changes.
    pub since: Timestamp,
    /// Its changes.
    pub changes: u64,
    /// Changes that nobody was told of.
    pub withheld: u64,
    /// When it is taken for steady, unless it changes again.
    pub steady_at: Timestamp,
}
