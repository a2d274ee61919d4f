//! `http_config`: OAuth 2, client certificates, names of servers, proxies, headers.

use super::more_receivers::{FIRED, Server, courier, firing, receiver};
use super::*;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};

const JSON: &str = "application/json";

#[tokio::test]
async fn an_oauth2_token_is_fetched_kept_and_fetched_again_when_it_is_refused() {
    let token = |token: &str| format!(r#"{{"access_token":"{token}","token_type":"bearer","expires_in":3600}}"#);
    let (tokens, asked) = Server::start(&[
        (401, JSON, r#"{"error":"invalid_client"}"#),
        (200, JSON, &token("first-token")),
        (200, JSON, &token("second-token")),
    ])
    .await;
    let (hook, server) =
        Server::start(&[(200, JSON, "{}"), (200, JSON, "{}"), (401, JSON, "{}"), (200, JSON, "{}")]).await;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "s:cret\n").unwrap();
    let routing = receiver(&format!(
        "  webhook_configs: [{{url: '{hook}', http_config: {{oauth2: {{client_id: me, client_secret_file: '{}', token_url: '{tokens}/token', scopes: [a, b], endpoint_params: {{audience: x y}}}}}}}}]",
        secret.display()
    ));
    let courier = courier();
    for _ in 0..3 {
        let outcome = courier.deliver(&routing, &firing(), FIRED).await;
        assert!(matches!(outcome, Outcome::Delivered(_)), "{outcome:?}");
    }
    let asked = asked.asked();
    assert_eq!(asked.len(), 3, "one that the server refused in the header, one kept, one after the 401: {asked:?}");
    assert_eq!(asked[0].2, "grant_type=client_credentials&scope=a+b&audience=x+y");
    assert_eq!(asked[0].1["authorization"], "Basic bWU6cyUzQWNyZXQ=", "RFC 6749, 2.3.1: me:s%3Acret");
    assert_eq!(asked[1].2, "grant_type=client_credentials&scope=a+b&audience=x+y&client_id=me&client_secret=s%3Acret");
    let used: Vec<String> =
        server.asked().iter().map(|(_, headers, _)| headers["authorization"].to_str().unwrap().to_owned()).collect();
    let (first, second) = ("Bearer first-token", "Bearer second-token");
    assert_eq!(used, [first, first, first, second]);
    // It is not used in its last seconds.
    let late = FIRED.plus_millis(3_595_000);
    courier.deliver(&routing, &firing(), late).await;
    assert_eq!(server.asked().len(), 5);
}

#[tokio::test]
async fn a_token_that_is_not_given_is_said_without_the_secret() {
    let (tokens, _) =
        Server::start(&[(400, JSON, r#"{"error":"invalid_client","error_description":"who are you"}"#)]).await;
    let routing = receiver(&format!(
        "  webhook_configs: [{{url: 'http://127.0.0.1:1', http_config: {{oauth2: {{client_id: me, client_secret: topsecret, token_url: '{tokens}'}}}}}}]"
    ));
    let Outcome::Retry { error, .. } = courier().deliver(&routing, &firing(), FIRED).await else { panic!() };
    assert_eq!(error, "OAuth 2: 127.0.0.1 answered 400 invalid_client who are you");
}

/// An authority, and a certificate for `name` that it signed: paths of authority, certificate, key.
fn signed(folder: &Path, name: &str) -> (String, String, String) {
    let path = |file: &str| folder.join(file).display().to_string();
    let openssl = |arguments: &[&str]| {
        let done = std::process::Command::new("openssl").args(arguments).stderr(Stdio::null()).status().unwrap();
        assert!(done.success(), "{arguments:?}");
    };
    let (ca, ca_key) = (path("ca.pem"), path("ca.key"));
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    if !Path::new(&ca).exists() {
        openssl(
            &[&["req", "-x509", "-days", "2", "-subj", "/CN=Test CA", "-out", &ca, "-keyout", &ca_key][..], &key]
                .concat(),
        );
    }
    let (request, cert, cert_key) =
        (path(&format!("{name}.csr")), path(&format!("{name}.pem")), path(&format!("{name}.key")));
    let subject = format!("/CN={name}");
    openssl(&[&["req", "-subj", &subject, "-out", &request, "-keyout", &cert_key][..], &key].concat());
    let extensions = path(&format!("{name}.ext"));
    std::fs::write(&extensions, format!("subjectAltName=DNS:{name}\n")).unwrap();
    openssl(&[
        "x509",
        "-req",
        "-in",
        &request,
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-CAcreateserial",
        "-days",
        "2",
        "-out",
        &cert,
        "-extfile",
        &extensions,
    ]);
    (ca, cert, cert_key)
}

const MUTUAL: &str = r#"
import http.server, ssl, sys, json
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers['content-length']))
        peer = self.connection.getpeercert()
        name = dict(pair for part in peer['subject'] for pair in part)['commonName'] if peer else None
        print(json.dumps({'name': name, 'host': self.headers['host'], 'asked': asked[-1], 'version': self.connection.version()}), flush=True)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *arguments):
        pass
asked = []
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
context.load_verify_locations(sys.argv[1])
context.verify_mode = ssl.CERT_REQUIRED
context.sni_callback = lambda connection, name, context: asked.append(name)
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_port, flush=True)
server.serve_forever()
"#;

