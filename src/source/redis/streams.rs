//! Streams with a consumer group: own pending entries first, then those of dead consumers, then new ones; acknowledged when
//! they stand in a checkpoint.
//!
//! Of each server that holds streams two connections are used: one waits for entries (XREADGROUP with BLOCK), one
//! acknowledges and asks how far the group is. Each has a task; what they hear comes together here, in one place that owns
//! the position.

use super::super::SourceContext;
use super::super::acks::Acks;
use super::super::decode::reason;
use super::super::message::Messages;
use super::super::standing::Standing;
use super::clerk::{self, Token, Told};
use super::entry::{Content, content};
use super::group::{self, Look};
use super::position::{EntryId, Position, Run, append};
use super::reader::{self, Frame, Kind};
use super::resp::{Item, Reader};
use super::servers::{Access, Node};
use super::wire::Wire;
use super::{End, lost};
use crate::config::schema::{RedisConfig, RedisStreams};
use crate::telemetry::self_metrics;
use metrics::Counter;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Entries that may wait for their acknowledgement; beyond it nothing is read.
const WINDOW: usize = 50_000;
/// Entries of the first reply.
const FIRST_ENTRIES: usize = 50;
/// Replies that may wait to be decoded.
const FRAMES: usize = 2;
/// A reply is meant to have about so many bytes, whatever an entry has.
const REPLY_BYTES: usize = 1 << 20;
/// Entries of one reply.
const MOST_ENTRIES: usize = 1_000;

/// What is kept from connection to connection.
pub(super) struct Streams<'a> {
    context: &'a SourceContext,
    options: &'a RedisStreams,
    group: String,
    consumer: &'a str,
    names: Vec<Arc<str>>,
    position: Position,
    acks: Acks<Vec<Token>>,
    counters: Counters,
    /// Entries that a new connection asks for first, while nobody knows how large they are.
    first_entries: usize,
    /// Said once: the user may not look at the group.
    denied: bool,
}

struct Counters {
    messages: Counter,
    redelivered: Counter,
    duplicates: Counter,
    acknowledged: Counter,
    bytes: Counter,
    connected: Counter,
    trimmed: Counter,
    recreated: Counter,
}

impl<'a> Streams<'a> {
    pub fn new(context: &'a SourceContext, config: &'a RedisConfig, options: &'a RedisStreams) -> Self {
        let group = config.group(options);
        let name = &context.name;
        Self {
            context,
            options,
            position: Position::restore(&group, context.position.as_deref()),
            group,
            consumer: config.consumer(options),
            names: options.names.iter().map(|name| name.value.as_str().into()).collect(),
            acks: Acks::new(&context.sink, WINDOW),
            counters: Counters {
                messages: self_metrics::source_messages(name),
                redelivered: self_metrics::source_redelivered(name),
                duplicates: self_metrics::source_duplicates(name),
                acknowledged: self_metrics::source_acknowledged(name),
                bytes: self_metrics::source_received_bytes(name),
                connected: self_metrics::source_connected(name),
                trimmed: self_metrics::source_gaps(name, "trimmed"),
                recreated: self_metrics::source_gaps(name, "recreated"),
            },
            first_entries: FIRST_ENTRIES,
            denied: false,
        }
    }

    /// One connection, from its beginning to its end.
    pub async fn session(&mut self, access: &Access<'_>, standing: &mut Standing<'_>) -> End {
        match self.listen(access, standing).await {
            Ok(end) => end,
            Err(reason) => lost(reason),
        }
    }

    /// The group is there after this, and the position is about this stream.
    async fn prepare(&mut self, wire: &mut Wire, stream: &Arc<str>) -> Result<(), String> {
        let recreated = group::is_recreated(wire, stream, &self.position).await?;
        if recreated {
            tracing::warn!(source = %self.context.name, %stream, "the stream was deleted or made anew; what it held and was not read is lost");
            self.counters.recreated.increment(1);
            self.position.forget(stream);
            // Before anything of the new stream can be counted: its ids may be those of the old one.
            self.store_position().await;
        }
        let from = group::beginning(&self.position, stream, recreated, self.options.from_end);
        if group::make(wire, stream, &self.group, &from).await? {
            tracing::info!(source = %self.context.name, %stream, group = %self.group, after = %from, "made the consumer group");
        }
        group::probe(wire, stream, &self.group, self.consumer).await
    }

    /// Waits until the position stands in a checkpoint.
    async fn store_position(&mut self) {
        let mut nothing = Messages::new(self.context.event_bytes);
        let position = Some(self.position.encode());
        if let Some(number) = self.context.deliver_messages(&mut nothing, position).await {
            let mut stored = Acks::new(&self.context.sink, 2);
            stored.push(number, 1, ());
            stored.changed().await;
        }
    }

