//! Redis: streams and channels against real servers.

pub mod server;

use crate::harness::{Ends, Sidewatch, certificates, eventually};
use server::{Redis, add, pending};
use std::path::Path;

fn configure(dir: &Path, text: &str) {
    std::fs::write(dir.join("sidewatch.yaml"), text).unwrap();
}

#[test]
fn streams_and_channels_become_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let redis = Redis::start(dir.path());
    let mut client = redis.client();
    // What is there before the start counts: a new group begins with the first entry.
    add(&mut client, "orders", &[("event", r#"{"type":"order.placed","payload":{"amount":3,"region":"eu"}}"#)]);
    add(&mut client, "orders", &[("data", r#"{"type":"order.placed","payload":{"amount":4,"region":"us"}}"#)]);
    add(&mut client, "orders", &[("payload", r#"{"event_type":"order.placed","amount":5,"region":"us"}"#)]);
    add(&mut client, "cache", &[("type", "cache.hit"), ("amount", "6"), ("region", "eu"), ("zip", "007")]);
    add(&mut client, "cache", &[("event", r#"{"payload":{"amount":1}}"#)]);
    add(&mut client, "cache", &[("event", "{broken")]);
    configure(
        dir.path(),
        &format!(
            "sources:\n  cache: {{redis: {{url: 'redis://127.0.0.1:{port}/0', streams: [orders, cache], group: g}}}}\n\
             \x20 live: {{redis: {{url: 'redis://127.0.0.1:{port}', channels: [news], patterns: ['user.*']}}}}\n\
             \x20 short: 'redis://127.0.0.1:{port}/0?channels=other'\n\
             metrics:\n  amount_total: {{counter: {{match: '*', value: data.amount, labels: {{region: data.region, type: type}}}}}}\n",
            port = redis.port
        ),
    );
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    sidewatch.reaches("sum(amount_total{type='order.placed'})", 12.0);
    sidewatch.reaches("sum(amount_total{type='cache.hit',region='eu'})", 6.0);
    // An event that names no type is called as its stream is.
    sidewatch.reaches("sum(events_total{type='cache',source='cache'})", 1.0);
    sidewatch.reaches("sum(sidewatch_events_refused_total{source='cache'})", 1.0);
    sidewatch.reaches("sidewatch_source_acknowledged_total{source='cache'}", 6.0);
    assert_eq!((pending(&mut client, "orders", "g"), pending(&mut client, "cache", "g")), (0, 0));
    assert_eq!(sidewatch.value("sidewatch_source_up{source='cache'}"), Some(1.0));
    assert_eq!(sidewatch.value("sidewatch_source_messages_total{source='cache'}"), Some(6.0));

    sidewatch.connected("live");
    sidewatch.connected("short");
    let publish = |client: &mut redis::Connection, channel: &str, text: &str| {
        redis::cmd("PUBLISH").arg(channel).arg(text).query::<i64>(client).unwrap()
    };
    assert_eq!(publish(&mut client, "news", r#"{"type":"news.flash","payload":{"amount":7}}"#), 1);
    assert_eq!(publish(&mut client, "user.created", r#"{"amount":8}"#), 1);
    assert_eq!(publish(&mut client, "other", r#"{"amount":9}"#), 1);
    sidewatch.reaches("sum(amount_total{type='news.flash'})", 7.0);
    sidewatch.reaches("sum(amount_total{type='user.created'})", 8.0);
    sidewatch.reaches("sum(amount_total{type='other'})", 9.0);
}

#[test]
fn every_way_to_a_server() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path(), &[("redis", "DNS:redis.test")]);
    let folder = dir.path().display();
    let port = crate::harness::free_port();
    std::fs::write(
        dir.path().join("users.acl"),
        "user default off\nuser admin on >root ~* &* +@all\n\
         user watch on >right ~orders &news +xreadgroup +xack +xautoclaim +xgroup|create +xinfo +select +ping +subscribe +xrange\n\
         user blind on >right ~orders &news +xreadgroup +xgroup|create +ping\n",
    )
    .unwrap();
    let tls = ["redis.pem", "redis.key", "ca.pem"].map(|name| format!("{folder}/{name}"));
    // TLS with a certificate on both sides, a socket, and a user that may do what is needed and no more.
    let mut redis = Redis::start_with(
        dir.path(),
        &[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &tls[0],
            "--tls-key-file",
            &tls[1],
            "--tls-ca-cert-file",
            &tls[2],
            "--unixsocket",
            &format!("{folder}/redis.sock"),
            "--aclfile",
            &format!("{folder}/users.acl"),
        ],
    );
    redis.log_in("admin", "root");
    let mut client = redis.client();
    redis::cmd("SELECT").arg(3).query::<()>(&mut client).unwrap();
    add(&mut client, "orders", &[("type", "order.placed"), ("amount", "5")]);
    std::fs::write(dir.path().join("word"), "right\n").unwrap();
    std::fs::write(dir.path().join("wrong"), "left\n").unwrap();
    let own = redis.port;
    configure(
        dir.path(),
        &format!(
            "sources:\n\
             \x20 acl: {{redis: {{url: 'redis://127.0.0.1:{own}', database: 3, streams: orders, group: a, scope: per_instance, username: watch, password_file: word}}}}\n\
             \x20 tls: {{redis: {{url: 'rediss://watch:right@127.0.0.1:{port}/3', streams: orders, group: b, tls: {{ca_file: ca.pem, cert_file: redis.pem, key_file: redis.key, server_name: redis.test}}}}}}\n\
             \x20 unix: {{redis: {{url: 'redis+unix://{folder}/redis.sock?db=3', streams: orders, group: c, username: watch, password: right}}}}\n\
             \x20 news: {{redis: {{url: 'redis+unix:///{folder}/redis.sock', channels: [news], username: watch, password: right}}}}\n\
             \x20 name: {{redis: {{url: 'rediss://watch:right@127.0.0.1:{port}/3', streams: orders, group: d, tls: {{ca_file: ca.pem, cert_file: redis.pem, key_file: redis.key}}}}}}\n\
             \x20 refused: {{redis: {{url: 'redis://127.0.0.1:{own}', database: 3, streams: orders, username: watch, password_file: wrong}}}}\n\
             \x20 nobody: {{redis: {{url: 'redis://127.0.0.1:{own}', streams: orders}}}}\n\
             \x20 blind: {{redis: {{url: 'redis://127.0.0.1:{own}', streams: orders, username: blind, password: right}}}}\n\
             \x20 other: {{redis: {{url: 'redis://127.0.0.1:{own}', channels: [secret], username: watch, password: right}}}}\n\
             metrics:\n  amount_total: {{counter: {{match: '*', value: data.amount, labels: {{from: source}}}}}}\n"
        ),
    );
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    for source in ["acl", "tls", "unix"] {
        sidewatch.connected(source);
        sidewatch.reaches(&format!("sum(events_total{{source='{source}',type='order.placed'}})"), 1.0);
    }
    sidewatch.connected("news");
    // Each refusal is said once, with its reason, and everything else goes on.
    for (source, expected) in [
        ("name", "TLS"),
        ("refused", "WRONGPASS"),
        ("nobody", "NOAUTH"),
        ("blind", "NOPERM"),
        ("other", "SUBSCRIBE secret"),
    ] {
        let reason = eventually(&format!("{source} is lost: {expected}"), 20, || {
            let (state, reason) = sidewatch.source(source);
            (state == "lost" && reason.contains(expected)).then_some(reason)
        });
        assert!(!reason.contains("right") && !reason.contains("left"), "{reason}");
        eventually("the log says so", 10, || {
            sidewatch
                .err()
                .lines()
                .any(|line| line.contains(&format!("\"source\":\"{source}\"")) && line.contains(expected))
                .then_some(())
        });
    }
    let said = |text: &str| sidewatch.err().lines().filter(|line| line.contains(text)).count();
    assert_eq!((said("WRONGPASS"), said("NOAUTH")), (1, 1), "{}", sidewatch.err());
    assert_eq!((sidewatch.get("/livez").0, sidewatch.get("/readyz").0), (200, 200));
    // The password is changed in its file: the next attempt takes it.
    std::fs::write(dir.path().join("wrong"), "right\n").unwrap();
    sidewatch.connected("refused");
    redis::cmd("ACL").arg(&["SETUSER", "blind", "+xack"]).query::<()>(&mut client).unwrap();
    redis::cmd("SELECT").arg(0).query::<()>(&mut client).unwrap();
    add(&mut client, "orders", &[("type", "order.seen"), ("amount", "5")]);
    sidewatch.connected("blind");
    sidewatch.reaches("sum(events_total{source='blind'})", 1.0);
    let group = format!("a-{}", sidewatch.json("/health")["instance"].as_str().unwrap());
    redis::cmd("SELECT").arg(3).query::<()>(&mut client).unwrap();
    assert_eq!(pending(&mut client, "orders", &group), 0, "per_instance has a group of its own");
}

#[test]
fn a_cluster_and_sentinels_name_the_servers() {
    let dir = tempfile::tempdir().unwrap();
    // Two nodes that share the slots, without replicas.
    let nodes = [0, 1].map(|_| Redis::start_with(dir.path(), &["--cluster-enabled", "yes", "--save", ""]));
    let ports = [nodes[0].port, nodes[1].port];
    let mut clients = [nodes[0].client(), nodes[1].client()];
    for (client, range) in clients.iter_mut().zip([["0", "8191"], ["8192", "16383"]]) {
        redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(&range).query::<()>(client).unwrap();
    }
    redis::cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(ports[1]).query::<()>(&mut clients[0]).unwrap();
    for client in &mut clients {
        eventually("the cluster is whole", 20, || {
            let info: String = redis::cmd("CLUSTER").arg("INFO").query(client).unwrap();
            (info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2")).then_some(())
        });
    }
    // b lives in slot 3300, a in slot 15495.
    add(&mut clients[0], "b", &[("type", "order.placed"), ("amount", "1")]);
    add(&mut clients[1], "a", &[("type", "order.placed"), ("amount", "2")]);

    // A master with a replica, watched by one sentinel.
    let master = Redis::start_with(dir.path(), &["--save", ""]);
    let replica = Redis::start_with(
        dir.path(),
        &["--save", "", "--replicaof", &format!("127.0.0.1 {}", master.port), "--repl-diskless-sync-delay", "0"],
    );
    let file = dir.path().join("sentinel.conf");
    std::fs::write(
        &file,
        format!(
            "sentinel monitor shop 127.0.0.1 {} 1\nsentinel down-after-milliseconds shop 500\nsentinel failover-timeout shop 1000\n",
            master.port
        ),
    )
    .unwrap();
    let sentinel = Redis::start_with(dir.path(), &[file.to_str().unwrap(), "--sentinel"]);
    let mut client = master.client();
    add(&mut client, "orders", &[("type", "order.placed"), ("amount", "3")]);
    configure(
        dir.path(),
        &format!(
            "sources:\n\
             \x20 cluster: {{redis: {{urls: ['redis://127.0.0.1:1', 'redis://127.0.0.1:{}'], cluster: true, streams: [a, b]}}}}\n\
             \x20 single: {{redis: {{url: 'redis://127.0.0.1:{}', streams: [a, b]}}}}\n\
             \x20 watched: {{redis: {{sentinel: {{master: shop, urls: 'redis://127.0.0.1:{}'}}, streams: orders}}}}\n\
             \x20 unknown: {{redis: {{sentinel: {{master: store, urls: 'redis://127.0.0.1:{}'}}, streams: orders}}}}\n\
             metrics:\n  amount_total: {{counter: {{match: '*', value: data.amount}}}}\nstate: {{dir: state}}\n",
            ports[0], ports[0], sentinel.port, sentinel.port
        ),
    );
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    sidewatch.connected("cluster");
    sidewatch.reaches("sum(events_total{source='cluster'})", 2.0);
    sidewatch.reaches("sum(sidewatch_source_acknowledged_total{source='cluster'})", 2.0);
    assert!(sidewatch.source_is("single", "lost", "").contains("cluster: true"));
    assert!(sidewatch.source_is("unknown", "lost", "").contains("\"store\""));
    sidewatch.reaches("sum(events_total{source='watched'})", 1.0);
    sidewatch.reaches("sum(sidewatch_source_acknowledged_total{source='watched'})", 1.0);

    // A slot moves to the other node: the next read is told so, and goes there.
    let mut all = |words: &[&str]| -> Vec<String> {
        clients.iter_mut().map(|client| redis::cmd("CLUSTER").arg(words).query::<String>(client).unwrap()).collect()
    };
    let ids = all(&["MYID"]);
    let [mut first, mut second] = [nodes[0].client(), nodes[1].client()];
    redis::cmd("CLUSTER").arg(&["SETSLOT", "3300", "IMPORTING", &ids[0]]).query::<()>(&mut second).unwrap();
    redis::cmd("CLUSTER").arg(&["SETSLOT", "3300", "MIGRATING", &ids[1]]).query::<()>(&mut first).unwrap();
    redis::cmd("MIGRATE").arg("127.0.0.1").arg(ports[1]).arg(&["b", "0", "5000"]).query::<()>(&mut first).unwrap();
    for client in [&mut second, &mut first] {
        redis::cmd("CLUSTER").arg(&["SETSLOT", "3300", "NODE", &ids[1]]).query::<()>(client).unwrap();
    }
    add(&mut second, "b", &[("type", "order.placed"), ("amount", "1")]);
    sidewatch.reaches("sum(events_total{source='cluster'})", 3.0);

    // The master dies: the replica takes over, and the source follows.
    eventually("the replica has everything", 20, || {
        let info: String = redis::cmd("INFO").arg("replication").query(&mut client).unwrap();
        info.lines().any(|line| line.starts_with("slave0:") && line.contains("state=online")).then_some(())
    });
    let mut master = master;
    master.kill();
    // A server that becomes a master closes its clients' connections: it is asked anew each time.
    let mut client = eventually("the replica is master", 30, || {
        let mut client = replica.try_client().ok()?;
        let info: String = redis::cmd("INFO").arg("replication").query(&mut client).ok()?;
        info.contains("role:master").then_some(client)
    });
    add(&mut client, "orders", &[("type", "order.placed"), ("amount", "3")]);
    sidewatch.reaches("sum(events_total{source='watched'})", 2.0);
    assert_eq!(sidewatch.value("sum(amount_total)"), Some(10.0));
}

#[test]
fn nothing_that_happens_to_a_group_is_lost_or_silent() {
    let dir = tempfile::tempdir().unwrap();
    let redis = Redis::start(dir.path());
    let mut client = redis.client();
    // A consumer that died held two entries, one of which is deleted meanwhile; one of ours as well.
    for number in 1..=4 {
        add(&mut client, "s", &[("type", "order.placed"), ("amount", &number.to_string())]);
    }
    redis::cmd("XGROUP").arg(&["CREATE", "s", "g", "0"]).query::<()>(&mut client).unwrap();
    let read = |client: &mut redis::Connection, consumer: &str, count: &str| {
        let words = ["GROUP", "g", consumer, "COUNT", count, "STREAMS", "s", ">"];
        let reply: redis::streams::StreamReadReply = redis::cmd("XREADGROUP").arg(&words).query(client).unwrap();
        reply.keys[0].ids.iter().map(|entry| entry.id.clone()).collect::<Vec<_>>()
    };
    let dead = read(&mut client, "dead", "2");
    let own = read(&mut client, "me", "1");
    redis::cmd("XDEL").arg("s").arg(&dead[0]).query::<()>(&mut client).unwrap();
    redis::cmd("XDEL").arg("s").arg(&own[0]).query::<()>(&mut client).unwrap();
    configure(
        dir.path(),
        &format!(
            "service: {{name: shop, instance: me}}\nstate: {{dir: state}}\nlimits: {{event_bytes: 100kB}}\n\
             sources: {{s: {{redis: {{url: 'redis://127.0.0.1:{}', streams: s, group: g, claim_idle: 1s}}}}}}\n\
             metrics:\n  amount_total: {{counter: {{match: '*', value: data.amount}}}}\n",
            redis.port
        ),
    );
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    sidewatch.reaches("sum(amount_total)", 2.0 + 4.0);
    sidewatch.reaches("sum(sidewatch_source_gaps_total{source='s',reason='trimmed'})", 2.0);
    eventually("nobody holds anything", 10, || (pending(&mut client, "s", "g") == 0).then_some(()));

    // Larger than an event may be: refused without being kept, and what follows is counted.
    let large = "x".repeat(100 << 20);
    add(&mut client, "s", &[("event", &format!("{{\"type\":\"large\",\"x\":\"{large}\"}}"))]);
    add(&mut client, "s", &[("type", "order.placed"), ("amount", "5")]);
    sidewatch.reaches("sum(amount_total)", 11.0);
    sidewatch.reaches("sum(sidewatch_events_refused_total{source='s',reason='too_large'})", 1.0);
    assert!(sidewatch.value("sidewatch_process_resident_memory_bytes").unwrap() < 150e6);

    // The group is destroyed: it goes on where it was, nothing twice.
    redis::cmd("XGROUP").arg(&["DESTROY", "s", "g"]).query::<()>(&mut client).unwrap();
    add(&mut client, "s", &[("type", "order.placed"), ("amount", "6")]);
    sidewatch.reaches("sum(amount_total)", 17.0);
    assert_eq!(
        sidewatch.value("sum(sidewatch_source_gaps_total{source='s',reason='recreated'}) or vector(0)"),
        Some(0.0)
    );

    // Everything is flushed, and entries come with ids that begin anew.
    redis::cmd("FLUSHALL").query::<()>(&mut client).unwrap();
    for number in 1..=3 {
        let fields = ["type", "order.placed", "amount", "7"];
        redis::cmd("XADD").arg("s").arg(format!("1-{number}")).arg(&fields).query::<String>(&mut client).unwrap();
    }
    sidewatch.reaches("sum(amount_total)", 38.0);
    sidewatch.reaches("sum(sidewatch_source_gaps_total{source='s',reason='recreated'})", 1.0);
    // And once more with the very same ids.
    redis::cmd("DEL").arg("s").query::<()>(&mut client).unwrap();
    sidewatch.reaches("sum(sidewatch_source_gaps_total{source='s',reason='recreated'})", 2.0);
    redis::cmd("XADD")
        .arg("s")
        .arg("1-2")
        .arg(&["type", "order.placed", "amount", "8"])
        .query::<String>(&mut client)
        .unwrap();
    sidewatch.reaches("sum(amount_total)", 46.0);

    // While we are away, more comes than the stream may hold.
    assert_eq!(sidewatch.terminate(), Some(0));
    for _ in 0..50 {
        let words = ["s", "MAXLEN", "10", "*", "type", "order.placed", "amount", "1"];
        redis::cmd("XADD").arg(&words).query::<String>(&mut client).unwrap();
    }
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    sidewatch.reaches("sum(amount_total)", 56.0);
    sidewatch.reaches("sum(sidewatch_source_gaps_total{source='s',reason='trimmed'})", 40.0);
    sidewatch.connected("s");
    eventually("caught up", 10, || (sidewatch.value("sidewatch_source_behind{source='s'}") == Some(0.0)).then_some(()));
}

/// A server that never was there, one that is garbage, and one that goes away: heard as soon as they are there; nothing is
/// concluded from the silence in between.
#[test]
fn deaf_is_not_silent() {
    let dir = tempfile::tempdir().unwrap();
    let mut redis = Redis::stopped(dir.path(), &["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    let garbage = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let garbage_port = garbage.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in garbage.incoming().map_while(Result::ok) {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let hook = crate::harness::Receiver::start(200);
    configure(
        dir.path(),
        &format!(
            "bundled_rules: false\nstate: {{dir: state}}\n\
             sources:\n\
             \x20 s: {{redis: {{url: 'redis://127.0.0.1:{port}', streams: s}}}}\n\
             \x20 c: {{redis: {{url: 'redis://127.0.0.1:{port}', channels: c}}}}\n\
             \x20 odd: {{redis: {{url: 'redis://127.0.0.1:{garbage_port}', channels: c}}}}\n\
             health:\n  beat: {{event: {{match: beat, within: 2s, source: s}}}}\n\
             alerts:\n  Silent: {{event: {{absent: beat, keys: [w1], by: data.worker, within: 2s, source: s}}}}\n\
             \x20 Quiet: {{event: {{absent: note, keys: [w1], by: data.worker, within: 2s, source: c}}}}\n\
             notify:\n  hook: {{webhook: {{url: 'http://127.0.0.1:{}/'}}}}\n",
            hook.port,
            port = redis.port
        ),
    );
    // Without a server everything else starts.
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    for source in ["s", "c"] {
        assert!(sidewatch.source_is(source, "lost", "").contains("refused"));
    }
    assert!(sidewatch.source_is("odd", "lost", "").contains("no Redis server"), "{}", sidewatch.err());
    redis.resume();
    let beating = |redis: &Redis, stop: &std::sync::atomic::AtomicBool| {
        let Ok(mut client) =
            redis::Client::open(format!("redis://127.0.0.1:{}/", redis.port)).unwrap().get_connection()
        else {
            return;
        };
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let beat = ["s", "*", "event", r#"{"type":"beat","payload":{"worker":"w1"}}"#];
            let note = ["c", r#"{"type":"note","payload":{"worker":"w1"}}"#];
            if redis::cmd("XADD").arg(&beat).query::<()>(&mut client).is_err()
                || redis::cmd("PUBLISH").arg(&note).query::<()>(&mut client).is_err()
            {
                return;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(100));
        }
    };
    let healthy = || {
        eventually("healthy", 20, || {
            (sidewatch.json("/health")["checks"]["beat"]["status"] == "healthy").then_some(())
        });
    };
    for round in 1..=2 {
        // It beats, then the server dies.
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| beating(&redis, &stop));
            let _ends = Ends(&stop);
            sidewatch.connected("s");
            sidewatch.connected("c");
            healthy();
        });
        redis.kill();
        sidewatch.source_is("s", "lost", "");
        let unknown = eventually("health is unknown", 10, || {
            let beat = sidewatch.json("/health")["checks"]["beat"].clone();
            (beat["status"] == "unknown").then_some(beat)
        });
        assert!(unknown["reason"].as_str().unwrap().contains('s'), "{unknown}");
        // The windows pass twice.
        let dead = std::time::Instant::now();
        eventually("the windows pass", 20, || (dead.elapsed() > std::time::Duration::from_secs(5)).then_some(()));
        assert_eq!(sidewatch.get("/readyz").0, 200);
        redis.resume();
        assert!(sidewatch.value(&format!("sum(sidewatch_source_connected_total{{source='s'}}) >= {round}")).is_some());
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| beating(&redis, &stop));
        let _ends = Ends(&stop);
        sidewatch.connected("s");
        sidewatch.connected("c");
        healthy();
    });
    let told = hook.bodies();
    let about = |name: &str| told.iter().filter(|body| body.contains(&format!("\"{name}\""))).count();
    assert_eq!((about("Silent"), about("Quiet")), (0, 0), "{told:#?}");
    assert!(about("SidewatchDeaf") >= 2, "{told:#?}");
    assert_eq!(sidewatch.value("sidewatch_source_gaps_total{source='c',reason='disconnected'}"), Some(2.0));
    // And silence that is heard is silence.
    eventually("the rule fires", 20, || hook.bodies().iter().any(|body| body.contains("\"Silent\"")).then_some(()));
}

/// The promise: whatever is killed and whenever, each event is counted once. `SIDEWATCH_LONG=1` is the full form.
#[test]
fn kills_of_both_sides_leave_exact_counts() {
    let long = std::env::var_os("SIDEWATCH_LONG").is_some();
    let (events, kills, restarts, portion) = if long { (200_000_u64, 20, 5, 100) } else { (20_000, 5, 2, 50) };
    let dir = tempfile::tempdir().unwrap();
    let mut redis = Redis::durable(dir.path());
    configure(
        dir.path(),
        &format!(
            "service: {{name: shop, instance: me}}\nstate: {{dir: state}}\nbundled_rules: false\n\
             sources: {{s: {{redis: {{url: 'redis://127.0.0.1:{}', streams: [a, b], scope: shared}}}}}}\n\
             metrics:\n  amount_total: {{counter: {{match: 'order.*', value: data.amount, labels: {{region: data.region}}}}}}\n\
             \x20 amounts: {{histogram: {{match: 'order.*', value: data.amount}}}}\n",
            redis.port
        ),
    );
    let port = redis.port;
    let sent = std::sync::atomic::AtomicU64::new(0);
    let mut dice = 7_u64;
    let mut random = move |below: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % below
    };
    let (began, mut restarted) = (std::time::Instant::now(), 0);
    let failed = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The producer goes on through the restarts. Explicit ids tell which of a broken pipeline arrived.
        scope.spawn(|| {
            let mut next = 1;
            while next <= events && !failed.load(std::sync::atomic::Ordering::Relaxed) {
                let produced = (|| -> redis::RedisResult<()> {
                    let mut client = redis::Client::open(format!("redis://127.0.0.1:{port}/"))?.get_connection()?;
                    let streams = ["a", "b"];
                    let mut last = 0;
                    for stream in streams {
                        let info: redis::Value =
                            redis::cmd("XREVRANGE").arg(&[stream, "+", "-", "COUNT", "1"]).query(&mut client)?;
                        let reply: redis::streams::StreamRangeReply = redis::from_redis_value(info)?;
                        let id =
                            reply.ids.first().map_or(0, |entry| entry.id.split('-').next().unwrap().parse().unwrap());
                        last = last.max(id);
                    }
                    next = next.max(last + 1);
                    while next <= events {
                        let until = (next + portion).min(events + 1);
                        let mut pipe = redis::pipe();
                        for number in next..until {
                            let event = format!(
                                r#"{{"type":"order.placed","payload":{{"amount":{},"region":"{}"}}}}"#,
                                number % 997,
                                ["eu", "us", "ap"][(number % 3) as usize]
                            );
                            let stream = streams[(number % 2) as usize];
                            pipe.cmd("XADD").arg(stream).arg(format!("{number}-1")).arg("event").arg(event).ignore();
                        }
                        pipe.query::<()>(&mut client)?;
                        next = until;
                        sent.store(next - 1, std::sync::atomic::Ordering::Relaxed);
                        // As long as the kills go on.
                        std::thread::park_timeout(std::time::Duration::from_millis(10));
                    }
                    Ok(())
                })();
                if produced.is_err() {
                    std::thread::park_timeout(std::time::Duration::from_millis(20));
                }
            }
        });
        let ends = Ends(&failed);
        for kill in 0..kills {
            let sidewatch = Sidewatch::start(dir.path(), "run", &["--log", "error"]);
            // Any moment is as good as another.
            std::thread::park_timeout(std::time::Duration::from_millis(random(1_200)));
            if kill % (kills / restarts) == 0 {
                redis.kill();
                redis.resume();
                restarted += 1;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(random(400)));
            sidewatch.kill();
        }
        std::mem::forget(ends);
    });
    println!("{kills} kills, {restarted} restarts of redis-server in {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(sent.load(std::sync::atomic::Ordering::Relaxed), events);
    let sidewatch = Sidewatch::start(dir.path(), "run", &["--log", "error"]);
    let sum = |of: &dyn Fn(u64) -> bool| {
        (1..=events).filter(|number| of(*number)).map(|number| number % 997).sum::<u64>() as f64
    };
    crate::exactness::hold(
        &sidewatch,
        &[
            ("sum(events_total)", events as f64),
            ("sum(amount_total)", sum(&|_| true)),
            ("sum(amount_total{region='us'})", sum(&|number| number % 3 == 1)),
            ("sum(amounts_count)", events as f64),
            ("sum(amounts_sum)", sum(&|_| true)),
        ],
    );
    let mut client = redis.client();
    eventually("everything is acknowledged", 20, || {
        (pending(&mut client, "a", "sidewatch") + pending(&mut client, "b", "sidewatch") == 0).then_some(())
    });
    let duplicates = sidewatch.value("sidewatch_source_duplicates_total{source='s'}");
    println!("{duplicates:?} came again after the last kill");
}

#[test]
fn check_explains_the_promise_and_warns_of_replicas() {
    let dir = tempfile::tempdir().unwrap();
    configure(
        dir.path(),
        "service: {name: shop, instance: pod-1}\nsources:\n\
         \x20 a: {redis: {url: 'redis://h', streams: s, group: g, scope: per_instance}}\n\
         \x20 b: {redis: {url: 'redis://h', streams: s}}\n\
         \x20 c: {redis: {url: 'redis://h', channels: s}}\n",
    );
    let (code, out, err) = crate::harness::run(dir.path(), &["check"]);
    assert_eq!(code, 0, "{out}{err}");
    for expected in [
        "source a: at least once, counted once: acknowledged when it stands in the checkpoint; group g-pod-1, consumer pod-1, each instance hears everything",
        "source b: at least once, counted once: acknowledged when it stands in the checkpoint; group sidewatch, consumer pod-1, instances share the group, each hears a part",
        "source c: at most once: what is published while the connection is down is missed, each time counted as a gap",
    ] {
        assert!(out.contains(expected), "{expected} is missing in\n{out}");
    }
    assert!(err.contains("source b: replicas of this sidecar share the group sidewatch"), "{err}");
    assert!(err.contains("scope: per_instance") && err.matches("replicas of this").count() == 1, "{err}");
}

#[test]
fn large_entries_come_in_smaller_portions() {
    let dir = tempfile::tempdir().unwrap();
    let redis = Redis::start(dir.path());
    let mut client = redis.client();
    let text = "x".repeat(2 << 20);
    for _ in 0..40 {
        add(&mut client, "s", &[("type", "order.placed"), ("text", &text)]);
    }
    configure(
        dir.path(),
        &format!(
            "limits: {{event_bytes: 3MiB}}\nsources: {{s: 'redis://127.0.0.1:{}?streams=s&scope=shared'}}\n",
            redis.port
        ),
    );
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    sidewatch.reaches("sum(events_total{type='order.placed'})", 40.0);
    assert!(sidewatch.err().contains("the reply is too large"), "{}", sidewatch.err());
    eventually("everything is acknowledged", 20, || (pending(&mut client, "s", "sidewatch") == 0).then_some(()));
    let memory = sidewatch.value("sidewatch_process_resident_memory_bytes").unwrap();
    assert!(memory < 250e6, "{memory}");
}
