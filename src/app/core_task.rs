//! The core task: owns all mutable state, takes inputs, calls and results one after the other.

use super::checkpoints::{Stored, Write, Written};
use super::evaluate::Finished;
use super::exports::Logs;
use super::history::{self, Line, Lines};
use crate::api::CoreJob;
use crate::engine::{Change, Core, EvalJob, Input, Told};
use crate::export::Publishing;
use crate::model::{FieldPlan, Timestamp};
use crate::notify::{Deliveries, Notification, Outbox, Record};
use crate::promql::Options;
use crate::series::View;
use crate::source::{Ingest, IngestQueue};
use crate::state::StateStore;
use crate::telemetry::{clock, self_metrics};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Inputs taken at once; more wait for the next round, so that calls and evaluations come in between.
const INPUTS_AT_ONCE: usize = 256;
/// Calls of the API taken one after the other; then inputs have a turn.
const CALLS_IN_A_ROW: u32 = 8;
/// Under load inputs are gathered this long: waking the task for each of many small requests would cost more than they do.
const GATHER: Duration = Duration::from_millis(1);
/// Inputs that come closer together than this are load.
const BUSY: Duration = Duration::from_micros(500);
/// A whole checkpoint this often; deltas in between.
const FULL_EVERY_MS: i64 = 60_000;
/// What sources ask for is given at most so often.
const WANTED_CHECKPOINT_MS: i64 = 5;
/// From one to the next so many times what the last one took passes,
const WANTED_CHECKPOINT_SHARE: u128 = 2;
/// and so long that no more than these bytes are written in a second,
const WANTED_CHECKPOINT_RATE: usize = 16_000_000;
/// but never longer than this: what is not acknowledged in time is delivered again.
const WANTED_CHECKPOINT_LATEST_MS: i64 = 100;
/// Deltas of so few bytes need no whole checkpoint, however small that is.
const DELTA_BYTES: usize = 4 << 20;
/// A checkpoint that is being written for so long keeps no message back any more.
const STALLED: Duration = Duration::from_secs(2);
/// Without input a checkpoint is still written this often: a restart counts what came after it towards no `for`.
const IDLE_CHECKPOINT_MS: i64 = 2_000;
/// Portions of lines that may wait when there is no checkpoint that takes them along.
pub(super) const HISTORY_PORTIONS: usize = 64;

/// Checkpointing as the core task sees it.
pub(super) struct Checkpointing {
    pub writes: mpsc::Sender<Write>,
    pub written: mpsc::Receiver<Written>,
    pub interval_ms: i64,
    pub last: Timestamp,
    pub last_full: Timestamp,
    pub in_flight: bool,
    /// Since when, by a clock that nobody sets.
    pub in_flight_since: Instant,
    /// It is in flight for so long that messages do not wait for it.
    pub stalled: bool,
    /// What building and writing the last one took.
    pub cost: Duration,
    /// Its bytes.
    pub bytes: usize,
    /// Bytes of the last whole one, and of the deltas since.
    pub full_bytes: usize,
    pub delta_bytes: usize,
    /// The next one must hold everything: the first, and after a failure.
    pub need_full: bool,
    pub dirty: bool,
    /// Some source waits for one: its acknowledgements come after it.
    pub wanted: bool,
    /// The commands of the API that the last one holds; whoever gave a newer one waits for the next.
    pub commands: u64,
    /// Tells those who wait.
    pub stored: watch::Sender<Stored>,
}

impl Checkpointing {
    /// Before the first one, at the start of the core.
    pub fn new(
        writes: mpsc::Sender<Write>,
        written: mpsc::Receiver<Written>,
        interval_ms: i64,
        stored: watch::Sender<Stored>,
        now: Timestamp,
    ) -> Self {
        Self {
            writes,
            written,
            interval_ms,
            last: Timestamp::EPOCH,
            last_full: now,
            in_flight: false,
            in_flight_since: clock::instant(),
            stalled: false,
            cost: Duration::ZERO,
            bytes: 0,
            full_bytes: 0,
            delta_bytes: 0,
            need_full: true,
            dirty: false,
            wanted: false,
            commands: 0,
            stored,
        }
    }

