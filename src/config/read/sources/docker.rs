//! `docker:` of a source.

use crate::config::reader::{self, MapReader};
use crate::config::schema::{DockerConfig, DockerSocket, Transport};
use crate::config::yaml::{Kind, Node};
use crate::config::{Diagnostics, Span, Spanned};

/// Where Docker's daemon listens.
const SOCKET: &str = "/var/run/docker.sock";
const ADDRESS_TIMEOUT_MS: i64 = 10_000;
/// Names of one list.
const NAMES: usize = 1_000;

/// The filters of `GET /events` (Engine API 1.43); `since` and `until` are ours.
const FILTERS: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// `docker: SOCKET` or `docker: {...}`.
pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Option<Transport> {
    if matches!(node.kind, Kind::Scalar { .. }) && !node.is_null() {
        let address = reader::string(node, "docker", found)?;
        return Some(Transport::Docker(Box::new(of(socket(&address, found)?))));
    }
    let mut map = MapReader::new(node, "docker source", found)?;
    let address = map.string("socket").unwrap_or_else(|| Spanned::new(format!("unix://{SOCKET}"), node.span.clone()));
    let socket = socket(&address, map.found());
    let labels = map.get("labels").map(|node| labels(node, map.found())).unwrap_or_default();
    let filters = map.get("filters").map(|node| filters(node, map.found())).unwrap_or_default();
    let running = map.boolean("running").is_none_or(|wanted| wanted.value);
    let address_timeout_ms = map.duration_ms("address_timeout").map_or(ADDRESS_TIMEOUT_MS, |time| time.value);
    let tls = super::tls::tls(&mut map);
    if let (Some(DockerSocket::Unix(path)), Some(_)) = (&socket, &tls) {
        map.found().error(&path.span, "tls: a unix socket has none; it is for tcp://HOST:2376");
    }
    map.finish();
    let socket = socket?;
    Some(Transport::Docker(Box::new(DockerConfig { labels, filters, running, address_timeout_ms, tls, ..of(socket) })))
}

/// `docker:///run/podman/podman.sock`, `docker://HOST:PORT`, `docker:` for the usual socket.
pub(super) fn of_url(url: &Spanned<String>, found: &mut Diagnostics) -> Option<Transport> {
    let rest = url.value.split_once(':').map_or("", |(_, rest)| rest);
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let address = match rest {
        "" => format!("unix://{SOCKET}"),
        path if path.starts_with('/') => format!("unix://{path}"),
        host => format!("tcp://{host}"),
    };
    Some(Transport::Docker(Box::new(of(socket(&Spanned::new(address, url.span.clone()), found)?))))
}

fn of(socket: DockerSocket) -> DockerConfig {
    let address_timeout_ms = ADDRESS_TIMEOUT_MS;
    DockerConfig { socket, labels: Vec::new(), filters: Vec::new(), running: true, address_timeout_ms, tls: None }
}

fn socket(address: &Spanned<String>, found: &mut Diagnostics) -> Option<DockerSocket> {
    let part = |rest: &str| Spanned::new(rest.to_owned(), address.span.clone());
    let text = address.value.as_str();
    if let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
        if !path.is_empty() {
            return Some(DockerSocket::Unix(part(path)));
        }
    } else if let Some(rest) = ["tcp://", "http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme)) {
        let rest = rest.trim_end_matches('/');
        return super::super::check_address("socket", rest, &address.span, found)
            .then(|| DockerSocket::Tcp(part(rest)));
    } else if text.starts_with('/') {
        return Some(DockerSocket::Unix(part(text)));
    }
    let hint = format!("write unix://{SOCKET}, unix:///run/podman/podman.sock or tcp://HOST:2375");
    found.error_hint(&address.span, format!("socket: {text:?} is no address of a daemon"), hint);
    None
}

fn limited(count: usize, what: &str, span: &Span, found: &mut Diagnostics) {
    if count > NAMES {
        found.error(span, format!("{what}: at most {NAMES}, found {count}"));
    }
}

/// `{name: value}`, or a list of `name` and `name=value`.
fn labels(node: &Node, found: &mut Diagnostics) -> Vec<(Spanned<String>, Option<String>)> {
    let labels: Vec<_> = match node.as_map() {
        Some(entries) => entries
            .iter()
            .filter_map(|(name, value)| {
                let name = reader::string(name, "labels", found)?;
                // No value asks for the label whatever it says.
                let value = if value.is_null() { None } else { Some(reader::string(value, "labels", found)?.value) };
                Some((name, value))
            })
            .collect(),
        None => reader::one_or_list(node)
            .iter()
            .filter_map(|node| reader::string(node, "labels", found))
            .map(|text| match text.value.split_once('=') {
                Some((name, value)) => (Spanned::new(name.to_owned(), text.span.clone()), Some(value.to_owned())),
                None => (text, None),
            })
            .collect(),
    };
    limited(labels.len(), "labels", &node.span, found);
    labels
}

fn filters(node: &Node, found: &mut Diagnostics) -> Vec<(Spanned<String>, Vec<Spanned<String>>)> {
    let Some(entries) = node.as_map() else {
        found.error(&node.span, format!("filters: expected a mapping, found {}", node.describe()));
        return Vec::new();
    };
    let mut filters = Vec::new();
    for (key, values) in entries {
        let Some(key) = reader::string(key, "filters", found) else { continue };
        if !FILTERS.contains(&key.value.as_str()) {
            let message = format!("filters: the Engine API has no filter {:?}", key.value);
            match crate::config::diagnostic::nearest(&key.value, FILTERS) {
                Some(near) => found.error_hint(&key.span, message, format!("did you mean {near:?}?")),
                None => found.error_hint(&key.span, message, format!("it has {}", reader::list(&FILTERS, "and"))),
            }
            continue;
        }
        let list = reader::one_or_list(values);
        limited(list.len(), "filters", &values.span, found);
        filters.push((key, list.iter().filter_map(|node| reader::string(node, "filters", found)).collect()));
    }
    filters
}

#[cfg(test)]
mod tests {
    use crate::config::read::sources::checked::check_and_show as check;

    #[test]
    fn sockets_labels_and_filters() {
        check("'docker:///var/run/docker.sock'", &[]);
        check("'podman:///run/podman/podman.sock'", &[]);
        check("'docker://build:2375'", &[]);
        check("{docker: {}}", &[]);
        check("{docker: /run/docker.sock}", &[]);
        check("{docker: {socket: 'tcp://build:2376', tls: {ca_file: ca.pem}}}", &[]);
        check("{docker: {labels: {app: web, monitored: }, filters: {type: container, event: [start, die]}}}", &[]);
        check("{docker: {labels: [app=web, monitored], running: false, address_timeout: 500ms}}", &[]);
    }

    #[test]
    fn mistakes_are_named() {
        check("{docker: {socket: nonsense}}", &["socket: \"nonsense\" is no address of a daemon"]);
        check("{docker: {socket: 'unix:'}}", &["socket: \"unix:\" is no address of a daemon"]);
        check("{docker: {filters: {typ: container}}}", &["filters: the Engine API has no filter \"typ\""]);
        check("{docker: {tls: {}}}", &["tls: a unix socket has none; it is for tcp://HOST:2376"]);
        check("{docker: {filters: x}}", &["filters: expected a mapping, found a single value"]);
    }
}
