//! The log sink: one line for each event that was taken, to standard output or to a file that is rotated by size.

use crate::config::schema::LogConfig;
use crate::engine::Tapped;
use crate::telemetry::{OnChange, self_metrics};
use metrics::Counter;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Portions of lines that may wait for the disk.
pub(super) const PORTIONS: usize = 64;

/// One log with what it shows of itself.
#[derive(Debug)]
pub(super) struct Log {
    pub name: Arc<str>,
    pub config: LogConfig,
    path: Option<PathBuf>,
    written: AtomicU64,
    dropped: AtomicU64,
    /// Why it fails. Held for a copy or a store.
    error: Mutex<Option<String>>,
    failing: OnChange<bool>,
}

impl Log {
    pub fn new(name: Arc<str>, config: &LogConfig, base_dir: &Path) -> Arc<Self> {
        Arc::new(Self {
            name,
            config: config.clone(),
            path: config.file.as_ref().map(|file| base_dir.join(&file.value)),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            error: Mutex::default(),
            failing: OnChange::new(false),
        })
    }

    pub fn drop_counted(&self, reason: &'static str, count: u64) {
        self_metrics::log_dropped(&self.name, reason).increment(count);
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    pub fn status(&self) -> Value {
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        serde_json::json!({
            "name": *self.name, "kind": "log", "state": if error.is_some() { "failing" } else { "ok" },
            "pending": 0, "pending_bytes": 0, "sent": self.written.load(Ordering::Relaxed),
            "dropped": self.dropped.load(Ordering::Relaxed), "last_error": error.unwrap_or_default(),
        })
    }

    /// Writes until cancelled and nothing waits any more.
    pub async fn run(self: Arc<Self>, mut portions: mpsc::Receiver<Vec<Tapped>>, cancel: CancellationToken) {
        let lines = self_metrics::log_lines(&self.name);
        loop {
            let portion = tokio::select! {
                portion = portions.recv() => portion,
                () = cancel.cancelled() => portions.try_recv().ok(),
            };
            let Some(events) = portion else { return };
            let (log, lines) = (self.clone(), lines.clone());
            // A disk that hangs holds up this task alone.
            let _ = tokio::task::spawn_blocking(move || log.write(&events, &lines)).await;
        }
    }

    fn write(&self, events: &[Tapped], lines: &Counter) {
        let mut text = String::new();
        for event in events {
            let line = if self.config.logfmt { logfmt(event) } else { json(event) };
            text.push_str(&line);
            text.push('\n');
        }
        let outcome = match &self.path {
            None => {
                let mut out = std::io::stdout().lock();
                out.write_all(text.as_bytes()).and_then(|()| out.flush())
            }
            Some(path) => self.append(path, text.as_bytes()),
        };
        let count = events.len() as u64;
        let error = match outcome {
            Ok(()) => {
                lines.increment(count);
                self.written.fetch_add(count, Ordering::Relaxed);
                None
            }
            Err(error) => {
                self.drop_counted("write_failed", count);
                Some(error.to_string())
            }
        };
        if self.failing.set(error.is_some()) {
            match &error {
                Some(error) => tracing::error!(log = &*self.name, error, "events cannot be written; they are dropped and counted"),
                None => tracing::info!(log = &*self.name, "events are written again"),
            }
        }
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// Opened for each portion: a file that somebody moved or removed is made anew.
    fn append(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let size = std::fs::metadata(path).map_or(0, |file| file.len());
        if size > 0 && size + bytes.len() as u64 > self.config.rotate_bytes {
            self.rotate(path)?;
        }
        std::fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(bytes)
    }

    /// `x.log` becomes `x.log.1`, and so on; the oldest goes.
    fn rotate(&self, path: &Path) -> std::io::Result<()> {
        let numbered = |number: usize| PathBuf::from(format!("{}.{number}", path.display()));
        if self.config.rotate_keep == 0 {
            return std::fs::remove_file(path);
        }
        for number in (1..self.config.rotate_keep).rev() {
            if numbered(number).exists() {
                std::fs::rename(numbered(number), numbered(number + 1))?;
            }
        }
        std::fs::rename(path, numbered(1))
    }
}

/// What is written of an event: the fields that were asked for, or its attributes and itself.
fn entries(event: &Tapped) -> Vec<(&str, String)> {
    let mut entries = vec![("time", event.at.rfc3339())];
    if !event.fields.is_empty() || event.document.is_empty() {
        entries.extend(event.fields.iter().map(|(path, value)| (path.as_str(), value.clone())));
        return entries;
    }
    for (name, text) in [
        ("type", &event.event_type),
        ("source", &event.source),
        ("id", &event.id),
        ("subject", &event.subject),
        ("correlation_id", &event.correlation),
        ("trace_id", &event.trace_id),
    ] {
        if !text.is_empty() {
            entries.push((name, text.clone()));
        }
    }
    if event.failed {
        entries.push(("failed", "true".into()));
    }
    if event.duration_seconds.is_finite() {
        entries.push(("duration_seconds", event.duration_seconds.to_string()));
    }
    entries
}

fn json(event: &Tapped) -> String {
    let mut map = Map::new();
    for (name, text) in entries(event) {
        let value = match name {
            "failed" => Value::Bool(true),
            "duration_seconds" => event.duration_seconds.into(),
            _ => Value::String(text),
        };
        map.insert(name.to_owned(), value);
    }
    let mut line = Value::Object(map).to_string();
    if !event.document.is_empty() {
        // As it came, where it is JSON on one line; a text otherwise.
        let raw = serde_json::from_str::<&RawValue>(&event.document).ok().map(RawValue::get);
        let whole = match raw.filter(|raw| !raw.contains(['\n', '\r'])) {
            Some(raw) => raw.to_owned(),
            None => Value::String(event.document.clone()).to_string(),
        };
        line.pop();
        line.push_str(&format!(",\"event\":{whole}}}"));
    }
    line
}

fn logfmt(event: &Tapped) -> String {
    let mut entries = entries(event);
    if !event.document.is_empty() {
        entries.push(("event", event.document.clone()));
    }
    let pair = |(name, text): (&str, String)| {
        let plain = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '=' | '\\'));
        let name: String = name.chars().map(|c| if c.is_whitespace() || c == '=' || c == '"' { '_' } else { c }).collect();
        if plain { format!("{name}={text}") } else { format!("{name}={}", Value::String(text)) }
    };
    entries.into_iter().map(pair).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn event(document: &str, fields: &[(&str, &str)]) -> Tapped {
        Tapped {
            sink: "l".into(),
            source: "shop".into(),
            event_type: "a.b".into(),
            id: "1".into(),
            subject: String::new(),
            correlation: String::new(),
            trace_id: String::new(),
            span_id: String::new(),
            at: Timestamp::from_millis(1_500),
            duration_seconds: f64::NAN,
            failed: true,
            document: document.into(),
            fields: fields.iter().map(|(path, value)| ((*path).into(), (*value).into())).collect(),
        }
    }

