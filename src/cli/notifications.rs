//! `sidewatch notifications list|show ID|retry ID|drop ID|test RECEIVER`.

use super::alerts::{Target, distance, labels, moment};
use super::client::block_on;
use super::{Common, Failure};
use crate::notify::{Courier, Terminal, test_message};
use crate::telemetry::clock;
use anyhow::anyhow;
use clap::Subcommand;
use serde_json::Value;

/// Messages on their way, dead letters; try out receivers.
#[derive(Debug, Subcommand)]
pub enum Notifications {
    /// What waits, is being sent or was given up, and how the receivers are.
    List {
        /// Only dead letters: messages that were given up.
        #[arg(long)]
        dead: bool,
        #[command(flatten)]
        target: Target,
    },
    /// One message with all that it says.
    Show {
        /// Its number in the list.
        id: u64,
        #[command(flatten)]
        target: Target,
    },
    /// Try a message again now: a dead letter, or one that waits.
    Retry {
        /// Its number in the list.
        id: u64,
        #[command(flatten)]
        target: Target,
    },
    /// Give a message up for good.
    Drop {
        /// Its number in the list.
        id: u64,
        #[command(flatten)]
        target: Target,
    },
    /// Send a firing and a resolved test alert to a receiver of the configuration, and say what it answered.
    Test {
        /// The receiver's name in `notify:` or in the Alertmanager file.
        receiver: String,
    },
}

impl Notifications {
    /// Asks or sends, and reports.
    pub fn run(&self, common: &Common) -> Result<(), Failure> {
        use reqwest::Method;
        let (target, answer, words): (&Target, Value, fn(&Value, i64) -> String) = match self {
            Self::Test { receiver } => return test(receiver, common),
            Self::List { dead, target } => {
                let filter = if *dead { "?state=dead" } else { "" };
                (target, target.ask(common, Method::GET, &format!("/api/notifications{filter}"))?, list)
            }
            Self::Show { id, target } => {
                (target, target.ask(common, Method::GET, &format!("/api/notifications/{id}"))?, show)
            }
            Self::Retry { id, target } => {
                let path = format!("/api/notifications/{id}/retry");
                (target, target.ask(common, Method::POST, &path)?, |answer, _| {
                    format!("{}: {}\n", answer["id"], text(&answer["result"]))
                })
            }
            Self::Drop { id, target } => {
                let answer = target.ask(common, Method::DELETE, &format!("/api/notifications/{id}"))?;
                (target, answer, |answer, now_ms| format!("dropped: {}\n", line(answer, now_ms)))
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

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// One message on one line.
fn line(letter: &Value, now_ms: i64) -> String {
    let rules: Vec<&str> = letter["rules"].as_array().into_iter().flatten().map(text).collect();
    let mut out = format!(
        "{:>6}  {:<7} {:<12} {} {} ({} alerts), decided {}, {} attempts",
        letter["id"],
        text(&letter["state"]),
        text(&letter["receiver"]),
        text(&letter["status"]),
        rules.join(", "),
        letter["alerts"],
        distance(&letter["decided"], now_ms),
        letter["attempts"],
    );
    if letter["next_try"].is_string() {
        out.push_str(&format!(", next {}", distance(&letter["next_try"], now_ms)));
    }
    if letter["why_text"].is_string() {
        out.push_str(&format!(", given up {}: {}", distance(&letter["given_up"], now_ms), text(&letter["why_text"])));
    }
    let error = text(&letter["error"]);
    if !error.is_empty() {
        out.push_str(&format!(": {error}"));
    }
    out
}

fn list(answer: &Value, now_ms: i64) -> String {
    let mut out = String::new();
    let letters: Vec<&Value> = answer["notifications"].as_array().into_iter().flatten().collect();
    for letter in letters.iter().rev() {
        out.push_str(&line(letter, now_ms));
        out.push('\n');
    }
    let total = answer["total"].as_u64().unwrap_or(0) as usize;
    if letters.is_empty() {
        out.push_str("no message waits and none was given up\n");
    } else if total > letters.len() {
        out.push_str(&format!("and {} older ones\n", total - letters.len()));
    }
    for lane in answer["receivers"].as_array().into_iter().flatten() {
        let breaker = &lane["breaker"];
        let open = match text(&breaker["state"]) {
            "open" => format!(", left alone until {}", moment(&breaker["until"], now_ms)),
            "half_open" => ", being tried with one message".into(),
            _ => String::new(),
        };
        let failing = match lane["last_error"]["error"].as_str() {
            Some(error) => format!(", failing: {error}"),
            None => String::new(),
        };
        let (name, counters) = (text(&lane["receiver"]), &lane["counters"]);
        out.push_str(&format!(
            "receiver {name}: {} delivered, {} pending, {} retried{failing}{open}\n",
            counters["delivered"], lane["pending"], counters["retried"],
        ));
    }
    out
}

fn show(letter: &Value, now_ms: i64) -> String {
    let mut out = format!(
        "{}\n  group {}\n  reason {}, key {}\n",
        line(letter, now_ms),
        text(&letter["group_key"]),
        text(&letter["reason"]).replace('_', " "),
        text(&letter["key"]),
    );
    let message = &letter["message"];
    for alert in message["alerts"].as_array().into_iter().flatten() {
        out.push_str(&format!("  {} {}\n", text(&alert["status"]), labels(&alert["labels"], &[])));
        out.push_str(&format!("    since {}", moment(&alert["fired_at"], now_ms)));
        if alert["resolved_at"].is_string() {
            out.push_str(&format!(", until {}", moment(&alert["resolved_at"], now_ms)));
        }
        out.push_str(&format!(", value {}\n", text(&alert["value"])));
        for (name, value) in alert["annotations"].as_object().into_iter().flatten() {
            out.push_str(&format!("    {name}: {}\n", text(value)));
        }
    }
    if let Some(more) = message["truncated_alerts"].as_u64().filter(|more| *more > 0) {
        out.push_str(&format!("  and {more} more alerts\n"));
    }
    out
}

fn test(receiver: &str, common: &Common) -> Result<(), Failure> {
    let (config, parts) = super::check::load(common)?;
    let courier = Courier::new(Terminal::new(false, |lines| print!("{lines}")), config.external_url.as_str());
    let results = block_on(async { Ok(test_message(&parts.routing, receiver, &courier, clock::now()).await) })?
        .map_err(Failure::Configuration)?;
    for result in &results {
        let word = if result.delivered { "delivered" } else { "NOT delivered" };
        println!("{} {:?}: {word}: {}", result.integration, result.status, result.text);
    }
    if results.iter().all(|result| result.delivered) {
        Ok(())
    } else {
        Err(Failure::Runtime(anyhow!("the receiver {receiver:?} did not take the message")))
    }
}
