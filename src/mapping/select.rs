//! Which events a mapping, a rule or a check looks at: patterns on the type, conditions on the fields.

use crate::config::Diagnostics;
use crate::config::schema::{Condition, EventSelector, Pattern, Scalar, Test};
use crate::model::{Attribute, Cover, Event, EventBatch, Field, FieldPath, FieldPlanBuilder, Slot};
use regex::Regex;

/// Where a value of an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldSource {
    /// A text attribute that every event has a place for.
    Attribute(Attribute),
    /// A field of the plan.
    Slot(Slot),
}

impl FieldSource {
    /// Asks the plan for a path; `None` when the plan is full.
    pub fn new(path: &FieldPath, plan: &mut FieldPlanBuilder) -> Option<Self> {
        let numeric = [Attribute::Time, Attribute::Priority, Attribute::Attempt, Attribute::DurationSeconds];
        match path.attribute() {
            Some(attribute) if !numeric.contains(&attribute) => Some(Self::Attribute(attribute)),
            _ => plan.slot(path).map(Self::Slot),
        }
    }

    /// The field; `None` for an attribute.
    pub fn field(self, batch: &EventBatch, row: usize) -> Option<Field> {
        if let Self::Slot(slot) = self { Some(batch.field(row, slot)) } else { None }
    }

    /// Whether it may be shown.
    pub fn cover(self, batch: &EventBatch) -> Cover {
        match self {
            Self::Slot(slot) => batch.plan.cover(slot),
            Self::Attribute(attribute) => batch.plan.veil().cover_of(attribute),
        }
    }

    /// The value as text; `None` when the event has none.
    pub fn text<'b>(self, batch: &'b EventBatch, row: usize, event: &Event) -> Option<&'b str> {
        let text = match self {
            Self::Slot(slot) => return batch.field_str(batch.field(row, slot)),
            Self::Attribute(Attribute::Source) => return Some(batch.source_of(event)),
            Self::Attribute(Attribute::Type) => event.event_type,
            Self::Attribute(Attribute::Id) => event.id,
            Self::Attribute(Attribute::Subject) => event.subject,
            Self::Attribute(Attribute::Correlation) => event.correlation,
            Self::Attribute(Attribute::Causation) => event.causation,
            Self::Attribute(Attribute::TraceId) => event.trace_id,
            Self::Attribute(Attribute::SpanId) => event.span_id,
            Self::Attribute(Attribute::Severity) => event.severity,
            Self::Attribute(_) => event.outcome,
        };
        (!text.is_none()).then(|| batch.text(text))
    }
}

/// A compiled selector.
#[derive(Debug)]
pub struct Select {
    patterns: Vec<Regex>,
    /// Which of them name sidewatch's own events.
    own: Vec<bool>,
    condition: Option<Check>,
    text: String,
}

#[derive(Debug)]
enum Check {
    All(Vec<Check>),
    Any(Vec<Check>),
    Not(Box<Check>),
    Field(FieldSource, Test, Option<Regex>),
}

impl Select {
    /// Compiles patterns and conditions; what does not compile is among the findings.
    pub fn compile(config: &EventSelector, plan: &mut FieldPlanBuilder, found: &mut Diagnostics) -> Option<Self> {
        let mut patterns = Vec::with_capacity(config.matches.len());
        let mut names = Vec::with_capacity(config.matches.len());
        let mut own = Vec::with_capacity(config.matches.len());
        for pattern in &config.matches {
            let (Pattern::Glob(text) | Pattern::Regex(text)) = pattern;
            names.push(text.value.clone());
            own.push(text.value.starts_with("sidewatch"));
            match Regex::new(&pattern.to_regex()) {
                Ok(regex) => patterns.push(regex),
                Err(error) => found.error(&text.span, format!("not a regular expression: {error}")),
            }
        }
        let condition = match &config.condition {
            Some(condition) => Some(check(condition, plan, found)?),
            None => None,
        };
        let text = if names.is_empty() { "*".into() } else { names.join(", ") };
        (patterns.len() == config.matches.len()).then_some(Self { patterns, own, condition, text })
    }

