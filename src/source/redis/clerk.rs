//! The connection that acknowledges what stands in a checkpoint, and asks once a second how far the group is.

use super::group::{self, Look};
use super::position::Run;
use super::resp::{Item, Reader, command};
use super::wire::{TOO_MUCH, Wire};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// How often a group is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Ids of one XACK: the server does nothing else meanwhile.
const IDS: usize = 1_000;

/// Entries of one stream that may be acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// The server that holds the stream.
    pub node: usize,
    pub stream: Arc<str>,
    pub runs: Vec<Run>,
}

/// What clerks and readers say.
#[derive(Debug)]
pub(super) enum Told {
    /// The server has heard it.
    Acknowledged { tokens: Vec<Token>, count: u64 },
    /// How far a group is.
    Look { stream: Arc<str>, look: Look },
    /// Group or stream are gone: they are made anew.
    Gone(String),
    /// Fewer entries must be asked for at once.
    TooMuch(String),
    /// The connection is gone, or the server refuses.
    Lost(String),
}

impl Told {
    /// An error of the server, or of the connection.
    pub fn of(reason: String) -> Self {
        // UNBLOCKED: the stream was deleted while XREADGROUP waited.
        let gone = reason.contains("NOGROUP") || reason.contains("UNBLOCKED");
        match reason.starts_with(TOO_MUCH) {
            true => Self::TooMuch(reason),
            false if gone => Self::Gone(reason),
            false => Self::Lost(reason),
        }
    }
}

/// One server's clerk.
pub(super) struct Clerk {
    pub wire: Wire,
    pub group: String,
    /// The streams, and what was trimmed of each before it was delivered.
    pub streams: Vec<(Arc<str>, u64)>,
}

impl Clerk {
    /// Works until nobody listens or the connection is gone, which it says.
    pub async fn run(mut self, mut asked: mpsc::Receiver<Vec<Token>>, tell: mpsc::Sender<Told>) {
        if let Err(reason) = self.work(&mut asked, &tell).await {
            // Nobody listens any more when the session has ended, and then nobody needs to know.
            let _ = tell.send(Told::of(reason)).await;
        }
    }

    async fn work(&mut self, asked: &mut mpsc::Receiver<Vec<Token>>, tell: &mpsc::Sender<Told>) -> Result<(), String> {
        let mut looks = tokio::time::interval_at(tokio::time::Instant::now() + LOOK, LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                tokens = asked.recv() => {
                    let Some(tokens) = tokens else { return Ok(()) };
                    let count = self.acknowledge(&tokens).await?;
                    if tell.send(Told::Acknowledged { tokens, count }).await.is_err() {
                        return Ok(());
                    }
                }
                _ = looks.tick() => {
                    for (stream, skipped) in &mut self.streams {
                        let look = group::look(&mut self.wire, stream, &self.group, *skipped).await?;
                        if let Look::There(behind) = look {
                            *skipped = behind.skipped;
                        }
                        if tell.send(Told::Look { stream: stream.clone(), look }).await.is_err() {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// Every XACK is sent before the first answer is read; how many entries were pending until now.
    async fn acknowledge(&mut self, tokens: &[Token]) -> Result<u64, String> {
        let (mut out, mut commands) = (Vec::new(), 0);
        for token in tokens {
            let ids: Vec<String> = token.runs.iter().flat_map(|run| run.ids()).map(|id| id.to_string()).collect();
            for ids in ids.chunks(IDS) {
                let mut words: Vec<&[u8]> = vec![b"XACK", token.stream.as_bytes(), self.group.as_bytes()];
                words.extend(ids.iter().map(|id| id.as_bytes()));
                command(&mut out, &words);
                commands += 1;
            }
        }
        self.wire.send(&out).await?;
        let mut count = 0;
        for _ in 0..commands {
            let reply = self.wire.answer().await?;
            if let Some(Item::Integer(number)) = Reader::new(&reply, self.wire.limit()).item() {
                count += number.unsigned_abs();
            }
        }
        Ok(count)
    }
}
