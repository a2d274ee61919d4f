//! What really happened, beside the program: the event logs, and what each receiver believes.

use sidewatch::model::AlertStatus;
use sidewatch::notify::{Notification, Reason};
use std::collections::{BTreeMap, BTreeSet};

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `low..=high`.
    pub fn within(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1) as u64) as i64
    }

    /// Once in `of` times.
    pub fn one_in(&mut self, of: u64) -> bool {
        self.next().is_multiple_of(of)
    }
}

/// FNV-1a.
pub struct Digest(pub u64);

impl Digest {
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// What an event says.
#[derive(Clone, Copy, Debug)]
pub enum Said {
    Stock(usize, i64),
    Placed(u64, usize, i64),
    Captured(u64, i64),
    Refused(usize),
    Beat(usize),
}

pub const REGIONS: [&str; 3] = ["eu", "us", "ap"];
pub const ITEMS: [&str; 4] = ["tea", "mugs", "honey", "kettles"];
pub const WORKERS: usize = 3;

impl Said {
    pub fn name(self) -> &'static str {
        match self {
            Self::Stock(..) => "stock.updated",
            Self::Placed(..) => "order.placed",
            Self::Captured(..) => "payment.captured",
            Self::Refused(..) => "payment.refused",
            Self::Beat(..) => "worker.heartbeat",
        }
    }

