//! A connection to one server: TCP, TLS or a unix socket, logged in, and replies as they come.
//!
//! Our own, because a source has to be able to stop reading: subscribers of the client libraries take messages into a
//! queue without end, and a reader that knows its limit can pass over a text of 100 MB without keeping it.

use super::resp::{self, Item, Reader, Scanner};
use crate::config::schema::{RedisAccess, RedisAddress, SecretSource, TlsConfig};
use rustls::pki_types::ServerName;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// For connecting and logging in, and for the answer to a command that does not wait.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;
/// A TCP connection that says nothing for so long is asked whether it is still there.
const IDLE: Duration = Duration::from_secs(15);
/// Bytes of one reply that are kept, unless a single event may be larger.
const REPLY_BYTES: usize = 64 << 20;
/// How the error begins when a reply is larger.
pub(super) const TOO_MUCH: &str = "the reply is too large: ";
/// Texts of the protocol itself (ids, names, figures) are never longer.
const LEAST_LIMIT_BYTES: usize = 64 << 10;

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Duplex for T {}

/// Who we are to a server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Login<'a> {
    pub username: Option<&'a str>,
    pub password: Option<&'a SecretSource>,
    pub database: i64,
}

impl<'a> Login<'a> {
    /// To the servers that hold the data.
    pub fn of(config: &'a RedisAccess) -> Self {
        Self { username: config.username.as_deref(), password: config.password.as_ref(), database: config.database }
    }
}

/// One connection.
pub(crate) struct Wire {
    stream: Box<dyn Duplex>,
    address: String,
    buffer: Vec<u8>,
    scanner: Scanner,
    limit: usize,
}

impl Wire {
    /// Connects and logs in. `event_bytes` is the limit of one text; longer ones are not kept.
    ///
    /// # Errors
    /// A sentence with the address and the reason.
    pub async fn open(
        address: &RedisAddress,
        login: Login<'_>,
        tls: Option<&TlsConfig>,
        base_dir: &Path,
        event_bytes: usize,
    ) -> Result<Self, String> {
        let opening = async {
            let stream = connect(address, tls, base_dir).await?;
            let limit = event_bytes.max(LEAST_LIMIT_BYTES);
            let scanner = Scanner::new(limit);
            let mut wire = Self { stream, address: address.to_string(), buffer: Vec::new(), scanner, limit };
            wire.log_in(login).await?;
            Ok(wire)
        };
        match timeout(PATIENCE, opening).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("{address} does not answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn log_in(&mut self, login: Login<'_>) -> Result<(), String> {
        if let Some(password) = login.password {
            let password = password.read().await?;
            let words: &[&[u8]] = match login.username {
                Some(name) => &[b"AUTH", name.as_bytes(), password.expose().as_bytes()],
                None => &[b"AUTH", password.expose().as_bytes()],
            };
            self.ask(words).await?;
        }
        if login.database != 0 {
            self.ask(&[b"SELECT", login.database.to_string().as_bytes()]).await?;
        }
        // A server that wants a login says so now, and one that is loading its data as well.
        match self.ask(&[b"PING"]).await {
            // Who may not even ask is logged in; what is needed is tried later.
            Err(reason) if !reason.contains("NOPERM") => Err(reason),
            _ => Ok(()),
        }
    }

    /// The limit of one text, for readers of the replies.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Sends bytes that [`resp::command`] made.
    ///
    /// # Errors
    /// A sentence: the connection is gone.
    pub async fn send(&mut self, commands: &[u8]) -> Result<(), String> {
        let sent = self.stream.write_all(commands).await;
        match sent {
            Ok(()) => self.stream.flush().await,
            Err(error) => Err(error),
        }
        .map_err(|error| format!("{}: {error}", self.address))
    }

    /// The next reply, whatever it says.
    ///
    /// # Errors
    /// A sentence: the connection is gone, or this is no Redis server.
    pub async fn reply(&mut self) -> Result<Vec<u8>, String> {
        while !self.scan()? {
            self.read().await?;
        }
        Ok(self.scanner.cut(&mut self.buffer))
    }

    /// Every whole reply that is there, at least one. Cancelling loses nothing.
    ///
    /// # Errors
    /// As [`Wire::reply`].
    pub async fn replies(&mut self) -> Result<Vec<u8>, String> {
        loop {
            let mut any = false;
            while self.scan()? {
                any = true;
            }
            if any {
                return Ok(self.scanner.cut(&mut self.buffer));
            }
            self.read().await?;
        }
    }

    /// Sends one command and waits for its reply; what the server refuses is an error.
    ///
    /// # Errors
    /// A sentence with the server's reason.
    pub async fn ask(&mut self, words: &[&[u8]]) -> Result<Vec<u8>, String> {
        let mut command = Vec::new();
        resp::command(&mut command, words);
        self.send(&command).await?;
        self.answer().await
    }

    /// The reply to a command, within [`PATIENCE`].
    ///
    /// # Errors
    /// As [`Wire::ask`].
    pub async fn answer(&mut self) -> Result<Vec<u8>, String> {
        let Ok(reply) = timeout(PATIENCE, self.reply()).await else {
            return Err(format!("{} does not answer within {} s", self.address, PATIENCE.as_secs()));
        };
        let reply = reply?;
        match Reader::new(&reply, self.limit).item() {
            Some(Item::Error(text)) => Err(self.refused(text)),
            _ => Ok(reply),
        }
    }

    /// What the server said no with, as a sentence.
    pub fn refused(&self, text: &[u8]) -> String {
        format!("{}: {}", self.address, String::from_utf8_lossy(text))
    }

    fn scan(&mut self) -> Result<bool, String> {
        self.scanner.scan(&mut self.buffer).map_err(|garbage| format!("{}: {garbage}", self.address))
    }

    async fn read(&mut self) -> Result<(), String> {
        if self.buffer.len() > REPLY_BYTES.max(2 * self.limit) {
            return Err(format!("{TOO_MUCH}{} MB and more", self.buffer.len() >> 20));
        }
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 4 {
            self.buffer.reserve(READ_BYTES);
        }
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(format!("{} closed the connection", self.address)),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{}: {error}", self.address)),
        }
    }
}

async fn connect(address: &RedisAddress, tls: Option<&TlsConfig>, base_dir: &Path) -> Result<Box<dyn Duplex>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot connect to {address}: {error}");
    let (host, port) = match address {
        RedisAddress::Unix { path } => {
            let stream = UnixStream::connect(base_dir.join(path)).await.map_err(|error| failed(&error))?;
            return Ok(Box::new(stream));
        }
        RedisAddress::Tcp { host, port } => (host, *port),
    };
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|error| failed(&error))?;
    stream.set_nodelay(true).map_err(|error| failed(&error))?;
    let probing = socket2::TcpKeepalive::new().with_time(IDLE).with_interval(IDLE);
    socket2::SockRef::from(&stream).set_tcp_keepalive(&probing).map_err(|error| failed(&error))?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let options = tls.options(base_dir);
    let name = options.server_name.clone().unwrap_or_else(|| host.clone());
    let client = options.client_config().map_err(|error| failed(&error))?;
    let name = ServerName::try_from(name).map_err(|error| failed(&error))?;
    let secured = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, stream).await;
    Ok(Box::new(secured.map_err(|error| failed(&format!("TLS: {error}")))?))
}
