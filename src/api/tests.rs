//! The two routers before a core of their own, without sockets but for the last test.

use super::*;
use crate::config::Diagnostics;
use crate::config::schema::{FormatConfig, Rate, RateLimitConfig};
use crate::engine::{Input, InputSample};
use crate::model::Labels;
use crate::source::decode::{DecodeLimits, Decoder};
use crate::source::rate::RateLimits;
use crate::source::{Ingest, IngestQueue, QueueLimits, queue};
use crate::telemetry::clock;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{Request, StatusCode};
use serde_json::Value;
use std::time::Duration;
use tower::ServiceExt;

const T0_MS: i64 = 1_700_000_000_000;

/// Everything a test needs; the core runs on the test's own runtime.
pub(super) struct Bench {
    runtime: tokio::runtime::Runtime,
    backend: Shared,
    pub(super) observe: Router,
    pub(super) ingest: Router,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    headers: http::HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

fn source(name: &str) -> PushSource {
    let decoder = Decoder::compile(&FormatConfig::default(), DecodeLimits::default(), &mut Diagnostics::new());
    PushSource {
        name: name.into(),
        decoder: Arc::new(decoder.unwrap()),
        overflow: Default::default(),
        limits: None,
        ack_checkpoint: false,
    }
}

/// Takes what is pushed and runs what handlers ask for, as `app` does.
async fn run_core(mut core: Core, mut jobs: tokio::sync::mpsc::Receiver<CoreJob<Core>>, mut events: IngestQueue) {
    loop {
        tokio::select! {
            biased;
            inputs = events.receive(64) => {
                for input in inputs {
                    match input {
                        Ingest::Batch(batch, _) => core.engine.observe(clock::now(), [Input::Events(batch)]),
                        Ingest::State { source, state } => {
                            core.engine.observe(clock::now(), [Input::Source { name: source, state }]);
                        }
                        Ingest::Scrape(batch) => core.engine.observe(clock::now(), [Input::Scrape(batch)]),
                        Ingest::Counts(batch) => core.engine.observe(clock::now(), [Input::Counts(batch)]),
                        Ingest::Received(batch) => core.engine.observe(clock::now(), [Input::Received(batch)]),
                        Ingest::ScrapeTargets(all) => core.engine.observe(clock::now(), [Input::ScrapeTargets(all)]),
                        Ingest::Position { .. } => unreachable!("no source runs here"),
                    }
                }
            }
            () = tokio::time::sleep(Duration::from_millis(200)) => core.engine.tick(clock::now()),
            job = jobs.recv() => match job {
                Some(job) => job(&mut core, clock::now()),
                None => return,
            },
        }
    }
}

fn bench_with(limits: Limits, queue_bytes: usize) -> Bench {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let now = Timestamp::from_millis(T0_MS);
    let plan = Arc::new(FieldPlan::default());
    let mut core = Core::new(&test_parts(plan.clone()), now);
    let samples = (0..60).flat_map(|second| {
        [("a", 2.0), ("b", 1.0)].map(|(job, factor)| InputSample {
            labels: Labels::from_pairs([("__name__", "work_total"), ("kind", job)]),
            t_ms: T0_MS + second * 1_000,
            value: second as f64 * factor,
        })
    });
    core.engine.observe(now, [Input::Samples(samples.collect())]);
    let (handle, jobs) = core_channel();
    let (sink, events) = queue(QueueLimits { batches: 16, bytes: queue_bytes });
    runtime.spawn(run_core(core, jobs, events));
    let readiness = Readiness::default();
    readiness.set_ready();
    let reload: ReloadCall = Box::new(|| Box::pin(async { Err("sidewatch.yaml:1:1: nonsense".to_owned()) }));
    let backend = Backend::new(Parts {
        core: handle,
        identity: Identity { service: "shop".into(), instance: "i1".into(), started: clock::now() },
        addresses: Addresses { observe: "127.0.0.1:9180".parse().unwrap(), ingest: "127.0.0.1:9181".parse().unwrap() },
        limits,
        push: Push { plan, sources: vec![source("push")], otlp: Some(source("push")) },
        sink,
        surroundings: Surroundings {
            outbox: Box::new(|| crate::notify::Outbox::new(10, 1).status()),
            deliveries: Deliveries::new(
                crate::notify::Outbox::new(10, 1),
                Arc::new(crate::notify::Routing::terminal()),
                crate::notify::Courier::new(crate::notify::Terminal::new(false, |_| {}), ""),
                Arc::new(clock::now),
            ),
            history: StateStore::in_memory().unwrap(),
            exports: Box::new(Vec::new),
            watchdog: Box::new(|| None),
            reload_status: Box::new(|| ReloadStatus { succeeded: true, at: Timestamp::EPOCH, error: String::new() }),
            stored: Box::new(|_| Box::pin(async { true })),
            self_metrics: Box::new(|| "# TYPE sidewatch_x_total counter\nsidewatch_x_total 1\n".into()),
        },
        reload,
        readiness,
        closing: CancellationToken::new(),
    });
    let (observe, ingest) = routers();
    Bench { runtime, observe: observe.with_state(backend.clone()), ingest: ingest.with_state(backend.clone()), backend }
}

pub(super) fn bench() -> Bench {
    bench_with(Limits::default(), 1 << 20)
}

impl Bench {
    pub(super) fn send(&self, router: &Router, request: Request<Body>, peer: &str) -> Answer {
        let mut request = request;
        request.extensions_mut().insert(ConnectInfo(listen::Peer(peer.parse().unwrap())));
        let router = router.clone();
        self.runtime.block_on(async move {
            let response = router.oneshot(request).await.unwrap();
            let (status, headers) = (response.status(), response.headers().clone());
            let bytes = axum::body::to_bytes(response.into_body(), 1 << 24).await.unwrap();
            Answer { status, headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
        })
    }

    pub(super) fn get(&self, path: &str) -> Answer {
        self.send(&self.observe, Request::get(path).body(Body::empty()).unwrap(), "127.0.0.1:5")
    }

    pub(super) fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = Request::post(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(&self.ingest, request.body(Body::from(body.to_vec())).unwrap(), "127.0.0.1:5")
    }

    /// Asks until the answer is as wanted.
    fn eventually(&self, path: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = clock::instant() + Duration::from_secs(10);
        loop {
            let answer = self.get(path).json();
            if is_wanted(&answer) {
                return answer;
            }
            assert!(clock::instant() < deadline, "{path}: {answer}");
            std::thread::yield_now();
        }
    }
}

/// A query at the last sample.
fn at_end(endpoint: &str, query: &str) -> String {
    format!("/api/v1/{endpoint}?query={query}&time={}", T0_MS / 1_000 + 59)
}

#[test]
fn a_query_without_a_time_is_answered_at_the_cores() {
    let bench = bench();
    let ahead = clock::now().plus_millis(3_600_000);
    bench.runtime.block_on(bench.backend.core.call(move |core, _| core.engine.tick(ahead))).unwrap();
    let answer = bench.get("/api/v1/query?query=time()").json();
    assert_eq!(answer["data"]["result"][0].as_f64(), Some(ahead.millis() as f64 / 1e3), "{answer}");
    let asked = bench.get("/api/v1/query?query=time()&time=12.5").json();
    assert_eq!(asked["data"]["result"][0].as_f64(), Some(12.5), "{asked}");
}

#[test]
fn queries_answer_in_the_envelope_of_prometheus() {
    let bench = bench();
    let answer = bench.get(&at_end("query", "sum(work_total)"));
    let expected =
        r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1700000059,"177"]}]}}"#;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, expected));
    assert_eq!(answer.headers["content-type"], "application/json");

    let form = format!("query=work_total%7Bkind%3D%22a%22%7D&start={0}&end={0}.5&step=500ms", T0_MS / 1_000 + 10);
    let content_type = [("content-type", "application/x-www-form-urlencoded")];
    let answer = bench.post("/api/v1/query_range", &content_type, form.as_bytes());
    assert!(answer.text.contains(r#""values":[[1700000010,"20"],[1700000010.500,"20"]]"#), "{}", answer.text);

    for (path, status, kind, part) in [
        ("/api/v1/query?query=sum(", 400, "bad_data", "unclosed left parenthesis"),
        ("/api/v1/query", 400, "bad_data", "invalid parameter \"query\""),
        ("/api/v1/query?query=1&time=x", 400, "bad_data", "cannot parse \"x\" to a valid timestamp"),
        ("/api/v1/query?query=1&timeout=x", 400, "bad_data", "cannot parse \"x\" to a valid duration"),
        ("/api/v1/query_range?query=1&start=2&end=1&step=1", 400, "bad_data", "end timestamp must not be before start"),
        ("/api/v1/query_range?query=1&start=1&end=2&step=0", 400, "bad_data", "zero or negative query resolution"),
        ("/api/v1/query_range?query=1&start=0&end=11001&step=1", 400, "bad_data", "exceeded maximum resolution"),
        ("/api/v1/query_range?query=1&end=2&step=1", 400, "bad_data", "invalid parameter \"start\""),
        ("/api/v1/series", 400, "bad_data", "no match[] parameter provided"),
        ("/api/v1/labels?match[]=%7B", 400, "bad_data", "invalid parameter \"match[]\""),
    ] {
        let answer = bench.get(path);
        let body = answer.json();
        assert_eq!((answer.status.as_u16(), &body["errorType"]), (status, &Value::from(kind)), "{path}: {body}");
        assert!(body["error"].as_str().unwrap().contains(part), "{path}: {body}");
    }
    let answer = bench.get(&(at_end("query", "work_total") + "&limit=1")).json();
    assert_eq!(answer["data"]["result"].as_array().unwrap().len(), 1);
    assert_eq!(answer["warnings"][0], "results truncated due to limit");
}

#[test]
fn labels_and_series_are_found() {
    let bench = bench();
    let labels = bench.get("/api/v1/labels").json()["data"].clone();
    assert!(labels.as_array().unwrap().contains(&"kind".into()), "{labels}");
    assert_eq!(bench.get("/api/v1/label/kind/values").json()["data"], serde_json::json!(["a", "b"]));
    let series = bench.get("/api/v1/series?match[]=work_total%7Bkind=%22a%22%7D").json()["data"].clone();
    assert_eq!((series.as_array().unwrap().len(), &series[0]["kind"]), (1, &Value::from("a")));
    assert_eq!(bench.get("/api/v1/query_exemplars?query=up&start=1&end=2").text, r#"{"status":"success","data":[]}"#);
    assert_eq!(
        bench.get("/api/v1/format_query?query=sum(rate(a[5m]))by(x)").text,
        r#"{"status":"success","data":"sum by (x) (rate(a[5m]))"}"#
    );
    assert!(bench.get("/api/v1/status/buildinfo").json()["data"]["version"].as_str().unwrap().starts_with("3."));
    for path in ["rules", "alerts", "metadata", "status/runtimeinfo", "status/flags", "status/tsdb"] {
        assert_eq!(bench.get(&format!("/api/v1/{path}")).json()["status"], "success", "{path}");
    }
}

#[test]
fn a_push_is_answered_item_by_item_and_seen() {
    let bench = bench();
    let json = [("content-type", "application/json")];
    let answer = bench.post("/events", &json, br#"[{"type":"a","id":"1"},{"no":"type"},{"type":"b","id":"2"}]"#);
    let body = answer.json();
    assert_eq!(
        (answer.status, &body["accepted"], &body["refused"][0]["item"]),
        (StatusCode::BAD_REQUEST, &2.into(), &1.into())
    );
    assert!(
        body["refused"][0]["reason"].is_string() && body["error"].is_string() && body["hint"].is_string(),
        "{body}"
    );
    // What curl sends without saying what it is.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = bench.post("/events?source=push", &form, br#"{"type":"c","id":"3","payload":{"secret":1}}"#);
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::ACCEPTED, r#"{"accepted":1,"refused":[]}"#));

    let events = bench.eventually("/api/events", |body| body["events"].as_array().unwrap().len() == 3);
    assert_eq!((&events["events"][0]["type"], &events["events"][0]["payload"]["id"]), (&"c".into(), &"3".into()));
    let far = bench.send(&bench.observe, Request::get("/api/events?type=c").body(Body::empty()).unwrap(), "10.0.0.9:5");
    let far = far.json();
    assert_eq!((&far["payloads"], far["events"].as_array().unwrap().len()), (&"hidden".into(), 1));
    assert!(far["events"][0].get("payload").is_none(), "{far}");
    assert_eq!(bench.get("/api/events?limit=0").status, StatusCode::BAD_REQUEST);

    let dashboard = bench.get("/api/dashboard").json();
    assert_eq!((&dashboard["service"], &dashboard["rate"]["now"].is_number()), (&"shop".into(), &true), "{dashboard}");
    for key in ["health", "errors", "latency", "alerts", "sources", "types", "queue", "series", "notifications"] {
        assert!(!dashboard[key].is_null(), "{key} is missing in {dashboard}");
    }
    assert_eq!(bench.get("/api/status").json()["events"]["total"], 3);
}

#[test]
fn what_cannot_be_taken_is_refused_with_the_right_status() {
    let bench = bench_with(Limits { body_bytes: 100, ..Limits::default() }, 60);
    let json = ("content-type", "application/json");
    let event = br#"{"type":"a"}"#;
    for (path, headers, body, expected) in [
        ("/events", vec![json], vec![b' '; 101], StatusCode::PAYLOAD_TOO_LARGE),
        ("/events", vec![json], Vec::new(), StatusCode::BAD_REQUEST),
        ("/events", vec![("content-type", "image/png")], event.to_vec(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("/events/nobody", vec![json], event.to_vec(), StatusCode::NOT_FOUND),
        ("/events", vec![json, ("origin", "https://evil.example")], event.to_vec(), StatusCode::FORBIDDEN),
        ("/-/reload", vec![("origin", "https://evil.example")], Vec::new(), StatusCode::FORBIDDEN),
        ("/-/reload", vec![], Vec::new(), StatusCode::BAD_REQUEST),
        ("/health", vec![], Vec::new(), StatusCode::METHOD_NOT_ALLOWED),
        ("/nothing", vec![], Vec::new(), StatusCode::NOT_FOUND),
    ] {
        let answer = bench.post(path, &headers, &body);
        assert_eq!(answer.status, expected, "{path} {headers:?}: {}", answer.text);
        let body = answer.json();
        assert!(body["error"].is_string() && body["hint"].is_string(), "{body}");
    }
    assert!(bench.post("/events", &[json], &[b' '; 101]).text.contains("100 bytes"));
    let large = format!(r#"{{"type":"a","id":"{}"}}"#, "x".repeat(60));
    let answer = bench.post("/events", &[json], large.as_bytes());
    assert_eq!((answer.status, answer.headers["retry-after"].to_str().unwrap()), (StatusCode::TOO_MANY_REQUESTS, "1"));
}

#[test]
fn the_wrong_listener_names_the_right_one_and_the_right_one_has_everything() {
    let bench = bench();
    let push = || Request::post("/events").body(Body::from("{}")).unwrap();
    let answer = bench.send(&bench.observe, push(), "127.0.0.1:5");
    assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST);
    assert!(answer.json()["hint"].as_str().unwrap().contains("http://127.0.0.1:9181/events"), "{}", answer.text);
    for path in ["/livez", "/readyz", "/startupz", "/-/healthy", "/-/ready", "/", "/app.js", "/openapi.json", "/health"]
    {
        for router in [&bench.observe, &bench.ingest] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            assert_eq!(bench.send(router, request, "127.0.0.1:5").status, StatusCode::OK, "{path}");
        }
    }
    let head = Request::head("/livez").body(Body::empty()).unwrap();
    assert_eq!(bench.send(&bench.observe, head, "127.0.0.1:5").status, StatusCode::OK);
    bench.backend.readiness.set_stopping();
    assert_eq!((bench.get("/readyz").status.as_u16(), bench.get("/livez").status.as_u16()), (503, 200));
}

#[test]
fn health_says_how_the_service_and_sidewatch_are() {
    let bench = bench();
    let full = bench.get("/health").json();
    assert_eq!((&full["status"], &full["checks"]), (&"healthy".into(), &serde_json::json!({})), "{full}");
    assert_eq!(
        (&full["sidewatch"]["queue"]["capacity"], &full["sidewatch"]["configuration"]["succeeded"]),
        (&16.into(), &true.into())
    );
    let short = bench.get("/health?verbose=false").json();
    assert_eq!(short, serde_json::json!({"status": "healthy", "service": "shop", "instance": "i1"}));
}

#[test]
fn the_webhook_handshake_grants_the_origin() {
    let bench = bench();
    let options = |headers: &[(&str, &str)]| {
        let mut request = Request::options("/events");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        bench.send(&bench.ingest, request.body(Body::empty()).unwrap(), "127.0.0.1:5")
    };
    let granted = options(&[("webhook-request-origin", "bus.example")]);
    assert_eq!(
        (granted.status, &granted.headers["webhook-allowed-origin"]),
        (StatusCode::OK, &http::HeaderValue::from_static("bus.example"))
    );
    assert!(granted.headers.contains_key("allow"));
    assert_eq!(options(&[]).status, StatusCode::NO_CONTENT);
}

#[test]
fn metrics_come_in_the_form_that_is_preferred() {
    let bench = bench();
    let metrics = |accept: &str| {
        let request = Request::get("/metrics").header("accept", accept).body(Body::empty()).unwrap();
        bench.send(&bench.observe, request, "127.0.0.1:5")
    };
    let text = metrics("text/plain;version=0.0.4");
    assert_eq!(text.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.text.contains("# TYPE sidewatch_x_total counter\nsidewatch_x_total 1\n"), "{}", text.text);
    let open = metrics("application/openmetrics-text;version=1.0.0;q=0.9,text/plain;q=0.1");
    assert_eq!(open.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.text.ends_with("# TYPE sidewatch_x counter\nsidewatch_x_total 1\n# EOF\n"), "{}", open.text);
}

#[test]
fn answers_and_pushes_may_be_compressed() {
    let bench = bench();
    let request = Request::get("/app.js").header("accept-encoding", "gzip").body(Body::empty()).unwrap();
    let mut request = request;
    request.extensions_mut().insert(ConnectInfo(listen::Peer("127.0.0.1:5".parse().unwrap())));
    let response = bench.runtime.block_on(bench.observe.clone().oneshot(request)).unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    // gzip of {"type":"a","id":"1"}
    let packed = gzip_stored(br#"{"type":"a","id":"1"}"#);
    let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let answer = bench.post("/events", &headers, &packed);
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::ACCEPTED, r#"{"accepted":1,"refused":[]}"#));
    let broken = bench.post("/events", &headers, b"no gzip");
    assert_eq!(broken.status, StatusCode::BAD_REQUEST, "{}", broken.text);
    let unknown = bench.post("/events", &[("content-encoding", "br")], b"x");
    assert_eq!(unknown.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{}", unknown.text);
}

/// A gzip member with one stored block (RFC 1952, RFC 1951 section 3.2.4).
fn gzip_stored(bytes: &[u8]) -> Vec<u8> {
    let len = bytes.len() as u16;
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    out.extend(len.to_le_bytes());
    out.extend((!len).to_le_bytes());
    out.extend(bytes);
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (0_u32.wrapping_sub(crc & 1))))
    });
    out.extend((!crc).to_le_bytes());
    out.extend((bytes.len() as u32).to_le_bytes());
    out
}

#[test]
fn a_listener_serves_and_ends_with_its_live_streams() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let bench = bench();
    let (observe, _) = routers();
    let backend = bench.backend.clone();
    let serving = async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let closing = backend.closing.clone();
        let served = serve(listener, observe, backend.clone(), closing.clone().cancelled_owned());
        let client = async {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /api/events?live HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut head = vec![0; 200];
            let read = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
            closing.cancel();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        };
        let (served, ()) = tokio::join!(served, client);
        served.unwrap();
    };
    bench.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), serving).await.unwrap() });
}

