//! `rate`, `increase`, `delta`, `irate`, `idelta`.

use super::extended::{extended_histogram_rate, extended_rate};
use super::select::Window;
use crate::promql::SampleValue;
use crate::promql::ast::Extension;
use crate::promql::notes::{HistogramOperation, Notes};
use crate::series::{FloatHistogram, FloatPoint, HistogramPoint, ResetHint};
use std::sync::Arc;

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RateKind {
    /// Counters only rise; a fall is a reset.
    pub counter: bool,
    /// Per second instead of over the range.
    pub per_second: bool,
}

/// Whether the start timestamps say that the counter began anew between two samples.
pub(super) fn is_start_reset(previous_start: i64, previous_t: i64, start: i64, t: i64) -> bool {
    // Unknown (0), unknown as OpenTelemetry says it (the sample's own time), or nonsense.
    if start == 0 || start >= t || start < previous_t {
        return false;
    }
    if start > previous_t {
        return true;
    }
    // It began at the previous sample: a delta, unless that one's start is unknown, and the counter goes on.
    previous_start <= previous_t && previous_start != 0 && previous_start != previous_t
}

fn overlaps(previous_start: i64, previous_t: i64, start: i64) -> bool {
    start != 0 && start < previous_t && start != previous_start
}

/// Where a series was reset, found once for all the ranges that slide over it.
pub(super) struct Resets<'r> {
    /// The places of samples that are lower than the one before them, in order.
    places: &'r [usize],
    /// The place of the range's first sample.
    first: usize,
}

impl<'r> Resets<'r> {
    pub fn new(places: &'r [usize], first: usize) -> Self {
        Self { places, first }
    }

    /// Whether there was a reset before the sample at that place of the range.
    fn before(&self, at: usize) -> bool {
        self.places.binary_search(&(self.first + at)).is_ok()
    }

    /// The resets between the samples of a range of that length, by their places in it.
    fn within(&self, length: usize) -> impl Iterator<Item = usize> + '_ {
        let from = self.places.partition_point(|place| *place <= self.first);
        self.places[from..].iter().map(|place| place - self.first).take_while(move |at| *at < length)
    }
}

/// The places of resets among samples without start timestamps; nothing when there are such timestamps.
pub(super) fn float_resets(floats: &[FloatPoint]) -> Option<Vec<usize>> {
    if floats.iter().any(|point| point.start_ms != 0) {
        return None;
    }
    Some((1..floats.len()).filter(|at| floats[*at].value < floats[at - 1].value).collect())
}

fn is_reset(before: &HistogramPoint, now: &HistogramPoint) -> bool {
    is_start_reset(before.start_ms, before.t_ms, now.start_ms, now.t_ms)
        || now.histogram.is_reset_after(&before.histogram)
}

/// The places of resets among histograms.
pub(super) fn histogram_resets(points: &[HistogramPoint]) -> Vec<usize> {
    (1..points.len()).filter(|at| is_reset(&points[at - 1], &points[*at])).collect()
}

/// `rate`, `increase` and `delta`: the difference over the range, extrapolated to its ends.
pub(super) fn rate(window: &Window<'_>, kind: RateKind, notes: &mut Notes) -> Option<SampleValue> {
    if !window.floats.is_empty() && !window.histograms.is_empty() {
        notes.mixed_floats_histograms(window.metric(), window.span);
        return None;
    }
    if window.extension != Extension::None {
        return match (window.floats, window.histograms) {
            ([], []) => None,
            (_, []) => extended_rate(window, kind).map(SampleValue::Float),
            _ => extended_histogram_rate(window, kind, notes)
                .map(|histogram| SampleValue::Histogram(Arc::new(histogram))),
        };
    }
    match (window.floats, window.histograms) {
        ([], []) => None,
        (floats, []) => float_rate(window, floats, kind, notes).map(SampleValue::Float),
        (_, histograms) => {
            histogram_rate(window, histograms, kind, notes).map(|histogram| SampleValue::Histogram(Arc::new(histogram)))
        }
    }
}

fn float_rate(window: &Window<'_>, floats: &[FloatPoint], kind: RateKind, notes: &mut Notes) -> Option<f64> {
    let (first, last) = (floats.first()?, floats.last()?);
    let mut result = last.value - first.value;
    if kind.counter {
        match &window.resets {
            Some(resets) => {
                for at in resets.within(floats.len()) {
                    result += floats[at - 1].value;
                }
            }
            None => {
                let mut overlap = false;
                for pair in floats.windows(2) {
                    let (before, now) = (&pair[0], &pair[1]);
                    overlap |= overlaps(before.start_ms, before.t_ms, now.start_ms);
                    if now.value < before.value || is_start_reset(before.start_ms, before.t_ms, now.start_ms, now.t_ms)
                    {
                        result += before.value;
                    }
                }
                if overlap {
                    notes.start_time_overlap(window.metric(), window.span);
                }
            }
        }
    }
    let mut covered = Covered::new(window, first.t_ms, last.t_ms, floats.len());
    if kind.counter && covered.begins_at(first.start_ms) {
        result += first.value;
    } else if floats.len() == 1 {
        return None;
    } else {
        let zero = (kind.counter && result > 0.0 && first.value >= 0.0).then(|| first.value / result);
        covered.extrapolate_left(zero);
    }
    Some(result * covered.factor(window, kind))
}

