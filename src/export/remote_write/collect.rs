//! The newest sample of every series since the last time.

use crate::api::{CoreGone, CoreHandle};
use crate::engine::Core;
use crate::model::METRIC_NAME;
use crate::series::{MatchOp, Matcher, Metadata, Selection, SeriesData, Storage};

/// What was read.
pub(super) struct Found {
    /// Each with its newest sample only; a marker of staleness counts as one.
    pub series: Vec<SeriesData>,
    /// What metrics are; now and then.
    pub metadata: Vec<Metadata>,
}

/// Metadata goes out with every so many collections.
const METADATA_EVERY: u64 = 4;

/// Reads one metric after the other, so that the core is never held up by all of them at once.
pub(super) struct Collector {
    since_ms: i64,
    native: bool,
    collections: u64,
}

impl Collector {
    pub fn new(since_ms: i64, native: bool) -> Self {
        Self { since_ms, native, collections: 0 }
    }

    pub async fn collect(&mut self, core: &CoreHandle<Core>, now_ms: i64) -> Result<Found, CoreGone> {
        let range = (self.since_ms.saturating_add(1), now_ms);
        let names = core.call(move |core, _| core.engine.store().label_values(METRIC_NAME, &[], range)).await?;
        let mut found = Found { series: Vec::new(), metadata: Vec::new() };
        for name in names {
            let mut histograms = false;
            for mut series in self.of(core, &name, range).await? {
                // A moment has a float or a histogram; the newer of the two counts.
                let float = series.floats.last().map_or(i64::MIN, |point| point.t_ms);
                let histogram = series.histograms.last().map_or(i64::MIN, |point| point.t_ms);
                if histogram > float {
                    if !self.native {
                        histograms = true;
                        continue;
                    }
                    series.histograms.drain(..series.histograms.len() - 1);
                    series.floats.clear();
                } else {
                    series.floats.drain(..series.floats.len().saturating_sub(1));
                    series.histograms.clear();
                }
                found.series.push(series);
            }
            if histograms {
                for suffix in ["_bucket", "_sum", "_count"] {
                    for mut series in self.of(core, &format!("{name}{suffix}"), range).await? {
                        series.floats.drain(..series.floats.len().saturating_sub(1));
                        found.series.push(series);
                    }
                }
            }
        }
        if self.collections.is_multiple_of(METADATA_EVERY) {
            found.metadata = core.call(|core, _| core.engine.store().metadata()).await?;
        }
        Ok(found)
    }

    /// What was read stands in line: the next collection goes on behind it.
    pub fn done(&mut self, now_ms: i64) {
        self.collections += 1;
        self.since_ms = now_ms;
    }

    async fn of(&self, core: &CoreHandle<Core>, name: &str, range: (i64, i64)) -> Result<Vec<SeriesData>, CoreGone> {
        // A name without a regex always compiles.
        let Ok(matcher) = Matcher::new(METRIC_NAME, MatchOp::Equal, name) else { return Ok(Vec::new()) };
        let selection = Selection { matchers: vec![matcher], from_ms: range.0, to_ms: range.1 };
        let wanted = selection.clone();
        let view = core.call(move |core, _| core.engine.view(&[wanted])).await?;
        Ok(view.select(&selection))
    }
}
