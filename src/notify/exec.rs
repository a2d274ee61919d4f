//! Commands: an allow-listed program is run for each message, without a shell. The message stands on its standard input as
//! JSON (the webhook's payload, version 4) and, in short, in its environment.
//!
//! It has the message when it exits with 0; 75 (EX_TEMPFAIL of sysexits.h) asks for another try; anything else is final.

use super::courier::Context;
use super::notification::Notification;
use super::outbox::Outcome;
use super::{texts, webhook};
use crate::config::{Diagnostics, Spanned};
use crate::model::{AlertStatus, format_duration_ms};
use rustix::process::{Pid, Signal, kill_process_group};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, Command};
use tokio_util::sync::CancellationToken;

/// How long a command may run when nothing else is configured, in milliseconds.
pub const DEFAULT_TIMEOUT_MS: i64 = 10_000;
/// The longest time that may be configured, in milliseconds: the courier cuts off what takes longer.
pub const LONGEST_TIMEOUT_MS: i64 = 50_000;
/// How much of the end of standard error is kept, in bytes.
const STDERR_BYTES: usize = 2_048;
/// How much of it a message shows, in characters.
const STDERR_SHOWN: usize = 400;
/// How long standard error is read after the command has ended.
const STDERR_GRACE: Duration = Duration::from_millis(200);
/// "Temporary failure; the user is invited to retry" (sysexits.h).
const EX_TEMPFAIL: i32 = 75;
/// What of sidewatch's own environment commands see; the rest may hold secrets.
const INHERITED: [&str; 7] = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// `exec_configs`, and the short form's `exec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecConfig {
    /// The program's path and its arguments.
    pub command: Vec<String>,
    /// How long it may run, in milliseconds; then its process group is killed.
    pub timeout_ms: i64,
}

impl ExecConfig {
    /// Checks a command against the allow list (`notify: {exec_allowed: [...]}` of sidewatch.yaml).
    pub(super) fn checked(
        command: &[Spanned<String>],
        timeout_ms: Option<i64>,
        allowed: &[Spanned<String>],
        found: &mut Diagnostics,
    ) -> Option<Self> {
        let program = command.first()?;
        if !program.value.starts_with('/') {
            let message = format!("{:?} is no path from the root", program.value);
            found.error_hint(&program.span, message, "write the program's whole path; there is no shell and no PATH");
            return None;
        }
        if !allowed.iter().any(|allowed| allowed.value == program.value) {
            let message = format!("the command {} may not be run", program.value);
            let hint = format!("allow it in sidewatch.yaml: notify: {{exec_allowed: [{}]}}", program.value);
            found.error_hint(&program.span, message, hint);
            return None;
        }
        let command = command.iter().map(|part| part.value.clone()).collect();
        Some(Self { command, timeout_ms: timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS).min(LONGEST_TIMEOUT_MS) })
    }
}

/// Runs the command for one message.
pub(super) async fn send(config: &ExecConfig, notification: &Notification, context: &Context<'_>) -> Outcome {
    let retry = |error: String| Outcome::Retry { error, retry_after_ms: None };
    let [program, arguments @ ..] = config.command.as_slice() else {
        return Outcome::Final { error: "there is no command".into() };
    };
    let body = match webhook::body(notification, context.external_url, 0) {
        Ok(body) => body,
        Err(error) => return Outcome::Final { error },
    };
    let inherited = INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let started = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(inherited)
        .envs(environment(notification, context))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return retry(format!("{program} cannot be started: {error}")),
    };
    // Should this attempt be cut off, what the command started goes with it.
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let ended = CancellationToken::new();
    let running = async {
        let wait = async {
            let status = child.wait().await;
            ended.cancel();
            status
        };
        let (status, (), tail) = tokio::join!(wait, feed(stdin, &body, &ended), tail_of(stderr, &ended));
        (status, tail)
    };
    match tokio::time::timeout(Duration::from_millis(config.timeout_ms.unsigned_abs()), running).await {
        Err(_) => {
            group.kill();
            let _ = child.wait().await;
            retry(format!("{program} did not end within {} and was killed", format_duration_ms(config.timeout_ms)))
        }
        Ok((Err(error), _)) => retry(format!("{program} was lost: {error}")),
        Ok((Ok(status), tail)) => {
            group.0 = None;
            judge(program, status, &tail)
        }
    }
}

