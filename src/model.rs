//! The words that every room shares: labels, time, events, field plans, alerts.
//!
//! Nothing here does I/O, reads a clock or knows a format.

mod alert;
mod duration;
mod event;
mod labels;
mod path;
mod quarantine;
mod split;
mod time;
mod veil;

pub use alert::{Alert, AlertContext, AlertStatus};
pub use duration::{format_duration_ms, parse_duration_ms};
pub use event::{Event, EventBatch, Field, Refusal, Shape, Text};
pub use labels::{Label, Labels, METRIC_NAME};
pub use path::{Attribute, FieldPath, FieldPlan, FieldPlanBuilder, PathError, Segment, Slot};
pub use quarantine::{Fault, Quarantined, Validated};
pub use time::Timestamp;
pub use veil::{Cover, HiddenPath, REDACTED, Veil};
