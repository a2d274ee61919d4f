//! `sidewatch alerts why NAME`: the answer of `/api/alerts/why` in plain words.

use super::{Target, distance, labels, moment, query, seconds};
use crate::cli::{Common, Failure};
use crate::telemetry::clock;
use clap::Args;
use serde_json::Value;

/// Which alert.
#[derive(Clone, Debug, Args)]
pub struct Why {
    /// The alert's name.
    name: String,
    #[command(flatten)]
    target: Target,
}

impl Why {
    /// Asks and prints.
    pub fn run(&self, common: &Common) -> Result<(), Failure> {
        let path = format!("/api/alerts/why?{}", query(&[("name", Some(&self.name))]));
        let answer = self.target.ask(common, reqwest::Method::GET, &path)?;
        if self.target.json {
            println!("{answer}");
        } else {
            print!("{}", in_words(&answer, clock::now().millis()));
        }
        Ok(())
    }
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// The whole answer.
pub(super) fn in_words(answer: &Value, now_ms: i64) -> String {
    let mut out = String::new();
    for rule in each(&answer["rules"]) {
        rule_in_words(text(&answer["name"]), rule, now_ms, &mut out);
    }
    let waiting: Vec<&Value> = each(&answer["waiting"]).collect();
    if !waiting.is_empty() {
        out.push_str("messages about it that wait or were given up:\n");
    }
    for letter in waiting {
        let error = text(&letter["error"]);
        let error = if error.is_empty() { String::new() } else { format!(", last error: {error}") };
        out.push_str(&format!(
            "  {} {} to {} ({} attempts{error})\n",
            letter["id"],
            text(&letter["state"]),
            text(&letter["receiver"]),
            letter["attempts"],
        ));
    }
    let last: Vec<&Value> = each(&answer["last_notifications"]).collect();
    out.push_str(if last.is_empty() {
        "nobody was told of it lately\n"
    } else {
        "last notifications, newest first:\n"
    });
    for line in last {
        out.push_str("  ");
        out.push_str(&super::history::notification(line, now_ms));
        out.push('\n');
    }
    out
}

fn rule_in_words(name: &str, rule: &Value, now_ms: i64, out: &mut String) {
    let state = match text(&rule["state"]) {
        "firing" => "is FIRING",
        "pending" => "is pending",
        _ => "is quiet",
    };
    out.push_str(&format!("{name} {state}\n  condition: {}\n", text(&rule["condition"])));
    out.push_str(&format!("  from {} (group {})", text(&rule["file"]), text(&rule["group"])));
    for (key, word) in [("for_seconds", "for"), ("keep_firing_for_seconds", "keep_firing_for")] {
        if rule[key].as_f64().is_some_and(|seconds| seconds > 0.0) {
            out.push_str(&format!(", {word} {}", seconds(&rule[key])));
        }
    }
    out.push('\n');
    if rule["kind"] == "metric" {
        let last = match rule["last_evaluation"].is_string() {
            true => format!("last evaluated {}", distance(&rule["last_evaluation"], now_ms)),
            false => "not evaluated yet".into(),
        };
        let next = match rule["next_evaluation"].is_string() {
            true => format!("next {}", distance(&rule["next_evaluation"], now_ms)),
            false => "being evaluated now".into(),
        };
        out.push_str(&format!("  {last}, {next}, each {}\n", seconds(&rule["interval_seconds"])));
    }
    if let Some(error) = rule["last_error"].as_str() {
        out.push_str(&format!("  the last evaluation FAILED: {error}\n"));
    }
    for clause in each(&rule["clauses"]) {
        clause_in_words(clause, out);
    }
    if rule["event"].is_object() {
        event_in_words(&rule["event"], out);
    }
    let alerts: Vec<&Value> = each(&rule["alerts"]).collect();
    if alerts.is_empty() {
        out.push_str("  no alert: the condition holds for nothing now. One would go\n");
        each(&rule["routes"]).for_each(|route| route_in_words(route, false, now_ms, "    ", out));
    }
    for alert in &alerts {
        alert_in_words(alert, now_ms, out);
    }
    let total = rule["alerts_total"].as_u64().unwrap_or(0) as usize;
    if total > alerts.len() {
        out.push_str(&format!("  and {} more alerts\n", total - alerts.len()));
    }
}

fn clause_in_words(clause: &Value, out: &mut String) {
    let joined = text(&clause["joined_by"]);
    let joined = if joined.is_empty() { String::new() } else { format!("{joined} ") };
    out.push_str(&format!("  clause: {joined}{}\n", text(&clause["text"])));
    if let Some(error) = clause["error"].as_str() {
        out.push_str(&format!("    cannot be evaluated now: {error}\n"));
        return;
    }
    let compared = match clause["right"].as_str() {
        Some(right) => format!(" {} {right}", text(&clause["operator"])),
        None => String::new(),
    };
    let series: Vec<&Value> = each(&clause["series"]).collect();
    if series.is_empty() {
        out.push_str(&format!("    no series now: {} gives nothing\n", text(&clause["left"])));
    }
    for one in &series {
        let verdict = if one["holds"] == true { "holds" } else { "does not hold" };
        let compared = if one["holds"] == true || !compared.is_empty() { compared.as_str() } else { "" };
        out.push_str(&format!("    {}: {}{compared} {verdict}\n", labels(&one["labels"], &[]), text(&one["value"])));
    }
    let total = clause["series_total"].as_u64().unwrap_or(0) as usize;
    if total > series.len() {
        out.push_str(&format!("    and {} more series\n", total - series.len()));
    }
}

fn event_in_words(event: &Value, out: &mut String) {
    if event["paused"] == true {
        out.push_str("  paused: a source cannot be heard, so that nothing is concluded from silence\n");
    }
    let keys: Vec<&Value> = each(&event["keys"]).collect();
    if keys.is_empty() {
        out.push_str("  no event that counts has come yet\n");
    }
    for key in &keys {
        let verdict = if key["holds"] == true { "holds" } else { "does not hold" };
        out.push_str(&format!("    {}: {}: {verdict}\n", labels(&key["labels"], &[]), text(&key["text"])));
    }
    let total = event["keys_total"].as_u64().unwrap_or(0) as usize;
    if total > keys.len() {
        out.push_str(&format!("    and {} more keys\n", total - keys.len()));
    }
    let counters = event["counters"].as_object().into_iter().flatten();
    let spoiled: Vec<String> = counters
        .filter(|(_, count)| count.as_u64().unwrap_or(0) > 0)
        .map(|(name, count)| format!("{} {count}", name.replace('_', " ")))
        .collect();
    if !spoiled.is_empty() {
        out.push_str(&format!("    events that could not be used: {}\n", spoiled.join(", ")));
    }
}

fn alert_in_words(alert: &Value, now_ms: i64, out: &mut String) {
    let state = match text(&alert["state"]) {
        "firing" if alert["keep_firing_left_seconds"].is_number() => format!(
            "firing since {}; the condition holds no more, keep_firing_for has {} left",
            moment(&alert["fired_at"], now_ms),
            seconds(&alert["keep_firing_left_seconds"])
        ),
        "firing" => {
            format!("firing since {} ({})", moment(&alert["fired_at"], now_ms), distance(&alert["fired_at"], now_ms))
        }
        "pending" => format!(
            "pending since {}: fires in {} if the condition still holds then",
            moment(&alert["active_at"], now_ms),
            seconds(&alert["for_left_seconds"])
        ),
        _ => format!("ended {}", distance(&alert["resolved_at"], now_ms)),
    };
    let summary = text(&alert["summary"]);
    let summary = if summary.is_empty() { String::new() } else { format!(": {summary}") };
    out.push_str(&format!("  alert {}{summary}\n", labels(&alert["labels"], &["alertname"])));
    out.push_str(&format!("    {state}, value {}\n", text(&alert["value"])));
    let fires = alert["state"] == "firing";
    each(&alert["routes"]).for_each(|route| route_in_words(route, fires, now_ms, "    ", out));
}

fn route_in_words(route: &Value, fires: bool, now_ms: i64, indent: &str, out: &mut String) {
    let kinds: Vec<&str> = each(&route["integrations"]).map(text).collect();
    let timing = match route["at_once"] == true {
        true => format!("at once, then at most each {}", seconds(&route["group_interval_seconds"])),
        false => format!(
            "group_wait {}, group_interval {}",
            seconds(&route["group_wait_seconds"]),
            seconds(&route["group_interval_seconds"])
        ),
    };
    out.push_str(&format!(
        "{indent}to {} ({}) by route {}: {timing}, repeated each {}\n",
        text(&route["receiver"]),
        kinds.join(", "),
        text(&route["route"]),
        seconds(&route["repeat_interval_seconds"]),
    ));
    if route["told_at"].is_string() {
        let knows =
            if route["receiver_knows"] == true { "it knows that this alert fires" } else { "not of this alert" };
        out.push_str(&format!("{indent}  last told {}: {knows}\n", distance(&route["told_at"], now_ms)));
    } else if fires {
        out.push_str(&format!("{indent}  not told yet\n"));
    }
    if route["next_flush"].is_string() {
        out.push_str(&format!("{indent}  looked at next {}\n", distance(&route["next_flush"], now_ms)));
    }
    for way in each(&route["in_the_way"]) {
        let until =
            if way["until"].is_string() { format!(", until {}", moment(&way["until"], now_ms)) } else { String::new() };
        out.push_str(&format!(
            "{indent}  IN THE WAY ({}): {}{until}\n",
            text(&way["by"]).replace('_', " "),
            text(&way["what"])
        ));
    }
}
