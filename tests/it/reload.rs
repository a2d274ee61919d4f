//! Saving an edited configuration: what changed takes effect at once, what is wrong is said and changes nothing.

use crate::harness::{Receiver, Sidewatch, eventually, run};
use sidewatch::app::{Parts, build};
use sidewatch::config::{Overrides, load_text};
use sidewatch::engine::{Core, Input};
use sidewatch::model::Timestamp;
use sidewatch::source::SourceState;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn configuration(hook: u16, threshold: u32) -> String {
    format!(
        "sources: {{push: {{http: {{}}}}}}\n\
         bundled_rules: false\n\
         metrics:\n  stock: {{gauge: {{match: stock.updated, value: data.quantity, labels: {{item: subject}}}}}}\n\
         alerts:\n  LowStock: {{metric: stock, by: item, below: {threshold}, severity: warning}}\n\
         notify:\n  chat: {{slack: {{url: 'http://127.0.0.1:{hook}/services/T/B/x'}}}}\n"
    )
}

#[test]
fn an_edited_alert_sends_a_slack_message_and_a_broken_edit_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let slack = Receiver::start(200);
    let file = dir.path().join("sidewatch.yaml");
    std::fs::write(&file, configuration(slack.port, 5)).unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let event = br#"{"specversion":"1.0","id":"1","source":"shop","type":"stock.updated","subject":"tea","data":{"quantity":7}}"#;
    assert_eq!(sidewatch.post("/events", "application/cloudevents+json", event).0, 202);
    eventually("the gauge", 10, || (sidewatch.value("stock{item=\"tea\"}") == Some(7.0)).then_some(()));
    assert_eq!(slack.bodies(), Vec::<String>::new());

    let saved = Instant::now();
    std::fs::write(&file, configuration(slack.port, 10)).unwrap();
    let body = eventually("a Slack message", 10, || slack.bodies().first().cloned());
    let took = slack.got.lock().unwrap()[0].0 - saved;
    println!("from saving the file to the Slack message: {took:?}");
    assert!(body.contains("LowStock") && body.contains("tea"), "{body}");

    // A broken edit: said with its place, and the old configuration goes on.
    std::fs::write(&file, configuration(slack.port, 10).replace("below:", "bellow:")).unwrap();
    eventually("the mistake in the log", 10, || sidewatch.err().contains("bellow").then_some(()));
    let answer = sidewatch.json("/api/v1/rules");
    assert_eq!(answer["data"]["groups"][0]["rules"][0]["name"], "LowStock", "{answer}");
    eventually("the metric that says so", 10, || {
        (sidewatch.value("sidewatch_config_last_reload_successful") == Some(0.0)).then_some(())
    });
}

#[test]
fn a_broken_configuration_is_told_whole_and_nothing_is_bound() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("sidewatch.yaml"),
        "lisen: {observe: '127.0.0.1:0'}\nmetrics:\n  x_total: {counter: {match: a, labls: {a: b}}}\nalerts:\n  A: {expr: 'sum(rate(x[5m])', for: 1x}\n",
    )
    .unwrap();
    for command in ["check", "run"] {
        let (code, out, err) = run(dir.path(), &[command]);
        assert_eq!(code, 2, "{command}: {out}{err}");
        for expected in ["sidewatch.yaml:1:1", "\"listen\"", "labls", "\"labels\"", "1x", "sidewatch.yaml:5:"] {
            assert!(err.contains(expected), "{command} should say {expected}:\n{err}");
        }
    }
}

#[test]
fn a_file_that_is_being_replaced_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sidewatch.yaml");
    let text = "metrics:\n  amount_total: {counter: {match: order, value: data.amount}}\n";
    std::fs::write(&file, text).unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let order = b"{\"type\":\"order\",\"data\":{\"amount\":2}}";
    assert_eq!(sidewatch.post("/events", "application/json", order).0, 202);
    sidewatch.is("amount_total", 2.0);
    let refused = |sidewatch: &Sidewatch| {
        let (status, said) = sidewatch.post("/-/reload", "text/plain", b"");
        assert!(status >= 400 && said.contains("empty or gone"), "{status} {said}");
    };
    std::fs::write(&file, "\n").unwrap();
    refused(&sidewatch);
    std::fs::remove_file(&file).unwrap();
    refused(&sidewatch);
    std::fs::write(&file, text).unwrap();
    assert_eq!(sidewatch.post("/-/reload", "text/plain", b"").0, 200);
    assert_eq!(sidewatch.post("/events", "application/json", order).0, 202);
    sidewatch.is("amount_total", 4.0);
}

