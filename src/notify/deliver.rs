//! The shell around the outbox: one task for each receiver, so that a slow one never delays another.

use super::courier::Courier;
use super::notification::Notification;
use super::outbox::{
    LaneId, LaneStatus, Letter, Next, Outbox, OutboxStatus, Outcome, Record, Requeued, notify_seconds,
};
use super::resend::Resend;
use super::routing::Routing;
use crate::model::Timestamp;
use crate::telemetry::self_metrics;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longer than any receiver's own timeouts: what still hangs then is cut off.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest that a task sleeps before it looks again, whatever the clock does meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The clock of the shell.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Messages on their way, and the tasks that take them there. Handles are cheap to clone.
#[derive(Clone)]
pub struct Deliveries {
    shared: Arc<Shared>,
}

struct Shared {
    // Held for single calls of the state machine and never across an await: the tasks meet nowhere else.
    outbox: Mutex<Outbox>,
    routing: ArcSwap<Routing>,
    courier: Courier,
    clock: Clock,
    /// Rings when there may be a lane without a task.
    lanes_changed: Notify,
    /// Rings when a lane may have something to do.
    lane_news: Mutex<BTreeMap<LaneId, Arc<Notify>>>,
    /// Rings after each attempt, for whoever writes the outbox down.
    changed: Notify,
}

/// What was left when delivering ended.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DrainReport {
    /// Messages that were not delivered, by receiver. They are in the outbox's snapshot.
    pub undelivered: BTreeMap<String, usize>,
}

impl Deliveries {
    /// Takes over an outbox. Nothing is sent before [`Deliveries::run`].
    pub fn new(mut outbox: Outbox, routing: Arc<Routing>, courier: Courier, clock: Clock) -> Self {
        outbox.keep_memory(|(name, index)| routing.integration(name, *index).is_some());
        let shared = Shared {
            outbox: Mutex::new(outbox),
            routing: ArcSwap::new(routing.clone()),
            courier,
            clock,
            lanes_changed: Notify::new(),
            lane_news: Mutex::new(BTreeMap::new()),
            changed: Notify::new(),
        };
        let deliveries = Self { shared: Arc::new(shared) };
        deliveries.shared.show_lanes(&routing);
        deliveries
    }

    /// Puts messages in; their receivers' tasks take them up at once.
    pub fn send(&self, notifications: Vec<Notification>) {
        if notifications.is_empty() {
            return;
        }
        let now = (self.shared.clock)();
        let mut lanes = Vec::with_capacity(notifications.len());
        {
            let mut outbox = self.shared.outbox();
            for notification in notifications {
                lanes.push((notification.receiver.clone(), notification.integration));
                outbox.push(notification, now);
            }
        }
        for lane in lanes {
            self.shared.ring(&lane);
        }
        self.shared.changed.notify_one();
    }

    /// Swaps the receivers. What waits for a receiver that is gone is given up and listed; everything else goes out with
    /// the new settings.
    pub fn reconfigure(&self, routing: Arc<Routing>) {
        let now = (self.shared.clock)();
        self.shared.courier.refresh();
        self.shared.routing.store(routing.clone());
        self.shared.outbox().keep_lanes(|(name, index)| routing.integration(name, *index).is_some(), now);
        self.shared.show_lanes(&routing);
        let bells: Vec<LaneId> = self.shared.bells().keys().cloned().collect();
        bells.iter().for_each(|lane| self.shared.ring(lane));
    }

    /// What the API shows.
    pub fn status(&self) -> OutboxStatus {
        self.shared.outbox().status()
    }

    /// The outbox as bytes, with the revision they belong to.
    pub fn snapshot(&self) -> (u64, Vec<u8>) {
        let outbox = self.shared.outbox();
        (outbox.revision(), outbox.snapshot())
    }

    /// Changes whenever the snapshot would.
    pub fn revision(&self) -> u64 {
        self.shared.outbox().revision()
    }

    /// Waits until the outbox has changed since the last call.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// The receivers' queues, without what is in them.
    pub fn lanes(&self) -> Vec<LaneStatus> {
        self.shared.outbox().lane_statuses()
    }

    /// Records that were dropped before they were written.
    pub fn records_dropped(&self) -> u64 {
        self.shared.outbox().records_dropped()
    }

    /// Everything that waits, is being sent or was given up.
    pub fn letters(&self) -> Vec<Letter> {
        self.shared.outbox().letters()
    }

    /// One message with all that it says.
    pub fn letter(&self, id: u64) -> Option<(Letter, Arc<Notification>)> {
        self.shared.outbox().letter(id)
    }

