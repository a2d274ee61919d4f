//! OTLP over HTTP with the real binary: what the SDK of others sends, both encodings, compression, what is refused and how,
//! and a restart.

use super::harness::{Sidewatch, eventually, exchange, run};
use std::path::Path;
use std::process::Command;

fn configure(dir: &Path, text: &str) {
    std::fs::write(dir.join("sidewatch.yaml"), text).unwrap();
}

/// The Python that has OpenTelemetry's SDK: `tests/run` makes it; without that variable the test makes it itself.
fn otel_python() -> std::path::PathBuf {
    if let Some(python) = std::env::var_os("OTEL_PYTHON") {
        return python.into();
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("otel-python");
    let python = folder.join("bin/python");
    let works = |python: &Path| {
        let asked = Command::new(python).args(["-c", "import opentelemetry.exporter.otlp.proto.http"]).output();
        asked.is_ok_and(|output| output.status.success())
    };
    if !works(&python) {
        let system = std::env::var("SIDEWATCH_PYTHON").unwrap_or_else(|_| "/usr/bin/python3".into());
        let made = Command::new(system).args(["-m", "venv", folder.to_str().unwrap()]).status().unwrap();
        assert!(made.success(), "python3-venv is needed");
        let packages = ["opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"];
        let mut install = Command::new(&python);
        let installed = install.args(["-m", "pip", "install", "-q"]).args(packages).status().unwrap();
        assert!(installed.success() && works(&python), "{packages:?} could not be installed from PyPI");
    }
    python
}

const SDK: &str = r#"
import logging, sys
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.metrics import MeterProvider, Counter, Histogram
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader, AggregationTemporality
from opentelemetry.sdk.metrics.view import View, ExponentialBucketHistogramAggregation
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.trace import Status, StatusCode
base, delta = sys.argv[1], sys.argv[2] == 'delta'
resource = Resource.create({'service.name': 'shop', 'service.instance.id': 'i1', 'deployment.environment': 'test'})
preferred = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA} if delta else None
exporter = OTLPMetricExporter(endpoint=base + '/v1/metrics', compression=Compression.Gzip, preferred_temporality=preferred)
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3600000)
views = [View(instrument_name='wait', aggregation=ExponentialBucketHistogramAggregation())]
provider = MeterProvider(metric_readers=[reader], resource=resource, views=views)
meter = provider.get_meter('test')
orders = meter.create_counter('orders', unit='{order}')
took = meter.create_histogram('took', unit='ms')
wait = meter.create_histogram('wait', unit='s')
stock = meter.create_up_down_counter('stock')
for value in (1, 2, 3):
    orders.add(value, {'shop.region': 'eu'})
    took.record(value * 100)
    wait.record(value)
    stock.add(-value)
    provider.force_flush()
tracer_provider = TracerProvider(resource=resource)
tracer_provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=base + '/v1/traces')))
tracer = tracer_provider.get_tracer('test')
with tracer.start_as_current_span('checkout') as span:
    span.set_status(Status(StatusCode.ERROR, 'declined'))
logger_provider = LoggerProvider(resource=resource)
logger_provider.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(endpoint=base + '/v1/logs')))
handler = LoggingHandler(logger_provider=logger_provider)
logging.getLogger('shop').addHandler(handler)
logging.getLogger('shop').error('card declined', extra={'order': 17})
provider.shutdown(); tracer_provider.shutdown(); logger_provider.shutdown()
"#;

fn sdk(sidewatch: &Sidewatch, temporality: &str) {
    let output = Command::new(otel_python())
        .args(["-W", "ignore", "-c", SDK, &format!("http://127.0.0.1:{}", sidewatch.ingest), temporality])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("Failed to export"), "{said}");
}

