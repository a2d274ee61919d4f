//! What brokers' sources have in common: addresses with user and password in them, secrets, scopes.

use crate::config::reader::MapReader;
use crate::config::schema::{Scope, SecretSource};
use crate::config::{Diagnostics, Spanned};
use crate::secret::Secret;

/// `scheme://user:password@host:port/path?query`, taken apart (RFC 3986, section 3).
#[derive(Debug)]
pub(super) struct BrokerUrl {
    /// Whether the scheme asks for TLS.
    pub tls: bool,
    pub host: String,
    pub port: Option<u16>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Behind the host, with its slash; still encoded. Empty when there is none.
    pub path: String,
    /// Decoded.
    pub query: Vec<(String, String)>,
}

/// Takes an address apart; `schemes` are the plain one and the one with TLS.
pub(super) fn url(
    text: &Spanned<String>,
    schemes: [&'static str; 2],
    example: &str,
    found: &mut Diagnostics,
) -> Option<BrokerUrl> {
    match take_apart(&text.value, schemes) {
        Ok(url) => Some(url),
        Err(message) => {
            found.error_hint(&text.span, format!("url: {message}"), format!("write {example}"));
            None
        }
    }
}

fn take_apart(text: &str, schemes: [&'static str; 2]) -> Result<BrokerUrl, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("no address that begins with {}://", schemes[0]));
    };
    let tls = match schemes.iter().position(|known| scheme.eq_ignore_ascii_case(known)) {
        Some(at) => at == 1,
        None => return Err(format!("{scheme:?} is neither {} nor {}", schemes[0], schemes[1])),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let Authority { host, port, username, password } = self::authority(authority).map_err(|wrong| wrong.to_string())?;
    let decoded = |part: &str| decode(part).ok_or_else(|| format!("{part:?} is not percent-encoded UTF-8"));
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((decoded(name)?, decoded(value)?));
    }
    Ok(BrokerUrl { tls, host, port, username, password, path: path.to_owned(), query: pairs })
}

/// `USER:PASSWORD@HOST:PORT` of an address (RFC 3986, section 3.2), decoded.
pub(super) struct Authority {
    /// IPv6 without its brackets.
    pub host: String,
    pub port: Option<u16>,
    pub username: Option<String>,
    pub password: Option<Secret>,
}

/// What is wrong with it; a user may be a token, and neither that nor a password is repeated in a message.
#[derive(Debug, thiserror::Error)]
pub(super) enum Wrong {
    #[error("the host is missing")]
    Host,
    #[error("what follows the colon is no port from 1 to 65535")]
    Port,
    #[error("the user is not percent-encoded UTF-8")]
    User,
    #[error("the password is not percent-encoded UTF-8")]
    Password,
}

pub(super) fn authority(text: &str) -> Result<Authority, Wrong> {
    let (user, host) = text.rsplit_once('@').map_or((None, text), |(user, host)| (Some(user), host));
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => match port.parse::<u16>() {
            Ok(port) if port > 0 => (host, Some(port)),
            // It may be half of a password with a slash in it.
            _ => return Err(Wrong::Port),
        },
        _ => (host, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() {
        return Err(Wrong::Host);
    }
    let (username, password) =
        user.map_or((None, None), |user| user.split_once(':').map_or((Some(user), None), |(u, p)| (Some(u), Some(p))));
    let username = username.map(|user| decode(user).ok_or(Wrong::User)).transpose()?;
    let password = password.map(|word| decode(word).map(Secret::new).ok_or(Wrong::Password)).transpose()?;
    Ok(Authority { host, port, username, password })
}

/// Percent-decoding (RFC 3986, section 2.1); `None` when it is no UTF-8 or a % stands alone.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |digit: Option<u8>| char::from(digit?).to_digit(16);
            bytes.push((digit(rest.next())? * 16 + digit(rest.next())?) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// `password` or `password_file`, else what stands in the address.
pub(super) fn password(map: &mut MapReader<'_, '_>, of_url: Option<Spanned<Secret>>) -> Option<SecretSource> {
    map.secret("password", "password_file").or_else(|| of_url.map(SecretSource::Inline))
}

/// `scope: shared|per_instance`.
pub(super) fn scope(map: &mut MapReader<'_, '_>) -> Option<Scope> {
    map.one_of("scope", &Scope::ALL).map(|scope| scope.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Span;

    #[test]
    fn addresses_are_taken_apart() {
        let check = |text: &str, expected: &str| {
            let mut found = Diagnostics::new();
            let text = Spanned::new(text.to_owned(), Span::default());
            let shown = match url(&text, ["amqp", "amqps"], "amqp://host", &mut found) {
                Some(url) => format!(
                    "{} {} {:?} {:?} {:?} {} {:?}",
                    url.tls,
                    url.host,
                    url.port,
                    url.username,
                    url.password.as_ref().map(Secret::expose),
                    url.path,
                    url.query
                ),
                None => found.to_string().lines().next().unwrap_or_default().to_owned(),
            };
            assert!(shown.contains(expected), "{}: {shown}", text.value);
        };
        check("amqp://h", "false h None None None  []");
        check("AMQPS://h:1/", "true h Some(1) None None / []");
        check(
            "amqp://u:p%40%2F@h:5672/%2f?queue=a%20b&x",
            r#"false h Some(5672) Some("u") Some("p@/") /%2f [("queue", "a b"), ("x", "")]"#,
        );
        check("amqp://u@[::1]:7/v", r#"false ::1 Some(7) Some("u") None /v []"#);
        check("amqp://[fe80::1]/v", "false fe80::1 None");
        check("h:5672", "no address that begins with amqp://");
        check("http://h", r#""http" is neither amqp nor amqps"#);
        check("amqp://h:port", "no port from 1 to 65535");
        check("amqp://h:0", "no port from 1 to 65535");
        check("amqp://u:p@", "the host is missing");
        check("amqp://u:%zz@h", "the password is not percent-encoded");
        check("amqp://%zz:p@h", "the user is not percent-encoded");
        check("amqp://h?a=%f", r#""%f" is not percent-encoded"#);
    }

    #[test]
    fn mistakes_of_broker_sources_are_found_together() {
        let text = r##"
sources:
  a: {amqp: {url: "amqp://h", bind: [{exchange: e, type: topik}], prefetch: 0}}
  b: {amqp: {url: "amqp://h?queue=amq.x&speed=1", declare: true, scope: per_instance, heartbeat: 1500ms}}
  c: {amqp: {url: "amqp://h", queue: q, password: p, password_file: f, declare: {arguments: {x-max-length: [1]}}}}
  d: {mqtt: {url: "mqtt://h/path", topics: ["a/#/b", "a+", "$share/g/a"], scope: shared, group: a/b}}
  e: {mqtt: {url: "mqtt://h", version: 3.1.1, receive_maximum: 5, session_expiry: 1h, qos: 2}}
  f: {mqtt: {url: "mqtt://h", topics: a, qos: 0, clean_session: false, group: g, password: p}}
  g: {stdin: {}, dedup: {by: name, window: 0}}
  h: "mqtt://h?topic=a"
"##;
        let (_, found) = crate::config::load_text("t.yaml", text, &Default::default(), &Default::default());
        let found = found.to_string();
        for expected in [
            "amqp source: the queue is missing",
            "did you mean \"topic\"?",
            "prefetch: expected a number from 1 to 65535, found 0",
            "queue: names that begin with amq. belong to the broker",
            "url: unknown parameter \"speed\"",
            "a queue of each instance needs bind",
            "heartbeat: whole seconds",
            "at most one of password and password_file may be set",
            "arguments: a text, a whole number, true or false",
            "url: MQTT addresses have no path",
            "topics: \"a/#/b\" is no topic filter",
            "topics: \"a+\" is no topic filter",
            "topics: scope: shared makes $share/GROUP/ itself",
            "group: a name without / + and #",
            "receive_maximum: MQTT 3.1.1 has no such thing",
            "session_expiry: MQTT 3.1.1 has no such thing",
            "mqtt source: the topics are missing",
            "clean_session: with qos 0 the broker keeps nothing",
            "group: only shared subscriptions have one",
            "a password without a username",
            "window: expected a number",
            "url: unknown parameter \"topic\"",
        ] {
            assert!(found.contains(expected), "{expected}\n---\n{found}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_alike() {
        let text = r##"
sources:
  a: "amqps://u@h/v%2Fw?queue=q&prefetch=7"
  b:
    amqp: {url: "amqp://[::1]", queue: q, declare: {exclusive: true, arguments: {x-queue-type: quorum, x-expires: 5, "x-flag": true, "x-text": "7"}},
           bind: [{exchange: e, routing_key: "a.#", type: topic, durable: false}, {exchange: f}], scope: shared, poison: reject, max_deliveries: 0,
           password_file: p, heartbeat: 10s, tls: {ca_file: ca.pem, server_name: n}}
    dedup: false
  c: "mqtts://u@h?topics=a/b,c/%2B"
  d: {mqtt: {url: "mqtt://h:1", topics: "#", version: 4, qos: 0, retained: ignore, client_id: me, keep_alive: 5s, scope: per_instance}, dedup: {window: 5}}
  e: {mqtt: {url: "mqtt://h", topics: [a], scope: shared, group: g, session_expiry: 1h, receive_maximum: 9, max_packet_size: 1MiB, username: u, password_file: p}}
"##;
        let load = |text: &str| {
            let (config, found) = crate::config::load_text("t.yaml", text, &Default::default(), &Default::default());
            config.filter(|_| !found.has_errors()).unwrap_or_else(|| panic!("{found}"))
        };
        let config = load(text);
        let shown = crate::config::show(&config);
        let again = load(&shown);
        assert_eq!(config.sources.as_ref().unwrap().len(), 5);
        for (one, other) in config.sources.iter().flatten().zip(again.sources.iter().flatten()) {
            assert_eq!(one.value.transport, other.value.transport, "{shown}");
            assert_eq!(one.value.dedup, other.value.dedup, "{shown}");
        }
    }
}
