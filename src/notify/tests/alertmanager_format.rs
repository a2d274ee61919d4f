//! Alertmanager's format: what is read, and what is said of what cannot be.

use super::*;
use crate::config::Spanned;
use crate::notify::http::{Pem, Proxy};
use crate::notify::routing::GroupBy;

fn compile(text: &str) -> (Option<Routing>, String) {
    let mut found = Diagnostics::new();
    let routing = Routing::compile(&NotifyConfig::default(), Some(("am.yaml", text)), &[], &mut found);
    assert_eq!(routing.is_none(), found.has_errors(), "{found}");
    (routing, found.to_string())
}

/// Compiles a file and compares everything that is said of it.
#[track_caller]
fn check(text: &str, expected: &str) {
    let (_, said) = compile(text);
    assert_eq!(said, expected, "\n{said}");
}

const WHOLE: &str = r#"
global:
  resolve_timeout: 5m
  smtp_from: alerts@example.com
  smtp_smarthost: mail:587
  smtp_auth_username: me
  smtp_auth_password_file: /run/secrets/mail
  smtp_require_tls: true
  slack_api_url_file: /run/secrets/slack
  opsgenie_api_key: xyz
  http_config: {follow_redirects: true, proxy_url: 'http://proxy:3128', tls_config: {insecure_skip_verify: true}}
templates: []
time_intervals:
  - name: nights
    time_intervals:
      - times: [{start_time: '00:00', end_time: '06:00'}, {start_time: '22:00', end_time: '24:00'}]
        weekdays: ['monday:friday']
        days_of_month: ['1:15', '-3:-1']
        months: ['january:march', '7']
        years: ['2026:2030']
        location: Europe/Berlin
route:
  receiver: default
  group_by: [alertname, cluster]
  group_wait: 10s
  routes:
    - matchers: [severity="page", 'team=~"a|b"']
      receiver: page
      group_by: ['...']
      group_interval: 1m
      repeat_interval: 1h
      continue: true
      mute_time_intervals: [nights]
      routes:
        - match: {region: eu}
          match_re: {service: "x.*"}
          group_interval: 2m
    - matchers: ['{team="c", "utf-8 label"!~"z"}']
      active_time_intervals: [nights]
inhibit_rules:
  - source_matchers: [severity=page]
    target_match: {severity: warning}
    equal: [alertname, cluster]
receivers:
  - name: default
  - name: page
    webhook_configs:
      - url: http://127.0.0.1:1/hook
        max_alerts: 5
        send_resolved: false
        http_config:
          authorization: {credentials: abc}
          http_headers: {X-A: {values: [b], secrets: [c]}}
    slack_configs:
      - channel: '#ops'
        title: '{{ template "slack.default.title" . }}'
        fields: [{title: a, value: '{{ .CommonLabels.alertname }}', short: true}]
        actions: [{type: button, text: x, url: 'http://x'}]
    email_configs:
      - to: a@example.com, b@example.com
        headers: {Subject: '{{ .Status }}'}
        tls_config: {ca_file: /etc/ca.pem}
    pagerduty_configs: [{routing_key: x}]
    telegram_configs: [{chat_id: 1, bot_token: x}]
"#;

