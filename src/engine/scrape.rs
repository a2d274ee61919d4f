//! Scrapes in the core: which numbers stand for which series, by source and target.

use super::Engine;
use crate::model::Timestamp;
use crate::series::ScrapedSeries;
use crate::source::scrape::ScrapeBatch;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The kind of source that scrapes.
pub(super) const SCRAPE: &str = "scrape";

/// By source, then by target.
pub(super) type Scrapes = BTreeMap<Arc<str>, BTreeMap<Arc<str>, ScrapedSeries>>;

impl Engine {
    pub(super) fn scrape(&mut self, batch: &ScrapeBatch) {
        // A target that is no longer scraped has ended; a batch of it that comes late must not begin it again.
        let Some(series) = self.scrapes.get_mut(&batch.source).and_then(|targets| targets.get_mut(&batch.target))
        else {
            return;
        };
        self.store.apply_scrape(series, batch);
        if let Some(status) = self.sources.get_mut(&batch.source) {
            status.events += batch.samples() as u64;
        }
    }

    /// Ends the series of targets that are not among these.
    pub(super) fn scrape_targets(&mut self, now: Timestamp, source: &Arc<str>, targets: &[Arc<str>]) {
        let mut before = self.scrapes.remove(source).unwrap_or_default();
        if targets.is_empty() {
            // The source's task has ended: what it would send next has new numbers.
            self.counts.end(source);
        }
        if !targets.is_empty() {
            let kept = targets.iter().map(|key| (key.clone(), before.remove(key).unwrap_or_default())).collect();
            self.scrapes.insert(source.clone(), kept);
        }
        for series in before.values() {
            self.store.end_scrape(series, now.millis());
        }
    }
}
