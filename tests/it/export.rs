//! What leaves besides messages, through the real binary: remote write into Debian's Prometheus, receivers that are ill, and
//! lines for events.

use crate::differential::Prometheus;
use crate::harness::{Receiver, Sidewatch, encode, eventually, free_port, get, run};
use std::path::Path;

const STILL: &str = "global: {scrape_interval: 1h}\n";

fn value(port: u16, query: &str) -> Option<f64> {
    if std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        return None;
    }
    let (_, body) = get(port, &format!("/api/v1/query?query={}", encode(query)));
    let answer: serde_json::Value = serde_json::from_str(&body).ok()?;
    answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}

fn push(sidewatch: &Sidewatch, count: usize, region: &str) {
    let one = format!(r#"{{"id":"x","type":"order.placed","payload":{{"region":"{region}","duration_ms":20}}}}"#);
    let body = vec![one; count].join("\n");
    assert_eq!(sidewatch.post("/events", "application/x-ndjson", body.as_bytes()).0, 202);
}

fn configure(dir: &Path, export: &str) {
    let text = format!(
        "service: {{name: shop, instance: one}}\nexternal_labels: {{cluster: test}}\nbundled_rules: false\n\
         sources: {{push: {{http: {{}}}}}}\nstate: {{dir: state, checkpoint_interval: 50ms}}\n\
         metrics:\n  orders_total: {{counter: {{match: order.placed, labels: {{region: data.region}}}}}}\n\
         \x20 order_seconds: {{histogram: {{match: order.placed, value: data.duration_ms, unit: ms}}}}\n{export}"
    );
    std::fs::write(dir.join("sidewatch.yaml"), text).unwrap();
}

#[test]
fn prometheus_gets_every_series_through_a_kill_and_an_outage() {
    let (dir, theirs, port) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), free_port());
    let Some((prometheus, _)) = Prometheus::start_with(theirs.path(), STILL, port) else { return };
    let export = format!(
        "export:\n  far:\n    remote_write:\n      url: http://127.0.0.1:{port}/api/v1/write\n      interval: 1s\n\
         \x20     write_relabel_configs: [{{action: drop, source_labels: [__name__], regex: sidewatch_.*}}]\n"
    );
    configure(dir.path(), &export);
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    push(&sidewatch, 700, "eu");
    let orders = r#"orders_total{job="shop",instance="one",cluster="test",region="eu"}"#;
    eventually("the counter is there", 30, || (value(port, orders) == Some(700.0)).then_some(()));
    let bucket = r#"order_seconds_bucket{le="0.025",cluster="test"}"#;
    eventually("the histogram as buckets", 30, || (value(port, bucket) == Some(700.0)).then_some(()));
    assert_eq!(value(port, r#"count({__name__=~"sidewatch_.*"})"#), None, "dropped by relabelling");

    drop(prometheus);
    push(&sidewatch, 300, "eu");
    let waiting = eventually("samples wait", 30, || {
        let status = sidewatch.json("/api/status")["exports"][0].clone();
        (status["state"] == "waiting" && status["pending"].as_u64() > Some(1)).then_some(status)
    });
    assert!(waiting["last_error"].as_str().is_some_and(|error| !error.is_empty()), "{waiting}");
    eventually("it is on disk", 10, || (sidewatch.value("sum(orders_total)") == Some(1_000.0)).then_some(()));
    sidewatch.kill();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    push(&sidewatch, 11, "eu");
    eventually("what waited still waits", 10, || {
        (sidewatch.json("/api/status")["exports"][0]["pending"].as_u64() >= Some(1)).then_some(())
    });
    let Some((_prometheus, _)) = Prometheus::start_with(theirs.path(), STILL, port) else { return };
    let own =
        eventually("its own count", 20, || sidewatch.value("orders_total{region=\"eu\"}").filter(|own| *own > 700.0));
    eventually("the same number there", 60, || (value(port, orders) == Some(own)).then_some(()));
    // What was read during the outage has arrived as well: the count stood still at some moment before the end.
    let seen = format!("count_over_time({orders}[2m])");
    eventually("samples of the outage", 30, || value(port, &seen).filter(|count| *count >= 4.0));
    eventually("nothing waits", 30, || (sidewatch.json("/api/status")["exports"][0]["pending"] == 0).then_some(()));
    assert_eq!(sidewatch.json("/api/status")["exports"][0]["dropped"], 0);
}

#[test]
fn an_ill_receiver_delays_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (refusing, failing, well) = (Receiver::start(400), Receiver::start(500), Receiver::start(200));
    // Accepts connections and never answers.
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut export = String::from("export:\n");
    for (name, port) in [
        ("refusing", refusing.port),
        ("failing", failing.port),
        ("hanging", hanging.local_addr().unwrap().port()),
        ("well", well.port),
    ] {
        export.push_str(&format!(
            "  {name}: {{remote_write: {{url: 'http://127.0.0.1:{port}/w', interval: 1s, timeout: 2s}}}}\n"
        ));
    }
    configure(dir.path(), &export);
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    push(&sidewatch, 5, "eu");
    eventually("the well one is served", 30, || (well.bodies().len() >= 3).then_some(()));
    let status = eventually("all have their state", 30, || {
        let exports = sidewatch.json("/api/status")["exports"].clone();
        let of = |name: &str| exports.as_array()?.iter().find(|export| export["name"] == name).cloned();
        let (refusing, failing, hanging, well) = (of("refusing")?, of("failing")?, of("hanging")?, of("well")?);
        let settled = refusing["dropped"].as_u64()? > 0
            && failing["state"] == "waiting"
            && hanging["state"] == "waiting"
            && well["sent"].as_u64()? > 0;
        settled.then_some((refusing, failing, hanging, well))
    });
    assert!(status.0["last_error"].as_str().unwrap().starts_with("400"), "{}", status.0);
    assert!(status.1["last_error"].as_str().unwrap().starts_with("500"), "{}", status.1);
    assert_eq!(sidewatch.value("sum(orders_total)"), Some(5.0));
    assert_eq!(sidewatch.get("/readyz").0, 200);
}

