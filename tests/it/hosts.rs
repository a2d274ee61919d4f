//! Hosts files and folders of them, through the real binary.

use crate::harness::{Sidewatch, eventually};
use std::fs;
use std::os::unix::fs::symlink;

fn total(sidewatch: &Sidewatch, event_type: &str) -> u64 {
    sidewatch.value(&format!("sum(events_total{{type=\"hosts.{event_type}\",source=\"names\"}})")).unwrap_or(0.0) as u64
}

/// Waits until these many events of each type were counted, and makes sure that it stays so for one look.
fn check(sidewatch: &Sidewatch, expected: &[(&str, u64)]) {
    eventually(&format!("{expected:?}"), 20, || {
        let seen: Vec<(&str, u64)> = expected.iter().map(|(name, _)| (*name, total(sidewatch, name))).collect();
        for ((name, seen), (_, expected)) in seen.iter().zip(expected) {
            assert!(seen <= expected, "{name}: {seen} of {expected}");
        }
        (seen == expected).then_some(())
    });
}

/// The data of the last events of a type, the newest first.
fn data(sidewatch: &Sidewatch, event_type: &str) -> Vec<serde_json::Value> {
    let events = sidewatch.json(&format!("/api/events?type=hosts.{event_type}&limit=100"));
    events["events"].as_array().unwrap().iter().map(|event| event["payload"]["data"].clone()).collect()
}

#[test]
fn records_are_told_as_they_come_change_and_go_and_a_restart_tells_only_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // As Kubernetes mounts a folder: links to a folder that is swapped as a whole.
    for (version, text) in [("v1", "10.1.1.1 office\r\n"), ("v2", "10.1.1.2 office\r\n")] {
        fs::create_dir_all(at("hosts.d").join(format!("..{version}"))).unwrap();
        fs::write(at("hosts.d").join(format!("..{version}/office")), text).unwrap();
    }
    symlink("..v1", at("hosts.d/..data")).unwrap();
    symlink("..data/office", at("hosts.d/office")).unwrap();
    fs::write(
        at("hosts"),
        "127.0.0.1 localhost\nfe80::1%eth0 gate gate.example # zone\n10.0.0.999 wrong\n10.0.0.1 bad_name\n",
    )
    .unwrap();
    fs::write(
        at("sidewatch.yaml"),
        "sources: {names: {hosts: {paths: [hosts, hosts.d/, later], poll: 200ms}}}\nstate: {dir: state}\n\
         metrics:\n  addresses_total: {counter: {match: hosts.record.added, labels: {family: data.family}}}\n",
    )
    .unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    check(&sidewatch, &[("record.added", 4), ("file.added", 2), ("record.invalid", 2), ("file.error", 1)]);
    assert_eq!(sidewatch.value("addresses_total{family=\"AAAA\"}"), Some(2.0));
    let added = data(&sidewatch, "record.added");
    let gate = added.iter().find(|data| data["name"] == "gate").unwrap();
    assert_eq!(
        (&gate["address"], &gate["aliases"][0], &gate["line"], &gate["replayed"]),
        (&"fe80::1%eth0".into(), &"gate.example".into(), &2.into(), &true.into())
    );
    assert!(gate["file"].as_str().unwrap().ends_with("/hosts"), "{gate}");
    let wrong = &data(&sidewatch, "record.invalid");
    let lines: Vec<(i64, &str)> =
        wrong.iter().map(|data| (data["line"].as_i64().unwrap(), data["reason"].as_str().unwrap())).collect();
    assert!(lines.contains(&(3, "invalid_address")) && lines.contains(&(4, "invalid_name")), "{lines:?}");
    assert_eq!(data(&sidewatch, "file.error")[0]["reason"], "not_found");
    for reason in ["invalid_address", "invalid_name"] {
        let query = format!("sum(sidewatch_events_refused_total{{source=\"names\",reason=\"{reason}\"}})");
        assert_eq!(sidewatch.value(&query), Some(1.0), "{reason}");
    }

    // A line is written, a folder is swapped by its link, a missing file appears.
    fs::write(at("hosts"), "127.0.0.1 localhost\nfe80::1%eth0 gate gate.example\n10.0.0.7 new\n10.0.0.1 bad_name\n")
        .unwrap();
    check(&sidewatch, &[("record.added", 5), ("file.changed", 1)]);
    symlink("..v2", at("hosts.d/..next")).unwrap();
    fs::rename(at("hosts.d/..next"), at("hosts.d/..data")).unwrap();
    check(&sidewatch, &[("record.updated", 1), ("file.changed", 2)]);
    let updated = &data(&sidewatch, "record.updated")[0];
    assert_eq!((&updated["address"], &updated["previous"]), (&"10.1.1.2".into(), &"10.1.1.1".into()));
    fs::write(at("later"), "10.0.0.8 late\n").unwrap();
    check(&sidewatch, &[("record.added", 6), ("file.added", 3)]);
    // What cannot be read is told once; the other files go on, and its records are not gone.
    fs::File::create(at("hosts.d/huge")).unwrap().set_len(17 << 20).unwrap();
    check(&sidewatch, &[("file.error", 2)]);
    assert_eq!(data(&sidewatch, "file.error")[0]["reason"], "too_large");
    fs::write(at("later"), "10.0.0.8 late later\n").unwrap();
    check(&sidewatch, &[("record.added", 7), ("file.changed", 3), ("record.invalid", 2), ("record.removed", 0)]);
    // The checkpoint holds what was told together with the counts.
    sidewatch.checkpointed();
    assert_eq!(sidewatch.terminate(), Some(0));

    fs::remove_file(at("later")).unwrap();
    fs::write(at("hosts"), "127.0.0.1 localhost\n10.0.0.7 new\n10.0.0.1 bad_name\n").unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    check(
        &sidewatch,
        &[("record.removed", 4), ("file.removed", 1), ("record.added", 7), ("file.added", 3), ("record.invalid", 2)],
    );
    sidewatch.kill();
    fs::write(at("hosts.d/more"), "10.0.0.9 more\n").unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    check(&sidewatch, &[("record.removed", 4), ("record.added", 8), ("file.added", 4), ("record.updated", 1)]);
}

#[test]
fn many_records_are_told_and_a_source_without_any_file_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hosts");
    fs::write(dir.path().join("sidewatch.yaml"), "sources: {names: {hosts: {paths: hosts, poll: 100ms}}}\n").unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let state = || sidewatch.json("/health")["sidewatch"]["sources"]["names"].clone();
    eventually("the source is lost", 10, || (state()["state"] == "lost").then_some(()));
    assert!(state().to_string().contains("it is read as soon as it is there"), "{}", state());
    assert_eq!(sidewatch.get("/readyz").0, 200);
    let lines: String = (0..10_000).map(|at| format!("10.{}.{}.1 host-{at}\n", at / 250, at % 250)).collect();
    fs::write(&path, lines).unwrap();
    check(&sidewatch, &[("record.added", 10_000)]);
    assert_eq!(state()["state"], "connected");
    fs::remove_file(&path).unwrap();
    check(&sidewatch, &[("record.removed", 10_000), ("file.removed", 1)]);
}
