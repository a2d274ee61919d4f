//! Slack: an incoming webhook takes a message with one attachment. Servers that speak the same form (Mattermost,
//! Rocket.Chat, Discord under /slack) take it too.

use super::courier::Context;
use super::http::{HttpClients, HttpOptions, Post};
use super::notification::Notification;
use super::outbox::Outcome;
use super::receiver::{parse_url, read_secret};
use super::render::Renderer;
use super::texts;
use super::webhook::label_line;
use crate::config::schema::SecretSource;
use crate::model::AlertStatus;
use crate::template::Template;
use reqwest::StatusCode;
use serde_json::{Value, json};

/// Alerts that the default text spells out; the others are counted.
const ALERTS_SHOWN: usize = 10;
/// The longest text that is sent, in characters; Slack cuts at 40,000 without a word.
const TEXT_CHARACTERS: usize = 30_000;
/// The longest title, in characters; Alertmanager cuts there too (notify/slack, maxTitleLenRunes).
const TITLE_CHARACTERS: usize = 1_024;

/// Alertmanager's `slack_configs`, and the short form's `slack`. Texts that are `None` have defaults that need no
/// template.
#[derive(Clone, Debug, PartialEq)]
pub struct SlackConfig {
    /// The incoming webhook's address (`api_url`).
    pub url: SecretSource,
    /// Where it goes, if not to the webhook's own channel.
    pub channel: Option<Template>,
    /// The sender's name.
    pub username: Option<Template>,
    /// The attachment's bar.
    pub color: Option<Template>,
    /// Its title.
    pub title: Option<Template>,
    /// Where the title leads.
    pub title_link: Option<Template>,
    /// Before the attachment.
    pub pretext: Option<Template>,
    /// The attachment's text.
    pub text: Option<Template>,
    /// What notifications on a telephone show.
    pub fallback: Option<Template>,
    /// Below the text.
    pub footer: Option<Template>,
    /// Fields: title, value, and whether two stand side by side.
    pub fields: Vec<SlackField>,
    /// `:name:` of the sender's picture.
    pub icon_emoji: Option<Template>,
    /// Address of the sender's picture.
    pub icon_url: Option<Template>,
    /// A picture below the text.
    pub image_url: Option<Template>,
    /// A small picture beside the text.
    pub thumb_url: Option<Template>,
    /// Parts in which Slack's markup counts.
    pub mrkdwn_in: Vec<String>,
    /// Whether names and channels in the text become links.
    pub link_names: bool,
    /// How long an answer may take, in milliseconds; 0 for the default.
    pub timeout_ms: i64,
    /// How the request is made.
    pub http: HttpOptions,
}

/// One of `fields`.
#[derive(Clone, Debug, PartialEq)]
pub struct SlackField {
    /// The heading.
    pub title: Template,
    /// The text.
    pub value: Template,
    /// Whether it may stand beside another one.
    pub short: bool,
}

impl SlackConfig {
    /// With the default texts.
    pub fn new(url: SecretSource, channel: Option<String>) -> Self {
        Self {
            url,
            channel: channel.map(|channel| Template::literal(&channel)),
            username: None,
            color: None,
            title: None,
            title_link: None,
            pretext: None,
            text: None,
            fallback: None,
            footer: None,
            fields: Vec::new(),
            icon_emoji: None,
            icon_url: None,
            image_url: None,
            thumb_url: None,
            mrkdwn_in: ["fallback", "pretext", "text"].map(String::from).to_vec(),
            link_names: false,
            timeout_ms: 0,
            http: HttpOptions::default(),
        }
    }
}

/// The three characters that Slack's markup reserves.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn cut(text: String, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text;
    }
    let mut kept: String = text.chars().take(characters - 1).collect();
    kept.push('…');
    kept
}

/// The message as Slack takes it.
pub(super) fn message(config: &SlackConfig, notification: &Notification, context: &Context<'_>) -> Value {
    let renderer = Renderer::new(notification, context.external_url, context.templates);
    let optional = |template: &Option<Template>| template.as_ref().map(|template| renderer.text(template));
    let subject = texts::subject(notification);
    let title = cut(renderer.text_or(config.title.as_ref(), || escape(&subject)), TITLE_CHARACTERS);
    let mut attachment = serde_json::Map::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            attachment.insert(name.into(), value.into());
        }
    };
    put("title", Some(title.clone()));
    put("title_link", Some(renderer.text_or(config.title_link.as_ref(), || default_link(notification, context))));
    put("pretext", optional(&config.pretext));
    let text = renderer.text_or(config.text.as_ref(), || default_text(notification));
    put("text", Some(cut(text, TEXT_CHARACTERS)));
    put("fallback", Some(renderer.text_or(config.fallback.as_ref(), || title.clone())));
    put("footer", optional(&config.footer));
    put("image_url", optional(&config.image_url));
    put("thumb_url", optional(&config.thumb_url));
    let colour = if notification.status == AlertStatus::Firing { "danger" } else { "good" };
    put("color", Some(renderer.text_or(config.color.as_ref(), || colour.into())));
    let fields = if config.fields.is_empty() && config.text.is_none() {
        default_fields(notification)
    } else {
        let field = |field: &SlackField| json!({"title": renderer.text(&field.title), "value": renderer.text(&field.value), "short": field.short});
        config.fields.iter().map(field).collect()
    };
    if !fields.is_empty() {
        attachment.insert("fields".into(), Value::Array(fields));
    }
    attachment.insert("mrkdwn_in".into(), config.mrkdwn_in.clone().into());
    attachment.insert("ts".into(), notification.at.millis().div_euclid(1_000).into());
    let mut message = serde_json::Map::new();
    let mut put = |name: &str, template: &Option<Template>| {
        if let Some(value) = optional(template).filter(|value| !value.is_empty()) {
            message.insert(name.into(), value.into());
        }
    };
    put("channel", &config.channel);
    put("username", &config.username);
    put("icon_emoji", &config.icon_emoji);
    put("icon_url", &config.icon_url);
    if config.link_names {
        message.insert("link_names".into(), true.into());
    }
    message.insert("attachments".into(), json!([attachment]));
    Value::Object(message)
}