fn histogram_rate(
    window: &Window<'_>,
    histograms: &[HistogramPoint],
    kind: RateKind,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let (first, last) = (histograms.first()?, histograms.last()?);
    let mut result = match histograms {
        [_] => None,
        _ => Some(histogram_difference(window, histograms, kind.counter, notes)?),
    };
    let mut covered = Covered::new(window, first.t_ms, last.t_ms, histograms.len());
    if kind.counter && covered.begins_at(first.start_ms) {
        result = Some(match result {
            None => (*first.histogram).clone(),
            Some(result) => add(&result, &first.histogram, window, notes)?,
        });
    } else {
        let difference = result.as_ref()?;
        let first_count = first.histogram.count;
        let zero =
            (kind.counter && difference.count > 0.0 && first_count >= 0.0).then(|| first_count / difference.count);
        covered.extrapolate_left(zero);
    }
    Some(result?.scaled(covered.factor(window, kind)))
}

/// Adds, and says what is to be said about it; nothing when the two do not fit.
pub(super) fn add(
    base: &FloatHistogram,
    other: &FloatHistogram,
    window: &Window<'_>,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    match base.plus(other) {
        Ok((sum, combined)) => {
            if combined.bounds_reconciled {
                notes.bounds_reconciled(HistogramOperation::Addition, window.span);
            }
            Some(sum)
        }
        Err(_) => {
            notes.mixed_exponential_custom(window.metric(), window.span);
            None
        }
    }
}

/// Subtracts, and says what is to be said about it; nothing when the two do not fit.
pub(super) fn subtract(
    base: &FloatHistogram,
    other: &FloatHistogram,
    window: &Window<'_>,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    match base.minus(other) {
        Ok((difference, combined)) => {
            if combined.bounds_reconciled {
                notes.bounds_reconciled(HistogramOperation::Subtraction, window.span);
            }
            Some(difference)
        }
        Err(_) => {
            notes.mixed_exponential_custom(window.metric(), window.span);
            None
        }
    }
}

/// What part of the range the samples cover.
struct Covered {
    to_start: f64,
    to_end: f64,
    interval: f64,
    average: f64,
    range_start: i64,
    first_t: i64,
    last_t: i64,
}

impl Covered {
    fn new(window: &Window<'_>, first_t: i64, last_t: i64, samples: usize) -> Self {
        let interval = last_t.saturating_sub(first_t) as f64 / 1000.0;
        Self {
            to_start: first_t.saturating_sub(window.range_start) as f64 / 1000.0,
            to_end: window.range_end.saturating_sub(last_t) as f64 / 1000.0,
            interval,
            average: if samples > 1 { interval / (samples - 1) as f64 } else { 0.0 },
            range_start: window.range_start,
            first_t,
            last_t,
        }
    }

    fn threshold(&self) -> f64 {
        self.average * 1.1
    }

    /// When the first sample's counter began inside the range, it was zero then, and nothing is guessed on the left.
    fn begins_at(&mut self, start: i64) -> bool {
        if start == 0 || start <= self.range_start || start >= self.first_t {
            return false;
        }
        self.to_start = 0.0;
        self.interval = self.last_t.saturating_sub(start) as f64 / 1000.0;
        true
    }

    /// Samples near the start of the range are taken to go on to it; else half a distance is guessed. A counter goes back no
    /// further than to its zero, which is `zero` intervals before the first sample.
    fn extrapolate_left(&mut self, zero: Option<f64>) {
        if self.to_start >= self.threshold() {
            self.to_start = self.average / 2.0;
        }
        if let Some(zero) = zero {
            let to_zero = self.interval * zero;
            if to_zero < self.to_start {
                self.to_start = to_zero;
            }
        }
    }

    fn factor(&self, window: &Window<'_>, kind: RateKind) -> f64 {
        let to_end = if self.to_end >= self.threshold() { self.average / 2.0 } else { self.to_end };
        let factor = if self.interval == 0.0 { 1.0 } else { (self.interval + self.to_start + to_end) / self.interval };
        if kind.per_second { factor / window.range_seconds() } else { factor }
    }
}

