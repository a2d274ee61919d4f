//! Receivers: who is told, and by which means. A closed set; each means has a file of its own.

use super::email::EmailConfig;
use super::exec::ExecConfig;
use super::handover::HandoverConfig;
use super::http::HttpOptions;
use super::pagerduty::{PAGERDUTY_URL, PagerDutyConfig, PagerDutyKey};
use super::slack::{SLACK_APP_URL, SlackConfig, Strategy};
use super::webhook::WebhookConfig;
use crate::config::schema::{Named, ReceiverConfig, ReceiverKind, SecretSource};
use crate::config::{Diagnostics, Spanned};
use crate::template::Template;
use std::sync::Arc;

/// A named receiver with one or more integrations; each is told by itself.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// The name that routes use.
    pub name: Arc<str>,
    /// Its integrations, in order.
    pub integrations: Vec<Integration>,
}

/// One way to tell a receiver.
#[derive(Clone, Debug)]
pub struct Integration {
    /// Where messages go.
    pub kind: IntegrationKind,
    /// Whether endings are told.
    pub send_resolved: bool,
}

/// The ways to tell somebody that this build has.
#[derive(Clone, Debug)]
pub enum IntegrationKind {
    /// One line a change on standard output.
    Terminal,
    /// Alertmanager's payload version 4 by HTTP POST.
    Webhook(Box<WebhookConfig>),
    /// Slack's incoming webhooks, or chat.postMessage-compatible servers.
    Slack(Box<SlackConfig>),
    /// Mail by SMTP.
    Email(Box<EmailConfig>),
    /// PagerDuty's Events API.
    PagerDuty(Box<PagerDutyConfig>),
    /// Another Alertmanager, which is told again and again.
    Alertmanager(Box<HandoverConfig>),
    /// An allow-listed command.
    Exec(ExecConfig),
}

impl IntegrationKind {
    /// Its name in the configuration and in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Webhook(_) => "webhook",
            Self::Slack(_) => "slack",
            Self::Email(_) => "email",
            Self::PagerDuty(_) => "pagerduty",
            Self::Alertmanager(_) => "alertmanager",
            Self::Exec(_) => "exec",
        }
    }
}

impl Receiver {
    /// One that prints.
    pub fn terminal(name: &str) -> Self {
        Self {
            name: name.into(),
            integrations: vec![Integration { kind: IntegrationKind::Terminal, send_resolved: true }],
        }
    }
}

/// Compiles one receiver of the short form.
pub(super) fn from_short_form(
    named: &Named<ReceiverConfig>,
    exec_allowed: &[Spanned<String>],
    found: &mut Diagnostics,
) -> Option<Receiver> {
    let config = &named.value;
    let kind = match &config.kind {
        ReceiverKind::Terminal => IntegrationKind::Terminal,
        ReceiverKind::Slack { url, channel } => {
            check_url(url, found)?;
            IntegrationKind::Slack(Box::new(SlackConfig::new(url.clone(), channel.clone())))
        }
        ReceiverKind::Webhook { url, headers } => {
            check_url(url, found)?;
            let http = HttpOptions { headers: headers.clone(), ..HttpOptions::default() };
            http.check_headers(&config.span, found)?;
            IntegrationKind::Webhook(Box::new(WebhookConfig {
                url: url.clone(),
                payload: None,
                max_alerts: 0,
                timeout_ms: 0,
                http,
            }))
        }
        ReceiverKind::SlackBot { token, url, channel, update_message } => {
            let address = url.as_ref().map_or(SLACK_APP_URL, |url| url.value.as_str());
            let mut bot = SlackConfig::bot(token.clone(), address, Some(channel.clone()));
            bot.strategy = if *update_message { Strategy::Update } else { Strategy::New };
            IntegrationKind::Slack(Box::new(bot))
        }
        ReceiverKind::PagerDuty { key, url, severity } => {
            let mut pagerduty = PagerDutyConfig::new(PagerDutyKey::Routing(key.clone()));
            pagerduty.url = url.as_ref().map_or(PAGERDUTY_URL, |url| url.value.as_str()).to_owned();
            pagerduty.severity = severity.as_deref().map(Template::literal);
            IntegrationKind::PagerDuty(Box::new(pagerduty))
        }
        ReceiverKind::Alertmanager { urls } => {
            for url in urls {
                check_url(url, found)?;
            }
            let (urls, http) = (urls.clone(), HttpOptions::default());
            IntegrationKind::Alertmanager(Box::new(HandoverConfig { urls, timeout_ms: 0, http }))
        }
        ReceiverKind::Exec { command, timeout_ms } => {
            IntegrationKind::Exec(ExecConfig::checked(command, *timeout_ms, exec_allowed, found)?)
        }
        ReceiverKind::Email { .. } => {
            IntegrationKind::Email(Box::new(EmailConfig::from_short_form(&config.kind, &config.span, found)?))
        }
    };
    let integrations = vec![Integration { kind, send_resolved: config.send_resolved }];
    Some(Receiver { name: named.name.value.as_str().into(), integrations })
}

/// An address that stands in the configuration must be one; a file is read when it is needed.
pub(super) fn check_url(source: &SecretSource, found: &mut Diagnostics) -> Option<()> {
    let SecretSource::Inline(text) = source else { return Some(()) };
    match parse_url(text.value.expose()) {
        Ok(_) => Some(()),
        Err(reason) => {
            found.error_hint(&text.span, reason, "an address is like https://example.com/hook");
            None
        }
    }
}

/// Parses an address for HTTP. The reason never repeats the address, which may hold a token.
pub(super) fn parse_url(text: &str) -> Result<reqwest::Url, String> {
    let url = reqwest::Url::parse(text.trim()).map_err(|error| format!("not a usable address: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("not a usable address: the scheme is {:?}, expected http or https", url.scheme()));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("not a usable address: it names no host".into());
    }
    Ok(url)
}
