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
mod queries;
mod redis;
mod rules;
mod scrape;
#[path = "../it/redis/server.rs"]
#[allow(dead_code, reason = "a bench needs a part of it")]
mod server;
#[path = "../it/differential/write.rs"]
mod write;

fn main() {
    if redis::is_peer() {
        return redis::run();
    }
    if http::is_peer() {
        return http::run();
    }
    // `cargo bench -- redis` runs that one; without a name all are run.
    let names: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|word| word == name);
    divan::main();
    let benches =
        [("alerting", alerting::run as fn()), ("queries", queries::run), ("redis", redis::run), ("http", http::run)];
    for (name, run) in benches {
        if wanted(name) {
            run();
        }
    }
}
