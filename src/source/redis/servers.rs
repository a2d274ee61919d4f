//! Which server holds what: one server, the master that the sentinels name, or the nodes of a cluster.

use super::resp::Reader;
use super::wire::{Login, Wire};
use crate::config::schema::{RedisAccess, RedisAddress, RedisServers};
use std::path::Path;
use std::sync::Arc;

/// A server and streams that are read there by one command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub address: RedisAddress,
    pub streams: Vec<Arc<str>>,
}

/// How servers are reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access<'a> {
    pub config: &'a RedisAccess,
    pub base_dir: &'a Path,
    /// The limit of one text.
    pub event_bytes: usize,
}

impl Access<'_> {
    /// A connection to a server that holds data.
    ///
    /// # Errors
    /// A sentence.
    pub async fn open(&self, address: &RedisAddress) -> Result<Wire, String> {
        self.open_as(address, Login::of(self.config)).await
    }

    async fn open_as(&self, address: &RedisAddress, login: Login<'_>) -> Result<Wire, String> {
        Wire::open(address, login, self.config.tls.as_ref(), self.base_dir, self.event_bytes).await
    }

    /// The servers that hold these streams; asked anew at each connection, because masters and slots move. Without streams
    /// any one server.
    ///
    /// # Errors
    /// A sentence: nobody could be asked, or nobody knew.
    pub async fn nodes(&self, streams: &[Arc<str>]) -> Result<Vec<Node>, String> {
        let whole = |address: RedisAddress| vec![Node { address, streams: streams.to_vec() }];
        match &self.config.servers {
            RedisServers::One(address) => Ok(whole(address.clone())),
            RedisServers::Sentinel { master, urls, username, password } => {
                let login = Login { username: username.as_deref(), password: password.as_ref(), database: 0 };
                let mut reasons = Vec::new();
                for url in urls {
                    match self.master(url, login, master).await {
                        Ok(address) => return Ok(whole(address)),
                        Err(reason) => reasons.push(reason),
                    }
                }
                Err(reasons.join("; "))
            }
            RedisServers::Cluster(addresses) => {
                let mut reasons = Vec::new();
                for address in addresses {
                    match self.cluster(address, streams).await {
                        Ok(nodes) => return Ok(nodes),
                        Err(reason) => reasons.push(reason),
                    }
                }
                Err(reasons.join("; "))
            }
        }
    }

    /// Asks one sentinel, and the server that it names whether it is a master: right after a failover it may not know.
    async fn master(&self, sentinel: &RedisAddress, login: Login<'_>, name: &str) -> Result<RedisAddress, String> {
        let mut wire = self.open_as(sentinel, login).await.map_err(|reason| format!("sentinel {reason}"))?;
        let reply = wire.ask(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name.as_bytes()]).await?;
        let mut reader = Reader::new(&reply, wire.limit());
        let unknown = || format!("sentinel {sentinel} knows no master named {name:?}");
        if reader.array() != Some(2) {
            return Err(unknown());
        }
        let (host, port) = (reader.text().ok_or_else(unknown)?, reader.text().ok_or_else(unknown)?);
        let port = std::str::from_utf8(port).ok().and_then(|port| port.parse().ok()).ok_or_else(unknown)?;
        let address = RedisAddress::Tcp { host: String::from_utf8_lossy(host).into_owned(), port };
        let mut wire = self.open(&address).await?;
        // Who may not ask for the role learns it from the first write.
        if let Ok(reply) = wire.ask(&[b"ROLE"]).await {
            let mut reader = Reader::new(&reply, wire.limit());
            if reader.array().is_some() && reader.text().is_some_and(|role| role != b"master") {
                return Err(format!("{address} is no master, though sentinel {sentinel} says so"));
            }
        }
        Ok(address)
    }

    /// Asks one node of a cluster who holds what.
    async fn cluster(&self, asked: &RedisAddress, streams: &[Arc<str>]) -> Result<Vec<Node>, String> {
        let mut wire = self.open(asked).await?;
        if streams.is_empty() {
            return Ok(vec![Node { address: asked.clone(), streams: Vec::new() }]);
        }
        let reply = wire.ask(&[b"CLUSTER", b"SLOTS"]).await?;
        let slots =
            slots(&reply, wire.limit(), asked).ok_or_else(|| format!("{asked}: CLUSTER SLOTS cannot be read"))?;
        let (mut nodes, mut read_slots): (Vec<Node>, Vec<i64>) = Default::default();
        for stream in streams {
            let reply = wire.ask(&[b"CLUSTER", b"KEYSLOT", stream.as_bytes()]).await?;
            let slot = match Reader::new(&reply, wire.limit()).item() {
                Some(super::resp::Item::Integer(slot)) => slot,
                _ => return Err(format!("{asked}: CLUSTER KEYSLOT cannot be read")),
            };
            let Some((_, _, address)) = slots.iter().find(|(first, last, _)| (*first..=*last).contains(&slot)) else {
                return Err(format!("{asked}: no node of the cluster serves slot {slot} of the stream {stream}"));
            };
            // One command reads streams of one slot only, even where the node is the same.
            match nodes.iter_mut().zip(&read_slots).find(|(_, known)| **known == slot) {
                Some((node, _)) => node.streams.push(stream.clone()),
                None => {
                    nodes.push(Node { address: address.clone(), streams: vec![stream.clone()] });
                    read_slots.push(slot);
                }
            }
        }
        Ok(nodes)
    }
}

/// First and last slot and the master of each range.
fn slots(reply: &[u8], limit: usize, asked: &RedisAddress) -> Option<Vec<(i64, i64, RedisAddress)>> {
    use super::resp::Item;
    let mut reader = Reader::new(reply, limit);
    let ranges = reader.array()?;
    let mut out = Vec::with_capacity(ranges.min(1 << 14));
    for _ in 0..ranges {
        let parts = reader.array()?;
        let (Item::Integer(first), Item::Integer(last)) = (reader.item()?, reader.item()?) else { return None };
        let attributes = reader.array()?;
        let host = match reader.item()? {
            Item::Bulk(host) if !host.is_empty() && host != b"?" => String::from_utf8_lossy(host).into_owned(),
            // A node that does not know its own name is reached where it was asked.
            _ => match asked {
                RedisAddress::Tcp { host, .. } => host.clone(),
                RedisAddress::Unix { .. } => return None,
            },
        };
        let Item::Integer(port) = reader.item()? else { return None };
        for _ in 2..attributes {
            reader.skip()?;
        }
        for _ in 3..parts {
            reader.skip()?;
        }
        out.push((first, last, RedisAddress::Tcp { host, port: u16::try_from(port).ok()? }));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_read_with_replicas_and_without_names() {
        let asked = RedisAddress::Tcp { host: "seed".into(), port: 1 };
        let reply = b"*2\r\n*4\r\n:0\r\n:8191\r\n*4\r\n$5\r\n10.0.\r\n:7000\r\n$2\r\nid\r\n*2\r\n$8\r\nhostname\r\n$1\r\nh\r\n*3\r\n$1\r\nr\r\n:7001\r\n$1\r\nx\r\n\
            *3\r\n:8192\r\n:16383\r\n*3\r\n$0\r\n\r\n:7002\r\n$1\r\ny\r\n";
        let tcp = |host: &str, port| RedisAddress::Tcp { host: host.into(), port };
        assert_eq!(
            slots(reply, 100, &asked),
            Some(vec![(0, 8191, tcp("10.0.", 7000)), (8192, 16383, tcp("seed", 7002))])
        );
        assert_eq!(slots(b"+OK\r\n", 100, &asked), None);
    }
}
