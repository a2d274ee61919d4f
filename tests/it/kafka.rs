//! Kafka: the real binary as a member of a group of librdkafka's mock cluster.
//!
//! The mock cluster keeps about 5 MB of each partition; what is produced is compressed, so that everything stays.

use crate::harness::{Sidewatch, eventually, run, throughout};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use std::path::Path;
use std::time::Duration;

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn producer(cluster: &Cluster) -> BaseProducer {
    ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("compression.codec", "gzip")
        .set("linger.ms", "20")
        .set("queue.buffering.max.messages", "1000000")
        .set("enable.idempotence", "true")
        .create()
        .unwrap()
}

/// Sends one order for each number, spread over the partitions.
fn orders(producer: &BaseProducer, topic: &str, partitions: i32, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let payload = format!(r#"{{"id":"o{number}","type":"order.placed","payload":{{"amount":{}}}}}"#, number % 7);
        let partition = (number % partitions.unsigned_abs() as u64) as i32;
        let mut record = BaseRecord::<(), _>::to(topic).payload(&payload).partition(partition);
        while let Err((_, back)) = producer.send(record) {
            producer.poll(Duration::from_millis(10));
            record = back;
        }
        producer.poll(Duration::ZERO);
    }
}

fn flush(producer: &BaseProducer) {
    producer.flush(Duration::from_secs(60)).unwrap();
}

fn amounts(count: u64) -> f64 {
    (0..count).map(|number| number % 7).sum::<u64>() as f64
}

/// A configuration whose group is quick to notice that a member was killed. The mock cluster lets the first member of a
/// group wait for three seconds; a shorter session would end meanwhile.
fn configure(dir: &Path, brokers: &str, more: &str, rest: &str) {
    std::fs::write(
        dir.join("sidewatch.yaml"),
        format!(
            "bundled_rules: false\nstate: {{dir: state}}\nsources:\n  bus:\n    kafka:\n      brokers: {brokers:?}\n      \
             properties: {{session.timeout.ms: 3500, heartbeat.interval.ms: 300, reconnect.backoff.max.ms: 500}}\n{more}\
             metrics:\n  amount_total: {{counter: {{match: order.placed, value: data.amount}}}}\n{rest}"
        ),
    )
    .unwrap();
}

fn counted(sidewatch: &Sidewatch) -> Option<(f64, f64)> {
    let events = sidewatch.value("sum(events_total{type=\"order.placed\"})")?;
    Some((events, sidewatch.value("sum(amount_total)")?))
}

fn source<'j>(status: &'j serde_json::Value, name: &str) -> &'j serde_json::Value {
    let sources = status["sources"].as_array().unwrap_or_else(|| panic!("{status}"));
    sources.iter().find(|source| source["name"] == name).unwrap_or_else(|| panic!("{status}"))
}

#[test]
fn a_topic_is_counted_with_headers_tombstones_and_lag() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("orders", 3, 1).unwrap();
    let producer = producer(&cluster);
    orders(&producer, "orders", 3, 0..300);
    let headers = OwnedHeaders::new()
        .insert(Header { key: "ce_specversion", value: Some("1.0") })
        .insert(Header { key: "ce_type", value: Some("payment.captured") })
        .insert(Header { key: "ce_source", value: Some("/shop") })
        .insert(Header { key: "ce_id", value: Some("1") })
        .insert(Header { key: "content-type", value: Some("application/json") });
    let binary = BaseRecord::<(), _>::to("orders").payload(r#"{"amount":3}"#).partition(0).headers(headers);
    producer.send(binary).map_err(|(error, _)| error).unwrap();
    let media = OwnedHeaders::new()
        .insert(Header { key: "content-type", value: Some("application/cloudevents+json; charset=UTF-8") });
    let structured = r#"{"specversion":"1.0","type":"payment.settled","source":"/shop","id":"2","data":{}}"#;
    let structured = BaseRecord::<(), _>::to("orders").payload(structured).partition(0).headers(media);
    producer.send(structured).map_err(|(error, _)| error).unwrap();
    // Without a type of its own an event has its topic's name.
    let bare = BaseRecord::<(), _>::to("orders").payload(r#"{"amount":3}"#).partition(1);
    producer.send(bare).map_err(|(error, _)| error).unwrap();
    let tombstone = BaseRecord::<str, str>::to("orders").key("gone").partition(2);
    producer.send(tombstone).map_err(|(error, _)| error).unwrap();
    let garbage = BaseRecord::<(), _>::to("orders").payload("\u{1}nonsense").partition(2);
    producer.send(garbage).map_err(|(error, _)| error).unwrap();
    flush(&producer);
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), &cluster.bootstrap_servers(), "      topics: [orders]\n", "");
    let (code, out, err) = run(dir.path(), &["check"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("source bus: at least once, counted once"), "{out}");
    assert!(err.contains("every sidecar in the group sidewatch-service sees a slice"), "{err}");
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    eventually("all orders", 20, || (counted(&sidewatch) == Some((300.0, amounts(300)))).then_some(()));
    let one = |query: &str| eventually(query, 10, || (sidewatch.value(query) == Some(1.0)).then_some(()));
    one("events_total{type=\"payment.captured\"}");
    one("events_total{type=\"payment.settled\"}");
    one("events_total{type=\"orders\"}");
    one("sidewatch_events_refused_total{source=\"bus\",reason=\"empty\"}");
    one("sum(sidewatch_events_refused_total{source=\"bus\",reason!=\"empty\"})");
    one("sidewatch_source_up{source=\"bus\"}");
    one("sidewatch_source_connected_total{source=\"bus\"}");
    eventually("all is committed", 10, || {
        let acknowledged = sidewatch.value("sidewatch_source_acknowledged_total{source=\"bus\"}");
        (acknowledged == Some(305.0)).then_some(())
    });
    assert_eq!(sidewatch.value("count(sidewatch_source_partition_lag{source=\"bus\",topic=\"orders\"})"), Some(3.0));
    eventually("no lag is left", 10, || {
        (sidewatch.value("sum(sidewatch_source_partition_lag{source=\"bus\"})") == Some(0.0)).then_some(())
    });
    assert_eq!(sidewatch.source("bus").0, "connected");
    assert_eq!(sidewatch.terminate(), Some(0));
    // A restart reads on where it stood, and a clean end leaves the group at once.
    orders(&producer, "orders", 3, 300..400);
    flush(&producer);
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    eventually("all orders after a restart", 20, || (counted(&sidewatch) == Some((400.0, amounts(400)))).then_some(()));
}

