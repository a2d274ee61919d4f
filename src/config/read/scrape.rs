//! `scrape:` of a source.

use crate::config::reader::{self, MapReader};
use crate::config::schema::{RelabelAction, RelabelConfig, ScrapeConfig, ScrapeHttp, ScrapeTarget, Transport};
use crate::config::yaml::{Kind, Node};
use crate::config::{Diagnostics, Span, Spanned};

/// As in Prometheus's global defaults, but for the interval: a sidecar's rules are quick.
const INTERVAL_MS: i64 = 15_000;
const TIMEOUT_MS: i64 = 10_000;
/// Below this a scrape costs more than it tells.
const SHORTEST_INTERVAL_MS: i64 = 10;
const BODY_BYTES: u64 = 64 << 20;
const TARGETS: usize = 1_000;

/// Prometheus's names for keys that are shorter here.
const PROMETHEUS_NAMES: [(&str, &str); 5] = [
    ("scrape_interval", "interval"),
    ("scrape_timeout", "timeout"),
    ("job_name", "job"),
    ("static_configs", "targets and labels"),
    ("http_headers", "headers"),
];

/// `scrape: URL` or `scrape: {...}`.
pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Option<Transport> {
    if matches!(node.kind, Kind::Scalar { .. }) && !node.is_null() {
        let url = reader::string(node, "scrape", found)?;
        return of_url(&url, found);
    }
    let mut map = MapReader::new(node, "scrape source", found)?;
    for (key, ours) in PROMETHEUS_NAMES {
        map.refuse(key, &format!("{key} of Prometheus is called {ours} here"));
    }
    let targets = targets(&mut map);
    let interval = map.duration_ms("interval");
    let interval_ms = interval.as_ref().map_or(INTERVAL_MS, |time| time.value);
    if let Some(interval) = interval.as_ref().filter(|time| time.value < SHORTEST_INTERVAL_MS) {
        map.found().error(&interval.span, format!("interval: at least {SHORTEST_INTERVAL_MS}ms"));
    }
    let timeout = map.duration_ms("timeout");
    if let Some(timeout) = timeout.as_ref().filter(|time| time.value > interval_ms || time.value == 0) {
        let message = "timeout: it must be longer than 0 and at most as long as the interval";
        map.found().error(&timeout.span, message);
    }
    let timeout_ms = timeout.map_or(TIMEOUT_MS.min(interval_ms), |time| time.value);
    let job = map.string("job").map(|text| text.value);
    let instance = map.string("instance");
    if let Some(instance) = &instance
        && targets.len() > 1
    {
        let message = "instance: several targets cannot share one; each has its address, relabel_configs can change it";
        map.found().error(&instance.span, message);
    }
    let labels = map.string_map("labels");
    for (name, _) in &labels {
        label_name(name, map.found());
    }
    let params = map.string_map("params");
    let honor_labels = map.boolean("honor_labels").is_some_and(|it| it.value);
    let honor_timestamps = map.boolean("honor_timestamps").is_none_or(|it| it.value);
    let classic_histograms = map.boolean("always_scrape_classic_histograms").is_none_or(|it| it.value);
    let convert_classic = map.boolean("convert_classic_histograms_to_nhcb").is_some_and(|it| it.value);
    let relabel = map.each("relabel_configs", relabel_config);
    let metric_relabel = map.each("metric_relabel_configs", relabel_config);
    let sample_limit = map.integer("sample_limit", 0..=100_000_000).map_or(0, |limit| limit.value as usize);
    let body_size_limit = map.bytes("body_size_limit").map_or(BODY_BYTES, |limit| limit.value);
    let compression = map.boolean("enable_compression").map(|it| it.value);
    let http = request(&mut map);
    map.finish();
    if targets.is_empty() {
        return None;
    }
    Some(Transport::Scrape(Box::new(ScrapeConfig {
        targets,
        interval_ms,
        timeout_ms,
        job,
        instance: instance.map(|text| text.value),
        labels,
        params,
        honor_labels,
        honor_timestamps,
        classic_histograms,
        convert_classic,
        relabel,
        metric_relabel,
        sample_limit,
        // 0 is Prometheus's word for "no limit"; a limit there is all the same.
        body_size_limit: if body_size_limit == 0 { usize::MAX >> 1 } else { body_size_limit as usize },
        compression,
        http,
    })))
}

