//! OTLP over HTTP (opentelemetry-proto 1.x, "OTLP Specification"): metrics with cumulative temporality, and a span for
//! each event that carries a trace context and a duration.

use super::Outcome;
use super::collect::Point;
use super::http::HttpTarget;
use super::queue::Piece;
use crate::engine::Tapped;
use crate::model::{Labels, METRIC_NAME, Timestamp};
use crate::series::{FloatHistogram, HistogramPoint, Metadata, MetricType, Span, is_stale};
use crate::source::wire::Writer;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;

/// Data points of one request.
const POINTS: usize = 5_000;
/// Spans of one request.
const SPANS: usize = 2_000;
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u64 = 2;
/// `DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK`.
const NO_VALUE: u64 = 1;

/// Who sends: the resource's attributes.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub service: String,
    pub instance: String,
    pub external: Labels,
}

fn attribute(out: &mut Writer, field: u32, name: &str, value: &str) {
    out.message(field, |pair| {
        pair.text(1, name);
        pair.message(2, |any| any.text(1, value));
    });
}

fn fixed64(out: &mut Writer, field: u32, value: u64) {
    out.double(field, f64::from_bits(value));
}

fn nanos(t_ms: i64) -> u64 {
    t_ms.max(0).cast_unsigned().saturating_mul(1_000_000)
}

impl Resource {
    fn write(&self, out: &mut Writer) {
        out.message(1, |resource| {
            attribute(resource, 1, "service.name", &self.service);
            attribute(resource, 1, "service.instance.id", &self.instance);
            self.external.iter().for_each(|label| attribute(resource, 1, &label.name, &label.value));
        });
    }
}

fn scope(out: &mut Writer) {
    out.message(1, |scope| {
        scope.text(1, "sidewatch");
        scope.text(2, env!("CARGO_PKG_VERSION"));
    });
}

/// The points of one round as requests.
pub(super) fn metrics(
    points: &[(Labels, Point)],
    families: &[Metadata],
    resource: &Resource,
    at: Timestamp,
) -> Vec<Piece> {
    let known: HashMap<&str, &Metadata, ahash::RandomState> =
        families.iter().map(|family| (family.name.as_str(), family)).collect();
    let request = |chunk: &[(Labels, Point)]| {
        let mut by_name: BTreeMap<&str, Vec<&(Labels, Point)>> = BTreeMap::new();
        for point in chunk {
            by_name.entry(point.0.metric_name()).or_default().push(point);
        }
        let mut request = Writer::default();
        request.message(1, |of_resource| {
            resource.write(of_resource);
            of_resource.message(2, |of_scope| {
                scope(of_scope);
                for (name, points) in &by_name {
                    let family = known.get(name).copied();
                    for native in [false, true] {
                        let points: Vec<&(Labels, Point)> = points
                            .iter()
                            .copied()
                            .filter(|(_, point)| matches!(point, Point::Histogram(_)) == native)
                            .collect();
                        if !points.is_empty() {
                            of_scope.message(2, |metric| write_metric(metric, name, family, &points, native, resource));
                        }
                    }
                }
            });
        });
        Piece { blob: request.out, items: chunk.len() as u64, at }
    };
    points.chunks(POINTS).map(request).collect()
}

fn write_metric(
    metric: &mut Writer,
    name: &str,
    family: Option<&Metadata>,
    points: &[&(Labels, Point)],
    native: bool,
    resource: &Resource,
) {
    metric.text(1, name);
    if let Some(family) = family {
        metric.text(2, &family.help);
        metric.text(3, &family.unit);
    }
    let kind = family.map(|family| family.kind);
    let counter = kind == Some(MetricType::Counter)
        || kind != Some(MetricType::Gauge)
            && ["_total", "_bucket", "_count", "_sum"].iter().any(|suffix| name.ends_with(suffix));
    match (native, counter) {
        (true, _) => metric.message(10, |histogram| {
            for (labels, point) in points {
                let Point::Histogram(point) = point else { continue };
                histogram.message(1, |out| write_histogram(out, labels, point, resource));
            }
            histogram.uint(2, CUMULATIVE);
        }),
        (false, true) => metric.message(7, |sum| {
            numbers(sum, points, resource);
            sum.uint(2, CUMULATIVE);
            sum.uint(3, 1);
        }),
        (false, false) => metric.message(5, |gauge| numbers(gauge, points, resource)),
    }
}

/// `job` and `instance` are the resource's, unless the series is of somebody else.
fn attributes(out: &mut Writer, field: u32, labels: &Labels, resource: &Resource) {
    for label in labels.iter() {
        let said = match &*label.name {
            METRIC_NAME => true,
            "job" => *label.value == *resource.service,
            "instance" => *label.value == *resource.instance,
            _ => false,
        };
        if !said {
            attribute(out, field, &label.name, &label.value);
        }
    }
}

