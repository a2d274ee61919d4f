//! The benches: each figure beside its peer in the same run. `cargo bench`, or `tests/run --bench`.
//!
//! `decode`, `rules`, `exposition` and `scrape` are micro-benches (divan); `http` starts a server of ours and a bare one in turn and
//! counts the server's CPU time, because that is what a sidecar takes from the service beside it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test says what is wrong by failing"
)]

mod alerting;
mod decode;
mod exposition;
#[path = "../it/harness.rs"]
#[allow(dead_code, reason = "a bench needs a part of it")]
mod harness;
mod http;
#[cfg(feature = "kafka")]
mod kafka;
mod nats;
mod queries;
mod recovery;
mod redis;
mod rules;
mod scrape;
#[path = "../it/redis/server.rs"]
#[allow(dead_code, reason = "a bench needs a part of it")]
mod server;
mod statsd;
mod websocket;
#[path = "../it/differential/write.rs"]
mod write;

/// Benches that start processes, by the name that `cargo bench -- NAME` asks for.
const PROCESSES: &[(&str, fn())] = &[
    ("alerting", alerting::run), //
    ("queries", queries::run),
    ("nats", nats::run),
    ("redis", redis::run),
    #[cfg(feature = "kafka")]
    ("kafka", kafka::run),
    ("statsd", statsd::run),
    ("websocket", websocket::run),
    ("recovery", recovery::run),
    ("http", http::run),
];

fn main() {
    // Bare consumers and servers are this program again, told by the environment what to be.
    if nats::is_peer() {
        return nats::peer();
    }
    #[cfg(feature = "kafka")]
    if kafka::is_peer() {
        return kafka::peer();
    }
    if redis::is_peer() {
        return redis::run();
    }
    if websocket::is_peer() {
        return websocket::run();
    }
    if http::is_peer() {
        return http::run();
    }
    let names: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if !names.iter().any(|name| PROCESSES.iter().any(|(known, _)| known == name)) {
        divan::main();
    }
    for (name, run) in PROCESSES {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            run();
        }
    }
}
