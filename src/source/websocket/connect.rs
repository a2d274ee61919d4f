//! Opening a connection: TCP, TLS, the request with its headers; and what a refusal means.

use super::super::SourceContext;
use crate::config::schema::WebSocketConfig;
use http::{HeaderValue, Request, StatusCode, header};
use rustls::pki_types::ServerName;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig as Limits;

/// Until the server has answered.
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes read at once.
const READ_BYTES: usize = 128 << 10;

/// Plain or encrypted.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Stream::Tls(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read(context, into))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_shutdown(context))
    }
}

/// Connects; the reason for people when that fails. Messages larger than `read_bytes` end the connection.
pub(super) async fn open(
    context: &SourceContext,
    config: &WebSocketConfig,
    read_bytes: usize,
) -> Result<WebSocketStream<Stream>, String> {
    let opening = async {
        let request = request(config)?;
        let uri = request.uri().clone();
        let host = uri.host().unwrap_or("").trim_start_matches('[').trim_end_matches(']').to_owned();
        let encrypted = uri.scheme_str() == Some("wss");
        let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        let tcp = TcpStream::connect((host.as_str(), port))
            .await
            .map_err(|error| format!("cannot connect to {host}:{port}: {error}"))?;
        // Pings and subscriptions are short: they must not wait for each other.
        tcp.set_nodelay(true).map_err(|error| format!("cannot connect to {host}:{port}: {error}"))?;
        let stream = if encrypted {
            Stream::Tls(Box::new(encrypt(context, config, &host, tcp).await?))
        } else {
            Stream::Plain(tcp)
        };
        let limits = Limits::default()
            .read_buffer_size(READ_BYTES)
            .max_message_size(Some(read_bytes))
            .max_frame_size(Some(read_bytes));
        match tokio_tungstenite::client_async_with_config(request, stream, Some(limits)).await {
            Ok((socket, _)) => Ok(socket),
            Err(error) => Err(refused(&error, &format!("{host}:{port}"))),
        }
    };
    match tokio::time::timeout(CONNECT, opening).await {
        Ok(opened) => opened,
        Err(_) => Err(format!("{} does not answer within {} s", config.url.value, CONNECT.as_secs())),
    }
}

async fn encrypt(
    context: &SourceContext,
    config: &WebSocketConfig,
    host: &str,
    tcp: TcpStream,
) -> Result<TlsStream<TcpStream>, String> {
    let options = config.tls.options(&context.base_dir);
    let named = options.server_name.clone().unwrap_or_else(|| host.to_owned());
    let server_name =
        ServerName::try_from(named.clone()).map_err(|_| format!("{named:?} is no name that a certificate can bear"))?;
    // An upgrade is a matter of HTTP/1.1 (RFC 6455, section 4.1).
    let client = tokio::task::spawn_blocking(move || options.http_client_config(false))
        .await
        .map_err(|error| format!("tls: {error}"))??;
    TlsConnector::from(Arc::new(client))
        .connect(server_name, tcp)
        .await
        .map_err(|error| format!("TLS with {named} failed: {error}"))
}

/// The opening request (RFC 6455, section 4.1).
fn request(config: &WebSocketConfig) -> Result<Request<()>, String> {
    let url = &config.url.value;
    let mut request = url.into_client_request().map_err(|error| format!("{url}: {error}"))?;
    let headers = request.headers_mut();
    for (name, value) in &config.headers {
        let name = header::HeaderName::from_bytes(name.value.as_bytes()).map_err(|error| error.to_string())?;
        headers.insert(name, HeaderValue::from_str(&value.value).map_err(|error| error.to_string())?);
    }
    if let Some(token) = &config.token {
        let token = token.read_now()?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose().trim()))
            .map_err(|_| "the token holds characters that a header cannot".to_owned())?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    if !config.protocols.is_empty() {
        let offered: Vec<&str> = config.protocols.iter().map(|protocol| protocol.value.as_str()).collect();
        let value = HeaderValue::from_str(&offered.join(", ")).map_err(|error| error.to_string())?;
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
    Ok(request)
}

/// What the server's answer means, with what to do about it.
fn refused(error: &Error, address: &str) -> String {
    let Error::Http(response) = error else {
        return format!("{address} does not speak WebSocket: {error}");
    };
    let status = response.status();
    let advice = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "; is the token right (token, token_file or headers)?",
        StatusCode::NOT_FOUND => "; is the path of the url right?",
        status if status.is_redirection() => "; write the address that it names as url",
        StatusCode::OK | StatusCode::BAD_REQUEST | StatusCode::UPGRADE_REQUIRED => "; nothing speaks WebSocket there",
        _ => "",
    };
    format!("{address} refused the WebSocket with {status}{advice}")
}
