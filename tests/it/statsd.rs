//! StatsD with the real binary: lines over every transport, the mapping file, events, service checks, kernel drops, a
//! restart, and a client library that others wrote.

use super::harness::{Sidewatch, eventually, run};
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

/// The addresses that the log names behind a message, in order.
fn addresses(sidewatch: &Sidewatch, message: &str) -> Vec<u16> {
    let log = sidewatch.err();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let of = lines.filter(|line| line["message"] == message);
    of.filter_map(|line| line["address"].as_str()?.rsplit(':').next()?.parse().ok()).collect()
}

/// The UDP port that the source listens on.
fn udp_port(sidewatch: &Sidewatch) -> u16 {
    let ports = || addresses(sidewatch, "listening for StatsD datagrams").last().copied();
    eventually("the datagram socket is bound", 20, ports)
}

fn tcp_port(sidewatch: &Sidewatch) -> u16 {
    let ports = || addresses(sidewatch, "listening for StatsD connections").last().copied();
    eventually("the TCP socket is bound", 20, ports)
}

fn send(port: u16, packet: &str) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(packet.as_bytes(), ("127.0.0.1", port)).unwrap();
}

fn configure(dir: &Path, text: &str) {
    std::fs::write(dir.join("sidewatch.yaml"), text).unwrap();
}

