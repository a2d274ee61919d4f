//! Threads of mails, lists of recipients, and logins that lettre does not know, against a server by hand and in memory.

use super::more_receivers::{FIRED, firing, resolved};
use super::*;
use crate::notify::courier::Context;
use crate::notify::email;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

fn config(more: &str) -> Arc<Routing> {
    alertmanager(&format!(
        "route: {{receiver: r}}\nreceivers: [{{name: r, email_configs: [{{to: 'A <a@x.org>, b@x.org', from: w@x.org, smarthost: 'm:25', {more}}}]}}]\n"
    ))
}

/// The headers of a mail as one text, unfolded.
fn headers(routing: &Routing, notification: &Notification) -> String {
    let IntegrationKind::Email(config) = &routing.receiver("r").unwrap().integrations[0].kind else { panic!() };
    let context = Context { external_url: "", templates: &routing.templates, now: FIRED };
    let mail = email::message(config, notification, &context).unwrap();
    let text = String::from_utf8(mail.formatted()).unwrap();
    text.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ").replace("\r\n", "\n")
}

fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn mails_stand_in_the_threads_that_are_asked_for() {
    let root = |routing: &Routing, message: &Notification| {
        let text = headers(routing, message);
        assert_eq!(header(&text, "References"), header(&text, "In-Reply-To"), "{text}");
        header(&text, "References").map(str::to_owned)
    };
    // Without the key: the first mail begins the thread, the later ones refer to it.
    let plain = config("");
    assert_eq!(root(&plain, &firing()), None);
    assert_eq!(root(&plain, &resolved()).as_deref(), header(&headers(&plain, &firing()), "Message-ID"));
    // Alertmanager's ways: a name that no mail bears, of the group and the day, or of the group alone.
    let hash = pagerduty::dedup_key(r#"{}:{alertname="Flip"}"#);
    let daily = config("threading: {enabled: true, thread_by_date: daily}");
    let expected = format!("<alert-{}-2026-11-21@alertmanager>", &hash[..16]);
    assert_eq!(root(&daily, &firing()), Some(expected.clone()));
    assert_eq!(root(&daily, &resolved()), Some(expected));
    let ever = config("threading: {enabled: true, thread_by_date: none}");
    assert_eq!(root(&ever, &firing()), Some(format!("<alert-{}-@alertmanager>", &hash[..16])));
    assert_eq!(root(&config("threading: {enabled: false}"), &resolved()), None);
}

#[test]
fn headers_replace_what_is_usual_and_lists_are_lists() {
    let own = config("headers: {subject: 'S {{ .Status }}', To: team@x.org, X-Team: blue}, text: t, html: ''");
    let text = headers(&own, &firing());
    assert_eq!(header(&text, "Subject"), Some("S firing"));
    assert_eq!(header(&text, "To"), Some("team@x.org"));
    assert_eq!(header(&text, "X-Team"), Some("blue"));
    assert_eq!(header(&headers(&config(""), &firing()), "To"), Some("A <a@x.org>, b@x.org"));
    let said = |more: &str| {
        let text = format!(
            "route: {{receiver: r}}\nreceivers: [{{name: r, email_configs: [{{to: a@x.org, from: w@x.org, smarthost: 'm:25', {more}}}]}}]\n"
        );
        let mut found = Diagnostics::new();
        Routing::compile(&NotifyConfig::default(), Some(("am.yaml", &text)), &[], &mut found);
        found.to_string().lines().next().unwrap_or_default().to_owned()
    };
    for (more, expected) in [
        ("headers: {A: b, a: c}", "headers: a stands here a second time"),
        ("threading: {enabled: true}", "threading: thread_by_date is needed, daily or none"),
        (
            "threading: {enabled: true, thread_by_date: daily}, headers: {references: x}",
            "headers: references is set by threading",
        ),
    ] {
        assert!(said(more).ends_with(expected), "{}", said(more));
    }
}

/// A mail server by hand: it offers these logins, and gives what it was told after `DATA` or `QUIT`.
async fn server(logins: &'static str) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    #[expect(clippy::disallowed_methods, reason = "joined by the test")]
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"220 test\r\n").await.unwrap();
        let (mut heard, mut data, mut expected) = (Vec::new(), false, 0);
        while let Ok(Some(line)) = lines.next_line().await {
            let answer = match line.split(' ').next().unwrap_or_default() {
                _ if data && line != "." => continue,
                "." => {
                    data = false;
                    "250 queued".to_owned()
                }
                "EHLO" => format!("250-test\r\n250 AUTH {logins}"),
                "AUTH" if line.ends_with("CRAM-MD5") => {
                    expected = 1;
                    format!("334 {}", "PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+")
                }
                "AUTH" if line.ends_with("LOGIN") => {
                    expected = 2;
                    "334 VXNlcm5hbWU6".to_owned()
                }
                "AUTH" => "235 welcome".to_owned(),
                "DATA" => {
                    data = true;
                    "354 go".to_owned()
                }
                "QUIT" => break,
                _ if expected > 0 => {
                    expected -= 1;
                    if expected > 0 { "334 UGFzc3dvcmQ6".to_owned() } else { "235 welcome".to_owned() }
                }
                _ => "250 ok".to_owned(),
            };
            heard.push(line);
            write.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
        }
        heard
    });
    (port, task)
}

