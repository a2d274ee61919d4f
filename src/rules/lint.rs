//! What a careful reader would say of rules that are valid: a metric that nothing produces, a label that does not exist,
//! the rate of a gauge, a comparison that never holds, two rules that are one, recording rules in a circle.
//!
//! All findings are warnings with a place. A rule is only doubted where the configuration proves it: as soon as metrics
//! come from outside (a scrape), unknown names are no finding.

mod bounds;
mod labels;
mod selectors;

use super::file::{GroupConfig, RuleConfig, RuleFileConfig};
use crate::config::diagnostic::nearest;
use crate::config::schema::{AlertConfig, AlertKind};
use crate::config::{Diagnostics, Named, Span, Spanned};
use crate::promql::{self, Expr};
use crate::series::MetricType;
use std::collections::{BTreeMap, BTreeSet};

/// A metric that the configuration produces.
#[derive(Clone, Debug)]
pub struct Produced {
    /// Its type; `None` when the configuration does not say.
    pub kind: Option<MetricType>,
    /// The labels that its series may have; `None` when that is not known.
    pub labels: Option<BTreeSet<String>>,
}

/// What the rules may read.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// By name; a histogram by the name without suffix.
    pub metrics: BTreeMap<String, Produced>,
    /// Metrics come from outside too: names that are not known may exist all the same.
    pub outside: bool,
    /// The time between two samples of a series, in milliseconds.
    pub interval_ms: i64,
}

/// Suffixes of a histogram's parts.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];

impl Known {
    /// The metric, or the histogram that it is a part of.
    fn produced(&self, name: &str) -> Option<&Produced> {
        let whole = || {
            let base = PARTS.iter().find_map(|part| name.strip_suffix(part))?;
            self.metrics.get(base).filter(|metric| metric.kind == Some(MetricType::Histogram))
        };
        self.metrics.get(name).or_else(whole)
    }

    fn exists(&self, name: &str) -> bool {
        self.outside
            || self.produced(name).is_some()
            || matches!(name, "ALERTS" | "ALERTS_FOR_STATE" | "up")
            || name.starts_with("sidewatch_")
            || name.starts_with("scrape_")
    }

    /// What a sample of this name is; names nobody declared follow the convention of names.
    fn kind(&self, name: &str) -> Option<MetricType> {
        match self.produced(name) {
            Some(metric) if metric.kind == Some(MetricType::Histogram) && !self.metrics.contains_key(name) => {
                Some(MetricType::Counter)
            }
            Some(metric) => metric.kind,
            None => (name.ends_with("_total") && !name.contains(':')).then_some(MetricType::Counter),
        }
    }

    /// The labels that a sample of this name may have.
    fn labels(&self, name: &str) -> Option<BTreeSet<String>> {
        let mut labels = self.produced(name).filter(|_| !self.outside)?.labels.clone()?;
        if name.ends_with("_bucket") {
            labels.insert("le".into());
        }
        Some(labels)
    }
}

/// Looks at all rules: those of the files and the expressions of the short form beside them.
pub fn lint(files: &[RuleFileConfig], alerts: &[Named<AlertConfig>], known: &Known, found: &mut Diagnostics) {
    let mut known = known.clone();
    let groups = || files.iter().flat_map(|file| &file.groups);
    for record in groups().flat_map(|group| &group.rules).filter(|rule| !rule.alert) {
        known.metrics.entry(record.name.value.clone()).or_insert(Produced { kind: None, labels: None });
    }
    for alert in alerts.iter().chain(files.iter().flat_map(|file| &file.alerts)) {
        match &alert.value.kind {
            AlertKind::Expr(expr) => expression(expr, &known, found),
            AlertKind::Metric { metric, of, .. } => {
                for name in [Some(metric), of.as_ref()].into_iter().flatten() {
                    unknown_metric(&name.value, &name.span, &known, found);
                }
            }
            _ => {}
        }
    }
    for group in groups() {
        for rule in &group.rules {
            expression(&rule.expr, &known, found);
        }
        severity(group, found);
        duplicates(group, found);
    }
    circles(files, found);
}

fn unknown_metric(name: &str, span: &Span, known: &Known, found: &mut Diagnostics) {
    if known.exists(name) {
        return;
    }
    let hint = match nearest(name, known.metrics.keys().map(String::as_str)) {
        Some(near) => format!("did you mean {near:?}?"),
        None => "declare it under `metrics:`, or record it with a rule".into(),
    };
    found.warning_hint(span, format!("nothing produces the metric {name:?}: this rule reads nothing"), hint);
}

/// One expression under all lints; `text` is as it stands in the file.
fn expression(text: &Spanned<String>, known: &Known, found: &mut Diagnostics) {
    let Ok(expr) = promql::parse(&text.value) else { return };
    let mut said = Said { text, found, at: BTreeSet::new() };
    selectors::lint(&expr, known, &mut said);
    labels::lint(&expr, known, &mut said);
    bounds::lint(&expr, known, &mut said);
    experimental(&expr, &mut said);
}

/// Findings in one expression.
struct Said<'a> {
    text: &'a Spanned<String>,
    found: &'a mut Diagnostics,
    /// Where something was said already.
    at: BTreeSet<(usize, String)>,
}

