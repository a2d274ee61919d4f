//! The thread that polls librdkafka: gathers messages, takes and gives up partitions, commits.
//!
//! A thread and not a task, because what librdkafka is asked (committed offsets, ends of partitions) blocks. What it
//! finds goes through a channel of few places to the task, which delivers: a full queue to the core stops the polling,
//! and librdkafka stops fetching when its own queue is full.

mod commits;
mod hearing;

use super::batch::Batch;
use super::client::{self, Change, Context, Heard};
use super::offsets::{Offsets, Partition};
use crate::config::schema::KafkaConfig;
use crate::source::message::Size;
use crate::telemetry::clock;
use hearing::Hearing;
use rdkafka::consumer::{BaseConsumer, Consumer, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::Offset;
use std::collections::{BTreeMap, BTreeSet};
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
/// The last commit may take so long.
const GOODBYE: Duration = Duration::from_secs(2);
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
    /// How large the last one was.
    last: Size,
    hearing: Hearing,
    /// Whether the group has given us something (or nothing at all), and since when it has not.
    joined: bool,
    joining_since: Instant,
    /// An offset is out of range: partitions have to be looked at.
    out_of_range: bool,
    /// Do not ask before.
    ask_at: Instant,
    commit_at: Instant,
    /// What the group was told. Librdkafka does not tell whether it was taken; what is sent while members join is not.
    told: Offsets,
    /// When to look whether it was.
    verify_at: Option<Instant>,
    /// Looks in a row that found less than was told.
    commits_failed: u32,
    /// The last reason why a broker could not be reached.
    last_failure: String,
    /// Microseconds within which a broker answers, if only that there is nothing new.
    answer_us: i64,
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
            answer_us: client::answer_us(&start.config),
            start,
            consumer,
            assigned: BTreeSet::new(),
            pending: None,
            ends: Offsets::default(),
            shown: BTreeMap::new(),
            batch: None,
            last: Size::default(),
            hearing: Hearing::Unknown,
            joined: false,
            joining_since: now,
            out_of_range: false,
            ask_at: now,
            commit_at: now,
            told: Offsets::default(),
            verify_at: None,
            commits_failed: 0,
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
        let (last, event_bytes) = (self.last, self.start.event_bytes);
        let mut polled = self.consumer.poll(POLL);
        while let Some(result) = polled {
            match result {
                Ok(message) => {
                    let batch = self.batch.get_or_insert_with(|| Box::new(Batch::new(last, event_bytes)));
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
        self.last = batch.messages.size();
        self.known.merge(&batch.next);
        let position = self.known.encode();
        self.tell(Step::Batch { batch, position })
    }

    fn tell(&self, step: Step) -> bool {
        self.start.steps.blocking_send(step).is_ok()
    }

    fn serve(&mut self, heard: Heard) -> bool {
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
        if self.verify_at.is_some_and(|at| now >= at) && self.hearing == Hearing::Yes {
            self.verify();
        }
        true
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
        let leaving: BTreeSet<Partition> = self.assigned.intersection(partitions).cloned().collect();
        if !leaving.is_empty() && !lost {
            if !self.settle() {
                return false;
            }
            self.commit_all(&leaving, SETTLE);
        }
        self.assigned.retain(|partition| !partitions.contains(partition));
        self.told.0.retain(|partition, _| !partitions.contains(partition));
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
        // What was sent while members joined named the generation of the group before, and was refused.
        self.start.shared.commit(&self.told, 0);
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

    /// The end: what was read is settled, and the group told that we go.
    fn finish(mut self) {
        // Read but not handed over is as good as never read.
        self.batch = None;
        let leaving = self.assigned.clone();
        if self.fatal.is_none() && !leaving.is_empty() && self.settle() {
            self.commit_all(&leaving, GOODBYE);
        }
        self.consumer.context().close();
        if self.pending.take().is_some() {
            // Librdkafka waits for this answer before it can close.
            let nothing = client::list([]);
            let answered = if self.is_cooperative() {
                self.consumer.incremental_assign(&nothing)
            } else {
                self.consumer.unassign()
            };
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
