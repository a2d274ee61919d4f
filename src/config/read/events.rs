//! Which events: patterns, conditions, values, labels.

use crate::config::reader::{self, MapReader};
use crate::config::schema::{Condition, EventSelector, LabelConfig, Pattern, Scalar, Test, ValueConfig, ValueFrom};
use crate::config::yaml::{Kind, Node};
use crate::config::{Diagnostics, Spanned};
use crate::model::FieldPath;

/// `match:` and `where:` of a mapping that holds other keys, too.
pub(super) fn selector(map: &mut MapReader<'_, '_>) -> EventSelector {
    let matches = map.each_or_one("match", pattern);
    let condition = map.raw("where").and_then(|node| condition(node, map.found()));
    EventSelector { matches, condition }
}

/// A selector that stands alone: a pattern, a list of patterns, or `{match, where}`.
pub(super) fn selector_of(node: &Node, found: &mut Diagnostics) -> Option<EventSelector> {
    let full = node.get("match").is_some() || node.get("where").is_some();
    if full {
        let mut map = MapReader::new(node, "event selector", found)?;
        let selector = selector(&mut map);
        map.finish();
        return Some(selector);
    }
    let items = reader::one_or_list(node);
    let matches: Vec<Pattern> = items.iter().filter_map(|item| pattern(item, found)).collect();
    if items.is_empty() {
        return reader::wrong(node, "event selector", "a pattern such as order.*", found);
    }
    (matches.len() == items.len()).then_some(EventSelector { matches, condition: None })
}

/// `order.*` or `{regex: ...}`.
pub(super) fn pattern(node: &Node, found: &mut Diagnostics) -> Option<Pattern> {
    if node.as_map().is_some() {
        let mut map = MapReader::new(node, "pattern", found)?;
        let regex = map.required_string("regex");
        map.finish();
        return regex.map(Pattern::Regex);
    }
    let text = reader::string(node, "match", found)?;
    if text.value.trim().is_empty() {
        found.error(&text.span, "match: an empty pattern matches nothing; * matches every type");
        return None;
    }
    Some(Pattern::Glob(text))
}

/// `where:`: paths with tests, `all`, `any`, `not`.
pub(super) fn condition(node: &Node, found: &mut Diagnostics) -> Option<Condition> {
    let Kind::Map(entries) = &node.kind else {
        return reader::wrong(node, "where", "a mapping such as {data.amount: {gt: 100}}", found);
    };
    let mut parts = Vec::new();
    for (key, value) in entries {
        match key.as_str().unwrap_or_default() {
            "all" => parts.extend(conditions("all", value, found).map(Condition::All)),
            "any" => parts.extend(conditions("any", value, found).map(Condition::Any)),
            "not" => parts.extend(condition(value, found).map(|inner| Condition::Not(Box::new(inner)))),
            _ => {
                if let Some(path) = reader::path(key, "where", found) {
                    parts.extend(
                        tests(value, found).into_iter().map(|test| Condition::Field { path: path.clone(), test }),
                    );
                }
            }
        }
    }
    if entries.is_empty() {
        found.error(&node.span, "where: a condition is missing");
    }
    if parts.len() > 1 { Some(Condition::All(parts)) } else { parts.pop() }
}

fn conditions(what: &str, node: &Node, found: &mut Diagnostics) -> Option<Vec<Condition>> {
    match node.as_seq() {
        Some(items) if !items.is_empty() => Some(items.iter().filter_map(|item| condition(item, found)).collect()),
        _ => reader::wrong(node, what, "a list of conditions", found),
    }
}

/// What is asked of one path: a bare value means eq, a list in, a mapping any of the named comparisons (all must hold).
fn tests(node: &Node, found: &mut Diagnostics) -> Vec<Test> {
    match &node.kind {
        Kind::Scalar { .. } => vec![Test::Eq(scalar_of(node))],
        Kind::Seq(_) => scalars("where", node, found).map(Test::In).into_iter().collect(),
        Kind::Map(_) => {
            let Some(mut map) = MapReader::new(node, "comparison", found) else { return Vec::new() };
            let mut tests = Vec::new();
            tests.extend(map.float("gt").map(|bound| Test::Gt(bound.value)));
            tests.extend(map.float("gte").map(|bound| Test::Gte(bound.value)));
            tests.extend(map.float("lt").map(|bound| Test::Lt(bound.value)));
            tests.extend(map.float("lte").map(|bound| Test::Lte(bound.value)));
            for (key, test) in [("eq", Test::Eq as fn(Scalar) -> Test), ("ne", Test::Ne)] {
                tests.extend(map.raw(key).and_then(|value| scalar("where", value, map.found())).map(test));
            }
            tests.extend(map.raw("in").and_then(|value| scalars("in", value, map.found())).map(Test::In));
            tests.extend(map.boolean("exists").map(|wanted| Test::Exists(wanted.value)));
            tests.extend(map.string("regex").map(Test::Regex));
            if node.as_map().is_some_and(<[_]>::is_empty) {
                map.found().error(&node.span, "where: a comparison is missing, such as {gt: 100}");
            }
            map.finish();
            tests
        }
    }
}

