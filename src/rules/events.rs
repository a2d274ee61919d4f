//! Conditions on events: count, absent, sequence. No PromQL, no polling: an event that makes a condition true raises its
//! alert at once.
//!
//! Time is the events' own. Each rule has a clock that follows the newest event it has seen and runs on at real speed
//! between events, so that a live stream is judged by now and a file of yesterday's events by yesterday. An event's time
//! is never taken later than its arrival; an event without a readable time has that of its arrival. "Deaf is not
//! silent": while a source that a rule has heard from is lost or catching up, the clock of conditions that conclude from
//! silence stands still.
//!
//! When alerts end:
//! - `count: ">= n"`: when fewer than n matching events lie within the last `within`;
//! - `absent`: with the next matching event of the key, or after 24 h of silence, when the key is forgotten;
//! - `sequence` with `missing: last`: when the missing event comes after all, or after an hour;
//! - `sequence`: `within` after it was complete.
//!
//! Annotations and labels may read the event at hand, that is the latest one that counted for the key:
//! `{{ $event.data.amount }}`, `{{ $event.payload.amount }}`, `{{ $event.subject }}`. `$labels` are those of `by`.

mod inspect;
mod keys;
mod running;
mod state;

pub use inspect::{EventWhy, KeyWhy};
pub(super) use state::EventChanges;
pub use state::{EventCounters, EventRules, EventRulesSnapshot};

use super::alert_state::Timing;
use super::rule::TemplatedLabels;
use crate::config::Diagnostics;
use crate::config::schema::{Comparison, EventCondition, EventConditionKind};
use crate::mapping::select::{FieldSource, Select};
use crate::model::{Event, EventBatch, Field, FieldPath, FieldPlanBuilder};
use crate::template::Value;
use std::sync::Arc;

/// A compiled event condition with its alert.
#[derive(Debug)]
pub struct EventRule {
    /// The alert's name.
    pub name: Arc<str>,
    /// Where it was configured.
    pub file: Arc<str>,
    /// What is looked for.
    pub condition: Condition,
    /// What makes a case of its own, with the label that it becomes.
    pub by: Vec<(Arc<str>, FieldSource)>,
    /// `within`, in microseconds.
    pub within_us: i64,
    /// Labels besides those of `by`.
    pub labels: TemplatedLabels,
    /// Annotations.
    pub annotations: TemplatedLabels,
    /// `for` and `keep_firing_for`.
    pub timing: Timing,
    /// Fields of the event that annotations read.
    pub captured: Vec<(Vec<String>, FieldSource)>,
    /// The condition in words, for the API.
    pub text: String,
    /// As configured: state is carried over on reload when it is unchanged.
    pub config: EventCondition,
}

/// What is looked for.
#[derive(Debug)]
pub enum Condition {
    /// How many came within the window.
    Count {
        /// Which events.
        select: Select,
        /// Compared how.
        comparison: Comparison,
        /// With which number.
        count: u64,
    },
    /// None came for the window.
    Absent {
        /// Which events.
        select: Select,
        /// Keys that must be heard from even if never seen.
        keys: Vec<String>,
    },
    /// Events in order.
    Sequence {
        /// The steps.
        steps: Vec<Select>,
        /// It fires when the last one is missing.
        missing_last: bool,
    },
}

impl Condition {
    /// The selectors in order of their steps.
    pub fn selects(&self) -> &[Select] {
        match self {
            Self::Count { select, .. } | Self::Absent { select, .. } => std::slice::from_ref(select),
            Self::Sequence { steps, .. } => steps,
        }
    }

    /// Whether it concludes something from not hearing anything.
    pub fn needs_silence(&self) -> bool {
        match self {
            Self::Count { comparison, .. } => !matches!(comparison, Comparison::AtLeast | Comparison::MoreThan),
            Self::Absent { .. } => true,
            Self::Sequence { missing_last, .. } => *missing_last,
        }
    }
}

/// A field of the event at hand, kept for the messages.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Captured {
    /// The event has no such field.
    #[default]
    Missing,
    /// true or false
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(Box<str>),
}

impl Captured {
    /// The value of a field of an event: numbers as numbers.
    fn of(source: FieldSource, batch: &EventBatch, row: usize, event: &Event) -> Self {
        match source.field(batch, row) {
            None => source.text(batch, row, event).map_or(Self::Missing, |text| Self::Text(text.into())),
            Some(Field::Missing | Field::Null | Field::List { .. }) => Self::Missing,
            Some(Field::Bool(value)) => Self::Bool(value),
            Some(Field::Number(value, text)) => batch.text(text).parse().map_or(Self::Float(value), Self::Int),
            Some(Field::Text(text) | Field::Json(text)) => Self::Text(batch.text(text).into()),
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Missing => Value::text(""),
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Float(value) => Value::Float(*value),
            Self::Text(text) => Value::text(text),
        }
    }
}

