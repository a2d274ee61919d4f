//! Warnings and infos of an evaluation (`util/annotations` of Prometheus), one of each text.

use super::ast::Span;
use super::number::{format_short, go_quote};
use super::parser::line_and_column;
use crate::model::Timestamp;
use std::collections::BTreeMap;

/// Which operation on histograms a note is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HistogramOperation {
    Addition,
    Subtraction,
    Aggregation,
}

impl HistogramOperation {
    fn name(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

/// How far counts of classic buckets had to be corrected to rise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Monotonicity {
    pub min_bucket: f64,
    pub max_bucket: f64,
    pub max_difference: f64,
    pub first_ms: i64,
    pub last_ms: i64,
    pub samples: usize,
}

impl Monotonicity {
    fn merged(self, other: Self) -> Self {
        Self {
            min_bucket: self.min_bucket.min(other.min_bucket),
            max_bucket: self.max_bucket.max(other.max_bucket),
            max_difference: self.max_difference.max(other.max_difference),
            first_ms: self.first_ms.min(other.first_ms),
            last_ms: self.last_ms.max(other.last_ms),
            samples: self.samples + other.samples,
        }
    }
}

#[derive(Clone, Debug)]
struct Note {
    span: Span,
    info: bool,
    monotonicity: Option<Monotonicity>,
}

/// What is to be said about an evaluation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    notes: BTreeMap<String, Note>,
}

impl Notes {
    fn add(&mut self, info: bool, text: String, span: Span) {
        let kind = if info { "info" } else { "warning" };
        self.notes.insert(format!("PromQL {kind}: {text}"), Note { span, info, monotonicity: None });
    }

    fn warn(&mut self, text: impl Into<String>, span: Span) {
        self.add(false, text.into(), span);
    }

    fn info(&mut self, text: impl Into<String>, span: Span) {
        self.add(true, text.into(), span);
    }

    /// All as texts with their places: warnings, then infos.
    pub fn texts(self, query: &str) -> (Vec<String>, Vec<String>) {
        let (mut warnings, mut infos) = (Vec::new(), Vec::new());
        for (mut text, note) in self.notes {
            let (line, column) = line_and_column(query, note.span.start);
            if let Some(Monotonicity { min_bucket, max_bucket, max_difference, first_ms, last_ms, samples }) =
                note.monotonicity
            {
                text.push_str(&format!(
                    ", from buckets {} to {}, with a max diff of {}, over {samples} samples from {} to {}",
                    format_short(min_bucket),
                    format_short(max_bucket),
                    two_digits(max_difference),
                    Timestamp::from_millis(first_ms.div_euclid(1000).saturating_mul(1000)),
                    Timestamp::from_millis(last_ms.div_euclid(1000).saturating_mul(1000)),
                ));
            }
            let list = if note.info { &mut infos } else { &mut warnings };
            list.push(format!("{text} ({line}:{column})"));
        }
        (warnings, infos)
    }

    pub fn invalid_quantile(&mut self, quantile: f64, span: Span) {
        self.warn(format!("quantile value should be between 0 and 1, got {}", format_short(quantile)), span);
    }

    pub fn invalid_ratio(&mut self, ratio: f64, capped: f64, span: Span) {
        let (ratio, capped) = (format_short(ratio), format_short(capped));
        self.warn(format!("ratio value should be between -1 and 1, got {ratio}, capping to {capped}"), span);
    }

    pub fn bad_bucket_label(&mut self, metric: &str, label: &str, span: Span) {
        let text = format!("bucket label \"le\" is missing or has a malformed value of {}", go_quote(label));
        self.warn(with_metric(text, metric), span);
    }

    pub fn mixed_floats_histograms(&mut self, metric: &str, span: Span) {
        let metric = go_quote(metric);
        self.warn(format!("encountered a mix of histograms and floats for metric name {metric}"), span);
    }

    pub fn mixed_floats_histograms_aggregation(&mut self, span: Span) {
        self.warn("encountered a mix of histograms and floats for aggregation", span);
    }

    pub fn mixed_classic_native(&mut self, metric: &str, span: Span) {
        self.warn(with_metric("vector contains a mix of classic and native histograms".into(), metric), span);
    }

