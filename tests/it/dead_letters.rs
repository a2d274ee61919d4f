//! Messages that do not get through: tried again, given up, listed, tried by hand, dropped; and nobody else waits for them.

use crate::browser::Browser;
use crate::harness::{Sidewatch, eventually, request, run};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How the server answers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Mood {
    /// With this status.
    Status(u16),
    /// 429 and `Retry-After` in seconds.
    Later(u32),
    /// 503 and `Retry-After` as an HTTP date, so many seconds from now.
    LaterByDate(u32),
    /// Not at all.
    Hang,
    /// By closing the connection in the middle of the answer.
    Cut,
}

/// A local HTTP server whose mood can be changed; keeps what it was sent.
pub struct Fickle {
    pub port: u16,
    mood: Arc<Mutex<Mood>>,
    got: Arc<Mutex<Vec<Got>>>,
}

/// One request.
#[derive(Clone)]
pub struct Got {
    pub at: Instant,
    pub line: String,
    pub key: String,
    pub body: String,
    pub mood: Mood,
}

impl Fickle {
    pub fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mood, got) = (Arc::new(Mutex::new(mood)), Arc::new(Mutex::new(Vec::new())));
        let (moods, into) = (mood.clone(), got.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (moods, into) = (moods.clone(), into.clone());
                std::thread::spawn(move || serve(stream, &moods, &into));
            }
        });
        Self { port, mood, got }
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// Waits for a request that was answered well and whose body holds this text.
    pub fn took(&self, text: &str) -> Got {
        eventually(&format!("{text:?} is taken"), 30, || {
            self.got().into_iter().find(|got| got.mood == Mood::Status(200) && got.body.contains(text))
        })
    }
}

