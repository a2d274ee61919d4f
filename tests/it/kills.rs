//! kill -9 again and again under load, with a receiver that fails now and then: every alert is told once, its end is told
//! after it, and the counters are exact.
//!
//! `SIDEWATCH_LONG=1` kills a hundred times.

use crate::harness::{Sidewatch, eventually};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const KILLS: usize = 12;
const KILLS_LONG: usize = 100;

/// SplitMix64.
fn random(state: &AtomicU64) -> u64 {
    let mut z = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What came: the `Idempotency-Key`, the message, and whether it was taken, in order.
type Seen = Arc<Mutex<Vec<(String, Value, bool)>>>;

/// A receiver of webhooks that answers 500 or cuts the line now and then, and seldom 429, which keeps everybody waiting; while it is told
/// to.
fn flaky(seen: Seen, fails: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let dice = Arc::new(AtomicU64::new(7));
        for stream in listener.incoming().map_while(Result::ok) {
            let (seen, fails, dice) = (seen.clone(), fails.clone(), dice.clone());
            std::thread::spawn(move || serve(stream, &seen, &fails, &dice));
        }
    });
    port
}

fn serve(stream: TcpStream, seen: &Seen, fails: &AtomicBool, dice: &AtomicU64) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut key) = (0, String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            match line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim())) {
                Some((name, value)) if name == "content-length" => length = value.parse().unwrap(),
                Some((name, value)) if name == "idempotency-key" => key = value.to_owned(),
                Some(_) => {}
                None if line.trim().is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let dice = if fails.load(Ordering::Relaxed) { random(dice) % 400 } else { 400 };
        seen.lock().unwrap().push((key, serde_json::from_slice(&body).unwrap(), dice > 30));
        let answer = match dice {
            0..15 => "HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n",
            15 => "HTTP/1.1 429 X\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n",
            16..=30 => return,
            _ => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        };
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// What the receiver knows of one alert.
#[derive(Debug, Default)]
struct One {
    /// State and key of each message that was taken, and its places in the order of all.
    taken: BTreeMap<(String, String), Vec<usize>>,
    refused_firing: bool,
}

impl One {
    /// The messages of a state: key, and where each was taken first.
    fn messages(&self, state: &str) -> Vec<(&str, usize)> {
        let of_state = self.taken.iter().filter(|((known, _), _)| known == state);
        of_state.map(|((_, key), places)| (key.as_str(), places[0])).collect()
    }

    fn ended(&self) -> bool {
        !self.messages("resolved").is_empty()
    }
}

/// By subject.
struct Told(BTreeMap<String, One>);

impl Told {
    fn of(seen: &[(String, Value, bool)]) -> Self {
        let mut told: BTreeMap<String, One> = BTreeMap::new();
        for (place, (key, message, taken)) in seen.iter().enumerate() {
            let alerts = message["alerts"].as_array().unwrap();
            assert_eq!(alerts.len(), 1, "a group of its own for each alert: {message}");
            let state = alerts[0]["status"].as_str().unwrap();
            let one = told.entry(alerts[0]["labels"]["subject"].as_str().unwrap().to_owned()).or_default();
            if *taken {
                one.taken.entry((state.to_owned(), key.clone())).or_default().push(place);
            } else {
                one.refused_firing |= state == "firing";
            }
        }
        Self(told)
    }
}

/// Appends events until told to end: one failure in 200, under a key of its own. Returns how many of each.
fn load(mut file: File, ends: &AtomicBool) -> (u64, u64) {
    let (mut orders, mut failures) = (0_u64, 0_u64);
    while !ends.load(Ordering::Relaxed) {
        let mut lines = String::new();
        for _ in 0..200 {
            orders += 1;
            lines += &format!(
                "{{\"id\":\"o{orders}\",\"type\":\"order.placed\",\"payload\":{{\"amount\":{}}}}}\n",
                orders % 7
            );
        }
        failures += 1;
        lines += &format!(
            "{{\"id\":\"f{failures}\",\"type\":\"payment.failed\",\"target\":\"k{failures}\",\"payload\":{{}}}}\n"
        );
        file.write_all(lines.as_bytes()).unwrap();
        std::thread::park_timeout(Duration::from_millis(100));
    }
    (orders, failures)
}

#[test]
fn every_alert_is_told_once_however_often_it_is_killed() {
    let kills = if std::env::var_os("SIDEWATCH_LONG").is_some() { KILLS_LONG } else { KILLS };
    let dir = tempfile::tempdir().unwrap();
    let (seen, fails) = (Seen::default(), Arc::new(AtomicBool::new(true)));
    let port = flaky(seen.clone(), fails.clone());
    let log = File::create(dir.path().join("events.log")).unwrap();
    std::fs::write(
        dir.path().join("alertmanager.yml"),
        format!(
            "route: {{receiver: hook, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}\n\
             receivers: [{{name: hook, webhook_configs: [{{url: 'http://127.0.0.1:{port}/'}}]}}]\n"
        ),
    )
    .unwrap();
    std::fs::write(
        dir.path().join("sidewatch.yaml"),
        "sources: {log: {file: {path: events.log}}}\nbundled_rules: false\nstate: {dir: state}\n\
         metrics:\n  amount_total: {counter: {match: order.placed, value: data.amount}}\n\
         alerts:\n  Failed: {event: {match: payment.failed, count: '>= 1', within: 6s, by: subject}}\n\
         notify: {alertmanager: alertmanager.yml}\n",
    )
    .unwrap();
    let (ends, dice) = (AtomicBool::new(false), AtomicU64::new(1));
    let began = Instant::now();
    let (orders, failures) = std::thread::scope(|scope| {
        let writing = scope.spawn(|| load(log, &ends));
        for _ in 0..kills {
            let sidewatch = Sidewatch::start(dir.path(), "run", &["--log", "error"]);
            // Any moment is as good as another: no condition is waited for here.
            std::thread::park_timeout(Duration::from_millis(random(&dice) % 500));
            sidewatch.kill();
        }
        ends.store(true, Ordering::Relaxed);
        writing.join().unwrap()
    });
    println!("{kills} kills in {:.1} s, {orders} orders, {failures} alerts", began.elapsed().as_secs_f64());
    fails.store(false, Ordering::Relaxed);
    let sidewatch = Sidewatch::start(dir.path(), "run", &["--log", "error"]);
    let told = || Told::of(&seen.lock().unwrap());
    eventually("every end is told", 120, || {
        (told().0.values().filter(|one| one.ended()).count() as u64 == failures).then_some(())
    });
    let Told(told) = told();
    let merged: Vec<&String> =
        told.iter().filter(|(_, one)| one.messages("firing").is_empty()).map(|(subject, _)| subject).collect();
    println!("{} beginnings were told with their end: {merged:?}", merged.len());
    for (subject, one) in &told {
        // A message that was being taken when the kill came is sent again under its own key: a receiver can tell.
        let (begun, ended) = (one.messages("firing"), one.messages("resolved"));
        assert_eq!(ended.len(), 1, "{subject}: {one:?}");
        // The end takes the place of a beginning that could not be delivered; it tells of both.
        assert!(begun.len() == 1 || (begun.is_empty() && one.refused_firing), "{subject}: {one:?}");
        assert!(begun.iter().all(|(_, at)| *at < ended[0].1), "the end before the beginning: {subject}: {one:?}");
    }
    let again = told.values().flat_map(|one| one.taken.values()).filter(|places| places.len() > 1).count();
    println!("{again} messages came again under their own key");
    assert_eq!(sidewatch.value("sum(events_total{type=\"order.placed\"})"), Some(orders as f64));
    assert_eq!(sidewatch.value("sum(amount_total)"), Some((1..=orders).map(|at| at % 7).sum::<u64>() as f64));
    assert_eq!(sidewatch.value("sum(sidewatch_notification_dead_letters_total) or vector(0)"), Some(0.0));
}
