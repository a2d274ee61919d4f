//! The sender of Prometheus remote write 1.0 ("Remote-Write Specification", version 1.0): snappy-packed protobuf.

use super::collect::Point;
use super::http::HttpTarget;
use super::queue::Piece;
use super::Outcome;
use crate::model::{Labels, Timestamp};
use crate::series::{FloatHistogram, Metadata, MetricType, ResetHint, Span};
use crate::source::scrape::Relabelling;
use crate::source::wire::Writer;

/// Families of one request of metadata.
const FAMILIES: usize = 500;

/// The requests of one round: series relabelled, external labels added where they are absent.
pub(super) fn requests(
    points: Vec<(Labels, Point)>,
    relabelling: &Relabelling,
    external: &Labels,
    samples_per_send: usize,
    at: Timestamp,
) -> (Vec<Piece>, i64) {
    let mut highest = i64::MIN;
    let ready = points.into_iter().filter_map(|(labels, point)| {
        let labels = relabelling.apply(&external.merged(&labels))?;
        (!labels.metric_name().is_empty()).then_some((labels, point))
    });
    let ready: Vec<(Labels, Point)> = ready.collect();
    let pieces = ready.chunks(samples_per_send.max(1)).map(|chunk| {
        let mut request = Writer::default();
        for (labels, point) in chunk {
            highest = highest.max(point.t_ms());
            request.message(1, |series| write_series(series, labels, point));
        }
        Piece { blob: packed(&request.out), items: chunk.len() as u64, at }
    });
    (pieces.collect(), highest)
}

/// What metrics are, as requests without samples.
pub(super) fn metadata(families: &[Metadata], at: Timestamp) -> Vec<Piece> {
    let chunks = families.chunks(FAMILIES).map(|chunk| {
        let mut request = Writer::default();
        for family in chunk {
            request.message(3, |message| {
                message.uint(1, kind(family.kind));
                message.text(2, &family.name);
                message.text(4, &family.help);
                message.text(5, &family.unit);
            });
        }
        Piece { blob: packed(&request.out), items: 0, at }
    });
    chunks.collect()
}

fn packed(message: &[u8]) -> Vec<u8> {
    // It fails only beyond 4 GiB, which no request reaches.
    snap::raw::Encoder::new().compress_vec(message).unwrap_or_default()
}

/// `MetricMetadata.MetricType`.
fn kind(kind: MetricType) -> u64 {
    match kind.as_str() {
        "counter" => 1,
        "gauge" => 2,
        "histogram" => 3,
        "gaugehistogram" => 4,
        "summary" => 5,
        "info" => 6,
        "stateset" => 7,
        _ => 0,
    }
}

fn write_series(series: &mut Writer, labels: &Labels, point: &Point) {
    for label in labels.iter() {
        series.message(1, |pair| {
            pair.text(1, &label.name);
            pair.text(2, &label.value);
        });
    }
    match point {
        Point::Float(point) => series.message(2, |sample| {
            sample.double(1, point.value);
            sample.uint(2, point.t_ms.cast_unsigned());
        }),
        Point::Histogram(point) => series.message(4, |sample| {
            write_histogram(sample, &point.histogram);
            sample.uint(15, point.t_ms.cast_unsigned());
            doubles(sample, 16, &point.histogram.custom_values);
        }),
    }
}

/// `Histogram` with float counts; without the time, which the caller adds in its place.
fn write_histogram(out: &mut Writer, histogram: &FloatHistogram) {
    out.double(2, histogram.count);
    out.double(3, histogram.sum);
    out.sint(4, i64::from(histogram.schema));
    out.double(5, histogram.zero_threshold);
    out.double(7, histogram.zero_count);
    spans(out, 8, &histogram.negative_spans);
    doubles(out, 10, &histogram.negative_buckets);
    spans(out, 11, &histogram.positive_spans);
    doubles(out, 13, &histogram.positive_buckets);
    let hint = match histogram.reset_hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    };
    out.uint(14, hint);
}