    /// How long after the last one sources get what they ask for.
    fn wanted_after_ms(&self) -> i64 {
        let took_ms = (self.cost.as_micros() * WANTED_CHECKPOINT_SHARE).div_ceil(1_000);
        let written_ms = (self.bytes * 1_000).div_ceil(WANTED_CHECKPOINT_RATE) as u128;
        let spaced_ms = i64::try_from(took_ms.max(written_ms)).unwrap_or(i64::MAX);
        spaced_ms.clamp(WANTED_CHECKPOINT_MS, WANTED_CHECKPOINT_LATEST_MS).min(self.interval_ms)
    }

    /// Whether the next one is to be whole: a start reads no more in deltas than in the whole one before them, or little.
    fn full_is_due(&self, now: Timestamp) -> bool {
        self.need_full
            || now.millis_since(self.last_full) >= FULL_EVERY_MS
            || self.delta_bytes > self.full_bytes.max(DELTA_BYTES)
    }
}

pub(super) struct CoreTask {
    pub core: Core,
    pub queue: IngestQueue,
    pub jobs: mpsc::Receiver<CoreJob<Core>>,
    pub worker: SyncSender<(EvalJob, View)>,
    pub finished: mpsc::Receiver<Finished>,
    pub deliveries: Deliveries,
    pub checkpointing: Option<Checkpointing>,
    /// What happened since the last checkpoint.
    pub lines: Lines,
    /// Where lines go when there are no checkpoints.
    pub history: Option<mpsc::Sender<Vec<Line>>>,
    /// Where lines for events go.
    pub logs: Logs,
    /// Messages that wait for the checkpoint that holds them.
    pub held: Vec<Notification>,
    /// Messages whose checkpoint is being written.
    pub releasing: Vec<Notification>,
    /// What was told and waits for a checkpoint.
    pub told: Vec<Told>,
    pub publishing: Publishing,
    /// Without checkpoints what was told goes out by itself.
    pub telling: mpsc::Sender<Vec<Told>>,
}

impl CoreTask {
    /// Runs until cancelled, then takes what still waits and ticks once more.
    pub async fn run(mut self, cancel: CancellationToken) {
        let batch_seconds = self_metrics::core_batch_seconds();
        let requests = self.queue.checkpoint_requests();
        let (mut calls, mut last_input, mut gathering) = (0, clock::instant(), false);
        loop {
            let now = clock::now();
            self.advance(now);
            let due = self.core.next_due();
            let mut sleep = Duration::from_micros(due.micros_since(now).clamp(200, 1_000_000).unsigned_abs());
            if calls >= CALLS_IN_A_ROW {
                sleep = Duration::ZERO;
            } else if gathering {
                sleep = sleep.min(GATHER);
            }
            let wanted = self.checkpointing.as_ref().is_none_or(|checkpointing| checkpointing.wanted);
            if let Some(checkpointing) = self.checkpointing.as_ref().filter(|it| it.wanted && it.dirty && !it.in_flight)
            {
                let due = checkpointing.last.plus_millis(checkpointing.wanted_after_ms());
                sleep = sleep.min(Duration::from_micros(due.micros_since(now).clamp(0, 1_000_000).unsigned_abs()));
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(job) = self.jobs.recv(), if calls < CALLS_IN_A_ROW => {
                    job(&mut self.core, clock::now());
                    calls += 1;
                    continue;
                }
                Some(finished) = self.finished.recv() => self.finish(finished),
                Some(written) = receive(&mut self.checkpointing) => self.written(written),
                inputs = self.queue.receive(INPUTS_AT_ONCE), if !gathering => {
                    let began = clock::instant();
                    gathering = began.duration_since(last_input) < BUSY && !self.queue.is_waiting();
                    self.observe(inputs);
                    last_input = clock::instant();
                    batch_seconds.record(last_input.duration_since(began).as_secs_f64());
                }
                () = requests.next(), if !wanted => {
                    if let Some(checkpointing) = &mut self.checkpointing {
                        checkpointing.wanted = true;
                    }
                    continue;
                }
                () = tokio::time::sleep(sleep) => gathering = false,
            }
            calls = 0;
        }
        self.queue.close();
        loop {
            let inputs = self.queue.try_receive(INPUTS_AT_ONCE);
            if inputs.is_empty() {
                break;
            }
            self.observe(inputs);
        }
        let now = clock::now();
        self.core.engine.tick(now);
        let notifications = self.core.notifications(now);
        self.send(notifications);
        self.say_changes();
        self.last_checkpoint(now).await;
    }

