//! Who asks: pages of other sites must not push through a visitor's browser, and payloads are shown on loopback only.

use super::error::ApiError;
use http::{HeaderMap, StatusCode, header};
use std::net::IpAddr;

/// Refuses a request that a browser sends for a page of another site. Programs send no `Origin`.
///
/// # Errors
/// 403.
pub fn refuse_foreign(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or("");
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
    if !host.is_empty() && authority.eq_ignore_ascii_case(host) {
        return Ok(());
    }
    let hint = "a page of another site cannot change anything here; send the request from a program, without Origin";
    Err(ApiError::new(StatusCode::FORBIDDEN, format!("the origin {origin:?} is not this host"), hint))
}

/// Whether the request came from this machine itself, and not through a proxy on it.
pub fn is_local(peer: IpAddr, headers: &HeaderMap) -> bool {
    let proxied = ["forwarded", "x-forwarded-for", "x-real-ip", "via"].iter().any(|name| headers.contains_key(*name));
    peer.to_canonical().is_loopback() && !proxied
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        for (pairs, allowed) in [
            (vec![], true),
            (vec![("host", "127.0.0.1:9181")], true),
            (vec![("host", "127.0.0.1:9181"), ("origin", "http://127.0.0.1:9181")], true),
            (vec![("host", "127.0.0.1:9181"), ("origin", "http://127.0.0.1:9180")], false),
            (vec![("host", "127.0.0.1:9181"), ("origin", "https://evil.example")], false),
            (vec![("host", "127.0.0.1:9181"), ("origin", "null")], false),
            (vec![("origin", "null")], false),
        ] {
            assert_eq!(refuse_foreign(&headers(&pairs)).is_ok(), allowed, "{pairs:?}");
        }
    }

    #[test]
    fn only_this_machine_is_local() {
        for (peer, pairs, local) in [
            ("127.0.0.1", vec![], true),
            ("::1", vec![], true),
            ("::ffff:127.0.0.1", vec![], true),
            ("10.0.0.1", vec![], false),
            ("127.0.0.1", vec![("x-forwarded-for", "10.0.0.1")], false),
        ] {
            assert_eq!(is_local(peer.parse().unwrap(), &headers(&pairs)), local, "{peer} {pairs:?}");
        }
    }
}