struct Python {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl Python {
    async fn start(script: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .arg("-c")
            .arg(script)
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next_line().await.unwrap().unwrap().parse().unwrap();
        Self { child, lines, port }
    }

    async fn line(&mut self) -> serde_json::Value {
        let line = tokio::time::timeout(std::time::Duration::from_secs(5), self.lines.next_line()).await;
        serde_json::from_str(&line.unwrap().unwrap().unwrap()).unwrap()
    }
}

#[tokio::test]
async fn a_client_certificate_and_the_name_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, cert, key) = signed(folder.path(), "hook.example");
    let (_, mine, my_key) = signed(folder.path(), "sidewatch.example");
    let mut server = Python::start(MUTUAL, &[&ca, &cert, &key]).await;
    let one = courier();
    let deliver = async |courier: &Courier, tls: &str| {
        let port = server.port;
        let routing = receiver(&format!(
            "  webhook_configs: [{{url: 'https://127.0.0.1:{port}/', http_config: {{tls_config: {{{tls}}}}}}}]"
        ));
        courier.deliver(&routing, &firing(), FIRED).await
    };
    let files = format!("ca_file: '{ca}', cert_file: '{mine}', key_file: '{my_key}'");
    let Outcome::Retry { error, .. } = deliver(&one, &files).await else { panic!("127.0.0.1 is not its name") };
    assert!(error.contains("certificate"), "{error}");
    let outcome = deliver(&one, &format!("{files}, server_name: hook.example, min_version: TLS13")).await;
    assert!(matches!(outcome, Outcome::Delivered(_)), "{outcome:?}");
    // Texts instead of files, nobody verified: the client's certificate is shown all the same.
    let text = |path: &str| std::fs::read_to_string(path).unwrap().replace('\n', "\\n");
    let texts = format!(
        "cert: \"{}\", key: \"{}\", insecure_skip_verify: true, max_version: TLS12",
        text(&mine),
        text(&my_key)
    );
    let outcome = deliver(&one, &texts).await;
    assert!(matches!(outcome, Outcome::Delivered(_)), "{outcome:?}");
    let without = deliver(&one, &format!("ca_file: '{ca}', server_name: hook.example")).await;
    assert!(matches!(without, Outcome::Retry { .. }), "{without:?}");

    // A certificate that is replaced is used without a reload.
    let replaced = folder.path().join("mine.pem");
    let replaced_key = folder.path().join("mine.key");
    let put = |cert: &str, key: &str| {
        std::fs::copy(cert, &replaced).unwrap();
        std::fs::copy(key, &replaced_key).unwrap();
    };
    let rotating = format!(
        "ca_file: '{ca}', server_name: hook.example, cert_file: '{}', key_file: '{}'",
        replaced.display(),
        replaced_key.display()
    );
    put(&mine, &my_key);
    assert!(matches!(deliver(&one, &rotating).await, Outcome::Delivered(_)));
    put(&cert, &key);
    assert!(matches!(deliver(&one, &rotating).await, Outcome::Delivered(_)));
    let host = format!("127.0.0.1:{}", server.port);
    let expected = [
        ("sidewatch.example", Some("hook.example"), "TLSv1.3"),
        ("sidewatch.example", None, "TLSv1.2"),
        ("sidewatch.example", Some("hook.example"), "TLSv1.3"),
        ("hook.example", Some("hook.example"), "TLSv1.3"),
    ];
    for (name, asked, version) in expected {
        let line = server.line().await;
        assert_eq!((&line["name"], &line["version"]), (&name.into(), &version.into()), "{line}");
        assert_eq!(line["host"], host, "the Host header names the real host");
        if let Some(asked) = asked {
            assert_eq!(line["asked"], asked, "{line}");
        }
    }
    server.child.kill().await.unwrap();
}

