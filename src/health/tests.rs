//! Checks in virtual time.

use super::*;
use crate::config::schema::FormatConfig;
use crate::config::{Overrides, load_text};
use crate::model::FieldPlan;
use crate::source::decode::{DecodeLimits, Decoder, Framing};

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1_000)
}

struct World {
    checks: Checks,
    plan: Arc<FieldPlan>,
    decoder: Decoder,
}

fn world(health: &str) -> World {
    let text = format!("health:\n{health}");
    let (config, mut found) = load_text("sidewatch.yaml", &text, &Default::default(), &Overrides::default());
    let mut plan = FieldPlanBuilder::default();
    let mut checks = Checks::compile(&config.unwrap().health, 1_000, &mut plan, &mut found);
    let decoder = Decoder::compile(&FormatConfig::default(), DecodeLimits::default(), &mut found).unwrap();
    assert!(!found.has_errors(), "{found}");
    checks.start(at(0));
    World { checks, plan: Arc::new(plan.build(1)), decoder }
}

impl World {
    fn beat(&mut self, second: i64) {
        self.beat_from(second, "in");
    }

    fn beat_from(&mut self, second: i64, source: &str) {
        let line = b"{\"type\":\"beat\",\"payload\":{\"ok\":1}}".to_vec();
        let batch = self.decoder.decode(line, Framing::Ndjson, &self.plan, &source.into(), at(second));
        self.checks.observe(at(second), &batch);
    }

    fn status(&mut self, second: i64) -> &'static str {
        self.checks.tick(at(second));
        self.checks.report().status.name()
    }
}

#[test]
fn a_heartbeat_has_its_time_from_the_start_and_from_the_last_beat() {
    let mut world = world("  beat: {event: {match: beat, within: 10s, where: {data.ok: 1}}}\n");
    assert_eq!(world.status(9), "unknown");
    assert_eq!(world.status(11), "unhealthy");
    world.beat(12);
    assert_eq!(world.status(22), "healthy");
    assert_eq!(world.checks.next_due(), Some(at(22).plus_millis(1)));
    assert_eq!(world.status(23), "unhealthy");
    let words: Vec<&str> = world.checks.take_transitions().iter().map(|change| change.to.name()).collect();
    assert_eq!(words, ["unhealthy", "healthy", "unhealthy"]);
}

#[test]
fn deaf_is_not_silent() {
    let mut world = world("  beat: {event: {match: beat, within: 10s}}\n");
    world.beat(1);
    world.checks.source_state(at(5), &"in".into(), &SourceState::Lost { reason: "connection refused".into() });
    assert_eq!(world.status(60), "unknown");
    assert_eq!(world.checks.report().checks[0].reason, "source in is lost: connection refused");
    world.checks.source_state(at(61), &"in".into(), &SourceState::Connected);
    assert_eq!(world.status(70), "unknown", "no false alarm, and nobody knows yet");
    assert_eq!(world.status(72), "unhealthy");
}

#[test]
fn only_the_sources_of_a_heartbeat_make_it_unknown() {
    let mut world = world(
        "  heard: {event: {match: beat, within: 10s}}\n  named: {event: {match: beat, within: 10s, source: other}}\nsources: {in: {memory: {}}, other: {memory: {}}}\n",
    );
    let statuses =
        |world: &World| -> Vec<&str> { world.checks.report().checks.iter().map(|check| check.status.name()).collect() };
    world.beat(1);
    world.beat_from(1, "other");
    // Nothing that these are heard from is lost.
    world.checks.source_state(at(2), &"third".into(), &SourceState::Lost { reason: "cut".into() });
    assert_eq!(statuses(&world), ["healthy", "healthy"]);
    world.checks.source_state(at(3), &"in".into(), &SourceState::Lost { reason: "cut".into() });
    assert_eq!(statuses(&world), ["unknown", "healthy"]);
    // The return of one source starts no clock of a check that does not depend on it.
    world.checks.source_state(at(9), &"in".into(), &SourceState::Connected);
    world.checks.tick(at(12));
    assert_eq!(statuses(&world), ["unknown", "unhealthy"]);
    // What was heard from where survives a restart.
    let saved = world.checks.snapshot();
    let mut after = self::world(
        "  heard: {event: {match: beat, within: 10s}}\n  named: {event: {match: beat, within: 10s, source: other}}\nsources: {in: {memory: {}}, other: {memory: {}}}\n",
    );
    after.checks.restore(&saved, at(13)).unwrap();
    after.checks.source_state(at(13), &"third".into(), &SourceState::Lost { reason: "cut".into() });
    assert_ne!(after.checks.report().checks[0].reason, "source third is lost: cut");
}

