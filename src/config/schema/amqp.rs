//! `amqp:` of a source: AMQP 0.9.1, RabbitMQ's own protocol.

use super::{Scope, SecretSource, TlsConfig};
use crate::config::Spanned;

/// `amqp: URL` or `amqp: {...}`.
#[derive(Clone, Debug, PartialEq)]
pub struct AmqpConfig {
    /// Host and port.
    pub address: Spanned<(String, u16)>,
    /// The virtual host (`/`).
    pub vhost: String,
    /// The user (`guest`).
    pub username: String,
    /// The password; RabbitMQ's `guest` without one.
    pub password: Option<SecretSource>,
    /// `amqps:`, or `tls:` given.
    pub tls: Option<TlsConfig>,
    /// The queue.
    pub queue: Spanned<String>,
    /// `declare:`; without it the queue must be there.
    pub declare: Option<AmqpDeclare>,
    /// `bind:`; what the queue is bound to.
    pub bind: Vec<AmqpBinding>,
    /// Messages that the broker sends ahead of their acknowledgement.
    pub prefetch: u16,
    /// `scope:`; `None` when the configuration does not say.
    pub scope: Option<Scope>,
    /// `poison: reject`: what is no event goes to the queue's dead-letter exchange in place of being acknowledged.
    pub reject_poison: bool,
    /// `max_deliveries:`; a message delivered more often is poison. Where the broker counts (`x-delivery-count`).
    pub max_deliveries: Option<u32>,
    /// Seconds between heartbeats.
    pub heartbeat_s: u16,
}

/// `declare:` of a queue.
#[derive(Clone, Debug, PartialEq)]
pub struct AmqpDeclare {
    /// Survives a restart of the broker (true).
    pub durable: bool,
    /// Of this connection alone.
    pub exclusive: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// `x-...` arguments.
    pub arguments: Vec<(String, AmqpValue)>,
}

/// The value of an argument, as YAML has it.
#[derive(Clone, Debug, PartialEq)]
pub enum AmqpValue {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(String),
}

/// One of `bind:`.
#[derive(Clone, Debug, PartialEq)]
pub struct AmqpBinding {
    /// The exchange.
    pub exchange: Spanned<String>,
    /// The routing key; `#` and `*` for topic exchanges.
    pub routing_key: String,
    /// `type:` asks for the exchange to be declared: direct, fanout, topic, headers.
    pub kind: Option<String>,
    /// Whether the declared exchange survives a restart of the broker (true).
    pub durable: bool,
    /// Arguments of the binding (headers exchanges).
    pub arguments: Vec<(String, AmqpValue)>,
}
