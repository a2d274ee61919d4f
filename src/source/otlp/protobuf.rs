//! OTLP requests in Protocol Buffers. The numbers of the fields are those of opentelemetry-proto; the three requests have
//! the same frame: resources, scopes, items.

use super::model::{
    Any, Attributes, Buckets, Data, Exemplar, ExponentialPoint, HistogramPoint, LogRecord, Metric, NumberPoint,
    Resource, Scope, Span, SpanEvent, SummaryPoint, Temporality,
};
use crate::source::wire::{Damaged, Reader, Value};

/// Values within values; deeper ones are refused.
const DEPTH: usize = 64;
/// Buckets of one point.
const BUCKETS: usize = 100_000;

type Read<T> = Result<T, Damaged>;

/// Reads a request whose items `item` reads.
pub fn request<T>(body: &[u8], item: impl Fn(&[u8]) -> Read<T> + Copy) -> Read<Vec<Resource<T>>> {
    let mut resources = Vec::new();
    fields(body, |number, value| {
        if number == 1 {
            resources.push(resource(value.bytes()?, item)?);
        }
        Ok(())
    })?;
    Ok(resources)
}

fn fields<'a>(message: &'a [u8], mut each: impl FnMut(u32, Value<'a>) -> Read<()>) -> Read<()> {
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        each(number, value)?;
    }
    Ok(())
}

