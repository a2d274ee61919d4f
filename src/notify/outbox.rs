//! The outbox: what is to be delivered, in which order, and when it is tried again. Edge-triggered: once a message is in
//! here it is delivered, superseded by a newer one for the same receiver and group, or listed as given up.
//!
//! A pure state machine; the tasks that talk to receivers are in `deliver`. Messages are kept as [`Notification`]s and put
//! into a receiver's words when they are sent, so that a corrected address or text applies to what is waiting.

mod letters;
mod record;

pub use letters::{Letter, Place, Requeued};
pub use record::{Fate, Record, notify_seconds};

use record::Records;

use super::breaker::{Breaker, BreakerState};
use super::decision::Reason;
use super::memory::{Memory, Remembered};
use super::notification::Notification;
use crate::model::{AlertStatus, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Wait before the second attempt, in milliseconds; it doubles with each further one.
pub const FIRST_RETRY_MS: i64 = 500;
/// The longest wait between two attempts, in milliseconds.
pub const LONGEST_RETRY_MS: i64 = 60_000;
/// The longest Retry-After that is honoured, in milliseconds.
pub const LONGEST_RETRY_AFTER_MS: i64 = 3_600_000;
/// A message that could not be delivered for so long is given up, in milliseconds.
pub const MAX_AGE_MS: i64 = 24 * 3_600_000;
/// Messages given up that are listed.
pub const DEAD_LETTERS: usize = 100;
/// Deliveries that are remembered for the API.
pub const HISTORY: usize = 200;

/// One integration of one receiver; each has its own queue and task.
pub type LaneId = (Arc<str>, usize);

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it; with what it answered.
    Delivered(String),
    /// It may work later.
    Retry {
        /// What happened, in words.
        error: String,
        /// How long the receiver asked to be left alone, in milliseconds.
        retry_after_ms: Option<i64>,
    },
    /// It will never work.
    Final {
        /// What happened, in words.
        error: String,
    },
}

/// What to do for a lane now.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Send this; [`Outbox::finish`] takes the outcome.
    Send(Attempt),
    /// Nothing before this time; `None` when only a new message will do.
    Wait(Option<Timestamp>),
}

/// One attempt at one message.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Names it in [`Outbox::finish`].
    pub id: u64,
    /// 1 for the first.
    pub attempt: u32,
    /// What to say.
    pub notification: Arc<Notification>,
}

/// What became of a message that was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// It waits.
    Added,
    /// It took the place of an older one that was not delivered.
    Superseded,
}

/// Why a message was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GivenUp {
    /// The receiver refused it for good.
    Refused,
    /// It could not be delivered for a day.
    Expired,
    /// `limits.outbox_messages` was reached; the oldest goes first.
    OutboxFull,
    /// Its receiver is no longer configured.
    ReceiverGone,
}

impl GivenUp {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Refused => "the receiver refused it",
            Self::Expired => "it could not be delivered for a day",
            Self::OutboxFull => "the outbox was full (limits.outbox_messages)",
            Self::ReceiverGone => "its receiver is no longer configured",
        }
    }
}

/// A message that was given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Names it in [`Outbox::requeue`].
    pub id: u64,
    /// Why.
    pub why: GivenUp,
    /// What the receiver said last.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up.
    pub at: Timestamp,
    /// The message.
    pub notification: Arc<Notification>,
}

/// One attempt of the past, for the API.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Delivery {
    /// When it ended.
    pub at: Timestamp,
    /// The receiver.
    pub receiver: Arc<str>,
    /// Which of its integrations.
    pub integration: usize,
    /// The group.
    pub group_key: Arc<str>,
    /// Firing or resolved.
    pub status: AlertStatus,
    /// How many alerts it told of.
    pub alerts: usize,
    /// Why it was sent.
    pub reason: Reason,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// `delivered`, `retry` or `given_up`.
    pub outcome: &'static str,
    /// What the receiver said.
    pub detail: String,
    /// From the decision to the end of this attempt, in milliseconds.
    pub latency_ms: i64,
}

/// Counters of one lane since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LaneCounters {
    /// Messages that the receiver has.
    pub delivered: u64,
    /// Attempts that failed and are repeated.
    pub retried: u64,
    /// Messages replaced by a newer one before they were delivered.
    pub superseded: u64,
    /// Messages that the receiver refused for good.
    pub refused: u64,
    /// Messages given up after a day.
    pub expired: u64,
    /// Messages given up because the outbox was full.
    pub outbox_full: u64,
}

