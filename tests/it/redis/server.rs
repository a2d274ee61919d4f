//! Real redis-servers on free ports, with their data in a folder of the test.

use crate::harness::{eventually, free_port};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Starts redis-server, ends it with the test.
pub struct Redis {
    child: Option<Child>,
    pub port: u16,
    dir: PathBuf,
    args: Vec<String>,
    /// How to log in, for the client of the test.
    url: String,
}

impl Redis {
    /// Without persistence.
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, &["--save", "", "--appendonly", "no"])
    }

    /// Nothing is ever lost, whatever kills it.
    pub fn durable(dir: &Path) -> Self {
        Self::start_with(dir, &["--save", "", "--appendonly", "yes", "--appendfsync", "always"])
    }

    /// With these options, on a free port.
    pub fn start_with(dir: &Path, args: &[&str]) -> Self {
        let mut redis = Self::stopped(dir, args);
        redis.resume();
        redis
    }

    /// Not started yet.
    pub fn stopped(dir: &Path, args: &[&str]) -> Self {
        let port = free_port();
        let dir = dir.join(format!("redis-{port}"));
        std::fs::create_dir_all(&dir).unwrap();
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self { child: None, port, dir, args, url: format!("redis://127.0.0.1:{port}/") }
    }

    /// Starts it (again) and waits until it answers.
    pub fn resume(&mut self) {
        assert!(self.child.is_none());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).unwrap();
        let child = Command::new("redis-server")
            .args(&self.args)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("redis-server is needed (Debian's redis-server)");
        self.child = Some(child);
        eventually("redis-server answers", 20, || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "redis-server ended: {}", self.log());
            // A refusal is an answer, too: the test may have its own ways in.
            let answered = redis::Client::open(self.url.as_str()).unwrap().get_connection();
            match answered.and_then(|mut connection| redis::cmd("PING").query::<String>(&mut connection)) {
                Err(error) if error.is_io_error() || error.to_string().to_lowercase().contains("loading") => None,
                _ => Some(()),
            }
        });
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// A connection for the test.
    pub fn client(&self) -> redis::Connection {
        self.try_client().unwrap()
    }

    /// The same while the server may close it.
    pub fn try_client(&self) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(self.url.as_str())?.get_connection()
    }

    /// Logs the test's client in as this user.
    pub fn log_in(&mut self, user: &str, password: &str) {
        self.url = format!("redis://{user}:{password}@127.0.0.1:{}/", self.port);
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// XADD with fields and values.
pub fn add(client: &mut redis::Connection, stream: &str, fields: &[(&str, &str)]) {
    redis::cmd("XADD").arg(stream).arg("*").arg(fields).query::<String>(client).unwrap();
}

/// Entries of a group that are delivered and not acknowledged.
pub fn pending(client: &mut redis::Connection, stream: &str, group: &str) -> i64 {
    let (count, ..): (i64, redis::Value, redis::Value, redis::Value) =
        redis::cmd("XPENDING").arg(stream).arg(group).query(client).unwrap();
    count
}
