//! The HTTP client that receivers share: rustls with ring, the roots of webpki and of the system, timeouts, credentials,
//! and one way to post a message and to judge the answer.

mod answer;
mod oauth2;
mod proxy;
mod redirect;

pub use crate::tls::{Pem, TlsOptions, TlsVersion};
pub(super) use crate::tls::{install_provider, system_roots};
pub(super) use answer::{Answer, Hint};
pub use oauth2::OAuth2;
pub use proxy::{NamedProxy, Proxy};
pub use redirect::{post_redirects, redirect_hint};

use super::outbox::Outcome;
use crate::config::reader::header_fault;
use crate::config::schema::SecretSource;
use crate::config::{Diagnostics, Span};
use crate::model::Timestamp;
use crate::secret::Secret;
use crate::telemetry::root_cause;
use bytes::Bytes;
use oauth2::Tokens;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take when nothing else is configured, in milliseconds.
pub const DEFAULT_TIMEOUT_MS: i64 = 10_000;
/// How much of an answer is read, in bytes.
const ANSWER_BYTES: usize = 16_384;
/// Different TLS and proxy settings for which a client is kept.
const CLIENTS: usize = 64;
/// Texts shorter than this are not looked for in answers: they would hide ordinary words.
const SECRET_BYTES: usize = 6;

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
    /// Through whom requests go.
    pub proxy: Proxy,
    /// Whether redirects are refused (`follow_redirects: false`).
    pub refuse_redirects: bool,
    /// Whether HTTP/2 is not offered (`enable_http2: false`).
    pub refuse_http2: bool,
}

