//! PagerDuty, Slack's bots, payloads, commands and handing over, against local servers; golden bodies.

use super::*;
use crate::config::Spanned;
use crate::notify::courier::Context;
use crate::notify::memory::Remembered;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// 2026-11-21T02:25:08.552Z
pub(super) const FIRED: Timestamp = Timestamp::from_millis(1_795_227_908_552);

/// What was asked: method and path, headers, body.
pub(super) type Asked = (String, HeaderMap, String);
type Answers = VecDeque<(u16, &'static str, String)>;

/// A server that gives its answers in turn, the last one for ever.
#[derive(Clone, Default)]
pub(super) struct Server {
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Arc<Mutex<Answers>>,
}

impl Server {
    pub(super) async fn start(answers: &[(u16, &'static str, &str)]) -> (String, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answers = answers.iter().map(|(status, kind, body)| (*status, *kind, (*body).to_owned())).collect();
        let server = Self { answers: Arc::new(Mutex::new(answers)), ..Self::default() };
        let app = axum::Router::new().fallback(answer).with_state(server.clone());
        #[expect(clippy::disallowed_methods, reason = "a server of a test ends with its runtime")]
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (address, server)
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn bodies(&self) -> Vec<Value> {
        self.asked().iter().map(|(_, _, body)| serde_json::from_str(body).unwrap()).collect()
    }

    fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|(path, ..)| path).collect()
    }
}

async fn answer(State(server): State<Server>, request: Request) -> axum::response::Response {
    let (path, headers) = (format!("{} {}", request.method(), request.uri()), request.headers().clone());
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    server.asked.lock().unwrap().push((path, headers, String::from_utf8(body.to_vec()).unwrap()));
    let mut answers = server.answers.lock().unwrap();
    let (status, kind, body) = if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() };
    (StatusCode::from_u16(status).unwrap(), [("content-type", kind)], body).into_response()
}

pub(super) fn courier() -> Courier {
    Courier::new(Terminal::new(false, |_| {}), "http://vm:19193")
}

/// Routing whose only receiver `r` has these integrations in Alertmanager's format.
pub(super) fn receiver(configs: &str) -> Arc<Routing> {
    alertmanager(&format!("route: {{receiver: r}}\nreceivers:\n- name: r\n{configs}\n"))
}

fn flip() -> Alert {
    Alert {
        labels: Labels::from_pairs([("alertname", "Flip"), ("region", "eu"), ("severity", "page")]),
        annotations: Labels::from_pairs([("summary", "too many <failures>"), ("runbook_url", "https://wiki/flip")]),
        value_at_firing: 12.5,
        value: 12.5,
        generator_url: "http://vm/graph".into(),
        context: crate::model::AlertContext { stands_out: vec!["code=500: 92 %".into()], event: Vec::new() },
        ..alert("Flip", FIRED)
    }
}

fn ended(alert: &Alert) -> Alert {
    Alert { resolved_at: Some(alert.fired_at.plus_millis(65_000)), value_at_resolve: Some(0.5), ..alert.clone() }
}

pub(super) fn firing() -> Notification {
    notification("r", vec![flip()], FIRED)
}

pub(super) fn resolved() -> Notification {
    Notification { since: FIRED, ..notification("r", vec![ended(&flip())], FIRED.plus_millis(65_000)) }
}

pub(super) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not come about within five seconds");
}

