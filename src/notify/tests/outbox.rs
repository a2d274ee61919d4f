//! The outbox in virtual time, before receivers that fail.

use super::*;
use crate::model::AlertStatus;
use crate::notify::outbox::{DEAD_LETTERS, MAX_AGE_MS};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// How a receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Well,
    Down,
    Busy(i64),
    Refuses,
}

struct World {
    outbox: Outbox,
    now: Timestamp,
    moods: BTreeMap<LaneId, Mood>,
    log: Vec<String>,
    delivered: Vec<Arc<Notification>>,
}

impl World {
    fn new(limit_messages: usize) -> Self {
        let outbox = Outbox::new(limit_messages, 7);
        Self { outbox, now: Timestamp::EPOCH, moods: BTreeMap::new(), log: Vec::new(), delivered: Vec::new() }
    }

    /// Does everything that is due up to a moment; attempts take no time.
    fn run_to(&mut self, to: Timestamp) {
        loop {
            let lanes: Vec<LaneId> = self.outbox.lanes().cloned().collect();
            let mut next_due: Option<Timestamp> = None;
            let mut worked = false;
            for lane in lanes {
                match self.outbox.next(&lane, self.now) {
                    Next::Send(attempt) => {
                        worked = true;
                        self.attempt(&lane, &attempt);
                    }
                    Next::Wait(Some(at)) => next_due = Some(next_due.map_or(at, |earlier| earlier.min(at))),
                    Next::Wait(None) => {}
                }
            }
            if worked {
                continue;
            }
            match next_due.filter(|at| *at <= to) {
                Some(at) => {
                    assert!(at > self.now, "a wait is never for the past");
                    self.now = at;
                }
                None => break,
            }
        }
        self.now = to;
    }

    fn attempt(&mut self, lane: &LaneId, attempt: &Attempt) {
        let mood = self.moods.get(lane).copied().unwrap_or(Mood::Well);
        let outcome = match mood {
            Mood::Well => Outcome::Delivered("ok".into()),
            Mood::Down => Outcome::Retry { error: "down".into(), retry_after_ms: None },
            Mood::Busy(wait_ms) => Outcome::Retry { error: "busy".into(), retry_after_ms: Some(wait_ms) },
            Mood::Refuses => Outcome::Final { error: "no".into() },
        };
        if mood == Mood::Well {
            self.delivered.push(attempt.notification.clone());
        }
        let names: Vec<String> = attempt
            .notification
            .alerts
            .iter()
            .map(|alert| {
                let mark = if alert.status() == AlertStatus::Firing { "" } else { "!" };
                format!("{mark}{}{}", alert.name(), alert.labels.get("x").unwrap_or(""))
            })
            .collect();
        let at = crate::model::format_duration_ms(self.now.millis());
        self.log.push(format!("{at} {} #{} {} {mood:?}", lane.0, attempt.attempt, names.join(",")));
        self.outbox.finish(lane, attempt.id, outcome, self.now);
    }

    fn push(&mut self, receiver: &str, alerts: &[&str]) -> Queued {
        let alerts = alerts
            .iter()
            .map(|text| match text.strip_prefix('!') {
                Some(text) => Alert { resolved_at: Some(self.now), ..alert(text, self.now) },
                None => alert(text, self.now),
            })
            .collect();
        self.outbox.push(notification(receiver, alerts, self.now), self.now)
    }
}

fn lane(receiver: &str) -> LaneId {
    (receiver.into(), 0)
}

#[track_caller]
fn check(log: &[String], expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(log, expected, "\n{}", log.join("\n"));
}

#[test]
fn retries_back_off_until_the_breaker_opens_and_others_go_on() {
    let mut world = World::new(100);
    world.moods.insert(lane("slow"), Mood::Down);
    world.push("slow", &["A"]);
    world.push("fast", &["A"]);
    world.run_to(Timestamp::from_millis(20_000));
    world.moods.clear();
    world.run_to(Timestamp::from_millis(60_000));
    check(
        &world.log,
        "0s fast #1 A Well
         0s slow #1 A Down
         475ms slow #2 A Down
         1s325ms slow #3 A Down
         3s25ms slow #4 A Down
         6s225ms slow #5 A Down
         13s345ms slow #6 A Down
         29s185ms slow #7 A Well",
    );
    let status = world.outbox.status();
    let slow = &status.lanes[1];
    assert_eq!((slow.counters.delivered, slow.counters.retried, slow.pending), (1, 6, 0));
    assert_eq!((slow.breaker, slow.last_error.as_ref()), (BreakerState::Closed, None));
    assert_eq!(status.history.len(), 8);
}

