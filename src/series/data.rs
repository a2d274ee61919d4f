//! What the query engine reads: samples of selected series.

use super::FloatHistogram;
use crate::model::Labels;
use std::sync::Arc;

/// The one NaN that marks the end of a series (`value.StaleNaN` of Prometheus).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Whether a value is the staleness marker (an ordinary NaN is not).
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// A float sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FloatPoint {
    /// Milliseconds since the epoch.
    pub t_ms: i64,
    /// The value; [`is_stale`] tells a staleness marker.
    pub value: f64,
    /// Start timestamp (when the counter began), 0 when unknown.
    pub start_ms: i64,
}

/// A native-histogram sample. A marker of staleness is a histogram whose sum is the stale NaN.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramPoint {
    /// Milliseconds since the epoch.
    pub t_ms: i64,
    /// The histogram, shared.
    pub histogram: Arc<FloatHistogram>,
    /// Start timestamp, 0 when unknown.
    pub start_ms: i64,
}

/// One selected series with its samples in order of time. A moment has a float or a histogram, not both.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SeriesData {
    /// The labels, the metric's name among them.
    pub labels: Labels,
    /// Float samples, times strictly increasing.
    pub floats: Vec<FloatPoint>,
    /// Histogram samples, times strictly increasing.
    pub histograms: Vec<HistogramPoint>,
}

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored
    Regex,
    /// `!~`, anchored
    NotRegex,
}

/// A label matcher; an absent label has the value "".
#[derive(Clone, Debug)]
pub struct Matcher {
    /// The label.
    pub name: String,
    /// The comparison.
    pub op: MatchOp,
    /// What it is compared with.
    pub value: String,
    regex: Option<regex::Regex>,
}

impl Matcher {
    /// Builds a matcher; a regex is compiled once, anchored at both ends, and `.` takes newlines, as in Prometheus.
    ///
    /// # Errors
    /// The regex crate's message.
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Result<Self, String> {
        let value = value.into();
        let regex = match op {
            MatchOp::Regex | MatchOp::NotRegex => Some(
                regex::RegexBuilder::new(&format!("^(?s:{value})$"))
                    .size_limit(1 << 20)
                    .build()
                    .map_err(|error| error.to_string())?,
            ),
            MatchOp::Equal | MatchOp::NotEqual => None,
        };
        Ok(Self { name: name.into(), op, value, regex })
    }

    /// Whether a label's value (or "" for an absent label) passes.
    pub fn matches(&self, value: &str) -> bool {
        match self.op {
            MatchOp::Equal => self.value == value,
            MatchOp::NotEqual => self.value != value,
            MatchOp::Regex => self.regex.as_ref().is_some_and(|regex| regex.is_match(value)),
            MatchOp::NotRegex => self.regex.as_ref().is_some_and(|regex| !regex.is_match(value)),
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

/// What one selector of a query reads: matchers and a time range, both ends included.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// All must match.
    pub matchers: Vec<Matcher>,
    /// First millisecond.
    pub from_ms: i64,
    /// Last millisecond.
    pub to_ms: i64,
}

/// Where a query's samples come from: the live store, a read view of it, or the store of a test.
pub trait Storage {
    /// The matching series that have at least one sample in the range, sorted by labels.
    fn select(&self, selection: &Selection) -> Vec<SeriesData>;
}
