//! Sockets, standard input and files, through the real binary.

use crate::harness::{Sidewatch, eventually, free_port};
use std::fs::{File, OpenOptions, rename};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

fn line(id: u64) -> String {
    format!("{{\"type\":\"tick\",\"id\":\"{id}\"}}\n")
}

fn lines(ids: std::ops::Range<u64>) -> String {
    ids.map(line).collect()
}

fn wait_for(sidewatch: &Sidewatch, source: &str, count: u64) {
    let query = format!("events_total{{source=\"{source}\"}}");
    eventually(&format!("{count} events from {source}"), 20, || {
        let seen = sidewatch.value(&query).unwrap_or(0.0) as u64;
        assert!(seen <= count, "{source}: counted {seen} of {count}");
        (seen == count).then_some(())
    });
}

#[test]
fn unix_tcp_and_standard_input_take_lines() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let configuration =
        format!("sources:\n  u: {{unix: {{path: in.sock}}}}\n  t: 'tcp://127.0.0.1:{port}'\n  i: {{stdin: {{}}}}\n");
    std::fs::write(dir.path().join("sidewatch.yaml"), configuration).unwrap();
    let mut sidewatch = Sidewatch::start_on(dir.path(), "run", &[], free_port(), free_port(), Stdio::piped());
    let connected = eventually("the unix socket", 10, || UnixStream::connect(dir.path().join("in.sock")).ok());
    (&connected).write_all(lines(0..1_000).as_bytes()).unwrap();
    let connected_tcp = eventually("the TCP listener", 10, || TcpStream::connect(("127.0.0.1", port)).ok());
    (&connected_tcp).write_all(lines(0..2_000).as_bytes()).unwrap();
    drop((connected, connected_tcp));
    let mut stdin = sidewatch.stdin();
    stdin.write_all(lines(0..3_000).as_bytes()).unwrap();
    // The last line has no end: the end of the input completes it.
    stdin.write_all(line(9).trim_end().as_bytes()).unwrap();
    drop(stdin);
    wait_for(&sidewatch, "u", 1_000);
    wait_for(&sidewatch, "t", 2_000);
    wait_for(&sidewatch, "i", 3_001);
    assert_eq!(sidewatch.get("/readyz").0, 200, "the end of standard input ends nothing");
    assert_eq!(sidewatch.terminate(), Some(0));
}

#[test]
fn a_file_is_followed_through_rotation_and_restart() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("app.log");
    std::fs::write(&log, lines(0..10)).unwrap();
    std::fs::write(dir.path().join("sidewatch.yaml"), "sources: {app: {file: {path: app.log}}}\nstate: {dir: state}\n")
        .unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    wait_for(&sidewatch, "app", 10);
    let mut file = OpenOptions::new().append(true).open(&log).unwrap();
    file.write_all(lines(10..15).as_bytes()).unwrap();
    file.write_all(&line(15).as_bytes()[..9]).unwrap();
    wait_for(&sidewatch, "app", 15);
    file.write_all(&line(15).as_bytes()[9..]).unwrap();
    wait_for(&sidewatch, "app", 16);
    rename(&log, dir.path().join("app.log.1")).unwrap();
    File::create(&log).unwrap().write_all(lines(16..20).as_bytes()).unwrap();
    wait_for(&sidewatch, "app", 20);
    assert_eq!(sidewatch.terminate(), Some(0));

    OpenOptions::new().append(true).open(&log).unwrap().write_all(lines(20..25).as_bytes()).unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    wait_for(&sidewatch, "app", 25);
}

#[test]
fn text_lines_are_cut_by_a_named_regex() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("sidewatch.yaml"),
        "sources:\n  web:\n    stdin: {}\n    type: request.done\n    lines: {regex: '^(?P<method>[A-Z]+) (?P<path>\\S+) (?P<code>\\d+) (?P<duration_ms>[\\d.]+)$'}\n\
         metrics:\n  requests_total: {counter: {match: request.done, labels: {code: data.code, method: data.method}}}\n",
    )
    .unwrap();
    let mut sidewatch = Sidewatch::start_on(dir.path(), "run", &[], free_port(), free_port(), Stdio::piped());
    let mut stdin = sidewatch.stdin();
    stdin.write_all(b"GET / 200 1.5\nPOST /x 500 20\nnonsense\nGET /y 200 3\n").unwrap();
    wait_for(&sidewatch, "web", 3);
    assert_eq!(sidewatch.value("requests_total{code=\"200\",method=\"GET\"}"), Some(2.0));
    assert_eq!(sidewatch.value("sum(sidewatch_events_refused_total{source=\"web\"})"), Some(1.0));
    assert_eq!(sidewatch.value("event_duration_seconds_count"), Some(3.0));
}

#[test]
fn a_file_that_is_no_socket_of_ours_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.sock");
    std::fs::write(&path, "somebody's").unwrap();
    std::fs::write(dir.path().join("sidewatch.yaml"), "sources: {u: {unix: {path: in.sock}}}\n").unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    eventually("the source says why", 10, || {
        (sidewatch.json("/health")["sidewatch"]["sources"]["u"]["state"] == "lost").then_some(())
    });
    assert_eq!(sidewatch.terminate(), Some(0));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "somebody's");
}
