//! Alerts of the rules together with those that others post, and the commands on both that must survive a restart.

use super::Core;
use crate::model::{Alert, AlertStatus, Timestamp};
use crate::notify::{PostRefused, PostedAlert, SilenceDraft, SilenceError};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Core {
    /// The alerts of the rules and the posted ones as one set, ended ones included, with what changes when it does. Where
    /// both have an alert with the same labels it fires as long as one of them does, and the rules' stands for it.
    pub fn alerts(&mut self, now: Timestamp) -> ((u64, u64), Arc<Vec<Arc<Alert>>>) {
        self.posted.advance(now);
        let (version, own) = self.engine.published();
        let version = (version, self.posted.version());
        if self.posted.is_empty() {
            return (version, own);
        }
        let mut all: BTreeMap<u64, Arc<Alert>> =
            self.posted.alerts().map(|alert| (alert.fingerprint(), alert.clone())).collect();
        for alert in own.iter() {
            let posted_fires = || all.get(&alert.fingerprint()).is_some_and(|p| p.status() == AlertStatus::Firing);
            if alert.status() == AlertStatus::Firing || !posted_fires() {
                all.insert(alert.fingerprint(), alert.clone());
            }
        }
        (version, Arc::new(all.into_values().collect()))
    }

    /// Takes posted alerts: the valid ones are taken, and what was refused comes back with its place.
    pub fn post_alerts(&mut self, posted: Vec<PostedAlert>, now: Timestamp) -> Vec<(usize, PostRefused)> {
        let timeout_ms = self.notifier.resolve_timeout_ms();
        let mut refused = Vec::new();
        for (at, alert) in posted.into_iter().enumerate() {
            match self.posted.post(alert, timeout_ms, now) {
                Ok(()) => self.commands += 1,
                Err(reason) => refused.push((at, reason)),
            }
        }
        refused
    }

    /// Makes or changes a silence: see [`crate::notify::Notifier::set_silence`].
    ///
    /// # Errors
    /// [`SilenceError`]; nothing has changed then.
    pub fn set_silence(
        &mut self,
        draft: SilenceDraft,
        fresh_id: &str,
        now: Timestamp,
    ) -> Result<Arc<str>, SilenceError> {
        let id = self.notifier.set_silence(draft, fresh_id, now)?;
        self.commands += 1;
        Ok(id)
    }

    /// Ends a silence now.
    ///
    /// # Errors
    /// [`SilenceError`]; nothing has changed then.
    pub fn expire_silence(&mut self, id: &str, now: Timestamp) -> Result<(), SilenceError> {
        self.notifier.expire_silence(id, now)?;
        self.commands += 1;
        Ok(())
    }

    /// Asks for a checkpoint that holds what stands here now: the count that it will have ([`Core::commands`]).
    pub fn want_stored(&mut self) -> u64 {
        self.commands += 1;
        self.commands
    }

    /// How many commands were taken: a checkpoint made at a later count holds them.
    pub fn commands(&self) -> u64 {
        self.commands
    }
}
