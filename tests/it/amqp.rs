//! `amqp` sources against a real RabbitMQ.

use crate::exactness::{self, Trial};
use crate::harness::{Receiver, Sidewatch, eventually, free_port, nonsense, run};
use crate::rabbit::{Message, Publisher, Rabbit, block};
use lapin::options::{
    BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use std::sync::atomic::Ordering;
use std::time::Duration;

fn queue(channel: &Channel, name: &str, arguments: &[(&str, &str)]) {
    let mut table = FieldTable::default();
    for (key, value) in arguments {
        table.insert((*key).into(), AMQPValue::LongString((*value).into()));
    }
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    block(channel.queue_declare(name.into(), options, table)).unwrap();
}

#[test]
fn an_amqp_source_does_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    // Its broker is not there yet: it starts all the same.
    let (nobody, nonsense) = (free_port(), nonsense());
    let mut rabbit = Rabbit::start(dir.path());
    let mut publisher = Publisher::new(&rabbit);
    let channel = publisher.channel();
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    block(channel.exchange_declare("dead".into(), ExchangeKind::Fanout, durable, FieldTable::default())).unwrap();
    queue(&channel, "dead-letters", &[]);
    let bound = channel.queue_bind(
        "dead-letters".into(),
        "dead".into(),
        "".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    block(bound).unwrap();
    queue(&channel, "fussy", &[("x-dead-letter-exchange", "dead")]);
    queue(&channel, "other", &[]);

    let port = rabbit.port;
    std::fs::write(dir.path().join("password"), "guest\n").unwrap();
    std::fs::write(
        dir.path().join("sidewatch.yaml"),
        format!(
            r##"
service: {{name: shop, instance: one}}
state: {{dir: state}}
sources:
  orders:
    amqp:
      url: "amqp://127.0.0.1:{port}"
      username: guest
      password_file: password
      queue: orders
      declare: {{durable: true, arguments: {{x-queue-type: classic}}}}
      bind: [{{exchange: events, routing_key: "order.#", type: topic}}]
      scope: shared
  own:
    amqp: {{url: "amqp://guest:guest@127.0.0.1:{port}/%2f", queue: everybody, bind: [{{exchange: events, routing_key: "order.*"}}], scope: per_instance}}
  fussy: {{amqp: {{url: "amqp://127.0.0.1:{port}/", queue: fussy, poison: reject, scope: shared}}}}
  missing: {{amqp: {{url: "amqp://127.0.0.1:{port}", queue: nowhere, scope: shared}}}}
  differs: {{amqp: {{url: "amqp://127.0.0.1:{port}", queue: other, declare: {{durable: false}}, scope: shared}}}}
  denied: {{amqp: {{url: "amqp://guest:wrong@127.0.0.1:{port}", queue: orders, scope: shared}}}}
  elsewhere: {{amqp: {{url: "amqp://127.0.0.1:{port}/nowhere", queue: orders, scope: shared}}}}
  absent: "amqp://127.0.0.1:{nobody}?queue=orders"
  nonsense: {{amqp: {{url: "amqp://127.0.0.1:{nonsense}", queue: orders, scope: shared}}}}
metrics:
  orders_total: {{counter: {{match: "order.*", labels: {{region: data.region}}}}}}
"##
        ),
    )
    .unwrap();
    let (code, out, err) = run(dir.path(), &["check"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("source orders: at least once, counted once: acknowledged after the checkpoint"), "{out}");
    assert!(err.contains("absent") && err.contains("scope") && err.matches("warning: source").count() == 1, "{err}");

    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    for source in ["orders", "own", "fussy"] {
        eventually(&format!("{source} is connected"), 20, || (sidewatch.source(source).0 == "connected").then_some(()));
    }
    sidewatch.lost("missing", "no queue 'nowhere' in vhost '/'; make the queue \"nowhere\", or let sidewatch do it");
    sidewatch.lost("differs", "make declare and bind the same");
    sidewatch.lost("denied", "look at username and password");
    sidewatch.lost("elsewhere", "look at the virtual host (\"nowhere\")");
    sidewatch.lost("absent", "nobody listens at 127.0.0.1");
    sidewatch.lost("nonsense", "AMQP");
    assert_eq!(sidewatch.get("/livez").0, 200);
    assert_eq!(sidewatch.get("/readyz").0, 200);

    // The routing key is the type of what names none; the message's id is the event's.
    let event = |key: &str, body: &str| Message { exchange: "events".into(), ..Message::to(key, body) };
    let once = Message { id: Some("m1".into()), ..event("order.placed", r#"{"data":{"region":"eu"}}"#) };
    let twice = Message {
        id: Some("m2".into()),
        ..event("order.placed", r#"[{"data":{"region":"us"}},{"data":{"region":"us"}}]"#)
    };
    let own_id = event("order.paid", r#"{"id":"7","type":"order.paid","data":{"region":"eu"}}"#);
    publisher.publish(&[once.clone(), once, twice.clone(), twice, own_id.clone(), own_id]);
    sidewatch.is(r#"events_total{source="orders",type="order.placed"}"#, 3.0);
    sidewatch.is(r#"events_total{source="orders",type="order.paid"}"#, 1.0);
    sidewatch.is(r#"events_total{source="own",type="order.placed"}"#, 3.0);
    sidewatch.is(r#"sidewatch_source_duplicates_total{source="orders"}"#, 4.0);
    sidewatch.is(r#"sum(orders_total{region="us"})"#, 4.0);

    // CloudEvents, in all three modes.
    let attributes = [
        ("cloudEvents:specversion", "1.0"),
        ("cloudEvents:id", "b1"),
        ("cloudEvents:source", "/shop"),
        ("cloudEvents:type", "order.shipped"),
        ("cloudEvents:subject", "100% \"sure\""),
    ];
    let mut binary = event("order.any", r#"{"region":"ap"}"#);
    binary.headers = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    binary.content_type = Some("application/json".into());
    let mut underscore = binary.clone();
    underscore.headers = attributes.map(|(name, value)| (name.replace(':', "_"), value.replace("b1", "b2"))).to_vec();
    let cloudevent = |id: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/shop","type":"order.shipped","data":{{"region":"ap"}}}}"#
        )
    };
    let mut structured = event("order.any", &cloudevent("s1"));
    structured.content_type = Some("application/cloudevents+json; charset=utf-8".into());
    let mut batch = event("order.any", &format!("[{},{}]", cloudevent("s2"), cloudevent("s3")));
    batch.content_type = Some("application/cloudevents-batch+json".into());
    publisher.publish(&[binary, underscore, structured, batch]);
    sidewatch.is(r#"events_total{source="/shop",type="order.shipped"}"#, 10.0);
    let shown = sidewatch.json("/api/events?type=order.shipped&limit=20").to_string();
    assert!(shown.contains(r#"100% \"sure\""#), "{shown}");

    // What is no event: counted, and given back for the dead-letter exchange, where that is asked for.
    publisher.publish(&[
        Message::to("fussy", r#"{"type":"fine"}"#),
        Message::to("fussy", "no event at all"),
        Message::to("fussy", r#"{"type":"fine"}"#),
        Message::to("fussy", vec![0xff, 0xfe]),
        Message::to("fussy", ""),
        Message::to("orders", "no event either"),
        Message::to("orders", vec![b' '; 100 << 20]),
    ]);
    sidewatch.is(r#"events_total{source="fussy",type="fine"}"#, 2.0);
    sidewatch.is(r#"sum(sidewatch_events_refused_total{source="fussy"})"#, 3.0);
    sidewatch.is(r#"sum(sidewatch_events_refused_total{source="orders"})"#, 2.0);
    sidewatch.is(r#"sidewatch_events_refused_total{source="orders",reason="too_large"}"#, 1.0);
    let mut dead = Vec::new();
    eventually("three dead letters", 10, || {
        if let Ok(Some(letter)) = block(channel.basic_get("dead-letters".into(), BasicGetOptions { no_ack: true })) {
            dead.push(letter.delivery.data.clone());
        }
        (dead.len() == 3).then_some(())
    });
    assert_eq!(dead, [b"no event at all".to_vec(), vec![0xff, 0xfe], Vec::new()]);
    sidewatch.is(r#"sidewatch_source_acknowledged_total{source="orders"}"#, 12.0);
    eventually("the queues are empty", 10, || {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let left = block(channel.queue_declare("orders".into(), passive, FieldTable::default())).unwrap();
        (left.message_count() == 0).then_some(())
    });

    // A queue that goes away is made again, or waited for.
    block(channel.queue_delete("orders".into(), QueueDeleteOptions::default())).unwrap();
    block(channel.queue_delete("fussy".into(), QueueDeleteOptions::default())).unwrap();
    sidewatch.lost("fussy", "no queue 'fussy'");
    eventually("the queue is back", 20, || {
        publisher.publish(&[Message { exchange: "events".into(), ..Message::to("order.back", "{}") }]);
        sidewatch.value(r#"events_total{source="orders",type="order.back"}"#)
    });
    queue(&channel, "fussy", &[]);
    queue(&channel, "nowhere", &[]);
    for source in ["fussy", "missing"] {
        eventually(&format!("{source} comes back"), 30, || (sidewatch.source(source).0 == "connected").then_some(()));
    }
    let said = sidewatch.err().lines().filter(|line| line.contains("cannot hear") && line.contains("username")).count();
    assert_eq!(said, 1, "said once:\n{}", sidewatch.err());

    // At the end everything is acknowledged; a new start brings nothing again.
    assert_eq!(sidewatch.terminate(), Some(0));
    rabbit.stop();
}

#[test]
fn an_amqp_source_that_is_deaf_claims_no_silence() {
    let long = std::env::var_os("SIDEWATCH_LONG").is_some();
    let dir = tempfile::tempdir().unwrap();
    let mut rabbit = Rabbit::start(dir.path());
    let hook = Receiver::start(200);
    std::fs::write(
        dir.path().join("sidewatch.yaml"),
        format!(
            "sources: {{beats: {{amqp: {{url: 'amqp://127.0.0.1:{}', queue: beats, declare: true, scope: shared}}}}}}\n\
             health: {{heart: {{event: {{match: beat, within: 2s}}}}}}\n\
             alerts: {{Silent: {{event: {{absent: beat, within: 2s}}}}}}\n\
             notify: {{hook: {{webhook: {{url: 'http://127.0.0.1:{}/'}}}}}}\n",
            rabbit.port, hook.port
        ),
    )
    .unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    eventually("connected", 20, || (sidewatch.source("beats").0 == "connected").then_some(()));
    let (stop, ended) = (std::sync::atomic::AtomicBool::new(false), std::sync::atomic::AtomicBool::new(false));
    let heard = || sidewatch.value("sum(events_total{type=\"beat\"})").unwrap_or(0.0);
    let mut publisher = Publisher::new(&rabbit);
    std::thread::scope(|scope| {
        let beating = scope.spawn(|| {
            // The bound is for a test that fails.
            let began = std::time::Instant::now();
            while !ended.load(Ordering::Relaxed) && began.elapsed().as_secs() < 180 {
                if !stop.load(Ordering::Relaxed) {
                    publisher.publish(&[Message::to("beats", r#"{"type":"beat"}"#)]);
                }
                std::thread::park_timeout(Duration::from_millis(200));
            }
        });
        eventually("some beats", 20, || (heard() > 3.0).then_some(()));
        stop.store(true, Ordering::Relaxed);
        rabbit.kill();
        sidewatch.is_deaf_and_not_silent("beats", Duration::from_secs(if long { 60 } else { 5 }), &hook);
        rabbit.start_again();
        stop.store(false, Ordering::Relaxed);
        eventually("back", 30, || (sidewatch.source("beats").0 == "connected").then_some(()));
        let before = heard();
        eventually("beats again", 20, || (heard() > before + 10.0).then_some(()));
        ended.store(true, Ordering::Relaxed);
        beating.join().unwrap();
        let told = hook.bodies();
        assert!(!told.iter().any(|body| body.contains("\"Silent\"")), "{told:?}");
        assert!(told.iter().any(|body| body.contains("SidewatchDeaf")), "{told:?}");
        // True silence is told.
        eventually("silence", 20, || hook.bodies().iter().any(|body| body.contains("\"Silent\"")).then_some(()));
    });
}

/// `id` says whether the events have ids.
fn kills(id: bool, trial: Trial) {
    let dir = tempfile::tempdir().unwrap();
    let rabbit = std::sync::Mutex::new(Rabbit::start(dir.path()));
    let (port, mut publisher) = {
        let rabbit = rabbit.lock().unwrap();
        (rabbit.port, Publisher::new(&rabbit))
    };
    let source = format!(
        "{{amqp: {{url: 'amqp://127.0.0.1:{port}', queue: orders, declare: {{durable: true}}, scope: shared}}}}"
    );
    std::fs::write(dir.path().join("sidewatch.yaml"), exactness::config(&source)).unwrap();
    queue(&publisher.channel(), "orders", &[]);
    let sidewatch = exactness::run(
        dir.path(),
        trial,
        |progress| {
            let mut done = 0;
            while done < trial.events && !progress.ended.load(Ordering::Relaxed) {
                let next = progress.allowed(done).min(done + 500);
                let messages: Vec<Message> =
                    (done..next).map(|at| Message::to("orders", exactness::event(at, id))).collect();
                progress.published.fetch_add(publisher.publish(&messages), Ordering::Relaxed);
                done = next;
            }
        },
        |number| {
            let mut rabbit = rabbit.lock().unwrap();
            if number % 2 == 0 {
                rabbit.stop()
            } else {
                rabbit.kill()
            }
            rabbit.start_again();
        },
    );
    println!(
        "redelivered {:?}, duplicates {:?}",
        sidewatch.value("sum(sidewatch_source_redelivered_total)"),
        sidewatch.value("sum(sidewatch_source_duplicates_total)")
    );
}

#[test]
fn amqp_counts_are_exact_through_kills_and_restarts() {
    kills(true, Trial::new(Trial { events: 20_000, kills: 5, restarts: 1, reconnects: 0 }));
}

/// Without ids, and without restarts of the broker: a publisher that is not sure publishes again, and nobody could tell.
#[test]
fn amqp_counts_of_events_without_ids_are_exact_through_kills() {
    let trial = Trial::new(Trial { events: 10_000, kills: 4, restarts: 0, reconnects: 0 });
    kills(false, Trial { restarts: 0, ..trial });
}