/// A source that is only an address.
pub(super) fn of_url(url: &Spanned<String>, found: &mut Diagnostics) -> Option<Transport> {
    let target = target(url, "http", "/metrics", found)?;
    Some(Transport::Scrape(Box::new(ScrapeConfig {
        targets: vec![target],
        interval_ms: INTERVAL_MS,
        timeout_ms: TIMEOUT_MS,
        job: None,
        instance: None,
        labels: Vec::new(),
        params: Vec::new(),
        honor_labels: false,
        honor_timestamps: true,
        classic_histograms: true,
        convert_classic: false,
        relabel: Vec::new(),
        metric_relabel: Vec::new(),
        sample_limit: 0,
        body_size_limit: BODY_BYTES as usize,
        compression: None,
        http: ScrapeHttp::default(),
    })))
}

fn targets(map: &mut MapReader<'_, '_>) -> Vec<ScrapeTarget> {
    let scheme = map.one_of("scheme", &[("http", "http"), ("https", "https")]).map_or("http", |it| it.value);
    let path = map.string("metrics_path");
    if let Some(path) = path.as_ref().filter(|path| !path.value.starts_with('/')) {
        map.found().error(&path.span, "metrics_path: it begins with a slash");
    }
    let path = path.map_or_else(|| "/metrics".to_owned(), |path| path.value);
    let url = map.string("url");
    let given = map.strings("targets");
    match (&url, given.first()) {
        (None, None) => {
            let span = map.span().clone();
            map.found().error_hint(
                &span,
                "scrape source: one of \"url\" and \"targets\" is needed, found none",
                "write {scrape: \"http://127.0.0.1:8080/metrics\"}",
            );
        }
        (Some(_), Some(second)) => map.found().error(&second.span, "at most one of url and targets may be set"),
        _ => {}
    }
    if let Some(far) = given.get(TARGETS) {
        map.found().error(&far.span, format!("targets: at most {TARGETS} of one source"));
    }
    let all = url.iter().chain(&given);
    all.filter_map(|text| target(text, scheme, &path, map.found())).collect()
}

