//! `/metrics` as protobuf: `io.prometheus.client.MetricFamily` (metrics.proto of prometheus/client_model), each behind its
//! length. Histograms appear as native ones with their classic buckets beside, as Prometheus's client libraries give them.

use super::buckets::{NATIVE_SCHEMA, ZERO_THRESHOLD};
use super::catalog::{Metadata, MetricType};
use super::exposition::push_escaped_name;
use super::registry::{Metric, MetricKind};
use super::store::{Body, Entry, OwnHistogram, Store, flag};
use super::text::{Exposition, TextSample};
use super::update::Exemplar;
use crate::model::{Labels, METRIC_NAME, Timestamp};
use crate::source::wire::Writer;
use std::collections::BTreeMap;

/// The enum MetricType.
const COUNTER: u64 = 0;
const GAUGE: u64 = 1;
const UNTYPED: u64 = 3;
const HISTOGRAM: u64 = 4;

fn escaped(name: &str, colons: bool) -> String {
    let mut out = String::with_capacity(name.len());
    push_escaped_name(&mut out, name, colons);
    out
}

fn write_labels(metric: &mut Writer, labels: &Labels) {
    for label in labels.iter().filter(|label| &*label.name != METRIC_NAME) {
        metric.message(1, |pair| {
            pair.text(1, &escaped(&label.name, false));
            pair.text(2, &label.value);
        });
    }
}

fn write_time(message: &mut Writer, field: u32, at: Timestamp) {
    let micros = at.micros();
    message.message(field, |time| {
        time.uint(1, micros.div_euclid(1_000_000).cast_unsigned());
        time.uint(2, (micros.rem_euclid(1_000_000) * 1_000).cast_unsigned());
    });
}

fn write_exemplar(bucket: &mut Writer, exemplar: &Exemplar) {
    bucket.message(3, |message| {
        for (name, value) in [("trace_id", &exemplar.trace_id), ("span_id", &exemplar.span_id)] {
            if !value.is_empty() {
                message.message(1, |pair| {
                    pair.text(1, name);
                    pair.text(2, value);
                });
            }
        }
        message.double(2, exemplar.value);
        write_time(message, 3, exemplar.at);
    });
}

fn write_head(family: &mut Writer, name: &str, help: &str, unit: &str, kind: u64) {
    family.text(1, &escaped(name, true));
    if !help.is_empty() {
        family.text(2, help);
    }
    family.uint(3, kind);
    if !unit.is_empty() {
        family.text(5, unit);
    }
}

impl Store {
    /// Appends all self-counted series as delimited protobuf; the content type is
    /// `application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited`.
    pub fn write_protobuf(&self, out: &mut Vec<u8>) {
        let mut writer = Writer { out: std::mem::take(out) };
        for metric in self.exposed() {
            writer.delimited(|family| self.write_family(metric, family));
        }
        *out = writer.out;
    }

    fn write_family(&self, metric: &Metric, family: &mut Writer) {
        let kind = match metric.kind {
            Some(MetricKind::Counter) => COUNTER,
            Some(MetricKind::Histogram(_)) => HISTOGRAM,
            _ => GAUGE,
        };
        write_head(family, &metric.name, &metric.help, &metric.unit, kind);
        for slot in &metric.sorted {
            let (Some(entry), hot) = (self.entry(*slot), self.hot[*slot as usize]) else { continue };
            if hot.flags & flag::VALUED == 0 {
                continue;
            }
            family.message(4, |message| {
                write_labels(message, &entry.own);
                match &entry.body {
                    Body::Histogram(histogram) => message.message(7, |held| write_histogram(held, entry, histogram)),
                    _ if kind == COUNTER => message.message(3, |counter| {
                        counter.double(1, hot.value);
                        write_time(counter, 3, Timestamp::from_millis(entry.created_ms));
                    }),
                    _ => message.message(2, |gauge| gauge.double(1, hot.value)),
                }
            });
        }
    }
}

