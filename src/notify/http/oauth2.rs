//! OAuth 2.0, the grant of client credentials (RFC 6749, section 4.4): a token is fetched when one is needed, kept until
//! shortly before it expires, and thrown away when a receiver no longer takes it.

use super::TlsOptions;
use super::proxy::Proxy;
use super::{HttpClients, explain, read_some};
use crate::config::schema::SecretSource;
use crate::model::Timestamp;
use crate::notify::receiver::parse_url;
use crate::secret::Secret;
use base64::Engine;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A token is not used in the last seconds of its life, in milliseconds: it must outlive the request.
const EXPIRY_MARGIN_MS: i64 = 10_000;
/// How long a token serves whose server does not say, in milliseconds.
const UNKNOWN_LIFE_MS: i64 = 300_000;
/// Tokens that are kept.
const TOKENS: usize = 64;
/// How long the server may take, in milliseconds.
const TIMEOUT_MS: i64 = 10_000;

/// `oauth2`.
#[derive(Clone, Debug, PartialEq)]
pub struct OAuth2 {
    /// `client_id`.
    pub client_id: String,
    /// `client_secret` or `client_secret_file`.
    pub client_secret: Option<SecretSource>,
    /// `token_url`.
    pub token_url: String,
    /// `scopes`.
    pub scopes: Vec<String>,
    /// `endpoint_params`: further parameters of the request.
    pub endpoint_params: Vec<(String, String)>,
    /// `tls_config` of the request for a token.
    pub tls: TlsOptions,
    /// The proxy of the request for a token.
    pub proxy: Proxy,
}

#[derive(Debug)]
struct Kept {
    config: OAuth2,
    client_secret: Secret,
    token: Secret,
    until: Timestamp,
}

/// The tokens that are kept.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    // Never held across an await: looking up and storing.
    kept: Mutex<Vec<Kept>>,
}

/// A token's answer, RFC 6749, section 5.1.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    expires_in: Option<f64>,
}

/// A refusal, RFC 6749, section 5.2.
#[derive(Deserialize)]
struct Refused {
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Tokens {
    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token that is good now.
    ///
    /// # Errors
    /// A sentence: the secret cannot be read, or the server gave none.
    pub(super) async fn get(&self, config: &OAuth2, clients: &HttpClients, now: Timestamp) -> Result<Secret, String> {
        let client_secret = match &config.client_secret {
            Some(source) => source.read().await?,
            None => Secret::default(),
        };
        {
            let known = self.kept();
            let good = |kept: &&Kept| kept.until > now && kept.config == *config && kept.client_secret == client_secret;
            if let Some(kept) = known.iter().find(good) {
                return Ok(kept.token.clone());
            }
        }
        let (token, life_ms) = fetch(config, &client_secret, clients).await.map_err(|e| format!("OAuth 2: {e}"))?;
        let mut kept = self.kept();
        kept.retain(|kept| kept.until > now && kept.config != *config);
        if kept.len() >= TOKENS {
            kept.remove(0);
        }
        let until = now.plus_millis(life_ms.saturating_sub(EXPIRY_MARGIN_MS));
        kept.push(Kept { config: config.clone(), client_secret, token: token.clone(), until });
        Ok(token)
    }

    /// The receiver did not take this token.
    pub(super) fn forget(&self, config: &OAuth2) {
        self.kept().retain(|kept| kept.config != *config);
    }
}

/// Asks for a token, with the client's name in the Authorization header (section 2.3.1), and where the server refuses
/// that, in the body: servers differ, and Go's client tries in this order too.
async fn fetch(config: &OAuth2, client_secret: &Secret, clients: &HttpClients) -> Result<(Secret, i64), String> {
    let url = parse_url(&config.token_url)?;
    let client = clients.client(&url, &config.tls, &config.proxy, false, true).await?;
    let mut last = String::new();
    for in_header in [true, false] {
        let (status, body) = ask(config, client_secret, &client, &url, in_header).await?;
        if status.is_success() {
            let granted: Granted =
                serde_json::from_str(&body).map_err(|_| format!("{} answered without a token", config_host(&url)))?;
            let life_ms = granted.expires_in.filter(|it| it.is_finite() && *it > 0.0);
            let life_ms = life_ms.map_or(UNKNOWN_LIFE_MS, |seconds| (seconds * 1e3) as i64);
            return Ok((Secret::new(granted.access_token), life_ms));
        }
        last = match serde_json::from_str::<Refused>(&body) {
            Ok(refused) => format!("{} {}", refused.error, refused.error_description).trim().to_owned(),
            Err(_) => String::new(),
        };
        last = format!("{} answered {} {last}", config_host(&url), status.as_u16()).trim().to_owned();
        if !status.is_client_error() {
            break;
        }
    }
    Err(last)
}

async fn ask(
    config: &OAuth2,
    client_secret: &Secret,
    client: &Client,
    url: &Url,
    in_header: bool,
) -> Result<(StatusCode, String), String> {
    let mut form = form_urlencoded();
    form.append_pair("grant_type", "client_credentials");
    if !config.scopes.is_empty() {
        form.append_pair("scope", &config.scopes.join(" "));
    }
    for (name, value) in &config.endpoint_params {
        form.append_pair(name, value);
    }
    if !in_header {
        form.append_pair("client_id", &config.client_id);
        if !client_secret.is_empty() {
            form.append_pair("client_secret", client_secret.expose());
        }
    }
    let mut request = client
        .post(url.clone())
        .timeout(Duration::from_millis(TIMEOUT_MS.unsigned_abs()))
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    if in_header {
        // RFC 6749, section 2.3.1: both parts are form-encoded before they are put together.
        let pair = format!("{}:{}", encode(&config.client_id), encode(client_secret.expose()));
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        request = request.header(AUTHORIZATION, format!("Basic {encoded}"));
    }
    let response = request.body(form.finish()).send().await.map_err(|error| explain(error, url, TIMEOUT_MS))?;
    let status = response.status();
    Ok((status, read_some(response).await))
}

fn config_host(url: &Url) -> String {
    url.host_str().unwrap_or("the token's server").to_owned()
}

/// A writer of application/x-www-form-urlencoded: a URL's query is one.
struct Form(Url);

fn form_urlencoded() -> Form {
    #[expect(clippy::expect_used, reason = "the text is a constant and an address")]
    let url = Url::parse("http://form.invalid/").expect("an address");
    Form(url)
}

impl Form {
    fn append_pair(&mut self, name: &str, value: &str) {
        self.0.query_pairs_mut().append_pair(name, value);
    }

    fn finish(self) -> String {
        self.0.query().unwrap_or_default().to_owned()
    }
}

fn encode(text: &str) -> String {
    let mut form = form_urlencoded();
    form.append_pair("", text);
    form.finish().trim_start_matches('=').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_secrets_are_form_encoded() {
        for (text, encoded) in [("a b", "a+b"), ("x:y/=", "x%3Ay%2F%3D"), ("plain", "plain"), ("=", "%3D")] {
            assert_eq!(encode(text), encoded);
        }
    }
}
