//! Receivers against real servers: HTTP by axum, TLS by Python's, mail by aiosmtpd.

use super::*;
use crate::config::Spanned;
use crate::config::schema::{Named, ReceiverConfig, ReceiverKind, SecretSource};
use crate::notify::http::Pem;
use crate::secret::Secret;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

/// 2026-11-21T02:25:08.552Z
const FIRED: Timestamp = Timestamp::from_millis(1_795_227_908_552);

fn flip() -> Alert {
    Alert {
        labels: Labels::from_pairs([("alertname", "Flip"), ("instance", "127.0.0.1:18055"), ("job", "f")]),
        annotations: Labels::from_pairs([("v", "1")]),
        generator_url: "http://vm:19190/graph?g0.expr=flip+%3E+0&g0.tab=1".into(),
        ..alert("Flip", FIRED)
    }
}

fn ended(alert: &Alert, after_ms: i64) -> Alert {
    Alert { resolved_at: Some(alert.fired_at.plus_millis(after_ms)), value_at_resolve: Some(0.0), ..alert.clone() }
}

fn short(name: &str, kind: ReceiverKind) -> Named<ReceiverConfig> {
    let value = ReceiverConfig { kind, send_resolved: true, span: crate::config::Span::default() };
    Named { name: Spanned::bare(name.to_owned()), value }
}

fn routing(receivers: Vec<Named<ReceiverConfig>>) -> Arc<Routing> {
    let mut found = Diagnostics::new();
    let config = NotifyConfig { receivers, ..NotifyConfig::default() };
    let routing = Routing::compile(&config, None, &[], &mut found);
    assert!(!found.has_errors(), "{found}");
    Arc::new(routing.unwrap())
}

fn url(text: &str) -> SecretSource {
    SecretSource::Inline(Spanned::bare(Secret::new(text)))
}

fn webhook(name: &str, address: &str) -> Named<ReceiverConfig> {
    let headers = vec![("X-Team".to_owned(), "blue".to_owned())];
    short(name, ReceiverKind::Webhook { url: url(address), headers })
}

fn courier() -> (Courier, Arc<Mutex<String>>) {
    let printed = Arc::new(Mutex::new(String::new()));
    let sink = printed.clone();
    let terminal = Terminal::new(false, move |text| sink.lock().unwrap().push_str(text));
    (Courier::new(terminal, "http://vm:19193"), printed)
}

/// What a test server does with a request.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Plain(u16, &'static str),
    RetryAfter(u16, &'static str),
    Hang,
}

#[derive(Clone)]
struct Server {
    answer: Answer,
    bodies: Arc<Mutex<Vec<String>>>,
    headers: Arc<Mutex<Vec<axum::http::HeaderMap>>>,
    requests: Arc<AtomicUsize>,
}

/// Starts a server and gives its address.
async fn serve(answer: Answer) -> (String, Server) {
    let server = Server { answer, bodies: Arc::default(), headers: Arc::default(), requests: Arc::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/hook", listener.local_addr().unwrap());
    let app = axum::Router::new().fallback(take).with_state(server.clone());
    let task = async move { axum::serve(listener, app).await.unwrap() };
    #[expect(clippy::disallowed_methods, reason = "a server of a test ends with its runtime")]
    tokio::spawn(task);
    (address, server)
}

async fn take(State(server): State<Server>, request: Request) -> axum::response::Response {
    server.requests.fetch_add(1, Ordering::SeqCst);
    server.headers.lock().unwrap().push(request.headers().clone());
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    server.bodies.lock().unwrap().push(String::from_utf8(body.to_vec()).unwrap());
    match server.answer {
        Answer::Plain(status, text) => (StatusCode::from_u16(status).unwrap(), text).into_response(),
        Answer::RetryAfter(status, wait) => {
            (StatusCode::from_u16(status).unwrap(), [("retry-after", wait)], "busy").into_response()
        }
        Answer::Hang => std::future::pending().await,
    }
}

/// Waits for a condition with a deadline.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not come about within five seconds");
}