    /// Whether messages for this receiver still have somewhere to go.
    pub fn is_configured(&self, receiver: &str, integration: usize) -> bool {
        self.shared.routing.load().integration(receiver, integration).is_some()
    }

    /// Tries a message that was given up once more, and one that waits at once.
    pub fn requeue(&self, id: u64) -> Requeued {
        let now = (self.shared.clock)();
        let requeued = self.shared.outbox().requeue(id, now);
        let lanes: Vec<LaneId> = self.shared.outbox().lanes().cloned().collect();
        lanes.iter().for_each(|lane| self.shared.ring(lane));
        self.shared.changed.notify_one();
        requeued
    }

    /// Drops a message that waits or was given up; what it was.
    pub fn discard(&self, id: u64) -> Option<Letter> {
        let now = (self.shared.clock)();
        let dropped = self.shared.outbox().discard(id, now);
        self.shared.changed.notify_one();
        dropped
    }

    /// The outbox as bytes with the revision they belong to, the records that are not known to be written, and the number
    /// to give to [`Deliveries::records_written`] once both are: what the bytes say became of a message, its record says.
    pub fn snapshot_with_records(&self) -> (u64, Vec<u8>, u64, Vec<Record>) {
        let outbox = self.shared.outbox();
        let (number, records) = outbox.records();
        (outbox.revision(), outbox.snapshot(), number, records)
    }

    /// The records that are not known to be written.
    pub fn records(&self) -> (u64, Vec<Record>) {
        self.shared.outbox().records()
    }

    /// Forgets the records up to this number: they are written.
    pub fn records_written(&self, number: u64) {
        self.shared.outbox().records_written(number);
    }

    /// Delivers until `stop`, then for at most `drain` longer, until nothing is left that can go at once.
    pub async fn run(self, stop: CancellationToken, drain: Duration) -> DrainReport {
        let mut tasks: JoinSet<LaneId> = JoinSet::new();
        let mut running: Vec<LaneId> = Vec::new();
        loop {
            self.shared.start_lanes(&mut tasks, &mut running, &stop);
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.shared.lanes_changed.notified() => {}
                Some(ended) = tasks.join_next() => {
                    // A lane's task only ends at the stop; one that panicked is started again.
                    match ended {
                        Ok(lane) => running.retain(|known| *known != lane),
                        Err(error) => {
                            tracing::error!(%error, "a delivery task broke and is started again");
                            tasks.shutdown().await;
                            running.clear();
                        }
                    }
                }
            }
        }
        self.shared.start_lanes(&mut tasks, &mut running, &stop);
        let all = async { while tasks.join_next().await.is_some() {} };
        // Past the deadline the tasks are cut off by dropping them; their messages wait in the snapshot.
        let _ = tokio::time::timeout(drain, all).await;
        tasks.shutdown().await;
        let now = (self.shared.clock)();
        let mut outbox = self.shared.outbox();
        let lanes: Vec<LaneId> = outbox.lanes().cloned().collect();
        lanes.iter().for_each(|lane| outbox.abandon(lane, now));
        let mut report = DrainReport::default();
        for lane in outbox.status().lanes.iter().filter(|lane| lane.pending > 0) {
            *report.undelivered.entry(lane.receiver.to_string()).or_default() += lane.pending;
        }
        report
    }
}

impl Shared {
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bells(&self) -> MutexGuard<'_, BTreeMap<LaneId, Arc<Notify>>> {
        self.lane_news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bell(&self, lane: &LaneId) -> Arc<Notify> {
        self.bells().entry(lane.clone()).or_default().clone()
    }

    fn ring(&self, lane: &LaneId) {
        let known = self.bells().get(lane).cloned();
        match known {
            Some(bell) => bell.notify_one(),
            None => self.lanes_changed.notify_one(),
        }
    }

    /// Makes all configured lanes visible in the status, also those that never had a message.
    fn show_lanes(&self, routing: &Routing) {
        let mut outbox = self.outbox();
        for receiver in routing.receivers() {
            for index in 0..receiver.integrations.len() {
                outbox.ensure_lane((receiver.name.clone(), index));
            }
        }
        drop(outbox);
        self.lanes_changed.notify_one();
    }

    fn start_lanes(self: &Arc<Self>, tasks: &mut JoinSet<LaneId>, running: &mut Vec<LaneId>, stop: &CancellationToken) {
        let lanes: Vec<LaneId> = self.outbox().lanes().cloned().collect();
        for lane in lanes {
            if !running.contains(&lane) {
                running.push(lane.clone());
                tasks.spawn(self.clone().work(lane, stop.clone()));
            }
        }
    }

