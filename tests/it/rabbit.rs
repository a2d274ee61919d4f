//! A RabbitMQ of the test's own, on free ports in a temporary folder; and a publisher with confirms.

use crate::harness::{eventually, free_port};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};

use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub struct Rabbit {
    dir: PathBuf,
    pub port: u16,
    distribution: u16,
    mapper_port: u16,
    mapper: Child,
    server: Option<Child>,
}

impl Rabbit {
    pub fn start(dir: &Path) -> Self {
        let dir = dir.join("rabbit");
        for folder in ["home", "mnesia", "log"] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
        }
        let cookie = dir.join("home/.erlang.cookie");
        std::fs::write(&cookie, "OFTHETESTALONE").unwrap();
        Command::new("chmod").arg("400").arg(&cookie).status().unwrap();
        std::fs::write(dir.join("enabled_plugins"), "[].\n").unwrap();
        // Newer servers take no message of 100 MB otherwise.
        let conf = "loopback_users = none\nconsumer_timeout = 3600000\nmax_message_size = 134217728\n";
        std::fs::write(dir.join("rabbitmq.conf"), conf).unwrap();
        let mapper_port = free_port();
        // Erlang's port mapper, in the foreground: it ends with the test.
        let mapper = Command::new("epmd")
            .args(["-port", &mapper_port.to_string(), "-address", "127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("epmd (Debian's package rabbitmq-server)");
        eventually("the port mapper is up", 10, || TcpStream::connect(("127.0.0.1", mapper_port)).ok());
        let mut rabbit = Self { dir, port: free_port(), distribution: free_port(), mapper_port, mapper, server: None };
        rabbit.start_again();
        rabbit
    }

    /// Starts the broker on the same ports with what it has on disk.
    pub fn start_again(&mut self) {
        let out = std::fs::File::create(self.dir.join("out")).unwrap();
        let server = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server")
            .current_dir(&self.dir)
            .env("HOME", self.dir.join("home"))
            .env("RABBITMQ_NODENAME", format!("test{}@localhost", self.port))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution.to_string())
            .env("ERL_EPMD_PORT", self.mapper_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_MNESIA_BASE", self.dir.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", self.dir.join("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.dir.join("enabled_plugins"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_CONFIG_FILE", self.dir.join("rabbitmq"))
            .env("RABBITMQ_PID_FILE", self.dir.join("pid"))
            // As under systemd: the script becomes the server, so that its id is the server's.
            .env("NOTIFY_SOCKET", self.dir.join("nobody"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none -start_epmd false")
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .expect("rabbitmq-server (Debian's package)");
        self.server = Some(server);
        eventually("rabbitmq is up", 60, || {
            let server = self.server.as_mut().unwrap();
            if let Some(status) = server.try_wait().unwrap() {
                panic!("rabbitmq ended with {status}: {}", std::fs::read_to_string(self.dir.join("out")).unwrap());
            }
            // The port is open before the vhost is there: ask for what a client asks for.
            TcpStream::connect(("127.0.0.1", self.port)).ok()?;
            block(async { Connection::connect(&self.url(), ConnectionProperties::default()).await.ok().map(|_| ()) })
        });
    }

    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// SIGTERM.
    pub fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        Command::new("kill").arg("-TERM").arg(server.id().to_string()).status().unwrap();
        eventually("rabbitmq ends", 30, || server.try_wait().unwrap());
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        server.kill().unwrap();
        server.wait().unwrap();
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.kill();
        let _ = self.mapper.kill();
        let _ = self.mapper.wait();
    }
}

/// Runs a future of the client library to its end.
pub fn block<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(work))
}

/// A message to publish.
#[derive(Clone, Default)]
pub struct Message {
    pub exchange: String,
    pub key: String,
    pub body: Vec<u8>,
    pub id: Option<String>,
    pub content_type: Option<String>,
    pub headers: Vec<(String, String)>,
}

impl Message {
    pub fn to(key: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), body: body.into(), ..Self::default() }
    }
}

/// A connection with confirms, made again when it is lost.
pub struct Publisher {
    url: String,
    connection: Option<(Connection, Channel)>,
}

impl Publisher {
    pub fn new(rabbit: &Rabbit) -> Self {
        Self { url: rabbit.url(), connection: None }
    }

    /// The channel, once there is one.
    pub fn channel(&mut self) -> Channel {
        if self
            .connection
            .as_ref()
            .is_none_or(|(connection, channel)| !connection.status().connected() || !channel.status().connected())
        {
            let url = self.url.clone();
            let made = eventually("the publisher connects", 60, || {
                block(async {
                    let connection = Connection::connect(&url, ConnectionProperties::default()).await.ok()?;
                    let channel = connection.create_channel().await.ok()?;
                    channel.confirm_select(ConfirmSelectOptions::default()).await.ok()?;
                    Some((connection, channel))
                })
            });
            self.connection = Some(made);
        }
        self.connection.as_ref().unwrap().1.clone()
    }

    /// Publishes all of them and waits for the broker's word on each; those without it are published again. How many were
    /// sent in all.
    pub fn publish(&mut self, messages: &[Message]) -> u64 {
        let (mut open, mut sent): (Vec<&Message>, u64) = (messages.iter().collect(), 0);
        while !open.is_empty() {
            let channel = self.channel();
            sent += open.len() as u64;
            open = block(async {
                let mut confirms = Vec::new();
                for message in &open {
                    let mut properties = BasicProperties::default().with_delivery_mode(2);
                    if let Some(id) = &message.id {
                        properties = properties.with_message_id(id.as_str().into());
                    }
                    if let Some(kind) = &message.content_type {
                        properties = properties.with_content_type(kind.as_str().into());
                    }
                    let mut headers = FieldTable::default();
                    for (name, value) in &message.headers {
                        headers.insert(name.as_str().into(), AMQPValue::LongString(LongString::from(value.as_str())));
                    }
                    properties = properties.with_headers(headers);
                    let (exchange, key) = (message.exchange.as_str().into(), message.key.as_str().into());
                    let sent =
                        channel.basic_publish(exchange, key, BasicPublishOptions::default(), &message.body, properties);
                    match sent.await {
                        Ok(confirm) => confirms.push(Some(confirm)),
                        Err(_) => confirms.push(None),
                    }
                }
                let mut unsure = Vec::new();
                for (message, confirm) in open.iter().zip(confirms) {
                    let said = match confirm {
                        Some(confirm) => tokio::time::timeout(Duration::from_secs(10), confirm).await.ok(),
                        None => None,
                    };
                    if !matches!(said, Some(Ok(Confirmation::Ack(_)))) {
                        unsure.push(*message);
                    }
                }
                unsure
            });
        }
        sent
    }
}
