//! What happened, why, and for how long: the history after a kill, `alerts why`, the watchdog.

use crate::dead_letters::{Fickle, Mood};
use crate::harness::{Receiver, Sidewatch, eventually, run};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

fn start(dir: &Path, configuration: &str) -> Sidewatch {
    std::fs::write(dir.join("sidewatch.yaml"), configuration).unwrap();
    Sidewatch::start(dir, "run", &[])
}

fn send(sidewatch: &Sidewatch, event: &str) {
    let (status, answer) = sidewatch.post("/events", "application/json", event.as_bytes());
    assert_eq!(status, 202, "{answer}");
}

fn stock(sidewatch: &Sidewatch, item: &str, level: u32) {
    send(sidewatch, &format!(r#"{{"type":"stock","target":"{item}","payload":{{"n":{level}}}}}"#));
}

fn cli(dir: &Path, sidewatch: &Sidewatch, args: &[&str]) -> (i32, String, String) {
    let url = format!("http://127.0.0.1:{}", sidewatch.observe);
    run(dir, &[args, &["--url", &url]].concat())
}

fn lines(sidewatch: &Sidewatch, query: &str) -> Vec<Value> {
    sidewatch.json(&format!("/api/history?{query}"))["entries"].as_array().unwrap().clone()
}

/// The lines of a query once one of them is as wanted.
fn lines_with(sidewatch: &Sidewatch, query: &str, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut last = Vec::new();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    eventually(&format!("a line of {query}"), 90, || {
        last = lines(sidewatch, query);
        let found = last.iter().any(&wanted);
        assert!(found || std::time::Instant::now() < deadline, "not within 60 s in {query}: {last:#?}");
        found.then(|| last.clone())
    })
}

fn shop(hook: &Receiver, more: &str) -> String {
    format!(
        "sources: {{push: {{http: {{}}}}}}\nbundled_rules: false\nstate: {{dir: state, checkpoint_interval: 50ms}}\n\
         metrics:\n  stock: {{gauge: {{match: stock, value: data.n, labels: {{item: subject}}}}}}\n\
         alerts:\n  Low: {{metric: stock, by: item, below: 5}}\n{more}\
         notify:\n  hook: {{webhook: {{url: 'http://127.0.0.1:{}/'}}}}\n",
        hook.port
    )
}

#[test]
fn every_change_and_message_is_in_the_history_with_its_reason_and_survives_a_kill() {
    let (dir, hook) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    let sidewatch = start(dir.path(), &shop(&hook, ""));
    stock(&sidewatch, "tea", 2);
    lines_with(&sidewatch, "rule=Low&kind=notification", |line| line["outcome"] == "delivered");
    stock(&sidewatch, "mugs", 1);
    lines_with(&sidewatch, "rule=Low", |line| line["outcome"] == "delivered" && line["reason"] == "new_member");
    stock(&sidewatch, "tea", 20);
    stock(&sidewatch, "mugs", 20);
    let before =
        lines_with(&sidewatch, "rule=Low", |line| line["outcome"] == "delivered" && line["reason"] == "all_resolved");
    sidewatch.kill();

    let sidewatch = start(dir.path(), &shop(&hook, ""));
    let after = lines(&sidewatch, "rule=Low");
    assert_eq!(after, before, "nothing is lost and nothing twice");
    let answer = sidewatch.json("/api/history?rule=Low&since=1h");
    assert_eq!(answer["persistent"], true);
    let of = |to: &str| before.iter().filter(|line| line["to"] == to).collect::<Vec<_>>();
    assert_eq!((of("firing").len(), of("resolved").len()), (2, 2), "{before:?}");
    assert_eq!(of("firing")[1]["labels"]["item"], "tea");
    assert!(of("firing")[1]["detect_seconds"].as_f64().unwrap() < 10.0);
    let first = before.iter().find(|line| line["outcome"] == "delivered" && line["reason"] == "first").unwrap();
    assert_eq!((&first["receiver"], &first["alerts"], &first["attempts"]), (&"hook".into(), &1.into(), &1.into()));
    assert!(first["duration_ms"].is_i64() && first["notify_seconds"]["Low"].is_f64(), "{first}");
    // The times by rule.
    let rule = &answer["rules"][0];
    assert_eq!((&rule["rule"], &rule["fired"], &rule["resolved"]), (&"Low".into(), &2.into(), &2.into()), "{rule}");
    for times in ["detect", "notify", "resolve"] {
        assert_eq!(rule[format!("time_to_{times}_seconds")]["count"], 2, "{times}: {rule}");
    }
    stock(&sidewatch, "tea", 3);
    lines_with(&sidewatch, "rule=Low", |line| {
        line["outcome"] == "delivered" && !before.contains(line) && line["status"] == "firing"
    });
    let (_, metrics) = sidewatch.get("/metrics");
    for name in ["detect", "notify"] {
        let name = format!("sidewatch_alert_time_to_{name}_seconds_count{{rule=\"Low\"}} 1");
        assert!(metrics.contains(&name), "{name}\n{metrics}");
    }
    // Filters and plain words.
    assert!(lines(&sidewatch, "kind=alert").iter().all(|line| line["kind"] == "alert"));
    assert!(lines(&sidewatch, "rule=Lo").is_empty());
    assert_eq!(lines(&sidewatch, "limit=1").len(), 1);
    let (status, body) = sidewatch.get("/api/history?kind=alarm");
    assert!(status == 400 && body.contains("alert, notification, health"), "{body}");
    let (code, out, err) = cli(dir.path(), &sidewatch, &["alerts", "history", "Low", "--since", "1h"]);
    assert_eq!(code, 0, "{err}");
    for text in
        ["firing   Low item=tea", "resolved Low item=mugs", "delivered hook", "new member", "Low: fired 3, ended 2"]
    {
        assert!(out.contains(text), "{text}: {out}");
    }
}

/// What the restored state says fires, and what it says was told, stands in the history, whenever the kill came.
#[test]
fn whatever_a_kill_leaves_firing_is_in_the_history() {
    let (dir, hook) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    let mut restored = 0;
    for round in 0..8 {
        let sidewatch = start(dir.path(), &shop(&hook, ""));
        // What began to fire since this start may not be written yet; what is older comes from the checkpoint.
        let moment = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let started = moment(&sidewatch.json("/api/status")["started"]);
        let mut firing = sidewatch.json("/api/v1/alerts")["data"]["alerts"].as_array().unwrap().clone();
        firing.retain(|alert| moment(&alert["activeAt"]) < started);
        let known: BTreeSet<String> = lines(&sidewatch, "rule=Low&kind=alert&limit=1000")
            .iter()
            .filter(|line| line["to"] == "firing")
            .map(|line| line["labels"]["item"].as_str().unwrap().to_owned())
            .collect();
        for alert in &firing {
            let item = alert["labels"]["item"].as_str().unwrap();
            assert!(known.contains(item), "round {round}: {item} fires and the history does not know: {known:?}");
        }
        restored += firing.len();
        for item in 0..20 {
            stock(&sidewatch, &format!("item-{round}-{item}"), 1);
        }
        // Somewhere in the middle of it: a few of them fire, some messages are out.
        eventually("some fire", 20, || {
            let count = sidewatch.json("/api/v1/alerts")["data"]["alerts"].as_array().unwrap().len();
            (count > firing.len()).then_some(())
        });
        if round % 2 == 1 {
            // Every other time a checkpoint has been written.
            lines_with(&sidewatch, "kind=alert&limit=1000", |line| {
                line["labels"]["item"].as_str().is_some_and(|item| item.starts_with(&format!("item-{round}-")))
            });
        }
        sidewatch.kill();
    }
    assert!(restored > 0, "nothing was ever restored");
}

#[test]
fn why_says_what_is_left_who_is_told_and_what_is_in_the_way() {
    let (dir, hook) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    std::fs::write(
        dir.path().join("alertmanager.yml"),
        format!(
            "route:\n  receiver: day\n  group_wait: 0s\n  group_interval: 1s\n  routes:\n\
             \x20 - {{receiver: day, matchers: ['alertname=\"Muted\"'], mute_time_intervals: [always]}}\n\
             \x20 - {{receiver: day, matchers: ['alertname=\"Lesser\"']}}\n\
             inhibit_rules:\n- {{source_matchers: ['alertname=\"Low\"'], target_matchers: ['alertname=\"Lesser\"']}}\n\
             time_intervals:\n- {{name: always, time_intervals: [{{times: [{{start_time: '00:00', end_time: '24:00'}}]}}]}}\n\
             receivers:\n- name: day\n  webhook_configs: [{{url: 'http://127.0.0.1:{}/'}}]\n",
            hook.port
        ),
    )
    .unwrap();
    let configuration = shop(
        &hook,
        "  Patient: {metric: stock, by: item, below: 5, for: 10m}\n  Muted: {metric: stock, by: item, below: 5}\n\
         \x20 Lesser: {expr: 'stock < 8 and on () vector(1) == 1'}\n  Calm: {metric: stock, by: item, below: 1}\n\
         \x20 Stuck: {event: {sequence: [placed, paid], by: correlation, within: 1h, missing: last}}\n\
         \x20 Many: {event: {match: refused, count: '>= 3', within: 1h, by: data.region}}\n",
    );
    let at = configuration.find("notify:").unwrap();
    let sidewatch = start(dir.path(), &format!("{}notify: {{alertmanager: alertmanager.yml}}\n", &configuration[..at]));
    stock(&sidewatch, "tea", 3);
    send(&sidewatch, r#"{"type":"placed","correlation_id":"k7","payload":{}}"#);
    for _ in 0..2 {
        send(&sidewatch, r#"{"type":"refused","payload":{"region":"eu"}}"#);
    }
    lines_with(&sidewatch, "rule=Low", |line| line["outcome"] == "delivered");
    let why = |name: &str| sidewatch.json(&format!("/api/alerts/why?name={name}"))["rules"][0].clone();
    let words = |name: &str| {
        let (code, out, err) = cli(dir.path(), &sidewatch, &["alerts", "why", name]);
        assert_eq!(code, 0, "{err}");
        out
    };

    let low = why("Low");
    assert_eq!((&low["state"], &low["alerts"][0]["state"]), (&"firing".into(), &"firing".into()), "{low}");
    let clause = &low["clauses"][0];
    assert_eq!((&clause["operator"], &clause["right"]), (&"<".into(), &"5".into()), "{clause}");
    assert_eq!((&clause["series"][0]["value"], &clause["series"][0]["holds"]), (&"3".into(), &true.into()), "{clause}");
    let route = &low["alerts"][0]["routes"][0];
    assert_eq!((&route["receiver"], &route["receiver_knows"]), (&"day".into(), &true.into()), "{route}");
    let out = words("Low");
    for text in [
        "Low is FIRING",
        "item=tea: 3 < 5 holds",
        "to day (webhook)",
        "it knows that this alert fires",
        "delivered day",
    ] {
        assert!(out.contains(text), "{text}: {out}");
    }

    let patient = why("Patient");
    assert_eq!(patient["state"], "pending");
    let left = patient["alerts"][0]["for_left_seconds"].as_f64().unwrap();
    assert!((500.0..=600.0).contains(&left), "{left}");
    assert!(words("Patient").contains("fires in 9m5"), "{}", words("Patient"));

    let ways = |name: &str| why(name)["alerts"][0]["routes"][0]["in_the_way"].clone();
    assert_eq!(ways("Muted")[0]["by"], "mute_time_interval", "{}", ways("Muted"));
    assert!(words("Muted").contains("IN THE WAY (mute time interval)"), "{}", words("Muted"));
    assert_eq!(ways("Lesser")[0]["by"], "inhibition", "{}", ways("Lesser"));
    assert_eq!(why("Lesser")["clauses"][1]["joined_by"], "and");
    lines_with(&sidewatch, "rule=Muted", |line| {
        line["outcome"] == "withheld" && line["reason"] == "outside_active_time"
    });
    lines_with(&sidewatch, "rule=Lesser", |line| line["outcome"] == "withheld" && line["reason"] == "inhibited");

    let silence = r#"{"matchers":[{"name":"alertname","value":"Low","isRegex":false,"isEqual":true}],
        "startsAt":"2020-01-01T00:00:00Z","endsAt":"2099-01-01T00:00:00Z","createdBy":"ops","comment":"known"}"#;
    let posted = crate::harness::request(
        sidewatch.observe,
        "POST",
        "/api/v2/silences",
        &[("content-type", "application/json")],
        silence.as_bytes(),
    );
    assert_eq!(posted.0, 200, "{}", posted.1);
    assert_eq!(ways("Low")[0]["by"], "silence", "{}", ways("Low"));
    assert!(words("Low").contains("by ops (known), until 2099-01-01"), "{}", words("Low"));

    let calm = why("Calm");
    assert_eq!((&calm["state"], &calm["clauses"][0]["series"][0]["holds"]), (&"inactive".into(), &false.into()));
    assert_eq!(calm["routes"][0]["receiver"], "day");
    assert!(words("Calm").contains("item=tea: 3 < 1 does not hold"), "{}", words("Calm"));
    assert!(words("Stuck").contains("placed came") && words("Stuck").contains("paid is missing"), "{}", words("Stuck"));
    assert!(words("Many").contains("region=eu: 2 in the last 1h, fires at >= 3"), "{}", words("Many"));

    let (code, _, err) = cli(dir.path(), &sidewatch, &["alerts", "why", "Paitent"]);
    assert!(code == 1 && err.contains("did you mean Patient?"), "{err}");
    let (code, out, _) = cli(dir.path(), &sidewatch, &["alerts"]);
    assert!(code == 0 && out.contains("FIRING   Low") && out.contains("pending  Patient"), "{out}");
    let (code, out, _) = cli(dir.path(), &sidewatch, &["alerts", "list", "--active"]);
    assert!(code == 0 && !out.contains("Calm"), "{out}");
}

#[test]
fn the_watchdog_is_pinged_and_its_loss_is_said_once() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Fickle::start(Mood::Status(200)));
    let configuration = format!(
        "sources: {{push: {{http: {{}}}}}}\nbundled_rules: false\n\
         watchdog: {{url: 'http://127.0.0.1:{}/ping/secret', every: 1s, method: POST}}\n",
        server.port
    );
    let sidewatch = start(dir.path(), &configuration);
    eventually("two pings", 20, || (server.got().len() >= 2).then_some(()));
    assert!(server.got()[0].line.starts_with("POST /ping/secret"), "{}", server.got()[0].line);
    let status = || sidewatch.json("/api/status")["watchdog"].clone();
    assert_eq!((&status()["arrives"], &status()["failed"]), (&true.into(), &0.into()));
    server.set(Mood::Status(500));
    eventually("two failures", 20, || (status()["failed"].as_u64().unwrap() >= 2).then_some(()));
    assert_eq!(status()["arrives"], false);
    assert!(status()["last_error"].as_str().unwrap().contains("500"), "{}", status());
    server.set(Mood::Status(200));
    eventually("it arrives again", 20, || (status()["arrives"] == true).then_some(()));
    let log = sidewatch.err();
    assert_eq!(log.matches("the watchdog's ping failed").count(), 1, "{log}");
    assert_eq!(log.matches("the watchdog's pings arrive again").count(), 1, "{log}");
    assert!(!log.contains("secret") && !status().to_string().contains("secret"), "the address is a secret");
    // A reload ends it.
    std::fs::write(dir.path().join("sidewatch.yaml"), "sources: {push: {http: {}}}\nbundled_rules: false\n").unwrap();
    eventually("it is off", 20, || status().is_null().then_some(()));
}

#[test]
fn a_storm_of_ten_thousand_alerts_is_told_in_few_messages_of_bounded_size() {
    let (dir, hook) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    let configuration = format!(
        "sources: {{push: {{http: {{}}}}}}\nbundled_rules: false\nstate: state\n\
         alerts:\n  Storm: {{event: {{match: storm, count: '>= 1', within: 1h, by: subject}}}}\n\
         notify:\n  hook: {{webhook: {{url: 'http://127.0.0.1:{}/'}}}}\n",
        hook.port
    );
    let sidewatch = start(dir.path(), &configuration);
    let events: String =
        (0..10_000).map(|at| format!("{{\"type\":\"storm\",\"target\":\"s{at}\",\"payload\":{{}}}}\n")).collect();
    let (status, answer) = sidewatch.post("/events", "application/x-ndjson", events.as_bytes());
    assert_eq!(status, 202, "{answer}");
    let told = |body: &str| {
        let message: Value = serde_json::from_str(body).unwrap();
        message["alerts"].as_array().unwrap().len() as u64 + message["truncatedAlerts"].as_u64().unwrap()
    };
    eventually("all of them are told", 60, || hook.bodies().iter().any(|body| told(body) == 10_000).then_some(()));
    let bodies = hook.bodies();
    assert!(bodies.len() <= 10, "{} messages", bodies.len());
    assert!(bodies.iter().all(|body| body.len() < 1 << 20), "{:?}", bodies.iter().map(String::len).collect::<Vec<_>>());
    // Each change is in the history, and sidewatch is as quick as ever.
    eventually("the history has all", 60, || {
        let figures = sidewatch.json("/api/history?rule=Storm&kind=alert&limit=1")["rules"][0].clone();
        (figures["fired"] == 10_000).then_some(())
    });
    assert_eq!(sidewatch.get("/readyz").0, 200);
}