    /// The patterns as they were written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether an event's type matches. Events of a sidewatch, this one or another, are for patterns that begin with
    /// `sidewatch` only, as a shell's `*` takes no dot-files: who counts everything means the service's events, and two
    /// sidecars that hear each other never go in circles.
    pub fn matches_type(&self, event_type: &str) -> bool {
        if event_type.starts_with("sidewatch.") {
            let mut named = self.patterns.iter().zip(&self.own).filter(|(_, own)| **own);
            return named.any(|(pattern, _)| pattern.is_match(event_type));
        }
        self.patterns.is_empty() || self.patterns.iter().any(|pattern| pattern.is_match(event_type))
    }

    /// Whether its fields fulfil the condition.
    pub fn matches_fields(&self, batch: &EventBatch, row: usize, event: &Event) -> bool {
        self.condition.as_ref().is_none_or(|condition| condition.holds(batch, row, event))
    }
}

fn check(config: &Condition, plan: &mut FieldPlanBuilder, found: &mut Diagnostics) -> Option<Check> {
    let mut each = |items: &[Condition]| {
        let compiled: Vec<Check> = items.iter().filter_map(|item| check(item, plan, found)).collect();
        (compiled.len() == items.len()).then_some(compiled)
    };
    match config {
        Condition::All(items) => each(items).map(Check::All),
        Condition::Any(items) => each(items).map(Check::Any),
        Condition::Not(inner) => check(inner, plan, found).map(|inner| Check::Not(Box::new(inner))),
        Condition::Field { path, test } => {
            let Some(source) = FieldSource::new(&path.value, plan) else {
                found.error(&path.span, "more than 65535 different fields are asked for");
                return None;
            };
            let regex = match test {
                Test::Regex(pattern) => match Regex::new(&format!("^(?s:{})$", pattern.value)) {
                    Ok(regex) => Some(regex),
                    Err(error) => {
                        found.error(&pattern.span, format!("not a regular expression: {error}"));
                        return None;
                    }
                },
                _ => None,
            };
            Some(Check::Field(source, test.clone(), regex))
        }
    }
}

impl Check {
    fn holds(&self, batch: &EventBatch, row: usize, event: &Event) -> bool {
        match self {
            Self::All(items) => items.iter().all(|item| item.holds(batch, row, event)),
            Self::Any(items) => items.iter().any(|item| item.holds(batch, row, event)),
            Self::Not(inner) => !inner.holds(batch, row, event),
            Self::Field(source, test, regex) => match source {
                FieldSource::Slot(slot) => match batch.field(row, *slot) {
                    // A list passes when one of its elements does.
                    Field::List { start, len } => batch
                        .list(start, len)
                        .iter()
                        .any(|item| passes(test, regex.as_ref(), number(*item), batch.field_str(*item))),
                    field => passes(test, regex.as_ref(), number(field), batch.field_str(field)),
                },
                FieldSource::Attribute(_) => {
                    let text = source.text(batch, row, event);
                    passes(test, regex.as_ref(), text.and_then(|text| text.parse().ok()), text)
                }
            },
        }
    }
}

fn number(field: Field) -> Option<f64> {
    if let Field::Number(value, _) = field { Some(value) } else { None }
}

fn passes(test: &Test, regex: Option<&Regex>, number: Option<f64>, text: Option<&str>) -> bool {
    // A number that was written as a text compares as a number.
    let number = number.or_else(|| text.and_then(|text| text.trim().parse().ok()));
    let is = |scalar: &Scalar| match scalar {
        Scalar::Null => text.is_none(),
        Scalar::Bool(value) => text == Some(if *value { "true" } else { "false" }),
        Scalar::Number(value) => number == Some(*value),
        Scalar::Text(value) => text == Some(value.as_str()),
    };
    match test {
        Test::Gt(bound) => number.is_some_and(|value| value > *bound),
        Test::Gte(bound) => number.is_some_and(|value| value >= *bound),
        Test::Lt(bound) => number.is_some_and(|value| value < *bound),
        Test::Lte(bound) => number.is_some_and(|value| value <= *bound),
        Test::Eq(scalar) => is(scalar),
        Test::Ne(scalar) => !is(scalar),
        Test::In(scalars) => scalars.iter().any(is),
        Test::Exists(wanted) => text.is_some() == *wanted,
        Test::Regex(_) => regex.is_some_and(|regex| text.is_some_and(|text| regex.is_match(text))),
    }
}
