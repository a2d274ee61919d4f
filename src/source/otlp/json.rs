//! OTLP requests in JSON (OTLP 1.x, "JSON Protobuf Encoding"): names in lowerCamelCase, 64-bit numbers as texts or
//! numbers, enums as numbers, trace and span ids in hex, unknown names ignored. A mistake is said with its path.

use super::model::{
    Any, Attributes, Buckets, Data, Exemplar, ExponentialPoint, HistogramPoint, LogRecord, Metric, NumberPoint, Point,
    Resource, Scope, Span, SpanEvent, SummaryPoint, Temporality,
};
use base64::Engine as _;
use serde_json::{Map, Value};
use std::fmt::Write;

/// What is wrong, and where in the document.
type Read<T> = Result<T, String>;

/// An object and the way to it.
#[derive(Clone, Copy)]
struct At<'a> {
    fields: &'a Map<String, Value>,
    up: Option<&'a At<'a>>,
    name: &'a str,
    index: Option<usize>,
}

/// Reads a request: `names` are those of its three levels.
pub fn request<T>(
    body: &[u8],
    names: [&str; 3],
    item: impl Fn(&Entry<'_>) -> Read<T> + Copy,
) -> Read<Vec<Resource<T>>> {
    let document: Value = serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(fields) = &document else { return Err("the request is no JSON object".into()) };
    let root = Entry(At { fields, up: None, name: "", index: None });
    root.each(names[0], |resource| {
        let mut out = Resource::default();
        if let Some(described) = resource.object("resource")? {
            out.attributes = described.attributes("attributes")?;
        }
        out.scopes = resource.each(names[1], |scope| {
            let mut out = Scope::default();
            if let Some(described) = scope.object("scope")? {
                (out.name, out.version) = (described.text("name")?, described.text("version")?);
            }
            out.items = scope.each(names[2], item)?;
            Ok(out)
        })?;
        Ok(out)
    })
}

/// One object of the document.
#[derive(Clone, Copy)]
pub struct Entry<'a>(At<'a>);

impl<'a> Entry<'a> {
    fn path(&self, field: &str) -> String {
        let mut steps = Vec::new();
        let mut at = Some(&self.0);
        while let Some(step) = at {
            steps.push((step.name, step.index));
            at = step.up;
        }
        let mut path = String::new();
        for (name, index) in steps.into_iter().rev().filter(|(name, _)| !name.is_empty()) {
            let _ = match index {
                Some(index) => write!(path, "{name}[{index}]."),
                None => write!(path, "{name}."),
            };
        }
        path + field
    }

    fn wrong<T>(&self, field: &str, expected: &str) -> Read<T> {
        Err(format!("{}: expected {expected}", self.path(field)))
    }

