//! A `redis` source as YAML.

use super::Yaml::{Map, Raw};
use super::{Fields, Yaml, duration, secret, text, texts, tls};
use crate::config::schema::{RedisAccess, RedisAddress, RedisConfig, RedisInput, RedisServers};

pub(super) fn redis(config: &RedisConfig) -> Yaml {
    let mut map = Fields::default();
    access(&config.access, &mut map);
    match &config.input {
        RedisInput::Streams(streams) => {
            map.add("streams", texts(&streams.names));
            map.text("group", Some(&streams.group));
            map.text("consumer", streams.consumer.as_ref());
            if let Some(scope) = streams.scope {
                map.raw("scope", scope.word());
            }
            map.add("start", Raw(if streams.from_end { "last" } else { "first" }.into()));
            map.raw("claim_idle", duration(streams.claim_idle_ms));
        }
        RedisInput::Channels { channels, patterns } => {
            map.list("channels", channels.iter().map(|name| text(&name.value)).collect());
            map.list("patterns", patterns.iter().map(|name| text(&name.value)).collect());
        }
    }
    Map(map.0)
}

/// How servers are reached.
pub(super) fn access(config: &RedisAccess, map: &mut Fields) {
    let url = |address: &RedisAddress| {
        let scheme = match address {
            RedisAddress::Tcp { .. } => "redis",
            RedisAddress::Unix { .. } => "redis+unix",
        };
        text(&format!("{scheme}://{address}"))
    };
    match &config.servers {
        RedisServers::One(address) => map.add("url", url(address)),
        RedisServers::Cluster(addresses) => {
            map.list("urls", addresses.iter().map(url).collect());
            map.raw("cluster", true);
        }
        RedisServers::Sentinel { master, urls, username, password } => {
            let mut inner = Fields::default();
            inner.text("master", Some(master));
            inner.list("urls", urls.iter().map(url).collect());
            inner.text("username", username.as_ref());
            if let Some(password) = password {
                secret(&mut inner, "password", password);
            }
            map.add("sentinel", Map(inner.0));
        }
    }
    map.text("username", config.username.as_ref());
    if let Some(password) = &config.password {
        secret(map, "password", password);
    }
    map.raw("database", config.database);
    if let Some(options) = &config.tls {
        map.add("tls", tls::tls(options));
    }
}
