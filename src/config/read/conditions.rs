//! `event:` of an alert: conditions on events.

use super::events;
use crate::config::diagnostic::nearest;
use crate::config::reader::{self, MapReader};
use crate::config::schema::{
    AlertKind, Comparison, Condition, Config, Direction, EventCondition, EventConditionKind, EventSelector, Floor,
    HealthKind, RateChange,
};
use crate::config::yaml::Node;
use crate::config::{Diagnostics, Spanned};
use crate::model::FieldPath;

/// How long a new value is remembered, in milliseconds.
const MEMORY_MS: i64 = 7 * 86_400_000;
/// How long values are only learnt, in milliseconds.
const LEARN_MS: i64 = 3_600_000;
/// How long the alert about a new value lasts, in milliseconds.
const FIRST_SEEN_WITHIN_MS: i64 = 15 * 60_000;
/// How late a missing number may come, in milliseconds.
const GAP_WITHIN_MS: i64 = 30_000;
/// Windows of a baseline.
const BASELINE_WINDOWS: i64 = 20;
/// The most windows of a baseline: each key keeps them all.
const MAX_BASELINE_WINDOWS: i64 = 2_000;

/// Which key belongs to which condition; `match` and `where` stand for themselves.
const BELONGS: [(&str, &[&str]); 10] = [
    ("count", &["match"]),
    ("keys", &["absent"]),
    ("missing", &["sequence"]),
    ("baseline", &["rate_change"]),
    ("direction", &["rate_change"]),
    ("threshold", &["rate_change"]),
    ("min_samples", &["rate_change"]),
    ("floor", &["rate_change"]),
    ("lateness", &["rate_change"]),
    ("learn", &["first_seen"]),
];

/// The conditions besides `match` with `count`.
const KINDS: [&str; 5] = ["absent", "sequence", "rate_change", "first_seen", "gap"];

/// Reads the condition.
pub(super) fn event(node: &Node, found: &mut Diagnostics) -> Option<EventCondition> {
    let mut map = MapReader::new(node, "event condition", found)?;
    let kind = which(&mut map);
    let default_within = match kind {
        Some("first_seen") => Some(FIRST_SEEN_WITHIN_MS),
        Some("gap") => Some(GAP_WITHIN_MS),
        _ => None,
    };
    let within = match default_within {
        Some(_) => map.duration_ms("within"),
        None => map.required_duration_ms("within"),
    };
    let missing = default_within.is_none() && within.is_none();
    let within_ms = within.as_ref().map(|within| within.value).or(default_within).unwrap_or(0);
    if let Some(within) = within.as_ref().filter(|within| within.value == 0) {
        map.found().error(&within.span, "within: it must be longer than 0");
    }
    let by = events::paths(&mut map, "by");
    let sources = map.strings("source");
    let kind = kind.and_then(|kind| read(kind, within_ms, &by, &mut map));
    let span = map.span().clone();
    map.finish();
    (!missing).then_some(EventCondition { kind: kind?, by, within_ms, sources, span })
}

/// Which condition stands here; keys that belong to another one are errors.
fn which(map: &mut MapReader<'_, '_>) -> Option<&'static str> {
    let given: Vec<&'static str> = KINDS.into_iter().filter(|key| map.entry(key).is_some()).collect();
    let matched = map.entry("match").is_some();
    let kind = match given.as_slice() {
        [kind] if !matched || matches!(*kind, "first_seen" | "gap") => *kind,
        [] if matched => "match",
        _ => {
            map.exactly_one(&["match", "absent", "sequence", "rate_change", "first_seen", "gap"]);
            map.know(&["where", "for"]);
            map.know(&BELONGS.map(|(key, _)| key));
            return None;
        }
    };
    for (key, owners) in BELONGS {
        if !owners.contains(&kind) {
            map.refuse(key, &format!("{key} goes with {}, not with {kind}", reader::list(owners, "or")));
        }
    }
    if kind != "first_seen" {
        map.refuse("for", "for stands beside event, not in it; inside it belongs to first_seen");
    }
    Some(kind)
}

