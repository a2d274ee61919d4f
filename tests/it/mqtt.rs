//! `mqtt` sources against a real Mosquitto.

use crate::exactness::{self, Trial};
use crate::harness::{Receiver, Sidewatch, eventually, free_port, nonsense, run};
use crate::mosquitto::{Message, Mosquitto, publish};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn an_mqtt_source_does_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let passwords = dir.path().join("passwords");
    std::fs::write(&passwords, "").unwrap();
    for (user, password) in [("writer", "w"), ("reader", "r")] {
        let made = Command::new("mosquitto_passwd").arg("-b").arg(&passwords).args([user, password]).status().unwrap();
        assert!(made.success());
    }
    let access = dir.path().join("access");
    std::fs::write(&access, "user writer\ntopic readwrite #\nuser reader\ntopic read shop/#\ntopic read big/#\n")
        .unwrap();
    let mut mosquitto = Mosquitto::start(
        dir.path(),
        &format!("allow_anonymous false\npassword_file {}\nacl_file {}", passwords.display(), access.display()),
    );
    let (port, nobody, nonsense) = (mosquitto.port, free_port(), nonsense());
    let send = |messages: &[Message]| publish(port, Some(("writer", "w")), messages);
    send(&[Message { retain: true, ..Message::to("shop/door", "open") }]);

    std::fs::write(dir.path().join("password"), "r\n").unwrap();
    let url = format!("mqtt://127.0.0.1:{port}");
    std::fs::write(
        dir.path().join("sidewatch.yaml"),
        format!(
            r#"
service: {{name: shop, instance: one}}
state: {{dir: state}}
sources:
  five: {{mqtt: {{url: "{url}", topics: ["shop/#"], username: reader, password_file: password, scope: per_instance}}}}
  three: {{mqtt: {{url: "mqtt://reader:r@127.0.0.1:{port}", topics: "shop/#", version: 3.1.1, retained: ignore, scope: per_instance}}}}
  half: {{mqtt: {{url: "mqtt://reader:r@127.0.0.1:{port}", topics: "shop/#", scope: shared}}}}
  other_half: {{mqtt: {{url: "mqtt://reader:r@127.0.0.1:{port}", topics: "shop/#", scope: shared, version: 3.1.1}}}}
  fleeting: {{mqtt: {{url: "mqtt://reader:r@127.0.0.1:{port}", topics: "shop/#", qos: 0, scope: per_instance}}}}
  denied: {{mqtt: {{url: "mqtt://reader:wrong@127.0.0.1:{port}", topics: "shop/#", scope: per_instance}}}}
  denied_three: {{mqtt: {{url: "mqtt://reader:wrong@127.0.0.1:{port}", topics: "shop/#", version: 3.1.1, scope: per_instance}}}}
  absent: "mqtt://127.0.0.1:{nobody}?topics=a/b,c/+"
  nonsense: {{mqtt: {{url: "mqtt://127.0.0.1:{nonsense}", topics: a, scope: per_instance}}}}
metrics:
  celsius: {{gauge: {{match: shop.+.temperature, value: data, labels: {{topic: subject}}}}}}
  orders_total: {{counter: {{match: "order.*"}}}}
"#
        ),
    )
    .unwrap();
    let (code, out, err) = run(dir.path(), &["check"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("source five: at least once, counted once (QoS 1)"), "{out}");
    assert!(out.contains("source fleeting: at most once (QoS 0)"), "{out}");
    assert!(err.contains("absent") && err.contains("scope") && err.matches("warning: source").count() == 1, "{err}");

    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    for source in ["five", "three", "half", "other_half", "fleeting"] {
        sidewatch.connected(source);
    }
    sidewatch.lost("denied", "look at username and password");
    sidewatch.lost("denied_three", "look at username and password");
    sidewatch.lost("absent", "nobody listens at 127.0.0.1");
    sidewatch.lost("nonsense", "MQTT");
    assert_eq!((sidewatch.get("/livez").0, sidewatch.get("/readyz").0), (200, 200));

    // What was retained counts where it is asked for; bare values become data, the topic the type.
    sidewatch.is(r#"events_total{source="five",type="shop.door"}"#, 1.0);
    send(&[
        Message::to("shop/hall/temperature", "21.5"),
        Message::to("shop/till", r#"{"type":"order.placed","id":"1","data":{"n":1}}"#),
        Message::to("shop/till", r#"{"type":"order.placed","id":"1","data":{"n":1}}"#),
        Message::to("shop/till/anything", r#"{"n":1}"#),
        Message::to("shop/till/broken", r#"{"n":"#),
        Message::to("shop/till/empty", ""),
        Message::to("shop/till/bytes", vec![0xff, 0x00, 0xfe]),
    ]);
    for source in ["five", "three", "fleeting"] {
        sidewatch.is(&format!(r#"events_total{{source="{source}",type="shop.hall.temperature"}}"#), 1.0);
        sidewatch.is(&format!(r#"events_total{{source="{source}",type="order.placed"}}"#), 1.0);
        sidewatch.is(&format!(r#"events_total{{source="{source}",type="shop.till.anything"}}"#), 1.0);
        sidewatch.is(&format!(r#"sum(sidewatch_events_refused_total{{source="{source}"}})"#), 3.0);
        sidewatch.is(&format!(r#"sidewatch_source_duplicates_total{{source="{source}"}}"#), 1.0);
    }
    sidewatch.is(r#"celsius{topic="shop/hall/temperature"}"#, 21.5);
    sidewatch.is(r#"sidewatch_source_ignored_total{source="three"}"#, 1.0);
    assert_eq!(sidewatch.value(r#"events_total{source="three",type="shop.door"}"#), None);
    // Between the two halves everything was heard once, but the identical ones by one or by both.
    sidewatch.is(r#"sum(events_total{source=~".*half",type="shop.hall.temperature"})"#, 1.0);
    sidewatch.is(r#"sum(events_total{source=~".*half",type="shop.till.anything"})"#, 1.0);
    sidewatch.is(r#"sum(sidewatch_events_refused_total{source=~".*half"})"#, 3.0);

    // CloudEvents: user properties (version 5), and structured.
    let properties =
        [("specversion", "1.0"), ("id", "b1"), ("source", "/till"), ("type", "order.paid"), ("subject", "5%")];
    let cloudevent = r#"{"specversion":"1.0","id":"s1","source":"/till","type":"order.paid","data":1}"#;
    send(&[
        Message {
            properties: properties.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            content_type: Some("application/json".into()),
            ..Message::to("shop/till", "17.5")
        },
        Message { content_type: Some("application/cloudevents+json".into()), ..Message::to("shop/till", cloudevent) },
    ]);
    eventually("both CloudEvents", 10, || {
        let shown = sidewatch.json("/api/events?type=order.paid&limit=20").to_string();
        (shown.contains("5%") && shown.contains("s1")).then_some(())
    });

    // Too large for an event: refused, and the connection goes on.
    send(&[Message::to("shop/large", vec![b' '; 100 << 20]), Message::to("shop/small", "1")]);
    for source in ["five", "three"] {
        sidewatch.is(&format!(r#"events_total{{source="{source}",type="shop.small"}}"#), 1.0);
        sidewatch.is(&format!(r#"sidewatch_events_refused_total{{source="{source}",reason="too_large"}}"#), 1.0);
        assert_eq!(sidewatch.value(&format!("sidewatch_source_connected_total{{source=\"{source}\"}}")), Some(1.0));
    }

    let said = sidewatch.err().lines().filter(|line| line.contains("cannot hear") && line.contains("username")).count();
    assert_eq!(said, 2, "said once by each: {}", sidewatch.err());

    // Away and back: the session has kept what came, and what was retained does not count again.
    assert_eq!(sidewatch.terminate(), Some(0));
    let words = "all of them lower case";
    send(&[Message::to("shop/meanwhile", words), Message::to("shop/meanwhile", words)]);
    mosquitto.stop();
    mosquitto.start_again();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    for source in ["five", "three"] {
        sidewatch.is(&format!(r#"events_total{{source="{source}",type="shop.meanwhile"}}"#), 2.0);
        sidewatch.is(&format!(r#"events_total{{source="{source}",type="shop.small"}}"#), 1.0);
    }
    sidewatch.is(r#"events_total{source="five",type="shop.door"}"#, 1.0);
    assert_eq!(sidewatch.value(r#"events_total{source="fleeting",type="shop.meanwhile"}"#), None);

    // A gap is counted where nothing is kept.
    mosquitto.stop();
    sidewatch.lost("five", &format!("127.0.0.1:{port}"));
    mosquitto.start_again();
    sidewatch.connected("five");
    sidewatch.connected("fleeting");
    sidewatch.is(r#"sidewatch_source_gaps_total{source="fleeting",reason="disconnected"}"#, 1.0);
    assert_eq!(sidewatch.value(r#"sum(sidewatch_source_gaps_total{source="five"}) or vector(0)"#), Some(0.0));
    sidewatch.is(r#"events_total{source="five",type="shop.door"}"#, 1.0);
    assert_eq!(sidewatch.terminate(), Some(0));
}

#[test]
fn an_mqtt_source_that_is_deaf_claims_no_silence() {
    let long = std::env::var_os("SIDEWATCH_LONG").is_some();
    let dir = tempfile::tempdir().unwrap();
    let mut mosquitto = Mosquitto::start(dir.path(), "");
    let (port, hook) = (mosquitto.port, Receiver::start(200));
    std::fs::write(
        dir.path().join("sidewatch.yaml"),
        format!(
            "sources: {{beats: {{mqtt: {{url: 'mqtt://127.0.0.1:{port}', topics: beat, scope: per_instance}}}}}}\n\
             health: {{heart: {{event: {{match: beat, within: 2s}}}}}}\n\
             alerts: {{Silent: {{event: {{absent: beat, within: 2s}}}}}}\n\
             notify: {{hook: {{webhook: {{url: 'http://127.0.0.1:{}/'}}}}}}\n",
            hook.port
        ),
    )
    .unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    sidewatch.connected("beats");
    let (stop, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let heard = || sidewatch.value("sum(events_total{type=\"beat\"})").unwrap_or(0.0);
    std::thread::scope(|scope| {
        let beating = scope.spawn(|| {
            // The bound is for a test that fails.
            let began = std::time::Instant::now();
            while !ended.load(Ordering::Relaxed) && began.elapsed().as_secs() < 180 {
                if !stop.load(Ordering::Relaxed) {
                    publish(port, None, &[Message::to("beat", "1")]);
                }
                std::thread::park_timeout(Duration::from_millis(200));
            }
        });
        eventually("some beats", 20, || (heard() > 3.0).then_some(()));
        stop.store(true, Ordering::Relaxed);
        mosquitto.stop();
        sidewatch.is_deaf_and_not_silent("beats", Duration::from_secs(if long { 60 } else { 5 }), &hook);
        mosquitto.start_again();
        stop.store(false, Ordering::Relaxed);
        sidewatch.connected("beats");
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

/// Mosquitto before 2.0.13 (Debian 12 has 2.0.11) miscounts after a restart what is in flight, and stops sending although
/// everything is acknowledged. A new connection makes it go on.
const RECONNECTS: u64 = 30;

fn kills(version: &str, id: bool, trial: Trial) {
    let dir = tempfile::tempdir().unwrap();
    let mosquitto = Mutex::new(Mosquitto::start(dir.path(), ""));
    let port = mosquitto.lock().unwrap().port;
    let source = format!(
        "{{mqtt: {{url: 'mqtt://127.0.0.1:{port}', topics: orders, version: {version}, scope: per_instance}}}}"
    );
    std::fs::write(dir.path().join("sidewatch.yaml"), exactness::config(&source)).unwrap();
    // The session must be there before anything is published: a broker keeps nothing for those it does not know.
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    sidewatch.connected("orders");
    sidewatch.kill();
    let sidewatch = exactness::run(
        dir.path(),
        trial,
        |progress| {
            let mut done = 0;
            while done < trial.events && !progress.ended.load(Ordering::Relaxed) {
                let next = progress.allowed(done).min(done + 500);
                let messages: Vec<Message> =
                    (done..next).map(|at| Message::to("orders", exactness::event(at, id))).collect();
                progress.published.fetch_add(publish(port, None, &messages), Ordering::Relaxed);
                done = next;
            }
        },
        |_| {
            let mut mosquitto = mosquitto.lock().unwrap();
            mosquitto.stop();
            mosquitto.start_again();
        },
    );
    println!(
        "redelivered {:?}, duplicates {:?}",
        sidewatch.value("sum(sidewatch_source_redelivered_total)"),
        sidewatch.value("sum(sidewatch_source_duplicates_total)")
    );
}

#[test]
fn mqtt_counts_are_exact_through_kills_and_restarts() {
    kills("5", true, Trial::new(Trial { events: 20_000, kills: 5, restarts: 2, reconnects: RECONNECTS }));
}

#[test]
fn mqtt_3_counts_are_exact_through_kills_and_restarts() {
    kills("3.1.1", true, Trial::new(Trial { events: 5_000, kills: 4, restarts: 2, reconnects: RECONNECTS }));
}

/// Without ids, and without restarts of the broker: a publisher that is not sure publishes again, and nobody could tell.
#[test]
fn mqtt_counts_of_events_without_ids_are_exact_through_kills() {
    let trial = Trial::new(Trial { events: 10_000, kills: 4, restarts: 0, reconnects: RECONNECTS });
    kills("5", false, Trial { restarts: 0, ..trial });
}
