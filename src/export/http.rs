//! Requests over HTTP: credentials, TLS, and which answers are worth another try.

use super::Outcome;
use crate::config::schema::{ScrapeHttp, SecretSource};
use crate::model::Timestamp;
use crate::notify::redirect_hint;
use crate::source::scrape::{http_client, is_local};
use crate::telemetry::{clock, root_cause};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use std::path::PathBuf;
use std::time::Duration;

/// Bytes of an answer that are shown.
const SHOWN: usize = 300;

/// Where requests go.
#[derive(Debug)]
pub(super) struct HttpTarget {
    url: SecretSource,
    http: ScrapeHttp,
    timeout: Duration,
    base_dir: PathBuf,
    client: Option<Client>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl HttpTarget {
    pub fn new(url: &SecretSource, http: &ScrapeHttp, timeout_ms: i64, base_dir: PathBuf) -> Self {
        let timeout = Duration::from_millis(timeout_ms.unsigned_abs());
        Self { url: url.clone(), http: http.clone(), timeout, base_dir, client: None }
    }

    /// Posts a body; `path` is added to the address.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn post(
        &mut self,
        path: &str,
        content_type: &str,
        headers: &[(String, String)],
        body: Vec<u8>,
    ) -> Result<Answer, String> {
        let address = self.url.read().await?;
        let mut url = Url::parse(address.expose()).map_err(|_| "the address is none".to_owned())?;
        if !path.is_empty() {
            let whole = format!("{}{path}", url.path().trim_end_matches('/'));
            url.set_path(&whole);
        }
        let client = match &self.client {
            Some(client) => client.clone(),
            None => self.client.insert(http_client(&self.http, is_local(&url), true, &self.base_dir)?).clone(),
        };
        let mut request = client.post(url.clone()).timeout(self.timeout).header(CONTENT_TYPE, content_type).body(body);
        for (name, value) in headers {
            request = request.header(name.as_str(), value.as_str());
        }
        for (name, value) in &self.http.headers {
            request = request.header(name.value.as_str(), value.value.as_str());
        }
        if let Some((username, password)) = &self.http.basic {
            let password = match password {
                Some(source) => Some(source.read().await?),
                None => None,
            };
            request = request.basic_auth(username, password.as_ref().map(|it| it.expose()));
        }
        if let Some((scheme, credentials)) = &self.http.authorization {
            let secret = credentials.read().await?;
            request = request.header(AUTHORIZATION, format!("{scheme} {}", secret.expose()));
        }
        let host = format!("{}:{}", url.host_str().unwrap_or(""), url.port_or_known_default().unwrap_or(0));
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                // Certificates may have been changed meanwhile.
                self.client = None;
                let (timeout, connect) = (error.is_timeout(), error.is_connect());
                let cause = root_cause(&error.without_url());
                return Err(match (timeout, connect) {
                    (true, _) => format!("{host} did not answer within {:?}", self.timeout),
                    (_, true) => format!("cannot connect to {host}: {cause}"),
                    _ => format!("the connection to {host} broke: {cause}"),
                });
            }
        };
        let redirected = redirect_hint(&url, &response);
        let (status, headers) = (response.status(), response.headers().clone());
        let mut text = Vec::new();
        while text.len() < SHOWN {
            match response.chunk().await {
                Ok(Some(chunk)) => text.extend_from_slice(&chunk),
                _ => break,
            }
        }
        text.truncate(SHOWN);
        let text = redirected.unwrap_or_else(|| String::from_utf8_lossy(&text).trim().to_owned());
        Ok(Answer { status, headers, text })
    }
}

impl Answer {
    /// `passes` says which statuses are worth another try.
    pub fn outcome(&self, passes: impl Fn(StatusCode) -> bool) -> Outcome {
        if self.status.is_success() {
            return Outcome::Taken;
        }
        let error = format!("answered {} {}", self.status, self.text).trim().to_owned();
        // A redirect that was not followed leads to the same place at the next attempt.
        if passes(self.status) && !self.status.is_redirection() {
            Outcome::Retry { error, after_ms: self.retry_after_ms(clock::now()) }
        } else {
            Outcome::Refused { error }
        }
    }

    /// Retry-After of RFC 9110, section 10.2.3: seconds, or a date.
    fn retry_after_ms(&self, now: Timestamp) -> Option<i64> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse::<f64>() {
            return (seconds.is_finite() && seconds >= 0.0).then_some((seconds * 1e3) as i64);
        }
        let moment = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some(Timestamp::from_micros(moment.as_microsecond()).millis_since(now).max(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Spanned;
    use crate::secret::Secret;
    use axum::http::Method;
    use std::sync::{Arc, Mutex};

    #[tokio::test]
    async fn only_a_redirect_that_repeats_the_request_is_followed() {
        for (status, expected) in [(301, None), (302, None), (303, None), (307, Some("POST x")), (308, Some("POST x"))]
        {
            let taken = Arc::new(Mutex::new(Vec::new()));
            let into = taken.clone();
            let target = move |method: Method, body: String| {
                into.lock().unwrap().push(format!("{method} {body}"));
                std::future::ready(())
            };
            let moved = move || std::future::ready((StatusCode::from_u16(status).unwrap(), [("location", "/new")]));
            let app = axum::Router::new().route("/new", axum::routing::any(target)).fallback(moved);
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            #[expect(clippy::disallowed_methods, reason = "a server of a test ends with its runtime")]
            tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
            let url = SecretSource::Inline(Spanned::bare(Secret::new(format!("{address}/old"))));
            let mut target = HttpTarget::new(&url, &ScrapeHttp::default(), 5_000, PathBuf::from("."));
            let outcome = target.post("", "text/plain", &[], b"x".to_vec()).await.unwrap().outcome(|_| true);
            assert_eq!(*taken.lock().unwrap(), Vec::from_iter(expected), "{status}");
            if expected.is_some() {
                assert_eq!(outcome, Outcome::Taken, "{status}");
            } else {
                let Outcome::Refused { error } = outcome else { panic!("{status}: {outcome:?}") };
                let hint = format!("redirects are not followed here: write the final address, which is {address}/new");
                assert!(error.ends_with(&hint), "{error}");
            }
        }
    }
}