fn judge(program: &str, status: ExitStatus, tail: &str) -> Outcome {
    let said = if tail.is_empty() { String::new() } else { format!(": {tail}") };
    match status.code() {
        Some(0) => Outcome::Delivered(format!("{program} ended with 0")),
        Some(EX_TEMPFAIL) => {
            Outcome::Retry { error: format!("{program} asks for another try (75){said}"), retry_after_ms: None }
        }
        Some(code) => Outcome::Final { error: format!("{program} ended with {code}{said}") },
        None => Outcome::Final { error: format!("{program} was ended by a signal ({status}){said}") },
    }
}

/// Writes the message; a command that does not read it closes the pipe, which is its right.
async fn feed(stdin: Option<ChildStdin>, body: &[u8], ended: &CancellationToken) {
    let Some(mut stdin) = stdin else { return };
    let write = async {
        let _ = stdin.write_all(body).await;
        let _ = stdin.shutdown().await;
    };
    tokio::select! {
        () = write => {}
        () = ended.cancelled() => {}
    }
}

/// The end of standard error, read to its end so that the command never waits for a reader. What the command left behind
/// in the background may hold the pipe open; it is not waited for.
async fn tail_of(stderr: Option<ChildStderr>, ended: &CancellationToken) -> String {
    let Some(mut stderr) = stderr else { return String::new() };
    let mut tail = Vec::new();
    let read = async {
        let mut piece = [0; 1_024];
        while let Ok(read @ 1..) = stderr.read(&mut piece).await {
            tail.extend_from_slice(&piece[..read]);
            let surplus = tail.len().saturating_sub(STDERR_BYTES);
            tail.drain(..surplus);
        }
    };
    let left_behind = async {
        ended.cancelled().await;
        tokio::time::sleep(STDERR_GRACE).await;
    };
    tokio::select! {
        () = read => {}
        () = left_behind => {}
    }
    let text = String::from_utf8_lossy(&tail);
    let clean: Vec<char> = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean[clean.len().saturating_sub(STDERR_SHOWN)..].iter().collect()
}

/// The message in short. Names are SIDEWATCH_...; labels that all alerts share are SIDEWATCH_LABEL_NAME.
fn environment(notification: &Notification, context: &Context<'_>) -> Vec<(String, String)> {
    let status = if notification.status == AlertStatus::Firing { "firing" } else { "resolved" };
    let mut pairs: Vec<(String, String)> = [
        ("RECEIVER", notification.receiver.to_string()),
        ("STATUS", status.into()),
        ("REASON", reason(notification)),
        ("GROUP_KEY", notification.group_key.to_string()),
        ("KEY", notification.key()),
        ("SUBJECT", texts::subject(notification)),
        ("FIRING", notification.firing().count().to_string()),
        ("RESOLVED", notification.resolved().count().to_string()),
        ("EXTERNAL_URL", context.external_url.to_owned()),
    ]
    .map(|(name, value)| (format!("SIDEWATCH_{name}"), value))
    .into();
    if let [alert] = notification.alerts.as_slice()
        && let Some(summary) = texts::summary(alert)
    {
        pairs.push(("SIDEWATCH_SUMMARY".into(), summary.to_owned()));
    }
    for label in notification.common_labels.iter() {
        let name = label.name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
        pairs.push((format!("SIDEWATCH_LABEL_{}", name.collect::<String>()), label.value.to_string()));
    }
    // An environment cannot hold NUL.
    pairs.into_iter().map(|(name, value)| (name, value.replace('\0', " "))).collect()
}

fn reason(notification: &Notification) -> String {
    let word = serde_json::to_value(notification.reason).unwrap_or_default();
    word.as_str().unwrap_or_default().to_owned()
}

/// A process group that is killed unless its command ended by itself.
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(id) = self.0.take() {
            // It may have ended meanwhile, which is what is wanted.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
