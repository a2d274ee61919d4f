//! The way to one receiver: its queue, one task that sends, how it stands.

use super::Outcome;
use super::queue::{Dropped, Front, Piece, Queue};
use super::start::Target;
use crate::api::ExportStatus;
use crate::telemetry::self_metrics::SinkMetrics;
use crate::telemetry::{OnChange, clock};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

/// Between two attempts, at first and at most.
const FIRST_WAIT_MS: u64 = 100;
const LONGEST_WAIT_MS: u64 = 10_000;
/// At the end, what can go at once may take so long.
const FLUSH: Duration = Duration::from_secs(2);
/// What cannot be read from the disk is tried again after so long.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// What is too old is looked for at least so often.
const EXPIRE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Lane {
    pub name: Arc<str>,
    /// `publish` or the key of the export.
    pub kind: &'static str,
    queue: Mutex<Queue>,
    wake: Notify,
    pub metrics: SinkMetrics,
    sent: AtomicU64,
    dropped: AtomicU64,
    waiting: StdMutex<(u64, u64)>,
    /// Why it fails; `None` while it does not. Held for a copy or a store.
    error: StdMutex<Option<String>>,
    failing: OnChange<bool>,
}

impl Lane {
    pub fn new(name: Arc<str>, kind: &'static str, queue: Queue, metrics: SinkMetrics) -> Arc<Self> {
        let lane = Self {
            name,
            kind,
            queue: Mutex::new(queue),
            wake: Notify::new(),
            metrics,
            sent: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            waiting: StdMutex::default(),
            error: StdMutex::default(),
            failing: OnChange::new(false),
        };
        Arc::new(lane)
    }

    /// Puts pieces into the queue.
    pub async fn push(&self, pieces: Vec<Piece>, mark: Option<(String, Vec<u8>)>) {
        let mut queue = self.queue.lock().await;
        let dropped = queue.push(pieces, mark).await;
        self.note(&queue, dropped);
    }

    /// There is something to send.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    fn note(&self, queue: &Queue, dropped: Dropped) {
        let waiting = queue.waiting();
        self.metrics.pending.set(waiting.0 as f64);
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
        for (reason, count) in dropped {
            self.drop_counted(reason, count);
        }
    }

    /// Counts what is not sent.
    pub fn drop_counted(&self, reason: &'static str, count: u64) {
        self.metrics.dropped(reason).increment(count);
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// As `/api/status` shows it.
    pub fn status(&self) -> ExportStatus {
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (pending, bytes) = *self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        ExportStatus {
            name: self.name.to_string(),
            kind: self.kind,
            state: if error.is_some() { "waiting" } else { "sending" },
            pending: pending as usize,
            pending_bytes: bytes,
            sent: self.sent.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            last_error: error.unwrap_or_default(),
        }
    }

    fn stands(&self, error: Option<&str>) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error.map(str::to_owned);
        let (name, kind) = (&*self.name, self.kind);
        if self.failing.set(error.is_some()) {
            match error {
                Some(error) => tracing::warn!(name, kind, error, "cannot be sent; it waits and is tried again"),
                None => tracing::info!(name, kind, "is sent again"),
            }
        }
    }

    /// Sends in order until cancelled, then what can go at once.
    pub async fn run(self: Arc<Self>, mut target: Target, cancel: CancellationToken) {
        let mut tries = 0_u32;
        let end = async {
            cancel.cancelled().await;
            tokio::time::sleep(FLUSH).await;
        };
        tokio::pin!(end);
        loop {
            let front = {
                let mut queue = self.queue.lock().await;
                let mut dropped = queue.expire(clock::now()).await;
                let (front, unreadable) = queue.front().await;
                dropped.extend(unreadable);
                self.note(&queue, dropped);
                front
            };
            let (number, blob) = match front {
                Front::Piece(number, blob) => (number, blob),
                Front::Nothing => tokio::select! {
                    () = self.wake.notified() => continue,
                    () = tokio::time::sleep(EXPIRE) => continue,
                    () = cancel.cancelled() => return,
                },
                Front::Later(error) => {
                    self.stands(Some(&error));
                    tokio::select! {
                        () = tokio::time::sleep(READ_AGAIN) => continue,
                        () = cancel.cancelled() => return,
                    }
                }
            };
            let outcome = tokio::select! {
                outcome = target.send(&blob) => outcome,
                () = &mut end => return,
            };
            let after_ms = match outcome {
                Outcome::Taken => {
                    let mut queue = self.queue.lock().await;
                    let items = queue.remove(number).await;
                    self.metrics.sent.increment(items);
                    self.sent.fetch_add(items, Ordering::Relaxed);
                    self.note(&queue, Vec::new());
                    drop(queue);
                    self.stands(None);
                    tries = 0;
                    continue;
                }
                Outcome::Refused { error } => {
                    let mut queue = self.queue.lock().await;
                    let items = queue.remove(number).await;
                    self.note(&queue, vec![("refused", items)]);
                    drop(queue);
                    tracing::warn!(name = &*self.name, kind = self.kind, error, items, "was refused for good");
                    tries = 0;
                    continue;
                }
                Outcome::Retry { error, after_ms } => {
                    self.metrics.failed.increment(1);
                    self.stands(Some(&error));
                    after_ms
                }
            };
            if cancel.is_cancelled() {
                return;
            }
            let wait_ms = (FIRST_WAIT_MS << tries.min(10)).min(LONGEST_WAIT_MS);
            // Spread by the number of the piece: many sidecars must not come back at one moment.
            let wait_ms =
                wait_ms / 2 + (number.wrapping_mul(7_919).wrapping_add(u64::from(tries) * 104_729)) % (wait_ms / 2 + 1);
            tries += 1;
            let wait_ms = after_ms.map_or(wait_ms, |after| after.unsigned_abs().clamp(wait_ms, 600_000));
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
                () = cancel.cancelled() => {}
            }
        }
    }
}