/// The last thing that went wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LastError {
    /// When.
    pub at: Timestamp,
    /// What.
    pub error: String,
}

/// One lane as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct LaneStatus {
    /// The receiver's name.
    pub receiver: Arc<str>,
    /// Which of its integrations.
    pub integration: usize,
    /// Messages that wait or are being sent.
    pub pending: usize,
    /// Since when the oldest of them waits.
    pub oldest: Option<Timestamp>,
    /// When the receiver last took one.
    pub last_delivery: Option<Timestamp>,
    /// What last went wrong; `None` after a delivery.
    pub last_error: Option<LastError>,
    /// The breaker's state.
    pub breaker: BreakerState,
    /// Counters since the start.
    pub counters: LaneCounters,
}

/// The outbox as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct OutboxStatus {
    /// Messages that wait or are being sent.
    pub pending: usize,
    /// `limits.outbox_messages`.
    pub limit_messages: usize,
    /// By receiver and integration.
    pub lanes: Vec<LaneStatus>,
    /// Messages given up since the start because their receiver is no longer configured.
    pub receiver_gone: u64,
    /// Dead letters that are no longer kept since the start, because there were more than a hundred.
    pub dead_letters_forgotten: u64,
    /// Messages given up, the newest last.
    pub dead_letters: Vec<DeadLetter>,
    /// Past attempts, the newest last.
    pub history: Vec<Delivery>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    id: u64,
    notification: Arc<Notification>,
    attempts: u32,
    next_try: Timestamp,
    queued_at: Timestamp,
    last_error: String,
}

#[derive(Debug, Default)]
struct Lane {
    pending: BTreeMap<Arc<str>, Entry>,
    in_flight: Option<Entry>,
    /// When the attempt that is in flight began.
    began: Timestamp,
    breaker: Breaker,
    paused_until: Timestamp,
    counters: LaneCounters,
    last_delivery: Option<Timestamp>,
    last_error: Option<LastError>,
}

impl Lane {
    fn len(&self) -> usize {
        self.pending.len() + usize::from(self.in_flight.is_some())
    }
}

#[derive(Serialize, Deserialize)]
struct Saved {
    entries: Vec<Entry>,
    dead: Vec<DeadLetter>,
    next_id: u64,
}

/// Messages on their way. See the module's documentation.
#[derive(Debug)]
pub struct Outbox {
    lanes: BTreeMap<LaneId, Lane>,
    dead: VecDeque<DeadLetter>,
    history: VecDeque<Delivery>,
    records: Records,
    memory: Memory,
    limit_messages: usize,
    receiver_gone: u64,
    next_id: u64,
    jitter: u64,
    revision: u64,
}

impl Outbox {
    /// An empty one that holds at most `limit_messages`; `seed` spreads the retries.
    pub fn new(limit_messages: usize, seed: u64) -> Self {
        Self {
            lanes: BTreeMap::new(),
            dead: VecDeque::new(),
            history: VecDeque::new(),
            records: Records::default(),
            memory: Memory::default(),
            limit_messages: limit_messages.max(1),
            receiver_gone: 0,
            next_id: 1,
            jitter: seed | 1,
            revision: 0,
        }
    }

    /// Puts a message in. An older one for the same receiver and group that was not delivered gives way to it; endings
    /// that only the older one told of are taken over.
    pub fn push(&mut self, notification: Notification, now: Timestamp) -> Queued {
        self.revision += 1;
        let lane_id = (notification.receiver.clone(), notification.integration);
        let group_key = notification.group_key.clone();
        let id = self.next_id;
        self.next_id += 1;
        let lane = self.lanes.entry(lane_id).or_default();
        let mut entry = Entry {
            id,
            notification: Arc::new(notification),
            attempts: 0,
            next_try: now,
            queued_at: now,
            last_error: String::new(),
        };
        let result = match lane.pending.remove(&group_key) {
            Some(older) => {
                lane.counters.superseded += 1;
                self.records.note(Record::of(&older, Fate::Superseded, now));
                replace(&mut entry, older);
                Queued::Superseded
            }
            None => Queued::Added,
        };
        lane.pending.insert(group_key, entry);
        while self.len() > self.limit_messages && self.evict_oldest(now) {}
        result
    }

    /// Messages that wait or are being sent.
    pub fn len(&self) -> usize {
        self.lanes.values().map(Lane::len).sum()
    }

