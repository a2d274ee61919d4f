//! Redis streams: events per second, and per second of the consumer's processor, beside a bare consumer of the client
//! library (the `redis` crate) that only counts and acknowledges; and the memory while a million entries wait.
//!
//! Both read the same stream with a group of their own, from the first entry, on the same server. The bare consumer
//! acknowledges on a second connection while it waits for the next entries. Ours decodes, counts (automatic metrics and
//! three mappings), writes checkpoints and acknowledges after them.

use crate::decode::{METRICS, events};
use crate::harness::{Sidewatch, eventually, free_port};
use crate::server::{Redis, pending};
use redis::streams::StreamReadReply;
use std::process::{Command, Stdio};
use std::time::Instant;

const ENTRIES: usize = 1_000_000;
const ROUNDS: usize = 3;
/// The variable that makes this executable the bare consumer: port, group.
const PEER: &str = "SIDEWATCH_BENCH_REDIS";

/// Whether this process is the bare consumer.
pub fn is_peer() -> bool {
    std::env::var_os(PEER).is_some()
}

/// What one consumer did: events a second, a second of its processor, and its largest memory in bytes.
#[derive(Clone, Copy, Debug)]
struct Figures {
    wall: f64,
    cpu: f64,
    memory: f64,
}

pub fn run() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    if let Some(peer) = std::env::var_os(PEER) {
        let (port, group) = peer.to_str().unwrap().split_once(' ').unwrap();
        return consume(port, group);
    }
    let dir = tempfile::tempdir().unwrap();
    let redis = Redis::start(dir.path());
    let mut client = redis.client();
    let all = events();
    let lines: Vec<&str> = all.lines().collect();
    for at in 0..ENTRIES / lines.len() {
        let mut pipe = redis::pipe();
        for line in &lines {
            pipe.cmd("XADD").arg("s").arg("*").arg("event").arg(*line).ignore();
        }
        pipe.query::<()>(&mut client).unwrap_or_else(|error| panic!("{at}: {error}"));
    }
    println!("\nredis streams: {ENTRIES} entries of 340 bytes (median of {ROUNDS})");
    println!("{:<52}{:>14}{:>18}{:>12}", "", "events/s", "events/CPU second", "memory MB");
    let mut rounds: [Vec<Figures>; 2] = Default::default();
    for round in 0..ROUNDS {
        rounds[0].push(ours(dir.path(), &redis, &format!("ours{round}")));
        rounds[1].push(bare(&redis, &format!("bare{round}")));
    }
    let [ours, bare] = rounds.map(|figures| {
        let median = |of: fn(&Figures) -> f64| {
            let mut values: Vec<f64> = figures.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[ROUNDS / 2]
        };
        Figures { wall: median(|it| it.wall), cpu: median(|it| it.cpu), memory: median(|it| it.memory) }
    });
    for (name, it) in
        [("sidewatch (3 mappings, automatic metrics, state)", ours), ("peer: bare XREADGROUP and XACK", bare)]
    {
        println!("{name:<52}{:>14.0}{:>18.0}{:>12.1}", it.wall, it.cpu, it.memory / 1e6);
    }
    println!(
        "{:<52}{:>13.0}%{:>17.0}%",
        "ours of the peer's",
        100.0 * ours.wall / bare.wall,
        100.0 * ours.cpu / bare.cpu
    );
}

/// The field of /proc/PID/status that holds the largest memory, in bytes.
fn peak(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) * 1024.0
}

fn ours(dir: &std::path::Path, redis: &Redis, group: &str) -> Figures {
    let home = dir.join(group);
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(
        home.join("sidewatch.yaml"),
        format!(
            "bundled_rules: false\nstate: {{dir: state}}\n\
             sources: {{s: {{redis: {{url: 'redis://127.0.0.1:{}', streams: s, group: {group}, scope: shared}}}}}}\n{METRICS}",
            redis.port
        ),
    )
    .unwrap();
    let mut client = redis.client();
    let began = Instant::now();
    let sidewatch = Sidewatch::start_on(&home, "run", &["--log", "error"], free_port(), free_port(), Stdio::null());
    let count = "sidewatch_source_messages_total{source=\"s\"}";
    eventually("every entry is read", 120, || {
        let text = sidewatch.get("/metrics").1;
        let line = text.lines().find_map(|line| line.strip_prefix(count)).unwrap_or(" 0");
        (line.trim().parse::<f64>().unwrap() as usize == ENTRIES).then_some(())
    });
    eventually("every entry is acknowledged", 60, || (pending(&mut client, "s", group) == 0).then_some(()));
    let wall = began.elapsed().as_secs_f64();
    assert_eq!(sidewatch.value("sum(orders_total)"), Some(ENTRIES as f64));
    let (cpu, memory) = (crate::http::cpu_seconds(sidewatch.pid()), peak(sidewatch.pid()));
    Figures { wall: ENTRIES as f64 / wall, cpu: ENTRIES as f64 / cpu, memory }
}

fn bare(redis: &Redis, group: &str) -> Figures {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(PEER, format!("{} {group}", redis.port))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut client = redis.client();
    let began = Instant::now();
    eventually("every entry is read and acknowledged", 120, || {
        let groups: redis::streams::StreamInfoGroupsReply =
            redis::cmd("XINFO").arg(&["GROUPS", "s"]).query(&mut client).unwrap();
        let found = groups.groups.iter().find(|found| found.name == group)?;
        (found.entries_read == Some(ENTRIES) && found.pending == 0).then_some(())
    });
    let wall = began.elapsed().as_secs_f64();
    let (cpu, memory) = (crate::http::cpu_seconds(child.id()), peak(child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
    Figures { wall: ENTRIES as f64 / wall, cpu: ENTRIES as f64 / cpu, memory }
}

/// Counts and acknowledges, for ever.
fn consume(port: &str, group: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).unwrap();
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let mut reads = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
        let mut acknowledges = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
        redis::cmd("XGROUP").arg(&["CREATE", "s", group, "0"]).query_async::<()>(&mut reads).await.unwrap();
        let mut read = redis::cmd("XREADGROUP");
        read.arg(&["GROUP", group, "c", "COUNT", "1000", "BLOCK", "1000", "STREAMS", "s", ">"]);
        let (mut count, mut ids) = (0_usize, Vec::<String>::new());
        loop {
            let mut done = redis::cmd("XACK");
            done.arg(&["s", group]).arg(&ids);
            let (reply, _) = tokio::join!(read.query_async::<StreamReadReply>(&mut reads), async {
                if !ids.is_empty() {
                    done.query_async::<i64>(&mut acknowledges).await.unwrap();
                }
            });
            ids = reply.unwrap().keys.into_iter().flat_map(|key| key.ids).map(|entry| entry.id).collect();
            count += ids.len();
            std::hint::black_box(count);
        }
    });
}
