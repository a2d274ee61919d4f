//! The bounded queue between sources and core: so many inputs, so many bytes.

use super::SourceState;
use super::counts::CountBatch;
use super::received::ReceivedBatch;
use super::scrape::ScrapeBatch;
use crate::model::{EventBatch, Field};
use crate::telemetry::self_metrics;
use metrics::{Counter, Gauge};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// What a source hands to the core.
#[derive(Debug)]
pub enum Ingest {
    /// Decoded events.
    Batch(EventBatch),
    /// How a source stands.
    State {
        /// The source's name.
        source: Arc<str>,
        /// Its state now.
        state: SourceState,
    },
    /// What one scrape found.
    Scrape(Box<ScrapeBatch>),
    /// Changes of series that the source has counted itself.
    Counts(Box<CountBatch>),
    /// Samples with times of their own.
    Received(Box<ReceivedBatch>),
    /// Which targets a source scrapes from now on; the series of others end.
    ScrapeTargets {
        /// The source's name.
        source: Arc<str>,
        /// Their keys.
        targets: Vec<Arc<str>>,
    },
}

impl Ingest {
    /// Bytes that it holds, roughly.
    fn size(&self) -> usize {
        match self {
            Self::Batch(batch) => {
                batch.buffer.len() + batch.arena.len() + (batch.fields.len() + batch.lists.len()) * size_of::<Field>()
            }
            Self::Scrape(batch) => batch.size(),
            Self::Counts(batch) => batch.size(),
            Self::Received(batch) => batch.size(),
            Self::State { .. } | Self::ScrapeTargets { .. } => 0,
        }
    }
}

/// The queue's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Inputs that may wait.
    pub batches: usize,
    /// Bytes that may wait. A larger input passes alone, when it may wait for its turn.
    pub bytes: usize,
}

/// There is no room now (or the core has ended); the input was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Try again later.
    Later,
    /// The core has ended.
    Closed,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Later => "the queue to the core is full; send again later",
            Self::Closed => "sidewatch is shutting down",
        })
    }
}

struct Queued {
    ingest: Ingest,
    number: u64,
    size: usize,
    room: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Shared {
    limits: QueueLimits,
    room: Arc<Semaphore>,
    /// Held while an input is numbered and put in line: a checkpoint that stands for a number stands for all lower ones.
    numbers: Mutex<u64>,
    batches: AtomicUsize,
    bytes: AtomicUsize,
    checkpointed: watch::Sender<u64>,
    checkpoint_wanted: Notify,
    batches_gauge: Gauge,
    bytes_gauge: Gauge,
    full: Counter,
}

impl Shared {
    fn count(&self, batches: isize, bytes: isize) {
        let add = |counter: &AtomicUsize, change: isize| {
            counter.fetch_add(change.cast_unsigned(), Ordering::Relaxed).wrapping_add(change.cast_unsigned())
        };
        self.batches_gauge.set(add(&self.batches, batches) as f64);
        self.bytes_gauge.set(add(&self.bytes, bytes) as f64);
    }
}

/// The sources' end; clones share the queue.
#[derive(Clone)]
pub struct IngestSink {
    sender: mpsc::Sender<Queued>,
    shared: Arc<Shared>,
}

impl fmt::Debug for IngestSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngestSink").field("waiting", &self.waiting()).finish()
    }
}

/// The core's end.
pub struct IngestQueue {
    receiver: mpsc::Receiver<Queued>,
    shared: Arc<Shared>,
    received: u64,
    buffer: Vec<Queued>,
}

/// Sources that wait for a checkpoint.
pub struct CheckpointRequests(Arc<Shared>);

impl CheckpointRequests {
    /// Waits until one asks. Cancelling loses nothing.
    pub async fn next(&self) {
        self.0.checkpoint_wanted.notified().await;
    }
}

