//! The clock of what is judged by event time.

use crate::model::Timestamp;
use serde::{Deserialize, Serialize};

/// Event times further from arrival than this make a stream historical: it is judged by its own time.
const HISTORICAL_US: i64 = 600_000_000;

/// Event time that runs on between events.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::rules) struct Clock {
    /// A moment of event time, in microseconds.
    base: i64,
    /// When that was.
    at: Timestamp,
    /// An event has set it.
    pub set: bool,
    /// It stands still: a source is deaf.
    pub paused: bool,
}

/// Where an event stands on the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rules) enum Place {
    /// At this moment of the clock.
    On(i64),
    /// There, after everything remembered moved by this much: the clock was set anew.
    Moved(i64, i64),
    /// Too old to matter.
    Late,
}

impl Clock {
    pub fn new(now: Timestamp) -> Self {
        Self { base: now.micros(), at: now, set: false, paused: false }
    }

    /// Goes on from where another one stood when nobody listened any more: no time has passed on it since.
    pub fn resumed(saved: Self, stood_at: Timestamp, now: Timestamp, paused: bool) -> Self {
        Self { base: saved.read(stood_at), at: now, set: saved.set, paused }
    }

    /// The moment that was set last.
    pub fn base(&self) -> i64 {
        self.base
    }

    pub fn read(&self, now: Timestamp) -> i64 {
        if self.paused { self.base } else { self.base.saturating_add(now.micros_since(self.at).max(0)) }
    }

    /// When the clock will read `moment`.
    pub fn when(&self, moment: i64) -> Option<Timestamp> {
        (!self.paused && moment != i64::MAX).then(|| self.at.plus_micros(moment.saturating_sub(self.base).max(0)))
    }

    /// Lets it stand still, or go on from there; whether that is a change.
    pub fn pause(&mut self, now: Timestamp, paused: bool) -> bool {
        let changes = paused != self.paused;
        if changes {
            *self = Self { base: self.read(now), at: now, paused, ..*self };
        }
        changes
    }

    /// Follows the newest event. `time` is the event's, `arrived` when it came; `reach_us` is how old it may be.
    pub fn follow(&mut self, now: Timestamp, time: Timestamp, arrived: Timestamp, reach_us: i64) -> Place {
        let (clock, at) = (self.read(now), time.micros());
        if !self.set {
            // The first event says what time it is in this stream; what was expected until now moves along.
            *self = Self { base: at, at: now, set: true, paused: self.paused };
            return Place::Moved(at, at - clock);
        }
        if at > clock {
            (self.base, self.at) = (at, now);
            return Place::On(at);
        }
        if at > clock.saturating_sub(reach_us) {
            return Place::On(at);
        }
        let historical = arrived.micros_since(time) > HISTORICAL_US;
        let clock_is_historical = now.micros() - clock > HISTORICAL_US;
        if historical && clock_is_historical {
            // Old events begin again, for example the same file once more.
            (self.base, self.at) = (at, now);
            return Place::Moved(at, at - clock);
        }
        Place::Late
    }
}