#[test]
fn two_sidecars_share_a_group_and_each_event_counts_once() {
    const PARTITIONS: i32 = 4;
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("orders", PARTITIONS, 1).unwrap();
    let producer = producer(&cluster);
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for dir in &dirs {
        configure(dir.path(), &cluster.bootstrap_servers(), "      topics: orders\n      scope: shared\n", "");
    }
    let all = |sidecars: &[&Sidewatch]| {
        let (events, sums): (Vec<f64>, Vec<f64>) = sidecars.iter().filter_map(|one| counted(one)).unzip();
        (events.iter().sum::<f64>(), sums.iter().sum::<f64>())
    };
    let first = Sidewatch::start(dirs[0].path(), "run", &[]);
    orders(&producer, "orders", PARTITIONS, 0..5_000);
    eventually("the first reads", 20, || (all(&[&first]).0 > 0.0).then_some(()));
    // While the second joins, the first goes on with what it keeps.
    let second = Sidewatch::start(dirs[1].path(), "run", &[]);
    let partitions = |one: &Sidewatch| one.value("count(sidewatch_source_partition_lag >= 0)").unwrap_or(0.0);
    let mut sent = 5_000;
    eventually("both have partitions", 30, || {
        orders(&producer, "orders", PARTITIONS, sent..sent + 100);
        sent += 100;
        second.err().contains("partitions taken").then_some(())
    });
    orders(&producer, "orders", PARTITIONS, sent..sent + 5_000);
    sent += 5_000;
    flush(&producer);
    eventually("all, once", 20, || (all(&[&first, &second]) == (sent as f64, amounts(sent))).then_some(()));
    eventually("the second has its share", 20, || {
        (counted(&second).is_some_and(|(events, _)| events > 0.0) && partitions(&second) > 0.0).then_some(())
    });
    // The first goes; the second takes its partitions over and counts nothing again.
    let before = counted(&first).unwrap();
    assert_eq!(first.terminate(), Some(0));
    orders(&producer, "orders", PARTITIONS, sent..sent + 1_000);
    sent += 1_000;
    flush(&producer);
    eventually("the second has all of the rest", 30, || {
        let own = counted(&second)?;
        (own.0 + before.0 == sent as f64 && own.1 + before.1 == amounts(sent)).then_some(())
    });
}

/// Different each time, the same in each run.
fn random(dice: &mut u64) -> u64 {
    *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *dice >> 33
}

