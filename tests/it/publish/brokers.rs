//! Publishing to real brokers: NATS and JetStream, Redis, Kafka (librdkafka's mock cluster).

use super::configure;
use crate::harness::{Sidewatch, eventually};
use crate::nats::broker::Broker;
use crate::redis::server::Redis;
use redis::streams::StreamRangeReply;
use serde_json::Value;
use std::time::Duration;

#[test]
fn nats_and_redis_have_each_event_once_after_an_outage() {
    let dir = tempfile::tempdir().unwrap();
    let mut nats = Broker::absent("");
    let mut redis = Redis::stopped(dir.path(), &["--save", "", "--appendonly", "yes"]);
    let (nats_port, redis_port) = (nats.port, redis.port);
    // One of its servers takes connections and says nothing: it must not use up the time of the other one.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let text = format!(
        "sources: {{none: {{none: {{}}}}}}\nstate: {{dir: state, checkpoint_interval: 50ms}}\npublish:\n  \
         stream: {{nats: {{url: 'nats://127.0.0.1:{nats_port}', subject: 'ops.{{type}}', jetstream: true}}}}\n  \
         core: {{nats: {{urls: ['nats://127.0.0.1:{silent_port}', 'nats://127.0.0.1:{nats_port}'], subject: plain}}}}\n  \
         entries: {{redis: {{url: 'redis://127.0.0.1:{redis_port}', stream: ops, maxlen: 1000}}}}\n  \
         channel: {{redis: {{url: 'redis://127.0.0.1:{redis_port}', channel: ops-now}}}}\n"
    );
    configure(dir.path(), &text);
    // Nobody is there yet.
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let failed = || sidewatch.value("count(sidewatch_publish_failed_total > 0)");
    eventually("all four have tried", 20, || (failed() == Some(4.0)).then_some(()));
    sidewatch.kill();
    nats.run();
    nats.set_client(nats.connect(async_nats::ConnectOptions::new()));
    redis.resume();
    nats.add_stream("OPS", &["ops.>"]);
    let client = nats.client();
    let mut plain = nats.block(async {
        let plain = client.subscribe("plain").await.unwrap();
        client.flush().await.unwrap();
        plain
    });
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    eventually("nothing waits", 30, || (sidewatch.value("sum(sidewatch_publish_pending)") == Some(0.0)).then_some(()));
    for _ in 0..2 {
        assert_eq!(sidewatch.post("/-/reload", "text/plain", b"").0, 200);
    }
    eventually("both starts and both reloads", 30, || {
        (sidewatch.value("sum(sidewatch_published_total)") >= Some(16.0)).then_some(())
    });
    let entries = || -> Vec<String> {
        let reply: StreamRangeReply = redis::cmd("XRANGE").arg(&["ops", "-", "+"]).query(&mut redis.client()).unwrap();
        reply.ids.iter().map(|entry| entry.get::<String>("event").unwrap()).collect()
    };
    let count = |kind: &str| entries().iter().filter(|event| event.contains(&format!("\"type\":\"{kind}\""))).count();
    assert_eq!((count("sidewatch.started"), count("sidewatch.reloaded")), (2, 2), "{:?}", entries());
    nats.block(async {
        let stream = nats.jetstream().get_stream("OPS").await.unwrap();
        let info = stream.get_info().await.unwrap();
        assert_eq!(info.state.messages, 4, "Nats-Msg-Id keeps what is sent twice out");
        let message = stream.get_raw_message(1).await.unwrap();
        let event: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!((message.subject.as_str(), &event["type"]), ("ops.sidewatch.started", &"sidewatch.started".into()));
        assert_eq!(message.headers.get("Nats-Msg-Id").unwrap().as_str(), event["id"].as_str().unwrap());
        for _ in 0..4 {
            let message =
                tokio::time::timeout(Duration::from_secs(10), futures_util::StreamExt::next(&mut plain)).await;
            let event: Value = serde_json::from_slice(&message.unwrap().unwrap().payload).unwrap();
            assert_eq!(event["source"], "sidewatch");
        }
    });
    assert_eq!(sidewatch.terminate(), Some(0));
    assert_eq!(count("sidewatch.stopping"), 1, "the end is published, too");
}

#[cfg(feature = "kafka")]
#[test]
fn kafka_has_both_modes() {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::message::Headers;
    use rdkafka::mocking::MockCluster;
    use rdkafka::{ClientConfig, Message};
    let cluster = MockCluster::new(1).unwrap();
    for topic in ["whole", "parts"] {
        cluster.create_topic(topic, 1, 1).unwrap();
    }
    let brokers = cluster.bootstrap_servers();
    let dir = tempfile::tempdir().unwrap();
    configure(
        dir.path(),
        &format!(
            "sources: {{none: {{none: {{}}}}}}\npublish:\n  whole: {{kafka: {{brokers: '{brokers}', topic: whole}}}}\n  \
             parts: {{kafka: {{brokers: '{brokers}', topic: parts, mode: binary}}}}\n"
        ),
    );
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let read = |topic: &str| {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .set("group.id", topic)
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        consumer.subscribe(&[topic]).unwrap();
        eventually("a message", 30, || {
            let message = consumer.poll(Duration::from_millis(200))?.ok()?;
            let headers = message.headers()?;
            let headers: Vec<(String, String)> = headers
                .iter()
                .map(|header| {
                    (header.key.to_owned(), String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned())
                })
                .collect();
            Some((message.payload()?.to_vec(), headers))
        })
    };
    let (payload, headers) = read("whole");
    let event: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(event["type"], "sidewatch.started");
    assert!(headers.contains(&("content-type".into(), "application/cloudevents+json; charset=UTF-8".into())));
    let (payload, headers) = read("parts");
    let data: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(data["service"], "shop");
    assert!(headers.contains(&("ce_type".into(), "sidewatch.started".into())), "{headers:?}");
    assert!(headers.contains(&("ce_specversion".into(), "1.0".into())));
    assert_eq!(sidewatch.terminate(), Some(0));
}
