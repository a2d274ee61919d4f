//! HTTP ingest: events per second of the server's CPU time, 100 events a request and one, beside a bare axum handler that
//! parses the same body into typed structs. Load: 4 keep-alive connections on loopback, a fixed number of events.

use crate::decode::{EVENTS, events};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const CONNECTIONS: usize = 4;
const BATCHED_EVENTS: usize = 1_600_000;
const SINGLE_EVENTS: usize = 120_000;
const ROUNDS: usize = 3;

/// Whether this process is the bare server of a bench.
pub fn is_peer() -> bool {
    std::env::var_os(PEER).is_some()
}

/// The variable that makes this executable the bare server, with its port.
const PEER: &str = "SIDEWATCH_BENCH_PEER";

pub fn run() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    if let Some(port) = std::env::var_os(PEER) {
        peer(port.to_str().unwrap().parse().unwrap());
        return;
    }
    println!("\nhttp: events per second of the server's CPU time (median of {ROUNDS})");
    println!("{:<42}{:>14}{:>14}", "", "100 a request", "1 a request");
    for (name, ours) in [("sidewatch (3 mappings, automatic metrics)", true), ("peer: bare axum + typed parse", false)]
    {
        let mut figures = [(BATCHED_EVENTS, 100), (SINGLE_EVENTS, 1)].map(|(count, batch)| {
            let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round(ours, count, batch)).collect();
            rounds.sort_by(f64::total_cmp);
            rounds[ROUNDS / 2]
        });
        let [batched, single] = &mut figures;
        println!("{name:<42}{batched:>14.0}{single:>14.0}");
    }
}

/// A running server, its folder (kept while it runs) and its port.
struct Server {
    child: Child,
    _dir: tempfile::TempDir,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(ours: bool) -> Server {
    let (dir, port, other) = (tempfile::tempdir().unwrap(), free_port(), free_port());
    let mut command = if ours {
        let configuration = "sources: {push: {http: {}}}\nbundled_rules: false\nmetrics:\n  orders_total: {counter: {match: 'order.*', labels: {status: data.status, region: data.region}}}\n  order_duration_seconds: {histogram: {match: 'order.*', value: data.duration_ms, unit: ms, labels: {region: data.region}}}\n  last_amount: {gauge: {match: 'order.*', value: data.amount, labels: {item: subject}}}\n";
        std::fs::write(dir.path().join("sidewatch.yaml"), configuration).unwrap();
        let binary = std::env::var("SIDEWATCH_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_sidewatch").into());
        let mut command = Command::new(binary);
        command.args(["run", "--log", "error"]);
        command.args([
            "--listen-ingest",
            &format!("127.0.0.1:{port}"),
            "--listen-observe",
            &format!("127.0.0.1:{other}"),
        ]);
        command
    } else {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(PEER, port.to_string());
        command
    };
    let child = command.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + std::time::Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "the server did not come up");
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    Server { child, _dir: dir, port }
}

/// CPU seconds of a process (proc_pid_stat(5), fields 14 and 15, in hundredths).
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn round(ours: bool, count: usize, batch: usize) -> f64 {
    let server = start(ours);
    let all = events();
    let lines: Vec<&str> = all.lines().collect();
    let requests: Vec<Vec<u8>> = lines
        .chunks(batch)
        .map(|lines| {
            let body = lines.join("\n");
            let head = format!(
                "POST /events HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            [head.as_bytes(), body.as_bytes()].concat()
        })
        .collect();
    let before = cpu_seconds(server.child.id());
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            let (requests, port) = (&requests, server.port);
            scope.spawn(move || {
                let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
                stream.get_ref().set_nodelay(true).unwrap();
                let rounds = count / CONNECTIONS / EVENTS;
                for request in (0..rounds).flat_map(|_| requests) {
                    loop {
                        stream.get_mut().write_all(request).unwrap();
                        if answer(&mut stream) != 429 {
                            break;
                        }
                        std::thread::park_timeout(std::time::Duration::from_millis(2));
                    }
                }
            });
        }
    });
    count as f64 / (cpu_seconds(server.child.id()) - before)
}

fn answer(stream: &mut BufReader<TcpStream>) -> u16 {
    let (mut line, mut status, mut length) = (String::new(), 0, 0);
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        if status == 0 {
            status = line.split(' ').nth(1).unwrap().parse().unwrap();
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    std::io::copy(&mut stream.take(length), &mut std::io::sink()).unwrap();
    assert!(matches!(status, 200 | 202 | 429), "answered {status}");
    status
}

/// The bare server: reads the body, parses each line into a typed struct, sums one field.
fn peer(port: u16) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let handler = |body: axum::body::Bytes| async move {
            let sum: f64 = body
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(crate::decode::typed_amount)
                .sum();
            format!("{{\"accepted\":{sum}}}")
        };
        let router = axum::Router::new()
            .route("/events", axum::routing::post(handler))
            .layer(axum::extract::DefaultBodyLimit::max(64 << 20));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        use axum::serve::ListenerExt;
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        axum::serve(listener, router).await.unwrap();
    });
}