    fn observe(&mut self, inputs: Vec<Ingest>) {
        let plan = self.core.engine.plan().clone();
        let mut asked = Vec::new();
        let inputs: Vec<Input> = inputs
            .into_iter()
            .filter_map(|ingest| input(ingest, &plan).map_err(|asks| asked.push(asks)).ok())
            .collect();
        if !inputs.is_empty() {
            if let Some(checkpointing) = &mut self.checkpointing {
                checkpointing.dirty = true;
            }
            self.core.engine.observe(clock::now(), inputs);
            self.logs.send(self.core.engine.take_log_lines());
            if self.checkpointing.is_none() {
                // Without a state folder nothing survives anyway: taken is as good as stored.
                self.queue.set_checkpointed(self.queue.received());
            }
        }
        for (source, reply) in asked {
            // Whoever asked may be cancelled meanwhile.
            let _ = reply.send(self.core.engine.position(&source).map(<[u8]>::to_vec));
        }
    }

    fn finish(&mut self, finished: Finished) {
        match finished {
            Finished::Done(result, took) => self.core.engine.apply(clock::now(), result, took),
            Finished::Broken(job) => self.core.engine.lost(clock::now(), &job),
        }
    }

    /// Everything that time and the last change bring: samples, evaluations, notifications, checkpoints.
    fn advance(&mut self, now: Timestamp) {
        self.core.engine.tick(now);
        let options = Options::default();
        for job in self.core.engine.due(now) {
            let view = self.core.engine.view(&job.selections(&options));
            if let Err(refused) = self.worker.try_send((job, view)) {
                let (std::sync::mpsc::TrySendError::Full((job, _))
                | std::sync::mpsc::TrySendError::Disconnected((job, _))) = refused;
                self.core.engine.lost(now, &job);
            }
        }
        let notifications = self.core.notifications(now);
        self.send(notifications);
        self.say_changes();
        self.checkpoint(now);
    }

    fn send(&mut self, notifications: Vec<Notification>) {
        if notifications.is_empty() {
            return;
        }
        for notification in &notifications {
            self.lines.queued(notification);
        }
        match &mut self.checkpointing {
            Some(checkpointing) => {
                checkpointing.dirty = true;
                self.held.extend(notifications);
            }
            None => self.deliveries.send(notifications),
        }
    }

    /// The outbox with the messages that wait, and what became of others.
    fn outbox(&self, now: Timestamp) -> (Vec<u8>, u64, Vec<Record>) {
        let (_, blob, number, records) = self.deliveries.snapshot_with_records();
        if self.held.is_empty() {
            return (blob, number, records);
        }
        let mut outbox = Outbox::new(self.deliveries.status().limit_messages, 1);
        if outbox.restore(&blob, now).is_ok() {
            for notification in &self.held {
                outbox.push(notification.clone(), now);
            }
        }
        (outbox.snapshot(), number, records)
    }

    fn say_changes(&mut self) {
        for note in self.core.notifier.take_withheld() {
            history::count(&note);
            self.lines.push(Line::Withheld(Box::new(note)));
        }
        for change in self.core.engine.take_changes() {
            if let Some(line) = history::line(&change) {
                self.lines.push(line);
            }
            match change {
                Change::Alert(transition) => {
                    if let Some(checkpointing) = &mut self.checkpointing {
                        checkpointing.dirty = true;
                    }
                    history::observe(&transition);
                    let change = &transition.change;
                    let name = change.labels.get("alertname").unwrap_or_default();
                    tracing::info!(alert = name, labels = %change.labels, from = ?change.from, to = ?change.to, reason = ?change.reason, value = change.value, "alert");
                }
                Change::Rule { group, rule, error: Some(error) } => {
                    tracing::warn!(%group, %rule, %error, "a rule cannot be evaluated");
                }
                Change::Rule { group, rule, error: None } => {
                    tracing::info!(%group, %rule, "the rule is evaluated again")
                }
                Change::Health(change) => {
                    tracing::info!(
                        check = change.check,
                        from = change.from.name(),
                        to = change.to.name(),
                        reason = change.reason,
                        "health"
                    );
                }
            }
        }
        self.hand_over();
        if let Some(history) = &self.history
            && !self.lines.is_empty()
            && let Ok(room) = history.try_reserve()
        {
            room.send(self.lines.take());
        }
    }

