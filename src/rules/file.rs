//! Prometheus rule files (`model/rulefmt/rulefmt.go`), read strictly: every mistake of a file is reported with its place.
//!
//! A file may hold `alerts:` (the short form) beside `groups:`; without them it is a file that promtool reads too.

use super::alert_state::Timing;
use super::expression::Expression;
use super::rule::{Alerting, Group, Rule, TemplatedLabels};
use crate::config::reader::MapReader;
use crate::config::schema::{AlertConfig, Named};
use crate::config::yaml::Node;
use crate::config::{Diagnostics, Spanned, read_alerts, yaml};
use crate::template::Template;
use std::sync::Arc;

/// A rule file as read: types checked, expressions not yet.
#[derive(Clone, Debug, Default)]
pub struct RuleFileConfig {
    /// The file as messages name it.
    pub file: Arc<str>,
    /// `groups:`.
    pub groups: Vec<GroupConfig>,
    /// `alerts:`, the short form.
    pub alerts: Vec<Named<AlertConfig>>,
}

/// A group as read.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// `name:`.
    pub name: Spanned<String>,
    /// `interval:` in milliseconds.
    pub interval_ms: Option<i64>,
    /// `query_offset:` in milliseconds.
    pub query_offset_ms: i64,
    /// `limit:`; 0 is none.
    pub limit: usize,
    /// `labels:` of all its rules.
    pub labels: Vec<(Spanned<String>, Spanned<String>)>,
    /// `rules:`.
    pub rules: Vec<RuleConfig>,
}

/// A rule as read.
#[derive(Clone, Debug)]
pub struct RuleConfig {
    /// `record:` or `alert:`.
    pub name: Spanned<String>,
    /// It is an alert.
    pub alert: bool,
    /// `expr:`.
    pub expr: Spanned<String>,
    /// `for` and `keep_firing_for`.
    pub timing: Timing,
    /// `labels:`.
    pub labels: Vec<(Spanned<String>, Spanned<String>)>,
    /// `annotations:`.
    pub annotations: Vec<(Spanned<String>, Spanned<String>)>,
}

/// Reads a file; what is wrong goes to `found`. `None` when it is not even YAML.
pub fn read(file: &str, text: &str, found: &mut Diagnostics) -> Option<RuleFileConfig> {
    let tree = yaml::parse(file, text, found)?;
    let mut map = MapReader::new(&tree, "rule file", found)?;
    let groups = map.each("groups", group);
    let alerts = read_alerts(&mut map);
    map.finish();
    for (at, group) in groups.iter().enumerate() {
        if let Some(first) = groups[..at].iter().find(|other| other.name.value == group.name.value) {
            let message = format!(
                "groupname: {:?} is repeated in the same file; first in line {}",
                group.name.value, first.name.span.line
            );
            found.error(&group.name.span, message);
        }
    }
    Some(RuleFileConfig { file: file.into(), groups, alerts })
}

fn group(node: &Node, found: &mut Diagnostics) -> Option<GroupConfig> {
    let mut map = MapReader::new(node, "rule group", found)?;
    let name = map.required_string("name");
    let interval = map.duration_ms("interval");
    let query_offset_ms = map.duration_ms("query_offset").map_or(0, |offset| offset.value);
    let limit = map.integer("limit", 0..=i64::from(u32::MAX)).map_or(0, |limit| limit.value as usize);
    let labels = label_map(&mut map, "labels");
    let rules = map.each("rules", rule);
    map.finish();
    if let Some(interval) = interval.as_ref().filter(|interval| interval.value < 10) {
        // 0 means the default in Prometheus; less than 10 ms would only burn the processor.
        if interval.value != 0 {
            found.error(&interval.span, "interval: at least 10ms");
        }
    }
    if let Some(name) = name.as_ref().filter(|name| name.value.is_empty()) {
        found.error(&name.span, "Groupname must not be empty");
    }
    let interval_ms = interval.map(|interval| interval.value).filter(|interval| *interval >= 10);
    Some(GroupConfig { name: name?, interval_ms, query_offset_ms, limit, labels, rules })
}

