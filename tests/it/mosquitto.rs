//! A Mosquitto of the test's own, on a free port in a temporary folder, made durable; and a publisher with QoS 1.

use crate::harness::{eventually, free_port};
use crate::rabbit::block;
use rumqttc_v5 as mqtt;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub struct Mosquitto {
    dir: PathBuf,
    pub port: u16,
    server: Option<Child>,
}

impl Mosquitto {
    /// `more` goes into its configuration.
    pub fn start(dir: &Path, more: &str) -> Self {
        let dir = dir.join("mosquitto");
        std::fs::create_dir_all(&dir).unwrap();
        let port = free_port();
        let place = dir.display();
        std::fs::write(
            dir.join("mosquitto.conf"),
            format!(
                "persistence true\npersistence_location {place}/\nautosave_on_changes true\nautosave_interval 1000\n\
                 max_queued_messages 0\nlog_dest file {place}/log\nlog_type all\nuser root\n{more}\n\
                 listener {port} 127.0.0.1\n{}",
                if more.contains("allow_anonymous") { "" } else { "allow_anonymous true\n" }
            ),
        )
        .unwrap();
        let mut mosquitto = Self { dir, port, server: None };
        mosquitto.start_again();
        mosquitto
    }

    /// Starts the broker on the same port with what it has on disk.
    pub fn start_again(&mut self) {
        let out = std::fs::File::create(self.dir.join("out")).unwrap();
        let server = Command::new("mosquitto")
            .arg("-c")
            .arg(self.dir.join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .expect("mosquitto (Debian's package)");
        self.server = Some(server);
        eventually("mosquitto is up", 20, || {
            let server = self.server.as_mut().unwrap();
            if let Some(status) = server.try_wait().unwrap() {
                panic!("mosquitto ended with {status}: {}", std::fs::read_to_string(self.dir.join("log")).unwrap());
            }
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
    }

    /// SIGTERM: it saves what it has. (What Mosquitto 2.0 acknowledges right before a kill -9 it may forget.)
    pub fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        Command::new("kill").arg("-TERM").arg(server.id().to_string()).status().unwrap();
        eventually("mosquitto ends", 20, || server.try_wait().unwrap());
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- mosquitto\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

/// A message to publish.
#[derive(Clone, Default)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
    pub content_type: Option<String>,
    pub properties: Vec<(String, String)>,
}

impl Message {
    pub fn to(topic: &str, payload: impl Into<Vec<u8>>) -> Self {
        Self { topic: topic.into(), payload: payload.into(), ..Self::default() }
    }
}

/// Publishes all with QoS 1 and waits for the broker's word on each; those without it are published again, for a minute at
/// most. How many were sent in all.
pub fn publish(port: u16, user: Option<(&str, &str)>, messages: &[Message]) -> u64 {
    let (mut open, mut sent): (Vec<&Message>, u64) = (messages.iter().collect(), 0);
    eventually("everything is published", 60, || {
        sent += open.len() as u64;
        open = block(once(port, user, &open));
        open.is_empty().then_some(())
    });
    sent
}

/// Publishes in one connection: what the broker has not confirmed.
async fn once<'a>(port: u16, user: Option<(&str, &str)>, messages: &[&'a Message]) -> Vec<&'a Message> {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut options = mqtt::MqttOptions::new(format!("publisher-{number}"), ("127.0.0.1", port));
    options.set_clean_start(true).set_outgoing_inflight_upper_limit(100).set_connect_timeout(Duration::from_secs(5));
    if let Some((user, password)) = user {
        options.set_credentials(user.to_owned(), password.to_owned());
    }
    let (client, mut events) = mqtt::AsyncClient::builder(options).capacity(messages.len() + 8).build();
    let mut notices = Vec::new();
    for message in messages {
        let mut options = mqtt::PublishOptions::at_least_once().retain(message.retain);
        if message.content_type.is_some() || !message.properties.is_empty() {
            options = options.properties(mqtt::mqttbytes::v5::PublishProperties {
                content_type: message.content_type.clone(),
                user_properties: message.properties.clone(),
                ..Default::default()
            });
        }
        notices.push(client.publish_tracked(message.topic.clone(), message.payload.clone(), options).await.unwrap());
    }
    let confirmed = std::cell::RefCell::new(vec![false; messages.len()]);
    let waiting = async {
        for (at, notice) in notices.into_iter().enumerate() {
            let said = tokio::time::timeout(Duration::from_secs(20), notice.wait_async()).await;
            confirmed.borrow_mut()[at] = matches!(said, Ok(Ok(_)));
        }
    };
    tokio::select! {
        // What is not confirmed when the connection ends is not.
        () = async { while events.poll().await.is_ok() {} } => {}
        () = waiting => {}
    }
    let confirmed = confirmed.into_inner();
    messages.iter().zip(confirmed).filter(|(_, confirmed)| !confirmed).map(|(message, _)| *message).collect()
}
