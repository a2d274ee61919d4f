//! Server-sent events: the real binary reads the stream of a small server.

use crate::harness::{Sidewatch, free_port, run};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};

/// Answers each connection with the head that the test chooses; what the test writes then is the stream.
struct Server {
    connections: Receiver<(TcpStream, String)>,
}

impl Server {
    fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (sender, connections) = sync_channel(16);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (mut head, mut reader) = (String::new(), BufReader::new(stream));
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
                if sender.send((reader.into_inner(), head.to_ascii_lowercase())).is_err() {
                    return;
                }
            }
        });
        Self { connections }
    }

    fn accept(&self) -> (TcpStream, String) {
        self.connections.recv_timeout(std::time::Duration::from_secs(20)).expect("a connection within 20 s")
    }

    /// The next connection, answered with a stream; what it asked.
    fn stream(&self) -> (TcpStream, String) {
        let (mut stream, head) = self.accept();
        stream
            .write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n\xEF\xBB\xBF: hello\n\n",
            )
            .unwrap();
        (stream, head)
    }
}

fn configure(dir: &Path, source: &str) {
    let text = format!(
        "bundled_rules: false\nstate: {{dir: state}}\nsources: {{feed: {source}}}\n\
         metrics: {{amount_total: {{counter: {{match: 'order.*', value: data.amount}}}}}}\n"
    );
    std::fs::write(dir.join("sidewatch.yaml"), text).unwrap();
}

fn order(stream: &mut TcpStream, number: u64) {
    write!(stream, "id: {number}\nevent: order.placed\ndata: {{\"amount\":\ndata: {number}}}\n\n").unwrap();
}

#[test]
fn a_stream_with_ids_goes_on_where_it_stood() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    configure(
        dir.path(),
        &format!("{{sse: {{url: 'http://127.0.0.1:{port}/feed?all', token: s3cret, headers: {{x-who: us}}}}}}"),
    );
    let (code, out, err) = run(dir.path(), &["check"]);
    assert!(code == 0 && out.contains("source feed: at most once, unless the server gives ids"), "{out}{err}");
    // Absent at the start.
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    sidewatch.lost("feed", "cannot connect to 127.0.0.1");
    let server = Server::start(port);
    let (mut stream, head) = server.stream();
    assert!(head.starts_with("get /feed?all http/1.1\r\n"), "{head}");
    for expected in
        ["accept: text/event-stream", "authorization: bearer s3cret", "x-who: us", "cache-control: no-store"]
    {
        assert!(head.contains(expected), "{expected} is missing in {head}");
    }
    assert!(!head.contains("last-event-id"), "{head}");
    (1..=3).for_each(|number| order(&mut stream, number));
    // No event: it has no end.
    stream.write_all(b"id: 9\ndata: {\"type\":\"order.half\"}\n").unwrap();
    sidewatch.is("events_total{type=\"order.placed\"}", 3.0);
    sidewatch.is("sidewatch_source_up{source=\"feed\"}", 1.0);
    drop(stream);
    // A server that counts from the id and not from behind it repeats the last event.
    let (mut stream, head) = server.stream();
    assert!(head.contains("last-event-id: 3\r\n"), "{head}");
    order(&mut stream, 3);
    sidewatch.is("sidewatch_source_duplicates_total{source=\"feed\"}", 1.0);
    (4..=5).for_each(|number| order(&mut stream, number));
    sidewatch.is("events_total{type=\"order.placed\"}", 5.0);
    sidewatch.is("sidewatch_source_resumed_total{source=\"feed\"}", 1.0);
    assert_eq!(sidewatch.value("sidewatch_source_gaps_total{source=\"feed\"}"), None);
    // Killed: the id stands in the checkpoint with the counts.
    sidewatch.checkpointed();
    sidewatch.kill();
    drop(stream);
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let (mut stream, head) = server.stream();
    assert!(head.contains("last-event-id: 5\r\n"), "{head}");
    // One without an id of its own still has the old one, and repeats nothing.
    stream.write_all(b"event: order.placed\ndata: {\"amount\":6}\n\n").unwrap();
    sidewatch.is("events_total{type=\"order.placed\"}", 6.0);
    (7..=10).for_each(|number| order(&mut stream, number));
    sidewatch.is("events_total{type=\"order.placed\"}", 10.0);
    sidewatch.is("sum(amount_total)", 55.0);
    // An id that no header can carry is none, and nothing that keeps the source from coming back.
    stream.write_all(b"id: a\x01b\nevent: order.placed\ndata: {\"amount\":11}\n\n").unwrap();
    sidewatch.is("sum(amount_total)", 66.0);
    drop(stream);
    let (mut stream, head) = server.stream();
    assert!(!head.contains("last-event-id"), "{head}");
    order(&mut stream, 12);
    sidewatch.is("sum(amount_total)", 78.0);
    // Another address is another stream, whatever was stored under the same name.
    sidewatch.checkpointed();
    sidewatch.kill();
    drop(stream);
    configure(dir.path(), &format!("'sse:http://127.0.0.1:{port}/other'"));
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let (_stream, head) = server.stream();
    assert!(head.starts_with("get /other ") && !head.contains("last-event-id"), "{head}");
    // A stop does not wait for a stream that says nothing.
    assert_eq!(sidewatch.terminate(), Some(0));
}

#[test]
fn a_stream_without_ids_has_gaps_and_answers_that_are_none_are_said() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    configure(dir.path(), &format!("'sse:http://127.0.0.1:{port}/'"));
    let server = Server::start(port);
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let (mut page, _) = server.accept();
    page.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi").unwrap();
    sidewatch.lost("feed", "answered \"text/html\", which is no text/event-stream");
    let (mut refusal, _) = server.accept();
    refusal.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").unwrap();
    sidewatch.lost("feed", "answered 401 Unauthorized");
    assert_eq!((sidewatch.get("/livez").0, sidewatch.get("/readyz").0), (200, 200));
    let (mut stream, _) = server.stream();
    stream
        .write_all(b"retry: 10\ndata: {\"type\":\"order.placed\",\"data\":{\"amount\":2}}\n\ndata: nonsense\n\n")
        .unwrap();
    // Larger than an event may be: refused, without being kept.
    stream.write_all(b"data: ").unwrap();
    stream.write_all(&vec![b'x'; 100 << 20]).unwrap();
    stream.write_all(b"\n\ndata: {\"amount\":1}\n\n").unwrap();
    sidewatch.is("events_total{type=\"order.placed\"}", 1.0);
    sidewatch.is("events_total{type=\"message\"}", 1.0);
    sidewatch.is("sidewatch_events_refused_total{source=\"feed\",reason=\"too_large\"}", 1.0);
    sidewatch.is("sum(sidewatch_events_refused_total{source=\"feed\"})", 2.0);
    drop(stream);
    sidewatch.is("sidewatch_source_gaps_total{source=\"feed\",reason=\"disconnected\"}", 1.0);
    let (mut stream, head) = server.stream();
    assert!(!head.contains("last-event-id"), "{head}");
    stream.write_all(b"event: order.placed\rdata: {\"amount\":3}\r\r").unwrap();
    sidewatch.is("sum(amount_total)", 5.0);
    drop(stream);
    let (mut nothing, _) = server.accept();
    nothing.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    sidewatch.lost("feed", "answered 204");
}
