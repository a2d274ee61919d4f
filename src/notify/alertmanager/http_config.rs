//! `http_config` and `tls_config` of Alertmanager's format (prometheus/common, config/http_config.go).

use super::receivers::warn_not_served;
use crate::config::reader::MapReader;
use crate::config::schema::SecretSource;
use crate::config::yaml::Node;
use crate::config::{Diagnostics, Span, Spanned};
use crate::notify::http::{Authorization, HttpOptions, NamedProxy, OAuth2, Pem, Proxy, TlsOptions, TlsVersion};
use crate::notify::receiver::parse_url;
use crate::secret::Secret;

/// What a file means that says nothing: no proxy, whatever the environment says.
pub(super) fn literal() -> HttpOptions {
    HttpOptions { proxy: Proxy::Direct, ..HttpOptions::default() }
}

/// Reads `http_config`.
pub(super) fn read(node: &Node, found: &mut Diagnostics) -> HttpOptions {
    let mut options = literal();
    let Some(mut map) = MapReader::new(node, "http_config", found) else { return options };
    let mut ways: Vec<Span> = Vec::new();
    if let Some(node) = map.get("basic_auth") {
        ways.push(node.span.clone());
        options.authorization = basic_auth(node, map.found());
    }
    if let Some(node) = map.get("authorization") {
        ways.push(node.span.clone());
        options.authorization = authorization(node, map.found());
    }
    if let Some(credentials) = map.secret("bearer_token", "bearer_token_file") {
        ways.push(map.span().clone());
        options.authorization = Some(Authorization::Scheme { scheme: "Bearer".into(), credentials });
    }
    if let Some(node) = map.get("oauth2") {
        ways.push(node.span.clone());
        options.authorization = oauth2(node, map.found()).map(|it| Authorization::OAuth2(Box::new(it)));
    }
    if let [_, second, ..] = ways.as_slice() {
        map.found().error(second, "at most one of basic_auth, authorization, bearer_token and oauth2 may be set");
    }
    options.proxy = proxy(&mut map);
    options.refuse_http2 = map.boolean("enable_http2").is_some_and(|it| !it.value);
    options.refuse_redirects = map.boolean("follow_redirects").is_some_and(|it| !it.value);
    options.tls = tls(&mut map, "tls_config");
    if let (Some(_), Proxy::Named(_)) = (&options.tls.server_name, &options.proxy) {
        let span = map.span().clone();
        map.found().error(&span, "http_config: server_name and proxy_url are not served together");
    }
    headers(&mut map, &mut options);
    map.finish();
    options
}

fn basic_auth(node: &Node, found: &mut Diagnostics) -> Option<Authorization> {
    let mut map = MapReader::new(node, "basic_auth", found)?;
    let username = map.secret("username", "username_file");
    let password = map.secret("password", "password_file");
    warn_not_served(&mut map, &["username_ref", "password_ref"], "write username_file or password_file");
    map.finish();
    let username = username.unwrap_or_else(|| SecretSource::Inline(Spanned::bare(Secret::default())));
    Some(Authorization::Basic { username, password })
}

fn authorization(node: &Node, found: &mut Diagnostics) -> Option<Authorization> {
    let mut map = MapReader::new(node, "authorization", found)?;
    let scheme = map.string("type");
    if let Some(basic) = scheme.as_ref().filter(|scheme| scheme.value.eq_ignore_ascii_case("basic")) {
        map.found().error_hint(&basic.span, "authorization: the type cannot be Basic", "write basic_auth instead");
    }
    let scheme = scheme.map_or_else(|| "Bearer".to_owned(), |text| text.value);
    let credentials = map.secret("credentials", "credentials_file");
    warn_not_served(&mut map, &["credentials_ref"], "write credentials_file");
    map.finish();
    credentials.map(|credentials| Authorization::Scheme { scheme, credentials })
}

fn oauth2(node: &Node, found: &mut Diagnostics) -> Option<OAuth2> {
    let mut map = MapReader::new(node, "oauth2", found)?;
    let client_id = map.required_string("client_id");
    let client_secret = map.secret("client_secret", "client_secret_file");
    let token_url = map.required_string("token_url");
    if let Some(url) = &token_url
        && let Err(reason) = parse_url(&url.value)
    {
        map.found().error_hint(&url.span, format!("token_url: {reason}"), "write https://login.example.com/token");
    }
    let scopes = map.strings("scopes").into_iter().map(|scope| scope.value).collect();
    let endpoint_params = map.string_map("endpoint_params");
    let endpoint_params = endpoint_params.into_iter().map(|(name, value)| (name.value, value.value)).collect();
    let tls = tls(&mut map, "tls_config");
    let proxy = proxy(&mut map);
    let by_certificate = [
        "client_secret_ref",
        "client_certificate_key",
        "client_certificate_key_file",
        "client_certificate_key_id",
        "client_certificate_key_ref",
        "signature_algorithm",
        "iss",
        "audience",
        "claims",
        "grant_type",
    ];
    warn_not_served(&mut map, &by_certificate, "the grant of client credentials is, with client_secret_file");
    map.finish();
    let (client_id, token_url) = (client_id?.value, token_url?.value);
    Some(OAuth2 { client_id, client_secret, token_url, scopes, endpoint_params, tls, proxy })
}

