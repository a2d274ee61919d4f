//! The notifier: a clockless state machine from (published alert set, notification log, now) to what is sent.
//!
//! Its invariants: a firing message is followed by a resolved one (where `send_resolved` asks for it) even when the alert
//! leaves the set, when its route changes or when it is muted by then (what ends under a silence is told when the silence
//! is over); nothing is told twice inside `repeat_interval`;
//! while [`Notifier::hold_until_ready`] holds, nothing is sent and absence is not taken for an ending.
//!
//! Its parts: `damped` (alerts that flap, notes of what was withheld), `why` (what stands in an alert's way, for people).
//!
//! Deliberately absent: delivery. The notification log says what was handed to the outbox, which keeps it until the
//! receiver has it.

mod damped;
mod look;
mod suppression;
mod why;

pub use suppression::{AlertGroup, Suppression};
pub use why::{GroupWhy, InTheWay};

use look::{has_visible, look};

use super::decision::{Decision, Reason, Told, Withheld, decide};
use super::flapping::{Damping, Flapping};
use super::group::Group;
use super::inhibit::Inhibitor;
use super::matcher::print_labels;
use super::notification::{ALERTS_PER_MESSAGE, Notification};
use super::routing::{Routing, SHORT_TIMING, Timing};
use super::silence::SavedSilence;
use super::silences::Silences;
use super::withheld::WithheldNotes;
use crate::model::{Alert, AlertStatus, Labels, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const NEVER: Timestamp = Timestamp::from_micros(i64::MAX);

/// What the log is kept by: receiver, integration, group key.
pub(super) type LogKey = (Arc<str>, usize, Arc<str>);
/// A route's id and the group's labels.
type GroupId = (String, Labels);

/// What keeps an alert from being told; the first that holds, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Muted {
    No,
    ByTime,
    Silenced,
    Inhibited,
}

/// By fingerprint.
type Mutes = BTreeMap<u64, Muted>;

struct Known {
    alert: Arc<Alert>,
    generation: u64,
    groups: Vec<GroupId>,
}

/// Decides what is sent to whom, and when. See the module's documentation.
pub struct Notifier {
    routing: Arc<Routing>,
    route_by_id: BTreeMap<String, usize>,
    known: BTreeMap<u64, Known>,
    groups: BTreeMap<GroupId, Group>,
    log: BTreeMap<LogKey, Told>,
    decisions: BTreeMap<LogKey, Decision>,
    flapping: Flapping,
    withheld: WithheldNotes,
    inhibitor: Inhibitor,
    silences: Silences,
    generation: u64,
    held: bool,
    /// A set has been published; before that absence means nothing.
    published: bool,
    next_due: Timestamp,
}

/// One group as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct GroupView {
    /// The receiver's name.
    pub receiver: Arc<str>,
    /// Alertmanager's group key.
    pub group_key: Arc<str>,
    /// The labels that make the group.
    pub labels: Labels,
    /// Alerts in it that fire.
    pub firing: usize,
    /// When it is looked at next, in microseconds since the epoch; `None` when only a change will do.
    pub next_flush: Option<Timestamp>,
    /// Its route no longer takes its alerts; only their endings are still told.
    pub orphaned: bool,
    /// What was last decided, by integration.
    pub decisions: Vec<Decision>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    groups: Vec<(GroupId, Group)>,
    log: Vec<(LogKey, Told)>,
}

impl Notifier {
    /// Starts with nothing known and nothing held.
    pub fn new(routing: Arc<Routing>) -> Self {
        let mut notifier = Self {
            inhibitor: Inhibitor::new(routing.inhibit_rules.clone()),
            silences: Silences::new(routing.silences.clone()),
            routing,
            route_by_id: BTreeMap::new(),
            known: BTreeMap::new(),
            groups: BTreeMap::new(),
            log: BTreeMap::new(),
            decisions: BTreeMap::new(),
            flapping: Flapping::default(),
            withheld: WithheldNotes::default(),
            generation: 0,
            held: false,
            published: false,
            next_due: NEVER,
        };
        notifier.index_routes();
        notifier.schedule();
        notifier
    }

    /// Holds everything back until every rule group has evaluated once (`true`), or lets it go (`false`). What left the
    /// set meanwhile is taken for ended at the next [`Notifier::update`] or [`Notifier::tick`] after that.
    pub fn hold_until_ready(&mut self, hold: bool) {
        self.held = hold;
        self.next_due = Timestamp::EPOCH;
    }

