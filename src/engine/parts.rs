//! Everything that a configuration compiles to, before any of it is live.

use super::{EventLog, SourceStatus, TapSpec};
use crate::config::schema::{Limits, SourceConfig};
use crate::health::Checks;
use crate::mapping::Mappings;
use crate::model::{FieldPlan, Labels, Timestamp};
use crate::notify::Routing;
use crate::rules::RuleSet;
use crate::series::{Rings, StoreOptions};
use crate::source::SourceState;
use crate::source::decode::Decoder;
use crate::source::redact::Redactor;
use crate::source::validate::Schemas;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One configured source, checked.
#[derive(Clone, Debug)]
pub struct SourcePart {
    /// Its name.
    pub name: Arc<str>,
    /// The kind of its transport, for people.
    pub kind: &'static str,
    /// What was configured, to see whether a reload changes it.
    pub config: SourceConfig,
    /// Reads what arrives.
    pub decoder: Arc<Decoder>,
}

/// A checked configuration: all fallible work is done.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The fields that mappings, rules and checks ask for.
    pub plan: Arc<FieldPlan>,
    /// The mappings.
    pub mappings: Mappings,
    /// The health checks.
    pub checks: Checks,
    /// The rules.
    pub rule_set: RuleSet,
    /// Receivers and routes.
    pub routing: Arc<Routing>,
    /// The sources.
    pub sources: Vec<SourcePart>,
    /// What is never shown of events.
    pub redactor: Arc<Redactor>,
    /// The schemas of events.
    pub schemas: Arc<Schemas>,
    /// The logs of events.
    pub event_logs: Arc<[EventLog]>,
    /// `job` and `instance`.
    pub base_labels: Labels,
    /// The bounds.
    pub limits: Limits,
    /// What logs and traces take out of the stream.
    pub taps: Arc<[TapSpec]>,
}

impl Parts {
    /// What the series store is made with.
    pub fn store_options(&self) -> StoreOptions {
        StoreOptions { limits: self.limits.clone(), base_labels: self.base_labels.clone(), rings: Rings::default() }
    }

    /// The sources as they stand at the start.
    pub(super) fn source_statuses(&self, now: Timestamp) -> BTreeMap<Arc<str>, SourceStatus> {
        let starting = |kind| SourceStatus { kind, state: SourceState::Starting, since: now, events: 0 };
        self.sources.iter().map(|source| (source.name.clone(), starting(source.kind))).collect()
    }
}