#[test]
fn counters_are_exact_through_kills_and_broker_outages() {
    let long = std::env::var_os("SIDEWATCH_LONG").is_some();
    let (events, kills, outages) = if long { (200_000_u64, 20, 5) } else { (20_000, 5, 2) };
    const PARTITIONS: i32 = 8;
    let cluster = MockCluster::new(2).unwrap();
    cluster.create_topic("orders", PARTITIONS, 1).unwrap();
    let producer = producer(&cluster);
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), &cluster.bootstrap_servers(), "      topics: [orders]\n      scope: shared\n", "");
    let mut dice = 7;
    let (mut sent, mut down) = (0, false);
    for kill in 0..kills {
        let sidewatch = Sidewatch::start(dir.path(), "run", &["--log", "error"]);
        if kill % (kills / outages) == 0 {
            cluster.broker_down(1).unwrap();
            down = true;
        }
        let until = events * (kill + 1) / kills;
        // What cannot be delivered now waits in the producer, which is idempotent.
        orders(&producer, "orders", PARTITIONS, sent..until);
        sent = until;
        let had = counted(&sidewatch).map_or(0.0, |(events, _)| events);
        // It reads something, and is killed at any moment after that.
        if !down {
            eventually("it reads", 30, || (counted(&sidewatch).map_or(0.0, |(now, _)| now) > had).then_some(()));
        }
        std::thread::park_timeout(Duration::from_millis(random(&mut dice) % 400));
        sidewatch.kill();
        if down {
            cluster.broker_up(1).unwrap();
            down = false;
        }
    }
    flush(&producer);
    let sidewatch = Sidewatch::start(dir.path(), "run", &["--log", "error"]);
    crate::exactness::hold(
        &sidewatch,
        &[
            ("sum(events_total{type=\"order.placed\"})", events as f64),
            ("sum(amount_total)", amounts(events)),
            ("sum(sidewatch_source_gaps_total{source=\"bus\"}) or vector(0)", 0.0),
        ],
    );
}

#[test]
fn a_broker_that_is_gone_makes_deaf_and_not_silent() {
    let cluster = MockCluster::new(1).unwrap();
    let producer = producer(&cluster);
    let dir = tempfile::tempdir().unwrap();
    let rules = "alerts:\n  Silent: {event: {absent: order.placed, within: 10s}}\n";
    let more = "      topics: [orders]\n      scope: shared\n";
    configure(dir.path(), &cluster.bootstrap_servers(), more, rules);
    let text = std::fs::read_to_string(dir.path().join("sidewatch.yaml")).unwrap();
    let quick = "{topic.metadata.refresh.interval.ms: 300, session";
    std::fs::write(dir.path().join("sidewatch.yaml"), text.replace("{session", quick)).unwrap();
    // Absent at the start: it runs, says so once, and is ready.
    cluster.broker_down(-1).unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    sidewatch.lost("bus", "no broker of");
    // There, but without the topic.
    cluster.broker_up(-1).unwrap();
    sidewatch.lost("bus", "the topic orders does not exist yet");
    cluster.create_topic("orders", 2, 1).unwrap();
    orders(&producer, "orders", 2, 0..100);
    flush(&producer);
    eventually("the topic is found", 20, || (counted(&sidewatch)?.0 == 100.0).then_some(()));
    eventually("it hears", 10, || (sidewatch.source("bus").0 == "connected").then_some(()));
    let firing = || sidewatch.value("ALERTS{alertname=\"Silent\",alertstate=\"firing\"}").is_some();
    eventually("silence fires while it hears", 20, || firing().then_some(()));
    orders(&producer, "orders", 2, 100..101);
    flush(&producer);
    eventually("and is over", 20, || (!firing()).then_some(()));
    cluster.broker_down(-1).unwrap();
    sidewatch.lost("bus", "");
    let health = || {
        let (_, body) = sidewatch.get("/health");
        body
    };
    eventually("health does not know", 10, || health().contains("unknown").then_some(()));
    // Longer than the rule's window: silence that cannot be heard is no silence.
    throughout("deaf", Duration::from_secs(12), || {
        assert!(!firing(), "a false alarm while deaf");
        assert_eq!((sidewatch.get("/livez").0, sidewatch.get("/readyz").0), (200, 200));
    });
    cluster.broker_up(-1).unwrap();
    orders(&producer, "orders", 2, 101..200);
    flush(&producer);
    eventually("back", 20, || {
        assert!(!firing(), "a false alarm after the outage");
        (counted(&sidewatch)?.0 == 200.0).then_some(())
    });
    let said = sidewatch.err();
    // Once per loss: absent at the start, (perhaps) while the topic is not there, and the outage; never once per attempt.
    let losses = said.matches("cannot hear the source").count();
    assert!((2..=4).contains(&losses), "{losses}: {said}");
    assert_eq!(said.matches("the topic does not exist yet; it is waited for").count(), 1, "{said}");
}

