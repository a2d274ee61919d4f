//! One connection to one server, and what went wrong when there is none.

use crate::config::schema::{NatsCredentials, NatsServers, NatsUrl, SecretSource};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr, ServerError};
use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// For each step of a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// For an answer of JetStream's API.
const REQUEST: Duration = Duration::from_secs(5);
/// A server that answers none of two pings is gone.
const PING: Duration = Duration::from_secs(5);
/// What a server says first (NATS protocol, INFO) is no longer than this, whatever its cluster.
const INFO_BYTES: usize = 64 << 10;
/// Messages of one subscription that may wait in the client, until its source's task takes them.
pub(super) const WAITING_MESSAGES: usize = 32_768;

/// A connection that ends once: whoever uses it makes a new one then.
pub(crate) struct Connection {
    pub client: Client,
    pub news: Arc<News>,
}

/// What the client reports from its own task.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// The connection is gone.
    pub gone: CancellationToken,
    /// The server has refused something: a permission that is missing.
    refused: Mutex<Option<String>>,
    pub refused_now: Notify,
    /// Messages were dropped because nobody took them in time.
    pub slow: AtomicBool,
}

impl News {
    /// What the server said last, once.
    pub fn take_refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn hear(&self, event: &Event) {
        match event {
            Event::Disconnected | Event::Closed => self.gone.cancel(),
            Event::SlowConsumer(_) => self.slow.store(true, Ordering::Relaxed),
            Event::ServerError(error) => {
                let said = match error {
                    ServerError::Other(text) => text.clone(),
                    other => other.to_string(),
                };
                *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
                self.refused_now.notify_one();
            }
            _ => {}
        }
    }
}

impl Connection {
    /// Connects to the first of the servers that will have us, beginning with the one at `turn`.
    ///
    /// # Errors
    /// A sentence with the reason of each server.
    pub async fn open(config: &NatsServers, base_dir: &Path, name: &str, turn: usize) -> Result<Self, String> {
        let mut reasons: Vec<String> = Vec::new();
        let servers = config.urls.iter().cycle().skip(turn % config.urls.len().max(1)).take(config.urls.len());
        for url in servers {
            match Self::to(url, config, base_dir, name).await {
                Ok(connection) => return Ok(connection),
                Err(reason) => reasons.push(format!("{}: {reason}", url.address())),
            }
        }
        // The same servers fail in another order next time: that is no other reason.
        reasons.sort();
        Err(reasons.join("; "))
    }

    async fn to(url: &NatsUrl, config: &NatsServers, base_dir: &Path, name: &str) -> Result<Self, String> {
        let server_wants_tls = greet(url).await?;
        let news = Arc::new(News::default());
        let heard = news.clone();
        let mut options = ConnectOptions::new()
            .name(name)
            .connection_timeout(CONNECT)
            .request_timeout(Some(REQUEST))
            .ping_interval(PING)
            .subscription_capacity(WAITING_MESSAGES)
            .skip_subject_validation(true)
            .ignore_discovered_servers()
            // The client's own attempts would hide what is wrong and when: one of them, then the connection ends.
            .max_reconnects(1)
            .event_callback(move |event| {
                heard.hear(&event);
                std::future::ready(())
            });
        if let Some(prefix) = &config.inbox_prefix {
            options = options.custom_inbox_prefix(&prefix.value);
        }
        if let Some(credentials) = &config.credentials {
            options = with_credentials(options, credentials, base_dir)?;
        }
        if url.tls || config.tls.is_some() || server_wants_tls {
            let tls = config.tls.clone().unwrap_or_default().options(base_dir);
            options = options.tls_client_config(tls.named_client_config()?).require_tls(true);
        }
        let address: ServerAddr = url.to_string().parse().map_err(|error: std::io::Error| error.to_string())?;
        let client = options.connect(address).await.map_err(|error| match error.kind() {
            ConnectErrorKind::AuthorizationViolation if config.credentials.is_none() => {
                "the server wants credentials: set user, token, nkey_file or creds_file".to_owned()
            }
            ConnectErrorKind::AuthorizationViolation => "the server refuses the credentials".to_owned(),
            ConnectErrorKind::Authentication => "the credentials cannot be used: the seed does not sign".to_owned(),
            ConnectErrorKind::TimedOut => format!("no answer within {} s", CONNECT.as_secs()),
            _ => chain(&error),
        })?;
        Ok(Self { client, news })
    }
}

/// Looks at what the server says first, before the client does: what is no NATS server is named as what it is, and one
/// that talks without end is not listened to. Whether the server insists on TLS.
async fn greet(url: &NatsUrl) -> Result<bool, String> {
    let greeting = async {
        let mut stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(|error| error.to_string())?;
        let mut said = Vec::new();
        while said.len() < INFO_BYTES && !said.contains(&b'\n') {
            // Whoever does not begin as a NATS server does needs no second look.
            if !said.is_empty() && !said.iter().zip(b"INFO ").all(|(a, b)| a == b) {
                break;
            }
            if stream.read_buf(&mut said).await.map_err(|error| error.to_string())? == 0 {
                break;
            }
        }
        Ok::<_, String>(said)
    };
    let said = match tokio::time::timeout(CONNECT, greeting).await {
        Ok(said) => said?,
        Err(_) => return Err(format!("no answer within {} s", CONNECT.as_secs())),
    };
    let line = said.strip_prefix(b"INFO ").and_then(|rest| rest.split(|byte| *byte == b'\n').next());
    match line.map(serde_json::from_slice::<serde_json::Value>) {
        Some(Ok(info)) => Ok(info["tls_required"] == true),
        _ if said.is_empty() => Err("it closes the connection without a word".to_owned()),
        _ => {
            let shown: String = String::from_utf8_lossy(&said).chars().take(40).collect();
            Err(format!("what answers there is no NATS server: it says {shown:?}"))
        }
    }
}

fn with_credentials(
    options: ConnectOptions,
    credentials: &NatsCredentials,
    base_dir: &Path,
) -> Result<ConnectOptions, String> {
    let file = |path: &str| {
        let path = base_dir.join(path);
        std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    // Read anew for each connection: whoever changes a password changes the file.
    let secret = |source: &SecretSource| source.read_now().map(|secret| secret.expose().to_owned());
    Ok(match credentials {
        NatsCredentials::User(user, password) => options.user_and_password(user.clone(), secret(password)?),
        NatsCredentials::Token(token) => options.token(secret(token)?),
        NatsCredentials::Nkey(path) => {
            let text = file(&path.value)?;
            // The file may hold comments or the public key as well; a user's seed begins with SU.
            let seed = text.lines().map(str::trim).find(|line| line.starts_with("SU"));
            options.nkey(seed.ok_or_else(|| format!("{} holds no user's seed (SU...)", path.value))?.to_owned())
        }
        NatsCredentials::Creds(path) => {
            options.credentials(&file(&path.value)?).map_err(|error| format!("{}: {error}", path.value))?
        }
    })
}

/// An error with its causes, none of them twice.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