fn serve(stream: TcpStream, moods: &Mutex<Mood>, into: &Mutex<Vec<Got>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut first, mut key) = (0, String::new(), String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            } else if let Some(value) = lower.strip_prefix("idempotency-key:") {
                key = value.trim().to_owned();
            }
            if first.is_empty() {
                first = line.trim().to_owned();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let mood = *moods.lock().unwrap();
        let body = String::from_utf8_lossy(&body).into_owned();
        into.lock().unwrap().push(Got { at: Instant::now(), line: first, key, body, mood });
        let answer = match mood {
            Mood::Status(status) => format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok"),
            Mood::Later(seconds) => {
                format!("HTTP/1.1 429 X\r\nretry-after: {seconds}\r\ncontent-length: 4\r\n\r\nslow")
            }
            Mood::LaterByDate(seconds) => {
                let date = |after: i64| {
                    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(after);
                    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
                };
                let (now, then) = (date(0), date(i64::from(seconds)));
                format!("HTTP/1.1 503 X\r\ndate: {now}\r\nretry-after: {then}\r\ncontent-length: 4\r\n\r\nslow")
            }
            Mood::Hang => loop {
                // Until the other side gives up.
                let mut byte = [0];
                if reader.read(&mut byte).unwrap_or(0) == 0 {
                    return;
                }
            },
            Mood::Cut => {
                let _ = reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-le");
                return;
            }
        };
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn start(dir: &Path, notify: &str) -> Sidewatch {
    let text = format!(
        "sources: {{push: {{http: {{}}}}}}\nbundled_rules: false\nstate: {{dir: state, checkpoint_interval: 50ms}}\n\
         alerts:\n  Boom: {{event: {{match: boom, count: '>= 1', within: 1h, by: subject}}}}\n\
         \x20 Bang: {{event: {{match: bang, count: '>= 1', within: 1h, by: subject}}}}\n\
         notify:\n{notify}"
    );
    std::fs::write(dir.join("sidewatch.yaml"), text).unwrap();
    Sidewatch::start(dir, "run", &[])
}

fn hook(name: &str, server: &Fickle) -> String {
    format!("  {name}: {{webhook: {{url: 'http://127.0.0.1:{}/secret-path'}}}}\n", server.port)
}

fn send(sidewatch: &Sidewatch, event_type: &str, subject: &str) {
    let event = format!(r#"{{"type":"{event_type}","target":"{subject}","payload":{{}}}}"#);
    assert_eq!(sidewatch.post("/events", "application/json", event.as_bytes()).0, 202);
}

fn cli(dir: &Path, sidewatch: &Sidewatch, args: &[&str]) -> (i32, String, String) {
    let url = format!("http://127.0.0.1:{}", sidewatch.observe);
    run(dir, &[args, &["--url", &url]].concat())
}

fn dead(sidewatch: &Sidewatch, count: usize) -> Vec<Value> {
    eventually(&format!("{count} dead letters"), 20, || {
        let list = sidewatch.json("/api/notifications?state=dead")["notifications"].as_array().unwrap().clone();
        (list.len() == count).then_some(list)
    })
}

#[test]
fn a_dead_letter_is_listed_survives_a_kill_and_is_delivered_when_it_is_tried_again() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Fickle::start(Mood::Status(404)));
    let sidewatch = start(dir.path(), &hook("desk", &server));
    send(&sidewatch, "boom", "kettle");
    let letter = dead(&sidewatch, 1).remove(0);
    assert_eq!((&letter["receiver"], &letter["why"]), (&"desk".into(), &"refused".into()), "{letter}");
    assert!(letter["error"].as_str().unwrap().contains("404"), "{letter}");
    assert!(!letter.to_string().contains("secret-path"), "the address may hold a token");
    let id = letter["id"].to_string();
    // It is on disk once the history knows of it: both are written together.
    eventually("it is written", 20, || {
        let history = sidewatch.json("/api/history?receiver=desk");
        history["entries"].as_array().unwrap().iter().any(|line| line["outcome"] == "given_up").then_some(())
    });
    sidewatch.kill();

    let sidewatch = start(dir.path(), &hook("desk", &server));
    let again = dead(&sidewatch, 1).remove(0);
    assert_eq!((&again["id"], &again["key"]), (&letter["id"], &letter["key"]), "the same after a kill");
    let (code, out, err) = cli(dir.path(), &sidewatch, &["notifications", "list"]);
    assert!(code == 0 && out.contains("Boom") && out.contains("the receiver refused it"), "{out}{err}");
    let (code, out, _) = cli(dir.path(), &sidewatch, &["notifications", "show", &id]);
    assert!(code == 0 && out.contains("subject=kettle") && out.contains("firing"), "{out}");
    let message = &sidewatch.json(&format!("/api/notifications/{id}"))["message"];
    assert_eq!(message["alerts"][0]["labels"]["subject"], "kettle", "{message}");

    server.set(Mood::Status(200));
    let (code, out, err) = cli(dir.path(), &sidewatch, &["notifications", "retry", &id]);
    assert_eq!(code, 0, "{out}{err}");
    let taken = server.took("kettle");
    let refused = server.got().into_iter().find(|got| got.mood == Mood::Status(404)).unwrap();
    assert!(
        !taken.key.is_empty() && taken.key == refused.key,
        "one key for one message: {} {}",
        taken.key,
        refused.key
    );
    dead(&sidewatch, 0);
    let outcomes = eventually("the history knows", 20, || {
        let history = sidewatch.json("/api/history?receiver=desk&rule=Boom");
        let outcomes: Vec<String> = history["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line["outcome"].as_str().unwrap().into())
            .collect();
        (outcomes.len() == 4).then_some(outcomes)
    });
    assert_eq!(outcomes, ["delivered", "retried_by_hand", "given_up", "queued"]);
}

#[test]
fn a_dead_letter_can_be_dropped_and_only_from_here() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Fickle::start(Mood::Status(410)));
    let sidewatch = start(dir.path(), &hook("desk", &server));
    send(&sidewatch, "boom", "kettle");
    let id = dead(&sidewatch, 1)[0]["id"].to_string();
    let path = format!("/api/notifications/{id}");
    let foreign = [("origin", "https://evil.example")];
    assert_eq!(request(sidewatch.observe, "DELETE", &path, &foreign, b"").0, 403);
    assert_eq!(
        request(sidewatch.observe, "POST", &format!("{path}/retry"), &[("x-forwarded-for", "10.0.0.1")], b"").0,
        403
    );
    assert_eq!(request(sidewatch.observe, "DELETE", "/api/notifications/999", &[], b"").0, 404);
    assert_eq!(request(sidewatch.observe, "DELETE", "/api/notifications/x", &[], b"").0, 400);
    dead(&sidewatch, 1);
    let (code, out, err) = cli(dir.path(), &sidewatch, &["notifications", "drop", &id]);
    assert!(code == 0 && out.contains("dropped"), "{out}{err}");
    dead(&sidewatch, 0);
    let (code, _, err) = cli(dir.path(), &sidewatch, &["notifications", "drop", &id]);
    assert!(code == 1 && err.contains(&format!("there is no message {id}")), "{err}");
    assert!(sidewatch.json("/api/history?receiver=desk")["entries"].to_string().contains("dropped_by_hand"));
}

