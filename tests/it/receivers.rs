//! Receivers through the real binary: a real Alertmanager, a command, a server like PagerDuty's, one that fails first.

use crate::harness::{Receiver, Sidewatch, eventually, free_port, get, in_ci, run};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

const SOURCES: &str = "sources: {push: {http: {}}}\nbundled_rules: false\nexternal_url: http://sidewatch.example\n";

fn start(dir: &Path, rest: &str) -> Sidewatch {
    std::fs::write(dir.join("sidewatch.yaml"), format!("{SOURCES}{rest}")).unwrap();
    Sidewatch::start(dir, "run", &[])
}

fn send(sidewatch: &Sidewatch, event: &str) {
    let (status, answer) = sidewatch.post("/events", "application/json", event.as_bytes());
    assert_eq!(status, 202, "{answer}");
}

/// A gauge with a rule on it that fires below 5.
const STOCK: &str = "metrics: {stock: {gauge: {match: stock, value: data.n, labels: {item: subject}}}}\n\
                     alerts: {Low: {metric: stock, by: item, below: 5}}\n";

fn stock(sidewatch: &Sidewatch, n: i64) {
    send(sidewatch, &format!(r#"{{"type":"stock","target":"tea","payload":{{"n":{n}}}}}"#));
}

fn script(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Debian's Alertmanager on a free port; `None` where it is not installed, which is a failure in CI.
fn real_alertmanager(dir: &Path) -> Option<(u16, Stopped)> {
    let (port, config) = (free_port(), dir.join("real.yml"));
    std::fs::write(&config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n").unwrap();
    let started = Command::new("prometheus-alertmanager")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", dir.join("am").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--cluster.listen-address=")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = started else {
        assert!(!in_ci(), "prometheus-alertmanager is needed here");
        return None;
    };
    let child = Stopped(child);
    eventually("Alertmanager is ready", 20, || (get(port, "/-/ready").0 == 200).then_some(()));
    Some((port, child))
}

#[test]
fn a_real_alertmanager_is_handed_the_alert_and_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let Some((port, _alertmanager)) = real_alertmanager(dir.path()) else { return };
    let rest = format!("{STOCK}notify: {{up: {{alertmanager: {{url: 'http://127.0.0.1:{port}'}}}}}}\n");
    let sidewatch = start(dir.path(), &rest);
    let alerts = |query: &str| -> Vec<Value> {
        serde_json::from_str(&get(port, &format!("/api/v2/alerts{query}")).1).unwrap_or_default()
    };
    stock(&sidewatch, 2);
    let shown = eventually("Alertmanager shows the alert", 20, || alerts("").pop());
    assert_eq!((&shown["labels"]["alertname"], &shown["labels"]["item"]), (&"Low".into(), &"tea".into()), "{shown}");
    assert_eq!(shown["status"]["state"], "active");
    assert!(shown["generatorURL"].as_str().unwrap().starts_with("http://sidewatch.example/graph"), "{shown}");
    let ends: jiff::Timestamp = shown["endsAt"].as_str().unwrap().parse().unwrap();
    let ahead = ends.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((200..=240).contains(&ahead), "its end lies {ahead} s ahead");
    stock(&sidewatch, 9);
    eventually("Alertmanager takes it for ended", 20, || alerts("?active=true").is_empty().then_some(()));
    // By hand, and against nobody.
    let (code, out, err) = run(dir.path(), &["notifications", "test", "up"]);
    assert_eq!((code, out.matches("alertmanager ").count()), (0, 2), "{out}{err}");
}

#[test]
fn a_command_is_run_for_the_firing_and_the_ending() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let text = format!("cat >>{0}.json; echo \"$SIDEWATCH_STATUS $SIDEWATCH_LABEL_ITEM $1\" >>{0}", log.display());
    let page = script(dir.path(), "page.sh", &text);
    let rest = format!("{STOCK}notify:\n  exec_allowed: ['{page}']\n  page: {{exec: {{command: ['{page}', now]}}}}\n");
    let sidewatch = start(dir.path(), &rest);
    let logged = || std::fs::read_to_string(&log).unwrap_or_default();
    stock(&sidewatch, 2);
    eventually("the command told of the alert", 20, || (logged() == "firing tea now\n").then_some(()));
    stock(&sidewatch, 9);
    eventually("the command told of the end", 20, || (logged() == "firing tea now\nresolved tea now\n").then_some(()));
    let payloads = std::fs::read_to_string(format!("{}.json", log.display())).unwrap();
    let last: Value = serde_json::from_str(payloads.lines().last().unwrap()).unwrap();
    assert_eq!((&last["status"], &last["version"]), (&"resolved".into(), &"4".into()));
}

#[test]
fn a_server_like_pagerdutys_gets_trigger_and_resolve_with_one_key() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Receiver::start(202));
    std::fs::write(dir.path().join("key"), "the-key\n").unwrap();
    let rest = format!(
        "{STOCK}notify: {{oncall: {{pagerduty: {{routing_key_file: '{}', url: 'http://127.0.0.1:{}/v2/enqueue', severity: critical}}}}}}\n",
        dir.path().join("key").display(),
        server.port
    );
    let sidewatch = start(dir.path(), &rest);
    let events = || server.bodies().iter().map(|body| serde_json::from_str::<Value>(body).unwrap()).collect::<Vec<_>>();
    stock(&sidewatch, 2);
    eventually("the trigger", 20, || (events().len() == 1).then_some(()));
    stock(&sidewatch, 9);
    eventually("the resolve", 20, || (events().len() == 2).then_some(()));
    let events = events();
    assert_eq!((&events[0]["event_action"], &events[1]["event_action"]), (&"trigger".into(), &"resolve".into()));
    assert_eq!(events[0]["dedup_key"], events[1]["dedup_key"]);
    assert_eq!(events[0]["dedup_key"].as_str().unwrap().len(), 64);
    assert_eq!((&events[0]["routing_key"], &events[0]["payload"]["severity"]), (&"the-key".into(), &"critical".into()));
    // The value as it was when it fired, and the one that ended it.
    let ended = events[1]["payload"]["custom_details"]["resolved"].as_str().unwrap();
    assert!(ended.contains("Value when it fired: 2\n") && ended.contains("Value when it ended: 9\n"), "{ended}");
}

