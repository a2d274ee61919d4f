//! `email_configs`, and what of `global` concerns mail.

use super::{Global, template, template_of};
use crate::config::Diagnostics;
use crate::config::reader::MapReader;
use crate::config::schema::SecretSource;
use crate::config::yaml::Node;
use crate::notify::alertmanager::http_config;
use crate::notify::email::{EmailConfig, Encryption, Threading};
use crate::notify::http::TlsOptions;
use crate::notify::receiver::{Integration, IntegrationKind};
use crate::template::Template;

/// What mails inherit.
#[derive(Clone, Default)]
pub(super) struct Smtp {
    from: Option<Template>,
    smarthost: Option<(String, u16)>,
    hello: Option<String>,
    username: Option<String>,
    password: Option<SecretSource>,
    auth_secret: Option<SecretSource>,
    identity: Option<String>,
    require_tls: Option<bool>,
    implicit_tls: Option<bool>,
    tls: TlsOptions,
}

impl Smtp {
    pub(super) fn read(map: &mut MapReader<'_, '_>) -> Self {
        Self {
            from: template(map, "smtp_from"),
            smarthost: read_smarthost(map, "smtp_smarthost"),
            hello: map.string("smtp_hello").map(|text| text.value),
            username: map.string("smtp_auth_username").map(|text| text.value),
            password: map.secret("smtp_auth_password", "smtp_auth_password_file"),
            auth_secret: map.secret("smtp_auth_secret", "smtp_auth_secret_file"),
            identity: map.string("smtp_auth_identity").map(|text| text.value),
            require_tls: map.boolean("smtp_require_tls").map(|it| it.value),
            implicit_tls: map.boolean("smtp_force_implicit_tls").map(|it| it.value),
            tls: http_config::tls(map, "smtp_tls_config"),
        }
    }
}

pub(super) fn read(node: &Node, global: &Global, found: &mut Diagnostics) -> Option<Integration> {
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
    let password = map.secret("auth_password", "auth_password_file").or_else(|| base.password.clone());
    let auth_secret = map.secret("auth_secret", "auth_secret_file").or_else(|| base.auth_secret.clone());
    let identity = map.string("auth_identity").map(|text| text.value).or_else(|| base.identity.clone());
    let require_tls = map.boolean("require_tls").map(|it| it.value).or(base.require_tls).unwrap_or(true);
    let implicit = map.boolean("force_implicit_tls").map(|it| it.value).or(base.implicit_tls);
    let tls = if map.get("tls_config").is_some() { http_config::tls(&mut map, "tls_config") } else { base.tls.clone() };
    let html = template(&mut map, "html");
    let text = template(&mut map, "text");
    let headers = map.named("headers", |_, node, found| template_of(node, "headers", found));
    for (at, (name, _)) in headers.iter().enumerate() {
        if headers[..at].iter().any(|(known, _)| known.value.eq_ignore_ascii_case(&name.value)) {
            map.found().error(&name.span, format!("headers: {} stands here a second time", name.value));
        }
    }
    let threading = read_threading(&mut map);
    if let Some((name, _)) = headers
        .iter()
        .find(|(name, _)| ["References", "In-Reply-To"].iter().any(|own| own.eq_ignore_ascii_case(&name.value)))
        && matches!(threading, Threading::Daily | Threading::Group)
    {
        map.found().error(&name.span, format!("headers: {} is set by threading", name.value));
    }
    map.finish();
    let (host, port) = smarthost?;
    let encryption = match (implicit.unwrap_or(port == 465), require_tls) {
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
        auth_secret,
        identity: identity.unwrap_or_default(),
        threading,
        headers,
        html,
        text,
    };
    Some(Integration { kind: IntegrationKind::Email(Box::new(config)), send_resolved })
}

/// `threading: {enabled, thread_by_date}`. Without it, the mails of one episode stand in one thread.
fn read_threading(map: &mut MapReader<'_, '_>) -> Threading {
    let Some(node) = map.get("threading") else { return Threading::Episode };
    let Some(mut map) = MapReader::new(node, "threading", map.found()) else { return Threading::Episode };
    let enabled = map.boolean("enabled").is_some_and(|it| it.value);
    let words = [("daily", Threading::Daily), ("none", Threading::Group)];
    let by_date = map.one_of("thread_by_date", &words);
    if enabled && by_date.is_none() && map.get("thread_by_date").is_none() {
        let span = map.span().clone();
        map.found().error(&span, "threading: thread_by_date is needed, daily or none");
    }
    map.finish();
    if enabled { by_date.map_or(Threading::Daily, |it| it.value) } else { Threading::Off }
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
