//! Slack: an incoming webhook or, with a bot's token, chat.postMessage takes a message with one attachment; chat.update
//! edits it. Servers that speak the same form (Mattermost, Rocket.Chat, Discord under /slack) take it too.

mod message;

pub(super) use message::message;

use super::courier::Context;
use super::http::{Answer, Authorization, HttpClients, HttpOptions, Post};
use super::memory::Remembered;
use super::notification::Notification;
use super::outbox::Outcome;
use super::receiver::parse_url;
use crate::config::schema::SecretSource;
use crate::config::{Span, Spanned};
use crate::model::AlertStatus;
use crate::secret::Secret;
use crate::template::Template;
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};

/// Where a bot's messages go when nothing else is configured.
pub const SLACK_APP_URL: &str = "https://slack.com/api/chat.postMessage";

/// What becomes of a group's later messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Each is a message of its own.
    #[default]
    New,
    /// The first one is edited (`update_message: true`).
    Update,
    /// They are answers in the first one's thread.
    Thread,
}

/// Alertmanager's `slack_configs`, and the short form's `slack`. Texts that are `None` have defaults that need no
/// template.
#[derive(Clone, Debug, PartialEq)]
pub struct SlackConfig {
    /// The incoming webhook's address (`api_url`), or that of chat.postMessage (`app_url`).
    pub url: SecretSource,
    /// A bot's token (`app_token`); without one, `http_config` says who sends.
    pub token: Option<SecretSource>,
    /// What becomes of a group's later messages.
    pub strategy: Strategy,
    /// The emoji with which the first message is marked when all has ended (`threaded_options`).
    pub resolve_emoji: Option<String>,
    /// Where it goes, if not to the webhook's own channel.
    pub channel: Option<Template>,
    /// The sender's name.
    pub username: Option<Template>,
    /// The attachment's bar.
    pub color: Option<Template>,
    /// Its title.
    pub title: Option<Template>,
    /// Where the title leads.
    pub title_link: Option<Template>,
    /// Before the attachment.
    pub pretext: Option<Template>,
    /// The attachment's text.
    pub text: Option<Template>,
    /// The message's own text, above the attachment.
    pub message_text: Option<Template>,
    /// What notifications on a telephone show.
    pub fallback: Option<Template>,
    /// Names the attachment to the program that handles its buttons.
    pub callback_id: Option<Template>,
    /// Below the text.
    pub footer: Option<Template>,
    /// Fields: title, value, and whether two stand side by side.
    pub fields: Vec<SlackField>,
    /// Buttons.
    pub actions: Vec<SlackAction>,
    /// `:name:` of the sender's picture.
    pub icon_emoji: Option<Template>,
    /// Address of the sender's picture.
    pub icon_url: Option<Template>,
    /// A picture below the text.
    pub image_url: Option<Template>,
    /// A small picture beside the text.
    pub thumb_url: Option<Template>,
    /// Parts in which Slack's markup counts.
    pub mrkdwn_in: Vec<String>,
    /// Whether names and channels in the text become links.
    pub link_names: bool,
    /// How long an answer may take, in milliseconds; 0 for the default.
    pub timeout_ms: i64,
    /// How the request is made.
    pub http: HttpOptions,
}

/// One of `fields`.
#[derive(Clone, Debug, PartialEq)]
pub struct SlackField {
    /// The heading.
    pub title: Template,
    /// The text.
    pub value: Template,
    /// Whether it may stand beside another one.
    pub short: bool,
}

/// One of `actions`: a button that opens an address, or that a program handles.
#[derive(Clone, Debug, PartialEq)]
pub struct SlackAction {
    /// `button`.
    pub kind: Template,
    /// What stands on it.
    pub text: Template,
    /// What it opens.
    pub url: Option<Template>,
    /// `primary`, `danger` or `default`.
    pub style: Option<Template>,
    /// Names it to the program.
    pub name: Option<Template>,
    /// What the program is given.
    pub value: Option<Template>,
    /// Asked before: text, title, ok_text, dismiss_text.
    pub confirm: Option<[Option<Template>; 4]>,
}

impl SlackConfig {
    /// With the default texts.
    pub fn new(url: SecretSource, channel: Option<String>) -> Self {
        Self {
            url,
            token: None,
            strategy: Strategy::New,
            resolve_emoji: None,
            channel: channel.map(|channel| Template::literal(&channel)),
            username: None,
            color: None,
            title: None,
            title_link: None,
            pretext: None,
            text: None,
            message_text: None,
            fallback: None,
            callback_id: None,
            footer: None,
            fields: Vec::new(),
            actions: Vec::new(),
            icon_emoji: None,
            icon_url: None,
            image_url: None,
            thumb_url: None,
            mrkdwn_in: ["fallback", "pretext", "text"].map(String::from).to_vec(),
            link_names: false,
            timeout_ms: 0,
            http: HttpOptions::default(),
        }
    }

