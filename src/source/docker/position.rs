//! What was told so far, as the checkpoint keeps it: the times and keys of the last events, and the containers that run.
//!
//! The daemon is asked for what came since a moment before the last event, because events of one moment may come in any
//! order and because Podman leaves out the moment itself; what was seen is told apart by its key.

use super::event::Event;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How far before the last event the daemon is asked, in nanoseconds.
const OVERLAP_NANO: i64 = 1_000_000_000;
/// Keys that are kept; more than the 256 events that Docker remembers.
const KEYS: usize = 1_024;
/// Running containers that are kept in mind.
const CONTAINERS: usize = 10_000;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Stored {
    /// Everything up to here was told, in nanoseconds since 1970; `None` before the first event.
    horizon: Option<i64>,
    /// What was told after that.
    seen: BTreeMap<String, i64>,
    /// The highest time told.
    last: Option<i64>,
    running: BTreeSet<String>,
}

/// The position of a source.
#[derive(Debug, Default)]
pub(super) struct Position {
    stored: Stored,
    /// Keys that are on their way, told or waiting: an event that comes twice on one connection is still one.
    taken: BTreeMap<String, i64>,
    /// When the first connection began: what comes after a later one is asked for from there.
    began: Option<i64>,
    /// What the daemon remembers is coming.
    replaying: bool,
    /// It remembered something that we had seen.
    recognised: bool,
}

impl Position {
    /// From a checkpoint; one that cannot be read counts as none.
    pub fn decode(bytes: Option<&[u8]>) -> Self {
        let stored = bytes.and_then(|bytes| postcard::from_bytes(bytes).ok()).unwrap_or_default();
        Self { stored, ..Self::default() }
    }

    /// For the checkpoint; `waiting` is the time of the oldest event that has been read and not told.
    pub fn encode(&mut self, waiting: Option<i64>) -> Vec<u8> {
        self.advance(waiting);
        postcard::to_stdvec(&self.stored).unwrap_or_default()
    }

    fn advance(&mut self, waiting: Option<i64>) {
        self.stored.horizon = self.stored.horizon.or(self.began);
        let Some(last) = self.stored.last else { return };
        let mut horizon = last - OVERLAP_NANO;
        if self.stored.seen.len() > KEYS {
            let mut times: Vec<i64> = self.stored.seen.values().copied().collect();
            times.sort_unstable();
            horizon = horizon.max(times[times.len() - KEYS] - 1);
        }
        // What waits must come again after a crash.
        if let Some(waiting) = waiting {
            horizon = horizon.min(waiting - 1);
        }
        // A horizon beyond the last event is our own clock's, which is ahead of the daemon's.
        let known = self.stored.horizon.filter(|known| *known <= last);
        let horizon = known.map_or(horizon, |known| known.max(horizon));
        self.stored.horizon = Some(horizon);
        self.stored.seen.retain(|_, time| *time > horizon);
        self.taken.retain(|_, time| *time > horizon);
    }

    /// Since when the daemon is asked; `None` asks for what comes from now on.
    pub fn since(&self) -> Option<i64> {
        self.stored.horizon
    }

    /// Since when the daemon can be asked again on a connection: from the horizon on, or from where the first one began.
    pub fn asked_from(&self) -> i64 {
        self.stored.horizon.or(self.began).unwrap_or_default()
    }

    /// Whether an event was taken before, or is too old to tell.
    pub fn has(&self, time_nano: i64, key: &str) -> bool {
        self.stored.horizon.is_some_and(|horizon| time_nano <= horizon)
            || self.stored.seen.contains_key(key)
            || self.taken.contains_key(key)
    }

    /// A connection begins. A horizon in the future means that the clock was set back: then it is the keys alone that tell.
    pub fn begin(&mut self, now_nano: i64) {
        if self.stored.horizon.is_some_and(|horizon| horizon > now_nano) {
            self.stored.horizon = Some(now_nano - OVERLAP_NANO);
            self.stored.last = Some(now_nano);
        }
        self.stored.horizon = self.stored.horizon.or(self.began);
        self.began = self.began.or(Some(now_nano));
        self.replaying = self.stored.horizon.is_some();
        self.recognised = false;
    }

    /// Whether an event has not been taken before; it is from now on.
    pub fn is_new(&mut self, time_nano: i64, key: &str) -> bool {
        let seen = self.stored.seen.contains_key(key) || self.taken.contains_key(key);
        // Only what is remembered can be older than what was told: later, a clock that is set back must hide nothing.
        let old = self.replaying && self.stored.horizon.is_some_and(|horizon| time_nano <= horizon);
        if seen || old {
            self.recognised = true;
            return false;
        }
        self.replaying = false;
        self.taken.insert(key.to_owned(), time_nano);
        true
    }

    /// What the daemon remembered has come; whether it has forgotten what we saw last.
    pub fn end_of_replay(&mut self) -> bool {
        self.replaying = false;
        !self.stored.seen.is_empty() && !self.recognised
    }