fn read(
    kind: &'static str,
    within_ms: i64,
    by: &[Spanned<FieldPath>],
    map: &mut MapReader<'_, '_>,
) -> Option<EventConditionKind> {
    match kind {
        "match" => {
            let selector = events::selector(map);
            let (comparison, count) = match map.string("count") {
                Some(text) => count(&text, map.found())?,
                None => (Comparison::AtLeast, 1),
            };
            Some(EventConditionKind::Count { selector, comparison, count })
        }
        "absent" => {
            let keys: Vec<String> = map.strings("keys").into_iter().map(|key| key.value).collect();
            if !keys.is_empty() && by.len() != 1 {
                let span = map.span().clone();
                map.found().error(&span, "event condition: keys needs exactly one path in by, whose values they are");
            }
            Some(EventConditionKind::Absent { selector: named_selector(map, "absent")?, keys })
        }
        "sequence" => sequence(map),
        "rate_change" => rate_change(within_ms, map).map(EventConditionKind::RateChange),
        "first_seen" => {
            let path = map.path("first_seen");
            let memory = map.duration_ms("for");
            let learn = map.duration_ms("learn");
            let (memory_ms, learn_ms) = (
                memory.as_ref().map_or(MEMORY_MS, |memory| memory.value),
                learn.as_ref().map_or(LEARN_MS, |learn| learn.value),
            );
            if let Some(memory) = memory.filter(|memory| memory.value == 0) {
                map.found().error(&memory.span, "for: it must be longer than 0");
            } else if let Some(learn) = learn.filter(|learn| learn.value >= memory_ms) {
                map.found().error_hint(
                    &learn.span,
                    "learn: what is learnt must be remembered for longer than that",
                    "make for longer than learn",
                );
            }
            let selector = events::selector(map);
            Some(EventConditionKind::FirstSeen { selector, path: path?, memory_ms, learn_ms })
        }
        _ => {
            let path = map.path("gap");
            let selector = events::selector(map);
            Some(EventConditionKind::Gap { selector, path: path? })
        }
    }
}

/// The selector under a key, with `where` beside it.
fn named_selector(map: &mut MapReader<'_, '_>, key: &'static str) -> Option<EventSelector> {
    let node = map.raw(key)?;
    let mut selector = events::selector_of(node, map.found());
    let beside = map.get("where").and_then(|node| events::condition(node, map.found()));
    if let (Some(selector), Some(beside)) = (&mut selector, beside) {
        selector.condition = Some(match selector.condition.take() {
            Some(inner) => Condition::All(vec![inner, beside]),
            None => beside,
        });
    }
    selector
}

fn sequence(map: &mut MapReader<'_, '_>) -> Option<EventConditionKind> {
    map.refuse("where", "where stands inside a step: sequence: [{match: ..., where: ...}, ...]");
    let (name, node) = map.entry("sequence")?;
    let steps = map.each("sequence", events::selector_of);
    let missing = map.one_of("missing", &[("last", ())]);
    if node.as_seq().is_some_and(|items| items.len() < 2) {
        map.found().error(&name.span, "sequence: at least two steps are needed");
        return None;
    }
    let complete = node.as_seq().is_some_and(|items| items.len() == steps.len());
    complete.then_some(EventConditionKind::Sequence { steps, missing_last: missing.is_some() })
}

