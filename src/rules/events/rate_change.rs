//! `rate_change`: the events of a window against those of the windows before it.
//!
//! Windows are `within` long and aligned to the epoch. A window is judged when it is over and `lateness` more has passed;
//! one that has far too many already is judged at once. Median and MAD (the median of the distances from the median) of
//! the windows before say what is usual: a few odd windows among them change neither. A window that was not heard in
//! full (the first of a key, those of an outage or a restart) is neither usual nor too small.

use crate::config::schema::{Direction, Floor, RateChange};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The factor that makes the MAD of normally distributed numbers their standard deviation.
const MAD_TO_DEVIATION: f64 = 1.4826;

/// What a condition looks for, times in microseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct RateSettings {
    /// How long a window is.
    pub width_us: i64,
    /// Windows that the newest one is held against, at most.
    pub windows: usize,
    /// Windows heard in full that there must be.
    pub min_samples: usize,
    /// Which changes count.
    pub direction: Direction,
    /// Robust deviations from the median.
    pub threshold: f64,
    /// The least deviation that is assumed.
    pub floor: Floor,
    /// How long a window waits for late events.
    pub lateness_us: i64,
}

impl RateSettings {
    pub(super) fn new(config: &RateChange, within_us: i64) -> Self {
        Self {
            width_us: within_us,
            windows: (config.baseline_ms.saturating_mul(1_000) / within_us.max(1)).clamp(2, 2_000) as usize,
            min_samples: config.min_samples,
            direction: config.direction,
            threshold: config.threshold,
            floor: config.floor,
            lateness_us: config.lateness_ms.saturating_mul(1_000),
        }
    }

    /// How old an event may be to count.
    pub(super) fn reach_us(&self) -> i64 {
        self.width_us.saturating_mul(self.windows as i64)
    }
}

/// One window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Window {
    count: u32,
    heard: bool,
}

/// What is remembered of one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Windows {
    /// The number of the last window since the epoch.
    newest: i64,
    /// Oldest first.
    windows: VecDeque<Window>,
    /// What the last judgement found, while it holds.
    found: Option<Change>,
}

/// A window that is not as usual.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Change {
    /// Its events.
    pub count: f64,
    /// The median of the windows before.
    pub expected: f64,
    /// How many robust deviations lie between them; negative when there are too few.
    pub deviations: f64,
}

impl Windows {
    pub fn new(at: i64, settings: &RateSettings) -> Self {
        let first = Window { count: 0, heard: false };
        Self { newest: at.div_euclid(settings.width_us), windows: [first].into(), found: None }
    }

    /// Makes the window of a moment the newest, unless a newer one is there.
    fn advance(&mut self, at: i64, settings: &RateSettings) {
        let number = at.div_euclid(settings.width_us);
        let keep = settings.windows + 2;
        if number > self.newest {
            let missing = usize::try_from(number - self.newest).unwrap_or(usize::MAX).min(keep);
            self.windows.extend(std::iter::repeat_n(Window { count: 0, heard: true }, missing));
            self.newest = number;
            let surplus = self.windows.len().saturating_sub(keep);
            self.windows.drain(..surplus);
        }
    }

    fn index(&self, number: i64) -> Option<usize> {
        let back = usize::try_from(self.newest.checked_sub(number)?).ok()?;
        (self.windows.len() - 1).checked_sub(back)
    }

    pub fn event(&mut self, at: i64, settings: &RateSettings) {
        self.advance(at, settings);
        let index = self.index(at.div_euclid(settings.width_us));
        if let Some(window) = index.and_then(|index| self.windows.get_mut(index)) {
            window.count = window.count.saturating_add(1);
        }
    }

    /// Says that nothing can be concluded from the windows between two moments.
    pub fn unheard(&mut self, from: i64, to: i64, settings: &RateSettings) {
        self.advance(to, settings);
        let (from, to) = (from.div_euclid(settings.width_us), to.div_euclid(settings.width_us));
        let oldest = self.newest - (self.windows.len() as i64 - 1);
        for number in from.max(oldest)..=to {
            if let Some(window) = self.index(number).and_then(|index| self.windows.get_mut(index)) {
                window.heard = false;
            }
        }
    }

    /// What is not as usual at a moment, and when to look again.
    pub fn judge(&mut self, clock: i64, settings: &RateSettings) -> (Option<Change>, i64) {
        self.advance(clock, settings);
        let closed = (clock - settings.lateness_us).div_euclid(settings.width_us) - 1;
        let next = (closed + 2).saturating_mul(settings.width_us).saturating_add(settings.lateness_us);
        let judged = self.index(closed);
        // Windows that are not over may already have far too many.
        let too_many = (closed + 1..=self.newest).rev().find_map(|number| {
            let change = self.against_before(self.index(number)?, judged.map_or(0, |judged| judged + 1), settings)?;
            (change.deviations > 0.0).then_some(change)
        });
        let over = match judged {
            Some(at) => match self.against_before(at, at, settings) {
                // Too few in a window that was not heard in full means nothing; what held before goes on holding.
                _ if !self.windows[at].heard => self.found,
                found => found,
            },
            None => None,
        };
        self.found = too_many.or(over);
        (self.found, next)
    }

    /// The window at `at` against those before `before`.
    fn against_before(&self, at: usize, before: usize, settings: &RateSettings) -> Option<Change> {
        let window = self.windows.get(at)?;
        let start = before.saturating_sub(settings.windows);
        let heard = self.windows.iter().take(before).skip(start).filter(|window| window.heard);
        let mut usual: Vec<f64> = heard.map(|window| f64::from(window.count)).collect();
        if usual.len() < settings.min_samples {
            return None;
        }
        let expected = median(&mut usual);
        let mut distances: Vec<f64> = usual.iter().map(|count| (count - expected).abs()).collect();
        let floor = match settings.floor {
            Floor::Share(share) => (expected * share).max(1.0),
            Floor::Events(events) => events,
        };
        let deviation = (median(&mut distances) * MAD_TO_DEVIATION).max(floor).max(f64::MIN_POSITIVE);
        let count = f64::from(window.count);
        let deviations = (count - expected) / deviation;
        let counts = match settings.direction {
            Direction::Up => deviations > settings.threshold,
            Direction::Down => deviations < -settings.threshold,
            Direction::Both => deviations.abs() > settings.threshold,
        };
        counts.then_some(Change { count, expected, deviations })
    }

    /// Nothing came for as long as anything is remembered.
    pub fn is_empty(&self) -> bool {
        self.windows.iter().all(|window| window.count == 0)
    }

    pub fn found(&self) -> Option<Change> {
        self.found
    }

    /// Moves everything in time, by whole windows.
    pub fn shift(&mut self, by: i64, settings: &RateSettings) {
        self.newest += by.div_euclid(settings.width_us);
    }
}

/// The middle one, or the mean of the two in the middle.
fn median(numbers: &mut [f64]) -> f64 {
    if numbers.is_empty() {
        return 0.0;
    }
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len() % 2 == 1 { numbers[middle] } else { f64::midpoint(numbers[middle - 1], numbers[middle]) }
}
