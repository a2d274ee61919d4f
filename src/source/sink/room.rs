//! How much may wait: places, events and bytes, handed out in order of asking.

use super::QueueOptions;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What an input takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub bytes: usize,
    pub events: usize,
}

/// One amount of room.
#[derive(Debug)]
pub(super) struct Pool {
    places: Arc<Semaphore>,
    events: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    limit: Need,
}

/// Room that is held; given back when dropped.
#[derive(Debug)]
pub(super) struct Room {
    place: OwnedSemaphorePermit,
    events: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
}

/// What was asked for is gone with the core.
pub(super) struct Closed;

/// Why there is none now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    Later,
    Closed,
}

impl From<tokio::sync::TryAcquireError> for NoRoom {
    fn from(error: tokio::sync::TryAcquireError) -> Self {
        match error {
            tokio::sync::TryAcquireError::NoPermits => Self::Later,
            tokio::sync::TryAcquireError::Closed => Self::Closed,
        }
    }
}

impl Pool {
    pub fn new(places: usize, limit: Need) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { places: semaphore(places), events: semaphore(limit.events), bytes: semaphore(limit.bytes), limit }
    }

    /// The room of the whole queue, and what is kept beside it for urgent events: an eighth as much.
    pub fn pair(options: &QueueOptions) -> (Self, Self) {
        let QueueOptions { limits, events, .. } = *options;
        let eighth = |limit: usize| (limit / 8).max(1);
        let common = Self::new(limits.batches, Need { bytes: limits.bytes, events });
        let reserve = Self::new(eighth(limits.batches), Need { bytes: eighth(limits.bytes), events: eighth(events) });
        (common, reserve)
    }

    /// Whether so much would fit if nothing waited.
    pub fn could_hold(&self, need: Need) -> bool {
        need.bytes <= self.limit.bytes && need.events <= self.limit.events
    }

    /// The same for its bytes alone.
    pub fn could_hold_bytes(&self, need: Need) -> bool {
        need.bytes <= self.limit.bytes
    }

    /// Waits for its turn. What is larger than everything passes alone.
    pub async fn wait(&self, need: Need) -> Result<Room, Closed> {
        let Need { bytes, events } = self.clamp(need);
        let take = |from: &Arc<Semaphore>, count: usize| from.clone().acquire_many_owned(count as u32);
        // Always in this order: whoever holds one kind waits only for those who already queue.
        let bytes = take(&self.bytes, bytes).await.map_err(|_| Closed)?;
        let events = take(&self.events, events).await.map_err(|_| Closed)?;
        let place = take(&self.places, 1).await.map_err(|_| Closed)?;
        Ok(Room { place, events, bytes })
    }

    /// At once or not at all. What is larger than everything passes alone, when nothing waits.
    pub fn try_take(&self, need: Need) -> Result<Room, NoRoom> {
        let Need { bytes, events } = self.clamp(need);
        let take = |from: &Arc<Semaphore>, count: usize| from.clone().try_acquire_many_owned(count as u32);
        Ok(Room {
            bytes: take(&self.bytes, bytes)?,
            events: take(&self.events, events)?,
            place: take(&self.places, 1)?,
        })
    }

    /// What is free now.
    fn free(&self) -> (usize, Need) {
        let need = Need { bytes: self.bytes.available_permits(), events: self.events.available_permits() };
        (self.places.available_permits(), need)
    }

    /// Whether what is free and what these hold is enough.
    pub fn is_enough<'a>(&self, need: Need, held: impl Iterator<Item = &'a Room>) -> bool {
        let (places, free) = self.free();
        let (mut places, mut bytes, mut events) = (places, free.bytes, free.events);
        let need = self.clamp(need);
        for room in held {
            places += room.place.num_permits();
            bytes += room.bytes.num_permits();
            events += room.events.num_permits();
            if places >= 1 && bytes >= need.bytes && events >= need.events {
                return true;
            }
        }
        places >= 1 && bytes >= need.bytes && events >= need.events
    }

    /// Makes room that came from this pool as large as needed with what is free; gives back what is too much. `Err` with
    /// the room when there is not enough yet.
    pub fn fit(&self, mut room: Room, need: Need) -> Result<Room, Room> {
        let Need { bytes, events } = self.clamp(need);
        let mut fits = true;
        for (held, pool, wanted) in [
            (&mut room.bytes, &self.bytes, bytes),
            (&mut room.events, &self.events, events),
            (&mut room.place, &self.places, 1),
        ] {
            let missing = wanted.saturating_sub(held.num_permits());
            match pool.clone().try_acquire_many_owned(missing as u32) {
                Ok(more) => held.merge(more),
                Err(_) => fits = false,
            }
        }
        if !fits {
            return Err(room);
        }
        for (held, wanted) in [(&mut room.bytes, bytes), (&mut room.events, events), (&mut room.place, 1)] {
            drop(held.split(held.num_permits() - wanted));
        }
        Ok(room)
    }

    /// Nobody gets any more, and those who wait are told.
    pub fn close(&self) {
        for semaphore in [&self.bytes, &self.events, &self.places] {
            semaphore.close();
        }
    }

    fn clamp(&self, need: Need) -> Need {
        Need { bytes: need.bytes.min(self.limit.bytes), events: need.events.min(self.limit.events) }
    }
}

impl Room {
    /// Both as one. They must come from the same pool.
    pub fn merge(&mut self, other: Self) {
        self.place.merge(other.place);
        self.events.merge(other.events);
        self.bytes.merge(other.bytes);
    }
}
