//! Every file of sample events, piped to the real binary, gives the counts that a hand count gives.

use crate::harness::{Sidewatch, eventually, free_port};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

#[derive(Default, Debug, PartialEq, Clone, Copy)]
struct Count {
    total: u64,
    failed: u64,
    retried: u64,
}

/// Counts one event by looking at it as a person would: no code of the product is used.
fn hand_count(event: &Value) -> (String, Count) {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(String::from);
    let event_type = text("/event/event_type")
        .or_else(|| text("/event_type"))
        .or_else(|| text("/type"))
        .expect("an event has a type");
    let outcomes = ["/status", "/result", "/outcome"].map(|field| {
        ["", "/data", "/payload", "/processing", "/event/data"].map(|place| text(&format!("{place}{field}")))
    });
    let outcome = outcomes.into_iter().flatten().flatten().next().unwrap_or_default();
    let segments: Vec<&str> = event_type.split('.').collect();
    let failed = ["failed", "failure", "error"].contains(&outcome.as_str())
        || ["failed", "failure", "rejected", "timeout"].contains(segments.last().unwrap())
        || segments.iter().any(|segment| ["error", "errors"].contains(segment));
    let attempt = event
        .pointer("/processing/attempt")
        .and_then(Value::as_u64)
        .or_else(|| event.get("attempts").and_then(Value::as_u64).map(|attempts| attempts + 1))
        .unwrap_or(1);
    (event_type, Count { total: 1, failed: failed.into(), retried: (attempt > 1).into() })
}

fn check(name: &str, lines: &str) {
    let mut expected: BTreeMap<String, Count> = BTreeMap::new();
    for line in lines.lines() {
        let (event_type, one) = hand_count(&serde_json::from_str(line).unwrap());
        let count = expected.entry(event_type).or_default();
        count.total += one.total;
        count.failed += one.failed;
        count.retried += one.retried;
    }
    let total: u64 = expected.values().map(|count| count.total).sum();

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sidewatch.yaml"), "sources: {in: {stdin: {}}}\n").unwrap();
    let mut sidewatch = Sidewatch::start_on(
        dir.path(),
        "run",
        &["--config", "sidewatch.yaml"],
        free_port(),
        free_port(),
        Stdio::piped(),
    );
    std::io::Write::write_all(&mut sidewatch.stdin(), lines.as_bytes()).unwrap();
    eventually(&format!("all {total} events of {name}"), 20, || {
        (sidewatch.value("sum(events_total)") == Some(total as f64)).then_some(())
    });
    for (event_type, count) in expected {
        let value =
            |metric: &str| sidewatch.value(&format!("sum({metric}{{type=\"{event_type}\"}})")).unwrap_or(0.0) as u64;
        let got = Count {
            total: value("events_total"),
            failed: value("events_failed_total"),
            retried: value("events_retried_total"),
        };
        assert_eq!(got, count, "{name}: {event_type}");
    }
    assert_eq!(
        sidewatch.value("sum(sidewatch_events_refused_total)").unwrap_or(0.0),
        0.0,
        "{name}: nothing is refused"
    );
}

#[test]
fn sample_events_of_every_shape_give_the_counts_of_a_hand_count() {
    check(
        "own",
        "{\"type\":\"a.failed\",\"id\":\"1\"}\n{\"event_type\":\"b\",\"status\":\"error\"}\n{\"event_type\":\"b\",\"data\":{}}\n",
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    // Samples that stand beside the repository are read as well.
    for folder in [root.join("tests/it/events"), root.join("../shared/events")] {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    files.sort();
    for shape in ["cache", "cloudevents", "coordinator", "domain-envelope", "router", "typed"] {
        assert!(files.contains(&root.join(format!("tests/it/events/{shape}.jsonl"))), "{files:?}");
    }
    for file in files {
        check(&file.file_name().unwrap().to_string_lossy(), &std::fs::read_to_string(&file).unwrap());
    }
}