    /// The event as a line of its log.
    pub fn line(self, id: usize, t_ms: i64) -> String {
        let data = match self {
            Self::Stock(item, quantity) => format!(r#""item":"{}","quantity":{quantity}"#, ITEMS[item]),
            Self::Placed(order, region, amount) => {
                format!(r#""order":"o{order}","region":"{}","amount":{amount}"#, REGIONS[region])
            }
            Self::Captured(order, took) => format!(r#""order":"o{order}","took":{took}"#),
            Self::Refused(region) => format!(r#""region":"{}""#, REGIONS[region]),
            Self::Beat(worker) => format!(r#""worker":"w{worker}""#),
        };
        let time = sidewatch::model::Timestamp::from_millis(t_ms).rfc3339();
        let name = self.name();
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"shop","type":"{name}","time":"{time}","data":{{{data}}}}}"#
        )
    }
}

/// An append-only log: the transport's memory.
#[derive(Default)]
pub struct Log {
    pub entries: Vec<(i64, Said)>,
}

/// Sums over a prefix of the logs, as the metrics must have them.
#[derive(Debug, Default, PartialEq)]
pub struct Counts {
    pub by_type: BTreeMap<String, f64>,
    pub orders: BTreeMap<String, f64>,
    pub amounts: BTreeMap<String, f64>,
    pub took_count: f64,
    pub took_sum: f64,
    pub stock: BTreeMap<String, f64>,
}

impl Counts {
    pub fn of<'a>(entries: impl Iterator<Item = &'a (i64, Said)>) -> Self {
        let mut counts = Self::default();
        for (_, said) in entries {
            *counts.by_type.entry(said.name().into()).or_default() += 1.0;
            match *said {
                Said::Stock(item, quantity) => {
                    counts.stock.insert(ITEMS[item].into(), quantity as f64);
                }
                Said::Placed(_, region, amount) => {
                    *counts.orders.entry(REGIONS[region].into()).or_default() += 1.0;
                    *counts.amounts.entry(REGIONS[region].into()).or_default() += amount as f64;
                }
                Said::Captured(_, took) => {
                    counts.took_count += 1.0;
                    counts.took_sum += took as f64;
                }
                Said::Refused(_) | Said::Beat(_) => {}
            }
        }
        counts
    }
}

/// What one receiver was last told of one group.
struct Belief {
    key: String,
    at_ms: i64,
    firing: BTreeMap<u64, i64>,
    names: BTreeMap<u64, String>,
    told: Vec<(String, String)>,
    kills: u64,
    reloads: u64,
}

/// All receivers.
#[derive(Default)]
pub struct Receivers {
    beliefs: BTreeMap<(String, String), Belief>,
    /// Told by a message that no checkpoint knew of when the process was killed; its ending may stay unsaid.
    unrecorded: BTreeSet<(String, String, u64)>,
    pub delivered: u64,
    pub repeated_after_kill: u64,
}

impl Receivers {
    /// A receiver takes a message. What must not be is told as an error.
    pub fn deliver(&mut self, message: &Notification, kills: u64, reloads: u64, repeat_ms: i64) -> Result<(), String> {
        self.delivered += 1;
        let id = (message.receiver.to_string(), message.group_key.to_string());
        let firing: BTreeMap<u64, i64> =
            message.firing().map(|alert| (alert.fingerprint(), alert.fired_at.micros())).collect();
        let resolved: Vec<u64> = message.resolved().map(|alert| alert.fingerprint()).collect();
        let key = message.key();
        if let Some(old) = self.beliefs.get(&id) {
            let same = old.firing == firing && !firing.is_empty() && resolved.is_empty();
            let after_kill = kills > old.kills;
            if key == old.key {
                self.repeated_after_kill += 1;
                if !after_kill {
                    return Err(format!("the message {key} was delivered twice without a kill"));
                }
            } else if message.reason == Reason::Repeat && same && !after_kill && reloads == old.reloads {
                if message.at.millis() - old.at_ms < repeat_ms {
                    return Err(format!("{id:?} repeated after {} ms", message.at.millis() - old.at_ms));
                }
            } else if same && !after_kill && reloads == old.reloads {
                return Err(format!("{id:?} was told the same twice ({:?}): {:?}", message.reason, old.told));
            } else if same {
                self.repeated_after_kill += 1;
            }
        }
        let mut known = self.beliefs.get(&id).map(|old| old.firing.clone()).unwrap_or_default();
        for fingerprint in firing.keys().chain(&resolved) {
            self.unrecorded.remove(&(id.0.clone(), id.1.clone(), *fingerprint));
        }
        known.retain(|fingerprint, _| !resolved.contains(fingerprint));
        known.extend(firing);
        if message.status == AlertStatus::Resolved && message.firing().next().is_some() {
            return Err(format!("{id:?}: a resolved message with firing alerts"));
        }
        let mut names = self.beliefs.get(&id).map(|old| old.names.clone()).unwrap_or_default();
        names.extend(message.alerts.iter().map(|alert| (alert.fingerprint(), alert.labels.to_string())));
        let told = message.alerts.iter().map(|alert| (alert.labels.to_string(), format!("{:?}", alert.status())));
        let belief =
            Belief { key, at_ms: message.at.millis(), firing: known, names, told: told.collect(), kills, reloads };
        self.beliefs.insert(id, belief);
        Ok(())
    }

    /// The process died; the last checkpoint on disk is of `stored_ms`.
    pub fn killed(&mut self, stored_ms: i64) {
        for ((receiver, group), belief) in &self.beliefs {
            if belief.at_ms > stored_ms {
                let each = belief.firing.keys().map(|alert| (receiver.clone(), group.clone(), *alert));
                self.unrecorded.extend(each);
            }
        }
    }

    /// A receiver left the configuration.
    pub fn forget(&mut self, receiver: &str) {
        self.beliefs.retain(|(name, _), _| name != receiver);
    }

    /// What a receiver believes to fire; `sure` leaves out what no checkpoint knew of.
    pub fn believes(&self, receiver: &str, sure: bool) -> BTreeMap<u64, String> {
        let mut all = BTreeMap::new();
        for ((name, group), belief) in self.beliefs.iter().filter(|((name, _), _)| name == receiver) {
            for alert in belief.firing.keys() {
                if !sure || !self.unrecorded.contains(&(name.clone(), group.clone(), *alert)) {
                    all.insert(*alert, format!("{group} {:?}", belief.names.get(alert)));
                }
            }
        }
        all
    }
}
