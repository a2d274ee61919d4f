//! One request of a scrape: what is asked for, what is taken, and what is refused.

use super::target::Target;
use super::text::Dialect;
use crate::config::schema::{ScrapeConfig, ScrapeHttp};
use crate::notify::post_redirects;
use crate::secret::Secret;
use crate::telemetry::root_cause;
use flate2::read::MultiGzDecoder;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Url};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// As Prometheus 3 asks, with protobuf first, because only it carries native histograms.
const ACCEPTED: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
    application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
    text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";

/// How the answer is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text(Dialect),
    Protobuf,
}

/// Why there is no answer to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoAnswer {
    /// The value of a label.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

fn failed(reason: &'static str, message: impl Into<String>) -> NoAnswer {
    NoAnswer { reason, message: message.into() }
}

/// Asks one target, again and again.
pub(super) struct Fetcher {
    client: Client,
    url: Url,
    http: ScrapeHttp,
    gzip: bool,
    timeout: Duration,
    limit_bytes: usize,
    /// The answer as it came, when it is compressed.
    packed: Vec<u8>,
}

impl Fetcher {
    /// # Errors
    /// A sentence: certificates cannot be read, a proxy is none.
    pub fn new(config: &ScrapeConfig, target: &Target, base_dir: &Path) -> Result<Self, String> {
        let local = is_local(&target.url);
        Ok(Self {
            client: client(&config.http, local, false, base_dir)?,
            url: target.url.clone(),
            http: config.http.clone(),
            // On one machine the wire costs nothing, and packing would cost the service beside us.
            gzip: config.compression.unwrap_or(!local),
            timeout: Duration::from_millis(config.timeout_ms.unsigned_abs()),
            limit_bytes: config.body_size_limit,
            packed: Vec::new(),
        })
    }

    /// Fetches an exposition into `body`. Ends within the timeout.
    pub async fn fetch(&mut self, body: &mut Vec<u8>) -> Result<Format, NoAnswer> {
        body.clear();
        let timeout = self.timeout;
        match tokio::time::timeout(timeout, self.exchange(body)).await {
            Ok(answer) => answer,
            Err(_) => {
                let within = crate::model::format_duration_ms(timeout.as_millis() as i64);
                Err(failed("timeout", format!("{} did not answer within {within}", self.host())))
            }
        }
    }

    fn host(&self) -> String {
        let port = self.url.port_or_known_default().unwrap_or(0);
        format!("{}:{port}", self.url.host_str().unwrap_or(""))
    }

    async fn exchange(&mut self, body: &mut Vec<u8>) -> Result<Format, NoAnswer> {
        let mut request = self
            .client
            .get(self.url.clone())
            .header(ACCEPT, ACCEPTED)
            .header(ACCEPT_ENCODING, if self.gzip { "gzip" } else { "identity" })
            .header("x-prometheus-scrape-timeout-seconds", self.timeout.as_secs_f64().to_string());
        request = with_options(request, &self.http).await.map_err(|error| failed("credentials", error))?;
        let mut answer = request.send().await.map_err(|error| self.explain(&error))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(failed("status", format!("{} answered {status}", self.host())));
        }
        let format = format_of(answer.headers()).map_err(|given| {
            failed("content_type", format!("{} answered {given:?}, which is no exposition", self.host()))
        })?;
        let gzip = match answer.headers().get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
            None | Some(b"identity") => false,
            Some(b"gzip" | b"x-gzip") => true,
            Some(_) => return Err(failed("encoding", format!("{} answered packed in no known way", self.host()))),
        };
        let limit = self.limit_bytes;
        let large = || failed("body_size_limit", format!("the answer is longer than {limit} bytes (body_size_limit)"));
        self.packed.clear();
        let host = self.host();
        let into = if gzip { &mut self.packed } else { &mut *body };
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) if into.len() + chunk.len() > limit => return Err(large()),
                Ok(Some(chunk)) => into.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => {
                    let cause = root_cause(&error.without_url());
                    return Err(failed("broken", format!("the answer of {host} breaks off: {cause}")));
                }
            }
        }
        if gzip {
            let mut unpacked = MultiGzDecoder::new(self.packed.as_slice()).take(limit as u64 + 1);
            unpacked
                .read_to_end(body)
                .map_err(|error| failed("encoding", format!("the answer of {host} cannot be unpacked: {error}")))?;
            if body.len() > limit {
                return Err(large());
            }
        }
        Ok(format)
    }

    fn explain(&self, error: &reqwest::Error) -> NoAnswer {
        let cause = root_cause(error);
        if error.is_connect() {
            return failed("connect", format!("cannot connect to {}: {cause}", self.host()));
        }
        failed("broken", format!("the connection to {} broke: {cause}", self.host()))
    }
}

/// The format that an answer's head names. Prometheus 2 reads anything else as text; what is surely none is said.
fn format_of(headers: &HeaderMap) -> Result<Format, String> {
    format_named(headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or(""))
}

