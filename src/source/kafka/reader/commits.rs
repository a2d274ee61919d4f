//! What the group is told: offsets that stand in a checkpoint, and looking whether it has them.

use super::super::client;
use super::super::offsets::{Offsets, Partition};
use super::{POLL, Reader};
use crate::telemetry::{clock, self_metrics};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::Offset;
use std::collections::BTreeSet;
use std::time::Duration;

/// A commit that could not be sent is tried again after so long; what the group is asked may take so long.
const COMMIT_AGAIN: Duration = Duration::from_secs(1);
/// So long after a commit it is looked at whether the group has it.
const VERIFY: Duration = Duration::from_secs(5);
/// Looks in a row that find it missing before that is said.
const FAILING: u32 = 5;

impl Reader {
    /// Commits what stands in a checkpoint, and again until the group has it, within bounds.
    pub(super) fn commit_all(&mut self, leaving: &BTreeSet<Partition>, within: Duration) {
        let until = clock::instant() + within;
        loop {
            self.commit();
            match self.missing_commits(leaving) {
                Ok(missing) if missing.is_empty() => return,
                Ok(missing) => self.start.shared.commit(&missing, 0),
                Err(error) => tracing::debug!(source = %self.start.source, %error, "asking for committed offsets"),
            }
            if clock::instant() >= until {
                tracing::warn!(
                    source = %self.start.source,
                    "offsets were not committed in time before partitions are given up; who gets them counts some messages \
                     again"
                );
                return;
            }
            std::thread::park_timeout(POLL);
        }
    }

    /// What the group was told of these partitions and has not got. The answer comes behind that of the last commit.
    fn missing_commits(&self, partitions: &BTreeSet<Partition>) -> KafkaResult<Offsets> {
        let told = self.told.0.iter().filter(|(partition, _)| partitions.contains(*partition));
        let asked = client::list(told.clone().map(|(partition, _)| (partition, Offset::Invalid)));
        if asked.count() == 0 {
            return Ok(Offsets::default());
        }
        let committed = client::offsets_of(&self.consumer.committed_offsets(asked, COMMIT_AGAIN)?)?;
        let missing = told.filter(|(partition, next)| committed.get(partition).is_none_or(|has| has < **next));
        Ok(Offsets(missing.map(|(partition, next)| (partition.clone(), *next)).collect()))
    }

    /// Commits what stands in a checkpoint. Whether the group takes it is looked at later.
    pub(super) fn commit(&mut self) {
        let (mut offsets, messages) = self.start.shared.take();
        // Others are no longer ours to commit.
        offsets.0.retain(|partition, _| self.assigned.contains(partition) || self.is_pending(partition));
        if offsets.is_empty() {
            return;
        }
        let list = client::list(offsets.0.iter().map(|(partition, next)| (partition, Offset::Offset(*next))));
        match self.consumer.commit(&list, CommitMode::Async) {
            Ok(()) => {
                self_metrics::source_acknowledged(&self.start.source).increment(messages);
                self.told.merge(&offsets);
                self.verify_at.get_or_insert_with(|| clock::instant() + VERIFY);
            }
            Err(error) => {
                tracing::debug!(source = %self.start.source, %error, "committing");
                self.start.shared.commit(&offsets, messages);
                self.commit_at = clock::instant() + COMMIT_AGAIN;
            }
        }
    }

    /// Tells the group again what it has not got.
    pub(super) fn verify(&mut self) {
        match self.missing_commits(&self.assigned) {
            Ok(missing) if missing.is_empty() => (self.verify_at, self.commits_failed) = (None, 0),
            found => {
                self.commits_failed += 1;
                if self.commits_failed == FAILING {
                    tracing::warn!(source = %self.start.source, "offsets cannot be committed; trying on");
                }
                if let Ok(missing) = found {
                    self.start.shared.commit(&missing, 0);
                }
                self.verify_at = Some(clock::instant() + VERIFY);
            }
        }
    }

    fn is_pending(&self, partition: &Partition) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.contains(partition))
    }
}
