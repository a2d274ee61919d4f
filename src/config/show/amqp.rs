//! An `amqp` source as YAML.

use super::Yaml::{Map, Raw};
use super::{Fields, Yaml, hidden, secret, text, tls};
use crate::config::schema::{AmqpBinding, AmqpConfig, AmqpDeclare, AmqpValue};

pub(super) fn amqp(config: &AmqpConfig) -> Yaml {
    let mut map = Fields::default();
    let (host, port) = &config.address.value;
    map.add("url", text(&address(if config.tls.is_some() { "amqps" } else { "amqp" }, host, *port)));
    map.add("vhost", text(&config.vhost));
    map.add("username", text(&config.username));
    if let Some(password) = &config.password {
        secret(&mut map, "password", password);
    }
    map.add("queue", text(&config.queue.value));
    if let Some(declared) = &config.declare {
        map.add("declare", declare(declared));
    }
    map.list("bind", config.bind.iter().map(binding).collect());
    map.raw("prefetch", config.prefetch);
    if let Some(scope) = config.scope {
        map.raw("scope", scope.word());
    }
    map.raw("poison", if config.reject_poison { "reject" } else { "ack" });
    map.raw("max_deliveries", config.max_deliveries.unwrap_or(0));
    map.raw("heartbeat", format!("{}s", config.heartbeat_s));
    if let Some(config) = &config.tls {
        map.add("tls", tls::tls(config));
    }
    Map(map.0)
}

/// `scheme://host:port`; an IPv6 address in its brackets.
pub(super) fn address(scheme: &str, host: &str, port: u16) -> String {
    if host.contains(':') { format!("{scheme}://[{host}]:{port}") } else { format!("{scheme}://{host}:{port}") }
}

fn declare(declare: &AmqpDeclare) -> Yaml {
    let mut map = Fields::default();
    map.raw("durable", declare.durable);
    map.raw("exclusive", declare.exclusive);
    map.raw("auto_delete", declare.auto_delete);
    map.map("arguments", arguments(&declare.arguments));
    Map(map.0)
}

fn binding(binding: &AmqpBinding) -> Yaml {
    let mut map = Fields::default();
    map.add("exchange", text(&binding.exchange.value));
    map.add("routing_key", text(&binding.routing_key));
    if let Some(kind) = &binding.kind {
        map.raw("type", kind);
        map.raw("durable", binding.durable);
    }
    map.map("arguments", arguments(&binding.arguments));
    Map(map.0)
}

fn arguments(arguments: &[(String, AmqpValue)]) -> Vec<(String, Yaml)> {
    let value = |value: &AmqpValue| match value {
        AmqpValue::Bool(value) => Raw(value.to_string()),
        AmqpValue::Integer(value) => Raw(value.to_string()),
        AmqpValue::Text(value) => text(value),
    };
    arguments.iter().map(|(name, argument)| (name.clone(), hidden::named(name, value(argument)))).collect()
}
