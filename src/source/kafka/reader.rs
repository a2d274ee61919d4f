//! The thread that polls librdkafka: gathers messages, takes and gives up partitions, commits.
//!
//! A thread and not a task, because what librdkafka is asked (committed offsets, ends of partitions) blocks. What it
//! finds goes through a channel of few places to the task, which delivers: a full queue to the core stops the polling,
//! and librdkafka stops fetching when its own queue is full.

use super::batch::Batch;
use super::client::{self, Change, Context, Heard};
use super::heard::{self, Statistics, missing_topic, plain_reason};
use super::offsets::{Offsets, Partition};
use crate::config::schema::KafkaConfig;
use crate::telemetry::{clock, self_metrics};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long one poll waits: so late a stop and a commit are seen at most.
const POLL: Duration = Duration::from_millis(50);
/// What librdkafka is asked may take so long; it is asked again.
const ASK: Duration = Duration::from_secs(3);
const ASK_AGAIN: Duration = Duration::from_millis(300);
/// Before partitions are given up, what was read of them is to stand in a checkpoint: at most so long is waited for it.
pub(super) const SETTLE: Duration = Duration::from_secs(5);
/// A failed commit is tried again after so long.
const COMMIT_AGAIN: Duration = Duration::from_secs(1);
/// A group that gives us nothing to read for so long (not even nothing at all) keeps us deaf.
const JOINING: Duration = Duration::from_secs(30);

/// What the thread tells the task, in order.
pub(super) enum Step {
    /// To be delivered, with everything that is counted then.
    Batch { batch: Box<Batch>, position: Vec<u8> },
    /// It hears, and so many messages are still to come.
    Hears { behind: u64, first: bool },
    /// It cannot hear.
    Deaf(String),
    /// To be answered when all that was delivered stands in a checkpoint.
    Settle(SyncSender<()>),
    /// The client is of no more use; a new one goes on from here.
    Over { reason: String, known: Offsets },
}

/// What task and thread share.
#[derive(Default)]
pub(super) struct Shared {
    stop: AtomicBool,
    /// What stands in a checkpoint and is not committed, with its count of messages. Held for a merge or a take.
    to_commit: Mutex<(Offsets, u64)>,
}

impl Shared {
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn commit(&self, offsets: &Offsets, messages: u64) {
        let mut waiting = self.to_commit.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.0.merge(offsets);
        waiting.1 += messages;
    }

