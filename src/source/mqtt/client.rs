//! One client for both versions of the protocol.

use super::{ANSWER, FAREWELL};
use crate::config::schema::{MqttConfig, Scope};
use crate::source::SourceContext;
use rumqttc_v3 as v3;
use rumqttc_v5 as v5;
use std::sync::Arc;
use v3::mqttbytes::QoS as QoS3;
use v5::mqttbytes::QoS as QoS5;

/// Requests that may wait for the connection beyond the acknowledgements of a full window.
const REQUESTS: usize = 64;
/// The largest packet there is (MQTT 3.1.1, section 2.2.3). Whatever is larger than an event may be is refused when it is
/// there, and counted: a broker of version 3.1.1 would send it again and again otherwise.
const LARGEST_PACKET: usize = 268_435_455;

/// What the broker sent.
pub(super) enum Packet {
    /// CONNACK.
    Connected {
        /// The broker knows us and has kept what came meanwhile.
        session_present: bool,
    },
    /// SUBACK, or why a subscription was refused.
    Subscribed(Result<(), String>),
    /// A message.
    Publish(Box<Publish>),
}

/// A message.
pub(super) struct Publish {
    pub topic: String,
    pub payload: bytes::Bytes,
    /// Of the packet; 0 for QoS 0.
    pub identifier: u16,
    /// DUP: the broker says that it sent it before.
    pub again: bool,
    /// It was published before we subscribed.
    pub retained: bool,
    /// User properties (version 5).
    pub properties: Vec<(String, String)>,
    pub content_type: Option<String>,
}

/// Sends.
pub(super) enum Client {
    V3(v3::AsyncClient),
    V5(v5::AsyncClient),
}

/// Receives.
pub(super) enum Connection {
    V3(Box<v3::EventLoop>, String),
    V5(Box<v5::EventLoop>, String),
}

/// The filters that the broker is to know, with their QoS: what stands in the position.
pub(super) fn filters(config: &MqttConfig) -> Vec<String> {
    config.topics.iter().map(|topic| filter(config, &topic.value)).collect()
}

fn filter(config: &MqttConfig, topic: &str) -> String {
    match config.scope {
        Some(Scope::Shared) => format!("$share/{}/{topic}", config.group),
        _ => topic.to_owned(),
    }
}

/// Makes a client; the connection is made when it is first asked for a packet.
///
/// # Errors
/// A file of the configuration cannot be used.
pub(super) async fn connect(context: &SourceContext, config: &MqttConfig) -> Result<(Client, Connection), String> {
    let (host, port) = config.address.value.clone();
    let id = match &config.client_id {
        Some(id) => id.clone(),
        None => format!("{}-{}", context.instance, context.name),
    };
    let password = match &config.password {
        Some(password) => Some(password.read().await?.expose().to_owned()),
        None => None,
    };
    let tls = match &config.tls {
        Some(tls) => {
            let options = tls.options(&context.base_dir);
            let name = options.server_name.clone().unwrap_or_else(|| host.clone());
            Some((Arc::new(options.client_config()?), name))
        }
        None => None,
    };
    // The name in the certificate is asked for in place of the host; the connector dials the host.
    let name = tls.as_ref().map_or_else(|| host.clone(), |(_, name)| name.clone());
    let dial = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let place = dial.clone();
    let requests = usize::from(config.receive_maximum).max(super::PACKETS) + REQUESTS;
    if config.v3 {
        let mut options = v3::MqttOptions::new(id, (name, port));
        options
            .set_keep_alive(config.keep_alive_s)
            .set_clean_session(config.clean_session)
            .set_max_packet_size(LARGEST_PACKET, LARGEST_PACKET)
            .set_ack_mode(v3::AckMode::Manual);
        match (&config.username, password) {
            (Some(user), Some(password)) => {
                options.set_credentials(user.as_str(), password);
            }
            (Some(user), None) => {
                options.set_username(user.as_str());
            }
            _ => {}
        }
        if let Some((tls, _)) = tls {
            options.set_transport(v3::Transport::tls_with_config(v3::TlsConfiguration::Rustls(tls)));
        }
        options.set_socket_connector(move |_, network| {
            let dial = dial.clone();
            async move { v3::default_socket_connect(dial, network).await }
        });
        let (client, events) = v3::AsyncClient::builder(options).capacity(requests).build();
        return Ok((Client::V3(client), Connection::V3(Box::new(events), place)));
    }
    let mut options = v5::MqttOptions::new(id, (name, port));
    options
        .set_keep_alive(config.keep_alive_s)
        .set_clean_start(config.clean_session)
        .set_session_expiry_interval(Some(if config.clean_session { 0 } else { config.session_expiry_s }))
        .set_broker_session_resume_policy(v5::BrokerSessionResumePolicy::AllowBrokerOnly)
        .set_receive_maximum(Some(config.receive_maximum))
        .set_connect_timeout(ANSWER)
        .set_ack_mode(v5::AckMode::Manual);
    match config.max_packet_bytes {
        Some(bytes) => options.set_max_packet_size(Some(bytes)),
        None => options.set_unlimited_incoming_packet_size(),
    };
    match (&config.username, password) {
        (Some(user), Some(password)) => {
            options.set_credentials(user.as_str(), password);
        }
        (Some(user), None) => {
            options.set_username(user.as_str());
        }
        _ => {}
    }
    if let Some((tls, _)) = tls {
        options.set_transport(v5::Transport::tls_with_config(v5::TlsConfiguration::Rustls(tls)));
    }
    options.set_socket_connector(move |_, network| {
        let dial = dial.clone();
        async move { v5::default_socket_connect(dial, network).await }
    });
    let (client, events) = v5::AsyncClient::builder(options).capacity(requests).build();
    Ok((Client::V5(client), Connection::V5(Box::new(events), place)))
}

