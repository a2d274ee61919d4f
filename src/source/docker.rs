//! Events of the Docker Engine API (`GET /events`, 1.43), also of Podman's.
//!
//! The daemon keeps its last events (Docker 256, Podman its journal): after an interruption they are asked for again from a
//! little before the last one, and told apart by what was seen ([`position`]). The start of a container is told when its
//! address is known, or after a while without; later events of that container wait behind it, all others do not.

mod daemon;
mod event;
mod order;
mod position;

use super::lines::LineBuffer;
use super::message::Messages;
use super::standing::Standing;
use super::{SourceContext, decode};
use crate::config::schema::DockerConfig;
use crate::telemetry::{clock, root_cause, self_metrics};
use daemon::Daemon;
use event::{Event, Running};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use metrics::Counter;
use order::Order;
use position::Position;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Events of one batch.
const BATCH: usize = 256;
/// After so long without a further event, what the daemon remembered has come.
const QUIET: Duration = Duration::from_millis(500);
/// When a connection is this old, what the daemon remembers is looked at once more ([`Daemon::remembered`]).
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// How long Docker may go on with that answer, in nanoseconds.
const LOOKS_ON_NANO: i64 = 2_000_000_000;

/// The short id of a container and what was found out about it.
type Found = (String, Option<event::Details>);

struct Source<'a> {
    context: &'a SourceContext,
    config: &'a DockerConfig,
    position: Position,
    order: Order,
    messages: Messages,
    received: Counter,
    duplicates: Counter,
}

/// One connection.
struct Session {
    daemon: Daemon,
    /// What the daemon remembers was asked for from here on.
    since: Option<i64>,
    /// Which containers ran when it began, until that is compared with what is known.
    running: Option<Vec<Running>>,
    inspecting: FuturesUnordered<BoxFuture<'static, Found>>,
    /// Containers that events of this connection speak of: the listing says nothing new about them.
    touched: BTreeSet<String>,
    last_event: Instant,
    second_look: BoxFuture<'static, Result<Vec<u8>, String>>,
}

/// Runs until cancelled.
pub(super) async fn run(context: &SourceContext, config: &DockerConfig, cancel: &CancellationToken) {
    let name = &context.name;
    let connected = self_metrics::source_connected(name);
    let forgotten = self_metrics::source_gaps(name, "forgotten");
    let mut standing = Standing::new(context);
    let mut source = Source {
        context,
        config,
        position: Position::decode(context.position.as_deref()),
        order: Order::default(),
        messages: Messages::new(context.event_bytes),
        received: self_metrics::source_messages(name),
        duplicates: self_metrics::source_duplicates(name),
    };
    loop {
        let opened = tokio::select! {
            opened = source.open() => opened,
            () = cancel.cancelled() => return,
        };
        let reason = match opened {
            Ok((session, response)) => {
                connected.increment(1);
                standing.connected(0).await;
                // From here on everything counts: what happens before the first event is stored comes again after a crash.
                if session.since.is_none() && !source.begin().await {
                    return;
                }
                tokio::select! {
                    reason = source.listen(session, response, &forgotten) => reason,
                    () = cancel.cancelled() => return,
                }
            }
            Err(reason) => Some(reason),
        };
        // The core has ended.
        let Some(reason) = reason else { return };
        standing.lost(reason).await;
        tokio::select! {
            () = tokio::time::sleep(standing.next_wait()) => {}
            () = cancel.cancelled() => return,
        }
    }
}

