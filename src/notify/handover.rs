//! Handing alerts over to a real Alertmanager (`POST /api/v2/alerts`), as Prometheus does: an alert that fires is sent again
//! and again with an end that lies ahead, so that it ends there too should sidewatch be gone; one that ended is sent with
//! its end, and again for a while.

use super::courier::Context;
use super::http::{HttpClients, HttpOptions, Post};
use super::notification::Notification;
use super::outbox::Outcome;
use super::receiver::parse_url;
use super::webhook::go_json;
use crate::config::schema::SecretSource;
use crate::model::{Alert, Labels, Timestamp};
use reqwest::{StatusCode, Url};
use serde_json::{Map, Value};

/// How often what fires is sent again, in milliseconds (Prometheus: --rules.alert.resend-delay).
pub const RESEND_MS: i64 = 60_000;
/// How far ahead the end of what fires lies, in milliseconds: four resends (Prometheus, rules/alerting.go).
const AHEAD_MS: i64 = 4 * RESEND_MS;
/// How long what ended is sent again, in milliseconds (Prometheus, resolvedRetention).
pub const RESEND_RESOLVED_MS: i64 = 15 * 60_000;
/// Alerts in one request.
const BATCH_ALERTS: usize = 256;

/// `alertmanager_configs`, and the short form's `alertmanager`.
#[derive(Clone, Debug, PartialEq)]
pub struct HandoverConfig {
    /// The Alertmanagers, each with the path that stands before `/api/v2/alerts`; all of them are told.
    pub urls: Vec<SecretSource>,
    /// How long an answer may take, in milliseconds; 0 for the default.
    pub timeout_ms: i64,
    /// How the requests are made.
    pub http: HttpOptions,
}

/// One alert as Alertmanager's API takes it (api/v2/openapi.yaml, postableAlert).
fn postable(alert: &Alert, now: Timestamp) -> Value {
    let map = |labels: &Labels| -> Value {
        labels.iter().map(|label| (label.name.to_string(), Value::from(&*label.value))).collect::<Map<_, _>>().into()
    };
    let end = alert.resolved_at.unwrap_or_else(|| now.plus_millis(AHEAD_MS));
    let mut out = Map::new();
    out.insert("labels".into(), map(&alert.labels));
    out.insert("annotations".into(), map(&alert.annotations));
    out.insert("startsAt".into(), alert.fired_at.rfc3339().into());
    // An end that is its own beginning would be taken for none at all.
    out.insert("endsAt".into(), end.max(alert.fired_at.plus_millis(1)).rfc3339().into());
    if super::texts::is_link(&alert.generator_url) {
        out.insert("generatorURL".into(), alert.generator_url.as_str().into());
    }
    Value::Object(out)
}

/// The bodies of the requests that tell of these messages' alerts.
pub(super) fn bodies(notifications: &[&Notification], now: Timestamp) -> Vec<Vec<u8>> {
    let alerts: Vec<&Alert> =
        notifications.iter().flat_map(|notification| &notification.alerts).map(AsRef::as_ref).collect();
    let body =
        |batch: &[&Alert]| go_json(&Value::Array(batch.iter().map(|alert| postable(alert, now)).collect()).to_string());
    alerts.chunks(BATCH_ALERTS).map(body).collect()
}

/// Tells all Alertmanagers of these messages' alerts. One that took everything is enough: they tell each other, and the
/// next time the others are told again.
pub(super) async fn send(
    config: &HandoverConfig,
    notifications: &[&Notification],
    clients: &HttpClients,
    context: &Context<'_>,
) -> Outcome {
    let Some(key) = notifications.first().map(|notification| notification.key()) else {
        return Outcome::Delivered("nothing to hand over".into());
    };
    let bodies = bodies(notifications, context.now);
    let (mut took, mut worst) = (Vec::new(), None);
    for source in &config.urls {
        match send_to(config, source, &bodies, &key, clients, context).await {
            Outcome::Delivered(said) => took.push(said),
            failure @ Outcome::Retry { .. } => worst = Some(failure),
            failure @ Outcome::Final { .. } => worst = worst.or(Some(failure)),
        }
    }
    match (took.first(), worst) {
        (Some(said), None) => Outcome::Delivered(said.clone()),
        (Some(said), Some(Outcome::Retry { error, .. } | Outcome::Final { error })) => {
            Outcome::Delivered(format!("{said} ({} of {}; another: {error})", took.len(), config.urls.len()))
        }
        (None, Some(failure)) => failure,
        (Some(_) | None, _) => Outcome::Final { error: "there is no address to hand over to".into() },
    }
}

async fn send_to(
    config: &HandoverConfig,
    source: &SecretSource,
    bodies: &[Vec<u8>],
    key: &str,
    clients: &HttpClients,
    context: &Context<'_>,
) -> Outcome {
    let url = match source.read().await.and_then(|text| endpoint(text.expose())) {
        Ok(url) => url,
        Err(error) => return Outcome::Retry { error, retry_after_ms: None },
    };
    let mut last = Outcome::Delivered("nothing to hand over".into());
    for body in bodies {
        let (body, key, timeout_ms, options) = (body.clone(), key.to_owned(), config.timeout_ms, &config.http);
        last = clients.post(Post { url: &url, body, key, options, timeout_ms, hint }, context.now).await;
        if !matches!(last, Outcome::Delivered(_)) {
            break;
        }
    }
    last
}

/// `http://am:9093/prefix` -> `http://am:9093/prefix/api/v2/alerts`.
fn endpoint(text: &str) -> Result<Url, String> {
    let mut url = parse_url(text)?;
    let path = url.path().trim_end_matches('/').to_owned();
    let path = path.strip_suffix("/api/v2/alerts").unwrap_or(&path);
    url.set_path(&format!("{path}/api/v2/alerts"));
    Ok(url)
}

fn hint(status: StatusCode, _answer: &str) -> Option<&'static str> {
    match status.as_u16() {
        400 | 422 => Some("it does not take these alerts: look at the names of their labels"),
        401 | 403 => Some("it wants other credentials: see http_config"),
        404 | 405 | 410 => Some("there is no Alertmanager API version 2 at this address: check the url and its prefix"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_stands_below_the_prefix() {
        for (text, url) in [
            ("http://am:9093", "http://am:9093/api/v2/alerts"),
            ("http://am:9093/", "http://am:9093/api/v2/alerts"),
            ("https://am/alerts/", "https://am/alerts/api/v2/alerts"),
            ("http://am/api/v2/alerts", "http://am/api/v2/alerts"),
        ] {
            assert_eq!(endpoint(text).unwrap().as_str(), url);
        }
    }
}
