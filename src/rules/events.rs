//! Conditions on events: count, absent, sequence, rate_change, first_seen, gap. No PromQL, no polling: an event that makes a condition true raises its
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
//! - `sequence`: `within` after it was complete;
//! - `rate_change`: when a whole window lies within the threshold again; a change that stays becomes what is usual once it
//!   fills half of the baseline;
//! - `first_seen`: `within` after the value was seen;
//! - `gap`: when everything missing came after all, when the number began anew, or an hour after it was missed.
//!
//! Annotations and labels may read the event at hand, that is the latest one that counted for the key:
//! `{{ $event.data.amount }}`, `{{ $event.payload.amount }}`, `{{ $event.subject }}`; below `$event.first` stands the first
//! one of the key, below `$event.condition` what the condition found (`rate_change`: count, expected, deviations; `gap`:
//! first, last; `sequence`: seconds). `$labels` are those of `by`; `query` reads the series as they are then.

mod clock;
mod count;
mod first_seen;
mod gap;
mod inspect;
mod keys;
mod rate_change;
mod running;
mod sequence;
mod size;
mod state;

pub(super) use clock::{Clock, Place};
pub use inspect::{EventWhy, KeyWhy};
pub use rate_change::RateSettings;
pub(super) use state::EventChanges;
pub use state::{EventCounters, EventRules, EventRulesSnapshot};

use super::alert_state::Timing;
use super::rule::TemplatedLabels;
use crate::config::Diagnostics;
use crate::config::schema::{Comparison, Direction, EventCondition, EventConditionKind};
use crate::mapping::select::{FieldSource, Select};
use crate::model::{Cover, Event, EventBatch, Field, FieldPath, FieldPlanBuilder, REDACTED};
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
    /// The configured sources that count; empty for all.
    pub sources: Vec<Arc<str>>,
    /// Fields of the events that annotations read.
    pub captured: Vec<Capture>,
    /// The condition in words, for the API.
    pub text: String,
    /// As configured, every key written out: what is remembered carries over while it is unchanged.
    pub identity: String,
}

/// A field that annotations read.
#[derive(Clone, Debug, PartialEq)]
pub struct Capture {
    /// The names below `$event`.
    pub path: Vec<String>,
    /// Where the value comes from.
    pub from: FieldSource,
    /// Of the key's first event instead of its latest.
    pub first: bool,
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
    /// Far more or far fewer than in the windows before.
    RateChange {
        /// Which events.
        select: Select,
        /// What is unusual.
        rate: RateSettings,
    },
    /// A value that was never seen; it is the last one of `by`.
    FirstSeen {
        /// Which events.
        select: Select,
        /// How long a value is remembered, in microseconds.
        memory_us: i64,
        /// How long values are only learnt, in microseconds.
        learn_us: i64,
    },
    /// Numbers are missing.
    Gap {
        /// Which events.
        select: Select,
        /// The number.
        number: FieldSource,
    },
}

impl Condition {
    /// The selectors in order of their steps.
    pub fn selects(&self) -> &[Select] {
        match self {
            Self::Count { select, .. }
            | Self::Absent { select, .. }
            | Self::RateChange { select, .. }
            | Self::FirstSeen { select, .. }
            | Self::Gap { select, .. } => std::slice::from_ref(select),
            Self::Sequence { steps, .. } => steps,
        }
    }

    /// Whether it concludes something from not hearing anything.
    pub fn needs_silence(&self) -> bool {
        match self {
            Self::Count { comparison, .. } => !matches!(comparison, Comparison::AtLeast | Comparison::MoreThan),
            Self::Absent { .. } | Self::RateChange { .. } | Self::Gap { .. } => true,
            Self::Sequence { missing_last, .. } => *missing_last,
            Self::FirstSeen { .. } => false,
        }
    }

