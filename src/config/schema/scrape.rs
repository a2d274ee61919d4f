//! `scrape:` of a source: targets, how often, how labels are made. The keys are those of Prometheus's `scrape_configs`
//! without their prefix `scrape_`.

use super::SecretSource;
use crate::config::Spanned;

/// A `scrape` source.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeConfig {
    /// `url:` or `targets:`, at least one.
    pub targets: Vec<ScrapeTarget>,
    /// `interval:` in milliseconds (the profile's `evaluation_interval` does not matter; 15 s).
    pub interval_ms: i64,
    /// `timeout:` in milliseconds; at most the interval (10 s, or the interval when that is shorter).
    pub timeout_ms: i64,
    /// `job:`; the source's name when `None`.
    pub job: Option<String>,
    /// `instance:` of a single target; its host and port when `None`.
    pub instance: Option<String>,
    /// `labels:` that every series gets.
    pub labels: Vec<(Spanned<String>, Spanned<String>)>,
    /// `params:` of the request.
    pub params: Vec<(Spanned<String>, Spanned<String>)>,
    /// `honor_labels:` (false): scraped labels win over the target's instead of becoming `exported_*`.
    pub honor_labels: bool,
    /// `honor_timestamps:` (true): samples keep the times that the target gives them.
    pub honor_timestamps: bool,
    /// `always_scrape_classic_histograms:` (true): a histogram that has native buckets is stored in both forms, so that
    /// rules on `x_bucket` go on working.
    pub classic_histograms: bool,
    /// `convert_classic_histograms_to_nhcb:` (false): histograms without native buckets become native ones with custom bounds.
    pub convert_classic: bool,
    /// `relabel_configs:`, on the labels of the target.
    pub relabel: Vec<RelabelConfig>,
    /// `metric_relabel_configs:`, on the labels of each series.
    pub metric_relabel: Vec<RelabelConfig>,
    /// `sample_limit:` after relabelling (0: none); beyond it the scrape fails.
    pub sample_limit: usize,
    /// `body_size_limit:` in bytes, uncompressed (64 MiB); beyond it the scrape fails.
    pub body_size_limit: usize,
    /// `enable_compression:`; `None` asks for gzip unless the target is on this machine.
    pub compression: Option<bool>,
    /// How the request is made.
    pub http: ScrapeHttp,
}

/// One target as written.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeTarget {
    /// `http` or `https`.
    pub scheme: String,
    /// `HOST:PORT`, or `HOST`.
    pub address: Spanned<String>,
    /// With its slash.
    pub path: String,
    /// What stands behind the question mark of a `url:`, without it.
    pub query: String,
}

/// Credentials, TLS, headers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScrapeHttp {
    /// `basic_auth:`: the user and the password.
    pub basic: Option<(String, Option<SecretSource>)>,
    /// `authorization:`: the scheme and the credentials.
    pub authorization: Option<(String, SecretSource)>,
    /// `headers:`.
    pub headers: Vec<(Spanned<String>, Spanned<String>)>,
    /// `tls_config: {ca_file}`.
    pub ca_file: Option<Spanned<String>>,
    /// `tls_config: {cert_file}`.
    pub cert_file: Option<Spanned<String>>,
    /// `tls_config: {key_file}`.
    pub key_file: Option<Spanned<String>>,
    /// `tls_config: {insecure_skip_verify}`.
    pub insecure: bool,
    /// `proxy_url:`.
    pub proxy: Option<Spanned<String>>,
    /// `follow_redirects: false`.
    pub refuse_redirects: bool,
}

/// One step of relabelling, as in Prometheus.
#[derive(Clone, Debug, PartialEq)]
pub struct RelabelConfig {
    /// `action:` (replace).
    pub action: RelabelAction,
    /// `source_labels:`.
    pub source_labels: Vec<Spanned<String>>,
    /// `separator:` (;).
    pub separator: String,
    /// `regex:`, anchored (`(.*)`).
    pub regex: Spanned<String>,
    /// `target_label:`; empty when not given.
    pub target_label: String,
    /// `replacement:` (`$1`).
    pub replacement: String,
    /// `modulus:` of hashmod.
    pub modulus: u64,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of Prometheus")]
pub enum RelabelAction {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

impl RelabelAction {
    /// Every action with its name.
    pub const ALL: [(&'static str, Self); 11] = [
        ("replace", Self::Replace),
        ("keep", Self::Keep),
        ("drop", Self::Drop),
        ("keepequal", Self::KeepEqual),
        ("dropequal", Self::DropEqual),
        ("hashmod", Self::HashMod),
        ("labelmap", Self::LabelMap),
        ("labeldrop", Self::LabelDrop),
        ("labelkeep", Self::LabelKeep),
        ("lowercase", Self::Lowercase),
        ("uppercase", Self::Uppercase),
    ];
}
