//! The only place that reads a clock; everything else is given the time.

use crate::model::Timestamp;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The time of day, which never goes backwards within a run.
///
/// When the system's clock is set back, this one goes on from where it was at nine tenths of the speed until the two
/// agree: a frozen clock would freeze every `for` and every timer. When the system's clock is set forward (or the machine
/// slept), this one follows at once.
pub fn now() -> Timestamp {
    let (wall_us, run_us) = read();
    // Held for a few additions; nothing under it can fail.
    let mut clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    Timestamp::from_micros(clock.get_or_insert_with(|| SteadyClock::start(wall_us, run_us)).advance(wall_us, run_us))
}

/// A monotonic instant, to measure how long something took.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the monotonic clock")]
pub fn instant() -> Instant {
    Instant::now()
}

static CLOCK: Mutex<Option<SteadyClock>> = Mutex::new(None);
static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(instant);

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the time of day")]
fn read() -> (i64, i64) {
    let run_us = START.elapsed().as_micros() as i64;
    // A clock before 1970 is a machine without one: time then begins at the epoch.
    let wall_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
    (wall_us, run_us)
}

/// The decision of [`now`], without clocks.
#[derive(Clone, Copy, Debug)]
struct SteadyClock {
    /// What was returned last.
    last_us: i64,
    /// The monotonic time then.
    run_us: i64,
}

impl SteadyClock {
    fn start(wall_us: i64, run_us: i64) -> Self {
        Self { last_us: wall_us, run_us }
    }

    fn advance(&mut self, wall_us: i64, run_us: i64) -> i64 {
        let ran_us = (run_us - self.run_us).max(0);
        // Ahead of the system's clock: go slowly until it has caught up.
        let floor_us = self.last_us + ran_us - ran_us / 10;
        *self = Self { last_us: wall_us.max(floor_us), run_us: run_us.max(self.run_us) };
        self.last_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn a_clock_set_back_goes_on_slowly_until_both_agree() {
        let mut clock = SteadyClock::start(1_000 * SECOND, 0);
        assert_eq!(clock.advance(1_010 * SECOND, 10 * SECOND), 1_010 * SECOND);
        // Set back by 5 s: 10 s later ours has gone on for 9.
        assert_eq!(clock.advance(1_015 * SECOND, 20 * SECOND), 1_019 * SECOND);
        // 5 s are made up at a tenth of the speed: after 50 s both agree, and they stay together.
        assert_eq!(clock.advance(1_055 * SECOND, 60 * SECOND), 1_055 * SECOND);
        assert_eq!(clock.advance(1_056 * SECOND, 61 * SECOND), 1_056 * SECOND);
        // Set forward: at once.
        assert_eq!(clock.advance(5_000 * SECOND, 62 * SECOND), 5_000 * SECOND);
    }

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn it_never_goes_back_nor_stands_still(steps in prop::collection::vec((-10 * SECOND..10 * SECOND, 10..SECOND), 1..50)) {
            let mut clock = SteadyClock::start(1_000 * SECOND, 0);
            let (mut wall, mut run, mut last) = (1_000 * SECOND, 0, 1_000 * SECOND);
            for (jump, ran) in steps {
                run += ran;
                wall += ran + jump;
                let now = clock.advance(wall, run);
                prop_assert!(now >= wall && now > last, "{now} after {last}");
                last = now;
            }
        }
    }

    #[test]
    fn the_real_one_runs() {
        let (first, begun) = (now(), instant());
        while begun.elapsed().as_millis() < 2 {}
        assert!(now().millis_since(first) >= 1);
        assert!(first.seconds() > 1.7e9);
    }
}
