//! Events of the Docker Engine API: from a real Podman service, and from a daemon of the test's own that speaks as Docker's
//! does where Podman cannot (containers that run need more than a build machine gives).

use crate::harness::{Sidewatch, eventually};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

fn total(sidewatch: &Sidewatch, source: &str, event_type: &str) -> u64 {
    let query = format!("sum(events_total{{type=\"{event_type}\",source=\"{source}\"}})");
    sidewatch.value(&query).unwrap_or(0.0) as u64
}

#[track_caller]
fn check(sidewatch: &Sidewatch, source: &str, expected: &[(&str, u64)]) {
    eventually(&format!("{source}: {expected:?}"), 30, || {
        let seen: Vec<(&str, u64)> = expected.iter().map(|(name, _)| (*name, total(sidewatch, source, name))).collect();
        for ((name, seen), (_, expected)) in seen.iter().zip(expected) {
            assert!(seen <= expected, "{source}: {name}: {seen} of {expected}");
        }
        (seen == expected).then_some(())
    });
}

fn metric(sidewatch: &Sidewatch, name: &str) -> f64 {
    let text = sidewatch.get("/metrics").1;
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

fn payload(sidewatch: &Sidewatch, event_type: &str) -> serde_json::Value {
    let events = sidewatch.json(&format!("/api/events?type={event_type}&limit=100"));
    events["events"][0]["payload"].clone()
}

fn detail(sidewatch: &Sidewatch, source: &str) -> (String, String) {
    let source = sidewatch.json("/health")["sidewatch"]["sources"][source].clone();
    (source["state"].as_str().unwrap().to_owned(), source.to_string())
}

/// Podman's own service with a store of its own.
struct Podman {
    dir: PathBuf,
    service: Option<Child>,
}

impl Podman {
    fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), service: None }
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("podman.sock")
    }

    fn start(&mut self) {
        let service = Command::new("podman")
            .args(["--root", "root", "--runroot", "run", "--tmpdir", "tmp", "--storage-driver", "vfs"])
            .args(["--events-backend", "file", "system", "service", "--time=0"])
            .arg(format!("unix://{}", self.socket().display()))
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.service = Some(service);
        eventually("Podman's socket", 30, || UnixStream::connect(self.socket()).ok());
    }

    fn stop(&mut self) {
        if let Some(mut service) = self.service.take() {
            service.kill().unwrap();
            service.wait().unwrap();
        }
    }

    fn run(&self, args: &[&str]) {
        let output = Command::new("podman")
            .arg("--remote")
            .arg("--url")
            .arg(format!("unix://{}", self.socket().display()))
            .args(args)
            .current_dir(&self.dir)
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn what_podman_does_is_counted_once_through_kills_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut podman = Podman::new(dir.path());
    std::fs::write(
        dir.path().join("sidewatch.yaml"),
        format!(
            "sources:\n  all: 'docker://{0}'\n  web: {{docker: {{socket: 'unix://{0}', labels: {{app: web}}}}}}\nstate: {{dir: state}}\n",
            podman.socket().display()
        ),
    )
    .unwrap();
    // The daemon is absent at the start: said with what to do, nothing else suffers.
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    eventually("the source is lost", 10, || (detail(&sidewatch, "all").0 == "lost").then_some(()));
    assert!(detail(&sidewatch, "all").1.contains("is the daemon running"), "{:?}", detail(&sidewatch, "all"));
    assert_eq!((sidewatch.get("/livez").0, sidewatch.get("/readyz").0), (200, 200));
    podman.start();
    for source in ["all", "web"] {
        eventually("connected", 30, || (detail(&sidewatch, source).0 == "connected").then_some(()));
    }

    // An empty image is enough to create containers; none needs to run.
    let tar = dir.path().join("empty.tar");
    assert!(Command::new("tar").arg("cf").arg(&tar).args(["--files-from", "/dev/null"]).status().unwrap().success());
    podman.run(&["import", "-q", tar.to_str().unwrap(), "scratch:1"]);
    podman.run(&["create", "--name", "one", "--label", "app=web", "scratch:1", "/x"]);
    podman.run(&["create", "--name", "two", "--label", "app=other", "scratch:1", "/x"]);
    podman.run(&["rm", "one"]);
    check(&sidewatch, "all", &[("container.create", 2), ("container.destroy", 1)]);
    check(&sidewatch, "web", &[("container.create", 1), ("container.destroy", 1)]);
    let created = payload(&sidewatch, "container.create");
    let data = &created["data"];
    assert_eq!(data["image"], "localhost/scratch:1", "{created}");
    assert_eq!(data["container_id"].as_str().unwrap().len(), 12);
    assert!(data["labels"]["app"] == "web" || data["labels"]["app"] == "other", "{created}");

    // kill -9, and things happen meanwhile.
    let mut tags = total(&sidewatch, "all", "image.tag");
    let mut sidewatch = sidewatch;
    for round in 0..4 {
        for at in 0..5 {
            podman.run(&["tag", "scratch:1", &format!("scratch:{round}-{at}")]);
            tags += 1;
            if at == 2 {
                sidewatch.kill();
                podman.run(&["tag", "scratch:1", &format!("scratch:{round}-away")]);
                tags += 1;
                sidewatch = Sidewatch::start(dir.path(), "run", &[]);
                // What happened meanwhile comes first.
                check(&sidewatch, "all", &[("image.tag", tags)]);
            }
        }
        check(&sidewatch, "all", &[("image.tag", tags), ("container.create", 2), ("container.destroy", 1)]);
    }
    // The daemon goes and comes back.
    podman.stop();
    eventually("the source is lost", 20, || (detail(&sidewatch, "all").0 == "lost").then_some(()));
    podman.start();
    podman.run(&["rm", "two"]);
    check(&sidewatch, "all", &[("image.tag", tags), ("container.create", 2), ("container.destroy", 2)]);
    check(&sidewatch, "web", &[("container.create", 1), ("container.destroy", 1)]);
    eventually("connected again", 20, || (detail(&sidewatch, "all").0 == "connected").then_some(()));
    assert!(metric(&sidewatch, "sidewatch_source_duplicates_total{source=\"all\"") >= 1.0);
    assert_eq!(metric(&sidewatch, "sidewatch_source_gaps_total{source=\"all\",reason=\"forgotten\"}"), 0.0);
    assert_eq!(sidewatch.terminate(), Some(0));
}

