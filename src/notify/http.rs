//! The HTTP client that webhooks and Slack share: rustls with ring, the roots of webpki and of the system, timeouts, and
//! the one place that says which answers are worth another try.

use super::outbox::Outcome;
use super::receiver::read_secret;
use crate::config::schema::SecretSource;
use crate::config::{Diagnostics, Span};
use crate::model::Timestamp;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::error::Error;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take when nothing else is configured, in milliseconds.
pub const DEFAULT_TIMEOUT_MS: i64 = 10_000;
/// How much of an answer is read for messages, in bytes.
const ANSWER_BYTES: usize = 4_096;
/// How much of it a message shows, in characters.
const ANSWER_SHOWN: usize = 200;
/// Different TLS and proxy settings for which a client is kept.
const CLIENTS: usize = 64;

/// Alertmanager's `http_config`, and what the short form has of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpOptions {
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Further headers whose values are secret.
    pub secret_headers: Vec<(String, SecretSource)>,
    /// The Authorization header.
    pub authorization: Option<Authorization>,
    /// TLS.
    pub tls: TlsOptions,
    /// `proxy_url`; `None` leaves it to HTTPS_PROXY, HTTP_PROXY and NO_PROXY, which loopback addresses ignore.
    pub proxy: Option<String>,
    /// Whether redirects are refused (`follow_redirects: false`).
    pub refuse_redirects: bool,
}

impl HttpOptions {
    /// Says which headers cannot be sent; `None` when there is one.
    pub(super) fn check_headers(&self, span: &Span, found: &mut Diagnostics) -> Option<()> {
        let secret = self.secret_headers.iter().map(|(name, _)| (name, None));
        let mut usable = true;
        for (name, value) in self.headers.iter().map(|(name, value)| (name, Some(value))).chain(secret) {
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                found.error(span, format!("headers: {name:?} is no name of a header"));
                usable = false;
            } else if value.is_some_and(|value| HeaderValue::from_str(value).is_err()) {
                found.error(span, format!("headers: the value of {name} holds characters that a header cannot"));
                usable = false;
            }
        }
        usable.then_some(())
    }
}

/// What the Authorization header is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Authorization {
    /// `basic_auth`.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Option<SecretSource>,
    },
    /// `authorization: {type, credentials}`.
    Scheme {
        /// `Bearer` in most cases.
        scheme: String,
        /// The token.
        credentials: SecretSource,
    },
}

/// `tls_config`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// PEM file of authorities to trust besides the usual ones.
    pub ca_file: Option<String>,
    /// PEM file of our own certificate.
    pub cert_file: Option<String>,
    /// PEM file of its key.
    pub key_file: Option<String>,
    /// Trust anybody. For tests and for networks that are safe by other means.
    pub insecure_skip_verify: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ClientKey {
    tls: TlsOptions,
    proxy: Option<String>,
    loopback: bool,
    refuse_redirects: bool,
}

/// One request.
pub(super) struct Post<'a> {
    pub(super) url: &'a Url,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
    /// Sent as `Idempotency-Key`: the same each time the message is tried.
    pub(super) key: String,
    pub(super) options: &'a HttpOptions,
    /// 0 for the default.
    pub(super) timeout_ms: i64,
    /// May explain a refusal from its status and body.
    pub(super) hint: fn(StatusCode, &str) -> Option<&'static str>,
}

/// The clients, one for each combination of settings in use. Connections are kept and used again.
#[derive(Debug, Default)]
pub struct HttpClients {
    // Never held across an await: looking up and storing a handle.
    clients: Mutex<Vec<(ClientKey, Client)>>,
}

impl HttpClients {
    /// Posts a body and says how that ended.
    pub(super) async fn post(&self, post: Post<'_>, now: Timestamp) -> Outcome {
        let hint = post.hint;
        match self.try_post(post).await {
            Ok((status, headers, answer)) => classify(status, &headers, &answer, now, hint),
            Err(outcome) => outcome,
        }
    }

