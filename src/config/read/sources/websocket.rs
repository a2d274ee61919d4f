//! `websocket:` of a source.

use crate::config::reader::{self, MapReader};
use crate::config::schema::{IgnoredMessage, TlsConfig, Transport, WebSocketConfig};
use crate::config::yaml::{Kind, Node};
use crate::config::{Diagnostics, Spanned};
use serde_json::Value;

const PING_MS: i64 = 20_000;
const PONG_TIMEOUT_MS: i64 = 10_000;
/// Messages sent after connecting, and kinds of messages that are passed over.
const MESSAGES: usize = 1_000;

/// `websocket: URL` or `websocket: {...}`.
pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Option<Transport> {
    if matches!(node.kind, Kind::Scalar { .. }) && !node.is_null() {
        return of_url(&reader::string(node, "websocket", found)?, found);
    }
    let mut map = MapReader::new(node, "websocket source", found)?;
    let url = map.string("url");
    if url.is_none() && map.raw("url").is_none() {
        let span = map.span().clone();
        map.found().error_hint(
            &span,
            "websocket: url is missing",
            "write url: ws://HOST:PORT/PATH; producers that connect to sidewatch need {http: {}}, at ws://LISTEN.INGEST/events",
        );
    }
    let url = url.filter(|url| is_address(url, map.found()));
    let subscribe = match map.get("subscribe") {
        Some(node) => reader::one_or_list(node).iter().map(message).collect(),
        None => Vec::new(),
    };
    let headers = map.headers();
    let token = map.secret("token", "token_file");
    if let Some((name, _)) = headers.iter().find(|(name, _)| name.value.eq_ignore_ascii_case("authorization"))
        && token.is_some()
    {
        map.found().error(&name.span, "headers: authorization is what token writes; at most one of them may be set");
    }
    let protocols = map.strings("protocols");
    for protocol in &protocols {
        // A token of RFC 9110, section 5.6.2: what a method may be written with.
        if http::Method::from_bytes(protocol.value.as_bytes()).is_err() {
            map.found().error(&protocol.span, format!("protocols: {:?} is no name of a protocol", protocol.value));
        }
    }
    let ping_ms = map.duration_ms("ping").map_or(PING_MS, |time| time.value);
    let pong_timeout = map.duration_ms("pong_timeout");
    if let Some(time) = pong_timeout.as_ref().filter(|time| time.value == 0) {
        map.found().error(&time.span, "pong_timeout: it must be longer than 0; ping: 0s sends no pings");
    }
    let ignore = map.each_or_one("ignore", ignored);
    let tls = super::tls::tls(&mut map);
    if let (Some(url), Some(_)) = (&url, &tls)
        && url.value.starts_with("ws:")
    {
        map.found().error_hint(&url.span, "tls: the address is a plain one", "write wss:// instead of ws://");
    }
    if subscribe.len() > MESSAGES || ignore.len() > MESSAGES {
        let span = map.span().clone();
        map.found().error(&span, format!("websocket: at most {MESSAGES} messages under subscribe and under ignore"));
    }
    map.finish();
    Some(Transport::WebSocket(Box::new(WebSocketConfig {
        subscribe,
        headers,
        token,
        protocols,
        ping_ms,
        pong_timeout_ms: pong_timeout.map_or(PONG_TIMEOUT_MS, |time| time.value),
        ignore,
        tls: tls.unwrap_or_default(),
        ..of(url?)
    })))
}

/// A source that is only an address.
pub(super) fn of_url(url: &Spanned<String>, found: &mut Diagnostics) -> Option<Transport> {
    is_address(url, found).then(|| Transport::WebSocket(Box::new(of(url.clone()))))
}

fn of(url: Spanned<String>) -> WebSocketConfig {
    WebSocketConfig {
        url,
        subscribe: Vec::new(),
        headers: Vec::new(),
        token: None,
        protocols: Vec::new(),
        ping_ms: PING_MS,
        pong_timeout_ms: PONG_TIMEOUT_MS,
        ignore: Vec::new(),
        tls: TlsConfig::default(),
    }
}

/// An address as RFC 6455, section 3, has it.
fn is_address(url: &Spanned<String>, found: &mut Diagnostics) -> bool {
    let said = |found: &mut Diagnostics, message: String, hint: &str| {
        found.error_hint(&url.span, message, hint);
        false
    };
    // A password in the address must not be repeated by a message.
    if url.value.split('/').nth(2).is_some_and(|authority| authority.contains('@')) {
        let message = "url: a WebSocket address holds no user and password".to_owned();
        return said(found, message, "write token or token_file, or headers: {authorization: ...}");
    }
    let hint = "write ws://HOST:PORT/PATH or wss://HOST/PATH";
    let Ok(uri) = url.value.parse::<http::Uri>() else {
        return said(found, format!("url: {:?} is no address", url.value), hint);
    };
    if !matches!(uri.scheme_str(), Some("ws" | "wss")) {
        return said(found, format!("url: {:?} is no WebSocket address", url.value), hint);
    }
    if uri.host().is_none_or(str::is_empty) || uri.port().is_some_and(|port| port.as_u16() == 0) {
        return said(found, format!("url: {:?} names no host or no port", url.value), hint);
    }
    if url.value.contains('#') {
        return said(found, "url: a WebSocket address has no fragment (#...)".to_owned(), hint);
    }
    true
}

