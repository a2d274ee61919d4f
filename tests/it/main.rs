//! The one integration binary: end-to-end tests drive the real executable; structure and simulation tests use the library.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test says what is wrong by failing"
)]

mod alerts;
mod amqp;
mod amtool;
mod browser;
mod config_tests;
mod crash;
mod dashboards;
mod dead_letters;
mod dedup;
mod differential;
mod docker;
mod embed;
mod event_rules;
mod events;
mod exactness;
mod examples;
mod export;
mod fuzz;
mod golden_path;
mod harness;
mod history;
mod hosts;
mod http;
#[cfg(feature = "kafka")]
mod kafka;
mod kills;
mod lints;
mod mosquitto;
mod mqtt;
mod nats;
mod otlp;
mod promise;
mod publish;
mod rabbit;
mod ranks;
mod receivers;
mod redis;
mod reload;
mod remote_write;
mod rule_files;
mod rule_tests;
mod scrape;
mod silences;
mod simulation;
mod slow_disk;
mod sources;
mod sse;
mod statsd;
mod websocket;