#[tokio::test]
async fn logins_that_keep_or_show_the_secret() {
    let check = async |logins: &'static str, more: &str, expected: &[&str]| {
        let (port, task) = server(logins).await;
        let routing = alertmanager(&format!(
            "route: {{receiver: r}}\nreceivers: [{{name: r, email_configs: [{{to: a@x.org, from: w@x.org, hello: me.example, smarthost: '127.0.0.1:{port}', require_tls: false, auth_username: tim, {more}}}]}}]\n"
        ));
        let courier = Courier::new(Terminal::new(false, |_| {}), "");
        let outcome = courier.deliver(&routing, &firing(), FIRED).await;
        assert_eq!(outcome, Outcome::Delivered("answered 250 queued".into()), "{logins}");
        let heard = task.await.unwrap();
        let login: Vec<&str> = heard.iter().map(String::as_str).skip_while(|line| !line.starts_with("AUTH")).collect();
        assert_eq!(&login[..expected.len()], expected);
        assert_eq!(heard[0], "EHLO me.example");
    };
    // RFC 2195, section 2: the digest that the standard's example gives.
    let answer = "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw";
    check("PLAIN CRAM-MD5", "auth_secret: tanstaaftanstaaf, auth_password: p", &["AUTH CRAM-MD5", answer]).await;
    check("LOGIN PLAIN", "auth_password: p, auth_identity: id", &["AUTH PLAIN aWQAdGltAHA="]).await;
    check("LOGIN", "auth_password: p", &["AUTH LOGIN", "dGlt", "cA=="]).await;
}

#[tokio::test]
async fn a_server_without_the_login_or_the_tls_that_is_needed() {
    let check = async |more: &str, expected: &str| {
        let (port, _task) = server("CRAM-MD5").await;
        let routing = alertmanager(&format!(
            "route: {{receiver: r}}\nreceivers: [{{name: r, email_configs: [{{to: a@x.org, from: w@x.org, smarthost: '127.0.0.1:{port}', {more}}}]}}]\n"
        ));
        let courier = Courier::new(Terminal::new(false, |_| {}), "");
        let Outcome::Retry { error, .. } = courier.deliver(&routing, &firing(), FIRED).await else { panic!() };
        assert!(error.contains(expected), "{error}");
    };
    check("require_tls: true", "TLS is required, and the server does not offer STARTTLS").await;
    let missing = "no secret for the logins that the server offers (CRAM-MD5): PLAIN and LOGIN want a password";
    check("require_tls: false, auth_username: u, auth_password: p", missing).await;
}
