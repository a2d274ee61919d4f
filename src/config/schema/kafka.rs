//! `kafka:` of a source.

use super::{Scope, SecretSource, TlsConfig};
use crate::config::Spanned;

/// A `kafka` source: a member of a consumer group.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaConfig {
    /// How the brokers are reached.
    pub servers: KafkaServers,
    /// `topics:`; one that begins with `^` is a regular expression.
    pub topics: Vec<Spanned<String>>,
    /// `group:`; `sidewatch-SERVICE` when absent.
    pub group: Option<Spanned<String>>,
    /// `start: last`: without a known position begin with what comes from now on (`first`: with the oldest there is).
    pub from_end: bool,
    /// `scope:`; `None` when not said (then shared).
    pub scope: Option<Scope>,
    /// `member:`: a name in the group that survives a restart (`group.instance.id`), so that none else takes over meanwhile.
    pub member: Option<Spanned<String>>,
    /// `properties:` of librdkafka.
    pub properties: Vec<(Spanned<String>, Spanned<String>)>,
    /// `service.name` and `service.instance`, which name the group where the configuration does not.
    pub identity: (String, String),
}

/// How brokers are reached.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KafkaServers {
    /// `brokers:`, each HOST:PORT or HOST; the client finds the others by itself.
    pub brokers: Vec<Spanned<String>>,
    /// `user:`.
    pub user: Option<Spanned<String>>,
    /// `password:` or `password_file:`.
    pub password: Option<SecretSource>,
    /// `mechanism:` of SASL.
    pub mechanism: KafkaMechanism,
    /// `tls:`.
    pub tls: Option<TlsConfig>,
}

impl KafkaConfig {
    /// The consumer group: with `scope: per_instance` each sidecar has its own.
    pub fn group_id(&self) -> String {
        let (service, instance) = &self.identity;
        let group = self.group.as_ref().map_or_else(|| format!("sidewatch-{service}"), |group| group.value.clone());
        match self.scope {
            Some(Scope::PerInstance) => format!("{group}-{instance}"),
            _ => group,
        }
    }

    /// The name in the group that survives a restart. A group of one's own needs no rebalancing: it has one always.
    pub fn member_id(&self) -> Option<&str> {
        let own = (self.scope == Some(Scope::PerInstance)).then_some(self.identity.1.as_str());
        self.member.as_ref().map(|member| member.value.as_str()).or(own)
    }
}

/// How a client shows who it is (SASL, RFC 4422).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KafkaMechanism {
    /// RFC 4616.
    #[default]
    Plain,
    /// RFC 5802 with SHA-256 (RFC 7677).
    ScramSha256,
    /// RFC 5802 with SHA-512.
    ScramSha512,
}

impl KafkaMechanism {
    /// Every mechanism with its name.
    pub const ALL: [(&'static str, Self); 3] =
        [("PLAIN", Self::Plain), ("SCRAM-SHA-256", Self::ScramSha256), ("SCRAM-SHA-512", Self::ScramSha512)];

    /// As it is written.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| *name)
    }
}
