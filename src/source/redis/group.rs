//! The consumer group of a stream: made when it is absent, and how far it is behind.

use super::position::{EntryId, Position};
use super::resp::{Item, Reader};
use super::wire::Wire;
use std::sync::Arc;

/// With servers before Redis 7, or after entries were deleted by hand, what is left is counted by reading it, up to so many.
const COUNTED: u64 = 1_000;

/// What the server knows of a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct StreamInfo {
    length: u64,
    last_generated: EntryId,
    first: Option<EntryId>,
    /// Entries that were ever added (Redis 7).
    added: Option<u64>,
}

/// What the server knows of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct GroupInfo {
    last_delivered: EntryId,
    /// Entries that were ever read (Redis 7).
    read: Option<u64>,
    lag: Option<u64>,
}

/// How far a group is behind, and what it missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Behind {
    /// Entries that are still to be delivered.
    pub entries: u64,
    /// Entries that were trimmed before they were delivered, since the group began.
    pub skipped: u64,
}

/// Judges the figures. `skipped` is what was found so far; `left` counts what is left when no figure tells.
fn behind(stream: &StreamInfo, group: &GroupInfo, skipped: u64, left: impl FnOnce() -> u64) -> Behind {
    if group.last_delivered >= stream.last_generated {
        // Everything was delivered: what Redis 7.0 still calls lag is what was trimmed unread.
        return Behind { entries: 0, skipped: group.lag.unwrap_or(0).max(skipped) };
    }
    let nothing_read = stream.first.is_none_or(|first| first > group.last_delivered);
    if nothing_read {
        // All that is there is still to come, and what is not there any more and was not read is lost.
        let gone = stream.added.map(|added| added.saturating_sub(stream.length));
        let missed = gone.zip(group.read).map_or(0, |(gone, read)| gone.saturating_sub(read + skipped));
        return Behind { entries: stream.length, skipped: skipped + missed };
    }
    let entries = match group.lag {
        Some(lag) => lag.saturating_sub(skipped).max(1),
        None => left(),
    };
    Behind { entries: entries.min(stream.length), skipped }
}

/// What became of a look at the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The group is there.
    There(Behind),
    /// There is no such group.
    Absent,
    /// The user may not ask (ACL).
    Denied,
}

/// How far the group is.
///
/// # Errors
/// A sentence: the connection is gone, or the server refuses for another reason than the rights of the user.
pub(super) async fn look(wire: &mut Wire, stream: &str, group: &str, skipped: u64) -> Result<Look, String> {
    let Some(group) = (match group_info(wire, stream, group).await {
        Ok(group) => group,
        Err(reason) if is_denied(&reason) => return Ok(Look::Denied),
        Err(reason) => return Err(reason),
    }) else {
        return Ok(Look::Absent);
    };
    if group.lag == Some(skipped) {
        return Ok(Look::There(Behind { entries: 0, skipped }));
    }
    let info = match stream_info(wire, stream).await {
        Ok(Some(info)) => info,
        Ok(None) => return Ok(Look::Absent),
        Err(reason) if is_denied(&reason) => return Ok(Look::Denied),
        Err(reason) => return Err(reason),
    };
    let left = match group.lag {
        Some(_) => 0,
        None if group.last_delivered >= info.last_generated => 0,
        None => count_from(wire, stream, group.last_delivered.next(), info.length).await?,
    };
    Ok(Look::There(behind(&info, &group, skipped, || left)))
}

/// Counts entries from an id on; all of the stream when they are many.
async fn count_from(wire: &mut Wire, stream: &str, from: EntryId, length: u64) -> Result<u64, String> {
    let (from, count) = (from.to_string(), COUNTED.to_string());
    let reply = wire.ask(&[b"XRANGE", stream.as_bytes(), from.as_bytes(), b"+", b"COUNT", count.as_bytes()]).await?;
    let found = Reader::new(&reply, wire.limit()).array().unwrap_or(0) as u64;
    Ok(if found < COUNTED { found } else { length })
}

