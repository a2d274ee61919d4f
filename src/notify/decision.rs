//! Whether a group's state is told to a receiver now: a pure decision with a named reason.

use crate::model::{Alert, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a notification is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The group fires and the receiver knows nothing of it.
    First,
    /// An alert fires that the receiver has not been told of.
    NewMember,
    /// Some alerts have ended, others still fire.
    SomeResolved,
    /// All alerts that the receiver was told of have ended.
    AllResolved,
    /// Nothing is new, but `repeat_interval` has passed.
    Repeat,
    /// Sent by hand, to see whether the receiver works.
    Test,
    /// An alert fires and ends again and again: its further changes are withheld until it is steady.
    Flapping,
    /// An alert that was flapping is steady again.
    Steady,
}

/// Why nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Withheld {
    /// The receiver knows this state already.
    Unchanged,
    /// It ended before anybody was told that it fired.
    EndedUntold,
    /// Every alert with news is inhibited by another one.
    Inhibited,
    /// Every alert with news is silenced.
    Silenced,
    /// The route is muted now by its time intervals.
    OutsideActiveTime,
    /// The receiver does not want to hear of endings (`send_resolved: false`).
    ResolvedNotWanted,
    /// Not every rule has been evaluated since the start.
    WaitingForFirstEvaluation,
    /// `group_wait` or `group_interval` has not passed.
    NotDue,
    /// The alert fires and ends again and again, and the receiver knows that it does.
    Flapping,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Send, for this reason.
    Send(Reason),
    /// Do not, for this reason.
    Withhold(Withheld),
}

/// What one receiver was last told of one group: an entry of the notification log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// When it was last told.
    pub at: Timestamp,
    /// When it was first told, since the group last had nothing firing. Mails of one episode share a thread by it.
    pub since: Timestamp,
    /// The alerts that it believes to fire, by fingerprint.
    pub firing: BTreeMap<u64, Arc<Alert>>,
}

/// The group's state as one receiver should see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Firing, not muted, and the receiver does not know.
    pub new_firing: usize,
    /// Firing, not muted, and the receiver knows.
    pub known_firing: usize,
    /// Muted, and the receiver believes that they fire; they are neither told nor taken for ended. What a silence mutes is
    /// among them even when it has ended.
    pub muted_known: usize,
    /// Firing and muted, and the receiver does not know.
    pub muted_new: usize,
    /// Ended, and the receiver believes that they fire. Of what mutes, only a silence hides an ending, as long as it lasts.
    pub ended_known: usize,
    /// Ended, not muted, and the receiver was never told of them.
    pub ended_untold: usize,
    /// Of those in `muted_new` and `muted_known`, those that a silence mutes.
    pub silenced: usize,
    /// The route's time intervals mute it.
    pub muted_by_time: bool,
    /// Firing, flapping, and the receiver does not know that it flaps.
    pub flapping_new: usize,
    /// Flapping, and the receiver knows: neither told nor taken for ended.
    pub flapping_known: usize,
    /// Was flapping, is steady now and fires; the receiver waits to hear of it.
    pub steady_firing: usize,
    /// Was flapping, is steady now and has ended; the receiver waits to hear of it. Counted in `ended_known`, too.
    pub steady_ended: usize,
}

