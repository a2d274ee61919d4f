//! Notifications: who is told of which alerts, when, and by which means.
//!
//! - [`Routing`] is compiled from the short form or from Alertmanager's own file: receivers, route tree, inhibition.
//! - [`Notifier`] is a clockless state machine: from the published alert set to [`Notification`]s, each with a [`Reason`].
//! - [`Outbox`] is a clockless state machine too: what is pending, superseded, tried again, given up.
//! - [`Deliveries`] is the thin asynchronous shell around the outbox: one task a receiver. [`Courier`] makes one attempt.
//!
//! Alerts are level-triggered: the notifier sees the whole set each time and misses nothing by missing a call. The outbox
//! is edge-triggered: what it holds is delivered, superseded or listed as given up, and it survives a restart.
//!
//! [`Silences`] hold back what people know already; [`PostedAlerts`] are alerts that others send.
//!
//! Deliberately absent here: the receivers of Alertmanager that `check` names as not served.

#[cfg(test)]
mod tests;

mod alertmanager;
mod breaker;
mod courier;
mod decision;
mod deliver;
mod email;
mod exec;
mod flapping;
mod group;
mod handover;
mod http;
mod inhibit;
mod intervals;
mod lint;
mod matcher;
mod memory;
mod notification;
mod notifier;
mod original;
mod outbox;
mod pagerduty;
mod payload;
mod posted;
mod receiver;
mod render;
mod resend;
mod routing;
mod silence;
mod silence_window;
mod silences;
mod slack;
mod terminal;
mod texts;
mod trial;
mod webhook;
mod withheld;

pub use breaker::{Breaker, BreakerState};
pub use courier::Courier;
pub use decision::{Decision, Reason, Told, Withheld};
pub use deliver::{Clock, Deliveries, DrainReport};
pub use flapping::{DEFAULT_FLAPPING, FlapPolicy, FlapView};
pub use http::{plain_client, post_redirects, redirect_hint};
pub use inhibit::InhibitRule;
pub use lint::lint;
pub use matcher::{MatchOp, Matcher, parse as parse_matchers};
pub use memory::Remembered;
pub use notification::Notification;
pub use notifier::{AlertGroup, GroupView, GroupWhy, InTheWay, Notifier, Suppression};
pub use outbox::{
    Attempt, DeadLetter, Delivery, Fate, GivenUp, LaneCounters, LaneId, LaneStatus, LastError, Letter, Next, Outbox,
    OutboxStatus, Outcome, Place, Queued, Record, Requeued,
};
pub use posted::{POSTED_ALERT_BYTES, PostRefused, PostedAlert, PostedAlerts, PostedTimes, RESOLVE_TIMEOUT_MS};
pub use receiver::{Integration, IntegrationKind, Receiver};
pub use routing::{ALERTMANAGER_TIMING, GroupBy, Route, Routing, SHORT_TIMING, ShortRoute, Timing};
pub use silence::{CONFIGURATION, SILENCES, Silence, SilenceDraft, SilenceError, SilenceState};
pub use silences::Silences;
pub use terminal::{Terminal, line as terminal_line};
pub use trial::{TrialResult, test_message};
pub use webhook::body as webhook_body;
pub use withheld::WithheldNote;
