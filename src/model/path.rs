//! Field paths (`data.items[0].sku`) and the plan that says which fields of an event somebody needs.

use super::veil::{self, Cover, Veil};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// A key of an object. A key with dots is written in quotes: `data."a.b"`.
    Key(String),
    /// `[3]`: one element of an array, from 0.
    Index(u32),
    /// `[]`: each element of an array.
    Each,
}

/// A canonical attribute, reachable under its own name whatever the event's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the attribute of that name")]
pub enum Attribute {
    Type,
    Id,
    Source,
    Subject,
    Time,
    Correlation,
    Causation,
    TraceId,
    SpanId,
    Priority,
    Severity,
    Attempt,
    DurationSeconds,
    Outcome,
}

impl Attribute {
    /// Every attribute with the name it has in a path.
    pub const ALL: [(&'static str, Self); 14] = [
        ("type", Self::Type),
        ("id", Self::Id),
        ("source", Self::Source),
        ("subject", Self::Subject),
        ("time", Self::Time),
        ("correlation", Self::Correlation),
        ("causation", Self::Causation),
        ("trace_id", Self::TraceId),
        ("span_id", Self::SpanId),
        ("priority", Self::Priority),
        ("severity", Self::Severity),
        ("attempt", Self::Attempt),
        ("duration", Self::DurationSeconds),
        ("outcome", Self::Outcome),
    ];
}

/// A checked path. `data.…` is the canonical payload; a single canonical name is that attribute; anything else is the
/// path in the document as it was received (`payload.amount`, `processing.handler`).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FieldPath {
    segments: Vec<Segment>,
}

/// Why a path does not parse: what is wrong and at which byte.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} at character {at}")]
pub struct PathError {
    /// What is wrong.
    pub message: &'static str,
    /// Byte offset in the path, from 0.
    pub at: usize,
}

impl FieldPath {
    /// The most steps that a path may have.
    pub const MAX_SEGMENTS: usize = 32;

    /// Parses `data.items[].price`, `payload."a.b"`, `subject`.
    ///
    /// # Errors
    /// [`PathError`] with the offset of the first character that does not fit.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let (mut segments, mut at) = (Vec::new(), 0);
        let bytes = text.as_bytes();
        let fail = |message, at| Err(PathError { message, at });
        loop {
            match bytes.get(at) {
                Some(b'"') => {
                    let Some(len) = text[at + 1..].find('"') else {
                        return fail("unclosed quote", at);
                    };
                    segments.push(Segment::Key(text[at + 1..at + 1 + len].into()));
                    at += len + 2;
                }
                Some(byte) if !matches!(byte, b'.' | b'[' | b']') => {
                    let len = text[at..].find(['.', '[', ']', '"']).unwrap_or(text.len() - at);
                    segments.push(Segment::Key(text[at..at + len].into()));
                    at += len;
                }
                _ => return fail("a name is missing", at),
            }
            while bytes.get(at) == Some(&b'[') {
                let Some(len) = text[at..].find(']') else {
                    return fail("unclosed bracket", at);
                };
                let inside = &text[at + 1..at + len];
                segments.push(match inside {
                    "" | "*" => Segment::Each,
                    _ => match inside.parse() {
                        Ok(index) => Segment::Index(index),
                        Err(_) => return fail("an index is a number, or empty for each element,", at + 1),
                    },
                });
                at += len + 1;
            }
            if segments.len() > Self::MAX_SEGMENTS {
                return fail("more than 32 steps", at);
            }
            match bytes.get(at) {
                None => return Ok(Self { segments }),
                Some(b'.') => at += 1,
                Some(_) => return fail("expected a dot", at),
            }
        }
    }

    /// The steps.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The canonical attribute that this path names, if it is one.
    pub fn attribute(&self) -> Option<Attribute> {
        let [Segment::Key(name)] = self.segments.as_slice() else { return None };
        Attribute::ALL.iter().find(|(known, _)| known == name).map(|(_, attribute)| *attribute)
    }

    /// The last key of the path: the name that a label made from it gets.
    pub fn last_name(&self) -> &str {
        self.segments
            .iter()
            .rev()
            .find_map(|segment| if let Segment::Key(name) = segment { Some(name.as_str()) } else { None })
            .unwrap_or("value")
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::Key(name) => {
                    let dot = if at == 0 { "" } else { "." };
                    let quote = if name.contains(['.', '[', ']']) { "\"" } else { "" };
                    write!(f, "{dot}{quote}{name}{quote}")?;
                }
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Each => f.write_str("[]")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a path's value stands in each event's row of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

/// The fields that mappings, rules and checks ask for. A batch is decoded with one plan and carries it.
#[derive(Debug, Default)]
pub struct FieldPlan {
    version: u64,
    paths: Vec<FieldPath>,
    veil: Arc<Veil>,
    covers: Vec<Cover>,
}

impl FieldPlan {
    /// Changes with each reload; a batch decoded with an older plan is decoded again.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The paths, in order of their slots.
    pub fn paths(&self) -> &[FieldPath] {
        &self.paths
    }

    /// How many fields each event's row has.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// What must not be shown of an event.
    pub fn veil(&self) -> &Arc<Veil> {
        &self.veil
    }

    /// Whether the value of a slot may be shown.
    pub fn cover(&self, slot: Slot) -> Cover {
        veil::cover_at(&self.covers, slot)
    }

    /// Whether nobody asks for any field.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}

/// Collects paths; the same path gets the same slot.
#[derive(Debug, Default)]
pub struct FieldPlanBuilder {
    paths: Vec<FieldPath>,
    slots: HashMap<FieldPath, Slot>,
    veil: Arc<Veil>,
}

impl FieldPlanBuilder {
    /// What must not be shown of events.
    pub fn set_veil(&mut self, veil: Arc<Veil>) {
        self.veil = veil;
    }

    /// The slot of a path, new or known. `None` past 65,535 different paths.
    pub fn slot(&mut self, path: &FieldPath) -> Option<Slot> {
        if let Some(slot) = self.slots.get(path) {
            return Some(*slot);
        }
        let slot = Slot(u16::try_from(self.paths.len()).ok()?);
        self.paths.push(path.clone());
        self.slots.insert(path.clone(), slot);
        Some(slot)
    }

    /// The finished plan.
    pub fn build(self, version: u64) -> FieldPlan {
        let covers = veil::slots(&self.veil, &self.paths);
        FieldPlan { version, paths: self.paths, veil: self.veil, covers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_parse_and_print() {
        for text in ["data.items[0].sku", "data.items[].price", "subject", "a.\"b.c\".d"] {
            assert_eq!(FieldPath::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(FieldPath::parse("data.a b").unwrap().last_name(), "a b");
        assert_eq!(FieldPath::parse("type").unwrap().attribute(), Some(Attribute::Type));
        for text in ["", ".", "a.", "a[", "a[x]", "a]", "a..b", "\"a"] {
            assert!(FieldPath::parse(text).is_err(), "{text}");
        }
    }
}
