//! A `redis` source as YAML.

use super::Yaml::{Map, Raw};
use super::{Fields, Yaml, duration, secret, text, texts, tls};
use crate::config::schema::{RedisAddress, RedisConfig, RedisInput, RedisScope, RedisServers};

pub(super) fn redis(config: &RedisConfig) -> Yaml {
    let mut map = Fields::default();
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
    match &config.input {
        RedisInput::Streams(streams) => {
            map.add("streams", texts(&streams.names));
            map.text("group", Some(&streams.group));
            map.text("consumer", streams.consumer.as_ref());
            if let Some(scope) = streams.scope {
                let name = RedisScope::ALL.iter().find(|(_, known)| *known == scope).map_or("", |(name, _)| *name);
                map.raw("scope", name);
            }
            map.add("start", Raw(if streams.from_end { "last" } else { "first" }.into()));
            map.raw("claim_idle", duration(streams.claim_idle_ms));
        }
        RedisInput::Channels { channels, patterns } => {
            map.list("channels", channels.iter().map(|name| text(&name.value)).collect());
            map.list("patterns", patterns.iter().map(|name| text(&name.value)).collect());
        }
    }
    map.text("username", config.username.as_ref());
    if let Some(password) = &config.password {
        secret(&mut map, "password", password);
    }
    map.raw("database", config.database);
    if let Some(options) = &config.tls {
        map.add("tls", tls::tls(options));
    }
    Map(map.0)
}
