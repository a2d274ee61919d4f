//! NATS: events per second and per CPU second of the sidecar's source, beside a bare consumer of the same client library that
//! only counts (and acknowledges). One server for all; each consumer is a process of its own, so that its CPU time is its own.
//!
//! Core NATS is published as fast as one client can; what a consumer drops is shown. A stream is filled first, then consumed:
//! there the clock of both starts when the first message is counted. The two take turns, so that a machine that grows slower is
//! as slow for both.

use crate::harness::{Sidewatch, eventually, free_port};
use async_nats::jetstream::{self, AckKind, consumer};
use futures_util::StreamExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Makes this executable the bare consumer: `URL MODE COUNT`.
const PEER: &str = "SIDEWATCH_BENCH_NATS_PEER";
const CORE_EVENTS: usize = 1_000_000;
const STREAM_EVENTS: usize = 500_000;
const ROUNDS: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Core,
    /// An acknowledgement for each message.
    Each,
    /// One acknowledgement for many.
    All,
}

impl Mode {
    const ALL: [(&'static str, Self); 3] = [("core", Self::Core), ("each", Self::Each), ("all", Self::All)];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, mode)| *mode == self).unwrap().0
    }

    fn events(self) -> usize {
        if self == Self::Core { CORE_EVENTS } else { STREAM_EVENTS }
    }
}

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

pub fn run() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let broker = Broker::start();
    println!("\nnats: events of 340 bytes (median of {ROUNDS}; the server and the publisher run on the same machine)");
    println!("{:<44}{:>12}{:>16}{:>10}", "", "events/s", "per CPU second", "dropped");
    for (_, mode) in Mode::ALL {
        let mut rounds = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            rounds[0].push(broker.round(mode, false));
            rounds[1].push(broker.round(mode, true));
        }
        let mut rates = Vec::new();
        for (who, rounds) in ["bare async-nats", "sidewatch"].into_iter().zip(&mut rounds) {
            rounds.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
            let round = &rounds[ROUNDS / 2];
            let what = ["core NATS", "JetStream, an ack each", "JetStream, one ack for many"][mode as usize];
            println!(
                "{:<44}{:>12.0}{:>16.0}{:>9.1}%",
                format!("{who}: {what}"),
                round.rate(),
                round.counted as f64 / round.cpu,
                100.0 * (1.0 - round.counted as f64 / mode.events() as f64)
            );
            rates.push(round.rate());
        }
        println!("{:<44}{:>11.0}%", "  ratio", 100.0 * rates[1] / rates[0]);
    }
}

struct Round {
    counted: usize,
    /// Counted before the clock started.
    before: usize,
    seconds: f64,
    cpu: f64,
}

impl Round {
    fn rate(&self) -> f64 {
        (self.counted - self.before) as f64 / self.seconds
    }
}

struct Broker {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    client: async_nats::Client,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Broker {
    fn start() -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let store = dir.path().join("js").display().to_string();
        std::fs::write(
            dir.path().join("nats.conf"),
            format!("listen: 127.0.0.1:{port}\nwrite_deadline: 30s\njetstream: {{store_dir: {store:?}, max_file_store: 8G}}\n"),
        )
        .unwrap();
        let child = Command::new("nats-server")
            .args(["-c", "nats.conf"])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("nats-server answers", 20, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(async_nats::connect(format!("127.0.0.1:{port}"))).unwrap();
        let broker = Self { child, port, _dir: dir, runtime, client };
        broker.fill();
        broker
    }

    fn fill(&self) {
        self.runtime.block_on(async {
            let context = jetstream::new(self.client.clone());
            let config =
                jetstream::stream::Config { name: "BENCH".into(), subjects: vec!["js.>".into()], ..Default::default() };
            let stream = context.create_stream(config).await.unwrap();
            for at in 0..STREAM_EVENTS {
                self.client.publish("js.order", payload(at).into()).await.unwrap();
                if at % 10_000 == 0 {
                    // A stream has no way to say "slower" to whoever does not wait for its answers.
                    context.publish("js.order.mark", "".into()).await.unwrap().await.unwrap();
                }
            }
            self.client.flush().await.unwrap();
            context.publish("js.order.mark", "".into()).await.unwrap().await.unwrap();
            let stored = stream.get_info().await.unwrap().state.messages;
            assert!(stored as usize > STREAM_EVENTS, "{stored}");
        });
    }

    fn round(&self, mode: Mode, ours: bool) -> Round {
        if mode != Mode::Core {
            self.runtime.block_on(async {
                let stream = jetstream::new(self.client.clone()).get_stream("BENCH").await.unwrap();
                let _ = stream.delete_consumer("bench").await;
            });
        }
        if ours { self.sidecar(mode) } else { self.bare(mode) }
    }

    /// Publishes what core NATS is measured with, as fast as it goes.
    fn publish(&self) {
        self.runtime.block_on(async {
            for at in 0..CORE_EVENTS {
                self.client.publish("core.order", payload(at).into()).await.unwrap();
            }
            self.client.flush().await.unwrap();
        });
    }