    /// What a look at the group found.
    fn looked(&mut self, stream: &Arc<str>, look: Look, behind: &mut Lag) {
        match look {
            Look::There(found) => {
                let known = self.position.skipped(stream);
                if found.skipped > known {
                    let entries = found.skipped - known;
                    tracing::warn!(source = %self.context.name, %stream, entries, "entries were trimmed before they were delivered");
                    self.counters.trimmed.increment(entries);
                    self.position.set_skipped(stream, found.skipped);
                }
                behind.set(stream, found.entries);
            }
            Look::Absent => {}
            Look::Denied => {
                if !std::mem::replace(&mut self.denied, true) {
                    tracing::warn!(source = %self.context.name, "the user may not use XINFO: how far the group is behind stays unknown");
                }
            }
        }
    }

    async fn listen(&mut self, access: &Access<'_>, standing: &mut Standing<'_>) -> Result<End, String> {
        let nodes = access.nodes(&self.names).await?;
        self.acks.clear();
        self.position.suspect_all();
        let (entries, mut heard) = mpsc::channel(FRAMES);
        // A clerk has one request at a time, and a reader one complaint: nobody ever waits here for long.
        let (tell, mut told) = mpsc::channel(4 * nodes.len().max(1));
        let mut tasks = JoinSet::new();
        let mut clerks = Vec::with_capacity(nodes.len());
        let mut counts = Vec::with_capacity(nodes.len());
        let mut behind = Lag::default();
        for (at, node) in nodes.iter().enumerate() {
            let mut wire = access.open(&node.address).await?;
            for stream in &node.streams {
                self.prepare(&mut wire, stream).await?;
                let look = group::look(&mut wire, stream, &self.group, self.position.skipped(stream)).await?;
                self.looked(stream, look, &mut behind);
            }
            let (ask, asked) = mpsc::channel(1);
            let streams = node.streams.iter().map(|name| (name.clone(), self.position.skipped(name))).collect();
            let clerk = clerk::Clerk { wire, group: self.group.clone(), streams };
            tasks.spawn(clerk.run(asked, tell.clone()));
            clerks.push(ask);
            let count = Arc::new(AtomicUsize::new(self.first_entries));
            let reader = reader::GroupReader {
                wire: access.open(&node.address).await?,
                node: at,
                group: self.group.clone(),
                consumer: self.consumer.to_owned(),
                streams: node.streams.clone(),
                claim_idle: Duration::from_millis(self.options.claim_idle_ms.unsigned_abs()),
                count: count.clone(),
            };
            tasks.spawn(reader.run(entries.clone(), tell.clone()));
            counts.push(count);
        }
        drop((entries, tell));
        self.counters.connected.increment(1);
        standing.connected(behind.total()).await;

        let mut asked = 0_usize;
        loop {
            tokio::select! {
                biased;
                Some(news) = told.recv() => match news {
                    Told::Acknowledged { tokens, count } => {
                        asked -= 1;
                        self.counters.acknowledged.increment(count);
                        for token in &tokens {
                            self.position.settle(&token.stream, &token.runs);
                        }
                    }
                    Told::Look { stream, look } => {
                        if look == Look::Absent {
                            return Ok(End::Again(format!("the group {} of the stream {stream} is gone", self.group)));
                        }
                        self.looked(&stream, look, &mut behind);
                        standing.connected(behind.total()).await;
                    }
                    Told::Gone(reason) => return Ok(End::Again(reason)),
                    Told::TooMuch(reason) => {
                        // They are pending now, and come again in smaller portions.
                        self.first_entries = 1;
                        return Ok(End::Again(reason));
                    }
                    Told::Lost(reason) => return Err(reason),
                },
                () = self.acks.changed(), if asked == 0 => {
                    let tokens = self.acks.ready().into_iter().flatten();
                    let mut of_nodes: BTreeMap<usize, Vec<Token>> = BTreeMap::new();
                    for token in tokens {
                        of_nodes.entry(token.node).or_default().push(token);
                    }
                    for (node, tokens) in of_nodes {
                        // The clerk has nothing else to do: it took its last request before it answered it.
                        if clerks[node].send(tokens).await.is_ok() {
                            asked += 1;
                        }
                    }
                }
                Some(frame) = heard.recv(), if self.acks.messages() < WINDOW => {
                    if !self.take(&frame, &nodes[frame.node], &counts[frame.node]).await? {
                        return Ok(End::Over);
                    }
                }
                else => return Err("the connections have ended".into()),
            }
        }
    }

