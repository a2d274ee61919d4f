//! Debian's amtool manages alerts and silences against sidewatch, and a real Alertmanager is the oracle of the answers.

use crate::harness::{Receiver, Sidewatch, eventually, free_port, in_ci, request};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// Whether the real programs are here; in CI they must be.
fn installed() -> bool {
    let there = |name: &str| Command::new(name).arg("--version").output().is_ok();
    let all = there("amtool") && there("prometheus-alertmanager");
    assert!(all || !in_ci(), "amtool and prometheus-alertmanager are installed by tests/run");
    all
}

/// Routes that send nothing before the end of a test, and nest.
fn routes(hook: u16) -> String {
    format!(
        "global: {{resolve_timeout: 10m}}\n\
         route:\n  receiver: hook\n  group_by: [alertname]\n  group_wait: 0s\n  group_interval: 1s\n  routes:\n\
         \x20 - {{receiver: pager, matchers: ['severity=\"page\"'], group_by: [alertname, x], continue: true}}\n\
         \x20 - {{receiver: hook, matchers: ['team=~\"a|b\"'], mute_time_intervals: [never]}}\n\
         inhibit_rules:\n- {{source_matchers: [alertname=Down], target_matchers: [severity=page], equal: [x]}}\n\
         time_intervals:\n- name: never\n  time_intervals: [{{years: ['2001'], weekdays: ['monday:friday'], times: [{{start_time: '09:00', end_time: '24:00'}}]}}]\n\
         receivers:\n- name: hook\n  webhook_configs: [{{url: 'http://127.0.0.1:{hook}/'}}]\n\
         - name: pager\n  webhook_configs: [{{url: 'http://127.0.0.1:{hook}/'}}]\n"
    )
}

fn sidewatch(dir: &Path, hook: u16) -> Sidewatch {
    std::fs::write(dir.join("am.yml"), routes(hook)).unwrap();
    std::fs::write(
        dir.join("sidewatch.yaml"),
        "sources: {push: {http: {}}}\nbundled_rules: false\nstate: {dir: state}\nnotify: {alertmanager: am.yml}\n",
    )
    .unwrap();
    Sidewatch::start(dir, "run", &[])
}

/// A real Alertmanager, ended with the test.
struct Alertmanager {
    child: Child,
    port: u16,
}

