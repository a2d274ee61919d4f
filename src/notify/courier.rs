//! Puts a notification into its receiver's words and takes it there. One attempt; trying again is the outbox's business.

use super::http::{self, HttpClients};
use super::notification::Notification;
use super::outbox::Outcome;
use super::receiver::IntegrationKind;
use super::routing::Routing;
use super::terminal::Terminal;
use super::{email, slack, webhook};
use crate::model::Timestamp;
use crate::template::Templates;

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
        let Some(integration) = routing.integration(&notification.receiver, notification.integration) else {
            return Outcome::Final { error: format!("the receiver {} is no longer configured", notification.receiver) };
        };
        let context = Context { external_url: &self.external_url, templates: &routing.templates, now };
        match &integration.kind {
            IntegrationKind::Terminal => {
                self.terminal.print(notification);
                Outcome::Delivered("printed".into())
            }
            IntegrationKind::Webhook(config) => webhook::send(config, notification, &self.http, &context).await,
            IntegrationKind::Slack(config) => slack::send(config, notification, &self.http, &context).await,
            IntegrationKind::Email(config) => email::send(config, notification, &context).await,
        }
    }

    /// Forgets connections and certificates, so that a reload reads them again.
    pub fn refresh(&self) {
        self.http.clear();
    }
}
