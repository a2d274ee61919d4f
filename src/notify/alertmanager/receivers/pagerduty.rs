//! `pagerduty_configs`.

use super::{Global, address, http_config, read_payload, template};
use crate::config::Diagnostics;
use crate::config::reader::MapReader;
use crate::config::yaml::Node;
use crate::notify::pagerduty::{PAGERDUTY_URL, PagerDutyConfig, PagerDutyImage, PagerDutyKey, PagerDutyLink};
use crate::notify::receiver::{Integration, IntegrationKind};

pub(super) fn read(node: &Node, global: &Global, found: &mut Diagnostics) -> Option<Integration> {
    let mut map = MapReader::new(node, "pagerduty_configs", found)?;
    let send_resolved = map.boolean("send_resolved").is_none_or(|it| it.value);
    let routing = map.secret("routing_key", "routing_key_file");
    let service = map.secret("service_key", "service_key_file");
    // As in Alertmanager, a service key means the first version of the API, whatever else is there.
    let key = service.map(PagerDutyKey::Service).or(routing.map(PagerDutyKey::Routing));
    if key.is_none() {
        let span = map.span().clone();
        let message = "pagerduty_configs: there is no key";
        map.found().error_hint(&span, message, "set routing_key_file (Events API v2) or service_key_file (v1)");
    }
    let url = address(&mut map, "url").or_else(|| global.pagerduty_url.clone());
    let client = template(&mut map, "client");
    let client_url = template(&mut map, "client_url");
    let description = template(&mut map, "description");
    let details = map.named("details", |_, node, found| read_payload(node, "details", found));
    let details = details.into_iter().map(|(name, value)| (name.value, value)).collect();
    let images = map.each("images", |node, found| {
        let mut map = MapReader::new(node, "image", found)?;
        let (src, alt) = (template(&mut map, "src"), template(&mut map, "alt"));
        let href = template(&mut map, "href");
        map.finish();
        Some(PagerDutyImage { src, alt, href })
    });
    let links = map.each("links", |node, found| {
        let mut map = MapReader::new(node, "link", found)?;
        let (href, text) = (template(&mut map, "href"), template(&mut map, "text"));
        map.finish();
        Some(PagerDutyLink { href, text })
    });
    let source = template(&mut map, "source");
    let severity = template(&mut map, "severity");
    let class = template(&mut map, "class");
    let component = template(&mut map, "component");
    let group = template(&mut map, "group");
    let timeout_ms = map.duration_ms("timeout").map_or(0, |it| it.value);
    let http = http_config(&mut map, global);
    map.finish();
    let config = PagerDutyConfig {
        url: url.unwrap_or_else(|| PAGERDUTY_URL.to_owned()),
        client,
        client_url,
        description,
        details,
        images,
        links,
        source,
        severity,
        class,
        component,
        group,
        timeout_ms,
        http,
        ..PagerDutyConfig::new(key?)
    };
    Some(Integration { kind: IntegrationKind::PagerDuty(Box::new(config)), send_resolved })
}
