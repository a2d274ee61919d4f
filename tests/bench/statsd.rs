//! StatsD: the server's CPU seconds for a million lines, batched, over UDP and TCP; and what is lost of 300,000 lines a
//! second over UDP, beside what the kernel says that it dropped.

use crate::harness::{self, encode};
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LINES: usize = 3_000_000;
const LINES_A_PACKET: usize = 20;
const LINES_A_SECOND: usize = 300_000;
/// Packets between two looks at the clock.
const BURST: usize = 15;
const ROUNDS: usize = 3;

pub fn run() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!(
        "\nstatsd: {LINES_A_PACKET} lines a packet, 1,000 series of counters, gauges, timers and histograms (median of {ROUNDS})"
    );
    println!("{:<42}{:>22}{:>12}{:>16}", "", "CPU s / million lines", "lost", "kernel's drops");
    for tcp in [false, true] {
        let mut rounds: Vec<(f64, usize, usize)> = (0..ROUNDS).map(|_| round(tcp)).collect();
        rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (cpu, lost, drops) = rounds[ROUNDS / 2];
        let name = if tcp { "TCP, one connection, as fast as it takes" } else { "UDP, 300,000 lines/s" };
        println!("{name:<42}{cpu:>22.3}{lost:>12}{drops:>16}");
    }
}

struct Server {
    child: Child,
    _dir: tempfile::TempDir,
    port: u16,
    observe: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start() -> Server {
    let (dir, observe, ingest) = (tempfile::tempdir().unwrap(), harness::free_port(), harness::free_port());
    let port = harness::free_port();
    let configuration = format!(
        "sources: {{statsd: {{statsd: {{udp: '127.0.0.1:{port}', tcp: '127.0.0.1:{port}'}}}}}}\nbundled_rules: false\n"
    );
    std::fs::write(dir.path().join("sidewatch.yaml"), configuration).unwrap();
    let binary = std::env::var("SIDEWATCH_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_sidewatch").into());
    let child = Command::new(binary)
        .args(["run", "--log", "error", "--listen-observe", &format!("127.0.0.1:{observe}")])
        .args(["--listen-ingest", &format!("127.0.0.1:{ingest}")])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    harness::eventually("the server is up", 20, || TcpStream::connect(("127.0.0.1", port)).ok());
    Server { child, _dir: dir, port, observe }
}

/// CPU seconds of a process (proc_pid_stat(5), fields 14 and 15, in hundredths).
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Packets of all series in turn; every line adds one to one counter or is one value.
fn packets() -> Vec<Vec<u8>> {
    let line = |at: usize| {
        let (route, region) = (at % 50, ["eu", "us", "ap", "sa", "af"][at / 50 % 5]);
        match at / 250 {
            0 => format!("shop.requests:1|c|#route:r{route},region:{region}"),
            1 => format!("shop.latency:{}|ms|#route:r{route},region:{region}", at % 97 + 3),
            2 => format!("shop.stock:{}|g|#route:r{route},region:{region}", at % 89),
            _ => format!("shop.size:{}.5|h|#route:r{route},region:{region}", at % 83),
        }
    };
    let lines: Vec<String> = (0..1_000).map(|at| line(at * 251 % 1_000)).collect();
    lines.chunks(LINES_A_PACKET).map(|lines| (lines.join("\n") + "\n").into_bytes()).collect()
}

/// The value of a query; 0 when there is none.
fn value(server: &Server, query: &str) -> f64 {
    let body = harness::get(server.observe, &format!("/api/v1/query?query={}", encode(query))).1;
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    answer["data"]["result"][0]["value"][1].as_str().map_or(0.0, |text| text.parse().unwrap())
}

/// CPU seconds a million lines, lines that are not counted, lines in packets that the kernel dropped.
fn round(tcp: bool) -> (f64, usize, usize) {
    let (server, packets) = (start(), packets());
    let before = cpu_seconds(server.child.id());
    if tcp {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let all = packets.concat();
        (0..LINES / 1_000).for_each(|_| stream.write_all(&all).unwrap());
    } else {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", server.port)).unwrap();
        let began = Instant::now();
        for (at, packet) in (0..LINES / LINES_A_PACKET).zip(packets.iter().cycle()) {
            if at % BURST == 0 {
                let due = Duration::from_secs_f64((at * LINES_A_PACKET) as f64 / LINES_A_SECOND as f64);
                while began.elapsed() < due {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            socket.send(packet).unwrap();
        }
    }
    // Every series comes equally often: the counters are a quarter of the lines.
    let mut counted = 0;
    let quiet = || {
        let now = (value(&server, "sum(shop_requests)") * 4.0) as usize;
        let same = now == counted && now > 0;
        counted = now;
        std::thread::sleep(Duration::from_millis(if same { 0 } else { 1_500 }));
        same.then_some(())
    };
    let mut quiet = quiet;
    harness::eventually("everything is counted", 60, &mut quiet);
    let drops = value(&server, "sidewatch_source_gaps_total{reason=\"kernel_drops\"}") as usize * LINES_A_PACKET;
    let cpu = cpu_seconds(server.child.id()) - before;
    (cpu / LINES as f64 * 1e6, LINES - counted, drops)
}
