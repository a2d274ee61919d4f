//! Debian's nats-server on a free port, with its files in a temporary folder, and a client of our own.

use crate::harness::{eventually, free_port};
use async_nats::jetstream;
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use tokio::runtime::Runtime;

/// A running server, and how to talk to it.
pub struct Broker {
    child: Option<Child>,
    pub port: u16,
    pub dir: tempfile::TempDir,
    runtime: Runtime,
    client: Option<async_nats::Client>,
}

impl Broker {
    /// JetStream with files; `extra` is more of the server's configuration.
    pub fn start(extra: &str) -> Self {
        let mut broker = Self::absent(extra);
        broker.run();
        broker.client = Some(broker.connect(async_nats::ConnectOptions::new()));
        broker
    }

    /// The same, not running yet.
    pub fn absent(extra: &str) -> Self {
        Self::plain(&format!("jetstream: {{store_dir: js, max_file_store: 4G}}\n{extra}"))
    }

    /// A server without JetStream on a port that is free, not running yet.
    pub fn plain(extra: &str) -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        std::fs::write(dir.path().join("nats.conf"), format!("listen: 127.0.0.1:{port}\n{extra}\n")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { child: None, port, dir, runtime, client: None }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts the server's process and waits until it answers.
    pub fn run(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let child = Command::new("nats-server")
            .args(["-c", "nats.conf"])
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        self.child = Some(child);
        eventually("nats-server answers", 20, || std::net::TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    /// SIGTERM, or kill -9.
    pub fn stop(&mut self, hard: bool) {
        let Some(mut child) = self.child.take() else { return };
        if hard {
            child.kill().unwrap();
        } else {
            Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
        }
        child.wait().unwrap();
    }

    pub fn connect(&self, options: async_nats::ConnectOptions) -> async_nats::Client {
        let (url, options) = (self.url(), options.connection_timeout(std::time::Duration::from_secs(20)));
        self.runtime.block_on(async move { options.retry_on_initial_connect().connect(url).await }).unwrap()
    }

    pub fn set_client(&mut self, client: async_nats::Client) {
        self.client = Some(client);
    }

    pub fn block<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn client(&self) -> async_nats::Client {
        self.client.clone().unwrap()
    }

    pub fn jetstream(&self) -> jetstream::Context {
        jetstream::new(self.client())
    }

    pub fn add_stream(&self, name: &str, subjects: &[&str]) {
        let config = jetstream::stream::Config {
            name: name.into(),
            subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect(),
            ..Default::default()
        };
        self.block(async { self.jetstream().create_stream(config).await.unwrap() });
    }

    pub fn publish(&self, subject: &str, payload: &str) {
        self.publish_with(subject, &[], payload);
    }

    pub fn publish_with(&self, subject: &str, headers: &[(&str, &str)], payload: &str) {
        let mut map = async_nats::HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, *value);
        }
        let (client, payload) = (self.client(), payload.to_owned().into());
        self.block(async {
            let sent = match headers {
                [] => client.publish(subject.to_owned(), payload).await,
                _ => client.publish_with_headers(subject.to_owned(), map, payload).await,
            };
            sent.unwrap();
            client.flush().await.unwrap();
        });
    }

    /// Publishes and waits until the stream has it.
    pub fn publish_stream(&self, subject: &str, payload: &str) {
        let (subject, payload) = (subject.to_owned(), payload.to_owned());
        self.block(async { self.jetstream().publish(subject, payload.into()).await.unwrap().await.unwrap() });
    }

    /// What the server says about a consumer.
    pub fn consumer(&self, stream: &str, durable: &str) -> Value {
        self.api(&format!("CONSUMER.INFO.{stream}.{durable}"), "")
    }

    pub fn api(&self, path: &str, body: &str) -> Value {
        let (client, path, body) = (self.client(), format!("$JS.API.{path}"), body.to_owned());
        self.block(async {
            let answer = client.request(path, body.into()).await.unwrap();
            serde_json::from_slice(&answer.payload).unwrap()
        })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop(true);
        if std::thread::panicking() {
            eprintln!("--- nats-server\n{}", std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default());
        }
    }
}
