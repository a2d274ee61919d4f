//! OTLP log records and spans as events of the stream: one JSON document a line, in the form that everybody may write.

use super::model::{Attributes, LogRecord, Resource, Scope, Span, text};
use super::values;
use crate::model::Timestamp;
use serde_json::{Map, Value};

/// Documents with what was not made into one.
#[derive(Debug, Default)]
pub struct Documents {
    /// One a line.
    pub lines: Vec<u8>,
    /// How many.
    pub count: usize,
}

impl Documents {
    fn push(&mut self, document: Map<String, Value>) {
        // A map of JSON values is always JSON.
        if serde_json::to_writer(&mut self.lines, &document).is_ok() {
            self.lines.push(b'\n');
            self.count += 1;
        }
    }
}

/// Log records: the type is the event's name, or `log.` and the severity.
pub fn logs(resources: &[Resource<LogRecord>]) -> Documents {
    let mut out = Documents::default();
    for resource in resources {
        let about = values::object(&resource.attributes);
        for scope in &resource.scopes {
            for record in &scope.items {
                out.push(log(resource, &about, scope, record));
            }
        }
    }
    out
}

/// `trace` to `fatal`, from the number (SeverityNumber 1 to 24) or else from the text.
fn severity(record: &LogRecord) -> Option<String> {
    const WORDS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "fatal"];
    let at = usize::try_from(record.severity_number - 1).ok().map(|number| number / 4);
    let word = at.and_then(|at| WORDS.get(at)).map(|word| (*word).to_owned());
    word.or_else(|| {
        let word = record.severity_text.trim().to_ascii_lowercase();
        (!word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(word)
    })
}

fn log(
    resource: &Resource<LogRecord>,
    about: &Map<String, Value>,
    scope: &Scope<LogRecord>,
    record: &LogRecord,
) -> Map<String, Value> {
    let severity = severity(record);
    let name = Some(record.event_name.as_str()).filter(|name| !name.is_empty());
    let name = name.or_else(|| text(&record.attributes, "event.name").filter(|name| !name.is_empty()));
    let kind = match (name, &severity) {
        (Some(name), _) => name.to_owned(),
        (None, Some(severity)) => format!("log.{severity}"),
        (None, None) => "log".to_owned(),
    };
    let mut document = head(kind, &resource.attributes);
    let nano = if record.time_unix_nano > 0 { record.time_unix_nano } else { record.observed_time_unix_nano };
    time(&mut document, nano);
    if let Some(severity) = severity {
        document.insert("severity".into(), severity.into());
    }
    ids(&mut document, &record.trace_id, &record.span_id);
    let mut data = Map::new();
    data.insert("body".into(), values::json(&record.body));
    if record.severity_number != 0 {
        data.insert("severity_number".into(), record.severity_number.into());
    }
    if !record.severity_text.is_empty() {
        data.insert("severity_text".into(), record.severity_text.as_str().into());
    }
    tail(document, data, &record.attributes, about, &scope.name)
}

/// Spans: the type is the span's name; one that ended with an error has failed.
pub fn spans(resources: &[Resource<Span>]) -> Documents {
    let mut out = Documents::default();
    for resource in resources {
        let about = values::object(&resource.attributes);
        for scope in &resource.scopes {
            for span in &scope.items {
                out.push(one_span(resource, &about, scope, span));
            }
        }
    }
    out
}

fn one_span(
    resource: &Resource<Span>,
    about: &Map<String, Value>,
    scope: &Scope<Span>,
    span: &Span,
) -> Map<String, Value> {
    const KINDS: [&str; 6] = ["unspecified", "internal", "server", "client", "producer", "consumer"];
    const STATUSES: [&str; 3] = ["unset", "ok", "error"];
    let name = if span.name.is_empty() { "span".to_owned() } else { span.name.clone() };
    let mut document = head(name, &resource.attributes);
    // What it reports is over now: the end is when it happened.
    time(&mut document, span.end_time_unix_nano);
    ids(&mut document, &span.trace_id, &span.span_id);
    if span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 0 {
        document.insert("duration_ns".into(), (span.end_time_unix_nano - span.start_time_unix_nano).into());
    }
    let word = |words: &[&'static str], number: i64| {
        usize::try_from(number).ok().and_then(|at| words.get(at)).copied().unwrap_or("unknown")
    };
    document.insert("status".into(), word(&STATUSES, span.status_code).into());
    let mut data = Map::new();
    data.insert("kind".into(), word(&KINDS, span.kind).into());
    if !span.status_message.is_empty() {
        data.insert("status_message".into(), span.status_message.as_str().into());
    }
    if !span.parent_span_id.is_empty() {
        data.insert("parent_span_id".into(), values::hex(&span.parent_span_id).into());
    }
    if !span.events.is_empty() {
        let one = |event: &super::model::SpanEvent| {
            let mut fields = Map::new();
            fields.insert("name".into(), event.name.as_str().into());
            time(&mut fields, event.time_unix_nano);
            fields.insert("attributes".into(), values::object(&event.attributes).into());
            Value::from(fields)
        };
        data.insert("events".into(), span.events.iter().map(one).collect::<Vec<Value>>().into());
    }
    tail(document, data, &span.attributes, about, &scope.name)
}

fn head(kind: String, resource: &Attributes) -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("type".into(), kind.into());
    if let Some(service) = text(resource, "service.name").filter(|name| !name.is_empty()) {
        document.insert("source".into(), service.into());
    }
    document
}

fn tail(
    mut document: Map<String, Value>,
    mut data: Map<String, Value>,
    attributes: &Attributes,
    about: &Map<String, Value>,
    scope: &str,
) -> Map<String, Value> {
    data.insert("attributes".into(), values::object(attributes).into());
    data.insert("resource".into(), about.clone().into());
    if !scope.is_empty() {
        data.insert("scope".into(), scope.into());
    }
    document.insert("data".into(), data.into());
    document
}

fn time(document: &mut Map<String, Value>, nano: u64) {
    if let (1.., Ok(micros)) = (nano, i64::try_from(nano / 1_000)) {
        document.insert("time".into(), Timestamp::from_micros(micros).rfc3339().into());
    }
}

fn ids(document: &mut Map<String, Value>, trace_id: &[u8], span_id: &[u8]) {
    for (name, id) in [("trace_id", trace_id), ("span_id", span_id)] {
        // All zeros mean none.
        if id.iter().any(|byte| *byte != 0) {
            document.insert(name.into(), values::hex(id).into());
        }
    }
}