    /// One receiver's task. After the stop it sends what can go at once and ends.
    async fn work(self: Arc<Self>, lane: LaneId, stop: CancellationToken) -> LaneId {
        let bell = self.bell(&lane);
        let mut failing = false;
        let mut resend = Resend::default();
        loop {
            let now = (self.clock)();
            let next = self.outbox().next(&lane, now);
            match next {
                Next::Send(attempt) => {
                    // Should this task be cut off here, the message waits again.
                    let guard = Abandon { shared: &self, lane: &lane };
                    let routing = self.routing.load_full();
                    let told = &attempt.notification;
                    let (earlier, mut forgotten) = resend.begin(&mut self.outbox(), &routing, &lane, told);
                    let sending = self.courier.deliver_after(&routing, told, earlier.as_ref(), now);
                    let cut_off = "the receiver hung and was cut off";
                    let (outcome, remember) = tokio::time::timeout(ATTEMPT_TIMEOUT, sending)
                        .await
                        .unwrap_or_else(|_| (Outcome::Retry { error: cut_off.into(), retry_after_ms: None }, None));
                    if let Some(what) = remember {
                        forgotten = self.outbox().remember(&lane, &told.group_key, what);
                    }
                    if forgotten {
                        self_metrics::notifications_failed(&lane.0, "forgotten").increment(1);
                        tracing::warn!(
                            receiver = &*lane.0,
                            "more groups are told of than can be remembered; the oldest is told anew"
                        );
                    }
                    let now = (self.clock)();
                    say(&lane, &outcome, &mut failing);
                    count(&attempt.notification, &outcome, now);
                    self.outbox().finish(&lane, attempt.id, outcome, now);
                    drop(guard);
                    self.changed.notify_one();
                }
                Next::Wait(_) if stop.is_cancelled() => return lane,
                Next::Wait(until) => {
                    let handed = resend.due(&mut self.outbox(), &lane, now);
                    if let Some(handed) = handed {
                        let routing = self.routing.load_full();
                        let again = self.courier.hand_over_again(&routing, &lane, &handed, now);
                        let again = tokio::time::timeout(ATTEMPT_TIMEOUT, again).await;
                        if let Ok(Some(outcome)) = again {
                            say(&lane, &outcome, &mut failing);
                            if !matches!(outcome, Outcome::Delivered(_)) {
                                self_metrics::notifications_failed(&lane.0, "resend").increment(1);
                            }
                        }
                        continue;
                    }
                    let until = [until, resend.next()].into_iter().flatten().min();
                    let sleep = until.map_or(LONGEST_SLEEP, |until| {
                        Duration::from_micros(until.micros_since(now).max(0).unsigned_abs()).min(LONGEST_SLEEP)
                    });
                    tokio::select! {
                        () = tokio::time::sleep(sleep) => {}
                        () = bell.notified() => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        }
    }
}

/// One line in the log when a receiver begins to fail, one for each message given up, one when it is well again.
fn say(lane: &LaneId, outcome: &Outcome, failing: &mut bool) {
    let receiver = &*lane.0;
    match outcome {
        Outcome::Delivered(_) if *failing => tracing::info!(receiver, "the receiver takes notifications again"),
        Outcome::Retry { error, .. } if !*failing => {
            tracing::warn!(receiver, error, "a notification could not be delivered; it is tried again");
        }
        Outcome::Final { error } => tracing::error!(receiver, error, "a notification was refused and is given up"),
        Outcome::Delivered(_) | Outcome::Retry { .. } => {}
    }
    *failing = !matches!(outcome, Outcome::Delivered(_));
}

fn count(notification: &Notification, outcome: &Outcome, now: Timestamp) {
    let receiver = &notification.receiver;
    match outcome {
        Outcome::Delivered(_) => {
            self_metrics::notifications_sent(receiver).increment(1);
            let latency_ms = now.millis_since(notification.at);
            self_metrics::notification_latency_seconds(receiver).record(latency_ms.max(0) as f64 / 1e3);
            for (rule, seconds) in notify_seconds(notification, now) {
                self_metrics::alert_time_to_notify(&rule).record(seconds);
            }
        }
        Outcome::Retry { .. } => self_metrics::notifications_failed(receiver, "tried_again").increment(1),
        Outcome::Final { .. } => self_metrics::notifications_failed(receiver, "given_up").increment(1),
    }
}

/// Gives a message back when its attempt ends without an outcome.
struct Abandon<'a> {
    shared: &'a Shared,
    lane: &'a LaneId,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        let now = (self.shared.clock)();
        self.shared.outbox().abandon(self.lane, now);
    }
}