    /// A bot's, which may edit its messages.
    pub fn bot(token: SecretSource, url: &str, channel: Option<String>) -> Self {
        let url = Secret::new(url);
        let url = SecretSource::Inline(Spanned { value: url, span: Span::default() });
        Self { token: Some(token), ..Self::new(url, channel) }
    }
}

/// Slack's answer to chat.postMessage and its companions.
#[derive(Default, serde::Deserialize)]
struct Said {
    ok: Option<bool>,
    #[serde(default)]
    error: String,
    #[serde(default)]
    channel: String,
    #[serde(default)]
    ts: String,
}

/// Sends one message, or edits the one that told of this episode before. Gives what is to be remembered; `None` leaves it.
pub(super) async fn send(
    config: &SlackConfig,
    notification: &Notification,
    earlier: Option<&Remembered>,
    clients: &HttpClients,
    context: &Context<'_>,
) -> (Outcome, Option<Option<Remembered>>) {
    let url = match config.url.read().await.and_then(|text| parse_url(text.expose())) {
        Ok(url) => url,
        Err(error) => return (Outcome::Retry { error, retry_after_ms: None }, None),
    };
    let mut options = config.http.clone();
    if let Some(token) = &config.token {
        options.authorization = Some(Authorization::Scheme { scheme: "Bearer".into(), credentials: token.clone() });
    }
    let sender = Sender { config, notification, clients, context, options };
    let first = match earlier {
        Some(Remembered::Posted { channel, ts, since }) if *since == notification.since => Some((channel, ts)),
        _ => None,
    };
    let body = message(config, notification, context);
    let (outcome, posted) = match (config.strategy, first) {
        (Strategy::Update, Some((channel, ts))) => sender.update(&url, body, channel, ts).await,
        (Strategy::Thread, Some((channel, ts))) => {
            let mut body = body;
            body["channel"] = channel.as_str().into();
            body["thread_ts"] = ts.as_str().into();
            let (outcome, _) = sender.post(&url, &body).await;
            if matches!(outcome, Outcome::Delivered(_)) {
                sender.mark(&url, channel, ts).await;
            }
            (outcome, Some((channel.clone(), ts.clone())))
        }
        _ => sender.post(&url, &body).await,
    };
    if config.strategy == Strategy::New || !matches!(outcome, Outcome::Delivered(_)) {
        return (outcome, None);
    }
    // When all has ended the episode is over; the next one begins with a message of its own.
    let over = notification.status == AlertStatus::Resolved;
    let kept = posted.filter(|_| !over);
    let kept = kept.map(|(channel, ts)| Remembered::Posted { channel, ts, since: notification.since });
    (outcome, Some(kept))
}

struct Sender<'a> {
    config: &'a SlackConfig,
    notification: &'a Notification,
    clients: &'a HttpClients,
    context: &'a Context<'a>,
    options: HttpOptions,
}

impl Sender<'_> {
    /// Posts, and gives the message's channel and name where Slack says them.
    async fn post(&self, url: &Url, body: &Value) -> (Outcome, Option<(String, String)>) {
        let post = Post {
            url,
            body: body.to_string().into_bytes(),
            key: self.notification.key(),
            options: &self.options,
            timeout_ms: self.config.timeout_ms,
            hint,
        };
        match self.clients.send(post, self.context.now).await {
            Ok(answer) => judge(&answer, self.context),
            Err(outcome) => (outcome, None),
        }
    }

    /// Edits the earlier message; one that is gone or too old to be edited is told anew.
    async fn update(&self, url: &Url, mut body: Value, channel: &str, ts: &str) -> (Outcome, Option<(String, String)>) {
        let told_anew = body.clone();
        body["channel"] = channel.into();
        body["ts"] = ts.into();
        let (outcome, posted) = self.post(&sibling(url, "chat.update"), &body).await;
        match &outcome {
            Outcome::Final { error } if CANNOT_EDIT.iter().any(|word| error.contains(word)) => {
                self.post(url, &told_anew).await
            }
            Outcome::Delivered(_) => (outcome, posted.or_else(|| Some((channel.to_owned(), ts.to_owned())))),
            _ => (outcome, posted),
        }
    }

    /// Marks the thread's first message when all has ended. That is an extra: it fails without consequences.
    async fn mark(&self, url: &Url, channel: &str, ts: &str) {
        let Some(emoji) = &self.config.resolve_emoji else { return };
        if self.notification.status == AlertStatus::Resolved {
            let body = json!({"channel": channel, "timestamp": ts, "name": emoji.trim_matches(':')});
            let (outcome, _) = self.post(&sibling(url, "reactions.add"), &body).await;
            if let Outcome::Retry { error, .. } | Outcome::Final { error } = outcome {
                tracing::debug!(error, "Slack did not take the reaction");
            }
        }
    }
}