    /// An event goes to the core.
    pub fn told(&mut self, event: &Event) {
        if let Some(id) = event.container() {
            if event.starts_container() && self.stored.running.len() < CONTAINERS {
                self.stored.running.insert(id.to_owned());
            } else if event.ends_container() {
                self.stored.running.remove(id);
            }
        }
        if event.replayed {
            return;
        }
        let key = event.key();
        self.taken.remove(&key);
        self.stored.seen.insert(key, event.time_nano);
        self.stored.last = Some(self.stored.last.map_or(event.time_nano, |last| last.max(event.time_nano)));
        if self.stored.seen.len() > 2 * KEYS && self.taken.is_empty() {
            self.advance(None);
        }
    }

    /// Whether a container was told to run.
    pub fn knows(&self, id: &str) -> bool {
        self.stored.running.contains(id)
    }

    /// Those told to run that are not among these.
    pub fn gone(&self, running: &BTreeSet<String>) -> Vec<String> {
        self.stored.running.difference(running).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000_000;

    fn event(id: u8, time: i64) -> Event {
        let line = format!(r#"{{"Type":"container","Action":"start","Actor":{{"ID":"c{id}"}},"timeNano":{time}}}"#);
        Event::read(line.as_bytes()).unwrap()
    }

    #[test]
    fn events_of_one_nanosecond_are_told_apart() {
        let mut position = Position::default();
        position.begin(0);
        let at = 100 * SECOND;
        for id in 0..2 {
            let event = event(id, at);
            assert!(position.is_new(at, &event.key()));
            position.told(&event);
        }
        let mut again = Position::decode(Some(&position.encode(None)));
        again.begin(200 * SECOND);
        assert_eq!(again.since(), Some(at - SECOND));
        let fresh: Vec<bool> = (0..3).map(|id| again.is_new(at, &event(id, at).key())).collect();
        assert_eq!((fresh, again.end_of_replay()), (vec![false, false, true], false));
        assert!(again.knows("c1") && !again.knows("c9"));
        assert_eq!(again.gone(&BTreeSet::from(["c0".to_owned()])), ["c1"]);
    }

    #[test]
    fn a_daemon_that_forgot_is_noticed_and_a_clock_that_went_back_hides_nothing() {
        let mut position = Position::default();
        position.begin(0);
        let first = event(1, 100 * SECOND);
        assert!(position.is_new(first.time_nano, &first.key()));
        position.told(&first);
        let stored = position.encode(None);
        let mut again = Position::decode(Some(&stored));
        again.begin(200 * SECOND);
        assert!(again.end_of_replay(), "nothing of what was seen came back");
        let mut earlier = Position::decode(Some(&stored));
        earlier.begin(50 * SECOND);
        let event = event(2, 50 * SECOND + 5);
        assert!(earlier.is_new(event.time_nano, &event.key()));
        assert_eq!(Position::decode(Some(b"nonsense")).since(), None);
    }

    #[test]
    fn what_waits_comes_again_after_a_crash_and_what_was_told_does_not() {
        let mut position = Position::default();
        position.begin(0);
        let (waits, told) = (event(1, 100 * SECOND), event(2, 150 * SECOND));
        assert!(position.is_new(waits.time_nano, &waits.key()) && position.is_new(told.time_nano, &told.key()));
        position.told(&told);
        let mut again = Position::decode(Some(&position.encode(Some(waits.time_nano))));
        again.begin(200 * SECOND);
        assert!(again.since().unwrap() < waits.time_nano);
        assert!(again.is_new(waits.time_nano, &waits.key()));
        assert!(!again.is_new(told.time_nano, &told.key()));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..Default::default() })]
        /// The daemon remembers everything; the source crashes anywhere: each event is told once.
        #[test]
        fn every_event_once(steps in prop::collection::vec(0_i64..2 * SECOND, 1..60), cuts in prop::collection::vec(1_usize..20, 1..8)) {
            let mut time = 1_000 * SECOND;
            let all: Vec<Event> = steps.iter().enumerate().map(|(at, step)| {
                // Every other event shares its nanosecond with the one before.
                if at % 2 == 0 { time += step; }
                event(at as u8, time)
            }).collect();
            let (mut told, mut stored) = (Vec::new(), Vec::new());
            for cut in cuts.iter().copied().chain([usize::MAX]) {
                let mut position = Position::decode(Some(&stored));
                position.begin(time + SECOND);
                let since = position.since().unwrap_or(0);
                let mut left = cut;
                for event in all.iter().filter(|event| event.time_nano >= since) {
                    if left == 0 { break; }
                    if position.is_new(event.time_nano, &event.key()) {
                        position.told(event);
                        told.push(event.key());
                        stored = position.encode(None);
                        left -= 1;
                    }
                }
            }
            let expected: Vec<String> = all.iter().map(Event::key).collect();
            prop_assert_eq!(told, expected);
        }
    }
}
