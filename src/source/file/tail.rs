//! The reader of a growing file: synchronous, without a clock.
//!
//! A rotated file stays open beside its successor until it has been quiet for a while, because its writer may go on
//! writing to it until it reopens. Every read begins a little before the place where the last one ended: when the bytes
//! there have changed, the file was truncated, even if it has grown past that place again since.

use super::position::{self, FilePosition, REMEMBERED_BYTES};
use crate::source::lines::LineBuffer;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What one read takes.
const BLOCK_BYTES: usize = 256 << 10;
/// A rotated file that has not grown for so long is given up.
const QUIET_MS: i64 = 5_000;
/// Rotated files that stay open; older ones are given up at once.
const ROTATED_FILES: usize = 8;
/// A path that has been absent for so long is a loss and not the middle of a rotation.
const GONE_MS: i64 = 2_000;

/// What log rotation leaves when it compresses.
const COMPRESSED: [&str; 4] = [".gz", ".bz2", ".xz", ".zst"];

/// What a step found.
#[derive(Debug)]
pub(super) enum Step {
    /// Lines (perhaps none, when only the position is worth storing).
    Lines(Block),
    /// Half a line: there may be more to read at once.
    Again,
    /// Nothing new.
    Idle,
    /// The file has never existed.
    Missing,
    /// The file existed and its path has been absent for a while.
    Gone,
}

/// Whole lines and where they end.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) lines: Vec<u8>,
    pub(super) oversized: u32,
    pub(super) position: Vec<u8>,
    /// Bytes of all open files that are still to be read.
    pub(super) behind_bytes: u64,
}

/// Something happened to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reset {
    Rotated,
    Truncated,
    /// The stored position's file cannot be found: what was written to it after the position is not read.
    NotFound,
    /// The stored position is of another transport.
    Foreign,
}

impl Reset {
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Rotated => "rotated",
            Self::Truncated => "truncated",
            Self::NotFound => "not_found",
            Self::Foreign => "foreign_position",
        }
    }

    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Rotated => "the file was rotated; reading the new one",
            Self::Truncated => "the file was truncated or replaced; reading it from its beginning",
            Self::NotFound => "the file read before the restart is gone; lines written to it since then are lost",
            Self::Foreign => "the stored position is not of a file; beginning as on a first start",
        }
    }
}

#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    limit_bytes: usize,
    /// Begin at the end of the file that is there at the first step.
    from_end: bool,
    stored: Option<Vec<FilePosition>>,
    started: bool,
    /// Oldest first; the last one is (or was) at `path`.
    files: Vec<Open>,
    missing_since_ms: Option<i64>,
    resets: Vec<Reset>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Open {
    file: File,
    device: u64,
    inode: u64,
    /// After the last whole line.
    offset: u64,
    lines: LineBuffer,
    /// The last bytes before `offset`.
    before_offset: Vec<u8>,
    /// The last bytes before the place of the next read.
    before_read: Vec<u8>,
    /// Not at the path any more; when it last grew.
    retired_ms: Option<i64>,
}

/// What reading a block of one file found.
enum Read {
    Nothing,
    /// The place moved on, or lines came out.
    Moved {
        lines: Vec<u8>,
        oversized: u32,
    },
    /// Only half a line.
    Half,
    Truncated {
        lines: Vec<u8>,
        oversized: u32,
    },
}

impl Tail {
    pub(super) fn new(path: PathBuf, from_end: bool, limit_bytes: usize, stored: Option<&[u8]>) -> Self {
        let decoded = stored.and_then(position::decode);
        let resets = if stored.is_some() && decoded.is_none() { vec![Reset::Foreign] } else { Vec::new() };
        Self {
            path,
            limit_bytes,
            from_end,
            stored: decoded,
            started: false,
            files: Vec::new(),
            missing_since_ms: None,
            resets,
            buffer: Vec::new(),
        }
    }

