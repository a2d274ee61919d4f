//! kill -9 of sidewatch at random moments and restarts of the broker, while events are published: the counters are exact.
//!
//! `SIDEWATCH_LONG=1` publishes 200,000 events, kills twenty times and restarts the broker five times.

use super::broker::Broker;
use crate::exactness;
use crate::harness::{Ends, Sidewatch, eventually};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// SplitMix64.
fn random(state: &AtomicU64) -> u64 {
    let mut z = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Events that are published at once.
const PORTION: u64 = 200;

fn amount(at: u64) -> u64 {
    at % 997
}

/// Publishes events until all stand in the stream, each under an id by which the server recognises a second attempt;
/// slowly enough that it lasts as long as the kills do. How many there are when it is told that these are enough.
async fn publish(
    client: async_nats::Client,
    events: u64,
    pause: Duration,
    enough: &AtomicBool,
    ends: &AtomicBool,
) -> u64 {
    let mut next = 0;
    while next < events && !enough.load(Ordering::Relaxed) {
        // So many at once; those without an answer are sent again.
        let mut open: Vec<u64> = (next..events.min(next + PORTION)).collect();
        next += open.len() as u64;
        while !open.is_empty() && !ends.load(Ordering::Relaxed) {
            let answers = open.iter().map(|at| store(&client, *at));
            let stored = futures_util::future::join_all(answers).await;
            open = open.into_iter().zip(stored).filter(|(_, stored)| !stored).map(|(at, _)| at).collect();
        }
        tokio::time::sleep(pause).await;
    }
    next
}

/// Publishes one event and waits until the stream has it.
async fn store(client: &async_nats::Client, at: u64) -> bool {
    let region = ["eu", "us", "ap"][(at % 3) as usize];
    // Every fourth event comes with a message that the consumer does not hear.
    if at % 4 == 3 {
        let _ = client.publish(format!("noise.{region}"), "{}".into()).await;
    }
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", at.to_string());
    let payload = format!(
        "{{\"type\":\"order.placed\",\"id\":\"{at}\",\"data\":{{\"amount\":{},\"region\":\"{region}\"}}}}",
        amount(at)
    );
    let request = async_nats::Request::new().payload(payload.into()).headers(headers);
    match client.send_request("order.placed", request.timeout(Some(Duration::from_secs(1)))).await {
        Ok(answer) => serde_json::from_slice(&answer.payload).is_ok_and(|said: Value| said["seq"].is_u64()),
        Err(_) => false,
    }
}

/// One durable through kills and restarts; `scope` decides how it acknowledges.
fn exact(scope: &str, events: u64, kills: u64, restarts: u64) {
    let mut broker = Broker::start("");
    let dir = tempfile::tempdir().unwrap();
    broker.add_stream("EVENTS", &["order.>", "noise.>"]);
    let configuration = format!(
        "bundled_rules: false\nstate: {{dir: state}}\n\
         sources:\n  bus: {{nats: {{url: '{}', stream: EVENTS, subjects: ['order.>'], durable: side, scope: {scope}, ack_wait: 1s}}}}\n\
         metrics:\n  amount_total: {{counter: {{match: order.placed, value: data.amount, labels: {{region: data.region}}}}}}\n\
         \x20 amounts: {{histogram: {{match: order.placed, value: data.amount}}}}\n",
        broker.url()
    );
    std::fs::write(dir.path().join("sidewatch.yaml"), configuration).unwrap();
    let (client, dice, ends) = (broker.client(), AtomicU64::new(events), AtomicBool::new(false));
    let pause = Duration::from_millis(700 * kills * PORTION / events);
    let began = Instant::now();
    let mut duplicates = 0.0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            // The client's own task lives in the broker's runtime.
            runtime.block_on(publish(client, events, pause, &AtomicBool::new(false), &ends));
        });
        let failed = Ends(&ends);
        let mut restarted = 0;
        for kill in 0..kills {
            let sidewatch = Sidewatch::start(dir.path(), "run", &["--log", "error"]);
            // Any moment is as good as another: no condition is waited for here.
            std::thread::park_timeout(Duration::from_millis(random(&dice) % 700));
            if kill * restarts / kills >= restarted && restarted < restarts {
                restarted += 1;
                broker.stop(random(&dice).is_multiple_of(2));
                std::thread::park_timeout(Duration::from_millis(random(&dice) % 300));
                broker.run();
                std::thread::park_timeout(Duration::from_millis(random(&dice) % 700));
            }
            let seen = sidewatch.value("sum(events_total)").unwrap_or(0.0);
            assert!(seen as u64 <= events, "counted twice: {seen}");
            duplicates += sidewatch.value("sum(sidewatch_source_duplicates_total)").unwrap_or(0.0);
            sidewatch.kill();
        }
        std::mem::forget(failed);
    });
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    sidewatch.reaches("sum(events_total)", events as f64);
    eventually("every acknowledgement", 60, || {
        let info = broker.consumer("EVENTS", "side");
        (info["num_ack_pending"] == 0 && info["num_pending"] == 0).then_some(())
    });
    duplicates += sidewatch.value("sum(sidewatch_source_duplicates_total)").unwrap_or(0.0);
    println!(
        "{scope}: {events} events, {kills} kills, {restarts} restarts in {:.1} s; {duplicates} redeliveries recognised",
        began.elapsed().as_secs_f64()
    );
    let sum: u64 = (0..events).map(amount).sum();
    let eu: u64 = (0..events).step_by(3).map(amount).sum();
    exactness::hold(
        &sidewatch,
        &[
            ("sum(events_total)", events as f64),
            ("sum(amount_total)", sum as f64),
            ("amount_total{region=\"eu\"}", eu as f64),
            ("sum(amounts_count)", events as f64),
            ("sum(amounts_sum)", sum as f64),
        ],
    );
}