const SAMPLE: &str = r#"{"receiver":"h","status":"firing","alerts":[{"status":"firing","labels":{"alertname":"Flip","instance":"127.0.0.1:18055","job":"f"},"annotations":{"v":"1"},"startsAt":"2026-11-21T02:25:08.552Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://vm:19190/graph?g0.expr=flip+%3E+0\u0026g0.tab=1","fingerprint":"f0f29e50afc606a7"}],"groupLabels":{"alertname":"Flip","instance":"127.0.0.1:18055","job":"f"},"commonLabels":{"alertname":"Flip","instance":"127.0.0.1:18055","job":"f"},"commonAnnotations":{"v":"1"},"externalURL":"http://vm:19193","version":"4","groupKey":"{}:{alertname=\"Flip\", instance=\"127.0.0.1:18055\", job=\"f\"}","truncatedAlerts":0}
"#;

#[tokio::test]
async fn a_webhook_gets_the_bytes_that_alertmanager_sends() {
    let (address, server) = serve(Answer::Plain(200, "")).await;
    // The notifier groups it as the sample was grouped, so that its group key is checked as well.
    let text = format!(
        "{{route: {{receiver: h, group_by: ['...'], group_wait: 0s}},
          receivers: [{{name: h, webhook_configs: [{{url: '{address}', max_alerts: 1}}]}}]}}"
    );
    let routing = alertmanager(&text);
    let mut notifier = Notifier::new(routing.clone());
    notifier.update(FIRED, &[Arc::new(flip())]);
    let sent = notifier.tick(FIRED);
    let (courier, _) = courier();
    assert_eq!(courier.deliver(&routing, &sent[0], FIRED).await, Outcome::Delivered("answered 200 OK".into()));
    assert_eq!(server.bodies.lock().unwrap()[0], SAMPLE);
    let headers = server.headers.lock().unwrap()[0].clone();
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["user-agent"], concat!("sidewatch/", env!("CARGO_PKG_VERSION")));
    let again = courier.deliver(&routing, &sent[0], FIRED.plus_millis(5)).await;
    assert_eq!(again, Outcome::Delivered("answered 200 OK".into()));
    assert_eq!(server.headers.lock().unwrap()[1]["idempotency-key"], headers["idempotency-key"]);
    assert_eq!(headers["idempotency-key"], &*sent[0].key());
    let resolved = ended(&flip(), 1_500);
    let two = notification("h", vec![resolved, alert("Other x=<&>", FIRED)], FIRED);
    let body = String::from_utf8(webhook_body(&two, "", 1).unwrap()).unwrap();
    assert!(
        body.contains(r#""endsAt":"2026-11-21T02:25:10.052Z""#) && body.contains(r#""truncatedAlerts":1"#),
        "{body}"
    );
    assert!(body.contains(r#""status":"firing","alerts":[{"status":"resolved""#), "the status is that of all");
}

#[tokio::test]
async fn answers_decide_what_happens_next() {
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let cut = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cut_address = cut.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a server of a test ends with its runtime")]
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = cut.accept().await {
            let mut some = [0; 64];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut some).await;
        }
    });
    let check = async |address: String, expected: &str, retry: bool, wait: Option<i64>| {
        let text = format!(
            "{{route: {{receiver: h}}, receivers: [{{name: h, webhook_configs: [{{url: '{address}', timeout: 300ms}}]}}]}}"
        );
        let (courier, _) = courier();
        match courier.deliver(&alertmanager(&text), &notification("h", vec![flip()], FIRED), FIRED).await {
            Outcome::Delivered(text) => panic!("{text}"),
            Outcome::Retry { error, retry_after_ms } => {
                assert!(error.contains(expected) && retry, "{error}");
                assert_eq!(retry_after_ms, wait);
            }
            Outcome::Final { error } => assert!(error.contains(expected) && !retry, "{error}"),
        }
    };
    let (busy, _) = serve(Answer::RetryAfter(429, "3")).await;
    check(busy, "answered 429 Too Many Requests: busy", true, Some(3_000)).await;
    check(serve(Answer::Plain(500, "oops\nline")).await.0, "500 Internal Server Error: oops line", true, None).await;
    check(serve(Answer::Plain(404, "")).await.0, "there is nothing at this path: check the url", false, None).await;
    check(serve(Answer::Hang).await.0, "did not answer within 300ms", true, None).await;
    check(format!("http://{cut_address}/"), "the connection to 127.0.0.1", true, None).await;
    check(format!("http://{refused}/"), "cannot connect to 127.0.0.1", true, None).await;
}