    /// What happened to the file since this was last asked.
    pub(super) fn take_resets(&mut self) -> Vec<Reset> {
        std::mem::take(&mut self.resets)
    }

    /// Looks at the path and reads at most one block.
    pub(super) fn step(&mut self, now_ms: i64) -> io::Result<Step> {
        let at_path = match std::fs::metadata(&self.path) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if self.started {
            self.follow(at_path.as_ref(), now_ms)?;
        } else {
            if at_path.is_none() && self.stored.is_none() {
                // What is created from now on is new and read from its beginning.
                self.from_end = false;
                return Ok(Step::Missing);
            }
            self.start(at_path.as_ref(), now_ms)?;
            if self.files.iter().any(|open| open.offset > 0) {
                return Ok(Step::Lines(self.block(Vec::new(), 0)));
            }
        }
        self.read(now_ms, at_path.is_some())
    }

    /// Opens what the stored position names, and the file at the path. An error changes nothing: it is tried again.
    fn start(&mut self, at_path: Option<&Metadata>, now_ms: i64) -> io::Result<()> {
        let (mut files, mut resets) = (Vec::new(), Vec::new());
        for stored in self.stored.iter().flatten() {
            match self.find(stored, at_path)? {
                Some(mut open) => {
                    let current = at_path.is_some_and(|found| found.ino() == open.inode && found.dev() == open.device);
                    open.retired_ms = (!current).then_some(now_ms);
                    files.push(open);
                }
                // Nothing had been read of it, or it was replaced by the file at the path, which is read from its start.
                None if stored.offset == 0 => {}
                None => resets.push(Reset::NotFound),
            }
        }
        self.find_between(at_path, now_ms, &mut files, &mut resets)?;
        if let Some(found) = at_path
            && !files.iter().any(|open| open.retired_ms.is_none())
        {
            let mut open = Open::at(File::open(&self.path)?, 0, self.limit_bytes)?;
            if self.from_end && self.stored.is_none() {
                open.skip_to(last_line_end(&open.file, found.len())?)?;
            }
            files.push(open);
        }
        // The file at the path is the last one.
        files.sort_by_key(|open| open.retired_ms.is_none());
        self.files = files;
        self.resets.append(&mut resets);
        (self.stored, self.started) = (None, true);
        Ok(())
    }

    /// The file of a stored position: at the path, or beside it under the name that rotation gave it.
    fn find(&self, stored: &FilePosition, at_path: Option<&Metadata>) -> io::Result<Option<Open>> {
        let mut candidates = Vec::new();
        if at_path.is_some_and(|found| found.ino() == stored.inode) {
            candidates.push(self.path.clone());
        }
        let beside = std::fs::read_dir(folder_of(&self.path)).into_iter().flatten().flatten();
        candidates.extend(beside.filter(|entry| entry_inode(entry) == stored.inode).map(|entry| entry.path()));
        for path in candidates {
            let file = match File::open(path) {
                // Rotated on or deleted between the two calls, or closed to us when it was rotated: not this one.
                Err(error) if is_out_of_reach(&error) => continue,
                file => file?,
            };
            let mut open = Open::at(file, 0, self.limit_bytes)?;
            if open.inode == stored.inode
                && open.file.metadata()?.len() >= stored.offset
                && open.skip_to(stored.offset).is_ok()
                && position::hash(&open.before_offset) == stored.before
            {
                return Ok(Some(open));
            }
        }
        Ok(None)
    }

