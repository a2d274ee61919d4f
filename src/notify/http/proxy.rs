//! `proxy_url` and its companions.

use super::is_loopback;
use crate::secret::Secret;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{ClientBuilder, NoProxy};

/// Through whom requests go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proxy {
    /// `proxy_from_environment`: HTTPS_PROXY, HTTP_PROXY and NO_PROXY, which loopback addresses ignore.
    #[default]
    Environment,
    /// Through nobody: what Alertmanager's files mean when they say nothing.
    Direct,
    /// `proxy_url`.
    Named(Box<NamedProxy>),
}

/// `proxy_url`, `no_proxy`, `proxy_connect_header`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedProxy {
    /// The proxy's address; it may hold a password.
    pub url: Secret,
    /// Hosts and networks that are reached without it, separated by commas.
    pub no_proxy: String,
    /// Headers of the CONNECT request.
    pub connect_headers: Vec<(String, Secret)>,
}

impl Proxy {
    /// # Errors
    /// A sentence without the proxy's address.
    pub(super) fn apply(&self, builder: ClientBuilder, host: &str) -> Result<ClientBuilder, String> {
        let loopback = is_loopback(host);
        match self {
            Self::Environment if loopback => Ok(builder.no_proxy()),
            Self::Environment => Ok(builder),
            Self::Direct => Ok(builder.no_proxy()),
            // As Go's httpproxy: with a list of exceptions, this machine is always one of them.
            Self::Named(named) if loopback && !named.no_proxy.is_empty() => Ok(builder.no_proxy()),
            Self::Named(named) => {
                let unusable = |error: reqwest::Error| format!("the proxy cannot be used: {}", error.without_url());
                let mut headers = HeaderMap::new();
                for (name, value) in &named.connect_headers {
                    let header = HeaderName::from_bytes(name.as_bytes());
                    let (Ok(header), Ok(value)) = (header, HeaderValue::from_str(value.expose())) else {
                        return Err(format!("the header {name} for the proxy is not valid"));
                    };
                    headers.append(header, value);
                }
                let proxy = reqwest::Proxy::all(named.url.expose()).map_err(unusable)?;
                let proxy = proxy.no_proxy(NoProxy::from_string(&named.no_proxy));
                Ok(builder.proxy(if headers.is_empty() { proxy } else { proxy.headers(headers) }))
            }
        }
    }
}
