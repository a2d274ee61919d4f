//! Events on their way: the start of a container waits until its address is known, what follows about that container waits
//! behind it, and nothing else waits.

use super::event::{Details, Event};
use std::collections::{BTreeMap, VecDeque};

/// Containers that may wait for their address at once, and events behind them; further ones are told without.
const WAITING: usize = 1_000;
const BEHIND: usize = 10_000;

/// What is ready, and what waits.
#[derive(Debug, Default)]
pub(super) struct Order {
    ready: VecDeque<Event>,
    waiting: BTreeMap<String, VecDeque<Event>>,
    behind: usize,
}

impl Order {
    /// Whether one more container may wait.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < WAITING && self.behind < BEHIND
    }

    /// An event that waits until its container is [`Order::resolved`].
    pub fn wait(&mut self, id: String, event: Event) {
        self.behind += 1;
        self.waiting.entry(id).or_default().push_back(event);
    }

    /// An event whose turn it is as soon as nothing about its container waits. The end of a container ends the waiting.
    pub fn push(&mut self, event: Event) {
        let Some(id) = event.container().filter(|id| self.waiting.contains_key(*id)).map(str::to_owned) else {
            self.ready.push_back(event);
            return;
        };
        let ends = event.ends_container();
        self.wait(id.clone(), event);
        if ends || self.behind >= BEHIND {
            self.resolved(&id, None);
        }
    }

    /// What was found out about a container: everything about it is ready now.
    pub fn resolved(&mut self, id: &str, details: Option<Details>) {
        let Some(mut events) = self.waiting.remove(id) else { return };
        self.behind -= events.len();
        if let Some(details) = details {
            for event in events.iter_mut().filter(|event| event.starts_container()) {
                event.complete(details.clone());
            }
        }
        self.ready.append(&mut events);
    }

    /// The next event to be told.
    pub fn next(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// Containers that wait.
    pub fn waiting(&self) -> Vec<String> {
        self.waiting.keys().cloned().collect()
    }

    /// The time of the oldest event of the daemon that has not been told.
    pub fn oldest(&self) -> Option<i64> {
        let waiting = self.waiting.values().flatten().chain(&self.ready);
        waiting.filter(|event| !event.replayed).map(|event| event.time_nano).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, action: &str, time: i64) -> Event {
        let line = format!(r#"{{"Type":"container","Action":"{action}","Actor":{{"ID":"{id}"}},"timeNano":{time}}}"#);
        Event::read(line.as_bytes()).unwrap()
    }

    fn told(order: &mut Order) -> Vec<String> {
        std::iter::from_fn(|| order.next())
            .map(|event| format!("{} {}", event.container().unwrap(), event.action))
            .collect()
    }

    #[test]
    fn only_what_is_about_the_same_container_waits() {
        let mut order = Order::default();
        order.wait("a".into(), event("a", "start", 1));
        order.push(event("b", "create", 2));
        order.push(event("a", "exec_create", 3));
        assert_eq!((told(&mut order), order.oldest()), (vec!["b create".to_owned()], Some(1)));
        order.resolved("a", Some(Details { addresses: vec![("n".into(), "10.0.0.1".into())], ..Details::default() }));
        assert_eq!(order.oldest(), Some(1), "not told yet");
        let start = order.next().unwrap();
        assert!(start.json().contains("10.0.0.1"));
        assert_eq!((told(&mut order), order.oldest()), (vec!["a exec_create".to_owned()], None));
        order.resolved("a", None);
    }

    #[test]
    fn the_end_of_a_container_ends_the_waiting() {
        let mut order = Order::default();
        order.wait("a".into(), event("a", "start", 1));
        order.push(event("a", "die", 2));
        assert_eq!(told(&mut order), ["a start", "a die"]);
        assert!(order.waiting().is_empty() && order.has_room());
    }
}
