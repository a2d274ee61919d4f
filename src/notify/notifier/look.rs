//! A group as one receiver should see it.

use super::{Muted, Mutes};
use crate::model::AlertStatus;
use crate::notify::decision::{Told, View};
use crate::notify::flapping::Damping;
use crate::notify::group::Group;
use std::collections::BTreeMap;

/// Counts a group's members as one receiver should see them.
pub(super) fn look(
    group: &Group,
    told: Option<&Told>,
    muted: &Mutes,
    damped: &BTreeMap<u64, Damping>,
    by_time: bool,
) -> View {
    let mut view = View { muted_by_time: by_time, ..View::default() };
    for (fingerprint, alert) in &group.members {
        let knows = told.is_some_and(|told| told.firing.contains_key(fingerprint));
        let muted = muted.get(fingerprint).copied().unwrap_or(Muted::No);
        let hidden = muted != Muted::No;
        match (damped.get(fingerprint), alert.status()) {
            (Some(Damping::Damped), _) => {
                view.flapping_known += 1;
                continue;
            }
            (Some(Damping::Began), AlertStatus::Firing) if !hidden => {
                view.flapping_new += 1;
                continue;
            }
            (Some(Damping::Steady), AlertStatus::Firing) if !hidden => view.steady_firing += 1,
            (Some(Damping::Steady), AlertStatus::Resolved) if muted != Muted::Silenced => view.steady_ended += 1,
            _ => {}
        }
        if muted == Muted::Silenced && (knows || alert.status() == AlertStatus::Firing) {
            view.silenced += 1;
        }
        match (alert.status(), knows, hidden) {
            (AlertStatus::Resolved, true, _) if muted == Muted::Silenced => view.muted_known += 1,
            (AlertStatus::Firing, false, false) => view.new_firing += 1,
            (AlertStatus::Firing, true, false) => view.known_firing += 1,
            (AlertStatus::Firing, true, true) => view.muted_known += 1,
            (AlertStatus::Firing, false, true) => view.muted_new += 1,
            (AlertStatus::Resolved, true, _) => view.ended_known += 1,
            (AlertStatus::Resolved, false, false) => view.ended_untold += 1,
            (AlertStatus::Resolved, false, true) => {}
        }
    }
    view
}

/// Whether a member fires that is not muted.
pub(super) fn has_visible(group: &Group, muted: &Mutes) -> bool {
    let mut firing = group.members.iter().filter(|(_, alert)| alert.status() == AlertStatus::Firing);
    firing.any(|(fingerprint, _)| muted.get(fingerprint) == Some(&Muted::No))
}