#[test]
fn a_newer_message_supersedes_and_takes_over_what_only_the_older_one_told() {
    let mut world = World::new(100);
    world.moods.insert(lane("r"), Mood::Busy(10_000));
    assert_eq!(world.push("r", &["A x=1", "A x=2"]), Queued::Added);
    world.run_to(Timestamp::from_millis(1_000));
    assert_eq!(world.push("r", &["!A x=1", "A x=2"]), Queued::Superseded);
    assert_eq!(world.push("r", &["!A x=2"]), Queued::Superseded);
    assert_eq!(world.push("r", &["B"]), Queued::Added);
    world.moods.clear();
    world.run_to(Timestamp::from_millis(60_000));
    check(&world.log, "0s r #1 A1,A2 Busy(10000)\n10s r #1 B Well\n10s r #2 !A1,!A2 Well");
    let news: BTreeSet<u64> = world.delivered[1].news.iter().copied().collect();
    assert_eq!(news.len(), 2, "both are news, though the last message knew of one");
    assert_eq!(world.outbox.status().lanes[0].counters.superseded, 2);
}

#[test]
fn a_message_that_fails_after_a_newer_one_came_gives_way_to_it() {
    let mut world = World::new(100);
    world.push("r", &["A"]);
    let Next::Send(attempt) = world.outbox.next(&lane("r"), world.now) else { panic!("due") };
    assert_eq!(world.outbox.next(&lane("r"), world.now), Next::Wait(None), "one at a time");
    assert_eq!(world.push("r", &["!A"]), Queued::Added, "what is being sent is not replaced");
    let outcome = Outcome::Retry { error: "cut".into(), retry_after_ms: None };
    world.outbox.finish(&lane("r"), attempt.id, outcome, world.now);
    world.run_to(Timestamp::from_millis(10_000));
    check(&world.log, "415ms r #2 !A Well");
}

#[test]
fn refused_expired_and_crowded_out_messages_are_listed() {
    let mut world = World::new(3);
    world.moods.insert(lane("no"), Mood::Refuses);
    world.moods.insert(lane("down"), Mood::Down);
    world.push("no", &["A"]);
    world.run_to(Timestamp::from_millis(1_000));
    for name in ["A", "B", "C", "D"] {
        world.push("down", &[name]);
    }
    world.run_to(Timestamp::from_millis(MAX_AGE_MS + 3_600_000));
    let status = world.outbox.status();
    let why: Vec<_> = status.dead_letters.iter().map(|letter| (letter.why, letter.error.as_str())).collect();
    assert_eq!(
        why,
        [
            (GivenUp::Refused, "no"),
            (GivenUp::OutboxFull, ""),
            (GivenUp::Expired, "down"),
            (GivenUp::Expired, "down"),
            (GivenUp::Expired, "down")
        ]
    );
    assert_eq!(status.pending, 0);
    world.moods.clear();
    world.log.clear();
    let requeued = world.outbox.requeue(status.dead_letters[0].id, world.now);
    assert_eq!(requeued, Requeued::Waiting);
    let pending = world.outbox.len();
    assert_eq!(world.outbox.requeue(status.dead_letters[0].id, world.now), Requeued::Hurried, "only once");
    assert_eq!(world.outbox.len(), pending);
    world.run_to(world.now);
    check(&world.log, "1d1h no #1 A Well");
    for at in 0..2 * DEAD_LETTERS {
        world.moods.insert(lane("no"), Mood::Refuses);
        world.push("no", &[&format!("A{at}")]);
        world.run_to(world.now);
    }
    assert_eq!(world.outbox.status().dead_letters.len(), DEAD_LETTERS);
}

#[test]
fn what_waits_and_what_is_being_sent_survives_a_restart() {
    let mut world = World::new(100);
    world.push("r", &["A"]);
    world.push("r", &["B"]);
    world.push("s", &["C"]);
    let Next::Send(_) = world.outbox.next(&lane("r"), world.now) else { panic!("due") };
    let bytes = world.outbox.snapshot();
    world.outbox = Outbox::new(100, 1);
    assert!(world.outbox.restore(b"x", world.now).unwrap_err().contains("cannot be read"));
    world.outbox.restore(&bytes, world.now).unwrap();
    world.run_to(world.now);
    check(&world.log, "0s r #2 A Well\n0s s #1 C Well\n0s r #1 B Well");
}

#[test]
fn messages_survive_a_memory_that_cannot_be_read() {
    let mut world = World::new(100);
    world.push("r", &["A"]);
    let mut bytes = world.outbox.snapshot();
    *bytes.last_mut().unwrap() = 0xff;
    world.outbox = Outbox::new(100, 1);
    world.outbox.restore(&bytes, world.now).unwrap();
    world.run_to(world.now);
    check(&world.log, "0s r #1 A Well");
}

#[test]
fn after_a_restart_the_newer_message_of_a_group_wins_over_the_one_that_was_being_sent() {
    let mut world = World::new(100);
    world.push("r", &["A"]);
    let Next::Send(old) = world.outbox.next(&lane("r"), world.now) else { panic!("due") };
    let newer = Notification { at: world.now.plus_millis(5), ..Notification::clone(&old.notification) };
    world.outbox.push(newer.clone(), world.now);
    let bytes = world.outbox.snapshot();
    world.outbox = Outbox::new(100, 1);
    world.outbox.restore(&bytes, world.now).unwrap();
    world.run_to(world.now);
    assert_eq!(world.delivered.iter().map(|told| told.at).collect::<Vec<_>>(), [newer.at]);
}