    fn get(&self, field: &str) -> Option<&'a Value> {
        self.0.fields.get(field).filter(|value| !value.is_null())
    }

    fn object<'b>(&'b self, field: &'b str) -> Read<Option<Entry<'b>>>
    where
        'a: 'b,
    {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Entry(At { fields, up: Some(&self.0), name: field, index: None }))),
            Some(_) => self.wrong(field, "an object"),
        }
    }

    fn each<T>(&self, field: &str, mut read: impl FnMut(&Entry<'_>) -> Read<T>) -> Read<Vec<T>> {
        let Some(value) = self.get(field) else { return Ok(Vec::new()) };
        let Value::Array(items) = value else { return self.wrong(field, "an array") };
        let mut out = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let Value::Object(fields) = item else { return self.wrong(&format!("{field}[{index}]"), "an object") };
            out.push(read(&Entry(At { fields, up: Some(&self.0), name: field, index: Some(index) }))?);
        }
        Ok(out)
    }

    fn text(&self, field: &str) -> Read<String> {
        match self.get(field) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => self.wrong(field, "a text"),
        }
    }

    fn bool(&self, field: &str) -> Read<bool> {
        match self.get(field) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(_) => self.wrong(field, "true or false"),
        }
    }

    fn double(&self, field: &str) -> Read<Option<f64>> {
        match self.get(field) {
            None => Ok(None),
            Some(value) => double(value).map_or_else(|| self.wrong(field, "a number"), |value| Ok(Some(value))),
        }
    }

    fn uint(&self, field: &str) -> Read<u64> {
        match self.get(field) {
            None => Ok(0),
            Some(value) => uint(value).map_or_else(|| self.wrong(field, "a whole number"), Ok),
        }
    }

    fn int(&self, field: &str) -> Read<i64> {
        match self.get(field) {
            None => Ok(0),
            Some(value) => int(value).map_or_else(|| self.wrong(field, "a whole number"), Ok),
        }
    }

    fn int32(&self, field: &str) -> Read<i32> {
        self.int(field).and_then(|value| i32::try_from(value).or_else(|_| self.wrong(field, "a 32-bit number")))
    }

    /// An enum: its number, or (leniently) its name, which ends in one of the words.
    fn word(&self, field: &str, words: &[(&str, i64)]) -> Read<i64> {
        match self.get(field) {
            Some(Value::String(name)) => match words.iter().find(|(word, _)| name.ends_with(word)) {
                Some((_, number)) => Ok(*number),
                None => self.int(field),
            },
            _ => self.int(field),
        }
    }

    fn hex(&self, field: &str) -> Read<Vec<u8>> {
        let text = self.text(field)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        if text.len() % 2 != 0 {
            return self.wrong(field, "hex digits");
        }
        let bytes: Option<Vec<u8>> =
            text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
        bytes.map_or_else(|| self.wrong(field, "hex digits"), Ok)
    }

    fn numbers<T>(&self, field: &str, read: impl Fn(&Value) -> Option<T>) -> Read<Vec<T>> {
        let Some(value) = self.get(field) else { return Ok(Vec::new()) };
        let read = value.as_array().and_then(|items| items.iter().map(read).collect());
        read.map_or_else(|| self.wrong(field, "an array of numbers"), Ok)
    }

    fn attributes(&self, field: &str) -> Read<Attributes> {
        self.each(field, |entry| {
            let value = entry.object("value")?.map_or(Ok(Any::None), |value| value.any())?;
            Ok((entry.text("key")?, value))
        })
    }

    fn any(&self) -> Read<Any> {
        let Some((name, value)) = self.0.fields.iter().find(|(name, _)| name.ends_with("Value")) else {
            return Ok(Any::None);
        };
        Ok(match name.as_str() {
            "stringValue" => Any::Text(self.text(name)?),
            "boolValue" => Any::Bool(self.bool(name)?),
            "intValue" => Any::Int(self.int(name)?),
            "doubleValue" => Any::Double(self.double(name)?.unwrap_or_default()),
            "bytesValue" => match value.as_str().map(|text| base64::engine::general_purpose::STANDARD.decode(text)) {
                Some(Ok(bytes)) => Any::Bytes(bytes),
                _ => return self.wrong(name, "base64"),
            },
            "arrayValue" => Any::List(match self.object(name)? {
                Some(list) => list.each("values", |value| value.any())?,
                None => Vec::new(),
            }),
            "kvlistValue" => Any::Map(match self.object(name)? {
                Some(map) => map.attributes("values")?,
                None => Attributes::new(),
            }),
            _ => Any::None,
        })
    }

    fn point(&self) -> Read<Point> {
        Ok(Point {
            attributes: self.attributes("attributes")?,
            start_time_unix_nano: self.uint("startTimeUnixNano")?,
            time_unix_nano: self.uint("timeUnixNano")?,
            flags: self.uint("flags")?,
            exemplars: self.each("exemplars", |entry| {
                Ok(Exemplar {
                    attributes: entry.attributes("filteredAttributes")?,
                    time_unix_nano: entry.uint("timeUnixNano")?,
                    value: entry.value()?,
                    trace_id: entry.hex("traceId")?,
                    span_id: entry.hex("spanId")?,
                })
            })?,
        })
    }

    /// `asInt` or `asDouble`.
    fn value(&self) -> Read<f64> {
        match self.get("asInt") {
            Some(_) => self.int("asInt").map(|value| value as f64),
            None => self.double("asDouble").map(Option::unwrap_or_default),
        }
    }

    fn temporality(&self) -> Read<Temporality> {
        self.word("aggregationTemporality", &[("DELTA", 1), ("CUMULATIVE", 2), ("UNSPECIFIED", 0)]).map(Temporality::of)
    }

    fn buckets(&self, field: &str) -> Read<Buckets> {
        let Some(side) = self.object(field)? else { return Ok(Buckets::default()) };
        Ok(Buckets { offset: side.int32("offset")?, bucket_counts: side.numbers("bucketCounts", uint)? })
    }
}

