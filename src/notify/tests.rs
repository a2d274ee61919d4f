//! Tests of the room. State machines are driven through timelines in virtual time.

mod alertmanager_format;
mod flapping;
mod http_options;
mod mail;
mod more_receivers;
mod outbox;
mod posted;
mod receivers;
mod silences;
mod timeline;

use super::*;
use crate::config::Diagnostics;
use crate::config::schema::NotifyConfig;
use crate::model::{Alert, Labels, Timestamp};
use std::sync::Arc;

/// A firing alert from `Name key=value ...`.
fn alert(text: &str, at: Timestamp) -> Alert {
    let mut parts = text.split_whitespace();
    let name = parts.next().unwrap();
    let labels = parts.map(|part| part.split_once('=').unwrap()).chain([("alertname", name)]);
    Alert {
        labels: Labels::from_pairs(labels),
        annotations: Labels::from_pairs([("summary", format!("{name} is wrong"))]),
        active_at: at,
        fired_at: at,
        resolved_at: None,
        value_at_firing: 1.0,
        value: 1.0,
        value_at_resolve: None,
        generator_url: "http://sidewatch/graph?g0.expr=x+%3E+0&g0.tab=1".into(),
        context: Default::default(),
    }
}

/// Routing from Alertmanager's format; panics with the findings when it is not usable.
fn alertmanager(text: &str) -> Arc<Routing> {
    let mut found = Diagnostics::new();
    let routing = Routing::compile(&NotifyConfig::default(), Some(("am.yaml", text)), &[], &mut found);
    assert!(!found.has_errors(), "{found}");
    Arc::new(routing.unwrap())
}

/// A notification to the first integration of `receiver` about these alerts.
fn notification(receiver: &str, alerts: Vec<Alert>, at: Timestamp) -> Notification {
    let labels = Labels::from_pairs([("alertname", alerts[0].name())]);
    let mut notification = Notification {
        receiver: receiver.into(),
        integration: 0,
        group_key: format!("{{}}:{}", matcher::print_labels(&labels)).into(),
        group_labels: labels,
        common_labels: Labels::default(),
        common_annotations: Labels::default(),
        news: alerts.iter().map(Alert::fingerprint).collect(),
        alerts: alerts.into_iter().map(Arc::new).collect(),
        status: crate::model::AlertStatus::Firing,
        reason: Reason::First,
        truncated: 0,
        at,
        since: at,
    };
    notification.settle();
    notification
}