    fn take(&self) -> (Offsets, u64) {
        std::mem::take(&mut *self.to_commit.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a reader begins with.
pub(super) struct Start {
    pub source: Arc<str>,
    pub config: KafkaConfig,
    pub base_dir: PathBuf,
    pub event_bytes: usize,
    pub known: Offsets,
    pub steps: mpsc::Sender<Step>,
    pub shared: Arc<Shared>,
}

/// Why we are deaf, as far as it is told anew.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deafness {
    Brokers,
    Refused,
    Leader,
    Topic,
    Joining,
}

#[derive(PartialEq, Eq)]
enum Hearing {
    Unknown,
    No(Deafness),
    Yes,
}

struct Reader {
    start: Start,
    consumer: BaseConsumer<Context>,
    assigned: BTreeSet<Partition>,
    /// Partitions that are ours as soon as it is known where to begin.
    pending: Option<BTreeSet<Partition>>,
    /// What has been read; goes into the position.
    known: Offsets,
    /// How far partitions reach.
    ends: Offsets,
    /// Partitions whose lag is shown.
    shown: BTreeMap<Partition, metrics::Gauge>,
    batch: Option<Box<Batch>>,
    hearing: Hearing,
    /// Whether the group has given us something (or nothing at all), and since when it has not.
    joined: bool,
    joining_since: Instant,
    /// An offset is out of range: partitions have to be looked at.
    out_of_range: bool,
    /// Do not ask before.
    ask_at: Instant,
    commit_at: Instant,
    /// Messages of the commits that are on their way.
    committing: VecDeque<u64>,
    /// The last reason why a broker could not be reached.
    last_failure: String,
    missing: BTreeSet<Arc<str>>,
    fatal: Option<String>,
}

/// Reads until it is stopped; tells [`Step::Over`] when it cannot go on.
pub(super) fn run(start: Start) {
    let steps = start.steps.clone();
    let known = start.known.clone();
    match Reader::new(start) {
        Ok(reader) => reader.run(),
        // A closed channel means that the task has ended.
        Err(reason) => drop(steps.blocking_send(Step::Over { reason, known })),
    }
}

impl Reader {
    fn new(start: Start) -> Result<Self, String> {
        let options = client::options(&start.config, &start.base_dir)?;
        let consumer: BaseConsumer<Context> = options
            .create_with_context(Context::new(start.source.clone()))
            .map_err(|error| format!("the client of Kafka cannot be made: {error}"))?;
        let topics: Vec<&str> = start.config.topics.iter().map(|topic| topic.value.as_str()).collect();
        consumer.subscribe(&topics).map_err(|error| format!("cannot subscribe: {error}"))?;
        let now = clock::instant();
        Ok(Self {
            known: start.known.clone(),
            start,
            consumer,
            assigned: BTreeSet::new(),
            pending: None,
            ends: Offsets::default(),
            shown: BTreeMap::new(),
            batch: None,
            hearing: Hearing::Unknown,
            joined: false,
            joining_since: now,
            out_of_range: false,
            ask_at: now,
            commit_at: now,
            committing: VecDeque::new(),
            last_failure: String::new(),
            missing: BTreeSet::new(),
            fatal: None,
        })
    }

    fn run(mut self) {
        while !self.start.shared.stopped() && self.fatal.is_none() {
            self.gather();
            if !self.hand_over() {
                break;
            }
            let heard = self.consumer.context().take();
            if !self.serve(heard) {
                break;
            }
        }
        self.finish();
    }

    /// Polls until nothing is there, or the batch is full.
    fn gather(&mut self) {
        let event_bytes = self.start.event_bytes;
        let mut polled = self.consumer.poll(POLL);
        while let Some(result) = polled {
            match result {
                Ok(message) => {
                    let batch = self.batch.get_or_insert_with(|| Box::new(Batch::new(event_bytes)));
                    batch.take(&message, &self.known, &self.assigned);
                    if batch.is_full() {
                        return;
                    }
                }
                Err(KafkaError::MessageConsumptionFatal(code)) => {
                    self.fatal = Some(format!("the client of Kafka gives up: {code}"));
                    return;
                }
                // Told with its reason to the context as well.
                Err(_) => {}
            }
            polled = self.consumer.poll(Duration::ZERO);
        }
    }

    /// `false` when the task has ended.
    fn hand_over(&mut self) -> bool {
        let Some(mut batch) = self.batch.take() else { return true };
        batch.finish();
        self.known.merge(&batch.next);
        let position = self.known.encode();
        self.tell(Step::Batch { batch, position })
    }

    fn tell(&self, step: Step) -> bool {
        self.start.steps.blocking_send(step).is_ok()
    }

    fn serve(&mut self, heard: Heard) -> bool {
        for ended in heard.commits {
            self.committed(ended);
        }
        for change in heard.changes {
            let alive = match change {
                Change::Assign(partitions) => {
                    self.pending.get_or_insert_default().extend(partitions);
                    self.ask_at = clock::instant();
                    true
                }
                Change::Revoke(partitions) => self.revoke(&partitions),
            };
            if !alive {
                return false;
            }
        }
        for (code, text) in heard.errors {
            self.note(code, &text);
        }
        let now = clock::instant();
        if now >= self.ask_at && self.pending.is_some() {
            self.assign(now);
        }
        if now >= self.ask_at && self.out_of_range && !self.look_at_ranges(now) {
            return false;
        }
        if let Some(statistics) = heard.statistics {
            self.judge(&statistics, now);
        }
        if now >= self.commit_at {
            self.commit();
        }
        true
    }

    fn note(&mut self, code: RDKafkaErrorCode, text: &str) {
        use RDKafkaErrorCode as Code;
        let reason = plain_reason(text);
        match code {
            Code::AllBrokersDown => {
                let brokers: Vec<&str> = self.start.config.brokers.iter().map(|it| it.value.as_str()).collect();
                let failure = match self.last_failure.as_str() {
                    "" => String::new(),
                    failure => format!(" ({failure})"),
                };
                self.deaf(Deafness::Brokers, format!("no broker of {} can be reached{failure}", brokers.join(", ")));
            }
            Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL => {
                self.deaf(Deafness::Refused, format!("a broker refuses us: {reason}"));
            }
            Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut => self.last_failure = reason,
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                self.missing_topic(&reason, "does not exist yet");
            }
            Code::TopicAuthorizationFailed => self.missing_topic(&reason, "may not be read by us"),
            Code::GroupAuthorizationFailed => {
                let group = self.start.config.group_id();
                self.deaf(Deafness::Refused, format!("a broker refuses us the group {group}: {reason}"));
            }
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => {
                self.out_of_range = true;
                self.ask_at = clock::instant();
            }
            _ => {
                tracing::warn!(source = %self.start.source, code = ?code, %reason, "librdkafka tells of an error");
            }
        }
    }

    fn missing_topic(&mut self, reason: &str, why: &str) {
        let Some(topic) = missing_topic(reason) else {
            tracing::warn!(source = %self.start.source, %reason, "a topic is not there");
            return;
        };
        if self.missing.insert(topic.clone()) {
            tracing::warn!(source = %self.start.source, %topic, "the topic {why}; it is waited for");
        }
        if self.assigned.is_empty() && self.pending.is_none() {
            self.deaf(Deafness::Topic, format!("the topic {topic} {why}"));
        }
    }

    fn deaf(&mut self, kind: Deafness, reason: String) {
        if self.hearing != Hearing::No(kind) {
            self.hearing = Hearing::No(kind);
            // A closed channel is seen with the next batch.
            self.tell(Step::Deaf(reason));
        }
    }

    fn is_cooperative(&self) -> bool {
        matches!(self.consumer.rebalance_protocol(), RebalanceProtocol::Cooperative)
    }

    /// Everything delivered so far stands in a checkpoint afterwards, or the time is up.
    fn settle(&self) -> bool {
        let (reply, answer) = sync_channel(1);
        if !self.tell(Step::Settle(reply)) {
            return false;
        }
        if answer.recv_timeout(SETTLE + POLL).is_err() {
            tracing::warn!(
                source = %self.start.source,
                "no checkpoint in time before partitions are given up; who gets them counts some messages again"
            );
        }
        true
    }

    /// Before a partition is given up, what was counted of it is committed: whoever gets it begins behind that.
    fn revoke(&mut self, partitions: &BTreeSet<Partition>) -> bool {
        if let Some(pending) = &mut self.pending {
            pending.retain(|partition| !partitions.contains(partition));
        }
        let lost = self.consumer.assignment_lost();
        let ours: BTreeSet<Partition> = self.assigned.intersection(partitions).cloned().collect();
        if !ours.is_empty() && !lost && !self.settle() {
            return false;
        }
        if !lost {
            // The request goes out before the one that gives up, and a broker answers them in order.
            self.commit();
        }
        let list = client::list(partitions.iter().map(|partition| (partition, Offset::Invalid)));
        let given = if self.is_cooperative() {
            self.consumer.incremental_unassign(&list)
        } else {
            self.pending = None;
            self.consumer.unassign()
        };
        if let Err(error) = given {
            tracing::debug!(source = %self.start.source, %error, "giving up partitions");
        }
        for partition in partitions {
            self.assigned.remove(partition);
            self.ends.0.remove(partition);
            if let Some(gauge) = self.shown.remove(partition) {
                gauge.set(0.0);
            }
        }
        tracing::info!(source = %self.start.source, partitions = %names(partitions), lost, "partitions given up");
        if self.assigned.is_empty() {
            (self.joined, self.joining_since) = (false, clock::instant());
        }
        true
    }

    /// Takes what is pending: from the offset that we know, or that the group has committed, whichever is higher.
    fn assign(&mut self, now: Instant) {
        let Some(partitions) = self.pending.clone() else { return };
        let begin = match self.beginnings(&partitions) {
            Ok(begin) => begin,
            Err(error) => {
                tracing::debug!(source = %self.start.source, %error, "asking for committed offsets");
                self.ask_at = now + ASK_AGAIN;
                return;
            }
        };
        let list = client::list(begin.iter().map(|(partition, offset)| (partition, *offset)));
        let taken =
            if self.is_cooperative() { self.consumer.incremental_assign(&list) } else { self.consumer.assign(&list) };
        self.pending = None;
        if let Err(error) = taken {
            self.fatal = Some(format!("partitions cannot be taken: {error}"));
            return;
        }
        if !partitions.is_empty() {
            tracing::info!(source = %self.start.source, partitions = %names(&partitions), "partitions taken");
        }
        for topic in partitions.iter().map(|(topic, _)| topic) {
            self.missing.remove(topic);
        }
        self.assigned.extend(partitions);
        self.joined = true;
        // Whether we hear is told when it is known how far the partitions reach.
        if self.hearing != Hearing::Yes {
            self.try_to_hear();
        }
    }

    fn beginnings(&mut self, partitions: &BTreeSet<Partition>) -> KafkaResult<Vec<(Partition, Offset)>> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let asked = client::list(partitions.iter().map(|partition| (partition, Offset::Invalid)));
        let committed = client::offsets_of(&self.consumer.committed_offsets(asked, ASK)?)?;
        let mut begin = Vec::with_capacity(partitions.len());
        let mut fresh = BTreeSet::new();
        for partition in partitions {
            match self.known.get(partition).max(committed.get(partition)) {
                Some(next) => {
                    self.known.raise(partition, next);
                    begin.push((partition.clone(), Offset::Offset(next)));
                }
                None if self.start.config.from_end => drop(fresh.insert(partition.clone())),
                None => begin.push((partition.clone(), Offset::Beginning)),
            }
        }
        if !fresh.is_empty() {
            let ends = self.ask_ends(&fresh)?;
            for partition in fresh {
                let end = ends.get(&partition).unwrap_or(0);
                begin.push((partition, Offset::Offset(end)));
            }
            // From here on the beginning is known, whatever happens before the first message.
            self.known.merge(&ends);
            self.start.shared.commit(&ends, 0);
        }
        Ok(begin)
    }