#[test]
fn lines_of_every_transport_count_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    configure(
        dir.path(),
        "profile: testing\nstate: state\nsources:\n  statsd: {statsd: {udp: '127.0.0.1:0', tcp: '127.0.0.1:0', unixgram: statsd.sock, mapping: map.yaml}}\nhealth: {}\n",
    );
    std::fs::write(
        dir.path().join("map.yaml"),
        "mappings:\n- match: api.*.requests\n  name: api_requests_total\n  labels: {route: $1}\n- match: lat.*\n  name: latency_seconds\n  labels: {op: $1}\n  observer_type: summary\n",
    )
    .unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let udp = udp_port(&sidewatch);
    send(
        udp,
        "api.cart.requests:3|c\napi.cart.requests:1|c|@0.5\nrubbish\ntemp:20|g\ntemp:+1.5|g\nlat.read:250|ms|#az:b\nusers:a|s\nusers:b|s\nusers:a|s",
    );
    let mut stream = TcpStream::connect(("127.0.0.1", tcp_port(&sidewatch))).unwrap();
    stream.write_all(b"api.cart.requests:10|c\napi.pay.requests:1").unwrap();
    stream.write_all(b"0|c\n").unwrap();
    drop(stream);
    let unix = UnixDatagram::unbound().unwrap();
    unix.send_to(b"api.pay.requests:5|c|#env:x", dir.path().join("statsd.sock")).unwrap();
    sidewatch.is_about(r#"api_requests_total{route="cart"}"#, 15.0);
    sidewatch.is_about(r#"api_requests_total{route="pay",env=""}"#, 10.0);
    sidewatch.is_about(r#"api_requests_total{route="pay",env="x"}"#, 5.0);
    sidewatch.is_about("temp", 21.5);
    sidewatch.is_about("users", 2.0);
    sidewatch.is_about(r#"latency_seconds_sum{op="read",az="b"}"#, 0.25);
    sidewatch.is_about(r#"latency_seconds_bucket{op="read",le="0.25"}"#, 1.0);
    sidewatch.is_about(r#"latency_seconds{quantile="0.99"} > bool 0.24"#, 1.0);
    sidewatch.is_about(r#"sidewatch_events_refused_total{reason="malformed_line"}"#, 1.0);
    let metrics = sidewatch.get("/metrics").1;
    assert!(metrics.contains("api_requests_total{route=\"cart\"} 15"), "{metrics}");

    // Events and service checks.
    send(udp, "_e{8,11}:Deployed|version 1.2|t:success|#env:prod\n_sc|database|2|m:no route");
    eventually("the event is there", 20, || {
        let events = sidewatch.json("/api/events").to_string();
        (events.contains("statsd.event") && events.contains("statsd.service_check")).then_some(())
    });
    eventually("the service check is unhealthy", 20, || {
        let (status, body) = sidewatch.get("/health");
        (status == 503 && body.contains("database") && body.contains("no route")).then_some(())
    });
    assert_eq!(sidewatch.get("/readyz").0, 200);
    send(udp, "_sc|database|0");
    eventually("it has recovered", 20, || (sidewatch.get("/health").0 == 200).then_some(()));
    assert_eq!(sidewatch.terminate(), Some(0));

    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    send(udp_port(&sidewatch), "api.cart.requests:1|c\nlat.read:250|ms|#az:b\ntemp:+1|g");
    sidewatch.is_about(r#"api_requests_total{route="cart"}"#, 16.0);
    sidewatch.is_about(r#"latency_seconds_count{op="read",az="b"}"#, 2.0);
    sidewatch.is_about("temp", 22.5);
    assert_eq!(sidewatch.json("/health")["status"], "healthy", "{}", sidewatch.get("/health").1);
}

/// Stopped, the process reads nothing: the kernel drops what its buffer cannot hold, and both add up.
#[test]
fn what_the_kernel_dropped_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    configure(
        dir.path(),
        "profile: testing\nsources: {statsd: {statsd: {udp: '127.0.0.1:0', receive_buffer: 8KiB}}}\n",
    );
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let port = udp_port(&sidewatch);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sent = 0.0;
    // A fresh packet with every look, until some were dropped: so many at once are more than the buffer holds.
    eventually("datagrams were dropped and counted", 30, || {
        for _ in 0..2_000 {
            socket.send_to(&[b"x:1|c\n".repeat(200), b"y:1|c".to_vec()].concat(), ("127.0.0.1", port)).unwrap();
            sent += 1.0;
        }
        sidewatch.value(r#"sidewatch_source_gaps_total{reason="kernel_drops"}"#).filter(|drops| *drops > 0.0)
    });
    eventually("counted and dropped are what was sent", 20, || {
        let drops = sidewatch.value(r#"sidewatch_source_gaps_total{reason="kernel_drops"}"#)?;
        (sidewatch.value("y")? + drops == sent).then_some(())
    });
}

#[test]
fn a_reload_takes_a_changed_mapping_and_refuses_a_broken_one() {
    let dir = tempfile::tempdir().unwrap();
    configure(
        dir.path(),
        "profile: testing\nsources: {statsd: {statsd: {udp: '127.0.0.1:0', mapping: map.yaml}}}\nmetrics: {taken: {counter: {match: x}}}\n",
    );
    let map = dir.path().join("map.yaml");
    std::fs::write(&map, "mappings:\n- {match: a.*, name: first}\n").unwrap();
    let (code, out, err) = run(dir.path(), &["check"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("UDP at most once"), "{out}");
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    send(udp_port(&sidewatch), "a.x:1|c\ntaken:1|c\nfirst:1|g");
    sidewatch.is_about("first", 1.0);
    sidewatch.is_about(r#"sidewatch_events_refused_total{reason="reserved_name"}"#, 1.0);
    sidewatch.is_about(r#"sidewatch_events_refused_total{reason="kind_conflict"}"#, 1.0);
    std::fs::write(&map, "mappings:\n- {match: a.*, nam: second}\n").unwrap();
    let (code, out, err) = run(dir.path(), &["check"]);
    assert_eq!(code, 2);
    assert!(format!("{out}{err}").contains("map.yaml:2:16: error: StatsD mapping: unknown key \"nam\""), "{out}{err}");
    eventually("the broken file is told", 20, || {
        (sidewatch.value(r#"sidewatch_config_reloads_total{result="failure"}"#)? >= 1.0).then_some(())
    });
    std::fs::write(&map, "mappings:\n- {match: a.*, name: second}\n").unwrap();
    eventually("the new rule holds", 30, || {
        send(udp_port(&sidewatch), "a.x:1|c");
        sidewatch.value("second")
    });
}

/// `statsd`, the client library of Python.
#[test]
fn the_client_library_of_others_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), "profile: testing\nsources: {statsd: 'statsd://127.0.0.1:0'}\n");
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let script = format!(
        "import statsd\nc = statsd.StatsClient('127.0.0.1', {}, prefix='shop')\nc.incr('orders', 3)\nc.incr('orders')\nc.gauge('stock', 12)\nc.gauge('stock', -2, delta=True)\nc.timing('checkout', 320)\nc.set('users', 'ann')\nc.set('users', 'bob')\nwith c.pipeline() as p:\n    for i in range(100):\n        p.incr('batched')\n",
        udp_port(&sidewatch)
    );
    let python = std::env::var("SIDEWATCH_PYTHON").unwrap_or_else(|_| "/usr/bin/python3".into());
    let output = Command::new(python).arg("-c").arg(script).output().unwrap();
    assert!(output.status.success(), "python3-statsd: {}", String::from_utf8_lossy(&output.stderr));
    sidewatch.is_about("shop_orders", 4.0);
    sidewatch.is_about("shop_stock", 10.0);
    sidewatch.is_about("shop_checkout_sum", 0.32);
    sidewatch.is_about("shop_users", 2.0);
    sidewatch.is_about("shop_batched", 100.0);
}

/// Lines count as events: what is above the rate is read later, and nothing of it is lost.
#[test]
fn a_rate_limit_slows_lines_down() {
    let dir = tempfile::tempdir().unwrap();
    configure(
        dir.path(),
        "profile: testing\nsources:\n  statsd: {statsd: {tcp: '127.0.0.1:0'}, rate_limit: {events: 100/s, burst: 10}}\n",
    );
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let mut stream = TcpStream::connect(("127.0.0.1", tcp_port(&sidewatch))).unwrap();
    let delayed = || sidewatch.value(r#"sum(sidewatch_rate_limited_events_total{source="statsd",outcome="delayed"})"#);
    // A block is taken whole; what comes behind it waits until the rate has made up for it.
    stream.write_all(b"c:1|c\n".repeat(200).as_slice()).unwrap();
    sidewatch.is_about("c", 200.0);
    stream.write_all(b"c:1|c\n".repeat(20).as_slice()).unwrap();
    eventually("lines that wait", 20, || (delayed() >= Some(1.0)).then_some(()));
    sidewatch.is_about("c", 220.0);
}