impl Alertmanager {
    fn start(dir: &Path) -> Self {
        let port = free_port();
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", dir.join("am.yml").display()))
            .arg(format!("--storage.path={}", dir.join("am").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Self { child, port };
        eventually("Alertmanager is ready", 30, || (crate::harness::get(port, "/-/ready").0 == 200).then_some(()));
        started
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs amtool against a port: whether it succeeded, and what it said.
fn amtool(port: u16, args: &[&str]) -> (bool, String) {
    let output = Command::new("amtool")
        .arg(format!("--alertmanager.url=http://127.0.0.1:{port}"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[track_caller]
fn amtool_ok(port: u16, args: &[&str]) -> String {
    let (succeeded, text) = amtool(port, args);
    assert!(succeeded, "amtool {}: {text}", args.join(" "));
    text
}

#[test]
fn amtool_manages_silences_and_alerts() {
    if !installed() {
        return;
    }
    let (dir, hook) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    let sidewatch = sidewatch(dir.path(), hook.port);
    let port = sidewatch.observe;

    let added =
        amtool_ok(port, &["silence", "add", "alertname=Foo", "node=~\"n.*\"", "-d", "1h", "-a", "me", "-c", "why"]);
    let id = added.trim();
    assert_eq!(id.len(), 36, "{added}");
    let listed = amtool_ok(port, &["silence", "query"]);
    assert!(
        listed.contains(id) && listed.contains("alertname=\"Foo\" node=~\"n.*\"") && listed.contains("why"),
        "{listed}"
    );
    assert!(amtool_ok(port, &["silence", "query", "alertname=Foo"]).contains(id));
    assert!(!amtool_ok(port, &["silence", "query", "alertname=Bar"]).contains(id));

    // A longer time is the same silence.
    let updated = amtool_ok(port, &["silence", "update", "-d", "3h", "-c", "longer", id]);
    assert!(updated.contains(id) && updated.contains("longer"), "{updated}");
    let exported = amtool_ok(port, &["silence", "query", "-o", "json"]);
    let mut exported: Value = serde_json::from_str(&exported).unwrap();
    assert_eq!((exported.as_array().unwrap().len(), &exported[0]["comment"]), (1, &"longer".into()));

    // An alert that it takes, and one that it does not.
    amtool_ok(port, &["alert", "add", "alertname=Foo", "node=n1", "severity=info", "--annotation=summary=one"]);
    amtool_ok(port, &["alert", "add", "Bar", "node=n2", "--generator-url=http://here/"]);
    let active = amtool_ok(port, &["alert", "query", "-o", "json"]);
    let active: Value = serde_json::from_str(&active).unwrap();
    assert_eq!((active.as_array().unwrap().len(), &active[0]["labels"]["alertname"]), (1, &"Bar".into()), "{active}");
    assert_eq!(active[0]["generatorURL"], "http://here/");
    let silenced = amtool_ok(port, &["alert", "query", "--silenced", "-o", "extended"]);
    assert!(silenced.contains("node=\"n1\"") && silenced.contains("suppressed"), "{silenced}");
    assert!(amtool_ok(port, &["alert", "query", "node=n2"]).contains("Bar"));
    eventually("the message about Bar", 10, || hook.bodies().iter().any(|body| body.contains("Bar")).then_some(()));
    assert!(!hook.bodies().iter().any(|body| body.contains("Foo")), "{:?}", hook.bodies());

    // Expired: what still fires is told at the next flush of its group.
    amtool_ok(port, &["silence", "expire", id]);
    assert!(!amtool_ok(port, &["silence", "query"]).contains(id));
    assert!(amtool_ok(port, &["silence", "query", "--expired"]).contains(id));
    let (succeeded, said) = amtool(port, &["silence", "expire", "00000000-0000-4000-8000-000000000000"]);
    assert!(!succeeded, "{said}");
    eventually("the message about Foo", 10, || hook.bodies().iter().any(|body| body.contains("Foo")).then_some(()));

    // Import makes new ones of what was exported.
    exported[0].as_object_mut().unwrap().shift_remove("id");
    let file = dir.path().join("silences.json");
    std::fs::write(&file, exported.to_string()).unwrap();
    amtool_ok(port, &["silence", "import", file.to_str().unwrap()]);
    assert!(amtool_ok(port, &["silence", "query"]).contains("longer"));

    assert!(amtool_ok(port, &["cluster", "show"]).contains("disabled"));
    let shown = amtool_ok(port, &["config", "show"]);
    std::fs::write(dir.path().join("shown.yml"), &shown).unwrap();
    let (succeeded, said) = amtool(port, &["check-config", dir.path().join("shown.yml").to_str().unwrap()]);
    assert!(succeeded, "{said}\n{shown}");
    let tree = amtool_ok(port, &["config", "routes", "show"]);
    assert!(tree.contains("severity=\"page\"") && tree.contains("receiver: pager"), "{tree}");
    for labels in [&["severity=page", "team=a"][..], &["severity=page"], &["team=b"], &["x=y"]] {
        let args = [&["config", "routes", "test"], labels].concat();
        let ours = amtool_ok(port, &args);
        let ours = ours.trim();
        let file = format!("--config.file={}", dir.path().join("am.yml").display());
        let expected = amtool_ok(port, &[&["config", "routes", "test", file.as_str()], labels].concat());
        assert_eq!(ours, expected.lines().next().unwrap(), "{labels:?}");
    }
    drop(sidewatch);
}

/// What differs from run to run or from one program to the other is made alike: ids, moments of now, the newer field.
fn normalized(value: &Value) -> Value {
    match value {
        Value::String(text) if text.len() == 36 && text.matches('-').count() == 4 => "ID".into(),
        Value::String(text) if text.len() == 24 && text.ends_with('Z') && !text.starts_with("21") => "NOW".into(),
        Value::Array(list) => list.iter().map(normalized).collect(),
        Value::Object(map) => {
            let kept = map.iter().filter(|(name, _)| *name != "mutedBy");
            kept.map(|(name, value)| (name.clone(), normalized(value))).collect()
        }
        other => other.clone(),
    }
}

#[test]
fn answers_are_those_of_a_real_alertmanager() {
    if !installed() {
        return;
    }
    let (dir, hook) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    let sidewatch = sidewatch(dir.path(), hook.port);
    let real = Alertmanager::start(dir.path());
    let ask = |port: u16, method: &str, path: &str, body: &str| {
        let (status, body) = request(port, method, &format!("/api/v2/{path}"), JSON, body.as_bytes());
        let body =
            if body.trim().is_empty() { Value::Null } else { serde_json::from_str(&body).unwrap_or(json!(body)) };
        (status, normalized(&body))
    };
    let same = |method: &str, path: &str, body: &str| {
        // Alertmanager's dispatcher takes a moment to make a group of a new alert.
        let deadline = Instant::now() + Duration::from_secs(10);
        eventually(&format!("{method} {path} {body} is answered alike"), 20, || {
            let (expected, found) = (ask(real.port, method, path, body), ask(sidewatch.observe, method, path, body));
            if method == "GET" && expected != found && Instant::now() < deadline {
                return None;
            }
            assert_eq!(found.1.to_string(), expected.1.to_string(), "{method} {path} {body}");
            assert_eq!(found.0, expected.0, "{method} {path} {body}");
            Some(())
        });
    };
    let (from, to) = ("2026-01-01T00:00:00Z", "2101-01-01T00:00:00.000Z");
    let matcher = json!({"name": "alertname", "value": "A", "isRegex": false, "isEqual": true});
    let silence = |matchers: Value, from: &str| {
        json!({"matchers": matchers, "startsAt": from, "endsAt": to, "createdBy": "me", "comment": "c"}).to_string()
    };
    for path in ["alerts", "alerts/groups", "silences", "receivers"] {
        same("GET", path, "");
    }
    let alerts = json!([
        {"labels": {"alertname": "A", "x": "1", "e": ""}, "annotations": {"s": "t"}, "startsAt": from, "endsAt": to, "generatorURL": "http://g/"},
        {"labels": {"alertname": "A", "x": "2"}, "endsAt": to},
        {"labels": {"alertname": "Down", "x": "3"}},
        {"labels": {"alertname": "B", "x": "3", "severity": "page", "team": "a"}, "startsAt": "2026-02-01T00:00:00.123Z"},
    ]);
    same("POST", "alerts", &alerts.to_string());
    for query in [
        "",
        "?active=false",
        "?active=true&inhibited=false",
        "?filter=x%3D3",
        "?filter=x%3D3&filter=severity%3D%22%22",
        "?receiver=pager",
        "?receiver=pa",
        "?filter=x!~%221%7C2%22",
        "?filter=alertname%3D~A",
        "?active=x",
    ] {
        same("GET", &format!("alerts{query}"), "");
        same("GET", &format!("alerts/groups{query}"), "");
    }
    same("POST", "silences", &silence(json!([matcher, {"name": "x", "value": "1", "isRegex": true}]), from));
    same(
        "POST",
        "silences",
        &silence(json!([{"name": "y", "value": "q", "isRegex": false, "isEqual": false}]), "2100-01-01T00:00:00.000Z"),
    );
    for query in ["", "?filter=alertname%3DA", "?filter=y!%3Dq", "?filter=y%3Dq", "?filter=x%3D~1"] {
        same("GET", &format!("silences{query}"), "");
    }
    for query in ["", "?silenced=false", "?active=false", "?active=false&inhibited=false"] {
        same("GET", &format!("alerts{query}"), "");
        same("GET", &format!("alerts/groups{query}"), "");
    }
    // An alert that is posted again with an end is over.
    let ended = json!([{"labels": {"alertname": "Down", "x": "3"}, "endsAt": "2026-03-01T00:00:00Z"}]);
    same("POST", "alerts", &ended.to_string());
    same("GET", "alerts", "");
    for (path, body) in [
        ("alerts", r#"[{"labels":{}}]"#),
        ("alerts", r#"[{"annotations":{"a":"b"}}]"#),
        ("alerts", r#"[{"labels":{"a":"1"},"startsAt":"2026-01-02T00:00:00Z","endsAt":"2026-01-01T00:00:00Z"}]"#),
        ("alerts", r#"[{"labels":{"a":"1"},"generatorURL":"not a url"}]"#),
        ("alerts", ""),
        ("alerts", "[]"),
        ("alerts", "null"),
        ("silences", ""),
        ("silences", "{}"),
        (
            "silences",
            r#"{"matchers":[],"startsAt":"2026-01-01T00:00:00Z","endsAt":"2101-01-01T00:00:00Z","createdBy":"","comment":""}"#,
        ),
    ] {
        same("POST", path, body);
    }
    same("POST", "silences", &silence(json!([{"name": "a", "value": "", "isRegex": false}]), from));
    same("POST", "silences", &silence(json!([{"name": "a", "value": ".*", "isRegex": true}]), from));
    same("POST", "silences", &silence(json!([matcher]), "2101-01-01T00:00:00Z"));
    let with_id = silence(json!([matcher]), from).replacen('{', r#"{"id":"nope","#, 1);
    same("POST", "silences", &with_id);
    same("GET", "silence/abc", "");
    same("GET", "silence/00000000-0000-4000-8000-000000000000", "");
    same("DELETE", "silence/abc", "");
    // Expired and looked at, each by its own id.
    let own_id = |port: u16| {
        let (_, body) = request(port, "GET", "/api/v2/silences?filter=alertname%3DA", &[], b"");
        serde_json::from_str::<Value>(&body).unwrap()[0]["id"].as_str().unwrap().to_owned()
    };
    let both = |method: &str| {
        let one = |port: u16| ask(port, method, &format!("silence/{}", own_id(port)), "");
        let (expected, found) = (one(real.port), one(sidewatch.observe));
        assert_eq!(found, expected, "{method}");
    };
    ["GET", "DELETE", "GET", "DELETE"].iter().for_each(|method| both(method));
    same("GET", "silences", "");
    same("GET", "alerts", "");
    let (_, status) = ask(sidewatch.observe, "GET", "status", "");
    let (_, expected) = ask(real.port, "GET", "status", "");
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for part in ["/versionInfo", "/cluster", "/config", ""] {
        assert_eq!(names(status.pointer(part).unwrap()), names(expected.pointer(part).unwrap()), "{part}");
    }
}
