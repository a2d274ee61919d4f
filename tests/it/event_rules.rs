//! Conditions on events and objectives with the real binary: weeks of events, pushed in seconds, each with its own time;
//! kill -9 in the middle.

use crate::harness::{Sidewatch, eventually, free_port, run};
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// 2026-10-01T00:00:00Z, in seconds since the epoch.
const START: i64 = 1_790_812_800;
const HOUR: i64 = 3_600;

fn start(dir: &Path) -> Sidewatch {
    Sidewatch::start_on(dir, "run", &["--config", "sidewatch.yaml"], free_port(), free_port(), Stdio::null())
}

/// The time of an event as RFC 3339, so many seconds after the start.
fn time(seconds: i64) -> String {
    sidewatch::model::Timestamp::from_millis((START + seconds) * 1_000).rfc3339()
}

fn event(seconds: i64, name: &str, data: &str) -> String {
    format!("{{\"event_type\":\"{name}\",\"timestamp\":\"{}\",\"data\":{{{data}}}}}\n", time(seconds))
}

fn push(sidewatch: &Sidewatch, events: &str) {
    let (status, body) = sidewatch.post("/events", "application/x-ndjson", events.as_bytes());
    assert!((200..300).contains(&status), "{status} {body}");
}

fn firing(sidewatch: &Sidewatch, name: &str) -> Vec<Value> {
    let alerts = sidewatch.json("/api/v1/alerts");
    let all = alerts["data"]["alerts"].as_array().unwrap().clone();
    all.into_iter().filter(|alert| alert["labels"]["alertname"] == name && alert["state"] == "firing").collect()
}

/// Waits until so many alerts of a name fire.
fn wait(sidewatch: &Sidewatch, name: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} of {name} fire"), 20, || {
        let found = firing(sidewatch, name);
        (found.len() == count).then_some(found)
    })
}

/// Waits until a checkpoint holds everything that was pushed.
fn settled(dir: &Path, sidewatch: &Sidewatch) {
    let before = sidewatch.value("sum(sidewatch_checkpoint_seconds_count)").unwrap_or(0.0);
    eventually(&format!("two more checkpoints in {}", dir.display()), 30, || {
        (sidewatch.value("sum(sidewatch_checkpoint_seconds_count)").unwrap_or(0.0) >= before + 2.0).then_some(())
    });
}

const CONDITIONS: &str = "bundled_rules: false
state: {dir: state, checkpoint_interval: 50ms}
alerts:
  New:
    event: {first_seen: data.code, match: pay.failed, for: 21d, learn: 7d, within: 1d}
    annotations: {summary: 'new {{ $labels.code }} by {{ $event.data.user }}'}
  Hole:
    event: {gap: data.version, match: 'order.*', by: data.order, within: 1m}
    annotations: {summary: '{{ $value }} of {{ $labels.order }} missing from {{ $event.condition.first }}'}
  Slump:
    event: {rate_change: sale, within: 1h, baseline: 48h, min_samples: 24, direction: down}
    annotations: {summary: '{{ $event.condition.count }} instead of {{ $event.condition.expected }}, {{ query \"sum(events_total)\" | len }}'}
";

fn summary(alert: &Value) -> &str {
    alert["annotations"]["summary"].as_str().unwrap()
}

#[test]
fn patterns_fire_and_resolve_through_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sidewatch.yaml"), CONDITIONS).unwrap();
    let sidewatch = start(dir.path());
    // Ten days in which a shop sells 20 things an hour, fails with two codes and numbers its changes.
    let mut text = String::new();
    for hour in 0..240 {
        for sale in 0..20 {
            text += &event(hour * HOUR + sale * 170, "sale", "");
        }
        let _ = write!(text, "{}", event(hour * HOUR + 3_500, "pay.failed", &format!("\"code\":\"E{}\"", hour % 2)));
        let _ = write!(
            text,
            "{}",
            event(hour * HOUR + 3_501, "order.changed", &format!("\"order\":\"o1\",\"version\":{hour}"))
        );
    }
    push(&sidewatch, &text);
    eventually("all events are counted", 20, || (sidewatch.value("sum(events_total)") == Some(5_280.0)).then_some(()));
    settled(dir.path(), &sidewatch);
    sidewatch.kill();

    let sidewatch = start(dir.path());
    // Nothing new, nothing missing: the patterns are still there.
    let day = 240 * HOUR;
    push(&sidewatch, &event(day + 10, "pay.failed", "\"code\":\"E1\""));
    push(&sidewatch, &event(day + 11, "order.changed", "\"order\":\"o1\",\"version\":240"));
    push(&sidewatch, &event(day + 12, "pay.failed", "\"code\":\"E7\",\"user\":\"ann\""));
    push(&sidewatch, &event(day + 13, "order.changed", "\"order\":\"o1\",\"version\":243"));
    let new = wait(&sidewatch, "New", 1);
    assert_eq!((summary(&new[0]), &new[0]["labels"]["code"]), ("new E7 by ann", &"E7".into()));
    assert!(firing(&sidewatch, "Hole").is_empty(), "what is late may still come");
    // The clock of a rule follows the events that it looks at.
    push(&sidewatch, &event(day + 80, "order.changed", "\"order\":\"o2\",\"version\":1"));
    let hole = wait(&sidewatch, "Hole", 1);
    assert_eq!(summary(&hole[0]), "2 of o1 missing from 241");
    for version in [242, 241] {
        push(&sidewatch, &event(day + 81, "order.changed", &format!("\"order\":\"o1\",\"version\":{version}")));
    }
    wait(&sidewatch, "Hole", 0);

    // An ordinary day, then an hour with one sale.
    let mut text = String::new();
    for hour in 241..264 {
        for sale in 0..20 {
            text += &event(hour * HOUR + sale * 170, "sale", "");
        }
    }
    push(&sidewatch, &text);
    push(&sidewatch, &event(264 * HOUR + 5, "sale", ""));
    assert!(firing(&sidewatch, "Slump").is_empty());
    push(&sidewatch, &event(265 * HOUR + 60, "sale", ""));
    let slump = wait(&sidewatch, "Slump", 1);
    assert_eq!(summary(&slump[0]), "1 instead of 20, 1");
    let mut text = String::new();
    for sale in 1..20 {
        text += &event(265 * HOUR + 60 + sale * 170, "sale", "");
    }
    push(&sidewatch, &text);
    push(&sidewatch, &event(266 * HOUR + 60, "sale", ""));
    wait(&sidewatch, "Slump", 0);
    // A day after it was seen, the new code is no longer new.
    push(&sidewatch, &event(266 * HOUR + 61, "pay.failed", "\"code\":\"E7\""));
    wait(&sidewatch, "New", 0);
    assert_eq!(sidewatch.json("/api/v1/rules")["data"]["groups"][0]["rules"].as_array().unwrap().len(), 3);
}