    /// The ends of partitions, one request to each leader.
    fn ask_ends(&self, partitions: &BTreeSet<Partition>) -> KafkaResult<Offsets> {
        let asked = client::list(partitions.iter().map(|partition| (partition, Offset::End)));
        client::offsets_of(&self.consumer.offsets_for_times(asked, ASK)?)
    }

    /// An offset is not there: either the oldest messages are gone, or the topic was made anew.
    fn look_at_ranges(&mut self, now: Instant) -> bool {
        if !self.settle() {
            return false;
        }
        self.commit();
        let mut begin = Vec::new();
        for partition in self.assigned.clone() {
            let (low, high) = match self.consumer.fetch_watermarks(&partition.0, partition.1, ASK) {
                Ok(range) => range,
                Err(error) => {
                    tracing::debug!(source = %self.start.source, %error, "asking for ranges");
                    self.ask_at = now + ASK_AGAIN;
                    return true;
                }
            };
            let next = self.known.get(&partition);
            let at = match next {
                Some(next) if next < low => {
                    self.gap("expired", &partition, next, low, "messages that were never read are not kept any more");
                    low
                }
                Some(next) if next > high => {
                    let at = if self.start.config.from_end { high } else { low };
                    self.gap("recreated", &partition, next, at, "the topic is shorter than what was read of it");
                    at
                }
                Some(next) => next,
                None => low,
            };
            if next.is_some() {
                self.known.0.insert(partition.clone(), at);
            }
            self.ends.0.insert(partition.clone(), high);
            begin.push((partition, Offset::Offset(at)));
        }
        // Partitions that stood still begin again only when they are taken anew.
        let list = client::list(begin.iter().map(|(partition, offset)| (partition, *offset)));
        let taken = if self.is_cooperative() {
            self.consumer.incremental_unassign(&list).and_then(|()| self.consumer.incremental_assign(&list))
        } else {
            self.consumer.assign(&list)
        };
        match taken {
            Ok(()) => self.out_of_range = false,
            Err(error) => self.fatal = Some(format!("partitions cannot be taken again: {error}")),
        }
        true
    }

