//! Deduplication by id: the window against a plain set, through kills: what a restart knows and what it counted always agree.

use proptest::prelude::*;
use sidewatch::app::build;
use sidewatch::config::{Overrides, load_text};
use sidewatch::engine::{Core, Input, Parts};
use sidewatch::model::Timestamp;
use sidewatch::promql::{Options, Query, SampleValue, Value};
use sidewatch::source::decode::Framing;
use std::collections::{BTreeMap, VecDeque};

const START_MS: i64 = 1_795_165_200_000;

fn parts(dedup: &str) -> Parts {
    let text = format!(
        "bundled_rules: false\nsources: {{a: {{memory: {{}}, {dedup}}}, b: {{memory: {{}}}}}}\n\
         metrics: {{drops: {{drop: {{match: noise}}}}, sum_total: {{counter: {{match: e, value: data.n}}}}}}\n\
         alerts: {{Three: {{event: {{match: e, count: '>= 3', within: 1h}}}}}}\n"
    );
    let (config, mut found) = load_text("t.yaml", &text, &BTreeMap::new(), &Overrides::default());
    let parts = config.as_ref().and_then(|config| build(config, &mut found));
    parts.filter(|_| !found.has_errors()).unwrap_or_else(|| panic!("{found}"))
}

fn feed(core: &mut Core, parts: &Parts, source: &str, lines: &str) {
    let part = parts.sources.iter().find(|part| &*part.name == source).unwrap();
    let now = core.engine.now();
    let plan = core.engine.plan().clone();
    let batch = part.decoder.decode(lines.as_bytes().to_vec(), Framing::Ndjson, &plan, &part.name, now);
    assert!(batch.refused.is_empty(), "{:?}", batch.refused);
    core.engine.observe(now, [Input::Events(batch)]);
}

fn value(core: &mut Core, query: &str) -> f64 {
    let now = core.engine.now().plus_millis(1_000);
    core.engine.tick(now);
    let options = Options::default();
    let query = Query::parse(query).unwrap();
    match query.instant(core.engine.store(), now.millis(), &options).unwrap().value {
        Value::Vector(samples) => samples.first().map_or(0.0, |sample| match sample.value {
            SampleValue::Float(value) => value,
            SampleValue::Histogram(_) => f64::NAN,
        }),
        other => panic!("{other:?}"),
    }
}

fn fresh(parts: &Parts) -> Core {
    Core::new(parts, Timestamp::from_millis(START_MS))
}