/// Whether the stream is another one than the position knows: it is gone, or its ids have begun anew.
///
/// # Errors
/// As [`look`].
pub(super) async fn is_recreated(wire: &mut Wire, stream: &str, position: &Position) -> Result<bool, String> {
    let Some(highest) = position.highest(stream) else { return Ok(false) };
    match stream_info(wire, stream).await {
        Ok(info) => Ok(info.is_none_or(|info| info.last_generated < highest)),
        Err(reason) if is_denied(&reason) => Ok(false),
        Err(reason) => Err(reason),
    }
}

/// Makes the group when it is absent. It begins after `from`.
///
/// # Errors
/// As [`look`].
pub(super) async fn make(wire: &mut Wire, stream: &str, group: &str, from: &str) -> Result<bool, String> {
    match group_info(wire, stream, group).await {
        Ok(Some(_)) => return Ok(false),
        Ok(None) => {}
        // The attempt itself tells.
        Err(reason) if is_denied(&reason) => {}
        Err(reason) => return Err(reason),
    }
    let made =
        wire.ask(&[b"XGROUP", b"CREATE", stream.as_bytes(), group.as_bytes(), from.as_bytes(), b"MKSTREAM"]).await;
    match made {
        Ok(_) => Ok(true),
        // Another sidecar was quicker.
        Err(reason) if reason.contains("BUSYGROUP") => Ok(false),
        Err(reason) => Err(reason),
    }
}

/// Tries what will be needed, without taking anything: whoever cannot read or acknowledge is not connected.
///
/// # Errors
/// A sentence with the server's reason: rights (ACL), a replica that cannot be written to, a disk that is full.
pub(super) async fn probe(wire: &mut Wire, stream: &str, group: &str, consumer: &str) -> Result<(), String> {
    const BEYOND: &[u8] = b"18446744073709551615-18446744073709551614";
    let (stream, group) = (stream.as_bytes(), group.as_bytes());
    let consumer = consumer.as_bytes();
    wire.ask(&[b"XREADGROUP", b"GROUP", group, consumer, b"COUNT", b"1", b"STREAMS", stream, BEYOND]).await?;
    wire.ask(&[b"XACK", stream, group, b"0-0"]).await.map(drop)
}

fn is_denied(reason: &str) -> bool {
    reason.contains("NOPERM")
}

async fn stream_info(wire: &mut Wire, stream: &str) -> Result<Option<StreamInfo>, String> {
    match wire.ask(&[b"XINFO", b"STREAM", stream.as_bytes()]).await {
        Ok(reply) => {
            let limit = wire.limit();
            read_stream(&reply, limit).map(Some).ok_or_else(|| format!("XINFO STREAM {stream} cannot be read"))
        }
        Err(reason) if reason.contains("no such key") => Ok(None),
        Err(reason) => Err(reason),
    }
}

async fn group_info(wire: &mut Wire, stream: &str, group: &str) -> Result<Option<GroupInfo>, String> {
    match wire.ask(&[b"XINFO", b"GROUPS", stream.as_bytes()]).await {
        Ok(reply) => {
            let limit = wire.limit();
            read_groups(&reply, limit, group).ok_or_else(|| format!("XINFO GROUPS {stream} cannot be read"))
        }
        Err(reason) if reason.contains("no such key") => Ok(None),
        Err(reason) => Err(reason),
    }
}

/// Calls `take` with each key; it reads the value.
fn pairs<'a>(reader: &mut Reader<'a>, mut take: impl FnMut(&[u8], &mut Reader<'a>) -> Option<()>) -> Option<()> {
    for _ in 0..reader.array()? / 2 {
        let key = reader.text()?;
        take(key, reader)?;
    }
    Some(())
}

fn number(reader: &mut Reader<'_>) -> Option<Option<u64>> {
    match reader.item()? {
        Item::Integer(number) => Some(u64::try_from(number).ok()),
        Item::Nil => Some(None),
        _ => None,
    }
}

