//! What every at-least-once source must stand: events with known sums while sidewatch is killed again and again and the
//! broker is restarted meanwhile. The counters are exact in the end.
//!
//! `SIDEWATCH_LONG=1`: 200,000 events, 20 kills, 5 restarts.

use crate::harness::{Ends, Sidewatch, free_port, throughout};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How hard it is made.
#[derive(Clone, Copy)]
pub struct Trial {
    pub events: u64,
    pub kills: u64,
    pub restarts: u64,
    /// How often sidewatch may be started anew when counting stands still after everything was published. Only where the
    /// broker is known to hold back what it has: else this would heal what hangs on our side.
    pub reconnects: u64,
}

impl Trial {
    /// The short form, or the long one when it is asked for.
    pub fn new(short: Self) -> Self {
        let long = Self { events: 200_000, kills: 20, restarts: 5, ..short };
        if std::env::var_os("SIDEWATCH_LONG").is_some() { long } else { short }
    }
}

/// What is counted; to stand in every configuration of such a test. `source` is its `sources:` entry.
pub fn config(source: &str) -> String {
    format!(
        "state: {{dir: state}}\nbundled_rules: false\nsources:\n  orders: {source}\n\
         metrics:\n  amount_total: {{counter: {{match: order.completed, value: data.amount, labels: {{region: data.region}}}}}}\n\
         \x20 amounts: {{histogram: {{match: order.completed, value: data.amount}}}}\n"
    )
}

/// One event; each has an id of its own unless `id` says no.
pub fn event(at: u64, id: bool) -> String {
    let (region, kind) = (["eu", "us", "ap"][(at % 3) as usize], if at % 10 == 9 { "failed" } else { "completed" });
    let id = if id { format!("\"id\":\"e{at}\",") } else { String::new() };
    format!(r#"{{{id}"type":"order.{kind}","data":{{"number":{at},"amount":{},"region":"{region}"}}}}"#, at % 997)
}

/// How far the publisher may go, and went.
#[derive(Default)]
pub struct Progress {
    allowed: AtomicU64,
    pub published: AtomicU64,
    pub ended: AtomicBool,
}

impl Progress {
    /// Waits until more may be published: how many in all.
    pub fn allowed(&self, done: u64) -> u64 {
        loop {
            let allowed = self.allowed.load(Ordering::Relaxed);
            if allowed > done || self.ended.load(Ordering::Relaxed) {
                return allowed;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

/// Runs it: `publish` publishes events 0.. as far as it is allowed and returns at the end; `restart` restarts the broker.
/// The last sidewatch is given back, with exact counters.
pub fn run(
    dir: &Path,
    trial: Trial,
    publish: impl FnOnce(&Progress) + Send,
    mut restart: impl FnMut(u64),
) -> Sidewatch {
    let (observe, ingest) = (free_port(), free_port());
    let start = || Sidewatch::start_on(dir, "run", &["--log", "warn"], observe, ingest, Stdio::null());
    let progress = Progress::default();
    let (began, mut restarted, mut dice) = (Instant::now(), 0, 0x9e37_79b9_u64);
    let counted = std::thread::scope(|scope| {
        let publishing = scope.spawn(|| publish(&progress));
        let _ends = Ends(&progress.ended);
        for kill in 0..trial.kills {
            progress.allowed.store(trial.events * (kill + 1) / (trial.kills + 1), Ordering::Relaxed);
            let sidewatch = start();
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Any moment is as good as another: no condition is waited for here.
            std::thread::park_timeout(Duration::from_millis(50 + (dice >> 40) % 500));
            if restarted < trial.restarts && kill >= (restarted + 1) * trial.kills / (trial.restarts + 1) {
                restarted += 1;
                restart(restarted);
                std::thread::park_timeout(Duration::from_millis((dice >> 30) % 300));
            }
            sidewatch.kill();
        }
        progress.allowed.store(trial.events, Ordering::Relaxed);
        let mut sidewatch = start();
        while restarted < trial.restarts {
            restarted += 1;
            restart(restarted);
        }
        let count =
            |sidewatch: &Sidewatch| sidewatch.value("sum(events_total{source=\"orders\"})").unwrap_or(0.0) as u64;
        let (mut last, mut held_back) = ((count(&sidewatch), Instant::now()), 0);
        while count(&sidewatch) < trial.events {
            let now = count(&sidewatch);
            if now > last.0 {
                last = (now, Instant::now());
            }
            // What is lost, or was acknowledged without being counted, does not come by a new connection either.
            let connected = now > 0 && last.1.elapsed().as_secs() >= 8;
            if connected && progress.published.load(Ordering::Relaxed) >= trial.events && held_back < trial.reconnects {
                println!("at {now} of {} events: connecting anew", trial.events);
                held_back += 1;
                last.1 = Instant::now();
                sidewatch.kill();
                sidewatch = start();
            }
            if last.1.elapsed().as_secs() >= 60 {
                panic!("stuck at {now} of {} events, {:?} published", trial.events, progress.published);
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        progress.ended.store(true, Ordering::Relaxed);
        publishing.join().unwrap();
        sidewatch
    });
    let published = progress.published.load(Ordering::Relaxed);
    println!(
        "{published} messages for {} events, {} kills, {restarted} restarts, {:.1} s",
        trial.events,
        trial.kills,
        began.elapsed().as_secs_f64()
    );
    check(&counted, trial.events);
    counted
}

/// Holds every counter against what exactly-once processing gives, and again a little later: nothing comes behind.
pub fn check(sidewatch: &Sidewatch, events: u64) {
    let failed = (0..events).filter(|at| at % 10 == 9).count() as u64;
    let amount = |region: Option<u64>| -> f64 {
        let of = (0..events).filter(|at| at % 10 != 9 && region.is_none_or(|region| at % 3 == region));
        of.map(|at| at % 997).sum::<u64>() as f64
    };
    hold(
        sidewatch,
        &[
            ("sum(events_total{source=\"orders\"})", events as f64),
            ("sum(events_failed_total{source=\"orders\"})", failed as f64),
            ("sum(amount_total)", amount(None)),
            ("amount_total{region=\"eu\"}", amount(Some(0))),
            ("amount_total{region=\"ap\"}", amount(Some(2))),
            ("sum(amounts_count)", (events - failed) as f64),
            ("sum(amounts_sum)", amount(None)),
            ("sum(sidewatch_events_refused_total) or vector(0)", 0.0),
        ],
    );
}

/// Waits until each query gives its value, and looks again a little later: nothing comes behind.
pub fn hold(sidewatch: &Sidewatch, expected: &[(&str, f64)]) {
    for (query, value) in expected {
        sidewatch.reaches(query, *value);
    }
    throughout("exact counts", Duration::from_millis(1_200), || {
        for (query, value) in expected {
            assert_eq!(sidewatch.value(query), Some(*value), "{query}");
        }
    });
}
