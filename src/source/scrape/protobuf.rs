//! The protobuf exposition: messages `io.prometheus.client.MetricFamily` (metrics.proto of prometheus/client_model), each
//! behind its length.

use super::batch::NativeHistogram;
use super::cache::{Reason, Sampled, SeriesCache};
use super::relabel::LabelBuilder;
use crate::model::METRIC_NAME;
use crate::source::wire::{Damaged, Reader, Value};

const DAMAGED: Reason = "a message is damaged";
const BAD_HISTOGRAM: Reason = "a native histogram contradicts itself";

impl From<Damaged> for BadMessage {
    fn from(_: Damaged) -> Self {
        Self { family: 0, name: String::new(), reason: DAMAGED }
    }
}

impl From<Reason> for BadMessage {
    fn from(reason: Reason) -> Self {
        Self { family: 0, name: String::new(), reason }
    }
}

/// A message that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadMessage {
    /// Which family, from 1.
    pub family: usize,
    /// Its name as far as it is known.
    pub name: String,
    pub reason: Reason,
}

type Read<T> = Result<T, BadMessage>;

/// Reads a whole exposition. With `convert` classic histograms become native ones with custom bounds.
pub(super) fn parse(body: &[u8], convert: bool, into: &mut SeriesCache) -> Result<(), BadMessage> {
    let mut stream = Reader::new(body);
    let mut scratch = Scratch::default();
    let mut number = 0;
    while stream.left() > 0 {
        number += 1;
        let name = |name: &str| name.chars().take(100).collect();
        let mut family = Family::default();
        let outcome = match stream.delimited() {
            Ok(message) => family.read(message).and_then(|()| family.emit(message, convert, &mut scratch, into)),
            Err(damaged) => Err(damaged.into()),
        };
        outcome.map_err(|bad| BadMessage { family: number, name: name(family.name), ..bad })?;
    }
    Ok(())
}

/// The name of a type in metrics.proto, as OpenMetrics has it.
const KINDS: [&str; 6] = ["counter", "gauge", "summary", "unknown", "histogram", "gaugehistogram"];

#[derive(Default)]
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    unit: &'a str,
    kind: usize,
}

/// Room that is used again for each metric.
#[derive(Default)]
struct Scratch {
    key: Vec<u8>,
}

/// What a sample adds to its family's name and labels.
#[derive(Clone, Copy)]
struct Part<'a> {
    suffix: &'static str,
    /// `le` or `quantile` with its value.
    extra: Option<(&'static str, f64)>,
    labels: &'a [&'a [u8]],
    t_ms: Option<i64>,
    start_ms: i64,
}

