//! From an event to a message, through the real binary: every kind of rule, both ways to configure receivers, restarts.

use crate::harness::{Receiver, Sidewatch, eventually, run};
use serde_json::Value;
use std::path::Path;
use std::time::Instant;

fn start(dir: &Path, configuration: &str) -> Sidewatch {
    std::fs::write(dir.join("sidewatch.yaml"), configuration).unwrap();
    Sidewatch::start(dir, "run", &[])
}

fn send(sidewatch: &Sidewatch, event: &str) {
    let (status, answer) = sidewatch.post("/events", "application/json", event.as_bytes());
    assert_eq!(status, 202, "{answer}");
}

/// The first message about an alert in that state.
fn message(hook: &Receiver, name: &str, state: &str) -> Value {
    eventually(&format!("{name} {state} in {:?}", hook.bodies()), 30, || {
        hook.bodies().iter().map(|body| serde_json::from_str::<Value>(body).unwrap()).find(|body| {
            let alerts = body["alerts"].as_array().unwrap();
            alerts.iter().any(|alert| alert["labels"]["alertname"] == name && alert["status"] == state)
        })
    })
}

#[test]
fn every_kind_of_rule_fires_and_resolves() {
    let (dir, hook) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    std::fs::write(
        dir.path().join("rules.yaml"),
        "groups:\n- name: g\n  interval: 200ms\n  rules:\n\
         \x20 - record: stock:min\n    expr: min(stock)\n\
         \x20 - {alert: FromFile, expr: 'stock:min < 3', labels: {severity: page}, annotations: {summary: 'left: {{ $value }}'}}\n",
    )
    .unwrap();
    let sidewatch = start(
        dir.path(),
        &format!(
            "sources: {{push: {{http: {{}}}}}}\nbundled_rules: false\nrules: rules.yaml\n\
             metrics:\n  stock: {{gauge: {{match: stock, value: data.n, labels: {{item: subject}}}}}}\n\
             alerts:\n\
             \x20 Burst: {{event: {{match: refused, where: {{data.amount: {{gt: 10}}}}, count: '>= 3', within: 2s, by: data.region}}}}\n\
             \x20 Stuck: {{event: {{sequence: [placed, paid], by: correlation, within: 1s, missing: last}}}}\n\
             \x20 Silent: {{event: {{absent: beat, by: data.worker, within: 1s}}}}\n\
             \x20 Low: {{metric: stock, by: item, below: 5, for: 500ms}}\n\
             notify:\n  hook: {{webhook: {{url: 'http://127.0.0.1:{}/'}}}}\n",
            hook.port
        ),
    );
    for amount in [20, 5, 20, 20] {
        send(&sidewatch, &format!(r#"{{"type":"refused","payload":{{"amount":{amount},"region":"eu"}}}}"#));
    }
    send(&sidewatch, r#"{"type":"placed","correlation_id":"k1","payload":{}}"#);
    send(&sidewatch, r#"{"type":"beat","payload":{"worker":"w1"}}"#);
    send(&sidewatch, r#"{"type":"stock","target":"tea","payload":{"n":2}}"#);

    let burst = message(&hook, "Burst", "firing");
    assert_eq!(burst["alerts"][0]["labels"]["region"], "eu");
    for name in ["Stuck", "Silent", "Low", "FromFile"] {
        message(&hook, name, "firing");
    }
    assert_eq!(message(&hook, "FromFile", "firing")["alerts"][0]["annotations"]["summary"], "left: 2");

    message(&hook, "Burst", "resolved");
    send(&sidewatch, r#"{"type":"paid","correlation_id":"k1","payload":{}}"#);
    send(&sidewatch, r#"{"type":"beat","payload":{"worker":"w1"}}"#);
    send(&sidewatch, r#"{"type":"stock","target":"tea","payload":{"n":9}}"#);
    for name in ["Stuck", "Silent", "Low", "FromFile"] {
        message(&hook, name, "resolved");
    }
    // The fields of Alertmanager's payload, version 4.
    for field in [
        "receiver",
        "status",
        "alerts",
        "groupLabels",
        "commonLabels",
        "commonAnnotations",
        "externalURL",
        "version",
        "groupKey",
        "truncatedAlerts",
    ] {
        assert!(burst.get(field).is_some(), "{field}: {burst}");
    }
    assert_eq!((&burst["version"], &burst["alerts"][0]["endsAt"]), (&"4".into(), &"0001-01-01T00:00:00Z".into()));
}

#[test]
fn alertmanagers_file_routes_and_a_failing_receiver_delays_nobody() {
    let (dir, good, bad) = (tempfile::tempdir().unwrap(), Receiver::start(200), Receiver::start(500));
    std::fs::write(
        dir.path().join("alertmanager.yml"),
        format!(
            "route:\n  receiver: good\n  group_wait: 0s\n  group_interval: 1s\n  routes:\n\
             \x20 - {{receiver: bad, continue: true, matchers: ['severity=\"page\"']}}\n  - {{receiver: good}}\n\
             receivers:\n- name: good\n  webhook_configs: [{{url: 'http://127.0.0.1:{}/'}}]\n\
             - name: bad\n  webhook_configs: [{{url: 'http://127.0.0.1:{}/'}}]\n",
            good.port, bad.port
        ),
    )
    .unwrap();
    let sidewatch = start(
        dir.path(),
        "sources: {push: {http: {}}}\nbundled_rules: false\n\
         alerts: {Any: {event: {match: boom, count: '>= 1', within: 1s}, severity: page}}\n\
         notify: {alertmanager: alertmanager.yml}\n",
    );
    send(&sidewatch, r#"{"type":"boom","payload":{}}"#);
    message(&good, "Any", "firing");
    message(&good, "Any", "resolved");
    eventually("the failing one is tried again", 20, || (bad.bodies().len() >= 2).then_some(()));

    let (code, out, _) = run(dir.path(), &["notifications", "test", "good"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("delivered"), "{out}");
    let (code, out, err) = run(dir.path(), &["notifications", "test", "bad"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("500"), "{out}");
    let (code, _, err) = run(dir.path(), &["notifications", "test", "goood"]);
    assert_eq!(code, 2);
    assert!(err.contains("\"good\""), "the nearest name: {err}");
}

#[test]
fn a_firing_alert_survives_kill_and_is_not_told_twice() {
    let (dir, hook) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    let configuration = format!(
        "sources: {{push: {{http: {{}}}}}}\nbundled_rules: false\nstate: {{dir: state}}\n\
         metrics:\n  stock: {{gauge: {{match: stock, value: data.n, labels: {{item: subject}}}}}}\n\
         alerts:\n  Low: {{metric: stock, by: item, below: 5}}\n\
         notify:\n  hook: {{webhook: {{url: 'http://127.0.0.1:{}/'}}}}\n",
        hook.port
    );
    let sidewatch = start(dir.path(), &configuration);
    send(&sidewatch, r#"{"type":"stock","target":"tea","payload":{"n":2}}"#);
    let first = message(&hook, "Low", "firing");
    // The delivery is on disk before the kill: everything goes through one queue, and two later checkpoints are written.
    eventually("the delivery is counted", 20, || {
        (sidewatch.value("sum(sidewatch_notifications_sent_total)") == Some(1.0)).then_some(())
    });
    let written = || sidewatch.value("sidewatch_checkpoint_seconds_count").unwrap_or(0.0);
    let before = written();
    eventually("two more checkpoints", 20, || (written() >= before + 2.0).then_some(()));
    sidewatch.kill();

    let sidewatch = start(dir.path(), &configuration);
    let since = |sidewatch: &Sidewatch| {
        let alerts = sidewatch.json("/api/v1/alerts");
        alerts["data"]["alerts"][0]["activeAt"].as_str().map(String::from)
    };
    let active_at = eventually("the alert fires after the restart", 20, || {
        (sidewatch.json("/api/v1/alerts")["data"]["alerts"][0]["state"] == "firing")
            .then(|| since(&sidewatch))
            .flatten()
    });
    let started: jiff::Timestamp = first["alerts"][0]["startsAt"].as_str().unwrap().parse().unwrap();
    let active: jiff::Timestamp = active_at.parse().unwrap();
    assert!((active.duration_since(started)).as_secs_f64().abs() < 0.01, "{active} {started}");
    send(&sidewatch, r#"{"type":"stock","target":"tea","payload":{"n":8}}"#);
    message(&hook, "Low", "resolved");
    let firing = hook.bodies().iter().filter(|body| body.contains("\"status\":\"firing\",\"labels\"")).count();
    assert_eq!(firing, 1, "told once: {:?}", hook.bodies());
}

#[test]
fn a_file_that_is_gone_is_deaf_and_not_silent() {
    let (dir, hook) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    let log = dir.path().join("app.log");
    std::fs::write(&log, "{\"type\":\"beat\",\"data\":{\"worker\":\"w1\"}}\n").unwrap();
    let configuration = format!(
        "sources: {{app: {{file: {{path: missing/app.log}}}}}}\nbundled_rules: false\n\
         health: {{beat: {{event: {{match: beat, within: 500ms}}}}}}\n\
         alerts:\n  Silent: {{event: {{absent: beat, keys: [w1], by: data.worker, within: 500ms}}}}\n\
         notify:\n  hook: {{webhook: {{url: 'http://127.0.0.1:{}/'}}}}\n",
        hook.port
    );
    let sidewatch = start(dir.path(), &configuration);
    message(&hook, "SidewatchDeaf", "firing");
    let health = eventually("health is unknown", 10, || {
        let health = sidewatch.json("/health");
        (health["status"] == "unknown").then_some(health)
    });
    assert!(health["checks"]["beat"]["reason"].as_str().unwrap().contains("app"), "{health}");
    std::fs::create_dir(dir.path().join("missing")).unwrap();
    std::fs::rename(&log, dir.path().join("missing/app.log")).unwrap();
    message(&hook, "SidewatchDeaf", "resolved");
    // Heard at last, and then silent for real.
    message(&hook, "Silent", "firing");
    let bodies = hook.bodies();
    // Gone once more while it was being read: deaf again.
    std::fs::rename(dir.path().join("missing/app.log"), dir.path().join("away.log")).unwrap();
    eventually("the source is lost", 10, || {
        (sidewatch.json("/health")["sidewatch"]["sources"]["app"]["state"] == "lost").then_some(())
    });
    std::fs::rename(dir.path().join("away.log"), dir.path().join("missing/app.log")).unwrap();
    eventually("the source is back", 10, || {
        (sidewatch.json("/health")["sidewatch"]["sources"]["app"]["state"] == "connected").then_some(())
    });
    let at = |needle: &str| bodies.iter().position(|body| body.contains(needle)).unwrap();
    assert!(
        at("SidewatchDeaf") < at("\"Silent\""),
        "nothing was concluded from silence while nobody could hear: {bodies:?}"
    );
}

/// Prints how long it takes from an event's push to the webhook; asserts only that all arrive.
#[test]
fn from_the_push_to_the_message() {
    let (dir, hook) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    let sidewatch = start(
        dir.path(),
        &format!(
            "sources: {{push: {{http: {{}}}}}}\nbundled_rules: false\n\
             metrics:\n  level: {{gauge: {{match: level, value: data.n, labels: {{item: subject}}}}}}\n\
             alerts:\n  OnEvent: {{event: {{match: boom, count: '>= 1', within: 1m, by: subject}}, notify: hook}}\n\
             \x20 OnMetric: {{metric: level, by: item, below: 5, notify: hook}}\n\
             notify:\n  hook: {{webhook: {{url: 'http://127.0.0.1:{}/'}}}}\n",
            hook.port
        ),
    );
    eventually("rules have evaluated", 10, || sidewatch.value("vector(1)"));
    for (name, event) in [("OnEvent", r#""boom","payload":{}"#), ("OnMetric", r#""level","payload":{"n":1}"#)] {
        let mut took: Vec<f64> = Vec::new();
        for round in 0..15 {
            let subject = format!("{name}-{round}");
            let began = Instant::now();
            send(&sidewatch, &format!(r#"{{"target":"{subject}","type":{event}}}"#));
            let arrived = eventually("the message", 10, || {
                hook.got
                    .lock()
                    .unwrap()
                    .iter()
                    .find(|(_, body)| body.contains(&format!("\"{subject}\"")))
                    .map(|(at, _)| *at)
            });
            took.push((arrived - began).as_secs_f64() * 1e3);
            // Each group sends at most once a second: wait for the next turn, so that each is a first one.
            let until = Instant::now() + std::time::Duration::from_millis(1_100);
            eventually("the group's interval", 5, || (Instant::now() >= until).then_some(()));
        }
        took.sort_by(f64::total_cmp);
        println!("{name}: push to webhook, median {:.1} ms, slowest {:.1} ms of {}", took[7], took[14], took.len());
    }
}
