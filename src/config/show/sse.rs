//! An `sse` source as YAML.

use super::Yaml::Map;
use super::{Fields, Yaml, duration, hidden, secret};
use crate::config::schema::SseConfig;

pub(super) fn sse(config: &SseConfig) -> Yaml {
    let mut map = Fields::default();
    map.url("url", Some(&config.url.value));
    map.map("headers", hidden::headers(config.headers.iter().map(|(name, _)| &name.value)));
    if let Some(token) = &config.token {
        secret(&mut map, "token", token);
    }
    if let Some(tls) = &config.tls {
        map.add("tls", super::tls::tls(tls));
    }
    if let Some(idle) = config.idle_timeout_ms {
        map.raw("idle_timeout", duration(idle));
    }
    Map(map.0)
}