    /// What goes out besides notifications.
    fn hand_over(&mut self) {
        let (tapped, dropped) = self.core.engine.take_tapped();
        if !tapped.is_empty() || !dropped.is_empty() {
            self.publishing.tapped(tapped, dropped);
        }
        let told = self.core.engine.take_told();
        for told in &told {
            self_metrics::lifecycle_events(&told.event_type).increment(1);
        }
        if self.publishing.publishes() {
            self.told.extend(told);
        }
        if self.checkpointing.is_none()
            && !self.told.is_empty()
            && let Ok(room) = self.telling.try_reserve()
        {
            room.send(std::mem::take(&mut self.told));
        }
    }

    fn checkpoint(&mut self, now: Timestamp) {
        // What is there is taken first: it was the core that had no time, not the disk.
        if let Some(written) =
            self.checkpointing.as_mut().and_then(|checkpointing| checkpointing.written.try_recv().ok())
        {
            self.written(written);
        }
        let Some(checkpointing) = &mut self.checkpointing else { return };
        if checkpointing.in_flight {
            if clock::instant().duration_since(checkpointing.in_flight_since) >= STALLED {
                self.stalled();
            }
            return;
        }
        let age_ms = now.millis_since(checkpointing.last);
        let wanted = match checkpointing {
            Checkpointing { dirty: true, wanted: true, .. } => checkpointing.wanted_after_ms(),
            Checkpointing { dirty: true, .. } => checkpointing.interval_ms,
            _ => IDLE_CHECKPOINT_MS,
        };
        if age_ms < wanted
            && self.held.is_empty()
            && self.told.is_empty()
            && checkpointing.commands == self.core.commands()
            && !(checkpointing.need_full && checkpointing.last == Timestamp::EPOCH)
        {
            return;
        }
        let full = checkpointing.full_is_due(now);
        let write = self.write(now, full);
        let commands = write.commands;
        self.releasing.append(&mut self.held);
        let Some(checkpointing) = &mut self.checkpointing else { return };
        checkpointing.commands = commands;
        checkpointing.last = now;
        checkpointing.dirty = false;
        checkpointing.wanted = false;
        checkpointing.bytes = write.blob.len();
        if full {
            (checkpointing.last_full, checkpointing.full_bytes, checkpointing.delta_bytes) = (now, write.blob.len(), 0);
        } else {
            checkpointing.delta_bytes += write.blob.len();
        }
        match checkpointing.writes.try_send(write) {
            Ok(()) => {
                (checkpointing.in_flight, checkpointing.need_full) = (true, false);
                checkpointing.in_flight_since = clock::instant();
            }
            Err(mpsc::error::TrySendError::Full(write) | mpsc::error::TrySendError::Closed(write)) => {
                checkpointing.need_full = true;
                checkpointing.stored.send_modify(|stored| stored.tried = commands);
                self.told = write.told;
                self.lines.put_back(write.lines.into_iter().map(Line::entry).collect());
                self.release();
            }
        }
    }

    /// What is to be stored: the state and, beside it, what led to it.
    fn write(&mut self, now: Timestamp, full: bool) -> Write {
        let began = clock::instant();
        let (outbox, number, records) = self.outbox(now);
        let blob = self.core.snapshot(full, outbox);
        let (lines, commands) = (self.lines.take(), self.core.commands());
        let told = std::mem::take(&mut self.told);
        Write {
            blob,
            full,
            at: now,
            built: began.elapsed(),
            number: self.queue.received(),
            commands,
            lines,
            records: (number, records),
            told,
        }
    }

