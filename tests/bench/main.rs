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
mod redis;
mod rules;
mod scrape;
#[path = "../it/redis/server.rs"]
#[allow(dead_code, reason = "a bench needs a part of it")]
mod server;

fn main() {
    if redis::is_peer() {
        return redis::run();
    }
    // `cargo bench -- redis` runs that one; without a name all are run.
    let names: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|word| word == name);
    if http::is_peer() {
        return http::run();
    }
    divan::main();
    for (name, run) in [("alerting", alerting::run as fn()), ("redis", redis::run), ("http", http::run)] {
        if wanted(name) {
            run();
        }
    }
}