/// The format of a content type; the part of it that is no exposition.
pub(super) fn format_named(given: &str) -> Result<Format, String> {
    let mut parts = given.split(';').map(str::trim);
    let media = parts.next().unwrap_or("").to_ascii_lowercase();
    match media.as_str() {
        "application/openmetrics-text" => Ok(Format::Text(Dialect::OpenMetrics)),
        "application/vnd.google.protobuf" => {
            let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
            let is = |name: &str, value: &str| {
                let mut named = parameters.iter().filter(|(known, _)| known.trim().eq_ignore_ascii_case(name));
                named.all(|(_, given)| given.trim().trim_matches('"') == value)
            };
            let known = is("encoding", "delimited") && is("proto", "io.prometheus.client.MetricFamily");
            if known { Ok(Format::Protobuf) } else { Err(given.to_owned()) }
        }
        "text/html" | "application/json" | "application/xml" | "text/xml" => Err(media),
        _ => Ok(Format::Text(Dialect::Prometheus)),
    }
}

/// A request with the configured headers and credentials.
///
/// # Errors
/// A sentence: a file cannot be read.
pub async fn with_options(
    mut request: reqwest::RequestBuilder,
    http: &ScrapeHttp,
) -> Result<reqwest::RequestBuilder, String> {
    for (name, value) in &http.headers {
        request = request.header(name.value.as_str(), value.value.as_str());
    }
    if let Some((username, password)) = &http.basic {
        let password = match password {
            Some(source) => Some(source.read().await?),
            None => None,
        };
        request = request.basic_auth(username, password.as_ref().map(Secret::expose));
    }
    if let Some((scheme, credentials)) = &http.authorization {
        let secret = credentials.read().await?;
        request = request.header(AUTHORIZATION, format!("{scheme} {}", secret.expose()));
    }
    Ok(request)
}

/// Whether a target is this machine by name or address.
pub fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
}

/// A client with the configured TLS and proxy; `local` for targets on this machine, `posts` for one that sends.
///
/// # Errors
/// A sentence: certificates cannot be read, a proxy is none.
pub fn client(http: &ScrapeHttp, local: bool, posts: bool, base_dir: &Path) -> Result<Client, String> {
    // An error means that a provider is installed already, which is all that is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("sidewatch/", env!("CARGO_PKG_VERSION")))
        .pool_max_idle_per_host(1)
        .tcp_nodelay(true);
    if posts {
        builder = builder.redirect(post_redirects(http.refuse_redirects));
    } else if http.refuse_redirects {
        builder = builder.redirect(reqwest::redirect::Policy::none());
    }
    builder = match &http.proxy {
        Some(proxy) => {
            let proxy = reqwest::Proxy::all(&proxy.value);
            builder.proxy(proxy.map_err(|error| format!("the proxy cannot be used: {}", error.without_url()))?)
        }
        None if local => builder.no_proxy(),
        None => builder,
    };
    builder = if http.insecure {
        builder.tls_danger_accept_invalid_certs(true)
    } else {
        builder.tls_backend_preconfigured(tls(http, base_dir)?)
    };
    builder.build().map_err(|error| format!("no HTTP client can be made: {}", error.without_url()))
}

fn tls(http: &ScrapeHttp, base_dir: &Path) -> Result<rustls::ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(file) = &http.ca_file {
        for certificate in certificates(&base_dir.join(&file.value))? {
            roots.add(certificate).map_err(|error| format!("{} cannot be used: {error}", file.value))?;
        }
    }
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    match (&http.cert_file, &http.key_file) {
        (Some(cert), Some(key)) => {
            let read = PrivateKeyDer::from_pem_file(base_dir.join(&key.value))
                .map_err(|error| format!("cannot read the key in {}: {error}", key.value))?;
            builder
                .with_client_auth_cert(certificates(&base_dir.join(&cert.value))?, read)
                .map_err(|error| format!("the certificate of {} cannot be used: {error}", cert.value))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    match read() {
        Ok(list) if list.is_empty() => Err(format!("{} holds no certificate in PEM form", path.display())),
        Ok(list) => Ok(list),
        Err(error) => Err(format!("cannot read the certificates in {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_names_the_format() {
        let open = Ok(Format::Text(Dialect::OpenMetrics));
        let text = Ok(Format::Text(Dialect::Prometheus));
        let delimited = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
        for (given, expected) in [
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", open),
            ("text/plain; version=0.0.4", text.clone()),
            ("", text.clone()),
            ("application/octet-stream", text),
            (delimited, Ok(Format::Protobuf)),
            (
                "application/vnd.google.protobuf; encoding=text",
                Err("application/vnd.google.protobuf; encoding=text".into()),
            ),
            ("text/html; charset=utf-8", Err("text/html".into())),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, given.parse().unwrap());
            assert_eq!(format_of(&headers), expected, "{given}");
        }
    }
}