fn test_parts(plan: Arc<FieldPlan>) -> crate::engine::Parts {
    crate::engine::Parts {
        plan,
        mappings: crate::mapping::Mappings::compile(
            &[],
            &mut crate::model::FieldPlanBuilder::default(),
            &mut Diagnostics::new(),
        ),
        checks: crate::health::Checks::default(),
        rule_set: crate::rules::RuleSet::default(),
        routing: Arc::new(crate::notify::Routing::terminal()),
        event_logs: Vec::new().into(),
        sources: Vec::new(),
        redactor: Default::default(),
        schemas: Default::default(),
        base_labels: Labels::from_pairs([("job", "shop"), ("instance", "i1")]),
        limits: Limits::default(),
        taps: Arc::new([]),
    }
}

#[test]
fn a_full_queue_spends_nothing_of_the_rate_limit() {
    let bench = bench_with(Limits::default(), 60);
    let limit = RateLimitConfig { events: Some(Rate { count: 1.0, per_ms: 3_600_000 }), ..Default::default() };
    let mut push = Push::clone(&bench.backend.push.load_full());
    push.sources[0].limits = Some(Arc::new(RateLimits::new("push".into(), &limit)));
    bench.backend.push.store(Arc::new(push));
    let json = [("content-type", "application/json")];
    let large = format!(r#"{{"type":"a","id":"{}"}}"#, "x".repeat(60));
    for _ in 0..3 {
        let answer = bench.post("/events", &json, large.as_bytes());
        assert!(answer.text.contains("the queue is full"), "{}", answer.text);
    }
    assert_eq!(bench.post("/events", &json, br#"{"type":"a"}"#).status, StatusCode::ACCEPTED);
    assert!(bench.post("/events", &json, br#"{"type":"a"}"#).text.contains("rate limit of this source"));
}
