//! Rules: Prometheus rule files, the short form, event conditions, and the life of their alerts.
//!
//! [`RuleSet::compile`] checks everything; [`Rules`] is the state machine that the engine drives. Nothing here reads a
//! clock or does I/O: `now` comes in, an [`EvalJob`] is a pure function of a storage that may run anywhere, and what
//! changed goes out through [`Effects`].
//!
//! - [`alert_state`]: one alert's life as a pure function (Prometheus's `AlertingRule.Eval`).
//! - [`file`], [`short`]: the two ways to write rules; both compile to the same types ([`rule`]).
//! - [`events`]: count, absent, sequence, rate_change, first_seen, gap on events. [`slo`]: objectives and their budgets.
//! - [`schedule`]: slots, reactive evaluation, budget. [`eval`]: one group at one moment.
//! - [`lint`]: rules that are valid and still cannot do what they were written for.
//! - [`describe`], [`why`]: what the API says. [`snapshot`]: what the checkpoint keeps. [`unit_test`]: promtool's test files.
//!
//! Deliberately absent: Prometheus's restore of `for` from `ALERTS_FOR_STATE` (the checkpoint restores exactly), and
//! sending alerts (the notifier reads [`Rules::published`]).

pub mod alert_state;
pub mod bundled;
pub mod clauses;
pub mod compile;
pub mod describe;
pub mod eval;
pub mod events;
mod evidence;
pub mod expression;
pub mod file;
pub mod lint;
pub mod rule;
pub mod schedule;
pub mod short;
pub mod slo;
pub mod snapshot;
pub mod unit_test;
pub mod why;

pub use alert_state::{AlertPhase, Reason, RecordedSample, Transition};
pub use compile::{RuleFile, RuleInput};
pub use eval::{EvalJob, EvalKind, EvalResult, Ticket};
pub use rule::{Group, Rule, RuleSet, Settings, ShortRoute};
pub use schedule::{Counters, Effects, RuleTransition, Rules, SourceHealth};
pub use why::{AlertWhy, RuleWhy};