/// The last histogram minus the first, plus what resets lost.
fn histogram_difference(
    window: &Window<'_>,
    points: &[HistogramPoint],
    counter: bool,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let (metric, span) = (window.metric(), window.span);
    let (first, last) = (points.first()?, points.last()?);
    let is_gauge = |point: &HistogramPoint| point.histogram.reset_hint == ResetHint::Gauge;
    if counter && (is_gauge(first) || is_gauge(last)) {
        notes.not_a_counter(metric, span);
    }
    let reset_before = |at: usize| match &window.histogram_resets {
        Some(resets) => resets.before(at),
        None => is_reset(&points[at - 1], &points[at]),
    };
    let mut previous = Arc::clone(&first.histogram);
    // The layout of a first sample before a reset does not matter: nothing of it is used.
    if counter && reset_before(1) {
        let second = &points[1].histogram;
        previous = Arc::new(FloatHistogram {
            schema: second.schema,
            custom_values: second.custom_values.clone(),
            ..FloatHistogram::default()
        });
    }
    let custom = previous.uses_custom_buckets();
    if last.histogram.uses_custom_buckets() != custom {
        notes.mixed_exponential_custom(metric, span);
        return None;
    }
    let mut schema = last.histogram.schema.min(previous.schema);
    for point in &points[1..points.len() - 1] {
        if !counter {
            continue;
        }
        if is_gauge(point) {
            notes.not_a_counter(metric, span);
        }
        schema = schema.min(point.histogram.schema);
        if point.histogram.uses_custom_buckets() != custom {
            notes.mixed_exponential_custom(metric, span);
            return None;
        }
    }
    let mut result = subtract(&last.histogram.at_schema(schema), &previous, window, notes)?;
    if counter {
        let mut overlap = false;
        for (at, pair) in points.windows(2).enumerate() {
            let (before, now) = (&pair[0], &pair[1]);
            overlap |= overlaps(before.start_ms, before.t_ms, now.start_ms);
            if reset_before(at + 1) {
                result = add(&result, &previous, window, notes)?;
            }
            previous = Arc::clone(&now.histogram);
        }
        if overlap {
            notes.start_time_overlap(metric, span);
        }
    } else if !is_gauge(first) || !is_gauge(last) {
        notes.not_a_gauge(metric, span);
    }
    result.reset_hint = ResetHint::Gauge;
    Some(result.compacted())
}

#[derive(Clone, Copy)]
enum Latest<'p> {
    Float(&'p FloatPoint),
    Histogram(&'p HistogramPoint),
}

impl Latest<'_> {
    fn times(self) -> (i64, i64) {
        match self {
            Self::Float(point) => (point.t_ms, point.start_ms),
            Self::Histogram(point) => (point.t_ms, point.start_ms),
        }
    }
}

/// `irate` and `idelta`: the last two samples.
pub(super) fn instant_rate(window: &Window<'_>, is_rate: bool, notes: &mut Notes) -> Option<SampleValue> {
    let last_two = |length: usize| length.saturating_sub(2)..length;
    let mut latest: Vec<Latest<'_>> = window.floats[last_two(window.floats.len())].iter().map(Latest::Float).collect();
    latest.extend(window.histograms[last_two(window.histograms.len())].iter().map(Latest::Histogram));
    latest.sort_by_key(|point| point.times().0);
    let (&now, rest) = latest.split_last()?;
    let &before = rest.last()?;
    let ((now_t, now_start), (before_t, before_start)) = (now.times(), before.times());
    let interval = now_t.saturating_sub(before_t) as f64 / 1000.0;
    if interval == 0.0 {
        return None;
    }
    let start_reset = is_start_reset(before_start, before_t, now_start, now_t);
    match (before, now) {
        (Latest::Float(before), Latest::Float(now)) => {
            let reset = is_rate && (now.value < before.value || start_reset);
            let difference = if reset { now.value } else { now.value - before.value };
            Some(SampleValue::Float(if is_rate { difference / interval } else { difference }))
        }
        (Latest::Histogram(before), Latest::Histogram(now)) => {
            let gauges = [before, now].map(|point| point.histogram.reset_hint == ResetHint::Gauge);
            if is_rate && gauges.contains(&true) {
                notes.not_a_counter(window.metric(), window.span);
            }
            if !is_rate && gauges.contains(&false) {
                notes.not_a_gauge(window.metric(), window.span);
            }
            let reset = is_rate && (start_reset || now.histogram.is_reset_after(&before.histogram));
            let mut result = if reset {
                (*now.histogram).clone()
            } else {
                subtract(&now.histogram, &before.histogram, window, notes)?
            };
            result.reset_hint = ResetHint::Gauge;
            result = result.compacted();
            if is_rate {
                result = result.divided(interval);
            }
            Some(SampleValue::Histogram(Arc::new(result)))
        }
        _ => {
            notes.mixed_floats_histograms(window.metric(), window.span);
            None
        }
    }
}
