//! Events that a full queue lost, by source: counted always, said once for as long as it goes on.

use super::Priority;
use crate::telemetry::{clock, self_metrics};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A source that dropped something stays quiet for at least so long before it is said again.
const EPISODE: Duration = Duration::from_secs(60);

struct Episode {
    since: Instant,
    items: u64,
}

/// The sources that are dropping.
#[derive(Default)]
pub(super) struct Dropped(BTreeMap<Arc<str>, Episode>);

impl Dropped {
    /// Counts what was lost; the first time it is said.
    pub fn count(&mut self, source: &Arc<str>, reason: &'static str, priority: Priority, items: usize) {
        self_metrics::queue_dropped_events(source, reason, priority.word()).increment(items as u64);
        let episode = self.0.entry(source.clone()).or_insert_with(|| {
            tracing::warn!(%source, policy = reason, "the queue to the core is full: events are dropped, see sidewatch_queue_dropped_events_total");
            Episode { since: clock::instant(), items: 0 }
        });
        episode.items += items as u64;
    }

    /// To be called whenever nothing waits any more: what went on for long enough is over.
    pub fn settle(&mut self) {
        if self.0.is_empty() {
            return;
        }
        self.0.retain(|source, episode| {
            let goes_on = episode.since.elapsed() < EPISODE;
            if !goes_on {
                tracing::info!(%source, events = episode.items, "the queue has room again; so many events were dropped");
            }
            goes_on
        });
    }
}
