//! A `websocket` source as YAML.

use super::Yaml::{Map, Raw};
use super::{Fields, Yaml, duration, hidden, secret, text, texts, tls};
use crate::config::schema::{TlsConfig, WebSocketConfig};

pub(super) fn websocket(config: &WebSocketConfig) -> Yaml {
    let mut map = Fields::default();
    map.url("url", Some(&config.url.value));
    map.list("subscribe", config.subscribe.iter().map(|message| hidden::message(message)).collect());
    map.map("headers", hidden::headers(config.headers.iter().map(|(name, _)| &name.value)));
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
