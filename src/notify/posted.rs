//! Alerts that others post (`POST /api/v2/alerts`): Prometheus, amtool, another sidewatch.
//!
//! Clockless. Times, merging and validation are Alertmanager's (api/v2, `postAlertsHandler`; types, `Alert.Merge`;
//! provider/mem, `Put`). An alert that nobody posts again ends at its `endsAt`, which without one is `resolve_timeout` after
//! the post. Ended alerts are kept for 15 minutes, as those of the rules are.

use crate::model::{Alert, Labels, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `resolve_timeout` without an Alertmanager file, in milliseconds (Alertmanager's default).
pub const RESOLVE_TIMEOUT_MS: i64 = 300_000;
/// Bytes of one alert's texts; a larger one is refused.
pub const POSTED_ALERT_BYTES: usize = 64 << 10;
/// How long an ended alert is kept, in milliseconds.
const KEPT_MS: i64 = 900_000;
/// What would have ended while sidewatch was down is given so long to be posted again, in milliseconds: Prometheus posts
/// each minute, and its absence meanwhile is no ending.
const GRACE_MS: i64 = 75_000;
const NEVER: Timestamp = Timestamp::from_micros(i64::MAX);

/// An alert as it is posted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PostedAlert {
    /// Its labels, its identity.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: Labels,
    /// `startsAt`.
    pub starts_at: Option<Timestamp>,
    /// `endsAt`.
    pub ends_at: Option<Timestamp>,
    /// `generatorURL`.
    pub generator_url: String,
}

/// Why a posted alert is refused. The texts are Alertmanager's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostRefused {
    /// It has no labels.
    #[error("at least one label pair required")]
    NoLabels,
    /// It ends before it begins.
    #[error("start time must be before end time")]
    EndsFirst,
    /// A name is empty.
    #[error("invalid label set: invalid name \"\"")]
    LabelName,
    /// Its texts are too long.
    #[error("its texts have {0} bytes, at most {POSTED_ALERT_BYTES} are taken")]
    TooLarge(usize),
    /// There are too many.
    #[error("{0} posted alerts are held already (limits.posted_alerts); this one is new and was not taken")]
    Full(usize),
}

impl PostRefused {
    /// One word for the metric.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoLabels | Self::EndsFirst | Self::LabelName => "invalid",
            Self::TooLarge(_) => "too_large",
            Self::Full(_) => "limit",
        }
    }
}

/// Times of a posted alert, as the API shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostedTimes {
    /// When it ends, or ended.
    pub ends_at: Timestamp,
    /// When it was last posted.
    pub updated_at: Timestamp,
    /// `ends_at` is a timeout, nobody named it.
    timeout: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Held {
    alert: Arc<Alert>,
    times: PostedTimes,
}

/// All posted alerts.
#[derive(Debug)]
pub struct PostedAlerts {
    held: BTreeMap<u64, Held>,
    limit: usize,
    /// Changes with the set.
    version: u64,
    next_change: Timestamp,
}

impl PostedAlerts {
    /// None, and at most `limit`.
    pub fn new(limit: usize) -> Self {
        Self { held: BTreeMap::new(), limit, version: 0, next_change: NEVER }
    }

    /// Sets how many are taken; those that are held stay.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes an alert, new or again.
    ///
    /// # Errors
    /// [`PostRefused`]; nothing has changed then.
    pub fn post(&mut self, posted: PostedAlert, resolve_timeout_ms: i64, now: Timestamp) -> Result<(), PostRefused> {
        let starts_at = posted.starts_at.or(posted.ends_at).unwrap_or(now);
        let timeout = posted.ends_at.is_none();
        let ends_at = posted.ends_at.unwrap_or_else(|| now.plus_millis(resolve_timeout_ms));
        validate(&posted, starts_at, ends_at)?;
        let fingerprint = posted.labels.fingerprint();
        let known = self.held.get(&fingerprint);
        if known.is_none() && self.held.len() >= self.limit {
            return Err(PostRefused::Full(self.limit));
        }
        // Nobody is told of what is over and was never known to fire, so it takes no room.
        if known.is_none() && ends_at <= now {
            return Ok(());
        }
        let (mut starts_at, mut times) = (starts_at, PostedTimes { ends_at, updated_at: now, timeout });
        if let Some(Held { alert: old, times: before }) = known {
            let (old_start, old_end) = (old.fired_at, before.ends_at);
            let overlaps = (times.ends_at > old_start && times.ends_at < old_end)
                || (starts_at > old_start && starts_at < old_end);
            if overlaps {
                starts_at = starts_at.min(old_start);
                let is_later = old_end > times.ends_at;
                if times.ends_at <= now {
                    // Of two endings in the past the later one counts.
                    if is_later && old_end <= now {
                        times.ends_at = old_end;
                    }
                } else if is_later && !before.timeout {
                    times.ends_at = old_end;
                }
            }
        }
        let ended = times.ends_at <= now;
        let alert = Alert {
            context: Default::default(),
            labels: posted.labels,
            annotations: posted.annotations,
            active_at: starts_at,
            fired_at: starts_at,
            resolved_at: ended.then_some(times.ends_at),
            // A posted alert has no value; the texts leave it out.
            value_at_firing: f64::NAN,
            value: f64::NAN,
            value_at_resolve: None,
            generator_url: posted.generator_url,
        };
        let same = known.is_some_and(|held| {
            let old = &*held.alert;
            (&old.annotations, old.fired_at, old.resolved_at, &old.generator_url)
                == (&alert.annotations, alert.fired_at, alert.resolved_at, &alert.generator_url)
        });
        match self.held.get_mut(&fingerprint) {
            // The notifier compares by address: what is said again unchanged is the same alert.
            Some(held) if same => held.times = times,
            _ => {
                self.held.insert(fingerprint, Held { alert: Arc::new(alert), times });
                self.version += 1;
            }
        }
        self.schedule(now);
        Ok(())
    }

