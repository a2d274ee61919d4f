//! `notify: silences:`, silences and maintenance windows as written.

use crate::config::{Span, Spanned};

/// One entry: `{matchers: [...], starts, ends, time_interval, comment}`.
#[derive(Clone, Debug, PartialEq)]
pub struct SilenceConfig {
    /// `matchers:`, all of which must match.
    pub matchers: Vec<Spanned<String>>,
    /// `starts:` in microseconds since the epoch; from ever when absent.
    pub starts: Option<Spanned<i64>>,
    /// `ends:` in microseconds since the epoch.
    pub ends: Option<Spanned<i64>>,
    /// `time_interval:`: holds only within these times, again and again.
    pub times: Option<SilenceTimes>,
    /// `comment:`.
    pub comment: String,
    /// The place of the entry.
    pub span: Span,
}

/// When a maintenance window is.
#[derive(Clone, Debug, PartialEq)]
pub enum SilenceTimes {
    /// The name of one of the Alertmanager file's `time_intervals`.
    Named(Spanned<String>),
    /// Intervals that stand here, each as one of Alertmanager's.
    Here(Vec<IntervalConfig>),
}

/// One time interval as Alertmanager writes it; a moment is in it when every part that is given contains it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IntervalConfig {
    /// `times: [{start_time, end_time}]`.
    pub times: Vec<(Spanned<String>, Spanned<String>)>,
    /// `weekdays:`.
    pub weekdays: Vec<Spanned<String>>,
    /// `days_of_month:`.
    pub days_of_month: Vec<Spanned<String>>,
    /// `months:`.
    pub months: Vec<Spanned<String>>,
    /// `years:`.
    pub years: Vec<Spanned<String>>,
    /// `location:`, a time zone; UTC when absent.
    pub location: Option<Spanned<String>>,
}