#[tokio::test]
async fn a_slow_receiver_delays_nobody_and_is_cut_off_at_the_end() {
    let (hanging, slow) = serve(Answer::Hang).await;
    let (quick, fast) = serve(Answer::Plain(200, "")).await;
    let routing = routing(vec![webhook("slow", &hanging), webhook("fast", &quick)]);
    let (courier, _) = courier();
    let start = tokio::time::Instant::now();
    let clock: Clock = Arc::new(move || FIRED.plus_micros(start.elapsed().as_micros() as i64));
    let deliveries = Deliveries::new(Outbox::new(100, 1), routing, courier, clock.clone());
    let stop = CancellationToken::new();
    let run = deliveries.clone().run(stop.clone(), Duration::from_millis(300));
    #[expect(clippy::disallowed_methods, reason = "joined below")]
    let running = tokio::spawn(run);
    deliveries.send(vec![notification("slow", vec![flip()], clock())]);
    eventually("a request to the slow one", || slow.requests.load(Ordering::SeqCst) == 1).await;
    for at in 0..20 {
        deliveries.send(vec![notification("fast", vec![alert(&format!("A{at}"), FIRED)], clock())]);
    }
    eventually("twenty messages to the fast one", || fast.bodies.lock().unwrap().len() == 20).await;
    assert_eq!(fast.headers.lock().unwrap()[0]["x-team"], "blue");
    eventually("their outcomes", || deliveries.status().lanes[0].counters.delivered == 20).await;
    let status = deliveries.status();
    let median = {
        let mut latencies: Vec<i64> = status.history.iter().map(|delivery| delivery.latency_ms).collect();
        latencies.sort_unstable();
        latencies[latencies.len() / 2]
    };
    assert!(median < 1_000, "{median} ms");
    stop.cancel();
    let report = running.await.unwrap();
    assert_eq!(report.undelivered.into_iter().collect::<Vec<_>>(), [("slow".to_owned(), 1)]);
    let mut next = Outbox::new(100, 1);
    next.restore(&deliveries.snapshot().1, clock()).unwrap();
    assert_eq!(next.len(), 1, "what was being sent waits in the snapshot");
}

#[tokio::test]
async fn a_reload_corrects_an_address_for_what_waits() {
    let (bad, _) = serve(Answer::RetryAfter(503, "0")).await;
    let (good, server) = serve(Answer::Plain(200, "")).await;
    let clock: Clock = {
        let start = tokio::time::Instant::now();
        Arc::new(move || FIRED.plus_micros(start.elapsed().as_micros() as i64))
    };
    let deliveries =
        Deliveries::new(Outbox::new(100, 1), routing(vec![webhook("r", &bad)]), courier().0, clock.clone());
    let stop = CancellationToken::new();
    #[expect(clippy::disallowed_methods, reason = "joined below")]
    let running = tokio::spawn(deliveries.clone().run(stop.clone(), Duration::from_secs(5)));
    deliveries.send(vec![notification("r", vec![flip()], clock())]);
    eventually("a failure", || deliveries.status().lanes[0].counters.retried > 0).await;
    deliveries.reconfigure(routing(vec![webhook("r", &good)]));
    eventually("the delivery", || server.requests.load(Ordering::SeqCst) == 1).await;
    stop.cancel();
    assert_eq!(running.await.unwrap(), DrainReport::default());
}

#[test]
fn the_terminal_prints_one_line_a_change() {
    let flip = Alert {
        labels: Labels::from_pairs([("alertname", "Flip"), ("region", "eu"), ("job", "f")]),
        annotations: Labels::from_pairs([("summary", "too much \u{1b}[31m of it")]),
        value_at_firing: 0.5,
        value: 0.75,
        ..alert("Flip", FIRED)
    };
    assert_eq!(
        terminal_line(&flip, false),
        "FIRING   Flip region=eu  value 0.75 since 02:25:08 UTC  too much  [31m of it"
    );
    assert_eq!(
        terminal_line(&ended(&flip, 65_000), true),
        "\u{1b}[1;32mRESOLVED\u{1b}[0m Flip region=eu  after 1m5s, value 0.5 -> 0  too much  [31m of it"
    );
    let (_, printed) = courier();
    let sink = printed.clone();
    let terminal = Terminal::new(false, move |text| sink.lock().unwrap().push_str(text));
    let mut two = notification("t", vec![flip.clone(), alert("Other", FIRED)], FIRED);
    two.news = vec![flip.fingerprint()];
    terminal.print(&two);
    assert_eq!(printed.lock().unwrap().lines().count(), 1, "only what changed: {printed:?}");
}

