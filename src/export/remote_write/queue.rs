//! Requests that wait, oldest first: in the state folder where there is one, in memory otherwise.

use super::encode::Batch;
use crate::export::queue::stored;
use crate::state::{StateError, StateStore};
use crate::telemetry::OnChange;
use std::collections::VecDeque;
use std::time::Duration;

/// What cannot be read from the disk at the start is tried again after so long.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// What is known of a waiting request.
struct Waiting {
    number: u64,
    at_ms: i64,
    bytes: u64,
    samples: u64,
    /// Only without a state folder, or when it could not be written.
    held: Option<Batch>,
}

/// A bounded queue: beyond its bytes or age the oldest requests are given up.
pub(super) struct Queue {
    state: Option<StateStore>,
    prefix: String,
    waiting: VecDeque<Waiting>,
    next: u64,
    bytes: u64,
    limit_bytes: u64,
    limit_age_ms: i64,
    failing: OnChange<bool>,
}

/// Stored: when it was made, then the request.
type Stored = (i64, Batch);

/// What stands first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    /// The oldest request with its number.
    Request(u64, Batch),
    /// Nothing waits.
    Nothing,
    /// It cannot be read for the moment: why.
    Later(String),
}

/// A request that waits; `None` when it is gone or damaged for good.
async fn read(state: &StateStore, name: &str) -> Result<Option<Stored>, StateError> {
    Ok(stored(state, name).await?.and_then(|blob| postcard::from_bytes(&blob).ok()))
}

impl Queue {
    /// With what an earlier run left, and how many requests of it are damaged. Waits for as long as the disk says nothing.
    pub async fn open(name: &str, state: Option<StateStore>, limit_bytes: u64, limit_age_ms: i64) -> (Self, u64) {
        let mut queue = Self {
            state,
            prefix: format!("export/{name}/"),
            waiting: VecDeque::new(),
            next: 1,
            bytes: 0,
            limit_bytes,
            limit_age_ms,
            failing: OnChange::new(false),
        };
        let Some(state) = queue.state.clone() else { return (queue, 0) };
        loop {
            match queue.load(&state).await {
                Ok(damaged) => return (queue, damaged),
                Err(error) => {
                    if queue.failing.set(true) {
                        tracing::error!(%error, "what waited cannot be read; it is tried again");
                    }
                    tokio::time::sleep(READ_AGAIN).await;
                }
            }
        }
    }

    /// Numbers go on behind what waits: without knowing it, new requests would take its places.
    async fn load(&mut self, state: &StateStore) -> Result<u64, StateError> {
        (self.bytes, self.next) = (0, 1);
        self.waiting.clear();
        let mut damaged = Vec::new();
        for name in state.names(&self.prefix).await? {
            let Ok(number) = name[self.prefix.len()..].parse::<u64>() else { continue };
            self.next = self.next.max(number + 1);
            match read(state, &name).await? {
                Some((at_ms, batch)) => {
                    let bytes = batch.packed.len() as u64;
                    self.bytes += bytes;
                    self.waiting.push_back(Waiting { number, at_ms, bytes, samples: batch.samples, held: None });
                }
                None => damaged.push((name, None)),
            }
        }
        self.waiting.make_contiguous().sort_by_key(|waiting| waiting.number);
        self.failing.set(false);
        let count = damaged.len() as u64;
        if count > 0 {
            state.write(damaged).await?;
        }
        Ok(count)
    }

    /// Requests and bytes.
    pub fn waiting(&self) -> (usize, u64) {
        (self.waiting.len(), self.bytes)
    }

    fn name(&self, number: u64) -> String {
        // Names sort as numbers do.
        format!("{}{number:020}", self.prefix)
    }

