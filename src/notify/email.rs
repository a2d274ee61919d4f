//! Mail by SMTP: STARTTLS, TLS at once, AUTH; a text and an HTML part; all mails of one episode in one thread.

mod cram_md5;
mod smtp;

use super::courier::Context;
use super::http::{self, Pem, TlsOptions};
use super::notification::Notification;
use super::outbox::Outcome;
use super::pagerduty::dedup_key;
use super::render::Renderer;
use super::texts;
use crate::config::schema::{ReceiverKind, SecretSource};
use crate::config::{Diagnostics, Span, Spanned};
use crate::secret::Secret;
use crate::telemetry::root_cause;
use crate::template::Template;
use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Mailboxes, MultiPart, SinglePart};
use smtp::Failure;
use std::error::Error;
use std::time::{Duration, SystemTime};

/// How long the connection to the server may take to be made.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the whole exchange with the server may take.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// When the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// `smtps://`: from the first byte.
    AtOnce,
    /// By STARTTLS, or not at all.
    Required,
    /// By STARTTLS where the server offers it.
    Offered,
}

/// Which mails stand in one thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Threading {
    /// Those of one episode of a group: the first mail and all that follow it until all has ended.
    #[default]
    Episode,
    /// `threading: {enabled: true, thread_by_date: daily}`: those of one group on one day (UTC).
    Daily,
    /// `thread_by_date: none`: all of one group.
    Group,
    /// `enabled: false`: none.
    Off,
}

/// Alertmanager's `email_configs`, and the short form's `email`.
#[derive(Clone, Debug, PartialEq)]
pub struct EmailConfig {
    /// Recipients, separated by commas.
    pub to: Template,
    /// The sender; `None` is `sidewatch@HOST`.
    pub from: Option<Template>,
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub encryption: Encryption,
    /// TLS.
    pub tls: TlsOptions,
    /// What to say in EHLO; `None` is the host's name.
    pub hello: Option<String>,
    /// The user for AUTH.
    pub username: Option<String>,
    /// The password for AUTH.
    pub password: Option<SecretSource>,
    /// The secret for AUTH CRAM-MD5 (`auth_secret`).
    pub auth_secret: Option<SecretSource>,
    /// On whose behalf (`auth_identity`); mostly empty.
    pub identity: String,
    /// Which mails stand in one thread.
    pub threading: Threading,
    /// Further headers; Subject, From and To among them replace the usual ones.
    pub headers: Vec<(String, Template)>,
    /// The HTML part; `None` is the default, an empty text leaves it out.
    pub html: Option<Template>,
    /// The text part; `None` is the default, an empty text leaves it out.
    pub text: Option<Template>,
}

impl EmailConfig {
    /// Compiles the short form. The address may hold credentials, and TLS options as a query:
    /// `smtp://user:password@host:587?ca_file=/etc/mail-ca.pem`.
    pub(super) fn from_short_form(kind: &ReceiverKind, span: &Span, found: &mut Diagnostics) -> Option<Self> {
        let ReceiverKind::Email { to, from, smtp, username, password, require_tls } = kind else { return None };
        let mut usable = true;
        if to.is_empty() {
            found.error_hint(span, "the mail has no recipient", "write to: ops@example.com");
            usable = false;
        }
        for address in to.iter().chain(from) {
            usable &= check_address(address, found);
        }
        let server = match parse_server(&smtp.value) {
            Ok(server) => server,
            Err(reason) => {
                found.error_hint(
                    &smtp.span,
                    reason,
                    "write smtp://host:25 (STARTTLS where offered) or smtps://host:465",
                );
                return None;
            }
        };
        let password = password.clone().or(server
            .password
            .map(|text| SecretSource::Inline(Spanned { value: Secret::new(text), span: smtp.span.clone() })));
        let encryption = match (server.implicit_tls, require_tls) {
            (true, _) => Encryption::AtOnce,
            (false, Some(true)) => Encryption::Required,
            (false, Some(false)) => Encryption::Offered,
            (false, None) if http::is_loopback(&server.host) => Encryption::Offered,
            (false, None) => Encryption::Required,
        };
        let recipients: Vec<&str> = to.iter().map(|address| address.value.as_str()).collect();
        usable.then(|| Self {
            to: Template::literal(&recipients.join(", ")),
            from: from.as_ref().map(|from| Template::literal(&from.value)),
            host: server.host,
            port: server.port,
            encryption,
            tls: server.tls,
            hello: None,
            username: username.clone().or(server.username),
            password,
            auth_secret: None,
            identity: String::new(),
            threading: Threading::Episode,
            headers: Vec::new(),
            html: None,
            text: None,
        })
    }
}

fn check_address(address: &Spanned<String>, found: &mut Diagnostics) -> bool {
    match address.value.parse::<Mailbox>() {
        Ok(_) => true,
        Err(error) => {
            let message = format!("{:?} is no mail address: {error}", address.value);
            found.error_hint(&address.span, message, "write name@example.com or Name <name@example.com>");
            false
        }
    }
}