fn resource<T>(message: &[u8], item: impl Fn(&[u8]) -> Read<T> + Copy) -> Read<Resource<T>> {
    let mut out = Resource::default();
    fields(message, |number, value| {
        match number {
            1 => fields(value.bytes()?, |number, value| {
                if number == 1 {
                    out.attributes.push(key_value(value.bytes()?, 0)?);
                }
                Ok(())
            })?,
            2 => out.scopes.push(scope(value.bytes()?, item)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn scope<T>(message: &[u8], item: impl Fn(&[u8]) -> Read<T>) -> Read<Scope<T>> {
    let mut out = Scope::default();
    fields(message, |number, value| {
        match number {
            1 => fields(value.bytes()?, |number, value| {
                match number {
                    1 => value.text()?.clone_into(&mut out.name),
                    2 => value.text()?.clone_into(&mut out.version),
                    _ => {}
                }
                Ok(())
            })?,
            2 => out.items.push(item(value.bytes()?)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn key_value(message: &[u8], depth: usize) -> Read<(String, Any)> {
    let mut out = (String::new(), Any::None);
    fields(message, |number, value| {
        match number {
            1 => value.text()?.clone_into(&mut out.0),
            2 => out.1 = any(value.bytes()?, depth + 1)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn any(message: &[u8], depth: usize) -> Read<Any> {
    if depth > DEPTH {
        return Err(Damaged);
    }
    let mut out = Any::None;
    fields(message, |number, value| {
        out = match number {
            1 => Any::Text(value.text()?.to_owned()),
            2 => Any::Bool(value.uint()? != 0),
            3 => Any::Int(value.uint()?.cast_signed()),
            4 => Any::Double(value.double()?),
            5 => {
                let mut list = Vec::new();
                fields(value.bytes()?, |number, value| {
                    if number == 1 {
                        list.push(any(value.bytes()?, depth + 1)?);
                    }
                    Ok(())
                })?;
                Any::List(list)
            }
            6 => {
                let mut map = Attributes::new();
                fields(value.bytes()?, |number, value| {
                    if number == 1 {
                        map.push(key_value(value.bytes()?, depth + 1)?);
                    }
                    Ok(())
                })?;
                Any::Map(map)
            }
            7 => Any::Bytes(value.bytes()?.to_vec()),
            _ => return Ok(()),
        };
        Ok(())
    })?;
    Ok(out)
}

/// fixed64.
fn fixed(value: Value<'_>) -> Read<u64> {
    match value {
        Value::Fixed64(bits) => Ok(bits),
        _ => Err(Damaged),
    }
}

/// fixed32 or a varint: `flags` is either in different messages.
fn flags(value: Value<'_>) -> Read<u64> {
    match value {
        Value::Fixed32(bits) => Ok(u64::from(bits)),
        other => other.uint(),
    }
}

/// fixed64 words, packed or one by one.
fn words(value: Value<'_>, into: &mut Vec<u64>) -> Read<()> {
    match value {
        Value::Fixed64(bits) => into.push(bits),
        Value::Bytes(packed) if packed.len() % 8 == 0 => {
            into.extend(packed.chunks_exact(8).filter_map(|word| word.try_into().ok()).map(u64::from_le_bytes));
        }
        _ => return Err(Damaged),
    }
    if into.len() > BUCKETS { Err(Damaged) } else { Ok(()) }
}

/// A log record.
pub fn log_record(message: &[u8]) -> Read<LogRecord> {
    let mut out = LogRecord::default();
    fields(message, |number, value| {
        match number {
            1 => out.time_unix_nano = fixed(value)?,
            2 => out.severity_number = value.uint()?.cast_signed(),
            3 => value.text()?.clone_into(&mut out.severity_text),
            5 => out.body = any(value.bytes()?, 0)?,
            6 => out.attributes.push(key_value(value.bytes()?, 0)?),
            9 => out.trace_id = value.bytes()?.to_vec(),
            10 => out.span_id = value.bytes()?.to_vec(),
            11 => out.observed_time_unix_nano = fixed(value)?,
            12 => value.text()?.clone_into(&mut out.event_name),
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

/// A span.
pub fn span(message: &[u8]) -> Read<Span> {
    let mut out = Span::default();
    fields(message, |number, value| {
        match number {
            1 => out.trace_id = value.bytes()?.to_vec(),
            2 => out.span_id = value.bytes()?.to_vec(),
            4 => out.parent_span_id = value.bytes()?.to_vec(),
            5 => value.text()?.clone_into(&mut out.name),
            6 => out.kind = value.uint()?.cast_signed(),
            7 => out.start_time_unix_nano = fixed(value)?,
            8 => out.end_time_unix_nano = fixed(value)?,
            9 => out.attributes.push(key_value(value.bytes()?, 0)?),
            11 => {
                let mut event = SpanEvent::default();
                fields(value.bytes()?, |number, value| {
                    match number {
                        1 => event.time_unix_nano = fixed(value)?,
                        2 => value.text()?.clone_into(&mut event.name),
                        3 => event.attributes.push(key_value(value.bytes()?, 0)?),
                        _ => {}
                    }
                    Ok(())
                })?;
                out.events.push(event);
            }
            15 => fields(value.bytes()?, |number, value| {
                match number {
                    2 => value.text()?.clone_into(&mut out.status_message),
                    3 => out.status_code = value.uint()?.cast_signed(),
                    _ => {}
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

/// A metric with its points.
pub fn metric(message: &[u8]) -> Read<Metric> {
    let mut out = Metric::default();
    fields(message, |number, value| {
        match number {
            1 => value.text()?.clone_into(&mut out.name),
            2 => value.text()?.clone_into(&mut out.description),
            3 => value.text()?.clone_into(&mut out.unit),
            5 => out.data = Data::Gauge(points(value.bytes()?, number_point)?.0),
            7 => {
                let (points, temporality, monotonic) = points(value.bytes()?, number_point)?;
                out.data = Data::Sum(points, temporality, monotonic);
            }
            9 => {
                let (points, temporality, _) = points(value.bytes()?, histogram_point)?;
                out.data = Data::Histogram(points, temporality);
            }
            10 => {
                let (points, temporality, _) = points(value.bytes()?, exponential_point)?;
                out.data = Data::Exponential(points, temporality);
            }
            11 => out.data = Data::Summary(points(value.bytes()?, summary_point)?.0),
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn points<T>(message: &[u8], point: impl Fn(&[u8]) -> Read<T>) -> Read<(Vec<T>, Temporality, bool)> {
    let mut out = (Vec::new(), Temporality::Unspecified, false);
    fields(message, |number, value| {
        match number {
            1 => out.0.push(point(value.bytes()?)?),
            2 => out.1 = Temporality::of(value.uint()?.cast_signed()),
            3 => out.2 = value.uint()? != 0,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn number_point(message: &[u8]) -> Read<NumberPoint> {
    let mut out = NumberPoint::default();
    fields(message, |number, value| {
        match number {
            2 => out.point.start_time_unix_nano = fixed(value)?,
            3 => out.point.time_unix_nano = fixed(value)?,
            4 => out.value = value.double()?,
            5 => out.point.exemplars.push(exemplar(value.bytes()?)?),
            6 => out.value = fixed(value)?.cast_signed() as f64,
            7 => out.point.attributes.push(key_value(value.bytes()?, 0)?),
            8 => out.point.flags = flags(value)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn exemplar(message: &[u8]) -> Read<Exemplar> {
    let mut out = Exemplar::default();
    fields(message, |number, value| {
        match number {
            2 => out.time_unix_nano = fixed(value)?,
            3 => out.value = value.double()?,
            4 => out.span_id = value.bytes()?.to_vec(),
            5 => out.trace_id = value.bytes()?.to_vec(),
            6 => out.value = fixed(value)?.cast_signed() as f64,
            7 => out.attributes.push(key_value(value.bytes()?, 0)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn histogram_point(message: &[u8]) -> Read<HistogramPoint> {
    let mut out = HistogramPoint::default();
    let mut bounds = Vec::new();
    fields(message, |number, value| {
        match number {
            2 => out.point.start_time_unix_nano = fixed(value)?,
            3 => out.point.time_unix_nano = fixed(value)?,
            4 => out.count = fixed(value)?,
            5 => out.sum = Some(value.double()?),
            6 => words(value, &mut out.bucket_counts)?,
            7 => words(value, &mut bounds)?,
            8 => out.point.exemplars.push(exemplar(value.bytes()?)?),
            9 => out.point.attributes.push(key_value(value.bytes()?, 0)?),
            10 => out.point.flags = flags(value)?,
            _ => {}
        }
        Ok(())
    })?;
    out.explicit_bounds = bounds.into_iter().map(f64::from_bits).collect();
    Ok(out)
}

fn exponential_point(message: &[u8]) -> Read<ExponentialPoint> {
    let mut out = ExponentialPoint::default();
    fields(message, |number, value| {
        match number {
            1 => out.point.attributes.push(key_value(value.bytes()?, 0)?),
            2 => out.point.start_time_unix_nano = fixed(value)?,
            3 => out.point.time_unix_nano = fixed(value)?,
            4 => out.count = fixed(value)?,
            5 => out.sum = Some(value.double()?),
            6 => out.scale = i32::try_from(value.sint()?).map_err(|_| Damaged)?,
            7 => out.zero_count = fixed(value)?,
            8 => out.positive = buckets(value.bytes()?)?,
            9 => out.negative = buckets(value.bytes()?)?,
            10 => out.point.flags = flags(value)?,
            11 => out.point.exemplars.push(exemplar(value.bytes()?)?),
            14 => out.zero_threshold = value.double()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn buckets(message: &[u8]) -> Read<Buckets> {
    let mut out = Buckets::default();
    fields(message, |number, value| {
        match (number, value) {
            (1, value) => out.offset = i32::try_from(value.sint()?).map_err(|_| Damaged)?,
            (2, Value::Varint(count)) => out.bucket_counts.push(count),
            (2, value) => {
                let mut packed = Reader::new(value.bytes()?);
                while packed.left() > 0 {
                    out.bucket_counts.push(packed.varint()?);
                }
            }
            _ => {}
        }
        if out.bucket_counts.len() > BUCKETS { Err(Damaged) } else { Ok(()) }
    })?;
    Ok(out)
}

fn summary_point(message: &[u8]) -> Read<SummaryPoint> {
    let mut out = SummaryPoint::default();
    fields(message, |number, value| {
        match number {
            2 => out.point.start_time_unix_nano = fixed(value)?,
            3 => out.point.time_unix_nano = fixed(value)?,
            4 => out.count = fixed(value)?,
            5 => out.sum = value.double()?,
            6 => {
                let mut pair = (0.0, 0.0);
                fields(value.bytes()?, |number, value| {
                    match number {
                        1 => pair.0 = value.double()?,
                        2 => pair.1 = value.double()?,
                        _ => {}
                    }
                    Ok(())
                })?;
                out.quantiles.push(pair);
            }
            7 => out.point.attributes.push(key_value(value.bytes()?, 0)?),
            8 => out.point.flags = flags(value)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}
