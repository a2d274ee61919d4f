//! Silences through the real binary: made by API, command and page, kept through a kill, and those of the configuration.

use crate::browser::Browser;
use crate::harness::{Receiver, Sidewatch, eventually, exchange, free_port, request, run};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// Two alerts, each of its own event: `Boom` and `Other`.
fn configuration(hook: &Receiver, more: &str) -> String {
    format!(
        "sources: {{push: {{http: {{}}}}}}\nbundled_rules: false\nstate: {{dir: state}}\n\
         metrics:\n  level: {{gauge: {{match: level, value: data.n, labels: {{item: subject}}}}}}\n\
         alerts:\n  Boom: {{expr: 'level{{item=\"boom\"}} > 5', annotations: {{summary: 'it is loud'}}}}\n\
         \x20 Other: {{expr: 'level{{item=\"other\"}} > 5'}}\n\
         notify:\n  hook: {{webhook: {{url: 'http://127.0.0.1:{}/'}}}}\n{more}",
        hook.port
    )
}

fn start(dir: &Path, hook: &Receiver, more: &str) -> Sidewatch {
    std::fs::write(dir.join("sidewatch.yaml"), configuration(hook, more)).unwrap();
    Sidewatch::start(dir, "run", &[])
}

fn level(sidewatch: &Sidewatch, item: &str, n: u32) {
    let event = format!(r#"{{"type":"level","target":"{item}","payload":{{"n":{n}}}}}"#);
    let (status, answer) = sidewatch.post("/events", "application/json", event.as_bytes());
    assert_eq!(status, 202, "{answer}");
}

fn told(hook: &Receiver, name: &str, state: &str) -> usize {
    let matches = |body: &String| {
        let body: Value = serde_json::from_str(body).unwrap();
        let alerts = body["alerts"].as_array().unwrap().clone();
        alerts.iter().any(|alert| alert["labels"]["alertname"] == name && alert["status"] == state)
    };
    hook.bodies().iter().filter(|body| matches(body)).count()
}

fn wait_told(hook: &Receiver, name: &str, state: &str) {
    eventually(&format!("{name} {state}"), 20, || (told(hook, name, state) > 0).then_some(()));
}

fn silence(sidewatch: &Sidewatch, name: &str) -> String {
    let body = json!({
        "matchers": [{"name": "alertname", "value": name, "isRegex": false}], "createdBy": "ann", "comment": "known",
        "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2100-01-01T00:00:00Z",
    });
    let (status, answer) = request(sidewatch.observe, "POST", "/api/v2/silences", JSON, body.to_string().as_bytes());
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str::<Value>(&answer).unwrap()["silenceID"].as_str().unwrap().to_owned()
}

/// The state of an alert, as soon as it fires.
fn state(sidewatch: &Sidewatch, name: &str) -> String {
    eventually(&format!("{name} fires"), 20, || {
        let alerts = sidewatch.json(&format!("/api/v2/alerts?filter=alertname%3D{name}"));
        let state = alerts[0]["status"]["state"].as_str().filter(|state| *state != "unprocessed");
        state.map(str::to_owned)
    })
}

#[test]
fn a_silence_holds_back_survives_a_kill_and_lets_go() {
    let (dir, hook) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    let sidewatch = start(dir.path(), &hook, "");
    let id = silence(&sidewatch, "Boom");
    // Killed right after the answer: what was answered is stored.
    sidewatch.kill();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    assert_eq!(sidewatch.json("/api/v2/silences")[0]["id"], id.as_str());
    level(&sidewatch, "boom", 9);
    level(&sidewatch, "other", 9);
    assert_eq!(state(&sidewatch, "Boom"), "suppressed");
    wait_told(&hook, "Other", "firing");
    // Alerts from outside are kept as well.
    let posted = json!([{"labels": {"alertname": "Outside"}}]).to_string();
    assert_eq!(request(sidewatch.observe, "POST", "/api/v2/alerts", JSON, posted.as_bytes()).0, 200);
    sidewatch.kill();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    assert_eq!((state(&sidewatch, "Boom").as_str(), state(&sidewatch, "Outside").as_str()), ("suppressed", "active"));
    wait_told(&hook, "Outside", "firing");
    assert_eq!(told(&hook, "Boom", "firing"), 0, "{:?}", hook.bodies());
    assert_eq!(request(sidewatch.observe, "DELETE", &format!("/api/v2/silence/{id}"), &[], b"").0, 200);
    wait_told(&hook, "Boom", "firing");
    // Told, silenced, ended: nothing until the silence is over, and then the ending.
    let id = silence(&sidewatch, "Boom");
    level(&sidewatch, "boom", 1);
    level(&sidewatch, "other", 1);
    wait_told(&hook, "Other", "resolved");
    eventually("Boom has ended", 10, || {
        sidewatch.json("/api/v2/alerts?filter=alertname%3DBoom").as_array().unwrap().is_empty().then_some(())
    });
    assert_eq!(told(&hook, "Boom", "resolved"), 0);
    assert_eq!(request(sidewatch.observe, "DELETE", &format!("/api/v2/silence/{id}"), &[], b"").0, 200);
    wait_told(&hook, "Boom", "resolved");
    assert_eq!(told(&hook, "Boom", "firing"), 1);
    let metrics = sidewatch.get("/metrics").1;
    assert!(metrics.contains("sidewatch_silences{state=\"expired\"}"), "{metrics}");
}

#[test]
fn the_configuration_silences_and_a_reload_lets_go() {
    let (dir, hook) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    let entry =
        "  silences:\n  - {matchers: [alertname=Boom], ends: 2100-01-01T00:00:00Z, comment: 'until it is mended'}\n";
    let sidewatch = start(dir.path(), &hook, entry);
    let (code, said, _) = run(dir.path(), &["check"]);
    assert_eq!(code, 0, "{said}");
    level(&sidewatch, "boom", 9);
    level(&sidewatch, "other", 9);
    assert_eq!(state(&sidewatch, "Boom"), "suppressed");
    wait_told(&hook, "Other", "firing");
    let listed = sidewatch.json("/api/v2/silences")[0].clone();
    assert_eq!((&listed["createdBy"], &listed["status"]["state"]), (&"configuration".into(), &"active".into()));
    let path = format!("/api/v2/silence/{}", listed["id"].as_str().unwrap());
    let (status, said) = request(sidewatch.observe, "DELETE", &path, &[], b"");
    assert!(status == 500 && said.contains("edit its entry under notify: silences:"), "{status} {said}");
    assert_eq!(told(&hook, "Boom", "firing"), 0);
    std::fs::write(dir.path().join("sidewatch.yaml"), configuration(&hook, "")).unwrap();
    wait_told(&hook, "Boom", "firing");
    assert_eq!(sidewatch.json("/api/v2/silences"), json!([]));
    // What is wrong is said with its place.
    let wrong = entry.replace("alertname=Boom", "alertname~Boom");
    std::fs::write(dir.path().join("wrong.yaml"), configuration(&hook, &wrong)).unwrap();
    let (code, _, said) = run(dir.path(), &["check", "--config", "wrong.yaml"]);
    assert!(code == 2 && said.contains("alertname~Boom") && said.contains("expected an operator"), "{code} {said}");
}

#[test]
fn the_command_adds_lists_shows_and_expires() {
    let (dir, hook) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    let sidewatch = start(dir.path(), &hook, "");
    let url = format!("http://127.0.0.1:{}", sidewatch.observe);
    let silence = |args: &[&str]| run(dir.path(), &[&["silence"], args, &["--url", &url]].concat());
    level(&sidewatch, "boom", 9);
    wait_told(&hook, "Boom", "firing");
    assert_eq!(silence(&["list"]), (0, "(no silence holds or will hold)\n".into(), String::new()));
    let (code, id, said) =
        silence(&["add", "Boom", "job=~\".*\"", "--duration", "2h", "--comment", "why not", "--author", "bo"]);
    assert!(code == 0 && said.contains("1 alert that fires now matches"), "{code} {id} {said}");
    let id = id.trim();
    let (_, listed, _) = silence(&["list"]);
    assert!(
        listed.contains(id) && listed.contains("alertname=\"Boom\" job=~\".*\"") && !listed.contains('\x1b'),
        "{listed}"
    );
    let (_, shown, _) = silence(&["show", &id[..8]]);
    assert!(shown.contains("created by  bo") && shown.contains("silences    {alertname=\"Boom\""), "{shown}");
    let (_, as_json, _) = silence(&["list", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&as_json).unwrap()[0]["comment"], "why not");
    assert_eq!(silence(&["expire", &id[..8]]), (0, format!("expired {id}\n"), String::new()));
    assert!(silence(&["list", "--expired"]).1.contains("expired"));
    let (code, _, said) = silence(&["add", "alertname~x"]);
    assert!(code == 2 && said.contains("a matcher is like"), "{code} {said}");
    let (code, _, said) = silence(&["show", "nope"]);
    assert!(code == 1 && said.contains("no silence has an id that begins with"), "{said}");
}

#[test]
fn pages_of_other_sites_and_other_machines_change_nothing() {
    let (dir, hook) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    let sidewatch = start(dir.path(), &hook, "");
    let id = silence(&sidewatch, "Boom");
    for headers in [[("origin", "https://evil.example")], [("origin", "null")], [("x-forwarded-for", "10.0.0.9")]] {
        let (status, _, body) = exchange(sidewatch.observe, "DELETE", &format!("/api/v2/silence/{id}"), &headers, b"");
        assert_eq!(status, 403, "{headers:?} {body}");
        let posting = [&headers[..], JSON].concat();
        let (status, _, body) = exchange(sidewatch.observe, "POST", "/api/v2/alerts", &posting, b"[]");
        assert_eq!(status, 403, "{headers:?} {body}");
    }
    assert_eq!(sidewatch.json("/api/v2/silences")[0]["status"]["state"], "active");
}

#[test]
fn the_page_silences_and_expires() {
    let (dir, hook) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    std::fs::write(dir.path().join("sidewatch.yaml"), configuration(&hook, "")).unwrap();
    let (observe, ingest) = (free_port(), free_port());
    let sidewatch = Sidewatch::start_on(dir.path(), "run", &[], observe, ingest, Stdio::null());
    level(&sidewatch, "boom", 9);
    wait_told(&hook, "Boom", "firing");
    let mut browser = Browser::open(&format!("http://127.0.0.1:{observe}/"));
    let until = |browser: &mut Browser, what: &str, expression: &str| {
        eventually(&format!("the page: {what}"), 30, || (browser.eval(expression) == true).then_some(()));
    };
    let row = "document.querySelector('[data-alert=Boom]')";
    until(&mut browser, "the alert has a button", &format!("!!{row} && !{row}.querySelector('.silence-open').hidden"));
    assert_eq!(browser.eval("document.getElementById('silences-card').hidden"), true);
    browser.eval(&format!("{row}.querySelector('.silence-open').click()"));
    browser.eval(&format!("{row}.querySelector('.silence-form input').value = 'on it'"));
    browser.eval(&format!("{row}.querySelector('.silence-form select').value = '3600'"));
    browser.eval(&format!("{row}.querySelector('.silence-form').requestSubmit()"));
    until(&mut browser, "the alert is silenced", &format!("{row}.innerText.includes('Silenced by page until')"));
    until(&mut browser, "the reason is shown", &format!("{row}.innerText.includes('on it')"));
    until(&mut browser, "the form is gone", &format!("!{row}.querySelector('.silence-form')"));
    until(
        &mut browser,
        "the list shows it",
        "document.getElementById('silences').innerText.includes('alertname=\"Boom\"')",
    );
    let silences = sidewatch.json("/api/v2/silences");
    assert_eq!((&silences[0]["createdBy"], &silences[0]["comment"]), (&"page".into(), &"on it".into()));
    assert_eq!(state(&sidewatch, "Boom"), "suppressed");
    browser.eval("document.querySelector('#silences button').click()");
    until(&mut browser, "the list is gone", "document.getElementById('silences-card').hidden");
    until(&mut browser, "the button is back", &format!("!{row}.querySelector('.silence-open').hidden"));
    assert_eq!(state(&sidewatch, "Boom"), "active");
    assert_eq!(browser.errors, [""; 0], "errors in the page");
}
