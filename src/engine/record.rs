//! Samples that a driver writes as rules would: the input series of unit tests.

use super::Engine;
use crate::model::Timestamp;
use crate::rules::{Effects, RecordedSample};

impl Engine {
    /// Writes samples, histograms and staleness markers among them; rules that read them are due as after any change.
    pub fn record(&mut self, now: Timestamp, samples: Vec<RecordedSample>) {
        let now = self.advance(now);
        self.settle(now, Effects { samples, ..Effects::default() });
    }
}
