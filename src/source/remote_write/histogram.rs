//! Native histograms of remote write: `Histogram` has the same fields in both protocols.

use super::RequestError;
use crate::source::scrape::NativeHistogram;
use crate::source::wire::{Reader, Value, unzigzag};

/// Buckets of one histogram at most; a description of more is damage or malice.
const BUCKETS: usize = 10_000;

/// As it stands in the message.
#[derive(Debug, Default)]
pub(super) struct Sample {
    pub t_ms: i64,
    pub start_ms: i64,
    is_float: bool,
    count: f64,
    sum: f64,
    schema: i64,
    zero_threshold: f64,
    zero_count: f64,
    spans: [Vec<(i32, u32)>; 2],
    deltas: [Vec<i64>; 2],
    counts: [Vec<f64>; 2],
    custom: Vec<f64>,
    reset_hint: u64,
}

/// A repeated whole number, packed or not.
pub(super) fn repeated_uint(value: Value<'_>, into: &mut Vec<u64>) -> Result<(), RequestError> {
    match value {
        Value::Bytes(packed) => {
            let mut reader = Reader::new(packed);
            while reader.left() > 0 {
                into.push(reader.varint()?);
            }
        }
        single => into.push(single.uint()?),
    }
    Ok(())
}

fn repeated_double(value: Value<'_>, into: &mut Vec<f64>) -> Result<(), RequestError> {
    match value {
        Value::Bytes(packed) => {
            let mut reader = Reader::new(packed);
            while reader.left() > 0 {
                into.push(reader.double()?);
            }
        }
        single => into.push(single.double()?),
    }
    Ok(())
}

fn repeated_sint(value: Value<'_>, into: &mut Vec<i64>) -> Result<(), RequestError> {
    let mut raw = Vec::new();
    repeated_uint(value, &mut raw)?;
    into.extend(raw.into_iter().map(unzigzag));
    Ok(())
}

fn span(value: Value<'_>) -> Result<(i32, u32), RequestError> {
    let (mut offset, mut length) = (0, 0);
    let mut fields = Reader::new(value.bytes()?);
    while let Some((number, value)) = fields.field()? {
        match number {
            1 => offset = i32::try_from(value.sint()?).map_err(|_| RequestError::Protobuf)?,
            2 => length = u32::try_from(value.uint()?).map_err(|_| RequestError::Protobuf)?,
            _ => {}
        }
    }
    Ok((offset, length))
}

/// Reads the message; what it says is not judged yet.
pub(super) fn read(message: &[u8]) -> Result<Sample, RequestError> {
    const NEGATIVE: usize = 0;
    const POSITIVE: usize = 1;
    let mut sample = Sample::default();
    let mut fields = Reader::new(message);
    while let Some((number, value)) = fields.field()? {
        match number {
            1 => sample.count = value.uint()? as f64,
            2 => (sample.count, sample.is_float) = (value.double()?, true),
            3 => sample.sum = value.double()?,
            4 => sample.schema = value.sint()?,
            5 => sample.zero_threshold = value.double()?,
            6 => sample.zero_count = value.uint()? as f64,
            7 => sample.zero_count = value.double()?,
            8 => sample.spans[NEGATIVE].push(span(value)?),
            9 => repeated_sint(value, &mut sample.deltas[NEGATIVE])?,
            10 => repeated_double(value, &mut sample.counts[NEGATIVE])?,
            11 => sample.spans[POSITIVE].push(span(value)?),
            12 => repeated_sint(value, &mut sample.deltas[POSITIVE])?,
            13 => repeated_double(value, &mut sample.counts[POSITIVE])?,
            14 => sample.reset_hint = value.uint()?,
            15 => sample.t_ms = value.uint()?.cast_signed(),
            16 => repeated_double(value, &mut sample.custom)?,
            17 => sample.start_ms = value.uint()?.cast_signed(),
            _ => {}
        }
    }
    Ok(sample)
}

impl Sample {
    /// The histogram with counts of buckets in absolute numbers, judged as `histogram.Validate` of Prometheus does.
    pub fn native(&self) -> Result<NativeHistogram, String> {
        let custom = self.schema == -53;
        if !custom && !(-4..=8).contains(&self.schema) {
            return Err(format!("a histogram has schema {}; known are -4 to 8 and -53", self.schema));
        }
        if custom && (!self.spans[0].is_empty() || self.zero_count != 0.0) {
            return Err("a histogram with custom bounds has negative or zero buckets".into());
        }
        if custom && !self.custom.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err("the custom bounds of a histogram do not rise".into());
        }
        // The end of a series is a histogram whose sum is the stale NaN; it has no buckets.
        let [negative, positive] = [self.buckets(0)?, self.buckets(1)?];
        if custom {
            let reach =
                self.spans[1].iter().map(|(offset, length)| i64::from(*offset) + i64::from(*length)).sum::<i64>();
            if reach > self.custom.len() as i64 + 1 {
                return Err("a histogram has more buckets than custom bounds".into());
            }
        }
        let all: f64 = self.zero_count + negative.iter().chain(&positive).sum::<f64>();
        let fits = if self.sum.is_nan() { self.count >= all } else { self.count == all };
        if !self.is_float && !fits {
            return Err(format!("a histogram's count is {} and its buckets hold {all}", self.count));
        }
        if self.count < 0.0 || self.zero_count < 0.0 {
            return Err("a histogram has a negative count".into());
        }
        Ok(NativeHistogram {
            schema: self.schema as i32,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum,
            positive_spans: self.spans[1].clone(),
            negative_spans: self.spans[0].clone(),
            positive,
            negative,
            custom_bounds: self.custom.clone(),
            gauge: self.reset_hint == 3,
        })
    }

    fn buckets(&self, side: usize) -> Result<Vec<f64>, String> {
        let (spans, deltas, counts) = (&self.spans[side], &self.deltas[side], &self.counts[side]);
        let described: u64 = spans.iter().map(|(_, length)| u64::from(*length)).sum();
        if described > BUCKETS as u64 {
            return Err(format!("a histogram has {described} buckets, at most {BUCKETS} are taken"));
        }
        if spans.iter().skip(1).any(|(offset, _)| *offset < 0) {
            return Err("a histogram's span goes backwards".into());
        }
        let buckets: Vec<f64> = if self.is_float {
            counts.clone()
        } else {
            let mut count = 0_i64;
            deltas
                .iter()
                .map(|delta| {
                    count = count.wrapping_add(*delta);
                    count as f64
                })
                .collect()
        };
        if buckets.len() as u64 != described {
            return Err(format!("a histogram's spans describe {described} buckets, it has {}", buckets.len()));
        }
        if buckets.iter().any(|count| *count < 0.0) {
            return Err("a histogram has a negative bucket".into());
        }
        Ok(buckets)
    }
}
