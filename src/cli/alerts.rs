//! `sidewatch alerts [list | why NAME | history [NAME]]`.

mod history;
mod why;

use super::client::{self, base_url, block_on, encode};
use super::{Common, Failure};
use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use serde_json::Value;

/// What alerts there are, why, and what happened to them.
#[derive(Debug, Args)]
pub struct Alerts {
    #[command(subcommand)]
    command: Option<AlertsCommand>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum AlertsCommand {
    /// Every rule with its alerts, in plain words.
    List(List),
    /// Why an alert fires or does not, who is told of it and what is in the way.
    Why(why::Why),
    /// What happened: changes of alerts, who was told, who was not and why; how long it took.
    History(history::History),
}

/// Which alerts.
#[derive(Clone, Debug, Args)]
struct List {
    #[command(flatten)]
    target: Target,
    /// Only rules that have pending or firing alerts, or that fail.
    #[arg(long)]
    active: bool,
}

/// Whom to ask, and how to answer.
#[derive(Clone, Debug, Args)]
pub(super) struct Target {
    /// The observe listener of the sidewatch to ask.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The answer as JSON.
    #[arg(long)]
    pub json: bool,
}

impl Target {
    /// The address to ask, without a trailing slash.
    pub fn base(&self, common: &Common) -> String {
        let address = self.url.clone().or_else(|| common.listen_observe.clone());
        base_url(&address.unwrap_or_else(|| "127.0.0.1:9180".into()))
    }

    /// The answer of a path of sidewatch's own API.
    ///
    /// # Errors
    /// The error and the hint that it answers.
    pub fn ask(&self, common: &Common, method: reqwest::Method, path: &str) -> Result<Value, Failure> {
        let base = self.base(common);
        block_on(async {
            let request = client::client()?.request(method, format!("{base}{path}"));
            let (status, body) = client::exchange(request, &base).await?;
            let answer: Value = serde_json::from_str(&body)
                .map_err(|_| anyhow!("{base}{path} answered {status}, and not in sidewatch's way: {body}"))?;
            if (200..300).contains(&status) {
                return Ok(answer);
            }
            let (error, hint) = (answer["error"].as_str().unwrap_or(&body), answer["hint"].as_str().unwrap_or(""));
            Err(anyhow!("{error}{}", if hint.is_empty() { String::new() } else { format!("\n  hint: {hint}") }))
        })
        .map_err(Failure::Runtime)
    }
}

impl Alerts {
    /// Asks and prints.
    pub fn run(&self, common: &Common) -> Result<(), Failure> {
        match &self.command {
            None => self.list.run(common),
            Some(AlertsCommand::List(list)) => list.run(common),
            Some(AlertsCommand::Why(why)) => why.run(common),
            Some(AlertsCommand::History(history)) => history.run(common),
        }
    }
}

impl List {
    fn run(&self, common: &Common) -> Result<(), Failure> {
        let answer = self.target.ask(common, reqwest::Method::GET, "/api/v1/rules?type=alert")?;
        if self.target.json {
            println!("{}", answer["data"]);
            return Ok(());
        }
        print!("{}", list(&answer["data"], self.active, crate::telemetry::clock::now().millis()));
        Ok(())
    }
}

/// One line a rule, and one below it for each alert.
fn list(data: &Value, active_only: bool, now_ms: i64) -> String {
    let mut rules: Vec<&Value> = Vec::new();
    for group in data["groups"].as_array().into_iter().flatten() {
        rules.extend(group["rules"].as_array().into_iter().flatten());
    }
    let rank = |rule: &Value| match rule["state"].as_str() {
        Some("firing") => 0,
        Some("pending") => 1,
        _ if rule["health"] == "err" => 2,
        _ => 3,
    };
    rules.retain(|rule| !active_only || rank(rule) < 3);
    rules.sort_by_key(|rule| (rank(rule), rule["name"].as_str().unwrap_or("").to_owned()));
    let mut out = String::new();
    for rule in &rules {
        let (state, name) = (word(rule), rule["name"].as_str().unwrap_or(""));
        let query = rule["query"].as_str().unwrap_or("");
        out.push_str(&format!("{state:<8} {name}  {query}\n"));
        if let Some(error) = rule["lastError"].as_str() {
            out.push_str(&format!("           the last evaluation failed: {error}\n"));
        }
        for alert in rule["alerts"].as_array().into_iter().flatten() {
            let labels = labels(&alert["labels"], &["alertname"]);
            let since = alert["activeAt"].as_str().unwrap_or("");
            let age = since.parse::<jiff::Timestamp>().ok().map(|at| now_ms - at.as_millisecond());
            let value = alert["value"].as_str().and_then(|value| value.parse::<f64>().ok());
            let value =
                value.map_or_else(String::new, |value| format!(", value {}", crate::promql::format_value(value)));
            let mut text = match alert["state"].as_str() {
                Some("pending") => {
                    let left = rule["duration"].as_f64().zip(age).map(|(ms, age)| (ms * 1e3) as i64 - age);
                    let left = left.map_or_else(String::new, |left| format!(", fires in {}", span(left.max(0))));
                    format!("pending {labels}{left}{value}")
                }
                _ if alert["keepFiringSince"].is_string() => {
                    format!("firing {labels} (kept by keep_firing_for){value}")
                }
                _ => format!("firing {labels}{value}"),
            };
            if let Some(age) = age {
                text.push_str(&format!(", true for {}", span(age)));
            }
            out.push_str(&format!("           {text}\n"));
        }
    }
    if rules.is_empty() {
        out.push_str(if active_only { "no alert is pending or firing\n" } else { "no alerting rule is configured\n" });
    }
    out
}

fn word(rule: &Value) -> &'static str {
    match (rule["state"].as_str(), rule["health"].as_str()) {
        (Some("firing"), _) => "FIRING",
        (Some("pending"), _) => "pending",
        (_, Some("err")) => "FAILS",
        (_, Some("unknown")) => "waits",
        _ => "quiet",
    }
}

