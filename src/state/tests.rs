use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn check<F: Future<Output = ()>>(test: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

async fn blobs(store: &StateStore) -> Vec<(bool, Vec<u8>)> {
    store.load().await.unwrap().into_iter().map(|checkpoint| (checkpoint.full, checkpoint.blob)).collect()
}

#[test]
fn checkpoints_come_back_in_order_and_a_full_one_replaces_those_before() {
    check(async {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::open(folder.path(), true).unwrap();
        assert_eq!(store.append_checkpoint(b"a".to_vec(), at(1)).await, Ok(1));
        assert_eq!(store.append_checkpoint(b"b".to_vec(), at(2)).await, Ok(2));
        assert_eq!(store.compact(b"AB".to_vec(), at(3)).await, Ok(3));
        assert_eq!(store.append_checkpoint(b"c".to_vec(), at(4)).await, Ok(4));
        let expected = [(true, b"AB".to_vec()), (false, b"c".to_vec())];
        assert_eq!(blobs(&store).await, expected);
        store.close().await.unwrap();
        assert_eq!(store.load().await, Err(StateError::Closed));

        let again = StateStore::open(folder.path(), false).unwrap();
        assert_eq!(blobs(&again).await, expected);
        assert_eq!(again.load().await.unwrap()[0].created, at(3));
        assert_eq!(again.compact(Vec::new(), at(5)).await, Ok(5), "a number is never used twice");
    });
}

#[test]
fn named_blobs_are_written_together() {
    check(async {
        let store = StateStore::in_memory().unwrap();
        assert!(!store.is_persistent());
        store.put("outbox/1", b"x".to_vec()).await.unwrap();
        store.write(vec![("outbox/1".into(), None), ("outbox/2".into(), Some(b"y".to_vec()))]).await.unwrap();
        store.put("silences", b"z".to_vec()).await.unwrap();
        assert_eq!(store.get("outbox/1").await, Ok(None));
        assert_eq!(store.get("outbox/2").await, Ok(Some(b"y".to_vec())));
        assert_eq!(store.names("outbox/").await, Ok(vec!["outbox/2".to_owned()]));
    });
}

#[test]
fn history_is_found_by_time_and_kind_and_forgotten_by_age_and_number() {
    check(async {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::open_with(folder.path(), false, Retention { age_ms: 1_000, rows: 3 }).unwrap();
        let entry = |millis, kind: &str| HistoryEntry {
            at: at(millis),
            kind: kind.into(),
            key: format!("k{millis}"),
            body: "{}".into(),
        };
        let keys = async |query| -> Vec<String> {
            store.history(query).await.unwrap().into_iter().map(|entry| entry.key).collect()
        };
        store.append_history(vec![entry(10, "alert"), entry(20, "notification"), entry(30, "alert")]).await.unwrap();
        assert_eq!(keys(HistoryQuery::default()).await, ["k30", "k20", "k10"]);
        assert_eq!(keys(HistoryQuery { kind: Some("alert".into()), limit: 1, ..Default::default() }).await, ["k30"]);
        assert_eq!(keys(HistoryQuery { from: at(11), to: at(29), ..Default::default() }).await, ["k20"]);
        store.append_history(vec![entry(40, "alert")]).await.unwrap();
        assert_eq!(keys(HistoryQuery::default()).await, ["k40", "k30", "k20"], "three lines are kept");
        store.append_history(vec![entry(1_035, "alert")]).await.unwrap();
        assert_eq!(keys(HistoryQuery::default()).await, ["k1035", "k40"], "one second is kept");
    });
}

#[test]
fn a_checkpoint_and_its_lines_are_stored_together_and_each_line_once() {
    check(async {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::open(folder.path(), false).unwrap();
        let alert =
            HistoryEntry { at: at(10), kind: "alert".into(), key: "Low".into(), body: "{\"to\":\"firing\"}".into() };
        let sent = HistoryEntry {
            at: at(11),
            kind: "notification".into(),
            key: "hook".into(),
            body: "{\"rules\":[\"Low\",\"Lo\\\"w\"]}".into(),
        };
        store.checkpoint(true, b"A".to_vec(), at(12), vec![alert.clone()]).await.unwrap();
        // The other writer had not heard yet that the first line is stored.
        let both = vec![alert.clone(), sent.clone()];
        store.write_with_history(vec![("outbox".into(), Some(b"x".to_vec()))], both).await.unwrap();
        let find = async |query| store.history(query).await.unwrap();
        let query = HistoryQuery::default;
        assert_eq!(find(query()).await, [sent.clone(), alert.clone()]);
        for (rule, expected) in
            [("Low", vec![sent.clone(), alert.clone()]), ("Lo\"w", vec![sent.clone()]), ("Lo", vec![])]
        {
            assert_eq!(find(HistoryQuery { rule: Some(rule.into()), ..query() }).await, expected, "{rule}");
        }
        assert_eq!(find(HistoryQuery { rule: Some("Low".into()), key: Some("hook".into()), ..query() }).await, [sent]);
    });
}

#[test]
fn a_folder_serves_one_store_at_a_time() {
    check(async {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::open(folder.path(), false).unwrap();
        let error = StateStore::open(folder.path(), false).unwrap_err();
        let expected = format!(
            "the state folder {} is used by another sidewatch (process {}): give each its own `state.dir`, or stop the other one",
            folder.path().display(),
            std::process::id()
        );
        assert_eq!(error.to_string(), expected);
        store.close().await.unwrap();
        StateStore::open(folder.path(), false).unwrap();
    });
}

#[test]
fn a_newer_schema_a_foreign_file_and_damage_are_told_with_what_to_do() {
    check(async {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(database::FILE);
        let reason = || StateStore::open(folder.path(), false).unwrap_err().reason();

        std::fs::write(&file, "not a database at all, but a text that is long enough".repeat(100)).unwrap();
        assert_eq!(reason(), "corrupt");
        std::fs::remove_file(&file).unwrap();

        let other = rusqlite::Connection::open(&file).unwrap();
        other.execute_batch("CREATE TABLE theirs (x)").unwrap();
        drop(other);
        assert_eq!(reason(), "corrupt");
        std::fs::remove_file(&file).unwrap();

        let store = StateStore::open(folder.path(), false).unwrap();
        store.append_checkpoint(vec![7; 100_000], at(1)).await.unwrap();
        store.close().await.unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let store = StateStore::open(folder.path(), false).unwrap();
        assert_eq!(store.load().await.unwrap_err().reason(), "corrupt", "one flipped bit in a blob is noticed");
        store.close().await.unwrap();

        let raised = rusqlite::Connection::open(&file).unwrap();
        raised.pragma_update(None, "user_version", 99).unwrap();
        drop(raised);
        let error = StateStore::open(folder.path(), false).unwrap_err().to_string();
        assert!(error.contains("has schema 99, this version reads up to 1: run the newer sidewatch again"), "{error}");
    });
}

#[test]
fn a_folder_that_cannot_be_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = StateStore::open(&file.join("below"), false).unwrap_err();
    assert_eq!(error.reason(), "folder");
    assert!(error.to_string().contains("`state.dir` must be a folder that sidewatch may write"), "{error}");
}