#[test]
fn the_whole_of_it_is_read() {
    let (routing, said) = compile(WHOLE);
    let routing = routing.unwrap();
    assert_eq!(
        said,
        "am.yaml:64:5: warning: receiver \"page\": telegram_configs are not served by this build\n\
         \u{20}\u{20}64 |     telegram_configs: [{chat_id: 1, bot_token: x}]\n\
         \u{20}\u{20}   |     ^\n"
    );
    assert_eq!(
        routing.describe(),
        [
            "everything else -> default (grouped by alertname, cluster, at most 5m late)",
            "  {severity=\"page\",team=~\"a|b\"} -> page (each alert alone, at most 1m late, then the next route)",
            "    {region=\"eu\",service=~\"^(?:x.*)$\"} -> page (each alert alone, at most 2m late)",
            "  {team=\"c\",\"utf-8 label\"!~\"z\"} -> default (grouped by alertname, cluster, at most 5m late)",
        ]
    );
    let route = &routing.routes()[2];
    let inherited =
        Timing { group_wait_ms: 10_000, group_interval_ms: 120_000, repeat_interval_ms: 3_600_000, eager: false };
    assert_eq!((route.timing, &route.group_by), (inherited, &GroupBy::All));
    assert_eq!(&*route.key, r#"{}/{severity="page",team=~"a|b"}/{region="eu",service=~"^(?:x.*)$"}"#);
    let page = routing.receiver("page").unwrap();
    let kinds: Vec<_> = page.integrations.iter().map(|it| (it.kind.name(), it.send_resolved)).collect();
    assert_eq!(kinds, [("webhook", false), ("slack", false), ("email", false), ("pagerduty", true)]);
    let IntegrationKind::Webhook(webhook) = &page.integrations[0].kind else { panic!() };
    assert_eq!((webhook.max_alerts, &webhook.http.proxy, webhook.http.headers.len()), (5, &Proxy::Direct, 1));
    let IntegrationKind::Slack(slack) = &page.integrations[1].kind else { panic!() };
    let Proxy::Named(proxy) = &slack.http.proxy else { panic!("{:?}", slack.http.proxy) };
    assert_eq!((proxy.url.expose(), slack.http.tls.insecure_skip_verify), ("http://proxy:3128", true));
    let IntegrationKind::Email(email) = &page.integrations[2].kind else { panic!() };
    assert_eq!((email.host.as_str(), email.port, email.username.as_deref()), ("mail", 587, Some("me")));
    assert_eq!(email.tls.ca, Some(Pem::File("/etc/ca.pem".into())));
}

#[test]
fn every_error_has_its_place() {
    check(
        r"global: {slack_api_ulr: 'http://x'}
route:
  receiver: defualt
  group_by: ['...', a]
  group_interval: 0s
  repeat_interval: soon
  routes:
    - matchers: ['a~b', 'c=~(']
      mute_time_intervals: [night]
receivers:
  - name: default
    webhook_configs: [{}]
  - name: default
    webhook_configs: [{url: 'ftp://x'}]
    slack_configs: [{text: '{{ .Alerts'}]
    email_configs: [{to: x, smarthost: mail}]
inhibit_rules: [{source_matcher: [a=b]}]
",
        "am.yaml:1:10: error: global: unknown key \"slack_api_ulr\"
  1 | global: {slack_api_ulr: 'http://x'}
    |          ^
  hint: did you mean \"slack_api_url\"?
am.yaml:12:23: error: webhook_configs: one of url and url_file is needed
  12 |     webhook_configs: [{}]
     |                       ^
am.yaml:14:29: error: not a usable address: the scheme is \"ftp\", expected http or https
  14 |     webhook_configs: [{url: 'ftp://x'}]
     |                             ^
  hint: an address is like https://example.com/hook
am.yaml:15:21: error: slack_configs: there is no address to send to
  15 |     slack_configs: [{text: '{{ .Alerts'}]
     |                     ^
  hint: set api_url or app_token here, or slack_api_url or slack_app_token under global
am.yaml:15:39: error: text: unclosed action
  15 |     slack_configs: [{text: '{{ .Alerts'}]
     |                                       ^
am.yaml:16:40: error: smarthost: \"mail\" is no host and port
  16 |     email_configs: [{to: x, smarthost: mail}]
     |                                        ^
  hint: write mail:587
am.yaml:16:21: error: email_configs: from is needed
  16 |     email_configs: [{to: x, smarthost: mail}]
     |                     ^
  hint: set from here or smtp_from under global
am.yaml:13:11: error: the receiver \"default\" stands here a second time
  13 |   - name: default
     |           ^
am.yaml:17:18: error: inhibit rule: unknown key \"source_matcher\"
  17 | inhibit_rules: [{source_matcher: [a=b]}]
     |                  ^
  hint: did you mean \"source_matchers\"?
am.yaml:3:13: error: there is no receiver \"defualt\"
  3 |   receiver: defualt
    |             ^
  hint: did you mean \"default\"?
am.yaml:4:14: error: '...' groups by all labels and stands alone
  4 |   group_by: ['...', a]
    |              ^
am.yaml:5:19: error: group_interval must not be zero
  5 |   group_interval: 0s
    |                   ^
am.yaml:6:20: error: repeat_interval: not a valid duration: \"soon\" (examples: 30s, 5m, 1h30m, 500ms)
  6 |   repeat_interval: soon
    |                    ^
am.yaml:8:18: error: character 2 of \"a~b\" is '~', expected an operator (=, !=, =~ or !~)
  8 |     - matchers: ['a~b', 'c=~(']
    |                  ^
  hint: a matcher is like severity=\"page\" or team=~\"a|b\"
am.yaml:8:25: error: \"(\" is not a valid regular expression: unclosed group
  8 |     - matchers: ['a~b', 'c=~(']
    |                         ^
  hint: a matcher is like severity=\"page\" or team=~\"a|b\"
am.yaml:9:29: error: there is no time interval \"night\"
  9 |       mute_time_intervals: [night]
    |                             ^
  hint: define it under time_intervals
",
    );
}

#[test]
fn a_root_takes_everything() {
    let (_, said) = compile("route: {receiver: a, matchers: [x=y], continue: true}\nreceivers: [{name: a}]\n");
    assert!(said.contains("the root route must not have matchers"), "{said}");
    assert!(said.contains("the root route cannot continue"), "{said}");
    let (_, said) = compile("receivers: [{name: a}]\n");
    assert!(said.contains("the key \"route\" is missing"), "{said}");
}

#[test]
fn template_files_are_read_beside_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("am.yaml");
    std::fs::write(folder.path().join("a.tmpl"), r#"{{ define "mine" }}{{ .Status | toUpper }}!{{ end }}"#).unwrap();
    let text = "templates: ['*.tmpl', 'none-*']\nroute: {receiver: a}\nreceivers: [{name: a, slack_configs: [{api_url: 'http://x', title: '{{ template \"mine\" . }}'}]}]\n";
    let mut found = Diagnostics::new();
    let file = file.to_str().unwrap();
    let routing = Routing::compile(&NotifyConfig::default(), Some((file, text)), &[], &mut found).unwrap();
    assert!(found.to_string().contains("no template file matches"), "{found}");
    let IntegrationKind::Slack(slack) = &routing.receiver("a").unwrap().integrations[0].kind else { panic!() };
    let message = notification("a", vec![alert("A", Timestamp::EPOCH)], Timestamp::EPOCH);
    let context = courier::Context { external_url: "", templates: &routing.templates, now: Timestamp::EPOCH };
    let value = slack::message(slack, &message, &context);
    assert_eq!(value["attachments"][0]["title"], "FIRING!");
    std::fs::write(folder.path().join("b.tmpl"), "{{ define \"x\" }}\n{{ nope }}{{ end }}").unwrap();
    let mut found = Diagnostics::new();
    assert!(Routing::compile(&NotifyConfig::default(), Some((file, text)), &[], &mut found).is_none());
    assert!(found.to_string().contains("b.tmpl:2:4: error:"), "{found}");
}

#[test]
fn short_form_errors_have_their_places() {
    use crate::config::schema::{Named, ReceiverConfig, ReceiverKind, SecretSource};
    let mut found = Diagnostics::new();
    let receiver = |kind| Named {
        name: Spanned::bare("x".to_owned()),
        value: ReceiverConfig { kind, send_resolved: true, span: crate::config::Span::default() },
    };
    let secret = |text: &str| SecretSource::Inline(Spanned::bare(crate::secret::Secret::new(text)));
    let bare = |text: &str| Spanned::bare(text.to_owned());
    let email = |to: &str, smtp: &str| ReceiverKind::Email {
        to: vec![bare(to)],
        from: None,
        smtp: bare(smtp),
        username: None,
        password: None,
        require_tls: None,
    };
    let config = NotifyConfig {
        receivers: vec![
            receiver(ReceiverKind::Slack { url: secret("hooks.slack.com/secret"), channel: None }),
            receiver(email("ops", "smtp://mail")),
            receiver(email("ops@example.com", "mail:25")),
            receiver(ReceiverKind::Webhook {
                url: secret("http://127.0.0.1:1/secret"),
                headers: vec![("X Y".into(), "z".into())],
            }),
        ],
        ..NotifyConfig::default()
    };
    assert!(Routing::compile(&config, None, &[], &mut found).is_none());
    let said = found.to_string();
    assert_eq!(said.matches("error:").count(), 4, "{said}");
    assert!(!said.contains("secret"), "{said}");
}
