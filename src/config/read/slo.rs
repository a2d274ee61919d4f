//! `slo:` of an alert: `{good: ..., total: ..., target: 99.9%, window: 30d}`.

use super::events;
use crate::config::reader::{self, MapReader};
use crate::config::schema::{SloConfig, SloSeries};
use crate::config::yaml::Node;
use crate::config::{Diagnostics, Spanned};

/// The window of an objective, in milliseconds.
const WINDOW_MS: i64 = 30 * 86_400_000;
/// Hourly sums are kept for the whole window, so that it has an end.
const MAX_WINDOW_MS: i64 = 366 * 86_400_000;
const MIN_WINDOW_MS: i64 = 3_600_000;
/// Endings of the names of counters, by the conventions of Prometheus.
const COUNTERS: [&str; 4] = ["_total", "_count", "_sum", "_bucket"];

pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Option<SloConfig> {
    let mut map = MapReader::new(node, "slo", found)?;
    let part = map.exactly_one(&["good", "error"]);
    let part_is_bad = part.is_some_and(|(key, _)| key == "error");
    let part = part.and_then(|(key, node)| series(node, key, map.found()));
    let total = map.required("total").and_then(|node| series(node, "total", map.found()));
    let target = map.required_string("target").and_then(|text| target(&text, map.found()));
    let window = map.duration_ms("window");
    if let Some(window) = window.as_ref().filter(|window| window.value < MIN_WINDOW_MS) {
        map.found().error_hint(&window.span, "window: it must be at least 1h", "30d is usual, and the default");
    } else if let Some(window) = window.as_ref().filter(|window| window.value > MAX_WINDOW_MS) {
        map.found().error(&window.span, "window: it must be at most 366d");
    }
    let sources = map.strings("source");
    let span = map.span().clone();
    map.finish();
    let (part, total) = (part?, total?);
    if matches!(part, SloSeries::Events(_)) != matches!(total, SloSeries::Events(_)) {
        let key = if part_is_bad { "error" } else { "good" };
        found.error_hint(
            &span,
            format!("slo: {key} and total must both be event patterns or both be selectors of counters"),
            "a text that ends in _total, _count, _sum or _bucket, or holds {, is a selector; {match: ...} is a pattern",
        );
        return None;
    }
    let window_ms = window.map_or(WINDOW_MS, |window| window.value);
    Some(SloConfig { part, part_is_bad, total, target: target?, window_ms, sources, span })
}

/// A selector of counters (`http_requests_total{code!~"5.."}`, `{series: ...}`) or a pattern of events.
fn series(node: &Node, key: &str, found: &mut Diagnostics) -> Option<SloSeries> {
    if node.get("series").is_some() {
        let mut map = MapReader::new(node, "slo series", found)?;
        let selector = map.required_string("series");
        map.finish();
        return selector.map(SloSeries::Series);
    }
    if let Some(text) = node.as_str() {
        let text = text.trim();
        if text.contains('{') || COUNTERS.iter().any(|ending| text.ends_with(ending)) {
            return reader::string(node, key, found).map(SloSeries::Series);
        }
    }
    events::selector_of(node, found).map(SloSeries::Events)
}

/// `99.9%` or `0.999`.
fn target(text: &Spanned<String>, found: &mut Diagnostics) -> Option<Spanned<f64>> {
    let written = text.value.trim();
    let share = written.strip_suffix('%');
    let number = reader::parse_float(share.unwrap_or(written).trim());
    // Rounded, so that 99.9% is the number nearest to 0.999.
    let ratio = number.map(|number| if share.is_some() { (number * 1e10).round() / 1e12 } else { number });
    match ratio {
        Some(ratio) if ratio > 0.0 && ratio < 1.0 => Some(Spanned::new(ratio, text.span.clone())),
        Some(ratio) if ratio >= 1.0 && share.is_none() && ratio < 100.0 => {
            let message = format!("target: {written:?} is not below 1");
            found.error_hint(&text.span, message, format!("write {written}%"));
            None
        }
        Some(ratio) if ratio >= 1.0 => {
            let message = format!("target: {written:?} leaves no error budget");
            found.error_hint(&text.span, message, "a target lies below 100%, such as 99.9%");
            None
        }
        _ => {
            let message = format!("target: {written:?} is not a share between 0% and 100%");
            found.error_hint(&text.span, message, "write 99.9% or 0.999");
            None
        }
    }
}