    /// Puts a request last. Returns the samples that were given up for it.
    pub async fn push(&mut self, batch: Batch, now_ms: i64) -> u64 {
        let (number, bytes, samples) = (self.next, batch.packed.len() as u64, batch.samples);
        self.next += 1;
        let mut dropped = 0;
        while self.bytes + bytes > self.limit_bytes && !self.waiting.is_empty() {
            dropped += self.pop().await;
        }
        let mut held = None;
        match &self.state {
            Some(state) => {
                let stored: Stored = (now_ms, batch);
                let blob = postcard::to_allocvec(&stored).unwrap_or_default();
                let written = state.put(&self.name(number), blob).await;
                if let Err(error) = &written
                    && self.failing.set(true)
                {
                    tracing::error!(%error, "waiting samples cannot be written; they wait in memory");
                }
                if written.is_err() {
                    held = Some(stored.1);
                } else {
                    self.failing.set(false);
                }
            }
            None => held = Some(batch),
        }
        self.waiting.push_back(Waiting { number, at_ms: now_ms, bytes, samples, held });
        self.bytes += bytes;
        dropped
    }

    /// The oldest request, and the samples of those before it that are damaged and given up.
    pub async fn first(&mut self) -> (First, u64) {
        let mut lost = 0;
        loop {
            let Some(first) = self.waiting.front() else { return (First::Nothing, lost) };
            if let Some(held) = &first.held {
                return (First::Request(first.number, held.clone()), lost);
            }
            let number = first.number;
            let read = match &self.state {
                Some(state) => read(state, &self.name(number)).await,
                None => Ok(None),
            };
            match read {
                Ok(Some((_, batch))) => return (First::Request(number, batch), lost),
                Ok(None) => lost += self.pop().await,
                Err(error) => return (First::Later(error.to_string()), lost),
            }
        }
    }

    /// Takes the oldest out; its samples.
    async fn pop(&mut self) -> u64 {
        let Some(first) = self.waiting.pop_front() else { return 0 };
        self.bytes = self.bytes.saturating_sub(first.bytes);
        if let (Some(state), None) = (&self.state, &first.held) {
            // If it cannot be taken out now, a restart sends it once more, which receivers recognise as a repetition.
            let _ = state.write(vec![(self.name(first.number), None)]).await;
        }
        first.samples
    }

    /// Takes the request with this number out, if it is still the oldest: it may have been given up meanwhile.
    pub async fn remove(&mut self, number: u64) {
        if self.waiting.front().is_some_and(|first| first.number == number) {
            self.pop().await;
        }
    }

    /// Gives up what is too old; its samples.
    pub async fn drop_aged(&mut self, now_ms: i64) -> u64 {
        let mut dropped = 0;
        while self.waiting.front().is_some_and(|first| now_ms - first.at_ms > self.limit_age_ms) {
            dropped += self.pop().await;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(samples: u64) -> Batch {
        Batch { packed: vec![7; 3], samples, highest_ms: 5 }
    }

    #[tokio::test]
    async fn damaged_requests_are_counted_and_what_cannot_be_read_now_stays() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateStore::open(dir.path(), false).unwrap();
        let open = async || Queue::open("far", Some(state.clone()), 100, 1_000).await;
        let (mut queue, _) = open().await;
        for samples in 1..=4 {
            assert_eq!(queue.push(batch(samples), 0).await, 0);
        }
        state.put(&queue.name(1), b"\xff".to_vec()).await.unwrap();
        assert_eq!(queue.first().await, (First::Request(2, batch(2)), 1), "one sample is lost");
        state.put(&queue.name(2), b"\xff".to_vec()).await.unwrap();
        let (mut queue, damaged) = open().await;
        assert_eq!((damaged, queue.waiting()), (1, (2, 6)));
        assert_eq!(open().await.1, 0, "counted once");
        assert_eq!(queue.first().await, (First::Request(3, batch(3)), 0));
        state.close().await.unwrap();
        let (first, lost) = queue.first().await;
        assert!(matches!(first, First::Later(_)) && lost == 0, "{first:?} {lost}");
        assert_eq!(queue.waiting().0, 2, "nothing is given up");
    }
}
