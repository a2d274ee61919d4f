use super::*;
use crate::model::{Event, EventBatch, FieldPlan, Timestamp};
use crate::source::decode::{DecodeLimits, Decoder, Framing};

fn batch(bytes: usize) -> Ingest {
    let plan = Arc::new(FieldPlan::default());
    decoded(EventBatch::new("s".into(), plan, Timestamp::EPOCH, "x".repeat(bytes)))
}

fn decoder() -> Arc<Decoder> {
    let decoder = Decoder::compile(&Default::default(), DecodeLimits::default(), &mut Default::default());
    Arc::new(decoder.unwrap())
}

fn decoded(batch: EventBatch) -> Ingest {
    Ingest::Batch(batch, decoder())
}

/// One event for each priority, with its place as its id.
fn events(source: &str, priorities: &[u8]) -> EventBatch {
    let lines: Vec<String> = priorities
        .iter()
        .enumerate()
        .map(|(id, priority)| format!(r#"{{"type":"a","id":"{id}","priority":{priority},"data":{{}}}}"#))
        .collect();
    let plan = Arc::new(FieldPlan::default());
    decoder().decode(lines.join("\n").into(), Framing::Ndjson, &plan, &source.into(), Timestamp::EPOCH)
}

fn ids(ingest: &Ingest) -> String {
    let Ingest::Batch(batch, _) = ingest else { return "-".into() };
    let id = |event: &Event| format!("{}{}", batch.source, batch.text(event.id));
    batch.events.iter().map(id).collect::<Vec<_>>().join(" ")
}

fn options(batches: usize, events: usize) -> QueueOptions {
    QueueOptions { limits: QueueLimits { batches, bytes: 1 << 20 }, events, high_priority: 8 }
}

#[tokio::test]
async fn both_limits_refuse_and_make_wait() {
    let (sink, mut queue) = queue(QueueLimits { batches: 2, bytes: 100 });
    assert_eq!(sink.try_send(batch(60)), Ok(1));
    assert_eq!(sink.try_send(batch(60)), Err(Full::Later), "no room for the bytes");
    assert_eq!(sink.try_send(batch(101)), Err(Full::Later), "larger than everything");
    assert_eq!(sink.try_send(batch(1)), Ok(2));
    assert_eq!(sink.try_send(batch(1)), Err(Full::Later), "no room for a third");
    assert_eq!(sink.waiting(), (2, 61));

    let sender = sink.clone();
    let waiting = async move { sender.send(batch(1_000)).await };
    let (sent, first) = tokio::join!(waiting, async {
        let first = queue.receive(10).await;
        (first.len(), queue.receive(10).await.len())
    });
    assert_eq!((sent, first), (Ok(3), (2, 1)), "a giant passes alone");
    assert_eq!(queue.received(), 3);
    queue.set_checkpointed(3);
    queue.set_checkpointed(2);
    assert_eq!(*sink.checkpointed().borrow(), 3);
    queue.close();
    assert_eq!(sink.try_send(batch(1)), Err(Full::Closed));
}

#[tokio::test]
async fn events_are_a_limit_of_their_own() {
    let (sink, mut queue) = queue(options(100, 5));
    assert_eq!(sink.try_send(decoded(events("a", &[5; 3]))), Ok(1));
    assert_eq!(sink.try_send(decoded(events("a", &[5; 3]))), Err(Full::Later));
    assert_eq!(sink.try_send(decoded(events("a", &[5; 2]))), Ok(2));
    assert_eq!(queue.receive(10).await.len(), 2);
    assert_eq!(sink.try_send(decoded(events("a", &[5; 9]))), Ok(3), "more than the limit passes alone");
    assert_eq!(sink.try_send(decoded(events("a", &[5]))), Err(Full::Later));
}

#[tokio::test]
async fn urgent_events_overtake_and_the_number_waits_for_the_rest() {
    let (sink, mut queue) = queue(options(4, 100));
    for _ in 0..4 {
        sink.try_send(decoded(events("a", &[5]))).unwrap();
    }
    assert_eq!(sink.try_send(decoded(events("b", &[5]))), Err(Full::Later));
    assert_eq!(sink.try_send(decoded(events("b", &[8]))), Ok(5), "an eighth is kept for urgent events");
    let [high, normal] = sink.depth();
    assert_eq!((high.events, high.batches, normal.events), (1, 1, 4));
    let first = queue.try_receive(1);
    assert_eq!((ids(&first[0]).as_str(), queue.received()), ("b0", 0), "the four before it still wait");
    assert_eq!(queue.try_receive(10).len(), 4);
    assert_eq!(queue.received(), 5);
}

#[tokio::test]
async fn a_mixed_batch_is_split_and_one_with_a_position_never() {
    let (sink, mut queue) = queue(options(100, 100));
    let mut positioned = events("p", &[9, 1]);
    positioned.position = Some(vec![1]);
    sink.send(decoded(positioned)).await.unwrap();
    assert_eq!(sink.send(decoded(events("m", &[1, 9, 2, 10]))).await, Ok(3));
    let order: Vec<String> = queue.try_receive(10).iter().map(ids).collect();
    assert_eq!(order, ["m1 m3", "p0 p1", "m0 m2"]);
}

#[tokio::test]
async fn what_is_dropped_is_of_the_same_source_and_is_said() {
    let _installed = self_metrics::install();
    let counted = |source: &str, reason: &str, priority: &str| {
        let text = self_metrics::install().unwrap().render();
        let name = format!(
            "sidewatch_queue_dropped_events_total{{source=\"{source}\",reason=\"{reason}\",priority=\"{priority}\"}} "
        );
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok()).unwrap_or(0)
    };
    let (sink, mut queue) = queue(options(4, 100));
    let named = |source: &str, last: usize| events(source, &vec![5; last + 1]);
    for source in ["keep", "old"] {
        for _ in 0..2 {
            sink.send(decoded(named(source, 0))).await.unwrap();
        }
    }
    let dropping = sink.with_overflow(Overflow::DropOldest);
    assert_eq!(dropping.send(decoded(named("old", 2))).await, Ok(5));
    assert_eq!(counted("old", "drop_oldest", "normal"), 1);
    // Nothing of its own waits: the others are left alone.
    assert_eq!(sink.offer(decoded(named("third", 1)), Overflow::DropOldest), Ok(Offered::Dropped));
    assert_eq!(counted("third", "drop_newest", "normal"), 2);
    let newest = sink.with_overflow(Overflow::DropNewest);
    assert_eq!(newest.send(decoded(named("new", 3))).await, Ok(5), "told the last number: nothing to wait for");
    assert_eq!(counted("new", "drop_newest", "normal"), 4);
    // Of a mixed batch the urgent part finds the reserve.
    let mixed = decoded(events("mixed", &[1, 9, 1]));
    assert_eq!(newest.offer(mixed, Overflow::DropNewest), Ok(Offered::Partly { number: 6, dropped: 2 }));
    assert_eq!((counted("mixed", "drop_newest", "normal"), counted("mixed", "drop_newest", "high")), (2, 0));
    let order: Vec<String> = queue.try_receive(10).iter().map(ids).collect();
    assert_eq!(order, ["mixed1", "keep0", "keep0", "old0", "old0 old1 old2"]);
    assert_eq!(queue.received(), 6);
}

#[tokio::test]
async fn what_has_a_position_waits_whatever_the_policy() {
    let (sink, mut queue) = queue(options(1, 100));
    let positioned = || {
        let mut batch = events("p", &[5]);
        batch.position = Some(vec![1]);
        decoded(batch)
    };
    let dropping = sink.with_overflow(Overflow::DropOldest);
    dropping.send(positioned()).await.unwrap();
    let (sent, taken) = tokio::join!(dropping.send(positioned()), async { queue.receive(1).await.len() });
    assert_eq!((sent, taken), (Ok(2), 1));
    // Nor is it dropped to make room.
    assert_eq!(sink.offer(decoded(events("p", &[5])), Overflow::DropOldest), Ok(Offered::Dropped));
    assert_eq!(queue.try_receive(5).len(), 1);
}

#[tokio::test]
async fn room_is_gathered_from_several_and_never_lost() {
    let (sink, mut queue) = queue(options(100, 10));
    for _ in 0..5 {
        sink.send(decoded(events("a", &[5; 2]))).await.unwrap();
    }
    assert_eq!(sink.offer(decoded(events("a", &[5; 5])), Overflow::DropOldest), Ok(Offered::Taken(6)));
    assert_eq!(sink.depth()[1].events, 9, "three of two were dropped for one of five");
    assert_eq!(sink.try_send(decoded(events("a", &[5; 2]))), Err(Full::Later));
    assert_eq!(sink.try_send(decoded(events("a", &[5]))), Ok(7), "the one that was left over is free");
    queue.try_receive(100);
    assert_eq!(sink.try_send(decoded(events("a", &[5; 10]))), Ok(8), "all of it is free again");
}

#[tokio::test]
async fn the_end_of_all_sinks_and_of_the_core_is_noticed() {
    let (sink, mut queue) = queue(options(1, 10));
    sink.send(batch(1)).await.unwrap();
    let waiting = sink.clone();
    let (outcome, ()) = tokio::join!(waiting.send(batch(1)), async { queue.close() });
    assert_eq!(outcome, Err(Full::Closed));
    drop((sink, waiting));
    assert_eq!((queue.receive(10).await.len(), queue.receive(10).await.len()), (1, 0));
}

#[tokio::test]
async fn what_is_larger_than_the_queue_passes_alone() {
    let (sink, mut queue) = queue(QueueLimits { batches: 8, bytes: 100 });
    assert_eq!(sink.try_send(batch(101)), Ok(1), "nothing waits");
    assert_eq!(sink.try_send(batch(1)), Err(Full::Later));
    assert_eq!(sink.try_send_all(vec![batch(80), batch(80)]), Err(Full::Later));
    assert_eq!(queue.receive(10).await.len(), 1);
    assert_eq!(sink.try_send_all(vec![batch(80), batch(80)]), Ok(()));
    assert_eq!(sink.try_send(batch(1)), Err(Full::Later));
    assert_eq!(queue.receive(10).await.len(), 2);
    assert_eq!(sink.try_send(batch(100)), Ok(4), "all of it is free again");
}

#[tokio::test]
async fn a_mixed_batch_never_waits_for_itself() {
    let limits = QueueLimits { batches: 8, bytes: 1_000 };
    let mixed = |urgent: usize| decoded(events("m", &[vec![9; urgent], vec![1; 30]].concat()));
    let soon = |sink: &IngestSink, urgent| {
        let (sink, batch) = (sink.clone(), mixed(urgent));
        async move { tokio::time::timeout(std::time::Duration::from_secs(5), sink.send(batch)).await }
    };
    // The reserve holds an eighth, less than the urgent part: the batch stays whole.
    let (sink, mut line) = queue(QueueOptions { limits, events: 1_000, high_priority: 8 });
    assert_eq!(soon(&sink, 10).await, Ok(Ok(1)));
    assert_eq!(line.try_receive(10).len(), 1);
    assert_eq!(sink.try_send(mixed(10)), Ok(2));
    assert_eq!(line.try_receive(10).len(), 1);
    // The reserve is taken: the urgent part waits for it, and not with room in its hands that the rest needs.
    assert_eq!(sink.send(decoded(events("u", &[9, 9]))).await, Ok(3));
    let (sent, first) = tokio::join!(soon(&sink, 1), async {
        tokio::task::yield_now().await;
        line.receive(10).await.len()
    });
    assert_eq!((sent, first), (Ok(Ok(5)), 1));
    assert_eq!(line.try_receive(10).len(), 2, "split in two");
}
