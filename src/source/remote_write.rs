//! Prometheus remote write: requests of protocol 1.0 (`prometheus.WriteRequest`) and 2.0 (`io.prometheus.write.v2.Request`),
//! both snappy in its block format ("Remote-Write Specification", versions 1.0 and 2.0; prompb/*.proto).

mod histogram;

use super::scrape::{FamilyMetadata, NativeHistogram};
use super::wire::{Damaged, Reader};
use crate::model::{Label, Labels, METRIC_NAME};
use std::collections::BTreeSet;

/// Refused series and exemplars that carry a sentence; the others are only counted.
const SENTENCES: usize = 10;
/// An exemplar's labels together may have so many characters (OpenMetrics 1.0.0, section "Exemplars").
const EXEMPLAR_CHARACTERS: usize = 128;

/// Which protocol a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

/// Why a request cannot be read at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not snappy's block format, or another length than it says.
    #[error("the body is not compressed with snappy's block format")]
    Compression,
    /// Unpacked it would be larger than the limit.
    #[error("unpacked, the body has more than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// Not the message that it is said to be.
    #[error("the body is not a protobuf message of this protocol")]
    Protobuf,
}

impl From<Damaged> for RequestError {
    fn from(_: Damaged) -> Self {
        Self::Protobuf
    }
}

/// A float sample: milliseconds since the epoch, value, start timestamp (0 when unknown).
pub type FloatSample = (i64, f64, i64);
/// The same with a native histogram.
pub type HistogramSample = (i64, Box<NativeHistogram>, i64);

/// An exemplar of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenExemplar {
    /// Its labels, `trace_id` for example.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
    /// Milliseconds since the epoch.
    pub t_ms: i64,
}

/// One series with what was written to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WrittenSeries {
    /// All labels, the name among them.
    pub labels: Labels,
    /// Floats in the order of the request.
    pub floats: Vec<FloatSample>,
    /// Native histograms in the order of the request.
    pub histograms: Vec<HistogramSample>,
    /// Exemplars.
    pub exemplars: Vec<WrittenExemplar>,
}

/// A request, read; what is wrong in it is left out and counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteRequest {
    /// The series.
    pub series: Vec<WrittenSeries>,
    /// What families are.
    pub metadata: Vec<FamilyMetadata>,
    /// Samples and exemplars that are refused for what they are.
    pub invalid: usize,
    /// Why, for some of them.
    pub reasons: Vec<String>,
}

impl WriteRequest {
    fn refuse(&mut self, count: usize, reason: String) {
        self.invalid += count;
        if self.reasons.len() < SENTENCES {
            self.reasons.push(reason);
        }
    }
}

/// Reads a request's body.
///
/// # Errors
/// [`RequestError`]: nothing of it can be taken.
pub fn read(packed: &[u8], version: Version, limit_bytes: usize) -> Result<WriteRequest, RequestError> {
    let size = snap::raw::decompress_len(packed).map_err(|_| RequestError::Compression)?;
    if size > limit_bytes {
        return Err(RequestError::TooLarge { limit_bytes });
    }
    let body = snap::raw::Decoder::new().decompress_vec(packed).map_err(|_| RequestError::Compression)?;
    match version {
        Version::V1 => read_v1(&body),
        Version::V2 => read_v2(&body),
    }
}

/// The types of both protocols' metadata, by number; OpenMetrics' names.
const KINDS: [&str; 8] = ["unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"];

fn kind(number: u64) -> &'static str {
    usize::try_from(number).ok().and_then(|at| KINDS.get(at)).copied().unwrap_or("unknown")
}

fn read_v1(body: &[u8]) -> Result<WriteRequest, RequestError> {
    let mut request = WriteRequest::default();
    let mut fields = Reader::new(body);
    while let Some((number, value)) = fields.field()? {
        match number {
            1 => series_v1(value.bytes()?, &mut request)?,
            3 => {
                let mut family = FamilyMetadata { kind: "unknown", ..FamilyMetadata::default() };
                let mut inner = Reader::new(value.bytes()?);
                while let Some((number, value)) = inner.field()? {
                    match number {
                        1 => family.kind = kind(value.uint()?),
                        2 => family.name = value.text()?.to_owned(),
                        4 => family.help = value.text()?.to_owned(),
                        5 => family.unit = value.text()?.to_owned(),
                        _ => {}
                    }
                }
                request.metadata.push(family);
            }
            _ => {}
        }
    }
    Ok(request)
}