#[test]
fn matched_events_become_lines_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    configure(
        dir.path(),
        "export:\n  orders: {log: {match: order.*, where: {data.region: eu}, fields: [data.region, data.duration_ms], to: logs/orders.log, rotate: {bytes: 20KiB, keep: 2}}}\n\
         \x20 few: {log: {match: order.placed, sample: 10%, format: logfmt, to: logs/few.log}}\n\
         \x20 slow: {log: {match: order.placed, per_second: 3, to: logs/slow.log}}\n",
    );
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    push(&sidewatch, 10, "eu");
    push(&sidewatch, 10, "us");
    let read = |name: &str| std::fs::read_to_string(dir.path().join("logs").join(name)).unwrap_or_default();
    let text = eventually("the lines", 20, || Some(read("orders.log")).filter(|text| text.lines().count() == 10));
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&line["type"], &line["data.region"]), (&"order.placed".into(), &"eu".into()), "{line}");
    assert_eq!((&line["data.duration_ms"], &line["duration_seconds"]), (&20.into(), &0.02.into()), "{line}");
    let slow = read("slow.log").lines().count();
    assert!((3..=6).contains(&slow), "3 a second, {slow}");
    for number in 0..2_000 {
        let event = format!(r#"{{"id":"id-{number}","type":"order.placed","payload":{{"region":"eu"}}}}"#);
        if number % 500 == 0 {
            eventually("room", 10, || (read("orders.log").lines().count() < 1_000_000).then_some(()));
        }
        assert_eq!(sidewatch.post("/events", "application/json", event.as_bytes()).0, 202);
    }
    eventually("the file was begun anew", 20, || (!read("orders.log.2").is_empty()).then_some(()));
    assert!(read("orders.log").len() <= 20 << 10 && read("orders.log.3").is_empty());
    let few = eventually("one in ten", 20, || Some(read("few.log").lines().count()).filter(|count| *count > 100));
    assert!((140..=270).contains(&few), "{few} of 2,020");
    assert!(read("few.log").lines().all(|line| line.contains(" type=order.placed ")), "{}", read("few.log"));
    let exports = sidewatch.json("/api/status")["exports"].clone();
    assert!(exports.as_array().unwrap().iter().all(|export| export["dropped"] == 0), "{exports}");
}

#[test]
fn mistakes_are_said_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    configure(
        dir.path(),
        "export:\n  a: {remote_write: {url: ftp://x, queue_config: {}}}\n  b: {log: {sample: 200%}}\n  c: {remote_wite: x}\n",
    );
    let (code, _, err) = run(dir.path(), &["check"]);
    assert_eq!(code, 2);
    for expected in ["ftp://x", "queue: {bytes, age}", "a share from 0% to 100%", "did you mean \"remote_write\"?"] {
        assert!(err.contains(expected), "{expected} in\n{err}");
    }
}
