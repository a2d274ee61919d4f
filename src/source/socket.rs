//! Unix stream sockets and TCP: connections that send one event a line. A full queue stops the reading.

use super::rate::Client;
use super::{RETRY, SourceContext, SourceState};
use crate::telemetry::{OnChange, self_metrics};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::io::AsyncRead;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Open connections of one source; further ones are closed at once and counted.
const CONNECTIONS: usize = 256;
/// A TCP connection that says nothing for so long is asked whether it is still there.
const IDLE: std::time::Duration = std::time::Duration::from_secs(60);
/// Who may write to a unix socket: its user and group.
const SOCKET_MODE: u32 = 0o660;

/// A host that vanished never closes its connections: only asking finds out, and frees their places.
///
/// # Errors
/// The system's.
pub fn set_keepalive(stream: &TcpStream) -> io::Result<()> {
    let probing = socket2::TcpKeepalive::new().with_time(IDLE).with_interval(IDLE);
    socket2::SockRef::from(stream).set_tcp_keepalive(&probing)
}

trait Accept {
    type Stream: AsyncRead + Unpin + Send + 'static;
    fn accept_one(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<Client>)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;
    async fn accept_one(&self) -> io::Result<(Self::Stream, Option<Client>)> {
        let (stream, peer) = self.accept().await?;
        set_keepalive(&stream)?;
        Ok((stream, Some(Client::Ip(peer.ip().to_canonical()))))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;
    async fn accept_one(&self) -> io::Result<(Self::Stream, Option<Client>)> {
        let (stream, _) = self.accept().await?;
        let user = stream.peer_cred().ok().map(|peer| Client::User(peer.uid()));
        Ok((stream, user))
    }
}

/// Listens on a TCP address until cancelled; what cannot be bound is tried again.
pub(super) async fn run_tcp(context: &SourceContext, address: &str, cancel: &CancellationToken) {
    run(context, address, || TcpListener::bind(address), cancel).await;
}

/// Listens on a unix socket until cancelled. A socket that a dead process left behind is replaced.
pub(super) async fn run_unix(context: &SourceContext, path: &Path, cancel: &CancellationToken) {
    if run(context, &path.display().to_string(), || bind_unix(path), cancel).await {
        // Only a leftover for the next start, which replaces it: an error here hurts nobody.
        let _ = tokio::fs::remove_file(path).await;
    }
}

async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if tokio::fs::symlink_metadata(path).await.is_ok_and(|found| {
        use std::os::unix::fs::FileTypeExt;
        found.file_type().is_socket()
    }) {
        match UnixStream::connect(path).await {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on this socket")),
            // Nobody listens: a dead process left it behind. Any other error says nothing about who owns it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => tokio::fs::remove_file(path).await?,
            Err(error) => return Err(error),
        }
    }
    let listener = UnixListener::bind(path)?;
    tokio::fs::set_permissions(path, PermissionsExt::from_mode(SOCKET_MODE)).await?;
    Ok(listener)
}

/// Binds and serves; whether it was ever bound.
async fn run<L: Accept, B: Future<Output = io::Result<L>>>(
    context: &SourceContext,
    address: &str,
    bind: impl Fn() -> B,
    cancel: &CancellationToken,
) -> bool {
    let said = OnChange::new(None);
    let listener = loop {
        match bind().await {
            Ok(listener) => break listener,
            Err(error) => {
                let reason = format!("cannot listen on {address}: {error}");
                if said.set(Some(reason.clone())) {
                    tracing::warn!(source = %context.name, %reason, "trying again until it works");
                    context.report(SourceState::Lost { reason }).await;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = cancel.cancelled() => return false,
        }
    };
    tracing::info!(source = %context.name, address, "listening");
    context.report(SourceState::Connected).await;
    serve(context, listener, cancel).await;
    true
}

async fn serve(context: &SourceContext, listener: impl Accept, cancel: &CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let open = self_metrics::source_connections(&context.name);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept_one() => accepted,
            Some(_) = connections.join_next() => continue,
            () = cancel.cancelled() => break,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, as a rule: give the others time to end.
                tracing::warn!(source = %context.name, %error, "a connection could not be accepted");
                self_metrics::source_connections_refused(&context.name, "accept_failed").increment(1);
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            self_metrics::source_connections_refused(&context.name, "too_many").increment(1);
            continue;
        };
        let sink = context.sink.for_client(client);
        let (context, cancel, open) = (SourceContext { sink, ..context.clone() }, cancel.clone(), open.clone());
        connections.spawn(async move {
            open.increment(1.0);
            if let Err(error) = context.read_lines(stream, &cancel).await {
                tracing::debug!(source = %context.name, %error, "a connection was cut");
            }
            open.decrement(1.0);
            drop(place);
        });
    }
    while connections.join_next().await.is_some() {}
}
