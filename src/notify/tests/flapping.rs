//! Flapping alerts, storms, and what is withheld, in virtual time.

use super::timeline::{World, check, short};
use super::*;
use crate::config::schema::FlappingConfig;

/// More than 4 changes in a minute, steady after 30 s.
fn damped() -> Arc<Routing> {
    let flapping = FlappingConfig::On { changes: 4, window_ms: 60_000, steady_ms: 30_000 };
    let config = NotifyConfig { flapping, ..NotifyConfig::default() };
    Arc::new(Routing::compile(&config, None, &[], &mut Diagnostics::new()).unwrap())
}

#[test]
fn a_flapping_alert_is_told_once_and_again_when_it_is_steady() {
    check(
        damped(),
        "1s fire A
         3s end A
         5s fire A
         7s end A
         9s fire A
         11s end A
         13s fire A
         15s end A
         2m wait",
        r#"1s terminal first {}:{alertname="A"} firing A ended -
           3s terminal all_resolved {}:{alertname="A"} firing - ended A
           5s terminal first {}:{alertname="A"} firing A ended -
           7s terminal all_resolved {}:{alertname="A"} firing - ended A
           9s terminal flapping {}:{alertname="A"} firing A ended -
           45s terminal steady {}:{alertname="A"} firing - ended A"#,
    );
}

#[test]
fn it_may_become_steady_while_it_fires_and_is_news_again_later() {
    check(
        damped(),
        "1s fire A
         3s end A
         5s fire A
         7s end A
         9s fire A
         11s end A
         13s fire A
         2m end A
         121s fire A
         5m wait",
        r#"1s terminal first {}:{alertname="A"} firing A ended -
           3s terminal all_resolved {}:{alertname="A"} firing - ended A
           5s terminal first {}:{alertname="A"} firing A ended -
           7s terminal all_resolved {}:{alertname="A"} firing - ended A
           9s terminal flapping {}:{alertname="A"} firing A ended -
           43s terminal steady {}:{alertname="A"} firing A ended -
           2m terminal all_resolved {}:{alertname="A"} firing - ended A
           2m1s terminal first {}:{alertname="A"} firing A ended -"#,
    );
}

#[test]
fn a_flapping_member_holds_back_none_of_its_group() {
    check(
        damped(),
        "1s fire A x=1
         3s end A x=1
         5s fire A x=1
         7s end A x=1
         9s fire A x=1
         11s end A x=1
         12s fire A x=2
         14s fire A x=1
         16s end A x=2
         2m wait",
        r#"1s terminal first {}:{alertname="A"} firing A/1 ended -
           3s terminal all_resolved {}:{alertname="A"} firing - ended A/1
           5s terminal first {}:{alertname="A"} firing A/1 ended -
           7s terminal all_resolved {}:{alertname="A"} firing - ended A/1
           9s terminal flapping {}:{alertname="A"} firing A/1 ended -
           12s terminal new_member {}:{alertname="A"} firing A/2 ended -
           16s terminal some_resolved {}:{alertname="A"} firing - ended A/2
           44s terminal steady {}:{alertname="A"} firing A/1 ended -"#,
    );
}

#[test]
fn flapping_survives_a_restart_and_a_reload_ends_it_with_the_truth() {
    let steps = "1s fire A\n3s end A\n5s fire A\n7s end A\n9s fire A\n11s end A\n";
    let told = r#"1s terminal first {}:{alertname="A"} firing A ended -
                  3s terminal all_resolved {}:{alertname="A"} firing - ended A
                  5s terminal first {}:{alertname="A"} firing A ended -
                  7s terminal all_resolved {}:{alertname="A"} firing - ended A
                  9s terminal flapping {}:{alertname="A"} firing A ended -
                  "#;
    check(
        damped(),
        &format!("{steps}12s restart\n13s ready\n14s fire A\n16s end A\n2m wait"),
        &format!("{told}46s terminal steady {{}}:{{alertname=\"A\"}} firing - ended A"),
    );
    // What flapped until then is told as it is when damping is switched off.
    let mut world = World::new(damped());
    world.play(steps);
    let off = NotifyConfig { flapping: FlappingConfig::Off, ..NotifyConfig::default() };
    let off = Arc::new(Routing::compile(&off, None, &[], &mut Diagnostics::new()).unwrap());
    world.notifier.reconfigure(off, world.now);
    world.run_to(world.now.plus_millis(10_000));
    let last = world.sent.last().unwrap();
    assert_eq!((last.reason, last.status), (Reason::AllResolved, crate::model::AlertStatus::Resolved));
    assert_eq!(world.notifier.groups().len(), 0);
}

#[test]
fn the_message_says_how_often_and_receivers_are_told_what_was_withheld() {
    let mut world = World::new(damped());
    world.play("1s fire A\n3s end A\n5s fire A\n7s end A\n9s fire A\n11s end A\n13s fire A\n2m wait");
    let annotation = |at: usize, name: &str| world.sent[at].alerts[0].annotations.get(name).unwrap().to_owned();
    assert_eq!(
        annotation(4, "flapping"),
        "is flapping: 5 changes in 8s; further ones are withheld until it has been steady for 30s."
    );
    assert_eq!(annotation(4, "summary"), format!("{} A is wrong", annotation(4, "flapping")));
    assert_eq!(annotation(5, "flapping"), "is steady again (firing) after 7 changes in 12s, 2 of them withheld.");
    assert_eq!(annotation(0, "summary"), "A is wrong");
    assert_eq!(world.notifier.flapping_withheld(), 2);
    let notes = world.notifier.take_withheld();
    let reasons: Vec<Withheld> = notes.iter().map(|note| note.reason).collect();
    assert_eq!(reasons, [Withheld::Flapping]);
    assert_eq!((&*notes[0].receiver, &*notes[0].rules[0]), ("terminal", "A"));
    assert!(texts::subject(&world.sent[4]).starts_with("[FLAPPING] A"), "{}", texts::subject(&world.sent[4]));
}

