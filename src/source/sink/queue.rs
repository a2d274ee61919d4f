//! The core's end of the queue.

use super::{Ingest, Shared};
use std::sync::Arc;

/// Events taken at once: what is urgent and comes next has to wait for no more than these.
const EVENTS_AT_ONCE: usize = 4_096;

/// The core's end.
pub struct IngestQueue {
    pub(super) shared: Arc<Shared>,
}

/// Sources that wait for a checkpoint.
pub struct CheckpointRequests(Arc<Shared>);

impl CheckpointRequests {
    /// Waits until one asks. Cancelling loses nothing.
    pub async fn next(&self) {
        self.0.checkpoint_wanted.notified().await;
    }
}

impl IngestQueue {
    /// Waits for input and takes at most `limit` pieces, urgent ones first, else in order. Empty when every sink is gone.
    /// Cancelling loses nothing.
    pub async fn receive(&mut self, limit: usize) -> Vec<Ingest> {
        loop {
            let taken = self.try_receive(limit);
            if !taken.is_empty() || self.shared.line().sinks_gone {
                return taken;
            }
            self.shared.arrived.notified().await;
        }
    }

    /// Takes what is there, at most `limit` pieces and about [`EVENTS_AT_ONCE`] events, without waiting.
    pub fn try_receive(&mut self, limit: usize) -> Vec<Ingest> {
        let (mut taken, mut rooms, mut events) = (Vec::new(), Vec::new(), 0);
        let mut line = self.shared.line();
        while taken.len() < limit
            && events < EVENTS_AT_ONCE
            && let Some((priority, queued)) = line.lanes.next()
        {
            self.shared.left(&mut line, priority, queued.need);
            events += queued.need.events;
            taken.push(queued.ingest);
            rooms.push(queued.room);
        }
        if line.lanes.is_empty() {
            line.dropped.settle();
        }
        drop(line);
        // Whoever waits for room is woken outside of the lock.
        drop(rooms);
        taken
    }

    /// Whether something waits.
    pub fn is_waiting(&self) -> bool {
        !self.shared.line().lanes.is_empty()
    }

    /// Where sources ask for checkpoints before their time.
    pub fn checkpoint_requests(&self) -> CheckpointRequests {
        CheckpointRequests(self.shared.clone())
    }

    /// Everything up to this number was taken: what a checkpoint written now stands for.
    pub fn received(&self) -> u64 {
        self.shared.line().lanes.gone_up_to()
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
        self.shared.line().closed = true;
        self.shared.common.close();
        self.shared.reserve.close();
    }
}

impl Drop for IngestQueue {
    fn drop(&mut self) {
        self.close();
    }
}
