//! Rate limits: token buckets for a source and for each of its clients, in events.
//!
//! The decision is pure (`now` is given); who exceeds a limit waits, is told when to come again, or loses what he sent,
//! as his transport allows. A piece of input that is larger than a bucket passes when the bucket is full, and is paid
//! for afterwards: rates hold on average, and nothing is too large to ever pass.

use crate::config::schema::{Rate, RateLimitConfig};
use crate::telemetry::{clock, self_metrics};
use ahash::RandomState;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Clients of one source that are told apart; beyond that they share one bucket.
const CLIENTS: usize = 10_000;
/// A source that meets a limit is said at most so often.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// By address.
    Ip(IpAddr),
    /// By the user of a unix socket.
    User(u32),
    /// One of those that there is no room for.
    Others,
}

/// A limit was met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limited {
    /// Whose: `source` or `client`.
    pub by: &'static str,
    /// When it is worth trying again.
    pub wait: Duration,
}

/// Tokens that come back with time. Times are microseconds on any clock that does not go backwards.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    tokens: f64,
    at_us: i64,
}

/// How fast, and how much at once.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    per_us: f64,
    burst: f64,
}

impl Shape {
    fn new(rate: Rate, burst: Option<u64>) -> Self {
        let burst = burst.map_or(rate.count, |burst| burst as f64).max(1.0);
        Self { per_us: rate.count / (rate.per_ms as f64 * 1e3), burst }
    }

    fn full(self, now_us: i64) -> Bucket {
        Bucket { tokens: self.burst, at_us: now_us }
    }
}

impl Bucket {
    fn refill(&mut self, shape: Shape, now_us: i64) {
        let passed = (now_us - self.at_us).max(0) as f64;
        self.tokens = (self.tokens + passed * shape.per_us).min(shape.burst);
        self.at_us = self.at_us.max(now_us);
    }

    /// How long until so many may pass; nothing when they may now.
    fn wait_us(&self, shape: Shape, events: f64) -> f64 {
        let missing = events.min(shape.burst) - self.tokens;
        // A millionth of an event is rounding.
        if missing <= 1e-6 { 0.0 } else { missing / shape.per_us }
    }
}

/// The buckets of one source.
#[derive(Debug)]
pub struct RateLimits {
    source: Arc<str>,
    whole: Option<Shape>,
    each: Option<Shape>,
    /// Held for a few additions.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    whole: Bucket,
    clients: HashMap<Client, Bucket, RandomState>,
    said: Option<Instant>,
}

impl RateLimits {
    /// The buckets that a source's `rate_limit:` asks for, full.
    pub fn new(source: Arc<str>, config: &RateLimitConfig) -> Self {
        let whole = config.events.map(|rate| Shape::new(rate, config.burst));
        let each = config.per_client.map(|rate| Shape::new(rate, None));
        let state = State {
            whole: Bucket { tokens: whole.map_or(0.0, |shape| shape.burst), at_us: i64::MIN / 2 },
            clients: HashMap::with_hasher(RandomState::with_seeds(21, 22, 23, 24)),
            said: None,
        };
        Self { source, whole, each, state: Mutex::new(state) }
    }

    /// Lets so many events of a client pass, or says when to come again; `outcome` is what becomes of them then, to be
    /// counted. 0 events ask whether any could pass; a request that is sent away unread counts as one event.
    ///
    /// # Errors
    /// [`Limited`]; nothing was taken from any bucket.
    pub fn admit(&self, client: Option<Client>, events: usize, outcome: Option<&'static str>) -> Result<(), Limited> {
        let now_us = clock::now().micros();
        let decided = self.decide(client, events, now_us);
        if let (Err(limited), Some(outcome)) = (decided, outcome) {
            self_metrics::rate_limited(&self.source, limited.by, outcome).increment(events.max(1) as u64);
            self.say(limited);
        }
        decided
    }

    fn decide(&self, client: Option<Client>, events: usize, now_us: i64) -> Result<(), Limited> {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { whole, clients, .. } = &mut *guard;
        let mut own = None;
        if let (Some(shape), Some(client)) = (self.each, client) {
            let client = place(clients, client, shape, now_us);
            let bucket = clients.entry(client).or_insert_with(|| shape.full(now_us));
            bucket.refill(shape, now_us);
            own = Some((shape, bucket));
        }
        let wanted = events.max(1) as f64;
        let wait = |by, us: f64| Limited { by, wait: Duration::from_micros(us.ceil() as u64) };
        if let Some((shape, bucket)) = &own
            && let us = bucket.wait_us(*shape, wanted)
            && us > 0.0
        {
            return Err(wait("client", us));
        }
        if let Some(shape) = self.whole {
            whole.refill(shape, now_us);
            let us = whole.wait_us(shape, wanted);
            if us > 0.0 {
                return Err(wait("source", us));
            }
            whole.tokens -= events as f64;
        }
        if let Some((_, bucket)) = own {
            bucket.tokens -= events as f64;
        }
        Ok(())
    }

    /// Gives back what [`RateLimits::admit`] took: the events were sent away for another reason.
    pub fn give_back(&self, client: Option<Client>, events: usize) {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { whole, clients, .. } = &mut *guard;
        if let Some(shape) = self.whole {
            whole.tokens = (whole.tokens + events as f64).min(shape.burst);
        }
        if let (Some(shape), Some(client)) = (self.each, client) {
            let client = if clients.contains_key(&client) { client } else { Client::Others };
            if let Some(bucket) = clients.get_mut(&client) {
                bucket.tokens = (bucket.tokens + events as f64).min(shape.burst);
            }
        }
    }

