//! `alerts:`, the short form.

use super::events;
use crate::config::reader::{self, MapReader};
use crate::config::schema::{
    AlertConfig, AlertKind, Comparison, Condition, EventCondition, EventConditionKind, Named, Pattern, ThresholdOp,
};
use crate::config::yaml::Node;
use crate::config::{Diagnostics, Spanned};

/// Keys that belong to `metric:` alone.
const OF_METRIC: [&str; 9] = ["of", "stat", "over", "by", "where", "above", "below", "at_least", "at_most"];
const THRESHOLDS: [(&str, ThresholdOp); 4] = [
    ("above", ThresholdOp::Above),
    ("below", ThresholdOp::Below),
    ("at_least", ThresholdOp::AtLeast),
    ("at_most", ThresholdOp::AtMost),
];
/// Event conditions that are designed but not in this build.
const PLANNED: [&str; 3] = ["rate_change", "first_seen", "gap"];

/// Reads the entries under `alerts:` of sidewatch.yaml or of a rule file, in order.
pub fn read(map: &mut MapReader<'_, '_>) -> Vec<Named<AlertConfig>> {
    map.named("alerts", alert).into_iter().map(|(name, value)| Named { name, value }).collect()
}

fn alert(name: &Spanned<String>, node: &Node, found: &mut Diagnostics) -> Option<AlertConfig> {
    let named = alert_name(name, found);
    let mut map = MapReader::new(node, "alert", found)?;
    map.refuse("slo", "slo alerts are not in this build; write the burn rate as expr");
    let kind = map.exactly_one(&["metric", "event", "expr"]);
    let kind = match kind {
        Some(("metric", node)) => metric(node, &mut map),
        Some((other, node)) => {
            for key in OF_METRIC {
                map.refuse(key, &format!("{key} goes with metric, not with {other}"));
            }
            if other == "event" {
                event(node, map.found()).map(AlertKind::Event)
            } else {
                reader::string(node, "expr", map.found()).map(AlertKind::Expr)
            }
        }
        None => {
            // Without a kind nothing says which keys belong here; only the missing kind is worth saying.
            map.know(&OF_METRIC);
            None
        }
    };
    let for_ms = map.duration_ms("for").map_or(0, |time| time.value);
    let keep_firing_for_ms = map.duration_ms("keep_firing_for").map_or(0, |time| time.value);
    let severity = map.string("severity");
    let labels = map.string_map("labels");
    let annotations = map.string_map("annotations");
    let runbook = map.string("runbook").map(|text| text.value);
    let notify = map.strings("notify");
    let span = map.span().clone();
    for (label, _) in &labels {
        if events::label_name(label, map.found()) && label.value == "alertname" {
            map.found().error(&label.span, "the label \"alertname\" is the alert's own name");
        }
    }
    for (annotation, _) in &annotations {
        events::label_name(annotation, map.found());
    }
    map.finish();
    if !named {
        return None;
    }
    Some(AlertConfig { kind: kind?, for_ms, keep_firing_for_ms, severity, labels, annotations, runbook, notify, span })
}

/// The name becomes the label `alertname`.
fn alert_name(name: &Spanned<String>, found: &mut Diagnostics) -> bool {
    let valid = !name.value.trim().is_empty() && name.value.len() <= 200 && !name.value.contains(char::is_control);
    if !valid {
        let message = format!("{:?} is not an alert name: visible text of at most 200 bytes", name.value);
        found.error_hint(&name.span, message, "names look like HighErrorRate");
    }
    valid
}

fn metric(node: &Node, map: &mut MapReader<'_, '_>) -> Option<AlertKind> {
    let metric = reader::string(node, "metric", map.found());
    let of = map.string("of");
    let stat = map.string("stat");
    let over_ms = map.duration_ms("over").map(|over| over.value);
    let by = events::paths(map, "by");
    let matchers = map.named("where", |name, node, found| {
        let valid = events::label_name(name, found);
        let pattern = if node.as_map().is_some() {
            events::pattern(node, found)
        } else {
            reader::string_or_empty(node, "where", found).map(Pattern::Glob)
        };
        pattern.filter(|_| valid)
    });
    let (key, threshold) = map.exactly_one(&THRESHOLDS.map(|(key, _)| key))?;
    let threshold = reader::string(threshold, key, map.found())?;
    let (_, op) = THRESHOLDS.into_iter().find(|(known, _)| *known == key)?;
    Some(AlertKind::Metric { metric: metric?, of, stat, over_ms, by, matchers, op, threshold })
}

