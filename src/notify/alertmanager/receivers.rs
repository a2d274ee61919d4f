//! `global` and `receivers` of Alertmanager's format.

mod email;
mod pagerduty;
mod slack;

use super::{http_config, not_served};
use crate::config::reader::{self, MapReader};
use crate::config::schema::SecretSource;
use crate::config::yaml::Node;
use crate::config::{Diagnostics, Spanned};
use crate::notify::exec::{ExecConfig, LONGEST_TIMEOUT_MS};
use crate::notify::handover::HandoverConfig;
use crate::notify::http::HttpOptions;
use crate::notify::payload::Payload;
use crate::notify::receiver::{Integration, IntegrationKind, Receiver, check_url, parse_url};
use crate::notify::webhook::WebhookConfig;
use crate::secret::Secret;
use crate::template::{Dialect, Template};

/// `global`: what receivers inherit.
pub(super) struct Global {
    smtp: email::Smtp,
    slack: slack::Access,
    pagerduty_url: Option<String>,
    http: HttpOptions,
    /// `notify: {exec_allowed: ...}` of sidewatch.yaml.
    pub(super) exec_allowed: Vec<Spanned<String>>,
    /// After how long a posted alert that names no end ends.
    pub(super) resolve_timeout_ms: Option<i64>,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            smtp: email::Smtp::default(),
            slack: slack::Access::default(),
            pagerduty_url: None,
            http: http_config::literal(),
            exec_allowed: Vec::new(),
            resolve_timeout_ms: None,
        }
    }
}

impl Global {
    pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Self {
        let mut global = Self::default();
        let Some(mut map) = MapReader::new(node, "global", found) else { return global };
        global.resolve_timeout_ms = map.duration_ms("resolve_timeout").map(|timeout| timeout.value);
        global.smtp = email::Smtp::read(&mut map);
        global.slack = slack::Access::read_global(&mut map);
        global.pagerduty_url = address(&mut map, "pagerduty_url");
        if let Some(node) = map.get("http_config") {
            global.http = http_config::read(node, map.found());
        }
        map.know(&not_served::GLOBALS);
        map.know(&["wechat_api_secret_file"]);
        map.finish();
        global
    }
}

/// Reads one receiver. Kinds that this build lacks are said and left out.
pub(super) fn read(node: &Node, global: &Global, found: &mut Diagnostics) -> Option<(Spanned<String>, Receiver)> {
    let mut map = MapReader::new(node, "receiver", found)?;
    let name = map.required_string("name");
    let mut integrations = map.each("webhook_configs", |node, found| read_webhook(node, global, found));
    integrations.extend(map.each("slack_configs", |node, found| slack::read(node, global, found)));
    integrations.extend(map.each("email_configs", |node, found| email::read(node, global, found)));
    integrations.extend(map.each("pagerduty_configs", |node, found| pagerduty::read(node, global, found)));
    integrations.extend(map.each("alertmanager_configs", |node, found| read_handover(node, global, found)));
    integrations.extend(map.each("exec_configs", |node, found| read_exec(node, global, found)));
    let receiver = name.as_ref().map_or_else(String::new, |name| name.value.clone());
    not_served::read(&mut map, &receiver, integrations.len());
    map.finish();
    let name = name?;
    let receiver = Receiver { name: name.value.as_str().into(), integrations };
    Some((name, receiver))
}

fn read_webhook(node: &Node, global: &Global, found: &mut Diagnostics) -> Option<Integration> {
    let mut map = MapReader::new(node, "webhook_configs", found)?;
    let send_resolved = map.boolean("send_resolved").is_none_or(|it| it.value);
    let url = map.secret("url", "url_file");
    let max_alerts = map.integer("max_alerts", 0..=i64::from(u32::MAX)).map_or(0, |it| it.value) as usize;
    let timeout_ms = map.duration_ms("timeout").map_or(0, |it| it.value);
    let payload = map.get("payload").and_then(|node| read_payload(node, "payload", map.found()));
    let http = http_config(&mut map, global);
    if url.is_none() {
        let span = map.span().clone();
        map.found().error(&span, "webhook_configs: one of url and url_file is needed");
    }
    match &url {
        // The address may be a template; what it renders to is checked when it is used.
        Some(SecretSource::Inline(text)) if text.value.expose().contains("{{") => {
            let text = Spanned::new(text.value.expose().to_owned(), text.span.clone());
            check_template(&text, "url", map.found());
        }
        Some(url) => {
            check_url(url, map.found());
        }
        None => {}
    }
    map.finish();
    let config = WebhookConfig { url: url?, payload, max_alerts, timeout_ms, http };
    Some(Integration { kind: IntegrationKind::Webhook(Box::new(config)), send_resolved })
}