#[test]
fn a_receiver_that_is_gone_gives_its_messages_up() {
    let mut world = World::new(100);
    world.push("r", &["A"]);
    world.push("s", &["A"]);
    world.outbox.keep_lanes(|(name, _)| &**name == "s", world.now);
    let status = world.outbox.status();
    assert_eq!((status.receiver_gone, status.dead_letters[0].why), (1, GivenUp::ReceiverGone));
    assert_eq!((status.pending, status.lanes.len()), (1, 1));
}

#[derive(Clone, Debug)]
enum Act {
    Fire(usize),
    End(usize),
    Pass(i64),
    Mood(usize, usize),
    Restart,
}

const RECEIVERS: [&str; 2] = ["r", "s"];
const ALERTS: [&str; 4] = ["A x=1", "A x=2", "A x=3", "B"];
const BOTH: &str = r#"{route: {receiver: r, group_by: [alertname], group_wait: 0s, group_interval: 10s,
    routes: [{receiver: r, continue: true}, {receiver: s, group_by: []}]},
    receivers: [{name: r, webhook_configs: [{url: 'http://x'}]}, {name: s, webhook_configs: [{url: 'http://x'}]}]}"#;

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..ALERTS.len()).prop_map(Act::Fire),
        3 => (0..ALERTS.len()).prop_map(Act::End),
        4 => (0_i64..60_000).prop_map(Act::Pass),
        2 => (0..RECEIVERS.len(), 0_usize..3).prop_map(|(receiver, mood)| Act::Mood(receiver, mood)),
        1 => Just(Act::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Notifier and outbox together, before receivers that go down and come back: whoever has received that an alert
    /// fires receives that it ended, whatever was superseded, repeated or restarted on the way.
    #[test]
    fn after_any_outage_receivers_know_the_end(acts in proptest::collection::vec(act(), 1..40)) {
        let routing = alertmanager(BOTH);
        let mut notifier = Notifier::new(routing.clone());
        let mut world = World::new(1_000);
        let mut set: BTreeMap<usize, Arc<Alert>> = BTreeMap::new();
        let pass = |world: &mut World, notifier: &mut Notifier, to: Timestamp| {
            while let Some(due) = notifier.next_due().filter(|due| *due <= to) {
                world.run_to(due.max(world.now));
                for notification in notifier.tick(world.now) {
                    world.outbox.push(notification, world.now);
                }
            }
            world.run_to(to);
        };
        let end = |set: &mut BTreeMap<usize, Arc<Alert>>, at: usize, now: Timestamp| {
            if let Some(alert) = set.get_mut(&at).filter(|alert| alert.status() == AlertStatus::Firing) {
                *alert = Arc::new(Alert { resolved_at: Some(now), ..Alert::clone(alert) });
            }
        };
        for act in acts {
            match act {
                Act::Fire(at) => drop(set.insert(at, Arc::new(alert(ALERTS[at], world.now)))),
                Act::End(at) => end(&mut set, at, world.now),
                Act::Pass(ms) => {
                    let to = world.now.plus_millis(ms);
                    pass(&mut world, &mut notifier, to);
                }
                Act::Mood(receiver, mood) => {
                    let mood = [Mood::Well, Mood::Down, Mood::Busy(20_000)][mood];
                    world.moods.insert(lane(RECEIVERS[receiver]), mood);
                }
                Act::Restart => {
                    let (log, outbox) = (notifier.snapshot(), world.outbox.snapshot());
                    notifier = Notifier::new(routing.clone());
                    notifier.restore(&log, world.now).unwrap();
                    world.outbox = Outbox::new(1_000, 3);
                    world.outbox.restore(&outbox, world.now).unwrap();
                }
            }
            let published: Vec<Arc<Alert>> = set.values().cloned().collect();
            notifier.update(world.now, &published);
        }
        (0..ALERTS.len()).for_each(|at| end(&mut set, at, world.now));
        let published: Vec<Arc<Alert>> = set.values().cloned().collect();
        notifier.update(world.now, &published);
        world.moods.clear();
        let to = world.now.plus_millis(3_600_000);
        pass(&mut world, &mut notifier, to);
        prop_assert!(world.outbox.is_empty());
        let mut believed: BTreeMap<(&str, u64), AlertStatus> = BTreeMap::new();
        for sent in &world.delivered {
            for alert in &sent.alerts {
                believed.insert((&sent.receiver, alert.fingerprint()), alert.status());
            }
        }
        for (who, status) in believed {
            prop_assert_eq!(status, AlertStatus::Resolved, "{:?}", who);
        }
    }
}