    fn sidecar(&self, mode: Mode) -> Round {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("nats://127.0.0.1:{}", self.port);
        let source = match mode {
            Mode::Core => format!("{{url: '{url}', subjects: 'core.>', scope: per_instance}}"),
            Mode::Each => format!("{{url: '{url}', stream: BENCH, subjects: js.order, durable: bench, scope: shared}}"),
            Mode::All => {
                format!("{{url: '{url}', stream: BENCH, subjects: js.order, durable: bench, scope: per_instance}}")
            }
        };
        std::fs::write(
            dir.path().join("sidewatch.yaml"),
            format!("sources: {{bus: {{nats: {source}}}}}\nbundled_rules: false\nstate: {{dir: state}}\n"),
        )
        .unwrap();
        let sidewatch = Sidewatch::start(dir.path(), "run", &["--log", "error"]);
        let counted_now = || sidewatch.value("sum(events_total)").unwrap_or(0.0) as usize;
        let (began, before) = if mode == Mode::Core {
            eventually("the source listens", 20, || {
                (sidewatch.json("/health")["sidewatch"]["sources"]["bus"]["state"] == "connected").then_some(())
            });
            let began = Instant::now();
            self.publish();
            (began, 0)
        } else {
            let first = eventually("the first is counted", 20, || Some(counted_now()).filter(|counted| *counted > 0));
            (Instant::now(), first)
        };
        let (mut counted, mut last) = (before, Instant::now());
        while counted < mode.events() && last.elapsed() < Duration::from_secs(3) {
            std::thread::park_timeout(Duration::from_millis(20));
            let now = counted_now();
            if now > counted {
                (counted, last) = (now, Instant::now());
            }
        }
        let cpu = cpu_seconds(sidewatch.pid());
        Round { counted, before, seconds: (last - began).as_secs_f64(), cpu }
    }

    fn bare(&self, mode: Mode) -> Round {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(PEER, format!("127.0.0.1:{} {}", self.port, mode.name()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        let began = Instant::now();
        let mut next = || lines.next().unwrap().unwrap();
        // In the modes of JetStream said with the first message.
        assert_eq!(next(), "listening");
        let began = if mode == Mode::Core {
            let began = Instant::now();
            self.publish();
            began
        } else {
            began
        };
        let line = next();
        let mut fields = line.split(' ').map(|field| field.parse::<f64>().unwrap());
        let (counted, idle, cpu) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        let seconds = began.elapsed().as_secs_f64() - idle;
        child.wait().unwrap();
        Round { counted: counted as usize, before: 0, seconds, cpu }
    }
}

/// CPU seconds of a process (proc_pid_stat(5), fields 14 and 15, in hundredths).
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// The bare consumer: counts, acknowledges, and says how many, how long it was idle at the end, and its CPU seconds.
pub fn peer() {
    let arguments = std::env::var(PEER).unwrap();
    let (address, mode) = arguments.split_once(' ').unwrap();
    let mode = Mode::ALL.iter().find(|(name, _)| *name == mode).unwrap().1;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (counted, idle) = runtime.block_on(async {
        let client = async_nats::connect(address).await.unwrap();
        match mode {
            Mode::Core => {
                let mut messages = client.subscribe("core.>").await.unwrap();
                client.flush().await.unwrap();
                println!("listening");
                let (mut counted, mut last) = (0, Instant::now());
                while counted < CORE_EVENTS {
                    // A timer for each message would be the peer's own handicap: many at once.
                    let next = tokio::time::timeout(Duration::from_secs(3), messages.next()).await;
                    let Ok(Some(_)) = next else { break };
                    counted += 1;
                    while counted < CORE_EVENTS
                        && let Some(Some(_)) = futures_util::FutureExt::now_or_never(messages.next())
                    {
                        counted += 1;
                    }
                    last = Instant::now();
                }
                (counted, last.elapsed())
            }
            Mode::Each | Mode::All => {
                let stream = jetstream::new(client).get_stream("BENCH").await.unwrap();
                let config = consumer::pull::Config {
                    durable_name: Some("bench".into()),
                    filter_subject: "js.order".into(),
                    ack_policy: if mode == Mode::All {
                        consumer::AckPolicy::All
                    } else {
                        consumer::AckPolicy::Explicit
                    },
                    max_ack_pending: 20_000,
                    ..Default::default()
                };
                let consumer = stream.create_consumer(config).await.unwrap();
                let mut messages = consumer.stream().max_messages_per_batch(4_096).messages().await.unwrap();
                let mut counted = 0;
                while counted < STREAM_EVENTS {
                    let message = messages.next().await.unwrap().unwrap();
                    if counted == 0 {
                        println!("listening");
                    }
                    counted += 1;
                    if mode == Mode::Each || counted % 1_000 == 0 || counted == STREAM_EVENTS {
                        message.ack_with(AckKind::Ack).await.unwrap();
                    }
                }
                (counted, Duration::ZERO)
            }
        }
    });
    println!("{counted} {} {}", idle.as_secs_f64(), cpu_seconds(std::process::id()));
}
