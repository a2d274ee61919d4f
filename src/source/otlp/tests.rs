use super::model::Resource;
use super::{Encoding, Request, Signal, events, json, partial_success, protobuf, read, status};
use crate::source::counts::CountKind;
use crate::source::received::ReceivedValue;
use crate::source::wire::Writer;
use proptest::prelude::*;
use std::fmt::Write;

const NAMES: [&str; 3] = ["resourceMetrics", "scopeMetrics", "metrics"];

/// The samples and counts of metrics in JSON, one a line, and what was rejected.
fn check(metrics: &str, expected: &str) {
    let body = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}},{{"key":"service.instance.id","value":{{"stringValue":"i1"}}}}]}},"scopeMetrics":[{{"metrics":{metrics}}}]}}]}}"#
    );
    assert_eq!(told(body.as_bytes(), Encoding::Json), expected, "{metrics}");
}

fn told(body: &[u8], encoding: Encoding) -> String {
    let metrics = match read(Signal::Metrics, encoding, body, &"otlp".into(), 7_000) {
        Ok(Request::Metrics(metrics)) => metrics,
        Ok(Request::Events(..)) => panic!("events"),
        Err(error) => return error,
    };
    let mut out = String::new();
    for sample in &metrics.received.samples {
        write!(out, "{} @{}", sample.labels, sample.t_ms).unwrap();
        match &sample.value {
            ReceivedValue::Float(value) => writeln!(out, " {value}").unwrap(),
            ReceivedValue::End => writeln!(out, " end").unwrap(),
            ReceivedValue::Histogram(h) | ReceivedValue::HistogramDelta(h) => writeln!(
                out,
                " {} schema {} count {} sum {} zero {} {:?} {:?} {:?} {:?}",
                if matches!(sample.value, ReceivedValue::Histogram(_)) { "is" } else { "adds" },
                h.schema,
                h.count,
                h.sum,
                h.zero_count,
                h.positive_spans,
                h.positive,
                h.negative_spans,
                h.negative
            )
            .unwrap(),
        }
    }
    for change in &metrics.counts.changes {
        let (_, series) = metrics.counts.fresh.iter().find(|(at, _)| *at == change.series).unwrap();
        let kind = if series.kind == CountKind::Counter { "counter" } else { "gauge" };
        writeln!(out, "{kind} {}{} +{}", series.metric, series.labels, change.value).unwrap();
    }
    if metrics.rejected > 0 {
        writeln!(out, "rejected {}: {}", metrics.rejected, metrics.reason).unwrap();
    }
    out
}

#[test]
fn totals_become_samples() {
    check(
        r#"[{"name":"requests","unit":"1","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"asInt":"42","timeUnixNano":"5000000000","startTimeUnixNano":"1000000000","attributes":[{"key":"http.method","value":{"stringValue":"GET"}},{"key":"ok","value":{"boolValue":true}}]}]}}]"#,
        "requests_total{http_method=\"GET\", instance=\"i1\", job=\"shop\", ok=\"true\"} @5000 42\n",
    );
    check(
        r#"[{"name":"temp","unit":"Cel","gauge":{"dataPoints":[{"asDouble":21.5}, {"timeUnixNano":8000000000,"flags":1}]}},{"name":"left","sum":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","dataPoints":[{"asDouble":-1}]}}]"#,
        "temp_celsius{instance=\"i1\", job=\"shop\"} @7000 21.5\ntemp_celsius{instance=\"i1\", job=\"shop\"} @8000 end\nleft{instance=\"i1\", job=\"shop\"} @7000 -1\n",
    );
    check(
        r#"[{"name":"d","unit":"s","histogram":{"aggregationTemporality":2,"dataPoints":[{"count":"6","sum":3.5,"bucketCounts":["1","2","3"],"explicitBounds":[0.1,1]}]}}]"#,
        "d_seconds_bucket{instance=\"i1\", job=\"shop\", le=\"0.1\"} @7000 1\nd_seconds_bucket{instance=\"i1\", job=\"shop\", le=\"1\"} @7000 3\nd_seconds_bucket{instance=\"i1\", job=\"shop\", le=\"+Inf\"} @7000 6\nd_seconds_sum{instance=\"i1\", job=\"shop\"} @7000 3.5\nd_seconds_count{instance=\"i1\", job=\"shop\"} @7000 6\n",
    );
    check(
        r#"[{"name":"s","summary":{"dataPoints":[{"count":3,"sum":6,"quantileValues":[{"quantile":0.5,"value":2}]}]}}]"#,
        "s{instance=\"i1\", job=\"shop\", quantile=\"0.5\"} @7000 2\ns_sum{instance=\"i1\", job=\"shop\"} @7000 6\ns_count{instance=\"i1\", job=\"shop\"} @7000 3\n",
    );
}