fn spans(out: &mut Writer, field: u32, spans: &[Span]) {
    for span in spans {
        out.message(field, |message| {
            message.sint(1, i64::from(span.offset));
            message.uint(2, u64::from(span.length));
        });
    }
}

fn doubles(out: &mut Writer, field: u32, values: &[f64]) {
    if !values.is_empty() {
        out.message(field, |packed| values.iter().for_each(|value| packed.out.extend_from_slice(&value.to_le_bytes())));
    }
}

/// Sends one request.
pub(super) async fn send(target: &mut HttpTarget, body: &[u8]) -> Outcome {
    let headers = [
        ("Content-Encoding".to_owned(), "snappy".to_owned()),
        ("X-Prometheus-Remote-Write-Version".to_owned(), "0.1.0".to_owned()),
    ];
    match target.post("", "application/x-protobuf", &headers, body.to_vec()).await {
        // "Retries & Backoff": 5xx must be, 429 may be tried again, all other 4xx must not.
        Ok(answer) => answer.outcome(|status| status.is_server_error() || status.as_u16() == 429),
        Err(error) => Outcome::retry(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{FloatPoint, HistogramPoint};
    use crate::source::remote_write::{Version, read};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn sent(points: Vec<(Labels, Point)>, external: &[(&str, &str)]) -> crate::source::remote_write::WriteRequest {
        let external = Labels::from_pairs(external.iter().copied());
        let (pieces, _) = requests(points, &Relabelling::new(&[]), &external, 1_000, Timestamp::EPOCH);
        read(&pieces[0].blob, Version::V1, 1 << 30).unwrap()
    }

    #[test]
    fn external_labels_never_win_and_histograms_come_back() {
        let labels = Labels::from_pairs([("__name__", "h"), ("cluster", "own")]);
        let histogram = FloatHistogram {
            schema: 3,
            count: 6.0,
            sum: 12.5,
            zero_count: 1.0,
            zero_threshold: 1e-9,
            positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }],
            positive_buckets: vec![2.0, 2.0, 1.0],
            ..FloatHistogram::default()
        };
        let point = Point::Histogram(HistogramPoint { t_ms: 7, histogram: Arc::new(histogram.clone()), start_ms: 0 });
        let request = sent(vec![(labels, point)], &[("cluster", "other"), ("zone", "a")]);
        let series = &request.series[0];
        assert_eq!(series.labels.to_string(), r#"h{cluster="own", zone="a"}"#);
        let (t_ms, native, _) = &series.histograms[0];
        assert_eq!((*t_ms, native.schema, native.count, native.sum), (7, 3, 6.0, 12.5));
        assert_eq!(native.positive, [2.0, 2.0, 1.0]);
        assert_eq!(native.positive_spans, [(-2, 2), (3, 1)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn floats_come_back(samples in prop::collection::vec(("[a-z]{1,8}", "[ -~]{0,20}", any::<f64>(), 0_i64..1 << 50), 1..50)) {
            let point = |(name, value, number, t_ms): &(String, String, f64, i64)| {
                let labels = Labels::from_pairs([("__name__", name.as_str()), ("x", value.as_str())]);
                (labels, Point::Float(FloatPoint { t_ms: *t_ms, value: *number, start_ms: 0 }))
            };
            let points: Vec<(Labels, Point)> = samples.iter().map(point).collect();
            let request = sent(points.clone(), &[]);
            prop_assert_eq!(request.series.len(), points.len());
            for (series, (labels, point)) in request.series.iter().zip(&points) {
                let Point::Float(point) = point else { unreachable!() };
                prop_assert_eq!(&series.labels, labels);
                prop_assert_eq!((series.floats[0].0, series.floats[0].1.to_bits()), (point.t_ms, point.value.to_bits()));
            }
        }
    }
}
