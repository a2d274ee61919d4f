//! Puts a notification into its receiver's words and takes it there. One attempt; trying again is the outbox's business.

use super::http::{self, HttpClients};
use super::memory::Remembered;
use super::notification::Notification;
use super::outbox::{LaneId, Outcome};
use super::receiver::IntegrationKind;
use super::routing::Routing;
use super::terminal::Terminal;
use super::{email, exec, handover, pagerduty, slack, webhook};
use crate::model::Timestamp;
use crate::template::Templates;
use std::sync::Arc;

/// What every message may mention.
pub(super) struct Context<'a> {
    pub(super) external_url: &'a str,
    pub(super) templates: &'a Templates,
    pub(super) now: Timestamp,
}

/// The means of delivery: connections, the terminal, and the address under which sidewatch is reached.
#[derive(Debug)]
pub struct Courier {
    http: HttpClients,
    terminal: Terminal,
    external_url: String,
}

impl Courier {
    /// Means that print through `terminal` and point to `external_url` (may be empty).
    pub fn new(terminal: Terminal, external_url: impl Into<String>) -> Self {
        http::install_provider();
        Self { http: HttpClients::default(), terminal, external_url: external_url.into() }
    }

    /// Makes one attempt.
    pub async fn deliver(&self, routing: &Routing, notification: &Notification, now: Timestamp) -> Outcome {
        self.deliver_after(routing, notification, None, now).await.0
    }

    /// Makes one attempt, knowing what is remembered of the group's `earlier` message. Gives, beside the outcome, what is
    /// to be remembered from now on: `None` leaves it, `Some(None)` forgets.
    pub async fn deliver_after(
        &self,
        routing: &Routing,
        notification: &Notification,
        earlier: Option<&Remembered>,
        now: Timestamp,
    ) -> (Outcome, Option<Option<Remembered>>) {
        let Some(integration) = routing.integration(&notification.receiver, notification.integration) else {
            let error = format!("the receiver {} is no longer configured", notification.receiver);
            return (Outcome::Final { error }, None);
        };
        let context = Context { external_url: &self.external_url, templates: &routing.templates, now };
        let outcome = match &integration.kind {
            IntegrationKind::Terminal => {
                self.terminal.print(notification);
                Outcome::Delivered("printed".into())
            }
            IntegrationKind::Webhook(config) => webhook::send(config, notification, &self.http, &context).await,
            IntegrationKind::Slack(config) => {
                return slack::send(config, notification, earlier, &self.http, &context).await;
            }
            IntegrationKind::Email(config) => email::send(config, notification, &context).await,
            IntegrationKind::PagerDuty(config) => pagerduty::send(config, notification, &self.http, &context).await,
            IntegrationKind::Alertmanager(config) => {
                handover::send(config, &[notification], &self.http, &context).await
            }
            IntegrationKind::Exec(config) => exec::send(config, notification, &context).await,
        };
        (outcome, None)
    }

    /// Tells an Alertmanager again of everything that it was handed; `None` where the lane belongs to another receiver.
    pub(super) async fn hand_over_again(
        &self,
        routing: &Routing,
        lane: &LaneId,
        handed: &[Arc<Notification>],
        now: Timestamp,
    ) -> Option<Outcome> {
        let IntegrationKind::Alertmanager(config) = &routing.integration(&lane.0, lane.1)?.kind else { return None };
        let context = Context { external_url: &self.external_url, templates: &routing.templates, now };
        let all: Vec<&Notification> = handed.iter().map(AsRef::as_ref).collect();
        Some(handover::send(config, &all, &self.http, &context).await)
    }

    /// Forgets connections and certificates, so that a reload reads them again.
    pub fn refresh(&self) {
        self.http.clear();
    }
}
