//! `notify:` and `watchdog:`: whom alerts are told.

use super::{Named, SecretSource, SilenceConfig};
use crate::config::{Span, Spanned};

/// `notify:`: receivers of the short form, the first is the default; `alertmanager: FILE` beside or instead.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NotifyConfig {
    /// The receivers, in order.
    pub receivers: Vec<Named<ReceiverConfig>>,
    /// A file in Alertmanager's format.
    pub alertmanager: Option<Spanned<String>>,
    /// `flapping:`.
    pub flapping: FlappingConfig,
    /// `exec_allowed:`: the programs that receivers may run, by their whole paths.
    pub exec_allowed: Vec<Spanned<String>>,
    /// `silences:`, silences and maintenance windows.
    pub silences: Vec<SilenceConfig>,
}

/// `notify: {flapping: {changes, window, steady}}`: when the messages of an alert are damped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlappingConfig {
    /// Nothing is said: on for the short form, off for Alertmanager's file.
    #[default]
    Default,
    /// `flapping: false`.
    Off,
    /// For all routes.
    On {
        /// More changes than this within the window (6).
        changes: usize,
        /// `window:` in milliseconds (10 min).
        window_ms: i64,
        /// `steady:` in milliseconds (5 min): without a change for so long, it is over.
        steady_ms: i64,
    },
}

/// `watchdog: {url | url_file, every, method}`: a dead man's switch, pinged while rules are evaluated in time.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchdogConfig {
    /// The address that is asked.
    pub url: SecretSource,
    /// `every:` in milliseconds (1 min).
    pub every_ms: i64,
    /// `method: POST` instead of GET.
    pub post: bool,
}

/// One receiver of the short form.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceiverConfig {
    /// Where messages go.
    pub kind: ReceiverKind,
    /// `send_resolved:` (true).
    pub send_resolved: bool,
    /// The place of the entry.
    pub span: Span,
}

/// The receivers of the short form.
#[derive(Clone, Debug, PartialEq)]
pub enum ReceiverKind {
    /// One line a change on standard output.
    Terminal,
    /// `slack: {url | url_file, channel}`.
    Slack {
        /// The incoming webhook's address.
        url: SecretSource,
        /// `channel:`.
        channel: Option<String>,
    },
    /// `slack: {app_token | app_token_file, app_url, channel, update_message}`: a bot.
    SlackBot {
        /// The bot's token.
        token: SecretSource,
        /// `app_url:`; Slack's chat.postMessage when absent.
        url: Option<Spanned<String>>,
        /// `channel:`.
        channel: String,
        /// `update_message:` (false): a group's later messages edit its first one.
        update_message: bool,
    },
    /// `webhook: {url | url_file, headers}`: Alertmanager's payload version 4.
    Webhook {
        /// The address.
        url: SecretSource,
        /// `headers:`.
        headers: Vec<(String, String)>,
    },
    /// `email: {to, from, smtp, username, password | password_file}`.
    Email {
        /// One or more addresses.
        to: Vec<Spanned<String>>,
        /// `from:`; `sidewatch@HOST` when absent.
        from: Option<Spanned<String>>,
        /// `smtp://host:25` (STARTTLS where offered), `smtps://host:465` (TLS at once); credentials may stand in it.
        smtp: Spanned<String>,
        /// `username:`.
        username: Option<String>,
        /// `password:` or `password_file:`.
        password: Option<SecretSource>,
        /// `require_tls:` (true for hosts that are not loopback).
        require_tls: Option<bool>,
    },
    /// `pagerduty: {routing_key | routing_key_file, url, severity}`: Events API version 2.
    PagerDuty {
        /// The integration's key.
        key: SecretSource,
        /// `url:`; PagerDuty's own when absent.
        url: Option<Spanned<String>>,
        /// `severity:` (error).
        severity: Option<String>,
    },
    /// `alertmanager: {url}`: alerts are handed over to one or more Alertmanagers.
    Alertmanager {
        /// Their addresses.
        urls: Vec<SecretSource>,
    },
    /// `exec: {command, timeout}`: a program of [`NotifyConfig::exec_allowed`] and its arguments.
    Exec {
        /// The program's path and its arguments.
        command: Vec<Spanned<String>>,
        /// `timeout:` in milliseconds (10 s).
        timeout_ms: Option<i64>,
    },
}