impl<'a> Family<'a> {
    fn read(&mut self, message: &'a [u8]) -> Read<()> {
        let mut fields = Reader::new(message);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => self.name = value.text()?,
                2 => self.help = value.text()?,
                3 => self.kind = value.uint()? as usize,
                5 => self.unit = value.text()?,
                _ => {}
            }
        }
        if self.name.is_empty() {
            return Err("a family has no name".into());
        }
        if self.kind >= KINDS.len() {
            return Err("an unknown type".into());
        }
        Ok(())
    }

    fn emit(&self, message: &[u8], convert: bool, scratch: &mut Scratch, into: &mut SeriesCache) -> Read<()> {
        let kind = KINDS[self.kind];
        let known = into.described(self.name);
        if known.is_none_or(|known| known.kind != kind || known.help != self.help || known.unit != self.unit) {
            into.describe(self.name, |family| {
                family.kind = kind;
                self.help.clone_into(&mut family.help);
                self.unit.clone_into(&mut family.unit);
            });
            into.tell(self.name);
        }
        let mut fields = Reader::new(message);
        while let Some((number, value)) = fields.field()? {
            if number == 4 {
                self.metric(value.bytes()?, convert, scratch, into)?;
            }
        }
        Ok(())
    }

    fn metric(&self, message: &[u8], convert: bool, scratch: &mut Scratch, into: &mut SeriesCache) -> Read<()> {
        let mut labels: smallvec::SmallVec<[&[u8]; 16]> = smallvec::SmallVec::new();
        let (mut value, mut t_ms) = (None, None);
        let mut fields = Reader::new(message);
        while let Some((number, field)) = fields.field()? {
            match number {
                1 => labels.push(field.bytes()?),
                2 | 3 | 4 | 5 | 7 => value = Some((number, field.bytes()?)),
                6 => t_ms = Some(field.uint()?.cast_signed()).filter(|t_ms| *t_ms != 0),
                _ => {}
            }
        }
        let Some((number, value)) = value else { return Err("a metric has no value".into()) };
        let part = Part { suffix: "", extra: None, labels: &labels, t_ms, start_ms: 0 };
        match number {
            4 => self.summary(value, part, scratch, into),
            7 => self.histogram(value, part, convert, scratch, into),
            _ => {
                let (mut float, mut start_ms) = (0.0, 0);
                let mut fields = Reader::new(value);
                while let Some((field, value)) = fields.field()? {
                    match (number, field) {
                        (_, 1) => float = value.double()?,
                        (3, 2) => exemplar(value)?,
                        (3, 3) => start_ms = timestamp_ms(value)?,
                        _ => {}
                    }
                }
                self.sample(Part { start_ms, ..part }, Sampled::Float(plain(float)), scratch, into)
            }
        }
    }

    fn summary(&self, message: &[u8], mut part: Part<'_>, scratch: &mut Scratch, into: &mut SeriesCache) -> Read<()> {
        let (mut count, mut sum) = (0, 0.0);
        let mut quantiles: smallvec::SmallVec<[(f64, f64); 8]> = smallvec::SmallVec::new();
        let mut fields = Reader::new(message);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => count = value.uint()?,
                2 => sum = value.double()?,
                3 => quantiles.push(pair(value.bytes()?)?),
                4 => part.start_ms = timestamp_ms(value)?,
                _ => {}
            }
        }
        self.sample(Part { suffix: "_count", ..part }, Sampled::Float(count as f64), scratch, into)?;
        self.sample(Part { suffix: "_sum", ..part }, Sampled::Float(plain(sum)), scratch, into)?;
        for (quantile, value) in quantiles {
            let part = Part { extra: Some(("quantile", quantile)), ..part };
            self.sample(part, Sampled::Float(plain(value)), scratch, into)?;
        }
        Ok(())
    }

    fn histogram(
        &self,
        message: &[u8],
        mut part: Part<'_>,
        convert: bool,
        scratch: &mut Scratch,
        into: &mut SeriesCache,
    ) -> Read<()> {
        let read = Histogram::read(message)?;
        part.start_ms = read.start_ms;
        let gauge = self.kind == 5;
        let native = read.is_native();
        if native {
            let histogram = read.native(gauge)?;
            self.sample(part, Sampled::Histogram(Box::new(histogram)), scratch, into)?;
        } else if convert && !read.buckets.is_empty() {
            let histogram = read.custom(gauge)?;
            return self.sample(part, Sampled::Histogram(Box::new(histogram)), scratch, into);
        }
        if native && (!into.making().classic_histograms || read.buckets.is_empty()) {
            return Ok(());
        }
        self.sample(Part { suffix: "_count", ..part }, Sampled::Float(read.count), scratch, into)?;
        self.sample(Part { suffix: "_sum", ..part }, Sampled::Float(plain(read.sum)), scratch, into)?;
        let infinite = read.buckets.last().is_some_and(|(bound, _)| *bound == f64::INFINITY);
        let last = (!infinite).then_some((f64::INFINITY, read.count));
        for (bound, count) in read.buckets.iter().copied().chain(last) {
            let part = Part { suffix: "_bucket", extra: Some(("le", bound)), ..part };
            self.sample(part, Sampled::Float(count), scratch, into)?;
        }
        Ok(())
    }

    fn sample(&self, part: Part<'_>, value: Sampled, scratch: &mut Scratch, into: &mut SeriesCache) -> Read<()> {
        let key = &mut scratch.key;
        key.clear();
        key.extend_from_slice(self.name.as_bytes());
        key.extend_from_slice(part.suffix.as_bytes());
        key.push(0xff);
        if let Some((_, number)) = part.extra {
            key.extend_from_slice(&number.to_bits().to_le_bytes());
        }
        for label in part.labels {
            key.extend_from_slice(label);
            key.push(0xff);
        }
        let (t_ms, start_ms) = (part.t_ms, part.start_ms);
        Ok(into.sample(key, value, t_ms, start_ms, |labels| self.labels(part, labels))?)
    }

    fn labels(&self, part: Part<'_>, into: &mut LabelBuilder) -> Result<(), Reason> {
        into.pairs.push((METRIC_NAME.into(), format!("{}{}", self.name, part.suffix)));
        for label in part.labels {
            let (name, value) = label_pair(label).map_err(|_| DAMAGED)?;
            if name.is_empty() {
                return Err("a name is missing");
            }
            if into.has(name) {
                return Err("a label is given twice");
            }
            into.pairs.push((name.into(), value.into()));
        }
        if let Some((name, number)) = part.extra {
            into.set(name, &bound_text(number));
        }
        Ok(())
    }
}

/// A NaN of any kind as the one that marks no end.
fn plain(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}