/// `http://HOST:PORT/PATH?QUERY`, or `HOST:PORT`.
fn target(text: &Spanned<String>, scheme: &str, path: &str, found: &mut Diagnostics) -> Option<ScrapeTarget> {
    let (scheme, rest) = match text.value.split_once("://") {
        Some((given @ ("http" | "https"), rest)) => (given, rest),
        Some((other, _)) => {
            found.error(&text.span, format!("{other:?} is no scheme of a target: http and https are"));
            return None;
        }
        None => (scheme, text.value.as_str()),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (address, path) = match rest.find('/') {
        Some(at) if at + 1 < rest.len() => rest.split_at(at),
        Some(at) => (&rest[..at], path),
        None => (rest, path),
    };
    if address.contains('@') {
        found.error(&text.span, "credentials do not stand in the address; write basic_auth: {username, password_file}");
        return None;
    }
    let port = address.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
    let host = port.map_or(address, |(host, _)| host);
    let bad_port = port.is_some_and(|(_, port)| port.parse::<u16>().is_err());
    let unusable = format!("{scheme}://{address}{path}").parse::<http::Uri>().is_err();
    if host.is_empty() || bad_port || unusable {
        let message = format!("{:?} is no target", text.value);
        found.error_hint(&text.span, message, "write http://HOST:PORT/metrics, or HOST:PORT in a list of targets");
        return None;
    }
    Some(ScrapeTarget {
        scheme: scheme.into(),
        address: Spanned::new(address.into(), text.span.clone()),
        path: path.into(),
        query: query.into(),
    })
}

fn label_name(name: &Spanned<String>, found: &mut Diagnostics) -> bool {
    let valid = !name.value.is_empty() && name.value != "__name__";
    if !valid {
        found.error(&name.span, format!("{:?} cannot be set as a label of every series", name.value));
    }
    valid
}

/// One entry of `relabel_configs` or `metric_relabel_configs`; what belongs together is checked as Prometheus does.
pub(super) fn relabel_config(node: &Node, found: &mut Diagnostics) -> Option<RelabelConfig> {
    let mut map = MapReader::new(node, "relabel step", found)?;
    let span = map.span().clone();
    let action = map.one_of("action", &RelabelAction::ALL).map_or(RelabelAction::Replace, |it| it.value);
    let source_labels = map.strings("source_labels");
    let separator = map.string("separator");
    let regex = map.string("regex");
    let target_label = map.string("target_label");
    let replacement = map.raw("replacement").and_then(|node| reader::string_or_empty(node, "replacement", map.found()));
    let modulus = map.integer("modulus", 1..=i64::MAX);
    map.finish();
    let needs_target = matches!(
        action,
        RelabelAction::Replace
            | RelabelAction::HashMod
            | RelabelAction::Lowercase
            | RelabelAction::Uppercase
            | RelabelAction::KeepEqual
            | RelabelAction::DropEqual
    );
    let name = RelabelAction::ALL.iter().find(|(_, known)| *known == action).map_or("", |(name, _)| *name);
    if needs_target && target_label.is_none() {
        found.error(&span, format!("relabel step: {name} needs target_label"));
        return None;
    }
    if action == RelabelAction::HashMod && modulus.is_none() {
        found.error(&span, "relabel step: hashmod needs modulus");
        return None;
    }
    let only_regex = matches!(action, RelabelAction::LabelDrop | RelabelAction::LabelKeep);
    let extra = source_labels.first().or(target_label.as_ref()).or(replacement.as_ref()).or(separator.as_ref());
    if let Some(extra) = extra.filter(|_| only_regex) {
        found.error(&extra.span, format!("relabel step: {name} takes only regex"));
        return None;
    }
    let regex = regex.unwrap_or_else(|| Spanned::new("(.*)".into(), span));
    if let Err(error) = regex::Regex::new(&format!("^(?s:{})$", regex.value)) {
        found.error(&regex.span, format!("regex: {error}"));
        return None;
    }
    Some(RelabelConfig {
        action,
        source_labels,
        separator: separator.map_or_else(|| ";".into(), |text| text.value),
        regex,
        target_label: target_label.map(|text| text.value).unwrap_or_default(),
        replacement: replacement.map_or_else(|| "$1".into(), |text| text.value),
        modulus: modulus.map_or(0, |modulus| modulus.value.unsigned_abs()),
    })
}

pub(super) fn request(map: &mut MapReader<'_, '_>) -> ScrapeHttp {
    let mut options = ScrapeHttp::default();
    let mut ways: Vec<Span> = Vec::new();
    if let Some(node) = map.get("basic_auth") {
        ways.push(node.span.clone());
        if let Some(mut inner) = MapReader::new(node, "basic_auth", map.found()) {
            let username = inner.string("username").map(|text| text.value).unwrap_or_default();
            options.basic = Some((username, inner.secret("password", "password_file")));
            inner.finish();
        }
    }
    if let Some(node) = map.get("authorization") {
        ways.push(node.span.clone());
        if let Some(mut inner) = MapReader::new(node, "authorization", map.found()) {
            let scheme = inner.string("type").map_or_else(|| "Bearer".to_owned(), |text| text.value);
            options.authorization = inner.secret("credentials", "credentials_file").map(|secret| (scheme, secret));
            if options.authorization.is_none() {
                let span = inner.span().clone();
                inner.found().error(&span, "authorization: credentials or credentials_file is missing");
            }
            inner.finish();
        }
    }
    if let [_, second, ..] = ways.as_slice() {
        map.found().error(second, "at most one of basic_auth and authorization may be set");
    }
    options.headers = map.headers();
    if let Some(node) = map.get("tls_config")
        && let Some(mut inner) = MapReader::new(node, "scrape tls_config", map.found())
    {
        options.ca_file = inner.string("ca_file");
        options.cert_file = inner.string("cert_file");
        options.key_file = inner.string("key_file");
        options.insecure = inner.boolean("insecure_skip_verify").is_some_and(|it| it.value);
        if options.cert_file.is_some() != options.key_file.is_some() {
            let span = inner.span().clone();
            inner.found().error(&span, "tls_config: cert_file and key_file belong together");
        }
        inner.finish();
    }
    options.proxy = map.string("proxy_url");
    options.refuse_redirects = map.boolean("follow_redirects").is_some_and(|it| !it.value);
    options
}

#[cfg(test)]
mod tests {
    use crate::config::{Overrides, load_text, show};

    /// What is found in a `scrape` source, without the lines that show the place.
    fn check(scrape: &str, expected: &[&str]) {
        let text = format!("sources: {{s: {{scrape: {scrape}}}}}");
        let (_, found) = load_text("t.yaml", &text, &Default::default(), &Overrides::default());
        let said = found.to_string();
        let messages: Vec<&str> =
            said.lines().filter_map(|line| line.split_once("error: ").map(|(_, message)| message)).collect();
        assert_eq!(messages, expected, "{scrape}");
    }

    #[test]
    fn mistakes_are_said_with_what_to_do() {
        check("{}", &["scrape source: one of \"url\" and \"targets\" is needed, found none"]);
        check("'ftp://h/'", &["\"ftp\" is no scheme of a target: http and https are"]);
        check(
            "'http://u:p@h/'",
            &["credentials do not stand in the address; write basic_auth: {username, password_file}"],
        );
        check("'http://h:99999/'", &["\"http://h:99999/\" is no target"]);
        check("{url: 'http://h', scrape_interval: 1s}", &["scrape_interval of Prometheus is called interval here"]);
        check("{url: 'http://h', intervall: 1s}", &["scrape source: unknown key \"intervall\""]);
        check("{url: 'http://h', interval: 1ms}", &["interval: at least 10ms"]);
        let timeout = "timeout: it must be longer than 0 and at most as long as the interval";
        check("{url: 'http://h', interval: 1s, timeout: 2s}", &[timeout]);
        let instance =
            "instance: several targets cannot share one; each has its address, relabel_configs can change it";
        check("{targets: ['a:1', 'b:1'], instance: x}", &[instance]);
        check("{url: 'http://h', headers: {'a b': c}}", &["headers: \"a b\" is no name of a header"]);
        let both = "at most one of basic_auth and authorization may be set";
        check("{url: 'http://h', basic_auth: {username: u}, authorization: {credentials: c}}", &[both]);
    }

    #[test]
    fn what_is_shown_reads_back() {
        let text = "sources:\n  a: {scrape: 'http://h:1/m?x=1'}\n  b:\n    scrape:\n      targets: ['a:1', 'https://b']\n      interval: 250ms\n      \
            job: j\n      labels: {env: prod}\n      params: {m: '1'}\n      honor_labels: true\n      sample_limit: 7\n      body_size_limit: 1MiB\n      \
            enable_compression: false\n      basic_auth: {username: u, password_file: p}\n      headers: {x-a: b}\n      tls_config: {insecure_skip_verify: true}\n      \
            follow_redirects: false\n      relabel_configs: [{action: hashmod, source_labels: [a], target_label: s, modulus: 3}]\n      \
            metric_relabel_configs: [{source_labels: [a, b], regex: '(x)', target_label: s, replacement: ''}, {action: labeldrop, regex: y}]\n";
        let load = |text: &str| {
            let (config, found) = load_text("t.yaml", text, &Default::default(), &Overrides::default());
            show(&config.unwrap_or_else(|| panic!("{found}\n{text}")))
        };
        let shown = load(text);
        assert_eq!(load(&shown), shown);
        assert!(shown.contains("interval: 250ms") && shown.contains("modulus: 3"), "{shown}");
    }
}
