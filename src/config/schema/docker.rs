//! `docker:` of a source.

use super::TlsConfig;
use crate::config::Spanned;

/// A `docker` source: events of the Docker Engine API, also of Podman's.
#[derive(Clone, Debug, PartialEq)]
pub struct DockerConfig {
    /// `socket:` (unix:///var/run/docker.sock).
    pub socket: DockerSocket,
    /// `labels:` of containers that are listened to: name and value, or a name alone.
    pub labels: Vec<(Spanned<String>, Option<String>)>,
    /// `filters:` of the Engine API: key and alternatives.
    pub filters: Vec<(Spanned<String>, Vec<Spanned<String>>)>,
    /// `running: false` does not tell the containers that run already.
    pub running: bool,
    /// `address_timeout:` in milliseconds (10 s): so long the start of a container waits for its address.
    pub address_timeout_ms: i64,
    /// `tls:` of a tcp socket.
    pub tls: Option<TlsConfig>,
}

/// Where the daemon listens.
#[derive(Clone, Debug, PartialEq)]
pub enum DockerSocket {
    /// A path; relative ones start at the configuration's folder.
    Unix(Spanned<String>),
    /// HOST:PORT.
    Tcp(Spanned<String>),
}
