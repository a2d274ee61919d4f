//! `sidewatch notifications test RECEIVER`: a firing and then a resolved alert through the real path, and in plain words
//! what the receiver answered.

use super::courier::Courier;
use super::decision::Reason;
use super::matcher::print_labels;
use super::notification::Notification;
use super::outbox::Outcome;
use super::routing::Routing;
use crate::config::diagnostic::nearest;
use crate::model::{Alert, AlertStatus, Labels, Timestamp};
use serde::Serialize;
use std::sync::Arc;

/// What one integration answered to one message.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrialResult {
    /// As the configuration names its kind: `webhook`, `slack`, `email`, `pagerduty`, `alertmanager`, `exec` or `terminal`.
    pub integration: &'static str,
    /// Which message.
    pub status: AlertStatus,
    /// Whether it arrived.
    pub delivered: bool,
    /// What the receiver answered and, on failure, what to do.
    pub text: String,
}

/// Sends a firing and then a resolved test alert to every integration of a receiver. The resolved one is left out where
/// the receiver does not want endings, or did not take the firing one.
///
/// # Errors
/// There is no receiver of this name; the text names the nearest or all.
pub async fn test_message(
    routing: &Routing,
    receiver: &str,
    courier: &Courier,
    now: Timestamp,
) -> Result<Vec<TrialResult>, String> {
    let Some(known) = routing.receiver(receiver) else {
        let names: Vec<&str> = routing.receivers().iter().map(|receiver| &*receiver.name).collect();
        return Err(match nearest(receiver, names.iter().copied()) {
            Some(near) => format!("there is no receiver {receiver:?}; did you mean {near:?}?"),
            None => format!("there is no receiver {receiver:?}; there are {}", names.join(", ")),
        });
    };
    if known.integrations.is_empty() {
        return Err(format!("the receiver {receiver:?} has no integration that this build serves"));
    }
    let mut results = Vec::new();
    for (index, integration) in known.integrations.iter().enumerate() {
        for status in [AlertStatus::Firing, AlertStatus::Resolved] {
            if status == AlertStatus::Resolved && !integration.send_resolved {
                continue;
            }
            let message = message(&known.name, index, status, now);
            let outcome = courier.deliver(routing, &message, now).await;
            let delivered = matches!(outcome, Outcome::Delivered(_));
            results.push(TrialResult { integration: integration.kind.name(), status, delivered, text: say(outcome) });
            if !delivered {
                break;
            }
        }
    }
    Ok(results)
}

fn say(outcome: Outcome) -> String {
    match outcome {
        Outcome::Delivered(text) => text,
        Outcome::Final { error } => format!("{error}; sidewatch would give this message up and list it"),
        Outcome::Retry { error, retry_after_ms: Some(wait_ms) } => {
            format!(
                "{error}; sidewatch would try again after the {} it asks for",
                crate::model::format_duration_ms(wait_ms)
            )
        }
        Outcome::Retry { error, retry_after_ms: None } => format!("{error}; sidewatch would keep trying for a day"),
    }
}

fn message(receiver: &Arc<str>, integration: usize, status: AlertStatus, now: Timestamp) -> Notification {
    let since = now.plus_millis(-60_000);
    let ended = status == AlertStatus::Resolved;
    let alert = Alert {
        labels: Labels::from_pairs([("alertname", "SidewatchTest"), ("severity", "info")]),
        annotations: Labels::from_pairs([("summary", "This is a test by hand; nothing is wrong")]),
        active_at: since,
        fired_at: since,
        resolved_at: ended.then_some(now),
        value_at_firing: 1.0,
        value: 1.0,
        value_at_resolve: ended.then_some(0.0),
        generator_url: String::new(),
        context: Default::default(),
    };
    let labels = Labels::from_pairs([("alertname", "SidewatchTest")]);
    let mut notification = Notification {
        receiver: receiver.clone(),
        integration,
        group_key: format!("{{}}:{}", print_labels(&labels)).into(),
        group_labels: labels,
        common_labels: Labels::default(),
        common_annotations: Labels::default(),
        news: vec![alert.fingerprint()],
        alerts: vec![Arc::new(alert)],
        status,
        reason: Reason::Test,
        truncated: 0,
        // The ending is the second mail of the thread that the firing one begins.
        at: if ended { now.plus_millis(1) } else { now },
        since: now,
    };
    notification.settle();
    notification
}
