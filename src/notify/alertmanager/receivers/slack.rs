//! `slack_configs`.

use super::{Global, address, http_config, template, template_of, warn_not_served};
use crate::config::reader::MapReader;
use crate::config::schema::SecretSource;
use crate::config::yaml::Node;
use crate::config::{Diagnostics, Spanned};
use crate::notify::receiver::{Integration, IntegrationKind, check_url};
use crate::notify::slack::{SLACK_APP_URL, SlackAction, SlackConfig, SlackField, Strategy};
use crate::secret::Secret;

/// Who sends, and where: an incoming webhook or a bot.
#[derive(Clone, Default)]
pub(super) struct Access {
    url: Option<SecretSource>,
    token: Option<SecretSource>,
    app_url: Option<String>,
}

impl Access {
    pub(super) fn read_global(map: &mut MapReader<'_, '_>) -> Self {
        let url = map.secret("slack_api_url", "slack_api_url_file");
        if let Some(url) = &url {
            check_url(url, map.found());
        }
        let token = map.secret("slack_app_token", "slack_app_token_file");
        Self { url, token, app_url: address(map, "slack_app_url") }
    }

    /// A receiver's own access, the global one where it says nothing: its webhook does not meet the global token, nor its
    /// token the global webhook.
    fn read(map: &mut MapReader<'_, '_>, global: &Self) -> Option<(SecretSource, Option<SecretSource>)> {
        let url = map.secret("api_url", "api_url_file");
        let token = map.secret("app_token", "app_token_file");
        let app_url = address(map, "app_url").or_else(|| global.app_url.clone());
        if let Some(url) = &url {
            check_url(url, map.found());
        }
        let app_url = || {
            let text = Secret::new(app_url.as_deref().unwrap_or(SLACK_APP_URL));
            SecretSource::Inline(Spanned::bare(text))
        };
        match (url, token) {
            (Some(_), Some(_)) => {
                let span = map.span().clone();
                let message = "slack_configs: at most one of api_url (a webhook) and app_token (a bot) may be set";
                map.found().error(&span, message);
                None
            }
            (Some(url), None) => Some((url, None)),
            (None, Some(token)) => Some((app_url(), Some(token))),
            (None, None) => match (&global.url, &global.token) {
                (_, Some(token)) => Some((app_url(), Some(token.clone()))),
                (Some(url), None) => Some((url.clone(), None)),
                (None, None) => {
                    let span = map.span().clone();
                    let message = "slack_configs: there is no address to send to";
                    let hint = "set api_url or app_token here, or slack_api_url or slack_app_token under global";
                    map.found().error_hint(&span, message, hint);
                    None
                }
            },
        }
    }
}

pub(super) fn read(node: &Node, global: &Global, found: &mut Diagnostics) -> Option<Integration> {
    let mut map = MapReader::new(node, "slack_configs", found)?;
    let send_resolved = map.boolean("send_resolved").is_some_and(|it| it.value);
    let access = Access::read(&mut map, &global.slack);
    let missing = || (SecretSource::Inline(Spanned::bare(Secret::default())), None);
    let (url, token) = access.clone().unwrap_or_else(missing);
    let mut config = SlackConfig::new(url, None);
    config.token = token;
    config.channel = template(&mut map, "channel");
    config.username = template(&mut map, "username");
    config.color = template(&mut map, "color");
    config.title = template(&mut map, "title");
    config.title_link = template(&mut map, "title_link");
    config.pretext = template(&mut map, "pretext");
    config.text = template(&mut map, "text");
    config.message_text = template(&mut map, "message_text");
    config.fallback = template(&mut map, "fallback");
    config.callback_id = template(&mut map, "callback_id");
    config.footer = template(&mut map, "footer");
    config.icon_emoji = template(&mut map, "icon_emoji");
    config.icon_url = template(&mut map, "icon_url");
    config.image_url = template(&mut map, "image_url");
    config.thumb_url = template(&mut map, "thumb_url");
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
    config.actions = map.each("actions", read_action);
    if map.get("mrkdwn_in").is_some() {
        config.mrkdwn_in = map.strings("mrkdwn_in").into_iter().map(|text| text.value).collect();
    }
    config.http = http_config(&mut map, global);
    read_strategy(&mut map, &mut config);
    map.finish();
    access?;
    Some(Integration { kind: IntegrationKind::Slack(Box::new(config)), send_resolved })
}

