//! What is to be told to one integration of one receiver about one group.

use super::decision::Reason;
use crate::model::{Alert, AlertStatus, Label, Labels, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Alerts that one message of the short form lists; the others are counted in it ("and 9,000 more").
pub(super) const ALERTS_PER_MESSAGE: usize = 1_000;
/// Alerts that a message keeps that waits for a receiver and takes over from older ones.
const ALERTS_KEPT: usize = 10_000;

/// One message, not yet in any receiver's words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// The receiver's name.
    pub receiver: Arc<str>,
    /// Which of its integrations.
    pub integration: usize,
    /// Alertmanager's group key, such as `{}/{severity="page"}:{alertname="Flip"}`.
    pub group_key: Arc<str>,
    /// The labels that make the group.
    pub group_labels: Labels,
    /// Labels with the same value in all alerts.
    pub common_labels: Labels,
    /// Annotations with the same value in all alerts.
    pub common_annotations: Labels,
    /// The alerts: all that fire in the group, and those that ended since the last message. Sorted as Alertmanager sorts.
    pub alerts: Vec<Arc<Alert>>,
    /// Fingerprints of the alerts whose change is the news; empty when it only repeats.
    pub news: Vec<u64>,
    /// Firing when any alert fires.
    pub status: AlertStatus,
    /// Why it is sent.
    pub reason: Reason,
    /// Alerts left out because of a limit.
    pub truncated: usize,
    /// When it was decided.
    pub at: Timestamp,
    /// When the receiver was first told of this episode of the group.
    pub since: Timestamp,
}

impl Notification {
    /// The alerts that fire.
    pub fn firing(&self) -> impl Iterator<Item = &Arc<Alert>> + Clone {
        self.alerts.iter().filter(|alert| alert.status() == AlertStatus::Firing)
    }

    /// The alerts that have ended.
    pub fn resolved(&self) -> impl Iterator<Item = &Arc<Alert>> + Clone {
        self.alerts.iter().filter(|alert| alert.status() == AlertStatus::Resolved)
    }

    /// The alerts whose change is the news, or all of them in a message that repeats.
    pub fn changed(&self) -> impl Iterator<Item = &Arc<Alert>> {
        self.alerts.iter().filter(|alert| self.news.is_empty() || self.news.contains(&alert.fingerprint()))
    }

    /// Names this message: the same each time it is tried, also after a restart; a receiver that has seen it may drop it.
    pub fn key(&self) -> String {
        format!("{}.{}", self.group_hash(), self.at.micros())
    }

    /// Names the episode of the group that this message belongs to: the key of its first message.
    pub(super) fn episode(&self) -> String {
        format!("{}.{}", self.group_hash(), self.since.micros())
    }

    /// FNV-1a over receiver, integration and group key: the same on every machine and in every release.
    fn group_hash(&self) -> String {
        let index = self.integration.to_string();
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for part in [&*self.receiver, &index, &*self.group_key] {
            for byte in part.bytes().chain([0xff]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        format!("{hash:016x}")
    }

    /// Sorts the alerts and fills in what follows from them: common labels and annotations, and the status.
    pub(super) fn settle(&mut self) {
        sort(&mut self.alerts);
        self.common_labels = common(self.alerts.iter().map(|alert| &alert.labels));
        self.common_annotations = common(self.alerts.iter().map(|alert| &alert.annotations));
        let firing = self.alerts.iter().any(|alert| alert.status() == AlertStatus::Firing);
        self.status = if firing { AlertStatus::Firing } else { AlertStatus::Resolved };
    }

    /// Keeps at most so many alerts, those whose change is the news before others; the rest is only counted. A tenth of the
    /// places is left to others, so that a message about many endings still shows what fires.
    pub(super) fn shorten(&mut self, limit: usize) {
        if self.alerts.len() <= limit {
            return;
        }
        let news: BTreeSet<u64> = self.news.iter().copied().collect();
        let is_news: Vec<bool> = self.alerts.iter().map(|alert| news.contains(&alert.fingerprint())).collect();
        let fresh = is_news.iter().filter(|is_news| **is_news).count();
        let others = self.alerts.len() - fresh;
        let mut fresh_left = fresh.min(limit - others.min(limit / 10));
        let mut others_left = others.min(limit - fresh_left);
        let before = self.alerts.len();
        let mut at = 0;
        self.alerts.retain(|_| {
            let left = if is_news[at] { &mut fresh_left } else { &mut others_left };
            at += 1;
            let keep = *left > 0;
            *left = left.saturating_sub(1);
            keep
        });
        self.truncated += before - self.alerts.len();
        let kept: BTreeSet<u64> = self.alerts.iter().map(|alert| alert.fingerprint()).collect();
        self.news.retain(|fingerprint| kept.contains(fingerprint));
    }

    /// Takes over from an older message that was never delivered what would be lost with it: endings that the newer one
    /// does not know of, and what was news then.
    pub(super) fn supersede(&mut self, older: &Self) {
        let repeats = self.news.is_empty();
        let mut known: BTreeSet<u64> = self.alerts.iter().map(|alert| alert.fingerprint()).collect();
        let mut news: BTreeSet<u64> = self.news.iter().copied().collect();
        let older_news: BTreeSet<u64> = older.news.iter().copied().collect();
        for alert in &older.alerts {
            let fingerprint = alert.fingerprint();
            if alert.status() == AlertStatus::Resolved && known.insert(fingerprint) {
                self.alerts.push(alert.clone());
            }
            if known.contains(&fingerprint) && older_news.contains(&fingerprint) && news.insert(fingerprint) {
                self.news.push(fingerprint);
            }
        }
        if repeats && !self.news.is_empty() {
            self.reason = older.reason;
        }
        self.since = self.since.min(older.since);
        self.settle();
        self.shorten(ALERTS_KEPT);
    }
}

/// Alertmanager's order: by job, then instance, then all labels; those without come last (types, `AlertSlice.Less`).
pub(super) fn sort(alerts: &mut [Arc<Alert>]) {
    let key = |alert: &Alert, name: &str| {
        let value = alert.labels.get(name);
        (value.is_none(), value.unwrap_or("").to_owned())
    };
    alerts.sort_by_cached_key(|alert| (key(alert, "job"), key(alert, "instance"), alert.labels.clone()));
}

fn common<'a>(mut sets: impl Iterator<Item = &'a Labels>) -> Labels {
    let Some(first) = sets.next() else { return Labels::default() };
    let mut shared: Vec<Label> = first.iter().cloned().collect();
    for set in sets {
        shared.retain(|label| set.get(&label.name) == Some(&label.value));
        if shared.is_empty() {
            break;
        }
    }
    Labels::new(shared)
}
