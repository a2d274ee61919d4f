//! Groups of Redis streams that several sidecars share, or do not.

use crate::config::Diagnostics;
use crate::config::schema::{Config, RedisInput, Transport};

/// Who does not say to whom an event goes gets what a group does by itself, which may not be what replicas are meant to count.
pub(super) fn lint(config: &Config, found: &mut Diagnostics) {
    for source in config.sources.iter().flatten() {
        let Transport::Redis(redis) = &source.value.transport else { continue };
        let RedisInput::Streams(streams) = &redis.input else { continue };
        if streams.scope.is_none() {
            found.warning_hint(
                &source.name.span,
                format!(
                    "source {}: replicas of this sidecar share the group {}, so that each counts only its part of the events",
                    source.name.value,
                    redis.group(streams)
                ),
                "write scope: shared if that is meant, or scope: per_instance and every replica counts everything",
            );
        }
    }
}
