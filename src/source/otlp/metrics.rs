//! OTLP metrics as samples and counts.
//!
//! Totals (cumulative sums, gauges, summaries) become received samples with their own times. Changes (delta sums and
//! explicit histograms) are added to counters of ours, so that nothing is lost or counted twice and the counters outlive
//! both processes. Explicit histograms are stored in the classic form (`_bucket`, `_sum`, `_count`), exponential ones as
//! native histograms.

use super::model::{
    Any, Attributes, Data, ExponentialPoint, HistogramPoint, Metric, NumberPoint, Point, Resource, SummaryPoint,
    Temporality,
};
use super::naming::{self, Kind};
use super::values;
use crate::model::{Labels, METRIC_NAME};
use crate::source::counts::{CountBatch, CountChange, CountKind, CountedSeries, Means};
use crate::source::received::{ReceivedBatch, ReceivedSample, ReceivedValue};
use crate::source::scrape::{FamilyMetadata, NativeHistogram};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The finest and coarsest schema of native histograms.
const SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;

/// Points whose time is further ahead of the clock are rejected, as remote write's are.
const AHEAD_MS: i64 = 600_000;
/// Exemplars of one point.
const EXEMPLARS: usize = 100;

/// What a request gives.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Totals.
    pub received: ReceivedBatch,
    /// Changes.
    pub counts: CountBatch,
    /// Points that are not taken.
    pub rejected: u64,
    /// Why, of the first.
    pub reason: String,
    /// Points in all.
    pub points: u64,
}

/// Reads a request's metrics; `now_ms` serves where a point has no time.
pub fn metrics(source: &Arc<str>, resources: &[Resource<Metric>], now_ms: i64) -> Metrics {
    let mut out = Making { out: Metrics::default(), now_ms, series: BTreeMap::new(), told: BTreeMap::new() };
    out.out.received.source = source.clone();
    out.out.counts.source = source.clone();
    out.out.counts.session = crate::source::counts::next_session();
    for resource in resources {
        let who = Who::of(&resource.attributes);
        let mut latest_ms = 0;
        for metric in resource.scopes.iter().flat_map(|scope| &scope.items) {
            latest_ms = out.metric(&who, metric).max(latest_ms);
        }
        out.target_info(&who, &resource.attributes, latest_ms);
    }
    out.out.received.metadata = std::mem::take(&mut out.told).into_values().collect();
    out.out.counts.lines = out.out.points;
    out.out
}

/// The resource in every label set: `job` and `instance`.
#[derive(Debug, Default)]
struct Who {
    job: Option<String>,
    instance: Option<String>,
}

impl Who {
    fn of(attributes: &Attributes) -> Self {
        let text = |key| super::model::text(attributes, key).filter(|text| !text.is_empty());
        let job = text("service.name").map(|name| match text("service.namespace") {
            Some(space) => format!("{space}/{name}"),
            None => name.to_owned(),
        });
        Self { job, instance: text("service.instance.id").map(str::to_owned) }
    }
}

struct Making {
    out: Metrics,
    now_ms: i64,
    /// Numbers of the counted series of this request.
    series: BTreeMap<(Arc<str>, Labels), u32>,
    told: BTreeMap<String, FamilyMetadata>,
}

/// A point without numbers: the labels of its series, and its times.
struct Place<'a> {
    name: &'a str,
    pairs: Vec<(String, String)>,
    t_ms: i64,
    start_ms: i64,
    end: bool,
}

impl Place<'_> {
    fn labels(&self, suffix: &str, more: Option<(&str, &str)>) -> Labels {
        let name = format!("{}{suffix}", self.name);
        let pairs = self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Labels::from_pairs(pairs.chain(more).chain([(METRIC_NAME, name.as_str())]))
    }

    fn sample(&self, suffix: &str, more: Option<(&str, &str)>, value: ReceivedValue) -> ReceivedSample {
        let value = if self.end { ReceivedValue::End } else { value };
        ReceivedSample { labels: self.labels(suffix, more), t_ms: self.t_ms, start_ms: self.start_ms, value }
    }
}

fn millis(nano: u64) -> i64 {
    i64::try_from(nano / 1_000_000).unwrap_or(i64::MAX)
}

impl Making {
    fn reject(&mut self, points: usize, why: impl FnOnce() -> String) {
        if points > 0 && self.out.rejected == 0 {
            self.out.reason = why();
        }
        self.out.rejected += points as u64;
    }

