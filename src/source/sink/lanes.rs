//! The two lines before the core, and who is next.

use std::collections::VecDeque;

/// After so many pieces of the high line in a row one of the normal line has its turn: urgent events overtake a backlog,
/// and a flood of urgent events starves nobody.
const HIGH_IN_A_ROW: u32 = 7;

/// How urgent an input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Everything else, and all that must keep its order.
    Normal,
    /// Events whose priority is at least `limits.high_priority`.
    High,
}

impl Priority {
    /// Both, the urgent one first.
    pub const ALL: [Self; 2] = [Self::High, Self::Normal];

    /// The word that metrics and API use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
        }
    }
}

/// Numbered pieces in two lines, each in order.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    high: VecDeque<(u64, T)>,
    normal: VecDeque<(u64, T)>,
    /// The last number that was given.
    number: u64,
    in_a_row: u32,
}

impl<T> Lanes<T> {
    pub fn new() -> Self {
        Self { high: VecDeque::new(), normal: VecDeque::new(), number: 0, in_a_row: 0 }
    }

    /// Puts a piece at the end of its line; its number.
    pub fn push(&mut self, piece: T, priority: Priority) -> u64 {
        self.number += 1;
        let number = self.number;
        self.lane_mut(priority).push_back((number, piece));
        number
    }

    /// The last number that was given.
    pub fn last_number(&self) -> u64 {
        self.number
    }

    /// Takes the next piece.
    pub fn next(&mut self) -> Option<(Priority, T)> {
        let waits = !self.normal.is_empty();
        let (priority, piece) = match self.high.pop_front() {
            Some(next) if !waits || self.in_a_row < HIGH_IN_A_ROW => (Priority::High, next),
            Some(next) => {
                self.high.push_front(next);
                (Priority::Normal, self.normal.pop_front()?)
            }
            None => (Priority::Normal, self.normal.pop_front()?),
        };
        self.in_a_row = if priority == Priority::High { self.in_a_row + 1 } else { 0 };
        Some((priority, piece.1))
    }

    /// Everything up to this number has left the lines. Urgent pieces overtake: a higher number may be gone as well, but
    /// no lower one waits.
    pub fn gone_up_to(&self) -> u64 {
        let first = |lane: &VecDeque<(u64, T)>| lane.front().map(|(number, _)| *number);
        [first(&self.high), first(&self.normal)].into_iter().flatten().min().map_or(self.number, |first| first - 1)
    }

    /// The pieces of one line, oldest first.
    pub fn lane(&self, priority: Priority) -> impl Iterator<Item = &T> {
        let lane = match priority {
            Priority::High => &self.high,
            Priority::Normal => &self.normal,
        };
        lane.iter().map(|(_, piece)| piece)
    }

    /// Takes the piece at a place of a line out of turn.
    pub fn remove(&mut self, priority: Priority, at: usize) -> Option<T> {
        self.lane_mut(priority).remove(at).map(|(_, piece)| piece)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.high.is_empty() && self.normal.is_empty()
    }

    fn lane_mut(&mut self, priority: Priority) -> &mut VecDeque<(u64, T)> {
        match priority {
            Priority::High => &mut self.high,
            Priority::Normal => &mut self.normal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        /// Steps: 0 puts a normal piece, 1 an urgent one, 2 takes one, 3 takes the second of the normal line out of turn.
        #[test]
        fn order_numbers_and_shares_hold(steps in prop::collection::vec(0..4_u8, 0..400)) {
            let mut lanes = Lanes::new();
            let (mut put, mut gone) = (0_u64, BTreeSet::new());
            let mut last = [0; 2];
            let mut urgent_in_a_row = 0;
            for step in steps {
                let left = match step {
                    0 | 1 => {
                        put += 1;
                        let priority = if step == 1 { Priority::High } else { Priority::Normal };
                        prop_assert_eq!(lanes.push(put, priority), put);
                        None
                    }
                    2 => {
                        let (urgent, waiting) = (lanes.lane(Priority::High).count(), lanes.lane(Priority::Normal).count());
                        let next = lanes.next();
                        prop_assert_eq!(next.is_none(), urgent + waiting == 0);
                        if let Some((priority, number)) = next {
                            prop_assert!(number > last[priority as usize], "each line keeps its order");
                            last[priority as usize] = number;
                            match priority {
                                Priority::High => urgent_in_a_row += 1,
                                Priority::Normal => {
                                    prop_assert!(urgent == 0 || urgent_in_a_row >= HIGH_IN_A_ROW, "urgent ones overtake");
                                    urgent_in_a_row = 0;
                                }
                            }
                            prop_assert!(waiting == 0 || urgent_in_a_row <= HIGH_IN_A_ROW, "nobody starves");
                        }
                        next.map(|(_, number)| number)
                    }
                    _ => lanes.remove(Priority::Normal, 1),
                };
                gone.extend(left);
                let known = (1..=put).find(|number| !gone.contains(number)).map_or(put, |first| first - 1);
                prop_assert_eq!(lanes.gone_up_to(), known, "a checkpoint never claims what still waits");
            }
        }
    }
}
