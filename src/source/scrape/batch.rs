//! What one scrape hands to the core. Series are named by numbers that the scraper and the core share: labels are sent
//! once, when a series appears.

use crate::model::Labels;
use std::sync::Arc;

/// A native histogram as it was scraped: counts of buckets in absolute numbers.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct NativeHistogram {
    /// -4 to 8; -53 for custom bounds.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Values in it.
    pub zero_count: f64,
    /// All values.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// (offset, length) of the positive buckets.
    pub positive_spans: Vec<(i32, u32)>,
    /// (offset, length) of the negative buckets.
    pub negative_spans: Vec<(i32, u32)>,
    /// Counts of the positive buckets.
    pub positive: Vec<f64>,
    /// Counts of the negative buckets.
    pub negative: Vec<f64>,
    /// Upper ends of custom buckets without +Inf.
    pub custom_bounds: Vec<f64>,
    /// It may shrink.
    pub gauge: bool,
}

/// Type, help and unit of a metric family.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FamilyMetadata {
    /// The family.
    pub name: String,
    /// As the text formats name it; `untyped` is `unknown`.
    pub kind: &'static str,
    /// HELP, unescaped.
    pub help: String,
    /// UNIT.
    pub unit: String,
}

/// Which targets a source scrapes from now on; the series of others end.
#[derive(Clone, Debug)]
pub struct ScrapeTargets {
    /// The source's name.
    pub source: Arc<str>,
    /// Their keys; none when the source has ended.
    pub targets: Vec<Arc<str>>,
}

/// The samples of one scrape, or the end of a target.
#[derive(Clone, Debug, Default)]
pub struct ScrapeBatch {
    /// The source's name.
    pub source: Arc<str>,
    /// The target, unique within its source.
    pub target: Arc<str>,
    /// Numbers of series hold within a session; a new task of the same target has a new one.
    pub session: u64,
    /// When the scrape began, in milliseconds: the time of every sample without its own.
    pub at_ms: i64,
    /// Series that are named for the first time.
    pub fresh: Vec<(u32, Labels)>,
    /// Samples at `at_ms`.
    pub floats: Vec<(u32, f64)>,
    /// Samples with times of their own.
    pub timed: Vec<(u32, i64, f64)>,
    /// Native histograms with their times.
    pub histograms: Vec<(u32, i64, Box<NativeHistogram>)>,
    /// Start timestamps of series in milliseconds, where they are new or have changed.
    pub starts: Vec<(u32, i64)>,
    /// Series that have ended.
    pub stale: Vec<u32>,
    /// Metadata that is new or has changed.
    pub metadata: Vec<FamilyMetadata>,
}

impl ScrapeBatch {
    /// Samples of all kinds.
    pub fn samples(&self) -> usize {
        self.floats.len() + self.timed.len() + self.histograms.len()
    }

    /// Bytes that it holds, roughly.
    pub fn size(&self) -> usize {
        let labels: usize = self.fresh.iter().map(|(_, labels)| 32 + labels.len() * 96).sum();
        let histograms: usize = self.histograms.iter().map(|(.., held)| 200 + held.positive.len() * 8).sum();
        labels + histograms + self.floats.len() * 16 + self.timed.len() * 24 + self.stale.len() * 4
    }
}
