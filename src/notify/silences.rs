//! All silences: those of the API, which are part of the checkpoint, and those of the configuration.
//!
//! Clockless: `now` and the ids of new silences are arguments. What may be changed, and when a change makes a new silence
//! instead, is as in Alertmanager (silence/silence.go: `Set`, `canUpdate`, `expire`, `GC`).

use super::silence::{SILENCES, SavedSilence, Silence, SilenceDraft, SilenceError, SilenceState};
use super::silence_window::ConfiguredSilence;
use crate::model::{Labels, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long an expired silence is kept, in milliseconds (Alertmanager's `--data.retention`).
const RETENTION_MS: i64 = 120 * 3_600_000;
const NEVER: Timestamp = Timestamp::from_micros(i64::MAX);

/// Every silence. See the module's documentation.
#[derive(Debug)]
pub struct Silences {
    by_id: BTreeMap<Arc<str>, Arc<Silence>>,
    configured: Vec<ConfiguredSilence>,
    /// The configured ones with the times of their present or next window.
    /// `true` for those after which none comes.
    windows: Vec<Option<(Arc<Silence>, bool)>>,
    /// Those that hold or will hold, as of the last [`Silences::advance`]: what alerts are matched with.
    live: Vec<Arc<Silence>>,
    /// The ids of those that held then.
    active: Vec<Arc<str>>,
    next_change: Timestamp,
}

impl Silences {
    /// None but those of the configuration.
    pub(super) fn new(configured: Vec<ConfiguredSilence>) -> Self {
        Self {
            by_id: BTreeMap::new(),
            next_change: if configured.is_empty() { NEVER } else { Timestamp::EPOCH },
            configured,
            windows: Vec::new(),
            live: Vec::new(),
            active: Vec::new(),
        }
    }

    /// Swaps those of the configuration.
    pub(super) fn configure(&mut self, configured: Vec<ConfiguredSilence>) {
        (self.configured, self.windows) = (configured, Vec::new());
        self.next_change = Timestamp::EPOCH;
    }

    /// Makes a silence, or changes one. A change of what an active silence matches expires it and makes a new one under
    /// `fresh_id`. Returns the id of the silence that holds what was asked for.
    ///
    /// # Errors
    /// [`SilenceError`]; nothing has changed then.
    pub(super) fn set(
        &mut self,
        draft: SilenceDraft,
        fresh_id: &str,
        now: Timestamp,
    ) -> Result<Arc<str>, SilenceError> {
        draft.validate()?;
        let mut replaced = None;
        if let Some(id) = draft.id.as_deref().filter(|id| !id.is_empty()) {
            let previous = self.get(id, now).ok_or(SilenceError::NotFound)?;
            if previous.configured {
                return Err(SilenceError::Configured(previous.id.clone()));
            }
            if can_update(&previous, &draft, now) {
                let id = previous.id.clone();
                self.store(draft, id.clone(), now);
                return Ok(id);
            }
            replaced = (previous.state(now) != SilenceState::Expired).then(|| previous.id.clone());
        }
        if self.by_id.len() >= SILENCES {
            self.forget(now);
        }
        if self.by_id.len() >= SILENCES {
            return Err(SilenceError::Full);
        }
        if let Some(id) = replaced {
            self.expire(&id, now)?;
        }
        let id: Arc<str> = fresh_id.into();
        let starts_at = draft.starts_at.max(now);
        self.store(SilenceDraft { starts_at, ..draft }, id.clone(), now);
        Ok(id)
    }

    fn store(&mut self, draft: SilenceDraft, id: Arc<str>, now: Timestamp) {
        let silence = Silence {
            id: id.clone(),
            matchers: draft.matchers,
            starts_at: draft.starts_at,
            ends_at: draft.ends_at,
            updated_at: now,
            created_by: draft.created_by,
            comment: draft.comment,
            configured: false,
        };
        self.by_id.insert(id, Arc::new(silence));
    }

    /// Ends a silence now; one that was still to come never holds, and one that has ended stays as it is.
    ///
    /// # Errors
    /// [`SilenceError`]; nothing has changed then.
    pub(super) fn expire(&mut self, id: &str, now: Timestamp) -> Result<(), SilenceError> {
        let silence = self.get(id, now).ok_or(SilenceError::NotFound)?;
        if silence.configured {
            return Err(SilenceError::Configured(silence.id.clone()));
        }
        let mut ended = Silence::clone(&silence);
        match silence.state(now) {
            SilenceState::Expired => return Ok(()),
            SilenceState::Active => ended.ends_at = now,
            SilenceState::Pending => (ended.starts_at, ended.ends_at) = (now, now),
        }
        ended.updated_at = now;
        self.by_id.insert(ended.id.clone(), Arc::new(ended));
        Ok(())
    }

    /// The silence with this id, unless it expired longer than 120 h ago.
    pub fn get(&self, id: &str, now: Timestamp) -> Option<Arc<Silence>> {
        let of_api = self.by_id.get(id).filter(|silence| !is_forgotten(silence, now));
        of_api.or_else(|| windows(&self.windows).find(|silence| &*silence.id == id)).cloned()
    }

    /// All silences in Alertmanager's order: active by their end, pending by their start, expired by their end, the latest
    /// first.
    pub fn list(&self, now: Timestamp) -> Vec<Arc<Silence>> {
        let of_api = self.by_id.values().filter(|silence| !is_forgotten(silence, now));
        let mut all: Vec<Arc<Silence>> = of_api.chain(windows(&self.windows)).cloned().collect();
        all.sort_by_key(|silence| {
            let state = silence.state(now);
            let moment = match state {
                SilenceState::Active => silence.ends_at.micros(),
                SilenceState::Pending => silence.starts_at.micros(),
                SilenceState::Expired => silence.ends_at.micros().saturating_neg(),
            };
            (state, moment, silence.id.clone())
        });
        all
    }

    /// The silences that hold for an alert with these labels, by id.
    pub fn silencing(&self, labels: &Labels, now: Timestamp) -> Vec<Arc<Silence>> {
        let mut found: Vec<Arc<Silence>> =
            self.live.iter().filter(|silence| silence.silences(labels, now)).cloned().collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found
    }

    /// Whether some silence holds for an alert with these labels.
    pub(super) fn silence(&self, labels: &Labels, now: Timestamp) -> bool {
        self.live.iter().any(|silence| silence.silences(labels, now))
    }

    /// When the next silence begins or ends; `None` when none will.
    pub(super) fn next_change(&self) -> Option<Timestamp> {
        (self.next_change != NEVER).then_some(self.next_change)
    }

    /// Lets time pass, and takes up what was changed: maintenance windows come again, what expired long ago is forgotten.
    /// Returns whether other silences hold now than at the last call.
    pub(super) fn advance(&mut self, now: Timestamp) -> bool {
        self.forget(now);
        self.windows.resize_with(self.configured.len(), || None);
        for (configured, window) in self.configured.iter().zip(&mut self.windows) {
            // Looking for the next window goes through many days: only when the last one is over and another may come.
            let serves = window.as_ref().is_some_and(|(silence, is_last)| *is_last || now < silence.ends_at);
            if !serves {
                let silence = configured.at(now);
                let is_last = silence.state(now) == SilenceState::Expired;
                *window = Some((Arc::new(silence), is_last));
            }
        }
        let all = self.by_id.values().chain(windows(&self.windows));
        self.live = all.filter(|silence| silence.state(now) != SilenceState::Expired).cloned().collect();
        let changes = self.live.iter().flat_map(|silence| [silence.starts_at, silence.ends_at]);
        self.next_change = changes.filter(|at| *at > now).min().unwrap_or(NEVER);
        let active = self.live.iter().filter(|silence| silence.state(now) == SilenceState::Active);
        let active: Vec<Arc<str>> = active.map(|silence| silence.id.clone()).collect();
        let changed = active != self.active;
        self.active = active;
        changed
    }

    fn forget(&mut self, now: Timestamp) {
        self.by_id.retain(|_, silence| !is_forgotten(silence, now));
    }

    /// Those of the API as the checkpoint keeps them.
    pub(super) fn save(&self) -> Vec<SavedSilence> {
        self.by_id.values().map(|silence| SavedSilence::of(silence)).collect()
    }

    /// Takes up what [`Silences::save`] gave.
    ///
    /// # Errors
    /// A sentence; nothing has changed then.
    pub(super) fn load(&mut self, saved: Vec<SavedSilence>) -> Result<(), String> {
        let opened = saved.into_iter().map(|saved| saved.open().map(|silence| (silence.id.clone(), Arc::new(silence))));
        self.by_id = opened.collect::<Result<_, String>>()?;
        self.next_change = Timestamp::EPOCH;
        Ok(())
    }
}

fn windows(windows: &[Option<(Arc<Silence>, bool)>]) -> impl Iterator<Item = &Arc<Silence>> {
    windows.iter().flatten().map(|(silence, _)| silence)
}

fn is_forgotten(silence: &Silence, now: Timestamp) -> bool {
    silence.ends_at.plus_millis(RETENTION_MS) <= now
}

/// Whether a change is one of the same silence: other matchers or a beginning in the past make another one.
fn can_update(previous: &Silence, draft: &SilenceDraft, now: Timestamp) -> bool {
    let seconds = |at: Timestamp| at.micros().div_euclid(1_000_000);
    previous.matchers == draft.matchers
        && match previous.state(now) {
            SilenceState::Active => seconds(draft.starts_at) == seconds(previous.starts_at) && draft.ends_at >= now,
            SilenceState::Pending => draft.starts_at >= now,
            SilenceState::Expired => false,
        }
}