    /// Whether nothing waits and nothing is being sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages it has seen in its life, restarts included: of two snapshots, the one that has seen more is newer.
    pub fn seen(&self) -> u64 {
        self.next_id
    }

    /// Changes whenever [`Outbox::snapshot`] would.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The lanes that hold messages, or something to tell again.
    pub fn lanes(&self) -> impl Iterator<Item = &LaneId> {
        self.lanes.iter().filter(|(id, lane)| lane.len() > 0 || self.memory.hands_over(id)).map(|(id, _)| id)
    }

    /// What is remembered of a group's earlier message.
    pub fn recall(&self, lane_id: &LaneId, group_key: &Arc<str>) -> Option<&Remembered> {
        self.memory.get(lane_id, group_key)
    }

    /// Remembers something of a group's message, or forgets it. Returns whether an older group was forgotten for it.
    #[must_use = "what is forgotten is counted"]
    pub fn remember(&mut self, lane_id: &LaneId, group_key: &Arc<str>, what: Option<Remembered>) -> bool {
        let (changed, made_room) = self.memory.set(lane_id, group_key, what);
        self.revision += u64::from(changed);
        made_room
    }

    /// Forgets what is remembered of receivers that are no longer configured: should one come back, what it was told long
    /// ago is no news.
    pub fn keep_memory(&mut self, configured: impl Fn(&LaneId) -> bool) {
        self.memory.keep_lanes(configured);
        self.revision += 1;
    }

    /// What a lane's Alertmanager was handed and is to be told again; groups with news on their way are left out.
    pub fn handed(&mut self, lane_id: &LaneId, now: Timestamp) -> Vec<Arc<Notification>> {
        let mut handed = self.memory.handed(lane_id, now);
        if let Some(lane) = self.lanes.get(lane_id) {
            let in_flight = lane.in_flight.as_ref().map(|entry| &entry.notification.group_key);
            handed.retain(|told| !lane.pending.contains_key(&told.group_key) && in_flight != Some(&told.group_key));
        }
        handed
    }

    /// What to do for a lane now. A lane sends one message at a time, the one that was due first.
    pub fn next(&mut self, lane_id: &LaneId, now: Timestamp) -> Next {
        self.expire(lane_id, now);
        let Some(lane) = self.lanes.get_mut(lane_id) else { return Next::Wait(None) };
        if lane.in_flight.is_some() {
            return Next::Wait(None);
        }
        let Some((key, due)) =
            lane.pending.iter().map(|(key, e)| (key.clone(), (e.next_try, e.id))).min_by_key(|(_, due)| *due)
        else {
            return Next::Wait(None);
        };
        let due = due.0.max(lane.paused_until);
        if due > now {
            return Next::Wait(Some(due));
        }
        if let Err(until) = lane.breaker.admit(now) {
            return Next::Wait(until);
        }
        let Some(mut entry) = lane.pending.remove(&key) else { return Next::Wait(None) };
        entry.attempts += 1;
        let attempt = Attempt { id: entry.id, attempt: entry.attempts, notification: entry.notification.clone() };
        lane.in_flight = Some(entry);
        lane.began = now;
        Next::Send(attempt)
    }

