//! Silences as commands, and what keeps an alert from being told, for those who ask.

use super::Notifier;
use crate::model::{Alert, AlertStatus, Labels, Timestamp};
use crate::notify::routing::Routing;
use crate::notify::silence::{Silence, SilenceDraft, SilenceError};
use crate::notify::silences::Silences;
use std::sync::Arc;

/// Where an alert goes, and what keeps it from being told now.
#[derive(Clone, Debug, Default)]
pub struct Suppression {
    /// The silences that hold for it.
    pub silences: Vec<Arc<Silence>>,
    /// Fingerprints of the alerts that inhibit it.
    pub inhibitors: Vec<u64>,
    /// Names of the time intervals that mute its routes.
    pub intervals: Vec<String>,
    /// The receivers of its routes, in the order of the routes.
    pub receivers: Vec<Arc<str>>,
}

impl Suppression {
    /// Whether a silence or another alert suppresses it; muting by time does not, as in Alertmanager.
    pub fn is_suppressed(&self) -> bool {
        !(self.silences.is_empty() && self.inhibitors.is_empty())
    }
}

/// A group with its firing alerts.
#[derive(Clone, Debug)]
pub struct AlertGroup {
    /// The receiver's name.
    pub receiver: Arc<str>,
    /// The labels that make the group.
    pub labels: Labels,
    /// Names of the time intervals that mute its route now.
    pub muted_by: Vec<String>,
    /// Its firing alerts, in Alertmanager's order.
    pub alerts: Vec<Arc<Alert>>,
}

impl Notifier {
    /// All silences as they are now.
    pub fn silences(&mut self, now: Timestamp) -> &Silences {
        self.silences_changed(now);
        &self.silences
    }

    /// Makes a silence, or changes one: see [`Silences`]. Returns its id; `fresh_id` serves where a new one is made.
    ///
    /// # Errors
    /// [`SilenceError`]; nothing has changed then.
    pub fn set_silence(
        &mut self,
        draft: SilenceDraft,
        fresh_id: &str,
        now: Timestamp,
    ) -> Result<Arc<str>, SilenceError> {
        self.silences_changed(now);
        let id = self.silences.set(draft, fresh_id, now)?;
        self.silences_changed(now);
        Ok(id)
    }

    /// Ends a silence now. What it held back and still fires goes out at the next flush of its group.
    ///
    /// # Errors
    /// [`SilenceError`]; nothing has changed then.
    pub fn expire_silence(&mut self, id: &str, now: Timestamp) -> Result<(), SilenceError> {
        self.silences_changed(now);
        self.silences.expire(id, now)?;
        self.silences_changed(now);
        Ok(())
    }

    fn silences_changed(&mut self, now: Timestamp) {
        if self.silences.advance(now) {
            self.wake_withheld(now);
        }
        self.schedule();
    }

    /// Where an alert with these labels goes, and what keeps it from being told now.
    pub fn suppression(&self, labels: &Labels, now: Timestamp) -> Suppression {
        let routes = self.routing.matching(labels);
        let receiver = |route: &usize| self.routing.receivers[self.routing.routes[*route].receiver].name.clone();
        let mut intervals: Vec<String> =
            routes.iter().flat_map(|route| self.routing.muting_intervals(*route, now)).collect();
        intervals.sort();
        intervals.dedup();
        Suppression {
            silences: self.silences.silencing(labels, now),
            inhibitors: self.inhibitor.inhibitors(labels),
            intervals,
            receivers: routes.iter().map(receiver).collect(),
        }
    }

    /// After how long a posted alert that names no end ends, in milliseconds.
    pub fn resolve_timeout_ms(&self) -> i64 {
        self.routing.resolve_timeout_ms()
    }

    /// The routes and receivers that hold.
    pub fn routing(&self) -> &Arc<Routing> {
        &self.routing
    }

    /// An alert that the notifier knows, by its fingerprint.
    pub fn alert(&self, fingerprint: u64) -> Option<&Arc<Alert>> {
        self.known.get(&fingerprint).map(|known| &known.alert)
    }

    /// The groups with their firing alerts, in Alertmanager's order (`LabelSet.Before`: few labels first; then receiver);
    /// those without are left out.
    pub fn alert_groups(&self, now: Timestamp) -> Vec<AlertGroup> {
        let mut groups: Vec<AlertGroup> = self
            .groups
            .iter()
            .filter(|(_, group)| !group.orphaned)
            .map(|((route, _), group)| {
                let firing = group.members.values().filter(|alert| alert.status() == AlertStatus::Firing);
                let mut alerts: Vec<Arc<Alert>> = firing.cloned().collect();
                crate::notify::notification::sort(&mut alerts);
                let route = self.route_by_id.get(route);
                AlertGroup {
                    receiver: group.receiver.clone(),
                    labels: group.labels.clone(),
                    muted_by: route.map(|route| self.routing.muting_intervals(*route, now)).unwrap_or_default(),
                    alerts,
                }
            })
            .filter(|group| !group.alerts.is_empty())
            .collect();
        groups.sort_by(|a, b| (a.labels.len(), &a.labels, &a.receiver).cmp(&(b.labels.len(), &b.labels, &b.receiver)));
        groups
    }
}
