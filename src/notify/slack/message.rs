//! Slack's message: texts from templates, or defaults that need none.

use super::{SlackAction, SlackConfig, SlackField};
use crate::model::AlertStatus;
use crate::notify::courier::Context;
use crate::notify::notification::Notification;
use crate::notify::render::Renderer;
use crate::notify::texts;
use crate::notify::webhook::label_line;
use crate::template::Template;
use serde_json::{Map, Value, json};

/// Alerts that the default text spells out; the others are counted.
const ALERTS_SHOWN: usize = 10;
/// The longest text that is sent, in characters; Slack cuts at 40,000 without a word.
const TEXT_CHARACTERS: usize = 30_000;
/// The longest title, in characters; Alertmanager cuts there too (notify/slack, maxTitleLenRunes).
const TITLE_CHARACTERS: usize = 1_024;

/// The three characters that Slack's markup reserves.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The message as Slack takes it.
pub(in crate::notify) fn message(config: &SlackConfig, notification: &Notification, context: &Context<'_>) -> Value {
    let renderer = Renderer::new(notification, context.external_url, context.templates);
    let or = |template: &Option<Template>, part: &str, default: &dyn Fn() -> String| {
        renderer.text_or(template.as_ref(), &format!("slack.default.{part}"), default)
    };
    let nothing = || String::new();
    let subject = texts::subject(notification);
    let title = texts::cut(or(&config.title, "title", &|| escape(&subject)), TITLE_CHARACTERS);
    let mut attachment = Map::new();
    let mut put = |name: &str, value: String| {
        if !value.is_empty() {
            attachment.insert(name.into(), value.into());
        }
    };
    put("title", title.clone());
    put("title_link", or(&config.title_link, "titlelink", &|| default_link(notification, context)));
    put("pretext", or(&config.pretext, "pretext", &nothing));
    put("text", texts::cut(or(&config.text, "text", &|| default_text(notification)), TEXT_CHARACTERS));
    put("fallback", or(&config.fallback, "fallback", &|| title.clone()));
    put("callback_id", or(&config.callback_id, "callbackid", &nothing));
    put("footer", or(&config.footer, "footer", &nothing));
    put("image_url", config.image_url.as_ref().map(|it| renderer.text(it)).unwrap_or_default());
    put("thumb_url", config.thumb_url.as_ref().map(|it| renderer.text(it)).unwrap_or_default());
    let colour = if notification.status == AlertStatus::Firing { "danger" } else { "good" };
    put("color", or(&config.color, "color", &|| colour.into()));
    let own_text = config.text.is_some() || renderer.redefined("slack.default.text").is_some();
    let fields = if config.fields.is_empty() && !own_text {
        default_fields(notification)
    } else {
        let field = |field: &SlackField| json!({"title": renderer.text(&field.title), "value": renderer.text(&field.value), "short": field.short});
        config.fields.iter().map(field).collect()
    };
    if !fields.is_empty() {
        attachment.insert("fields".into(), Value::Array(fields));
    }
    let actions: Vec<Value> = if config.actions.is_empty() && !own_text {
        default_actions(notification)
    } else {
        config.actions.iter().map(|it| action(it, &renderer)).collect()
    };
    if !actions.is_empty() {
        attachment.insert("actions".into(), Value::Array(actions));
    }
    attachment.insert("mrkdwn_in".into(), config.mrkdwn_in.clone().into());
    attachment.insert("ts".into(), notification.at.millis().div_euclid(1_000).into());
    let mut message = Map::new();
    let mut put = |name: &str, value: String| {
        if !value.is_empty() {
            message.insert(name.into(), value.into());
        }
    };
    put("channel", config.channel.as_ref().map(|it| renderer.text(it)).unwrap_or_default());
    put("username", or(&config.username, "username", &nothing));
    put("icon_emoji", or(&config.icon_emoji, "iconemoji", &nothing));
    put("icon_url", or(&config.icon_url, "iconurl", &nothing));
    put("text", config.message_text.as_ref().map(|it| renderer.text(it)).unwrap_or_default());
    if config.link_names {
        message.insert("link_names".into(), true.into());
    }
    message.insert("attachments".into(), json!([attachment]));
    Value::Object(message)
}

/// A button (docs.slack.dev, legacy message buttons): one that opens an address has no name and no value.
fn action(action: &SlackAction, renderer: &Renderer<'_>) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, template: Option<&Template>| {
        if let Some(value) = template.map(|template| renderer.text(template)).filter(|value| !value.is_empty()) {
            out.insert(name.into(), value.into());
        }
    };
    put("type", Some(&action.kind));
    put("text", Some(&action.text));
    put("url", action.url.as_ref());
    put("style", action.style.as_ref());
    put("name", action.name.as_ref());
    put("value", action.value.as_ref());
    if let Some(parts) = &action.confirm {
        let mut confirm = Map::new();
        for (name, template) in ["text", "title", "ok_text", "dismiss_text"].into_iter().zip(parts) {
            if let Some(value) = template.as_ref().map(|template| renderer.text(template)) {
                confirm.insert(name.into(), value.into());
            }
        }
        out.insert("confirm".into(), confirm.into());
    }
    Value::Object(out)
}

/// A button for each runbook.
fn default_actions(notification: &Notification) -> Vec<Value> {
    let button = |url| json!({"type": "button", "text": "Runbook", "url": url});
    texts::runbooks(notification).map(button).collect()
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
    let mut lines: Vec<String> = texts::standing_out(notification).into_iter().map(|line| escape(&line)).collect();
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
