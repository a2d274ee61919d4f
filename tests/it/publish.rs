//! The life cycle as events, publishers and OTLP, through the real binary.

#[path = "../../src/source/wire.rs"]
#[allow(dead_code, reason = "the reader is used, the writer is not")]
mod wire;

mod brokers;
mod sink;

use crate::harness::{Sidewatch, eventually, free_port, run};
use serde_json::{Value, json};
use sink::Sink;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use wire::{Reader, Value as Wire};

pub fn configure(dir: &Path, text: &str) {
    std::fs::write(
        dir.join("sidewatch.yaml"),
        format!("bundled_rules: false\nservice: {{name: shop, instance: a}}\n{text}"),
    )
    .unwrap();
}

fn push(sidewatch: &Sidewatch, events: &str) {
    let (status, answer) = sidewatch.post("/events", "application/json", events.as_bytes());
    assert!(status == 200 || status == 202, "{status} {answer}");
}

fn types(sidewatch: &Sidewatch) -> Vec<String> {
    let events = sidewatch.json("/api/events?limit=200");
    let list = events["events"].as_array().cloned().unwrap_or_default();
    list.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

fn reload(sidewatch: &Sidewatch) -> u16 {
    sidewatch.post("/-/reload", "text/plain", b"").0
}

#[test]
fn the_life_cycle_is_events_of_the_stream_and_of_nobody_elses_counters() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let text = format!(
        "sources: {{push: {{http: {{}}}}}}\n\
         metrics: {{own_total: {{counter: {{match: 'sidewatch.*', labels: {{type: type, reason: data.alertname}}}}}}, all_total: {{counter: {{match: '*'}}}}}}\n\
         health: {{probe: {{http: {{url: 'http://127.0.0.1:{port}/', every: 100ms, timeout: 1s}}}}}}\n\
         alerts: {{Failed: {{event: {{match: [sidewatch.check.failed, 'sidewatch.alert.*'], count: '>= 1', within: 1s}}}}, Any: {{event: {{match: '*', count: '>= 1', within: 1m}}}}}}\n"
    );
    configure(dir.path(), &text);
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    eventually("the failed check", 20, || types(&sidewatch).contains(&"sidewatch.check.failed".into()).then_some(()));
    let listener = Sink::on(port);
    eventually("the recovered check", 20, || {
        types(&sidewatch).contains(&"sidewatch.check.recovered".into()).then_some(())
    });
    drop(listener);
    std::fs::write(dir.path().join("sidewatch.yaml"), "nonsense: [").unwrap();
    assert_eq!(reload(&sidewatch), 400);
    configure(dir.path(), &format!("{text}external_labels: {{zone: a}}\n"));
    assert_eq!(reload(&sidewatch), 200);
    eventually("both reloads", 20, || {
        let seen = types(&sidewatch);
        let has = |name: &str| seen.iter().any(|known| known == name);
        (has("sidewatch.started") && has("sidewatch.reloaded") && has("sidewatch.reload_failed")).then_some(())
    });
    let metric = |name: &str| sidewatch.value(&format!("sum(own_total{{type=\"{name}\"}})"));
    eventually("they are mapped", 20, || (metric("sidewatch.reloaded") >= Some(1.0)).then_some(()));
    // What an event of the life cycle fires is heard of by no rule and no counter again.
    eventually("the alert has fired and ended", 20, || {
        let fired = sidewatch.json("/api/v1/query?query=ALERTS%7Balertname%3D%22Failed%22%7D%5B1m%5D");
        let now = sidewatch.value("ALERTS{alertname=\"Failed\"}");
        (fired["data"]["result"][0].is_object() && now.is_none()).then_some(())
    });
    assert_eq!(metric("sidewatch.alert.firing"), None);
    assert_eq!(sidewatch.value("sum(events_total)"), None, "the service has said nothing");
    assert_eq!(sidewatch.value("all_total").unwrap_or(0.0), 0.0);
    assert!(sidewatch.value("sidewatch_lifecycle_events_total{type=\"sidewatch.alert.firing\"}") >= Some(1.0));
    let events = sidewatch.json("/api/events?limit=200");
    let started =
        events["events"].as_array().unwrap().iter().find(|event| event["type"] == "sidewatch.started").unwrap();
    assert_eq!(started["source"], "sidewatch");
    push(&sidewatch, r#"{"type": "a.b", "id": "1"}"#);
    eventually("an event of the service", 20, || (sidewatch.value("sum(events_total)") == Some(1.0)).then_some(()));
    eventually("an alert of the service is an event", 20, || {
        let firing = sidewatch.value("sum(own_total{type=\"sidewatch.alert.firing\", reason=\"Any\"})");
        (firing == Some(1.0)).then_some(())
    });
}

#[test]
fn events_are_published_at_least_once_through_kills_and_outages() {
    let dir = tempfile::tempdir().unwrap();
    let (good, hanging, refusing) = (Sink::start(), Sink::start(), Sink::start());
    hanging.hang();
    refusing.answer(400);
    let text = format!(
        "sources: {{push: {{http: {{}}}}}}\nstate: {{dir: state, checkpoint_interval: 50ms}}\n\
         alerts: {{Seen: {{event: {{match: a.b, count: '>= 1', within: 500ms, by: data.n}}, annotations: {{summary: 's {{{{ $value }}}}'}}}}}}\n\
         publish:\n  good: {{http: {{url: '{}'}}}}\n  alerts: {{http: {{url: '{}', mode: binary}}, events: alerts, match: 'sidewatch.alert.firing'}}\n  \
         hanging: {{http: {{url: '{}'}}}}\n  refusing: {{http: {{url: '{}'}}}}\n",
        good.url("/all"),
        good.url("/binary"),
        hanging.url("/"),
        refusing.url("/"),
    );
    configure(dir.path(), &text);
    let mut sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let ids = |what: &str| -> BTreeMap<String, usize> {
        let mut ids = BTreeMap::new();
        for request in good.taken().iter().filter(|request| request.path == "/all") {
            let event: Value = serde_json::from_slice(&request.body).unwrap();
            assert_eq!(request.header("content-type").unwrap(), "application/cloudevents+json; charset=utf-8");
            assert_eq!((&event["specversion"], &event["source"]), (&json!("1.0"), &json!("sidewatch")));
            if event["type"] == what {
                *ids.entry(event["data"]["labels"]["n"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
            }
        }
        ids
    };
    for round in 0..3 {
        good.answer(if round == 1 { 503 } else { 200 });
        push(&sidewatch, &format!(r#"{{"type": "a.b", "id": "{round}", "data": {{"n": "{round}"}}}}"#));
        eventually("it fires", 20, || {
            sidewatch.value(&format!("count(sidewatch_lifecycle_events_total{{type=\"sidewatch.alert.firing\"}}) and on() count_over_time(ALERTS{{n=\"{round}\"}}[1m])")).map(drop)
        });
        if round > 0 {
            // The decision may stand in no checkpoint yet: wait for two.
            let written = || sidewatch.value("sidewatch_checkpoint_seconds_count").unwrap_or(0.0);
            let before = written();
            eventually("two checkpoints", 20, || (written() >= before + 2.0).then_some(()));
            sidewatch.kill();
            good.answer(200);
            sidewatch = Sidewatch::start(dir.path(), "run", &[]);
        }
        eventually("it is published", 20, || {
            ids("sidewatch.alert.firing").contains_key(&round.to_string()).then_some(())
        });
    }
    eventually("all ends", 20, || (ids("sidewatch.alert.resolved").len() == 3).then_some(()));
    let first = good.taken().into_iter().find(|request| request.path == "/binary").unwrap();
    assert_eq!(first.header("ce-type"), Some("sidewatch.alert.firing"));
    assert_eq!(first.header("ce-specversion"), Some("1.0"));
    let data: Value = serde_json::from_slice(&first.body).unwrap();
    assert_eq!((&data["status"], &data["alertname"], &data["value"]), (&json!("firing"), &json!("Seen"), &json!(1.0)));
    assert_eq!(data["annotations"]["summary"], "s 1");
    let done = || sidewatch.value("sidewatch_publish_pending{publisher=\"good\"}") == Some(0.0);
    eventually("nothing waits for the good one", 20, || done().then_some(()));
    let figure = |name: &str, key: &str| {
        let status = sidewatch.json("/api/status");
        status["exports"].as_array()?.iter().find(|one| one["name"] == name)?[key].as_u64()
    };
    eventually("one refuses", 20, || (figure("refusing", "dropped") >= Some(1)).then_some(()));
    eventually("one hangs", 20, || (figure("hanging", "pending") >= Some(1)).then_some(()));
    eventually("the good one has nothing left", 20, || {
        let status = sidewatch.json("/api/status");
        let good = status["exports"].as_array()?.iter().find(|one| one["name"] == "good")?.clone();
        (good["state"] == "sending" && good["pending"] == 0).then_some(())
    });
    let before = Instant::now();
    assert_eq!(sidewatch.terminate(), Some(0));
    assert!(before.elapsed() < Duration::from_secs(9), "a receiver that hangs holds up the end");
    let last = good.taken().into_iter().rfind(|request| request.path == "/all").unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&last.body).unwrap()["type"], "sidewatch.stopping");
}

/// The messages in a field of a message.
fn inner<'a>(message: &'a [u8], field: u32) -> Vec<Wire<'a>> {
    let (mut reader, mut found) = (Reader::new(message), Vec::new());
    while let Some((number, value)) = reader.field().unwrap() {
        if number == field {
            found.push(value);
        }
    }
    found
}

fn path<'a>(message: &'a [u8], fields: &[u32]) -> Vec<&'a [u8]> {
    fields.iter().fold(vec![message], |messages, field| {
        messages.into_iter().flat_map(|message| inner(message, *field)).map(|value| value.bytes().unwrap()).collect()
    })
}

