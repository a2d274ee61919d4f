//! An `sse` source as YAML.

use super::Yaml::{Map, Text};
use super::{Fields, Yaml, duration, text};
use crate::config::read::HIDDEN;
use crate::config::schema::{SecretSource, SseConfig};

pub(super) fn sse(config: &SseConfig) -> Yaml {
    let mut map = Fields::default();
    map.text("url", Some(&config.url.value));
    // Headers are where keys of every kind stand.
    map.map("headers", config.headers.iter().map(|(name, _)| (name.value.clone(), Text(HIDDEN.into()))).collect());
    match &config.token {
        Some(SecretSource::Inline(_)) => map.add("token", Text(HIDDEN.into())),
        Some(SecretSource::File(path)) => map.add("token_file", text(&path.value)),
        None => {}
    }
    if let Some(tls) = &config.tls {
        map.add("tls", super::tls::tls(tls));
    }
    if let Some(idle) = config.idle_timeout_ms {
        map.raw("idle_timeout", duration(idle));
    }
    Map(map.0)
}
