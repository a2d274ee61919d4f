//! `gap`: a number that should grow by one has left some out.
//!
//! Order does not matter: a number that comes late fills its hole. A number that was there already is a duplicate. Two
//! rising numbers below the highest one, from events that are newer than the one with the highest number, are a new
//! beginning (the counter of a restarted service): what was missing before can no longer come and is forgotten. Should
//! the old count go on after all, they were duplicates.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Holes of one key that late numbers can still fill; of older ones only the size is kept.
pub(super) const MAX_HOLES: usize = 64;
/// How far apart the two numbers of a new beginning may be.
const RESET_STEP: i64 = 16;
/// The alert about what is missing ends after this long.
const ENDS_US: i64 = 3_600_000_000;
/// A key whose number does not move is forgotten after this long.
const FORGET_US: i64 = 30 * 24 * ENDS_US;

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The next one, or the first.
    Next,
    /// There are some missing before it.
    Hole,
    /// It was missing.
    Filled,
    /// It was there already, or is older than everything remembered.
    Duplicate,
    /// The count began anew.
    Reset,
}

/// Numbers that did not come, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Hole {
    from: i64,
    to: i64,
    /// When it was found, in microseconds on the rule's clock.
    at: i64,
}

/// What is remembered of one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Numbers {
    /// The highest number, once there is one.
    highest: Option<i64>,
    /// The time of the event that had it.
    newest: i64,
    holes: VecDeque<Hole>,
    /// Missing numbers whose hole is no longer kept, and when that hole was found.
    given_up: i64,
    given_up_at: i64,
    /// A number that may be a new beginning, with its time.
    begins: Option<(i64, i64)>,
    /// The highest number before the last new beginning.
    before: Option<i64>,
    /// Nobody listened, and what was missed does not come: a jump means nothing.
    jump: bool,
}

impl Numbers {
    pub fn new(at: i64) -> Self {
        Self {
            highest: None,
            newest: at,
            holes: VecDeque::new(),
            given_up: 0,
            given_up_at: at,
            begins: None,
            before: None,
            jump: false,
        }
    }

    /// Takes a number from an event of this time.
    pub fn take(&mut self, number: i64, at: i64) -> Step {
        let Some(highest) = self.highest else {
            (self.highest, self.newest) = (Some(number), at);
            return Step::Next;
        };
        if let Some(before) = self.before.filter(|before| *before > highest && number > *before) {
            // The old count goes on: what looked like a new beginning were duplicates.
            (self.highest, self.before) = (Some(before), None);
            self.holes.clear();
            return self.take(number, at);
        }
        if number > highest {
            let missing = number.saturating_sub(highest).saturating_sub(1);
            (self.highest, self.newest, self.begins) = (Some(number), self.newest.max(at), None);
            if missing == 0 || std::mem::take(&mut self.jump) {
                self.jump = false;
                return Step::Next;
            }
            self.add_hole(Hole { from: highest + 1, to: number - 1, at });
            return Step::Hole;
        }
        if let Some(place) = self.holes.iter().position(|hole| (hole.from..=hole.to).contains(&number)) {
            self.fill(place, number);
            return Step::Filled;
        }
        if at <= self.newest {
            return Step::Duplicate;
        }
        match self.begins {
            Some((first, since)) if number > first && number - first <= RESET_STEP && at >= since => {
                (self.before, self.highest, self.newest, self.begins) = (Some(highest), Some(number), at, None);
                self.holes.clear();
                self.given_up = 0;
                if number - first > 1 {
                    self.add_hole(Hole { from: first + 1, to: number - 1, at });
                }
                Step::Reset
            }
            _ => {
                self.begins = Some((number, at));
                Step::Duplicate
            }
        }
    }

    fn add_hole(&mut self, hole: Hole) {
        self.holes.push_back(hole);
        if self.holes.len() > MAX_HOLES
            && let Some(oldest) = self.holes.pop_front()
        {
            self.given_up = self.given_up.saturating_add(oldest.to - oldest.from + 1);
            self.given_up_at = self.given_up_at.max(oldest.at);
        }
    }

    fn fill(&mut self, place: usize, number: i64) {
        let hole = self.holes[place];
        match (number == hole.from, number == hole.to) {
            (true, true) => drop(self.holes.remove(place)),
            (true, false) => self.holes[place].from += 1,
            (false, true) => self.holes[place].to -= 1,
            (false, false) => {
                self.holes[place].to = number - 1;
                self.holes.insert(place + 1, Hole { from: number + 1, ..hole });
                // A hole in two parts may be one too many.
                if self.holes.len() > MAX_HOLES
                    && let Some(oldest) = self.holes.pop_front()
                {
                    self.given_up = self.given_up.saturating_add(oldest.to - oldest.from + 1);
                    self.given_up_at = self.given_up_at.max(oldest.at);
                }
            }
        }
    }

    /// How many are missing for longer than the tolerance, and when to look again; what is missing for too long is
    /// forgotten.
    pub fn judge(&mut self, clock: i64, within_us: i64) -> (i64, i64) {
        let ends = |at: i64| at.saturating_add(within_us).saturating_add(ENDS_US);
        self.holes.retain(|hole| clock < ends(hole.at));
        if clock >= ends(self.given_up_at) {
            self.given_up = 0;
        }
        let mut next = self.newest.saturating_add(FORGET_US);
        let mut missing = self.given_up;
        if self.given_up > 0 {
            next = next.min(ends(self.given_up_at));
        }
        for hole in &self.holes {
            let due = hole.at.saturating_add(within_us);
            if due <= clock {
                missing = missing.saturating_add(hole.to - hole.from + 1);
                next = next.min(ends(hole.at));
            } else {
                next = next.min(due);
            }
        }
        (missing, next)
    }

    /// The first and the last number that is missing.
    pub fn range(&self) -> Option<(i64, i64)> {
        Some((self.holes.iter().map(|hole| hole.from).min()?, self.holes.iter().map(|hole| hole.to).max()?))
    }

    /// Whether the key can be forgotten.
    pub fn is_idle(&self, clock: i64) -> bool {
        self.holes.is_empty() && self.given_up == 0 && clock >= self.newest.saturating_add(FORGET_US)
    }

    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.holes.is_empty() && self.given_up == 0
    }

    /// Events were lost on their way to us: the next jump means nothing.
    pub fn allow_jump(&mut self) {
        self.jump = true;
    }

    pub fn shift(&mut self, by: i64) {
        self.newest += by;
        self.given_up_at += by;
        self.holes.iter_mut().for_each(|hole| hole.at += by);
        self.begins = self.begins.map(|(number, at)| (number, at + by));
    }
}
