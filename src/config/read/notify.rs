//! `notify:`, the short form of receivers.

use crate::config::reader::{self, MapReader};
use crate::config::schema::{FlappingConfig, Named, NotifyConfig, ReceiverConfig, ReceiverKind, SecretSource};
use crate::config::yaml::{Kind, Node};
use crate::config::{Diagnostics, Spanned};
use crate::secret::Secret;

const RECEIVERS: [&str; 7] = ["terminal", "slack", "webhook", "email", "pagerduty", "alertmanager", "exec"];
/// `exec_allowed` is a list where receivers are mappings.
const EXEC_ALLOWED: &str = "exec_allowed";
/// The longest `timeout` of a command, in milliseconds.
const LONGEST_EXEC_MS: i64 = 50_000;
/// Receivers of Alertmanager that this build lacks.
const PLANNED: [&str; 13] = [
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
    let mut exec_allowed = Vec::new();
    let mut silences = Vec::new();
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
        if name.value == EXEC_ALLOWED && (node.as_map().is_none() || node.is_null()) {
            exec_allowed = reader::one_or_list(node).iter().filter_map(|it| program(it, found)).collect();
            return None;
        }
        // A mapping under this name is a receiver.
        if name.value == "silences" && node.as_map().is_none() {
            if !matches!(node.kind, Kind::Seq(_)) && !node.is_null() {
                let _: Option<()> = reader::wrong(node, "silences", "a list of silences", found);
            } else if !node.is_null() {
                silences =
                    reader::one_or_list(node).iter().filter_map(|one| super::silences::read(one, found)).collect();
            }
            return None;
        }
        receiver(node, found)
    });
    let receivers = receivers.into_iter().map(|(name, value)| Named { name, value }).collect();
    NotifyConfig { receivers, alertmanager, flapping, exec_allowed, silences }
}

/// Whether an entry of `notify:` is a receiver, and no setting of notifications.
pub(super) fn is_receiver(name: &Node, node: &Node) -> bool {
    let (scalar, map) = (matches!(node.kind, Kind::Scalar { .. }), node.as_map().is_some() && !node.is_null());
    match name.as_str() {
        Some("alertmanager") => !scalar,
        Some("flapping") => false,
        // A mapping under these names is a receiver.
        Some(EXEC_ALLOWED | "silences") => map,
        _ => true,
    }
}

/// A program that may be run: its whole path.
fn program(node: &Node, found: &mut Diagnostics) -> Option<Spanned<String>> {
    let path = reader::string(node, EXEC_ALLOWED, found)?;
    if !path.value.starts_with('/') {
        let message = format!("{EXEC_ALLOWED}: {:?} is no path from the root", path.value);
        found.error_hint(&path.span, message, "write the program's whole path, such as /usr/local/bin/page-me");
        return None;
    }
    Some(path)
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
        for key in ["url", "url_file", "to", "smtp", "send_resolved", "channel", "headers", "command", "routing_key"] {
            map.refuse(key, &format!("{key} stands inside {kind}: {{...}}"));
        }
    }
    map.finish();
    let (kind, send_resolved) = match kind? {
        ("terminal", node) => terminal(node, found),
        ("slack", node) => slack(node, found),
        ("webhook", node) => webhook(node, found),
        ("pagerduty", node) => pagerduty(node, found),
        ("alertmanager", node) => hand_over(node, found),
        ("exec", node) => exec(node, found),
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
    let which = map.exactly_one(&["url", "url_file", "app_token", "app_token_file"]);
    let url = map.secret("url", "url_file").filter(|url| http_url(url, map.found()));
    let token = map.secret("app_token", "app_token_file");
    let app_url = address(&mut map, "app_url");
    let channel = map.string("channel").map(|text| text.value);
    let update_message = map.boolean("update_message");
    let send_resolved = send_resolved(&mut map);
    let span = map.span().clone();
    map.finish();
    which?;
    let Some(token) = token else {
        if let Some(wanted) = update_message.filter(|wanted| wanted.value) {
            let hint = "a webhook cannot edit messages: set app_token and channel";
            found.error_hint(&wanted.span, "update_message needs a bot's token", hint);
            return None;
        }
        return Some((ReceiverKind::Slack { url: url?, channel }, send_resolved));
    };
    let Some(channel) = channel else {
        found.error_hint(&span, "slack receiver: a bot needs a channel", "write channel: '#ops'");
        return None;
    };
    let update_message = update_message.is_some_and(|wanted| wanted.value);
    Some((ReceiverKind::SlackBot { token, url: app_url, channel, update_message }, send_resolved))
}

fn pagerduty(node: &Node, found: &mut Diagnostics) -> Option<(ReceiverKind, bool)> {
    let mut map = MapReader::new(node, "pagerduty receiver", found)?;
    let which = map.exactly_one(&["routing_key", "routing_key_file"]);
    let key = map.secret("routing_key", "routing_key_file");
    let url = address(&mut map, "url");
    let words = [("critical", "critical"), ("error", "error"), ("warning", "warning"), ("info", "info")];
    let severity = map.one_of("severity", &words).map(|word| word.value.to_owned());
    let send_resolved = send_resolved(&mut map);
    map.finish();
    which?;
    Some((ReceiverKind::PagerDuty { key: key?, url, severity }, send_resolved))
}

