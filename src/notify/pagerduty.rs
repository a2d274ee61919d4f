//! PagerDuty: Events API version 2 (routing keys), and version 1 (service keys). One incident a group: what triggers it and
//! what resolves it bear the same key.

use super::courier::Context;
use super::http::{Answer, HttpClients, HttpOptions, Post};
use super::notification::Notification;
use super::outbox::Outcome;
use super::payload::Payload;
use super::receiver::parse_url;
use super::render::Renderer;
use super::texts;
use super::webhook::go_json;
use crate::config::schema::SecretSource;
use crate::model::AlertStatus;
use crate::secret::Secret;
use crate::template::Template;
use reqwest::StatusCode;
use serde_json::{Map, Value, json};

/// Where events go when nothing else is configured.
pub const PAGERDUTY_URL: &str = "https://events.pagerduty.com/v2/enqueue";
/// Where events of version 1 go.
const V1_URL: &str = "https://events.pagerduty.com/generic/2010-04-15/create_event.json";
/// The largest event, in bytes (notify/pagerduty, maxEventSize).
const EVENT_BYTES: usize = 512_000;
/// The longest summary, in characters (maxV2SummaryLenRunes, maxV1DescriptionLenRunes).
const SUMMARY_CHARACTERS: usize = 1_024;

/// Which key, and with it which version of the API.
#[derive(Clone, Debug, PartialEq)]
pub enum PagerDutyKey {
    /// `routing_key`: version 2.
    Routing(SecretSource),
    /// `service_key`: version 1.
    Service(SecretSource),
}

/// A link: `{href, text}`.
#[derive(Clone, Debug, PartialEq)]
pub struct PagerDutyLink {
    /// Where it leads; a link that renders to nothing is left out.
    pub href: Option<Template>,
    /// Its text.
    pub text: Option<Template>,
}

/// A picture: `{src, alt, href}`.
#[derive(Clone, Debug, PartialEq)]
pub struct PagerDutyImage {
    /// Its address; a picture whose address renders to nothing is left out.
    pub src: Option<Template>,
    /// What stands for it.
    pub alt: Option<Template>,
    /// Where it leads.
    pub href: Option<Template>,
}

/// Alertmanager's `pagerduty_configs`, and the short form's `pagerduty`. Texts that are `None` have defaults that need no
/// template.
#[derive(Clone, Debug, PartialEq)]
pub struct PagerDutyConfig {
    /// `routing_key` or `service_key`.
    pub key: PagerDutyKey,
    /// `url`: where events go.
    pub url: String,
    /// `client`: who sends.
    pub client: Option<Template>,
    /// `client_url`.
    pub client_url: Option<Template>,
    /// `description`: the incident's title.
    pub description: Option<Template>,
    /// `details`: beside `firing`, `resolved`, `num_firing` and `num_resolved`.
    pub details: Vec<(String, Payload)>,
    /// `images`.
    pub images: Vec<PagerDutyImage>,
    /// `links`.
    pub links: Vec<PagerDutyLink>,
    /// `source`: what is affected; `client` otherwise.
    pub source: Option<Template>,
    /// `severity`: critical, error, warning or info; `error` otherwise.
    pub severity: Option<Template>,
    /// `class`.
    pub class: Option<Template>,
    /// `component`.
    pub component: Option<Template>,
    /// `group`.
    pub group: Option<Template>,
    /// How long an answer may take, in milliseconds; 0 for the default.
    pub timeout_ms: i64,
    /// How the request is made.
    pub http: HttpOptions,
}

impl PagerDutyConfig {
    /// With the default texts.
    pub fn new(key: PagerDutyKey) -> Self {
        Self {
            key,
            url: PAGERDUTY_URL.into(),
            client: None,
            client_url: None,
            description: None,
            details: Vec::new(),
            images: Vec::new(),
            links: Vec::new(),
            source: None,
            severity: None,
            class: None,
            component: None,
            group: None,
            timeout_ms: 0,
            http: HttpOptions::default(),
        }
    }
}