impl Source<'_> {
    /// Stores where the first connection began. `false` when the core has ended.
    async fn begin(&mut self) -> bool {
        let position = self.position.encode(None);
        let taken = self.context.deliver_messages(&mut self.messages, Some(position)).await;
        self.context.sink.want_checkpoint();
        taken.is_some()
    }

    /// Listens first and lists then: a container that starts between the two is in both, never in none.
    async fn open(&mut self) -> Result<(Session, reqwest::Response), String> {
        let daemon = Daemon::connect(self.config, &self.context.base_dir).await?;
        // A clock that was set back would make everything look old.
        self.position.begin(clock::now().micros().saturating_mul(1_000));
        let since = self.position.since();
        let response = daemon.events(self.config, since).await?;
        let running = match self.config.running && event::wants_containers(self.config) {
            true => Some(daemon.running(self.config).await?),
            false => None,
        };
        let second_look = self.second_look(&daemon);
        let session = Session {
            daemon,
            since,
            second_look,
            running,
            inspecting: FuturesUnordered::new(),
            touched: BTreeSet::new(),
            last_event: clock::instant(),
        };
        Ok((session, response))
    }

    fn second_look(&self, daemon: &Daemon) -> BoxFuture<'static, Result<Vec<u8>, String>> {
        let (daemon, config, since) = (daemon.clone(), self.config.clone(), self.position.asked_from());
        Box::pin(async move {
            tokio::time::sleep(SECOND_LOOK).await;
            let until = clock::now().micros().saturating_mul(1_000).saturating_add(LOOKS_ON_NANO);
            daemon.remembered(&config, since, until).await
        })
    }

    /// Reads until the connection ends: why, or `None` when the core has ended.
    async fn listen(
        &mut self,
        mut session: Session,
        mut response: reqwest::Response,
        forgotten: &Counter,
    ) -> Option<String> {
        let received_bytes = self_metrics::source_received_bytes(&self.context.name);
        let mut lines = LineBuffer::new(self.context.event_bytes);
        // What was not resolved on the last connection is asked for on this one.
        for id in self.order.waiting() {
            self.inspect(&session, id);
        }
        let mut replayed = session.since.is_none();
        let mut looked = false;
        loop {
            if replayed && let Some(listing) = session.running.take() {
                self.reconcile(&mut session, listing);
                if !self.deliver().await {
                    return None;
                }
            }
            let quiet = tokio::time::sleep_until((session.last_event + QUIET).into());
            let mut end = None;
            tokio::select! {
                biased;
                Some((id, details)) = session.inspecting.next() => self.order.resolved(&id, details),
                chunk = response.chunk() => match chunk {
                    Ok(Some(bytes)) => {
                        received_bytes.increment(bytes.len() as u64);
                        session.last_event = clock::instant();
                        end = self.lines(&mut session, &lines.push(&bytes));
                        for _ in 0..lines.take_oversized() {
                            let limit = self.context.event_bytes;
                            let message = format!("an event is longer than {limit} bytes (limits.event_bytes)");
                            self.messages.refuse(decode::reason::TOO_LARGE, message);
                        }
                    }
                    Ok(None) => end = Some("the daemon closed the connection".to_owned()),
                    Err(error) => end = Some(format!("the connection to the daemon broke: {}", root_cause(&error))),
                },
                remembered = &mut session.second_look, if replayed && !looked => {
                    looked = true;
                    match remembered {
                        Ok(remembered) => self.overlooked(&mut session, &remembered),
                        Err(error) => tracing::debug!(source = %self.context.name, error, "no second look"),
                    }
                }
                () = quiet, if !replayed => {
                    replayed = true;
                    if self.position.end_of_replay() {
                        forgotten.increment(1);
                        tracing::warn!(source = %self.context.name, "the daemon no longer knows the last event: some may be missed");
                    }
                }
            }
            if !self.deliver().await {
                return None;
            }
            if end.is_some() {
                return end;
            }
        }
    }

    /// Complete lines; the reason to give the connection up.
    fn lines(&mut self, session: &mut Session, lines: &[u8]) -> Option<String> {
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        lines.filter_map(|line| self.line(session, line).err()).last()
    }

    /// What the daemon remembers and did not send. What it did send has been counted already, and is no repetition.
    fn overlooked(&mut self, session: &mut Session, remembered: &[u8]) {
        for line in remembered.split(|byte| *byte == b'\n') {
            let Ok(event) = Event::read(line) else { continue };
            if !self.position.has(event.time_nano, &event.key()) {
                // It is read again from the line, as any other.
                let _ = self.line(session, line);
            }
        }
    }

    /// One event of the daemon; the reason to give the connection up when it is an error in place of one.
    fn line(&mut self, session: &mut Session, line: &[u8]) -> Result<(), String> {
        self.received.increment(1);
        let event = match Event::read(line) {
            Ok(event) => event,
            Err(event::Unreadable::Refusal(message)) => return Err(format!("the daemon refuses: {message}")),
            Err(event::Unreadable::Broken(message)) => {
                self.messages.refuse(decode::reason::INVALID_JSON, message);
                return Ok(());
            }
        };
        if !self.position.is_new(event.time_nano, &event.key()) {
            self.duplicates.increment(1);
            return Ok(());
        }
        if let Some(id) = event.container() {
            session.touched.insert(id.to_owned());
            let starts = event.starts_container();
            if starts && self.config.address_timeout_ms > 0 && self.order.has_room() {
                let id = id.to_owned();
                self.order.wait(id.clone(), event);
                self.inspect(session, id);
                return Ok(());
            }
        }
        self.order.push(event);
        Ok(())
    }

    fn inspect(&self, session: &Session, id: String) {
        let daemon = session.daemon.clone();
        let patience = Duration::from_millis(self.config.address_timeout_ms.unsigned_abs());
        session.inspecting.push(Box::pin(async move {
            let details = daemon.address_of(&id, patience).await;
            (id, details)
        }));
    }

    /// What runs and was never heard of is told, what was known and is gone as well.
    fn reconcile(&mut self, session: &mut Session, listing: Vec<Running>) {
        let now = clock::now();
        let running: BTreeSet<String> = listing.iter().map(|container| container.id.clone()).collect();
        for id in self.position.gone(&running) {
            if !session.touched.contains(&id) {
                self.order.push(Event::gone(&id, now));
            }
        }
        for container in listing {
            if self.position.knows(&container.id) || session.touched.contains(&container.id) {
                continue;
            }
            let (id, has_address) = (container.id.clone(), container.details.has_address());
            let event = Event::running(container, now);
            if has_address || self.config.address_timeout_ms == 0 || !self.order.has_room() {
                self.order.push(event);
            } else {
                self.order.wait(id.clone(), event);
                self.inspect(session, id);
            }
        }
    }

    /// Hands over what is ready. `false` when the core has ended.
    async fn deliver(&mut self) -> bool {
        loop {
            while self.messages.len() < BATCH
                && let Some(event) = self.order.next()
            {
                self.position.told(&event);
                self.messages.push(event.json().as_bytes(), None);
            }
            if self.messages.is_empty() {
                return true;
            }
            let position = self.position.encode(self.order.oldest());
            if self.context.deliver_messages(&mut self.messages, Some(position)).await.is_none() {
                return false;
            }
        }
    }
}
