//! What waits and what was given up: to be listed, looked at, tried again, dropped.

use super::record::{Fate, Record};
use super::{Entry, GivenUp, Outbox, bury, put_back};
use crate::model::{AlertStatus, Timestamp};
use crate::notify::decision::Reason;
use crate::notify::notification::Notification;
use serde::Serialize;
use std::sync::Arc;

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// It waits for its turn, or for its next attempt.
    Waiting,
    /// It is being sent.
    Sending,
    /// It was given up: a dead letter.
    Dead,
}

/// A message of the outbox, as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Letter {
    /// Names it.
    pub id: u64,
    /// Where it is.
    pub state: Place,
    /// The receiver.
    pub receiver: Arc<str>,
    /// Which of its integrations.
    pub integration: usize,
    /// The group.
    pub group_key: Arc<str>,
    /// The key that stays the same at each attempt, restarts included: a receiver that has seen it may drop it.
    pub key: String,
    /// Firing or resolved.
    pub status: AlertStatus,
    /// Why it is to be sent.
    pub reason: Reason,
    /// How many alerts it tells of.
    pub alerts: usize,
    /// The names of their rules, the first twenty.
    pub rules: Vec<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was decided, in microseconds since the epoch.
    pub decided: Timestamp,
    /// When it is tried next.
    pub next_try: Option<Timestamp>,
    /// Why it was given up.
    pub why: Option<GivenUp>,
    /// When it was given up.
    pub given_up: Option<Timestamp>,
    /// What the receiver said last.
    pub error: String,
}

impl Letter {
    fn new(id: u64, state: Place, notification: &Notification) -> Self {
        let Record { receiver, integration, group_key, key, status, reason, alerts, rules, .. } =
            Record::new(notification, Fate::Queued, notification.at);
        Self {
            id,
            state,
            receiver,
            integration,
            group_key,
            key,
            status,
            reason,
            alerts,
            rules,
            attempts: 0,
            decided: notification.at,
            next_try: None,
            why: None,
            given_up: None,
            error: String::new(),
        }
    }

    fn of(entry: &Entry, state: Place) -> Self {
        Self {
            attempts: entry.attempts,
            next_try: (state == Place::Waiting).then_some(entry.next_try),
            error: entry.last_error.clone(),
            ..Self::new(entry.id, state, &entry.notification)
        }
    }
}

/// What became of a wish to try a dead letter again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeued {
    /// It waits, due at once.
    Waiting,
    /// It waited already: it is due at once now.
    Hurried,
    /// It is just being sent.
    Sending,
    /// A newer message of its group waits, which says more: this one is dropped.
    NewerWaits,
    /// There is no message of this number.
    Unknown,
}

impl Outbox {
    /// Everything that waits, is being sent or was given up, in the order of their numbers.
    pub fn letters(&self) -> Vec<Letter> {
        let mut letters: Vec<Letter> = Vec::new();
        for lane in self.lanes.values() {
            letters.extend(lane.in_flight.iter().map(|entry| Letter::of(entry, Place::Sending)));
            letters.extend(lane.pending.values().map(|entry| Letter::of(entry, Place::Waiting)));
        }
        letters.extend(self.dead.iter().map(|dead| Letter {
            attempts: dead.attempts,
            why: Some(dead.why),
            given_up: Some(dead.at),
            error: dead.error.clone(),
            ..Letter::new(dead.id, Place::Dead, &dead.notification)
        }));
        letters.sort_by_key(|letter| letter.id);
        letters
    }

    /// One message with all that it says.
    pub fn letter(&self, id: u64) -> Option<(Letter, Arc<Notification>)> {
        let letter = self.letters().into_iter().find(|letter| letter.id == id)?;
        let entries = self.lanes.values().flat_map(|lane| lane.in_flight.iter().chain(lane.pending.values()));
        let live = entries.map(|entry| (entry.id, &entry.notification));
        let mut all = live.chain(self.dead.iter().map(|dead| (dead.id, &dead.notification)));
        let notification = all.find(|(known, _)| *known == id)?.1.clone();
        Some((letter, notification))
    }

    /// Puts a message that was given up in again, under its number, and makes one that waits due at once. A breaker that is
    /// open lets it through: whoever asks for it knows that the receiver is well again.
    pub fn requeue(&mut self, id: u64, now: Timestamp) -> Requeued {
        for lane in self.lanes.values_mut() {
            if lane.in_flight.as_ref().is_some_and(|entry| entry.id == id) {
                return Requeued::Sending;
            }
            if let Some(entry) = lane.pending.values_mut().find(|entry| entry.id == id) {
                (entry.next_try, lane.paused_until) = (now, now);
                lane.breaker.hurry(now);
                self.records.note(Record::of(entry, Fate::RetriedByHand, now));
                self.revision += 1;
                return Requeued::Hurried;
            }
        }
        let Some(at) = self.dead.iter().position(|letter| letter.id == id) else { return Requeued::Unknown };
        let Some(letter) = self.dead.remove(at) else { return Requeued::Unknown };
        self.revision += 1;
        let entry = Entry {
            id,
            notification: letter.notification,
            attempts: 0,
            next_try: now,
            queued_at: now,
            last_error: letter.error,
        };
        let lane_id = (entry.notification.receiver.clone(), entry.notification.integration);
        let lane = self.lanes.entry(lane_id).or_default();
        lane.breaker.hurry(now);
        lane.paused_until = now;
        if lane.pending.contains_key(&entry.notification.group_key) {
            // It says what came after; endings that only this one tells of are taken over.
            self.records.note(Record::of(&entry, Fate::Superseded, now));
            put_back(lane, entry);
            return Requeued::NewerWaits;
        }
        self.records.note(Record::of(&entry, Fate::RetriedByHand, now));
        put_back(lane, entry);
        while self.len() > self.limit_messages && self.evict_oldest(now) {}
        Requeued::Waiting
    }

    /// Drops a message that waits or was given up. `None` when there is none of this number, or it is just being sent.
    pub fn discard(&mut self, id: u64, now: Timestamp) -> Option<Letter> {
        let (letter, notification) = self.letter(id)?;
        if letter.state == Place::Sending {
            return None;
        }
        self.dead.retain(|dead| dead.id != id);
        for lane in self.lanes.values_mut() {
            lane.pending.retain(|_, entry| entry.id != id);
        }
        self.revision += 1;
        let mut record = Record::new(&notification, Fate::DroppedByHand, now);
        (record.id, record.attempts) = (Some(id), letter.attempts);
        record.detail.clone_from(&letter.error);
        self.records.note(record);
        Some(letter)
    }

    /// Gives up the oldest waiting message of the longest lane: a receiver that is down must not push out the others'.
    pub(super) fn evict_oldest(&mut self, now: Timestamp) -> bool {
        let longest = self.lanes.values_mut().max_by_key(|lane| lane.pending.len());
        let Some(lane) = longest else { return false };
        let oldest = lane.pending.iter().min_by_key(|(_, entry)| entry.id).map(|(key, _)| key.clone());
        let Some(entry) = oldest.and_then(|key| lane.pending.remove(&key)) else { return false };
        lane.counters.outbox_full += 1;
        bury(&mut self.dead, &mut self.records, entry, GivenUp::OutboxFull, now);
        true
    }
}
