//! A circuit breaker: after several failures in a row a receiver is left alone for a while, then tried with one message.
//!
//! A pure state machine: `now` is an argument and nothing is random.

use crate::model::Timestamp;
use serde::{Deserialize, Serialize};

/// Failures in a row that open it.
pub const FAILURES_TO_OPEN: u32 = 5;
/// How long it stays open the first time, in milliseconds; each further time doubles it.
pub const FIRST_OPEN_MS: i64 = 5_000;
/// The longest it stays open, in milliseconds.
pub const LONGEST_OPEN_MS: i64 = 120_000;

/// Whether messages may be tried now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum BreakerState {
    /// They may.
    Closed,
    /// Not before `until`.
    Open {
        /// When one message is tried again.
        until: Timestamp,
    },
    /// One message is being tried; its outcome decides.
    HalfOpen,
}

/// The breaker of one receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    state: BreakerState,
    failures: u32,
    times_opened: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: BreakerState::Closed, failures: 0, times_opened: 0 }
    }
}

impl Breaker {
    /// The state.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Whether a message may be tried now, and if not, when (`None` while one is being tried).
    ///
    /// # Errors
    /// The time from which on one may be tried, or `None` while the outcome of a trial is awaited.
    pub fn admit(&mut self, now: Timestamp) -> Result<(), Option<Timestamp>> {
        match self.state {
            BreakerState::Closed => Ok(()),
            BreakerState::Open { until } if now >= until => {
                self.state = BreakerState::HalfOpen;
                Ok(())
            }
            BreakerState::Open { until } => Err(Some(until)),
            BreakerState::HalfOpen => Err(None),
        }
    }

    /// The receiver answered, be it with a refusal of the one message: it is there.
    pub fn answered(&mut self) {
        *self = Self::default();
    }

    /// The receiver failed in a way that another try may mend.
    pub fn failed(&mut self, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        let trial_failed = self.state == BreakerState::HalfOpen;
        if trial_failed || self.failures >= FAILURES_TO_OPEN {
            let open_ms = FIRST_OPEN_MS.saturating_mul(1 << self.times_opened.min(16)).min(LONGEST_OPEN_MS);
            self.times_opened = self.times_opened.saturating_add(1);
            self.state = BreakerState::Open { until: now.plus_millis(open_ms) };
        }
    }

    /// Somebody knows that the receiver is well again: an open breaker lets the next message try at once.
    pub fn hurry(&mut self, now: Timestamp) {
        if let BreakerState::Open { until } = &mut self.state {
            *until = now.min(*until);
        }
    }

    /// A trial was given up without an outcome (shutdown, reload): the next one may try.
    pub fn abandoned(&mut self, now: Timestamp) {
        if self.state == BreakerState::HalfOpen {
            self.state = BreakerState::Open { until: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_tries_once_and_closes() {
        let at = Timestamp::from_millis;
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES_TO_OPEN {
            breaker.failed(at(0));
            assert_eq!(breaker.admit(at(0)), Ok(()));
        }
        breaker.failed(at(0));
        assert_eq!(breaker.admit(at(4_999)), Err(Some(at(5_000))));
        assert_eq!(breaker.admit(at(5_000)), Ok(()), "one trial");
        assert_eq!(breaker.admit(at(5_000)), Err(None), "and no second one");
        breaker.failed(at(5_000));
        assert_eq!(breaker.state(), BreakerState::Open { until: at(15_000) }, "twice as long");
        assert_eq!(breaker.admit(at(15_000)), Ok(()));
        breaker.abandoned(at(15_000));
        assert_eq!(breaker.admit(at(15_000)), Ok(()), "a trial given up is no failure");
        breaker.answered();
        assert_eq!(breaker.state(), BreakerState::Closed);
        for _ in 0..20 {
            (0..FAILURES_TO_OPEN).for_each(|_| breaker.failed(at(0)));
        }
        assert_eq!(breaker.state(), BreakerState::Open { until: at(LONGEST_OPEN_MS) });
    }
}
