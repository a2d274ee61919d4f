//! Inhibition: alerts that mute other alerts while they fire.

use super::matcher::{self, Matcher};
use crate::model::{Alert, AlertStatus, Labels};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One of Alertmanager's `inhibit_rules`.
#[derive(Clone, Debug, PartialEq)]
pub struct InhibitRule {
    /// What a muting alert matches.
    pub source: Vec<Matcher>,
    /// What a muted alert matches.
    pub target: Vec<Matcher>,
    /// Labels that must have equal values in both; two absent labels are equal.
    pub equal: Vec<String>,
}

/// By the values of `equal` labels: fingerprints of firing sources, and whether each matches both sides of its rule.
type Sources = BTreeMap<Vec<Arc<str>>, BTreeMap<u64, bool>>;

/// The firing sources of every rule, by the values of the rule's `equal` labels.
#[derive(Debug, Default)]
pub(super) struct Inhibitor {
    rules: Vec<InhibitRule>,
    sources: Vec<Sources>,
}

impl Inhibitor {
    pub(super) fn new(rules: Vec<InhibitRule>) -> Self {
        let sources = rules.iter().map(|_| BTreeMap::new()).collect();
        Self { rules, sources }
    }

    /// Takes note of an alert's state. Returns whether the set of sources changed.
    pub(super) fn observe(&mut self, fingerprint: u64, alert: &Alert) -> bool {
        let firing = alert.status() == AlertStatus::Firing;
        let mut changed = false;
        for (rule, sources) in self.rules.iter().zip(&mut self.sources) {
            if !matcher::all_match(&rule.source, &alert.labels) {
                continue;
            }
            let key = equal_values(rule, &alert.labels);
            if firing {
                let both_sides = matcher::all_match(&rule.target, &alert.labels);
                changed |= sources.entry(key).or_default().insert(fingerprint, both_sides).is_none();
            } else if let Some(members) = sources.get_mut(&key) {
                changed |= members.remove(&fingerprint).is_some();
                if members.is_empty() {
                    sources.remove(&key);
                }
            }
        }
        changed
    }

    /// Whether some other firing alert mutes this one. An alert that matches both sides of a rule is not muted by alerts
    /// for which the same holds, itself among them (inhibit.go, `excludeTwoSidedMatch`).
    pub(super) fn mutes(&self, labels: &Labels) -> bool {
        self.muted_by(labels).is_some()
    }

    /// The first rule that mutes this one, and the alert that does.
    pub(super) fn muted_by(&self, labels: &Labels) -> Option<(usize, u64)> {
        self.rules.iter().zip(&self.sources).enumerate().find_map(|(at, (rule, sources))| {
            if sources.is_empty() || !matcher::all_match(&rule.target, labels) {
                return None;
            }
            let members = sources.get(&equal_values(rule, labels))?;
            let both_sides = matcher::all_match(&rule.source, labels);
            let source = members.iter().find(|(_, source_has_both)| !(both_sides && **source_has_both))?;
            Some((at, *source.0))
        })
    }

    /// The fingerprints of the firing alerts that mute one with these labels.
    pub(super) fn inhibitors(&self, labels: &Labels) -> Vec<u64> {
        let mut found: Vec<u64> = Vec::new();
        for (rule, sources) in self.rules.iter().zip(&self.sources) {
            if sources.is_empty() || !matcher::all_match(&rule.target, labels) {
                continue;
            }
            let both_sides = matcher::all_match(&rule.source, labels);
            let members = sources.get(&equal_values(rule, labels)).into_iter().flatten();
            found.extend(members.filter(|(_, has_both)| !(both_sides && **has_both)).map(|(source, _)| *source));
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn equal_values(rule: &InhibitRule, labels: &Labels) -> Vec<Arc<str>> {
    rule.equal.iter().map(|name| Arc::from(labels.get(name).unwrap_or(""))).collect()
}
