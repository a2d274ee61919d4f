//! One look at all files: which are there, what changed ones say, what cannot be read and why.

use super::parse::{self, Parsed};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Bytes of a file that are read; a larger one is an error.
const FILE_BYTES: u64 = 16 << 20;
/// Files of one folder.
const FILES: usize = 1_000;
/// Records of one source.
pub(super) const RECORDS: usize = 50_000;

/// Why a file or folder cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// permission_denied, not_found, too_large, too_many_files, unreadable.
    pub reason: &'static str,
    /// With what to do.
    pub message: String,
}

/// What one look found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Files that are there; `None` for what has not changed since the last look.
    pub files: BTreeMap<String, Option<Parsed>>,
    pub errors: BTreeMap<String, Failure>,
    /// Folders that could not be listed: their files are not gone, they are out of sight.
    pub hidden: Vec<String>,
    /// At least one path could be read.
    pub readable: bool,
}

/// A file as it was when it was read: device, inode, length, times of change in nanoseconds.
type Stamp = (u64, u64, u64, i128, i128);

/// Looks, and remembers what it has read.
#[derive(Debug)]
pub(super) struct Scanner {
    paths: Vec<PathBuf>,
    stamps: BTreeMap<String, (Stamp, usize)>,
}

impl Scanner {
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, stamps: BTreeMap::new() }
    }

    /// Looks at everything. Blocks.
    pub fn look(&mut self) -> Found {
        let mut found = Found::default();
        let mut looked = BTreeSet::new();
        for path in self.paths.clone() {
            // Links are followed: a folder that Kubernetes mounts consists of them.
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => self.folder(&path, &mut looked, &mut found),
                Ok(metadata) => self.file(&path, &metadata, &mut looked, &mut found),
                Err(error) => {
                    let failure = failure(&path, &error);
                    if failure.reason != "not_found" {
                        found.hidden.push(path.display().to_string());
                    }
                    found.errors.insert(path.display().to_string(), failure);
                }
            }
        }
        self.stamps.retain(|name, _| found.files.contains_key(name));
        found
    }

    fn folder(&mut self, path: &Path, looked: &mut BTreeSet<PathBuf>, found: &mut Found) {
        let listed =
            fs::read_dir(path).and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect());
        let mut files: Vec<PathBuf> = match listed {
            Ok(files) => files,
            Err(error) => {
                found.hidden.push(path.display().to_string());
                found.errors.insert(path.display().to_string(), failure(path, &error));
                return;
            }
        };
        found.readable = true;
        files.retain(|file| is_wanted(file));
        files.sort();
        if files.len() > FILES {
            let message = format!("{} holds {} files; the first {FILES} are read", path.display(), files.len());
            found.errors.insert(path.display().to_string(), Failure { reason: "too_many_files", message });
            files.truncate(FILES);
        }
        for file in files {
            match fs::metadata(&file) {
                Ok(metadata) if metadata.is_file() => self.file(&file, &metadata, looked, found),
                // Folders within are not entered; a file that vanished meanwhile is gone.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    found.hidden.push(file.display().to_string());
                    found.errors.insert(file.display().to_string(), failure(&file, &error));
                }
            }
        }
    }

    fn file(&mut self, path: &Path, metadata: &Metadata, looked: &mut BTreeSet<PathBuf>, found: &mut Found) {
        // The same file by two paths is read once.
        if !looked.insert(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())) {
            return;
        }
        let name = path.display().to_string();
        let stamp = stamp(metadata);
        if let Some((known, _)) = self.stamps.get(&name)
            && *known == stamp
        {
            found.readable = true;
            found.files.insert(name, None);
            return;
        }
        match read(path, metadata) {
            Ok(bytes) => {
                found.readable = true;
                let others: usize =
                    self.stamps.iter().filter(|(file, _)| **file != name).map(|(_, (_, count))| count).sum();
                let parsed = parse::parse(&bytes, RECORDS.saturating_sub(others));
                self.stamps.insert(name.clone(), (stamp, parsed.records.len()));
                found.files.insert(name, Some(parsed));
            }
            Err(failure) => {
                self.stamps.remove(&name);
                found.hidden.push(name.clone());
                found.errors.insert(name, failure);
            }
        }
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let (modified, changed) =
        (nanos(metadata.mtime(), metadata.mtime_nsec()), nanos(metadata.ctime(), metadata.ctime_nsec()));
    (metadata.dev(), metadata.ino(), metadata.len(), modified, changed)
}

/// What editors and Kubernetes keep beside the files is none of them.
fn is_wanted(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let ends = ["~", ".swp", ".tmp", ".bak", ".dpkg-old", ".dpkg-dist", ".dpkg-new", ".rpmsave", ".rpmnew"];
    !name.starts_with('.') && !name.starts_with('#') && !ends.iter().any(|end| name.ends_with(end))
}

fn read(path: &Path, metadata: &Metadata) -> Result<Vec<u8>, Failure> {
    if !metadata.is_file() {
        // Reading a pipe would wait for ever.
        let message = format!("{} is neither a file nor a folder", path.display());
        return Err(Failure { reason: "unreadable", message });
    }
    let mut bytes = Vec::new();
    let opened = File::open(path).and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut bytes));
    opened.map_err(|error| failure(path, &error))?;
    if bytes.len() as u64 > FILE_BYTES {
        let message = format!("{} is larger than {FILE_BYTES} bytes", path.display());
        return Err(Failure { reason: "too_large", message });
    }
    Ok(bytes)
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    let (reason, advice) = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ("permission_denied", "; let the user of sidewatch read it (chmod o+r, or a group)")
        }
        io::ErrorKind::NotFound => ("not_found", "; it is read as soon as it is there"),
        _ => ("unreadable", ""),
    };
    Failure { reason, message: format!("cannot read {}: {error}{advice}", path.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_folders_links_and_what_is_beside_them() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("one"), "10.0.0.1 a\n").unwrap();
        fs::write(at("d/two"), "10.0.0.2 b\n").unwrap();
        fs::write(at("d/.hidden"), "10.0.0.3 c\n").unwrap();
        fs::write(at("d/two~"), "10.0.0.4 d\n").unwrap();
        std::os::unix::fs::symlink(at("one"), at("d/link")).unwrap();
        let mut scanner = Scanner::new(vec![at("one"), at("d"), at("absent")]);
        let found = scanner.look();
        let names: Vec<String> = found.files.keys().map(|name| name.rsplit('/').next().unwrap().to_owned()).collect();
        assert_eq!(names, ["two", "one"], "the link leads to what was read");
        assert_eq!(found.errors.values().map(|error| error.reason).collect::<Vec<_>>(), ["not_found"]);
        assert!(found.readable && found.files.values().all(Option::is_some));
        let again = scanner.look();
        assert!(again.files.values().all(Option::is_none), "nothing changed");
        fs::write(at("one"), "10.0.0.1 a b\n").unwrap();
        let again = scanner.look();
        assert_eq!(again.files.values().flatten().count(), 1);
    }

    #[test]
    fn a_file_that_is_too_large_or_no_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let large = dir.path().join("large");
        File::create(&large).unwrap().set_len(FILE_BYTES + 1).unwrap();
        let mut scanner = Scanner::new(vec![large, "/dev/null".into()]);
        let reasons: Vec<&str> = scanner.look().errors.values().map(|error| error.reason).collect();
        assert_eq!(reasons, ["unreadable", "too_large"]);
    }
}
