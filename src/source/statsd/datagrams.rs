//! Datagram sockets: emptied without waiting, then left alone for as long as the kernel's buffer has room to spare.
//!
//! Under load the socket is not registered with the runtime: every datagram would wake it, and every wake-up begins with
//! cold caches. A look some milliseconds later finds hundreds of datagrams, and most of their series several times.

use super::Intake;
use super::drops::KernelDrops;
use crate::source::RETRY;
use crate::telemetry::{clock, self_metrics};
use std::io;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio_util::sync::CancellationToken;

/// The longest datagram there is.
const DATAGRAM_BYTES: usize = 65_536;
/// Bytes of datagrams that one batch may hold before it is handed over.
const BATCH_BYTES: usize = 1 << 20;
/// And how many of them: a datagram may be empty.
const BATCH_DATAGRAMS: usize = 20_000;
/// When a look found more than this many datagrams, the next one is a little later.
const BUSY_DATAGRAMS: usize = 2;
/// How much later.
const PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(50);
/// The part of the kernel's buffer that may fill meanwhile: what comes all of a sudden has the rest.
const SHARE: f64 = 1.0 / 4.0;
/// This part of the buffer that is asked for, as the kernel counts it: with less the pauses are shorter.
const LARGE_ROOM: f64 = 2e6;
/// What the kernel counts for a datagram beside its bytes, which it rounds up generously.
const KERNEL_BYTES: usize = 1_024;
/// How often the kernel is asked what it dropped.
const LOOK: Duration = Duration::from_secs(1);

/// A datagram socket that does not block.
pub(super) trait Datagrams: Send + Sync {
    /// The same socket, registered with the runtime.
    type Registered: Send + Sync;
    fn register(&self) -> io::Result<Self::Registered>;
    /// Waits until there is something to read, and forgets that there is.
    fn readable(registered: &Self::Registered) -> impl Future<Output = io::Result<()>> + Send;
    fn receive(&self, into: &mut [u8]) -> io::Result<usize>;
}

/// What makes the runtime forget that a socket is readable: it is going to be read to its end.
fn nothing_left() -> io::Result<()> {
    Err(io::ErrorKind::WouldBlock.into())
}

impl Datagrams for UdpSocket {
    type Registered = tokio::net::UdpSocket;

    fn register(&self) -> io::Result<Self::Registered> {
        tokio::net::UdpSocket::from_std(self.try_clone()?)
    }

    async fn readable(registered: &Self::Registered) -> io::Result<()> {
        registered.readable().await?;
        let _ = registered.try_io(Interest::READABLE, nothing_left);
        Ok(())
    }

    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        self.recv(into)
    }
}

impl Datagrams for UnixDatagram {
    type Registered = tokio::net::UnixDatagram;

    fn register(&self) -> io::Result<Self::Registered> {
        tokio::net::UnixDatagram::from_std(self.try_clone()?)
    }

    async fn readable(registered: &Self::Registered) -> io::Result<()> {
        registered.readable().await?;
        let _ = registered.try_io(Interest::READABLE, nothing_left);
        Ok(())
    }

    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        self.recv(into)
    }
}

/// A UDP socket with a large buffer, as far as the kernel grants it.
pub(super) async fn udp_socket(address: &str, bytes: usize) -> io::Result<UdpSocket> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    for address in tokio::net::lookup_host(address).await? {
        let bound = || {
            let domain = socket2::Domain::for_address(address);
            let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
            // Less than asked for is granted silently (net.core.rmem_max); an error means that it stays as it was.
            let _ = socket.set_recv_buffer_size(bytes);
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            Ok(socket.into())
        };
        match bound() {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A unix datagram socket; one that a dead process left behind is replaced.
pub(super) async fn unix_socket(path: &Path) -> io::Result<UnixDatagram> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    if tokio::fs::symlink_metadata(path).await.is_ok_and(|found| found.file_type().is_socket()) {
        let asking = UnixDatagram::unbound()?;
        match asking.connect(path) {
            Ok(()) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on this socket")),
            // Nobody listens. Any other error says nothing about who owns it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => tokio::fs::remove_file(path).await?,
            Err(error) => return Err(error),
        }
    }
    let socket = UnixDatagram::bind(path)?;
    socket.set_nonblocking(true)?;
    // Its user and group may write.
    tokio::fs::set_permissions(path, PermissionsExt::from_mode(0o660)).await?;
    Ok(socket)
}

/// How long a busy socket is left alone.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes that may wait in the kernel.
    room: f64,
    /// The last look of a busy time.
    last: Option<Instant>,
}

impl Pace {
    /// For a socket whose kernel's buffer has so many bytes.
    pub fn new(buffer_bytes: usize) -> Self {
        Self { room: buffer_bytes as f64 * SHARE, last: None }
    }

    /// For a socket that is never left alone.
    pub fn none() -> Self {
        Self { room: 0.0, last: None }
    }

    /// After a look that found so much. `None` when the next datagram is to be waited for.
    fn pause(&mut self, now: Instant, found: &Found) -> Option<Duration> {
        if found.bytes >= BATCH_BYTES || found.count >= BATCH_DATAGRAMS {
            // There is more.
            self.last = Some(now);
            return Some(Duration::ZERO);
        }
        if found.count <= BUSY_DATAGRAMS || self.room == 0.0 {
            self.last = None;
            return None;
        }
        // How fast they come is known from the second look on.
        let Some(last) = self.last.replace(now) else { return Some(*PAUSE.start()) };
        let taken = (found.bytes * 2 + found.count * KERNEL_BYTES) as f64;
        if taken >= self.room {
            // A buffer that was full says nothing about how much there would have been.
            return Some(*PAUSE.start());
        }
        let filled = now.duration_since(last).as_secs_f64() * self.room / taken;
        // A small buffer is full of a sudden burst, however little came before it.
        let longest = PAUSE.end().as_secs_f64() * (self.room / LARGE_ROOM).min(1.0);
        Some(Duration::from_secs_f64(filled.min(longest).max(PAUSE.start().as_secs_f64())))
    }
}