    /// One sample from a clock that is far ahead would make its series deaf until then: it is rejected.
    fn is_ahead(&mut self, place: &Place<'_>) -> bool {
        let ahead = place.t_ms > self.now_ms.saturating_add(AHEAD_MS);
        if ahead {
            self.reject(1, || format!("{}: its time is more than ten minutes ahead of the clock here", place.name));
        }
        ahead
    }

    fn tell(&mut self, name: &str, kind: &'static str, metric: &Metric) {
        let (help, unit) = (metric.description.clone(), naming::unit(&metric.unit).to_owned());
        self.told.insert(name.to_owned(), FamilyMetadata { name: name.to_owned(), kind, help, unit });
    }

    fn place<'a>(&mut self, who: &Who, name: &'a str, point: &Point) -> Place<'a> {
        let mut pairs = pairs(&point.attributes);
        // What the resource says of itself wins over an attribute of the same name.
        for (name, value) in [("job", &who.job), ("instance", &who.instance)] {
            if let Some(value) = value {
                pairs.retain(|(known, _)| known != name);
                pairs.push((name.to_owned(), value.clone()));
            }
        }
        let t_ms = if point.time_unix_nano == 0 { self.now_ms } else { millis(point.time_unix_nano) };
        Place { name, pairs, t_ms, start_ms: millis(point.start_time_unix_nano), end: point.is_end() }
    }

    /// Takes the points of a metric; the latest of their times.
    fn metric(&mut self, who: &Who, metric: &Metric) -> i64 {
        let points = metric.data.points();
        self.out.points += points as u64;
        let kind = match &metric.data {
            Data::Gauge(_) => Kind::Gauge,
            Data::Sum(_, _, true) => Kind::Monotonic,
            Data::Sum(..) | Data::Histogram(..) | Data::Exponential(..) | Data::Summary(_) | Data::Unknown => {
                Kind::Other
            }
        };
        let name = naming::metric(&metric.name, &metric.unit, kind);
        if name.is_empty() || name.bytes().all(|byte| byte == b'_') {
            self.reject(points, || format!("{:?} is no name of a metric", metric.name));
            return 0;
        }
        let temporality = match &metric.data {
            Data::Sum(_, temporality, _) | Data::Histogram(_, temporality) | Data::Exponential(_, temporality) => {
                *temporality
            }
            _ => Temporality::Cumulative,
        };
        if temporality == Temporality::Unspecified {
            self.reject(points, || format!("{}: the aggregation temporality is not given", metric.name));
            return 0;
        }
        let delta = temporality == Temporality::Delta;
        let mut latest_ms = 0;
        match &metric.data {
            Data::Unknown => {}
            Data::Gauge(points) => {
                self.tell(&name, "gauge", metric);
                for point in points {
                    latest_ms = self.total(who, &name, point).max(latest_ms);
                }
            }
            Data::Sum(points, _, monotonic) => {
                self.tell(&name, if *monotonic { "counter" } else { "gauge" }, metric);
                for point in points {
                    let at_ms = if delta {
                        self.change(who, &name, point, *monotonic, metric)
                    } else {
                        self.total(who, &name, point)
                    };
                    latest_ms = at_ms.max(latest_ms);
                }
            }
            Data::Histogram(points, _) => {
                self.tell(&name, "histogram", metric);
                for point in points {
                    latest_ms = self.histogram(who, &name, point, delta, metric).max(latest_ms);
                }
            }
            Data::Exponential(points, _) => {
                self.tell(&name, "histogram", metric);
                for point in points {
                    latest_ms = self.exponential(who, &name, point, delta).max(latest_ms);
                }
            }
            Data::Summary(points) => {
                self.tell(&name, "summary", metric);
                for point in points {
                    latest_ms = self.summary(who, &name, point).max(latest_ms);
                }
            }
        }
        latest_ms
    }

    /// The exemplars of a point, each with the series that `of` names for its value.
    fn exemplars(&mut self, place: &Place<'_>, point: &Point, of: impl Fn(f64) -> Labels) {
        for exemplar in point.exemplars.iter().take(EXEMPLARS) {
            let mut own = pairs(&exemplar.attributes);
            own.extend(
                [("trace_id", &exemplar.trace_id), ("span_id", &exemplar.span_id)]
                    .into_iter()
                    .filter(|(_, id)| id.iter().any(|byte| *byte != 0))
                    .map(|(name, id)| (name.to_owned(), values::hex(id))),
            );
            // OpenMetrics 1.0.0, "Exemplars": at most 128 characters of labels; the trace is what matters.
            if own.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum::<usize>() > 128 {
                own.retain(|(name, _)| matches!(name.as_str(), "trace_id" | "span_id"));
            }
            let t_ms = if exemplar.time_unix_nano == 0 { place.t_ms } else { millis(exemplar.time_unix_nano) };
            let told = (of(exemplar.value), Labels::from_pairs(own), exemplar.value, t_ms);
            self.out.received.exemplars.push(told);
        }
    }

    fn total(&mut self, who: &Who, name: &str, point: &NumberPoint) -> i64 {
        let place = self.place(who, name, &point.point);
        if self.is_ahead(&place) {
            return 0;
        }
        self.exemplars(&place, &point.point, |_| place.labels("", None));
        self.out.received.samples.push(place.sample("", None, ReceivedValue::Float(point.value)));
        place.t_ms
    }

    fn change(&mut self, who: &Who, name: &str, point: &NumberPoint, monotonic: bool, metric: &Metric) -> i64 {
        let place = self.place(who, name, &point.point);
        if place.end {
            return place.t_ms;
        }
        if !point.value.is_finite() || monotonic && point.value < 0.0 {
            self.reject(1, || format!("{}: {} is no change of a sum that only grows", metric.name, point.value));
            return 0;
        }
        self.exemplars(&place, &point.point, |_| place.labels("", None));
        let kind = if monotonic { CountKind::Counter } else { CountKind::Gauge };
        self.add(&place, "", None, kind, point.value, metric);
        place.t_ms
    }

    /// Adds to a counter or gauge of ours.
    fn add(
        &mut self,
        place: &Place<'_>,
        suffix: &str,
        more: Option<(&str, &str)>,
        kind: CountKind,
        value: f64,
        metric: &Metric,
    ) {
        let labels = place.labels(suffix, more);
        let name: Arc<str> = labels.metric_name().into();
        let labels = labels.with(METRIC_NAME, "");
        let next = self.series.len() as u32;
        let at = *self.series.entry((name.clone(), labels.clone())).or_insert(next);
        if at == next {
            let (metric, help) = (name, metric.description.as_str().into());
            let series = CountedSeries { metric, kind, help, unit: "", labels, ttl_ms: 0 };
            self.out.counts.fresh.push((at, Arc::new(series)));
        }
        self.out.counts.changes.push(CountChange { series: at, means: Means::Add, value });
    }

    /// The classic form: `_bucket` counts what is at most `le`.
    fn histogram(&mut self, who: &Who, name: &str, point: &HistogramPoint, delta: bool, metric: &Metric) -> i64 {
        let place = self.place(who, name, &point.point);
        let bounds = &point.explicit_bounds;
        let rising = bounds.windows(2).all(|pair| pair[0] < pair[1]) && !bounds.iter().any(|bound| bound.is_nan());
        // Without buckets there are only count and sum.
        let fits = point.bucket_counts.is_empty() && bounds.is_empty()
            || point.bucket_counts.len() == bounds.len() + 1
                && point.bucket_counts.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count))
                    == Some(point.count);
        if !rising || !fits && !place.end {
            self.reject(1, || format!("{}: its buckets, bounds and count do not fit each other", metric.name));
            return 0;
        }
        if !delta && self.is_ahead(&place) {
            return 0;
        }
        self.exemplars(&place, &point.point, |value| {
            let bound = bounds.iter().find(|bound| value <= **bound && bound.is_finite());
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| values::number(*bound));
            place.labels("_bucket", Some(("le", &bound)))
        });
        let mut below = 0_u64;
        let mut parts: Vec<(&str, Option<String>, f64)> = Vec::with_capacity(bounds.len() + 3);
        for (at, bound) in bounds.iter().enumerate() {
            below += point.bucket_counts.get(at).copied().unwrap_or(0);
            if bound.is_finite() {
                parts.push(("_bucket", Some(values::number(*bound)), below as f64));
            }
        }
        parts.push(("_bucket", Some("+Inf".to_owned()), point.count as f64));
        parts.extend(point.sum.map(|sum| ("_sum", None, sum)));
        parts.push(("_count", None, point.count as f64));
        for (suffix, bound, value) in parts {
            let more = bound.as_deref().map(|bound| ("le", bound));
            if !delta {
                self.out.received.samples.push(place.sample(suffix, more, ReceivedValue::Float(value)));
            } else if !place.end {
                self.add(&place, suffix, more, CountKind::Counter, value, metric);
            }
        }
        place.t_ms
    }

    fn exponential(&mut self, who: &Who, name: &str, point: &ExponentialPoint, delta: bool) -> i64 {
        let place = self.place(who, name, &point.point);
        let Some(histogram) = native(point) else {
            self.reject(1, || format!("{name}: the scale {} is coarser than native histograms have", point.scale));
            return 0;
        };
        if self.is_ahead(&place) {
            return 0;
        }
        self.exemplars(&place, &point.point, |_| place.labels("", None));
        let histogram = Box::new(histogram);
        let value = if delta { ReceivedValue::HistogramDelta(histogram) } else { ReceivedValue::Histogram(histogram) };
        self.out.received.samples.push(place.sample("", None, value));
        place.t_ms
    }

    fn summary(&mut self, who: &Who, name: &str, point: &SummaryPoint) -> i64 {
        let place = self.place(who, name, &point.point);
        if self.is_ahead(&place) {
            return 0;
        }
        let samples = &mut self.out.received.samples;
        for (quantile, value) in &point.quantiles {
            let quantile = values::number(*quantile);
            samples.push(place.sample("", Some(("quantile", &quantile)), ReceivedValue::Float(*value)));
        }
        samples.push(place.sample("_sum", None, ReceivedValue::Float(point.sum)));
        samples.push(place.sample("_count", None, ReceivedValue::Float(point.count as f64)));
        place.t_ms
    }

    /// `target_info`: what the resource says of itself beyond job and instance.
    fn target_info(&mut self, who: &Who, attributes: &Attributes, t_ms: i64) {
        const IDENTITY: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];
        let rest: Attributes =
            attributes.iter().filter(|(name, _)| !IDENTITY.contains(&name.as_str())).cloned().collect();
        if t_ms == 0 || rest.is_empty() || who.job.is_none() && who.instance.is_none() {
            return;
        }
        let point = Point { attributes: rest, ..Point::default() };
        let mut place = self.place(who, "target_info", &point);
        place.t_ms = t_ms;
        self.out.received.samples.push(place.sample("", None, ReceivedValue::Float(1.0)));
        self.told.entry("target_info".to_owned()).or_insert_with(|| FamilyMetadata {
            name: "target_info".to_owned(),
            kind: "gauge",
            help: "What sent the metrics says of itself.".to_owned(),
            unit: String::new(),
        });
    }
}