#[test]
fn the_labels_that_carry_most_of_it_stand_out() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Receiver::start(202));
    let rest = format!(
        "metrics: {{orders_total: {{counter: {{match: order, labels: {{region: data.region}}}}}}}}\n\
         alerts: {{Many: {{expr: 'sum(orders_total) >= 25'}}}}\n\
         notify: {{oncall: {{pagerduty: {{routing_key: k, url: 'http://127.0.0.1:{}/'}}}}}}\n",
        server.port
    );
    let sidewatch = start(dir.path(), &rest);
    let order = |region: &str| format!(r#"{{"type":"order","payload":{{"region":"{region}"}}}}"#);
    let batch: Vec<String> = (0..25).map(|at| order(if at < 2 { "us" } else { "eu" })).collect();
    send(&sidewatch, &format!("[{}]", batch.join(",")));
    let body = eventually("the message", 20, || server.bodies().pop());
    let event: Value = serde_json::from_str(&body).unwrap();
    let text = event["payload"]["custom_details"]["firing"].as_str().unwrap();
    assert!(text.contains("Stands out: region=eu: 92 %\n"), "{text}");
}

#[test]
fn the_last_events_fields_are_in_the_message() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Receiver::start(202));
    let rest = format!(
        "alerts: {{Burst: {{event: {{match: refused, count: '>= 2', within: 5s, by: data.region}}, annotations: {{summary: 'card {{{{ $event.data.card }}}}'}}}}}}\n\
         notify: {{oncall: {{pagerduty: {{routing_key: k, url: 'http://127.0.0.1:{}/'}}}}}}\n",
        server.port
    );
    let sidewatch = start(dir.path(), &rest);
    for card in ["visa", "amex"] {
        send(&sidewatch, &format!(r#"{{"type":"refused","data":{{"region":"eu","card":"{card}"}}}}"#));
    }
    let body = eventually("the message", 20, || server.bodies().pop());
    let event: Value = serde_json::from_str(&body).unwrap();
    let text = event["payload"]["custom_details"]["firing"].as_str().unwrap();
    assert!(text.starts_with("Burst: card amex\n") && text.contains("  Last event: data.card=amex\n"), "{text}");
}

/// A server that answers with each status in turn, the last one for ever, and counts what it was sent.
fn changing(statuses: &'static [u16]) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, got) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let into = got.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line).unwrap_or(0) > 0 && !line.trim().is_empty() {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                continue;
            }
            let status = {
                let mut got: std::sync::MutexGuard<'_, Vec<String>> = into.lock().unwrap();
                let status = statuses[got.len().min(statuses.len() - 1)];
                got.push(format!("{status} {}", String::from_utf8_lossy(&body)));
                status
            };
            let answer = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            let _ = reader.get_mut().write_all(answer.as_bytes());
        }
    });
    (port, got)
}

