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
mod rules;
mod scrape;
mod statsd;
#[path = "../it/differential/write.rs"]
mod write;

fn main() {
    if !http::is_peer() {
        divan::main();
        // `cargo bench -- statsd` runs that one of these.
        let named = |name: &str| {
            let mut wanted = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
            wanted.peek().is_none() || wanted.any(|argument| argument == name)
        };
        let timed: [(&str, fn()); 3] =
            [("alerting", alerting::run), ("queries", queries::run), ("statsd", statsd::run)];
        timed.iter().filter(|(name, _)| named(name)).for_each(|(_, run)| run());
        if !named("http") {
            return;
        }
    }
    http::run();
}