/// A queue with its two ends.
pub fn queue(limits: QueueLimits) -> (IngestSink, IngestQueue) {
    let batches = limits.batches.max(1);
    let (sender, receiver) = mpsc::channel(batches);
    let limits = QueueLimits { batches, bytes: limits.bytes.clamp(1, u32::MAX as usize) };
    self_metrics::queue_capacity_batches().set(limits.batches as f64);
    self_metrics::queue_capacity_bytes().set(limits.bytes as f64);
    let shared = Arc::new(Shared {
        limits,
        room: Arc::new(Semaphore::new(limits.bytes)),
        numbers: Mutex::new(0),
        batches: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        checkpointed: watch::Sender::new(0),
        checkpoint_wanted: Notify::new(),
        batches_gauge: self_metrics::queue_batches(),
        bytes_gauge: self_metrics::queue_bytes(),
        full: self_metrics::queue_full(),
    });
    (IngestSink { sender, shared: shared.clone() }, IngestQueue { receiver, shared, received: 0, buffer: Vec::new() })
}

impl IngestSink {
    /// Waits for room: this is what slows a source down. Returns the input's number.
    ///
    /// # Errors
    /// [`Full::Closed`] when the core has ended.
    pub async fn send(&self, ingest: Ingest) -> Result<u64, Full> {
        let size = ingest.size();
        let wanted = size.min(self.shared.limits.bytes) as u32;
        let room = match wanted {
            0 => None,
            _ => Some(self.shared.room.clone().acquire_many_owned(wanted).await.map_err(|_| Full::Closed)?),
        };
        let slot = self.sender.reserve().await.map_err(|_| Full::Closed)?;
        Ok(self.put(slot, ingest, size, room))
    }

    /// Takes the input at once or not at all. Returns its number.
    ///
    /// # Errors
    /// [`Full::Later`] when there is no room now, [`Full::Closed`] when the core has ended.
    pub fn try_send(&self, ingest: Ingest) -> Result<u64, Full> {
        let outcome = self.try_take(ingest);
        if outcome == Err(Full::Later) {
            self.shared.full.increment(1);
        }
        outcome
    }

    /// Takes all inputs at once or none of them, one behind the other.
    ///
    /// # Errors
    /// As [`Self::try_send`].
    pub fn try_send_all(&self, inputs: Vec<Ingest>) -> Result<(), Full> {
        let full = || {
            self.shared.full.increment(1);
            Full::Later
        };
        let mut places = Vec::with_capacity(inputs.len());
        let mut slots = self.sender.try_reserve_many(inputs.len()).map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => full(),
            mpsc::error::TrySendError::Closed(()) => Full::Closed,
        })?;
        for ingest in inputs {
            let size = ingest.size();
            let room = match size {
                0 => None,
                _ if size > self.shared.limits.bytes => return Err(full()),
                _ => Some(self.shared.room.clone().try_acquire_many_owned(size as u32).map_err(|_| full())?),
            };
            places.push((ingest, size, room));
        }
        for ((ingest, size, room), slot) in places.into_iter().zip(&mut slots) {
            self.put(slot, ingest, size, room);
        }
        Ok(())
    }

    fn try_take(&self, ingest: Ingest) -> Result<u64, Full> {
        let size = ingest.size();
        let room = match size {
            0 => None,
            _ if size > self.shared.limits.bytes => return Err(Full::Later),
            _ => Some(self.shared.room.clone().try_acquire_many_owned(size as u32).map_err(|_| Full::Later)?),
        };
        let slot = self.sender.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => Full::Later,
            mpsc::error::TrySendError::Closed(()) => Full::Closed,
        })?;
        Ok(self.put(slot, ingest, size, room))
    }

    fn put(
        &self,
        slot: mpsc::Permit<'_, Queued>,
        ingest: Ingest,
        size: usize,
        room: Option<OwnedSemaphorePermit>,
    ) -> u64 {
        self.shared.count(1, size.cast_signed());
        let mut numbers = self.shared.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        *numbers += 1;
        slot.send(Queued { ingest, number: *numbers, size, room });
        *numbers
    }

    /// Asks for a checkpoint before its time: acknowledgements wait for it.
    pub fn want_checkpoint(&self) {
        self.shared.checkpoint_wanted.notify_one();
    }

    /// The highest number that stands in a checkpoint, as it grows.
    pub fn checkpointed(&self) -> watch::Receiver<u64> {
        self.shared.checkpointed.subscribe()
    }

    /// Inputs and bytes that wait.
    pub fn waiting(&self) -> (usize, usize) {
        (self.shared.batches.load(Ordering::Relaxed), self.shared.bytes.load(Ordering::Relaxed))
    }

    /// The queue's limits.
    pub fn limits(&self) -> QueueLimits {
        self.shared.limits
    }
}

