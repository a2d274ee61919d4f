//! An alert, as the core publishes it and the notifier reads it.

use super::{Labels, Timestamp};
use serde::{Deserialize, Serialize};

/// Whether an alert's condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertStatus {
    /// The condition holds and has held for the rule's `for`.
    Firing,
    /// It has ended; kept until notified and for at least 15 minutes.
    Resolved,
}

/// One member of the published alert set. Pending alerts are not published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// All labels, `alertname` among them; they are the alert's identity.
    pub labels: Labels,
    /// The expanded annotations, frozen when the alert resolves.
    pub annotations: Labels,
    /// Since when the condition holds (Prometheus's activeAt).
    pub active_at: Timestamp,
    /// Since when it fires: `startsAt` of the notification.
    pub fired_at: Timestamp,
    /// When it ended; `None` while firing.
    pub resolved_at: Option<Timestamp>,
    /// The value at the moment it fired.
    pub value_at_firing: f64,
    /// The value now; after the end, the last value that was seen while it held.
    pub value: f64,
    /// The value that ended it, where one is known.
    pub value_at_resolve: Option<f64>,
    /// A link to the expression.
    pub generator_url: String,
    /// What else messages may tell.
    pub context: AlertContext,
}

/// What is known of an alert beyond its labels, annotations and values, for messages that no template makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertContext {
    /// Which label values carry most of the value that fired: `region=eu: 92 %`. Computed when it began to fire.
    pub stands_out: Vec<String>,
    /// Fields of the last event that counted: path and text.
    pub event: Vec<(String, String)>,
}

impl Alert {
    /// Firing or resolved.
    pub fn status(&self) -> AlertStatus {
        if self.resolved_at.is_some() { AlertStatus::Resolved } else { AlertStatus::Firing }
    }

    /// The identity of the label set.
    pub fn fingerprint(&self) -> u64 {
        self.labels.fingerprint()
    }

    /// The name of the rule.
    pub fn name(&self) -> &str {
        self.labels.get("alertname").unwrap_or("")
    }
}
