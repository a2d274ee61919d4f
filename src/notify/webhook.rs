//! Webhooks: Alertmanager's payload, version 4 (notify/webhook, template.Data), field by field in its order.

use super::courier::Context;
use super::http::{HttpClients, HttpOptions, Post};
use super::matcher::go_quote;
use super::notification::Notification;
use super::outbox::Outcome;
use super::payload::Payload;
use super::render::Renderer;
use crate::config::schema::SecretSource;
use crate::model::{Alert, AlertStatus, Labels};
use reqwest::StatusCode;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// Go's zero time: the end of what has not ended.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// Alertmanager's `webhook_configs`, and the short form's `webhook`.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookConfig {
    /// The address; it may hold a template.
    pub url: SecretSource,
    /// `payload`: what is sent instead of Alertmanager's own payload.
    pub payload: Option<Payload>,
    /// Alerts in one message at most; 0 for all.
    pub max_alerts: usize,
    /// How long an answer may take, in milliseconds; 0 for the default.
    pub timeout_ms: i64,
    /// How the request is made.
    pub http: HttpOptions,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Version4<'a> {
    receiver: &'a str,
    status: AlertStatus,
    alerts: Vec<PayloadAlert<'a>>,
    #[serde(serialize_with = "as_map")]
    group_labels: &'a Labels,
    #[serde(serialize_with = "as_map")]
    common_labels: &'a Labels,
    #[serde(serialize_with = "as_map")]
    common_annotations: &'a Labels,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    version: &'a str,
    group_key: &'a str,
    truncated_alerts: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PayloadAlert<'a> {
    status: AlertStatus,
    #[serde(serialize_with = "as_map")]
    labels: &'a Labels,
    #[serde(serialize_with = "as_map")]
    annotations: &'a Labels,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'a str,
    fingerprint: String,
}

fn as_map<S: Serializer>(labels: &&Labels, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(labels.len()))?;
    for label in labels.iter() {
        map.serialize_entry(&*label.name, &*label.value)?;
    }
    map.end()
}

fn payload_alert(alert: &Alert) -> PayloadAlert<'_> {
    PayloadAlert {
        status: alert.status(),
        labels: &alert.labels,
        annotations: &alert.annotations,
        starts_at: alert.fired_at.rfc3339(),
        ends_at: alert.resolved_at.map_or_else(|| ZERO_TIME.to_owned(), |at| at.rfc3339()),
        generator_url: &alert.generator_url,
        fingerprint: format!("{:016x}", alert.fingerprint()),
    }
}

/// The body: the bytes that Go's json.Encoder writes, its escapes of `<`, `>`, `&` and its newline included.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn body(notification: &Notification, external_url: &str, max_alerts: usize) -> Result<Vec<u8>, String> {
    let limit = if max_alerts == 0 { usize::MAX } else { max_alerts };
    let left_out = notification.alerts.len().saturating_sub(limit);
    let payload = Version4 {
        receiver: &notification.receiver,
        status: notification.status,
        alerts: notification.alerts.iter().take(limit).map(|alert| payload_alert(alert)).collect(),
        group_labels: &notification.group_labels,
        common_labels: &notification.common_labels,
        common_annotations: &notification.common_annotations,
        external_url,
        version: "4",
        group_key: &notification.group_key,
        truncated_alerts: notification.truncated + left_out,
    };
    Ok(go_json(&serde_json::to_string(&payload).map_err(|error| error.to_string())?))
}

/// JSON as Go's json.Encoder writes it: some characters escaped, a newline at the end.
pub(super) fn go_json(json: &str) -> Vec<u8> {
    // Outside of texts none of these characters occurs in JSON.
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match c {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            c => escaped.push(c),
        }
    }
    escaped.push('\n');
    escaped.into_bytes()
}

/// Sends one message.
pub(super) async fn send(
    config: &WebhookConfig,
    notification: &Notification,
    clients: &HttpClients,
    context: &Context<'_>,
) -> Outcome {
    let address = config.url.read().await;
    let (url, body) = {
        let renderer = Renderer::new(notification, context.external_url, context.templates);
        let url = match address.and_then(|text| renderer.address(text.expose())) {
            Ok(url) => url,
            Err(error) => return Outcome::Retry { error, retry_after_ms: None },
        };
        let body = match &config.payload {
            Some(payload) => Ok(go_json(&payload.render(&renderer).to_string())),
            None => body(notification, context.external_url, config.max_alerts),
        };
        match body {
            Ok(body) => (url, body),
            Err(error) => return Outcome::Final { error },
        }
    };
    let (key, timeout_ms, options) = (notification.key(), config.timeout_ms, &config.http);
    clients.post(Post { url: &url, body, key, options, timeout_ms, hint }, context.now).await
}

fn hint(status: StatusCode, _answer: &str) -> Option<&'static str> {
    match status.as_u16() {
        401 | 403 => Some("it wants other credentials: see headers or http_config.authorization"),
        404 | 410 => Some("there is nothing at this path: check the url"),
        405 => Some("it does not take POST at this path: check the url"),
        413 => Some("the message is too large for it: set max_alerts"),
        400 | 415 | 422 => Some("it does not understand Alertmanager's webhook payload, version 4"),
        _ => None,
    }
}

/// A label set on one line for texts: `a="b", c="d"`, without the names in `without`.
pub(super) fn label_line(labels: &Labels, without: &[&str]) -> String {
    let kept = labels.iter().filter(|label| !without.contains(&&*label.name));
    let parts: Vec<String> = kept.map(|label| format!("{}={}", label.name, go_quote(&label.value))).collect();
    parts.join(", ")
}
