//! A source's rate limit on the way into the queue.

use crate::source::rate::{Client, RateLimits};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The limits that hold for whoever uses a sink.
#[derive(Clone, Debug)]
pub struct Pace {
    limits: Arc<RateLimits>,
    client: Option<Client>,
    /// At the end nobody waits any more.
    cancel: CancellationToken,
}

impl Pace {
    /// For a whole source.
    pub fn new(limits: Arc<RateLimits>, cancel: CancellationToken) -> Self {
        Self { limits, client: None, cancel }
    }

    /// For one of its clients.
    #[must_use]
    pub fn for_client(self, client: Option<Client>) -> Self {
        Self { client, ..self }
    }

    /// Waits until so many events may pass, or says that they are to be dropped. Cancelling loses nothing.
    pub(super) async fn admit(&self, events: usize, may_drop: bool) -> bool {
        if events == 0 {
            return true;
        }
        let mut outcome = Some(if may_drop { "dropped" } else { "delayed" });
        while let Err(limited) = self.limits.admit(self.client, events, outcome) {
            if may_drop {
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep(limited.wait) => {}
                () = self.cancel.cancelled() => return true,
            }
            // Each event is counted as delayed once, however often it waits.
            outcome = None;
        }
        true
    }

    /// Whether so many may pass now.
    pub(super) fn try_admit(&self, events: usize) -> bool {
        events == 0 || self.limits.admit(self.client, events, Some("refused")).is_ok()
    }

    /// So many that were let pass found no room.
    pub(super) fn give_back(&self, events: usize) {
        self.limits.give_back(self.client, events);
    }
}