fn series_v1(message: &[u8], request: &mut WriteRequest) -> Result<(), RequestError> {
    let mut labels = Vec::new();
    let mut series = Collected::default();
    let mut fields = Reader::new(message);
    while let Some((number, value)) = fields.field()? {
        match number {
            1 => labels.push(pair_v1(value.bytes()?)?),
            2 => series.floats.push(float(value.bytes()?)?),
            3 => {
                let (mut own, mut number, mut t_ms) = (Vec::new(), 0.0, 0);
                let mut inner = Reader::new(value.bytes()?);
                while let Some((field, value)) = inner.field()? {
                    match field {
                        1 => own.push(pair_v1(value.bytes()?)?),
                        2 => number = value.double()?,
                        3 => t_ms = value.uint()?.cast_signed(),
                        _ => {}
                    }
                }
                series.exemplars.push((own, number, t_ms));
            }
            4 => series.histograms.push(histogram::read(value.bytes()?)?),
            _ => {}
        }
    }
    series.finish(labels, request);
    Ok(())
}

fn pair_v1(message: &[u8]) -> Result<(&str, &str), RequestError> {
    let (mut name, mut text) = ("", "");
    let mut fields = Reader::new(message);
    while let Some((number, value)) = fields.field()? {
        match number {
            1 => name = value.text()?,
            2 => text = value.text()?,
            _ => {}
        }
    }
    Ok((name, text))
}

fn float(message: &[u8]) -> Result<FloatSample, RequestError> {
    let (mut number, mut t_ms, mut start_ms) = (0.0, 0, 0);
    let mut fields = Reader::new(message);
    while let Some((field, value)) = fields.field()? {
        match field {
            1 => number = value.double()?,
            2 => t_ms = value.uint()?.cast_signed(),
            3 => start_ms = value.uint()?.cast_signed(),
            _ => {}
        }
    }
    Ok((t_ms, number, start_ms))
}

fn read_v2(body: &[u8]) -> Result<WriteRequest, RequestError> {
    let mut request = WriteRequest::default();
    let (mut symbols, mut series) = (Vec::new(), Vec::new());
    let mut fields = Reader::new(body);
    while let Some((number, value)) = fields.field()? {
        match number {
            // The field of the first protocol: a sender that lies about its content type.
            1 => return Err(RequestError::Protobuf),
            4 => symbols.push(value.text()?),
            5 => series.push(value.bytes()?),
            _ => {}
        }
    }
    if symbols.first().is_some_and(|first| !first.is_empty()) {
        request.refuse(0, "the first symbol is not the empty text".into());
    }
    let mut described = BTreeSet::new();
    for message in series {
        series_v2(message, &symbols, &mut described, &mut request)?;
    }
    Ok(request)
}

fn series_v2<'a>(
    message: &'a [u8],
    symbols: &[&'a str],
    described: &mut BTreeSet<String>,
    request: &mut WriteRequest,
) -> Result<(), RequestError> {
    let (mut refs, mut series, mut created_ms) = (Vec::new(), Collected::default(), 0);
    let (mut family, mut is_described) = (FamilyMetadata { kind: "unknown", ..FamilyMetadata::default() }, false);
    let mut unknown_symbol = false;
    let mut symbol = |at: u64| {
        let found = usize::try_from(at).ok().and_then(|at| symbols.get(at)).copied();
        unknown_symbol |= found.is_none();
        found.unwrap_or_default()
    };
    let mut fields = Reader::new(message);
    while let Some((number, value)) = fields.field()? {
        match number {
            1 => histogram::repeated_uint(value, &mut refs)?,
            2 => series.floats.push(float(value.bytes()?)?),
            3 => series.histograms.push(histogram::read(value.bytes()?)?),
            4 => {
                let (mut own, mut number, mut t_ms) = (Vec::new(), 0.0, 0);
                let mut inner = Reader::new(value.bytes()?);
                while let Some((field, value)) = inner.field()? {
                    match field {
                        1 => histogram::repeated_uint(value, &mut own)?,
                        2 => number = value.double()?,
                        3 => t_ms = value.uint()?.cast_signed(),
                        _ => {}
                    }
                }
                let pairs = own.chunks_exact(2).map(|pair| (symbol(pair[0]), symbol(pair[1]))).collect();
                series.exemplars.push((pairs, number, t_ms));
            }
            5 => {
                let mut inner = Reader::new(value.bytes()?);
                while let Some((field, value)) = inner.field()? {
                    match field {
                        1 => family.kind = kind(value.uint()?),
                        3 => symbol(value.uint()?).clone_into(&mut family.help),
                        4 => symbol(value.uint()?).clone_into(&mut family.unit),
                        _ => {}
                    }
                }
                is_described = family.kind != "unknown" || !family.help.is_empty() || !family.unit.is_empty();
            }
            6 => created_ms = value.uint()?.cast_signed(),
            _ => {}
        }
    }
    let labels: Vec<(&str, &str)> = refs.chunks_exact(2).map(|pair| (symbol(pair[0]), symbol(pair[1]))).collect();
    if unknown_symbol || refs.len() % 2 != 0 {
        let what = if unknown_symbol { "a label names a symbol that is not there" } else { "a label has no value" };
        request.refuse(series.samples(), what.into());
        return Ok(());
    }
    for (.., start_ms) in &mut series.floats {
        *start_ms = if *start_ms == 0 { created_ms } else { *start_ms };
    }
    for sample in &mut series.histograms {
        sample.start_ms = if sample.start_ms == 0 { created_ms } else { sample.start_ms };
    }
    if is_described && let Some((_, name)) = labels.iter().find(|(name, _)| *name == METRIC_NAME) {
        family.name = family_name(name, family.kind).to_owned();
        if described.insert(family.name.clone()) {
            request.metadata.push(family);
        }
    }
    series.finish(labels, request);
    Ok(())
}

