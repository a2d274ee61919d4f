//! A disk that hangs: messages go out all the same, and once.

use crate::harness::{Receiver, Sidewatch, eventually};

#[test]
fn a_disk_that_hangs_keeps_no_message_back() {
    let (dir, hook) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    let configuration = format!(
        "sources: {{push: {{http: {{}}}}}}\nbundled_rules: false\nstate: {{dir: state, checkpoint_interval: 50ms}}\n\
         alerts: {{Bad: {{event: {{count: '>= 1', match: bad, by: data.n, within: 1h}}}}}}\n\
         notify: {{hook: {{webhook: {{url: 'http://127.0.0.1:{}/'}}}}}}\n",
        hook.port
    );
    std::fs::write(dir.path().join("sidewatch.yaml"), configuration).unwrap();
    let told = |n: u32| hook.bodies().iter().filter(|body| body.contains(&format!("\"n\":\"{n}\""))).count();
    let bad = |sidewatch: &Sidewatch, n: u32| {
        let event = format!("{{\"type\":\"bad\",\"data\":{{\"n\":\"{n}\"}}}}");
        assert_eq!(sidewatch.post("/events", "application/json", event.as_bytes()).0, 202);
    };
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    bad(&sidewatch, 1);
    eventually("the first message", 20, || (told(1) == 1).then_some(()));

    // Whoever writes to the database waits for 5 s, as for a disk that does not answer.
    let lock = rusqlite::Connection::open(dir.path().join("state/sidewatch.db")).unwrap();
    eventually("the database is ours", 10, || lock.execute_batch("BEGIN IMMEDIATE").ok());
    bad(&sidewatch, 2);
    eventually("a message while the disk hangs", 4, || (told(2) == 1).then_some(()));
    assert!(sidewatch.err().contains("alerts go out without waiting for the disk"), "{}", sidewatch.err());
    let failures = || sidewatch.value("sidewatch_checkpoint_failures_total").filter(|failures| *failures >= 1.0);
    lock.execute_batch("ROLLBACK").unwrap();
    eventually("the metric", 10, failures);

    let written = || sidewatch.value("sidewatch_checkpoint_seconds_count").unwrap_or(0.0);
    let before = written();
    eventually("later checkpoints", 20, || (written() >= before + 2.0).then_some(()));
    assert_eq!(sidewatch.terminate(), Some(0));
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    bad(&sidewatch, 3);
    eventually("the third message", 20, || (told(3) == 1).then_some(()));
    // Each message tells the group as it stands then.
    assert_eq!(hook.bodies().len(), 3, "{:?}", hook.bodies());
}