    /// Counts what a reply brought; `false` when the core has ended.
    async fn take(&mut self, frame: &Frame, node: &Node, count: &AtomicUsize) -> Result<bool, String> {
        let unreadable = || "a reply with entries cannot be read".to_owned();
        let mut taken = Taken {
            messages: Messages::new(self.context.event_bytes),
            built: Vec::new(),
            entries: 0,
            duplicates: 0,
            trimmed: 0,
            runs: Vec::new(),
        };
        let mut reader = Reader::new(&frame.bytes, frame.limit);
        match &frame.kind {
            Kind::Claimed(stream) => {
                // Where to go on, the entries, and since Redis 7 the ids of those that were deleted meanwhile.
                let parts = reader.array().ok_or_else(unreadable)?;
                reader.skip().ok_or_else(unreadable)?;
                self.entries(&mut reader, stream, &mut taken).ok_or_else(unreadable)?;
                if parts > 2 {
                    for _ in 0..reader.array().ok_or_else(unreadable)? {
                        let id = reader.text().and_then(EntryId::parse).ok_or_else(unreadable)?;
                        if !self.position.knows(stream, id) {
                            taken.trimmed += 1;
                        }
                    }
                }
            }
            Kind::New | Kind::Pending(_) => {
                for _ in 0..reader.array().ok_or_else(unreadable)? {
                    reader.item().filter(|item| *item == Item::Array(2)).ok_or_else(unreadable)?;
                    let name = reader.text().ok_or_else(unreadable)?;
                    let stream = node.streams.iter().find(|known| known.as_bytes() == name).ok_or_else(unreadable)?;
                    self.entries(&mut reader, stream, &mut taken).ok_or_else(unreadable)?;
                }
            }
        }
        self.counters.trimmed.increment(taken.trimmed);
        if taken.trimmed > 0 {
            tracing::warn!(source = %self.context.name, entries = taken.trimmed, "entries were deleted while they waited to be read again");
        }
        if let (Kind::Pending(stream), 0) = (&frame.kind, taken.entries) {
            self.position.all_met(stream);
        }
        if taken.entries == 0 {
            return Ok(true);
        }
        let bytes = frame.bytes.len();
        self.first_entries = FIRST_ENTRIES;
        count.store((REPLY_BYTES / (bytes / taken.entries).max(1)).clamp(1, MOST_ENTRIES), Ordering::Relaxed);
        self.counters.bytes.increment(bytes as u64);
        self.counters.messages.increment(taken.entries as u64);
        self.counters.duplicates.increment(taken.duplicates);
        if !matches!(frame.kind, Kind::New) {
            self.counters.redelivered.increment(taken.entries as u64);
        }
        // Only now, when all of the reply is read: what the position says is counted must be handed over.
        let mut tokens = Vec::with_capacity(taken.runs.len());
        for (stream, mut new, known) in taken.runs {
            self.position.meet(&stream, &known);
            self.position.count(&stream, &new);
            new.extend(known);
            tokens.push(Token { node: frame.node, stream, runs: new });
        }
        let position = Some(self.position.encode());
        let Some(number) = self.context.deliver_messages(&mut taken.messages, position).await else { return Ok(false) };
        self.acks.push(number, taken.entries, tokens);
        Ok(true)
    }

    /// Reads an array of entries of one stream.
    fn entries(&self, reader: &mut Reader<'_>, stream: &Arc<str>, taken: &mut Taken) -> Option<()> {
        let (mut new, mut known): (Vec<Run>, Vec<Run>) = Default::default();
        for _ in 0..reader.array()? {
            match reader.item()? {
                Item::Array(2) => {}
                // Redis 6.2 claims deleted entries as nil, without their ids.
                Item::Nil => continue,
                _ => return None,
            }
            let id = EntryId::parse(reader.text()?)?;
            taken.entries += 1;
            if self.position.knows(stream, id) {
                reader.skip()?;
                append(&mut known, id);
                taken.duplicates += 1;
                continue;
            }
            append(&mut new, id);
            match content(reader, &mut taken.built)? {
                Content::Event(event) => taken.messages.push(event, Some(stream)),
                Content::TooLong(bytes) => {
                    let limit = self.context.event_bytes;
                    let message =
                        format!("entry {id} has a field of {bytes} bytes, the limit is {limit} (limits.event_bytes)");
                    taken.messages.refuse(reason::TOO_LARGE, message);
                }
                Content::Gone => taken.trimmed += 1,
            }
        }
        if !new.is_empty() || !known.is_empty() {
            taken.runs.push((stream.clone(), new, known));
        }
        Some(())
    }
}

/// What one reply brought.
struct Taken {
    messages: Messages,
    /// Where an event that is made of fields is written.
    built: Vec<u8>,
    entries: usize,
    duplicates: u64,
    trimmed: u64,
    /// Of each stream what is new and what was counted before.
    runs: Vec<(Arc<str>, Vec<Run>, Vec<Run>)>,
}

/// Entries that are still to come, of each stream.
#[derive(Default)]
struct Lag(BTreeMap<Arc<str>, u64>);

impl Lag {
    fn set(&mut self, stream: &Arc<str>, entries: u64) {
        self.0.insert(stream.clone(), entries);
    }

    fn total(&self) -> u64 {
        self.0.values().sum()
    }
}