#[tokio::test]
async fn pagerduty_is_told_as_its_api_wants_it() {
    let (address, server) = Server::start(&[(202, "application/json", r#"{"status":"success"}"#)]).await;
    let routing = receiver(&format!("  pagerduty_configs: [{{routing_key: abc, url: '{address}/v2/enqueue'}}]"));
    for message in [firing(), resolved()] {
        let outcome = courier().deliver(&routing, &message, FIRED).await;
        assert!(matches!(outcome, Outcome::Delivered(_)), "{outcome:?}");
    }
    // The key is what sha256sum says of {}:{alertname="Flip"}, as Alertmanager names the group.
    let golden = r#"{"routing_key":"abc","dedup_key":"a9cc41220f504a242157ad6579651ea264af029b1f5c9016ee63695bb37873ac","event_action":"trigger","payload":{"summary":"[FIRING:1] Flip (eu page): too many \u003cfailures\u003e","source":"sidewatch","severity":"error","custom_details":{"firing":"Flip: too many \u003cfailures\u003e\n  Since: 2026-11-21 02:25:08 UTC\n  Value when it fired: 12.5\n  Stands out: code=500: 92 %\n  Labels: region=\"eu\", severity=\"page\"\n  runbook_url: https://wiki/flip\n  http://vm/graph\n","num_firing":1,"num_resolved":0,"resolved":""}},"client":"sidewatch","client_url":"http://vm:19193","links":[{"href":"https://wiki/flip","text":"Runbook"}]}
"#;
    let asked = server.asked();
    assert_eq!(asked[0].2, golden);
    assert_eq!(asked[0].0, "POST /v2/enqueue");
    let bodies = server.bodies();
    assert_eq!(bodies[1]["event_action"], "resolve");
    assert_eq!(bodies[1]["dedup_key"], bodies[0]["dedup_key"]);
    let text = bodies[1]["payload"]["custom_details"]["resolved"].as_str().unwrap();
    assert!(text.contains("Value when it fired: 12.5\n") && text.contains("Value when it ended: 0.5\n"), "{text}");
}

#[tokio::test]
async fn pagerdutys_options_are_templates_and_its_refusals_are_final() {
    let (address, server) = Server::start(&[
        (202, "application/json", "{}"),
        (400, "application/json", r#"{"status":"invalid event","message":"Event object is invalid","errors":["Length of 'routing_key' is incorrect"]}"#),
        (429, "text/plain", "slow down"),
        (502, "text/plain", ""),
    ])
    .await;
    let routing = receiver(&format!(
        "  pagerduty_configs:
  - routing_key: '{{{{ .CommonLabels.region }}}}-key'
    url: '{address}'
    client: me
    client_url: http://c
    description: 'd {{{{ .Status }}}}'
    severity: '{{{{ .CommonLabels.severity }}}}'
    source: s
    class: c
    component: o
    group: g
    details: {{firing: '{{{{ .Alerts.Firing | toJson }}}}', extra: 'x {{{{ len .Alerts }}}}', deep: {{list: [1, '{{{{ len .Alerts }}}}']}}}}
    images: [{{src: http://i, alt: a}}, {{src: '{{{{ .CommonLabels.none }}}}'}}]
    links: [{{href: http://l, text: t}}]"
    ));
    let courier = courier();
    assert!(matches!(courier.deliver(&routing, &firing(), FIRED).await, Outcome::Delivered(_)));
    let body = server.bodies().remove(0);
    assert_eq!(
        (&body["routing_key"], &body["client"], &body["client_url"]),
        (&json!("eu-key"), &json!("me"), &json!("http://c"))
    );
    let payload = &body["payload"];
    for (key, value) in [
        ("summary", "d firing"),
        ("severity", "page"),
        ("source", "s"),
        ("class", "c"),
        ("component", "o"),
        ("group", "g"),
    ] {
        assert_eq!(payload[key], value);
    }
    let details = &payload["custom_details"];
    assert_eq!((&details["extra"], &details["deep"]), (&json!("x 1"), &json!({"list": [1, 1]})));
    assert_eq!(details["firing"][0]["labels"]["region"], "eu", "JSON in a text is JSON: {details}");
    assert_eq!(details["firing"][0]["startsAt"], "2026-11-21T02:25:08.552Z");
    assert_eq!(body["images"], json!([{"src": "http://i", "alt": "a", "href": ""}]));
    assert_eq!(body["links"], json!([{"href": "http://l", "text": "t"}]));
    let Outcome::Final { error } = courier.deliver(&routing, &firing(), FIRED).await else { panic!() };
    assert_eq!(
        error,
        "answered 400: Event object is invalid: Length of 'routing_key' is incorrect (the routing key is that of an Events API v2 integration of a service)"
    );
    for _ in 0..2 {
        assert!(matches!(courier.deliver(&routing, &firing(), FIRED).await, Outcome::Retry { .. }));
    }
}

#[test]
fn an_event_that_is_too_large_loses_its_details_and_says_so() {
    let config = pagerduty::PagerDutyConfig::new(pagerduty::PagerDutyKey::Routing(
        crate::config::schema::SecretSource::File(Spanned::bare("/none".to_owned())),
    ));
    let mut large = flip();
    large.annotations = Labels::from_pairs([("description", "x".repeat(600_000))]);
    let templates = crate::template::Templates::default();
    let context = Context { external_url: "", templates: &templates, now: FIRED };
    let event =
        pagerduty::event(&config, &crate::secret::Secret::new("k"), &notification("r", vec![large], FIRED), &context);
    let bytes = pagerduty::encode(event);
    assert!(bytes.len() < 10_000, "{}", bytes.len());
    let event: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(
        event["payload"]["custom_details"]["error"],
        "Custom details have been removed because the original event exceeds the maximum size of 512KB"
    );
    assert!(event["payload"]["summary"].as_str().unwrap().chars().count() <= 1_024);
}

#[tokio::test]
async fn the_first_version_of_pagerdutys_api_is_spoken_too() {
    let (address, server) = Server::start(&[(403, "text/plain", "rate"), (200, "text/plain", "ok")]).await;
    let routing = receiver(&format!("  pagerduty_configs: [{{service_key: old, url: '{address}'}}]"));
    let courier = courier();
    assert!(matches!(courier.deliver(&routing, &firing(), FIRED).await, Outcome::Retry { .. }), "403 means too many");
    assert!(matches!(courier.deliver(&routing, &resolved(), FIRED).await, Outcome::Delivered(_)));
    let bodies = server.bodies();
    assert_eq!((&bodies[0]["event_type"], &bodies[1]["event_type"]), (&json!("trigger"), &json!("resolve")));
    assert_eq!(bodies[0]["service_key"], "old");
    assert_eq!(bodies[0]["incident_key"], bodies[1]["incident_key"]);
    assert!(
        bodies[0].get("payload").is_none() && bodies[0]["client"] == "sidewatch" && bodies[1].get("client").is_none()
    );
}

const POSTED: &str = r#"{"ok":true,"channel":"C1","ts":"1700.1"}"#;

/// Delivers messages one after the other as the deliveries do: what one gives to be remembered, the next one knows.
async fn in_turn(routing: &Routing, messages: &[Notification]) -> (Vec<Outcome>, Option<Remembered>) {
    let (courier, mut memory, mut outcomes) = (courier(), None, Vec::new());
    for message in messages {
        let (outcome, change) = courier.deliver_after(routing, message, memory.as_ref(), FIRED).await;
        if let Some(change) = change {
            memory = change;
        }
        outcomes.push(outcome);
    }
    (outcomes, memory)
}

#[tokio::test]
async fn a_bot_edits_its_message_until_all_has_ended() {
    let (address, server) = Server::start(&[(200, "application/json; charset=utf-8", POSTED)]).await;
    let bot = |more: &str| {
        receiver(&format!(
            "  slack_configs: [{{app_token: xoxb-1, app_url: '{address}/api/chat.postMessage', channel: '#ops', send_resolved: true, {more}}}]"
        ))
    };
    let two = Notification {
        since: FIRED,
        ..notification("r", vec![flip(), alert("Flip x=2", FIRED)], FIRED.plus_millis(9))
    };
    let (outcomes, memory) = in_turn(&bot("update_message: true"), &[firing(), two.clone(), resolved()]).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Delivered("answered 200 ok".into())), "{outcomes:?}");
    assert_eq!(memory, None, "the next episode is a message of its own");
    assert_eq!(server.paths(), ["POST /api/chat.postMessage", "POST /api/chat.update", "POST /api/chat.update"]);
    let bodies = server.bodies();
    assert_eq!(bodies[0]["channel"], "#ops");
    assert_eq!((&bodies[1]["channel"], &bodies[1]["ts"]), (&json!("C1"), &json!("1700.1")));
    assert_eq!(bodies[2]["attachments"][0]["color"], "good");
    assert_eq!(server.asked()[0].1["authorization"], "Bearer xoxb-1");

    // The other way to write it: the API's address, and the token in http_config.
    server.asked.lock().unwrap().clear();
    let by_address = receiver(&format!(
        "  slack_configs: [{{api_url: '{address}/api/chat.postMessage', channel: c, update_message: true, http_config: {{authorization: {{credentials: xoxb-2}}}}}}]"
    ));
    in_turn(&by_address, &[firing(), two.clone()]).await;
    assert_eq!(server.paths(), ["POST /api/chat.postMessage", "POST /api/chat.update"]);
    assert_eq!(server.asked()[1].1["authorization"], "Bearer xoxb-2");

    server.asked.lock().unwrap().clear();
    let threaded = bot("message_strategy: thread, threaded_options: {resolve_emoji: ':ok:'}");
    in_turn(&threaded, &[firing(), two, resolved()]).await;
    let paths = server.paths();
    assert_eq!(paths.last().unwrap(), "POST /api/reactions.add");
    assert_eq!(paths[..3], ["POST /api/chat.postMessage"; 3]);
    let bodies = server.bodies();
    assert!(bodies[0].get("thread_ts").is_none());
    assert_eq!((&bodies[1]["thread_ts"], &bodies[2]["thread_ts"]), (&json!("1700.1"), &json!("1700.1")));
    assert_eq!(bodies[3], json!({"channel": "C1", "timestamp": "1700.1", "name": "ok"}));
}

#[tokio::test]
async fn what_was_posted_is_remembered_through_a_restart() {
    let (address, server) = Server::start(&[(200, "application/json", POSTED)]).await;
    let routing = receiver(&format!(
        "  slack_configs: [{{app_token: t, app_url: '{address}/api/chat.postMessage', channel: c, update_message: true}}]"
    ));
    let clock: Clock = Arc::new(|| FIRED);
    let mut saved: Option<Vec<u8>> = None;
    let later = Notification { at: FIRED.plus_millis(9), ..firing() };
    for (sent, message) in [firing(), later].into_iter().enumerate() {
        let mut outbox = Outbox::new(100, 1);
        if let Some(bytes) = &saved {
            outbox.restore(bytes, FIRED).unwrap();
        }
        let deliveries = Deliveries::new(outbox, routing.clone(), courier(), clock.clone());
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "joined below")]
        let running = tokio::spawn(deliveries.clone().run(stop.clone(), Duration::from_secs(5)));
        deliveries.send(vec![message]);
        eventually("the message", || server.asked().len() == sent + 1).await;
        stop.cancel();
        assert_eq!(running.await.unwrap(), DrainReport::default());
        saved = Some(deliveries.snapshot().1);
    }
    assert_eq!(server.paths(), ["POST /api/chat.postMessage", "POST /api/chat.update"]);
    assert_eq!(server.bodies()[1]["ts"], "1700.1");
}

#[tokio::test]
async fn a_message_that_cannot_be_edited_is_told_anew() {
    let gone = r#"{"ok":false,"error":"message_not_found"}"#;
    let json = "application/json";
    let (address, server) =
        Server::start(&[(200, json, POSTED), (200, json, gone), (200, json, r#"{"ok":true,"channel":"C1","ts":"2"}"#)])
            .await;
    let routing = receiver(&format!(
        "  slack_configs: [{{app_token: t, app_url: '{address}/api/chat.postMessage', channel: c, update_message: true}}]"
    ));
    let later = Notification { at: FIRED.plus_millis(9), ..firing() };
    let (outcomes, memory) = in_turn(&routing, &[firing(), later]).await;
    assert!(matches!(outcomes[1], Outcome::Delivered(_)), "{outcomes:?}");
    assert_eq!(server.paths()[1..], ["POST /api/chat.update", "POST /api/chat.postMessage"]);
    assert_eq!(memory, Some(Remembered::Posted { channel: "C1".into(), ts: "2".into(), since: FIRED }));
}

#[test]
fn a_webhook_cannot_edit_and_two_accesses_contradict() {
    let check = |more: &str, expected: &str| {
        let text = format!("route: {{receiver: r}}\nreceivers: [{{name: r, slack_configs: [{{{more}}}]}}]\n");
        let mut found = Diagnostics::new();
        Routing::compile(&NotifyConfig::default(), Some(("am.yaml", &text)), &[], &mut found);
        let said = found.to_string();
        assert!(said.lines().next().unwrap_or_default().ends_with(expected), "{said}");
    };
    let needed = "am.yaml:2:88: error: a webhook cannot edit or answer messages: a bot's token is needed";
    check("api_url: 'http://x/services/1', update_message: true", needed);
    check(
        "api_url: 'http://x', app_token: t",
        "slack_configs: at most one of api_url (a webhook) and app_token (a bot) may be set",
    );
    check("app_token: t, update_message: true, message_strategy: new", "belongs to message_strategy: update");
    check("app_token: t, threaded_options: {}", "threaded_options belong to message_strategy: thread");
    check("app_token: t, actions: [{type: button, text: x}]", "action: one of url and name is needed");
}

#[test]
fn templates_see_what_stands_out_and_the_last_event() {
    let mut alert = flip();
    alert.context.event = vec![("data.card".into(), "visa".into())];
    let message = notification("r", vec![alert], FIRED);
    let templates = crate::template::Templates::default();
    let text = r#"{{ range .Alerts }}{{ .ValueAtFiring }} {{ index .LastEvent "data.card" }} {{ join "," .StandsOut }}{{ end }}"#;
    let template = crate::template::Template::parse_as(text, crate::template::Dialect::Alertmanager).unwrap();
    let renderer = render::Renderer::new(&message, "", &templates);
    assert_eq!(renderer.text(&template), "12.5 visa code=500: 92 %");
}

#[tokio::test]
async fn slack_says_ok_false_with_200() {
    let check = async |kind: &'static str, body: &str, expected: Outcome| {
        let (address, _) = Server::start(&[(200, kind, body)]).await;
        let routing = receiver(&format!("  slack_configs: [{{api_url: '{address}/services/T0/B0/secretsecret'}}]"));
        assert_eq!(courier().deliver(&routing, &firing(), FIRED).await, expected);
    };
    let refused = |error: &str| Outcome::Final { error: error.into() };
    let json = "application/json";
    check(
        json,
        r#"{"ok":false,"error":"not_in_channel"}"#,
        refused("answered 200: not_in_channel (the bot is not in the channel: invite it, or give it the scope chat:write.public)"),
    )
    .await;
    check(
        json,
        r#"{"ok":false,"error":"ratelimited"}"#,
        Outcome::Retry { error: "answered 200: ratelimited".into(), retry_after_ms: None },
    )
    .await;
    check(
        "text/plain",
        "no_service",
        refused("answered 200 OK: no_service (the webhook was removed or switched off: make a new one and put its address into url)"),
    )
    .await;
    check("text/plain", "ok", Outcome::Delivered("answered 200 OK: ok".into())).await;
    // An answer that repeats the address does not take the secret into logs.
    check(
        "text/plain",
        "thanks for services/T0/B0/secretsecret",
        Outcome::Delivered("answered 200 OK: thanks for <secret>".into()),
    )
    .await;
}

#[tokio::test]
async fn slacks_body_with_every_option() {
    let (address, server) = Server::start(&[(200, "text/plain", "ok")]).await;
    let routing = receiver(&format!(
        "  slack_configs:
  - api_url: '{address}'
    channel: '#c'
    username: u
    color: '#123456'
    title: t
    title_link: http://l
    pretext: p
    text: x
    message_text: m
    fallback: f
    callback_id: cb
    footer: fo
    icon_emoji: ':e:'
    icon_url: http://i
    image_url: http://im
    thumb_url: http://th
    link_names: true
    short_fields: true
    mrkdwn_in: [text]
    fields: [{{title: a, value: '{{{{ .Status }}}}'}}, {{title: b, value: c, short: false}}]
    actions: [{{type: button, text: go, url: http://g, name: n, style: primary}}, {{type: button, text: do, name: n, value: v, confirm: {{text: sure}}}}]"
    ));
    assert!(matches!(courier().deliver(&routing, &firing(), FIRED).await, Outcome::Delivered(_)));
    let golden = r##"{"channel":"#c","username":"u","icon_emoji":":e:","icon_url":"http://i","text":"m","link_names":true,"attachments":[{"title":"t","title_link":"http://l","pretext":"p","text":"x","fallback":"f","callback_id":"cb","footer":"fo","image_url":"http://im","thumb_url":"http://th","color":"#123456","fields":[{"title":"a","value":"firing","short":true},{"title":"b","value":"c","short":false}],"actions":[{"type":"button","text":"go","url":"http://g","style":"primary"},{"type":"button","text":"do","name":"n","value":"v","confirm":{"text":"sure"}}],"mrkdwn_in":["text"],"ts":1795227908}]}"##;
    assert_eq!(server.asked()[0].2, golden);
}

#[tokio::test]
async fn definitions_of_ones_own_replace_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let definitions = r#"{{ define "slack.default.text" }}mine {{ .Status }}{{ end }}{{ define "pagerduty.default.description" }}d{{ end }}"#;
    std::fs::write(folder.path().join("own.tmpl"), definitions).unwrap();
    let (address, server) = Server::start(&[(200, "text/plain", "ok")]).await;
    let text = format!(
        "templates: [own.tmpl]\nroute: {{receiver: r}}\nreceivers: [{{name: r, slack_configs: [{{api_url: '{address}'}}], pagerduty_configs: [{{routing_key: k, url: '{address}'}}]}}]\n"
    );
    let file = folder.path().join("am.yaml");
    let mut found = Diagnostics::new();
    let named = Some((file.to_str().unwrap(), text.as_str()));
    let routing = Routing::compile(&NotifyConfig::default(), named, &[], &mut found).unwrap();
    courier().deliver(&routing, &firing(), FIRED).await;
    courier().deliver(&routing, &Notification { integration: 1, ..firing() }, FIRED).await;
    let bodies = server.bodies();
    assert_eq!(bodies[0]["attachments"][0]["text"], "mine firing");
    assert_eq!(bodies[1]["payload"]["summary"], "d");
}

#[tokio::test]
async fn a_payload_of_ones_own_and_a_templated_address() {
    let (address, server) = Server::start(&[(200, "text/plain", "ok")]).await;
    let routing = receiver(&format!(
        "  webhook_configs:
  - url: '{address}/{{{{ .CommonLabels.region }}}}'
    payload: {{text: '{{{{ .Status }}}} & more', count: '{{{{ len .Alerts }}}}', fixed: [1, true, null, '2'], alerts: '{{{{ .Alerts | toJson }}}}'}}"
    ));
    assert!(matches!(courier().deliver(&routing, &firing(), FIRED).await, Outcome::Delivered(_)));
    let (path, _, body) = server.asked().remove(0);
    assert_eq!(path, "POST /eu");
    assert!(
        body.starts_with(
            r#"{"text":"firing \u0026 more","count":1,"fixed":[1,true,null,2],"alerts":[{"status":"firing""#
        ),
        "{body}"
    );
}

#[tokio::test]
async fn alerts_are_handed_over_and_told_again_until_they_are_over() {
    let (address, server) = Server::start(&[(200, "application/json", "")]).await;
    let routing = receiver(&format!("  alertmanager_configs: [{{url: '{address}/am'}}]"));
    let offset = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let clock: Clock = {
        let (start, offset) = (tokio::time::Instant::now(), offset.clone());
        Arc::new(move || {
            let moved_ms = offset.load(std::sync::atomic::Ordering::SeqCst);
            FIRED.plus_micros(start.elapsed().as_micros() as i64).plus_millis(moved_ms)
        })
    };
    let deliveries = Deliveries::new(Outbox::new(100, 1), routing.clone(), courier(), clock.clone());
    let stop = CancellationToken::new();
    #[expect(clippy::disallowed_methods, reason = "joined below")]
    let running = tokio::spawn(deliveries.clone().run(stop.clone(), Duration::from_secs(5)));
    deliveries.send(vec![firing()]);
    eventually("the hand-over", || server.asked().len() == 1).await;
    let first = server.bodies().remove(0);
    assert_eq!(server.paths()[0], "POST /am/api/v2/alerts");
    assert_eq!(first[0]["labels"]["alertname"], "Flip");
    assert_eq!(first[0]["startsAt"], "2026-11-21T02:25:08.552Z");
    assert_eq!(first[0]["generatorURL"], "http://vm/graph");
    let ahead = |alert: &Value| {
        let end: jiff::Timestamp = alert["endsAt"].as_str().unwrap().parse().unwrap();
        (end.as_millisecond() - FIRED.millis()) / 1_000
    };
    assert_eq!(ahead(&first[0]), 240, "the end lies four resends ahead");
    stop.cancel();
    running.await.unwrap();

    // A restart, more than a minute later: what was handed over is told again, with an end that lies ahead again.
    offset.store(100_000, std::sync::atomic::Ordering::SeqCst);
    let mut outbox = Outbox::new(100, 1);
    outbox.restore(&deliveries.snapshot().1, clock()).unwrap();
    let deliveries = Deliveries::new(outbox, routing, courier(), clock.clone());
    let stop = CancellationToken::new();
    #[expect(clippy::disallowed_methods, reason = "joined below")]
    let running = tokio::spawn(deliveries.clone().run(stop.clone(), Duration::from_secs(5)));
    eventually("the alert again", || server.asked().len() == 2).await;
    assert!((335..=345).contains(&ahead(&server.bodies()[1][0])), "{}", server.bodies()[1][0]);
    deliveries.send(vec![resolved()]);
    eventually("its end", || server.asked().len() == 3).await;
    assert_eq!(server.bodies()[2][0]["endsAt"], "2026-11-21T02:26:13.552Z");
    stop.cancel();
    running.await.unwrap();

    // The end is told again as well, and in the end nothing is.
    let mut outbox = Outbox::new(100, 1);
    outbox.restore(&deliveries.snapshot().1, clock()).unwrap();
    let lane: LaneId = ("r".into(), 0);
    assert_eq!(outbox.handed(&lane, FIRED.plus_millis(65_000 + 14 * 60_000)).len(), 1);
    assert_eq!(outbox.handed(&lane, FIRED.plus_millis(65_000 + 16 * 60_000)).len(), 0);
    assert_eq!(outbox.lanes().count(), 0);
}

#[tokio::test]
async fn one_alertmanager_of_several_is_enough() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (address, _) = Server::start(&[(200, "application/json", "")]).await;
    let deliver = async |urls: &str| {
        courier().deliver(&receiver(&format!("  alertmanager_configs: [{{url: [{urls}]}}]")), &firing(), FIRED).await
    };
    let Outcome::Delivered(said) = deliver(&format!("'http://{nobody}', '{address}'")).await else { panic!() };
    assert!(said.starts_with("answered 200 OK (1 of 2; another: cannot connect to 127.0.0.1"), "{said}");
    let Outcome::Retry { error, .. } = deliver(&format!("'http://{nobody}'")).await else { panic!() };
    assert!(error.starts_with("cannot connect to 127.0.0.1"), "{error}");
}

/// A receiver that runs a script of this text.
fn script(folder: &std::path::Path, text: &str, timeout: &str) -> Arc<Routing> {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("run.sh");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = path.display().to_string();
    let config = NotifyConfig { exec_allowed: vec![Spanned::bare(path.clone())], ..NotifyConfig::default() };
    let file = format!(
        "route: {{receiver: r}}\nreceivers: [{{name: r, exec_configs: [{{command: ['{path}', 'one two'], timeout: {timeout}}}]}}]\n"
    );
    let mut found = Diagnostics::new();
    let routing = Routing::compile(&config, Some(("am.yaml", &file)), &[], &mut found);
    assert!(!found.has_errors(), "{found}");
    Arc::new(routing.unwrap())
}

#[tokio::test]
async fn a_command_gets_the_message_and_its_exit_decides() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let place = out.display();
    let run = async |text: &str, timeout: &str| {
        courier().deliver(&script(folder.path(), text, timeout), &firing(), FIRED).await
    };
    let text = format!(
        "cat >{place}.json; echo \"$1|$SIDEWATCH_STATUS|$SIDEWATCH_LABEL_REGION|$SIDEWATCH_SUBJECT|$CARGO_MANIFEST_DIR\" >{place}"
    );
    let Outcome::Delivered(said) = run(&text, "5s").await else { panic!() };
    assert!(said.ends_with("run.sh ended with 0"), "{said}");
    let line = std::fs::read_to_string(&out).unwrap();
    assert_eq!(
        line, "one two|firing|eu|[FIRING:1] Flip (eu page)|\n",
        "arguments need no quoting, other variables stay here"
    );
    let payload: Value = serde_json::from_str(&std::fs::read_to_string(format!("{place}.json")).unwrap()).unwrap();
    assert_eq!((&payload["version"], &payload["alerts"][0]["labels"]["region"]), (&json!("4"), &json!("eu")));

    let Outcome::Retry { error, .. } = run("echo busy >&2; exit 75", "5s").await else { panic!() };
    assert!(error.ends_with("run.sh asks for another try (75): busy"), "{error}");
    let Outcome::Final { error } = run("yes long | head -c 100000 >&2; echo the end >&2; exit 3", "5s").await else {
        panic!()
    };
    assert!(error.contains("run.sh ended with 3: ") && error.ends_with("the end") && error.len() < 600, "{error}");
    // What it leaves in the background holds the pipe, and is not waited for.
    assert!(matches!(run("sleep 30 & exit 0", "5s").await, Outcome::Delivered(_)));
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("child");
    let routing = script(folder.path(), &format!("sleep 60 & echo $! >{}; wait", out.display()), "300ms");
    let Outcome::Retry { error, .. } = courier().deliver(&routing, &firing(), FIRED).await else { panic!() };
    assert!(error.ends_with("did not end within 300ms and was killed"), "{error}");
    let child = std::fs::read_to_string(&out).unwrap();
    let gone = || {
        // A killed process whose parent is gone may stay a zombie until init looks.
        let state = std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
        state.is_err() || state.unwrap().contains(") Z")
    };
    eventually("the end of what the command started", gone).await;
}

#[test]
fn commands_outside_the_allow_list_are_errors_with_places() {
    let check = |allowed: &[&str], command: &str, expected: &str| {
        let config = NotifyConfig {
            exec_allowed: allowed.iter().map(|path| Spanned::bare((*path).to_owned())).collect(),
            ..NotifyConfig::default()
        };
        let file =
            format!("route: {{receiver: r}}\nreceivers: [{{name: r, exec_configs: [{{command: {command}}}]}}]\n");
        let mut found = Diagnostics::new();
        Routing::compile(&config, Some(("am.yaml", &file)), &[], &mut found);
        assert_eq!(found.to_string().lines().next().unwrap_or_default(), expected);
    };
    check(&["/bin/echo"], "[/bin/echo, hi]", "");
    check(&["/bin/echo"], "/bin/rm", "am.yaml:2:48: error: the command /bin/rm may not be run");
    check(&[], "[echo]", "am.yaml:2:49: error: \"echo\" is no path from the root");
}

#[test]
fn receivers_that_are_not_served_are_read_and_named_once() {
    let text = "route: {receiver: r}\nreceivers:\n- name: r\n  opsgenie_configs: [{api_key: x, responders: []}, {api_key: y}]\n  discord_configs: [{webhook_urll: x}]\n";
    let mut found = Diagnostics::new();
    Routing::compile(&NotifyConfig::default(), Some(("am.yaml", text)), &[], &mut found);
    let said: Vec<String> =
        found.to_string().lines().filter(|line| line.starts_with("am.yaml")).map(str::to_owned).collect();
    assert_eq!(
        said,
        [
            "am.yaml:5:22: error: discord_configs: unknown key \"webhook_urll\"",
            "am.yaml:5:3: warning: receiver \"r\": discord_configs are not served by this build; nobody is told of its alerts by them",
            "am.yaml:4:3: warning: receiver \"r\": opsgenie_configs are not served by this build; nobody is told of its alerts by them",
        ]
    );
}

#[test]
fn what_most_alerts_share_stands_out() {
    let alerts =
        (0..9).map(|at| alert(&format!("A region={} n={at}", if at < 7 { "eu" } else { "us" }), FIRED)).collect();
    let text = texts::plain(&notification("r", alerts, FIRED), "");
    assert!(text.starts_with("7 of 9 have region=eu\nFiring: 9\n"), "{text}");
}