fn proxy(map: &mut MapReader<'_, '_>) -> Proxy {
    let url = map.string("proxy_url");
    let no_proxy = map.string("no_proxy");
    let from_environment = map.boolean("proxy_from_environment");
    let connect_headers = map.named("proxy_connect_header", |name, node, found| {
        let values = crate::config::reader::one_or_list(node).iter();
        let read = values.filter_map(|value| crate::config::reader::string(value, "proxy_connect_header", found));
        Some(read.map(|value| (name.value.clone(), Secret::new(value.value))).collect::<Vec<_>>())
    });
    let connect_headers = connect_headers.into_iter().flat_map(|(_, pairs)| pairs).collect();
    let environment = from_environment.as_ref().is_some_and(|it| it.value);
    let Some(url) = url else {
        if let Some(no_proxy) = no_proxy {
            let message = "no_proxy belongs to proxy_url";
            map.found().error_hint(&no_proxy.span, message, "with proxy_from_environment, NO_PROXY says it");
        }
        return if environment { Proxy::Environment } else { Proxy::Direct };
    };
    if let Some(asked) = from_environment.filter(|it| it.value) {
        map.found().error(&asked.span, "at most one of proxy_url and proxy_from_environment may be set");
    }
    if let Err(error) = reqwest::Proxy::all(&url.value) {
        map.found().error(&url.span, format!("proxy_url: not a usable address: {}", error.without_url()));
    }
    let no_proxy = no_proxy.map(|text| text.value).unwrap_or_default();
    Proxy::Named(Box::new(NamedProxy { url: Secret::new(url.value), no_proxy, connect_headers }))
}

fn headers(map: &mut MapReader<'_, '_>, options: &mut HttpOptions) {
    let headers = map.named("http_headers", |name, node, found| {
        let mut map = MapReader::new(node, "http_headers", found)?;
        let values = map.strings("values").into_iter().map(|text| (name.value.clone(), text.value)).collect::<Vec<_>>();
        let hidden =
            |text: Spanned<String>| SecretSource::Inline(Spanned { value: Secret::new(text.value), span: text.span });
        let mut secrets: Vec<SecretSource> = map.strings("secrets").into_iter().map(hidden).collect();
        secrets.extend(map.strings("files").into_iter().map(SecretSource::File));
        map.finish();
        Some((values, secrets))
    });
    for (name, (values, secrets)) in headers {
        if let Some(own) = RESERVED.iter().find(|own| own.eq_ignore_ascii_case(&name.value)) {
            map.found().error(&name.span, format!("http_headers: {own} is set by sidewatch itself"));
            continue;
        }
        options.headers.extend(values);
        options.secret_headers.extend(secrets.into_iter().map(|source| (name.value.clone(), source)));
        options.check_headers(&name.span, map.found());
    }
}

/// Headers that cannot be set by hand (prometheus/common, config/headers.go).
const RESERVED: [&str; 8] = [
    "Authorization",
    "Host",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "User-Agent",
    "Connection",
    "Transfer-Encoding",
];

/// Reads `tls_config` under a key.
pub(super) fn tls(map: &mut MapReader<'_, '_>, key: &'static str) -> TlsOptions {
    let Some(node) = map.get(key) else { return TlsOptions::default() };
    let Some(mut map) = MapReader::new(node, "tls_config", map.found()) else { return TlsOptions::default() };
    let ca = pem(&mut map, "ca", "ca_file");
    let cert = pem(&mut map, "cert", "cert_file");
    let key = pem(&mut map, "key", "key_file");
    if cert.is_some() != key.is_some() {
        let span = map.span().clone();
        map.found().error(
            &span,
            "tls_config: a certificate (cert or cert_file) and its key (key or key_file) belong together",
        );
    }
    let server_name = map.string("server_name");
    if let Some(name) = server_name.as_ref().filter(|name| name.value.parse::<std::net::IpAddr>().is_ok()) {
        map.found().error(&name.span, "server_name: a name is needed, not an address");
    }
    let insecure_skip_verify = map.boolean("insecure_skip_verify").is_some_and(|it| it.value);
    let versions = [
        ("TLS10", (10, None)),
        ("TLS11", (11, None)),
        ("TLS12", (12, Some(TlsVersion::V1_2))),
        ("TLS13", (13, Some(TlsVersion::V1_3))),
    ];
    let min = map.one_of("min_version", &versions);
    let max = map.one_of("max_version", &versions);
    if let Some(old) = min.as_ref().filter(|it| it.value.1.is_none()) {
        map.found().warning(&old.span, "min_version: nothing older than TLS 1.2 is spoken");
    }
    if let Some(old) = max.as_ref().filter(|it| it.value.1.is_none()) {
        map.found().error(&old.span, "max_version: nothing older than TLS 1.2 is spoken");
    }
    if let (Some(min), Some(max)) = (&min, &max)
        && min.value.0 > max.value.0
    {
        map.found().error(&max.span, "max_version is below min_version");
    }
    warn_not_served(&mut map, &["ca_ref", "cert_ref", "key_ref"], "use the *_file keys");
    map.finish();
    TlsOptions {
        ca,
        cert,
        key,
        server_name: server_name.map(|name| name.value),
        insecure_skip_verify,
        min_version: min.and_then(|it| it.value.1),
        max_version: max.and_then(|it| it.value.1),
    }
}

/// PEM text that stands here or in a file. What stands here is checked at once.
fn pem(map: &mut MapReader<'_, '_>, inline: &'static str, file: &'static str) -> Option<Pem> {
    match map.secret(inline, file)? {
        SecretSource::File(path) => Some(Pem::File(path.path().display().to_string())),
        SecretSource::Inline(text) => {
            let pem = Pem::Text(text.value);
            if inline != "key"
                && let Err(reason) = pem.certificates()
            {
                map.found().error(&text.span, format!("{inline}: {reason}"));
            }
            Some(pem)
        }
    }
}
