//! Why somebody is told of an alert, or is not: its routes, their groups and what stands in the way.

use super::{Notifier, timing_of};
use crate::model::{Labels, Timestamp};
use crate::notify::decision::{Decision, Withheld};
use crate::notify::flapping::FlapView;
use crate::notify::matcher::print_labels;
use serde::Serialize;
use std::sync::Arc;

/// Something that keeps an alert from being told now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InTheWay {
    /// `silence`, `inhibition`, `mute_time_interval`, `active_time_interval`, `first_evaluation`, `flapping`, or the reason of the last
    /// decision where that says more.
    pub by: String,
    /// In words.
    pub what: String,
    /// When it ends, where that is known.
    pub until: Option<Timestamp>,
}

/// One route that takes an alert, and its group there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupWhy {
    /// The receiver's name.
    pub receiver: Arc<str>,
    /// The kinds of its integrations.
    pub integrations: Vec<&'static str>,
    /// The route as Alertmanager writes its key.
    pub route: Arc<str>,
    /// The key of the alert's group there.
    pub group_key: String,
    /// The labels that make the group.
    pub group_labels: Labels,
    /// `group_wait`, in milliseconds.
    pub group_wait_ms: i64,
    /// `group_interval`, in milliseconds.
    pub group_interval_ms: i64,
    /// `repeat_interval`, in milliseconds.
    pub repeat_interval_ms: i64,
    /// News is sent at once after a quiet time, as the short form does.
    pub at_once: bool,
    /// When the group is looked at next; `None` when only a change will do.
    pub next_flush: Option<Timestamp>,
    /// When it last was.
    pub last_flush: Option<Timestamp>,
    /// When the receiver was last told of the group, and whether it believes that this alert fires.
    pub told: Option<ToldWhy>,
    /// What was last decided, by integration.
    pub decisions: Vec<Decision>,
    /// What keeps the alert from being told now.
    pub in_the_way: Vec<InTheWay>,
    /// The alert fires and ends again and again.
    pub flapping: Option<FlapView>,
}

/// What a receiver knows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ToldWhy {
    /// When it was last told of the group.
    pub at: Timestamp,
    /// Whether it believes that this alert fires.
    pub knows: bool,
}

impl Notifier {
    /// The routes that take an alert with these labels, whether it fires or not.
    pub fn why(&self, labels: &Labels, now: Timestamp) -> Vec<GroupWhy> {
        self.groups_of(labels).into_iter().filter_map(|id| self.group_why(&id, labels, now)).collect()
    }

    fn group_why(&self, id: &super::GroupId, labels: &Labels, now: Timestamp) -> Option<GroupWhy> {
        let at = *self.route_by_id.get(&id.0)?;
        let route = self.routing.routes.get(at)?;
        let receiver = self.routing.receivers.get(route.receiver)?;
        let timing = timing_of(&self.routing, &self.route_by_id, &id.0);
        let group_key: Arc<str> = format!("{}:{}", route.key, print_labels(&id.1)).into();
        let group = self.groups.get(id);
        let key = |index: usize| (receiver.name.clone(), index, group_key.clone());
        let fingerprint = labels.fingerprint();
        let told =
            (0..receiver.integrations.len()).filter_map(|index| self.log.get(&key(index))).max_by_key(|told| told.at);
        let indexes = 0..receiver.integrations.len();
        let decisions: Vec<Decision> = indexes.filter_map(|index| self.decisions.get(&key(index)).copied()).collect();
        let flapping = self.routing.flapping.filter(|policy| timing.eager || policy.everywhere);
        let flapping = flapping.and_then(|policy| self.flapping.describe(fingerprint, policy));
        Some(GroupWhy {
            receiver: receiver.name.clone(),
            integrations: receiver.integrations.iter().map(|integration| integration.kind.name()).collect(),
            route: route.key.clone(),
            group_labels: id.1.clone(),
            group_wait_ms: timing.group_wait_ms,
            group_interval_ms: timing.group_interval_ms,
            repeat_interval_ms: timing.repeat_interval_ms,
            at_once: timing.eager,
            next_flush: group.map(|group| group.next_flush).filter(|at| *at != super::NEVER),
            last_flush: group.and_then(|group| group.last_flush),
            told: told.map(|told| ToldWhy { at: told.at, knows: told.firing.contains_key(&fingerprint) }),
            in_the_way: self.in_the_way(at, labels, &decisions, flapping, now),
            decisions,
            flapping,
            group_key: group_key.to_string(),
        })
    }

    fn in_the_way(
        &self,
        route: usize,
        labels: &Labels,
        decisions: &[Decision],
        flapping: Option<FlapView>,
        now: Timestamp,
    ) -> Vec<InTheWay> {
        let mut found = Vec::new();
        let mut add = |by: &str, what: String, until| found.push(InTheWay { by: by.into(), what, until });
        if self.held {
            add("first_evaluation", "not every rule has been evaluated since the start".into(), None);
        }
        if let Some((rule, source)) = self.inhibitor.muted_by(labels) {
            let name = self.known.get(&source).map_or_else(String::new, |known| known.alert.labels.to_string());
            add("inhibition", format!("inhibit rule {} mutes it while {name} fires", rule + 1), None);
        }
        for silence in self.silences.silencing(labels, now) {
            let comment = if silence.comment.is_empty() { "no comment" } else { &silence.comment };
            let what = format!("the silence {} by {} ({comment})", silence.id, silence.created_by);
            add("silence", what, Some(silence.ends_at));
        }
        let (route, intervals) = (&self.routing.routes[route], &self.routing.intervals);
        for name in route.mute_time_intervals.iter().filter(|name| intervals.contains(name, now)) {
            add("mute_time_interval", format!("its route is muted by the time interval {name} now"), None);
        }
        let active = &route.active_time_intervals;
        if !active.is_empty() && !active.iter().any(|name| intervals.contains(name, now)) {
            add("active_time_interval", format!("its route is active only in {}", active.join(", ")), None);
        }
        if let Some(flap) = flapping {
            let what = format!("it flaps: {} changes, {} of them withheld", flap.changes, flap.withheld);
            add("flapping", what, Some(flap.steady_at));
        }
        // Whatever else the last decision names stands in the way, too.
        let named = [
            Withheld::Unchanged,
            Withheld::NotDue,
            Withheld::Inhibited,
            Withheld::OutsideActiveTime,
            Withheld::WaitingForFirstEvaluation,
            Withheld::Flapping,
            Withheld::Silenced,
            Withheld::EndedUntold,
        ];
        for decision in decisions {
            if let Decision::Withhold(reason) = decision
                && !named.contains(reason)
            {
                let word = serde_json::to_value(reason).ok();
                let word = word.as_ref().and_then(|word| word.as_str()).unwrap_or_default().to_owned();
                let what = format!("the last message was withheld: {}", word.replace('_', " "));
                if !found.iter().any(|known: &InTheWay| known.by == word) {
                    found.push(InTheWay { by: word, what, until: None });
                }
            }
        }
        found
    }
}