/// `event:` of an alert.
fn event(node: &Node, found: &mut Diagnostics) -> Option<EventCondition> {
    let mut map = MapReader::new(node, "event condition", found)?;
    for key in PLANNED {
        map.refuse(key, &format!("{key} conditions are not in this build; it has count, absent and sequence"));
    }
    let planned = PLANNED.iter().any(|key| node.get(key).is_some());
    let kind = if planned {
        map.know(&["match", "where", "count", "absent", "sequence", "missing", "keys"]);
        None
    } else {
        event_kind(&mut map)
    };
    let by = events::paths(&mut map, "by");
    let within = map.required_duration_ms("within");
    if let Some(within) = within.as_ref().filter(|within| within.value == 0) {
        map.found().error(&within.span, "within: it must be longer than 0");
    }
    if let Some(EventConditionKind::Absent { keys, .. }) = &kind
        && !keys.is_empty()
        && by.len() != 1
    {
        let span = map.span().clone();
        map.found().error(&span, "event condition: keys needs exactly one path in by, whose values they are");
    }
    let span = map.span().clone();
    map.finish();
    Some(EventCondition { kind: kind?, by, within_ms: within?.value, span })
}

fn event_kind(map: &mut MapReader<'_, '_>) -> Option<EventConditionKind> {
    let sequence = map.entry("sequence");
    let absent = map.entry("absent");
    let one = [("match", map.entry("match")), ("absent", absent), ("sequence", sequence)];
    let given: Vec<_> = one.iter().filter_map(|(key, entry)| entry.map(|entry| (*key, entry))).collect();
    let [(key, (name, node))] = given.as_slice() else {
        map.exactly_one(&["match", "absent", "sequence"]);
        map.know(&["where", "count", "missing", "keys"]);
        return None;
    };
    if *key != "match" {
        map.refuse("count", &format!("count goes with match, not with {key}"));
    }
    if *key != "absent" {
        map.refuse("keys", &format!("keys goes with absent, not with {key}"));
    }
    if *key != "sequence" {
        map.refuse("missing", &format!("missing goes with sequence, not with {key}"));
    }
    match *key {
        "match" => {
            let selector = events::selector(map);
            let (comparison, count) = match map.string("count") {
                Some(text) => count(&text, map.found())?,
                None => (Comparison::AtLeast, 1),
            };
            Some(EventConditionKind::Count { selector, comparison, count })
        }
        "absent" => {
            let keys = map.strings("keys").into_iter().map(|key| key.value).collect();
            let mut selector = events::selector_of(node, map.found());
            let beside = map.get("where").and_then(|node| events::condition(node, map.found()));
            if let (Some(selector), Some(beside)) = (&mut selector, beside) {
                selector.condition = Some(match selector.condition.take() {
                    Some(inner) => Condition::All(vec![inner, beside]),
                    None => beside,
                });
            }
            Some(EventConditionKind::Absent { selector: selector?, keys })
        }
        _ => {
            map.refuse("where", "where stands inside a step: sequence: [{match: ..., where: ...}, ...]");
            let steps = map.each("sequence", events::selector_of);
            let missing = map.one_of("missing", &[("last", ())]);
            if node.as_seq().is_some_and(|items| items.len() < 2) {
                map.found().error(&name.span, "sequence: at least two steps are needed");
                return None;
            }
            let complete = node.as_seq().is_some_and(|items| items.len() == steps.len());
            complete.then_some(EventConditionKind::Sequence { steps, missing_last: missing.is_some() })
        }
    }
}

/// `>= 5`; a bare number means at least.
fn count(text: &Spanned<String>, found: &mut Diagnostics) -> Option<(Comparison, u64)> {
    const OPERATORS: [(&str, Comparison); 6] = [
        (">=", Comparison::AtLeast),
        ("<=", Comparison::AtMost),
        ("==", Comparison::Equal),
        ("!=", Comparison::NotEqual),
        (">", Comparison::MoreThan),
        ("<", Comparison::LessThan),
    ];
    let written = text.value.trim();
    let (comparison, number) = OPERATORS
        .iter()
        .find_map(|(operator, comparison)| Some((*comparison, written.strip_prefix(operator)?.trim())))
        .unwrap_or((Comparison::AtLeast, written));
    let Ok(number) = number.parse() else {
        found.error_hint(
            &text.span,
            format!("count: {written:?} is not a comparison with a whole number"),
            "write \">= 5\", or 5 for the same",
        );
        return None;
    };
    let pointless = matches!((comparison, number), (Comparison::AtLeast, 0) | (Comparison::LessThan, 0));
    if pointless {
        found.error(&text.span, format!("count: {written:?} holds always or never"));
        return None;
    }
    Some((comparison, number))
}
