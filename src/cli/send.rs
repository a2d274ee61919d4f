//! `sidewatch send TYPE [KEY=VALUE...]`, or events from a file or standard input.

use super::client::{base_url, block_on, client, exchange};
use super::{Common, Failure};
use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::PathBuf;

/// Send events to a running sidewatch.
#[derive(Debug, Args)]
pub struct Send {
    /// The event's type, for example order.completed; without it events are read from --file or standard input.
    #[arg(value_name = "TYPE")]
    event_type: Option<String>,
    /// Fields of its data: amount=12.5 region=eu; numbers, true and false are recognised.
    #[arg(value_name = "KEY=VALUE")]
    fields: Vec<String>,
    /// Events as JSON, one a line, or an array; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "event_type")]
    file: Option<PathBuf>,
    /// The ingest listener of the sidewatch to send to.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// Bytes of one request; longer input is cut at line ends.
const REQUEST_BYTES: usize = 4 << 20;

impl Send {
    /// Sends and says what was accepted and refused.
    pub fn run(&self, common: &Common) -> Result<(), Failure> {
        let address =
            self.url.clone().or_else(|| common.listen_ingest.clone()).unwrap_or_else(|| "127.0.0.1:9181".into());
        let base = base_url(&address);
        let body = self.body()?;
        let (accepted, refused) = block_on(send(&base, body.as_bytes())).map_err(Failure::Runtime)?;
        println!("accepted {accepted}{}", if refused == 0 { String::new() } else { format!(", refused {refused}") });
        if refused > 0 {
            return Err(Failure::Runtime(anyhow!("{refused} of {} events were refused", accepted + refused)));
        }
        Ok(())
    }

    fn body(&self) -> Result<String, Failure> {
        if let Some(event_type) = &self.event_type {
            return event(event_type, &self.fields).map(|event| event.to_string());
        }
        match &self.file {
            Some(path) if path.as_os_str() != "-" => {
                Ok(std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?)
            }
            _ => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
                Ok(text)
            }
        }
    }
}

/// A CloudEvent whose time is its arrival.
fn event(event_type: &str, fields: &[String]) -> Result<Value, Failure> {
    let mut data = Map::new();
    for field in fields {
        let Some((key, value)) = field.split_once('=') else {
            return Err(Failure::Configuration(format!("{field:?} is not KEY=VALUE (example: amount=12.5)")));
        };
        data.insert(key.into(), serde_json::from_str(value).unwrap_or_else(|_| Value::from(value)));
    }
    let id = format!("{:x}-{:x}", std::process::id(), crate::telemetry::clock::now().micros());
    Ok(json!({"specversion": "1.0", "id": id, "source": "cli", "type": event_type, "data": data}))
}

/// Pieces of at most [`REQUEST_BYTES`], cut after line ends; a JSON array stays whole.
fn pieces(body: &[u8]) -> Vec<&[u8]> {
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return vec![body];
    }
    let (mut rest, mut out) = (body, Vec::new());
    while rest.len() > REQUEST_BYTES {
        let cut = memchr::memrchr(b'\n', &rest[..REQUEST_BYTES]).map_or(rest.len(), |at| at + 1);
        let (piece, after) = rest.split_at(cut);
        out.push(piece);
        rest = after;
    }
    if !rest.is_empty() {
        out.push(rest);
    }
    out
}

async fn send(base: &str, body: &[u8]) -> anyhow::Result<(u64, u64)> {
    let (client, mut accepted, mut refused) = (client()?, 0, 0);
    for piece in pieces(body) {
        loop {
            let request = client
                .post(format!("{base}/events"))
                .header("content-type", "application/x-ndjson")
                .body(piece.to_vec());
            let (status, answer) = exchange(request, base).await?;
            let parsed: Value = serde_json::from_str(&answer).unwrap_or(Value::Null);
            match status {
                429 | 503 => {
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                    continue;
                }
                200 | 202 | 400 if parsed["accepted"].is_u64() => {
                    accepted += parsed["accepted"].as_u64().unwrap_or(0);
                    for item in parsed["refused"].as_array().into_iter().flatten() {
                        refused += 1;
                        eprintln!(
                            "refused item {}: {} ({})",
                            item["item"],
                            item["message"].as_str().unwrap_or(""),
                            item["reason"].as_str().unwrap_or("")
                        );
                    }
                }
                _ => anyhow::bail!("{base}/events answered {status}: {answer}"),
            }
            break;
        }
    }
    Ok((accepted, refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_kinds() {
        let fields = ["amount=12.5", "ok=true", "region=eu", "id=007"].map(String::from);
        let event = event("order.completed", &fields).unwrap();
        assert_eq!(event["data"].to_string(), r#"{"amount":12.5,"ok":true,"region":"eu","id":"007"}"#);
        assert!(matches!(super::event("x", &["oops".into()]), Err(Failure::Configuration(_))));
    }

    #[test]
    fn long_input_is_cut_at_line_ends() {
        let line = format!("{{\"x\":\"{}\"}}\n", "y".repeat(1 << 20));
        let body = line.repeat(9);
        let pieces = pieces(body.as_bytes());
        assert_eq!(pieces.len(), 3);
        assert!(pieces.iter().all(|piece| piece.ends_with(b"}\n") && piece.len() <= REQUEST_BYTES));
        assert_eq!(pieces.iter().map(|piece| piece.len()).sum::<usize>(), body.len());
    }
}