    /// Opens the files that were written and rotated away while nobody read: those beside the path that carry its name
    /// with a suffix and were written after the last known file was. What was compressed meanwhile is told as not found.
    fn find_between(
        &self,
        at_path: Option<&Metadata>,
        now_ms: i64,
        files: &mut Vec<Open>,
        resets: &mut Vec<Reset>,
    ) -> io::Result<()> {
        let rotated = files.last().filter(|open| open.retired_ms.is_some());
        let (Some(last), Some(name)) = (rotated, self.path.file_name().and_then(|name| name.to_str())) else {
            return Ok(());
        };
        let written = last.file.metadata()?.modified()?;
        let mut between = Vec::new();
        for entry in std::fs::read_dir(folder_of(&self.path)).into_iter().flatten().flatten() {
            let (Ok(found), Ok(beside)) = (entry.metadata(), entry.file_name().into_string()) else { continue };
            let suffix = beside.strip_prefix(name).filter(|suffix| suffix.starts_with(['.', '-']));
            let known = |open: &Open| open.inode == found.ino() && open.device == found.dev();
            let current = at_path.is_some_and(|current| current.ino() == found.ino());
            if let Some(suffix) = suffix
                && found.is_file()
                && !current
                && !files.iter().any(known)
                && found.modified()? > written
            {
                if COMPRESSED.iter().any(|ending| suffix.ends_with(ending)) {
                    resets.push(Reset::NotFound);
                } else {
                    between.push((found.modified()?, entry.path()));
                }
            }
        }
        between.sort();
        for (_, path) in between {
            let file = match File::open(path) {
                // Renamed or deleted between the two calls.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // It may stay closed to us for ever: what is in it is missed, and what comes is read.
                Err(error) if is_out_of_reach(&error) => {
                    resets.push(Reset::NotFound);
                    continue;
                }
                file => file?,
            };
            files.push(Open { retired_ms: Some(now_ms), ..Open::at(file, 0, self.limit_bytes)? });
        }
        Ok(())
    }

