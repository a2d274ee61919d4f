//! What the checkpoint keeps of the rules: alerts (pending since, firing since, kept firing, resolved) and what event
//! conditions remember. Downtime counts neither towards `for` nor towards `absent`.

use super::alert_state::{AlertPhase, AlertState};
use super::events::EventRulesSnapshot;
use super::schedule::Rules;
use super::slo::ObjectivesSnapshot;
use crate::model::{Labels, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The layout of the snapshot; another one is refused.
const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Snapshot {
    version: u32,
    taken_at: Timestamp,
    groups: Vec<GroupSnapshot>,
    events: EventRulesSnapshot,
    slos: ObjectivesSnapshot,
    deaf: Vec<(Labels, AlertState)>,
}

#[derive(Serialize, Deserialize)]
struct GroupSnapshot {
    file: Arc<str>,
    name: Arc<str>,
    rules: Vec<RuleSnapshot>,
}

#[derive(Serialize, Deserialize)]
struct RuleSnapshot {
    name: Arc<str>,
    alerts: Vec<(Labels, AlertState)>,
    written: BTreeSet<Labels>,
}

/// Why a snapshot cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes are not a snapshot of this layout.
    #[error("the saved alert state cannot be read: {0}")]
    Format(String),
    /// Another version wrote it.
    #[error("the saved alert state has version {0}, this program reads version {VERSION}")]
    Version(u32),
}

impl Rules {
    /// Everything that must survive, as bytes.
    pub fn snapshot(&self, now: Timestamp) -> Vec<u8> {
        let groups = self.groups.iter().map(|group| GroupSnapshot {
            file: group.group.file.clone(),
            name: group.group.name.clone(),
            rules: group
                .group
                .rules
                .iter()
                .zip(&group.rules)
                .map(|(rule, state)| RuleSnapshot {
                    name: rule.name.clone(),
                    alerts: state.states.iter().map(|(labels, alert)| (labels.clone(), alert.clone())).collect(),
                    written: state.written.as_ref().clone(),
                })
                .collect(),
        });
        let snapshot = Snapshot {
            version: VERSION,
            taken_at: now,
            groups: groups.collect(),
            events: self.events.snapshot(),
            slos: self.slos.snapshot(),
            deaf: self.deaf.iter().map(|(labels, alert)| (labels.clone(), alert.clone())).collect(),
        };
        // Only writing into a full memory could fail, and that ends the process anyway.
        postcard::to_stdvec(&snapshot).unwrap_or_default()
    }

    /// Takes over a snapshot, by file, group, name and order; call it before anything else. The time since it was taken
    /// is not counted.
    ///
    /// # Errors
    /// [`SnapshotError`]; nothing has changed then.
    pub fn restore(&mut self, bytes: &[u8], now: Timestamp) -> Result<(), SnapshotError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (version, _) =
            postcard::take_from_bytes::<u32>(bytes).map_err(|error| SnapshotError::Format(error.to_string()))?;
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let snapshot: Snapshot =
            postcard::from_bytes(bytes).map_err(|error| SnapshotError::Format(error.to_string()))?;
        let lost_us = now.micros_since(snapshot.taken_at).max(0);
        let shifted = |(labels, mut alert): (Labels, AlertState)| {
            if alert.phase == AlertPhase::Pending {
                alert.active_at = alert.active_at.plus_micros(lost_us);
            }
            alert.keep_firing_since = alert.keep_firing_since.map(|since| since.plus_micros(lost_us));
            (labels, alert)
        };
        let settings = self.set.settings.clone();
        for group in &mut self.groups {
            let same = |saved: &&GroupSnapshot| saved.file == group.group.file && saved.name == group.group.name;
            let Some(saved) = snapshot.groups.iter().find(same) else { continue };
            let mut used = vec![false; saved.rules.len()];
            for (index, rule) in group.group.rules.iter().enumerate() {
                let Some(at) = (0..saved.rules.len()).find(|at| !used[*at] && saved.rules[*at].name == rule.name)
                else {
                    continue;
                };
                used[at] = true;
                let from = &saved.rules[at];
                let mut states: super::alert_state::AlertStates = from.alerts.iter().cloned().map(shifted).collect();
                for (labels, state) in &mut states {
                    super::schedule::publish(labels, state, rule.expression.text(), &settings);
                }
                group.rules[index].states = Arc::new(states);
                group.rules[index].written = Arc::new(from.written.clone());
            }
            group.restored = true;
            group.set_wake();
        }
        self.deaf = snapshot.deaf.into_iter().map(shifted).collect();
        self.events.restore(snapshot.events, now, lost_us);
        self.slos.restore(snapshot.slos, now, lost_us);
        self.mark_dirty();
        Ok(())
    }
}
