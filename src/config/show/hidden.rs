//! What `config show` hides: the one rule for everything that may be a credential without being a key of its own.
//!
//! Every value of a header, the user part of an address where a token or a password stands, and every value whose name
//! says that it is a secret. Rather too much than too little: what is shown goes into tickets and chats.

use super::Yaml::{self, Text};
use super::{Fields, text};
use crate::config::Spanned;
use crate::config::read::HIDDEN;
use crate::config::schema::SecretSource;

/// Words in the names of what is secret: `access_token`, `ssl.key.password`, `X-Api-Key`, `sig`.
const WORDS: [&str; 9] = ["pass", "secret", "token", "key", "auth", "cred", "cookie", "session", "sig"];

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // A name with escapes could be any.
    name.contains('%') || WORDS.iter().any(|word| name.contains(word))
}

/// Under `key`, or under `key_file` its path.
pub(super) fn secret(map: &mut Fields, key: &str, secret: &SecretSource) {
    match secret {
        SecretSource::Inline(_) => map.add(key, Text(HIDDEN.into())),
        SecretSource::File(path) => map.add(&format!("{key}_file"), text(&path.value)),
    }
}

/// Headers by their names only: any of them may be a key.
pub(super) fn headers<'h>(names: impl Iterator<Item = &'h String>) -> Vec<(String, Yaml)> {
    names.map(|name| (name.clone(), Text(HIDDEN.into()))).collect()
}

/// Values by name.
pub(super) fn pairs(entries: &[(Spanned<String>, Spanned<String>)]) -> Vec<(String, Yaml)> {
    entries.iter().map(|(name, value)| (name.value.clone(), named(&name.value, text(&value.value)))).collect()
}

/// A value, unless its name says that it is secret.
pub(super) fn named(name: &str, value: Yaml) -> Yaml {
    if is_secret(name) { Text(HIDDEN.into()) } else { value }
}

/// A message that logs in is shown by nothing: where in it the token stands is the server's own affair.
pub(super) fn message(message: &str) -> Yaml {
    named(&message.replace('%', ""), text(message))
}

/// An address.
pub(super) fn url(address: &str) -> Yaml {
    text(&address_of(address))
}

fn address_of(address: &str) -> String {
    let shown = without_password(address);
    let Some((before, query)) = shown.split_once('?') else { return shown };
    let parts = query.split('&').map(|part| match part.split_once('=') {
        // Escaped, so that the address stays one.
        Some((name, _)) if is_secret(name) => format!("{name}=%3Csecret%3E"),
        _ => part.to_owned(),
    });
    format!("{before}?{}", parts.collect::<Vec<_>>().join("&"))
}

/// An address whose password or token, if it has one (RFC 3986, 3.2.1), is hidden.
fn without_password(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // A password with an unescaped / or ? in it must not show, either: the last @ counts.
    match rest.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => {
            let name = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{name}:{HIDDEN}@{host}")
        }
        // A name alone is a token to many servers.
        Some((_, host)) if authority.contains('@') => format!("{scheme}://{HIDDEN}@{host}"),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, load_text, show};

    #[test]
    fn addresses_keep_what_is_no_secret() {
        for (address, expected) in [
            ("http://h:1/p?x=1&y=2", "http://h:1/p?x=1&y=2"),
            ("http://u:p@h/", "http://u:<secret>@h/"),
            ("http://u:p/a?b@h/", "http://u:<secret>@h/"),
            ("nats://t0ken@h:4222", "nats://<secret>@h:4222"),
            ("http://h/p?mail=a@b&access_token=t&n=1", "http://h/p?mail=a@b&access_token=%3Csecret%3E&n=1"),
            ("ws://h/?%74oken=t&X-Api-Key=k", "ws://h/?%74oken=%3Csecret%3E&X-Api-Key=%3Csecret%3E"),
            ("h:9092", "h:9092"),
        ] {
            assert_eq!(address_of(address), expected);
        }
    }

    #[test]
    fn no_credential_is_shown_wherever_it_stands() {
        const MARKER: &str = "m4rk3r";
        let http = "headers: {x-a: M}, proxy_url: 'http://u:M@p:3128', basic_auth: {username: u, password: M}";
        let bearer = "headers: {authorization: M}, authorization: {credentials: M}";
        let text = format!(
            "sources:
  scraped: {{scrape: {{url: 'http://h/metrics?api_key=M', params: {{token: M}}, {http}}}}}
  streamed: {{sse: {{url: 'https://h/e?token=M', headers: {{x-a: M}}, token: M}}}}
  socket: {{websocket: {{url: 'wss://h/e?access_token=M', subscribe: ['{{\"op\":\"auth\",\"args\":[\"M\"]}}', 'login token M'], headers: {{x-a: M}}, token: M}}}}
  log: {{kafka: {{brokers: [b:9092], topics: [t], group: g, user: u, password: M, properties: {{ssl.key.password: M, sasl.oauthbearer.config: M}}}}}}
  nats: {{nats: {{urls: ['nats://h:4222'], subjects: [s], token: M}}}}
  amqp: {{amqp: {{url: 'amqp://u:M@h/v', queue: q, declare: {{arguments: {{x-secret: M}}}}}}}}
  mqtt: {{mqtt: {{url: 'mqtt://u:M@h', topics: [t]}}}}
  redis: {{redis: {{url: 'redis://u:M@h', streams: [s]}}}}
redact: {{fields: [data.card], hash_key: M12345678}}
health: {{probe: {{http: {{url: 'http://u:M@h/health?token=M'}}}}}}
notify:
  a: {{webhook: {{url: 'http://h/M', headers: {{x-a: M}}}}}}
  b: {{slack: {{app_token: M, app_url: 'http://u:M@h', channel: c}}}}
  c: {{email: {{to: a@b, smtp: 'smtp://u:M@h'}}}}
  d: {{alertmanager: {{url: 'http://u:M@h'}}}}
  e: {{pagerduty: {{routing_key: M, url: 'http://u:M@h'}}}}
watchdog: {{url: 'https://h/M'}}
export:
  w: {{remote_write: {{url: 'https://u:M@h/api?token=M', {http}}}}}
  o: {{otlp: {{url: 'https://h/M', {bearer}}}}}
publish:
  p: {{http: {{url: 'https://h/M', {http}}}}}
  n: {{nats: {{url: 'nats://h', token: M, subject: s}}}}
  r: {{redis: {{url: 'redis://u:M@h', stream: s}}}}
"
        )
        .replace('M', MARKER);
        let read = |text: &str| {
            let (config, found) = load_text("t.yaml", text, &Default::default(), &Overrides::default());
            let config = config.filter(|_| !found.has_errors());
            show(&config.unwrap_or_else(|| panic!("{found}\n{text}")))
        };
        let shown = read(&text);
        let leaks: Vec<&str> = shown.lines().filter(|line| line.contains(MARKER)).collect();
        assert!(leaks.is_empty(), "{leaks:#?}");
        assert_eq!(read(&shown), shown, "and it reads back");
    }
}