#[test]
fn exemplars_and_wrong_clocks() {
    let body = br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"d","histogram":{"aggregationTemporality":2,"dataPoints":[{"count":"1","bucketCounts":["1","0"],"explicitBounds":[0.5],"exemplars":[{"asDouble":0.25,"timeUnixNano":"6000000000","traceId":"5b8efff798038103d269b633813fc60c","spanId":"0000000000000000","filteredAttributes":[{"key":"user.id","value":{"intValue":"7"}}]}]}]}},{"name":"g","gauge":{"dataPoints":[{"asInt":1,"timeUnixNano":"700000000000"}]}}]}]}]}"#;
    let Ok(Request::Metrics(metrics)) = read(Signal::Metrics, Encoding::Json, body, &"otlp".into(), 7_000) else {
        panic!()
    };
    let told: Vec<String> = metrics.received.exemplars.iter().map(|told| format!("{told:?}")).collect();
    assert_eq!(
        told,
        ["(d_bucket{le=\"0.5\"}, {trace_id=\"5b8efff798038103d269b633813fc60c\", user_id=\"7\"}, 0.25, 6000)"]
    );
    assert_eq!(
        (metrics.rejected, metrics.reason.as_str()),
        (1, "g: its time is more than ten minutes ahead of the clock here")
    );
}

#[test]
fn exponential_histograms_become_native_ones() {
    check(
        r#"[{"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"count":7,"sum":9,"scale":3,"zeroCount":1,"positive":{"offset":-1,"bucketCounts":["1","2","0","3"]}}]}}]"#,
        "e{instance=\"i1\", job=\"shop\"} @7000 is schema 3 count 7 sum 9 zero 1 [(0, 2), (1, 1)] [1.0, 2.0, 3.0] [] []\n",
    );
    // Finer than schema 8: two buckets of scale 9 become one. Below zero the side is its own.
    check(
        r#"[{"name":"e","exponentialHistogram":{"aggregationTemporality":1,"dataPoints":[{"count":10,"scale":9,"positive":{"offset":-2,"bucketCounts":[1,2,3,4]},"negative":{"offset":1,"bucketCounts":[5]}}]}}]"#,
        "e{instance=\"i1\", job=\"shop\"} @7000 adds schema 8 count 10 sum 0 zero 0 [(0, 2)] [3.0, 7.0] [(1, 1)] [5.0]\n",
    );
    check(
        r#"[{"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"count":1,"scale":-5}]}}]"#,
        "rejected 1: e: the scale -5 is coarser than native histograms have\n",
    );
}

#[test]
fn changes_are_counted() {
    check(
        r#"[{"name":"n","sum":{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{"asInt":2},{"asInt":"3"},{"asDouble":-1}]}},{"name":"u","sum":{"aggregationTemporality":1,"dataPoints":[{"asInt":-4}]}},{"name":"h","histogram":{"aggregationTemporality":1,"dataPoints":[{"count":3,"sum":1.5,"bucketCounts":[1,2],"explicitBounds":[1]}]}}]"#,
        "counter n_total{instance=\"i1\", job=\"shop\"} +2\ncounter n_total{instance=\"i1\", job=\"shop\"} +3\ngauge u{instance=\"i1\", job=\"shop\"} +-4\ncounter h_bucket{instance=\"i1\", job=\"shop\", le=\"1\"} +1\ncounter h_bucket{instance=\"i1\", job=\"shop\", le=\"+Inf\"} +3\ncounter h_sum{instance=\"i1\", job=\"shop\"} +1.5\ncounter h_count{instance=\"i1\", job=\"shop\"} +3\nrejected 1: n: -1 is no change of a sum that only grows\n",
    );
}