#[test]
fn a_receiver_that_fails_first_gets_the_message_once() {
    let dir = tempfile::tempdir().unwrap();
    let (port, got) = changing(&[500, 200]);
    let rest = format!("{STOCK}notify: {{hook: {{webhook: {{url: 'http://127.0.0.1:{port}/'}}}}}}\n");
    let sidewatch = start(dir.path(), &rest);
    let firing = |status: &str| {
        let got = got.lock().unwrap();
        got.iter().filter(|line| line.starts_with(status) && line.contains(r#""status":"firing","alerts""#)).count()
    };
    stock(&sidewatch, 2);
    eventually("the second try", 20, || (firing("200") == 1).then_some(()));
    assert_eq!(firing("500"), 1);
    // The ending is what comes next; nothing was told twice in between.
    stock(&sidewatch, 9);
    eventually("the ending", 20, || {
        got.lock().unwrap().last().is_some_and(|line| line.contains(r#""status":"resolved","alerts""#)).then_some(())
    });
    assert_eq!((firing("200"), got.lock().unwrap().len()), (1, 3));
}

#[test]
fn every_kind_can_be_tried_and_says_what_is_wrong() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    let good = script(dir.path(), "good.sh", "exit 0");
    let bad = script(dir.path(), "bad.sh", "echo no pager >&2; exit 7");
    let nobody = free_port();
    let kinds = |port: u16, command: &str| {
        format!(
            "  slack: {{slack: {{url: 'http://127.0.0.1:{port}/x'}}}}\n\
             \x20 bot: {{slack: {{app_token: t, app_url: 'http://127.0.0.1:{port}/api/chat.postMessage', channel: c}}}}\n\
             \x20 pd: {{pagerduty: {{routing_key: k, url: 'http://127.0.0.1:{port}/'}}}}\n\
             \x20 am: {{alertmanager: {{url: 'http://127.0.0.1:{port}'}}}}\n\
             \x20 hook: {{webhook: {{url: 'http://127.0.0.1:{port}/'}}}}\n\
             \x20 cmd: {{exec: {{command: '{command}'}}}}\n"
        )
    };
    let configure = |rest: &str| {
        let text = format!("notify:\n  exec_allowed: ['{good}', '{bad}']\n{rest}");
        std::fs::write(dir.path().join("sidewatch.yaml"), text).unwrap();
    };
    let names = ["slack", "bot", "pd", "am", "hook", "cmd"];
    configure(&kinds(server.port, &good));
    for name in names {
        let (code, out, err) = run(dir.path(), &["notifications", "test", name]);
        assert_eq!((code, out.matches(": delivered: ").count()), (0, 2), "{name}: {out}{err}");
    }
    configure(&kinds(nobody, &bad));
    for name in names {
        let (code, out, err) = run(dir.path(), &["notifications", "test", name]);
        let expected = match name {
            "cmd" => "bad.sh ended with 7: no pager".to_owned(),
            _ => format!("cannot connect to 127.0.0.1:{nobody}: Connection refused"),
        };
        assert!(code == 1 && out.contains("NOT delivered") && out.contains(&expected), "{name}: {code} {out}{err}");
    }
    // A command that nobody allowed is an error of the configuration, with its place.
    let text = format!("notify:\n  cmd: {{exec: {{command: '{good}'}}}}\n");
    std::fs::write(dir.path().join("sidewatch.yaml"), text).unwrap();
    let (code, _, err) = run(dir.path(), &["check"]);
    assert!(
        code == 2
            && err.contains("sidewatch.yaml:2:")
            && err.contains("may not be run")
            && err.contains("exec_allowed"),
        "{code} {err}"
    );
}

/// Every receiver with all the keys that Debian's Alertmanager knows.
const WHOLE: &str = r##"
global:
  resolve_timeout: 5m
  http_config: {follow_redirects: true, enable_http2: false}
  smtp_from: am@example.com
  smtp_smarthost: localhost:25
  smtp_hello: me
  smtp_auth_username: u
  smtp_auth_password: p
  smtp_auth_identity: i
  smtp_auth_secret: s
  smtp_require_tls: false
  slack_api_url: http://127.0.0.1:1/slack
  pagerduty_url: https://events.pagerduty.com/v2/enqueue
  opsgenie_api_key: k
  opsgenie_api_url: https://api.opsgenie.com/
  victorops_api_key: k
  victorops_api_url: https://alert.victorops.com/
  wechat_api_url: https://qyapi.weixin.qq.com/cgi-bin/
  wechat_api_secret: s
  wechat_api_corp_id: c
  telegram_api_url: https://api.telegram.org
  webex_api_url: https://webexapis.com/v1/messages
templates: []
route:
  receiver: all
  group_by: [alertname]
receivers:
- name: all
  webhook_configs:
  - url: http://127.0.0.1:1/hook
    send_resolved: true
    max_alerts: 3
    http_config:
      oauth2: {client_id: c, client_secret: s, token_url: 'http://127.0.0.1:1/t', scopes: [a], endpoint_params: {x: y}, tls_config: {insecure_skip_verify: true}}
      proxy_url: http://127.0.0.1:3128
  - url: http://127.0.0.1:1/basic
    http_config: {basic_auth: {username: u, password: p}, tls_config: {server_name: n, min_version: TLS12}}
  - url: http://127.0.0.1:1/bearer
    http_config: {authorization: {type: Bearer, credentials: x}, follow_redirects: false}
  slack_configs:
  - channel: '#c'
    username: '{{ template "slack.default.username" . }}'
    color: '{{ if eq .Status "firing" }}danger{{ else }}good{{ end }}'
    title: '{{ template "slack.default.title" . }}'
    title_link: '{{ template "slack.default.titlelink" . }}'
    pretext: '{{ template "slack.default.pretext" . }}'
    text: '{{ range .Alerts }}{{ .Labels.SortedPairs.Values | join " " }} {{ .StartsAt }}{{ end }}'
    fallback: '{{ template "slack.default.fallback" . }}'
    callback_id: '{{ template "slack.default.callbackid" . }}'
    footer: '{{ template "slack.default.footer" . }}'
    icon_emoji: ':x:'
    icon_url: http://i
    image_url: http://i
    thumb_url: http://i
    link_names: true
    short_fields: true
    mrkdwn_in: [text]
    send_resolved: true
    fields: [{title: t, value: v, short: false}]
    actions: [{type: button, text: t, url: 'http://u', style: primary}, {type: button, text: t, name: n, value: v, confirm: {text: t, title: t, ok_text: o, dismiss_text: d}}]
  email_configs:
  - to: a@example.com, b@example.com
    from: f@example.com
    smarthost: localhost:587
    hello: h
    auth_username: u
    auth_password: p
    auth_secret: s
    auth_identity: i
    require_tls: true
    tls_config: {insecure_skip_verify: true}
    html: '{{ template "email.default.html" . }}'
    text: '{{ .CommonLabels.alertname }}'
    headers: {Subject: '{{ template "email.default.subject" . }}', X-A: b}
  pagerduty_configs:
  - routing_key: k
    url: https://events.pagerduty.com/v2/enqueue
    client: '{{ template "pagerduty.default.client" . }}'
    client_url: '{{ template "pagerduty.default.clientURL" . }}'
    description: '{{ template "pagerduty.default.description" .}}'
    severity: '{{ .CommonLabels.severity }}'
    class: c
    component: c
    group: g
    details: {firing: '{{ template "pagerduty.default.instances" .Alerts.Firing }}', x: y}
    images: [{src: s, alt: a, href: h}]
    links: [{href: h, text: t}]
  - service_key: k
  opsgenie_configs: [{message: m, tags: t, responders: [{name: n, type: team}], update_alerts: true, entity: e, actions: a}]
  victorops_configs: [{routing_key: r, message_type: CRITICAL, custom_fields: {a: b}}]
  wechat_configs: [{to_user: u, agent_id: '1', message_type: text}]
  pushover_configs: [{user_key: u, token: t, title: t, retry: 1m, expire: 1h, html: true}]
  sns_configs: [{topic_arn: 'arn:aws:sns:us-east-2:1:t', sigv4: {region: us-east-2}, attributes: {a: b}}]
  telegram_configs: [{bot_token: t, chat_id: 1, parse_mode: HTML, disable_notifications: true}]
  webex_configs: [{room_id: r, message: m, http_config: {authorization: {credentials: c}}}]
  discord_configs: [{webhook_url: 'http://127.0.0.1:1/d', title: t, message: m}]
"##;

#[test]
fn what_amtool_accepts_is_accepted_and_what_is_not_served_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("am.yml"), WHOLE).unwrap();
    std::fs::write(dir.path().join("sidewatch.yaml"), "notify: {alertmanager: am.yml}\n").unwrap();
    match Command::new("amtool").args(["check-config", "am.yml"]).current_dir(dir.path()).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => assert!(!in_ci(), "amtool is needed here: {error}"),
    }
    let (code, out, err) = run(dir.path(), &["check"]);
    assert_eq!(code, 0, "{out}{err}");
    let named: Vec<&str> = err.lines().filter(|line| line.contains("are not served by this build")).collect();
    assert_eq!(named.len(), 8, "{err}");
    assert!(!err.contains("error"), "{err}");
}