fn read_stream(reply: &[u8], limit: usize) -> Option<StreamInfo> {
    let mut info = StreamInfo::default();
    pairs(&mut Reader::new(reply, limit), |key, reader| {
        match key {
            b"length" => info.length = number(reader)?.unwrap_or(0),
            b"last-generated-id" => info.last_generated = EntryId::parse(reader.text()?)?,
            b"entries-added" => info.added = number(reader)?,
            b"first-entry" => {
                // An id with its fields, or nil.
                if let Item::Array(_) = reader.item()? {
                    info.first = Some(EntryId::parse(reader.text()?)?);
                    reader.skip()?;
                }
            }
            _ => reader.skip()?,
        }
        Some(())
    })?;
    Some(info)
}

/// The figures of one group; `Some(None)` when it is not among them.
fn read_groups(reply: &[u8], limit: usize, wanted: &str) -> Option<Option<GroupInfo>> {
    let mut reader = Reader::new(reply, limit);
    let mut found = None;
    for _ in 0..reader.array()? {
        let (mut info, mut ours) = (GroupInfo::default(), false);
        pairs(&mut reader, |key, reader| {
            match key {
                b"name" => ours = reader.text()? == wanted.as_bytes(),
                b"last-delivered-id" => info.last_delivered = EntryId::parse(reader.text()?)?,
                b"entries-read" => info.read = number(reader)?,
                b"lag" => info.lag = number(reader)?,
                _ => reader.skip()?,
            }
            Some(())
        })?;
        if ours {
            found = Some(info);
        }
    }
    Some(found)
}

/// Where a group that is absent begins: where the position ends, when the stream is the same; else as configured.
pub(super) fn beginning(position: &Position, stream: &Arc<str>, recreated: bool, from_end: bool) -> String {
    match position.highest(stream) {
        Some(highest) => highest.to_string(),
        // What stands in a stream that was made anew has never been seen.
        None if from_end && !recreated => "$".into(),
        None => "0".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    /// A stream of entries 1..=last, the ones up to `trimmed` trimmed; a group that has read up to `read`.
    fn check(
        trimmed: u64,
        last: u64,
        delivered: u64,
        figures: (Option<u64>, Option<u64>),
        skipped: u64,
        expected: (u64, u64),
    ) {
        let stream = StreamInfo {
            length: last - trimmed,
            last_generated: id(last),
            first: (trimmed < last).then(|| id(trimmed + 1)),
            added: Some(last),
        };
        let (read, lag) = figures;
        let group = GroupInfo { last_delivered: id(delivered), read, lag };
        let found = behind(&stream, &group, skipped, || 77);
        assert_eq!((found.entries, found.skipped), expected);
    }

    #[test]
    fn behind_and_skipped_are_told_from_the_figures() {
        check(0, 0, 0, (Some(0), Some(0)), 0, (0, 0));
        check(0, 100, 40, (Some(40), Some(60)), 0, (60, 0));
        // Trimmed up to 30, all of it read before.
        check(30, 100, 40, (Some(40), Some(60)), 0, (60, 0));
        // Trimmed up to 70, read up to 40: 30 are lost, 30 are left.
        check(70, 100, 40, (Some(40), Some(60)), 0, (30, 30));
        // Known already.
        check(70, 100, 40, (Some(40), Some(60)), 30, (30, 30));
        // Redis 7.0 goes on from the figure that is too low: 10 were read since.
        check(70, 100, 80, (Some(50), Some(50)), 30, (20, 30));
        check(70, 100, 100, (Some(70), Some(30)), 30, (0, 30));
        // Trimmed and read between two looks.
        check(70, 100, 100, (Some(70), Some(30)), 0, (0, 30));
        // Everything trimmed.
        check(100, 100, 40, (Some(40), Some(60)), 0, (0, 60));
        // No figures: counted.
        check(0, 100, 40, (None, None), 0, (77, 0));
        check(70, 100, 40, (None, None), 0, (30, 0));
    }

    #[test]
    fn a_group_that_is_lost_goes_on_where_it_was() {
        let stream: Arc<str> = "s".into();
        let mut position = Position::new("g");
        assert_eq!(beginning(&position, &stream, false, false), "0");
        assert_eq!(beginning(&position, &stream, false, true), "$");
        assert_eq!(beginning(&position, &stream, true, true), "0");
        position.count(&stream, &[super::super::position::Run { ms: 5, first: 1, last: 3 }]);
        assert_eq!(beginning(&position, &stream, false, true), "5-3");
    }
}
