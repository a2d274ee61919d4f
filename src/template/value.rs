//! What templates compute with, and how Go prints it.

use super::format;
use super::time::GoTime;
use crate::model::Labels;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A template value: the Go types that Prometheus's and Alertmanager's templates meet.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// nil, printed as `<no value>`.
    #[default]
    Nil,
    /// bool
    Bool(bool),
    /// int
    Int(i64),
    /// float64
    Float(f64),
    /// string
    Text(Arc<str>),
    /// A slice. Slices of alerts have the methods `Firing` and `Resolved`, slices of pairs `Names` and `Values`.
    List(Arc<[Value]>),
    /// map[string]string, Alertmanager's `KV`: a missing key is "", as with Go's `missingkey=zero`. It has the methods
    /// `SortedPairs`, `Names`, `Values` and `Remove`.
    Labels(Arc<BTreeMap<Arc<str>, Arc<str>>>),
    /// map[string]any: a missing key is nil.
    Map(Arc<BTreeMap<Arc<str>, Value>>),
    /// A struct: a missing field is an error.
    Struct(Arc<Struct>),
    /// time.Time
    Time(GoTime),
    /// time.Duration, in nanoseconds.
    Duration(i64),
}

/// A struct value.
#[derive(Debug)]
pub struct Struct {
    /// The Go type, for messages.
    pub type_name: &'static str,
    /// The fields in order.
    pub fields: Vec<(&'static str, Value)>,
}

impl Value {
    /// A string.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::Text(text.as_ref().into())
    }

    /// A slice.
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(items.into())
    }

    /// A label set as map[string]string.
    pub fn labels(labels: &Labels) -> Self {
        Self::Labels(Arc::new(labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect()))
    }

    /// A struct of the Go type `type_name` with these fields.
    pub fn structure(type_name: &'static str, fields: Vec<(&'static str, Self)>) -> Self {
        Self::Struct(Arc::new(Struct { type_name, fields }))
    }

    /// map[string]any.
    pub fn map<K: AsRef<str>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::Map(Arc::new(entries.into_iter().map(|(key, value)| (Arc::from(key.as_ref()), value)).collect()))
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// Go's name of the type, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::List(_) => "slice",
            Self::Labels(_) => "map[string]string",
            Self::Map(_) => "map[string]interface {}",
            Self::Struct(value) => value.type_name,
            Self::Time(_) => "time.Time",
            Self::Duration(_) => "time.Duration",
        }
    }

    /// Go's truth: false, 0, "", nil and empty collections are false; structs are true.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Labels(map) => !map.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Struct(_) | Self::Time(_) => true,
            Self::Duration(nanos) => *nanos != 0,
        }
    }

    /// `len`, where there is one.
    pub fn len(&self) -> Option<usize> {
        match self {
            Self::Text(text) => Some(text.len()),
            Self::List(items) => Some(items.len()),
            Self::Labels(map) => Some(map.len()),
            Self::Map(map) => Some(map.len()),
            _ => None,
        }
    }

    /// Whether it has a length and that is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// As a number: ints and floats only.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    /// As `%v` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("<nil>"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => f.write_str(&format::float(*value, 'g', None)),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if at == 0 { "" } else { " " })?;
                }
                f.write_str("]")
            }
            Self::Labels(map) => {
                f.write_str("map[")?;
                for (at, (key, value)) in map.iter().enumerate() {
                    write!(f, "{}{key}:{value}", if at == 0 { "" } else { " " })?;
                }
                f.write_str("]")
            }
            Self::Map(map) => {
                f.write_str("map[")?;
                for (at, (key, value)) in map.iter().enumerate() {
                    write!(f, "{}{key}:{value}", if at == 0 { "" } else { " " })?;
                }
                f.write_str("]")
            }
            Self::Struct(value) => {
                f.write_str("{")?;
                for (at, (_, field)) in value.fields.iter().enumerate() {
                    write!(f, "{}{field}", if at == 0 { "" } else { " " })?;
                }
                f.write_str("}")
            }
            Self::Time(time) => write!(f, "{time}"),
            Self::Duration(nanos) => f.write_str(&super::time::duration(*nanos)),
        }
    }
}
