//! WebSocket: events per second and per CPU second, as a client of a server that sends as fast as it can and as the server of
//! a producer that does, beside a bare tungstenite reader that only parses. Frames are made before; one event of 340 bytes a
//! frame, and a hundred.

use crate::decode::{EVENTS, events};
use crate::harness::{Sidewatch, eventually, free_port};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::stream::MaybeTlsStream;
use tokio_tungstenite::tungstenite::{Message, accept, connect};

/// Makes this executable the bare reader: `connect PORT EVENTS` or `accept PORT EVENTS`.
const PEER: &str = "SIDEWATCH_BENCH_WEBSOCKET_PEER";
const COUNT: usize = 1_000_000;
const ROUNDS: usize = 3;
/// 3 mappings, as in the other benches.
const METRICS: &str = "bundled_rules: false\nmetrics:\n  orders_total: {counter: {match: 'order.*', labels: {status: data.status, region: data.region}}}\n  order_duration_seconds: {histogram: {match: 'order.*', value: data.duration_ms, unit: ms, labels: {region: data.region}}}\n  last_amount: {gauge: {match: 'order.*', value: data.amount, labels: {item: subject}}}\n";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// The reader connects.
    Client,
    /// The reader is connected to.
    Server,
}

pub fn is_peer() -> bool {
    std::env::var_os(PEER).is_some()
}

pub fn run() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    if let Ok(what) = std::env::var(PEER) {
        return peer(&what);
    }
    println!("\nwebsocket: {COUNT} events, median of {ROUNDS}: events per second, per CPU second of the reader");
    println!("{:<34}{:>14}{:>14}{:>10}", "", "per second", "per CPU s", "of bare");
    for (side, name) in [(Side::Client, "client"), (Side::Server, "server")] {
        for batch in [1, 100] {
            let ours = median(|| round(side, batch, true));
            let bare = median(|| round(side, batch, false));
            for (who, (rate, cpu), share) in [
                ("sidewatch", ours, format!("{:.0} %", 100.0 * ours.0 / bare.0)),
                ("bare + parse", bare, String::new()),
            ] {
                println!("{:<34}{rate:>14.0}{cpu:>14.0}{share:>10}", format!("{name}, {batch} a frame, {who}"));
            }
        }
    }
}

fn median(mut round: impl FnMut() -> (f64, f64)) -> (f64, f64) {
    let mut rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| round()).collect();
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    rounds[ROUNDS / 2]
}

/// Frames of all events (RFC 6455, section 5.2), masked with a key of zeros where a client sends.
fn frames(batch: usize, masked: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let all = events();
    let lines: Vec<&str> = all.lines().collect();
    for lines in lines.chunks(batch) {
        let payload = lines.join("\n");
        out.push(0x81);
        let mask = if masked { 0x80 } else { 0 };
        match payload.len() {
            length @ ..126 => out.push(mask | length as u8),
            length @ ..65_536 => {
                out.push(mask | 126);
                out.extend((length as u16).to_be_bytes());
            }
            length => {
                out.push(mask | 127);
                out.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            out.extend([0; 4]);
        }
        out.extend(payload.as_bytes());
    }
    out
}

/// CPU seconds of a process (proc_pid_stat(5), fields 14 and 15, in hundredths).
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// The reader of one round.
enum Reader {
    #[allow(dead_code, reason = "the folder lives as long as the process in it")]
    Ours(Box<Sidewatch>, tempfile::TempDir),
    Bare(Child),
}

impl Reader {
    fn cpu(&self) -> f64 {
        match self {
            Self::Ours(sidewatch, _) => cpu_seconds(sidewatch.pid()),
            Self::Bare(child) => cpu_seconds(child.id()),
        }
    }

    /// Waits until everything is counted: CPU seconds then.
    fn finish(&mut self) -> f64 {
        match self {
            Self::Ours(sidewatch, _) => {
                eventually("every event is counted", 300, || {
                    (sidewatch.value("sum(events_total)") >= Some(COUNT as f64)).then_some(())
                });
                cpu_seconds(sidewatch.pid())
            }
            Self::Bare(child) => {
                // Its last act is to say so; it ends when its input does, so that its figures can still be read.
                let mut said = [0];
                std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
                cpu_seconds(child.id())
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Self::Bare(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn round(side: Side, batch: usize, ours: bool) -> (f64, f64) {
    let (listener, mut port) = (TcpListener::bind("127.0.0.1:0").unwrap(), 0);
    if side == Side::Client {
        port = listener.local_addr().unwrap().port();
    }
    let mut reader = if ours {
        let dir = tempfile::tempdir().unwrap();
        let source = match side {
            Side::Client => format!("sources: {{bus: 'ws://127.0.0.1:{port}/'}}\n{METRICS}"),
            Side::Server => format!("sources: {{push: {{http: {{}}}}}}\n{METRICS}"),
        };
        std::fs::write(dir.path().join("sidewatch.yaml"), source).unwrap();
        let sidewatch = Sidewatch::start(dir.path(), "run", &["--log", "error"]);
        if side == Side::Server {
            port = sidewatch.ingest;
        }
        Reader::Ours(Box::new(sidewatch), dir)
    } else {
        let what = if side == Side::Client { "connect" } else { "accept" };
        if side == Side::Server {
            port = free_port();
        }
        let child = Command::new(std::env::current_exe().unwrap())
            .env(PEER, format!("{what} {port} {COUNT}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Reader::Bare(child)
    };
    let mut stream: TcpStream = match side {
        Side::Client => {
            let socket = accept(listener.accept().unwrap().0).unwrap();
            socket.get_ref().try_clone().unwrap()
        }
        Side::Server => {
            let url = format!("ws://127.0.0.1:{port}/events");
            let socket = eventually("the reader listens", 20, || connect(&url).ok()).0;
            match socket.get_ref() {
                MaybeTlsStream::Plain(stream) => stream.try_clone().unwrap(),
                _ => unreachable!("the address is a plain one"),
            }
        }
    };
    let frames = frames(batch, side == Side::Server);
    let (before, began) = (reader.cpu(), Instant::now());
    for _ in 0..COUNT / EVENTS {
        stream.write_all(&frames).unwrap();
    }
    let after = reader.finish();
    (COUNT as f64 / began.elapsed().as_secs_f64(), COUNT as f64 / (after - before))
}

/// Reads frames, parses each line into a typed struct, sums one field, says so at the end.
fn peer(what: &str) {
    let words: Vec<&str> = what.split(' ').collect();
    let (port, count): (u16, usize) = (words[1].parse().unwrap(), words[2].parse().unwrap());
    let (mut seen, mut sum) = (0, 0.0);
    let mut take = |message: Message| {
        if let Message::Text(text) = message {
            for line in text.as_bytes().split(|byte| *byte == b'\n') {
                sum += crate::decode::typed_amount(line);
                seen += 1;
            }
        }
        seen < count
    };
    if words[0] == "connect" {
        let (mut socket, _) = connect(format!("ws://127.0.0.1:{port}/")).unwrap();
        while take(socket.read().unwrap()) {}
    } else {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let mut socket = accept(listener.accept().unwrap().0).unwrap();
        while take(socket.read().unwrap()) {}
    }
    assert!(sum > 0.0);
    std::io::stdout().write_all(b".").unwrap();
    std::io::stdout().flush().unwrap();
    // The figures of a process that has ended cannot be read.
    std::thread::park_timeout(Duration::from_secs(60));
}