/// The family of a series in classic form; metadata of 2.0 stands beside each series.
fn family_name<'a>(name: &'a str, kind: &str) -> &'a str {
    let suffixes: &[&str] = match kind {
        "histogram" | "gaugehistogram" => &["_bucket", "_count", "_sum"],
        "summary" => &["_count", "_sum"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// Labels, value and time of an exemplar.
type RawExemplar<'a> = (Vec<(&'a str, &'a str)>, f64, i64);

/// What stands in one series before its labels are known to be right.
#[derive(Default)]
struct Collected<'a> {
    floats: Vec<FloatSample>,
    histograms: Vec<histogram::Sample>,
    exemplars: Vec<RawExemplar<'a>>,
}

impl Collected<'_> {
    fn samples(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    fn finish(self, pairs: Vec<(&str, &str)>, request: &mut WriteRequest) {
        let labels = match checked(&pairs, true) {
            Ok(labels) => labels,
            Err(reason) => return request.refuse(self.samples(), reason),
        };
        let mut histograms = Vec::with_capacity(self.histograms.len());
        for sample in self.histograms {
            match sample.native() {
                Ok(native) => histograms.push((sample.t_ms, Box::new(native), sample.start_ms)),
                Err(reason) => request.refuse(1, format!("{labels}: {reason}")),
            }
        }
        let mut exemplars = Vec::with_capacity(self.exemplars.len());
        for (own, value, t_ms) in self.exemplars {
            let length: usize = own.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
            match checked(&own, false) {
                Ok(own) if length <= EXEMPLAR_CHARACTERS => {
                    exemplars.push(WrittenExemplar { labels: own, value, t_ms });
                }
                Ok(_) => request.refuse(1, format!("{labels}: an exemplar's labels have more than 128 characters")),
                Err(reason) => request.refuse(1, format!("{labels}: an exemplar: {reason}")),
            }
        }
        if !self.floats.is_empty() && !histograms.is_empty() {
            let count = self.floats.len();
            request.refuse(count, format!("{labels}: a series has floats or histograms, not both"));
            request.series.push(WrittenSeries { labels, floats: Vec::new(), histograms, exemplars });
            return;
        }
        request.series.push(WrittenSeries { labels, floats: self.floats, histograms, exemplars });
    }
}

/// Labels as the protocols want them: names not empty and not twice; a series has a name. Labels without a value are as
/// good as absent.
fn checked(pairs: &[(&str, &str)], is_series: bool) -> Result<Labels, String> {
    let shown = || {
        let list: Vec<String> = pairs.iter().take(8).map(|(name, value)| format!("{name}={value:?}")).collect();
        format!("{{{}}}", list.join(", "))
    };
    if pairs.iter().any(|(name, _)| name.is_empty()) {
        return Err(format!("a label has no name in {}", shown()));
    }
    let mut names: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("the label {} stands twice in {}", twice[0], shown()));
    }
    let labels: Vec<Label> = pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| Label { name: (*name).into(), value: (*value).into() })
        .collect();
    if is_series && !labels.iter().any(|label| &*label.name == METRIC_NAME) {
        return Err(format!("the series {} has no name", shown()));
    }
    Ok(Labels::new(labels))
}

#[cfg(test)]
mod tests;
