//! A listener with TCP_NODELAY and a limit on connections, and the server on it.

use super::Shared;
use crate::source::set_keepalive;
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections that one listener holds; more wait in the kernel's queue.
pub const CONNECTIONS: usize = 1_024;

/// A TCP listener that takes a connection only when one is free of [`CONNECTIONS`].
#[derive(Debug)]
pub struct Limited {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

/// A connection; its place is free again when it is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    _place: Option<OwnedSemaphorePermit>,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

impl Limited {
    /// Takes a bound listener.
    pub fn new(listener: TcpListener) -> Self {
        Self { listener, permits: Arc::new(Semaphore::new(CONNECTIONS)) }
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed; without a permit the connection would only go uncounted.
        let place = Arc::clone(&self.permits).acquire_owned().await.ok();
        // axum's own listener waits and logs where the process has run out of file descriptors.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        // Without it an answer in two parts waits 40 ms for the other side's delayed acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "TCP_NODELAY could not be set");
        }
        if let Err(error) = set_keepalive(&stream) {
            tracing::debug!(%peer, %error, "TCP keepalive could not be set");
        }
        (Connection { stream, _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Limited>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> Self {
        Self(*stream.remote_addr())
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Serves until `shutdown` is ready, then ends idle connections at once and others after their request.
///
/// # Errors
/// The listener's error; single connections never end the server.
pub async fn serve(
    listener: TcpListener,
    router: Router<Shared>,
    backend: Shared,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let sockets = backend.clone();
    let shutdown = async move {
        shutdown.await;
        sockets.sockets.close();
    };
    let sockets = backend.clone();
    let service = router.with_state(backend).into_make_service_with_connect_info::<Peer>();
    axum::serve(Limited::new(listener), service).with_graceful_shutdown(shutdown).await?;
    // Upgraded connections are no longer the server's: they end by themselves.
    sockets.sockets.closed().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_vanished_is_found_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (connection, _) = Limited::new(listener).accept().await;
        assert!(socket2::SockRef::from(&connection.stream).keepalive().unwrap());
    }
}
