//! What has to be remembered of messages that were sent: which of Slack's messages told of a group, and which alerts an
//! Alertmanager was handed. Part of the outbox's state, and as durable.

use super::handover::RESEND_RESOLVED_MS;
use super::notification::Notification;
use super::outbox::LaneId;
use crate::model::{AlertStatus, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Groups of which something is remembered; the oldest is forgotten first.
pub const REMEMBERED: usize = 10_000;

/// What is remembered of one group at one receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Remembered {
    /// Slack's name of the message that told of an episode: it is edited, or answered in its thread.
    Posted {
        /// The channel's id.
        channel: String,
        /// The message's time stamp, which is its name.
        ts: String,
        /// Which episode of the group.
        since: Timestamp,
    },
    /// What an Alertmanager was last told: it is told again until all has ended and some time has passed.
    Handed {
        /// The message.
        notification: Arc<Notification>,
    },
}

impl Remembered {
    fn at(&self) -> Timestamp {
        match self {
            Self::Posted { since, .. } => *since,
            Self::Handed { notification } => notification.at,
        }
    }

    fn is_over(&self, now: Timestamp) -> bool {
        match self {
            Self::Posted { .. } => false,
            Self::Handed { notification } => {
                notification.status == AlertStatus::Resolved && now.millis_since(notification.at) > RESEND_RESOLVED_MS
            }
        }
    }
}

/// By receiver, integration and group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    entries: BTreeMap<(LaneId, Arc<str>), Remembered>,
}

impl Memory {
    pub(super) fn get(&self, lane: &LaneId, group_key: &Arc<str>) -> Option<&Remembered> {
        self.entries.get(&(lane.clone(), group_key.clone()))
    }

    /// Remembers or forgets. Returns whether anything changed, and whether an older group had to make room.
    pub(super) fn set(&mut self, lane: &LaneId, group_key: &Arc<str>, what: Option<Remembered>) -> (bool, bool) {
        let key = (lane.clone(), group_key.clone());
        if self.entries.get(&key) == what.as_ref() {
            return (false, false);
        }
        let mut made_room = false;
        match what {
            None => {
                self.entries.remove(&key);
            }
            Some(what) => {
                self.entries.insert(key, what);
                while self.entries.len() > REMEMBERED {
                    let oldest = self.entries.iter().min_by_key(|(_, kept)| kept.at()).map(|(key, _)| key.clone());
                    let Some(oldest) = oldest else { break };
                    self.entries.remove(&oldest);
                    made_room = true;
                }
            }
        }
        (true, made_room)
    }

    /// What a lane's Alertmanager is to be told again; what has ended long enough ago is forgotten first.
    pub(super) fn handed(&mut self, lane: &LaneId, now: Timestamp) -> Vec<Arc<Notification>> {
        let over: Vec<Arc<str>> =
            self.of(lane).filter(|(_, kept)| kept.is_over(now)).map(|(key, _)| key.clone()).collect();
        for key in over {
            self.entries.remove(&(lane.clone(), key));
        }
        let handed = self.of(lane).filter_map(|(_, kept)| match kept {
            Remembered::Handed { notification } => Some(notification.clone()),
            Remembered::Posted { .. } => None,
        });
        handed.collect()
    }

    /// Whether a lane has something to tell again.
    pub(super) fn hands_over(&self, lane: &LaneId) -> bool {
        self.of(lane).any(|(_, kept)| matches!(kept, Remembered::Handed { .. }))
    }

    /// What is remembered of one lane, by group.
    fn of<'a>(&'a self, lane: &'a LaneId) -> impl Iterator<Item = (&'a Arc<str>, &'a Remembered)> {
        let first = (lane.clone(), Arc::from(""));
        let entries = self.entries.range(first..).take_while(move |((known, _), _)| known == lane);
        entries.map(|((_, key), kept)| (key, kept))
    }

    /// The lanes of which anything is remembered.
    pub(super) fn lanes(&self) -> Vec<LaneId> {
        let mut lanes: Vec<LaneId> = self.entries.keys().map(|(lane, _)| lane.clone()).collect();
        lanes.dedup();
        lanes
    }

    /// Forgets what belongs to lanes that are gone.
    pub(super) fn keep_lanes(&mut self, configured: impl Fn(&LaneId) -> bool) {
        self.entries.retain(|(lane, _), _| configured(lane));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_and_lanes_that_are_gone_are_forgotten() {
        let (lane, other): (LaneId, LaneId) = (("a".into(), 0), ("b".into(), 1));
        let posted =
            |since| Remembered::Posted { channel: "C".into(), ts: "1".into(), since: Timestamp::from_millis(since) };
        let mut memory = Memory::default();
        assert_eq!(memory.set(&other, &"g".into(), Some(posted(5))), (true, false));
        assert_eq!(memory.set(&other, &"g".into(), Some(posted(5))), (false, false));
        for at in 0..REMEMBERED as i64 - 1 {
            assert_eq!(memory.set(&lane, &format!("{at}").into(), Some(posted(100 + at))), (true, false));
        }
        assert_eq!(memory.set(&lane, &"new".into(), Some(posted(1_000_000))), (true, true));
        assert_eq!(memory.get(&other, &"g".into()), None, "it was the oldest");
        memory.keep_lanes(|lane| &*lane.0 == "b");
        assert!(memory.lanes().is_empty());
    }
}