    /// How much older than the clock an event may be to count, in microseconds.
    fn reach_us(&self, within_us: i64) -> i64 {
        match self {
            Self::Count { .. } | Self::Absent { .. } | Self::Sequence { .. } => within_us,
            Self::RateChange { rate, .. } => rate.reach_us(),
            Self::FirstSeen { memory_us, .. } => *memory_us,
            // The number says what is old.
            Self::Gap { .. } => i64::MAX,
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
        if source.cover(batch) == Cover::Hidden {
            return Self::Text(REDACTED.into());
        }
        match source.field(batch, row) {
            None => source.text(batch, row, event).map_or(Self::Missing, |text| Self::text(batch, text)),
            Some(Field::Missing | Field::Null | Field::List { .. }) => Self::Missing,
            Some(Field::Bool(value)) => Self::Bool(value),
            Some(Field::Number(value, text)) => batch.text(text).parse().map_or(Self::Float(value), Self::Int),
            Some(Field::Text(text) | Field::Json(text)) => Self::text(batch, batch.text(text)),
        }
    }

    fn text(batch: &EventBatch, text: &str) -> Self {
        Self::Text(batch.plan.veil().clean(text).into())
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

/// The `$event` of templates, from what was captured and what the condition found.
pub(super) fn event_value(rule: &EventRule, captured: &[Captured], facts: &[(&str, f64)]) -> Value {
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
    for (name, value) in facts {
        insert(&mut tree, &[CONDITION.to_owned(), (*name).to_owned()], Value::Float(*value));
    }
    for (capture, value) in rule.captured.iter().zip(captured) {
        insert(&mut tree, &capture.path, value.value());
    }
    map_of(tree)
}

/// What the condition found, in `$event`.
const CONDITION: &str = "condition";
/// The first event of the key, in `$event`.
const FIRST: &str = "first";

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
    if let EventConditionKind::FirstSeen { path, .. } = &config.kind {
        let name: Arc<str> = path.value.last_name().into();
        match FieldSource::new(&path.value, plan) {
            Some(_) if by.iter().any(|(known, _)| *known == name) => {
                found.error(&path.span, format!("`by` and `first_seen` both make the label {name:?}"));
            }
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
        EventConditionKind::RateChange(rate) => {
            let select = Select::compile(&rate.selector, plan, found)?;
            let settings = RateSettings::new(rate, config.within_ms.saturating_mul(1_000));
            let direction = match rate.direction {
                Direction::Up => " up",
                Direction::Down => " down",
                Direction::Both => "",
            };
            let baseline = crate::model::format_duration_ms(rate.baseline_ms);
            let text = format!(
                "rate_change({}){direction} by more than {} deviations of {baseline}",
                select.text(),
                rate.threshold
            );
            (Condition::RateChange { select, rate: settings }, text)
        }
        EventConditionKind::FirstSeen { selector, path, memory_ms, learn_ms } => {
            let select = Select::compile(selector, plan, found)?;
            let memory = crate::model::format_duration_ms(*memory_ms);
            let text = format!("first_seen({} of {}) for {memory}", path.value, select.text());
            let (memory_us, learn_us) = (memory_ms.saturating_mul(1_000), learn_ms.saturating_mul(1_000));
            (Condition::FirstSeen { select, memory_us, learn_us }, text)
        }
        EventConditionKind::Gap { selector, path } => {
            let select = Select::compile(selector, plan, found)?;
            let Some(number) = FieldSource::new(&path.value, plan) else {
                found.error(&path.span, "more than 65535 different fields are asked for");
                return None;
            };
            let text = format!("gap({} of {})", path.value, select.text());
            (Condition::Gap { select, number }, text)
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
    let mut captured: Vec<Capture> = Vec::new();
    for template in alert.annotations.iter().chain(&alert.labels).map(|(_, template)| template) {
        for path in template.event_paths() {
            let (first, field) = match path.as_slice() {
                [name, ..] if name == CONDITION => continue,
                [name, rest @ ..] if name == FIRST && !rest.is_empty() => (true, rest),
                all => (false, all),
            };
            let parsed = FieldPath::parse(&field.join(".")).ok();
            if let Some(from) = parsed.and_then(|parsed| FieldSource::new(&parsed, plan))
                && !captured.iter().any(|known| known.path == *path)
            {
                captured.push(Capture { path: path.clone(), from, first });
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
        sources: config.sources.iter().map(|source| source.value.as_str().into()).collect(),
        captured,
        text,
        identity: crate::config::show_condition(config),
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
