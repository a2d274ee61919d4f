//! Server-sent events (WHATWG HTML, section 9.2): a stream over HTTP that the server writes and we read.
//!
//! The server keeps nothing for us unless it gives ids: then a new connection asks for what came behind the last one, and
//! so does a restart, because the id stands in the checkpoint.

mod parser;

use super::SourceContext;
use super::decode::reason;
use super::message::Messages;
use super::standing::Standing;
use super::unacked::fingerprint;
use crate::config::schema::SseConfig;
use crate::telemetry::{root_cause, self_metrics};
use crate::tls::install_provider;
use parser::{Parser, ServerEvent};
use reqwest::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use reqwest::{Client, Response, StatusCode};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Until the head of the answer is there.
const ANSWER: Duration = Duration::from_secs(15);
/// So often the system asks whether the other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// By the standard 204 ends it all; a sidecar that never asked again would have to be restarted by hand.
const AFTER_NO_CONTENT: Duration = Duration::from_secs(60);
/// A server that wants more between two connections does not get it.
const LONGEST_RETRY: Duration = Duration::from_secs(600);
/// What the position is marked with.
const KIND: &str = "sse";
/// The header that names the last id.
const LAST_EVENT_ID: &str = "last-event-id";

/// Why a connection is over.
enum End {
    Cancelled,
    /// The stream was open and is not any more.
    Broken(String),
    /// It never was.
    Refused(String),
    /// 204.
    NoContent,
}

