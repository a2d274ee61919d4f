//! What brokers' sources have in common: addresses with user and password in them, secrets, scopes.

use crate::config::reader::MapReader;
use crate::config::schema::{Scope, SecretSource};
use crate::config::{Diagnostics, Spanned};
use crate::secret::Secret;

/// `scheme://user:password@host:port/path?query`, taken apart (RFC 3986, section 3).
#[derive(Debug)]
pub(super) struct BrokerUrl {
    /// Whether the scheme asks for TLS.
    pub tls: bool,
    pub host: String,
    pub port: Option<u16>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Behind the host, with its slash; still encoded. Empty when there is none.
    pub path: String,
    /// Decoded.
    pub query: Vec<(String, String)>,
}

/// Takes an address apart; `schemes` are the plain one and the one with TLS.
pub(super) fn url(
    text: &Spanned<String>,
    schemes: [&'static str; 2],
    example: &str,
    found: &mut Diagnostics,
) -> Option<BrokerUrl> {
    match take_apart(&text.value, schemes) {
        Ok(url) => Some(url),
        Err(message) => {
            found.error_hint(&text.span, format!("url: {message}"), format!("write {example}"));
            None
        }
    }
}

fn take_apart(text: &str, schemes: [&'static str; 2]) -> Result<BrokerUrl, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("no address that begins with {}://", schemes[0]));
    };
    let tls = match schemes.iter().position(|known| scheme.eq_ignore_ascii_case(known)) {
        Some(at) => at == 1,
        None => return Err(format!("{scheme:?} is neither {} nor {}", schemes[0], schemes[1])),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => match port.parse::<u16>() {
            Ok(port) if port > 0 => (host, Some(port)),
            _ => return Err(format!("{port:?} is not a port")),
        },
        _ => (host, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err("the host is missing".into());
    }
    let decoded = |part: &str| decode(part).ok_or_else(|| format!("{part:?} is not percent-encoded UTF-8"));
    let (username, password) = match user.map(|user| user.split_once(':').map_or((user, None), |(u, p)| (u, Some(p)))) {
        None => (None, None),
        Some((user, password)) => {
            // A password is never repeated in a message.
            let password = match password.map(decode) {
                Some(None) => return Err("the password is not percent-encoded UTF-8".into()),
                known => known.flatten().map(Secret::new),
            };
            (Some(decoded(user)?), password)
        }
    };
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((decoded(name)?, decoded(value)?));
    }
    Ok(BrokerUrl { tls, host: host.to_owned(), port, username, password, path: path.to_owned(), query: pairs })
}

/// Percent-decoding (RFC 3986, section 2.1); `None` when it is no UTF-8 or a % stands alone.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |digit: Option<u8>| char::from(digit?).to_digit(16);
            bytes.push((digit(rest.next())? * 16 + digit(rest.next())?) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// `password` or `password_file`, else what stands in the address.
pub(super) fn password(map: &mut MapReader<'_, '_>, of_url: Option<Spanned<Secret>>) -> Option<SecretSource> {
    let (inline, file) = (map.string("password"), map.string("password_file"));
    if let (Some(_), Some(file)) = (&inline, &file) {
        map.found().error(&file.span, "password and password_file exclude each other");
    }
    match (inline, file) {
        (Some(text), _) => Some(SecretSource::Inline(Spanned::new(Secret::new(text.value), text.span))),
        (None, Some(file)) => Some(SecretSource::File(file)),
        (None, None) => of_url.map(SecretSource::Inline),
    }
}

/// `scope: shared|per_instance`.
pub(super) fn scope(map: &mut MapReader<'_, '_>) -> Option<Scope> {
    map.one_of("scope", &Scope::ALL).map(|scope| scope.value)
}