#[test]
fn paths_start_at_the_file_that_names_them() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |name: &str| dir.path().join(name);
    let [hook, routed, dog, target] = [(); 4].map(|()| Receiver::start(200));
    std::fs::create_dir_all(at("secrets")).unwrap();
    std::fs::create_dir_all(at("am/secrets")).unwrap();
    for (name, port) in [("secrets/hook", hook.port), ("am/secrets/hook", routed.port), ("secrets/dog", dog.port)] {
        std::fs::write(at(name), format!("http://127.0.0.1:{port}/{name}\n")).unwrap();
    }
    std::fs::write(at("secrets/token"), "t0ken\n").unwrap();
    let alertmanager = "route: {receiver: r, group_wait: 0s}\n\
                        receivers: [{name: r, webhook_configs: [{url_file: secrets/hook}]}]\n";
    std::fs::write(at("am/alertmanager.yml"), alertmanager).unwrap();
    let short = "hook: {webhook: {url_file: secrets/hook}}";
    for (notify, receiver) in [(short, &hook), ("alertmanager: am/alertmanager.yml", &routed)] {
        let text = format!(
            "sources: {{push: {{http: {{}}}}, s: {{scrape: {{url: 'http://127.0.0.1:{}/', interval: 100ms, authorization: {{credentials_file: secrets/token}}}}}}}}\n\
             bundled_rules: false\nwatchdog: {{url_file: secrets/dog, every: 1s}}\nnotify: {{{notify}}}\n{STOCK}",
            target.port
        );
        std::fs::write(at("sidewatch.yaml"), text).unwrap();
        let file = at("sidewatch.yaml").display().to_string();
        let sidewatch = Sidewatch::start(elsewhere.path(), "run", &["--config", &file]);
        stock(&sidewatch, 1);
        eventually(&format!("a message by {notify}"), 20, || receiver.bodies().pop());
        eventually("a ping", 20, || dog.bodies().pop());
        eventually("a scrape", 20, || target.bodies().pop());
        // What it still says must not stand for what the next one says.
        sidewatch.kill();
        dog.got.lock().unwrap().clear();
        target.got.lock().unwrap().clear();
    }
}