/// SHA-256 of a group key in hexadecimal: what Alertmanager names incidents by (notify.Key.Hash).
pub(super) fn dedup_key(group_key: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, group_key.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The event as PagerDuty takes it.
pub(super) fn event(
    config: &PagerDutyConfig,
    key: &Secret,
    notification: &Notification,
    context: &Context<'_>,
) -> Value {
    let renderer = Renderer::new(notification, context.external_url, context.templates);
    let text = |template: &Option<Template>| template.as_ref().map(|it| renderer.text(it)).unwrap_or_default();
    let or = |template: &Option<Template>, name: &str, default: &dyn Fn() -> String| {
        renderer.text_or(template.as_ref(), name, default)
    };
    let trigger = notification.status == AlertStatus::Firing;
    let action = if trigger { "trigger" } else { "resolve" };
    let summary = or(&config.description, "pagerduty.default.description", &|| headline(notification));
    let summary = texts::cut(summary, SUMMARY_CHARACTERS);
    let client = || or(&config.client, "pagerduty.default.client", &|| "sidewatch".into());
    let client_url = || or(&config.client_url, "pagerduty.default.clientURL", &|| context.external_url.to_owned());
    let details = details(config, &renderer, notification);
    let dedup = dedup_key(&notification.group_key);
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        if value != "" {
            out.insert(name.into(), value);
        }
    };
    // Field by field in the order in which Alertmanager writes them.
    if let PagerDutyKey::Service(_) = config.key {
        put("service_key", key.expose().into());
        put("incident_key", dedup.into());
        put("event_type", action.into());
        put("description", summary.into());
        if trigger {
            put("client", client().into());
            put("client_url", client_url().into());
        }
        put("details", details);
        return Value::Object(out);
    }
    let source = if config.source.is_some() { text(&config.source) } else { client() };
    let severity = if config.severity.is_some() { text(&config.severity) } else { "error".into() };
    let mut payload = Map::new();
    payload.insert("summary".into(), summary.into());
    payload.insert("source".into(), source.into());
    payload.insert("severity".into(), severity.into());
    for (name, template) in [("class", &config.class), ("component", &config.component), ("group", &config.group)] {
        let value = text(template);
        if !value.is_empty() {
            payload.insert(name.into(), value.into());
        }
    }
    payload.insert("custom_details".into(), details);
    put("routing_key", key.expose().into());
    put("dedup_key", dedup.into());
    put("event_action", action.into());
    put("payload", Value::Object(payload));
    put("client", client().into());
    put("client_url", client_url().into());
    let image = |image: &PagerDutyImage| {
        let src = text(&image.src);
        (!src.is_empty()).then(|| json!({"src": src, "alt": text(&image.alt), "href": text(&image.href)}))
    };
    let images: Vec<Value> = config.images.iter().filter_map(image).collect();
    if !images.is_empty() {
        put("images", images.into());
    }
    let link = |link: &PagerDutyLink| {
        let href = text(&link.href);
        (!href.is_empty()).then(|| json!({"href": href, "text": text(&link.text)}))
    };
    let mut links: Vec<Value> = config.links.iter().filter_map(link).collect();
    if config.links.is_empty() {
        links.extend(texts::runbooks(notification).map(|href| json!({"href": href, "text": "Runbook"})));
    }
    if !links.is_empty() {
        put("links", links.into());
    }
    Value::Object(out)
}

/// The incident's title: what it is, and what its only alert says of itself.
fn headline(notification: &Notification) -> String {
    let mut text = texts::subject(notification);
    if let [alert] = notification.alerts.as_slice()
        && let Some(summary) = texts::summary(alert)
    {
        text.push_str(": ");
        text.push_str(summary);
    }
    text
}