/// Labels of attributes; those whose names become one are joined by `;` in the order of their names.
fn pairs(attributes: &Attributes) -> Vec<(String, String)> {
    let mut sorted: Vec<&(String, Any)> = attributes.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut pairs: Vec<(String, String)> = Vec::with_capacity(sorted.len() + 2);
    for (name, value) in sorted {
        let (name, value) = (naming::label(name), values::text(value));
        match pairs.iter_mut().find(|(known, _)| *known == name) {
            Some((_, held)) => *held = format!("{held};{value}"),
            None if name.is_empty() => {}
            None => pairs.push((name, value)),
        }
    }
    pairs
}

/// An exponential histogram in Prometheus's schema: bucket i of OpenTelemetry, (base^i, base^(i+1)], is its bucket i + 1.
/// `None` when the scale is too coarse.
fn native(point: &ExponentialPoint) -> Option<NativeHistogram> {
    if point.scale < *SCHEMAS.start() {
        return None;
    }
    let schema = point.scale.min(*SCHEMAS.end());
    let by = point.scale - schema;
    let side = |offset: i32, counts: &[u64]| {
        let mut buckets: BTreeMap<i32, f64> = BTreeMap::new();
        for (at, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let index = i64::from(offset) + at as i64;
            // The upper end of the coarser bucket that it falls into.
            let index = (index >> by.min(62)) + 1;
            *buckets.entry(i32::try_from(index).unwrap_or(i32::MAX)).or_default() += *count as f64;
        }
        let (mut spans, mut counts): (Vec<(i32, u32)>, Vec<f64>) = (Vec::new(), Vec::new());
        let mut end = 0_i32;
        for (index, count) in buckets {
            match spans.last_mut() {
                Some((_, length)) if index == end => *length += 1,
                _ => spans.push((index.saturating_sub(end), 1)),
            }
            end = index.saturating_add(1);
            counts.push(count);
        }
        (spans, counts)
    };
    let (positive_spans, positive) = side(point.positive.offset, &point.positive.bucket_counts);
    let (negative_spans, negative) = side(point.negative.offset, &point.negative.bucket_counts);
    Some(NativeHistogram {
        schema,
        zero_threshold: if point.zero_threshold > 0.0 { point.zero_threshold } else { DEFAULT_ZERO_THRESHOLD },
        zero_count: point.zero_count as f64,
        count: point.count as f64,
        sum: point.sum.unwrap_or(0.0),
        positive_spans,
        negative_spans,
        positive,
        negative,
        ..NativeHistogram::default()
    })
}

/// What Prometheus takes where a histogram does not say how wide its zero bucket is.
const DEFAULT_ZERO_THRESHOLD: f64 = 1e-128;
