//! Recovery: how long after kill -9 sidewatch answers again with everything it had counted.
//!
//! 10,000 series (counters, gauges, histograms) with rings and 10,000 orders that an event rule waits for: started, fed, killed,
//! and started again on the same folder. The time is from the start of the process to the first right answer of the query API.

use crate::harness::{self, Sidewatch, eventually};
use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

const SERIES: usize = 10_000;
const ROUNDS: usize = 5;

pub fn run() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = harness::free_port();
    let configuration = format!(
        "sources: {{lines: {{statsd: {{tcp: '127.0.0.1:{port}'}}}}, push: {{http: {{}}}}}}\n\
         state: {{dir: state}}\nlimits: {{series: 20000, histogram_series: 5000}}\n\
         alerts:\n  Stuck: {{event: {{sequence: [order.placed, order.done], by: data.order, within: 10h, missing: last}}}}\n"
    );
    std::fs::write(dir.path().join("sidewatch.yaml"), configuration).unwrap();
    let mut sidewatch = Sidewatch::start(dir.path(), "run", &["--log", "error"]);
    let mut lines = String::new();
    for at in 0..SERIES {
        let (name, kind) = [("requests", "c"), ("latency", "ms"), ("stock", "g"), ("size", "h")][at % 4];
        lines.push_str(&format!("shop.{name}:{}|{kind}|#customer:c{at},region:r{}\n", at % 97 + 1, at % 7));
    }
    let mut stream = eventually("the lines are taken", 20, || TcpStream::connect(("127.0.0.1", port)).ok());
    for _ in 0..10 {
        stream.write_all(lines.as_bytes()).unwrap();
    }
    let orders: Vec<String> =
        (0..SERIES).map(|at| format!("{{\"type\":\"order.placed\",\"data\":{{\"order\":\"o{at}\"}}}}")).collect();
    for orders in orders.chunks(1_000) {
        assert_eq!(sidewatch.post("/events", "application/x-ndjson", orders.join("\n").as_bytes()).0, 202);
    }
    let questions = ["sum(shop_requests)", "sum(shop_latency_count)", "sum(events_total{type=\"order.placed\"})"];
    let answers = |sidewatch: &Sidewatch| questions.map(|question| sidewatch.value(question).unwrap_or(0.0));
    let requests: usize = (0..SERIES).step_by(4).map(|at| at % 97 + 1).sum();
    let expected = [requests * 10, SERIES / 4 * 10, SERIES].map(|count| count as f64);
    eventually("everything is counted", 30, || (answers(&sidewatch) == expected).then_some(()));
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        // Two whole seconds of checkpoints behind the last change.
        let (began, written) = (Instant::now(), "sidewatch_checkpoint_seconds_count");
        let before = sidewatch.value(&format!("sum({written})")).unwrap_or(0.0);
        eventually("checkpoints hold it", 30, || {
            let now = sidewatch.value(&format!("sum({written})")).unwrap_or(0.0);
            (now >= before + 2.0 || began.elapsed().as_secs() >= 10).then_some(())
        });
        sidewatch.kill();
        let began = Instant::now();
        sidewatch = Sidewatch::start(dir.path(), "run", &["--log", "error"]);
        let ready = began.elapsed();
        eventually("all of it is back", 20, || (answers(&sidewatch) == expected).then_some(()));
        rounds.push((began.elapsed(), ready));
    }
    rounds.sort();
    let (whole, ready) = rounds[ROUNDS / 2];
    let bytes: u64 =
        std::fs::read_dir(dir.path().join("state")).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    println!("\nrecovery: {SERIES} series, {SERIES} keys of a rule, after kill -9 (median of {ROUNDS})");
    println!(
        "ready after {:.0} ms, every answer right after {:.0} ms (longest {:.0}); {:.1} MB of state",
        ready.as_secs_f64() * 1e3,
        whole.as_secs_f64() * 1e3,
        rounds[ROUNDS - 1].0.as_secs_f64() * 1e3,
        bytes as f64 / 1e6
    );
}