    /// Takes the outcome of an attempt.
    pub fn finish(&mut self, lane_id: &LaneId, id: u64, outcome: Outcome, now: Timestamp) {
        let jitter = self.jitter();
        let Some(lane) = self.lanes.get_mut(lane_id) else { return };
        let Some(mut entry) = lane.in_flight.take_if(|entry| entry.id == id) else { return };
        self.revision += 1;
        let (word, detail) = match &outcome {
            Outcome::Delivered(detail) => ("delivered", detail.clone()),
            Outcome::Retry { error, .. } => ("retry", error.clone()),
            Outcome::Final { error } => ("given_up", error.clone()),
        };
        push_bounded(
            &mut self.history,
            HISTORY,
            Delivery {
                at: now,
                receiver: lane_id.0.clone(),
                integration: lane_id.1,
                group_key: entry.notification.group_key.clone(),
                status: entry.notification.status,
                alerts: entry.notification.alerts.len(),
                reason: entry.notification.reason,
                attempt: entry.attempts,
                outcome: word,
                detail: detail.clone(),
                latency_ms: now.millis_since(entry.notification.at),
            },
        );
        let fate = match &outcome {
            Outcome::Delivered(_) => Fate::Delivered,
            Outcome::Retry { .. } => Fate::Failing,
            Outcome::Final { .. } => Fate::GivenUp,
        };
        if fate != Fate::GivenUp {
            let took_ms = now.millis_since(lane.began).max(0);
            self.records.note_attempt(&entry, fate, &detail, took_ms, now);
        }
        match outcome {
            Outcome::Delivered(_) => {
                lane.breaker.answered();
                lane.counters.delivered += 1;
                lane.last_delivery = Some(now);
                lane.last_error = None;
            }
            Outcome::Retry { retry_after_ms, .. } => {
                lane.counters.retried += 1;
                lane.last_error = Some(LastError { at: now, error: detail.clone() });
                entry.last_error = detail;
                if let Some(wait_ms) = retry_after_ms {
                    // The receiver is there and asked for patience: that holds for all messages, and is no breakdown.
                    lane.breaker.answered();
                    let wait_ms = wait_ms.clamp(0, LONGEST_RETRY_AFTER_MS);
                    lane.paused_until = lane.paused_until.max(now.plus_millis(wait_ms));
                    entry.next_try = lane.paused_until;
                } else {
                    lane.breaker.failed(now);
                    entry.next_try = now.plus_millis(backoff_ms(entry.attempts, jitter));
                }
                put_back(lane, entry);
            }
            Outcome::Final { error } => {
                lane.breaker.answered();
                lane.counters.refused += 1;
                lane.last_error = Some(LastError { at: now, error: error.clone() });
                entry.last_error = error;
                bury(&mut self.dead, &mut self.records, entry, GivenUp::Refused, now);
            }
        }
    }

    /// An attempt was cut off without an outcome: the message waits again and is due at once.
    pub fn abandon(&mut self, lane_id: &LaneId, now: Timestamp) {
        let Some(lane) = self.lanes.get_mut(lane_id) else { return };
        lane.breaker.abandoned(now);
        if let Some(mut entry) = lane.in_flight.take() {
            entry.next_try = now;
            put_back(lane, entry);
            self.revision += 1;
        }
    }

    /// Gives up the messages of lanes that are no longer configured, and forgets these lanes.
    pub fn keep_lanes(&mut self, configured: impl Fn(&LaneId) -> bool, now: Timestamp) {
        self.keep_memory(&configured);
        let gone: Vec<LaneId> = self.lanes.keys().filter(|id| !configured(id)).cloned().collect();
        for id in gone {
            let Some(lane) = self.lanes.remove(&id) else { continue };
            for entry in lane.pending.into_values().chain(lane.in_flight) {
                self.receiver_gone += 1;
                self.revision += 1;
                bury(&mut self.dead, &mut self.records, entry, GivenUp::ReceiverGone, now);
            }
        }
    }

    /// Shows a lane although nothing was sent to it yet.
    pub fn ensure_lane(&mut self, lane_id: LaneId) {
        self.lanes.entry(lane_id).or_default();
    }

    /// The lanes, without what is in them.
    pub fn lane_statuses(&self) -> Vec<LaneStatus> {
        let lane_status = |((receiver, integration), lane): (&LaneId, &Lane)| LaneStatus {
            receiver: receiver.clone(),
            integration: *integration,
            pending: lane.len(),
            oldest: lane.pending.values().chain(&lane.in_flight).map(|entry| entry.queued_at).min(),
            last_delivery: lane.last_delivery,
            last_error: lane.last_error.clone(),
            breaker: lane.breaker.state(),
            counters: lane.counters,
        };
        self.lanes.iter().map(lane_status).collect()
    }

    /// Everything the API shows.
    pub fn status(&self) -> OutboxStatus {
        OutboxStatus {
            pending: self.len(),
            limit_messages: self.limit_messages,
            lanes: self.lane_statuses(),
            receiver_gone: self.receiver_gone,
            dead_letters_forgotten: self.records.forgotten,
            dead_letters: self.dead.iter().cloned().collect(),
            history: self.history.iter().cloned().collect(),
        }
    }