/// The alert's own page when there is but one, else sidewatch's.
fn default_link(notification: &Notification, context: &Context<'_>) -> String {
    let mut links = notification.alerts.iter().map(|alert| alert.generator_url.as_str());
    let first = links.next().unwrap_or("");
    let link = if links.all(|link| link == first) { first } else { context.external_url };
    let link = if texts::is_link(link) { link } else { context.external_url };
    if texts::is_link(link) { link.to_owned() } else { String::new() }
}

/// Each alert: what it is, its course, its labels. A single alert has its facts in fields, so its text is its summary.
fn default_text(notification: &Notification) -> String {
    if let [alert] = notification.alerts.as_slice() {
        let summary = texts::summary(alert).unwrap_or_default();
        let description = alert.annotations.get("description").filter(|text| *text != summary).unwrap_or_default();
        return escape(format!("{summary}\n{description}").trim());
    }
    let mut lines = Vec::new();
    for alert in notification.firing().chain(notification.resolved()).take(ALERTS_SHOWN) {
        let mark = if alert.status() == AlertStatus::Firing { ":red_circle:" } else { ":white_check_mark:" };
        let own = alert.labels.filtered(|name| {
            name == "alertname" && notification.group_labels.get("alertname").is_none()
                || name != "alertname" && notification.common_labels.get(name).is_none()
        });
        let mut line = format!("{mark} {}", escape(&label_line(&own, &[])));
        line.push_str(&format!(" {}", escape(&texts::course(alert))));
        if let Some(summary) = texts::summary(alert) {
            line.push_str(&format!("\n      {}", escape(summary)));
        }
        lines.push(line);
    }
    let more = notification.alerts.len().saturating_sub(ALERTS_SHOWN) + notification.truncated;
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}

fn default_fields(notification: &Notification) -> Vec<Value> {
    let field = |title: &str, value: &str, short: bool| json!({"title": title, "value": escape(value), "short": short});
    let mut fields = Vec::new();
    let labels = match notification.alerts.as_slice() {
        [alert] => {
            fields.extend(texts::facts(alert).iter().map(|(name, value)| field(name, value, true)));
            &alert.labels
        }
        _ => &notification.common_labels,
    };
    let labels = label_line(labels, &["alertname"]);
    if !labels.is_empty() {
        fields.push(field("Labels", &labels, false));
    }
    fields
}

/// Sends one message.
pub(super) async fn send(
    config: &SlackConfig,
    notification: &Notification,
    clients: &HttpClients,
    context: &Context<'_>,
) -> Outcome {
    let url = match read_secret(&config.url).await.and_then(|text| parse_url(text.expose())) {
        Ok(url) => url,
        Err(error) => return Outcome::Retry { error, retry_after_ms: None },
    };
    let body = message(config, notification, context).to_string().into_bytes();
    let timeout_ms = config.timeout_ms;
    let post = Post {
        url: &url,
        content_type: "application/json",
        body,
        key: notification.key(),
        options: &config.http,
        timeout_ms,
        hint,
    };
    clients.post(post, context.now).await
}

/// Slack's own words for what is wrong (its page on incoming webhooks), and what to do.
fn hint(status: StatusCode, answer: &str) -> Option<&'static str> {
    const HINTS: [(&str, &str); 9] = [
        ("invalid_payload", "Slack did not understand the message: look at the templates of title, text and fields"),
        ("no_text", "the message was empty: look at the templates of title and text"),
        ("channel_not_found", "the channel does not exist or the webhook may not write to it: leave channel out"),
        ("channel_is_archived", "the channel is archived: make a webhook for another one"),
        ("no_service", "the webhook was removed or switched off: make a new one and put its address into url"),
        ("invalid_token", "the address is not complete or was revoked: make a new webhook"),
        ("no_team", "the workspace is gone or the address is mistyped"),
        ("user_not_found", "the channel names a user who does not exist"),
        ("action_prohibited", "an administrator forbids this webhook to write there"),
    ];
    let named = HINTS.iter().find(|(word, _)| answer.contains(word)).map(|(_, hint)| *hint);
    named.or(match status.as_u16() {
        404 | 410 => Some("there is no webhook at this address: make a new one and put its address into url"),
        429 => Some("Slack takes about one message a second from a webhook"),
        _ => None,
    })
}
