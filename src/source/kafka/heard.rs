//! What librdkafka tells about itself, read from its statistics: which brokers are there, how far partitions reach.

use super::offsets::{Offsets, Partition};
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// As much of librdkafka's statistics (STATISTICS.md there) as tells whether we hear.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Statistics {
    #[serde(default)]
    brokers: HashMap<String, Broker>,
    #[serde(default)]
    topics: HashMap<String, Topic>,
}

#[derive(Debug, Deserialize)]
struct Broker {
    nodeid: i32,
    state: String,
    #[serde(default)]
    source: String,
    /// Requests without an answer.
    #[serde(default)]
    waitresp_cnt: i64,
    /// Microseconds since the last answer.
    #[serde(default)]
    rxidle: i64,
}

#[derive(Debug, Deserialize)]
struct Topic {
    #[serde(default)]
    partitions: HashMap<String, PartitionState>,
}

#[derive(Debug, Deserialize)]
struct PartitionState {
    leader: i32,
    hi_offset: i64,
    ls_offset: i64,
}

impl Broker {
    fn is_up(&self) -> bool {
        // UPDATE is a broker that is up and learns its new address.
        matches!(self.state.as_str(), "UP" | "UPDATE")
    }
}

impl Statistics {
    pub fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// Whether a broker is connected and answers. The coordinator has a connection of its own, which proves nothing.
    fn answers(&self, id: i32, within_us: i64) -> bool {
        let answers = |broker: &Broker| broker.is_up() && (broker.waitresp_cnt == 0 || broker.rxidle < within_us);
        self.brokers.values().any(|broker| broker.nodeid == id && broker.source != "logical" && answers(broker))
    }

    /// Whether any broker is there at all.
    pub fn any_up(&self) -> bool {
        self.brokers.values().any(Broker::is_up)
    }

    /// The first of these partitions whose leader is not there or owes an answer for so many microseconds, for people.
    pub fn unheard(&self, assigned: &BTreeSet<Partition>, within_us: i64) -> Option<String> {
        assigned.iter().find_map(|(topic, partition)| {
            let state = self.topics.get(&**topic)?.partitions.get(&partition.to_string())?;
            match state.leader {
                -1 => Some(format!("partition {partition} of {topic} has no leader")),
                leader if self.answers(leader, within_us) => None,
                leader => {
                    Some(format!("broker {leader}, which leads partition {partition} of {topic}, does not answer"))
                }
            }
        })
    }

    /// How far these partitions reach, as the last fetch told: behind the last message that may be read.
    pub fn ends(&self, assigned: &BTreeSet<Partition>) -> Offsets {
        let mut ends = Offsets::default();
        for partition in assigned {
            let states = self.topics.get(&*partition.0).map(|topic| &topic.partitions);
            let Some(state) = states.and_then(|states| states.get(&partition.1.to_string())) else { continue };
            // Open transactions end what may be read before the end of the log.
            let end = if state.ls_offset >= 0 { state.ls_offset } else { state.hi_offset };
            if end >= 0 {
                ends.raise(partition, end);
            }
        }
        ends
    }
}

/// What is left of each partition: `(partition, messages)`.
pub(super) fn lags(assigned: &BTreeSet<Partition>, ends: &Offsets, next: &Offsets) -> Vec<(Partition, u64)> {
    let lag = |partition: &Partition| {
        let (end, next) = (ends.get(partition)?, next.get(partition).unwrap_or(0));
        Some((partition.clone(), end.saturating_sub(next).max(0).unsigned_abs()))
    };
    assigned.iter().filter_map(lag).collect()
}

/// Librdkafka's words without what differs from one attempt to the next, so that the same reason is told once.
pub(super) fn plain_reason(text: &str) -> String {
    let text = text.split(" (after ").next().unwrap_or(text);
    let text = text.split(" (_").next().unwrap_or(text);
    text.trim().trim_end_matches(':').to_owned()
}

/// A topic's name as librdkafka tells it in "Subscribed topic not available: NAME: ...".
pub(super) fn missing_topic(text: &str) -> Option<Arc<str>> {
    let rest = text.strip_prefix("Subscribed topic not available: ")?;
    Some(rest.split(": ").next()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATISTICS: &str = r#"{"name":"x","ts":1,"brokers":{
        "a:9092/1":{"nodeid":1,"state":"UP","source":"learned","rtt":{"avg":3},"waitresp_cnt":1,"rxidle":400000},
        "c:9092/3":{"nodeid":3,"state":"UP","source":"learned","waitresp_cnt":1,"rxidle":4000000},
        "b:9092/2":{"nodeid":2,"state":"DOWN"},
        "GroupCoordinator":{"nodeid":2,"state":"UP","source":"logical"}},
      "topics":{"orders":{"partitions":{
        "0":{"leader":1,"hi_offset":90,"ls_offset":80},
        "1":{"leader":2,"hi_offset":7,"ls_offset":-1001},
        "4":{"leader":3,"hi_offset":7,"ls_offset":7},
        "2":{"leader":-1,"hi_offset":-1001,"ls_offset":-1001},
        "-1":{"leader":-1,"hi_offset":-1001,"ls_offset":-1001}}}}}"#;

    #[test]
    fn statistics_tell_who_is_heard() {
        let statistics = Statistics::read(STATISTICS.as_bytes()).unwrap();
        assert!(statistics.any_up());
        let check = |partitions: &[i32], unheard: Option<&str>, expected: &[(i32, u64)]| {
            let assigned: BTreeSet<Partition> = partitions.iter().map(|at| ("orders".into(), *at)).collect();
            assert_eq!(statistics.unheard(&assigned, 3_000_000).as_deref(), unheard, "{partitions:?}");
            let mut next = Offsets::default();
            next.raise(&("orders".into(), 0), 50);
            let lags = lags(&assigned, &statistics.ends(&assigned), &next);
            assert_eq!(lags.iter().map(|((_, at), lag)| (*at, *lag)).collect::<Vec<_>>(), expected, "{partitions:?}");
        };
        check(&[], None, &[]);
        check(&[0], None, &[(0, 30)]);
        check(&[0, 1], Some("broker 2, which leads partition 1 of orders, does not answer"), &[(0, 30), (1, 7)]);
        check(&[2], Some("partition 2 of orders has no leader"), &[]);
        check(&[3], None, &[]);
        check(&[4], Some("broker 3, which leads partition 4 of orders, does not answer"), &[(4, 7)]);
        assert!(Statistics::read(b"{").is_none());
        assert!(!Statistics::read(b"{}").unwrap().any_up());
    }

    #[test]
    fn reasons_lose_what_changes() {
        let check = |text: &str, expected: &str| assert_eq!(plain_reason(text), expected);
        check(
            "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)",
            "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused",
        );
        check("1/1 brokers are down", "1/1 brokers are down");
        let missing = missing_topic("Subscribed topic not available: nope: Broker: Unknown topic or partition");
        assert_eq!(missing.as_deref(), Some("nope"));
        assert_eq!(missing_topic("x"), None);
    }
}
