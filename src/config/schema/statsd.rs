//! `statsd:` of a source, and the mapping file of statsd_exporter that it may name.

use crate::config::Spanned;
use std::sync::Arc;

/// A `statsd` source.
#[derive(Clone, Debug, PartialEq)]
pub struct StatsdConfig {
    /// `udp: HOST:PORT`; 127.0.0.1:8125 when no listener is named.
    pub udp: Option<Spanned<String>>,
    /// `unixgram: PATH`.
    pub unixgram: Option<Spanned<String>>,
    /// `tcp: HOST:PORT`.
    pub tcp: Option<Spanned<String>>,
    /// `mapping: FILE` in statsd_exporter's format.
    pub mapping: Option<Spanned<String>>,
    /// What stands in that file; read when the configuration is built.
    pub rules: Option<Arc<StatsdMapping>>,
    /// `receive_buffer:` in bytes that the kernel is asked for (4 MiB).
    pub receive_buffer: usize,
    /// `service_checks:` (true): `_sc` lines are checks of /health; events they are always.
    pub service_checks: bool,
    /// `tags:`, the styles that are read.
    pub tags: TagStyles,
}

/// How tags may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagStyles {
    /// `name:1|c|#k:v`.
    pub dogstatsd: bool,
    /// `name#k=v:1|c`.
    pub librato: bool,
    /// `name,k=v:1|c`.
    pub influxdb: bool,
    /// `name[k=v]:1|c`.
    pub signalfx: bool,
}

impl Default for TagStyles {
    fn default() -> Self {
        Self { dogstatsd: true, librato: true, influxdb: true, signalfx: true }
    }
}

/// A mapping file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatsdMapping {
    /// `mappings:`, in order.
    pub rules: Vec<MappingRule>,
    /// `defaults: {glob_disable_ordering}`: the most specific glob instead of the first.
    pub most_specific: bool,
    /// What metrics without a rule get.
    pub unmapped: MappingObserver,
    /// `defaults: {ttl}` in milliseconds; 0: none.
    pub ttl_ms: i64,
}

/// What timers, histograms and distributions become.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MappingObserver {
    /// `buckets:`; `None`: the default ones.
    pub bounds: Option<Arc<[f64]>>,
    /// `quantiles:` of a summary; empty for a histogram.
    pub quantiles: Arc<[f64]>,
}

/// One entry of `mappings:`.
#[derive(Clone, Debug, PartialEq)]
pub struct MappingRule {
    /// `match:`.
    pub pattern: Spanned<String>,
    /// `match_type: regex`.
    pub regex: bool,
    /// `match_metric_type:`.
    pub only: Option<MappedType>,
    /// `action: drop`.
    pub drop: bool,
    /// `name:`, with `$1`.
    pub name: String,
    /// `help:`.
    pub help: Arc<str>,
    /// `labels:`, with `$1`.
    pub labels: Vec<(String, String)>,
    /// `honor_labels:`: tags of the line win over `labels`.
    pub honor_labels: bool,
    /// `scale:`.
    pub scale: f64,
    /// `ttl:` in milliseconds; 0: none.
    pub ttl_ms: i64,
    /// What observers become.
    pub observer: MappingObserver,
}

/// `match_metric_type:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of statsd_exporter")]
pub enum MappedType {
    Counter,
    Gauge,
    Observer,
}
