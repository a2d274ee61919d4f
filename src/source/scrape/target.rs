//! Targets: from the configuration's words to an address and labels, relabelled as Prometheus does before a scrape.

use super::relabel::{self, LabelBuilder};
use crate::config::schema::{ScrapeConfig, ScrapeTarget};
use reqwest::Url;
use std::sync::Arc;

/// One target to scrape.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Unique within its source: the address and the labels.
    pub key: Arc<str>,
    pub url: Url,
    /// job, instance and others; none begins with `__`.
    pub labels: Vec<(String, String)>,
}

/// The targets of a source; those that relabelling drops are not among them.
///
/// # Errors
/// A sentence about the first address that is none.
pub(super) fn targets(source: &str, config: &ScrapeConfig) -> Result<Vec<Target>, String> {
    let steps = relabel::compile(&config.relabel);
    let mut all: Vec<Target> = Vec::new();
    for written in &config.targets {
        let mut labels = LabelBuilder::default();
        for (name, value) in &config.labels {
            labels.set(&name.value, &value.value);
        }
        labels.set("job", config.job.as_deref().unwrap_or(source));
        labels.set("__address__", &written.address.value);
        labels.set("__scheme__", &written.scheme);
        labels.set("__metrics_path__", &written.path);
        for (name, value) in &config.params {
            labels.set(&format!("__param_{}", name.value), &value.value);
        }
        if let Some(instance) = &config.instance {
            labels.set("instance", instance);
        }
        if !relabel::apply(&steps, &mut labels) {
            continue;
        }
        let target = resolve(written, labels)?;
        // Two alike would write every sample twice.
        if !all.iter().any(|known| known.key == target.key) {
            all.push(target);
        }
    }
    Ok(all)
}

fn resolve(written: &ScrapeTarget, mut labels: LabelBuilder) -> Result<Target, String> {
    let address = labels.get("__address__");
    let text = format!("{}://{address}{}", labels.get("__scheme__"), labels.get("__metrics_path__"));
    let mut url = Url::parse(&text).map_err(|error| format!("{text} is no address: {error}"))?;
    if !written.query.is_empty() {
        url.set_query(Some(&written.query));
    }
    let params = labels.pairs.iter().filter_map(|(name, value)| Some((name.strip_prefix("__param_")?, value)));
    let params: Vec<(String, String)> = params.map(|(name, value)| (name.to_owned(), value.clone())).collect();
    if !params.is_empty() {
        url.query_pairs_mut().extend_pairs(params);
    }
    if labels.get("instance").is_empty() {
        let host = labels.get("__address__").to_owned();
        // As Prometheus: the port that the scheme implies is said.
        let port = url.port_or_known_default().filter(|_| url.port().is_none() && !has_port(&host));
        let instance = port.map_or(host.clone(), |port| format!("{host}:{port}"));
        labels.set("instance", &instance);
    }
    labels.pairs.retain(|(name, _)| !name.starts_with("__"));
    labels.pairs.sort();
    let key = format!("{url} {}", labels.finish());
    Ok(Target { key: key.into(), url, labels: labels.pairs })
}

fn has_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::Transport;
    use crate::config::{Overrides, load_text};

    fn check(scrape: &str, expected: &[(&str, &str)]) {
        let text = format!("sources: {{app: {{scrape: {scrape}}}}}");
        let (config, found) = load_text("t.yaml", &text, &Default::default(), &Overrides::default());
        let config = config.unwrap_or_else(|| panic!("{found}"));
        let Transport::Scrape(scrape) = &config.sources.unwrap()[0].value.transport else { panic!() };
        let shown: Vec<(String, String)> = targets("app", scrape)
            .unwrap()
            .into_iter()
            .map(|target| (target.url.to_string(), crate::model::Labels::from_pairs(target.labels).to_string()))
            .collect();
        let shown: Vec<(&str, &str)> = shown.iter().map(|(url, labels)| (url.as_str(), labels.as_str())).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn targets_become_addresses_and_labels() {
        check("'http://127.0.0.1:80/m?x=1'", &[("http://127.0.0.1/m?x=1", r#"{instance="127.0.0.1:80", job="app"}"#)]);
        check(
            "{targets: [a, 'b:9100', 'https://[::1]/x'], job: j, labels: {env: prod}, params: {module: m}}",
            &[
                ("http://a/metrics?module=m", r#"{env="prod", instance="a:80", job="j"}"#),
                ("http://b:9100/metrics?module=m", r#"{env="prod", instance="b:9100", job="j"}"#),
                ("https://[::1]/x?module=m", r#"{env="prod", instance="[::1]:443", job="j"}"#),
            ],
        );
        check(
            "{targets: ['a:1', 'b:2', 'a:1'], relabel_configs: [{source_labels: [__address__], regex: 'b.*', action: drop}, \
             {source_labels: [__address__], regex: '(.*):.*', target_label: instance}, \
             {target_label: __metrics_path__, replacement: /probe}]}",
            &[("http://a:1/probe", r#"{instance="a", job="app"}"#)],
        );
    }
}