#[test]
fn a_full_disk_is_told_and_what_was_stored_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = Database::open(folder.path(), false, Retention::default()).unwrap();
    database.append_checkpoint(true, at(1), b"first").unwrap();
    database.limit_pages(20);
    let error = database.append_checkpoint(false, at(2), &vec![0; 1 << 20]).unwrap_err();
    assert_eq!(error.reason(), "full");
    assert_eq!(database.load().unwrap().len(), 1);
    database.limit_pages(10_000);
    database.append_checkpoint(false, at(3), &vec![0; 1 << 20]).unwrap();
    assert_eq!(database.load().unwrap().len(), 2);
}

const CHILD_FOLDER: &str = "SIDEWATCH_TEST_STATE_FOLDER";

fn child_blob(seq: u64) -> Vec<u8> {
    (0..2_000).map(|index| (seq * 31 + index) as u8).collect()
}

/// The test runs itself again as a child that writes until it is killed.
#[test]
fn a_killed_process_leaves_everything_it_was_answered() {
    if let Some(folder) = std::env::var_os(CHILD_FOLDER) {
        check(async {
            let store = StateStore::open(Path::new(&folder), false).unwrap();
            for seq in 1.. {
                let stored = if seq % 50 == 0 {
                    store.compact(child_blob(seq), at(0)).await
                } else {
                    store.append_checkpoint(child_blob(seq), at(0)).await
                };
                println!("stored {}", stored.unwrap());
            }
        });
    }
    let name = "state::tests::a_killed_process_leaves_everything_it_was_answered";
    for kill_after in [1, 49, 50, 333] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(CHILD_FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answered = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            if let Some((_, seq)) = line.unwrap().split_once("stored ") {
                answered = seq.parse().unwrap();
            }
            if answered >= kill_after {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        check(async {
            let store = StateStore::open(folder.path(), false).unwrap();
            let found = store.load().await.unwrap();
            let (first, last) = (found.first().unwrap().seq, found.last().unwrap().seq);
            assert!(last >= answered && answered >= kill_after, "{last} stored, {answered} answered");
            assert!(first == 1 || (first % 50 == 0 && found[0].full), "begins at {first}");
            for (checkpoint, seq) in found.iter().zip(first..) {
                assert_eq!((checkpoint.seq, &checkpoint.blob), (seq, &child_blob(seq)));
            }
        });
    }
}
