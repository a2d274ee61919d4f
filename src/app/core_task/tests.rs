use super::*;
use crate::config::Diagnostics;
use crate::config::schema::FormatConfig;
use crate::model::{FieldPath, FieldPlanBuilder};
use crate::source::decode::{DecodeLimits, Decoder, Framing};

fn checkpointing(interval_ms: i64) -> Checkpointing {
    let (writes, written) = (mpsc::channel(1).0, mpsc::channel(1).1);
    let made = Checkpointing::new(writes, written, interval_ms, watch::Sender::default(), Timestamp::EPOCH);
    Checkpointing { need_full: false, ..made }
}

#[test]
fn checkpoints_that_sources_ask_for_are_spaced_by_what_they_cost_and_never_late() {
    let check = |interval_ms, cost_us, bytes, expected_ms| {
        let cost = Duration::from_micros(cost_us);
        let checkpointing = Checkpointing { cost, bytes, ..checkpointing(interval_ms) };
        assert_eq!(checkpointing.wanted_after_ms(), expected_ms, "{cost_us} us, {bytes} bytes, {interval_ms} ms");
    };
    check(1_000, 0, 0, 5);
    check(1_000, 1_600, 0, 5);
    check(1_000, 4_000, 80_000, 8);
    check(1_000, 20_000, 80_000, 40);
    check(1_000, 20_000, 1_200_000, 75);
    check(1_000, 3_000_000, 0, 100);
    check(1_000, 0, 100_000_000, 100);
    check(50, 0, 100_000_000, 50);
    check(2, 2_400, 0, 2);
}

#[test]
fn a_checkpoint_is_whole_when_the_deltas_have_outgrown_it() {
    let check = |need_full, since_ms, full_bytes, delta_bytes, expected| {
        let checkpointing = Checkpointing { need_full, full_bytes, delta_bytes, ..checkpointing(1_000) };
        let due = checkpointing.full_is_due(Timestamp::EPOCH.plus_millis(since_ms));
        assert_eq!(due, expected, "{need_full} {since_ms} {full_bytes} {delta_bytes}");
    };
    check(false, 0, 5 << 20, 5 << 20, false);
    check(false, 0, 5 << 20, (5 << 20) + 1, true);
    check(false, 0, 1_000, 4 << 20, false);
    check(false, 0, 1_000, (4 << 20) + 1, true);
    check(false, 59_999, 1_000, 0, false);
    check(false, 60_000, 1_000, 0, true);
    check(true, 0, 1_000, 0, true);
}

#[test]
fn a_batch_that_waited_is_read_again_by_what_decoded_it() {
    let format = |lines: &str| {
        let config = FormatConfig {
            lines: Some(crate::config::Spanned { value: lines.into(), span: crate::config::Span::default() }),
            ..FormatConfig::default()
        };
        let mut found = Diagnostics::new();
        let decoder = Decoder::compile(&config, DecodeLimits::default(), &mut found);
        Arc::new(decoder.unwrap_or_else(|| panic!("{found}")))
    };
    let plan = |version, path: &str| {
        let mut builder = FieldPlanBuilder::default();
        let slot = builder.slot(&FieldPath::parse(path).unwrap()).unwrap();
        (Arc::new(builder.build(version)), slot)
    };
    let (before, _) = plan(1, "data.n");
    let (after, slot) = plan(2, "data.unit");
    let decoder = format(r"^(?P<type>\w+) (?P<n>\d+)(?P<unit>\w+)$");
    let batch = decoder.decode(b"took 5ms\n".to_vec(), Framing::Lines, &before, &"log".into(), Timestamp::EPOCH);
    assert_eq!(batch.events.len(), 1, "{:?}", batch.refused);
    let Ok(Input::Events(batch)) = input(Ingest::Batch(batch, decoder), &after) else { panic!("no events") };
    assert_eq!(batch.events.len(), 1, "{:?}", batch.refused);
    assert_eq!(batch.field_str(batch.field(0, slot)), Some("ms"));
}
