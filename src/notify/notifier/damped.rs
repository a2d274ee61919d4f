//! What is held back although there is news: alerts that flap, and everything while rules have not been evaluated yet.

use super::{LogKey, Notifier};
use crate::model::{Alert, AlertStatus, Timestamp};
use crate::notify::decision::{Decision, Withheld};
use crate::notify::flapping::{Damping, FlapPolicy};
use crate::notify::group::Group;
use crate::notify::withheld::WithheldNote;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Notifier {
    /// What was withheld since the last call, once for each change of the reason.
    pub fn take_withheld(&mut self) -> Vec<WithheldNote> {
        self.withheld.take()
    }

    /// Notes of what was withheld that found no room.
    pub fn withheld_notes_dropped(&self) -> u64 {
        self.withheld.dropped
    }

    /// Changes of alerts that were withheld because they flap, since the state began.
    pub fn flapping_withheld(&self) -> u64 {
        self.flapping.withheld()
    }

    /// The members of a group that flap, as one receiver is to see them.
    pub(super) fn damped(
        &self,
        group: &Group,
        key: &LogKey,
        policy: Option<FlapPolicy>,
        now: Timestamp,
    ) -> BTreeMap<u64, Damping> {
        let Some(policy) = policy else { return BTreeMap::new() };
        let told = self.log.get(key);
        let damping = |fingerprint: &u64| {
            let knows = told.is_some_and(|told| told.firing.contains_key(fingerprint));
            Some((*fingerprint, self.flapping.damping(*fingerprint, key, knows, policy, now)?))
        };
        group.members.keys().filter_map(damping).collect()
    }

    /// Members that have ended and of which nobody is told before they are steady: they stay in the group until then. With
    /// them those that fire, for they are to be told, too.
    pub(super) fn waiting_for_steady(&self, group: &Group, policy: Option<FlapPolicy>) -> Vec<(u64, Timestamp)> {
        let Some(policy) = policy else { return Vec::new() };
        let steady = |fingerprint| self.flapping.steady_at(fingerprint, &group.receiver, &group.key, policy);
        group.members.keys().filter_map(|fingerprint| Some((*fingerprint, steady(*fingerprint)?))).collect()
    }

    /// While everything is held back: groups that would be sent now are noted, once.
    pub(super) fn note_held(&mut self, now: Timestamp) {
        let decision = Decision::Withhold(Withheld::WaitingForFirstEvaluation);
        for group in self.groups.values().filter(|group| group.next_flush <= now) {
            let integrations = self.routing.receiver(&group.receiver).map_or(0, |receiver| receiver.integrations.len());
            for index in 0..integrations {
                let key = (group.receiver.clone(), index, group.key.clone());
                let told = self.log.get(&key);
                let knows = |fingerprint: &u64| told.is_some_and(|told| told.firing.contains_key(fingerprint));
                let is_news = |(fingerprint, alert): (&u64, &Arc<Alert>)| {
                    knows(fingerprint) != (alert.status() == AlertStatus::Firing)
                };
                if group.members.iter().any(is_news) && self.decisions.get(&key) != Some(&decision) {
                    self.withheld.note(group, index, Withheld::WaitingForFirstEvaluation, now);
                    self.decisions.insert(key, decision);
                }
            }
        }
    }
}
