//! A `statsd` source as YAML.

use super::Yaml::{Map, Raw, Seq};
use super::{Fields, Yaml};
use crate::config::schema::StatsdConfig;

pub(super) fn statsd(config: &StatsdConfig) -> Yaml {
    let mut map = Fields::default();
    let texts =
        [("udp", &config.udp), ("unixgram", &config.unixgram), ("tcp", &config.tcp), ("mapping", &config.mapping)];
    for (key, value) in texts {
        map.text(key, value.as_ref().map(|value| &value.value));
    }
    map.raw("receive_buffer", config.receive_buffer);
    map.raw("service_checks", config.service_checks);
    let tags = &config.tags;
    let styles = [
        ("dogstatsd", tags.dogstatsd),
        ("librato", tags.librato),
        ("influxdb", tags.influxdb),
        ("signalfx", tags.signalfx),
    ];
    let on = styles.into_iter().filter(|(_, on)| *on).map(|(name, _)| Raw(name.into()));
    map.add("tags", Seq(on.collect()));
    Map(map.0)
}
