//! Kafka: events per second and per CPU second of the sidecar's source, beside a bare consumer of the same client library that
//! only counts. Librdkafka's mock cluster runs in this process and holds everything before a consumer starts; each consumer
//! is a process of its own, so that its CPU time is its own. The clock of both starts when the first events are counted: joining
//! a group takes the cluster three seconds. The two take turns, so that a machine that grows slower is as slow for both.

use crate::harness::{Sidewatch, eventually};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Makes this executable the bare consumer: `BROKERS COUNT`.
const PEER: &str = "SIDEWATCH_BENCH_KAFKA_PEER";
/// As many as the cluster holds: 5 MB a partition.
const EVENTS: usize = 400_000;
const PARTITIONS: i32 = 32;
const ROUNDS: usize = 5;

pub fn is_peer() -> bool {
    std::env::var_os(PEER).is_some()
}

/// The event of the figures: 340 bytes.
fn payload(at: usize) -> String {
    let mut text = format!(
        "{{\"id\":\"evt-{at:012}\",\"type\":\"order.completed\",\"source\":\"checkout\",\"timestamp\":\"2026-01-01T00:00:00Z\",\
         \"payload\":{{\"amount\":{},\"region\":\"{}\",\"status\":\"ok\",\"duration_ms\":{}}},\"fill\":\"",
        at % 997,
        ["eu", "us", "ap"][at % 3],
        at % 250
    );
    text.extend(std::iter::repeat_n('x', 338 - text.len()));
    text + "\"}"
}

struct Round {
    /// Events after the clock has started.
    events: f64,
    seconds: f64,
    cpu: f64,
}

impl Round {
    fn rate(&self) -> f64 {
        self.events / self.seconds
    }
}

pub fn run() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("orders", PARTITIONS, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    fill(&brokers);
    println!("\nkafka: {EVENTS} events of 340 bytes (median of {ROUNDS}; the mock cluster runs on the same machine)");
    println!("{:<44}{:>12}{:>16}", "", "events/s", "per CPU second");
    let mut rounds = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        rounds[0].push(bare(&brokers));
        rounds[1].push(sidecar(&brokers));
    }
    let mut rates = Vec::new();
    for (who, rounds) in ["bare rdkafka consumer", "sidewatch"].into_iter().zip(&mut rounds) {
        rounds.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
        let round = &rounds[ROUNDS / 2];
        println!("{who:<44}{:>12.0}{:>16.0}", round.rate(), round.events / round.cpu);
        rates.push(round.rate());
    }
    println!("{:<44}{:>11.0}%", "  ratio", 100.0 * rates[1] / rates[0]);
}

fn fill(brokers: &str) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "20")
        .set("queue.buffering.max.kbytes", "65536")
        .create()
        .unwrap();
    for at in 0..EVENTS {
        let payload = payload(at);
        let mut record = BaseRecord::<(), _>::to("orders").payload(&payload).partition(at as i32 % PARTITIONS);
        while let Err((_, back)) = producer.send(record) {
            producer.poll(Duration::from_millis(5));
            record = back;
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(60)).unwrap();
}

/// CPU seconds of a process (proc_pid_stat(5), fields 14 and 15, in hundredths).
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn sidecar(brokers: &str) -> Round {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("sidewatch.yaml"),
        format!(
            "sources: {{bus: {{kafka: {{brokers: {brokers:?}, topics: orders, group: ours-{}, scope: shared}}}}}}\n\
             bundled_rules: false\nstate: {{dir: state}}\n",
            dir.path().file_name().unwrap().to_string_lossy()
        ),
    )
    .unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let counted = || sidewatch.value("sum(events_total)").unwrap_or(0.0);
    let first = eventually("the first events", 30, || Some(counted()).filter(|counted| *counted > 0.0));
    let (began, before) = (Instant::now(), cpu_seconds(sidewatch.pid()));
    eventually("all events", 120, || (counted() == EVENTS as f64).then_some(()));
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds(sidewatch.pid()) - before);
    Round { events: EVENTS as f64 - first, seconds, cpu }
}

fn bare(brokers: &str) -> Round {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(PEER, format!("{brokers} {EVENTS}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "reading");
    let (began, before) = (Instant::now(), cpu_seconds(child.id()));
    assert_eq!(lines.next().unwrap().unwrap(), "read");
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds(child.id()) - before);
    let round = Round { events: EVENTS as f64, seconds, cpu };
    child.kill().unwrap();
    child.wait().unwrap();
    round
}

/// The bare consumer.
pub fn peer() {
    let told = std::env::var(PEER).unwrap();
    let (brokers, count) = told.split_once(' ').unwrap();
    let count: usize = count.parse().unwrap();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("bare-{}", std::process::id()))
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    consumer.subscribe(&["orders"]).unwrap();
    let mut read = 0;
    while read < count {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(_)) => {
                if read == 0 {
                    println!("reading");
                }
                read += 1;
            }
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }
    println!("read");
    // Ended from outside, when its CPU time has been read.
    std::thread::park();
}
