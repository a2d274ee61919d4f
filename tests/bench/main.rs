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
mod rules;
mod scrape;
#[path = "../it/differential/write.rs"]
mod write;

fn main() {
    if nats::is_peer() {
        return nats::peer();
    }
    #[cfg(feature = "kafka")]
    {
        if kafka::is_peer() {
            return kafka::peer();
        }
        if std::env::args().any(|argument| argument == "kafka") {
            return kafka::run();
        }
    }
    // `cargo bench -- nats` for these alone.
    if std::env::args().any(|argument| argument == "nats") {
        return nats::run();
    }
    if !http::is_peer() {
        divan::main();
        alerting::run();
        queries::run();
    }
    http::run();
    if !http::is_peer() {
        nats::run();
        #[cfg(feature = "kafka")]
        kafka::run();
    }
}