/// Whole numbers come as texts, or as numbers.
fn uint(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn int(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// `NaN`, `Infinity` and `-Infinity` are texts (Protocol Buffers, "ProtoJSON").
fn double(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

/// A log record.
pub fn log_record(entry: &Entry<'_>) -> Read<LogRecord> {
    Ok(LogRecord {
        time_unix_nano: entry.uint("timeUnixNano")?,
        observed_time_unix_nano: entry.uint("observedTimeUnixNano")?,
        severity_number: entry.word("severityNumber", &SEVERITIES)?,
        severity_text: entry.text("severityText")?,
        body: entry.object("body")?.map_or(Ok(Any::None), |body| body.any())?,
        attributes: entry.attributes("attributes")?,
        trace_id: entry.hex("traceId")?,
        span_id: entry.hex("spanId")?,
        event_name: entry.text("eventName")?,
    })
}

const SEVERITIES: [(&str, i64); 6] =
    [("TRACE", 1), ("DEBUG", 5), ("INFO", 9), ("WARN", 13), ("ERROR", 17), ("FATAL", 21)];

/// A span.
pub fn span(entry: &Entry<'_>) -> Read<Span> {
    let mut out = Span {
        trace_id: entry.hex("traceId")?,
        span_id: entry.hex("spanId")?,
        parent_span_id: entry.hex("parentSpanId")?,
        name: entry.text("name")?,
        kind: entry.word(
            "kind",
            &[("INTERNAL", 1), ("SERVER", 2), ("CLIENT", 3), ("PRODUCER", 4), ("CONSUMER", 5), ("UNSPECIFIED", 0)],
        )?,
        start_time_unix_nano: entry.uint("startTimeUnixNano")?,
        end_time_unix_nano: entry.uint("endTimeUnixNano")?,
        attributes: entry.attributes("attributes")?,
        ..Span::default()
    };
    out.events = entry.each("events", |event| {
        Ok(SpanEvent {
            time_unix_nano: event.uint("timeUnixNano")?,
            name: event.text("name")?,
            attributes: event.attributes("attributes")?,
        })
    })?;
    if let Some(status) = entry.object("status")? {
        out.status_message = status.text("message")?;
        out.status_code = status.word("code", &[("UNSET", 0), ("OK", 1), ("ERROR", 2)])?;
    }
    Ok(out)
}

/// A metric with its points.
pub fn metric(entry: &Entry<'_>) -> Read<Metric> {
    let mut out = Metric {
        name: entry.text("name")?,
        description: entry.text("description")?,
        unit: entry.text("unit")?,
        data: Data::Unknown,
    };
    let number = |point: &Entry<'_>| Ok(NumberPoint { point: point.point()?, value: point.value()? });
    if let Some(gauge) = entry.object("gauge")? {
        out.data = Data::Gauge(gauge.each("dataPoints", number)?);
    } else if let Some(sum) = entry.object("sum")? {
        out.data = Data::Sum(sum.each("dataPoints", number)?, sum.temporality()?, sum.bool("isMonotonic")?);
    } else if let Some(histogram) = entry.object("histogram")? {
        let points = histogram.each("dataPoints", |point| {
            Ok(HistogramPoint {
                point: point.point()?,
                count: point.uint("count")?,
                sum: point.double("sum")?,
                bucket_counts: point.numbers("bucketCounts", uint)?,
                explicit_bounds: point.numbers("explicitBounds", double)?,
            })
        })?;
        out.data = Data::Histogram(points, histogram.temporality()?);
    } else if let Some(histogram) = entry.object("exponentialHistogram")? {
        let points = histogram.each("dataPoints", |point| {
            Ok(ExponentialPoint {
                point: point.point()?,
                count: point.uint("count")?,
                sum: point.double("sum")?,
                scale: point.int32("scale")?,
                zero_count: point.uint("zeroCount")?,
                zero_threshold: point.double("zeroThreshold")?.unwrap_or_default(),
                positive: point.buckets("positive")?,
                negative: point.buckets("negative")?,
            })
        })?;
        out.data = Data::Exponential(points, histogram.temporality()?);
    } else if let Some(summary) = entry.object("summary")? {
        out.data = Data::Summary(summary.each("dataPoints", |point| {
            let quantiles = point.each("quantileValues", |pair| {
                Ok((pair.double("quantile")?.unwrap_or_default(), pair.double("value")?.unwrap_or_default()))
            })?;
            Ok(SummaryPoint {
                point: point.point()?,
                count: point.uint("count")?,
                sum: point.double("sum")?.unwrap_or_default(),
                quantiles,
            })
        })?);
    }
    Ok(out)
}