struct Server {
    implicit_tls: bool,
    host: String,
    port: u16,
    username: Option<String>,
    password: Option<String>,
    tls: TlsOptions,
}

/// Reads `smtp://` and `smtps://` addresses. The reason never repeats the address, which may hold a password.
fn parse_server(text: &str) -> Result<Server, String> {
    let url = reqwest::Url::parse(text).map_err(|error| format!("not a usable mail server: {error}"))?;
    let implicit_tls = match url.scheme() {
        "smtp" => false,
        "smtps" => true,
        other => return Err(format!("not a usable mail server: the scheme is {other:?}, expected smtp or smtps")),
    };
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or("not a usable mail server: it names no host")?;
    let decode = |text: &str| percent_decode(text);
    let mut tls = TlsOptions::default();
    for (name, value) in url.query_pairs() {
        match &*name {
            "ca_file" => tls.ca = Some(Pem::File(value.into_owned())),
            "insecure_skip_verify" => tls.insecure_skip_verify = value == "true",
            _ => return Err(format!("{name:?} is not known here; known are ca_file and insecure_skip_verify")),
        }
    }
    Ok(Server {
        implicit_tls,
        host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        port: url.port().unwrap_or(if implicit_tls { 465 } else { 25 }),
        username: Some(url.username()).filter(|name| !name.is_empty()).map(decode),
        password: url.password().map(decode),
        tls,
    })
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = (*first == b'%').then(|| tail.get(..2)).flatten();
        let code = code.and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// This machine's name, for sender and EHLO.
fn own_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let usable =
        |name: &&str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    Some(name.trim()).filter(usable).unwrap_or("localhost").to_owned()
}

/// The mail, with the same Message-ID each time it is tried.
///
/// The first mail of an episode has the id that all later ones refer to, so that the mail that tells of the end stands in
/// the thread of the one that told of the beginning.
pub(super) fn message(
    config: &EmailConfig,
    notification: &Notification,
    context: &Context<'_>,
) -> Result<Message, String> {
    let mut renderer = Renderer::new(notification, context.external_url, context.templates);
    let headers: Vec<(&str, String)> =
        config.headers.iter().map(|(name, text)| (name.as_str(), renderer.text(text))).collect();
    let own = |wanted: &str| headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, text)| text);
    let sender = own("From").cloned().unwrap_or_else(|| {
        renderer.text_or(config.from.as_ref(), "", || format!("sidewatch <sidewatch@{}>", own_name()))
    });
    let sender = mailbox(&sender)?;
    let sender_address = sender.email.clone();
    let domain = sender_address.domain().to_owned();
    let moment = SystemTime::UNIX_EPOCH + Duration::from_micros(notification.at.micros().max(0).unsigned_abs());
    let default_subject = || renderer.text_or(None, "email.default.subject", || texts::subject(notification));
    let subject = own("Subject").cloned().unwrap_or_else(default_subject);
    let thread = notification.episode();
    let first = notification.at == notification.since;
    let id = |suffix: &str| format!("<sidewatch.{thread}{suffix}@{domain}>");
    let own_id = if first { id("") } else { id(&format!(".{}", notification.at.micros())) };
    let own_id = own("Message-Id").cloned().unwrap_or(own_id);
    let mut builder = Message::builder().from(sender).date(moment).subject(subject).message_id(Some(own_id));
    let root = match config.threading {
        Threading::Episode => (!first).then(|| id("")),
        // No mail bears this name; mail programs make a thread of those that refer to it (notify/email).
        Threading::Daily => Some(thread_root(&notification.group_key, texts::moment(notification.at).get(..10))),
        Threading::Group => Some(thread_root(&notification.group_key, None)),
        Threading::Off => None,
    };
    if let Some(root) = root {
        builder = builder.in_reply_to(root.clone()).references(root);
    }
    let recipients = renderer.text(&config.to);
    let shown = own("To").cloned().unwrap_or_else(|| recipients.clone());
    let mut envelope = Vec::new();
    for recipient in mailboxes(&recipients)? {
        envelope.push(recipient.email);
    }
    if envelope.is_empty() {
        return Err("the mail has no recipient: set to".into());
    }
    for recipient in mailboxes(&shown)? {
        builder = builder.to(recipient);
    }
    let envelope = lettre::address::Envelope::new(Some(sender_address), envelope);
    builder = builder.envelope(envelope.map_err(|error| format!("the mail cannot be addressed: {error}"))?);
    for (name, value) in &headers {
        if ["Subject", "From", "To", "Message-Id"].iter().any(|usual| usual.eq_ignore_ascii_case(name)) {
            continue;
        }
        let name = HeaderName::new_from_ascii((*name).to_owned()).map_err(|_| format!("{name:?} is no header name"))?;
        builder = builder.raw_header(HeaderValue::new(name, value.replace(['\r', '\n'], " ")));
    }
    let auto = HeaderName::new_from_ascii_str("Auto-Submitted");
    builder = builder.raw_header(HeaderValue::new(auto, "auto-generated".into()));
    let text = renderer.text_or(config.text.as_ref(), "", || texts::plain(notification, context.external_url));
    let html = match config.html.clone().or_else(|| renderer.redefined("email.default.html")) {
        Some(template) => renderer.html(&template),
        None => texts::html(notification, context.external_url),
    };
    let mail = match (text.is_empty(), html.is_empty()) {
        (false, false) => builder.multipart(MultiPart::alternative_plain_html(text, html)),
        (true, false) => builder.singlepart(SinglePart::html(html)),
        _ => builder.singlepart(SinglePart::plain(text)),
    };
    mail.map_err(|error| format!("the mail cannot be written: {error}"))
}