    async fn try_post(&self, post: Post<'_>) -> Result<(StatusCode, HeaderMap, String), Outcome> {
        let Post { url, content_type, body, key, options, timeout_ms, .. } = post;
        let retry = |error: String| Outcome::Retry { error, retry_after_ms: None };
        let client = self.client(url, options).map_err(retry)?;
        let timeout_ms = if timeout_ms > 0 { timeout_ms } else { DEFAULT_TIMEOUT_MS };
        let mut request = client
            .post(url.clone())
            .header(CONTENT_TYPE, content_type)
            .header("idempotency-key", key)
            .headers(headers(options).await.map_err(retry)?)
            .timeout(Duration::from_millis(timeout_ms.unsigned_abs()));
        match &options.authorization {
            None => {}
            Some(Authorization::Basic { username, password }) => {
                let password = match password {
                    Some(source) => Some(read_secret(source).await.map_err(retry)?),
                    None => None,
                };
                request = request.basic_auth(username, password.as_ref().map(|secret| secret.expose()));
            }
            Some(Authorization::Scheme { scheme, credentials }) => {
                let secret = read_secret(credentials).await.map_err(retry)?;
                let value = HeaderValue::from_str(&format!("{scheme} {}", secret.expose()))
                    .map_err(|_| retry("the credentials hold characters that a header cannot".into()))?;
                request = request.header(reqwest::header::AUTHORIZATION, value);
            }
        }
        let mut response = request.body(body).send().await.map_err(|error| retry(explain(error, url, timeout_ms)))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut answer = Vec::new();
        // The status is what counts; an answer that breaks off later is still an answer.
        while answer.len() < ANSWER_BYTES {
            match response.chunk().await {
                Ok(Some(chunk)) => answer.extend_from_slice(&chunk),
                Ok(None) | Err(_) => break,
            }
        }
        answer.truncate(ANSWER_BYTES);
        Ok((status, headers, String::from_utf8_lossy(&answer).trim().to_owned()))
    }

    fn client(&self, url: &Url, options: &HttpOptions) -> Result<Client, String> {
        let key = ClientKey {
            tls: options.tls.clone(),
            proxy: options.proxy.clone(),
            loopback: is_loopback(url.host_str().unwrap_or("")),
            refuse_redirects: options.refuse_redirects,
        };
        let lock = || self.clients.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, client)) = lock().iter().find(|(known, _)| *known == key) {
            return Ok(client.clone());
        }
        let client = build(&key)?;
        let mut clients = lock();
        if clients.len() >= CLIENTS {
            clients.remove(0);
        }
        clients.push((key, client.clone()));
        Ok(client)
    }

    /// Forgets all clients, so that changed certificate files are read again.
    pub(super) fn clear(&self) {
        self.clients.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }
}

