//! What `check` says of `nats` sources: who hears which events when there are several sidecars.

use crate::config::Diagnostics;
use crate::config::schema::{Config, Scope, Transport};

const HINT: &str = "write scope: shared (each event to one sidecar) or scope: per_instance (each to all)";

pub(super) fn lint(config: &Config, found: &mut Diagnostics) {
    for source in config.sources.iter().flatten() {
        let Transport::Nats(nats) = &source.value.transport else { continue };
        let name = &source.name.value;
        let Some(stream) = &nats.stream else {
            match (&nats.queue_group, nats.scope) {
                (_, Some(_)) => {}
                (Some(group), None) => {
                    let group_name = &group.value;
                    let message = format!(
                        "source {name}: in the queue group {group_name} each replica hears a slice of the events"
                    );
                    found.warning_hint(&group.span, message, HINT);
                }
                (None, None) => {
                    let message =
                        format!("source {name}: without a queue_group every replica hears and counts every message");
                    found.warning_hint(&source.name.span, message, HINT);
                }
            }
            continue;
        };
        let durable = &stream.durable;
        // A name that the instance's own stands in is one of its own.
        let own = durable.value.contains(&config.service.instance);
        match (nats.scope, own) {
            (Some(Scope::PerInstance), false) => found.warning_hint(
                &durable.span,
                format!(
                    "source {name}: the durable is the same for every replica, which would share it, and acknowledge for each \
                     other"
                ),
                "write durable: \"sidewatch-${POD_NAME}\" with service.instance: \"${POD_NAME}\", or scope: shared",
            ),
            (Some(_), _) => {}
            (None, true) => {
                let message = format!("source {name}: with a durable of its own every replica hears and counts every message");
                found.warning_hint(&durable.span, message, HINT);
            }
            (None, false) => {
                let message = format!("source {name}: of replicas with the same durable each replica hears a slice of the events");
                found.warning_hint(&durable.span, message, HINT);
            }
        }
    }
}
