//! `export:`.

use super::publish::queue;
use super::scrape::{relabel_config, request};
use super::{events, is_http_url};
use crate::config::reader::{self, MapReader};
use crate::config::schema::{
    EventLogConfig, ExportConfig, ExportKind, Named, QueueConfig, RemoteWriteConfig, ScrapeHttp,
};
use crate::config::yaml::{Kind, Node};
use crate::config::{Diagnostics, Spanned};

const INTERVAL_MS: i64 = 15_000;
const TIMEOUT_MS: i64 = 30_000;
const QUEUE_BYTES: u64 = 64 << 20;
const QUEUE_AGE_MS: i64 = 7_200_000;
const ROTATE_BYTES: u64 = 64 << 20;
const ROTATE_KEEP: usize = 3;

/// Reads `export:`; empty when the key is absent.
pub(super) fn read(map: &mut MapReader<'_, '_>) -> Vec<Named<ExportConfig>> {
    let exports = map.named("export", |name, node, found| {
        if name.value.trim().is_empty() {
            found.error(&name.span, "an export needs a name");
            return None;
        }
        export(node, found)
    });
    exports.into_iter().map(|(name, value)| Named { name, value }).collect()
}

fn export(node: &Node, found: &mut Diagnostics) -> Option<ExportConfig> {
    let mut map = MapReader::new(node, "export", found)?;
    let kind = map.exactly_one(&["remote_write", "otlp", "log"]);
    map.finish();
    let (kind, inner) = kind?;
    let kind = match kind {
        "remote_write" => ExportKind::RemoteWrite(Box::new(remote_write(inner, found)?)),
        "otlp" => ExportKind::Otlp(Box::new(super::publish::otlp(inner, found)?)),
        _ => ExportKind::Log(Box::new(log(inner, found)?)),
    };
    Some(ExportConfig { kind, span: node.span.clone() })
}

fn remote_write(node: &Node, found: &mut Diagnostics) -> Option<RemoteWriteConfig> {
    let mut config = RemoteWriteConfig {
        url: Spanned::bare(String::new()),
        interval_ms: INTERVAL_MS,
        timeout_ms: TIMEOUT_MS,
        native_histograms: false,
        relabel: Vec::new(),
        queue_bytes: QUEUE_BYTES,
        queue_age_ms: QUEUE_AGE_MS,
        http: ScrapeHttp::default(),
    };
    // `remote_write: URL` says the one thing that matters.
    if matches!(node.kind, Kind::Scalar { .. }) && !node.is_null() {
        config.url = reader::string(node, "remote_write", found)?;
        return checked(config, found);
    }
    let mut map = MapReader::new(node, "remote_write", found)?;
    map.refuse("remote_timeout", "remote_timeout of Prometheus is called timeout here");
    map.refuse("send_native_histograms", "send_native_histograms of Prometheus is called native_histograms here");
    map.refuse("queue_config", "the queue is bounded by queue: {bytes, age}; it needs no tuning");
    let url = map.required_string("url");
    for (key, place, least) in [("interval", &mut config.interval_ms, 1_000), ("timeout", &mut config.timeout_ms, 100)]
    {
        if let Some(time) = map.duration_ms(key) {
            *place = time.value;
            if time.value < least {
                let least = crate::model::format_duration_ms(least);
                map.found().error(&time.span, format!("{key}: it must be at least {least}"));
            }
        }
    }
    config.native_histograms = map.boolean("native_histograms").is_some_and(|wanted| wanted.value);
    config.relabel = map.each("write_relabel_configs", relabel_config);
    let queue = queue(&mut map, QueueConfig { bytes: QUEUE_BYTES, age_ms: QUEUE_AGE_MS });
    (config.queue_bytes, config.queue_age_ms) = (queue.bytes, queue.age_ms);
    config.http = request(&mut map);
    map.finish();
    config.url = url?;
    checked(config, found)
}

fn checked(config: RemoteWriteConfig, found: &mut Diagnostics) -> Option<RemoteWriteConfig> {
    if !is_http_url(&config.url.value) || reqwest::Url::parse(&config.url.value).is_err() {
        let message =
            format!("remote_write: {:?} is no address that begins with http:// or https://", config.url.value);
        found.error_hint(&config.url.span, message, "for Prometheus: http://HOST:9090/api/v1/write");
        return None;
    }
    Some(config)
}

fn log(node: &Node, found: &mut Diagnostics) -> Option<EventLogConfig> {
    let mut map = MapReader::new(node, "event log", found)?;
    let selector = events::selector(&mut map);
    let file = map.string("to").filter(|to| to.value != "stdout");
    let sample = map.get("sample").and_then(|node| share(node, map.found()));
    let per_second = map.integer("per_second", 0..=1_000_000);
    let fields = map.each_or_one("fields", |node, found| reader::path(node, "fields", found));
    let logfmt = map.one_of("format", &[("json", false), ("logfmt", true)]);
    let (mut rotate_bytes, mut rotate_keep) = (ROTATE_BYTES, ROTATE_KEEP);
    if let Some(node) = map.get("rotate")
        && let Some(mut rotate) = MapReader::new(node, "event log rotate", map.found())
    {
        if let Some(bytes) = rotate.bytes("bytes") {
            rotate_bytes = bytes.value.max(1);
        }
        if let Some(keep) = rotate.integer("keep", 0..=100) {
            rotate_keep = keep.value as usize;
        }
        rotate.finish();
    }
    map.finish();
    Some(EventLogConfig {
        selector,
        file,
        sample: sample.unwrap_or(1.0),
        per_second: per_second.map_or(0, |limit| limit.value.unsigned_abs()),
        fields,
        logfmt: logfmt.is_some_and(|format| format.value),
        rotate_bytes,
        rotate_keep,
    })
}

/// `1%` or `0.01`.
pub(super) fn share(node: &Node, found: &mut Diagnostics) -> Option<f64> {
    let text = node.as_str().unwrap_or_default().trim();
    let value = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok().map(|percent| percent / 100.0),
        None => text.parse().ok(),
    };
    match value.filter(|share| (0.0..=1.0).contains(share)) {
        Some(share) => Some(share),
        None => reader::wrong(node, "sample", "a share from 0% to 100%, for example 1%", found),
    }
}