    fn gap(&self, reason: &'static str, (topic, at): &Partition, next: i64, begin: i64, why: &str) {
        self_metrics::source_gaps(&self.start.source, reason).increment(1);
        tracing::warn!(
            source = %self.start.source, %topic, partition = at, expected = next, begins = begin,
            "{why}; going on from another offset"
        );
    }

    /// Hears from now on, if it can be found out how far the partitions reach.
    fn try_to_hear(&mut self) {
        match self.ask_ends(&self.assigned) {
            Ok(ends) => self.ends.merge(&ends),
            Err(error) => {
                tracing::debug!(source = %self.start.source, %error, "asking for ends");
                return;
            }
        }
        let behind = self.show_lags();
        self.hearing = Hearing::Yes;
        self.last_failure.clear();
        self.consumer.context().forget_said();
        self.tell(Step::Hears { behind, first: true });
    }

    /// Looks at the statistics of each second.
    fn judge(&mut self, statistics: &Statistics, now: Instant) {
        self.ends.merge(&statistics.ends(&self.assigned));
        if !statistics.any_up() {
            // Before the first answer nothing is known; what fails is told as an error.
            return;
        }
        if !self.joined {
            if now.duration_since(self.joining_since) > JOINING && self.missing.is_empty() {
                let group = self.start.config.group_id();
                self.deaf(Deafness::Joining, format!("the group {group} has not given us partitions yet"));
            }
            return;
        }
        if let Some(unheard) = statistics.unheard(&self.assigned) {
            return self.deaf(Deafness::Leader, unheard);
        }
        if self.hearing != Hearing::Yes {
            return self.try_to_hear();
        }
        let behind = self.show_lags();
        self.tell(Step::Hears { behind, first: false });
    }

