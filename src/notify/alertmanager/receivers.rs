//! `global` and `receivers` of Alertmanager's format.

use crate::config::reader::{self, MapReader};
use crate::config::schema::SecretSource;
use crate::config::yaml::Node;
use crate::config::{Diagnostics, Span, Spanned};
use crate::notify::email::{EmailConfig, Encryption};
use crate::notify::http::{Authorization, HttpOptions, TlsOptions};
use crate::notify::receiver::{Integration, IntegrationKind, Receiver, check_url};
use crate::notify::slack::{SlackConfig, SlackField};
use crate::notify::webhook::WebhookConfig;
use crate::secret::Secret;
use crate::template::{Dialect, Template};

/// Receivers of Alertmanager that this build has not.
const NOT_SERVED: [&str; 15] = [
    "discord_configs",
    "incidentio_configs",
    "jira_configs",
    "mattermost_configs",
    "msteams_configs",
    "msteamsv2_configs",
    "opsgenie_configs",
    "pagerduty_configs",
    "pushover_configs",
    "rocketchat_configs",
    "sns_configs",
    "telegram_configs",
    "victorops_configs",
    "webex_configs",
    "wechat_configs",
];

/// Keys of `global` that only concern those.
const GLOBALS_NOT_SERVED: [&str; 28] = [
    "incidentio_url",
    "jira_api_url",
    "mattermost_webhook_url",
    "mattermost_webhook_url_file",
    "opsgenie_api_key",
    "opsgenie_api_key_file",
    "opsgenie_api_url",
    "pagerduty_url",
    "rocketchat_api_url",
    "rocketchat_token",
    "rocketchat_token_file",
    "rocketchat_token_id",
    "rocketchat_token_id_file",
    "telegram_api_url",
    "telegram_bot_token",
    "telegram_bot_token_file",
    "victorops_api_key",
    "victorops_api_key_file",
    "victorops_api_url",
    "webex_api_url",
    "wechat_api_corp_id",
    "wechat_api_secret",
    "wechat_api_secret_file",
    "wechat_api_url",
    "slack_app_token",
    "slack_app_token_file",
    "slack_app_url",
    "msteams_api_url",
];

/// `global`: what receivers inherit.
#[derive(Default)]
pub(super) struct Global {
    smtp: Smtp,
    slack_url: Option<SecretSource>,
    http: HttpOptions,
    /// After how long a posted alert that names no end ends.
    pub(super) resolve_timeout_ms: Option<i64>,
}

#[derive(Clone, Default)]
struct Smtp {
    from: Option<Template>,
    smarthost: Option<(String, u16)>,
    hello: Option<String>,
    username: Option<String>,
    password: Option<SecretSource>,
    require_tls: Option<bool>,
    implicit_tls: bool,
    tls: TlsOptions,
}

impl Global {
    pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Self {
        let mut global = Self::default();
        let Some(mut map) = MapReader::new(node, "global", found) else { return global };
        global.resolve_timeout_ms = map.duration_ms("resolve_timeout").map(|timeout| timeout.value);
        global.smtp = Smtp {
            from: template(&mut map, "smtp_from"),
            smarthost: read_smarthost(&mut map, "smtp_smarthost"),
            hello: map.string("smtp_hello").map(|text| text.value),
            username: map.string("smtp_auth_username").map(|text| text.value),
            password: secret(&mut map, "smtp_auth_password", "smtp_auth_password_file"),
            require_tls: map.boolean("smtp_require_tls").map(|it| it.value),
            implicit_tls: map.boolean("smtp_force_implicit_tls").is_some_and(|it| it.value),
            tls: read_tls(&mut map, "smtp_tls_config"),
        };
        map.string("smtp_auth_identity");
        warn_not_served(&mut map, &["smtp_auth_secret", "smtp_auth_secret_file"], "AUTH with CRAM-MD5");
        global.slack_url = secret(&mut map, "slack_api_url", "slack_api_url_file");
        if let Some(url) = &global.slack_url {
            check_url(url, map.found());
        }
        if let Some(node) = map.get("http_config") {
            global.http = read_http(node, map.found());
        }
        for key in GLOBALS_NOT_SERVED {
            map.get(key);
        }
        map.finish();
        global
    }
}