    /// Lets time pass: ends what is not posted any more, forgets what ended long ago.
    pub fn advance(&mut self, now: Timestamp) {
        if now < self.next_change {
            return;
        }
        let before = self.held.len();
        self.held.retain(|_, held| held.times.ends_at.plus_millis(KEPT_MS) > now);
        let mut changed = self.held.len() != before;
        for held in self.held.values_mut() {
            if held.alert.resolved_at.is_none() && held.times.ends_at <= now {
                let mut ended = Alert::clone(&held.alert);
                ended.resolved_at = Some(held.times.ends_at);
                held.alert = Arc::new(ended);
                changed = true;
            }
        }
        self.version += u64::from(changed);
        self.schedule(now);
    }

    fn schedule(&mut self, now: Timestamp) {
        let changes =
            self.held.values().flat_map(|Held { times, .. }| [times.ends_at, times.ends_at.plus_millis(KEPT_MS)]);
        self.next_change = changes.filter(|at| *at > now).min().unwrap_or(NEVER);
    }

    /// When [`PostedAlerts::advance`] has something to do; `None` when nothing will change by itself.
    pub fn next_change(&self) -> Option<Timestamp> {
        (self.next_change != NEVER).then_some(self.next_change)
    }

    /// Changes with the set.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many are held, those that ended lately among them.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// All of them, those that ended lately among them.
    pub fn alerts(&self) -> impl Iterator<Item = &Arc<Alert>> {
        self.held.values().map(|held| &held.alert)
    }

    /// The times of one.
    pub fn times(&self, fingerprint: u64) -> Option<PostedTimes> {
        self.held.get(&fingerprint).map(|held| held.times)
    }

    /// All of them as bytes; nothing when there are none.
    pub fn snapshot(&self) -> Vec<u8> {
        if self.held.is_empty() {
            return Vec::new();
        }
        let held: Vec<&Held> = self.held.values().collect();
        postcard::to_stdvec(&held).unwrap_or_default()
    }

    /// Takes up what [`PostedAlerts::snapshot`] wrote at `at`.
    ///
    /// # Errors
    /// When the bytes are not a snapshot; then nothing is changed.
    pub fn restore(&mut self, bytes: &[u8], at: Timestamp, now: Timestamp) -> Result<(), String> {
        if bytes.is_empty() {
            return Ok(());
        }
        let saved: Vec<Held> =
            postcard::from_bytes(bytes).map_err(|error| format!("the posted alerts cannot be read: {error}"))?;
        for mut held in saved {
            if held.times.ends_at > at {
                held.times.ends_at = held.times.ends_at.max(now.plus_millis(GRACE_MS));
            }
            self.held.insert(held.alert.fingerprint(), held);
        }
        self.version += 1;
        self.next_change = Timestamp::EPOCH;
        Ok(())
    }
}

fn validate(posted: &PostedAlert, starts_at: Timestamp, ends_at: Timestamp) -> Result<(), PostRefused> {
    if ends_at < starts_at {
        return Err(PostRefused::EndsFirst);
    }
    if posted.labels.is_empty() {
        return Err(PostRefused::NoLabels);
    }
    let all = || posted.labels.iter().chain(posted.annotations.iter());
    if all().any(|label| label.name.is_empty()) {
        return Err(PostRefused::LabelName);
    }
    let bytes = all().map(|label| label.name.len() + label.value.len()).sum::<usize>() + posted.generator_url.len();
    if bytes > POSTED_ALERT_BYTES {
        return Err(PostRefused::TooLarge(bytes));
    }
    Ok(())
}
