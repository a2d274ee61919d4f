//! The terminal: one line a change, beginning FIRING or RESOLVED.

use super::notification::Notification;
use super::texts;
use crate::model::{Alert, AlertStatus};
use std::fmt;
use std::sync::Arc;

/// Where lines go, and whether they may be coloured.
#[derive(Clone)]
pub struct Terminal {
    write: Arc<dyn Fn(&str) + Send + Sync>,
    colour: bool,
}

impl Terminal {
    /// Writes through a closure that takes whole lines, newline included. Colour only where a person looks at it.
    pub fn new(colour: bool, write: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { write: Arc::new(write), colour }
    }

    pub(super) fn print(&self, notification: &Notification) {
        let mut text = String::new();
        for alert in notification.changed() {
            text.push_str(&line(alert, self.colour));
            text.push('\n');
        }
        (self.write)(&text);
    }
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal").field("colour", &self.colour).finish_non_exhaustive()
    }
}

/// One alert on one line. Control characters of its texts are shown as blanks, so that no event can steer a terminal.
pub fn line(alert: &Alert, colour: bool) -> String {
    let (word, paint) = match alert.status() {
        AlertStatus::Firing => ("FIRING  ", "\u{1b}[1;31m"),
        AlertStatus::Resolved => ("RESOLVED", "\u{1b}[1;32m"),
    };
    let mut rest = alert.name().to_owned();
    for label in alert.labels.iter().filter(|label| !matches!(&*label.name, "alertname" | "job" | "instance")) {
        rest.push_str(&format!(" {}={}", label.name, label.value));
    }
    rest.push_str(&format!("  {}", texts::course(alert)));
    if let Some(summary) = texts::summary(alert) {
        rest.push_str(&format!("  {summary}"));
    }
    if alert.status() == AlertStatus::Firing && !alert.context.stands_out.is_empty() {
        rest.push_str(&format!("  ({})", alert.context.stands_out.join(", ")));
    }
    let rest: String = rest.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if colour { format!("{paint}{word}\u{1b}[0m {rest}") } else { format!("{word} {rest}") }
}