#[tokio::test]
async fn slack_needs_no_template_and_takes_some() {
    let (address, server) = serve(Answer::Plain(200, "ok")).await;
    let slack = |name: &str| short(name, ReceiverKind::Slack { url: url(&address), channel: Some("#ops".into()) });
    let (courier, _) = courier();
    let message = async |routing: &Routing, notification: &Notification| {
        let outcome = courier.deliver(routing, notification, FIRED).await;
        assert_eq!(outcome, Outcome::Delivered("answered 200 OK: ok".into()));
        let body = server.bodies.lock().unwrap().pop().unwrap();
        serde_json::from_str::<serde_json::Value>(&body).unwrap()
    };
    let single = Alert { annotations: Labels::from_pairs([("summary", "a < b & c")]), ..flip() };
    let found = message(&routing(vec![slack("s")]), &notification("s", vec![ended(&single, 65_000)], FIRED)).await;
    let attachment = &found["attachments"][0];
    assert_eq!(found["channel"], "#ops");
    assert_eq!(attachment["title"], "[RESOLVED] Flip");
    assert_eq!(attachment["title_link"], "http://vm:19190/graph?g0.expr=flip+%3E+0&g0.tab=1");
    assert_eq!(attachment["color"], "good");
    assert_eq!(attachment["text"], "a &lt; b &amp; c");
    let fields: Vec<String> = attachment["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| format!("{}: {}", field["title"].as_str().unwrap(), field["value"].as_str().unwrap()))
        .collect();
    assert_eq!(
        fields,
        [
            "Since: 2026-11-21 02:25:08 UTC",
            "Value when it fired: 1",
            "Until: 2026-11-21 02:26:13 UTC (after 1m5s)",
            "Value when it ended: 0",
            "Labels: instance=\"127.0.0.1:18055\", job=\"f\""
        ]
    );
    let several = notification("s", vec![alert("A x=1", FIRED), ended(&alert("A x=2", FIRED), 5_000)], FIRED);
    let found = message(&routing(vec![slack("s")]), &several).await;
    assert_eq!(found["attachments"][0]["title"], "[FIRING:1] A");
    assert_eq!(
        found["attachments"][0]["text"],
        ":red_circle: x=\"1\" value 1 since 02:25:08 UTC\n      A is wrong\n\
         :white_check_mark: x=\"2\" after 5s, value 1 -&gt; 0\n      A is wrong"
    );
    let templated = alertmanager(&format!(
        r#"{{global: {{slack_api_url: '{address}'}}, route: {{receiver: s}}, receivers: [{{name: s, slack_configs: [{{
            title: '{{{{ template "slack.default.title" . }}}}', text: '{{{{ range .Alerts }}}}{{{{ .Labels.x }}}};{{{{ end }}}}',
            color: '{{{{ if eq .Status "firing" }}}}#ff0000{{{{ end }}}}', fields: [{{title: n, value: '{{{{ len .Alerts }}}}'}}]}}]}}]}}"#
    ));
    let found = message(&templated, &several).await;
    let attachment = &found["attachments"][0];
    assert_eq!(attachment["title"], "[FIRING:1] A ");
    assert_eq!((&attachment["text"], &attachment["color"]), (&"1;2;".into(), &"#ff0000".into()));
    assert_eq!(attachment["fields"][0]["value"], "2");
}

#[tokio::test]
async fn a_test_message_says_what_was_answered_and_what_to_do() {
    let (gone, _) = serve(Answer::Plain(404, "no_service")).await;
    let (good, server) = serve(Answer::Plain(200, "ok")).await;
    let slack = |name: &str, address: &str| short(name, ReceiverKind::Slack { url: url(address), channel: None });
    let routing = routing(vec![slack("bad", &gone), slack("good", &good)]);
    let (courier, _) = courier();
    let results = test_message(&routing, "good", &courier, FIRED).await.unwrap();
    assert_eq!(
        results.iter().map(|it| (it.delivered, &*it.text)).collect::<Vec<_>>(),
        [(true, "answered 200 OK: ok"); 2]
    );
    assert_eq!(server.requests.load(Ordering::SeqCst), 2, "a firing one and a resolved one");
    let results = test_message(&routing, "bad", &courier, FIRED).await.unwrap();
    assert_eq!(results.len(), 1, "no ending of what did not arrive");
    assert_eq!(
        results[0].text,
        "answered 404 Not Found: no_service (the webhook was removed or switched off: make a new one and put its \
         address into url); sidewatch would give this message up and list it"
    );
    assert_eq!(
        test_message(&routing, "goood", &courier, FIRED).await.unwrap_err(),
        "there is no receiver \"goood\"; did you mean \"good\"?"
    );
}