/// A client with the roots of this system and those that are built in: for health probes and the command line.
///
/// # Errors
/// A sentence: TLS cannot be set up.
pub fn plain_client() -> Result<Client, String> {
    install_provider();
    Client::builder()
        .user_agent(concat!("sidewatch/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls_config(&TlsOptions::default())?)
        .build()
        .map_err(|error| root_cause(&error))
}

fn build(key: &ClientKey) -> Result<Client, String> {
    let mut builder = Client::builder()
        .user_agent(concat!("sidewatch/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(2)
        .tcp_nodelay(true);
    if key.refuse_redirects {
        builder = builder.redirect(reqwest::redirect::Policy::none());
    }
    builder = match &key.proxy {
        Some(proxy) => builder.proxy(
            reqwest::Proxy::all(proxy).map_err(|error| format!("the proxy cannot be used: {}", error.without_url()))?,
        ),
        None if key.loopback => builder.no_proxy(),
        None => builder,
    };
    builder = if key.tls.insecure_skip_verify {
        install_provider();
        builder.tls_danger_accept_invalid_certs(true)
    } else {
        builder.tls_backend_preconfigured(tls_config(&key.tls)?)
    };
    builder.build().map_err(|error| format!("no HTTP client can be made: {}", error.without_url()))
}

/// The process's cryptography is ring; installing it a second time does nothing.
pub(super) fn install_provider() {
    // An error means that a provider is installed already, which is all that is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn tls_config(options: &TlsOptions) -> Result<rustls::ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots.add_parsable_certificates(system_roots().iter().cloned());
    if let Some(path) = &options.ca_file {
        for certificate in read_certificates(path)? {
            roots
                .add(certificate)
                .map_err(|error| format!("{path} holds a certificate that cannot be used: {error}"))?;
        }
    }
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    match (&options.cert_file, &options.key_file) {
        (Some(cert_file), Some(key_file)) => {
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|error| format!("cannot read the key in {key_file}: {error}"))?;
            builder
                .with_client_auth_cert(read_certificates(cert_file)?, key)
                .map_err(|error| format!("the certificate of {cert_file} cannot be used: {error}"))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// The certificates of a PEM file.
pub(super) fn read_certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    match read() {
        Ok(list) if list.is_empty() => Err(format!("{path} holds no certificate in PEM form")),
        Ok(list) => Ok(list),
        Err(error) => Err(format!("cannot read the certificates in {path}: {error}")),
    }
}

/// Where systems keep the authorities they trust; the first that is there serves, SSL_CERT_FILE before all.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The system's authorities, read once; none in a scratch image, where webpki's serve.
pub(super) fn system_roots() -> &'static [CertificateDer<'static>] {
    static ROOTS: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let named = std::env::var("SSL_CERT_FILE").ok().filter(|path| !path.is_empty());
        let bundles = named.iter().map(String::as_str).chain(SYSTEM_BUNDLES);
        bundles.filter_map(|path| read_certificates(path).ok()).next().unwrap_or_default()
    })
}

async fn headers(options: &HttpOptions) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    let mut put = |name: &str, value: &str| {
        let parsed_name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no header name"))?;
        let parsed =
            HeaderValue::from_str(value).map_err(|_| format!("the value of the header {name} is not valid"))?;
        map.insert(parsed_name, parsed);
        Ok::<_, String>(())
    };
    for (name, value) in &options.headers {
        put(name, value)?;
    }
    for (name, source) in &options.secret_headers {
        put(name, read_secret(source).await?.expose())?;
    }
    Ok(map)
}

/// Whether a host is this machine by name or address.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What went wrong before there was an answer. The address is left out but for its host: it may hold a token.
fn explain(error: reqwest::Error, url: &Url, timeout_ms: i64) -> String {
    let host = match (url.host_str(), url.port_or_known_default()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        _ => "the receiver".into(),
    };
    if error.is_connect() {
        let what = if error.is_timeout() { "timed out".to_owned() } else { root_cause(&error) };
        return format!("cannot connect to {host}: {what}");
    }
    if error.is_timeout() {
        return format!("{host} did not answer within {}", crate::model::format_duration_ms(timeout_ms));
    }
    format!("the connection to {host} broke: {}", root_cause(&error.without_url()))
}

/// The innermost error: the one that says what really happened.
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause: &(dyn Error + 'static) = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn classify(
    status: StatusCode,
    headers: &HeaderMap,
    answer: &str,
    now: Timestamp,
    hint: fn(StatusCode, &str) -> Option<&'static str>,
) -> Outcome {
    let shown: String = answer.chars().take(ANSWER_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut text = format!("answered {}", status.as_u16());
    if let Some(reason) = status.canonical_reason() {
        text.push_str(&format!(" {reason}"));
    }
    if !shown.is_empty() {
        text.push_str(&format!(": {shown}"));
    }
    if status.is_success() {
        return Outcome::Delivered(text);
    }
    if let Some(hint) = hint(status, answer) {
        text.push_str(&format!(" ({hint})"));
    }
    let worth_another_try = status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY);
    if !worth_another_try {
        return Outcome::Final { error: text };
    }
    let asked = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let retry_after_ms = asked.then(|| retry_after_ms(headers, now)).flatten();
    Outcome::Retry { error: text, retry_after_ms }
}

/// Retry-After of RFC 9110, section 10.2.3: seconds, or a date (then against the answer's own Date where it has one).
fn retry_after_ms(headers: &HeaderMap, now: Timestamp) -> Option<i64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.is_finite() && seconds >= 0.0).then_some((seconds * 1e3) as i64);
    }
    let date = |text: &str| {
        let moment = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some(Timestamp::from_micros(moment.as_microsecond()))
    };
    let from = headers.get(DATE).and_then(|value| value.to_str().ok()).and_then(date).unwrap_or(now);
    Some(date(text)?.millis_since(from).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, headers: &[(HeaderName, &str)], expected: Outcome) {
        let map = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect();
        let found = classify(StatusCode::from_u16(status).unwrap(), &map, "", Timestamp::EPOCH, |_, _| None);
        assert_eq!(found, expected);
    }

    #[test]
    fn answers_are_final_or_worth_another_try() {
        let retry = |error: &str, retry_after_ms| Outcome::Retry { error: error.into(), retry_after_ms };
        check(200, &[], Outcome::Delivered("answered 200 OK".into()));
        check(204, &[], Outcome::Delivered("answered 204 No Content".into()));
        check(404, &[], Outcome::Final { error: "answered 404 Not Found".into() });
        check(301, &[], Outcome::Final { error: "answered 301 Moved Permanently".into() });
        check(408, &[], retry("answered 408 Request Timeout", None));
        check(429, &[(RETRY_AFTER, "7")], retry("answered 429 Too Many Requests", Some(7_000)));
        check(503, &[(RETRY_AFTER, "0.5")], retry("answered 503 Service Unavailable", Some(500)));
        check(500, &[(RETRY_AFTER, "7")], retry("answered 500 Internal Server Error", None));
        let date = [(RETRY_AFTER, "Fri, 02 Jan 1970 00:00:30 GMT"), (DATE, "Fri, 02 Jan 1970 00:00:00 GMT")];
        check(503, &date, retry("answered 503 Service Unavailable", Some(30_000)));
    }
}