fn read_handover(node: &Node, global: &Global, found: &mut Diagnostics) -> Option<Integration> {
    let mut map = MapReader::new(node, "alertmanager_configs", found)?;
    let send_resolved = map.boolean("send_resolved").is_none_or(|it| it.value);
    let hidden =
        |text: Spanned<String>| SecretSource::Inline(Spanned { value: Secret::new(text.value), span: text.span });
    let mut urls: Vec<SecretSource> = map.strings("url").into_iter().map(hidden).collect();
    urls.extend(map.strings("url_file").into_iter().map(SecretSource::File));
    if urls.is_empty() {
        let span = map.span().clone();
        map.found().error(&span, "alertmanager_configs: one of url and url_file is needed");
    }
    for url in &urls {
        check_url(url, map.found());
    }
    let timeout_ms = map.duration_ms("timeout").map_or(0, |it| it.value);
    let http = http_config(&mut map, global);
    map.finish();
    let config = HandoverConfig { urls, timeout_ms, http };
    Some(Integration { kind: IntegrationKind::Alertmanager(Box::new(config)), send_resolved })
}

fn read_exec(node: &Node, global: &Global, found: &mut Diagnostics) -> Option<Integration> {
    let mut map = MapReader::new(node, "exec_configs", found)?;
    let send_resolved = map.boolean("send_resolved").is_none_or(|it| it.value);
    map.required("command");
    let command = map.strings("command");
    let timeout = map.duration_ms("timeout");
    if let Some(long) = timeout.as_ref().filter(|timeout| !(1..=LONGEST_TIMEOUT_MS).contains(&timeout.value)) {
        map.found().error(&long.span, "timeout: a command may run for 1ms to 50s");
    }
    let timeout_ms = timeout.map(|timeout| timeout.value);
    let config = ExecConfig::checked(&command, timeout_ms, &global.exec_allowed, map.found());
    map.finish();
    Some(Integration { kind: IntegrationKind::Exec(config?), send_resolved })
}

/// Says of keys with a value that they are read and have no effect.
pub(super) fn warn_not_served(map: &mut MapReader<'_, '_>, keys: &[&'static str], what: &str) {
    for key in keys {
        let Some((place, value)) = map.entry(key) else { continue };
        if !value.is_null() {
            map.found().warning(&place.span, format!("{key} is not served by this build ({what})"));
        }
    }
}

/// A text that may hold a template.
fn template(map: &mut MapReader<'_, '_>, key: &'static str) -> Option<Template> {
    let node = map.get(key)?;
    template_of(node, key, map.found())
}

fn template_of(node: &Node, what: &str, found: &mut Diagnostics) -> Option<Template> {
    let text = reader::string_or_empty(node, what, found)?;
    check_template(&text, what, found)
}

fn check_template(text: &Spanned<String>, what: &str, found: &mut Diagnostics) -> Option<Template> {
    match Template::parse_as(&text.value, Dialect::Alertmanager) {
        Ok(template) => Some(template),
        Err(error) => {
            let span = found.locate_offset(text, error.offset);
            match error.hint {
                Some(hint) => found.error_hint(&span, format!("{what}: {}", error.message), hint),
                None => found.error(&span, format!("{what}: {}", error.message)),
            }
            None
        }
    }
}

/// JSON whose texts are templates.
fn read_payload(node: &Node, what: &str, found: &mut Diagnostics) -> Option<Payload> {
    Payload::read(node, found, &mut |node, found| template_of(node, what, found))
}

/// An address that is no secret.
fn address(map: &mut MapReader<'_, '_>, key: &'static str) -> Option<String> {
    let text = map.string(key)?;
    match parse_url(&text.value) {
        Ok(_) => Some(text.value),
        Err(reason) => {
            map.found().error(&text.span, format!("{key}: {reason}"));
            None
        }
    }
}

fn http_config(map: &mut MapReader<'_, '_>, global: &Global) -> HttpOptions {
    match map.get("http_config") {
        Some(node) => http_config::read(node, map.found()),
        None => global.http.clone(),
    }
}