/// `details`, sorted by name as Go writes maps, with Alertmanager's four where they are not given.
fn details(config: &PagerDutyConfig, renderer: &Renderer<'_>, notification: &Notification) -> Value {
    let mut details: std::collections::BTreeMap<&str, Value> =
        config.details.iter().map(|(name, value)| (name.as_str(), value.render(renderer))).collect();
    let firing: Vec<_> = notification.firing().map(AsRef::as_ref).collect();
    let resolved: Vec<_> = notification.resolved().map(AsRef::as_ref).collect();
    details.entry("num_firing").or_insert_with(|| firing.len().into());
    details.entry("num_resolved").or_insert_with(|| resolved.len().into());
    details.entry("firing").or_insert_with(|| texts::list(&firing).into());
    details.entry("resolved").or_insert_with(|| texts::list(&resolved).into());
    Value::Object(details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// The bytes; details that make them too many give way to a note that says so.
pub(super) fn encode(mut event: Value) -> Vec<u8> {
    let bytes = go_json(&event.to_string());
    if bytes.len() <= EVENT_BYTES {
        return bytes;
    }
    let note = json!({"error": "Custom details have been removed because the original event exceeds the maximum size of 512KB"});
    if let Some(details) = event.get_mut("details") {
        *details = note;
    } else if let Some(details) = event.get_mut("payload").and_then(|payload| payload.get_mut("custom_details")) {
        *details = note;
    }
    go_json(&event.to_string())
}

/// Sends one event.
pub(super) async fn send(
    config: &PagerDutyConfig,
    notification: &Notification,
    clients: &HttpClients,
    context: &Context<'_>,
) -> Outcome {
    let retry = |error: String| Outcome::Retry { error, retry_after_ms: None };
    let (source, v1) = match &config.key {
        PagerDutyKey::Routing(source) => (source, false),
        PagerDutyKey::Service(source) => (source, true),
    };
    let key = match source.read().await {
        Ok(key) => key,
        Err(error) => return retry(error),
    };
    // Keys may be templates too: one receiver can serve many teams.
    let key = match Template::parse_as(key.expose(), crate::template::Dialect::Alertmanager) {
        Ok(template) => {
            Secret::new(Renderer::new(notification, context.external_url, context.templates).text(&template))
        }
        Err(_) => key,
    };
    if key.is_empty() {
        return Outcome::Final { error: "the routing key is empty: look at its template".into() };
    }
    let address = if v1 && config.url == PAGERDUTY_URL { V1_URL } else { config.url.as_str() };
    let url = match parse_url(address) {
        Ok(url) => url,
        Err(error) => return Outcome::Final { error },
    };
    let body = encode(event(config, &key, notification, context));
    let (timeout_ms, options) = (config.timeout_ms, &config.http);
    let post = Post { url: &url, body, key: notification.key(), options, timeout_ms, hint };
    let answer = match clients.send(post, context.now).await {
        Ok(answer) => answer,
        Err(outcome) => return outcome,
    };
    // The first version says 403 for too many events.
    if v1 && answer.status == StatusCode::FORBIDDEN {
        return answer.failure(true, said(&answer), hint, context.now);
    }
    match answer.outcome(context.now, hint) {
        Outcome::Final { .. } => answer.failure(false, said(&answer), hint, context.now),
        outcome => outcome,
    }
}

/// What a refusal says is wrong with the event: `{status, message, errors}`.
fn said(answer: &Answer) -> String {
    let refusal: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let Some(message) = refusal["message"].as_str() else { return answer.say() };
    let errors: Vec<&str> = refusal["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!("answered {}: {message}: {}", answer.status.as_u16(), errors.join(", "))
}

fn hint(status: StatusCode, answer: &str) -> Option<&'static str> {
    match status.as_u16() {
        400 if answer.contains("routing_key") || answer.contains("Invalid routing key") => {
            Some("the routing key is that of an Events API v2 integration of a service")
        }
        400 => Some("PagerDuty did not understand the event: severity is critical, error, warning or info"),
        403 => Some("too many events, or the service is switched off"),
        404 | 410 => Some("there is nothing at this address: check the url"),
        429 => Some("PagerDuty takes a limited number of events a minute for each key"),
        _ => None,
    }
}