/// What becomes of later messages: `update_message`, `message_strategy`, `threaded_options`.
fn read_strategy(map: &mut MapReader<'_, '_>, config: &mut SlackConfig) {
    let update = map.boolean("update_message");
    let words = [("new", Strategy::New), ("update", Strategy::Update), ("thread", Strategy::Thread)];
    let strategy = map.one_of("message_strategy", &words);
    if let (Some(update), Some(strategy)) = (&update, &strategy)
        && update.value
        && strategy.value != Strategy::Update
    {
        map.found().error(&strategy.span, "update_message: true belongs to message_strategy: update");
    }
    let updates = update.as_ref().is_some_and(|it| it.value);
    config.strategy = match &strategy {
        Some(strategy) => strategy.value,
        None if updates => Strategy::Update,
        None => Strategy::New,
    };
    if let Some(node) = map.get("threaded_options") {
        if config.strategy != Strategy::Thread {
            map.found().error(&node.span, "threaded_options belong to message_strategy: thread");
        }
        if let Some(mut options) = MapReader::new(node, "threaded_options", map.found()) {
            config.resolve_emoji = options.string("resolve_emoji").map(|text| text.value);
            options.boolean("use_summary_header");
            let what = "the thread's first message is the first notification";
            warn_not_served(&mut options, &["summary_header"], what);
            options.finish();
        }
    }
    let asked = update.filter(|it| it.value).map(|it| it.span).or(strategy.map(|it| it.span));
    if let Some(span) = asked.filter(|_| config.strategy != Strategy::New)
        && !can_edit(config)
    {
        let hint = "set app_token, or api_url: https://slack.com/api/chat.postMessage with the token in http_config";
        map.found().error_hint(&span, "a webhook cannot edit or answer messages: a bot's token is needed", hint);
    }
}

/// Whether messages are posted by chat.postMessage, which says their names. A file's text is not known yet.
fn can_edit(config: &SlackConfig) -> bool {
    match &config.url {
        _ if config.token.is_some() => true,
        SecretSource::Inline(url) => url.value.expose().trim_end_matches('/').ends_with("/chat.postMessage"),
        SecretSource::File(_) => true,
    }
}

fn read_action(node: &Node, found: &mut Diagnostics) -> Option<SlackAction> {
    let mut map = MapReader::new(node, "action", found)?;
    let kind = map.required("type").and_then(|node| template_of(node, "type", map.found()));
    let text = map.required("text").and_then(|node| template_of(node, "text", map.found()));
    let url = template(&mut map, "url");
    let style = template(&mut map, "style");
    let name = template(&mut map, "name");
    let value = template(&mut map, "value");
    let confirm = map.get("confirm").and_then(|node| {
        let mut map = MapReader::new(node, "confirm", map.found())?;
        map.required("text");
        let parts = ["text", "title", "ok_text", "dismiss_text"].map(|key| template(&mut map, key));
        map.finish();
        Some(parts)
    });
    if url.is_none() && name.is_none() {
        let span = map.span().clone();
        map.found().error(&span, "action: one of url and name is needed");
    }
    map.finish();
    // As in Alertmanager: a button that opens an address has nothing for a program to handle.
    let (name, value, confirm) = if url.is_some() { (None, None, None) } else { (name, value, confirm) };
    Some(SlackAction { kind: kind?, text: text?, url, style, name, value, confirm })
}