/// A Python server that prints its port, and then one line of JSON for each thing that it received.
struct Python {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl Python {
    /// `None` when Python or a module is missing; in CI that is a failure.
    async fn start(script: &str, arguments: &[&str]) -> Option<Self> {
        let mut child = Command::new("/usr/bin/python3")
            .arg("-c")
            .arg(script)
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .inspect_err(|error| eprintln!("/usr/bin/python3: {error}"))
            .ok();
        let stdout = child.as_mut().and_then(|child| child.stdout.take());
        let mut lines = stdout.map(|stdout| BufReader::new(stdout).lines());
        let first = match &mut lines {
            Some(lines) => tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await.unwrap().unwrap(),
            None => None,
        };
        let port = first.and_then(|line| line.parse().ok());
        let missing = port.is_none() && std::env::var("CI").is_ok_and(|it| it == "true");
        assert!(!missing, "python3-aiosmtpd is needed here");
        Some(Self { child: child?, lines: lines?, port: port? })
    }

    async fn received(&mut self) -> serde_json::Value {
        let line = tokio::time::timeout(Duration::from_secs(5), self.lines.next_line()).await.unwrap().unwrap();
        serde_json::from_str(&line.unwrap()).unwrap()
    }

    async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}

const SMTP: &str = r#"
import asyncio, json, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult
from email import message_from_bytes, policy
mode, cert, key = sys.argv[1:4]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith('nobody'):
            return '550 no such user'
        if address.startswith('later'):
            return '451 try later'
        envelope.rcpt_tos.append(address)
        return '250 OK'
    async def handle_DATA(self, server, session, envelope):
        mail = message_from_bytes(envelope.content, policy=policy.default)
        parts = {part.get_content_type(): part.get_content() for part in mail.walk() if not part.is_multipart()}
        print(json.dumps({'from': envelope.mail_from, 'to': envelope.rcpt_tos, 'tls': session.ssl is not None,
            'auth': session.auth_data, 'headers': {k.lower(): str(v) for k, v in mail.items()}, 'parts': parts}), flush=True)
        return '250 queued as 1'
def check(server, session, envelope, mechanism, data):
    good = (data.login, data.password) == (b'me', b'se/cret')
    return AuthResult(success=good, handled=False, auth_data=mechanism)
async def main():
    options = {} if mode == 'implicit' else {'tls_context': context, 'require_starttls': True}
    auth = dict(auth_required=True, auth_require_tls=mode != 'implicit', authenticator=check,
        auth_exclude_mechanism=['PLAIN'] if mode == 'login' else [])
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(Handler(), **options, **auth), '127.0.0.1', 0, ssl=context if mode == 'implicit' else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"#;

const HTTPS: &str = r#"
import http.server, ssl, sys, json
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(json.dumps({'body': self.rfile.read(int(self.headers['content-length'])).decode()}), flush=True)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *arguments):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
"#;

/// A certificate of its own authority for localhost: files of certificate and key.
fn certificate(folder: &std::path::Path) -> (PathBuf, PathBuf) {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-out")
        .arg(&cert)
        .arg("-keyout")
        .arg(&key)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    assert_eq!(Pem::File(cert.display().to_string()).certificates().unwrap().len(), 1);
    (cert, key)
}

#[tokio::test]
async fn https_trusts_the_configured_authority_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(folder.path());
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let Some(mut server) = Python::start(HTTPS, &[cert, key]).await else { return };
    let deliver = async |tls: &str| {
        let text = format!(
            "{{route: {{receiver: h}}, receivers: [{{name: h, webhook_configs: [{{url: 'https://localhost:{}/',
              http_config: {{tls_config: {{{tls}}}}}}}]}}]}}",
            server.port
        );
        let (courier, _) = courier();
        courier.deliver(&alertmanager(&text), &notification("h", vec![flip()], FIRED), FIRED).await
    };
    let Outcome::Retry { error, .. } = deliver("").await else { panic!("an unknown authority") };
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(deliver(&format!("ca_file: '{cert}'")).await, Outcome::Delivered("answered 200 OK".into()));
    assert_eq!(deliver("insecure_skip_verify: true").await, Outcome::Delivered("answered 200 OK".into()));
    assert!(server.received().await["body"].as_str().unwrap().contains("Flip"));
    server.stop().await;
}

