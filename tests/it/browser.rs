//! Headless Chromium, driven over its DevTools protocol.

use crate::harness::eventually;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

pub struct Browser {
    child: Child,
    runtime: tokio::runtime::Runtime,
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    next_id: u64,
    /// Uncaught exceptions and console errors of the page, in order.
    pub errors: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Opens a page in a fresh profile.
    pub fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let child = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--remote-debugging-port=0", "--window-size=1280,1000"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium is installed by tests/run");
        let port: u16 = eventually("chromium opens its DevTools port", 60, || {
            std::fs::read_to_string(profile.path().join("DevToolsActivePort")).ok()?.lines().next()?.parse().ok()
        });
        let page = eventually("chromium lists its page", 60, || {
            let (_, body) = crate::harness::get(port, "/json/list");
            let pages: Value = serde_json::from_str(&body).ok()?;
            let page = pages.as_array()?.iter().find(|page| page["type"] == "page")?;
            page["webSocketDebuggerUrl"].as_str().map(String::from)
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (socket, _) = runtime.block_on(connect_async(page)).unwrap();
        let mut browser = Self { child, runtime, socket, next_id: 0, errors: Vec::new(), _profile: profile };
        browser.call("Runtime.enable", json!({}));
        browser.call("Page.enable", json!({}));
        browser.call("Page.navigate", json!({ "url": url }));
        browser
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        let message = json!({"id": id, "method": method, "params": params}).to_string();
        let (socket, errors) = (&mut self.socket, &mut self.errors);
        self.runtime.block_on(async {
            socket.send(Message::text(message)).await.unwrap();
            loop {
                let Some(Ok(Message::Text(text))) = socket.next().await else { continue };
                let answer: Value = serde_json::from_str(&text).unwrap();
                if answer["method"] == "Runtime.exceptionThrown" {
                    errors.push(answer["params"]["exceptionDetails"].to_string());
                }
                if answer["id"] == id {
                    return answer["result"].clone();
                }
            }
        })
    }

    /// The value of a JavaScript expression in the page.
    pub fn eval(&mut self, expression: &str) -> Value {
        self.call("Runtime.evaluate", json!({"expression": expression, "returnByValue": true}))["result"]["value"]
            .clone()
    }

    /// The text that a person sees.
    pub fn text(&mut self) -> String {
        self.eval("document.body ? document.body.innerText : ''").as_str().unwrap_or("").to_owned()
    }

    /// A screenshot as PNG.
    pub fn screenshot(&mut self, into: &Path) {
        use base64::Engine;
        let answer = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let png = base64::engine::general_purpose::STANDARD.decode(answer["data"].as_str().unwrap()).unwrap();
        std::fs::write(into, png).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
