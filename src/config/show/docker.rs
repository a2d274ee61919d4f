//! A `docker` source as YAML.

use super::Yaml::{Map, Seq};
use super::{Fields, Yaml, duration, text, texts, tls};
use crate::config::schema::{DockerConfig, DockerSocket};

pub(super) fn docker(config: &DockerConfig) -> Yaml {
    let mut map = Fields::default();
    let socket = match &config.socket {
        DockerSocket::Unix(path) => format!("unix://{}", path.value),
        DockerSocket::Tcp(address) => format!("tcp://{}", address.value),
    };
    map.add("socket", text(&socket));
    let label = |(name, value): &(_, Option<String>)| {
        let name: &crate::config::Spanned<String> = name;
        match value {
            Some(value) => text(&format!("{}={value}", name.value)),
            None => text(&name.value),
        }
    };
    map.list("labels", config.labels.iter().map(label).collect());
    let filters = config.filters.iter().map(|(key, values)| (key.value.clone(), texts(values)));
    map.map("filters", filters.filter(|(_, values)| !matches!(values, Seq(list) if list.is_empty())).collect());
    map.raw("running", config.running);
    map.raw("address_timeout", duration(config.address_timeout_ms));
    if let Some(options) = &config.tls {
        map.add("tls", tls::tls(options));
    }
    Map(map.0)
}