/// What a look found.
#[derive(Default)]
struct Found {
    count: usize,
    bytes: usize,
    failed: bool,
}

/// A socket that is registered with the runtime only while somebody waits for it.
struct Watched<S: Datagrams> {
    socket: S,
    registered: Option<S::Registered>,
}

impl<S: Datagrams> Watched<S> {
    /// Waits until there is something to read; what is there must be read to its end before the next call.
    async fn readable(&mut self) -> io::Result<()> {
        let registered = match &mut self.registered {
            Some(registered) => registered,
            none => none.insert(self.socket.register()?),
        };
        S::readable(registered).await
    }
}

impl Intake {
    /// Reads until cancelled, and once more then.
    pub(super) async fn datagrams<S: Datagrams>(
        &self,
        socket: S,
        mut pace: Pace,
        mut drops: Option<KernelDrops>,
        cancel: &CancellationToken,
    ) {
        let mut watched = Watched { socket, registered: None };
        let mut buffer = vec![0; DATAGRAM_BYTES];
        let (mut asked, mut pause) = (clock::instant(), None);
        loop {
            let ready = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => {
                        if watched.readable().await.is_err() {
                            tokio::time::sleep(RETRY).await;
                        }
                    }
                }
            };
            let ready = tokio::select! {
                () = ready => true,
                () = cancel.cancelled() => true,
                () = tokio::time::sleep(LOOK), if drops.is_some() => false,
            };
            let (now, ends) = (clock::instant(), cancel.is_cancelled());
            if let Some(drops) = drops.as_mut().filter(|_| ends || now.duration_since(asked) >= LOOK) {
                asked = now;
                drops.look();
            }
            if !ready {
                continue;
            }
            let Some(found) = self.look(&watched.socket, &mut buffer).await else { return };
            if ends {
                return;
            }
            pause = match found.failed {
                // Whatever it is (an error of the network behind an earlier datagram), it must not be asked for at full speed.
                true => Some(if found.count == 0 { RETRY } else { Duration::ZERO }),
                false => pace.pause(now, &found),
            };
            if pause.is_some() {
                watched.registered = None;
            }
        }
    }

    /// Empties the socket, and hands over what was in it. `None` when the core has ended.
    async fn look(&self, socket: &impl Datagrams, buffer: &mut [u8]) -> Option<Found> {
        let mut lines = self.lines.lock().await;
        let mut found = Found::default();
        while found.bytes < BATCH_BYTES && found.count < BATCH_DATAGRAMS {
            match socket.receive(buffer) {
                Ok(length) => {
                    lines.read(&buffer[..length]);
                    found.count += 1;
                    found.bytes += length;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    found.failed = true;
                    break;
                }
            }
        }
        self_metrics::source_received_bytes(&self.context.name).increment(found.bytes as u64);
        self_metrics::source_messages(&self.context.name).increment(found.count as u64);
        self.hand_over(&mut lines).await.then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_socket_is_left_alone_while_its_buffer_has_room() {
        let began = clock::instant();
        let check = |buffer: usize, looks: &[(u64, usize, usize)], expected: &[Option<u64>]| {
            let mut pace = if buffer == 0 { Pace::none() } else { Pace::new(buffer) };
            let pauses = looks.iter().map(|&(at_ms, count, bytes)| {
                let found = Found { count, bytes, failed: false };
                pace.pause(began + Duration::from_millis(at_ms), &found).map(|pause| pause.as_millis() as u64)
            });
            assert_eq!(pauses.collect::<Vec<_>>(), expected, "{buffer} {looks:?}");
        };
        // Few: each is waited for.
        check(8 << 20, &[(0, 1, 100), (1, 2, 200)], &[None, None]);
        // Many, and a large buffer: as long as allowed, from the second look on.
        check(8 << 20, &[(0, 100, 50_000), (1, 10, 5_000), (51, 200, 100_000)], &[Some(1), Some(50), Some(50)]);
        // 1,000 in 2 ms fill a quarter of the buffer in 4 ms.
        check(8 << 20, &[(0, 100, 1), (2, 1_000, 0), (6, 2_000, 0)], &[Some(1), Some(4), Some(4)]);
        // A buffer that was full is looked at again soon: nobody knows how much there would have been.
        check(8 << 20, &[(0, 100, 1), (2_000, 5_000, 0)], &[Some(1), Some(1)]);
        // A small buffer is looked at as often as possible.
        check(200 << 10, &[(0, 100, 1), (1, 500, 50_000)], &[Some(1), Some(1)]);
        // Nor is it left alone for long when little comes: a burst would fill it.
        check(416 << 10, &[(0, 3, 300), (50, 3, 300)], &[Some(1), Some(2)]);
        // More than one look takes.
        check(8 << 20, &[(0, 2, BATCH_BYTES), (0, BATCH_DATAGRAMS, 0), (5, 1, 1)], &[Some(0), Some(0), None]);
        check(0, &[(0, 100, 100), (1, 1, BATCH_BYTES)], &[None, Some(0)]);
    }
}