    fn say(&self, limited: Limited) {
        let now = clock::instant();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.said.is_none_or(|last| now.duration_since(last) >= SAID_EVERY) {
            state.said = Some(now);
            tracing::warn!(source = %self.source, limit = limited.by, "more events come than rate_limit allows, see sidewatch_rate_limited_events_total");
        }
    }
}

/// The client's key in the table: its own while there is room.
fn place(clients: &mut HashMap<Client, Bucket, RandomState>, client: Client, shape: Shape, now_us: i64) -> Client {
    if clients.len() >= CLIENTS && !clients.contains_key(&client) {
        // Who has been quiet for long enough to have a full bucket again loses nothing by being forgotten.
        clients.retain(|_, bucket| {
            bucket.refill(shape, now_us);
            bucket.tokens < shape.burst
        });
        if clients.len() >= CLIENTS {
            return Client::Others;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(events: Option<f64>, burst: Option<u64>, per_client: Option<f64>) -> RateLimits {
        let rate = |count: f64| Rate { count, per_ms: 1_000 };
        let config = RateLimitConfig { events: events.map(rate), burst, per_client: per_client.map(rate) };
        RateLimits::new("s".into(), &config)
    }

    fn ip(last: u8) -> Option<Client> {
        Some(Client::Ip(IpAddr::from([10, 0, 0, last])))
    }

    #[test]
    fn a_source_and_its_clients_have_buckets_of_their_own() {
        let limits = limits(Some(10.0), Some(20), Some(5.0));
        let at = |client, events, ms: i64| limits.decide(client, events, ms * 1_000);
        assert_eq!(at(ip(1), 5, 0), Ok(()));
        let again = at(ip(1), 1, 0).unwrap_err();
        assert_eq!((again.by, again.wait.as_millis()), ("client", 200));
        assert_eq!(at(ip(2), 5, 0), Ok(()));
        assert_eq!(at(ip(1), 1, 200), Ok(()));
        assert_eq!(at(None, 10, 200), Ok(()), "twenty at once, and two have come back");
        let full = at(None, 2, 200).unwrap_err();
        assert_eq!((full.by, full.wait.as_millis()), ("source", 100));
        assert_eq!(at(ip(3), 1, 200), Ok(()));
        assert_eq!(at(ip(4), 1, 200).unwrap_err().by, "source");
        // What is larger than the bucket passes when it is full, and is paid for afterwards.
        assert_eq!(at(None, 100, 10_000), Ok(()));
        assert_eq!(at(None, 1, 10_000).unwrap_err().wait.as_millis(), 8_100);
        assert_eq!(at(None, 0, 18_000).unwrap_err().wait.as_millis(), 100, "would any pass?");
    }

    #[test]
    fn what_was_not_used_is_given_back() {
        let limits = limits(Some(10.0), None, Some(5.0));
        for _ in 0..5 {
            assert_eq!(limits.decide(ip(1), 5, 0), Ok(()));
            limits.give_back(ip(1), 5);
        }
        assert_eq!(limits.decide(ip(1), 5, 0), Ok(()));
        assert_eq!(limits.decide(ip(1), 1, 0).unwrap_err().by, "client");
        limits.give_back(None, 100);
        assert_eq!(limits.decide(None, 10, 0), Ok(()), "never more than the bucket holds");
        assert_eq!(limits.decide(None, 1, 0).unwrap_err().by, "source");
    }

    #[test]
    fn the_table_of_clients_is_bounded() {
        let limits = limits(None, None, Some(1.0));
        for at in 0..CLIENTS as u32 + 100 {
            let client = Some(Client::Ip(IpAddr::from(at.to_be_bytes())));
            let expected = at <= CLIENTS as u32;
            assert_eq!(limits.decide(client, 1, 0).is_ok(), expected, "{at}: those beyond share one bucket");
        }
        assert_eq!(limits.state.lock().unwrap().clients.len(), CLIENTS + 1);
        assert_eq!(limits.decide(ip(1), 1, 5_000_000), Ok(()));
        assert!(limits.state.lock().unwrap().clients.len() < 3, "the quiet ones are forgotten");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn never_more_than_the_rate_and_never_less(
            rate in 1..1_000_u32, burst in 1..500_u64, steps in prop::collection::vec((0..200_000_i64, 0..60_usize), 1..200)
        ) {
            let limits = limits(Some(f64::from(rate)), Some(burst), None);
            let (mut now, mut passed, mut largest) = (0, 0_usize, 0_usize);
            for (later, events) in steps {
                now += later;
                match limits.decide(None, events, now) {
                    Ok(()) => {
                        passed += events;
                        largest = largest.max(events);
                    }
                    Err(limited) => {
                        // Exactly then, and not before, it would pass.
                        let wait = limited.wait.as_micros() as i64;
                        prop_assert!(wait > 0);
                        now += wait;
                        prop_assert_eq!(limits.decide(None, events, now), Ok(()));
                        passed += events;
                        largest = largest.max(events);
                    }
                }
                let allowed = burst as f64 + f64::from(rate) * now as f64 / 1e6;
                prop_assert!(passed as f64 <= allowed + largest as f64 + 1.0, "{passed} of {allowed}");
            }
        }
    }
}