    /// Sends what was held back. A checkpoint that failed never stops a message: it is counted and said.
    fn release(&mut self) {
        let messages = std::mem::take(&mut self.releasing);
        self.deliveries.send(messages);
    }

    /// The disk hangs: messages wait for it no longer than for one that fails. What is written after all holds them as
    /// waiting, and the outbox by itself knows better.
    fn stalled(&mut self) {
        if let Some(checkpointing) = &mut self.checkpointing
            && !std::mem::replace(&mut checkpointing.stalled, true)
        {
            self_metrics::checkpoint_failures().increment(1);
            tracing::error!("a checkpoint has been under way for 2 s; alerts go out without waiting for the disk");
        }
        self.releasing.append(&mut self.held);
        self.release();
    }

    fn written(&mut self, written: Written) {
        self.release();
        let Some(checkpointing) = &mut self.checkpointing else { return };
        (checkpointing.in_flight, checkpointing.cost) = (false, written.took);
        if std::mem::take(&mut checkpointing.stalled) {
            tracing::info!("the disk answers again");
        }
        checkpointing.stored.send_modify(|stored| {
            stored.tried = written.commands;
            if written.stored {
                stored.written = written.commands;
            }
        });
        self.lines.put_back(written.unwritten);
        if written.stored {
            self.deliveries.records_written(written.records);
            self.queue.set_checkpointed(written.number);
        } else {
            // The delta that was lost is missing from all that follow: only a whole one helps.
            checkpointing.need_full = true;
        }
    }

    async fn last_checkpoint(&mut self, now: Timestamp) {
        if self.checkpointing.as_ref().is_some_and(|checkpointing| checkpointing.in_flight) {
            self.last_written().await;
        }
        let Some(full) = self.checkpointing.as_ref().map(|checkpointing| checkpointing.need_full) else { return };
        let write = self.write(now, full);
        self.releasing.append(&mut self.held);
        let Some(checkpointing) = &mut self.checkpointing else { return };
        if checkpointing.writes.send(write).await.is_ok() {
            self.last_written().await;
        }
    }

    /// Waits for the disk as long as the drain does; messages do not.
    async fn last_written(&mut self) {
        let written = match tokio::time::timeout(STALLED, receive(&mut self.checkpointing)).await {
            Ok(written) => written,
            Err(_) => {
                self.stalled();
                receive(&mut self.checkpointing).await
            }
        };
        if let Some(written) = written {
            self.written(written);
        }
    }
}

/// Who asks where a source goes on.
type Asks = (Arc<str>, oneshot::Sender<Option<Vec<u8>>>);

/// What the core takes, with the fields of its plan; or who asks about it. A batch that waited while the plan changed is
/// read again by what decoded it: the source's decoder may be another one by now.
fn input(ingest: Ingest, plan: &Arc<FieldPlan>) -> Result<Input, Asks> {
    Ok(match ingest {
        Ingest::State { source, state } => Input::Source { name: source, state },
        Ingest::Scrape(batch) => Input::Scrape(batch),
        Ingest::Counts(batch) => Input::Counts(batch),
        Ingest::Received(batch) => Input::Received(batch),
        Ingest::ScrapeTargets(all) => Input::ScrapeTargets(all),
        Ingest::Batch(batch, decoder) if batch.plan.version() != plan.version() => {
            Input::Events(decoder.redecode(batch, plan))
        }
        Ingest::Batch(batch, _) => Input::Events(batch),
        Ingest::Position { source, reply } => return Err((source, reply)),
    })
}

async fn receive(checkpointing: &mut Option<Checkpointing>) -> Option<Written> {
    match checkpointing {
        Some(checkpointing) => checkpointing.written.recv().await,
        None => std::future::pending().await,
    }
}

/// Writes the history when there are no checkpoints to take it along.
pub(super) async fn write_history(state: StateStore, mut portions: mpsc::Receiver<Vec<Line>>) {
    while let Some(lines) = portions.recv().await {
        let count = lines.len() as u64;
        if let Err(error) = state.append_history(lines.into_iter().map(Line::entry).collect()).await {
            self_metrics::history_lost("failed").increment(count);
            tracing::debug!(%error, "the history could not be written");
        }
    }
}

#[cfg(test)]
mod tests;
