//! `sidewatch events recent|quarantine`: what came, and what was refused.

use super::alerts::{Target, distance};
use super::{Common, Failure};
use crate::telemetry::clock;
use clap::Subcommand;
use serde_json::Value;

/// What came in, and what was refused and why.
#[derive(Debug, Subcommand)]
pub enum Events {
    /// The latest events, the newest first.
    Recent {
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Only types like this: `*` is any text, `+` one segment.
        #[arg(long = "type", value_name = "PATTERN")]
        pattern: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Input that was refused: invalid by its schema, no JSON, without a type; the latest first.
    Quarantine {
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Only of this source.
        #[arg(long)]
        source: Option<String>,
        /// Only for this reason: invalid_schema, invalid_json, ...
        #[arg(long)]
        reason: Option<String>,
        /// Only types like this: `*` is any text, `+` one segment.
        #[arg(long = "type", value_name = "PATTERN")]
        pattern: Option<String>,
        /// Forget all of it.
        #[arg(long, conflicts_with_all = ["source", "reason", "pattern"])]
        clear: bool,
        #[command(flatten)]
        target: Target,
    },
}

impl Events {
    /// Asks and prints.
    pub fn run(&self, common: &Common) -> Result<(), Failure> {
        use reqwest::Method;
        let (target, answer, words): (&Target, Value, fn(&Value, i64) -> String) = match self {
            Self::Recent { limit, pattern, target } => {
                let path = path("/api/events", *limit, &[("type", pattern)]);
                (target, target.ask(common, Method::GET, &path)?, recent)
            }
            Self::Quarantine { clear: true, target, .. } => {
                let answer = target.ask(common, Method::DELETE, "/api/quarantine")?;
                (target, answer, |answer, _| format!("{} items forgotten\n", answer["cleared"]))
            }
            Self::Quarantine { limit, source, reason, pattern, target, .. } => {
                let filters = [("source", source), ("reason", reason), ("type", pattern)];
                (target, target.ask(common, Method::GET, &path("/api/quarantine", *limit, &filters))?, quarantine)
            }
        };
        if target.json {
            println!("{answer}");
        } else {
            print!("{}", words(&answer, clock::now().millis()));
        }
        Ok(())
    }
}

fn path(base: &str, limit: u32, filters: &[(&str, &Option<String>)]) -> String {
    let mut path = format!("{base}?limit={limit}");
    for (name, value) in filters {
        if let Some(value) = value {
            let value: String = value
                .bytes()
                .map(|byte| match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
                    byte => format!("%{byte:02X}"),
                })
                .collect();
            path += &format!("&{name}={value}");
        }
    }
    path
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn recent(answer: &Value, now_ms: i64) -> String {
    let rows = answer["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let line = |row: &Value| {
        let failed = if row["failed"] == true { "  failed" } else { "" };
        let payload = if row["payload"].is_null() { String::new() } else { format!("  {}", row["payload"]) };
        format!(
            "{:>12}  {}  {}{failed}{payload}\n",
            distance(&row["arrived"], now_ms),
            text(&row["type"]),
            text(&row["source"])
        )
    };
    if rows.is_empty() { "no event has come\n".into() } else { rows.iter().map(line).collect() }
}

fn quarantine(answer: &Value, now_ms: i64) -> String {
    let rows = answer["quarantine"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return "nothing is in quarantine\n".into();
    }
    let mut out = String::new();
    for row in rows {
        let what = [text(&row["type"]), text(&row["id"])].into_iter().filter(|word| !word.is_empty());
        let what: Vec<&str> = what.collect();
        out += &format!(
            "{:>5}  {:>12}  {}  {}  {}\n",
            row["number"],
            distance(&row["time"], now_ms),
            text(&row["source"]),
            text(&row["reason"]),
            what.join(" "),
        );
        for fault in row["reasons"].as_array().into_iter().flatten() {
            let pointer = text(&fault["pointer"]);
            let place = if pointer.is_empty() { String::new() } else { format!("{pointer}: ") };
            out += &format!("       {place}{}\n", text(&fault["message"]));
        }
        match &row["payload"] {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => out += &format!("       {text}\n"),
            payload => out += &format!("       {payload}\n"),
        }
    }
    let shown = rows.len();
    out + &format!("{shown} of {} kept; {} were refused since the beginning\n", answer["events"], answer["total"])
}