/// Reads one receiver. Kinds that this build lacks are said and left out.
pub(super) fn read(node: &Node, global: &Global, found: &mut Diagnostics) -> Option<(Spanned<String>, Receiver)> {
    let mut map = MapReader::new(node, "receiver", found)?;
    let name = map.required_string("name");
    let mut integrations = map.each("webhook_configs", |node, found| read_webhook(node, global, found));
    integrations.extend(map.each("slack_configs", |node, found| read_slack(node, global, found)));
    integrations.extend(map.each("email_configs", |node, found| read_email(node, global, found)));
    for key in NOT_SERVED {
        let Some((place, value)) = map.entry(key) else { continue };
        if value.as_seq().is_none_or(<[Node]>::is_empty) {
            continue;
        }
        let receiver = name.as_ref().map_or("", |name| name.value.as_str());
        let rest = if integrations.is_empty() { "; nobody is told of its alerts by them" } else { "" };
        map.found().warning(&place.span, format!("receiver {receiver:?}: {key} are not served by this build{rest}"));
    }
    map.finish();
    let name = name?;
    let receiver = Receiver { name: name.value.as_str().into(), integrations };
    Some((name, receiver))
}

fn read_webhook(node: &Node, global: &Global, found: &mut Diagnostics) -> Option<Integration> {
    let mut map = MapReader::new(node, "webhook_configs", found)?;
    let send_resolved = map.boolean("send_resolved").is_none_or(|it| it.value);
    let url = secret(&mut map, "url", "url_file");
    let max_alerts = map.integer("max_alerts", 0..=i64::from(u32::MAX)).map_or(0, |it| it.value) as usize;
    let timeout_ms = map.duration_ms("timeout").map_or(0, |it| it.value);
    warn_not_served(&mut map, &["payload"], "a payload of one's own");
    let http = http_config(&mut map, global);
    if url.is_none() {
        let span = map.span().clone();
        map.found().error(&span, "webhook_configs: one of url and url_file is needed");
    }
    if let Some(url) = &url {
        check_url(url, map.found());
    }
    map.finish();
    let config = WebhookConfig { url: url?, max_alerts, timeout_ms, http };
    Some(Integration { kind: IntegrationKind::Webhook(Box::new(config)), send_resolved })
}

fn read_slack(node: &Node, global: &Global, found: &mut Diagnostics) -> Option<Integration> {
    let mut map = MapReader::new(node, "slack_configs", found)?;
    let send_resolved = map.boolean("send_resolved").is_some_and(|it| it.value);
    let url = secret(&mut map, "api_url", "api_url_file");
    match &url {
        Some(url) => {
            check_url(url, map.found());
        }
        None if global.slack_url.is_none() => {
            let span = map.span().clone();
            let message = "slack_configs: there is no address to send to";
            map.found().error_hint(&span, message, "set api_url here or slack_api_url under global");
        }
        None => {}
    }
    let missing = || SecretSource::Inline(Spanned::bare(Secret::default()));
    let mut config = SlackConfig::new(url.or_else(|| global.slack_url.clone()).unwrap_or_else(missing), None);
    config.channel = template(&mut map, "channel");
    config.username = template(&mut map, "username");
    config.color = template(&mut map, "color");
    config.title = template(&mut map, "title");
    config.title_link = template(&mut map, "title_link");
    config.pretext = template(&mut map, "pretext");
    config.text = template(&mut map, "text");
    config.fallback = template(&mut map, "fallback");
    config.footer = template(&mut map, "footer");
    config.icon_emoji = template(&mut map, "icon_emoji");
    config.icon_url = template(&mut map, "icon_url");
    config.image_url = template(&mut map, "image_url");
    config.thumb_url = template(&mut map, "thumb_url");
    template(&mut map, "callback_id");
    config.link_names = map.boolean("link_names").is_some_and(|it| it.value);
    config.timeout_ms = map.duration_ms("timeout").map_or(0, |it| it.value);
    let short_fields = map.boolean("short_fields").is_some_and(|it| it.value);
    config.fields = map.each("fields", |node, found| {
        let mut map = MapReader::new(node, "field", found)?;
        let title = map.required("title").and_then(|_| template(&mut map, "title"));
        let value = map.required("value").and_then(|_| template(&mut map, "value"));
        let short = map.boolean("short").map_or(short_fields, |it| it.value);
        map.finish();
        Some(SlackField { title: title?, value: value?, short })
    });
    if map.get("mrkdwn_in").is_some() {
        config.mrkdwn_in = map.strings("mrkdwn_in").into_iter().map(|text| text.value).collect();
    }
    warn_not_served(&mut map, &["actions"], "buttons");
    warn_not_served(&mut map, &["app_token", "app_token_file", "app_url", "update_message"], "Slack's bot API");
    map.string("message_text");
    config.http = http_config(&mut map, global);
    map.finish();
    Some(Integration { kind: IntegrationKind::Slack(Box::new(config)), send_resolved })
}