/// The `$event` of templates, from what was captured.
pub(super) fn event_value(rule: &EventRule, captured: &[Captured]) -> Value {
    fn insert(tree: &mut Tree, path: &[String], value: Value) {
        match path {
            [] => {}
            [name] => {
                tree.entry(name.clone()).or_insert(Branch::Leaf(value));
            }
            [name, rest @ ..] => {
                if let Branch::Tree(inner) = tree.entry(name.clone()).or_insert_with(|| Branch::Tree(Tree::new())) {
                    insert(inner, rest, value);
                }
            }
        }
    }
    let mut tree = Tree::new();
    for ((path, _), value) in rule.captured.iter().zip(captured) {
        insert(&mut tree, path, value.value());
    }
    map_of(tree)
}

type Tree = std::collections::BTreeMap<String, Branch>;

enum Branch {
    Leaf(Value),
    Tree(Tree),
}

fn map_of(tree: Tree) -> Value {
    Value::map(tree.into_iter().map(|(name, branch)| {
        let value = match branch {
            Branch::Leaf(value) => value,
            Branch::Tree(tree) => map_of(tree),
        };
        (name, value)
    }))
}

/// What the compiler of the short form hands over for an event condition.
pub(super) struct EventAlert {
    pub name: Arc<str>,
    pub file: Arc<str>,
    pub labels: TemplatedLabels,
    pub annotations: TemplatedLabels,
    pub timing: Timing,
}

/// Compiles a condition: patterns and conditions checked, its fields asked of the plan.
pub(super) fn compile(
    alert: EventAlert,
    config: &EventCondition,
    plan: &mut FieldPlanBuilder,
    found: &mut Diagnostics,
) -> Option<EventRule> {
    let mut by = Vec::with_capacity(config.by.len());
    for path in &config.by {
        let name: Arc<str> = path.value.last_name().into();
        if by.iter().any(|(known, _)| *known == name) {
            found.error(&path.span, format!("two paths of `by` end in {name:?}, so that their labels are the same"));
            continue;
        }
        match FieldSource::new(&path.value, plan) {
            Some(source) => by.push((name, source)),
            None => found.error(&path.span, "more than 65535 different fields are asked for"),
        }
    }
    let (condition, text) = match &config.kind {
        EventConditionKind::Count { selector, comparison, count } => {
            let select = Select::compile(selector, plan, found)?;
            let text = format!("count({}) {} {count}", select.text(), symbol(*comparison));
            (Condition::Count { select, comparison: *comparison, count: *count }, text)
        }
        EventConditionKind::Absent { selector, keys } => {
            if !keys.is_empty() && config.by.len() != 1 {
                found.error(&config.span, "`keys` needs exactly one path in `by`");
            }
            let select = Select::compile(selector, plan, found)?;
            let text = format!("absent({})", select.text());
            (Condition::Absent { select, keys: keys.clone() }, text)
        }
        EventConditionKind::Sequence { steps, missing_last } => {
            if steps.len() < 2 {
                found.error(&config.span, "a sequence has at least two steps");
                return None;
            }
            let compiled: Vec<Select> = steps.iter().filter_map(|step| Select::compile(step, plan, found)).collect();
            if compiled.len() < steps.len() {
                return None;
            }
            let names: Vec<&str> = compiled.iter().map(Select::text).collect();
            let missing = if *missing_last { " missing last" } else { "" };
            let text = format!("sequence({}){missing}", names.join(" -> "));
            (Condition::Sequence { steps: compiled, missing_last: *missing_last }, text)
        }
    };
    if config.within_ms <= 0 {
        found.error(&config.span, "`within` is longer than nothing, for example 30s");
        return None;
    }
    let mut text = format!("{text} within {}", crate::model::format_duration_ms(config.within_ms));
    if !by.is_empty() {
        let names: Vec<&str> = by.iter().map(|(name, _)| &**name).collect();
        text.push_str(&format!(" by ({})", names.join(", ")));
    }
    let mut captured: Vec<(Vec<String>, FieldSource)> = Vec::new();
    for template in alert.annotations.iter().chain(&alert.labels).map(|(_, template)| template) {
        for path in template.event_paths() {
            let parsed = FieldPath::parse(&path.join(".")).ok();
            if let Some(source) = parsed.and_then(|parsed| FieldSource::new(&parsed, plan))
                && !captured.iter().any(|(known, _)| known == path)
            {
                captured.push((path.clone(), source));
            }
        }
    }
    Some(EventRule {
        name: alert.name,
        file: alert.file,
        condition,
        by,
        within_us: config.within_ms.saturating_mul(1_000),
        labels: alert.labels,
        annotations: alert.annotations,
        timing: alert.timing,
        captured,
        text,
        config: config.clone(),
    })
}

fn symbol(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::AtLeast => ">=",
        Comparison::MoreThan => ">",
        Comparison::AtMost => "<=",
        Comparison::LessThan => "<",
        Comparison::Equal => "==",
        Comparison::NotEqual => "!=",
    }
}

#[cfg(test)]
mod tests;