pub(super) async fn run(context: &SourceContext, config: &SseConfig, cancel: &CancellationToken) {
    let mut standing = Standing::new(context);
    let mut stream = Stream {
        context,
        config,
        id: context.position.as_deref().and_then(|bytes| Position::id(bytes, &config.url.value)).unwrap_or_default(),
        retry: None,
        resuming: false,
        stored: context.position.is_some(),
    };
    loop {
        let end = tokio::select! {
            end = stream.connect(&mut standing) => end,
            () = cancel.cancelled() => End::Cancelled,
        };
        let reason = match end {
            End::Cancelled => return,
            End::Broken(reason) => {
                stream.broke();
                reason
            }
            End::Refused(reason) => reason,
            End::NoContent => "the server answered 204: it has no more events, and is asked again each minute".into(),
        };
        let no_content = reason.starts_with("the server answered 204");
        standing.lost(reason).await;
        let wait = standing.next_wait();
        let wait = match stream.retry {
            _ if no_content => AFTER_NO_CONTENT,
            Some(retry) => wait.max(retry),
            None => wait,
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// The position is the last id, and whose it is: another server, or what another transport stored under the same name, has
/// nothing to do with it.
#[derive(Serialize, Deserialize)]
struct Position {
    kind: String,
    /// A fingerprint: the address itself may hold a secret.
    url: u64,
    id: String,
}

impl Position {
    fn encode(url: &str, id: &str) -> Vec<u8> {
        let position = Self { kind: KIND.into(), url: fingerprint(&[url.as_bytes()]), id: id.into() };
        postcard::to_stdvec(&position).unwrap_or_default()
    }

    fn id(bytes: &[u8], url: &str) -> Option<String> {
        let position: Self = postcard::from_bytes(bytes).ok()?;
        (position.kind == KIND && position.url == fingerprint(&[url.as_bytes()])).then_some(position.id)
    }
}

struct Stream<'a> {
    context: &'a SourceContext,
    config: &'a SseConfig,
    /// The last id; empty when there is none.
    id: String,
    /// What the server said how long to wait.
    retry: Option<Duration>,
    /// The next connection goes on behind `id`.
    resuming: bool,
    /// Whether a position of this stream stands in a checkpoint or is on its way to one.
    stored: bool,
}

impl Stream<'_> {
    /// The connection is gone: what came meanwhile is lost, unless the server can go on behind an id.
    fn broke(&mut self) {
        if self.id.is_empty() {
            self_metrics::source_gaps(&self.context.name, "disconnected").increment(1);
        }
    }

    async fn connect(&mut self, standing: &mut Standing<'_>) -> End {
        let mut answer = match tokio::time::timeout(ANSWER, self.ask()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(reason)) => return End::Refused(reason),
            Err(_) => return End::Refused(format!("{} did not answer in time", self.host())),
        };
        if answer.status() == StatusCode::NO_CONTENT {
            return End::NoContent;
        }
        if answer.status() != StatusCode::OK {
            return End::Refused(format!("{} answered {}", self.host(), answer.status()));
        }
        let media = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        if !media.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("text/event-stream") {
            return End::Refused(format!("{} answered {media:?}, which is no text/event-stream", self.host()));
        }
        self_metrics::source_connected(&self.context.name).increment(1);
        if self.resuming {
            self_metrics::source_resumed(&self.context.name).increment(1);
        }
        standing.connected(0).await;
        self.read(&mut answer).await
    }

    fn host(&self) -> &str {
        self.config.host()
    }

    async fn ask(&mut self) -> Result<Response, String> {
        let client = client(self.config, &self.context.base_dir)?;
        let mut request = client
            .get(self.config.url.value.as_str())
            .header(ACCEPT, "text/event-stream")
            .header(CACHE_CONTROL, "no-store");
        for (name, value) in &self.config.headers {
            request = request.header(name.value.as_str(), value.value.as_str());
        }
        if let Some(token) = &self.config.token {
            let token = token.read().await?;
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        self.resuming = !self.id.is_empty();
        if self.resuming {
            // Sent as UTF-8, as the standard says. The parser keeps only what a header can carry.
            request = request.header(LAST_EVENT_ID, self.id.as_bytes());
        }
        request.send().await.map_err(|error| {
            let cause = root_cause(&error);
            if error.is_connect() {
                format!("cannot connect to {}: {cause}", self.host())
            } else {
                format!("the connection to {} broke: {cause}", self.host())
            }
        })
    }

    async fn read(&mut self, answer: &mut Response) -> End {
        let received = self_metrics::source_received_bytes(&self.context.name);
        let idle = self.config.idle_timeout_ms.map(|ms| Duration::from_millis(ms.unsigned_abs()));
        let mut parser = Parser::new(self.context.event_bytes, self.id.clone());
        let mut events = Vec::new();
        // A server that counts from the id and not from behind it repeats one event.
        let mut repeated = Some(self.id.clone()).filter(|id| !id.is_empty());
        loop {
            let chunk = match idle {
                None => answer.chunk().await,
                Some(idle) => match tokio::time::timeout(idle, answer.chunk()).await {
                    Ok(chunk) => chunk,
                    Err(_) => return End::Broken(format!("{} sent nothing for {idle:?} (idle_timeout)", self.host())),
                },
            };
            let chunk = match chunk {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return End::Broken(format!("{} has ended the stream", self.host())),
                Err(error) => {
                    return End::Broken(format!("the stream of {} broke: {}", self.host(), root_cause(&error)));
                }
            };
            received.increment(chunk.len() as u64);
            parser.push(&chunk, &mut events);
            if let Some(retry_ms) = parser.take_retry_ms() {
                self.retry = Some(Duration::from_millis(retry_ms).min(LONGEST_RETRY));
            }
            if !events.is_empty() {
                self_metrics::source_messages(&self.context.name).increment(events.len() as u64);
                if let Some(id) = repeated.take()
                    && events[0].own_id
                    && events[0].id == id
                {
                    self_metrics::source_duplicates(&self.context.name).increment(1);
                    events.remove(0);
                }
            }
            if !self.deliver(&mut events).await {
                return End::Cancelled;
            }
        }
    }

    /// `false` when the core has ended.
    async fn deliver(&mut self, events: &mut Vec<ServerEvent>) -> bool {
        let Some(last) = events.last() else { return true };
        self.id.clone_from(&last.id);
        let mut messages = Messages::new(self.context.event_bytes);
        let mut topic: Arc<str> = "".into();
        for event in events.drain(..) {
            if *topic != *event.name {
                topic = event.name.as_str().into();
            }
            match event.too_large {
                None => messages.push(&event.data, Some(&topic)),
                Some(size) => {
                    let limit = self.context.event_bytes;
                    let message = format!("the event has {size} bytes, the limit is {limit} (limits.event_bytes)");
                    messages.refuse(reason::TOO_LARGE, message);
                }
            }
        }
        // An id once stored is replaced also by none: going on behind an old one would count everything since again.
        self.stored |= !self.id.is_empty();
        let position = self.stored.then(|| Position::encode(&self.config.url.value, &self.id));
        self.context.deliver_messages(&mut messages, position).await.is_some()
    }
}

/// A client for each connection: certificates that were renewed are read anew.
fn client(config: &SseConfig, base_dir: &Path) -> Result<Client, String> {
    install_provider();
    let tls = config.tls.clone().unwrap_or_default().options(base_dir);
    Client::builder()
        .user_agent(concat!("sidewatch/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(ANSWER)
        .tcp_keepalive(KEEPALIVE)
        .tcp_nodelay(true)
        .tls_backend_preconfigured(tls.http_client_config(false)?)
        .http1_only()
        .build()
        .map_err(|error| root_cause(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_position_is_taken_for_an_id() {
        let url = "https://h/feed";
        assert_eq!(Position::id(&Position::encode(url, "e7"), url).as_deref(), Some("e7"));
        assert_eq!(Position::id(&Position::encode(url, "e7"), "https://other/feed"), None);
        for foreign in [&b"e7"[..], b"", b"\x01\x00\x00", &7_u64.to_le_bytes()] {
            assert_eq!(Position::id(foreign, url), None);
        }
    }
}