fn rule(node: &Node, found: &mut Diagnostics) -> Option<RuleConfig> {
    let mut map = MapReader::new(node, "rule", found)?;
    let kind = map.exactly_one(&["record", "alert"]);
    let alert = kind.as_ref().is_none_or(|(key, _)| *key == "alert");
    let name = kind.and_then(|(key, node)| crate::config::reader::string(node, key, map.found()));
    let expr = map.required_string("expr");
    if !alert {
        for key in ["for", "keep_firing_for", "annotations"] {
            map.refuse(key, &format!("invalid field '{key}' in recording rule"));
        }
    }
    let for_ms = map.duration_ms("for").map_or(0, |time| time.value);
    let keep_firing_for_ms = map.duration_ms("keep_firing_for").map_or(0, |time| time.value);
    let labels = label_map(&mut map, "labels");
    let annotations = label_map(&mut map, "annotations");
    map.finish();
    let (name, expr) = (name?, expr?);
    if name.value.is_empty() {
        found.error(&name.span, "the rule's name must not be empty");
    } else if !alert && name.value.contains(['{', '}']) {
        let message = format!("braces present in the recording rule name; should it be in expr?: {}", name.value);
        found.error(&name.span, message);
    } else if !alert && !is_metric_name(&name.value) {
        let message = format!("invalid recording rule name: {}", name.value);
        found.error_hint(&name.span, message, "letters, digits, _ and :, not beginning with a digit");
    }
    if expr.value.trim().is_empty() {
        found.error(&expr.span, "field 'expr' must be set in rule");
    }
    let timing = Timing { for_ms, keep_firing_for_ms };
    Some(RuleConfig { name, alert, expr, timing, labels, annotations })
}

fn label_map(map: &mut MapReader<'_, '_>, key: &'static str) -> Vec<(Spanned<String>, Spanned<String>)> {
    let entries = map.string_map(key);
    let what = if key == "annotations" { "annotation" } else { "label" };
    for (name, _) in &entries {
        if !is_label_name(&name.value) || (what == "label" && name.value == crate::model::METRIC_NAME) {
            let message = format!("invalid {what} name: {}", name.value);
            map.found().error_hint(&name.span, message, "letters, digits and _, not beginning with a digit");
        }
    }
    entries
}

/// The label names that every Prometheus accepts.
pub fn is_label_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The metric names that every Prometheus accepts.
pub fn is_metric_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
}

impl RuleFileConfig {
    /// Compiles the groups: expressions and templates are parsed. Rules that do not compile are left out and said.
    pub fn compile(&self, default_interval_ms: i64, found: &mut Diagnostics) -> Vec<Group> {
        self.groups.iter().map(|group| group.compile(&self.file, default_interval_ms, found)).collect()
    }
}

impl GroupConfig {
    fn compile(&self, file: &Arc<str>, default_interval_ms: i64, found: &mut Diagnostics) -> Group {
        let rules = self.rules.iter().filter_map(|rule| rule.compile(&self.labels, found)).map(Arc::new).collect();
        Group {
            name: self.name.value.as_str().into(),
            file: file.clone(),
            interval_ms: self.interval_ms.unwrap_or(default_interval_ms).max(10),
            limit: self.limit,
            query_offset_ms: self.query_offset_ms,
            aligned: false,
            rules,
        }
    }
}

impl RuleConfig {
    /// Parses expression and templates; `beneath` are the group's labels.
    pub fn compile(&self, beneath: &[(Spanned<String>, Spanned<String>)], found: &mut Diagnostics) -> Option<Rule> {
        let expression = expression(&self.expr, found);
        let own = beneath.iter().filter(|(name, _)| !self.labels.iter().any(|(known, _)| known.value == name.value));
        let labels: Vec<_> = own.chain(&self.labels).cloned().collect();
        if !self.alert {
            // Labels of recording rules are no templates.
            let literal = |(name, text): &(Spanned<String>, Spanned<String>)| {
                (Arc::from(name.value.as_str()), Template::literal(&text.value))
            };
            let labels = labels.iter().map(literal).collect();
            return Some(Rule {
                name: self.name.value.as_str().into(),
                expression: expression?,
                labels,
                alerting: None,
                feeds: None,
            });
        }
        let labels = templates(&labels, found);
        let annotations = templates(&self.annotations, found);
        Some(Rule {
            name: self.name.value.as_str().into(),
            expression: expression?,
            labels,
            alerting: Some(Alerting { timing: self.timing, annotations }),
            feeds: None,
        })
    }
}

/// Parses an expression; an error points at its place inside the scalar.
pub fn expression(text: &Spanned<String>, found: &mut Diagnostics) -> Option<Expression> {
    if text.value.trim().is_empty() {
        return None;
    }
    match Expression::parse(&text.value) {
        Ok(expression) => Some(expression),
        Err(error) => {
            let span = found.locate_offset(text, error.offset);
            found.error(&span, format!("could not parse expression: {}", error.message));
            None
        }
    }
}

/// Parses the templates of labels or annotations; errors point at their place inside the scalar.
pub fn templates(texts: &[(Spanned<String>, Spanned<String>)], found: &mut Diagnostics) -> TemplatedLabels {
    let mut out = TemplatedLabels::with_capacity(texts.len());
    for (name, text) in texts {
        match Template::parse(&text.value) {
            Ok(template) => out.push((name.value.as_str().into(), template)),
            Err(error) => {
                let span = found.locate_offset(text, error.offset);
                let message = format!("{}: could not parse template: {}", name.value, error.message);
                match error.hint {
                    Some(hint) => found.error_hint(&span, message, hint),
                    None => found.error(&span, message),
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