    fn show_lags(&mut self) -> u64 {
        let lags = heard::lags(&self.assigned, &self.ends, &self.known);
        let mut behind: u64 = 0;
        for (partition, lag) in lags {
            behind = behind.saturating_add(lag);
            let gauge = self.shown.entry(partition).or_insert_with_key(|(topic, partition)| {
                self_metrics::source_partition_lag(&self.start.source, topic, *partition)
            });
            gauge.set(lag as f64);
        }
        behind
    }

    /// Commits what stands in a checkpoint. The answer comes later.
    fn commit(&mut self) {
        let (mut offsets, messages) = self.start.shared.take();
        // Others are no longer ours to commit.
        offsets.0.retain(|partition, _| self.assigned.contains(partition) || self.is_pending(partition));
        if offsets.is_empty() {
            return;
        }
        let list = client::list(offsets.0.iter().map(|(partition, next)| (partition, Offset::Offset(*next))));
        match self.consumer.commit(&list, CommitMode::Async) {
            Ok(()) => self.committing.push_back(messages),
            Err(error) => {
                tracing::debug!(source = %self.start.source, %error, "committing");
                self.start.shared.commit(&offsets, messages);
                self.commit_at = clock::instant() + COMMIT_AGAIN;
            }
        }
    }

    fn is_pending(&self, partition: &Partition) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.contains(partition))
    }

    fn committed(&mut self, ended: Result<(), (RDKafkaErrorCode, Offsets)>) {
        let messages = self.committing.pop_front().unwrap_or(0);
        match ended {
            Ok(()) => self_metrics::source_acknowledged(&self.start.source).increment(messages),
            // It was not ours to commit, or there was nothing.
            Err((RDKafkaErrorCode::NoOffset, _)) => {}
            Err((code, offsets)) => {
                tracing::debug!(source = %self.start.source, code = ?code, "offsets were not committed; trying again");
                self.start.shared.commit(&offsets, messages);
                self.commit_at = clock::instant() + COMMIT_AGAIN;
            }
        }
    }

    /// The end: what was read is settled, and the group told that we go.
    fn finish(mut self) {
        // Read but not handed over is as good as never read.
        self.batch = None;
        if self.fatal.is_none() && !self.assigned.is_empty() && self.settle() {
            self.commit();
        }
        self.consumer.context().close();
        if self.pending.take().is_some() {
            // Librdkafka waits for this answer before it can close.
            let nothing = client::list([]);
            let answered =
                if self.is_cooperative() { self.consumer.incremental_assign(&nothing) } else { self.consumer.unassign() };
            if let Err(error) = answered {
                tracing::debug!(source = %self.start.source, %error, "answering the last assignment");
            }
        }
        for gauge in self.shown.values() {
            gauge.set(0.0);
        }
        if let Some(reason) = self.fatal.take() {
            let known = self.known.clone();
            self.tell(Step::Over { reason, known });
        }
    }
}

fn names(partitions: &BTreeSet<Partition>) -> String {
    const SHOWN: usize = 20;
    let names: Vec<String> =
        partitions.iter().take(SHOWN).map(|(topic, partition)| format!("{topic}[{partition}]")).collect();
    let more = if partitions.len() > SHOWN { format!(" and {} more", partitions.len() - SHOWN) } else { String::new() };
    format!("{}{more}", names.join(" "))
}
