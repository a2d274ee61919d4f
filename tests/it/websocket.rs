//! WebSocket, both ways, through the real binary: as the client of a server that sends events, and as the server of
//! producers that send them.

#![allow(clippy::result_large_err, reason = "the signature is the handshake library's")]

use crate::harness::{Sidewatch, eventually, free_port, get, request};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::stream::MaybeTlsStream;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, accept_hdr, client::IntoClientRequest, connect};

fn count(sidewatch: &Sidewatch, expected: u64) {
    eventually(&format!("{expected} events"), 20, || {
        let seen = sidewatch.value("sum(events_total)").unwrap_or(0.0) as u64;
        assert!(seen <= expected, "counted {seen} of {expected}");
        (seen == expected).then_some(())
    });
}

fn metric(sidewatch: &Sidewatch, name: &str) -> f64 {
    let text = sidewatch.get("/metrics").1;
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Takes one connection; gives the socket and the headers of the request.
fn take<S: Read + Write>(stream: S) -> (WebSocket<S>, Vec<(String, String)>) {
    let mut headers = Vec::new();
    let remember = |request: &Request, response: Response| {
        headers = request
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        Ok(response)
    };
    let socket = accept_hdr(stream, remember).unwrap();
    (socket, headers)
}

fn text(socket: &mut WebSocket<impl Read + Write>) -> String {
    loop {
        match socket.read().unwrap() {
            Message::Text(text) => return text.to_string(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_client_subscribes_reads_every_kind_of_frame_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let configuration = format!(
        "sources:\n  bus:\n    websocket:\n      url: ws://127.0.0.1:{port}/stream?a=b\n      token_file: token\n      \
         subscribe: [{{action: subscribe, topics: ['order.*']}}, hello]\n      ignore: [{{type: subscribed}}, {{kind: heartbeat}}]\n      \
         ping: 300ms\n      pong_timeout: 300ms\n  push: {{http: {{}}}}\nlimits: {{event_bytes: 4KiB}}\n"
    );
    std::fs::write(dir.path().join("sidewatch.yaml"), configuration).unwrap();
    std::fs::write(dir.path().join("token"), "s3cret\n").unwrap();
    // The server is absent at the start: said once, everything else goes on.
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    eventually("the source is lost", 10, || (sidewatch.source("bus").0 == "lost").then_some(()));
    assert!(sidewatch.source("bus").1.contains("cannot connect"), "{:?}", sidewatch.source("bus"));
    assert_eq!((sidewatch.get("/livez").0, sidewatch.get("/readyz").0), (200, 200));
    assert_eq!(sidewatch.post("/events", "application/json", br#"{"type":"other"}"#).0, 202);
    count(&sidewatch, 1);

    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (mut socket, headers) = take(listener.accept().unwrap().0);
    assert!(headers.contains(&("authorization".into(), "Bearer s3cret".into())), "{headers:?}");
    assert_eq!(text(&mut socket), r#"{"action":"subscribe","topics":["order.*"]}"#);
    assert_eq!(text(&mut socket), "hello");
    for message in [
        r#"{"type":"subscribed"}"#,
        r#"{"kind":"heartbeat"}"#,
        r#"{"type":"order.placed","id":"1"}"#,
        r#"[{"type":"order.placed","id":"2"},{"type":"order.placed","id":"3"}]"#,
        "{\"type\":\"order.placed\",\"id\":\"4\"}\n{\"type\":\"order.placed\",\"id\":\"5\"}\n",
        "no json at all",
    ] {
        socket.send(Message::text(message)).unwrap();
    }
    socket.send(Message::binary(br#"{"type":"order.paid","id":"6"}"#.to_vec())).unwrap();
    // Larger than an event may be: refused, and the connection lasts.
    socket.send(Message::text(format!("{{\"type\":\"x\",\"v\":\"{}\"}}", "y".repeat(5_000)))).unwrap();
    socket.send(Message::text(r#"{"type":"order.paid","id":"7"}"#)).unwrap();
    count(&sidewatch, 8);
    assert_eq!(sidewatch.source("bus").0, "connected");
    assert_eq!(sidewatch.value("sum(sidewatch_events_refused_total{source=\"bus\",reason=\"too_large\"})"), Some(1.0));
    assert_eq!(
        sidewatch.value("sum(sidewatch_events_refused_total{source=\"bus\",reason=\"invalid_json\"})"),
        Some(1.0)
    );
    assert_eq!(metric(&sidewatch, "sidewatch_source_ignored_total"), 2.0);

    // Far larger: the connection cannot go on; the next one does.
    socket.send(Message::text("z".repeat(100_000))).unwrap();
    let (mut socket, _) = take(listener.accept().unwrap().0);
    assert_eq!(text(&mut socket), r#"{"action":"subscribe","topics":["order.*"]}"#, "it subscribes again");
    socket.send(Message::text(r#"{"type":"order.paid","id":"8"}"#)).unwrap();
    count(&sidewatch, 9);
    assert_eq!(sidewatch.value("sum(sidewatch_events_refused_total{source=\"bus\",reason=\"too_large\"})"), Some(2.0));

    // A server that closes.
    socket.close(None).unwrap();
    let _ = socket.flush();
    drop(socket);
    let (mut socket, _) = take(listener.accept().unwrap().0);
    socket.send(Message::text(r#"{"type":"order.paid","id":"9"}"#)).unwrap();
    count(&sidewatch, 10);

    // A server that hangs: it answers no ping.
    let (mut next, _) = take(listener.accept().unwrap().0);
    drop(socket);
    next.send(Message::text(r#"{"type":"order.paid","id":"10"}"#)).unwrap();
    count(&sidewatch, 11);
    assert_eq!(metric(&sidewatch, "sidewatch_source_gaps_total{source=\"bus\""), 3.0);
    assert_eq!(metric(&sidewatch, "sidewatch_source_connected_total{source=\"bus\""), 4.0);
    assert!(sidewatch.err().contains("no answer to a ping"), "{}", sidewatch.err());
    assert!(!sidewatch.err().contains("s3cret"));
    // At the end the server is told.
    let ended = std::thread::spawn(move || sidewatch.terminate());
    let close = loop {
        match next.read() {
            Ok(Message::Close(frame)) => break frame,
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(close.unwrap().code, CloseCode::Away);
    drop(next);
    assert_eq!(ended.join().unwrap(), Some(0));
}

#[test]
fn a_server_that_refuses_or_talks_nonsense_is_named_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::fs::write(dir.path().join("sidewatch.yaml"), format!("sources: {{bus: 'ws://127.0.0.1:{port}/x'}}\n"))
        .unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    for (answer, reason) in [
        ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "401 Unauthorized; is the token right"),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "404 Not Found; is the path of the url right?"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "nothing speaks WebSocket there"),
        ("220 mail.example ESMTP\r\n", "does not speak WebSocket"),
    ] {
        eventually(reason, 20, || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut head = [0; 2_000];
            let _ = stream.read(&mut head);
            stream.write_all(answer.as_bytes()).unwrap();
            drop(stream);
            eventually("a state", 10, || (sidewatch.source("bus").0 == "lost").then_some(()));
            sidewatch.source("bus").1.contains(reason).then_some(())
        });
    }
    let (mut socket, _) = take(listener.accept().unwrap().0);
    // Garbage in place of a frame.
    socket.get_mut().write_all(&[0xff; 64]).unwrap();
    let (mut socket, _) = take(listener.accept().unwrap().0);
    socket.send(Message::text(r#"{"type":"a"}"#)).unwrap();
    count(&sidewatch, 1);
    assert_eq!(sidewatch.get("/livez").0, 200);
}

/// A certificate of an authority of its own for 127.0.0.1.
fn certificate(dir: &Path) -> Arc<rustls::ServerConfig> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=bus", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let certificates = CertificateDer::pem_file_iter(dir.join("cert.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(certificates, key).unwrap())
}

#[test]
fn the_client_speaks_tls_and_trusts_whom_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let server = certificate(dir.path());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = std::thread::spawn(move || {
        loop {
            let (stream, _) = listener.accept().unwrap();
            let connection = rustls::ServerConnection::new(server.clone()).unwrap();
            // Who does not trust us ends the handshake.
            if let Ok(mut socket) =
                accept_hdr(rustls::StreamOwned::new(connection, stream), |_: &Request, answer| Ok(answer))
            {
                socket.send(Message::text(r#"{"type":"a"}"#)).unwrap();
                return socket;
            }
        }
    });
    let write = |tls: &str| {
        let configuration = format!("sources: {{bus: {{websocket: {{url: 'wss://127.0.0.1:{port}/'{tls}}}}}}}\n");
        std::fs::write(dir.path().join("sidewatch.yaml"), configuration).unwrap();
    };
    write("");
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    eventually("the certificate is not trusted", 10, || {
        sidewatch.source("bus").1.contains("UnknownIssuer").then_some(())
    });
    write(", tls: {ca_file: cert.pem}");
    assert_eq!(request(sidewatch.ingest, "POST", "/-/reload", &[], b"").0, 200);
    count(&sidewatch, 1);
    drop(serve.join().unwrap());
}

fn producer(sidewatch: &Sidewatch, path: &str) -> WebSocket<MaybeTlsStream<TcpStream>> {
    let (socket, _) = connect(format!("ws://127.0.0.1:{}{path}", sidewatch.ingest)).unwrap();
    if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    socket
}

#[test]
fn producers_send_over_a_websocket_and_are_answered_when_they_ask() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("sidewatch.yaml"),
        "sources: {push: {http: {}}, other: {http: {}}}\nlimits: {body_bytes: 64KiB}\n",
    )
    .unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let mut quiet = producer(&sidewatch, "/events/push");
    for at in 0..5_000 {
        quiet.write(Message::text(format!("{{\"type\":\"a\",\"id\":\"{at}\"}}"))).unwrap();
    }
    quiet.write(Message::binary(br#"[{"type":"a"},{"type":"a"}]"#.to_vec())).unwrap();
    quiet.flush().unwrap();
    count(&sidewatch, 5_002);

    let mut asking = producer(&sidewatch, "/events?source=other&ack=1");
    asking.send(Message::text(r#"{"type":"b"}"#)).unwrap();
    assert_eq!(text(&mut asking), r#"{"accepted":1,"refused":[]}"#);
    asking.write(Message::text(r#"[{"type":"b"},{"no":"type"}]"#)).unwrap();
    asking.write(Message::text("nonsense")).unwrap();
    asking.write(Message::text(r#"{"type":"b"}"#)).unwrap();
    asking.flush().unwrap();
    let answer: serde_json::Value = serde_json::from_str(&text(&mut asking)).unwrap();
    assert_eq!((&answer["accepted"], &answer["refused"][0]["reason"]), (&1.into(), &"no_type".into()), "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&text(&mut asking)).unwrap();
    assert_eq!((&answer["accepted"], &answer["refused"][0]["reason"]), (&0.into(), &"invalid_json".into()), "{answer}");
    assert_eq!(text(&mut asking), r#"{"accepted":1,"refused":[]}"#);
    count(&sidewatch, 5_005);

    // The subprotocols: answers, and CloudEvents in structured mode.
    let with = |protocol: &'static str| {
        let mut request = format!("ws://127.0.0.1:{}/events/push", sidewatch.ingest).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        let (socket, response) = connect(request).unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
        socket
    };
    let mut socket = with("sidewatch.ack");
    socket.send(Message::text(r#"{"type":"c"}"#)).unwrap();
    assert_eq!(text(&mut socket), r#"{"accepted":1,"refused":[]}"#);
    let mut clouds = with("cloudevents.json");
    clouds.send(Message::text(r#"{"specversion":"1.0","type":"d","id":"1","source":"/x"}"#)).unwrap();
    clouds.send(Message::text(r#"{"type":"d"}"#)).unwrap();
    count(&sidewatch, 5_007);
    eventually("what is no CloudEvent is refused", 10, || {
        let refused = "sum(sidewatch_events_refused_total{source=\"push\",reason=\"invalid_cloudevent\"})";
        (sidewatch.value(refused) == Some(1.0)).then_some(())
    });

    // Too large: counted by name, and the connection ends with 1009.
    let _ = asking.send(Message::text("x".repeat(70_000)));
    let close = loop {
        match asking.read() {
            Ok(Message::Close(frame)) => break frame.map(|frame| frame.code),
            Ok(Message::Text(answer)) => assert!(answer.contains("too_large"), "{answer}"),
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(close, Some(CloseCode::Size));
    eventually("what is too large is counted by name", 10, || {
        let refused = "sum(sidewatch_events_refused_total{source=\"other\",reason=\"too_large\"})";
        (sidewatch.value(refused) == Some(1.0)).then_some(())
    });

    for (path, origin, status) in [
        ("/events/push", None, 426),
        ("/events/nobody", None, 404),
        ("/events", None, 400),
        ("/events/push", Some("https://evil.example"), 403),
    ] {
        let headers: Vec<(&str, &str)> = origin.map(|origin| ("origin", origin)).into_iter().collect();
        let (answered, body) = request(sidewatch.ingest, "GET", path, &headers, b"");
        assert_eq!(answered, status, "{path}: {body}");
        assert!(body.contains("hint"), "{body}");
    }
    assert_eq!(get(sidewatch.observe, "/events").0, 421);
    assert!(metric(&sidewatch, "sidewatch_source_connections{source=\"push\"") >= 2.0);

    // A producer that is connected at the end is told to come back.
    let mut last = producer(&sidewatch, "/events/push?ack=1");
    last.send(Message::text(r#"{"type":"e"}"#)).unwrap();
    assert_eq!(text(&mut last), r#"{"accepted":1,"refused":[]}"#);
    let ended = std::thread::spawn(move || sidewatch.terminate());
    let close = match last.read() {
        Ok(Message::Close(frame)) => frame.unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!((close.code, close.reason.as_str()), (CloseCode::Away, "sidewatch is shutting down"));
    assert!(matches!(last.read(), Err(Error::ConnectionClosed | Error::Io(_))));
    assert_eq!(ended.join().unwrap(), Some(0));
}