#[test]
fn downtime_is_no_silence() {
    let mut before = world("  beat: {event: {match: beat, within: 10s}}\n");
    before.beat(100);
    before.checks.tick(at(105));
    let saved = before.checks.snapshot();
    let mut after = world("  beat: {event: {match: beat, within: 10s}}\n");
    after.checks.restore(&saved, at(1_000)).unwrap();
    assert_eq!(after.status(1_004), "healthy");
    assert_eq!(after.status(1_006), "unhealthy");
}

#[test]
fn expressions_and_probes_say_why() {
    let mut world = world("  e: {expr: 'up == 0', status: degraded}\n  h: {http: {url: 'http://127.0.0.1:1/'}}\n");
    assert_eq!(world.checks.due(at(1)).len(), 1);
    assert_eq!(world.checks.due(at(9)).len(), 0, "one at a time");
    world.checks.expr_result(at(9), "e", Ok(Some(0.0)));
    assert_eq!(world.checks.report().checks[0].status, Status::Degraded);
    assert_eq!(world.checks.report().checks[0].reason, "up == 0 holds, with the value 0");
    assert_eq!(world.checks.due(at(10)).len(), 1);
    world.checks.expr_result(at(10), "e", Ok(None));
    world.checks.probe_result(at(10), "h", Err("connection refused".into()));
    let report = world.checks.report();
    assert_eq!((report.status, report.checks[1].reason.as_str()), (Status::Unhealthy, "connection refused"));
    assert_eq!(world.checks.probes()[0].url, "http://127.0.0.1:1/");
}

#[test]
fn what_is_reported_ends_with_time_and_with_its_source() {
    let told = |name: &str, status: u8| crate::source::counts::ReportedCheck {
        name: name.to_owned(),
        status,
        message: String::new(),
    };
    let found = |world: &World| -> Vec<String> {
        world.checks.report().checks.iter().map(|check| format!("{} {}", check.name, check.status.name())).collect()
    };
    let (stats, other): (Arc<str>, Arc<str>) = ("stats".into(), "other".into());
    let mut world = world("");
    assert!(
        world.checks.reported(at(0), &stats, &told("db", 2)) && world.checks.reported(at(1), &other, &told("up", 0))
    );
    assert_eq!(world.status(590), "unhealthy");
    assert_eq!(world.checks.next_due(), Some(at(600).plus_millis(1)));
    world.checks.reported(at(590), &other, &told("up", 0));
    assert_eq!(world.status(601), "unknown", "what was wrong ten minutes ago says nothing now");
    assert_eq!(found(&world), ["db unknown", "up healthy"]);
    assert!(world.checks.report().checks[0].reason.starts_with("no report since 1970-01-01T00:00:00"));
    let changes: Vec<&str> = world.checks.take_transitions().iter().map(|change| change.to.name()).collect();
    assert_eq!(changes, ["unhealthy", "healthy", "unknown"]);

    // A restart costs no time; what is declared by now is no longer what somebody reports.
    let saved = world.checks.snapshot();
    let mut after = self::world("  db: {expr: 'up == 0'}\n");
    after.checks.restore(&saved, at(5_000)).unwrap();
    assert_eq!(after.status(5_500), "unknown");
    assert_eq!(found(&after), ["db unknown", "up healthy"]);
    assert_eq!(after.status(5_600), "unknown");
    assert_eq!(found(&after), ["db unknown", "up unknown"]);

    world.checks.reported(at(602), &stats, &told("db", 0));
    world.checks.source_state(at(603), &other, &SourceState::Ended);
    assert_eq!(found(&world), ["db healthy"]);
    assert_eq!(world.checks.take_transitions().last().unwrap().reason, "the source other that reported it is no more");
    for number in 1..100 {
        assert!(world.checks.reported(at(604), &stats, &told(&number.to_string(), 0)));
    }
    assert!(!world.checks.reported(at(604), &stats, &told("one too many", 0)));
}
