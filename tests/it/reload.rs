//! Saving an edited configuration: what changed takes effect at once, what is wrong is said and changes nothing.

use crate::harness::{Receiver, Sidewatch, eventually, run};
use std::time::Instant;

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
