//! `redis:` of a source: streams with a consumer group, or channels.

use super::{Scope, SecretSource, TlsConfig};
use crate::config::Spanned;

/// A `redis` source.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisConfig {
    /// How the servers are reached.
    pub access: RedisAccess,
    /// What is listened to.
    pub input: RedisInput,
    /// `service.instance`: the consumer's name, and what makes a group unique.
    pub instance: String,
}

/// How servers are reached.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisAccess {
    /// Where they are.
    pub servers: RedisServers,
    /// `username:` (ACL, Redis 6); the user `default` when `None`.
    pub username: Option<String>,
    /// `password:` or `password_file:`.
    pub password: Option<SecretSource>,
    /// `database:` (0).
    pub database: i64,
    /// `tls:`, or `rediss://`; `None` for plain connections.
    pub tls: Option<TlsConfig>,
}

/// Where the servers are.
#[derive(Clone, Debug, PartialEq)]
pub enum RedisServers {
    /// `url:`: one server.
    One(RedisAddress),
    /// `urls:` or `url:` with `cluster: true`: some nodes of a cluster.
    Cluster(Vec<RedisAddress>),
    /// `sentinel: {master, urls}`: who watches the servers.
    Sentinel {
        /// The name of the set of servers.
        master: String,
        /// The sentinels.
        urls: Vec<RedisAddress>,
        /// `username:` for the sentinels.
        username: Option<String>,
        /// `password:` or `password_file:` for the sentinels.
        password: Option<SecretSource>,
    },
}

/// Where one server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisAddress {
    /// `redis://HOST:PORT` or `rediss://HOST:PORT`.
    Tcp {
        /// Name or address, IPv6 without its brackets.
        host: String,
        /// The port (6379, sentinels 26379).
        port: u16,
    },
    /// `redis+unix:///PATH`.
    Unix {
        /// The socket's path.
        path: String,
    },
}

impl std::fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { path } => f.write_str(path),
        }
    }
}

/// What is listened to.
#[derive(Clone, Debug, PartialEq)]
pub enum RedisInput {
    /// `streams:` with a consumer group.
    Streams(RedisStreams),
    /// `channels:` and `patterns:`.
    Channels {
        /// `channels:`.
        channels: Vec<Spanned<String>>,
        /// `patterns:` of channels.
        patterns: Vec<Spanned<String>>,
    },
}

/// Streams and how they are read.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisStreams {
    /// `streams:`.
    pub names: Vec<Spanned<String>>,
    /// `group:` (sidewatch).
    pub group: String,
    /// `consumer:`; the instance when `None`.
    pub consumer: Option<String>,
    /// `scope:`; shared when `None`.
    pub scope: Option<Scope>,
    /// `start: last`: a new group begins with what comes, not with what is there.
    pub from_end: bool,
    /// `claim_idle:` in milliseconds (60 s): entries that another consumer has not acknowledged for so long are taken over;
    /// 0 never does.
    pub claim_idle_ms: i64,
}

impl RedisConfig {
    /// The name of this sidecar's consumer.
    pub fn consumer<'a>(&'a self, streams: &'a RedisStreams) -> &'a str {
        streams.consumer.as_deref().unwrap_or(&self.instance)
    }

    /// The group that is read.
    pub fn group(&self, streams: &RedisStreams) -> String {
        match streams.scope {
            Some(Scope::PerInstance) => format!("{}-{}", streams.group, self.instance),
            Some(Scope::Shared) | None => streams.group.clone(),
        }
    }
}