    /// Whether it is held back.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Takes the published set, ended alerts included. Alerts that are the same `Arc` as before cost next to nothing.
    pub fn update(&mut self, now: Timestamp, alerts: &[Arc<Alert>]) {
        self.generation += 1;
        self.published = true;
        let mut sources_changed = false;
        for alert in alerts {
            let fingerprint = alert.fingerprint();
            if let Some(known) = self.known.get_mut(&fingerprint) {
                known.generation = self.generation;
                if Arc::ptr_eq(&known.alert, alert) {
                    continue;
                }
            }
            sources_changed |= self.observe(fingerprint, alert, now);
        }
        sources_changed |= self.end_absent(now);
        if sources_changed {
            self.wake_withheld(now);
        }
        if self.held {
            self.note_held(now);
        }
        self.schedule();
    }

    /// Everything that is due now, in a fixed order.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Notification> {
        if self.held || now < self.next_due {
            return Vec::new();
        }
        if self.end_absent(now) | self.silences.advance(now) {
            self.wake_withheld(now);
        }
        let mut out = Vec::new();
        let due: Vec<GroupId> =
            self.groups.iter().filter(|(_, group)| group.next_flush <= now).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.flush(&id, now, &mut out);
        }
        if let Some(policy) = self.routing.flapping {
            self.flapping.prune(policy, now);
        }
        self.schedule();
        out
    }

    /// When [`Notifier::tick`] has something to do next; `None` when only a change will do.
    pub fn next_due(&self) -> Option<Timestamp> {
        (!self.held && self.next_due != NEVER).then_some(self.next_due)
    }

    /// Swaps the routes. Timers and log of groups that stay are kept. A receiver that was told of an alert which now goes
    /// elsewhere is still told of its ending; what was told to a receiver that is gone is forgotten.
    pub fn reconfigure(&mut self, routing: Arc<Routing>, now: Timestamp) {
        self.routing = routing;
        self.silences.configure(self.routing.silences.clone());
        self.rebuild(now);
    }

    /// The groups, the notification log and the silences as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let saved = Saved {
            groups: self.groups.iter().map(|(id, group)| (id.clone(), group.clone())).collect(),
            log: self.log.iter().map(|(key, told)| (key.clone(), told.clone())).collect(),
        };
        // Silences and what flaps stand behind the rest: what was written before there were any ends there.
        let mut bytes = postcard::to_stdvec(&saved).unwrap_or_default();
        bytes.extend(postcard::to_stdvec(&self.silences.save()).unwrap_or_default());
        bytes.extend(postcard::to_stdvec(&self.flapping).unwrap_or_default());
        bytes
    }

    /// Takes up what [`Notifier::snapshot`] wrote, under the present routes.
    ///
    /// # Errors
    /// When the bytes are not a snapshot; then nothing is changed.
    pub fn restore(&mut self, bytes: &[u8], now: Timestamp) -> Result<(), String> {
        let failed = |error: postcard::Error| format!("the notification log cannot be read: {error}");
        let (saved, rest): (Saved, _) = postcard::take_from_bytes(bytes).map_err(failed)?;
        // Everything is read before anything is taken up.
        let (silences, rest): (Option<Vec<SavedSilence>>, &[u8]) = match rest {
            [] => (None, rest),
            _ => postcard::take_from_bytes(rest)
                .map(|(silences, rest)| (Some(silences), rest))
                .map_err(|error| format!("the silences cannot be read: {error}"))?,
        };
        let flapping = if rest.is_empty() {
            Flapping::default()
        } else {
            postcard::from_bytes(rest).map_err(|error| format!("what flaps cannot be read: {error}"))?
        };
        if let Some(silences) = silences {
            self.silences.load(silences)?;
        }
        self.flapping = flapping;
        self.groups = saved.groups.into_iter().collect();
        self.log = saved.log.into_iter().collect();
        // What the log says fires is known until the set or its absence says otherwise.
        let told = self.log.values().flat_map(|told| &told.firing);
        let members = self.groups.values().flat_map(|group| &group.members);
        let mut seen: BTreeMap<u64, Arc<Alert>> = told.map(|(f, alert)| (*f, alert.clone())).collect();
        seen.extend(members.map(|(f, alert)| (*f, alert.clone())));
        for (fingerprint, alert) in seen {
            self.known.entry(fingerprint).or_insert(Known { alert, generation: 0, groups: Vec::new() });
        }
        self.rebuild(now);
        Ok(())
    }

    /// Whether the receiver was told that this group fires and not yet that it ended.
    pub fn told(&self, receiver: &str, integration: usize, group_key: &str) -> Option<&Told> {
        self.log.get(&(Arc::from(receiver), integration, Arc::from(group_key)))
    }

    /// All groups, for the API.
    pub fn groups(&self) -> Vec<GroupView> {
        let view = |group: &Group| {
            let integrations = self.routing.receiver(&group.receiver).map_or(0, |receiver| receiver.integrations.len());
            let decision = |index| {
                let key = (group.receiver.clone(), index, group.key.clone());
                let waiting = if self.held { Withheld::WaitingForFirstEvaluation } else { Withheld::NotDue };
                self.decisions.get(&key).copied().unwrap_or(Decision::Withhold(waiting))
            };
            GroupView {
                receiver: group.receiver.clone(),
                group_key: group.key.clone(),
                labels: group.labels.clone(),
                firing: group.members.values().filter(|alert| alert.status() == AlertStatus::Firing).count(),
                next_flush: (group.next_flush != NEVER).then_some(group.next_flush),
                orphaned: group.orphaned,
                decisions: (0..integrations).map(decision).collect(),
            }
        };
        self.groups.values().map(view).collect()
    }

    /// Whether another alert mutes one with these labels now.
    pub fn is_inhibited(&self, labels: &Labels) -> bool {
        self.inhibitor.mutes(labels)
    }

    /// Takes one alert's state to the groups it belongs to. Returns whether what mutes others changed.
    fn observe(&mut self, fingerprint: u64, alert: &Arc<Alert>, now: Timestamp) -> bool {
        let sources_changed = self.inhibitor.observe(fingerprint, alert);
        if let Some(policy) = self.routing.flapping {
            self.flapping.observe(fingerprint, alert, policy, now);
        }
        let ids = match self.known.get_mut(&fingerprint) {
            Some(known) => {
                known.alert = alert.clone();
                known.groups.clone()
            }
            None => {
                let groups = self.groups_of(&alert.labels);
                let known = Known { alert: alert.clone(), generation: self.generation, groups: groups.clone() };
                self.known.insert(fingerprint, known);
                groups
            }
        };
        for id in ids {
            self.put(&id, fingerprint, alert, now);
        }
        for group in self.groups.values_mut().filter(|group| group.orphaned) {
            if group.members.contains_key(&fingerprint) {
                group.put(fingerprint, alert, SHORT_TIMING, now);
            }
        }
        sources_changed
    }

    fn groups_of(&self, labels: &Labels) -> Vec<GroupId> {
        let routes = self.routing.matching(labels);
        routes
            .into_iter()
            .map(|route| (self.routing.routes[route].id.clone(), self.routing.group_labels(route, labels)))
            .collect()
    }

    fn put(&mut self, id: &GroupId, fingerprint: u64, alert: &Arc<Alert>, now: Timestamp) {
        let Some(route) = self.route_by_id.get(&id.0).map(|at| &self.routing.routes[*at]) else { return };
        if !self.groups.contains_key(id) {
            if alert.status() == AlertStatus::Resolved {
                return;
            }
            let receiver = self.routing.receivers[route.receiver].name.clone();
            let key = format!("{}:{}", route.key, print_labels(&id.1));
            self.groups.insert(id.clone(), Group::new(receiver, key.into(), id.1.clone()));
        }
        if let Some(group) = self.groups.get_mut(id) {
            group.put(fingerprint, alert, route.timing, now);
        }
    }

    /// Takes for ended what fires but is not in the last published set, and forgets what is over. Returns whether what
    /// mutes others changed.
    fn end_absent(&mut self, now: Timestamp) -> bool {
        if self.held || !self.published {
            return false;
        }
        let generation = self.generation;
        let absent = self.known.iter().filter(|(_, known)| known.generation != generation);
        let absent: Vec<(u64, Arc<Alert>)> =
            absent.map(|(fingerprint, known)| (*fingerprint, known.alert.clone())).collect();
        let mut sources_changed = false;
        for (fingerprint, alert) in absent {
            if alert.status() == AlertStatus::Firing {
                let mut ended = Alert::clone(&alert);
                ended.resolved_at = Some(now);
                sources_changed |= self.observe(fingerprint, &Arc::new(ended), now);
            }
            self.known.remove(&fingerprint);
        }
        sources_changed
    }

    /// What mutes others has changed: groups with something muted, or with something that may be by now, are looked at.
    fn wake_withheld(&mut self, now: Timestamp) {
        for ((route, _), group) in &mut self.groups {
            if group.withheld {
                group.hurry(timing_of(&self.routing, &self.route_by_id, route), now);
            }
        }
    }

    fn schedule(&mut self) {
        let flushes = self.groups.values().map(|group| group.next_flush);
        self.next_due = flushes.chain(self.silences.next_change()).min().unwrap_or(NEVER);
    }

    fn flush(&mut self, id: &GroupId, now: Timestamp, out: &mut Vec<Notification>) {
        let Some(mut group) = self.groups.remove(id) else { return };
        let timing = timing_of(&self.routing, &self.route_by_id, &id.0);
        let route = self.route_by_id.get(&id.0).copied();
        let by_time = route.is_some_and(|route| self.routing.muted_by_time(route, now));
        let mute = |labels: &Labels| {
            if by_time {
                Muted::ByTime
            } else if self.silences.silence(labels, now) {
                Muted::Silenced
            } else if self.inhibitor.mutes(labels) {
                Muted::Inhibited
            } else {
                Muted::No
            }
        };
        let muted: Mutes = group.members.iter().map(|(f, alert)| (*f, mute(&alert.labels))).collect();
        group.withheld = muted.values().any(|muted| *muted != Muted::No);
        let mut owed = BTreeSet::new();
        let routing = self.routing.clone();
        let integrations = routing.receiver(&group.receiver).map_or(&[][..], |receiver| &receiver.integrations);
        let policy = routing.flapping.filter(|policy| !group.orphaned && (timing.eager || policy.everywhere));
        let (mut repeat_due, mut sent, mut all_damped) = (None::<Timestamp>, false, true);
        for (index, integration) in integrations.iter().enumerate() {
            let key = (group.receiver.clone(), index, group.key.clone());
            let told = self.log.get(&key);
            let damped = self.damped(&group, &key, policy, now);
            let view = look(&group, told, &muted, &damped, by_time);
            let decision = decide(told, view, integration.send_resolved, timing.repeat_interval_ms, now);
            // Of what its route no longer takes, only the endings are told.
            let decision = match decision {
                Decision::Send(Reason::Repeat | Reason::First | Reason::NewMember) if group.orphaned => {
                    Decision::Withhold(Withheld::Unchanged)
                }
                decision => decision,
            };
            if let Decision::Send(reason) = decision {
                let mut message = self.tell(&group, index, reason, integration.send_resolved, (&muted, &damped), now);
                if timing.eager {
                    // Alertmanager sends whatever there is, so that routes of its file do, too.
                    message.shorten(ALERTS_PER_MESSAGE);
                }
                out.push(message);
                sent = true;
            } else if let Some(told) = self.log.get_mut(&key) {
                // An ending that is not told (the receiver does not want it) is forgotten, so that the alert is news when
                // it fires again.
                // What a silence holds back is kept until then, and what flaps until it is steady.
                let is_owed = |f: &u64| integration.send_resolved && muted.get(f) == Some(&Muted::Silenced);
                let ended = |f: &u64| group.members.get(f).is_some_and(|a| a.status() == AlertStatus::Resolved);
                let is_damped = |f: &u64| damped.get(f) == Some(&Damping::Damped);
                told.firing.retain(|f, _| !ended(f) || is_owed(f) || is_damped(f));
            }
            for (fingerprint, _) in damped.iter().filter(|(_, damping)| **damping == Damping::Steady) {
                // Told, or not wanted: in any case it waits no longer.
                self.flapping.told(*fingerprint, &key, Damping::Steady);
            }
            if let Decision::Withhold(reason) = decision
                && self.decisions.get(&key) != Some(&decision)
                && (reason != Withheld::EndedUntold || view.ended_untold > 0)
            {
                self.withheld.note(&group, index, reason, now);
            }
            all_damped &= !damped.is_empty() && damped.len() == group.members.len();
            if integration.send_resolved {
                let told = self.log.get(&key).into_iter().flat_map(|told| told.firing.keys());
                owed.extend(told.filter(|f| muted.get(f) == Some(&Muted::Silenced)));
            }
            match self.log.get(&key) {
                Some(told) if told.firing.is_empty() => {
                    self.log.remove(&key);
                }
                // What is muted is not repeated: its group is looked at when that ends.
                Some(told) if !group.orphaned && !all_damped && has_visible(&group, &muted) => {
                    let due = told.at.plus_millis(timing.repeat_interval_ms);
                    repeat_due = Some(repeat_due.map_or(due, |earlier| earlier.min(due)));
                }
                _ => {}
            }
            self.decisions.insert(key, decision);
        }
        // Only what was sent counts against the rate of an eager group.
        if sent || !timing.eager || group.last_flush.is_none() {
            group.last_flush = Some(now);
        }
        let waiting = self.waiting_for_steady(&group, policy);
        owed.extend(waiting.iter().map(|(fingerprint, _)| *fingerprint));
        let is_over = group.after_flush(timing, repeat_due, &owed, now);
        for (_, at) in &waiting {
            group.next_flush = group.next_flush.min((*at).max(now.plus_millis(1)));
        }
        if is_over {
            for index in 0..integrations.len() {
                self.decisions.remove(&(group.receiver.clone(), index, group.key.clone()));
            }
        } else {
            self.groups.insert(id.clone(), group);
        }
    }

    /// Makes the message and notes in the log what the receiver now knows.
    fn tell(
        &mut self,
        group: &Group,
        index: usize,
        reason: Reason,
        send_resolved: bool,
        (muted, damped): (&Mutes, &BTreeMap<u64, Damping>),
        now: Timestamp,
    ) -> Notification {
        let key = (group.receiver.clone(), index, group.key.clone());
        let told = self.log.remove(&key);
        let before = told.as_ref().map(|told| &told.firing);
        let knows = |fingerprint: &u64| before.is_some_and(|firing| firing.contains_key(fingerprint));
        let mut alerts = Vec::new();
        let mut news = Vec::new();
        // What other groups under the same key told the same receiver stays as it is.
        let mut firing: BTreeMap<u64, Arc<Alert>> = before.cloned().unwrap_or_default();
        for (fingerprint, alert) in &group.members {
            let muted = muted.get(fingerprint).copied().unwrap_or(Muted::No);
            let hidden = muted != Muted::No;
            let damping = damped.get(fingerprint).copied();
            let shown = || match (damping, self.routing.flapping) {
                (Some(damping), Some(policy)) => self.flapping.annotated(*fingerprint, alert, damping, policy),
                _ => alert.clone(),
            };
            match alert.status() {
                _ if damping == Some(Damping::Damped) => continue,
                AlertStatus::Firing if hidden => continue,
                AlertStatus::Resolved if muted == Muted::Silenced => continue,
                AlertStatus::Firing => {
                    if !knows(fingerprint) || damping.is_some() {
                        news.push(*fingerprint);
                    }
                    firing.insert(*fingerprint, alert.clone());
                    alerts.push(shown());
                }
                AlertStatus::Resolved => {
                    if send_resolved && (knows(fingerprint) || !hidden) {
                        news.push(*fingerprint);
                        alerts.push(shown());
                    }
                    firing.remove(fingerprint);
                }
            }
            if damping == Some(Damping::Began) {
                self.flapping.told(*fingerprint, &key, Damping::Began);
            }
        }
        let since = told.as_ref().map_or(now, |told| told.since);
        self.log.insert(key, Told { at: now, since, firing });
        let mut notification = Notification {
            receiver: group.receiver.clone(),
            integration: index,
            group_key: group.key.clone(),
            group_labels: group.labels.clone(),
            common_labels: Labels::default(),
            common_annotations: Labels::default(),
            alerts,
            news: if reason == Reason::Repeat { Vec::new() } else { news },
            status: AlertStatus::Firing,
            reason,
            truncated: 0,
            at: now,
            since,
        };
        notification.settle();
        notification
    }

    fn index_routes(&mut self) {
        self.route_by_id = self.routing.routes.iter().enumerate().map(|(at, route)| (route.id.clone(), at)).collect();
    }

    /// Sorts all known alerts into the groups of the present routes.
    fn rebuild(&mut self, now: Timestamp) {
        self.index_routes();
        self.inhibitor = Inhibitor::new(self.routing.inhibit_rules.clone());
        self.decisions.clear();
        let old = std::mem::take(&mut self.groups);
        let routing = self.routing.clone();
        self.log.retain(|(receiver, index, _), _| routing.integration(receiver, *index).is_some());
        self.flapping.keep_receivers(|(receiver, index, _)| routing.integration(receiver, *index).is_some());
        let all: Vec<(u64, Arc<Alert>)> = self.known.iter().map(|(f, known)| (*f, known.alert.clone())).collect();
        for (fingerprint, alert) in &all {
            self.inhibitor.observe(*fingerprint, alert);
            let groups = self.groups_of(&alert.labels);
            for id in &groups {
                let before = old.get(id);
                // An ended alert matters only where its ending was still to be told.
                let waiting = before.is_some_and(|group| group.members.contains_key(fingerprint));
                if alert.status() == AlertStatus::Resolved && !waiting {
                    continue;
                }
                self.adopt(id, before, now);
                if let Some(group) = self.groups.get_mut(id) {
                    group.members.insert(*fingerprint, alert.clone());
                    group.hurry(timing_of(&routing, &self.route_by_id, &id.0), now);
                }
            }
            if let Some(known) = self.known.get_mut(fingerprint) {
                known.groups = groups;
            }
        }
        self.add_orphans(&old, now);
        self.schedule();
    }

    /// Makes sure that a group exists, with the timers it had.
    fn adopt(&mut self, id: &GroupId, before: Option<&Group>, now: Timestamp) {
        if self.groups.contains_key(id) {
            return;
        }
        let Some(route) = self.route_by_id.get(&id.0).map(|at| &self.routing.routes[*at]) else { return };
        let receiver = self.routing.receivers[route.receiver].name.clone();
        let mut group = Group::new(receiver, format!("{}:{}", route.key, print_labels(&id.1)).into(), id.1.clone());
        group.next_flush = now.plus_millis(route.timing.group_wait_ms);
        if let Some(before) = before {
            // A group that was eager may have been due only for its next repetition: the new interval holds at once.
            let interval_end = before.last_flush.map(|last| last.plus_millis(route.timing.group_interval_ms).max(now));
            group.next_flush = before.next_flush.min(interval_end.unwrap_or(group.next_flush));
            group.last_flush = before.last_flush;
        }
        self.groups.insert(id.clone(), group);
    }

    /// What a receiver was told fires, and what no group of its holds any more, lives on until its ending is told.
    fn add_orphans(&mut self, old: &BTreeMap<GroupId, Group>, now: Timestamp) {
        for ((receiver, _, key), told) in &self.log {
            let held = |fingerprint: &u64| {
                let mut mine = self.groups.values().filter(|group| group.receiver == *receiver && group.key == *key);
                mine.any(|group| group.members.contains_key(fingerprint))
            };
            let lost: Vec<u64> = told.firing.keys().filter(|fingerprint| !held(fingerprint)).copied().collect();
            if lost.is_empty() {
                continue;
            }
            let labels =
                old.values().find(|group| group.key == *key).map_or_else(Labels::default, |g| g.labels.clone());
            let id = (format!("orphaned#{receiver}#{key}"), labels.clone());
            let mut group = Group::new(receiver.clone(), key.clone(), labels);
            group.orphaned = true;
            group.last_flush = Some(now);
            group.next_flush = now;
            for fingerprint in lost {
                let held = |group: &Group| group.members.get(&fingerprint).cloned();
                let mut before = old.values().filter(|group| group.receiver == *receiver && group.key == *key);
                if let Some(known) = self.known.get(&fingerprint) {
                    group.members.insert(fingerprint, known.alert.clone());
                } else if let Some(ended) = before.find_map(held) {
                    // A silence holds its ending back; it has left the set since.
                    group.members.insert(fingerprint, ended);
                } else if let Some(alert) = told.firing.get(&fingerprint) {
                    // It left the set while nobody held it: that is an ending.
                    let mut ended = Alert::clone(alert);
                    ended.resolved_at.get_or_insert(now);
                    group.members.insert(fingerprint, Arc::new(ended));
                }
            }
            self.groups.entry(id).or_insert(group);
        }
    }
}

/// The timing of a group's route; groups without a route (orphans) are eager.
fn timing_of(routing: &Routing, route_by_id: &BTreeMap<String, usize>, id: &str) -> Timing {
    route_by_id.get(id).map_or(SHORT_TIMING, |at| routing.routes[*at].timing)
}
