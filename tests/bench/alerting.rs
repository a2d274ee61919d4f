//! From a fault to the message: an event pushed to sidewatch, beside the same fault as a metric that Prometheus scrapes,
//! evaluates and hands to Alertmanager, everything there tuned to one second (Debian's packages; left out when missing).

use crate::harness::{Receiver, Sidewatch, eventually, free_port};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ROUNDS: usize = 15;

pub fn run() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!("\nalerting: from the fault to the webhook, median and slowest of {ROUNDS}");
    ours();
    theirs();
}

fn print(name: &str, mut took_ms: Vec<f64>) {
    took_ms.sort_by(f64::total_cmp);
    println!("{name:<52}{:>10.1} ms{:>10.1} ms", took_ms[ROUNDS / 2], took_ms[ROUNDS - 1]);
}

/// Waits for the message about a subject.
fn arrived(hook: &Receiver, subject: &str) -> Instant {
    eventually("the message", 30, || {
        let got = hook.got.lock().unwrap();
        got.iter().find(|(_, body)| body.contains(&format!("\"{subject}\""))).map(|(at, _)| *at)
    })
}

/// A group's next message may only come after its interval: the next round waits for it.
fn rest(time: Duration) {
    let until = Instant::now() + time;
    eventually("the group's interval", 60, || (Instant::now() >= until).then_some(()));
}

fn ours() {
    let (dir, hook) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    let configuration = format!(
        "sources: {{push: {{http: {{}}}}}}\nbundled_rules: false\n\
         metrics:\n  level: {{gauge: {{match: level, value: data.n, labels: {{item: subject}}}}}}\n\
         alerts:\n  OnEvent: {{event: {{match: boom, count: '>= 1', within: 1m, by: subject}}, notify: hook}}\n\
         \x20 OnMetric: {{metric: level, by: item, below: 5, notify: hook}}\n\
         notify:\n  hook: {{webhook: {{url: 'http://127.0.0.1:{}/'}}}}\n",
        hook.port
    );
    std::fs::write(dir.path().join("sidewatch.yaml"), configuration).unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    for (name, row, event) in [
        ("OnEvent", "sidewatch, rule on events", r#""boom","payload":{}"#),
        ("OnMetric", "sidewatch, PromQL rule of the short form", r#""level","payload":{"n":1}"#),
    ] {
        let round = |at: usize| {
            let subject = format!("{name}-{at}");
            let event = format!(r#"{{"target":"{subject}","type":{event}}}"#);
            let began = Instant::now();
            assert_eq!(sidewatch.post("/events", "application/json", event.as_bytes()).0, 202);
            let took = arrived(&hook, &subject) - began;
            rest(Duration::from_millis(1_100));
            took.as_secs_f64() * 1e3
        };
        print(row, (0..ROUNDS).map(round).collect());
    }
}

/// A process of the peer; ended with the bench.
struct Peer(Child);

impl Peer {
    fn start(dir: &Path, program: &str, arguments: &[String]) -> Option<Self> {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().ok().map(Self)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An exporter: one series for each fault so far.
fn exporter(faults: Arc<AtomicU64>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request);
            let mut body = String::from("# TYPE level gauge\n");
            for at in 0..faults.load(Ordering::Relaxed) {
                body += &format!("level{{item=\"theirs-{at}\"}} 1\n");
            }
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n";
            let _ = stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes());
        }
    });
    port
}

fn theirs() {
    let (dir, hook, faults) = (tempfile::tempdir().unwrap(), Receiver::start(200), Arc::new(AtomicU64::new(0)));
    let (target, prometheus, alertmanager) = (exporter(faults.clone()), free_port(), free_port());
    let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
    write(
        "prometheus.yml",
        format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml]\n\
             scrape_configs: [{{job_name: x, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\n\
             alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{alertmanager}']}}]}}]}}\n"
        ),
    );
    write("rules.yml", "groups: [{name: g, interval: 1s, rules: [{alert: OnMetric, expr: level < 5}]}]\n".into());
    write(
        "alertmanager.yml",
        format!(
            "route: {{receiver: hook, group_by: ['...'], group_wait: 0s, group_interval: 1s}}\n\
             receivers: [{{name: hook, webhook_configs: [{{url: 'http://127.0.0.1:{}/'}}]}}]\n",
            hook.port
        ),
    );
    let address = |flag: &str, port: u16| format!("--{flag}=127.0.0.1:{port}");
    let started = (
        Peer::start(
            dir.path(),
            "prometheus-alertmanager",
            &[
                "--config.file=alertmanager.yml".into(),
                "--storage.path=am".into(),
                "--cluster.listen-address=".into(),
                address("web.listen-address", alertmanager),
            ],
        ),
        Peer::start(
            dir.path(),
            "prometheus",
            &[
                "--config.file=prometheus.yml".into(),
                "--storage.tsdb.path=data".into(),
                address("web.listen-address", prometheus),
            ],
        ),
    );
    let (Some(_alertmanager), Some(_prometheus)) = started else {
        println!("Prometheus and Alertmanager are not installed: no peer");
        return;
    };
    let round = |at: usize| {
        let began = Instant::now();
        faults.store(at as u64 + 1, Ordering::Relaxed);
        let took = arrived(&hook, &format!("theirs-{at}")) - began;
        // Off the second on which they work, so that the rounds are spread over it.
        rest(Duration::from_millis(1_170));
        took.as_secs_f64() * 1e3
    };
    // The first one waits for both to be up.
    round(0);
    print("Prometheus + Alertmanager, everything at 1 s", (1..=ROUNDS).map(round).collect());
}