fn label_pair(message: &[u8]) -> Result<(&str, &str), Damaged> {
    let (mut name, mut value) = ("", "");
    let mut fields = Reader::new(message);
    while let Some((number, field)) = fields.field()? {
        match number {
            1 => name = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// Two doubles: a quantile with its value.
fn pair(message: &[u8]) -> Result<(f64, f64), Damaged> {
    let mut pair = (0.0, 0.0);
    let mut fields = Reader::new(message);
    while let Some((number, field)) = fields.field()? {
        match number {
            1 => pair.0 = field.double()?,
            2 => pair.1 = field.double()?,
            _ => {}
        }
    }
    Ok(pair)
}

/// google.protobuf.Timestamp in milliseconds.
fn timestamp_ms(value: Value<'_>) -> Result<i64, Damaged> {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    let mut fields = Reader::new(value.bytes()?);
    while let Some((number, field)) = fields.field()? {
        match number {
            1 => seconds = field.uint()?.cast_signed(),
            2 => nanos = field.uint()?.cast_signed(),
            _ => {}
        }
    }
    Ok(seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000))
}

/// An exemplar is checked and given up: exemplars are not kept for queries.
fn exemplar(value: Value<'_>) -> Result<(), Damaged> {
    let mut fields = Reader::new(value.bytes()?);
    while let Some((number, field)) = fields.field()? {
        match number {
            1 => drop(label_pair(field.bytes()?)?),
            2 => drop(field.double()?),
            3 => drop(timestamp_ms(field)?),
            _ => {}
        }
    }
    Ok(())
}

/// A bound or quantile as a label: as OpenMetrics writes it, which is what Prometheus stores from protobuf (`1.0`, `0.5`,
/// `1e+06`, `+Inf`).
fn bound_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let size = value.abs();
    if size == 0.0 || (1e-4..1e21).contains(&size) {
        let text = value.to_string();
        return if text.contains('.') { text } else { text + ".0" };
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let number: i32 = exponent.parse().unwrap_or(0);
            format!("{digits}e{}{:02}", if number < 0 { '-' } else { '+' }, number.abs())
        }
        None => text,
    }
}

/// io.prometheus.client.Histogram.
#[derive(Default)]
struct Histogram {
    count: f64,
    sum: f64,
    float: bool,
    /// (upper bound, cumulative count)
    buckets: smallvec::SmallVec<[(f64, f64); 16]>,
    schema: i32,
    zero_threshold: f64,
    zero_count: f64,
    spans: [Vec<(i32, u32)>; 2],
    deltas: [Vec<i64>; 2],
    counts: [Vec<f64>; 2],
    start_ms: i64,
}

impl Histogram {
    fn read(message: &[u8]) -> Read<Self> {
        let mut read = Self::default();
        let mut fields = Reader::new(message);
        while let Some((number, value)) = fields.field()? {
            let side = usize::from(number <= 11);
            match number {
                1 if !read.float => read.count = value.uint()? as f64,
                4 => {
                    let count = value.double()?;
                    if count > 0.0 {
                        (read.count, read.float) = (count, true);
                    }
                }
                2 => read.sum = value.double()?,
                3 => read.buckets.push(bucket(value.bytes()?)?),
                5 => read.schema = value.sint()? as i32,
                6 => read.zero_threshold = value.double()?,
                7 if read.zero_count == 0.0 => read.zero_count = value.uint()? as f64,
                8 => {
                    let count = value.double()?;
                    if count > 0.0 {
                        (read.zero_count, read.float) = (count, true);
                    }
                }
                9 | 12 => read.spans[side].push(span(value.bytes()?)?),
                10 | 13 => deltas(value, &mut read.deltas[side])?,
                11 | 14 => {
                    read.float = true;
                    doubles(value, &mut read.counts[side])?;
                }
                15 => read.start_ms = timestamp_ms(value)?,
                16 => exemplar(value)?,
                _ => {}
            }
        }
        Ok(read)
    }

    /// As Prometheus tells: an empty native histogram shows itself by its zero bucket or by an empty span.
    fn is_native(&self) -> bool {
        self.zero_threshold > 0.0 || self.zero_count > 0.0 || self.spans.iter().any(|spans| !spans.is_empty())
    }

    /// Counts of one side in absolute numbers.
    fn side(&self, side: usize) -> Read<Vec<f64>> {
        let promised: u64 = self.spans[side].iter().map(|(_, length)| u64::from(*length)).sum();
        let given = if self.float { self.counts[side].len() } else { self.deltas[side].len() };
        let gaps = self.spans[side].iter().skip(1).any(|(offset, _)| *offset < 0);
        if promised != given as u64 || gaps {
            return Err(BAD_HISTOGRAM.into());
        }
        if self.float {
            let bad = self.counts[side].iter().any(|count| count.is_nan() || *count < 0.0);
            return if bad { Err(BAD_HISTOGRAM.into()) } else { Ok(self.counts[side].clone()) };
        }
        let mut count = 0_i64;
        let mut add = |delta: &i64| {
            count = count.checked_add(*delta).filter(|count| *count >= 0)?;
            Some(count as f64)
        };
        self.deltas[side].iter().map(&mut add).collect::<Option<_>>().ok_or_else(|| BAD_HISTOGRAM.into())
    }

