//! Connection, channel, exchanges, queue, bindings, consumer.

use super::{ANSWER, reasons};
use crate::config::schema::{AmqpConfig, AmqpDeclare, AmqpValue, Scope};
use crate::source::SourceContext;
use futures_util::future::BoxFuture;
use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};
use std::sync::Arc;

/// A queue of an instance that is gone is removed by the broker after this long, unless `declare` says otherwise.
const EXPIRES_MS: i64 = 3_600_000;

/// A consumer that delivers.
pub(super) struct Connected {
    pub connection: Connection,
    pub channel: Channel,
    pub consumer: Consumer,
    /// The queue's name at the broker.
    pub queue: ShortString,
    /// Messages that waited in it.
    pub waiting: u32,
}

/// Makes everything that is needed to consume.
///
/// # Errors
/// Why it cannot be, in plain words.
pub(super) async fn connect(context: &SourceContext, config: &AmqpConfig) -> Result<Connected, String> {
    let (host, port) = &config.address.value;
    let late = |_| format!("{host}:{port} does not answer as an AMQP broker does");
    let open: BoxFuture<'_, Result<Connection, String>> = Box::pin(open(context, config));
    let connection = tokio::time::timeout(ANSWER, open).await.map_err(late)??;
    let set_up: BoxFuture<'_, lapin::Result<_>> = Box::pin(set_up(context, config, &connection));
    let set_up = tokio::time::timeout(ANSWER, set_up).await.map_err(late)?;
    let (channel, consumer, queue, waiting) = set_up.map_err(|error| reasons::lost(&error, config))?;
    Ok(Connected { connection, channel, consumer, queue, waiting })
}

async fn open(context: &SourceContext, config: &AmqpConfig) -> Result<Connection, String> {
    let (host, port) = config.address.value.clone();
    let password = match &config.password {
        Some(password) => password.read().await?.expose().to_owned(),
        None => "guest".to_owned(),
    };
    let tls = match &config.tls {
        Some(tls) => {
            let options = tls.options(&context.base_dir);
            let name = options.server_name.clone().unwrap_or_else(|| host.clone());
            Some((RustlsConnector::from(Arc::new(options.client_config()?)), name))
        }
        None => None,
    };
    let uri = AMQPUri {
        scheme: if tls.is_some() { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: config.username.clone(), password },
            host: host.clone(),
            port,
        },
        vhost: config.vhost.clone(),
        query: AMQPQueryString { heartbeat: Some(config.heartbeat_s), ..AMQPQueryString::default() },
    };
    let name = format!("sidewatch {} {}", context.instance, context.name);
    let properties = ConnectionProperties::default().with_connection_name(LongString::from(name));
    dial(uri, tls, properties).await.map_err(|error| reasons::lost(&error, config))
}

/// The handshakes of TCP, TLS and AMQP.
fn dial(
    uri: AMQPUri,
    tls: Option<(RustlsConnector, String)>,
    properties: ConnectionProperties,
) -> BoxFuture<'static, lapin::Result<Connection>> {
    let connect = async move |uri: AMQPUri, runtime| {
        let address = (uri.authority.host.clone(), uri.authority.port);
        let address = tokio::net::lookup_host(address).await?.next();
        let Some(address) = address else {
            return Err(std::io::Error::from(std::io::ErrorKind::NotFound).into());
        };
        let stream = AsyncTcpStream::connect(&runtime, address).await?;
        Ok(match &tls {
            Some((connector, name)) => stream.into_rustls(connector, name).await?,
            None => stream,
        })
    };
    Box::pin(async move {
        let runtime = lapin::runtime::default_runtime()?;
        Connection::connector(uri, runtime, connect, properties).await
    })
}

async fn set_up(
    context: &SourceContext,
    config: &AmqpConfig,
    connection: &Connection,
) -> lapin::Result<(Channel, Consumer, ShortString, u32)> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(config.prefetch, BasicQosOptions::default()).await?;
    for binding in &config.bind {
        if let Some(kind) = &binding.kind {
            let kind = match kind.as_str() {
                "direct" => ExchangeKind::Direct,
                "fanout" => ExchangeKind::Fanout,
                "headers" => ExchangeKind::Headers,
                _ => ExchangeKind::Topic,
            };
            let options = ExchangeDeclareOptions { durable: binding.durable, ..ExchangeDeclareOptions::default() };
            let exchange = short(&binding.exchange.value);
            channel.exchange_declare(exchange, kind, options, FieldTable::default()).await?;
        }
    }
    let name = queue_name(config, &context.instance);
    let own = AmqpDeclare {
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: vec![("x-expires".into(), AmqpValue::Integer(EXPIRES_MS))],
    };
    let declare = config.declare.as_ref().or((config.scope == Some(Scope::PerInstance)).then_some(&own));
    let options = QueueDeclareOptions {
        passive: declare.is_none(),
        durable: declare.is_some_and(|declare| declare.durable),
        exclusive: declare.is_some_and(|declare| declare.exclusive),
        auto_delete: declare.is_some_and(|declare| declare.auto_delete),
        nowait: false,
    };
    let arguments = declare.map(|declare| table(&declare.arguments)).unwrap_or_default();
    let queue = channel.queue_declare(short(&name), options, arguments).await?;
    for binding in &config.bind {
        let (exchange, key) = (short(&binding.exchange.value), short(&binding.routing_key));
        channel.queue_bind(short(&name), exchange, key, QueueBindOptions::default(), table(&binding.arguments)).await?;
    }
    let consume = channel.basic_consume(
        short(&name),
        ShortString::default(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let consumer = consume.await?;
    Ok((channel, consumer, queue.name().clone(), queue.message_count()))
}

/// The queue's name at the broker; with `scope: per_instance` each instance has its own.
fn queue_name(config: &AmqpConfig, instance: &str) -> String {
    match config.scope {
        Some(Scope::PerInstance) => format!("{}-{instance}", config.queue.value),
        _ => config.queue.value.clone(),
    }
}

/// A name of at most 255 bytes; longer ones are cut, which the broker then does not know.
fn short(text: &str) -> ShortString {
    let end = (0..=text.len().min(255)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    ShortString::from(&text[..end])
}

fn table(arguments: &[(String, AmqpValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        let value = match value {
            AmqpValue::Bool(value) => AMQPValue::Boolean(*value),
            AmqpValue::Integer(value) => AMQPValue::LongLongInt(*value),
            AmqpValue::Text(value) => AMQPValue::LongString(LongString::from(value.as_str())),
        };
        table.insert(short(name), value);
    }
    table
}