/// A proxy that keeps the head of each request and answers it itself.
async fn proxy() -> (u16, tokio::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (send, receive) = tokio::sync::mpsc::channel(10);
    #[expect(clippy::disallowed_methods, reason = "a server of a test ends with its runtime")]
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 8_192];
            let read = stream.read(&mut head).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let refused = head.starts_with("CONNECT");
            send.send(head).await.unwrap();
            let answer = if refused {
                "HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
            };
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, receive)
}

#[tokio::test]
async fn requests_go_through_the_proxy_with_its_headers() {
    let (port, mut heads) = proxy().await;
    let deliver = async |url: &str, more: &str| {
        let routing = receiver(&format!(
            "  webhook_configs: [{{url: '{url}', http_config: {{proxy_url: 'http://me:pw@127.0.0.1:{port}'{more}}}}}]"
        ));
        courier().deliver(&routing, &firing(), FIRED).await
    };
    assert!(matches!(deliver("http://hook.invalid/a", "").await, Outcome::Delivered(_)));
    let head = heads.recv().await.unwrap().to_ascii_lowercase();
    assert!(head.starts_with("post http://hook.invalid/a http/1.1\r\n"), "{head}");
    assert!(head.contains("proxy-authorization: basic bwu6chc="), "{head}");
    let more = ", proxy_connect_header: {X-Site: [abc]}";
    let Outcome::Retry { error, .. } = deliver("https://hook.invalid/a", more).await else { panic!() };
    assert!(!error.contains("pw"), "{error}");
    let head = heads.recv().await.unwrap().to_ascii_lowercase();
    assert!(head.starts_with("connect hook.invalid:443 http/1.1\r\n") && head.contains("x-site: abc"), "{head}");
    // What stands in no_proxy is reached directly.
    let (address, server) = Server::start(&[(200, JSON, "{}")]).await;
    let local = address.replace("127.0.0.1", "localhost");
    assert!(matches!(deliver(&local, ", no_proxy: 'localhost,.example'").await, Outcome::Delivered(_)));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn credentials_and_headers_come_from_files_that_change() {
    let (address, server) = Server::start(&[(200, JSON, "{}")]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let path = file.display();
    let deliver = async |options: &str| {
        let routing = receiver(&format!("  webhook_configs: [{{url: '{address}', http_config: {{{options}}}}}]"));
        let one = courier();
        let mut seen = Vec::new();
        for text in ["one", "two"] {
            std::fs::write(&file, format!("{text}\n")).unwrap();
            let outcome = one.deliver(&routing, &firing(), FIRED).await;
            assert!(matches!(outcome, Outcome::Delivered(_)), "{outcome:?}");
            let headers = server.asked().pop().unwrap().1;
            let shown = |name: &str| {
                headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(",")
            };
            seen.push(format!("{}{}", shown("authorization"), shown("x-key")));
        }
        seen
    };
    assert_eq!(
        deliver(&format!("basic_auth: {{username: me, password_file: '{path}'}}")).await,
        ["Basic bWU6b25l", "Basic bWU6dHdv"]
    );
    assert_eq!(
        deliver(&format!("authorization: {{type: Key, credentials_file: '{path}'}}")).await,
        ["Key one", "Key two"]
    );
    assert_eq!(deliver(&format!("bearer_token_file: '{path}'")).await, ["Bearer one", "Bearer two"]);
    assert_eq!(
        deliver(&format!("http_headers: {{X-Key: {{values: [a], secrets: [b], files: ['{path}']}}}}")).await,
        ["a,b,one", "a,b,two"]
    );
}

/// A server that sends everybody elsewhere.
async fn redirector(status: u16, location: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/hook/t0ps3cret", listener.local_addr().unwrap());
    let answer =
        move || std::future::ready((axum::http::StatusCode::from_u16(status).unwrap(), [("location", location)]));
    let app = axum::Router::new().fallback(answer);
    #[expect(clippy::disallowed_methods, reason = "a server of a test ends with its runtime")]
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

#[tokio::test]
async fn a_redirect_that_would_lose_the_message_is_no_delivery() {
    let deliver = async |status, options: &str| {
        let (target, server) = Server::start(&[(200, JSON, "{}")]).await;
        let hook = redirector(status, format!("{target}/new/t0ps3cret?key=x")).await;
        let routing = receiver(&format!("  webhook_configs: [{{url: '{hook}', http_config: {{{options}}}}}]"));
        let outcome = courier().deliver(&routing, &firing(), FIRED).await;
        let told = outcome == Outcome::Delivered("answered 200 OK: {}".into());
        if !told {
            let Outcome::Final { error } = outcome else { panic!("{outcome:?}") };
            let hint = format!("write the final address, which is {target}/new/<secret>)");
            assert!(error.contains("redirects are not followed here") && error.ends_with(&hint), "{error}");
        }
        (told, server.asked().iter().filter(|(line, _, body)| line.starts_with("POST") && !body.is_empty()).count())
    };
    for status in [301, 302, 303] {
        assert_eq!(deliver(status, "").await, (false, 0), "{status}");
    }
    for status in [307, 308] {
        assert_eq!(deliver(status, "").await, (true, 1), "{status}");
        assert_eq!(deliver(status, "follow_redirects: false").await, (false, 0), "{status}");
    }
}

#[test]
fn contradictions_have_their_places() {
    let check = |options: &str, expected: &str| {
        let text = format!(
            "route: {{receiver: r}}\nreceivers:\n- name: r\n  webhook_configs:\n  - url: http://x\n    http_config: {{{options}}}\n"
        );
        let mut found = Diagnostics::new();
        Routing::compile(&NotifyConfig::default(), Some(("am.yaml", &text)), &[], &mut found);
        let said = found.to_string();
        assert!(said.lines().next().unwrap_or_default().contains(expected), "{options}: {said}");
    };
    let twice = "at most one of basic_auth, authorization, bearer_token and oauth2 may be set";
    check("bearer_token: x, basic_auth: {username: u}", twice);
    check("oauth2: {client_id: a}", "oauth2: the key \"token_url\" is missing");
    check("authorization: {type: basic, credentials: x}", "the type cannot be Basic");
    check("no_proxy: x", "no_proxy belongs to proxy_url");
    check("proxy_url: 'http://p', proxy_from_environment: true", "at most one of proxy_url and proxy_from_environment");
    check("tls_config: {cert_file: x}", "belong together");
    check("tls_config: {ca: nonsense}", "ca: the configuration holds no certificate in PEM form");
    check("tls_config: {min_version: TLS13, max_version: TLS12}", "max_version is below min_version");
    check("tls_config: {server_name: 10.0.0.1}", "a name is needed, not an address");
    check("http_headers: {Authorization: {values: [x]}}", "Authorization is set by sidewatch itself");
}