fn sizes() -> (u64, u64, u64) {
    if std::env::var_os("SIDEWATCH_LONG").is_some() { (200_000, 20, 5) } else { (20_000, 5, 2) }
}

#[test]
fn counters_are_exact_through_kills_and_restarts_with_one_ack_for_all() {
    let (events, kills, restarts) = sizes();
    exact("per_instance", events, kills, restarts);
}

#[test]
fn counters_are_exact_through_kills_and_restarts_with_an_ack_each() {
    let (events, kills, restarts) = sizes();
    exact("shared", events, kills, restarts);
}

#[test]
fn a_consumer_whose_source_is_changed_by_reloads_counts_exactly() {
    let broker = Broker::start("");
    let dir = tempfile::tempdir().unwrap();
    broker.add_stream("EVENTS", &["order.>", "noise.>"]);
    let configuration = |turn: u32| {
        let text = format!(
            "bundled_rules: false\nstate: {{dir: state}}\n\
             sources:\n  bus: {{type: kind{turn}, nats: {{url: '{}', stream: EVENTS, subjects: ['order.>'], durable: side, scope: per_instance, ack_wait: 1s}}}}\n\
             metrics:\n  amount_total: {{counter: {{match: order.placed, value: data.amount}}}}\n",
            broker.url()
        );
        std::fs::write(dir.path().join("sidewatch.yaml"), text).unwrap();
    };
    configuration(0);
    let sidewatch = Sidewatch::start(dir.path(), "run", &["--log", "error"]);
    let (client, enough, ends) = (broker.client(), AtomicBool::new(false), AtomicBool::new(false));
    let events = std::thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(publish(client, u64::MAX, Duration::from_millis(20), &enough, &ends))
        });
        let failed = Ends(&ends);
        sidewatch.reloads_while_it_counts(configuration);
        enough.store(true, Ordering::Relaxed);
        std::mem::forget(failed);
        publishing.join().unwrap()
    });
    let sum: u64 = (0..events).map(amount).sum();
    exactness::hold(&sidewatch, &[("sum(events_total)", events as f64), ("sum(amount_total)", sum as f64)]);
}
