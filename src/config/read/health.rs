//! `health:`.

use super::events;
use crate::config::reader::{self, MapReader};
use crate::config::schema::{HealthConfig, HealthKind, Named};
use crate::config::yaml::Node;
use crate::config::{Diagnostics, Span};

/// How long a probe waits for its answer when `timeout` is not given.
const PROBE_TIMEOUT_MS: i64 = 2_000;
/// How often a probe asks when `every` is not given.
const PROBE_EVERY_MS: i64 = 10_000;

/// Reads `health:`.
pub(super) fn read(map: &mut MapReader<'_, '_>) -> Vec<Named<HealthConfig>> {
    map.named("health", |_, node, found| check(node, found))
        .into_iter()
        .map(|(name, value)| Named { name, value })
        .collect()
}

fn check(node: &Node, found: &mut Diagnostics) -> Option<HealthConfig> {
    let mut map = MapReader::new(node, "health check", found)?;
    let span = map.span().clone();
    let kind = map.exactly_one(&["event", "expr", "http"]);
    let degraded = map.one_of("status", &[("unhealthy", false), ("degraded", true)]).is_some_and(|status| status.value);
    if let Some((kind, _)) = kind {
        for key in ["match", "where", "within", "url", "expect", "timeout", "every"] {
            map.refuse(key, &format!("{key} stands inside {kind}: {{...}}"));
        }
    }
    map.finish();
    let kind = match kind? {
        ("event", node) => heartbeat(node, found),
        ("expr", node) => reader::string(node, "expr", found).map(|expr| HealthKind::Expr { expr }),
        (_, node) => probe(node, found),
    };
    Some(HealthConfig { kind: kind?, degraded, span })
}

fn heartbeat(node: &Node, found: &mut Diagnostics) -> Option<HealthKind> {
    let mut map = MapReader::new(node, "heartbeat", found)?;
    let selector = events::selector(&mut map);
    let within = map.required_duration_ms("within");
    positive("within", within.as_ref().map(|within| (within.value, &within.span)), map.found());
    let sources = map.strings("source");
    map.finish();
    Some(HealthKind::Event { selector, within_ms: within?.value, sources })
}

/// `http: URL` or the mapping.
fn probe(node: &Node, found: &mut Diagnostics) -> Option<HealthKind> {
    if node.as_map().is_none() {
        let url = reader::string(node, "http", found)?;
        return probe_url(&url, found).then_some(HealthKind::Http {
            url,
            status: None,
            body: None,
            timeout_ms: PROBE_TIMEOUT_MS,
            every_ms: PROBE_EVERY_MS,
        });
    }
    let mut map = MapReader::new(node, "http probe", found)?;
    let url = map.required_string("url").filter(|url| probe_url(url, map.found()));
    let (mut status, mut body) = (None, None);
    if let Some(node) = map.get("expect") {
        if node.as_map().is_some() {
            if let Some(mut expect) = MapReader::new(node, "expect", map.found()) {
                status = expect.integer("status", 100..=599).and_then(|code| u16::try_from(code.value).ok());
                body = expect.string("body").map(|body| body.value);
                expect.finish();
            }
        } else {
            status =
                reader::integer(node, "expect", 100..=599, map.found()).and_then(|code| u16::try_from(code.value).ok());
        }
    }
    let timeout = map.duration_ms("timeout");
    let every = map.duration_ms("every");
    positive("timeout", timeout.as_ref().map(|time| (time.value, &time.span)), map.found());
    positive("every", every.as_ref().map(|time| (time.value, &time.span)), map.found());
    map.finish();
    Some(HealthKind::Http {
        url: url?,
        status,
        body,
        timeout_ms: timeout.map_or(PROBE_TIMEOUT_MS, |time| time.value),
        every_ms: every.map_or(PROBE_EVERY_MS, |time| time.value),
    })
}

fn probe_url(url: &crate::config::Spanned<String>, found: &mut Diagnostics) -> bool {
    let valid = super::is_http_url(&url.value);
    if !valid {
        let message = format!("url: {:?} is not an address that begins with http:// or https://", url.value);
        found.error(&url.span, message);
    }
    valid
}

fn positive(what: &str, time: Option<(i64, &Span)>, found: &mut Diagnostics) {
    if let Some((0, span)) = time {
        found.error(span, format!("{what}: it must be longer than 0"));
    }
}