#[test]
fn what_the_sdk_sends_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    configure(
        dir.path(),
        "profile: testing\nstate: state\nsources: {otlp: {otlp: {}}}\nmetrics: {card_errors_total: {counter: {match: log.error, labels: {order: data.attributes.order}}}}\n",
    );
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    sdk(&sidewatch, "cumulative");
    sidewatch.is_about(r#"orders_total{job="shop",instance="i1",shop_region="eu"}"#, 6.0);
    sidewatch.is_about(r#"took_milliseconds_count{job="shop"}"#, 3.0);
    sidewatch.is_about(r#"took_milliseconds_sum{job="shop"}"#, 600.0);
    sidewatch.is_about(r#"took_milliseconds_bucket{le="250"}"#, 2.0);
    sidewatch.is_about("histogram_count(wait_seconds)", 3.0);
    sidewatch.is_about("histogram_sum(wait_seconds)", 6.0);
    sidewatch.is_about(r#"stock{job="shop"}"#, -6.0);
    sidewatch.is_about(r#"target_info{job="shop",deployment_environment="test"}"#, 1.0);
    sidewatch.is_about(r#"events_failed_total{type="checkout",source="shop"}"#, 1.0);
    sidewatch.is_about(r#"event_duration_seconds_count{type="checkout"}"#, 1.0);
    sidewatch.is_about(r#"card_errors_total{order="17"}"#, 1.0);
    let events = sidewatch.json("/api/events").to_string();
    assert!(events.contains("card declined") && events.contains("declined"), "{events}");

    sdk(&sidewatch, "delta");
    sidewatch.is_about(r#"stock{job="shop"}"#, -6.0);
    assert_eq!(sidewatch.terminate(), Some(0));
}

/// Changes add up over processes on both sides.
#[test]
fn changes_are_counted_exactly_through_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), "profile: testing\nstate: state\nsources: {otlp: {otlp: {}}}\n");
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    sdk(&sidewatch, "delta");
    sidewatch.is_about("orders_total", 6.0);
    sidewatch.is_about(r#"took_milliseconds_bucket{le="+Inf"}"#, 3.0);
    sidewatch.is_about("histogram_count(wait_seconds)", 3.0);
    assert!(sidewatch.get("/metrics").1.contains("orders_total{instance=\"i1\",job=\"shop\",shop_region=\"eu\"} 6"));
    assert_eq!(sidewatch.terminate(), Some(0));
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    sdk(&sidewatch, "delta");
    sidewatch.is_about("orders_total", 12.0);
    sidewatch.is_about("took_milliseconds_sum", 1_200.0);
    sidewatch.is_about(r#"took_milliseconds_bucket{le="250"}"#, 4.0);
    sidewatch.is_about("histogram_sum(wait_seconds)", 12.0);
}

#[test]
fn answers_say_what_became_of_a_request() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), "profile: testing\nlimits: {body_bytes: 64KiB}\n");
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let send = |path: &str, headers: &[(&str, &str)], body: &[u8]| {
        let (status, head, body) = exchange(sidewatch.ingest, "POST", path, headers, body);
        let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or("").to_owned();
        (status, kind, body)
    };
    let json = [("content-type", "application/json")];
    let (ok, proto) = ("application/json".to_owned(), "application/x-protobuf".to_owned());
    assert_eq!(send("/v1/logs", &json, b"{}"), (200, ok.clone(), "{}".into()));
    assert_eq!(send("/v1/traces", &[("content-type", &proto)], b""), (200, proto.clone(), String::new()));
    let partial = send(
        "/v1/metrics",
        &json,
        br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"a","sum":{"dataPoints":[{"asInt":1}]}},{"name":"b","gauge":{"dataPoints":[{"asInt":1}]}}]}]}]}"#,
    );
    assert_eq!(partial.0, 200);
    assert_eq!(
        partial.2,
        r#"{"partialSuccess":{"rejectedDataPoints":"1","errorMessage":"a: the aggregation temporality is not given"}}"#
    );
    // The labels of this process where the resource names none.
    sidewatch.is_about(r#"b{job!=""}"#, 1.0);
    let (status, kind, body) = send("/v1/logs", &json, b"{\"resourceLogs\": 1}");
    assert_eq!((status, kind), (400, ok.clone()));
    assert!(body.starts_with(r#"{"code":3,"message":"resourceLogs: expected an array"#), "{body}");
    let (status, kind, body) = send("/v1/logs", &[("content-type", &proto)], b"\xff");
    assert_eq!((status, kind.as_str(), &body.as_bytes()[..2]), (400, &*proto, &b"\x08\x03"[..]));
    assert_eq!(send("/v1/logs", &[("content-type", "text/plain")], b"x").0, 415);
    assert_eq!(send("/v1/logs", &json, &[b' '; 70 << 10]).0, 413);
    let unpacked = [("content-type", "application/json"), ("content-encoding", "gzip")];
    assert_eq!(send("/v1/logs", &unpacked, b"no gzip").0, 400);
    let foreign = [("content-type", "application/json"), ("origin", "https://evil.example")];
    assert_eq!(send("/v1/logs", &foreign, b"{}").0, 403);
    // On the listener for readers there is nothing to send to.
    assert_eq!(sidewatch.get("/v1/logs").0, 421);
    let (code, out, err) = run(dir.path(), &["check"]);
    assert_eq!(code, 0, "{out}{err}");
}

/// A full queue is answered 429 with Retry-After, and nothing of the request counts.
#[test]
fn a_full_queue_asks_to_come_again() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), "profile: testing\nsources: {otlp: {otlp: {}}}\nlimits: {queue_bytes: 100B}\n");
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let body = br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"b","gauge":{"dataPoints":[{"asInt":1},{"asInt":2,"attributes":[{"key":"a","value":{"stringValue":"x"}}]}]}}]}]}]}"#;
    let (status, head, body) =
        exchange(sidewatch.ingest, "POST", "/v1/metrics", &[("content-type", "application/json")], body);
    assert_eq!(status, 429, "{head}{body}");
    assert!(head.contains("retry-after: 1") && body.starts_with(r#"{"code":8,"#), "{head}{body}");
    eventually("nothing of it counts", 20, || {
        sidewatch.value("sidewatch_queue_full_total").filter(|full| *full >= 1.0)
    });
    assert_eq!(sidewatch.value("b"), None);
}

/// Above the rate limit of the source nothing of a request is taken, and its sender is told when to come again.
#[test]
fn a_rate_limit_asks_to_come_again() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), "profile: testing\nsources: {otlp: {otlp: {}, rate_limit: {events: 3/h}}}\n");
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let json = [("content-type", "application/json")];
    let post = |path: &str, body: &[u8]| exchange(sidewatch.ingest, "POST", path, &json, body);
    let points = br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"b","gauge":{"dataPoints":[{"asInt":1},{"asInt":2,"attributes":[{"key":"a","value":{"stringValue":"x"}}]}]}}]}]}]}"#;
    let log = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]}"#;
    assert_eq!(post("/v1/metrics", points).0, 200);
    let (status, head, body) = post("/v1/metrics", points);
    assert_eq!(status, 429, "two points, and one may pass: {head}{body}");
    assert!(head.contains("retry-after: ") && body.starts_with(r#"{"code":8,"#), "{head}{body}");
    assert_eq!(post("/v1/logs", log).0, 200, "what was refused spent nothing");
    assert_eq!(post("/v1/logs", log).0, 429);
    sidewatch.is_about(r#"sum(sidewatch_rate_limited_events_total{source="otlp",outcome="refused"})"#, 3.0);
}