fn write_histogram(message: &mut Writer, entry: &Entry, histogram: &OwnHistogram) {
    let state = &histogram.state;
    message.uint(1, state.count);
    message.double(2, state.sum);
    let mut cumulative = 0;
    for (at, count) in state.classic.iter().enumerate() {
        cumulative += count;
        let exemplar = histogram.exemplars.get(at).and_then(Option::as_ref);
        // The last bucket is all values, which has been said; it stands here only to carry its exemplar.
        let Some(bound) = histogram.bounds.get(at).copied().or(exemplar.map(|_| f64::INFINITY)) else { continue };
        message.message(3, |bucket| {
            bucket.uint(1, cumulative);
            bucket.double(2, bound);
            if let Some(exemplar) = exemplar {
                write_exemplar(bucket, exemplar);
            }
        });
    }
    message.sint(5, i64::from(NATIVE_SCHEMA));
    message.double(6, ZERO_THRESHOLD);
    message.uint(7, state.zero_count);
    let mut spans: Vec<(i64, u64)> = Vec::new();
    let mut next = 0;
    for (index, _) in &state.native {
        match spans.last_mut() {
            Some((_, length)) if *index == next => *length += 1,
            _ => spans.push((i64::from(index - next), 1)),
        }
        next = index + 1;
    }
    for (offset, length) in spans {
        message.message(12, |span| {
            span.sint(1, offset);
            span.uint(2, length);
        });
    }
    if !state.native.is_empty() {
        message.message(13, |deltas| {
            let mut before = 0_i64;
            for (_, count) in &state.native {
                let count = count.cast_signed();
                let delta = count - before;
                deltas.varint(((delta << 1) ^ (delta >> 63)).cast_unsigned());
                before = count;
            }
        });
    }
    write_time(message, 15, Timestamp::from_millis(entry.created_ms));
}

/// What a text exposition holds, as delimited protobuf behind `out`: sidewatch's own metrics come as text.
pub fn write_text_as_protobuf(exposition: &Exposition, out: &mut Vec<u8>) {
    let mut families: BTreeMap<&str, (Option<&Metadata>, Vec<&TextSample>)> = BTreeMap::new();
    for described in &exposition.metadata {
        families.insert(&described.name, (Some(described), Vec::new()));
    }
    for sample in &exposition.samples {
        let name = sample.labels.metric_name();
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).filter(|base| {
            let described = families.get(base).and_then(|(described, _)| *described);
            described.is_some_and(|described| described.kind == MetricType::Histogram)
        });
        families.entry(base.unwrap_or(name)).or_default().1.push(sample);
    }
    let mut writer = Writer { out: std::mem::take(out) };
    for (name, (described, samples)) in families {
        if samples.is_empty() {
            continue;
        }
        let kind = match described.map(|described| described.kind) {
            Some(MetricType::Counter) => COUNTER,
            Some(MetricType::Gauge) => GAUGE,
            Some(MetricType::Histogram) => HISTOGRAM,
            _ => UNTYPED,
        };
        writer.delimited(|family| {
            let (help, unit) = described.map_or(("", ""), |described| (&described.help, &described.unit));
            write_head(family, name, help, unit, kind);
            if kind == HISTOGRAM {
                write_classic(family, &samples);
                return;
            }
            for sample in samples {
                family.message(4, |metric| {
                    write_labels(metric, &sample.labels);
                    let field = match kind {
                        COUNTER => 3,
                        GAUGE => 2,
                        _ => 5,
                    };
                    metric.message(field, |value| value.double(1, sample.value));
                });
            }
        });
    }
    *out = writer.out;
}

/// A histogram as classic series tell it.
#[derive(Default)]
struct Classic {
    count: f64,
    sum: f64,
    /// (bound, cumulative count)
    buckets: Vec<(f64, f64)>,
}

/// The histograms of one family from their classic series.
fn write_classic(family: &mut Writer, samples: &[&TextSample]) {
    let mut histograms: BTreeMap<Labels, Classic> = BTreeMap::new();
    for sample in samples {
        let labels = sample.labels.filtered(|name| !matches!(name, METRIC_NAME | "le"));
        let Classic { count, sum, buckets } = histograms.entry(labels).or_default();
        let name = sample.labels.metric_name();
        if name.ends_with("_count") {
            *count = sample.value;
        } else if name.ends_with("_sum") {
            *sum = sample.value;
        } else if let Some(bound) = sample.labels.get("le").and_then(|bound| bound.parse::<f64>().ok()) {
            buckets.push((bound, sample.value));
        }
    }
    for (labels, Classic { count, sum, buckets }) in histograms {
        family.message(4, |metric| {
            write_labels(metric, &labels);
            metric.message(7, |histogram| {
                histogram.uint(1, count as u64);
                histogram.double(2, sum);
                for (bound, count) in buckets.iter().filter(|(bound, _)| bound.is_finite()) {
                    histogram.message(3, |bucket| {
                        bucket.uint(1, *count as u64);
                        bucket.double(2, *bound);
                    });
                }
            });
        });
    }
}