impl Said<'_> {
    /// Adds a warning at a byte of the expression, the same one only once.
    fn warn(&mut self, offset: usize, message: String, hint: impl Into<String>) {
        if self.at.insert((offset, message.clone())) {
            let span = self.found.locate_offset(self.text, offset);
            self.found.warning_hint(&span, message, hint);
        }
    }

    /// Where a word stands between two bytes; the first byte when it does not.
    fn word(&self, word: &str, from: usize, to: usize) -> usize {
        let part = self.text.value.get(from..to.min(self.text.value.len())).unwrap_or("");
        let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
        let alone = |at: usize| {
            let (before, after) = (&part[..at], &part[at + word.len()..]);
            !before.ends_with(inside) && !after.starts_with(inside)
        };
        part.match_indices(word).map(|(at, _)| at).find(|at| alone(*at)).map_or(from, |at| from + at)
    }
}

fn experimental(expr: &Expr, said: &mut Said<'_>) {
    for name in expr.experimental() {
        let at = match name {
            "fill" => ["fill", "fill_left", "fill_right"].iter().map(|word| said.word(word, 0, usize::MAX)).max(),
            _ => Some(said.word(name, 0, usize::MAX)),
        };
        said.warn(
            at.unwrap_or(0),
            format!("{name} is experimental PromQL"),
            "Prometheus has it only behind a feature flag and may change it; do without where the rule is shared",
        );
    }
}

fn severity(group: &GroupConfig, found: &mut Diagnostics) {
    let severe =
        |labels: &[(Spanned<String>, Spanned<String>)]| labels.iter().any(|(name, _)| name.value == "severity");
    if severe(&group.labels) {
        return;
    }
    let bare: Vec<&RuleConfig> = group.rules.iter().filter(|rule| rule.alert && !severe(&rule.labels)).collect();
    let Some(first) = bare.first() else { return };
    let names: Vec<&str> = bare.iter().map(|rule| rule.name.value.as_str()).collect();
    let shown = names[..names.len().min(5)].join(", ");
    let rest = if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
    found.warning_hint(
        &first.name.span,
        format!("alerts of the group {:?} without the label severity: {shown}{rest}", group.name.value),
        "write labels: {severity: warning}, at the rule or once at the group, so that routes can tell them apart",
    );
}

/// Rules of a group that are the same twice: promtool's check for duplicates, and the same expression under another name.
fn duplicates(group: &GroupConfig, found: &mut Diagnostics) {
    let mut by_name = BTreeMap::new();
    let mut by_expr = BTreeMap::new();
    for rule in &group.rules {
        let labels: BTreeMap<&str, &str> =
            rule.labels.iter().map(|(name, value)| (name.value.as_str(), value.value.as_str())).collect();
        let times = (rule.timing.for_ms, rule.timing.keep_firing_for_ms);
        let expr = promql::parse(&rule.expr.value).map_or_else(|_| rule.expr.value.clone(), |expr| expr.to_string());
        let named = *by_name.entry((rule.alert, rule.name.value.as_str(), labels.clone())).or_insert(rule);
        let reads = *by_expr.entry((rule.alert, expr, times, labels)).or_insert(rule);
        let (first, what) = match (std::ptr::eq(named, rule), std::ptr::eq(reads, rule)) {
            (false, _) => (named, "name and labels"),
            (true, false) => (reads, "expression and labels"),
            (true, true) => continue,
        };
        found.warning_hint(
            &rule.name.span,
            format!(
                "duplicate rule: {} has the same {what} as {} in line {}",
                rule.name.value, first.name.value, first.name.span.line
            ),
            "remove one of them, or give them different labels",
        );
    }
}

/// Recording rules that read each other.
fn circles(files: &[RuleFileConfig], found: &mut Diagnostics) {
    let mut reads: BTreeMap<&str, (&Span, BTreeSet<String>)> = BTreeMap::new();
    for rule in files.iter().flat_map(|file| &file.groups).flat_map(|group| &group.rules).filter(|rule| !rule.alert) {
        let Ok(expr) = promql::parse(&rule.expr.value) else { continue };
        let names = expr.selectors().into_iter().filter_map(|selector| selector.metric_name().map(str::to_owned));
        reads.entry(&rule.name.value).or_insert((&rule.name.span, BTreeSet::new())).1.extend(names);
    }
    let mut done = BTreeSet::new();
    for start in reads.keys() {
        follow(start, &reads, &mut Vec::new(), &mut done, found);
    }
}

fn follow<'a>(
    name: &'a str,
    reads: &'a BTreeMap<&'a str, (&Span, BTreeSet<String>)>,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
    found: &mut Diagnostics,
) {
    if let Some(at) = path.iter().position(|known| *known == name) {
        let Some((span, _)) = reads.get(name) else { return };
        let circle = [&path[at..], &[name]].concat().join(" reads ");
        found.warning_hint(
            span,
            format!("recording rules in a circle: {circle}"),
            "each reads what the other recorded at the evaluation before: let one of them read the events' metrics",
        );
        return;
    }
    let Some((_, names)) = reads.get(name) else { return };
    if done.contains(name) {
        return;
    }
    path.push(name);
    for next in names {
        follow(next, reads, path, done, found);
    }
    path.pop();
    done.insert(name);
}

#[cfg(test)]
mod tests;