/// A text is sent as it is; anything else as JSON.
fn message(node: &Node) -> String {
    match node.as_str() {
        Some(text) => text.to_owned(),
        None => json(node).to_string(),
    }
}

/// YAML's core schema as JSON (YAML 1.2.2, section 10.3).
fn json(node: &Node) -> Value {
    match &node.kind {
        Kind::Map(entries) => Value::Object(
            entries.iter().map(|(key, value)| (key.as_str().unwrap_or("").to_owned(), json(value))).collect(),
        ),
        Kind::Seq(items) => Value::Array(items.iter().map(json).collect()),
        Kind::Scalar { .. } if node.is_null() => Value::Null,
        // Numbers and true and false are written alike in both; other plain words are texts.
        Kind::Scalar { text, plain: true } => serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()),
        Kind::Scalar { text, .. } => text.clone().into(),
    }
}

fn ignored(node: &Node, found: &mut Diagnostics) -> Option<IgnoredMessage> {
    let Some(entries) = node.as_map().filter(|entries| !entries.is_empty()) else {
        found.error_hint(&node.span, "ignore: expected fields with their values", "write {type: subscribed}");
        return None;
    };
    let mut fields = Vec::new();
    for (key, value) in entries {
        reader::path(key, "ignore", found)?;
        match json(value) {
            Value::Object(_) | Value::Array(_) => {
                found.error_hint(&value.span, "ignore: a field is compared with a single value", "write a.b: value");
                return None;
            }
            value => fields.push((key.as_str().unwrap_or("").to_owned(), value)),
        }
    }
    Some(IgnoredMessage { fields })
}

#[cfg(test)]
mod tests {
    use crate::config::read::sources::checked::{check, check_and_show};
    use crate::config::schema::Transport;
    use crate::config::{Overrides, load_text};

    #[test]
    fn addresses_and_mappings() {
        check_and_show("'ws://h:8080/x?a=b'", &[]);
        check_and_show("'wss://h/x'", &[]);
        check_and_show("{websocket: 'ws://[::1]:80'}", &[]);
        check_and_show(
            "{websocket: {url: 'ws://h', subscribe: {action: subscribe, topics: ['order.*'], n: 5, y: true}}}",
            &[],
        );
        check_and_show(
            "{websocket: {url: 'ws://h', subscribe: ['{\"a\":1}', {b: 2}], ping: 0s, protocols: [v1.events]}}",
            &[],
        );
        check_and_show(
            "{websocket: {url: 'ws://h', ignore: {type: ack}, headers: {x-a: '<secret>'}, token_file: /t}}",
            &[],
        );
        check_and_show(
            "{websocket: {url: 'wss://h', ignore: [{type: ack, ok: true}, {a.b: 1}], tls: {ca_file: ca.pem}}}",
            &[],
        );
        check("{websocket: {url: 'wss://h', token: secret, pong_timeout: 5s}}", &[]);
    }

    #[test]
    fn mistakes_are_named() {
        check("{websocket: {}}", &["websocket: url is missing"]);
        check("{websocket: 'http://h'}", &["url: \"http://h\" is no WebSocket address"]);
        check("'ws://'", &["url: \"ws://\" is no address"]);
        check("'ws://u:p@h'", &["url: a WebSocket address holds no user and password"]);
        check("{websocket: {url: 'ws://h', tls: {}}}", &["tls: the address is a plain one"]);
        check("{websocket: {url: 'ws://h', ignore: ack}}", &["ignore: expected fields with their values"]);
        check("{websocket: {url: 'ws://h', ignore: {a: [1]}}}", &["ignore: a field is compared with a single value"]);
        check("{websocket: {url: 'ws://h', protocols: 'a b'}}", &["protocols: \"a b\" is no name of a protocol"]);
        check("{websocket: {url: 'ws://h', headers: {'a b': c}}}", &["headers: \"a b\" is no name of a header"]);
        check(
            "{websocket: {url: 'ws://h', token: t, headers: {Authorization: c}}}",
            &["headers: authorization is what token writes; at most one of them may be set"],
        );
    }

    #[test]
    fn messages_of_the_subscription_are_json() {
        let text =
            "sources: {s: {websocket: {url: 'ws://h', subscribe: [plain, {a: 5, b: '5', c: [true, x], d: null}]}}}";
        let (config, _) = load_text("t.yaml", text, &Default::default(), &Overrides::default());
        let sources = config.unwrap().sources.unwrap();
        let Transport::WebSocket(config) = &sources[0].value.transport else { panic!() };
        assert_eq!(config.subscribe, ["plain", r#"{"a":5,"b":"5","c":[true,"x"],"d":null}"#]);
    }
}
