//! `nats:` of a source: subjects of core NATS, or a durable consumer of a JetStream stream.

use super::{Scope, SecretSource, TlsConfig};
use crate::config::Spanned;

/// `nats: {url, subjects, ...}`.
#[derive(Clone, Debug, PartialEq)]
pub struct NatsConfig {
    /// How the servers are reached.
    pub servers: NatsServers,
    /// `subjects:` with the wildcards `*` and `>`. Of core NATS at least one; of a stream none means all.
    pub subjects: Vec<Spanned<String>>,
    /// `queue_group:` of core NATS: each message goes to one member.
    pub queue_group: Option<Spanned<String>>,
    /// `stream:` and what belongs to it; without it the source listens to core NATS.
    pub stream: Option<NatsStream>,
    /// `scope:`.
    pub scope: Option<Scope>,
}

/// How servers are reached.
#[derive(Clone, Debug, PartialEq)]
pub struct NatsServers {
    /// `url:` or `urls:`, at least one; each is tried in its turn.
    pub urls: Vec<NatsUrl>,
    /// Who we are to them.
    pub credentials: Option<NatsCredentials>,
    /// `tls:`.
    pub tls: Option<TlsConfig>,
    /// `inbox_prefix:` (`_INBOX`), for accounts that may not subscribe to everybody's.
    pub inbox_prefix: Option<Spanned<String>>,
}

/// One server.
#[derive(Clone, Debug, PartialEq)]
pub struct NatsUrl {
    /// `tls://` rather than `nats://`: a server that does not speak TLS is refused.
    pub tls: bool,
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// 4222 when none is written.
    pub port: u16,
}

impl NatsUrl {
    /// `HOST:PORT`, IPv6 in brackets.
    pub fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl std::fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", if self.tls { "tls" } else { "nats" }, self.address())
    }
}

/// JetStream: a durable consumer that is pulled from.
#[derive(Clone, Debug, PartialEq)]
pub struct NatsStream {
    /// `stream:`.
    pub name: Spanned<String>,
    /// `durable:`: the consumer's name, which remembers what was acknowledged.
    pub durable: Spanned<String>,
    /// `domain:` of JetStream.
    pub domain: Option<Spanned<String>>,
    /// `ack_wait:` in milliseconds (5 s): what is not acknowledged for so long is delivered again.
    pub ack_wait_ms: i64,
    /// `max_deliver:`: how often a message is delivered at most; without limit when `None`.
    pub max_deliver: Option<i64>,
    /// `backoff:` in milliseconds: how long to wait before each further delivery, in place of `ack_wait`.
    pub backoff_ms: Vec<i64>,
    /// `max_ack_pending:` (20,000): messages that may wait for their acknowledgement.
    pub max_ack_pending: i64,
    /// `start: last`: a new consumer begins with what comes from now on rather than with the earliest message.
    pub from_end: bool,
}

/// Who we are to a server.
#[derive(Clone, Debug, PartialEq)]
pub enum NatsCredentials {
    /// `user:` with `password:` or `password_file:`.
    User(String, SecretSource),
    /// `token:` or `token_file:`.
    Token(SecretSource),
    /// `nkey_file:`: a seed (`SU...`).
    Nkey(Spanned<String>),
    /// `creds_file:`: a JWT with its seed, as `nsc` writes them.
    Creds(Spanned<String>),
}