    #[test]
    fn a_line_is_one_line() {
        let head = r#"{"time":"1970-01-01T00:00:01.5Z","type":"a.b","source":"shop","id":"1","failed":true,"event":"#;
        assert_eq!(json(&event(r#"{"x": 1.10}"#, &[])), format!(r#"{head}{{"x": 1.10}}}}"#), "numbers as written");
        assert_eq!(json(&event("{\"x\":\n1}", &[])), format!(r#"{head}"{{\"x\":\n1}}"}}"#));
        let line = logfmt(&event("", &[("data.name", "two words"), ("n", "5"), ("e", "")]));
        assert_eq!(line, r#"time=1970-01-01T00:00:01.5Z data.name="two words" n=5 e="""#);
    }

    #[test]
    fn files_are_rotated_by_size() {
        let dir = tempfile::tempdir().unwrap();
        let file = crate::config::Spanned::bare("x.log".to_owned());
        let config = LogConfig {
            file: Some(file),
            logfmt: false,
            selector: Default::default(),
            sample: 1.0,
            per_type: None,
            fields: Vec::new(),
            rotate_bytes: 200,
            rotate_keep: 2,
        };
        let log = Log::new("l".into(), &config, dir.path());
        let lines = self_metrics::log_lines(&log.name);
        for _ in 0..8 {
            log.write(&[event("{}", &[])], &lines);
        }
        let mut names: Vec<String> =
            std::fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["x.log", "x.log.1", "x.log.2"]);
        assert_eq!(log.status()["sent"], 8);
    }
}