/// Labels on one line, without some.
pub(super) fn labels(map: &Value, without: &[&str]) -> String {
    let shown = map.as_object().into_iter().flatten().filter(|(name, _)| !without.contains(&name.as_str()));
    let texts: Vec<String> = shown.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or(""))).collect();
    if texts.is_empty() { "(no labels)".into() } else { texts.join(" ") }
}

/// A span of time as people say it: milliseconds below ten seconds, else whole seconds.
pub(super) fn span(ms: i64) -> String {
    crate::model::format_duration_ms(if ms >= 10_000 { ms / 1_000 * 1_000 } else { ms })
}

/// Seconds of an answer as a span.
pub(super) fn seconds(value: &Value) -> String {
    value.as_f64().map_or_else(|| "?".into(), |seconds| span((seconds * 1e3).round() as i64))
}

/// A moment of an answer: the time of day, with the date when it is not today.
pub(super) fn moment(value: &Value, now_ms: i64) -> String {
    let Some(at) = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) else {
        return value.as_str().unwrap_or("never").to_owned();
    };
    let same_day = at.as_millisecond().div_euclid(86_400_000) == now_ms.div_euclid(86_400_000);
    at.strftime(if same_day { "%H:%M:%S UTC" } else { "%Y-%m-%d %H:%M:%S UTC" }).to_string()
}

/// How long ago, or in how long.
pub(super) fn distance(value: &Value, now_ms: i64) -> String {
    let Some(at) = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) else { return "never".into() };
    let ms = now_ms - at.as_millisecond();
    if ms >= 0 { format!("{} ago", span(ms)) } else { format!("in {}", span(-ms)) }
}

/// `name=value&...`, values percent-encoded.
pub(super) fn query(pairs: &[(&str, Option<&str>)]) -> String {
    let given = pairs.iter().filter_map(|(name, value)| Some(format!("{name}={}", encode((*value)?))));
    given.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_are_listed_in_plain_words() {
        let data = json!({"groups": [{"rules": [
            {"name": "Quiet", "state": "inactive", "health": "ok", "query": "up == 0", "duration": 0.0, "alerts": []},
            {"name": "Bad", "state": "inactive", "health": "err", "query": "a", "lastError": "no", "alerts": []},
            {"name": "Soon", "state": "pending", "health": "ok", "query": "b > 1", "duration": 60.0, "alerts": [
                {"labels": {"alertname": "Soon", "x": "1"}, "state": "pending", "activeAt": "1970-01-01T00:00:30Z", "value": "2e+00"}]},
            {"name": "Now", "state": "firing", "health": "ok", "query": "c > 1", "duration": 0.0, "alerts": [
                {"labels": {"alertname": "Now"}, "state": "firing", "activeAt": "1970-01-01T00:00:10Z", "value": "3.5e+00"}]},
        ]}]});
        let text = list(&data, false, 50_000);
        assert_eq!(
            text,
            "FIRING   Now  c > 1\n           firing (no labels), value 3.5, true for 40s\n\
             pending  Soon  b > 1\n           pending x=1, fires in 40s, value 2, true for 20s\n\
             FAILS    Bad  a\n           the last evaluation failed: no\n\
             quiet    Quiet  up == 0\n"
        );
        assert!(!list(&data, true, 50_000).contains("Quiet"));
    }
}
