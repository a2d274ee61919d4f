//! What alerts of the short form look at beside metrics: conditions on events, service level objectives.

use super::EventSelector;
use crate::config::{Span, Spanned};
use crate::model::FieldPath;

/// `event:` of an alert.
#[derive(Clone, Debug, PartialEq)]
pub struct EventCondition {
    /// Which condition.
    pub kind: EventConditionKind,
    /// `by:`: each value of these is a case of its own.
    pub by: Vec<Spanned<FieldPath>>,
    /// `within:` in milliseconds: the window; for `gap` how late what is missing may come; for `first_seen` how long the
    /// alert about a new value lasts.
    pub within_ms: i64,
    /// `source:`: the configured sources whose events count, and on which the condition depends; empty for all.
    pub sources: Vec<Spanned<String>>,
    /// The place of the mapping.
    pub span: Span,
}

/// The event conditions of this build.
#[derive(Clone, Debug, PartialEq)]
pub enum EventConditionKind {
    /// `match` + `count: ">= 5"`.
    Count {
        /// Which events.
        selector: EventSelector,
        /// One of `>= > <= < == !=`.
        comparison: Comparison,
        /// The number compared with.
        count: u64,
    },
    /// `absent:`: none came for `within`, for each key seen (and each of `keys`).
    Absent {
        /// Which events.
        selector: EventSelector,
        /// `keys:`: keys that must be heard from even if never seen (for one `by` path).
        keys: Vec<String>,
    },
    /// `sequence: [a, b]`: with `missing: last`, fires when a came and b did not within the time; without, when all
    /// came in order.
    Sequence {
        /// The steps in order; at least two.
        steps: Vec<EventSelector>,
        /// `missing: last`.
        missing_last: bool,
    },
    /// `rate_change:`: far more or far fewer events in a window than in the windows before.
    RateChange(RateChange),
    /// `first_seen: data.code`: a value that was never seen within the memory.
    FirstSeen {
        /// Which events (`match:` and `where:`).
        selector: EventSelector,
        /// The field whose values are remembered.
        path: Spanned<FieldPath>,
        /// `for:` in milliseconds (7 d): a value not seen for so long is new again.
        memory_ms: i64,
        /// `learn:` in milliseconds (1 h): after the first event, values are only remembered.
        learn_ms: i64,
    },
    /// `gap: data.version`: a number that should grow by one has left some out.
    Gap {
        /// Which events (`match:` and `where:`).
        selector: EventSelector,
        /// The field with the number.
        path: Spanned<FieldPath>,
    },
}

/// `rate_change:` with the keys beside it. The windows are `within` long and aligned to the epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct RateChange {
    /// Which events.
    pub selector: EventSelector,
    /// `baseline:` in milliseconds (20 windows): how far back the windows reach that the newest one is held against.
    pub baseline_ms: i64,
    /// `direction:` (both).
    pub direction: Direction,
    /// `threshold:` (3.5): robust deviations from the median.
    pub threshold: f64,
    /// `min_samples:` (8): windows that must have been heard in full before anything is concluded.
    pub min_samples: usize,
    /// `floor:` (10%): the least deviation that is assumed, so that a constant stream does not alert on noise.
    pub floor: Floor,
    /// `lateness:` in milliseconds (a tenth of the window, at most 5 s): how long a window waits for late events.
    pub lateness_ms: i64,
}

/// Which changes of a rate count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the file")]
pub enum Direction {
    Up,
    Down,
    Both,
}

/// The least deviation that is assumed of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Floor {
    /// A share of the median (`10%` is 0.1), at least one event.
    Share(f64),
    /// Events of a window.
    Events(f64),
}

/// `slo:` of an alert: how many of all events (or requests) are good.
#[derive(Clone, Debug, PartialEq)]
pub struct SloConfig {
    /// `good:` or `error:`.
    pub part: SloSeries,
    /// What `part` counts is bad: `error:` was written.
    pub part_is_bad: bool,
    /// `total:`.
    pub total: SloSeries,
    /// `target:` as a ratio: 99.9% is 0.999.
    pub target: Spanned<f64>,
    /// `window:` in milliseconds (30 d).
    pub window_ms: i64,
    /// `source:`: as for event conditions.
    pub sources: Vec<Spanned<String>>,
    /// The place of the mapping.
    pub span: Span,
}

/// What an objective counts.
#[derive(Clone, Debug, PartialEq)]
pub enum SloSeries {
    /// Events, judged by their own times.
    Events(EventSelector),
    /// Counters, by a PromQL selector.
    Series(Spanned<String>),
}

/// A comparison of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the operators >= > <= < == !=")]
pub enum Comparison {
    AtLeast,
    MoreThan,
    AtMost,
    LessThan,
    Equal,
    NotEqual,
}
