//! What `check` says of `amqp` and `mqtt` sources: who hears which events when there are several sidecars.

use crate::config::Diagnostics;
use crate::config::schema::{AmqpConfig, Config, MqttConfig, Scope, Transport};

const HINT: &str = "write scope: shared (each event to one sidecar) or scope: per_instance (each to all)";

pub(super) fn lint(config: &Config, found: &mut Diagnostics) {
    for source in config.sources.iter().flatten() {
        let name = &source.name.value;
        match &source.value.transport {
            Transport::Amqp(amqp) => queue(name, amqp, &config.service.instance, found),
            Transport::Mqtt(mqtt) => topics(name, mqtt, found),
            _ => {}
        }
    }
}

fn queue(name: &str, amqp: &AmqpConfig, instance: &str, found: &mut Diagnostics) {
    let queue = &amqp.queue;
    // A name that the instance's own stands in is one of its own.
    let own = queue.value.contains(instance);
    let exclusive = amqp.declare.as_ref().is_some_and(|declare| declare.exclusive);
    let message = match amqp.scope {
        Some(Scope::Shared) if exclusive => {
            let message =
                format!("source {name}: an exclusive queue is for one connection; further sidecars cannot consume it");
            return found.warning_hint(
                &queue.span,
                message,
                "leave declare.exclusive away, or write scope: per_instance",
            );
        }
        Some(_) => return,
        None if own => format!("source {name}: with a queue of its own every replica hears and counts every message"),
        None => format!("source {name}: of replicas that consume the same queue each hears a slice of the events"),
    };
    found.warning_hint(&queue.span, message, HINT);
}

fn topics(name: &str, mqtt: &MqttConfig, found: &mut Diagnostics) {
    let (shared, plain): (Vec<_>, Vec<_>) = mqtt.topics.iter().partition(|topic| topic.value.starts_with("$share/"));
    match (mqtt.scope, plain.first(), shared.first()) {
        (None, Some(topic), _) => {
            let message = format!("source {name}: every replica hears and counts every message");
            found.warning_hint(&topic.span, message, HINT);
        }
        (Some(Scope::PerInstance), _, Some(topic)) => {
            let message =
                format!("source {name}: of replicas with a shared subscription each hears a slice of the events");
            found.warning_hint(&topic.span, message, "leave $share/GROUP/ away, or write scope: shared");
        }
        _ => {}
    }
}