    /// Notices that another file stands at the path.
    fn follow(&mut self, at_path: Option<&Metadata>, now_ms: i64) -> io::Result<()> {
        let Some(found) = at_path else {
            self.missing_since_ms.get_or_insert(now_ms);
            return Ok(());
        };
        self.missing_since_ms = None;
        let is_it = |open: &Open| open.inode == found.ino() && open.device == found.dev();
        if self.files.last().is_some_and(|open| open.retired_ms.is_none() && is_it(open)) {
            return Ok(());
        }
        let file = match File::open(&self.path) {
            Ok(file) => file,
            // Renamed between the two calls: the next step sees what came instead.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let opened = Open::at(file, 0, self.limit_bytes)?;
        // A rotated file that was renamed back is still open: go on where it was read to.
        let back = self.files.iter().position(|open| (open.inode, open.device) == (opened.inode, opened.device));
        for open in &mut self.files {
            open.retired_ms.get_or_insert(now_ms);
        }
        let current = match back {
            Some(index) => Open { retired_ms: None, ..self.files.remove(index) },
            None => opened,
        };
        if !self.files.is_empty() {
            self.resets.push(Reset::Rotated);
        }
        self.files.push(current);
        Ok(())
    }

    /// Reads a block of the oldest file that has something new.
    fn read(&mut self, now_ms: i64, path_exists: bool) -> io::Result<Step> {
        for index in 0..self.files.len() {
            let crowded = self.files.len() > ROTATED_FILES + 1 && index == 0;
            let open = &mut self.files[index];
            match open.read(&mut self.buffer)? {
                Read::Moved { lines, oversized } => {
                    open.grew(now_ms);
                    return Ok(Step::Lines(self.block(lines, oversized)));
                }
                Read::Half => {
                    open.grew(now_ms);
                    return Ok(Step::Again);
                }
                Read::Truncated { lines, oversized } => {
                    self.resets.push(Reset::Truncated);
                    return Ok(Step::Lines(self.block(lines, oversized)));
                }
                Read::Nothing => {}
            }
            let quiet = open.retired_ms.is_some_and(|since_ms| now_ms - since_ms >= QUIET_MS);
            // The only file stays open while nothing has come in its place.
            if (quiet || crowded) && self.files.len() > 1 {
                let mut done = self.files.remove(index);
                let lines = done.lines.finish();
                let oversized = done.lines.take_oversized();
                return Ok(Step::Lines(self.block(lines, oversized)));
            }
        }
        let gone = self.missing_since_ms.is_some_and(|since_ms| now_ms - since_ms >= GONE_MS);
        Ok(match (path_exists, gone, self.files.is_empty()) {
            (false, true, _) => Step::Gone,
            (false, false, true) => Step::Missing,
            _ => Step::Idle,
        })
    }

    fn block(&self, lines: Vec<u8>, oversized: u32) -> Block {
        let positions: Vec<FilePosition> = self
            .files
            .iter()
            .map(|open| FilePosition {
                inode: open.inode,
                offset: open.offset,
                before: position::hash(&open.before_offset),
            })
            .collect();
        let behind_bytes = self.files.iter().map(Open::behind_bytes).sum();
        Block { lines, oversized, position: position::encode(&positions), behind_bytes }
    }
}

impl Open {
    fn at(file: File, offset: u64, limit_bytes: usize) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            file,
            offset,
            lines: LineBuffer::new(limit_bytes),
            before_offset: Vec::new(),
            before_read: Vec::new(),
            retired_ms: None,
        })
    }

    /// Goes on at an offset, remembering what stands before it.
    fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        let mut before = vec![0; usize::try_from(offset).unwrap_or(usize::MAX).min(REMEMBERED_BYTES)];
        let start = offset - before.len() as u64;
        self.file.read_exact_at(&mut before, start)?;
        self.before_read.clone_from(&before);
        self.before_offset = before;
        self.offset = offset;
        Ok(())
    }

    fn read_offset(&self) -> u64 {
        self.offset + self.lines.pending_bytes()
    }

    fn behind_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |found| found.len().saturating_sub(self.read_offset()))
    }

    fn grew(&mut self, now_ms: i64) {
        if let Some(since_ms) = &mut self.retired_ms {
            *since_ms = now_ms;
        }
    }

    fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<Read> {
        // One read for the remembered bytes and the new ones: a truncation cannot come between them.
        let remembered = self.before_read.len();
        buffer.resize(REMEMBERED_BYTES + BLOCK_BYTES, 0);
        let wanted = &mut buffer[..remembered + BLOCK_BYTES];
        let found = loop {
            match self.file.read_at(wanted, self.read_offset() - remembered as u64) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if found < remembered || wanted[..remembered] != *self.before_read {
            let lines = self.lines.finish();
            let oversized = self.lines.take_oversized();
            self.offset = 0;
            self.before_read.clear();
            self.before_offset.clear();
            return Ok(Read::Truncated { lines, oversized });
        }
        let new = &wanted[remembered..found];
        if new.is_empty() {
            return Ok(Read::Nothing);
        }
        let read_to = self.read_offset() + new.len() as u64;
        let lines = self.lines.push(new);
        let oversized = self.lines.take_oversized();
        let offset = read_to - self.lines.pending_bytes();
        if offset > self.offset {
            // The place is within this block, for it has moved.
            let end = found - self.lines.pending_bytes() as usize;
            self.before_offset = wanted[end.saturating_sub(REMEMBERED_BYTES)..end].to_vec();
            self.offset = offset;
        }
        self.before_read = wanted[found.saturating_sub(REMEMBERED_BYTES)..found].to_vec();
        Ok(if lines.is_empty() && oversized == 0 { Read::Half } else { Read::Moved { lines, oversized } })
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Gone, or not for us to read: trying again changes nothing.
fn is_out_of_reach(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

fn entry_inode(entry: &std::fs::DirEntry) -> u64 {
    use std::os::unix::fs::DirEntryExt;
    entry.ino()
}

/// Where the last whole line ends: half a line that is being written is still to come.
fn last_line_end(file: &File, len: u64) -> io::Result<u64> {
    let mut end = len;
    let mut block = vec![0; 64 << 10];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let part = &mut block[..(end - start) as usize];
        file.read_exact_at(part, start)?;
        if let Some(newline) = memchr::memrchr(b'\n', part) {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests;
