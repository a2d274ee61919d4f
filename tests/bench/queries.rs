//! Queries through HTTP beside Debian's Prometheus in one run: 10,000 series, an hour at 5 s, by remote write to both.

use crate::harness::{Sidewatch, encode, eventually, free_port, get, request};
use crate::write::{Random, Series, labels, request as write_request};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const STEP_MS: i64 = 5_000;
const SAMPLES: i64 = 720;
/// Samples of each series in one request.
const AT_ONCE: i64 = 12;
const ROUNDS: usize = 9;

struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn run() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!("\nqueries: 10,000 series, an hour at 5 s, through HTTP, median of {ROUNDS}");
    let (dir, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("prometheus.yml"), "global: {scrape_interval: 1h}\n").unwrap();
    let theirs = free_port();
    let prometheus = Command::new("prometheus")
        .current_dir(dir.path())
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.enable-remote-write-receiver"])
        .arg(format!("--web.listen-address=127.0.0.1:{theirs}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(prometheus) = prometheus else {
        println!("prometheus is missing, nothing to compare with");
        return;
    };
    let prometheus = Stopped(prometheus);
    eventually("prometheus is ready", 30, || {
        std::net::TcpStream::connect(("127.0.0.1", theirs)).ok()?;
        (get(theirs, "/-/ready").0 == 200).then_some(())
    });
    let configuration = "bundled_rules: false\nlimits: {late_samples: 2h}\nsources: {none: {none: {}}}\n";
    std::fs::write(own.path().join("sidewatch.yaml"), configuration).unwrap();
    let sidewatch = Sidewatch::start(own.path(), "run", &[]);

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let first = now / STEP_MS * STEP_MS - (SAMPLES - 1) * STEP_MS + 1_700 - STEP_MS;
    write(first, &[theirs, sidewatch.ingest]);

    println!("{:<72}{:>12}{:>12}{:>8}", "", "sidewatch", "Prometheus", "ratio");
    let end = (first + (SAMPLES - 1) * STEP_MS) as f64 / 1e3 + 1.1;
    let queries =
        ["sum by (x) (rate(m[5m]))", "histogram_quantile(0.99, sum by (le) (rate(m_bucket[5m])))", "topk(10, m)"];
    let mut paths: Vec<(String, String)> = queries
        .iter()
        .map(|query| ((*query).to_owned(), format!("/api/v1/query?query={}&time={end}", encode(query))))
        .collect();
    for query in ["sum by (x) (rate(m[5m]))", "sum(m)"] {
        let start = end - 3_600.0;
        paths.push((
            format!("{query}, 1 h at 15 s"),
            format!("/api/v1/query_range?query={}&start={start}&end={end}&step=15", encode(query)),
        ));
    }
    for (name, path) in paths {
        let mut took = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (at, port) in [sidewatch.observe, theirs].into_iter().enumerate() {
                let began = Instant::now();
                let (status, body) = get(port, &path);
                took[at].push(began.elapsed().as_secs_f64() * 1e3);
                assert!(status == 200 && body.len() > 100, "{status} {body}");
            }
        }
        let [ours, theirs] = took.map(|mut took: Vec<f64>| {
            took.sort_by(f64::total_cmp);
            took[ROUNDS / 2]
        });
        println!("{name:<72}{ours:>9.1} ms{theirs:>9.1} ms{:>8.2}", theirs / ours);
    }
    let [ours, theirs] = [sidewatch.child.id(), prometheus.0.id()].map(resident_mb);
    println!("{:<72}{ours:>9.0} MB{theirs:>9.0} MB{:>8.2}", "resident memory at the end", theirs / ours);
    let status = sidewatch.json("/api/status");
    let bytes = status["series"]["bytes"].as_f64().unwrap_or(0.0);
    println!("sidewatch's series take {:.1} MB; older than 10 min one sample in 15 s is kept", bytes / 1e6);
}

fn resident_mb(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) / 1e3
}

/// 5,000 counters and 500 classic histograms of ten buckets.
fn write(first: i64, ports: &[u16]) {
    let mut random = Random(3);
    let mut series: Vec<(Vec<(String, String)>, f64)> = Vec::new();
    for at in 0..5_000 {
        let (x, id) = (format!("x{}", at % 20), format!("id{at}"));
        series.push((labels(&[("__name__", "m"), ("id", &id), ("job", "bench"), ("x", &x)]), 0.0));
    }
    for at in 0..500 {
        let id = format!("id{at}");
        for le in ["0.005", "0.01", "0.05", "0.1", "0.5", "1", "2.5", "5", "10", "+Inf"] {
            series.push((labels(&[("__name__", "m_bucket"), ("id", &id), ("job", "bench"), ("le", le)]), 0.0));
        }
    }
    let headers = [("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];
    for part in 0..SAMPLES / AT_ONCE {
        let mut before = 0.0;
        let all: Vec<Series> = series
            .iter_mut()
            .map(|(labels, value)| {
                let is_bucket = labels.iter().any(|(name, _)| name == "le");
                if !is_bucket || labels.iter().any(|(_, value)| value == "0.005") {
                    before = 0.0;
                }
                let more = random.below(20) as f64 + before;
                before = if is_bucket { more } else { 0.0 };
                let samples = (0..AT_ONCE).map(|at| {
                    *value += more;
                    (first + (part * AT_ONCE + at) * STEP_MS, *value)
                });
                Series { samples: samples.collect(), labels: labels.clone() }
            })
            .collect();
        let body = write_request(&all);
        for port in ports {
            let (status, answer) = request(*port, "POST", "/api/v1/write", &headers, &body);
            assert!((200..300).contains(&status), "{status} {answer}");
        }
    }
    // The second tier is made as time goes by.
    std::thread::sleep(Duration::from_secs(15));
}
