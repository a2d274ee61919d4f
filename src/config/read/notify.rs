//! `notify:`, the short form of receivers.

use crate::config::reader::{self, MapReader};
use crate::config::schema::{FlappingConfig, Named, NotifyConfig, ReceiverConfig, ReceiverKind, SecretSource};
use crate::config::yaml::{Kind, Node};
use crate::config::{Diagnostics, Spanned};
use crate::secret::Secret;

const RECEIVERS: [&str; 4] = ["terminal", "slack", "webhook", "email"];
/// Receivers of Alertmanager that this build lacks.
const PLANNED: [&str; 14] = [
    "pagerduty",
    "opsgenie",
    "telegram",
    "discord",
    "msteams",
    "teams",
    "pushover",
    "victorops",
    "wechat",
    "webex",
    "sns",
    "rocketchat",
    "jira",
    "mattermost",
];
/// How a secret is shown; it reads back as itself, as in Alertmanager.
pub(in crate::config) const HIDDEN: &str = "<secret>";

/// Reads `notify:`.
pub(super) fn read(map: &mut MapReader<'_, '_>) -> NotifyConfig {
    let mut alertmanager = None;
    let mut flapping = FlappingConfig::Default;
    let receivers = map.named("notify", |name, node, found| {
        let scalar = matches!(node.kind, Kind::Scalar { .. }) && !node.is_null();
        if name.value == "alertmanager" && (scalar || node.is_null()) {
            alertmanager = reader::string(node, "alertmanager", found);
            return None;
        }
        if name.value == "flapping" {
            flapping = super::watchdog::flapping(node, found).unwrap_or_default();
            return None;
        }
        receiver(node, found)
    });
    let receivers = receivers.into_iter().map(|(name, value)| Named { name, value }).collect();
    NotifyConfig { receivers, alertmanager, flapping }
}

fn receiver(node: &Node, found: &mut Diagnostics) -> Option<ReceiverConfig> {
    let span = node.span.clone();
    if node.as_str() == Some("terminal") {
        return Some(ReceiverConfig { kind: ReceiverKind::Terminal, send_resolved: true, span });
    }
    let mut map = MapReader::new(node, "receiver", found)?;
    let mut planned = false;
    for name in PLANNED {
        planned |= node.get(name).is_some();
        let has = reader::list(&RECEIVERS, "and");
        map.refuse(name, &format!("{name} receivers are not in this build; it has {has}"));
    }
    let kind = if planned { None } else { map.exactly_one(&RECEIVERS) };
    if planned {
        map.know(&RECEIVERS);
    }
    if let Some((kind, _)) = kind {
        for key in ["url", "url_file", "to", "smtp", "send_resolved", "channel", "headers"] {
            map.refuse(key, &format!("{key} stands inside {kind}: {{...}}"));
        }
    }
    map.finish();
    let (kind, send_resolved) = match kind? {
        ("terminal", node) => terminal(node, found),
        ("slack", node) => slack(node, found),
        ("webhook", node) => webhook(node, found),
        (_, node) => email(node, found),
    }?;
    Some(ReceiverConfig { kind, send_resolved, span })
}

fn send_resolved(map: &mut MapReader<'_, '_>) -> bool {
    map.boolean("send_resolved").is_none_or(|wanted| wanted.value)
}

fn terminal(node: &Node, found: &mut Diagnostics) -> Option<(ReceiverKind, bool)> {
    let mut map = MapReader::new(node, "terminal receiver", found)?;
    let send_resolved = send_resolved(&mut map);
    map.finish();
    Some((ReceiverKind::Terminal, send_resolved))
}

fn slack(node: &Node, found: &mut Diagnostics) -> Option<(ReceiverKind, bool)> {
    let mut map = MapReader::new(node, "slack receiver", found)?;
    let url = url(&mut map);
    let channel = map.string("channel").map(|text| text.value);
    let send_resolved = send_resolved(&mut map);
    map.finish();
    Some((ReceiverKind::Slack { url: url?, channel }, send_resolved))
}

fn webhook(node: &Node, found: &mut Diagnostics) -> Option<(ReceiverKind, bool)> {
    let mut map = MapReader::new(node, "webhook receiver", found)?;
    let url = url(&mut map);
    let headers = map.string_map("headers").into_iter().map(|(name, value)| (name.value, value.value)).collect();
    let send_resolved = send_resolved(&mut map);
    map.finish();
    Some((ReceiverKind::Webhook { url: url?, headers }, send_resolved))
}

fn email(node: &Node, found: &mut Diagnostics) -> Option<(ReceiverKind, bool)> {
    let mut map = MapReader::new(node, "email receiver", found)?;
    map.required("to");
    let to = map.strings("to");
    let from = map.string("from");
    let smtp = map.required_string("smtp").filter(|smtp| smtp_address(smtp, map.found()));
    let username = map.string("username").map(|text| text.value);
    let password = secret(&mut map, "password", "password_file");
    let require_tls = map.boolean("require_tls").map(|wanted| wanted.value);
    let send_resolved = send_resolved(&mut map);
    for address in to.iter().chain(&from) {
        if !address.value.contains('@') {
            map.found().error(&address.span, format!("{:?} is not a mail address", address.value));
        }
    }
    map.finish();
    if to.is_empty() {
        return None;
    }
    Some((ReceiverKind::Email { to, from, smtp: smtp?, username, password, require_tls }, send_resolved))
}

fn smtp_address(smtp: &Spanned<String>, found: &mut Diagnostics) -> bool {
    let rest = smtp.value.strip_prefix("smtp://").or_else(|| smtp.value.strip_prefix("smtps://"));
    let valid = rest.is_some_and(|rest| !rest.trim_start_matches('/').is_empty());
    if !valid {
        found.error_hint(
            &smtp.span,
            "smtp: not the address of a mail server",
            "write smtp://HOST:25 (STARTTLS where offered) or smtps://HOST:465 (TLS at once)",
        );
    }
    valid
}

/// `url` or `url_file`, one of which is needed. The address is a secret, so that no message repeats it.
pub(super) fn url(map: &mut MapReader<'_, '_>) -> Option<SecretSource> {
    map.exactly_one(&["url", "url_file"])?;
    let source = secret(map, "url", "url_file")?;
    if let SecretSource::Inline(url) = &source {
        let text = url.value.expose();
        if text != HIDDEN && !super::is_http_url(text) {
            map.found().error(&url.span, "url: not an address that begins with http:// or https://");
            return None;
        }
    }
    Some(source)
}

/// A secret that stands here or in a file; both at once is an error.
fn secret(map: &mut MapReader<'_, '_>, key: &'static str, file_key: &'static str) -> Option<SecretSource> {
    let inline = map.string(key);
    let file = map.string(file_key);
    match (inline, file) {
        (Some(_), Some(file)) => {
            map.found().error(&file.span, format!("{key} and {file_key} exclude each other"));
            None
        }
        (Some(text), None) => Some(SecretSource::Inline(Spanned::new(Secret::new(text.value), text.span))),
        (None, Some(file)) => Some(SecretSource::File(file)),
        (None, None) => None,
    }
}