    pub fn not_a_counter(&mut self, metric: &str, span: Span) {
        self.warn(format!("this native histogram metric is not a counter: {}", go_quote(metric)), span);
    }

    pub fn not_a_gauge(&mut self, metric: &str, span: Span) {
        self.warn(format!("this native histogram metric is not a gauge: {}", go_quote(metric)), span);
    }

    pub fn mixed_exponential_custom(&mut self, metric: &str, span: Span) {
        let text = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
        self.warn(format!("{text} {}", go_quote(metric)), span);
    }

    pub fn incompatible_bucket_layout(&mut self, operator: &str, span: Span) {
        self.warn(format!("incompatible bucket layout encountered for binary operator {operator}"), span);
    }

    pub fn reset_collision(&mut self, operation: HistogramOperation, span: Span) {
        self.warn(format!("conflicting counter resets during histogram {}", operation.name()), span);
    }

    pub fn start_time_overlap(&mut self, metric: &str, span: Span) {
        let text = "sample has start time that overlaps with previous sample timestamp for metric";
        self.warn(format!("{text} {}", go_quote(metric)), span);
    }

    pub fn sort_in_range_query(&mut self, span: Span) {
        self.warn("sort is ineffective for range queries since results are always ordered by labels", span);
    }

    pub fn bounds_reconciled(&mut self, operation: HistogramOperation, span: Span) {
        self.info(format!("mismatched custom buckets were reconciled during {}", operation.name()), span);
    }

    pub fn possible_non_counter(&mut self, metric: &str, span: Span) {
        let text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
        self.info(format!("{text} {}", go_quote(metric)), span);
    }

    pub fn possible_non_counter_type(&mut self, metric: &str, type_label: &str, span: Span) {
        let text = "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got";
        self.info(format!("{text} {}: {}", go_quote(type_label), go_quote(metric)), span);
    }

    pub fn forced_monotonicity(&mut self, metric: &str, monotonicity: Monotonicity, span: Span) {
        let text = "PromQL info: input to histogram_quantile needed to be fixed for monotonicity \
                    (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        let note =
            self.notes.entry(with_metric(text.into(), metric)).or_insert(Note { span, info: true, monotonicity: None });
        note.monotonicity = Some(note.monotonicity.map_or(monotonicity, |before| before.merged(monotonicity)));
    }

    pub fn incompatible_types(&mut self, left: &str, operator: &str, right: &str, span: Span) {
        let quoted = go_quote(operator);
        self.info(
            format!("incompatible sample types encountered for binary operator {quoted}: {left} {operator} {right}"),
            span,
        );
    }

    pub fn histogram_ignored_in_aggregation(&mut self, aggregation: &str, span: Span) {
        self.info(format!("ignored histogram in {aggregation} aggregation"), span);
    }

    pub fn histogram_ignored_in_mixed_range(&mut self, metric: &str, span: Span) {
        let text = "ignored histograms in a range containing both floats and histograms for metric name";
        self.info(format!("{text} {}", go_quote(metric)), span);
    }

    pub fn quantile_nan_result(&mut self, metric: &str, span: Span) {
        let text = "input to histogram_quantile has NaN observations, result is NaN";
        self.info(with_metric(text.into(), metric), span);
    }

    pub fn quantile_nan_skew(&mut self, metric: &str, span: Span) {
        let text = "input to histogram_quantile has NaN observations, result is skewed higher";
        self.info(with_metric(text.into(), metric), span);
    }

    pub fn fraction_nan(&mut self, metric: &str, span: Span) {
        let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
        self.info(with_metric(text.into(), metric), span);
    }
}

fn with_metric(text: String, metric: &str) -> String {
    if metric.is_empty() { text } else { format!("{text} for metric name {}", go_quote(metric)) }
}

/// `%.2g` of Go.
fn two_digits(value: f64) -> String {
    let rounded: f64 = format!("{value:.1e}").parse().unwrap_or(value);
    if rounded != 0.0 && rounded.abs() >= 100.0 {
        return super::number::format_exponent(rounded, None);
    }
    format_short(rounded)
}