/// Answers as Docker's daemon does: `/events` from a list that grows, `/containers/...` from what the test says.
#[derive(Clone, Default)]
struct Daemon {
    events: Arc<Mutex<Vec<(i64, String)>>>,
    listing: Arc<Mutex<String>>,
    inspect: Arc<Mutex<String>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// Connections that are read from; counted up to end them all.
    generation: Arc<Mutex<u64>>,
}

impl Daemon {
    fn serve(&self, socket: &Path) {
        let listener = UnixListener::bind(socket).unwrap();
        let daemon = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let daemon = daemon.clone();
                std::thread::spawn(move || daemon.answer(stream));
            }
        });
    }

    fn answer(&self, mut stream: UnixStream) {
        loop {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    return;
                }
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            self.asked.lock().unwrap().push(path.clone());
            if path.starts_with("/events") {
                return self.stream(stream, &path);
            }
            let body = if path.starts_with("/containers/json") { &self.listing } else { &self.inspect };
            let body = body.lock().unwrap().clone();
            let status = if body.is_empty() { "404 Not Found" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn stream(&self, mut stream: UnixStream, path: &str) {
        let since = path.split("since=").nth(1).map(|since| {
            let since = since.split('&').next().unwrap().replace("%2E", ".");
            let (seconds, nanos) = since.split_once('.').unwrap();
            seconds.parse::<i64>().unwrap() * 1_000_000_000 + nanos.parse::<i64>().unwrap()
        });
        let born = *self.generation.lock().unwrap();
        let ends = path.contains("until=");
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        let mut sent = match since {
            None => self.events.lock().unwrap().len(),
            Some(_) => 0,
        };
        while *self.generation.lock().unwrap() == born {
            let fresh: Vec<(i64, String)> = self.events.lock().unwrap()[sent..].to_vec();
            sent += fresh.len();
            for (time, event) in fresh.into_iter().filter(|(time, _)| since.is_none_or(|since| *time >= since)) {
                let _ = time;
                if stream.write_all(format!("{:x}\r\n{event}\n\r\n", event.len() + 1).as_bytes()).is_err() {
                    return;
                }
            }
            if ends {
                break;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
        let _ = stream.write_all(b"0\r\n\r\n");
    }

    fn event(&self, kind: &str, action: &str, id: &str, attributes: &str) {
        let mut events = self.events.lock().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
        // Two events of one nanosecond, now and then.
        let time = events.last().filter(|_| events.len().is_multiple_of(3)).map_or(now, |(time, _)| *time);
        let event = format!(
            r#"{{"status":"{action}","id":"{id}","Type":"{kind}","Action":"{action}","Actor":{{"ID":"{id}","Attributes":{{{attributes}}}}},"scope":"local","time":{},"timeNano":{time}}}"#,
            time / 1_000_000_000
        );
        events.push((time, event));
    }

    fn hang_up(&self) {
        *self.generation.lock().unwrap() += 1;
    }
}

const WEB: &str = "aaaaaaaaaaaa0000000000000000000000000000000000000000000000000000";
const RUNS: &str = "bbbbbbbbbbbb0000000000000000000000000000000000000000000000000000";

#[test]
fn running_containers_are_told_at_the_start_and_a_start_waits_for_its_address() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::default();
    *daemon.listing.lock().unwrap() = format!(
        r#"[{{"Id":"{RUNS}","Names":["/db"],"Image":"db:1","Labels":{{"team":"shop"}},"State":"running","HostConfig":{{"NetworkMode":"bridge"}},"NetworkSettings":{{"Networks":{{"bridge":{{"IPAddress":"172.17.0.6"}}}}}}}}]"#
    );
    let without = r#"{"Name":"/web","State":{"Running":true},"Config":{"Image":"web:1","Labels":{"joyride.host.name":"web.local"}},"HostConfig":{"NetworkMode":"bridge"},"NetworkSettings":{"Networks":{"bridge":{"IPAddress":""}}}}"#;
    *daemon.inspect.lock().unwrap() = without.to_owned();
    let socket = dir.path().join("d.sock");
    daemon.serve(&socket);
    std::fs::write(
        dir.path().join("sidewatch.yaml"),
        "sources: {docker: {docker: {socket: 'unix:d.sock', address_timeout: 2s, filters: {type: [container, network]}}}}\n\
         state: {dir: state}\n",
    )
    .unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    check(&sidewatch, "docker", &[("container.running", 1)]);
    let told = payload(&sidewatch, "container.running");
    assert_eq!(
        (&told["data"]["name"], &told["data"]["address"], &told["data"]["replayed"], &told["data"]["labels"]["team"]),
        (&"db".into(), &"172.17.0.6".into(), &true.into(), &"shop".into())
    );
    assert!(
        daemon
            .asked
            .lock()
            .unwrap()
            .iter()
            .any(|path| path.contains("%22type%22%3A%5B%22container%22%2C%22network%22%5D"))
    );

    // The start of a container waits; what is not about it does not.
    daemon.event("container", "create", WEB, r#""name":"web","image":"web:1""#);
    daemon.event("container", "start", WEB, r#""name":"web","image":"web:1""#);
    daemon.event("network", "connect", "net", &format!(r#""container":"{WEB}","name":"bridge","type":"bridge""#));
    daemon.event("container", "exec_start: sh -c true", WEB, r#""name":"web""#);
    check(
        &sidewatch,
        "docker",
        &[("container.create", 1), ("network.connect", 1), ("container.start", 0), ("container.exec_start", 0)],
    );
    *daemon.inspect.lock().unwrap() = without.replace(r#""IPAddress":"""#, r#""IPAddress":"172.17.0.2""#);
    check(&sidewatch, "docker", &[("container.start", 1), ("container.exec_start", 1)]);
    let told = payload(&sidewatch, "container.start");
    assert_eq!(told["data"]["networks"]["bridge"], "172.17.0.2", "{told}");
    assert_eq!(told["data"]["labels"]["joyride.host.name"], "web.local");

    // One that never gets an address is told without it.
    *daemon.inspect.lock().unwrap() = without.to_owned();
    daemon.event("container", "start", "cccccccccccc", r#""name":"odd""#);
    check(&sidewatch, "docker", &[("container.start", 2)]);
    assert!(payload(&sidewatch, "container.start")["data"]["address"].is_null());
    // One that ends at once is not waited for.
    daemon.event("container", "start", "dddddddddddd", r#""name":"short""#);
    daemon.event("container", "die", "dddddddddddd", r#""name":"short","exitCode":"3""#);
    check(&sidewatch, "docker", &[("container.start", 3), ("container.die", 1)]);
    assert_eq!(payload(&sidewatch, "container.die")["data"]["exit_code"], 3);

    // The connection breaks again and again, and sidewatch is killed: each event counts once.
    let mut sidewatch = sidewatch;
    let mut pulls = 0;
    for round in 0..6 {
        for _ in 0..10 {
            daemon.event("network", "create", &format!("n{pulls}"), r#""name":"n""#);
            pulls += 1;
        }
        if round % 3 == 2 {
            sidewatch.kill();
            daemon.event("network", "create", &format!("n{pulls}"), r#""name":"n""#);
            pulls += 1;
            sidewatch = Sidewatch::start(dir.path(), "run", &[]);
        } else {
            daemon.hang_up();
        }
        check(&sidewatch, "docker", &[("network.create", pulls), ("container.start", 3), ("container.running", 1)]);
    }
    // A container that ran is gone, and another runs, without a word: a restarted daemon remembers nothing.
    *daemon.listing.lock().unwrap() =
        r#"[{"Id":"eeeeeeeeeeee","Names":["/new"],"Image":"new:1","HostConfig":{"NetworkMode":"host"}}]"#.into();
    daemon.events.lock().unwrap().clear();
    daemon.hang_up();
    // web, odd and db ran before.
    check(&sidewatch, "docker", &[("container.gone", 3), ("container.running", 2)]);
    assert_eq!(metric(&sidewatch, "sidewatch_source_gaps_total{source=\"docker\",reason=\"forgotten\"}"), 1.0);
    // Garbage and a refusal.
    daemon.events.lock().unwrap().push((i64::MAX, "garbage".into()));
    eventually("garbage is refused by name", 10, || {
        (sidewatch.value("sum(sidewatch_events_refused_total{source=\"docker\",reason=\"invalid_json\"})") >= Some(1.0))
            .then_some(())
    });
    daemon.events.lock().unwrap().push((i64::MAX, r#"{"message":"no such filter"}"#.into()));
    eventually("a refusal is said", 10, || {
        sidewatch.err().contains("the daemon refuses: no such filter").then_some(())
    });
    assert_eq!(sidewatch.get("/livez").0, 200);
}
