//! `overflow:`, `rate_limit:` and `http: {ack}`: how much of a source is taken, and what its sender is told.

use crate::config::Diagnostics;
use crate::config::reader::{self, MapReader};
use crate::config::schema::{FlowConfig, Overflow, Rate, RateLimitConfig};
use crate::config::yaml::Node;

/// The keys beside the transport.
pub(super) fn flow(map: &mut MapReader<'_, '_>) -> FlowConfig {
    let overflow = map.one_of("overflow", &Overflow::ALL);
    let rate_limit = map.get("rate_limit").and_then(|node| rate_limit(node, map.found()));
    FlowConfig { overflow, rate_limit, ack_checkpoint: false }
}

/// `http: {ack: queued|checkpoint}`; whether a checkpoint is waited for.
pub(super) fn http(node: &Node, found: &mut Diagnostics) -> Option<bool> {
    let mut map = MapReader::new(node, "http source", found)?;
    let ack = map.one_of("ack", &[("queued", false), ("checkpoint", true)]);
    map.finish();
    Some(ack.is_some_and(|ack| ack.value))
}

/// `1000/s`, or `{events, burst, per_client}`.
fn rate_limit(node: &Node, found: &mut Diagnostics) -> Option<RateLimitConfig> {
    if node.as_map().is_none() {
        return rate(node, "rate_limit", found)
            .map(|rate| RateLimitConfig { events: Some(rate), ..Default::default() });
    }
    let mut map = MapReader::new(node, "rate limit", found)?;
    let mut of = |key| map.get(key).map(|node| rate(node, key, map.found()));
    let (events, per_client) = (of("events"), of("per_client"));
    let burst = map.integer("burst", 1..=1_000_000_000);
    if events.is_none() && per_client.is_none() {
        let span = map.span().clone();
        map.found().error_hint(&span, "rate_limit: it needs events or per_client", "rate_limit: {events: 1000/s}");
    }
    if let (Some(burst), None) = (&burst, &events) {
        map.found().error(&burst.span, "rate_limit: burst belongs to events");
    }
    map.finish();
    let burst = burst.map(|burst| burst.value.unsigned_abs());
    // What could not be read was said; a limit that is not there must not stand for none.
    let read = |rate: Option<Option<Rate>>| match rate {
        None => Some(None),
        Some(rate) => rate.map(Some),
    };
    Some(RateLimitConfig { events: read(events)?, burst, per_client: read(per_client)? })
}

fn rate(node: &Node, what: &str, found: &mut Diagnostics) -> Option<Rate> {
    let rate = node.as_str().and_then(Rate::parse);
    if rate.is_none() {
        return reader::wrong(node, what, "a rate of events such as 1000/s, 30/m or 5/h", found);
    }
    rate
}