fn hand_over(node: &Node, found: &mut Diagnostics) -> Option<(ReceiverKind, bool)> {
    let mut map = MapReader::new(node, "alertmanager receiver", found)?;
    map.required("url");
    let urls: Vec<SecretSource> = map
        .strings("url")
        .into_iter()
        .map(|url| SecretSource::Inline(Spanned::new(Secret::new(url.value), url.span)))
        .collect();
    let usable = urls.iter().filter(|url| http_url(url, map.found())).count() == urls.len();
    let send_resolved = send_resolved(&mut map);
    map.finish();
    (usable && !urls.is_empty()).then_some((ReceiverKind::Alertmanager { urls }, send_resolved))
}

fn exec(node: &Node, found: &mut Diagnostics) -> Option<(ReceiverKind, bool)> {
    let mut map = MapReader::new(node, "exec receiver", found)?;
    map.required("command");
    let command = map.strings("command");
    let timeout = map.duration_ms("timeout");
    if let Some(long) = timeout.as_ref().filter(|timeout| !(1..=LONGEST_EXEC_MS).contains(&timeout.value)) {
        map.found().error(&long.span, "timeout: a command may run for 1ms to 50s");
    }
    let send_resolved = send_resolved(&mut map);
    map.finish();
    let timeout_ms = timeout.map(|timeout| timeout.value);
    (!command.is_empty()).then_some((ReceiverKind::Exec { command, timeout_ms }, send_resolved))
}

/// An address that is no secret.
fn address(map: &mut MapReader<'_, '_>, key: &'static str) -> Option<Spanned<String>> {
    let url = map.string(key)?;
    if super::is_http_url(&url.value) {
        return Some(url);
    }
    map.found().error(&url.span, format!("{key}: not an address that begins with http:// or https://"));
    None
}

/// Whether an address can be used, as far as it stands here.
fn http_url(source: &SecretSource, found: &mut Diagnostics) -> bool {
    let SecretSource::Inline(url) = source else { return true };
    let text = url.value.expose();
    let usable = text == HIDDEN || super::is_http_url(text);
    if !usable {
        found.error(&url.span, "url: not an address that begins with http:// or https://");
    }
    usable
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
    let password = map.secret("password", "password_file");
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
    let source = map.secret("url", "url_file")?;
    http_url(&source, map.found()).then_some(source)
}

#[cfg(test)]
mod tests {
    use crate::config::{Overrides, load_text};

    #[track_caller]
    fn check(notify: &str, expected: &str) {
        let text = format!("notify: {{{notify}}}\n");
        let (_, found) = load_text("s.yaml", &text, &Default::default(), &Overrides::default());
        let said = found.to_string();
        assert_eq!(said.lines().next().unwrap_or_default(), expected, "{said}");
    }

    #[test]
    fn mistakes_in_receivers_have_their_places() {
        check(
            "a: {slack: {url: 'http://x', app_token: t}}",
            "s.yaml:1:39: error: slack receiver: exactly one of url, url_file, app_token or app_token_file is needed, found url and app_token",
        );
        check("a: {slack: {app_token: t}}", "s.yaml:1:21: error: slack receiver: a bot needs a channel");
        check(
            "a: {slack: {url: 'http://x', update_message: true}}",
            "s.yaml:1:55: error: update_message needs a bot's token",
        );
        check(
            "a: {pagerduty: {routing_key: k, severity: bad}}",
            "s.yaml:1:52: error: severity: \"bad\" is not one of critical, error, warning or info",
        );
        check(
            "a: {alertmanager: {url: 'am:9093'}}",
            "s.yaml:1:34: error: url: not an address that begins with http:// or https://",
        );
        check("a: {alertmanager: {}}", "s.yaml:1:28: error: alertmanager receiver: the key \"url\" is missing");
        check(
            "a: {exec: {command: /bin/a, timeout: 2m}}",
            "s.yaml:1:47: error: timeout: a command may run for 1ms to 50s",
        );
        check("exec_allowed: [bin/a]", "s.yaml:1:25: error: exec_allowed: \"bin/a\" is no path from the root");
        check("a: {exec: {command: /bin/a}}, exec_allowed: /bin/a", "");
    }

    #[test]
    fn settings_are_no_receivers() {
        let check = |notify: &str, expected: &str| {
            let text = format!("notify: {{{notify}}}\nalerts: {{A: {{expr: up, notify: terminal}}}}\n");
            let (_, found) = load_text("s.yaml", &text, &Default::default(), &Overrides::default());
            let said = found.to_string();
            assert_eq!(said.lines().next().unwrap_or_default(), expected, "{notify}: {said}");
        };
        for settings in
            ["", "flapping: false", "exec_allowed: /bin/a", "silences: []", "flapping: {}, exec_allowed: [/bin/a]"]
        {
            check(settings, "");
        }
        let missing = "s.yaml:2:32: error: there is no receiver \"terminal\" under notify";
        check("flapping: false, a: {webhook: {url: 'http://x'}}", missing);
        check("silences: {webhook: {url: 'http://x'}}", missing);
    }
}
