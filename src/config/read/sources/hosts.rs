//! `hosts:` of a source.

use crate::config::reader::{self, MapReader};
use crate::config::schema::{HostsConfig, Transport};
use crate::config::yaml::{Kind, Node};
use crate::config::{Diagnostics, Spanned};

const FILE: &str = "/etc/hosts";
const POLL_MS: i64 = 5_000;
const SHORTEST_POLL_MS: i64 = 50;
/// Files and folders of one source.
const PATHS: usize = 100;

/// `hosts: PATH` or `hosts: {...}`.
pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Option<Transport> {
    if matches!(node.kind, Kind::Scalar { .. }) && !node.is_null() {
        let path = reader::string(node, "hosts", found)?;
        return Some(of(vec![path]));
    }
    let mut map = MapReader::new(node, "hosts source", found)?;
    let mut paths = map.strings("paths");
    if let Some(path) = paths.get(PATHS) {
        map.found().error(&path.span, format!("paths: at most {PATHS} files and folders"));
    }
    if paths.is_empty() {
        paths.push(Spanned::new(FILE.to_owned(), node.span.clone()));
    }
    let poll = map.duration_ms("poll");
    if let Some(poll) = poll.as_ref().filter(|poll| poll.value < SHORTEST_POLL_MS) {
        map.found().error(&poll.span, format!("poll: at least {SHORTEST_POLL_MS}ms"));
    }
    map.finish();
    Some(Transport::Hosts(Box::new(HostsConfig { paths, poll_ms: poll.map_or(POLL_MS, |poll| poll.value) })))
}

/// `hosts:///etc/hosts`, `hosts:hosts.d` for a path from the configuration's folder, `hosts:` for the usual file.
pub(super) fn of_url(url: &Spanned<String>, found: &mut Diagnostics) -> Option<Transport> {
    let rest = url.value.split_once(':').map_or("", |(_, rest)| rest);
    let path = match rest.strip_prefix("//") {
        Some(path) if !path.is_empty() && !path.starts_with('/') => {
            let message = format!("{:?} names a host, not a path", url.value);
            let hint = format!("write hosts:///{path}, or hosts:{path} for a path from the configuration's folder");
            found.error_hint(&url.span, message, hint);
            return None;
        }
        Some(path) => path,
        None => rest,
    };
    let path = if path.is_empty() { FILE } else { path };
    Some(of(vec![Spanned::new(path.to_owned(), url.span.clone())]))
}

fn of(paths: Vec<Spanned<String>>) -> Transport {
    Transport::Hosts(Box::new(HostsConfig { paths, poll_ms: POLL_MS }))
}

#[cfg(test)]
mod tests {
    use crate::config::schema::Transport;
    use crate::config::{Overrides, load_text, show};

    #[track_caller]
    fn check(source: &str, expected: Result<(&[&str], i64), &str>) {
        let text = format!("sources: {{s: {source}}}");
        let (config, found) = load_text("t.yaml", &text, &Default::default(), &Overrides::default());
        let said = found.to_string();
        match expected {
            Err(message) => assert!(said.contains(message), "{source}: {said}"),
            Ok((paths, poll_ms)) => {
                let config = config.unwrap();
                let sources = config.sources.as_ref().unwrap();
                let Transport::Hosts(hosts) = &sources[0].value.transport else { panic!() };
                let read: Vec<&str> = hosts.paths.iter().map(|path| path.value.as_str()).collect();
                assert_eq!((read.as_slice(), hosts.poll_ms), (paths, poll_ms), "{source}");
                let (again, _) = load_text("t.yaml", &show(&config), &Default::default(), &Overrides::default());
                assert_eq!(config.sources, again.unwrap().sources, "{source}");
            }
        }
    }

    #[test]
    fn paths_and_mistakes() {
        check("'hosts:///etc/hosts'", Ok((&["/etc/hosts"], 5_000)));
        check("'hosts:hosts.d'", Ok((&["hosts.d"], 5_000)));
        check("{hosts: {}}", Ok((&["/etc/hosts"], 5_000)));
        check("{hosts: {paths: [a, b/], poll: 1s}}", Ok((&["a", "b/"], 1_000)));
        check("{hosts: {paths: a}}", Ok((&["a"], 5_000)));
        check("'hosts://etc/hosts'", Err("names a host, not a path"));
        check("{hosts: {poll: 1ms}}", Err("poll: at least 50ms"));
        check("{hosts: {path: a}}", Err("did you mean \"paths\"?"));
    }
}