/// Decides as Alertmanager's deduplication stage does (notify/dedup_stage.go), with differences that keep the promise
/// that each firing message is followed by its resolution: an ending is told although the alert is inhibited or outside
/// its route's times by then; what ends under a silence is not told while that lasts, as in Alertmanager, but is told
/// after it (Alertmanager never tells it); and an alert that ends under `send_resolved: false` is forgotten, so that it
/// is news when it fires again.
pub fn decide(
    told: Option<&Told>,
    view: View,
    send_resolved: bool,
    repeat_interval_ms: i64,
    now: Timestamp,
) -> Decision {
    let muted = || {
        Decision::Withhold(match view {
            View { muted_by_time: true, .. } => Withheld::OutsideActiveTime,
            View { silenced: 1.., .. } => Withheld::Silenced,
            _ => Withheld::Inhibited,
        })
    };
    let Some(told) = told else {
        return match view {
            View { new_firing: 1.., .. } => Decision::Send(Reason::First),
            View { flapping_new: 1.., .. } => Decision::Send(Reason::Flapping),
            View { muted_new: 1.., .. } => muted(),
            _ => Decision::Withhold(Withheld::EndedUntold),
        };
    };
    if view.new_firing > 0 {
        return Decision::Send(Reason::NewMember);
    }
    if view.flapping_new > 0 {
        return Decision::Send(Reason::Flapping);
    }
    if view.steady_firing > 0 || (view.steady_ended > 0 && send_resolved) {
        return Decision::Send(Reason::Steady);
    }
    let still_firing = view.known_firing + view.muted_known + view.flapping_known;
    if view.ended_known > 0 && still_firing == 0 && view.ended_known == told.firing.len() {
        return if send_resolved {
            Decision::Send(Reason::AllResolved)
        } else {
            Decision::Withhold(Withheld::ResolvedNotWanted)
        };
    }
    if view.ended_known + view.ended_untold > 0 {
        return if send_resolved {
            Decision::Send(Reason::SomeResolved)
        } else {
            Decision::Withhold(Withheld::ResolvedNotWanted)
        };
    }
    if view.known_firing > 0 && now.millis_since(told.at) >= repeat_interval_ms {
        return Decision::Send(Reason::Repeat);
    }
    match view {
        View { muted_new: 1.., .. } | View { silenced: 1.., .. } => muted(),
        View { flapping_known: 1.., .. } => Decision::Withhold(Withheld::Flapping),
        _ => Decision::Withhold(Withheld::Unchanged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    fn told(fingerprints: &[u64]) -> Told {
        let alert = Arc::new(Alert {
            labels: Labels::from_pairs([("alertname", "A")]),
            annotations: Labels::default(),
            active_at: Timestamp::EPOCH,
            fired_at: Timestamp::EPOCH,
            resolved_at: None,
            value_at_firing: 1.0,
            value: 1.0,
            value_at_resolve: None,
            generator_url: String::new(),
            context: Default::default(),
        });
        let firing = fingerprints.iter().map(|fingerprint| (*fingerprint, alert.clone())).collect();
        Told { at: Timestamp::from_millis(1_000), since: Timestamp::from_millis(1_000), firing }
    }

    #[test]
    fn every_reason_has_its_case() {
        let none = View::default();
        let now = Timestamp::from_millis(2_000);
        let check = |told: Option<Told>, view: View, send_resolved: bool, expected: Decision| {
            assert_eq!(decide(told.as_ref(), view, send_resolved, 10_000, now), expected, "{told:?} {view:?}");
        };
        use Decision::{Send, Withhold};
        check(None, View { new_firing: 1, ..none }, true, Send(Reason::First));
        check(None, View { muted_new: 1, ..none }, true, Withhold(Withheld::Inhibited));
        check(None, View { muted_new: 1, muted_by_time: true, ..none }, true, Withhold(Withheld::OutsideActiveTime));
        check(None, View { ended_untold: 1, ..none }, true, Withhold(Withheld::EndedUntold));
        check(Some(told(&[1])), View { new_firing: 1, known_firing: 1, ..none }, true, Send(Reason::NewMember));
        check(Some(told(&[1])), View { known_firing: 1, ..none }, true, Withhold(Withheld::Unchanged));
        check(Some(told(&[1])), View { ended_known: 1, ..none }, true, Send(Reason::AllResolved));
        check(Some(told(&[1])), View { ended_known: 1, ..none }, false, Withhold(Withheld::ResolvedNotWanted));
        check(Some(told(&[1, 2])), View { ended_known: 1, known_firing: 1, ..none }, true, Send(Reason::SomeResolved));
        check(Some(told(&[1, 2])), View { ended_known: 1, muted_known: 1, ..none }, true, Send(Reason::SomeResolved));
        check(Some(told(&[1])), View { muted_known: 1, ..none }, true, Withhold(Withheld::Unchanged));
        check(None, View { flapping_new: 1, ..none }, true, Send(Reason::Flapping));
        check(Some(told(&[1])), View { flapping_new: 1, known_firing: 1, ..none }, true, Send(Reason::Flapping));
        check(Some(told(&[1])), View { flapping_known: 1, ..none }, true, Withhold(Withheld::Flapping));
        let one_ended = View { flapping_known: 1, ended_known: 1, ..none };
        check(Some(told(&[1, 2])), one_ended, true, Send(Reason::SomeResolved));
        check(Some(told(&[1])), View { steady_firing: 1, ..none }, false, Send(Reason::Steady));
        let steady_ended = View { steady_ended: 1, ended_known: 1, ..none };
        check(Some(told(&[1])), steady_ended, true, Send(Reason::Steady));
        check(Some(told(&[1])), steady_ended, false, Withhold(Withheld::ResolvedNotWanted));
        check(None, View { muted_new: 1, silenced: 1, ..none }, true, Withhold(Withheld::Silenced));
        check(Some(told(&[1])), View { muted_known: 1, silenced: 1, ..none }, true, Withhold(Withheld::Silenced));
        let later = Timestamp::from_millis(11_000);
        let known = View { known_firing: 1, ..none };
        assert_eq!(decide(Some(&told(&[1])), known, true, 10_000, later), Send(Reason::Repeat));
        let muted = View { muted_known: 1, ..none };
        assert_eq!(decide(Some(&told(&[1])), muted, true, 10_000, later), Withhold(Withheld::Unchanged));
    }
}
