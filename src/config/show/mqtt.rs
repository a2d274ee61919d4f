//! An `mqtt` source as YAML.

use super::Yaml::Map;
use super::amqp::address;
use super::{Fields, Yaml, secret, text, texts, tls};
use crate::config::schema::{MqttConfig, Scope};

pub(super) fn mqtt(config: &MqttConfig) -> Yaml {
    let mut map = Fields::default();
    let (host, port) = &config.address.value;
    map.add("url", text(&address(if config.tls.is_some() { "mqtts" } else { "mqtt" }, host, *port)));
    map.add("topics", texts(&config.topics));
    map.raw("version", if config.v3 { "3.1.1" } else { "5" });
    map.raw("qos", u8::from(config.at_least_once));
    map.text("client_id", config.client_id.as_ref());
    map.raw("clean_session", config.clean_session);
    if !config.v3 {
        map.raw("session_expiry", format!("{}s", config.session_expiry_s));
        map.raw("receive_maximum", config.receive_maximum);
        if let Some(bytes) = config.max_packet_bytes {
            map.raw("max_packet_size", bytes);
        }
    }
    if let Some(scope) = config.scope {
        map.raw("scope", scope.word());
        if scope == Scope::Shared {
            map.add("group", text(&config.group));
        }
    }
    map.raw("retained", if config.ignore_retained { "ignore" } else { "count" });
    map.text("username", config.username.as_ref());
    if let Some(password) = &config.password {
        secret(&mut map, "password", password);
    }
    map.raw("keep_alive", format!("{}s", config.keep_alive_s));
    if let Some(config) = &config.tls {
        map.add("tls", tls::tls(config));
    }
    Map(map.0)
}