// Requests go into a queue that has room for a full window of acknowledgements. One that finds no room nevertheless is
// lost with the connection, which the broker or the client then ends: the message comes again.
impl Client {
    pub fn subscribe(&self, config: &MqttConfig) {
        let _ = match self {
            Self::V3(client) => {
                let qos = if config.at_least_once { QoS3::AtLeastOnce } else { QoS3::AtMostOnce };
                let all = config.topics.iter().map(|topic| v3::SubscribeFilter::new(filter(config, &topic.value), qos));
                client.try_subscribe_many(all.collect::<Vec<_>>()).map_err(|_| ())
            }
            Self::V5(client) => {
                let qos = if config.at_least_once { QoS5::AtLeastOnce } else { QoS5::AtMostOnce };
                let retained = match config.ignore_retained {
                    true => v5::mqttbytes::v5::RetainForwardRule::Never,
                    // A subscription that the session has already brings nothing again.
                    false => v5::mqttbytes::v5::RetainForwardRule::OnNewSubscribe,
                };
                let one =
                    |filter: String| v5::SubscribeFilterInput::new(filter, qos).retain_forward_rule(retained.clone());
                let all: Vec<_> = filters(config).into_iter().map(one).collect();
                client.try_subscribe_many(all).map_err(|_| ())
            }
        };
    }

    pub fn unsubscribe(&self, filters: &[String]) {
        for filter in filters {
            let _ = match self {
                Self::V3(client) => client.try_unsubscribe(filter.as_str()).map_err(|_| ()),
                Self::V5(client) => client.try_unsubscribe(filter.as_str()).map_err(|_| ()),
            };
        }
    }

    /// PUBACK.
    pub fn acknowledge(&self, identifier: u16) {
        let _ = match self {
            Self::V3(client) => {
                client.try_manual_ack(v3::ManualAck::PubAck(v3::PubAck::new(identifier))).map_err(|_| ())
            }
            Self::V5(client) => {
                let ack = v5::mqttbytes::v5::PubAck::new(identifier, None);
                client.try_manual_ack(v5::ManualAck::PubAck(ack)).map_err(|_| ())
            }
        };
    }

    /// DISCONNECT; the broker keeps the session.
    pub fn disconnect(&self) {
        let _ = match self {
            Self::V3(client) => client.try_disconnect_with_timeout(FAREWELL).map_err(|_| ()),
            Self::V5(client) => client.try_disconnect_with_timeout(FAREWELL).map_err(|_| ()),
        };
    }
}

impl Connection {
    /// The next packet that matters. Not to be cancelled but with the connection.
    ///
    /// # Errors
    /// Why the connection is gone, in plain words.
    pub async fn next(&mut self) -> Result<Option<Packet>, String> {
        match self {
            Self::V3(events, place) => match events.poll().await {
                Ok(v3::Event::Incoming(packet)) => Ok(of_v3(packet)),
                Ok(v3::Event::Outgoing(_)) => Ok(None),
                Err(error) => Err(reason_v3(&error, place)),
            },
            Self::V5(events, place) => match events.poll().await {
                Ok(v5::Event::Incoming(packet)) => Ok(of_v5(packet)),
                Ok(_) => Ok(None),
                Err(error) => Err(reason_v5(&error, place)),
            },
        }
    }

    /// Why there is no answer to CONNECT.
    pub fn silent(&self) -> String {
        let (Self::V3(_, place) | Self::V5(_, place)) = self;
        format!("{place} does not answer as an MQTT broker does")
    }
}

fn of_v3(packet: v3::Packet) -> Option<Packet> {
    Some(match packet {
        v3::Packet::ConnAck(answer) => Packet::Connected { session_present: answer.session_present },
        v3::Packet::SubAck(answer) => {
            let refused = answer.return_codes.iter().any(|code| matches!(code, v3::SubscribeReasonCode::Failure));
            let reason = "the broker refuses a subscription; look at the user's access to the topics";
            Packet::Subscribed(if refused { Err(reason.into()) } else { Ok(()) })
        }
        v3::Packet::Publish(publish) => Packet::Publish(Box::new(Publish {
            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
            payload: publish.payload,
            identifier: if publish.qos == QoS3::AtMostOnce { 0 } else { publish.pkid },
            again: publish.dup,
            retained: publish.retain,
            properties: Vec::new(),
            content_type: None,
        })),
        _ => return None,
    })
}

