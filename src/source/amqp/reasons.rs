//! What a broker complains about, in plain words and with what to do.

use crate::config::schema::AmqpConfig;
use lapin::{Error, ErrorKind};

/// Why the connection, or the channel in it, is gone.
pub(super) fn lost(error: &Error, config: &AmqpConfig) -> String {
    let (host, port) = &config.address.value;
    let queue = &config.queue.value;
    match error.kind() {
        ErrorKind::ProtocolError(error) => {
            let said = error.get_message().as_str();
            let advice = match error.get_id() {
                320 => "it comes back when the broker does".to_owned(),
                403 if said.contains("queue") || said.contains("exchange") => {
                    format!("the user {:?} needs configure, write and read permissions there", config.username)
                }
                403 => "look at username and password".to_owned(),
                404 if said.contains("no queue") => {
                    format!("make the queue {queue:?}, or let sidewatch do it: declare: {{durable: true}}")
                }
                404 => "give the binding a type to have its exchange declared".to_owned(),
                405 => "another connection has the queue for itself".to_owned(),
                406 if said.contains("delivery") => "the broker forgot what it had sent; it is sent again".to_owned(),
                406 => "what is there was declared otherwise: make declare and bind the same, or leave declare away"
                    .to_owned(),
                530 => format!("look at the virtual host ({:?}) and at who may use it", config.vhost),
                _ => return format!("the broker closed the connection: {said}"),
            };
            format!("the broker says {said}; {advice}")
        }
        ErrorKind::IOError(error) => match error.kind() {
            std::io::ErrorKind::ConnectionRefused => format!("nobody listens at {host}:{port}"),
            std::io::ErrorKind::InvalidData => format!("TLS with {host}:{port} fails: {error}"),
            _ => format!("the connection to {host}:{port} is gone: {error}"),
        },
        ErrorKind::ParsingError(_) | ErrorKind::InvalidProtocolVersion(_) => {
            format!("what answers at {host}:{port} does not speak AMQP 0.9.1")
        }
        ErrorKind::MissingHeartbeatError => format!("the broker at {host}:{port} gives no sign of life"),
        // What happened to the connection was said by the error that ended it.
        ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(_) => {
            format!("the connection to {host}:{port} is gone")
        }
        _ => format!("{host}:{port}: {error}"),
    }
}

/// The broker ended the consumer (RabbitMQ's consumer cancel notification): its queue is no more, or has moved.
pub(super) fn cancelled(config: &AmqpConfig) -> String {
    format!(
        "the broker has ended the subscription to the queue {:?}: it was deleted, or its node is gone",
        config.queue.value
    )
}