#[test]
fn what_does_not_fit_is_rejected_and_the_rest_is_taken() {
    check(
        r#"[{"name":"a","sum":{"dataPoints":[{"asInt":1}]}},{"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"count":3,"bucketCounts":[1],"explicitBounds":[1]},{"count":9,"bucketCounts":[1,1],"explicitBounds":[1]},{"count":2,"bucketCounts":[1,1],"explicitBounds":[1]}]}},{"name":"...","gauge":{"dataPoints":[{}]}}]"#,
        "h_bucket{instance=\"i1\", job=\"shop\", le=\"1\"} @7000 1\nh_bucket{instance=\"i1\", job=\"shop\", le=\"+Inf\"} @7000 2\nh_count{instance=\"i1\", job=\"shop\"} @7000 2\nrejected 4: a: the aggregation temporality is not given\n",
    );
    check(r#"[{"name":5}]"#, "resourceMetrics[0].scopeMetrics[0].metrics[0].name: expected a text");
    check(
        r#"[{"gauge":{"dataPoints":[{"timeUnixNano":"x"}]}}]"#,
        "resourceMetrics[0].scopeMetrics[0].metrics[0].gauge.dataPoints[0].timeUnixNano: expected a whole number",
    );
    check(r#"[3]"#, "resourceMetrics[0].scopeMetrics[0].metrics[0]: expected an object");
}

#[test]
fn resources_become_target_info() {
    let body = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}},{"key":"service.namespace","value":{"stringValue":"eu"}},{"key":"k8s.pod.name","value":{"stringValue":"p"}},{"key":"k8s_pod_name","value":{"intValue":"7"}}]},"scopeMetrics":[{"metrics":[{"name":"a","gauge":{"dataPoints":[{"asInt":1,"timeUnixNano":"3000000000"}]}}]}]}]}"#;
    assert_eq!(
        told(body.as_bytes(), Encoding::Json),
        "a{job=\"eu/shop\"} @3000 1\ntarget_info{job=\"eu/shop\", k8s_pod_name=\"p;7\"} @3000 1\n"
    );
}

#[test]
fn logs_become_events() {
    let body = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeLogs":[{"scope":{"name":"lib"},"logRecords":[
        {"timeUnixNano":"1700000000123456789","severityNumber":17,"severityText":"ERROR","body":{"stringValue":"it broke"},"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174","attributes":[{"key":"http.status","value":{"intValue":"500"}}]},
        {"eventName":"order.placed","body":{"kvlistValue":{"values":[{"key":"amount","value":{"doubleValue":1.5}}]}}},
        {"observedTimeUnixNano":"1700000000000000000","severityText":"notice","body":{"arrayValue":{"values":[{"boolValue":true},{"bytesValue":"aGk="}]}},"attributes":[{"key":"event.name","value":{"stringValue":""}}]},
        {}]}]}]}"#;
    let logs = events::logs(
        &json::request(body.as_bytes(), ["resourceLogs", "scopeLogs", "logRecords"], json::log_record).unwrap(),
    );
    let resource = r#""resource":{"service.name":"shop"},"scope":"lib"}}"#;
    let expected = [
        r#"{"type":"log.error","source":"shop","time":"2023-11-14T22:13:20.123456Z","severity":"error","trace_id":"5b8efff798038103d269b633813fc60c","span_id":"eee19b7ec3c1b174","data":{"body":"it broke","severity_number":17,"severity_text":"ERROR","attributes":{"http.status":500},"#,
        r#"{"type":"order.placed","source":"shop","data":{"body":{"amount":1.5},"attributes":{},"#,
        r#"{"type":"log.notice","source":"shop","time":"2023-11-14T22:13:20Z","severity":"notice","data":{"body":[true,"aGk="],"severity_text":"notice","attributes":{"event.name":""},"#,
        r#"{"type":"log","source":"shop","data":{"body":null,"attributes":{},"#,
    ];
    let text = String::from_utf8(logs.lines).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), logs.count), (4, 4));
    for (line, expected) in lines.iter().zip(expected) {
        assert_eq!(*line, format!("{expected}{resource}"));
    }
}

