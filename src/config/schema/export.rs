//! `export:`, what leaves sidewatch besides messages.

use super::{EventSelector, OtlpConfig, RelabelConfig, ScrapeHttp};
use crate::config::{Span, Spanned};
use crate::model::FieldPath;

/// One entry of `export:`.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportConfig {
    /// Where it goes.
    pub kind: ExportKind,
    /// The place of the entry.
    pub span: Span,
}

/// Where an export goes.
#[derive(Clone, Debug, PartialEq)]
pub enum ExportKind {
    /// `remote_write: URL` or `{...}`: series to Prometheus, Mimir, Thanos.
    RemoteWrite(Box<RemoteWriteConfig>),
    /// `log: {...}`: a structured line for each matched event.
    Log(Box<EventLogConfig>),
    /// `otlp: {...}`: metrics and traces to a collector.
    Otlp(Box<OtlpConfig>),
}

/// `remote_write:`.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteWriteConfig {
    /// Where to.
    pub url: Spanned<String>,
    /// How often the series are read, in milliseconds (15 s); one sample of each goes out.
    pub interval_ms: i64,
    /// How long an answer may take, in milliseconds (30 s).
    pub timeout_ms: i64,
    /// Histograms as native ones; as classic buckets otherwise.
    pub native_histograms: bool,
    /// `write_relabel_configs:`.
    pub relabel: Vec<RelabelConfig>,
    /// `queue: {bytes}`: what may wait for the receiver (64 MiB).
    pub queue_bytes: u64,
    /// `queue: {age}`: what is older is given up, in milliseconds (2 h).
    pub queue_age_ms: i64,
    /// Credentials, TLS, headers, proxy: named as for scrapes.
    pub http: ScrapeHttp,
}

/// `log:`.
#[derive(Clone, Debug, PartialEq)]
pub struct EventLogConfig {
    /// Which events.
    pub selector: EventSelector,
    /// `to:` a file; standard output without it.
    pub file: Option<Spanned<String>>,
    /// `sample:`, the share of events that is written (1).
    pub sample: f64,
    /// `per_second:`, lines of one type in a second at most; 0 for no limit.
    pub per_second: u64,
    /// `fields:`, paths written beside the attributes.
    pub fields: Vec<Spanned<FieldPath>>,
    /// `format: logfmt` instead of JSON.
    pub logfmt: bool,
    /// `rotate: {bytes}`: a file longer than this is begun anew (64 MiB).
    pub rotate_bytes: u64,
    /// `rotate: {keep}`: older files that are kept (3).
    pub rotate_keep: usize,
}