#[test]
fn what_is_withheld_is_noted_once_with_its_reason() {
    const FILE: &str = "{route: {receiver: r, group_wait: 0s, group_interval: 1s, group_by: [alertname], routes: [
        {receiver: r, group_wait: 0s, group_interval: 1s, matchers: ['alertname=\"Night\"'], mute_time_intervals: [always]}]},
        time_intervals: [{name: always, time_intervals: [{times: [{start_time: '00:00', end_time: '24:00'}]}]}],
        inhibit_rules: [{source_matchers: ['alertname=\"Big\"'], target_matchers: ['alertname=\"Small\"']}],
        receivers: [{name: r, webhook_configs: [{url: 'http://x', send_resolved: false}]}]}";
    let mut world = World::new(alertmanager(FILE));
    world.play("1s fire Big\n2s fire Small\n3s fire Night\n10s hold\n11s fire Late\n12s wait\n13s ready\n20s end Big\n30s wait");
    let notes: Vec<(Withheld, String)> =
        world.notifier.take_withheld().into_iter().map(|note| (note.reason, note.rules[0].clone())).collect();
    use Withheld::{Inhibited, OutsideActiveTime, ResolvedNotWanted, WaitingForFirstEvaluation};
    let expected = [
        (Inhibited, "Small"),
        (OutsideActiveTime, "Night"),
        // Nothing at all is sent now; then the old reasons hold again.
        (WaitingForFirstEvaluation, "Late"),
        (WaitingForFirstEvaluation, "Small"),
        (WaitingForFirstEvaluation, "Night"),
        (Inhibited, "Small"),
        (OutsideActiveTime, "Night"),
        (ResolvedNotWanted, "Big"),
    ];
    assert_eq!(notes, expected.map(|(reason, rule)| (reason, rule.to_owned())));
    let sent: Vec<&str> = world.sent.iter().map(|sent| sent.alerts[0].name()).collect();
    assert_eq!(sent, ["Big", "Late", "Small"], "and told when nothing is in the way any more");
    assert!(world.notifier.take_withheld().is_empty());
}

#[test]
fn alertmanagers_file_is_taken_literally_unless_damping_is_asked_for() {
    const FILE: &str = "{route: {receiver: r, group_wait: 0s, group_interval: 1s, group_by: [alertname]},
        receivers: [{name: r, webhook_configs: [{url: 'http://x'}]}]}";
    let sent = |flapping: FlappingConfig| {
        let config = NotifyConfig { flapping, ..NotifyConfig::default() };
        let routing = Routing::compile(&config, Some(("am.yaml", FILE)), &[], &mut Diagnostics::new()).unwrap();
        let mut world = World::new(Arc::new(routing));
        for round in 0..20 {
            world.play(&format!("{}s fire A\n{}s end A", round * 10 + 1, round * 10 + 6));
        }
        world.run_to(world.now.plus_millis(3_600_000));
        world.sent
    };
    assert_eq!(sent(FlappingConfig::Default).len(), 40, "each change, as Alertmanager sends it");
    let damped = sent(FlappingConfig::On { changes: 6, window_ms: 600_000, steady_ms: 300_000 });
    let reasons: Vec<Reason> = damped.iter().map(|sent| sent.reason).collect();
    use Reason::{AllResolved, First, Flapping, Steady};
    assert_eq!(reasons, [First, AllResolved, First, AllResolved, First, AllResolved, Flapping, Steady]);
    assert_eq!(damped[7].status, crate::model::AlertStatus::Resolved);
}

#[test]
fn a_storm_of_ten_thousand_becomes_few_messages_of_bounded_size() {
    let mut world = World::new(short());
    world.now = Timestamp::from_millis(1_000);
    for at in 0..10_000 {
        world.fire(&format!("Storm shard={at} region=eu"));
        if at % 2_500 == 2_499 {
            world.publish();
            world.run_to(world.now.plus_millis(100));
        }
    }
    world.run_to(world.now.plus_millis(60_000));
    assert!(world.sent.len() <= 3, "{} messages", world.sent.len());
    let last = world.sent.last().unwrap();
    assert_eq!(last.alerts.len() + last.truncated, 10_000);
    assert!(last.alerts.len() <= 1_000, "{} alerts listed", last.alerts.len());
    let body = webhook_body(last, "http://sidewatch", 0).unwrap();
    assert!(body.len() < 1 << 20, "{} bytes", body.len());
    assert!(String::from_utf8(body).unwrap().contains("\"truncatedAlerts\":9000"));
    let text = texts::plain(last, "");
    assert!(text.len() < 100_000 && text.contains("and 9900 more"), "{} bytes: {}", text.len(), &text[..200]);
    assert!(texts::html(last, "").len() < 200_000);
    // One more is news, and is named.
    world.fire("Storm shard=late region=us");
    world.publish();
    world.run_to(world.now.plus_millis(2_000));
    let last = world.sent.last().unwrap();
    assert_eq!(last.reason, Reason::NewMember);
    assert!(last.alerts.iter().any(|alert| alert.labels.get("shard") == Some("late")));
    assert_eq!(last.alerts.len() + last.truncated, 10_001);
    let sent = world.sent.len();
    for at in 0..10_000 {
        world.end(&format!("Storm shard={at} region=eu"));
    }
    world.end("Storm shard=late region=us");
    world.publish();
    world.run_to(world.now.plus_millis(60_000));
    assert_eq!(world.sent.len(), sent + 1, "one message says that it is over");
    assert!(world.notifier.groups().is_empty());
}
