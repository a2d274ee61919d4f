//! A `nats` source as YAML.

use super::Yaml::{Map, Raw, Seq};
use super::{Fields, Yaml, duration, secret, text, texts, tls};
use crate::config::schema::{NatsConfig, NatsCredentials, NatsServers};

pub(super) fn nats(config: &NatsConfig) -> Yaml {
    let mut map = Fields::default();
    if !config.subjects.is_empty() {
        map.add("subjects", texts(&config.subjects));
    }
    map.text("queue_group", config.queue_group.as_ref().map(|group| &group.value));
    if let Some(stream) = &config.stream {
        map.text("stream", Some(&stream.name.value));
        map.text("durable", Some(&stream.durable.value));
        map.text("domain", stream.domain.as_ref().map(|domain| &domain.value));
        map.raw("ack_wait", duration(stream.ack_wait_ms));
        if let Some(max) = stream.max_deliver {
            map.raw("max_deliver", max);
        }
        map.list("backoff", stream.backoff_ms.iter().map(|wait| Raw(duration(*wait))).collect());
        map.raw("max_ack_pending", stream.max_ack_pending);
        map.raw("start", if stream.from_end { "last" } else { "first" });
    }
    if let Some(scope) = config.scope {
        map.raw("scope", scope.word());
    }
    servers(&config.servers, &mut map);
    Map(map.0)
}

/// How servers are reached.
pub(super) fn servers(config: &NatsServers, map: &mut Fields) {
    map.add("urls", Seq(config.urls.iter().map(|url| text(&url.to_string())).collect()));
    match &config.credentials {
        Some(NatsCredentials::User(user, password)) => {
            map.text("user", Some(user));
            secret(map, "password", password);
        }
        Some(NatsCredentials::Token(token)) => secret(map, "token", token),
        Some(NatsCredentials::Nkey(path)) => map.text("nkey_file", Some(&path.value)),
        Some(NatsCredentials::Creds(path)) => map.text("creds_file", Some(&path.value)),
        None => {}
    }
    if let Some(config) = &config.tls {
        map.add("tls", tls::tls(config));
    }
    map.text("inbox_prefix", config.inbox_prefix.as_ref().map(|prefix| &prefix.value));
}
