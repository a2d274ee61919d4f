//! A `kafka` source as YAML.

use super::Yaml::{Map, Seq};
use super::{Fields, Yaml, hidden, secret, text, texts};
use crate::config::schema::{KafkaConfig, KafkaMechanism, KafkaServers};

pub(super) fn kafka(config: &KafkaConfig) -> Yaml {
    let mut map = Fields::default();
    servers(&config.servers, &mut map);
    map.add("topics", texts(&config.topics));
    map.text("group", config.group.as_ref().map(|group| &group.value));
    map.raw("start", if config.from_end { "last" } else { "first" });
    if let Some(scope) = config.scope {
        map.raw("scope", scope.word());
    }
    map.text("member", config.member.as_ref().map(|member| &member.value));
    map.map("properties", hidden::pairs(&config.properties));
    Map(map.0)
}

/// How brokers are reached.
pub(super) fn servers(config: &KafkaServers, map: &mut Fields) {
    map.add("brokers", Seq(config.brokers.iter().map(|broker| text(&broker.value)).collect()));
    map.text("user", config.user.as_ref().map(|user| &user.value));
    if let Some(password) = &config.password {
        secret(map, "password", password);
    }
    if config.user.is_some() && config.mechanism != KafkaMechanism::Plain {
        map.raw("mechanism", config.mechanism.name());
    }
    if let Some(tls) = &config.tls {
        map.add("tls", super::tls::tls(tls));
    }
}
