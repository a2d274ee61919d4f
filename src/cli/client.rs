//! The HTTP client of the commands that ask a running sidewatch.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::future::Future;
use std::time::Duration;

/// Runs a future to its end on a small runtime.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the async runtime")?
        .block_on(future)
}

/// `http://ADDRESS`, from an address or a URL without a trailing slash.
pub fn base_url(address: &str) -> String {
    let address = address.trim_end_matches('/');
    if address.contains("://") {
        address.to_owned()
    } else {
        format!("http://{}", address.replace("0.0.0.0:", "127.0.0.1:"))
    }
}

/// Sends a request and reads the answer.
///
/// # Errors
/// Nobody answers there: the sentence says how to start sidewatch or name another address.
pub async fn exchange(request: reqwest::RequestBuilder, base: &str) -> Result<(u16, String)> {
    let answer = request.timeout(Duration::from_secs(60)).send().await.with_context(|| {
        format!("no sidewatch answers at {base} (start one with `sidewatch run`, or name another with --url)")
    })?;
    let status = answer.status().as_u16();
    Ok((status, answer.text().await.context("reading the answer")?))
}

/// The client that all commands share.
pub fn client() -> Result<reqwest::Client> {
    crate::notify::plain_client().map_err(anyhow::Error::msg).context("building the HTTP client")
}

/// GET of a Prometheus endpoint: its `data`, or its error.
pub async fn prometheus(base: &str, path: &str, parameters: &[(&str, String)]) -> Result<Value> {
    let form: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    let request = client()?
        .post(format!("{base}{path}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.join("&"));
    let (status, body) = exchange(request, base).await?;
    let mut answer: Value =
        serde_json::from_str(&body).with_context(|| format!("{base}{path} answered {status}: {body}"))?;
    if answer["status"] != "success" {
        bail!("{}", answer["error"].as_str().unwrap_or(&body));
    }
    for kind in ["warnings", "infos"] {
        for note in answer[kind].as_array().into_iter().flatten() {
            eprintln!("{}", note.as_str().unwrap_or_default());
        }
    }
    Ok(answer["data"].take())
}

/// Percent-encoding of a form's value: everything but unreserved characters (RFC 3986, section 2.3).
pub fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