/// Another method of the same API.
fn sibling(url: &Url, method: &str) -> Url {
    let mut sibling = url.clone();
    let path = url.path();
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    sibling.set_path(&format!("{folder}/{method}"));
    sibling
}

/// Slack answers 200 to what it refuses, too: `{"ok": false, "error": ...}` from its API, a word from a webhook.
fn judge(answer: &Answer, context: &Context<'_>) -> (Outcome, Option<(String, String)>) {
    if !answer.status.is_success() {
        return (answer.outcome(context.now, hint), None);
    }
    if !answer.is_json() {
        let word = answer.body.as_str();
        // Slack itself says ok; servers that imitate it say nothing, or something of their own that begins with no error.
        let refused = WEBHOOK_ERRORS.iter().any(|(error, _)| word == *error);
        let outcome = if refused {
            answer.failure(false, answer.say(), hint, context.now)
        } else {
            answer.outcome(context.now, hint)
        };
        return (outcome, None);
    }
    let said = serde_json::from_str::<Said>(&answer.body).unwrap_or_default();
    // Servers that imitate Slack answer with JSON of their own.
    let Some(ok) = said.ok else { return (answer.outcome(context.now, hint), None) };
    if ok {
        let posted = (!said.channel.is_empty() && !said.ts.is_empty()).then_some((said.channel, said.ts));
        return (Outcome::Delivered(format!("answered {} ok", answer.status.as_u16())), posted);
    }
    let passes = PASSING.contains(&said.error.as_str());
    let text = format!("answered {}: {}", answer.status.as_u16(), said.error);
    match answer.failure(passes, text, hint, context.now) {
        Outcome::Retry { error, .. } => {
            (Outcome::Retry { error, retry_after_ms: answer.retry_after_ms(context.now) }, None)
        }
        outcome => (outcome, None),
    }
}

/// Slack's words for what passes by itself (docs.slack.dev, errors of chat.postMessage).
const PASSING: [&str; 8] = [
    "ratelimited",
    "rate_limited",
    "message_limit_exceeded",
    "internal_error",
    "fatal_error",
    "service_unavailable",
    "request_timeout",
    "team_added_to_org",
];

/// Slack's words for a message that cannot be edited any more.
const CANNOT_EDIT: [&str; 4] = ["message_not_found", "cant_update_message", "edit_window_closed", "channel_not_found"];

/// Slack's own words for what is wrong (its pages on incoming webhooks and on chat.postMessage), and what to do.
const WEBHOOK_ERRORS: [(&str, &str); 19] = [
    ("invalid_payload", "Slack did not understand the message: look at the templates of title, text and fields"),
    ("no_text", "the message was empty: look at the templates of title and text"),
    ("channel_not_found", "the channel does not exist or the sender may not write to it; a webhook needs no channel"),
    ("channel_is_archived", "the channel is archived: choose another one"),
    ("is_archived", "the channel is archived: choose another one"),
    ("not_in_channel", "the bot is not in the channel: invite it, or give it the scope chat:write.public"),
    ("no_service", "the webhook was removed or switched off: make a new one and put its address into url"),
    ("no_service_id", "the webhook's address is not complete"),
    ("invalid_token", "the address is not complete or was revoked: make a new webhook"),
    ("invalid_auth", "the token is not valid: copy the bot's token (xoxb-...) from the app's page"),
    ("not_authed", "no token was sent: set app_token"),
    ("token_revoked", "the token was revoked: install the app again"),
    ("account_inactive", "the token belongs to a bot or a workspace that is gone"),
    ("missing_scope", "the bot lacks a scope: it needs chat:write"),
    ("no_team", "the workspace is gone or the address is mistyped"),
    ("user_not_found", "the channel names a user who does not exist"),
    ("action_prohibited", "an administrator forbids this webhook to write there"),
    ("restricted_action", "an administrator forbids the bot to write there"),
    ("msg_too_long", "the text is too long: shorten the templates"),
];

fn hint(status: StatusCode, answer: &str) -> Option<&'static str> {
    let is_word = |text: &str, word: &str| {
        text.match_indices(word).any(|(at, _)| {
            let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part)
        })
    };
    let named = WEBHOOK_ERRORS.iter().find(|(word, _)| is_word(answer, word)).map(|(_, hint)| *hint);
    named.or(match status.as_u16() {
        404 | 410 => Some("there is no webhook at this address: make a new one and put its address into url"),
        429 => Some("Slack takes about one message a second from a webhook"),
        _ => None,
    })
}