fn read_email(node: &Node, global: &Global, found: &mut Diagnostics) -> Option<Integration> {
    let mut map = MapReader::new(node, "email_configs", found)?;
    let send_resolved = map.boolean("send_resolved").is_some_and(|it| it.value);
    let base = &global.smtp;
    map.required("to");
    let to = template(&mut map, "to");
    let from = template(&mut map, "from").or_else(|| base.from.clone());
    let smarthost = read_smarthost(&mut map, "smarthost").or_else(|| base.smarthost.clone());
    for (missing, key) in
        [(from.is_none(), "from"), (smarthost.is_none() && map.get("smarthost").is_none(), "smarthost")]
    {
        if missing {
            let span = map.span().clone();
            let message = format!("email_configs: {key} is needed");
            map.found().error_hint(&span, message, format!("set {key} here or smtp_{key} under global"));
        }
    }
    let hello = map.string("hello").map(|text| text.value).or_else(|| base.hello.clone());
    let username = map.string("auth_username").map(|text| text.value).or_else(|| base.username.clone());
    let password = secret(&mut map, "auth_password", "auth_password_file").or_else(|| base.password.clone());
    map.string("auth_identity");
    warn_not_served(&mut map, &["auth_secret", "auth_secret_file"], "AUTH with CRAM-MD5");
    let require_tls = map.boolean("require_tls").map(|it| it.value).or(base.require_tls).unwrap_or(true);
    let implicit = map.boolean("force_implicit_tls").map_or(base.implicit_tls, |it| it.value);
    let tls = if map.get("tls_config").is_some() { read_tls(&mut map, "tls_config") } else { base.tls.clone() };
    let html = template(&mut map, "html");
    let text = template(&mut map, "text");
    let headers = map.named("headers", |_, node, found| template_of(node, "headers", found));
    warn_not_served(
        &mut map,
        &["threading"],
        "Alertmanager's own threading; mails of one episode share a thread always",
    );
    map.finish();
    let (host, port) = smarthost?;
    let encryption = match (implicit || port == 465, require_tls) {
        (true, _) => Encryption::AtOnce,
        (false, true) => Encryption::Required,
        (false, false) => Encryption::Offered,
    };
    let headers = headers.into_iter().map(|(name, text)| (name.value, text)).collect();
    let config = EmailConfig {
        to: to?,
        from: Some(from?),
        host,
        port,
        encryption,
        tls,
        hello,
        username,
        password,
        headers,
        html,
        text,
    };
    Some(Integration { kind: IntegrationKind::Email(Box::new(config)), send_resolved })
}

fn warn_not_served(map: &mut MapReader<'_, '_>, keys: &[&'static str], what: &str) {
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
    match Template::parse_as(&text.value, Dialect::Alertmanager) {
        Ok(template) => Some(template),
        Err(error) => {
            let span = found.locate_offset(&text, error.offset);
            match error.hint {
                Some(hint) => found.error_hint(&span, format!("{what}: {}", error.message), hint),
                None => found.error(&span, format!("{what}: {}", error.message)),
            }
            None
        }
    }
}

/// A secret that stands here or in a file; both at once are an error.
fn secret(map: &mut MapReader<'_, '_>, inline: &'static str, file: &'static str) -> Option<SecretSource> {
    let text = map.string(inline);
    let path = map.string(file);
    match (text, path) {
        (Some(_), Some(path)) => {
            map.found().error(&path.span, format!("at most one of {inline} and {file} may be set"));
            None
        }
        (Some(text), None) => Some(SecretSource::Inline(Spanned { value: Secret::new(text.value), span: text.span })),
        (None, Some(path)) => Some(SecretSource::File(path)),
        (None, None) => None,
    }
}

fn read_smarthost(map: &mut MapReader<'_, '_>, key: &'static str) -> Option<(String, u16)> {
    let text = map.string(key)?;
    let parsed = text.value.rsplit_once(':').and_then(|(host, port)| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then_some((host.to_owned(), port.parse().ok()?))
    });
    if parsed.is_none() {
        map.found().error_hint(&text.span, format!("{key}: {:?} is no host and port", text.value), "write mail:587");
    }
    parsed
}

