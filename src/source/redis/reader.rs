//! The connection that waits for entries: what this consumer holds already, what dead consumers hold, what is new.

use super::clerk::Told;
use super::resp::{Item, Reader, command};
use super::wire::{PATIENCE, Wire};
use crate::telemetry::clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long the server waits for entries before it answers that there are none.
const BLOCK: Duration = Duration::from_secs(1);
/// The longest and the shortest time between two looks for entries of dead consumers.
const CLAIM: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// Where the entries of a reply come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Delivered for the first time.
    New,
    /// Delivered to this consumer before. A reply without entries says that all of it has come.
    Pending(Arc<str>),
    /// Taken over from another consumer.
    Claimed(Arc<str>),
}

/// One reply.
#[derive(Debug)]
pub(super) struct Frame {
    pub node: usize,
    pub kind: Kind,
    pub bytes: Vec<u8>,
    /// The limit of one text that the connection had.
    pub limit: usize,
}

/// One server's reader.
pub(super) struct GroupReader {
    pub wire: Wire,
    pub node: usize,
    pub group: String,
    pub consumer: String,
    pub streams: Vec<Arc<str>>,
    /// Zero: nothing is ever taken over.
    pub claim_idle: Duration,
    /// Entries to ask for, from the size of those that came.
    pub count: Arc<AtomicUsize>,
}

/// Nobody listens any more.
struct Deaf;

enum Stop {
    Deaf,
    Reason(String),
}

impl From<Deaf> for Stop {
    fn from(_: Deaf) -> Self {
        Self::Deaf
    }
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Reason(reason)
    }
}

impl GroupReader {
    /// Works until nobody listens or the connection is gone, which it says.
    pub async fn run(mut self, entries: mpsc::Sender<Frame>, tell: mpsc::Sender<Told>) {
        if let Err(Stop::Reason(reason)) = self.work(&entries).await {
            let _ = tell.send(Told::of(reason)).await;
        }
    }

    async fn work(&mut self, entries: &mpsc::Sender<Frame>) -> Result<(), Stop> {
        for stream in self.streams.clone() {
            self.pending(&stream, entries).await?;
        }
        let every = (self.claim_idle / 2).clamp(CLAIM.0, CLAIM.1);
        let mut claimed: Option<Instant> = None;
        let mut claims = !self.claim_idle.is_zero();
        loop {
            if claims && claimed.is_none_or(|at| at.elapsed() >= every) {
                for stream in self.streams.clone() {
                    claims = self.claim(&stream, entries).await?;
                    if !claims {
                        break;
                    }
                }
                claimed = Some(clock::instant());
            }
            let count = self.count.load(Ordering::Relaxed).to_string();
            let block = BLOCK.as_millis().to_string();
            let mut words: Vec<&[u8]> = vec![
                b"XREADGROUP",
                b"GROUP",
                self.group.as_bytes(),
                self.consumer.as_bytes(),
                b"COUNT",
                count.as_bytes(),
            ];
            words.extend([b"BLOCK", block.as_bytes(), b"STREAMS"]);
            words.extend(self.streams.iter().map(|stream| stream.as_bytes()));
            words.extend(self.streams.iter().map(|_| &b">"[..]));
            let mut out = Vec::new();
            command(&mut out, &words);
            let bytes = self.ask(&out, BLOCK + PATIENCE).await?;
            if !is_nil(&bytes) {
                self.hand_over(Kind::New, bytes, entries).await?;
            }
        }
    }

    /// What was delivered to this consumer and is not acknowledged.
    async fn pending(&mut self, stream: &Arc<str>, entries: &mpsc::Sender<Frame>) -> Result<(), Stop> {
        let mut after = "0-0".to_owned();
        loop {
            let count = self.count.load(Ordering::Relaxed).to_string();
            let mut out = Vec::new();
            command(
                &mut out,
                &[
                    b"XREADGROUP",
                    b"GROUP",
                    self.group.as_bytes(),
                    self.consumer.as_bytes(),
                    b"COUNT",
                    count.as_bytes(),
                    b"STREAMS",
                    stream.as_bytes(),
                    after.as_bytes(),
                ],
            );
            let bytes = self.ask(&out, PATIENCE).await?;
            let last = last_id(&bytes, self.wire.limit());
            self.hand_over(Kind::Pending(stream.clone()), bytes, entries).await?;
            match last {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }

    /// Takes over what other consumers have held for too long; `false` when the server does not let us.
    async fn claim(&mut self, stream: &Arc<str>, entries: &mpsc::Sender<Frame>) -> Result<bool, Stop> {
        let idle = self.claim_idle.as_millis().to_string();
        let mut cursor = "0-0".to_owned();
        loop {
            let count = self.count.load(Ordering::Relaxed).to_string();
            let mut out = Vec::new();
            command(
                &mut out,
                &[
                    b"XAUTOCLAIM",
                    stream.as_bytes(),
                    self.group.as_bytes(),
                    self.consumer.as_bytes(),
                    idle.as_bytes(),
                    cursor.as_bytes(),
                    b"COUNT",
                    count.as_bytes(),
                ],
            );
            let bytes = match self.ask(&out, PATIENCE).await {
                Ok(bytes) => bytes,
                // Redis before 6.2, or a user without the right: everything else goes on.
                Err(reason) if reason.contains("unknown command") || reason.contains("NOPERM") => {
                    tracing::warn!(%stream, %reason, "entries of dead consumers cannot be taken over");
                    return Ok(false);
                }
                Err(reason) => return Err(reason.into()),
            };
            let mut reader = Reader::new(&bytes, self.wire.limit());
            let next =
                reader.array().and_then(|_| reader.text()).map(|next| String::from_utf8_lossy(next).into_owned());
            cursor = next.ok_or_else(|| format!("XAUTOCLAIM of {stream} cannot be read"))?;
            self.hand_over(Kind::Claimed(stream.clone()), bytes, entries).await?;
            if cursor == "0-0" {
                return Ok(true);
            }
        }
    }

    async fn hand_over(&self, kind: Kind, bytes: Vec<u8>, entries: &mpsc::Sender<Frame>) -> Result<(), Deaf> {
        let frame = Frame { node: self.node, kind, bytes, limit: self.wire.limit() };
        entries.send(frame).await.map_err(|_| Deaf)
    }

    async fn ask(&mut self, out: &[u8], patience: Duration) -> Result<Vec<u8>, String> {
        self.wire.send(out).await?;
        let Ok(reply) = timeout(patience, self.wire.reply()).await else {
            return Err("the server does not answer any more".into());
        };
        let reply = reply?;
        match Reader::new(&reply, self.wire.limit()).item() {
            Some(Item::Error(text)) => Err(self.wire.refused(text)),
            _ => Ok(reply),
        }
    }
}

fn is_nil(bytes: &[u8]) -> bool {
    bytes.starts_with(b"*-1") || bytes.starts_with(b"$-1") || bytes.starts_with(b"*0")
}

/// The last id of a reply that holds entries of one stream; `None` when it holds none.
fn last_id(bytes: &[u8], limit: usize) -> Option<String> {
    let mut reader = Reader::new(bytes, limit);
    let mut last = None;
    if reader.array()? == 0 {
        return None;
    }
    reader.array()?;
    reader.skip()?;
    for _ in 0..reader.array()? {
        reader.array()?;
        last = Some(String::from_utf8_lossy(reader.text()?).into_owned());
        reader.skip()?;
    }
    last
}