#[tokio::test]
async fn mail_goes_by_starttls_and_tls_at_once_with_a_login() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(folder.path());
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    for (mode, scheme) in [("starttls", "smtp"), ("login", "smtp"), ("implicit", "smtps")] {
        let Some(mut server) = Python::start(SMTP, &[mode, cert, key]).await else { return };
        let email = |to: &str, password: &str, query: &str| {
            let smtp = format!("{scheme}://me:{password}@localhost:{}{query}", server.port);
            routing(vec![short(
                "mail",
                ReceiverKind::Email {
                    to: vec![Spanned::bare(to.into()), Spanned::bare("b@example.com".into())],
                    from: Some(Spanned::bare("Watch <watch@example.com>".into())),
                    smtp: Spanned::bare(smtp),
                    username: None,
                    password: None,
                    require_tls: Some(true),
                },
            )])
        };
        let trusting = format!("?ca_file={cert}");
        let (courier, _) = courier();
        let firing = notification("mail", vec![flip()], FIRED);
        let check = async |routing: Arc<Routing>, is_final: bool, expected: &str| {
            let error = match courier.deliver(&routing, &firing, FIRED).await {
                Outcome::Final { error } if is_final => error,
                Outcome::Retry { error, .. } if !is_final => error,
                other => panic!("{mode}: {other:?}"),
            };
            assert!(error.contains(expected), "{mode}: {error}");
        };
        check(email("a@example.com", "se%2Fcret", ""), false, "see ca_file").await;
        check(email("a@example.com", "wrong", &trusting), false, "check username and password").await;
        check(email("nobody@example.com", "se%2Fcret", &trusting), true, "check to and from").await;
        check(email("later@example.com", "se%2Fcret", &trusting), false, "451").await;

        let good = email("a@example.com", "se%2Fcret", &trusting);
        let resolved = Notification {
            since: FIRED,
            ..notification("mail", vec![ended(&flip(), 65_000)], FIRED.plus_millis(65_000))
        };
        for message in [&firing, &resolved] {
            let outcome = courier.deliver(&good, message, FIRED).await;
            assert_eq!(outcome, Outcome::Delivered("answered 250 queued as 1".into()), "{mode}");
        }
        let (first, second) = (server.received().await, server.received().await);
        assert_eq!(first["from"], "watch@example.com");
        assert_eq!(first["to"], serde_json::json!(["a@example.com", "b@example.com"]));
        assert_eq!(first["auth"], if mode == "login" { "LOGIN" } else { "PLAIN" });
        let (one, two) = (&first["headers"], &second["headers"]);
        assert_eq!(one["subject"], "[FIRING:1] Flip");
        assert_eq!(two["subject"], "[RESOLVED] Flip");
        assert!(one.get("references").is_none());
        assert_eq!(two["references"], one["message-id"], "they stand in one thread");
        assert_ne!(two["message-id"], one["message-id"]);
        assert!(two["message-id"].as_str().unwrap().ends_with("@example.com>"));
        assert_eq!(one["date"], "Sat, 21 Nov 2026 02:25:08 +0000");
        assert_eq!(one["auto-submitted"], "auto-generated");
        let text = second["parts"]["text/plain"].as_str().unwrap().replace("\r\n", "\n");
        assert!(text.starts_with("Ended: 1\n\nFlip\n  Since: 2026-11-21 02:25:08 UTC\n"), "{text}");
        assert!(text.contains("(after 1m5s)") && text.contains("http://vm:19190/graph"), "{text}");
        assert!(first["parts"]["text/html"].as_str().unwrap().contains("g0.expr=flip+%3E+0&amp;g0.tab=1"));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_secret_file_is_read_at_each_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("url");
    let receiver = ReceiverKind::Slack {
        url: SecretSource::File(Spanned::bare(path.to_str().unwrap().to_owned())),
        channel: None,
    };
    let routing = routing(vec![short("s", receiver)]);
    let (courier, _) = courier();
    let message = notification("s", vec![flip()], FIRED);
    let Outcome::Retry { error, .. } = courier.deliver(&routing, &message, FIRED).await else { panic!() };
    assert!(error.contains("cannot read") && error.contains("url"), "{error}");
    let (address, _) = serve(Answer::Plain(200, "ok")).await;
    std::fs::write(&path, format!("{address}\n")).unwrap();
    assert!(matches!(courier.deliver(&routing, &message, FIRED).await, Outcome::Delivered(_)));
}