fn http_config(map: &mut MapReader<'_, '_>, global: &Global) -> HttpOptions {
    match map.get("http_config") {
        Some(node) => read_http(node, map.found()),
        None => global.http.clone(),
    }
}

fn read_http(node: &Node, found: &mut Diagnostics) -> HttpOptions {
    let mut options = HttpOptions::default();
    let Some(mut map) = MapReader::new(node, "http_config", found) else { return options };
    let mut ways: Vec<Span> = Vec::new();
    if let Some(node) = map.get("basic_auth") {
        ways.push(node.span.clone());
        if let Some(mut basic) = MapReader::new(node, "basic_auth", map.found()) {
            let username = basic.string("username").map(|text| text.value).unwrap_or_default();
            let password = secret(&mut basic, "password", "password_file");
            warn_not_served(&mut basic, &["username_file", "username_ref", "password_ref"], "write username");
            basic.finish();
            options.authorization = Some(Authorization::Basic { username, password });
        }
    }
    if let Some(node) = map.get("authorization") {
        ways.push(node.span.clone());
        if let Some(mut map) = MapReader::new(node, "authorization", map.found()) {
            let scheme = map.string("type").map_or_else(|| "Bearer".to_owned(), |text| text.value);
            let credentials = secret(&mut map, "credentials", "credentials_file");
            warn_not_served(&mut map, &["credentials_ref"], "write credentials_file");
            map.finish();
            options.authorization = credentials.map(|credentials| Authorization::Scheme { scheme, credentials });
        }
    }
    if let Some(credentials) = secret(&mut map, "bearer_token", "bearer_token_file") {
        ways.push(map.span().clone());
        options.authorization = Some(Authorization::Scheme { scheme: "Bearer".into(), credentials });
    }
    if let [_, second, ..] = ways.as_slice() {
        map.found().error(second, "at most one of basic_auth, authorization and bearer_token may be set");
    }
    warn_not_served(&mut map, &["oauth2"], "OAuth 2");
    warn_not_served(&mut map, &["no_proxy"], "set NO_PROXY in the environment");
    warn_not_served(&mut map, &["proxy_connect_header"], "headers for the proxy");
    options.proxy = map.string("proxy_url").map(|text| text.value);
    // The environment's proxies serve unless another one is named.
    map.boolean("proxy_from_environment");
    map.boolean("enable_http2");
    options.refuse_redirects = map.boolean("follow_redirects").is_some_and(|it| !it.value);
    options.tls = read_tls(&mut map, "tls_config");
    let headers = map.named("http_headers", |name, node, found| {
        let mut map = MapReader::new(node, "http_headers", found)?;
        let values = map.strings("values").into_iter().map(|text| (name.value.clone(), text.value)).collect::<Vec<_>>();
        let hidden =
            |text: Spanned<String>| SecretSource::Inline(Spanned { value: Secret::new(text.value), span: text.span });
        let mut secrets: Vec<SecretSource> = map.strings("secrets").into_iter().map(hidden).collect();
        secrets.extend(map.strings("files").into_iter().map(SecretSource::File));
        map.finish();
        Some((values, secrets))
    });
    for (name, (values, secrets)) in headers {
        options.headers.extend(values);
        options.secret_headers.extend(secrets.into_iter().map(|source| (name.value.clone(), source)));
        options.check_headers(&name.span, map.found());
    }
    map.finish();
    options
}

fn read_tls(map: &mut MapReader<'_, '_>, key: &'static str) -> TlsOptions {
    let Some(node) = map.get(key) else { return TlsOptions::default() };
    let Some(mut map) = MapReader::new(node, "tls_config", map.found()) else { return TlsOptions::default() };
    let mut path = |key: &'static str| map.string(key).map(|text| text.value);
    let (ca_file, cert_file, key_file) = (path("ca_file"), path("cert_file"), path("key_file"));
    let insecure_skip_verify = map.boolean("insecure_skip_verify").is_some_and(|it| it.value);
    if cert_file.is_some() != key_file.is_some() {
        let span = map.span().clone();
        map.found().error(&span, "tls_config: cert_file and key_file belong together");
    }
    warn_not_served(&mut map, &["ca", "cert", "key", "ca_ref", "cert_ref", "key_ref"], "use the *_file keys");
    warn_not_served(&mut map, &["server_name", "min_version", "max_version"], "TLS 1.2 and 1.3 are spoken");
    map.finish();
    TlsOptions { ca_file, cert_file, key_file, insecure_skip_verify }
}
