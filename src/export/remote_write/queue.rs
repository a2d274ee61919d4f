//! Requests that wait, oldest first: in the state folder where there is one, in memory otherwise.

use super::encode::Batch;
use crate::export::ExportContext;
use crate::state::StateStore;
use crate::telemetry::OnChange;
use std::collections::VecDeque;

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

impl Queue {
    /// With what an earlier run left.
    pub async fn open(context: &ExportContext, limit_bytes: u64, limit_age_ms: i64) -> Self {
        let prefix = format!("export/{}/", context.name);
        let mut queue = Self {
            state: context.state.clone(),
            prefix: prefix.clone(),
            waiting: VecDeque::new(),
            next: 1,
            bytes: 0,
            limit_bytes,
            limit_age_ms,
            failing: OnChange::new(false),
        };
        let Some(state) = &queue.state else { return queue };
        // What cannot be read is left out; the store has said why.
        for name in state.names(&prefix).await.unwrap_or_default() {
            let number = name[prefix.len()..].parse::<u64>().ok();
            let stored = state.get(&name).await.ok().flatten();
            let read = stored.and_then(|blob| postcard::from_bytes::<Stored>(&blob).ok());
            if let (Some(number), Some((at_ms, batch))) = (number, read) {
                let bytes = batch.packed.len() as u64;
                queue.bytes += bytes;
                queue.next = queue.next.max(number + 1);
                queue.waiting.push_back(Waiting { number, at_ms, bytes, samples: batch.samples, held: None });
            }
        }
        queue.waiting.make_contiguous().sort_by_key(|waiting| waiting.number);
        queue
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

    /// The oldest request with its number; what cannot be read any more is given up.
    pub async fn first(&mut self) -> Option<(u64, Batch)> {
        loop {
            let first = self.waiting.front()?;
            if let Some(held) = &first.held {
                return Some((first.number, held.clone()));
            }
            let number = first.number;
            let name = self.name(number);
            let blob = match &self.state {
                Some(state) => state.get(&name).await.ok().flatten(),
                None => None,
            };
            match blob.and_then(|blob| postcard::from_bytes::<Stored>(&blob).ok()) {
                Some((_, batch)) => return Some((number, batch)),
                None => drop(self.pop().await),
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
