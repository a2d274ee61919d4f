//! The tail against real files, in virtual time.

use super::*;
use proptest::prelude::*;
use std::fs::OpenOptions;
use std::io::Write;

/// A log file, whoever writes and rotates it, and a reader that may be killed and started again.
struct Scene {
    folder: tempfile::TempDir,
    tail: Tail,
    from_end: bool,
    now_ms: i64,
    /// The position of the last block, as a checkpoint would hold it.
    position: Option<Vec<u8>>,
    read: String,
    resets: Vec<Reset>,
}

impl Scene {
    fn new(existing: &str, from_end: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        if !existing.is_empty() {
            std::fs::write(&path, existing).unwrap();
        }
        let tail = Tail::new(path, from_end, 1_000, None);
        Self { folder, tail, from_end, now_ms: 0, position: None, read: String::new(), resets: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path("app.log")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, to: &str) {
        std::fs::rename(self.path("app.log"), self.path(to)).unwrap();
    }

    /// Reads until nothing is new; returns the lines read and a `!` for each that was too long, after its block.
    fn poll(&mut self) -> String {
        let mut read = String::new();
        for _ in 0..1_000 {
            self.now_ms += 10;
            match self.tail.step(self.now_ms).unwrap() {
                Step::Lines(block) => {
                    read.push_str(&String::from_utf8(block.lines).unwrap());
                    read.push_str(&"!".repeat(block.oversized as usize));
                    self.position = Some(block.position);
                }
                Step::Again => {}
                Step::Idle | Step::Missing | Step::Gone => {
                    self.resets.extend(self.tail.take_resets());
                    self.read.push_str(&read);
                    return read;
                }
            }
        }
        panic!("the tail does not come to rest");
    }

    /// Kills the reader and starts another from the position of the last block.
    fn restart(&mut self) {
        self.tail = Tail::new(self.path("app.log"), self.from_end, 1_000, self.position.as_deref());
    }
}

#[test]
fn lines_are_read_as_they_are_completed() {
    let mut scene = Scene::new("", false);
    assert!(matches!(scene.tail.step(0).unwrap(), Step::Missing));
    scene.write("a\nb");
    assert_eq!(scene.poll(), "a\n");
    scene.write("c\nd\n");
    assert_eq!(scene.poll(), "bc\nd\n");
    assert_eq!(scene.poll(), "");
}

#[test]
fn the_end_begins_after_the_last_whole_line_and_is_remembered() {
    let mut scene = Scene::new("old\nhal", true);
    assert_eq!(scene.poll(), "");
    scene.restart();
    scene.write("f\nnew\n");
    assert_eq!(scene.poll(), "half\nnew\n");

    let mut missing = Scene::new("", true);
    assert_eq!(missing.poll(), "");
    missing.write("first\n");
    assert_eq!(missing.poll(), "first\n", "a file that is created later is new from its beginning");
}

#[test]
fn a_renamed_file_is_read_to_its_end_beside_the_new_one() {
    let mut scene = Scene::new("a\n", false);
    scene.poll();
    let mut writer = OpenOptions::new().append(true).open(scene.path("app.log")).unwrap();
    scene.rename("app.log.1");
    scene.write("new\n");
    assert_eq!(scene.poll(), "new\n");
    // The writer has not reopened yet.
    writer.write_all(b"late\nhalf").unwrap();
    assert_eq!(scene.poll(), "late\n");
    scene.now_ms += QUIET_MS;
    assert_eq!(scene.poll(), "half", "half a last line counts when the file is given up");
    assert_eq!((scene.tail.files.len(), &*scene.resets), (1, &[Reset::Rotated][..]));
}

#[test]
fn a_truncated_file_is_read_from_its_beginning_even_when_it_has_outgrown_the_place() {
    let mut scene = Scene::new("one\ntwo\n", false);
    scene.poll();
    std::fs::copy(scene.path("app.log"), scene.path("app.log.1")).unwrap();
    std::fs::write(scene.path("app.log"), "x\n").unwrap();
    assert_eq!(scene.poll(), "x\n");
    std::fs::write(scene.path("app.log"), "something that is longer\n").unwrap();
    assert_eq!(scene.poll(), "something that is longer\n");
    assert_eq!(scene.resets, [Reset::Truncated, Reset::Truncated]);
}

#[test]
fn a_rotation_while_nobody_reads_is_found_by_the_inode() {
    let mut scene = Scene::new("a\n", false);
    scene.poll();
    scene.write("b\n");
    scene.rename("app.log.1");
    scene.write("c\n");
    scene.restart();
    assert_eq!(scene.poll(), "b\nc\n");
    assert_eq!(scene.resets, []);
}

#[test]
fn several_rotations_while_nobody_reads_are_read_in_their_order() {
    let mut scene = Scene::new("", false);
    let age = |scene: &Scene, name: &str, seconds: u64| {
        let file = OpenOptions::new().append(true).open(scene.path(name)).unwrap();
        let written = file.metadata().unwrap().modified().unwrap();
        file.set_modified(written - std::time::Duration::from_secs(seconds)).unwrap();
    };
    scene.write("long ago\n");
    scene.poll();
    scene.rename("app.log.4");
    scene.write("a\n");
    scene.poll();
    age(&scene, "app.log.4", 90);
    scene.write("b\n");
    for (text, name, seconds) in [("c\n", "app.log.3", 60), ("d\n", "app.log.2", 40), ("e\n", "app.log-20", 20)] {
        scene.rename(name);
        age(&scene, name, seconds);
        scene.write(text);
    }
    std::fs::write(scene.path("app.log.1.gz"), "packed").unwrap();
    std::fs::write(scene.path("other.log.1"), "another's").unwrap();
    scene.now_ms += QUIET_MS;
    scene.restart();
    assert_eq!(scene.poll(), "b\nc\nd\ne\n");
    assert_eq!(scene.resets, [Reset::Rotated, Reset::NotFound]);
}

#[test]
fn a_file_that_was_replaced_or_removed_while_nobody_reads_is_told() {
    let mut scene = Scene::new("a\n", false);
    scene.poll();
    std::fs::write(scene.path("app.log"), "other content\n").unwrap();
    scene.restart();
    assert_eq!(scene.poll(), "other content\n");
    std::fs::remove_file(scene.path("app.log")).unwrap();
    scene.restart();
    scene.write("a third\n");
    assert_eq!(scene.poll(), "a third\n");
    assert_eq!(scene.resets, [Reset::NotFound, Reset::NotFound]);
    scene.position = Some(b"1795165200-0".to_vec());
    scene.restart();
    assert_eq!(scene.poll(), "a third\n");
    assert_eq!(scene.resets[2..], [Reset::Foreign]);
}

#[test]
fn an_error_at_the_start_does_not_cost_the_position() {
    let mut scene = Scene::new("a\n", true);
    scene.write("b\n");
    scene.poll();
    scene.write("late\n");
    scene.rename("app.log.1");
    // Something that cannot be opened stands at the path for a moment.
    let socket = std::os::unix::net::UnixListener::bind(scene.path("app.log")).unwrap();
    scene.restart();
    assert!(scene.tail.step(0).is_err());
    drop(socket);
    std::fs::remove_file(scene.path("app.log")).unwrap();
    scene.write("new\n");
    assert_eq!(scene.poll(), "late\nnew\n");
    assert_eq!(scene.tail.files.len(), 2);
}

#[test]
fn a_file_beside_the_path_that_is_gone_when_it_is_opened_is_not_the_one() {
    let mut scene = Scene::new("a\n", false);
    std::os::unix::fs::symlink(scene.path("nowhere"), scene.path("app.log.1")).unwrap();
    let inode = std::fs::symlink_metadata(scene.path("app.log.1")).unwrap().ino();
    scene.position = Some(position::encode(&[FilePosition { inode, offset: 2, before: 0 }]));
    scene.restart();
    assert_eq!(scene.poll(), "a\n");
    assert_eq!(scene.resets, [Reset::NotFound]);
}

#[test]
fn an_absent_path_becomes_a_loss_after_a_while() {
    let mut scene = Scene::new("a\n", false);
    scene.poll();
    std::fs::remove_file(scene.path("app.log")).unwrap();
    assert!(matches!(scene.tail.step(1_000).unwrap(), Step::Idle));
    assert!(matches!(scene.tail.step(1_000 + GONE_MS).unwrap(), Step::Gone));
    scene.now_ms = 2_000 + GONE_MS;
    scene.write("b\n");
    assert_eq!(scene.poll(), "b\n");
}

#[test]
fn a_line_that_is_too_long_is_counted_once_at_its_end() {
    let mut scene = Scene::new("", false);
    scene.write(&format!("a\n{}", "x".repeat(600 << 10)));
    assert_eq!(scene.poll(), "a\n");
    scene.restart();
    scene.write("xx\nb\n");
    assert_eq!(scene.poll(), "b\n!");
    scene.restart();
    assert_eq!(scene.poll(), "", "the position stands after it");
}

#[test]
fn large_files_come_in_blocks_and_tell_how_far_behind_they_are() {
    let line = format!("{}\n", "x".repeat(99));
    let mut scene = Scene::new(&line.repeat(10_000), false);
    let Step::Lines(block) = scene.tail.step(0).unwrap() else { panic!("no lines") };
    assert_eq!(block.lines.len() + block.behind_bytes as usize, 1_000_000 - 44, "44 bytes are half a line in hand");
    scene.position = Some(block.position);
    scene.restart();
    assert_eq!(scene.poll().len(), 1_000_000 - block.lines.len());
}

#[derive(Clone, Debug)]
enum Act {
    Write(usize),
    Half,
    Rename,
    Truncate,
    Poll,
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1..30_usize).prop_map(Act::Write),
        2 => Just(Act::Half),
        1 => Just(Act::Rename),
        1 => Just(Act::Truncate),
        4 => Just(Act::Poll),
        2 => Just(Act::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    /// Whatever is written, rotated and restarted: every line is read once, in order, to the line.
    #[test]
    fn every_line_is_read_once(acts in prop::collection::vec(act(), 1..60)) {
        let mut scene = Scene::new("", false);
        let (mut number, mut half, mut written, mut rotated) = (0, String::new(), String::new(), 0);
        for act in acts {
            match act {
                Act::Write(lines) => {
                    let mut text = std::mem::take(&mut half);
                    let begun = text.len();
                    for _ in 0..lines {
                        if text.is_empty() || text.ends_with('\n') {
                            number += 1;
                            text.push_str(&format!("line {number}"));
                        }
                        text.push('\n');
                    }
                    written.push_str(&text);
                    scene.write(&text[begun..]);
                }
                Act::Half if half.is_empty() => {
                    number += 1;
                    half = format!("line {number}");
                    scene.write(&half);
                }
                Act::Half => {}
                // A writer rotates between lines, and what nobody has read of a file that is truncated or rotated twice
                // while nobody reads is lost to any reader.
                Act::Rename if half.is_empty() => {
                    scene.poll();
                    if scene.path("app.log").exists() {
                        rotated += 1;
                        scene.rename(&format!("app.log.{rotated}"));
                    }
                }
                Act::Truncate if half.is_empty() => {
                    scene.poll();
                    if scene.path("app.log").exists() {
                        std::fs::write(scene.path("app.log"), "").unwrap();
                        // Read once while it is empty, or the next lines tell by their content.
                        if number % 2 == 0 {
                            scene.poll();
                        }
                    }
                }
                Act::Rename | Act::Truncate => {}
                Act::Poll => {
                    scene.poll();
                }
                Act::Restart => scene.restart(),
            }
        }
        scene.poll();
        prop_assert_eq!(&scene.read, &written);
    }
}