fn of_v5(packet: v5::Packet) -> Option<Packet> {
    use v5::mqttbytes::v5::SubscribeReasonCode;
    Some(match packet {
        v5::Packet::ConnAck(answer) => Packet::Connected { session_present: answer.session_present },
        v5::Packet::SubAck(answer) => {
            let refused = answer.return_codes.iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
            Packet::Subscribed(match refused {
                None => Ok(()),
                Some(code) => {
                    let more = answer.properties.and_then(|properties| properties.reason_string).unwrap_or_default();
                    Err(format!("the broker refuses a subscription: {} {more}", words(&format!("{code:?}")))
                        .trim_end()
                        .into())
                }
            })
        }
        v5::Packet::Publish(publish) => {
            let properties = publish.properties.unwrap_or_default();
            Packet::Publish(Box::new(Publish {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload,
                identifier: if publish.qos == QoS5::AtMostOnce { 0 } else { publish.pkid },
                again: publish.dup,
                retained: publish.retain,
                properties: properties.user_properties,
                content_type: properties.content_type,
            }))
        }
        _ => return None,
    })
}

/// `NotAuthorized` -> `not authorized`.
fn words(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push(' ');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

fn of_io(error: &std::io::Error, place: &str) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("nobody listens at {place}"),
        std::io::ErrorKind::InvalidData => format!("TLS with {place} fails: {error}"),
        _ => format!("the connection to {place} is gone: {error}"),
    }
}

fn refused(code: &str, place: &str) -> String {
    let advice = match code {
        "BadUserNamePassword" | "NotAuthorized" => "; look at username and password",
        "RefusedProtocolVersion" | "UnsupportedProtocolVersion" => "; try version: 3.1.1 (or 5)",
        "BadClientId" | "ClientIdentifierNotValid" => "; give another client_id",
        _ => "",
    };
    format!("the broker at {place} refuses us: {}{advice}", words(code))
}

fn reason_v3(error: &v3::ConnectionError, place: &str) -> String {
    use v3::ConnectionError::{ConnectionRefused, FlushTimeout, Io, MqttState, NetworkTimeout, NotConnAck, Tls};
    match error {
        Io(error) => of_io(error, place),
        ConnectionRefused(code) => refused(&format!("{code:?}"), place),
        NetworkTimeout | FlushTimeout => format!("{place} does not answer"),
        NotConnAck(_) => format!("what answers at {place} does not speak MQTT"),
        MqttState(v3::StateError::Io(error)) => of_io(error, place),
        MqttState(v3::StateError::ConnectionAborted) => format!("the connection to {place} is gone"),
        MqttState(v3::StateError::AwaitPingResp) => format!("the broker at {place} gives no sign of life"),
        // What it says may differ each time; the sentence must not, to be said once.
        MqttState(v3::StateError::Deserialization(_)) => format!("what answers at {place} does not speak MQTT 3.1.1"),
        Tls(error) => format!("TLS with {place} fails: {error}"),
        _ => format!("{place}: {error}"),
    }
}

fn reason_v5(error: &v5::ConnectionError, place: &str) -> String {
    use v5::ConnectionError::{ConnectionRefused, Io, MqttState, NotConnAck, Timeout, Tls};
    match error {
        Io(error) => of_io(error, place),
        ConnectionRefused(code) | MqttState(v5::StateError::ConnFail { reason: code }) => {
            refused(&format!("{code:?}"), place)
        }
        Timeout(_) => format!("{place} does not answer"),
        NotConnAck(_) => format!("what answers at {place} does not speak MQTT 5; try version: 3.1.1"),
        MqttState(v5::StateError::Io(error)) => of_io(error, place),
        MqttState(v5::StateError::ConnectionAborted) => format!("the connection to {place} is gone"),
        MqttState(v5::StateError::AwaitPingResp) => format!("the broker at {place} gives no sign of life"),
        MqttState(v5::StateError::ServerDisconnect { reason_code, reason_string }) => {
            let code = words(&format!("{reason_code:?}"));
            let advice = match code.as_str() {
                "session taken over" => "; another client has the same client_id",
                _ => "",
            };
            let more = reason_string.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
            format!("the broker at {place} ended the connection: {code}{more}{advice}")
        }
        MqttState(v5::StateError::Deserialization(_)) => {
            format!("what answers at {place} does not speak MQTT 5; try version: 3.1.1 if it is a broker")
        }
        Tls(error) => format!("TLS with {place} fails: {error}"),
        _ => format!("{place}: {error}"),
    }
}