#[test]
fn spans_become_events() {
    let body = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","parentSpanId":"eee19b7ec3c1b173","name":"GET /cart","kind":2,"startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000250000000","status":{"code":2,"message":"boom"},"events":[{"name":"exception","attributes":[{"key":"a","value":{"stringValue":"b"}}]}]}]}]}]}"#;
    let spans =
        events::spans(&json::request(body.as_bytes(), ["resourceSpans", "scopeSpans", "spans"], json::span).unwrap());
    assert_eq!(
        String::from_utf8(spans.lines).unwrap(),
        r#"{"type":"GET /cart","time":"2023-11-14T22:13:20.25Z","trace_id":"5b8efff798038103d269b633813fc60c","span_id":"eee19b7ec3c1b174","duration_ns":250000000,"status":"error","data":{"kind":"server","status_message":"boom","parent_span_id":"eee19b7ec3c1b173","events":[{"name":"exception","attributes":{"a":"b"}}],"attributes":{},"resource":{}}}"#.to_owned() + "\n"
    );
}

/// A metric as the wire has it.
fn wire() -> Vec<u8> {
    let mut out = Writer::default();
    let attribute = |writer: &mut Writer, field, key: &str, value: &str| {
        writer.message(field, |writer| {
            writer.text(1, key);
            writer.message(2, |writer| writer.text(1, value));
        });
    };
    out.message(1, |resource| {
        resource.message(1, |described| attribute(described, 1, "service.name", "shop"));
        resource.message(2, |scope| {
            scope.message(1, |described| described.text(1, "lib"));
            scope.message(2, |metric| {
                metric.text(1, "h");
                metric.text(3, "s");
                metric.message(9, |histogram| {
                    histogram.message(1, |point| {
                        attribute(point, 9, "a", "b");
                        // fixed64 words look as doubles do.
                        point.double(3, f64::from_bits(5_000_000_000));
                        point.double(4, f64::from_bits(3));
                        point.double(5, 1.5);
                        point.bytes(6, &[1_u64, 2].map(u64::to_le_bytes).concat());
                        point.bytes(7, &0.5_f64.to_le_bytes());
                    });
                    histogram.uint(2, 2);
                });
            });
        });
    });
    out.out
}

#[test]
fn protobuf_says_the_same() {
    assert_eq!(
        told(&wire(), Encoding::Protobuf),
        "h_seconds_bucket{a=\"b\", job=\"shop\", le=\"0.5\"} @5000 1\nh_seconds_bucket{a=\"b\", job=\"shop\", le=\"+Inf\"} @5000 3\nh_seconds_sum{a=\"b\", job=\"shop\"} @5000 1.5\nh_seconds_count{a=\"b\", job=\"shop\"} @5000 3\n"
    );
    assert_eq!(told(&wire()[..40], Encoding::Protobuf), "the body is no OTLP request in Protocol Buffers");
}

#[test]
fn answers_are_those_of_the_specification() {
    assert_eq!(partial_success(Signal::Logs, Encoding::Json, 0, ""), b"{}");
    assert_eq!(partial_success(Signal::Logs, Encoding::Protobuf, 0, ""), b"");
    assert_eq!(
        partial_success(Signal::Metrics, Encoding::Json, 3, "no"),
        br#"{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"no"}}"#
    );
    assert_eq!(partial_success(Signal::Traces, Encoding::Protobuf, 3, "no"), b"\x0a\x06\x08\x03\x12\x02no");
    assert_eq!(status(Encoding::Protobuf, 400, "no"), b"\x08\x03\x12\x02no");
    assert_eq!(status(Encoding::Json, 503, "no"), br#"{"code":14,"message":"no"}"#);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
    #[test]
    fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..120_usize, flip in 0..120_usize, with: u8) {
        let mut damaged = wire();
        let flip = flip % damaged.len();
        damaged[flip] = with;
        damaged.truncate(damaged.len() - cut % damaged.len());
        for body in [&bytes, &damaged] {
            for signal in [Signal::Logs, Signal::Metrics, Signal::Traces] {
                let _ = read(signal, Encoding::Protobuf, body, &"otlp".into(), 0);
                let _ = read(signal, Encoding::Json, body, &"otlp".into(), 0);
            }
            let _: Result<Vec<Resource<_>>, _> = protobuf::request(body, protobuf::metric);
            let _ = json::request(body, NAMES, json::metric);
        }
    }
}
