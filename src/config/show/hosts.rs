//! A `hosts` source as YAML.

use super::Yaml::Map;
use super::{Fields, Yaml, duration, texts};
use crate::config::schema::HostsConfig;

pub(super) fn hosts(config: &HostsConfig) -> Yaml {
    let mut map = Fields::default();
    map.add("paths", texts(&config.paths));
    map.raw("poll", duration(config.poll_ms));
    Map(map.0)
}