fn fixed(value: Wire<'_>) -> u64 {
    if let Wire::Fixed64(value) = value { value } else { panic!("{value:?}") }
}

#[test]
fn otlp_takes_cumulative_metrics_and_spans() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    sink.answer(503);
    let text = format!(
        "sources: {{push: {{http: {{}}}}}}\nmetrics: {{took_seconds: {{histogram: {{match: order.placed, value: data.took, unit: ms}}}}}}\n\
         export: {{otel: {{otlp: {{url: '{}', traces: true, interval: 200ms}}}}}}\n",
        sink.url("/base")
    );
    configure(dir.path(), &text);
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    push(
        &sidewatch,
        &format!(
            r#"{{"specversion":"1.0","type":"order.placed","id":"1","source":"s","time":"2026-01-01T00:00:10Z","traceparent":"00-{trace}-{span}-01","data":{{"duration_ms":1500,"took":3,"status":"failed"}}}}"#
        ),
    );
    eventually("an attempt that fails", 20, || {
        (sidewatch.value("sum(sidewatch_otlp_failed_total)") > Some(0.0)).then_some(())
    });
    sink.answer(200);
    let spans = eventually("the span", 30, || {
        let requests = sink.taken();
        let bodies = requests.iter().filter(|request| request.path == "/base/v1/traces").map(|request| request.plain());
        bodies.map(|body| path(&body, &[1, 2, 2]).iter().map(|span| span.to_vec()).collect::<Vec<_>>()).next()
    });
    assert_eq!(spans.len(), 1);
    let one = |field| inner(&spans[0], field)[0];
    let hex = |value: Wire<'_>| value.bytes().unwrap().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!((hex(one(1)), hex(one(4)), one(5).text().unwrap()), (trace.into(), span.into(), "order.placed"));
    assert_eq!(fixed(one(8)) - fixed(one(7)), 1_500_000_000);
    assert_eq!(fixed(one(8)), 1_767_225_610_000_000_000);
    assert_eq!(inner(one(15).bytes().unwrap(), 3)[0].uint(), Ok(2), "failed");
    let mut found = BTreeMap::new();
    eventually("metrics", 30, || {
        for request in sink.taken().iter().filter(|request| request.path == "/base/v1/metrics") {
            let body = request.plain();
            for metric in path(&body, &[1, 2, 2]) {
                found.insert(inner(metric, 1)[0].text().unwrap().to_owned(), metric.to_vec());
            }
        }
        (found.contains_key("events_total") && found.contains_key("took_seconds")).then_some(())
    });
    let sum = path(&found["events_total"], &[7])[0];
    assert_eq!((inner(sum, 2)[0].uint(), inner(sum, 3)[0].uint()), (Ok(2), Ok(1)), "cumulative, monotonic");
    let point = inner(sum, 1)[0].bytes().unwrap();
    assert_eq!(inner(point, 4)[0].double(), Ok(1.0));
    assert!(fixed(inner(point, 2)[0]) <= fixed(inner(point, 3)[0]));
    let point = path(&found["took_seconds"], &[10, 1])[0];
    assert_eq!(
        (fixed(inner(point, 4)[0]), inner(point, 5)[0].double(), inner(point, 6)[0].sint()),
        (1, Ok(0.003), Ok(3))
    );
    let buckets = inner(point, 8)[0].bytes().unwrap();
    // 0.003 lies in (2^(i/8), 2^((i+1)/8)].
    let index = inner(buckets, 1)[0].sint().unwrap();
    assert!(2_f64.powf(index as f64 / 8.0) < 0.003 && 0.003 <= 2_f64.powf((index + 1) as f64 / 8.0), "{index}");
}

#[test]
fn check_warns_of_circles_and_names_what_it_refuses() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), "sources: {sidewatch: {http: {}}}\n");
    let (code, _, err) = run(dir.path(), &["check"]);
    assert!(code == 2 && err.contains("the source sidewatch is built in"), "{code} {err}");
    configure(dir.path(), "publish: {a: {http: {url: 'http://127.0.0.1:9181/events'}}}\n");
    let (code, out, err) = run(dir.path(), &["check"]);
    assert!(code == 0 && format!("{out}{err}").contains("publishes to this sidewatch itself"), "{code} {out} {err}");
}