fn numbers(out: &mut Writer, points: &[&(Labels, Point)], resource: &Resource) {
    for (labels, point) in points {
        let Point::Float(point) = point else { continue };
        out.message(1, |number| {
            if point.start_ms > 0 {
                fixed64(number, 2, nanos(point.start_ms));
            }
            fixed64(number, 3, nanos(point.t_ms));
            if is_stale(point.value) {
                number.uint(8, NO_VALUE);
            } else {
                number.double(4, point.value);
            }
            attributes(number, 7, labels, resource);
        });
    }
}

fn write_histogram(out: &mut Writer, labels: &Labels, point: &HistogramPoint, resource: &Resource) {
    let histogram: &FloatHistogram = &point.histogram;
    attributes(out, 1, labels, resource);
    if point.start_ms > 0 {
        fixed64(out, 2, nanos(point.start_ms));
    }
    fixed64(out, 3, nanos(point.t_ms));
    if is_stale(histogram.sum) {
        out.uint(10, NO_VALUE);
        return;
    }
    fixed64(out, 4, histogram.count as u64);
    out.double(5, histogram.sum);
    out.sint(6, i64::from(histogram.schema));
    fixed64(out, 7, histogram.zero_count as u64);
    buckets(out, 8, &histogram.positive_spans, &histogram.positive_buckets);
    buckets(out, 9, &histogram.negative_spans, &histogram.negative_buckets);
    out.double(14, histogram.zero_threshold);
}

/// Sparse buckets as dense ones. Bucket i of Prometheus ends at base^i, that of OpenTelemetry begins there.
fn buckets(out: &mut Writer, field: u32, spans: &[Span], counts: &[f64]) {
    let Some(first) = spans.first() else { return };
    let mut dense: Vec<u64> = Vec::new();
    let mut counts = counts.iter();
    for (at, span) in spans.iter().enumerate() {
        if at > 0 {
            dense.extend(std::iter::repeat_n(0, span.offset.max(0) as usize));
        }
        dense.extend(counts.by_ref().take(span.length as usize).map(|count| *count as u64));
    }
    out.message(field, |message| {
        message.sint(1, i64::from(first.offset) - 1);
        message.message(2, |packed| dense.iter().for_each(|count| packed.varint(*count)));
    });
}

/// Events as spans: what an event reports has ended at its time.
pub(super) fn spans(events: &[Tapped], resource: &Resource, at: Timestamp) -> Vec<Piece> {
    let request = |chunk: &[Tapped]| {
        let mut request = Writer::default();
        request.message(1, |of_resource| {
            resource.write(of_resource);
            of_resource.message(2, |of_scope| {
                scope(of_scope);
                chunk.iter().for_each(|event| of_scope.message(2, |span| write_span(span, event)));
            });
        });
        Piece { blob: request.out, items: chunk.len() as u64, at }
    };
    events.chunks(SPANS).map(request).collect()
}

fn write_span(span: &mut Writer, event: &Tapped) {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len() / 2).filter_map(|at| u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()).collect()
    };
    span.message(1, |bytes| bytes.out.extend(hex(&event.trace_id)));
    span.message(2, |bytes| bytes.out.extend(span_id(event).to_be_bytes()));
    if event.span_id.len() == 16 {
        span.message(4, |bytes| bytes.out.extend(hex(&event.span_id)));
    }
    span.text(5, &event.event_type);
    // SPAN_KIND_INTERNAL
    span.uint(6, 1);
    let end = event.at.micros().max(0).cast_unsigned().saturating_mul(1_000);
    fixed64(span, 7, end.saturating_sub((event.duration_seconds * 1e9) as u64));
    fixed64(span, 8, end);
    for (name, value) in [
        ("event.id", &event.id),
        ("event.source", &event.source),
        ("event.subject", &event.subject),
        ("event.correlation_id", &event.correlation),
    ] {
        if !value.is_empty() {
            attribute(span, 9, name, value);
        }
    }
    if event.failed {
        // STATUS_CODE_ERROR
        span.message(15, |status| status.uint(3, 2));
    }
}

/// The same for the same event, so that what is sent twice is one span; never 0, which is no id.
fn span_id(event: &Tapped) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let at = event.at.micros().to_string();
    for part in [&event.trace_id, &event.span_id, &event.source, &event.id, &event.event_type, &at] {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash.max(1)
}

/// Sends one request; `path` is `/v1/metrics` or `/v1/traces`.
pub(super) async fn send(target: &mut HttpTarget, path: &str, body: &[u8], gzip: bool) -> Outcome {
    let (body, headers) = if gzip {
        let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
        match encoder.write_all(body).and_then(|()| encoder.finish()) {
            Ok(packed) => (packed, vec![("Content-Encoding".to_owned(), "gzip".to_owned())]),
            Err(error) => return Outcome::Refused { error: error.to_string() },
        }
    } else {
        (body.to_vec(), Vec::new())
    };
    match target.post(path, "application/x-protobuf", &headers, body).await {
        // "OTLP/HTTP Response", section "Retryable Response Codes".
        Ok(answer) => answer.outcome(|status| matches!(status.as_u16(), 429 | 502 | 503 | 504)),
        Err(error) => Outcome::retry(error),
    }
}