impl IngestQueue {
    /// Waits for input and takes at most `limit` pieces, in order. Empty when every sink is gone.
    /// Cancelling loses nothing.
    pub async fn receive(&mut self, limit: usize) -> Vec<Ingest> {
        self.receiver.recv_many(&mut self.buffer, limit).await;
        self.unpack()
    }

    /// Takes what is there, at most `limit` pieces, without waiting.
    pub fn try_receive(&mut self, limit: usize) -> Vec<Ingest> {
        while self.buffer.len() < limit
            && let Ok(queued) = self.receiver.try_recv()
        {
            self.buffer.push(queued);
        }
        self.unpack()
    }

    fn unpack(&mut self) -> Vec<Ingest> {
        let shared = &self.shared;
        let received = &mut self.received;
        let one = |queued: Queued| {
            let Queued { ingest, number, size, room } = queued;
            drop(room);
            shared.count(-1, -size.cast_signed());
            *received = (*received).max(number);
            ingest
        };
        self.buffer.drain(..).map(one).collect()
    }

    /// Where sources ask for checkpoints before their time.
    pub fn checkpoint_requests(&self) -> CheckpointRequests {
        CheckpointRequests(self.shared.clone())
    }

    /// The highest number taken so far: what a checkpoint written now stands for.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Says that everything up to a number stands in a checkpoint.
    pub fn set_checkpointed(&self, number: u64) {
        self.shared.checkpointed.send_if_modified(|known| {
            let grows = number > *known;
            *known = (*known).max(number);
            grows
        });
    }

    /// Refuses everything from now on; what waits can still be taken.
    pub fn close(&mut self) {
        self.receiver.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FieldPlan, Timestamp};

    fn batch(bytes: usize) -> Ingest {
        let plan = Arc::new(FieldPlan::default());
        Ingest::Batch(EventBatch::new("s".into(), plan, Timestamp::EPOCH, "x".repeat(bytes)))
    }

    #[tokio::test]
    async fn both_limits_refuse_and_make_wait() {
        let (sink, mut queue) = queue(QueueLimits { batches: 2, bytes: 100 });
        assert_eq!(sink.try_send(batch(60)), Ok(1));
        assert_eq!(sink.try_send(batch(60)), Err(Full::Later), "no room for the bytes");
        assert_eq!(sink.try_send(batch(101)), Err(Full::Later), "larger than everything");
        assert_eq!(sink.try_send(batch(1)), Ok(2));
        assert_eq!(sink.try_send(batch(1)), Err(Full::Later), "no room for a third");
        assert_eq!(sink.waiting(), (2, 61));

        let sender = sink.clone();
        let waiting = async move { sender.send(batch(1_000)).await };
        let (sent, first) = tokio::join!(waiting, async {
            let first = queue.receive(10).await;
            (first.len(), queue.receive(10).await.len())
        });
        assert_eq!((sent, first), (Ok(3), (2, 1)), "a giant passes alone");
        assert_eq!(queue.received(), 3);
        queue.set_checkpointed(3);
        queue.set_checkpointed(2);
        assert_eq!(*sink.checkpointed().borrow(), 3);
        queue.close();
        assert_eq!(sink.try_send(batch(1)), Err(Full::Closed));
    }
}
