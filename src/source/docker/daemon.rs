//! The daemon's HTTP API over a unix socket or TCP.

use super::event::{Details, Running};
use crate::config::schema::{DockerConfig, DockerSocket};
use crate::telemetry::root_cause;
use crate::tls::install_provider;
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;

/// Until the daemon answers a question.
const ANSWER: Duration = Duration::from_secs(10);
/// Bytes of an answer: a listing of thousands of containers.
const ANSWER_BYTES: usize = 64 << 20;
/// Between two looks at a container without address: the first, and the longest.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// A client of one daemon.
#[derive(Clone)]
pub(super) struct Daemon {
    client: Client,
    base: String,
}

/// Why a socket cannot be opened, and what helps.
fn unreachable(path: &str, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such socket; is the daemon running (docker.service, podman.socket), and is the socket mounted into this container?"
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; add the user of sidewatch to the group that owns the socket (docker), or run it with that group (group_add)"
        }
        io::ErrorKind::ConnectionRefused => "nobody listens on this socket; is the daemon running?",
        _ => return format!("cannot open {path}: {error}"),
    };
    format!("cannot open {path}: {advice}")
}

impl Daemon {
    /// Makes sure that somebody listens; the reason for people when not.
    pub async fn connect(config: &DockerConfig, base_dir: &Path) -> Result<Self, String> {
        install_provider();
        let builder = Client::builder()
            .user_agent(concat!("sidewatch/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(ANSWER)
            .http1_only()
            .pool_max_idle_per_host(2);
        let tls = config.tls.clone();
        let (builder, base) = match &config.socket {
            DockerSocket::Unix(path) => {
                let path = base_dir.join(&path.value);
                // The client's own error would not say what is wrong with the socket.
                UnixStream::connect(&path).await.map_err(|error| unreachable(&path.display().to_string(), &error))?;
                let options = crate::tls::TlsOptions::default().http_client_config(false)?;
                (builder.tls_backend_preconfigured(options).unix_socket(path), "http://docker".to_owned())
            }
            DockerSocket::Tcp(address) => {
                let scheme = if tls.is_some() { "https" } else { "http" };
                let options = tls.unwrap_or_default().options(base_dir).http_client_config(false)?;
                let builder = builder.tls_backend_preconfigured(options).tcp_keepalive(Duration::from_secs(30));
                (builder, format!("{scheme}://{}", address.value))
            }
        };
        let client = builder.build().map_err(|error| root_cause(&error))?;
        Ok(Self { client, base })
    }

    async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Response, String> {
        let pairs: Vec<String> = query.iter().map(|(key, value)| format!("{key}={}", percent(value))).collect();
        let url = format!("{}{path}?{}", self.base, pairs.join("&"));
        let answered = tokio::time::timeout(ANSWER, self.client.get(url).send()).await;
        let response = answered
            .map_err(|_| format!("the daemon does not answer {path} within {} s", ANSWER.as_secs()))?
            .map_err(|error| format!("cannot reach the daemon: {}", root_cause(&error)))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        let body = body(response).await.unwrap_or_default();
        let said = serde_json::from_slice::<Value>(&body).ok();
        let message = said.as_ref().and_then(|said| said["message"].as_str()).unwrap_or("").to_owned();
        let separator = if message.is_empty() { "" } else { ": " };
        Err(format!("the daemon answered {path} with {status}{separator}{message}"))
    }

    /// The stream of events, from a time on when it is known.
    pub async fn events(&self, config: &DockerConfig, since_nano: Option<i64>) -> Result<Response, String> {
        let mut query = vec![("filters", filters(config).to_string())];
        if let Some(since) = since_nano {
            query.push(("since", moment(since)));
        }
        self.get("/events", &query).await
    }

    /// What the daemon remembers, as lines, in an answer that ends.
    ///
    /// Podman overlooks a line of its journal that is written while it begins to follow it, until the next one is written:
    /// a second look finds it. Podman ends the answer for `stream=false`, which Docker does not know, and leaves events out
    /// when `until` is over; Docker ends it at `until`.
    pub async fn remembered(&self, config: &DockerConfig, since_nano: i64, until_nano: i64) -> Result<Vec<u8>, String> {
        let query = [
            ("filters", filters(config).to_string()),
            ("since", moment(since_nano)),
            ("until", moment(until_nano)),
            ("stream", "false".to_owned()),
        ];
        body(self.get("/events", &query).await?).await
    }

    /// The containers that run now and are wanted.
    pub async fn running(&self, config: &DockerConfig) -> Result<Vec<Running>, String> {
        let wanted = filters(config);
        let mut asked = json!({"status": ["running"]});
        if let Some(labels) = wanted.get("label") {
            asked["label"] = labels.clone();
        }
        let response = self.get("/containers/json", &[("filters", asked.to_string())]).await?;
        let body = body(response).await?;
        let listed: Vec<Listed> = serde_json::from_slice(&body)
            .map_err(|error| format!("the daemon's list of containers cannot be read: {error}"))?;
        let names = |key: &str| -> Vec<&str> {
            wanted
                .get(key)
                .and_then(Value::as_array)
                .map_or_else(Vec::new, |list| list.iter().filter_map(Value::as_str).collect())
        };
        let (containers, images) = (names("container"), names("image"));
        let containers_wanted = |container: &Running| {
            containers.is_empty()
                || containers.iter().any(|name| {
                    container.details.name == *name || (name.len() >= 12 && name.starts_with(&container.id))
                })
        };
        let images_wanted = |container: &Running| {
            images.is_empty()
                || images
                    .iter()
                    .any(|image| container.details.image == *image || repository(&container.details.image) == *image)
        };
        let running = listed.into_iter().map(Listed::running);
        Ok(running.filter(|container| containers_wanted(container) && images_wanted(container)).collect())
    }

    /// Looks at a container until it has an address, or never will have one of its own; `None` when it is gone or the time
    /// is over.
    pub async fn address_of(&self, id: &str, patience: Duration) -> Option<Details> {
        let path = format!("/containers/{id}/json");
        let look = async {
            let mut wait = FIRST_LOOK;
            loop {
                match self.get(&path, &[]).await {
                    Ok(response) => {
                        let body = body(response).await.ok()?;
                        let inspected: Inspected = serde_json::from_slice(&body).ok()?;
                        if !inspected.awaits_address() {
                            return Some(inspected.details());
                        }
                    }
                    Err(reason) if reason.contains("404") => return None,
                    // Asked again: the daemon may be busy.
                    Err(_) => {}
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_LOOK);
            }
        };
        tokio::time::timeout(patience, look).await.ok().flatten()
    }
}

/// The name of an image without its digest and tag; a port of the registry is no tag.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    let last = name.rfind('/').map_or(0, |at| at + 1);
    name[last..].find(':').map_or(name, |at| &name[..last + at])
}

/// Seconds since 1970 with their nanoseconds, as the daemon reads them.
fn moment(nano: i64) -> String {
    format!("{}.{:09}", nano.div_euclid(1_000_000_000), nano.rem_euclid(1_000_000_000))
}

async fn body(mut response: Response) -> Result<Vec<u8>, String> {
    let read = async {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| root_cause(&error))? {
            if body.len() + chunk.len() > ANSWER_BYTES {
                return Err(format!("the daemon's answer is larger than {ANSWER_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    tokio::time::timeout(ANSWER, read).await.map_err(|_| "the daemon's answer does not end".to_owned())?
}

/// The `filters` parameter: lists of alternatives.
fn filters(config: &DockerConfig) -> Value {
    let mut filters = serde_json::Map::new();
    let mut add = |key: &str, value: String| {
        let list = filters.entry(key.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(value.into());
        }
    };
    for (name, value) in &config.labels {
        add("label", value.as_ref().map_or_else(|| name.value.clone(), |value| format!("{}={value}", name.value)));
    }
    for (key, values) in &config.filters {
        for value in values {
            add(&key.value, value.value.clone());
        }
    }
    Value::Object(filters)
}

/// Everything but unreserved characters (RFC 3986, 2.3).
fn percent(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String never fails.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    labels: Option<serde_json::Map<String, Value>>,
    #[serde(default)]
    network_settings: Option<NetworkSettings>,
    #[serde(default)]
    host_config: Option<HostConfig>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(default)]
    networks: Option<std::collections::BTreeMap<String, Option<Network>>>,
    #[serde(default, rename = "IPAddress")]
    ip_address: Option<String>,
}

#[derive(Deserialize)]
struct Network {
    #[serde(default, rename = "IPAddress")]
    ip_address: Option<String>,
    #[serde(default, rename = "GlobalIPv6Address")]
    global_ipv6_address: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    network_mode: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    config: Option<InspectedConfig>,
    #[serde(default)]
    state: Option<State>,
    #[serde(default)]
    network_settings: Option<NetworkSettings>,
    #[serde(default)]
    host_config: Option<HostConfig>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedConfig {
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    labels: Option<serde_json::Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    #[serde(default)]
    running: bool,
}

impl NetworkSettings {
    /// Network and address; IPv6 addresses behind the others.
    fn addresses(&self) -> Vec<(String, String)> {
        let given = |address: &Option<String>| address.clone().filter(|address| !address.is_empty());
        let mut addresses: Vec<(String, String)> = Vec::new();
        for (name, network) in self.networks.iter().flatten() {
            let Some(network) = network else { continue };
            addresses.extend(given(&network.ip_address).map(|address| (name.clone(), address)));
        }
        for (name, network) in self.networks.iter().flatten() {
            let Some(network) = network else { continue };
            addresses.extend(given(&network.global_ipv6_address).map(|address| (name.clone(), address)));
        }
        if addresses.is_empty() {
            addresses.extend(given(&self.ip_address).map(|address| ("bridge".to_owned(), address)));
        }
        addresses
    }
}

fn texts(labels: Option<serde_json::Map<String, Value>>) -> Vec<(String, String)> {
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    labels.unwrap_or_default().into_iter().map(|(name, value)| (name, text(value))).collect()
}

fn bare(name: &str) -> String {
    name.trim_start_matches('/').to_owned()
}

impl Listed {
    fn running(self) -> Running {
        let mode = self.host_config.and_then(|host| host.network_mode).unwrap_or_default();
        let details = Details {
            name: self.names.unwrap_or_default().first().map(|name| bare(name)).unwrap_or_default(),
            image: self.image.unwrap_or_default(),
            labels: texts(self.labels),
            addresses: self.network_settings.unwrap_or_default().addresses(),
            network_mode: mode,
        };
        Running { id: super::event::short(&self.id).to_owned(), details }
    }
}

impl Inspected {
    /// It runs in a network of its own that has not given it an address yet.
    fn awaits_address(&self) -> bool {
        let runs = self.state.as_ref().is_none_or(|state| state.running);
        let mode = self.host_config.as_ref().and_then(|host| host.network_mode.as_deref()).unwrap_or("");
        let own = !(mode == "host" || mode == "none" || mode.starts_with("container:") || mode.starts_with("ns:"));
        let none = self.network_settings.as_ref().is_none_or(|settings| settings.addresses().is_empty());
        runs && own && none
    }

    fn details(self) -> Details {
        let config = self.config.unwrap_or_default();
        Details {
            name: self.name.map(|name| bare(&name)).unwrap_or_default(),
            image: config.image.unwrap_or_default(),
            labels: texts(config.labels),
            addresses: self.network_settings.unwrap_or_default().addresses(),
            network_mode: self.host_config.unwrap_or_default().network_mode.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_waits_for_an_address_only_in_a_network_of_its_own() {
        for (document, awaits) in [
            (
                r#"{"State":{"Running":true},"HostConfig":{"NetworkMode":"bridge"},"NetworkSettings":{"Networks":{"bridge":{"IPAddress":""}}}}"#,
                true,
            ),
            (
                r#"{"State":{"Running":true},"HostConfig":{"NetworkMode":"bridge"},"NetworkSettings":{"Networks":{"bridge":{"IPAddress":"172.17.0.2"}}}}"#,
                false,
            ),
            (
                r#"{"State":{"Running":true},"NetworkSettings":{"Networks":{"v6":{"GlobalIPv6Address":"fd00::2"}}}}"#,
                false,
            ),
            (r#"{"State":{"Running":true},"HostConfig":{"NetworkMode":"host"},"NetworkSettings":{}}"#, false),
            (r#"{"State":{"Running":true},"HostConfig":{"NetworkMode":"container:abc"}}"#, false),
            (r#"{"State":{"Running":false},"NetworkSettings":{"Networks":null}}"#, false),
            (r#"{"State":{"Running":true},"NetworkSettings":{"IPAddress":"10.88.0.3","Networks":null}}"#, false),
            (r#"{"State":{"Running":true}}"#, true),
        ] {
            assert_eq!(serde_json::from_str::<Inspected>(document).unwrap().awaits_address(), awaits, "{document}");
        }
    }

    #[test]
    fn an_image_is_known_by_its_repository() {
        for (image, expected) in [
            ("web", "web"),
            ("web:1", "web"),
            ("registry:5000/web", "registry:5000/web"),
            ("registry:5000/web:1", "registry:5000/web"),
            ("registry:5000/shop/web:1@sha256:ab", "registry:5000/shop/web"),
            ("docker.io/library/web@sha256:ab", "docker.io/library/web"),
        ] {
            assert_eq!(repository(image), expected, "{image}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_socket_is_said_with_what_to_do() {
        let said = |kind| unreachable("/x.sock", &io::Error::from(kind));
        assert!(said(io::ErrorKind::NotFound).contains("is the daemon running"));
        assert!(said(io::ErrorKind::PermissionDenied).contains("add the user of sidewatch to the group"));
        assert!(said(io::ErrorKind::ConnectionRefused).contains("nobody listens"));
    }
}
