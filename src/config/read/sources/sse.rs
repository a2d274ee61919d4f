//! `sse:` of a source.

use super::tls::tls;
use crate::config::reader::{self, MapReader};
use crate::config::schema::{SseConfig, Transport};
use crate::config::yaml::{Kind, Node};
use crate::config::{Diagnostics, Spanned};

/// `sse: URL` or `sse: {...}`.
pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Option<Transport> {
    if matches!(node.kind, Kind::Scalar { .. }) && !node.is_null() {
        return plain(reader::string(node, "sse", found)?, found);
    }
    let mut map = MapReader::new(node, "sse source", found)?;
    let url = map.required_string("url");
    let headers = map.headers();
    let token = map.secret("token", "token_file");
    let tls_span = map.get("tls").map(|node| node.span.clone());
    let tls = tls(&mut map);
    let mut valid = true;
    let idle = map.duration_ms("idle_timeout");
    if let Some(idle) = idle.as_ref().filter(|idle| idle.value < 1_000) {
        map.found().error(&idle.span, "idle_timeout: at least 1s");
        valid = false;
    }
    map.finish();
    let url = address(url?, found)?;
    if let Some(span) = tls_span.filter(|_| url.value.starts_with("http://")) {
        found.error_hint(&span, "tls: the address begins with http://", "write https:// in url, or leave tls out");
        valid = false;
    }
    valid.then(|| {
        Transport::Sse(Box::new(SseConfig { url, headers, token, tls, idle_timeout_ms: idle.map(|idle| idle.value) }))
    })
}

/// `sse:https://HOST/PATH`.
pub(super) fn of_url(text: &Spanned<String>, found: &mut Diagnostics) -> Option<Transport> {
    let url = text.value.strip_prefix("sse:").unwrap_or(&text.value);
    plain(Spanned::new(url.to_owned(), text.span.clone()), found)
}

fn plain(url: Spanned<String>, found: &mut Diagnostics) -> Option<Transport> {
    let url = address(url, found)?;
    Some(Transport::Sse(Box::new(SseConfig {
        url,
        headers: Vec::new(),
        token: None,
        tls: None,
        idle_timeout_ms: None,
    })))
}

fn address(url: Spanned<String>, found: &mut Diagnostics) -> Option<Spanned<String>> {
    let parsed = url.value.parse::<http::Uri>().ok();
    let scheme = parsed.as_ref().and_then(|uri| uri.scheme_str());
    let Some(authority) =
        parsed.as_ref().and_then(|uri| uri.authority()).filter(|_| matches!(scheme, Some("http" | "https")))
    else {
        // A password in it is not repeated.
        let shown = url.value.rsplit_once('@').map_or(url.value.as_str(), |(_, host)| host);
        found.error_hint(
            &url.span,
            format!("{shown:?} is no address of server-sent events"),
            "write sse: \"https://HOST/PATH\"",
        );
        return None;
    };
    if authority.as_str().contains('@') {
        found.error(
            &url.span,
            "credentials do not stand in the address; write token_file, or headers: {authorization: ...}",
        );
        return None;
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use crate::config::read::sources::checked::check;
    use crate::config::{Overrides, load_text, show};

    #[test]
    fn mistakes_are_said() {
        check("'sse:https://h/events'", &[]);
        check("{sse: 'http://h:1/'}", &[]);
        check("'sse:h/events'", &["\"h/events\" is no address of server-sent events"]);
        check("{sse: 'ftp://h/'}", &["\"ftp://h/\" is no address of server-sent events"]);
        let credentials = "credentials do not stand in the address; write token_file, or headers: {authorization: ...}";
        check("{sse: 'http://u:p@h/'}", &[credentials]);
        check("{sse: {}}", &["sse source: the key \"url\" is missing"]);
        check("{sse: {url: 'http://h/', tls: {}}}", &["tls: the address begins with http://"]);
        check("{sse: {url: 'http://h/', idle_timeout: 10ms}}", &["idle_timeout: at least 1s"]);
        check("{sse: {url: 'http://h/', headers: {'a b': c}}}", &["headers: \"a b\" is no name of a header"]);
        check(
            "{sse: {url: 'http://h/', token: a, token_file: b}}",
            &["at most one of token and token_file may be set"],
        );
        check("{sse: {urls: 'http://h/', url: 'http://h/'}}", &["sse source: unknown key \"urls\""]);
    }

    #[test]
    fn what_is_shown_reads_back_and_keeps_secrets() {
        let text = "sources: {s: {sse: {url: 'https://h/e?a=1', headers: {x-key: s3cret}, token: s3cret, tls: {ca_file: ca.pem}, \
                    idle_timeout: 1m30s}}}";
        let (config, found) = load_text("t.yaml", text, &Default::default(), &Overrides::default());
        assert!(!found.has_errors(), "{found}");
        let shown = show(&config.unwrap());
        assert!(!shown.contains("s3cret") && shown.contains("idle_timeout: 1m30s"), "{shown}");
        let (again, found) = load_text("t.yaml", &shown, &Default::default(), &Overrides::default());
        assert!(!found.has_errors(), "{found}");
        assert_eq!(show(&again.unwrap()), shown);
    }
}