const OBJECTIVE: &str = "bundled_rules: false
state: {dir: state, checkpoint_interval: 50ms}
alerts:
  Checkout: {slo: {good: order.completed, total: [order.completed, order.failed], target: 99.9%, window: 30d}}
";

#[test]
fn an_objective_burns_and_recovers_through_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sidewatch.yaml"), OBJECTIVE).unwrap();
    let orders = |from: i64, to: i64, step: i64, failed_every: i64| {
        let mut text = String::new();
        for (number, second) in (from..to).step_by(step as usize).enumerate() {
            let failed = failed_every > 0 && number as i64 % failed_every == 0;
            text += &event(second, if failed { "order.failed" } else { "order.completed" }, "");
        }
        text
    };
    let sidewatch = start(dir.path());
    // Twenty good days with 96 orders each.
    let end = 20 * 24 * HOUR;
    push(&sidewatch, &orders(0, end, 900, 0));
    eventually("all orders are counted", 20, || {
        (sidewatch.value("sidewatch_slo_events_total{slo=\"Checkout\"}") == Some(1_920.0)).then_some(())
    });
    assert_eq!(sidewatch.value("sidewatch_slo_error_budget_remaining_ratio"), Some(1.0));
    assert_eq!(sidewatch.value("sidewatch_slo_objective_ratio"), Some(0.999));
    settled(dir.path(), &sidewatch);
    sidewatch.kill();

    let sidewatch = start(dir.path());
    // Ten minutes with one order a second, every tenth fails.
    push(&sidewatch, &orders(end, end + 600, 1, 10));
    let fired = wait(&sidewatch, "Checkout", 2);
    let severities: Vec<&str> = fired.iter().map(|alert| alert["labels"]["severity"].as_str().unwrap()).collect();
    assert!(severities.contains(&"critical") && severities.contains(&"warning"), "{severities:?}");
    // Exact across the kill: 60 of 2,520 are bad, of an allowed share of 0.001.
    assert_eq!(sidewatch.value("sidewatch_slo_events_total"), Some(2_520.0));
    assert_eq!(sidewatch.value("sidewatch_slo_good_events_total"), Some(2_460.0));
    let remaining = sidewatch.value("sidewatch_slo_error_budget_remaining_ratio").unwrap();
    assert!((remaining - (1.0 - 60.0 / 2_520.0 / 0.001)).abs() < 1e-6, "{remaining}");
    let burn = sidewatch.value("sidewatch_slo_burn_rate{window=\"5m\"}").unwrap();
    assert!((burn - 100.0).abs() < 4.0, "{burn}");
    // Forty good minutes: the urgent alert ends; half a day with many orders: so does the other one.
    push(&sidewatch, &orders(end + 600, end + 3_000, 1, 0));
    let left = wait(&sidewatch, "Checkout", 1);
    assert_eq!(left[0]["labels"]["severity"], "warning");
    push(&sidewatch, &orders(end + 3_000, end + 12 * HOUR, 10, 0));
    wait(&sidewatch, "Checkout", 0);
}

#[test]
fn the_rules_of_an_objective_pass_promtool() {
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "{OBJECTIVE}  Api: {{slo: {{error: 'http_requests_total{{code=~\"5..\"}}', total: http_requests_total, target: 99.5%, window: 7d}}, for: 2m}}\n"
    );
    std::fs::write(dir.path().join("sidewatch.yaml"), config).unwrap();
    for (flag, file) in [("--slo-rules", "slo.rules.yaml"), ("--slo-tests", "slo.test.yaml")] {
        let (code, out, err) = run(dir.path(), &["config", "show", flag]);
        assert_eq!(code, 0, "{err}");
        std::fs::write(dir.path().join(file), out).unwrap();
    }
    let (code, out, err) = run(dir.path(), &["test", "rules", "slo.test.yaml"]);
    assert_eq!((code, out.trim()), (0, "3 passed, 0 failed"), "{err}");
    let verdict = Command::new("promtool").args(["test", "rules", "slo.test.yaml"]).current_dir(dir.path()).output();
    let verdict = verdict.expect("promtool is installed (Debian's package prometheus)");
    assert!(verdict.status.success(), "{}", String::from_utf8_lossy(&verdict.stderr));
    let (_, shown, _) = run(dir.path(), &["config", "show"]);
    for part in
        ["14.4 * 0.001", "6 * 0.001", "3 * 0.001", "1 * 0.001", "ratio_rate5m", "ratio_rate3d", "target 99.9% in 30d"]
    {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
}
