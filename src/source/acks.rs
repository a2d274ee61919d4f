//! What was handed to the core and is not acknowledged yet: a broker hears of it only when it stands in a checkpoint.

use super::IngestSink;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::watch;

/// A source whose broker waits asks for a checkpoint this often.
const ASK: Duration = Duration::from_millis(20);

/// Acknowledgements in their order; `T` is what a transport acknowledges with (a token, an offset, a list of ids).
#[derive(Debug)]
pub(super) struct Acks<T> {
    waiting: VecDeque<(u64, T)>,
    /// Messages behind them.
    messages: usize,
    counts: VecDeque<usize>,
    stored: watch::Receiver<u64>,
    sink: IngestSink,
    /// So many unacknowledged messages the broker allows.
    window: usize,
}

impl<T> Acks<T> {
    /// `window` is the broker's limit of unacknowledged messages: when a quarter of it waits, a checkpoint is asked for: the
    /// broker goes on sending until it has been written and acknowledged.
    pub fn new(sink: &IngestSink, window: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            messages: 0,
            counts: VecDeque::new(),
            stored: sink.checkpointed(),
            sink: sink.clone(),
            window: window.max(2),
        }
    }

    /// The batch with this number is on its way to the core; `count` messages of the broker stand in it.
    pub fn push(&mut self, number: u64, count: usize, token: T) {
        self.waiting.push_back((number, token));
        self.counts.push_back(count);
        self.messages += count;
        if self.messages >= self.window / 4 {
            self.sink.want_checkpoint();
        }
    }

    /// Messages that wait for their acknowledgement.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What may be acknowledged now: it stands in a checkpoint.
    pub fn ready(&mut self) -> Vec<T> {
        let stored = *self.stored.borrow_and_update();
        let count = self.waiting.partition_point(|(number, _)| *number <= stored);
        self.messages -= self.counts.drain(..count).sum::<usize>();
        self.waiting.drain(..count).map(|(_, token)| token).collect()
    }

    /// Waits until [`Acks::ready`] has something; for ever when nothing waits. Whoever waits here for a while is idle, so a
    /// checkpoint is asked for. Cancelling loses nothing.
    pub async fn changed(&mut self) {
        let Some((first, _)) = self.waiting.front() else { return std::future::pending().await };
        let first = *first;
        loop {
            if *self.stored.borrow_and_update() >= first {
                return;
            }
            match tokio::time::timeout(ASK, self.stored.changed()).await {
                Ok(Ok(())) => {}
                // Nothing else has come meanwhile: the source is idle.
                Err(_) => self.sink.want_checkpoint(),
                // The core has ended, and the source will be cancelled.
                Ok(Err(_)) => std::future::pending().await,
            }
        }
    }

    /// Forgets everything: the connection is gone, the broker sends it again.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.counts.clear();
        self.messages = 0;
    }
}