fn scalars(what: &str, node: &Node, found: &mut Diagnostics) -> Option<Vec<Scalar>> {
    let Some(items) = node.as_seq() else {
        return reader::wrong(node, what, "a list of values", found);
    };
    Some(items.iter().filter_map(|item| scalar(what, item, found)).collect())
}

fn scalar(what: &str, node: &Node, found: &mut Diagnostics) -> Option<Scalar> {
    if matches!(node.kind, Kind::Scalar { .. }) {
        Some(scalar_of(node))
    } else {
        reader::wrong(node, what, "a single value", found)
    }
}

/// What a scalar means by YAML's core schema. `.inf` and `.nan` are texts here: no event has them as numbers.
fn scalar_of(node: &Node) -> Scalar {
    let Kind::Scalar { text, plain } = &node.kind else { return Scalar::Null };
    match text.as_str() {
        _ if node.is_null() => Scalar::Null,
        "true" | "True" | "TRUE" if *plain => Scalar::Bool(true),
        "false" | "False" | "FALSE" if *plain => Scalar::Bool(false),
        _ => match reader::parse_float(text) {
            Some(number) if *plain && number.is_finite() => Scalar::Number(number),
            _ => Scalar::Text(text.clone()),
        },
    }
}

/// `value:` and `unit:`.
pub(super) fn value(map: &mut MapReader<'_, '_>) -> Option<ValueConfig> {
    let node = map.get("value");
    let unit = map.string("unit");
    let Some(node) = node else {
        if let Some(unit) = unit {
            map.found().error(&unit.span, "unit: it needs a value that has this unit");
        }
        return None;
    };
    let from = match scalar_of(node) {
        Scalar::Number(number) => ValueFrom::Constant(number),
        _ => ValueFrom::Path(reader::path(node, "value", map.found())?),
    };
    Some(ValueConfig { from, unit })
}

/// `by:` and the like: one path or a list of them.
pub(super) fn paths(map: &mut MapReader<'_, '_>, key: &'static str) -> Vec<Spanned<FieldPath>> {
    map.each_or_one(key, |node, found| reader::path(node, key, found))
}

/// `labels:` of a metric.
pub(super) fn labels(map: &mut MapReader<'_, '_>) -> Vec<LabelConfig> {
    map.named("labels", label).into_iter().map(|(_, label)| label).collect()
}

fn label(name: &Spanned<String>, node: &Node, found: &mut Diagnostics) -> Option<LabelConfig> {
    let valid = label_name(name, found);
    let mut label = LabelConfig {
        name: name.clone(),
        from: None,
        constant: None,
        replace: Vec::new(),
        map: Vec::new(),
        default: None,
    };
    if node.as_map().is_some() {
        let mut map = MapReader::new(node, "label", found)?;
        match map.exactly_one(&["from", "value"]) {
            Some(("from", from)) => label.from = reader::path(from, "from", map.found()),
            Some((_, value)) => {
                label.constant = reader::string_or_empty(value, "value", map.found()).map(|text| text.value)
            }
            None => {}
        }
        label.replace = map.each_or_one("replace", replacement);
        label.map = map.string_map("map").into_iter().map(|(from, to)| (from.value, to.value)).collect();
        label.default = map.string("default").map(|text| text.value);
        map.finish();
        if label.from.is_none() && label.constant.is_none() {
            return None;
        }
    } else {
        label.from = Some(reader::path(node, "label", found)?);
    }
    valid.then_some(label)
}

fn replacement(node: &Node, found: &mut Diagnostics) -> Option<(Spanned<String>, String)> {
    let mut map = MapReader::new(node, "replacement", found)?;
    let regex = map.required_string("regex");
    let with = map.raw("with").and_then(|with| reader::string_or_empty(with, "with", map.found()));
    if regex.is_some() && map.raw("with").is_none() {
        let span = map.span().clone();
        map.found().error(&span, "replacement: the key \"with\" is missing");
    }
    map.finish();
    Some((regex?, with?.value))
}

/// Checks a label's name (Prometheus data model: letters, digits, underscores, not a digit first) and that sidewatch
/// does not need it itself.
pub(super) fn label_name(name: &Spanned<String>, found: &mut Diagnostics) -> bool {
    let text = name.value.as_str();
    let mut chars = text.chars();
    let shaped = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !shaped {
        let fixed: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let fixed = fixed.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned();
        let message = format!("{text:?} is not a label name: letters, digits and _ only, no digit first");
        if fixed.trim_matches('_').is_empty() {
            found.error(&name.span, message);
        } else {
            found.error_hint(&name.span, message, format!("write {fixed}"));
        }
        return false;
    }
    if text.starts_with("__") {
        found.error(&name.span, format!("{text:?}: label names that begin with __ are Prometheus's own"));
        return false;
    }
    true
}
