//! The rooms and their ranks: a lower room never uses a higher one.

use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up; rooms on one line are neighbours that do not use each other.
const RANKS: &[&[&str]] = &[
    &["model", "secret"],
    &["tls"],
    &["telemetry"],
    &["config"],
    &["supervise"],
    &["template"],
    &["state"],
    &["notify"],
    &["source"],
    &["series"],
    &["mapping"],
    &["promql"],
    &["health", "rules"],
    &["engine"],
    &["api"],
    &["export"],
    &["app"],
    &["cli", "main"],
];

fn rank(room: &str) -> Option<usize> {
    RANKS.iter().position(|level| level.contains(&room))
}

fn rust_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The rooms that a text names: `crate::room`, and each of `crate::{a::x, b}`.
fn rooms_used(text: &str) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        for (start, _) in line.match_indices("crate::") {
            let before = line[..start].chars().next_back();
            if before.is_some_and(|c| c == '$' || c.is_alphanumeric() || c == '_') {
                continue;
            }
            let rest = &line[start + "crate::".len()..];
            let names: Vec<&str> = match rest.strip_prefix('{') {
                Some(group) => group.trim_end_matches([';', '}']).split(',').map(str::trim).collect(),
                None => vec![rest],
            };
            for name in names {
                let room: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                used.push((at + 1, room));
            }
        }
    }
    used
}

#[test]
fn a_lower_room_never_uses_a_higher_one() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 50, "found only {} files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&src).unwrap();
        let room = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if room == "lib" {
            continue;
        }
        let Some(own) = rank(&room) else {
            wrong.push(format!("{}: the room {room:?} has no rank", inside.display()));
            continue;
        };
        for (line, used) in rooms_used(&fs::read_to_string(&file).unwrap()) {
            let Some(other) = rank(&used) else { continue };
            let neighbour = other == own && used != room;
            if other > own || neighbour {
                wrong.push(format!("{}:{line}: {room} uses {used}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_what_it_must() {
    let used = rooms_used(
        "use crate::engine::Engine;\nuse crate::{api, model::Labels};\n// crate::app\nlet x = crate::rules::Y;",
    );
    let names: Vec<&str> = used.iter().map(|(_, room)| room.as_str()).collect();
    assert_eq!(names, ["engine", "api", "model", "rules"]);
}
