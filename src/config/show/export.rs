//! `export:` as YAML.

use super::Yaml::Map;
use super::{Fields, Yaml, duration, select, text};
use crate::config::schema::{EventLogConfig, ExportConfig, ExportKind, RemoteWriteConfig};

pub(super) fn export(config: &ExportConfig) -> Yaml {
    let mut map = Fields::default();
    match &config.kind {
        ExportKind::RemoteWrite(config) => map.add("remote_write", remote_write(config)),
        ExportKind::Log(config) => map.add("log", log(config)),
        ExportKind::Otlp(config) => map.add("otlp", super::publish::otlp(config)),
    }
    Map(map.0)
}

fn remote_write(config: &RemoteWriteConfig) -> Yaml {
    let mut map = Fields::default();
    map.url("url", Some(&config.url.value));
    map.raw("interval", duration(config.interval_ms));
    map.raw("timeout", duration(config.timeout_ms));
    map.raw("native_histograms", config.native_histograms);
    map.list("write_relabel_configs", config.relabel.iter().map(super::scrape::relabel).collect());
    let mut queue = Fields::default();
    queue.raw("bytes", config.queue_bytes);
    queue.raw("age", duration(config.queue_age_ms));
    map.map("queue", queue.0);
    super::scrape::http(&config.http, &mut map);
    Map(map.0)
}

fn log(config: &EventLogConfig) -> Yaml {
    let mut map = Fields::default();
    select(&mut map, &config.selector);
    map.text("to", config.file.as_ref().map(|file| &file.value));
    map.raw("sample", config.sample);
    map.raw("per_second", config.per_second);
    map.list("fields", config.fields.iter().map(|path| text(&path.value.to_string())).collect());
    map.raw("format", if config.logfmt { "logfmt" } else { "json" });
    let mut rotate = Fields::default();
    rotate.raw("bytes", config.rotate_bytes);
    rotate.raw("keep", config.rotate_keep);
    map.map("rotate", rotate.0);
    Map(map.0)
}
