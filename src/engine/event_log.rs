//! `export: {NAME: {log: ...}}`: a structured line for each matched event. The lines are made here, where the fields are at
//! hand, and written by a task of the room `export`.

use crate::config::Diagnostics;
use crate::config::schema::EventLogConfig;
use crate::mapping::select::{FieldSource, Select};
use crate::model::{Event, EventBatch, Field, FieldPlanBuilder, Timestamp};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Lines that may wait to be taken; more are counted as dropped.
const WAITING: usize = 50_000;
/// Types whose lines are counted by second; further ones share one limit.
const TYPES: usize = 1_000;

/// One compiled log.
#[derive(Clone, Debug)]
pub struct EventLog {
    /// The configured name.
    pub name: Arc<str>,
    select: Arc<Select>,
    fields: Vec<(String, FieldSource)>,
    sample: f64,
    per_second: u64,
    logfmt: bool,
}

impl EventLog {
    /// Compiles one; `None` when something is wrong, which `found` says.
    pub fn compile(
        name: &str,
        config: &EventLogConfig,
        plan: &mut FieldPlanBuilder,
        found: &mut Diagnostics,
    ) -> Option<Self> {
        let select = Select::compile(&config.selector, plan, found)?;
        let mut fields = Vec::new();
        for path in &config.fields {
            match FieldSource::new(&path.value, plan) {
                Some(source) => fields.push((path.value.to_string(), source)),
                None => {
                    found.error(
                        &path.span,
                        format!("fields: {} asks for more fields than one plan can hold", path.value),
                    );
                    return None;
                }
            }
        }
        Some(Self {
            name: name.into(),
            select: Arc::new(select),
            fields,
            sample: config.sample,
            per_second: config.per_second,
            logfmt: config.logfmt,
        })
    }
}

/// Lines to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The log.
    pub export: Arc<str>,
    /// Without a newline.
    pub text: String,
}

/// The logs and their lines.
#[derive(Debug, Default)]
pub(super) struct EventLogs {
    logs: Arc<[EventLog]>,
    lines: Vec<LogLine>,
    dropped: BTreeMap<Arc<str>, u64>,
    /// By log and type: the second and its lines.
    seconds: BTreeMap<(usize, String), (i64, u64)>,
    /// By log: events matched so far, for sampling of those without an id.
    matched: Vec<u64>,
}

impl EventLogs {
    pub fn configure(&mut self, logs: Arc<[EventLog]>) {
        self.matched = vec![0; logs.len()];
        self.seconds.clear();
        self.logs = logs;
    }

    pub fn observe(&mut self, now: Timestamp, batch: &EventBatch) {
        let logs = self.logs.clone();
        for (at, log) in logs.iter().enumerate() {
            for (row, event) in batch.events.iter().enumerate() {
                let kind = batch.text(event.event_type);
                if log.select.matches_type(kind)
                    && log.select.matches_fields(batch, row, event)
                    && self.is_sampled(at, log, batch, event)
                    && self.has_room(at, log, kind, now)
                {
                    if self.lines.len() >= WAITING {
                        *self.dropped.entry(log.name.clone()).or_default() += 1;
                    } else {
                        let text = line(log, batch, row, event);
                        self.lines.push(LogLine { export: log.name.clone(), text });
                    }
                }
            }
        }
    }

    /// The same event is sampled alike wherever and whenever it is seen: by its id, else by its number.
    fn is_sampled(&mut self, at: usize, log: &EventLog, batch: &EventBatch, event: &Event) -> bool {
        self.matched[at] += 1;
        if log.sample >= 1.0 {
            return true;
        }
        let id = batch.text(event.id);
        let hash = if id.is_empty() { fnv(&self.matched[at].to_le_bytes()) } else { fnv(id.as_bytes()) };
        (hash >> 11) as f64 / (1_u64 << 53) as f64 <= log.sample && log.sample > 0.0
    }

    fn has_room(&mut self, at: usize, log: &EventLog, kind: &str, now: Timestamp) -> bool {
        if log.per_second == 0 {
            return true;
        }
        let second = now.millis().div_euclid(1_000);
        let full = self.seconds.len() >= TYPES;
        let key = (at, kind.to_owned());
        let key = if full && !self.seconds.contains_key(&key) { (at, String::new()) } else { key };
        let (known, count) = self.seconds.entry(key).or_insert((second, 0));
        if *known != second {
            (*known, *count) = (second, 0);
        }
        *count += 1;
        *count <= log.per_second
    }

    pub fn take(&mut self) -> (Vec<LogLine>, BTreeMap<Arc<str>, u64>) {
        (std::mem::take(&mut self.lines), std::mem::take(&mut self.dropped))
    }
}

/// FNV-1a with a final mix (Appleby's fmix64), so that every bit of the result depends on every bit of the input.
fn fnv(bytes: &[u8]) -> u64 {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

fn line(log: &EventLog, batch: &EventBatch, row: usize, event: &Event) -> String {
    let mut map = Map::new();
    let mut text = |name: &str, value: &str| {
        if !value.is_empty() {
            map.insert(name.to_owned(), value.into());
        }
    };
    text("time", &event.time.unwrap_or(batch.arrived).rfc3339());
    text("type", batch.text(event.event_type));
    text("source", batch.source_of(event));
    text("id", batch.text(event.id));
    text("subject", batch.text(event.subject));
    text("correlation", batch.text(event.correlation));
    text("severity", batch.text(event.severity));
    text("outcome", batch.text(event.outcome));
    if event.duration_seconds.is_finite() {
        map.insert("duration_seconds".into(), event.duration_seconds.into());
    }
    if event.failed {
        map.insert("failed".into(), true.into());
    }
    for (name, source) in &log.fields {
        let value = match source.field(batch, row) {
            Some(Field::Null) => Value::Null,
            Some(Field::Bool(value)) => value.into(),
            Some(Field::Number(value, digits)) => {
                serde_json::from_str(batch.text(digits)).unwrap_or_else(|_| value.into())
            }
            Some(Field::Json(json)) => {
                serde_json::from_str(batch.text(json)).unwrap_or_else(|_| batch.text(json).into())
            }
            _ => match source.text(batch, row, event) {
                Some(text) => text.into(),
                None => continue,
            },
        };
        map.insert(name.clone(), value);
    }
    if log.logfmt { logfmt(&map) } else { Value::Object(map).to_string() }
}

/// `name=value`, quoted where it must be.
fn logfmt(map: &Map<String, Value>) -> String {
    let mut out = String::new();
    for (name, value) in map {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(
            name.chars().map(|c| if c.is_whitespace() || matches!(c, '=' | '"') || c.is_control() { '_' } else { c }),
        );
        out.push('=');
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '=') || c.is_control()) {
            out.push_str(&Value::from(text).to_string());
        } else {
            out.push_str(&text);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logfmt_quotes_what_it_must() {
        let map = serde_json::json!({"a": "x", "b": "two words", "c d": 1, "e": "q\"=\n", "f": ""});
        assert_eq!(logfmt(map.as_object().unwrap()), r#"a=x b="two words" c_d=1 e="q\"=\n" f="""#);
    }

    #[test]
    fn the_hash_shares_fairly() {
        let share = |limit: f64| {
            let taken = (0..10_000_u64)
                .filter(|id| (fnv(format!("id-{id}").as_bytes()) >> 11) as f64 / (1_u64 << 53) as f64 <= limit);
            taken.count()
        };
        assert!((80..=120).contains(&share(0.01)), "{}", share(0.01));
        assert!((4_800..=5_200).contains(&share(0.5)), "{}", share(0.5));
    }
}
