//! A `scrape` source as YAML.

use super::Yaml::{Map, Seq};
use super::{Fields, Yaml, duration, hidden, pairs, secret, text};
use crate::config::schema::{RelabelAction, RelabelConfig, ScrapeConfig, ScrapeHttp};

pub(super) fn scrape(config: &ScrapeConfig) -> Yaml {
    let mut map = Fields::default();
    let targets = config.targets.iter().map(|target| {
        let query = if target.query.is_empty() { String::new() } else { format!("?{}", target.query) };
        hidden::url(&format!("{}://{}{}{query}", target.scheme, target.address.value, target.path))
    });
    map.add("targets", Seq(targets.collect()));
    map.raw("interval", duration(config.interval_ms));
    map.raw("timeout", duration(config.timeout_ms));
    map.text("job", config.job.as_ref());
    map.text("instance", config.instance.as_ref());
    map.map("labels", pairs(&config.labels));
    map.map("params", hidden::pairs(&config.params));
    map.raw("honor_labels", config.honor_labels);
    map.raw("honor_timestamps", config.honor_timestamps);
    map.raw("always_scrape_classic_histograms", config.classic_histograms);
    map.raw("convert_classic_histograms_to_nhcb", config.convert_classic);
    map.list("relabel_configs", config.relabel.iter().map(relabel).collect());
    map.list("metric_relabel_configs", config.metric_relabel.iter().map(relabel).collect());
    map.raw("sample_limit", config.sample_limit);
    map.raw("body_size_limit", if config.body_size_limit > usize::MAX >> 2 { 0 } else { config.body_size_limit });
    if let Some(compression) = config.compression {
        map.raw("enable_compression", compression);
    }
    http(&config.http, &mut map);
    Map(map.0)
}

pub(super) fn relabel(step: &RelabelConfig) -> Yaml {
    let mut map = Fields::default();
    let action = RelabelAction::ALL.iter().find(|(_, known)| *known == step.action).map_or("", |(name, _)| *name);
    map.raw("action", action);
    map.text("regex", Some(&step.regex.value));
    if !matches!(step.action, RelabelAction::LabelDrop | RelabelAction::LabelKeep) {
        map.list("source_labels", step.source_labels.iter().map(|label| text(&label.value)).collect());
        map.text("separator", Some(&step.separator));
        map.text("replacement", Some(&step.replacement));
        if !step.target_label.is_empty() {
            map.text("target_label", Some(&step.target_label));
        }
    }
    if step.modulus > 0 {
        map.raw("modulus", step.modulus);
    }
    Map(map.0)
}

pub(super) fn http(http: &ScrapeHttp, map: &mut Fields) {
    if let Some((username, password)) = &http.basic {
        let mut inner = Fields::default();
        inner.text("username", Some(username));
        if let Some(password) = password {
            secret(&mut inner, "password", password);
        }
        map.add("basic_auth", Map(inner.0));
    }
    if let Some((scheme, credentials)) = &http.authorization {
        let mut inner = Fields::default();
        inner.text("type", Some(scheme));
        secret(&mut inner, "credentials", credentials);
        map.add("authorization", Map(inner.0));
    }
    map.map("headers", hidden::headers(http.headers.iter().map(|(name, _)| &name.value)));
    let mut tls = Fields::default();
    for (key, file) in [("ca_file", &http.ca_file), ("cert_file", &http.cert_file), ("key_file", &http.key_file)] {
        tls.text(key, file.as_ref().map(|file| &file.value));
    }
    if http.insecure {
        tls.raw("insecure_skip_verify", true);
    }
    map.map("tls_config", tls.0);
    map.url("proxy_url", http.proxy.as_ref().map(|proxy| &proxy.value));
    if http.refuse_redirects {
        map.raw("follow_redirects", false);
    }
}
