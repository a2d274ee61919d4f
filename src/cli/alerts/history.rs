//! `sidewatch alerts history [NAME]`.

use super::{Target, labels, moment, query, span};
use crate::cli::{Common, Failure};
use crate::telemetry::clock;
use clap::Args;
use serde_json::Value;

/// Which part of the history.
#[derive(Clone, Debug, Args)]
pub struct History {
    /// Only this rule.
    name: Option<String>,
    /// From so long ago (24h), or from a moment (RFC 3339).
    #[arg(long, default_value = "24h", value_name = "TIME")]
    since: String,
    /// Up to so long ago, or to a moment; now when absent.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only notifications to this receiver.
    #[arg(long, value_name = "NAME")]
    receiver: Option<String>,
    /// Only lines of this kind: alert, notification, health.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// At most so many lines, the newest.
    #[arg(long, default_value_t = 100, value_name = "LINES")]
    limit: usize,
    #[command(flatten)]
    target: Target,
}

impl History {
    /// Asks and prints, the oldest line first.
    pub fn run(&self, common: &Common) -> Result<(), Failure> {
        let limit = self.limit.to_string();
        let parameters = query(&[
            ("rule", self.name.as_deref()),
            ("since", Some(&self.since)),
            ("until", self.until.as_deref()),
            ("receiver", self.receiver.as_deref()),
            ("kind", self.kind.as_deref()),
            ("limit", Some(&limit)),
        ]);
        let answer = self.target.ask(common, reqwest::Method::GET, &format!("/api/history?{parameters}"))?;
        if self.target.json {
            println!("{answer}");
        } else {
            print!("{}", in_words(&answer, clock::now().millis()));
        }
        Ok(())
    }
}

fn in_words(answer: &Value, now_ms: i64) -> String {
    let mut out = String::new();
    let entries: Vec<&Value> = answer["entries"].as_array().into_iter().flatten().collect();
    if answer["more"] == true {
        out.push_str("(older lines are left out: raise --limit or narrow --since)\n");
    }
    for entry in entries.iter().rev() {
        let line = match entry["kind"].as_str() {
            Some("alert") => alert(entry, now_ms),
            Some("notification") => notification(entry, now_ms),
            _ => other(entry, now_ms),
        };
        out.push_str(&line);
        out.push('\n');
    }
    if entries.is_empty() {
        out.push_str("nothing happened in that time\n");
    }
    for rule in answer["rules"].as_array().into_iter().flatten() {
        let times: Vec<String> = [("detect", "detected"), ("notify", "told"), ("resolve", "ended")]
            .iter()
            .filter_map(|(key, word)| {
                let figures = &rule[format!("time_to_{key}_seconds")];
                let figure = |name: &str| figures[name].as_f64().map(|seconds| span((seconds * 1e3).round() as i64));
                Some(format!("{word} after {} (median; at most {})", figure("p50")?, figure("max")?))
            })
            .collect();
        let name = rule["rule"].as_str().unwrap_or("");
        out.push_str(&format!("{name}: fired {}, ended {}", rule["fired"], rule["resolved"]));
        out.push_str(&times.iter().map(|text| format!("; {text}")).collect::<String>());
        out.push('\n');
    }
    if answer["persistent"] == false {
        out.push_str("(kept in memory only: set state.dir to keep it over a restart)\n");
    }
    out
}

fn spaced(value: &Value) -> String {
    value.as_str().unwrap_or("").replace('_', " ")
}

fn alert(entry: &Value, now_ms: i64) -> String {
    let took = match (entry["detect_seconds"].as_f64(), entry["resolve_seconds"].as_f64()) {
        (Some(seconds), _) => format!(", {} after the condition began", span((seconds * 1e3).round() as i64)),
        (_, Some(seconds)) => format!(", after {}", span((seconds * 1e3).round() as i64)),
        _ => String::new(),
    };
    format!(
        "{}  {:<8} {} {}: {}, value {}{took}",
        moment(&entry["at"], now_ms),
        entry["to"].as_str().unwrap_or(""),
        entry["rule"].as_str().unwrap_or(""),
        labels(&entry["labels"], &["alertname"]),
        spaced(&entry["reason"]),
        entry["value"].as_str().unwrap_or(""),
    )
}

/// A notification on one line.
pub(super) fn notification(entry: &Value, now_ms: i64) -> String {
    let text = |name: &str| entry[name].as_str().unwrap_or("");
    let mut out = format!(
        "{}  {:<8} {} {}: {}",
        moment(&entry["at"], now_ms),
        spaced(&entry["outcome"]),
        text("receiver"),
        text("group_key"),
        spaced(&entry["reason"]),
    );
    if text("outcome") != "withheld" {
        let alerts = if entry["alerts"] == 1 { "alert" } else { "alerts" };
        out.push_str(&format!(", {}, {} {alerts}", text("status"), entry["alerts"]));
    }
    if let Some(attempts) = entry["attempts"].as_u64().filter(|attempts| *attempts > 0) {
        out.push_str(&format!(", attempt {attempts}"));
    }
    if let Some(took) = entry["duration_ms"].as_i64() {
        out.push_str(&format!(", took {}", span(took)));
    }
    let detail = text("detail");
    if !detail.is_empty() {
        out.push_str(&format!(", {detail}"));
    }
    out
}

fn other(entry: &Value, now_ms: i64) -> String {
    let at = moment(&entry["at"], now_ms);
    let (name, from, to) = (&entry["check"], &entry["from"], &entry["to"]);
    format!(
        "{at}  {:<8} {}: from {} to {}{}",
        "health",
        name.as_str().unwrap_or(""),
        spaced(from),
        spaced(to),
        // A text for people, unlike the reasons of alerts: what stands in it is an expression.
        match entry["reason"].as_str().unwrap_or("") {
            "" => String::new(),
            reason => format!(": {reason}"),
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_read_as_sentences() {
        let answer = json!({"persistent": false, "more": false, "entries": [
            {"at": "1970-01-01T00:00:12Z", "kind": "notification", "receiver": "hook", "outcome": "delivered", "reason": "first",
             "group_key": "{}:{alertname=\"Low\"}", "status": "firing", "alerts": 1, "attempts": 2, "duration_ms": 7, "detail": "answered 200 OK"},
            {"at": "1970-01-01T00:00:10Z", "kind": "alert", "rule": "Low", "to": "firing", "reason": "held_long_enough",
             "labels": {"alertname": "Low", "item": "tea"}, "value": "3", "detect_seconds": 0.25},
        ], "rules": [{"rule": "Low", "fired": 1, "resolved": 0, "time_to_detect_seconds": {"count": 1, "p50": 0.25, "max": 0.25},
            "time_to_notify_seconds": {"count": 0, "p50": null, "max": null}, "time_to_resolve_seconds": {}}]});
        assert_eq!(
            in_words(&answer, 20_000),
            "00:00:10 UTC  firing   Low item=tea: held long enough, value 3, 250ms after the condition began\n\
             00:00:12 UTC  delivered hook {}:{alertname=\"Low\"}: first, firing, 1 alert, attempt 2, took 7ms, answered 200 OK\n\
             Low: fired 1, ended 0; detected after 250ms (median; at most 250ms)\n\
             (kept in memory only: set state.dir to keep it over a restart)\n"
        );
    }
}
