//! Whether we hear: what librdkafka tells of brokers and topics, how far partitions reach, offsets that are not there.

use super::super::client;
use super::super::heard::{Statistics, lags, missing_topic, plain_reason};
use super::super::offsets::Partition;
use super::{ASK, ASK_AGAIN, Reader, Step};
use crate::telemetry::{clock, self_metrics};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::Offset;
use std::time::{Duration, Instant};

/// A group that gives us nothing to read for so long (not even nothing at all) keeps us deaf.
const JOINING: Duration = Duration::from_secs(30);

/// Why we are deaf, as far as it is told anew.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Deafness {
    Brokers,
    Refused,
    Leader,
    Topic,
    Joining,
}

#[derive(PartialEq, Eq)]
pub(super) enum Hearing {
    Unknown,
    No(Deafness),
    Yes,
}

impl Reader {
    pub(super) fn note(&mut self, code: RDKafkaErrorCode, text: &str) {
        use RDKafkaErrorCode as Code;
        let reason = plain_reason(text);
        match code {
            Code::AllBrokersDown => self.no_broker(),
            Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL => {
                self.deaf(Deafness::Refused, format!("a broker refuses us: {reason}"));
            }
            Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut => self.last_failure = reason,
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                self.missing_topic(&reason, "does not exist yet");
            }
            Code::TopicAuthorizationFailed => self.missing_topic(&reason, "may not be read by us"),
            Code::GroupAuthorizationFailed => {
                let group = self.start.config.group_id();
                self.deaf(Deafness::Refused, format!("a broker refuses us the group {group}: {reason}"));
            }
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => {
                self.out_of_range = true;
                self.ask_at = clock::instant();
            }
            _ => {
                tracing::warn!(source = %self.start.source, code = ?code, %reason, "librdkafka tells of an error");
            }
        }
    }

    fn no_broker(&mut self) {
        // Whoever refuses us closes the connection as well; why is told already.
        if self.hearing == Hearing::No(Deafness::Refused) {
            return;
        }
        let brokers: Vec<&str> = self.start.config.servers.brokers.iter().map(|it| it.value.as_str()).collect();
        let failure = match self.last_failure.as_str() {
            "" => String::new(),
            failure => format!(" ({failure})"),
        };
        self.deaf(Deafness::Brokers, format!("no broker of {} can be reached{failure}", brokers.join(", ")));
    }

    fn missing_topic(&mut self, reason: &str, why: &str) {
        let Some(topic) = missing_topic(reason) else {
            tracing::warn!(source = %self.start.source, %reason, "a topic is not there");
            return;
        };
        if self.missing.insert(topic.clone()) {
            tracing::warn!(source = %self.start.source, %topic, "the topic {why}; it is waited for");
        }
        if self.assigned.is_empty() && self.pending.is_none() {
            self.deaf(Deafness::Topic, format!("the topic {topic} {why}"));
        }
    }

    fn deaf(&mut self, kind: Deafness, reason: String) {
        if self.hearing != Hearing::No(kind) {
            self.hearing = Hearing::No(kind);
            // A closed channel is seen with the next batch.
            self.tell(Step::Deaf(reason));
        }
    }

    /// Hears from now on, if it can be found out how far the partitions reach.
    pub(super) fn try_to_hear(&mut self) {
        match self.ask_ends(&self.assigned) {
            Ok(ends) => self.ends.merge(&ends),
            Err(error) => {
                tracing::debug!(source = %self.start.source, %error, "asking for ends");
                return;
            }
        }
        let behind = self.show_lags();
        self.hearing = Hearing::Yes;
        self.start.shared.commit(&self.told, 0);
        self.last_failure.clear();
        self.consumer.context().forget_said();
        self.tell(Step::Hears { behind, first: true });
    }

    /// Looks at the statistics of each second.
    pub(super) fn judge(&mut self, statistics: &Statistics, now: Instant) {
        self.ends.merge(&statistics.ends(&self.assigned));
        if !statistics.any_up() {
            // Before the first answer nothing is known; what fails is told as an error.
            if self.hearing == Hearing::Yes {
                self.no_broker();
            }
            return;
        }
        if !self.joined {
            if now.duration_since(self.joining_since) > JOINING && self.missing.is_empty() {
                let group = self.start.config.group_id();
                self.deaf(Deafness::Joining, format!("the group {group} has not given us partitions yet"));
            }
            return;
        }
        if let Some(unheard) = statistics.unheard(&self.assigned, self.answer_us) {
            return self.deaf(Deafness::Leader, unheard);
        }
        if self.hearing != Hearing::Yes {
            return self.try_to_hear();
        }
        let behind = self.show_lags();
        self.tell(Step::Hears { behind, first: false });
    }

    fn show_lags(&mut self) -> u64 {
        let lags = lags(&self.assigned, &self.ends, &self.known);
        let mut behind: u64 = 0;
        for (partition, lag) in lags {
            behind = behind.saturating_add(lag);
            let gauge = self.shown.entry(partition).or_insert_with_key(|(topic, partition)| {
                self_metrics::source_partition_lag(&self.start.source, topic, *partition)
            });
            gauge.set(lag as f64);
        }
        behind
    }

    /// An offset is not there: either the oldest messages are gone, or the topic was made anew.
    pub(super) fn look_at_ranges(&mut self, now: Instant) -> bool {
        if !self.settle() {
            return false;
        }
        self.commit();
        let mut begin = Vec::new();
        for partition in self.assigned.clone() {
            let (low, high) = match self.consumer.fetch_watermarks(&partition.0, partition.1, ASK) {
                Ok(range) => range,
                Err(error) => {
                    tracing::debug!(source = %self.start.source, %error, "asking for ranges");
                    self.ask_at = now + ASK_AGAIN;
                    return true;
                }
            };
            let next = self.known.get(&partition);
            let at = match next {
                Some(next) if next < low => {
                    self.gap("expired", &partition, next, low, "messages that were never read are not kept any more");
                    low
                }
                Some(next) if next > high => {
                    let at = if self.start.config.from_end { high } else { low };
                    self.gap("recreated", &partition, next, at, "the topic is shorter than what was read of it");
                    at
                }
                Some(next) => next,
                None => low,
            };
            if next.is_some() {
                self.known.0.insert(partition.clone(), at);
                self.told.0.remove(&partition);
            }
            self.ends.0.insert(partition.clone(), high);
            begin.push((partition, Offset::Offset(at)));
        }
        // Partitions that stood still begin again only when they are taken anew.
        let list = client::list(begin.iter().map(|(partition, offset)| (partition, *offset)));
        let taken = if self.is_cooperative() {
            self.consumer.incremental_unassign(&list).and_then(|()| self.consumer.incremental_assign(&list))
        } else {
            self.consumer.assign(&list)
        };
        match taken {
            Ok(()) => self.out_of_range = false,
            Err(error) => self.fatal = Some(format!("partitions cannot be taken again: {error}")),
        }
        true
    }

    fn gap(&self, reason: &'static str, (topic, at): &Partition, next: i64, begin: i64, why: &str) {
        self_metrics::source_gaps(&self.start.source, reason).increment(1);
        tracing::warn!(
            source = %self.start.source, %topic, partition = at, expected = next, begins = begin,
            "{why}; going on from another offset"
        );
    }
}