#[test]
fn an_event_is_its_source_its_id_and_its_attempt() {
    let parts = parts("dedup: {by: id, window: 100}");
    let mut core = fresh(&parts);
    let mut check = |lines: &str, total: f64| {
        feed(&mut core, &parts, "a", lines);
        assert_eq!(value(&mut core, "sum(events_total) or vector(0)"), total, "{lines}");
    };
    check(r#"{"type":"e","id":"1","data":{"n":1}}"#, 1.0);
    check(r#"{"type":"e","id":"1","data":{"n":7}}"#, 1.0);
    check("{\"type\":\"e\",\"id\":\"2\"}\n{\"type\":\"e\",\"id\":\"2\"}\n{\"type\":\"e\",\"id\":\"3\"}", 3.0);
    check(r#"{"type":"e","id":"1","source":"elsewhere"}"#, 4.0);
    check(r#"{"type":"e","id":"1","attempt":2}"#, 5.0);
    // Without an id nothing is taken for anything else.
    check("{\"type\":\"e\"}\n{\"type\":\"e\"}\n{\"type\":\"e\",\"id\":\"\"}", 8.0);
    check("{\"type\":\"noise\",\"id\":\"n\"}\n{\"type\":\"noise\",\"id\":\"n\"}", 8.0);
    assert_eq!(value(&mut core, "sum(sidewatch_events_dropped_total)"), 1.0, "the second one is not even dropped");
    assert_eq!(value(&mut core, "sum_total"), 1.0);
    assert_eq!(core.engine.sources()["a"].events, 8);
    assert_eq!(core.engine.recent(0, 100, |_| true).len(), 8);

    // Another source has no window, and this one's is not asked.
    feed(&mut core, &parts, "b", "{\"type\":\"e\",\"id\":\"1\"}\n{\"type\":\"e\",\"id\":\"1\"}");
    assert_eq!(value(&mut core, "sum(events_total{source=\"b\"})"), 2.0);
}

#[test]
fn a_window_is_bounded_and_a_reload_keeps_what_it_can() {
    let wide = parts("dedup: {window: 3}");
    let mut core = fresh(&wide);
    let line = |id: u32| format!("{{\"type\":\"e\",\"id\":\"{id}\"}}\n");
    let all = |ids: &[u32]| ids.iter().map(|id| line(*id)).collect::<String>();
    feed(&mut core, &wide, "a", &all(&[1, 2, 3, 4, 2, 1]));
    assert_eq!(value(&mut core, "sum(events_total)"), 5.0, "1 had left the window");
    // The window holds 3, 4, 1 now; the narrow one keeps 4, 1.
    let narrow = parts("dedup: {window: 2}");
    core.reconfigure(&narrow, Timestamp::from_millis(START_MS));
    feed(&mut core, &narrow, "a", &all(&[4, 1, 3]));
    assert_eq!(value(&mut core, "sum(events_total)"), 6.0);
    let snapshot = core.snapshot(true, Vec::new());
    let off = parts("dedup: false");
    core.reconfigure(&off, Timestamp::from_millis(START_MS));
    feed(&mut core, &off, "a", &all(&[3, 3]));
    assert_eq!(value(&mut core, "sum(events_total)"), 8.0);

    // Switched on again it begins anew, in what a restart reads as well.
    core.reconfigure(&narrow, Timestamp::from_millis(START_MS));
    let delta = core.snapshot(false, Vec::new());
    let mut after = fresh(&narrow);
    after.restore(&[snapshot, delta], Timestamp::from_millis(START_MS)).unwrap();
    for core in [&mut core, &mut after] {
        feed(core, &narrow, "a", &all(&[3]));
        assert_eq!(value(core, "sum(events_total)"), 9.0);
    }
}

#[test]
fn a_checkpoint_of_the_version_before_is_read() {
    let parts = parts("dedup: true");
    let mut core = fresh(&parts);
    feed(&mut core, &parts, "a", r#"{"type":"e","id":"1"}"#);
    let snapshot = core.snapshot(true, Vec::new());
    let restore = |blob: Vec<u8>| fresh(&parts).restore(&[blob], Timestamp::from_millis(START_MS));
    assert!(restore(snapshot.clone()).unwrap().is_some());
    let later = restore([&[4], &snapshot[1..]].concat()).unwrap_err().to_string();
    assert!(later.contains("has version 4, this sidewatch reads version 3"), "{later}");
    // Version 2 has the posted alerts behind the envelope, where there are any; version 3 a table, empty without them and
    // without a window.
    let mut plain = fresh(&self::parts("dedup: false"));
    feed(&mut plain, &parts, "a", r#"{"type":"e","id":"1"}"#);
    let blob = plain.snapshot(true, Vec::new());
    assert_eq!((blob[0], blob.last()), (3, Some(&0)));
    let old = [&[2], &blob[1..blob.len() - 1]].concat();
    let mut after = fresh(&parts);
    after.restore(&[old], Timestamp::from_millis(START_MS)).unwrap();
    feed(&mut after, &parts, "a", r#"{"type":"e","id":"1"}"#);
    assert_eq!(value(&mut after, "sum(events_total)"), 2.0, "it had no window yet");
}

/// What happens to the source.
#[derive(Clone, Debug)]
enum Step {
    /// Events with these ids come.
    Events(Vec<u8>),
    /// A checkpoint is written; a whole one where it says so.
    Checkpoint(bool),
    /// A checkpoint is taken and lost on its way to the disk.
    Lost,
    /// kill -9; everything since the last checkpoint comes again.
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec(any::<u8>(), 1..20).prop_map(Step::Events),
        3 => any::<bool>().prop_map(Step::Checkpoint),
        1 => Just(Step::Lost),
        2 => Just(Step::Kill),
    ]
}

/// The same in plain words: how many were counted, and which are known.
#[derive(Clone, Default)]
struct Model {
    counted: u64,
    window: VecDeque<u8>,
}

impl Model {
    fn event(&mut self, id: u8, limit: usize) {
        if self.window.contains(&id) {
            return;
        }
        self.counted += 1;
        self.window.push_back(id);
        if self.window.len() > limit {
            self.window.pop_front();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn window_and_counts_agree_through_kills(steps in proptest::collection::vec(step(), 1..60), limit in 1_usize..40) {
        let parts = parts(&format!("dedup: {{by: id, window: {limit}}}"));
        let (mut core, mut model) = (fresh(&parts), Model::default());
        let (mut stored, mut blobs): (Model, Vec<Vec<u8>>) = (Model::default(), Vec::new());
        let (mut unstored, mut whole): (Vec<u8>, bool) = (Vec::new(), true);
        let take = |core: &mut Core, model: &mut Model, ids: &[u8]| {
            let lines: String = ids.iter().map(|id| format!("{{\"type\":\"e\",\"id\":\"{id}\"}}\n")).collect();
            feed(core, &parts, "a", &lines);
            ids.iter().for_each(|id| model.event(*id, limit));
        };
        for step in steps {
            match step {
                Step::Events(ids) => {
                    take(&mut core, &mut model, &ids);
                    unstored.extend(ids);
                }
                Step::Checkpoint(full) => {
                    let full = full || std::mem::take(&mut whole);
                    let blob = core.snapshot(full, Vec::new());
                    if full {
                        blobs.clear();
                    }
                    blobs.push(blob);
                    stored = model.clone();
                    unstored.clear();
                }
                Step::Lost => {
                    core.snapshot(false, Vec::new());
                    whole = true;
                }
                Step::Kill => {
                    core = fresh(&parts);
                    core.restore(&blobs, Timestamp::from_millis(START_MS)).unwrap();
                    model = stored.clone();
                    whole = true;
                    let again = unstored.clone();
                    take(&mut core, &mut model, &again);
                }
            }
            prop_assert_eq!(value(&mut core, "sum(events_total) or vector(0)"), model.counted as f64);
        }
    }
}
