//! Starting the real binary on free ports, and waiting for conditions with a deadline.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The executable under test: the release build when `tests/run` says so, else the one of this profile.
pub fn binary() -> PathBuf {
    std::env::var_os("SIDEWATCH_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_sidewatch")), PathBuf::from)
}

/// Whether a missing real server is a failure.
pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A port that says the wrong thing to everybody.
pub fn nonsense() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\nthis is not the broker you are looking for");
        }
    });
    port
}

/// Polls until `probe` gives something, at most `seconds`; panics with `what` after that.
pub fn eventually<T>(what: &str, seconds: u64, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// An authority (ca.pem, ca.key) and certificates that it signs: NAME.pem and NAME.key for these subjectAltNames.
pub fn certificates(dir: &Path, names: &[(&str, &str)]) {
    let openssl = |arguments: String| {
        let done = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().unwrap();
        assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30";
    openssl(format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=ours"));
    for (name, subjects) in names {
        openssl(format!(
            "req -x509 {key} -CA ca.pem -CAkey ca.key -keyout {name}.key -out {name}.pem -subj /CN={name} \
             -addext subjectAltName={subjects} -addext basicConstraints=critical,CA:FALSE"
        ));
    }
}

/// Ends a thread that a test has started however the test ends: a scope would wait for it for ever.
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Looks again and again for so long; `holds` panics when what should hold does not.
pub fn throughout(what: &str, time: Duration, mut holds: impl FnMut()) {
    let (deadline, mut looks) = (Instant::now() + time, 0);
    while looks < 2 || Instant::now() < deadline {
        holds();
        looks += 1;
        std::thread::park_timeout(Duration::from_millis(100));
    }
    println!("{what}: {looks} looks");
}

/// A running sidewatch; ended with the test.
pub struct Sidewatch {
    pub child: Child,
    pub observe: u16,
    pub ingest: u16,

    pub stdout: Arc<Mutex<String>>,
    pub stderr: Arc<Mutex<String>>,
}

impl Sidewatch {
    /// `sidewatch COMMAND ARGS` on two free ports, in `dir`; returns when /readyz answers.
    pub fn start(dir: &Path, command: &str, args: &[&str]) -> Self {
        let (observe, ingest) = (free_port(), free_port());
        Self::start_on(dir, command, args, observe, ingest, Stdio::null())
    }

    /// The same on given ports and with a given standard input.
    pub fn start_on(dir: &Path, command: &str, args: &[&str], observe: u16, ingest: u16, stdin: Stdio) -> Self {
        let mut child = Command::new(binary())
            .arg(command)
            .args(args)
            .env("SIDEWATCH_LISTEN_OBSERVE", format!("127.0.0.1:{observe}"))
            .env("SIDEWATCH_LISTEN_INGEST", format!("127.0.0.1:{ingest}"))
            .env_remove("SIDEWATCH_BIN")
            .env_remove("SIDEWATCH_PYTHON")
            .env_remove("SIDEWATCH_LONG")
            .current_dir(dir)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        let mut started = Self { child, observe, ingest, stdout, stderr };
        eventually("sidewatch is ready", 20, || {
            if let Some(status) = started.child.try_wait().unwrap() {
                panic!("sidewatch ended with {status}:\n{}{}", started.out(), started.err());
            }
            (get(observe, "/readyz").0 == 200).then_some(())
        });
        started
    }

    pub fn out(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    pub fn err(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        get(self.observe, path)
    }

    pub fn json(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.get(path);
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {status} {error}: {body}"))
    }

    pub fn post(&self, path: &str, content_type: &str, body: &[u8]) -> (u16, String) {
        request(self.ingest, "POST", path, &[("content-type", content_type)], body)
    }

    /// The value of an instant query that gives one sample; `None` when it gives none.
    pub fn value(&self, query: &str) -> Option<f64> {
        let path = format!("/api/v1/query?query={}", encode(query));
        let answer = self.json(&path);
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    /// Waits until a query gives this value.
    pub fn is(&self, query: &str, expected: f64) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut last = self.value(query);
        while last != Some(expected) {
            assert!(Instant::now() < deadline, "{query}: {last:?} instead of {expected}");
            std::thread::park_timeout(Duration::from_millis(20));
            last = self.value(query);
        }
    }

    /// The same for what only grows: more is an error at once.
    pub fn reaches(&self, query: &str, expected: f64) {
        eventually(&format!("{query} = {expected}"), 120, || {
            let seen = self.value(query).unwrap_or(0.0);
            assert!(seen <= expected, "{query}: {seen} is more than {expected}");
            (seen == expected).then_some(())
        });
    }

    /// Writes the configuration anew and has it read, six times, each after more events were counted.
    pub fn reloads_while_it_counts(&self, configuration: impl Fn(u32)) {
        let mut seen = 0.0;
        for turn in 1..=6 {
            seen = eventually("it goes on", 30, || self.value("sum(events_total)").filter(|now| *now > seen));
            configuration(turn);
            let (status, said) = self.post("/-/reload", "text/plain", b"");
            assert_eq!(status, 200, "{said}");
        }
    }

    /// Waits until a query gives a value, or one that differs in the last digits.
    pub fn is_about(&self, query: &str, expected: f64) {
        let mut last = None;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let found = self.value(query);
            if found.is_some_and(|found| (found - expected).abs() < 1e-9) {
                return;
            }
            last = found.or(last);
            assert!(Instant::now() < deadline, "{query}: expected {expected}, found {last:?}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// What is said of a source: its state, and why.
    pub fn source(&self, name: &str) -> (String, String) {
        let found = self.json("/health")["sidewatch"]["sources"][name].clone();
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        (text("state"), text("reason"))
    }

    /// Waits until a source is in a state whose reason says this; the whole reason.
    pub fn source_is(&self, name: &str, state: &str, why: &str) -> String {
        let mut last = Default::default();
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            assert!(Instant::now() < deadline, "{name} is not {state}: {why:?}, but {last:?}");
            last = self.source(name);
            if last.0 == state && last.1.contains(why) {
                return last.1;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Waits until a source is connected.
    pub fn connected(&self, name: &str) {
        self.source_is(name, "connected", "");
    }

    /// Waits until a source is lost for this reason.
    pub fn lost(&self, name: &str, why: &str) {
        self.source_is(name, "lost", why);
    }

    /// Waits for two more checkpoints: everything that was counted up to now stands in the second.
    pub fn checkpointed(&self) {
        let written = || self.value("sidewatch_checkpoint_seconds_count").unwrap_or(0.0);
        // What is read is up to a second old; what it changes to is not.
        let known = written();
        let before = eventually("a checkpoint", 20, || Some(written()).filter(|now| *now > known));
        eventually("two more checkpoints", 20, || (written() > before + 1.0).then_some(()));
    }

    /// The source is lost, the check `heart` does not know, and for a time longer than its window the rule `Silent` says
    /// nothing: silence that cannot be heard is no silence.
    #[allow(dead_code, reason = "benches kill no broker")]
    pub fn is_deaf_and_not_silent(&self, source: &str, time: Duration, hook: &Receiver) {
        self.lost(source, "127.0.0.1");
        let heart = || self.json("/health")["checks"]["heart"]["status"].clone();
        eventually("the check does not know", 10, || (heart() == "unknown").then_some(()));
        throughout("deaf", time, || {
            assert_eq!(heart(), "unknown");
            let told = hook.bodies();
            assert!(!told.iter().any(|body| body.contains("\"Silent\"")), "{told:?}");
        });
    }

    pub fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// The number of the process.
    #[allow(dead_code, reason = "benches read the figures of the process")]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        eventually("sidewatch ends after SIGTERM", 20, || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Sidewatch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- sidewatch stdout\n{}\n--- stderr\n{}", self.out(), self.err());
        }
    }
}

fn collect(from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let into = text.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut text = into.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
    text
}

/// Runs a command of sidewatch to its end: exit code, standard output, standard error.
pub fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    run_with(dir, args, &[])
}

/// The same with environment variables.
pub fn run_with(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let output = Command::new(binary())
        .args(args)
        .envs(env.iter().copied())
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// GET on a local port: status and body; status 0 when nobody answers.
pub fn get(port: u16, path: &str) -> (u16, String) {
    request(port, "GET", path, &[], b"")
}

/// One HTTP/1.1 request, its own connection: small enough to need no client library.
pub fn request(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
    let (status, _, body) = exchange(port, method, path, headers, body);
    (status, body)
}

/// The same with the answer's head.
pub fn exchange(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String, String) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return (0, String::new(), String::new()) };
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", body.len());
    // A server that refuses early may close before it has read everything; its answer still counts.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let Some((head, rest)) = text.split_once("\r\n\r\n") else { return (0, String::new(), text) };
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body =
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") { dechunk(rest) } else { rest.into() };
    (status, head.to_owned(), body)
}

fn dechunk(text: &str) -> String {
    let (mut rest, mut out) = (text.as_bytes(), Vec::new());
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap_or("0").trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < end + 2 + size {
            break;
        }
        out.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[(end + 4 + size).min(rest.len())..];
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Percent-encodes everything that is not a letter or a digit.
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// A local receiver of webhooks: keeps each request's body, answers with `status`.
pub struct Receiver {
    pub port: u16,
    pub got: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Receiver {
    pub fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let got = Arc::new(Mutex::new(Vec::new()));
        let into = got.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let into = into.clone();
                std::thread::spawn(move || serve(stream, status, &into));
            }
        });
        Self { port, got }
    }

    pub fn bodies(&self) -> Vec<String> {
        self.got.lock().unwrap().iter().map(|(_, body)| body.clone()).collect()
    }
}

fn serve(stream: TcpStream, status: u16, into: &Mutex<Vec<(Instant, String)>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        into.lock().unwrap().push((Instant::now(), String::from_utf8_lossy(&body).into_owned()));
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok");
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
