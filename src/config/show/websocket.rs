//! A `websocket` source as YAML.

use super::Yaml::{Map, Raw, Text};
use super::{Fields, Yaml, duration, secret, text, texts, tls};
use crate::config::read::HIDDEN;
use crate::config::schema::{TlsConfig, WebSocketConfig};

/// Words in the names of headers whose values are credentials.
const CREDENTIALS: [&str; 5] = ["auth", "key", "token", "secret", "cookie"];

pub(super) fn websocket(config: &WebSocketConfig) -> Yaml {
    let mut map = Fields::default();
    map.text("url", Some(&config.url.value));
    map.list("subscribe", config.subscribe.iter().map(|message| text(message)).collect());
    let headers = config.headers.iter().map(|(name, value)| {
        let lower = name.value.to_ascii_lowercase();
        let hidden = CREDENTIALS.iter().any(|word| lower.contains(word));
        (name.value.clone(), if hidden { Text(HIDDEN.into()) } else { text(&value.value) })
    });
    map.map("headers", headers.collect());
    if let Some(token) = &config.token {
        secret(&mut map, "token", token);
    }
    if !config.protocols.is_empty() {
        map.add("protocols", texts(&config.protocols));
    }
    map.raw("ping", duration(config.ping_ms));
    map.raw("pong_timeout", duration(config.pong_timeout_ms));
    let ignore = config.ignore.iter().map(|message| {
        let fields = message.fields.iter().map(|(path, value)| {
            let value = value.as_str().map_or_else(|| Raw(value.to_string()), text);
            (path.clone(), value)
        });
        Map(fields.collect())
    });
    map.list("ignore", ignore.collect());
    if config.tls != TlsConfig::default() {
        map.add("tls", tls::tls(&config.tls));
    }
    Map(map.0)
}
