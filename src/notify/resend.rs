//! When an Alertmanager is told again of what it was handed. Pure: the lane's task asks and sends.

use super::handover::RESEND_MS;
use super::memory::Remembered;
use super::notification::Notification;
use super::outbox::{LaneId, Outbox};
use super::receiver::IntegrationKind;
use super::routing::Routing;
use crate::model::Timestamp;
use std::sync::Arc;

/// The timer of one lane.
#[derive(Debug, Default)]
pub(super) struct Resend {
    next: Option<Timestamp>,
}

impl Resend {
    /// Before an attempt: what is remembered of the group, and whether another one was forgotten for it. For an
    /// Alertmanager the message is what it is to know from now on, whatever becomes of this attempt.
    pub(super) fn begin(
        &mut self,
        outbox: &mut Outbox,
        routing: &Routing,
        lane: &LaneId,
        told: &Arc<Notification>,
    ) -> (Option<Remembered>, bool) {
        let kind = routing.integration(&lane.0, lane.1).map(|integration| &integration.kind);
        if matches!(kind, Some(IntegrationKind::Alertmanager(_))) {
            let handed = Remembered::Handed { notification: told.clone() };
            return (None, outbox.remember(lane, &told.group_key, Some(handed)));
        }
        (outbox.recall(lane, &told.group_key).cloned(), false)
    }

    /// What is to be told again now; the timer runs on. Nothing while there is nothing to repeat. A lane that was taken
    /// over from before a restart repeats at once.
    pub(super) fn due(&mut self, outbox: &mut Outbox, lane: &LaneId, now: Timestamp) -> Option<Vec<Arc<Notification>>> {
        let handed = outbox.handed(lane, now);
        if handed.is_empty() {
            self.next = None;
            return None;
        }
        let newest = handed.iter().map(|told| told.at).max().unwrap_or(now);
        let next = self.next.unwrap_or_else(|| newest.plus_millis(RESEND_MS)).min(now.plus_millis(RESEND_MS));
        self.next = Some(next);
        if next > now {
            return None;
        }
        self.next = Some(now.plus_millis(RESEND_MS));
        Some(handed)
    }

    /// When to look again.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.next
    }
}