fn rate_change(within_ms: i64, map: &mut MapReader<'_, '_>) -> Option<RateChange> {
    let selector = named_selector(map, "rate_change");
    let words = [("up", Direction::Up), ("down", Direction::Down), ("both", Direction::Both)];
    let direction = map.one_of("direction", &words).map_or(Direction::Both, |word| word.value);
    let threshold = map.float("threshold");
    if let Some(threshold) = threshold.as_ref().filter(|threshold| threshold.value.is_nan() || threshold.value <= 0.0) {
        map.found().error(&threshold.span, "threshold: robust deviations, more than 0; 3.5 is usual");
    }
    let baseline = map.duration_ms("baseline");
    let baseline_ms = baseline.as_ref().map_or(within_ms.saturating_mul(BASELINE_WINDOWS), |time| time.value);
    let windows = baseline_ms / within_ms.max(1);
    let min_samples = map.integer("min_samples", 2..=MAX_BASELINE_WINDOWS);
    let samples = min_samples.as_ref().map_or(8.min(windows.max(2)), |samples| samples.value);
    if within_ms > 0 && (windows < samples || windows > MAX_BASELINE_WINDOWS) {
        let place = baseline.as_ref().map(|time| &time.span).or(min_samples.as_ref().map(|samples| &samples.span));
        let place = place.unwrap_or(map.span()).clone();
        let message = format!(
            "baseline: it holds {windows} windows of within, and must hold {samples} to {MAX_BASELINE_WINDOWS}"
        );
        map.found().error_hint(&place, message, "make baseline a multiple of within, such as 20 times as long");
    }
    let lateness = map.duration_ms("lateness");
    if let Some(lateness) = lateness.as_ref().filter(|lateness| lateness.value > within_ms && within_ms > 0) {
        map.found().error(&lateness.span, "lateness: at most as long as within");
    }
    let floor = match map.string("floor") {
        Some(text) => floor(&text, map.found())?,
        None => Floor::Share(0.1),
    };
    Some(RateChange {
        selector: selector?,
        baseline_ms,
        direction,
        threshold: threshold.map_or(3.5, |threshold| threshold.value),
        min_samples: samples as usize,
        floor,
        lateness_ms: lateness.map_or((within_ms / 10).min(5_000), |lateness| lateness.value),
    })
}

/// `10%` of the median, or a number of events.
fn floor(text: &Spanned<String>, found: &mut Diagnostics) -> Option<Floor> {
    let written = text.value.trim();
    let (number, share) = written.strip_suffix('%').map_or((written, false), |number| (number.trim(), true));
    match reader::parse_float(number).filter(|number| number.is_finite() && *number >= 0.0) {
        Some(number) if share => Some(Floor::Share(number / 100.0)),
        Some(number) => Some(Floor::Events(number)),
        None => {
            let message = format!("floor: {written:?} is neither a share nor a number of events");
            found.error_hint(&text.span, message, "write 10% of the median, or 5 for five events");
            None
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

/// The names after `source:` of conditions and heartbeats are configured sources.
pub(super) fn sources_exist(config: &Config, tree: &Node, found: &mut Diagnostics) {
    let entries = tree.get("sources").and_then(Node::as_map).unwrap_or(&[]);
    let mut known: Vec<&str> = entries.iter().filter_map(|(name, _)| name.as_str()).collect();
    if config.sources.is_none() {
        known.push("http");
    }
    let alerts = config.alerts.iter().flat_map(|alert| match &alert.value.kind {
        AlertKind::Event(condition) => condition.sources.as_slice(),
        AlertKind::Slo(slo) => slo.sources.as_slice(),
        AlertKind::Metric { .. } | AlertKind::Expr(_) => &[],
    });
    let heartbeats = config.health.iter().flat_map(|check| match &check.value.kind {
        HealthKind::Event { sources, .. } => sources.as_slice(),
        HealthKind::Expr { .. } | HealthKind::Http { .. } => &[],
    });
    for name in alerts.chain(heartbeats) {
        if known.contains(&name.value.as_str()) {
            continue;
        }
        let message = format!("source: there is no source {:?}", name.value);
        match nearest(&name.value, known.iter().copied()) {
            Some(near) => found.error_hint(&name.span, message, format!("did you mean {near:?}?")),
            None => found.error_hint(&name.span, message, format!("it has {}", reader::list(&known, "and"))),
        }
    }
}