#[test]
fn a_removed_source_is_not_said_to_be_up_or_lost() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sidewatch.yaml");
    let broker = "bus: {nats: {url: 'nats://127.0.0.1:1', subjects: [a]}}";
    std::fs::write(&file, format!("bundled_rules: false\nsources: {{push: {{http: {{}}}}, {broker}}}\n")).unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let up = |source: &str| sidewatch.value(&format!("sidewatch_source_up{{source=\"{source}\"}}"));
    eventually("both are known", 20, || (up("push") == Some(1.0) && up("bus") == Some(0.0)).then_some(()));
    std::fs::write(&file, "bundled_rules: false\nsources: {push: {http: {}}}\n").unwrap();
    eventually("bus is gone", 20, || up("bus").is_none().then_some(()));
    assert!(!sidewatch.get("/metrics").1.contains("source_up{source=\"bus\"}"));
    // And comes back.
    std::fs::write(&file, format!("bundled_rules: false\nsources: {{push: {{http: {{}}}}, {broker}}}\n")).unwrap();
    eventually("bus is there again", 20, || (up("bus") == Some(0.0)).then_some(()));
    assert_eq!(up("push"), Some(1.0));
}

#[test]
fn a_changed_source_goes_on_where_the_core_has_counted_it_to() {
    let dir = tempfile::tempdir().unwrap();
    let configuration = |turn: u32| {
        // Another format each time, and another plan: the source begins anew, and what waits is decoded again.
        let text = format!(
            "sources: {{log: {{file: {{path: events.log}}, type: kind{turn}}}}}\nbundled_rules: false\n\
             metrics:\n  amount_total: {{counter: {{match: order, value: data.amount}}}}\n\
             \x20 other: {{gauge: {{match: order, value: data.other{turn}}}}}\n"
        );
        std::fs::write(dir.path().join("sidewatch.yaml"), text).unwrap();
    };
    configuration(0);
    std::fs::write(dir.path().join("events.log"), "").unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &["--log", "error"]);
    let (over, log) = (AtomicBool::new(false), dir.path().join("events.log"));
    let (lines, sum) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut file = std::fs::File::options().append(true).open(&log).unwrap();
            let (mut lines, mut sum) = (0_u64, 0);
            while !over.load(Ordering::Relaxed) {
                let mut text = String::new();
                for at in lines..lines + 1_000 {
                    sum += at % 97;
                    writeln!(text, "{{\"type\":\"order\",\"data\":{{\"amount\":{}}}}}", at % 97).unwrap();
                }
                file.write_all(text.as_bytes()).unwrap();
                lines += 1_000;
                std::thread::park_timeout(Duration::from_millis(5));
            }
            (lines, sum)
        });
        let reloads = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            sidewatch.reloads_while_it_counts(configuration);
        }));
        over.store(true, Ordering::Relaxed);
        reloads.unwrap();
        writer.join().unwrap()
    });
    crate::exactness::hold(&sidewatch, &[("sum(events_total)", lines as f64), ("sum(amount_total)", sum as f64)]);
}

fn parts(sources: &str) -> Parts {
    let text = format!("bundled_rules: false\nsources: {{{sources}}}\n");
    let (config, mut found) = load_text("t.yaml", &text, &BTreeMap::new(), &Overrides::default());
    let parts = config.as_ref().and_then(|config| build(config, &mut found));
    parts.filter(|_| !found.has_errors()).unwrap_or_else(|| panic!("{found}"))
}

#[test]
fn a_source_that_is_gone_is_not_missed() {
    let at = |seconds: i64| Timestamp::from_millis(1_795_219_200_000 + seconds * 1_000);
    let lost = || Input::Source { name: "log".into(), state: SourceState::Lost { reason: "gone".into() } };
    let deaf = |core: &mut Core| {
        let (_, alerts) = core.engine.published();
        let alerts = alerts.iter().filter(|alert| alert.labels.get("alertname") == Some("SidewatchDeaf"));
        alerts.map(|alert| alert.resolved_at.is_none()).collect::<Vec<_>>()
    };
    let (both, one) = (parts("log: {file: {path: a.log}}, push: {http: {}}"), parts("push: {http: {}}"));
    let mut core = Core::new(&both, at(0));
    core.engine.observe(at(1), [lost()]);
    assert_eq!(deaf(&mut core), [true]);
    let blob = core.snapshot(true, Vec::new());

    let mut same = Core::new(&both, at(10));
    same.restore(std::slice::from_ref(&blob), at(10)).unwrap();
    assert_eq!(deaf(&mut same), [true], "it is configured, and nothing was heard of it yet");
    let mut after = Core::new(&one, at(10));
    after.restore(&[blob], at(10)).unwrap();
    assert_eq!(deaf(&mut after), [false], "removed between two runs: its alert has ended");

    // The last words of a source that a reload has removed.
    core.reconfigure(&one, at(20));
    core.engine.observe(at(21), [lost()]);
    assert_eq!(deaf(&mut core), [false]);
}
