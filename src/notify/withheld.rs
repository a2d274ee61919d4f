//! Notes of what was not sent although there was something to tell, for the history.

use super::decision::Withheld;
use super::group::Group;
use crate::model::Timestamp;
use serde::Serialize;
use std::sync::Arc;

/// Notes that may wait to be taken; what comes beyond it is only counted. They are taken each time the core has run.
const NOTES: usize = 10_000;
/// Rules that one note names.
const RULES_NAMED: usize = 20;

/// Something was withheld from a receiver.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WithheldNote {
    /// When.
    #[serde(skip)]
    pub at: Timestamp,
    /// From whom.
    pub receiver: Arc<str>,
    /// From which of its integrations.
    pub integration: usize,
    /// What: the group.
    pub group_key: Arc<str>,
    /// Why.
    pub reason: Withheld,
    /// Alerts in the group.
    pub alerts: usize,
    /// The names of their rules, the first twenty.
    pub rules: Vec<String>,
}

/// The notes since they were last taken.
#[derive(Debug, Default)]
pub(super) struct WithheldNotes {
    notes: Vec<WithheldNote>,
    /// Notes that found no room.
    pub(super) dropped: u64,
}

impl WithheldNotes {
    /// Notes it, unless there was nothing to tell in the first place.
    pub(super) fn note(&mut self, group: &Group, integration: usize, reason: Withheld, now: Timestamp) {
        if matches!(reason, Withheld::Unchanged | Withheld::NotDue) || group.members.is_empty() {
            return;
        }
        if self.notes.len() >= NOTES {
            self.dropped += 1;
            return;
        }
        let mut rules: Vec<String> = Vec::new();
        for alert in group.members.values() {
            if rules.len() < RULES_NAMED && !rules.iter().any(|known| known == alert.name()) {
                rules.push(alert.name().to_owned());
            }
        }
        self.notes.push(WithheldNote {
            at: now,
            receiver: group.receiver.clone(),
            integration,
            group_key: group.key.clone(),
            reason,
            alerts: group.members.len(),
            rules,
        });
    }

    pub(super) fn take(&mut self) -> Vec<WithheldNote> {
        std::mem::take(&mut self.notes)
    }
}
