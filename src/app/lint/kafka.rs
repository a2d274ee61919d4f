//! What `check` says of `kafka` sources: who sees which events when there are several sidecars.

use crate::config::Diagnostics;
use crate::config::schema::{Config, Transport};

pub(super) fn lint(config: &Config, found: &mut Diagnostics) {
    for source in config.sources.iter().flatten() {
        let Transport::Kafka(kafka) = &source.value.transport else { continue };
        if kafka.scope.is_none() {
            let group = kafka.group_id();
            let span = kafka.group.as_ref().map_or(&source.name.span, |group| &group.span);
            let name = &source.name.value;
            // A group that the instance's own name stands in is one of its own.
            let message = if group.contains(&config.service.instance) {
                format!("source {name}: with the group {group} of its own every sidecar counts every event")
            } else {
                format!("source {name}: every sidecar in the group {group} sees a slice of the events")
            };
            found.warning_hint(
                span,
                message,
                "write scope: shared (each event to one sidecar) or scope: per_instance (each to all)",
            );
        }
    }
}
