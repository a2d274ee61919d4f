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

    /// Remembers or forgets. Returns whether anything changed.
    pub(super) fn set(&mut self, lane: &LaneId, group_key: &Arc<str>, what: Option<Remembered>) -> bool {
        let key = (lane.clone(), group_key.clone());
        if self.entries.get(&key) == what.as_ref() {
            return false;
        }
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
                }
            }
        }
        true
    }

    /// What a lane's Alertmanager is to be told again; what has ended long enough ago is forgotten first.
    pub(super) fn handed(&mut self, lane: &LaneId, now: Timestamp) -> Vec<Arc<Notification>> {
        self.entries.retain(|_, kept| !kept.is_over(now));
        let mine = self.entries.iter().filter(|((known, _), _)| known == lane);
        let handed = mine.filter_map(|(_, kept)| match kept {
            Remembered::Handed { notification } => Some(notification.clone()),
            Remembered::Posted { .. } => None,
        });
        handed.collect()
    }

    /// Lanes that have something to tell again.
    pub(super) fn hands_over(&self, lane: &LaneId) -> bool {
        let handed = |kept: &Remembered| matches!(kept, Remembered::Handed { .. });
        self.entries.iter().any(|((known, _), kept)| known == lane && handed(kept))
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
