//! What waits for one receiver: bounded in bytes and age, in order, on disk where there is a state folder.

use crate::config::schema::QueueConfig;
use crate::model::Timestamp;
use crate::state::{StateError, StateStore};
use std::collections::VecDeque;
use std::sync::Arc;

/// A piece to be sent at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// What is sent, or what it is made from.
    pub blob: Vec<u8>,
    /// How many samples or events it holds.
    pub items: u64,
    /// When it was made.
    pub at: Timestamp,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    at_ms: i64,
    items: u64,
    bytes: u64,
    /// `None` when it stands on disk.
    held: Option<Arc<[u8]>>,
}

/// What stands first in a queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Front {
    /// The oldest piece with its number.
    Piece(u64, Vec<u8>),
    /// Nothing waits.
    Nothing,
    /// It cannot be read for the moment: why.
    Later(String),
}

/// A blob that waits; `None` when it is gone or damaged for good.
///
/// # Errors
/// Why it cannot be read for the moment.
pub(super) async fn stored(state: &StateStore, name: &str) -> Result<Option<Vec<u8>>, StateError> {
    match state.get(name).await {
        Err(StateError::Corrupt { .. }) => Ok(None),
        read => read,
    }
}

/// What was dropped: the reason and how many samples or events.
pub(super) type Dropped = Vec<(&'static str, u64)>;

/// The queue of one sink.
#[derive(Debug)]
pub(super) struct Queue {
    /// Begins the names of its blobs.
    prefix: String,
    state: Option<StateStore>,
    limits: QueueConfig,
    entries: VecDeque<Entry>,
    bytes: u64,
    items: u64,
    next: u64,
}

impl Queue {
    /// The queue as it was left. `prefix` ends with a slash.
    pub async fn open(prefix: String, state: Option<StateStore>, limits: QueueConfig) -> Self {
        let mut queue = Self { prefix, state, limits, entries: VecDeque::new(), bytes: 0, items: 0, next: 1 };
        let Some(state) = queue.state.clone() else { return queue };
        match state.names(&queue.prefix).await {
            Ok(names) => {
                for name in names {
                    let Some(entry) = queue.parse(&name) else { continue };
                    queue.next = queue.next.max(entry.number + 1);
                    queue.bytes += entry.bytes;
                    queue.items += entry.items;
                    queue.entries.push_back(entry);
                }
            }
            Err(error) => tracing::error!(queue = queue.prefix, %error, "what waited cannot be read"),
        }
        queue
    }

    /// A name holds everything but the content, so that opening reads no content.
    fn name(&self, entry: &Entry) -> String {
        format!("{}{:020}/{}/{}/{}", self.prefix, entry.number, entry.at_ms, entry.items, entry.bytes)
    }

    fn parse(&self, name: &str) -> Option<Entry> {
        let parts: Vec<&str> = name.strip_prefix(&self.prefix)?.split('/').collect();
        let [number, at_ms, items, bytes] = parts.as_slice() else { return None };
        Some(Entry {
            number: number.parse().ok()?,
            at_ms: at_ms.parse().ok()?,
            items: items.parse().ok()?,
            bytes: bytes.parse().ok()?,
            held: None,
        })
    }

    /// Appends pieces, and drops the oldest ones beyond the limit. `mark` is written with them, both or neither.
    pub async fn push(&mut self, pieces: Vec<Piece>, mark: Option<(String, Vec<u8>)>) -> Dropped {
        let mut writes: Vec<(String, Option<Vec<u8>>)> =
            mark.into_iter().map(|(name, blob)| (name, Some(blob))).collect();
        let first = self.entries.len();
        for piece in pieces {
            let entry = Entry {
                number: self.next,
                at_ms: piece.at.millis(),
                items: piece.items,
                bytes: piece.blob.len() as u64,
                held: Some(piece.blob.clone().into()),
            };
            self.next += 1;
            self.bytes += entry.bytes;
            self.items += entry.items;
            writes.push((self.name(&entry), Some(piece.blob)));
            self.entries.push_back(entry);
        }
        if let Some(state) = self.state.clone() {
            // What cannot be written is sent all the same, from memory.
            if writes.is_empty() || state.write(writes).await.is_ok() {
                self.entries.iter_mut().skip(first).for_each(|entry| entry.held = None);
            }
        }
        let mut dropped = 0;
        let mut gone = Vec::new();
        while self.bytes > self.limits.bytes
            && let Some(entry) = self.entries.pop_front()
        {
            dropped += entry.items;
            self.count_out(&entry);
            gone.push(entry);
        }
        self.forget(gone).await;
        if dropped > 0 { vec![("queue_full", dropped)] } else { Vec::new() }
    }

    /// Drops what is too old.
    pub async fn expire(&mut self, now: Timestamp) -> Dropped {
        let oldest = now.millis().saturating_sub(self.limits.age_ms);
        let mut gone = Vec::new();
        while self.entries.front().is_some_and(|entry| entry.at_ms < oldest) {
            gone.extend(self.entries.pop_front());
        }
        for entry in &gone {
            self.count_out(entry);
        }
        let dropped: u64 = gone.iter().map(|entry| entry.items).sum();
        self.forget(gone).await;
        if dropped > 0 { vec![("too_old", dropped)] } else { Vec::new() }
    }

    /// The oldest piece. One that is damaged is dropped.
    pub async fn front(&mut self) -> (Front, Dropped) {
        let mut dropped = Vec::new();
        loop {
            let Some(entry) = self.entries.front() else { return (Front::Nothing, dropped) };
            if let Some(held) = &entry.held {
                return (Front::Piece(entry.number, held.to_vec()), dropped);
            }
            let (number, name) = (entry.number, self.name(entry));
            let read = match &self.state {
                Some(state) => stored(state, &name).await,
                None => Ok(None),
            };
            match read {
                Ok(Some(blob)) => return (Front::Piece(number, blob), dropped),
                Ok(None) => dropped.push(("unreadable", self.remove(number).await)),
                Err(error) => return (Front::Later(error.to_string()), dropped),
            }
        }
    }

    /// Takes a piece out; how many items it held. 0 when it is gone already.
    pub async fn remove(&mut self, number: u64) -> u64 {
        let Some(at) = self.entries.iter().position(|entry| entry.number == number) else { return 0 };
        let Some(entry) = self.entries.remove(at) else { return 0 };
        let items = entry.items;
        self.count_out(&entry);
        self.forget(vec![entry]).await;
        items
    }

    fn count_out(&mut self, entry: &Entry) {
        self.bytes -= entry.bytes;
        self.items -= entry.items;
    }

    async fn forget(&mut self, gone: Vec<Entry>) {
        if gone.is_empty() {
            return;
        }
        if let Some(state) = &self.state {
            let names =
                gone.iter().filter(|entry| entry.held.is_none()).map(|entry| (self.name(entry), None)).collect();
            // What stays on disk after a failure is sent a second time after a restart.
            let _ = state.write(names).await;
        }
    }

    /// Samples or events, and bytes, that wait.
    pub fn waiting(&self) -> (u64, u64) {
        (self.items, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str, at_ms: i64) -> Piece {
        Piece { blob: text.into(), items: 1, at: Timestamp::from_millis(at_ms) }
    }

    #[tokio::test]
    async fn what_is_gone_is_counted_and_what_cannot_be_read_now_stays() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateStore::open(dir.path(), false).unwrap();
        let limits = QueueConfig { bytes: 100, age_ms: 1_000 };
        let mut queue = Queue::open("export/a/".into(), Some(state.clone()), limits).await;
        queue.push(vec![piece("one", 0), piece("two", 1)], None).await;
        let first = state.names("export/a/").await.unwrap().remove(0);
        state.write(vec![(first, None)]).await.unwrap();
        assert_eq!(queue.front().await, (Front::Piece(2, b"two".to_vec()), vec![("unreadable", 1)]));
        state.close().await.unwrap();
        let (front, dropped) = queue.front().await;
        assert!(matches!(front, Front::Later(_)) && dropped.is_empty(), "{front:?} {dropped:?}");
        assert_eq!(queue.waiting(), (1, 3));
    }

    #[tokio::test]
    async fn the_order_stays_and_the_oldest_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let limits = QueueConfig { bytes: 10, age_ms: 1_000 };
        for state in [None, Some(StateStore::open(dir.path(), false).unwrap())] {
            let mut queue = Queue::open("export/a/".into(), state.clone(), limits).await;
            assert_eq!(queue.push(vec![piece("one4", 0), piece("two4", 1)], None).await, []);
            assert_eq!(queue.push(vec![piece("thre", 2)], None).await, [("queue_full", 1)]);
            let (front, _) = queue.front().await;
            assert_eq!(front, Front::Piece(2, b"two4".to_vec()));
            if state.is_some() {
                // Another queue whose name begins alike takes none of it.
                let mut other = Queue::open("export/a/b/".into(), state.clone(), limits).await;
                other.push(vec![piece("x", 5)], None).await;
                queue = Queue::open("export/a/".into(), state, limits).await;
                assert_eq!(queue.waiting(), (2, 8), "as it was left");
                assert_eq!(queue.front().await.0, Front::Piece(2, b"two4".to_vec()));
            }
            assert_eq!(queue.remove(2).await, 1);
            assert_eq!(queue.front().await.0, Front::Piece(3, b"thre".to_vec()));
            assert_eq!(queue.expire(Timestamp::from_millis(2_000)).await, [("too_old", 1)]);
            assert_eq!((queue.front().await.0, queue.waiting()), (Front::Nothing, (0, 0)));
        }
    }
}