#[test]
fn offsets_that_are_not_there_are_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let gaps = |sidewatch: &Sidewatch, reason: &str| {
        let query = format!("sidewatch_source_gaps_total{{source=\"bus\",reason=\"{reason}\"}}");
        eventually(reason, 20, || (sidewatch.value(&query) == Some(1.0)).then_some(()));
    };
    let more = "      topics: [orders]\n      scope: shared\n";
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("orders", 1, 1).unwrap();
    let producer = producer(&cluster);
    orders(&producer, "orders", 1, 0..1_000);
    flush(&producer);
    configure(dir.path(), &cluster.bootstrap_servers(), more, "");
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    eventually("the first thousand", 20, || (counted(&sidewatch)?.0 == 1_000.0).then_some(()));
    assert_eq!(sidewatch.terminate(), Some(0));
    // More than the cluster keeps: the oldest go, unread.
    let large = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("linger.ms", "5")
        .create::<BaseProducer>()
        .unwrap();
    let payload = format!(r#"{{"type":"blob","data":{{"text":"{}"}}}}"#, "x".repeat(100_000));
    for _ in 0..120 {
        let record = BaseRecord::<(), _>::to("orders").payload(&payload).partition(0);
        large.send(record).map_err(|(error, _)| error).unwrap();
        large.poll(Duration::ZERO);
    }
    flush(&large);
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    gaps(&sidewatch, "expired");
    let blobs = eventually("what is left", 20, || {
        let lag = sidewatch.value("sum(sidewatch_source_partition_lag)")?;
        sidewatch.value("events_total{type=\"blob\"}").filter(|_| lag == 0.0)
    });
    assert!(blobs > 10.0 && blobs < 120.0, "{blobs}");
    assert_eq!(counted(&sidewatch), Some((1_000.0, amounts(1_000))));
    assert_eq!(sidewatch.terminate(), Some(0));
    // Another cluster with a topic of the same name: it is shorter than what was read.
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("orders", 1, 1).unwrap();
    let producer = self::producer(&cluster);
    orders(&producer, "orders", 1, 0..50);
    flush(&producer);
    configure(dir.path(), &cluster.bootstrap_servers(), more, "");
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    gaps(&sidewatch, "recreated");
    eventually("the new topic from its beginning", 20, || (counted(&sidewatch)?.0 == 1_050.0).then_some(()));
    orders(&producer, "orders", 1, 50..60);
    flush(&producer);
    eventually("and on", 20, || (counted(&sidewatch)?.0 == 1_060.0).then_some(()));
    assert_eq!(counted(&sidewatch), Some((1_060.0, amounts(1_000) + amounts(60))));
}

#[test]
fn each_instance_counts_all_and_a_refused_source_disturbs_no_other() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("orders", 2, 1).unwrap();
    cluster.create_topic("large", 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let start = |at: usize| {
        // The mock cluster knows no SASL: whoever insists on it is not let in.
        let more = format!(
            "      topics: [orders, large]\n      scope: per_instance\n  shut: {{kafka: {{brokers: {brokers:?}, topics: orders, \
             user: u, password: p, scope: shared, group: other}}}}\nservice: {{name: shop, instance: pod-{at}}}\n"
        );
        configure(dirs[at].path(), &brokers, &more, "");
        Sidewatch::start(dirs[at].path(), "run", &[])
    };
    let sidecars = [start(0), start(1)];
    let producer = producer(&cluster);
    orders(&producer, "orders", 2, 0..1_000);
    let large = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .set("message.max.bytes", "16000000")
        .create::<BaseProducer>()
        .unwrap();
    // Larger than an event may be; the mock cluster keeps 5 MB of a partition, and what comes behind it must fit as well.
    let payload = vec![b' '; (4 << 20) + (200 << 10)];
    large.send(BaseRecord::<(), _>::to("large").payload(&payload)).map_err(|(error, _)| error).unwrap();
    flush(&large);
    flush(&producer);
    for sidewatch in &sidecars {
        eventually("all orders", 30, || (counted(sidewatch) == Some((1_000.0, amounts(1_000)))).then_some(()));
        let large = "sidewatch_events_refused_total{source=\"bus\",reason=\"too_large\"}";
        eventually("the large message", 20, || (sidewatch.value(large) == Some(1.0)).then_some(()));
        eventually("the other source is lost", 20, || {
            (source(&sidewatch.json("/api/status"), "shut")["state"] == "lost").then_some(())
        });
        assert_eq!((sidewatch.get("/livez").0, sidewatch.get("/readyz").0), (200, 200));
        let said = sidewatch.err();
        let lost = said.lines().filter(|line| line.contains("cannot hear the source") && line.contains("\"shut\""));
        assert_eq!(lost.count(), 1, "{said}");
    }
    orders(&producer, "large", 1, 0..10);
    flush(&producer);
    for sidewatch in sidecars {
        eventually("what came behind the large one", 20, || (counted(&sidewatch)?.0 == 1_010.0).then_some(()));
        assert_eq!(sidewatch.terminate(), Some(0));
    }
}
