//! The sample events of the systems sidewatch stands beside, against a count made by hand with serde_json's values.

use super::super::Framing;
use super::{decoder, plan};
use crate::config::schema::FormatConfig;
use crate::model::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// (events, failed, retried, sum of durations in milliseconds) by type.
type Counts = BTreeMap<String, (u32, u32, u32, u64)>;

/// Looks at everything DESIGN.md names, without knowing shapes: an event counts as failed when any outcome says so.
fn by_hand(text: &str) -> Counts {
    let mut counts = Counts::new();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let first = |pointers: &[&str]| pointers.iter().find_map(|pointer| event.pointer(pointer)).cloned();
        let name = first(&["/event/event_type", "/event_type", "/type"]).unwrap().as_str().unwrap().to_owned();
        let mut failed = ["failed", "failure", "rejected", "timeout"].contains(&name.rsplit('.').next().unwrap())
            || name.split('.').any(|segment| segment == "error" || segment == "errors");
        for place in ["", "/data", "/payload", "/event/data", "/processing"] {
            for key in ["status", "result", "outcome"] {
                let outcome = event.pointer(&format!("{place}/{key}")).and_then(Value::as_str).unwrap_or("");
                failed |= ["failed", "failure", "error"].contains(&outcome);
            }
        }
        let retried = event["attempts"].as_u64().is_some_and(|attempts| attempts > 0)
            || event["processing"]["attempt"].as_u64().is_some_and(|attempt| attempt > 1);
        let duration = first(&["/data/duration_ms", "/payload/duration_ms", "/processing/duration_ms", "/duration_ms"]);
        let count = counts.entry(name).or_default();
        count.0 += 1;
        count.1 += u32::from(failed);
        count.2 += u32::from(retried);
        count.3 += (duration.and_then(|ms| ms.as_f64()).unwrap_or(0.0) * 1_000.0).round() as u64;
    }
    counts
}

#[test]
fn every_sample_event_is_read() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/events");
    if !folder.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing", folder.display());
        return;
    }
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let arrived = Timestamp::from_seconds(1_795_165_300.0);
        let decoder = decoder(&FormatConfig::default());
        for framing in [Framing::Auto, Framing::Ndjson] {
            let batch = decoder.decode(text.clone().into_bytes(), framing, &plan(&[]), &Arc::from("src"), arrived);
            assert_eq!(batch.refused, [], "{}", path.display());
            let mut counts = Counts::new();
            for event in &batch.events {
                let count = counts.entry(batch.text(event.event_type).to_owned()).or_default();
                count.0 += 1;
                count.1 += u32::from(event.failed);
                count.2 += u32::from(event.attempt > 1);
                if !event.duration_seconds.is_nan() {
                    count.3 += (event.duration_seconds * 1e6).round() as u64;
                }
                assert!(!event.time_invalid);
                // All of them are from within half a minute.
                let since = event.time.unwrap().micros_since(Timestamp::from_seconds(1_795_165_200.0));
                assert!((0..30_000_000).contains(&since), "{since}");
            }
            assert_eq!(counts, by_hand(&text), "{}", path.display());
        }
        files += 1;
    }
    assert_eq!(files, 6);
}