#[test]
fn receivers_that_hang_fail_and_cut_delay_nobody_and_get_their_message_when_they_are_well() {
    let dir = tempfile::tempdir().unwrap();
    let good = Fickle::start(Mood::Status(200));
    let ill = [Mood::Status(500), Mood::Hang, Mood::Cut, Mood::Later(1), Mood::LaterByDate(2)].map(Fickle::start);
    let names = ["failing", "hanging", "cutting", "later", "by_date"];
    let mut notify = hook("good", &good);
    names.iter().zip(&ill).for_each(|(name, server)| notify.push_str(&hook(name, server)));
    let all = format!("notify: [good, {}]", names.join(", "));
    let text = std::fs::read_to_string({
        drop(start(dir.path(), &notify));
        dir.path().join("sidewatch.yaml")
    });
    let text = text.unwrap().replace("by: subject}}", &format!("by: subject}}, {all}}}"));
    std::fs::write(dir.path().join("sidewatch.yaml"), text).unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let began = Instant::now();
    send(&sidewatch, "boom", "kettle");
    good.took("kettle");
    eventually("each of the others is tried", 20, || ill.iter().all(|one| !one.got().is_empty()).then_some(()));
    // The good one gets the next message while the others are ill.
    send(&sidewatch, "bang", "kettle");
    good.took("Bang");
    assert!(began.elapsed() < Duration::from_secs(10), "it waited for an ill receiver: {:?}", began.elapsed());
    for (at, least) in [(3, 900), (4, 900)] {
        let tries = eventually("it is tried again after Retry-After", 20, || {
            let tries: Vec<Instant> = ill[at].got().iter().map(|got| got.at).collect();
            (tries.len() >= 2).then_some(tries)
        });
        let waited = tries[1].duration_since(tries[0]);
        assert!(waited >= Duration::from_millis(least), "{}: tried again after {waited:?}", names[at]);
    }
    ill.iter().for_each(|server| server.set(Mood::Status(200)));
    for (name, server) in names.iter().zip(&ill) {
        if *name == "hanging" {
            continue;
        }
        // Whoever knows that it is well again need not wait for the backoff.
        let waiting = sidewatch.json(&format!("/api/notifications?receiver={name}"))["notifications"].clone();
        for letter in waiting.as_array().unwrap() {
            request(sidewatch.observe, "POST", &format!("/api/notifications/{}/retry", letter["id"]), &[], b"");
        }
        server.took("kettle");
        server.took("Bang");
    }
    let page = sidewatch.json("/api/notifications");
    let lane = |name: &str| {
        page["receivers"].as_array().unwrap().iter().find(|lane| lane["receiver"] == name).unwrap().clone()
    };
    assert!(lane("cutting")["counters"]["retried"].as_u64().unwrap() >= 1, "{page}");
    assert_eq!(lane("good")["counters"]["retried"], 0);
}

#[test]
fn the_page_lists_dead_letters_and_tries_them_again() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Fickle::start(Mood::Status(404)));
    let sidewatch = start(dir.path(), &hook("desk", &server));
    send(&sidewatch, "boom", "kettle");
    send(&sidewatch, "bang", "kettle");
    dead(&sidewatch, 2);
    let mut browser = Browser::open(&format!("http://127.0.0.1:{}/", sidewatch.observe));
    eventually("the page lists both", 30, || {
        let text = browser.text();
        (text.contains("Boom (firing) to desk") && text.contains("Bang (firing) to desk")).then_some(())
    });
    assert!(browser.text().contains("0 on their way, 2 given up"), "{}", browser.text());
    server.set(Mood::Status(200));
    let row = "[...document.querySelectorAll('#outbox li')].find((row) => row.textContent.includes('Bang'))";
    browser.eval(&format!("{row}.querySelector('button').click()"));
    server.took("Bang");
    eventually("one is left", 30, || browser.text().contains("1 given up").then_some(()));
    let drop = "document.querySelector('#outbox li:last-child button:last-child')";
    browser.eval(&format!("{drop}.click()"));
    assert_eq!(browser.eval(&format!("{drop}.textContent")), "Really drop?");
    dead(&sidewatch, 1);
    browser.eval(&format!("{drop}.click()"));
    dead(&sidewatch, 0);
    eventually("the card is gone", 30, || {
        (browser.eval("document.querySelector('#outbox-card').hidden") == true).then_some(())
    });
    assert!(browser.errors.is_empty(), "{:?}", browser.errors);
}
