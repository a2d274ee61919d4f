//! sidewatch: an observability sidecar for event-driven services.
//!
//! One small binary runs beside a service, subscribes to its event stream, turns events into counters, gauges, histograms
//! and health checks, evaluates alert rules on them, notifies people, and serves what it knows as JSON, as Prometheus
//! metrics and as a page.
//!
//! # The one idea
//!
//! **The core is a synchronous, deterministic state machine; async is a thin shell around it.** [`engine::Core`] has no
//! clock, no I/O, no task and no random state: `now` is an argument, hash seeds are constants. The live service ([`app`]),
//! rule tests and the simulation (tests/it/simulation.rs) are drivers of the same core.
//!
//! ```text
//! sources --batches--> decode --> bounded queue --> core task: Engine::observe / tick / apply
//!                      (parallel)                    |  series, patterns, checks, rules        <--> evaluation worker (read view)
//!                                                    +--> published alert set --> notifier --> outbox --> receivers (one worker each)
//!                                                    +--> read view --> API, /metrics, /health, page
//! ```
//!
//! # The map
//!
//! A lower room never uses a higher one; `tests/it/ranks.rs` holds the ranks. From the top:
//!
//! | room | what stands there |
//! |---|---|
//! | [`cli`] | one file a command; exit codes 0, 1 (runtime), 2 (configuration or usage) |
//! | [`app`] | where all rooms meet: build, run, reload, drain |
//! | [`export`] | what leaves besides messages: remote write, lines for events |
//! | [`api`] | HTTP: push, probes, metrics, the Prometheus API, dashboard, events, the page |
//! | [`export`] | what goes out besides notifications: publishers, remote write, OTLP, logs; one file a sink |
//! | [`engine`] | the core and its checkpoint |
//! | [`rules`], [`health`] | rule files, the short form, alert states, event conditions, rule tests; checks and their report |
//! | [`promql`] | lexer, parser, evaluator, printer, the runner of Prometheus's test scripts |
//! | [`mapping`] | event -> metric updates, compiled once |
//! | [`series`] | registry, histograms, rings, index, exposition, the text-format reader |
//! | [`source`] | one file a transport; `decode` has one file a format |
//! | [`notify`] | routes, grouping, inhibition, outbox, one file a receiver |
//! | [`state`] | SQLite: checkpoints, outbox, journal |
//! | [`template`] | Go templates, parsed at load |
//! | [`supervise`] | named tasks, cancellation, drain |
//! | [`config`] | schema, layers, diagnostics; `config::yaml` alone knows the YAML crate |
//! | [`telemetry`] | clocks, logs, self-metrics |
//! | [`tls`] | TLS of outgoing connections |
//! | [`model`], [`secret`] | labels, time, events, field plans, alerts; texts that are never shown |
//!
//! # What always holds
//!
//! - One task owns all mutable state of the core: no lock on the hot path. Evaluation runs on a read view elsewhere.
//! - A checkpoint holds what was counted together with the transport position it was counted up to. After a kill -9 the
//!   counters of at-least-once sources are exact. A message goes out only after the checkpoint that holds its decision.
//! - Alerts are level-triggered: the whole set is published each time. Absence from it means resolved only after the rule
//!   has evaluated. The outbox is edge-triggered: one pending message for each receiver and group.
//! - Deaf is not silent: while a source is lost or catching up, nothing concludes from silence.
//! - Every queue, map, label set, query and loop has a limit named with its unit; what passes it is counted by reason.
//! - A reload builds everything, then swaps; a bad one changes nothing.
//!
//! # Deliberate absences
//!
//! No trait objects for sources, formats and receivers: they are closed enums. No unsafe code. No second TLS stack. No
//! clock outside `telemetry::clock`. No spawned task without a name. No query engine beside PromQL: the short form of
//! alerts compiles to it.

pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod engine;
pub mod export;
pub mod health;
pub mod mapping;
pub mod model;
pub mod notify;
pub mod promql;
pub mod rules;
pub mod secret;
pub mod series;
pub mod source;
pub mod state;
pub mod supervise;
pub mod telemetry;
pub mod template;
pub mod tls;