impl HttpOptions {
    /// Says which headers cannot be sent; `None` when there is one.
    pub(super) fn check_headers(&self, span: &Span, found: &mut Diagnostics) -> Option<()> {
        let secret = self.secret_headers.iter().map(|(name, _)| (name, None));
        let mut usable = true;
        for (name, value) in self.headers.iter().map(|(name, value)| (name, Some(value.as_str()))).chain(secret) {
            if let Some(message) = header_fault(name, value) {
                found.error(span, message);
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
        username: SecretSource,
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
    /// `oauth2`.
    OAuth2(Box<OAuth2>),
}

#[derive(Clone, Debug, PartialEq)]
struct ClientKey {
    tls: TlsOptions,
    proxy: Proxy,
    /// Matters where a proxy or `server_name` is in play.
    host: String,
    refuse_redirects: bool,
    http2: bool,
}

#[derive(Debug)]
struct KeptClient {
    key: ClientKey,
    stamp: crate::tls::Stamp,
    client: Client,
}

/// One request.
pub(super) struct Post<'a> {
    pub(super) url: &'a Url,
    pub(super) body: Vec<u8>,
    /// Sent as `Idempotency-Key`: the same each time the message is tried.
    pub(super) key: String,
    pub(super) options: &'a HttpOptions,
    /// 0 for the default.
    pub(super) timeout_ms: i64,
    /// May explain a refusal from its status and body.
    pub(super) hint: Hint,
}

/// The clients, one for each combination of settings in use, and the tokens. Connections are kept and used again.
#[derive(Debug, Default)]
pub struct HttpClients {
    // Never held across an await: looking up and storing a handle.
    clients: Mutex<Vec<KeptClient>>,
    tokens: Tokens,
}

impl HttpClients {
    /// Posts JSON and says how that ended.
    pub(super) async fn post(&self, post: Post<'_>, now: Timestamp) -> Outcome {
        let hint = post.hint;
        match self.send(post, now).await {
            Ok(answer) => answer.outcome(now, hint),
            Err(outcome) => outcome,
        }
    }

    /// Posts JSON and gives the answer, whatever it is; a token that is no longer taken is fetched anew, once.
    ///
    /// # Errors
    /// There was no answer; the outcome says why.
    pub(super) async fn send(&self, post: Post<'_>, now: Timestamp) -> Result<Answer, Outcome> {
        let retry = |error: String| Outcome::Retry { error, retry_after_ms: None };
        let body = Bytes::from(post.body);
        let mut first = true;
        loop {
            let sending = self.attempt(post.url, &body, &post.key, post.options, post.timeout_ms, now);
            let answer = sending.await.map_err(retry)?;
            match &post.options.authorization {
                Some(Authorization::OAuth2(config)) if first && answer.status == StatusCode::UNAUTHORIZED => {
                    self.tokens.forget(config);
                    first = false;
                }
                _ => return Ok(answer),
            }
        }
    }

    async fn attempt(
        &self,
        url: &Url,
        body: &Bytes,
        key: &str,
        options: &HttpOptions,
        timeout_ms: i64,
        now: Timestamp,
    ) -> Result<Answer, String> {
        let client =
            self.client(url, &options.tls, &options.proxy, options.refuse_redirects, !options.refuse_http2).await?;
        let timeout_ms = if timeout_ms > 0 { timeout_ms } else { DEFAULT_TIMEOUT_MS };
        let mut secrets: Vec<String> = vec![url.path().trim_matches('/').to_owned()];
        secrets.extend(url.query().map(str::to_owned));
        let mut headers = headers(options, &mut secrets).await?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let valid = |text: &str, what: &str| {
            HeaderValue::from_str(text).map_err(|_| format!("{what} holds characters that a header cannot"))
        };
        headers.insert(HeaderName::from_static("idempotency-key"), valid(key, "the message's key")?);
        if let Some(value) = self.authorization(options, &mut secrets, now).await? {
            let mut value = valid(&value, "the credentials")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut target = url.clone();
        if let Some(name) = asked_name(url, &options.tls) {
            // The address is looked up by the real host; what is asked for and proved is the other name.
            let host = match url.port() {
                Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
                None => url.host_str().unwrap_or_default().to_owned(),
            };
            headers.insert(HOST, valid(&host, "the host")?);
            target.set_host(Some(name)).map_err(|_| format!("server_name: {name:?} is no name of a host"))?;
        }
        let timeout = Duration::from_millis(timeout_ms.unsigned_abs());
        let request = client.post(target).headers(headers).timeout(timeout).body(body.clone());
        let response = request.send().await.map_err(|error| explain(error, url, timeout_ms))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let redirected = redirect_hint(url, &response);
        let mut body = read_some(response).await;
        for secret in secrets.iter().filter(|secret| secret.len() >= SECRET_BYTES) {
            body = body.replace(secret.as_str(), "<secret>");
        }
        Ok(Answer { status, headers, body, redirected })
    }

    async fn authorization(
        &self,
        options: &HttpOptions,
        secrets: &mut Vec<String>,
        now: Timestamp,
    ) -> Result<Option<String>, String> {
        use base64::Engine;
        Ok(match &options.authorization {
            None => None,
            Some(Authorization::Basic { username, password }) => {
                let username = username.read().await?;
                let password = match password {
                    Some(source) => source.read().await?,
                    None => Secret::default(),
                };
                secrets.push(password.expose().to_owned());
                let pair = format!("{}:{}", username.expose(), password.expose());
                Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
            }
            Some(Authorization::Scheme { scheme, credentials }) => {
                let secret = credentials.read().await?;
                secrets.push(secret.expose().to_owned());
                Some(format!("{scheme} {}", secret.expose()))
            }
            Some(Authorization::OAuth2(config)) => {
                let token = self.tokens.get(config, self, now).await?;
                secrets.push(token.expose().to_owned());
                Some(format!("Bearer {}", token.expose()))
            }
        })
    }

    fn clients(&self) -> MutexGuard<'_, Vec<KeptClient>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client for these settings; one whose certificate files have changed is made anew.
    async fn client(
        &self,
        url: &Url,
        tls: &TlsOptions,
        proxy: &Proxy,
        refuse_redirects: bool,
        http2: bool,
    ) -> Result<Client, String> {
        let host = url.host_str().unwrap_or_default();
        let asked = asked_name(url, tls).is_some();
        let host = if asked || *proxy != Proxy::Direct { host.to_owned() } else { String::new() };
        // The name that is asked for stands in the address then; a redirect and HTTP/2 would take it for the host.
        let key = ClientKey {
            tls: tls.clone(),
            proxy: proxy.clone(),
            host,
            refuse_redirects: refuse_redirects || asked,
            http2: http2 && !asked,
        };
        let stamp = tls.stamp().await;
        if let Some(kept) = self.clients().iter().find(|kept| kept.key == key && kept.stamp == stamp) {
            return Ok(kept.client.clone());
        }
        let client = build(&key, asked)?;
        let mut clients = self.clients();
        clients.retain(|kept| kept.key != key);
        if clients.len() >= CLIENTS {
            clients.remove(0);
        }
        clients.push(KeptClient { key, stamp, client: client.clone() });
        Ok(client)
    }

    /// Forgets all clients and their connections.
    pub(super) fn clear(&self) {
        self.clients().clear();
    }
}

/// The name to ask for where it is not the host's.
fn asked_name<'a>(url: &Url, tls: &'a TlsOptions) -> Option<&'a str> {
    let name = tls.server_name.as_deref()?;
    (url.scheme() == "https" && url.host_str() != Some(name)).then_some(name)
}

/// A client with the roots of this system and those that are built in: for health probes and the command line.
///
/// # Errors
/// A sentence: TLS cannot be set up.
pub fn plain_client() -> Result<Client, String> {
    install_provider();
    Client::builder()
        .user_agent(concat!("sidewatch/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(TlsOptions::default().http_client_config(false)?)
        .build()
        .map_err(|error| root_cause(&error))
}

fn build(key: &ClientKey, asked: bool) -> Result<Client, String> {
    install_provider();
    let mut builder = Client::builder()
        .user_agent(concat!("sidewatch/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(2)
        .tcp_nodelay(true)
        .redirect(post_redirects(key.refuse_redirects))
        .tls_backend_preconfigured(key.tls.http_client_config(key.http2)?);
    if !key.http2 {
        builder = builder.http1_only();
    }
    if asked {
        builder = builder.dns_resolver(LookUp(key.host.clone()));
    }
    let builder = key.proxy.apply(builder, &key.host)?;
    builder.build().map_err(|error| format!("no HTTP client can be made: {}", error.without_url()))
}

/// Finds one host's addresses whatever name is asked for: `server_name`.
struct LookUp(String);

impl Resolve for LookUp {
    fn resolve(&self, _name: Name) -> Resolving {
        let host = self.0.trim_start_matches('[').trim_end_matches(']').to_owned();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// The beginning of an answer's body. The status is what counts: an answer that breaks off later is still an answer.
async fn read_some(mut response: reqwest::Response) -> String {
    let mut answer = Vec::new();
    while answer.len() < ANSWER_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => answer.extend_from_slice(&chunk),
            Ok(None) | Err(_) => break,
        }
    }
    answer.truncate(ANSWER_BYTES);
    String::from_utf8_lossy(&answer).trim().to_owned()
}

async fn headers(options: &HttpOptions, secrets: &mut Vec<String>) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    let mut put = |name: &str, value: &str| {
        let parsed_name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no header name"))?;
        let parsed =
            HeaderValue::from_str(value).map_err(|_| format!("the value of the header {name} is not valid"))?;
        map.append(parsed_name, parsed);
        Ok::<_, String>(())
    };
    for (name, value) in &options.headers {
        put(name, value)?;
    }
    for (name, source) in &options.secret_headers {
        let secret = source.read().await?;
        put(name, secret.expose())?;
        secrets.push(secret.expose().to_owned());
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
