//! What the kernel dropped of a UDP socket because its buffer was full: the last column of /proc/net/udp and udp6.

use crate::telemetry::self_metrics;
use metrics::Counter;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Follows the kernel's count for one socket.
#[derive(Debug)]
pub struct KernelDrops {
    inode: String,
    table: &'static str,
    seen: u64,
    counter: Counter,
}

impl KernelDrops {
    /// `None` where the kernel does not tell (no /proc).
    pub fn new(socket: &UdpSocket, source: &Arc<str>) -> Option<Self> {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).ok()?;
        let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
        let table = if socket.local_addr().ok()?.is_ipv6() { "/proc/self/net/udp6" } else { "/proc/self/net/udp" };
        let counter = self_metrics::source_gaps(source, "kernel_drops");
        // There from the start, so that the first drop is a rise.
        counter.absolute(0);
        Some(Self { inode, table, seen: 0, counter })
    }

    /// Counts what was dropped since the last look.
    pub fn look(&mut self) {
        let Some(drops) = std::fs::read_to_string(self.table).ok().and_then(|table| drops(&table, &self.inode)) else {
            return;
        };
        self.counter.increment(drops.saturating_sub(self.seen));
        self.seen = self.seen.max(drops);
    }
}

/// The last column of the line whose tenth column is the inode.
fn drops(table: &str, inode: &str) -> Option<u64> {
    let line = table.lines().find(|line| line.split_ascii_whitespace().nth(9) == Some(inode))?;
    line.split_ascii_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drops_of_one_socket() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  416: 0100007F:1FBD 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 22471 2 0000000000000000 17
 2055: 00000000:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 2247 2 0000000000000000 3
";
        assert_eq!((drops(table, "22471"), drops(table, "2247"), drops(table, "1")), (Some(17), Some(3), None));
    }
}