    /// What waits and what was given up, as bytes. A message that is being sent counts as waiting: after a crash it may
    /// be sent twice, never lost.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut entries = Vec::new();
        for lane in self.lanes.values() {
            entries.extend(lane.in_flight.iter().chain(lane.pending.values()).cloned());
        }
        let saved = Saved { entries, dead: self.dead.iter().cloned().collect(), next_id: self.next_id };
        // What is remembered stands behind the rest, so that snapshots without it can still be read.
        let mut bytes = postcard::to_stdvec(&saved).unwrap_or_default();
        bytes.extend(postcard::to_stdvec(&self.memory).unwrap_or_default());
        bytes
    }

    /// Takes up what [`Outbox::snapshot`] wrote; everything is due at once.
    ///
    /// # Errors
    /// When the bytes are not a snapshot; then nothing is changed.
    pub fn restore(&mut self, bytes: &[u8], now: Timestamp) -> Result<(), String> {
        let (saved, rest): (Saved, &[u8]) =
            postcard::take_from_bytes(bytes).map_err(|error| format!("the outbox cannot be read: {error}"))?;
        // Without it what was learnt about receivers is learnt anew; the messages matter more.
        self.memory = if rest.is_empty() {
            Default::default()
        } else {
            postcard::from_bytes(rest).unwrap_or_else(|error| {
                tracing::warn!(%error, "what the outbox remembers of its receivers cannot be read; it begins anew");
                Default::default()
            })
        };
        for lane_id in self.memory.lanes() {
            self.lanes.entry(lane_id).or_default();
        }
        self.next_id = self.next_id.max(saved.next_id);
        self.dead = saved.dead.into();
        // The newest first, so that one that was being sent gives way to the newer one of its group.
        let mut entries = saved.entries;
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.id));
        for mut entry in entries {
            let lane_id = (entry.notification.receiver.clone(), entry.notification.integration);
            entry.next_try = now;
            put_back(self.lanes.entry(lane_id).or_default(), entry);
        }
        self.revision += 1;
        Ok(())
    }

    fn expire(&mut self, lane_id: &LaneId, now: Timestamp) {
        let Some(lane) = self.lanes.get_mut(lane_id) else { return };
        let old = |entry: &Entry| now.millis_since(entry.queued_at) > MAX_AGE_MS;
        if !lane.pending.values().any(old) {
            return;
        }
        let expired: Vec<Arc<str>> = lane.pending.iter().filter(|(_, e)| old(e)).map(|(key, _)| key.clone()).collect();
        for key in expired {
            if let Some(entry) = lane.pending.remove(&key) {
                lane.counters.expired += 1;
                self.revision += 1;
                bury(&mut self.dead, &mut self.records, entry, GivenUp::Expired, now);
            }
        }
    }

    /// Marsaglia's xorshift64: enough to spread retries, and the same for the same seed.
    fn jitter(&mut self) -> u64 {
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        self.jitter
    }
}

/// The wait after so many attempts: doubled each time, then between 80 and 120 per cent of it.
fn backoff_ms(attempts: u32, jitter: u64) -> i64 {
    let full = FIRST_RETRY_MS.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(LONGEST_RETRY_MS);
    full * (80 + (jitter % 41) as i64) / 100
}

/// `newer` takes the place of `older`: it keeps the older one's turn, so that news does not break a backoff, and what only
/// the older one told.
fn replace(newer: &mut Entry, older: Entry) {
    Arc::make_mut(&mut newer.notification).supersede(&older.notification);
    newer.attempts = newer.attempts.max(older.attempts);
    newer.next_try = newer.next_try.max(older.next_try);
    newer.last_error = older.last_error;
}

/// A message waits again, unless a newer one of its group came meanwhile.
fn put_back(lane: &mut Lane, entry: Entry) {
    let key = entry.notification.group_key.clone();
    match lane.pending.get_mut(&key) {
        Some(newer) => {
            lane.counters.superseded += 1;
            replace(newer, entry);
        }
        None => {
            lane.pending.insert(key, entry);
        }
    }
}

fn bury(dead: &mut VecDeque<DeadLetter>, records: &mut Records, entry: Entry, why: GivenUp, now: Timestamp) {
    let mut record = Record::of(&entry, Fate::GivenUp, now);
    if record.detail.is_empty() {
        record.detail = why.words().to_owned();
    }
    records.note(record);
    let letter = DeadLetter {
        id: entry.id,
        why,
        error: entry.last_error,
        attempts: entry.attempts,
        at: now,
        notification: entry.notification,
    };
    while dead.len() >= DEAD_LETTERS {
        if let Some(oldest) = dead.pop_front() {
            let mut record = Record::new(&oldest.notification, Fate::Forgotten, now);
            (record.id, record.attempts, record.detail) = (Some(oldest.id), oldest.attempts, oldest.error);
            records.note(record);
            records.forgotten += 1;
        }
    }
    dead.push_back(letter);
}

fn push_bounded<T>(list: &mut VecDeque<T>, limit: usize, item: T) {
    while list.len() >= limit {
        list.pop_front();
    }
    list.push_back(item);
}
