//! A file that grows, followed through rotation (rename and create) and truncation (copytruncate).
//!
//! The position is inode and offset after the last whole line handed over; it stands in the checkpoint together with what
//! that line counted, so that a restart goes on exactly there.

use super::decode::Framing;
use super::lines::LineBuffer;
use super::{BLOCK_BYTES, SourceContext, SourceState};
use crate::telemetry::{OnChange, clock, self_metrics};
use serde::{Deserialize, Serialize};
use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::sync::CancellationToken;

/// Between looks at a file that has nothing new.
const POLL: Duration = Duration::from_millis(50);
/// A name that leads nowhere for longer than this is no rotation in the middle: nothing can be heard any more.
const MISSING: Duration = Duration::from_millis(500);
/// Further behind than this is said.
const BEHIND_BYTES: u64 = 8 << 20;

/// Where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    inode: u64,
    offset: u64,
}

impl Position {
    fn encode(self) -> Option<Vec<u8>> {
        postcard::to_stdvec(&self).ok()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

/// An open file and how far it was read.
struct Follower {
    file: File,
    inode: u64,
    /// Bytes read.
    read: u64,
    lines: LineBuffer,
}

impl Follower {
    async fn open(path: &Path, event_bytes: usize, offset: u64) -> std::io::Result<Self> {
        let mut file = File::open(path).await?;
        let found = file.metadata().await?;
        let read = if offset > found.len() { 0 } else { offset };
        file.seek(SeekFrom::Start(read)).await?;
        Ok(Self { file, inode: found.ino(), read, lines: LineBuffer::new(event_bytes) })
    }

    /// After the last whole line. A line that is being dropped for its length counts as read: it will not be kept anyway.
    fn position(&self) -> Position {
        let begun = if self.lines.is_skipping() { 0 } else { self.lines.begun() as u64 };
        Position { inode: self.inode, offset: self.read - begun }
    }
}

/// Follows a file until cancelled.
pub(super) async fn run(context: &SourceContext, path: &Path, from_end: bool, cancel: &CancellationToken) {
    let said = OnChange::new(None);
    let known = context.position.as_deref().and_then(Position::decode);
    let mut start = Start { known, from_end };
    loop {
        match start.open(context, path).await {
            Ok(follower) => {
                if said.set(None) {
                    tracing::info!(source = %context.name, path = %path.display(), "the file is there now");
                }
                match follow(context, path, follower, cancel).await {
                    End::Cancelled => return,
                    End::Rotated => start = Start { known: None, from_end: false },
                    End::Failed(reason, position) => {
                        start = Start { known: Some(position), from_end: false };
                        tracing::warn!(source = %context.name, %reason, "opening the file again");
                        context.report(SourceState::Lost { reason }).await;
                    }
                }
            }
            Err(error) => {
                let reason = format!("{}: {error}", path.display());
                if said.set(Some(reason.clone())) {
                    tracing::warn!(source = %context.name, %reason, "waiting for the file");
                    context.report(SourceState::Lost { reason }).await;
                }
                // A file that appears later is new: it is read from its beginning.
                if error.kind() == std::io::ErrorKind::NotFound && start.known.is_none() {
                    start.from_end = false;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// Where the first file is opened.
struct Start {
    known: Option<Position>,
    from_end: bool,
}

impl Start {
    async fn open(&mut self, context: &SourceContext, path: &Path) -> std::io::Result<Follower> {
        let Some(known) = self.known else {
            let offset = if self.from_end { tokio::fs::metadata(path).await?.len() } else { 0 };
            return Follower::open(path, context.event_bytes, offset).await;
        };
        // The file may have been rotated while nobody looked: its rest comes first.
        let current = tokio::fs::metadata(path).await;
        if current.as_ref().is_ok_and(|found| found.ino() == known.inode) {
            let follower = Follower::open(path, context.event_bytes, known.offset).await?;
            if follower.read < known.offset {
                reset(
                    context,
                    "truncated",
                    "the file is shorter than what was read of it; it is read from its beginning",
                );
            }
            return Ok(follower);
        }
        self.known = None;
        match rotated_away(path, known.inode).await {
            Some(old) => Follower::open(&old, context.event_bytes, known.offset).await,
            None => {
                reset(context, "lost", "the file that was read before is gone; the new one is read from its beginning");
                Follower::open(path, context.event_bytes, 0).await
            }
        }
    }
}

fn reset(context: &SourceContext, reason: &'static str, what: &str) {
    self_metrics::source_file_resets(&context.name, reason).increment(1);
    tracing::info!(source = %context.name, reason, "{what}");
}

/// The file with that inode in the same folder: a rename keeps the inode.
async fn rotated_away(path: &Path, inode: u64) -> Option<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut entries = tokio::fs::read_dir(folder).await.ok()?;
    while let Ok(Some(entry)) = entries.next_entry().await {
        if entry.metadata().await.is_ok_and(|found| found.is_file() && found.ino() == inode) {
            return Some(entry.path());
        }
    }
    None
}

/// What was said last of the file.
#[derive(Clone, Copy, PartialEq)]
enum Said {
    Nothing,
    Connected,
    Behind,
    Missing,
}

/// Why following one file ended.
enum End {
    Cancelled,
    Rotated,
    /// Why, and where to go on.
    Failed(String, Position),
}

async fn follow(context: &SourceContext, path: &Path, mut at: Follower, cancel: &CancellationToken) -> End {
    let received = self_metrics::source_received_bytes(&context.name);
    let behind_gauge = self_metrics::source_behind(&context.name);
    let (state, mut missing_since) = (OnChange::new(Said::Nothing), None);
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        if cancel.is_cancelled() {
            return End::Cancelled;
        }
        let count = match at.file.read(&mut block).await {
            Ok(count) => count,
            Err(error) => return End::Failed(format!("{}: {error}", path.display()), at.position()),
        };
        if count > 0 {
            at.read += count as u64;
            received.increment(count as u64);
            at.lines.push(&block[..count]);
            let (bytes, oversized) = at.lines.take();
            if count == BLOCK_BYTES {
                let size = at.file.metadata().await.map_or(at.read, |found| found.len());
                let behind = size.saturating_sub(at.read);
                behind_gauge.set(behind as f64);
                let far = behind > BEHIND_BYTES;
                if state.set(if far { Said::Behind } else { Said::Connected }) {
                    let now = if far { SourceState::CatchingUp { behind } } else { SourceState::Connected };
                    context.report(now).await;
                }
            }
            let position = at.position().encode();
            if (!bytes.is_empty() || oversized > 0)
                && !context.deliver(bytes, Framing::Lines, oversized, position).await
            {
                return End::Cancelled;
            }
            continue;
        }
        behind_gauge.set(0.0);
        let look = look_again(path, &at).await;
        if look == Look::Missing {
            let since = *missing_since.get_or_insert_with(clock::instant);
            if since.elapsed() > MISSING && state.set(Said::Missing) {
                let reason = format!("{}: the file is gone", path.display());
                tracing::warn!(source = %context.name, %reason, "waiting for a new one");
                context.report(SourceState::Lost { reason }).await;
            }
        } else {
            missing_since = None;
            if state.set(Said::Connected) {
                context.report(SourceState::Connected).await;
            }
        }
        match look {
            Look::Same | Look::Missing => {}
            Look::Truncated => {
                reset(context, "truncated", "the file was truncated; it is read from its beginning");
                at.lines.clear();
                at.read = 0;
                if let Err(error) = at.file.seek(SeekFrom::Start(0)).await {
                    return End::Failed(format!("{}: {error}", path.display()), at.position());
                }
                continue;
            }
            Look::Rotated => {
                // The writer may have written between our last read and the rename.
                match at.file.read(&mut block).await {
                    Ok(0) => {}
                    Ok(count) => {
                        at.read += count as u64;
                        at.lines.push(&block[..count]);
                        continue;
                    }
                    Err(error) => return End::Failed(format!("{}: {error}", path.display()), at.position()),
                }
                // Nobody will complete the last line any more: it is whole as it stands.
                let (bytes, oversized) = at.lines.finish();
                let position = at.position().encode();
                if (!bytes.is_empty() || oversized > 0)
                    && !context.deliver(bytes, Framing::Lines, oversized, position).await
                {
                    return End::Cancelled;
                }
                reset(context, "rotated", "the file was rotated; going on with the new one");
                return End::Rotated;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = cancel.cancelled() => return End::Cancelled,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Look {
    Same,
    /// Nothing stands under the name now.
    Missing,
    Truncated,
    Rotated,
}

/// Compares the open file with what now stands under its name. A name that leads nowhere is a rotation in the middle:
/// the old file is read on until a new one stands there.
async fn look_again(path: &Path, at: &Follower) -> Look {
    match tokio::fs::metadata(path).await {
        Ok(found) if found.ino() != at.inode => Look::Rotated,
        Ok(found) if found.len() < at.read => Look::Truncated,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Look::Missing,
        _ => Look::Same,
    }
}