/// The name of a thread's absent first mail, as Alertmanager makes it.
fn thread_root(group_key: &str, date: Option<&str>) -> String {
    let hash = dedup_key(group_key);
    format!("<alert-{}-{}@alertmanager>", hash.get(..16).unwrap_or(&hash), date.unwrap_or_default())
}

fn mailbox(text: &str) -> Result<Mailbox, String> {
    text.trim().parse().map_err(|error| format!("{text:?} is no mail address: {error}"))
}

/// A list of addresses separated by commas; names in quotes may hold commas.
fn mailboxes(text: &str) -> Result<Mailboxes, String> {
    let text = text.trim().trim_end_matches(',');
    if text.is_empty() {
        return Ok(Mailboxes::new());
    }
    text.parse().map_err(|error| format!("{text:?} is no list of mail addresses: {error}"))
}

/// Sends one message.
pub(super) async fn send(config: &EmailConfig, notification: &Notification, context: &Context<'_>) -> Outcome {
    let mail = match message(config, notification, context) {
        Ok(mail) => mail,
        Err(error) => return Outcome::Final { error },
    };
    let exchange = tokio::time::timeout(EXCHANGE_TIMEOUT, smtp::send(config, &mail)).await;
    let hung = || Failure::Other(format!("the exchange was not over within {} s", EXCHANGE_TIMEOUT.as_secs()));
    match exchange.unwrap_or_else(|_| Err(hung())) {
        Ok(said) => Outcome::Delivered(said),
        Err(Failure::Smtp(error)) => judge(&error, config),
        Err(Failure::Other(error)) => {
            Outcome::Retry { error: format!("{}:{}: {error}", config.host, config.port), retry_after_ms: None }
        }
    }
}

/// Which failures are final: a 5xx answer, except those that a corrected password or address of the server mends.
fn judge(error: &lettre::transport::smtp::Error, config: &EmailConfig) -> Outcome {
    let server = format!("{}:{}", config.host, config.port);
    let mut text = match (error.status(), error.source()) {
        (Some(code), Some(said)) => format!("{server} answered {code} {said}"),
        (Some(code), None) => format!("{server} answered {code}"),
        (None, _) => format!("{server}: {}", root_cause(error)),
    };
    let code = error.status().map(u16::from);
    let hint = match code {
        Some(530) if config.username.is_none() => Some("it wants a login: set username and password"),
        Some(530) => Some("it wants TLS before the login: use smtps:// or port 587"),
        Some(534 | 535 | 538) => Some("it does not accept the login: check username and password"),
        Some(550 | 551 | 553) => {
            Some("it does not take mail for this recipient or from this sender: check to and from")
        }
        Some(552 | 554) => Some("it refuses the mail itself: ask who runs it"),
        _ if error.is_tls() || text.contains("certificate") => {
            Some("is the certificate that of this host, and its authority known? see ca_file")
        }
        _ if error.is_timeout() => Some("does smtps:// meet a port that wants STARTTLS, or the other way round?"),
        _ => None,
    };
    if let Some(hint) = hint {
        text.push_str(&format!(" ({hint})"));
    }
    let mendable = matches!(code, Some(530 | 534 | 535 | 538));
    if error.is_permanent() && !mendable {
        Outcome::Final { error: text }
    } else {
        Outcome::Retry { error: text, retry_after_ms: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_addresses() {
        type Parts<'a> = (bool, &'a str, u16, Option<&'a str>, Option<&'a str>);
        let check = |text: &str, expected: Result<Parts<'_>, &str>| {
            let found = parse_server(text);
            let found = found.as_ref().map_err(String::as_str);
            let found = found.map(|s| (s.implicit_tls, &*s.host, s.port, s.username.as_deref(), s.password.as_deref()));
            assert_eq!(found, expected, "{text}");
        };
        check("smtp://mail", Ok((false, "mail", 25, None, None)));
        check("smtps://mail", Ok((true, "mail", 465, None, None)));
        check("smtp://me%40x:p%2Fw@[::1]:587", Ok((false, "::1", 587, Some("me@x"), Some("p/w"))));
        check("http://mail", Err("not a usable mail server: the scheme is \"http\", expected smtp or smtps"));
        check("mail:25", Err("not a usable mail server: the scheme is \"mail\", expected smtp or smtps"));
        check("smtp://m?x=1", Err("\"x\" is not known here; known are ca_file and insecure_skip_verify"));
    }
}