    fn native(&self, gauge: bool) -> Read<NativeHistogram> {
        if !(-4..=8).contains(&self.schema) {
            return Err("a native histogram has a schema that is not between -4 and 8".into());
        }
        let (positive, negative) = (self.side(0)?, self.side(1)?);
        let inside = self.zero_count + positive.iter().chain(&negative).sum::<f64>();
        // Observed NaNs are counted and stand in no bucket; float counts are rounded.
        let counted = self.count >= inside || (self.float && self.count >= inside * (1.0 - 1e-9));
        let exact = self.float || self.sum.is_nan() || self.count == inside;
        if !counted || !exact || self.zero_threshold.is_nan() || self.zero_threshold < 0.0 {
            return Err(BAD_HISTOGRAM.into());
        }
        let [positive_spans, negative_spans] = self.spans.clone();
        Ok(NativeHistogram {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: plain(self.sum),
            positive_spans,
            negative_spans,
            positive,
            negative,
            custom_bounds: Vec::new(),
            gauge,
        })
    }

    /// A classic histogram as one with custom bounds.
    fn custom(&self, gauge: bool) -> Read<NativeHistogram> {
        custom(&self.buckets, self.count, self.sum, gauge).ok_or_else(|| "buckets do not rise".into())
    }
}

/// Cumulative classic buckets as a native histogram with custom bounds; `None` when bounds or counts do not rise.
pub(super) fn custom(buckets: &[(f64, f64)], count: f64, sum: f64, gauge: bool) -> Option<NativeHistogram> {
    let bounds: Vec<f64> = buckets.iter().map(|(bound, _)| *bound).filter(|bound| *bound < f64::INFINITY).collect();
    if bounds.windows(2).any(|pair| pair[0] >= pair[1]) || bounds.iter().any(|bound| !bound.is_finite()) {
        return None;
    }
    let cumulative = buckets.iter().take(bounds.len()).map(|(_, count)| *count).chain([count]);
    let mut before = 0.0;
    let mut positive = Vec::with_capacity(bounds.len() + 1);
    for count in cumulative {
        if count.is_nan() || count < before {
            return None;
        }
        positive.push(count - before);
        before = count;
    }
    Some(NativeHistogram {
        schema: -53,
        count,
        sum: plain(sum),
        positive_spans: vec![(0, positive.len() as u32)],
        positive,
        custom_bounds: bounds,
        gauge,
        ..NativeHistogram::default()
    })
}

fn bucket(message: &[u8]) -> Result<(f64, f64), Damaged> {
    let (mut bound, mut count) = (0.0, 0.0);
    let mut fields = Reader::new(message);
    while let Some((number, value)) = fields.field()? {
        match number {
            1 if count == 0.0 => count = value.uint()? as f64,
            2 => bound = value.double()?,
            3 => exemplar(value)?,
            4 => {
                let float = value.double()?;
                if float > 0.0 {
                    count = float;
                }
            }
            _ => {}
        }
    }
    Ok((bound, count))
}

fn span(message: &[u8]) -> Result<(i32, u32), Damaged> {
    let (mut offset, mut length) = (0, 0);
    let mut fields = Reader::new(message);
    while let Some((number, value)) = fields.field()? {
        match number {
            1 => offset = i32::try_from(value.sint()?).map_err(|_| Damaged)?,
            2 => length = u32::try_from(value.uint()?).map_err(|_| Damaged)?,
            _ => {}
        }
    }
    Ok((offset, length))
}

/// repeated sint64, packed or not.
fn deltas(value: Value<'_>, into: &mut Vec<i64>) -> Result<(), Damaged> {
    let Value::Bytes(packed) = value else {
        into.push(value.sint()?);
        return Ok(());
    };
    let mut reader = Reader::new(packed);
    while reader.left() > 0 {
        into.push(crate::source::wire::unzigzag(reader.varint()?));
    }
    Ok(())
}

/// repeated double, packed or not.
fn doubles(value: Value<'_>, into: &mut Vec<f64>) -> Result<(), Damaged> {
    let Value::Bytes(packed) = value else {
        into.push(value.double()?);
        return Ok(());
    };
    let mut reader = Reader::new(packed);
    while reader.left() > 0 {
        into.push(reader.double()?);
    }
    Ok(())
}
