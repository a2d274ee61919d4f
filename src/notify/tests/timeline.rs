//! The notifier in virtual time.

use super::*;
use crate::model::AlertStatus;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// A world around a notifier: the published set, and what was sent.
pub(super) struct World {
    pub(super) notifier: Notifier,
    routing: Arc<Routing>,
    set: BTreeMap<Labels, Arc<Alert>>,
    pub(super) now: Timestamp,
    pub(super) sent: Vec<Notification>,
}

impl World {
    pub(super) fn new(routing: Arc<Routing>) -> Self {
        let notifier = Notifier::new(routing.clone());
        Self { notifier, routing, set: BTreeMap::new(), now: Timestamp::EPOCH, sent: Vec::new() }
    }

    /// Runs to a moment, ticking exactly when something is due.
    pub(super) fn run_to(&mut self, to: Timestamp) {
        while let Some(due) = self.notifier.next_due().filter(|due| *due <= to) {
            self.now = due.max(self.now);
            let sent = self.notifier.tick(self.now);
            self.sent.extend(sent);
            assert!(self.notifier.next_due().is_none_or(|next| next > self.now), "a tick leaves nothing due");
        }
        self.now = to;
    }

    pub(super) fn publish(&mut self) {
        let set: Vec<Arc<Alert>> = self.set.values().cloned().collect();
        self.notifier.update(self.now, &set);
    }

    pub(super) fn fire(&mut self, text: &str) {
        let alert = alert(text, self.now);
        self.set.insert(alert.labels.clone(), Arc::new(alert));
    }

    pub(super) fn end(&mut self, text: &str) {
        let labels = alert(text, self.now).labels;
        let mut ended = Alert::clone(&self.set[&labels]);
        ended.resolved_at = Some(self.now);
        ended.value_at_resolve = Some(0.0);
        self.set.insert(labels, Arc::new(ended));
    }

    /// One step a line: `1s fire A x=1`.
    pub(super) fn play(&mut self, steps: &str) {
        for step in steps.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (at, action) = step.split_once(' ').unwrap();
            self.run_to(Timestamp::from_millis(crate::model::parse_duration_ms(at).unwrap()));
            self.step(action);
            self.run_to(self.now);
        }
    }

    fn step(&mut self, action: &str) {
        let (verb, rest) = action.split_once(' ').unwrap_or((action, ""));
        match verb {
            "fire" => rest.split(", ").for_each(|text| self.fire(text)),
            "end" => rest.split(", ").for_each(|text| self.end(text)),
            "gone" => {
                let labels = alert(rest, self.now).labels;
                self.set.remove(&labels);
            }
            "hold" => self.notifier.hold_until_ready(true),
            "ready" => self.notifier.hold_until_ready(false),
            "restart" => {
                let bytes = self.notifier.snapshot();
                self.notifier = Notifier::new(self.routing.clone());
                self.notifier.hold_until_ready(true);
                self.notifier.restore(&bytes, self.now).unwrap();
                let restored = self.notifier.snapshot();
                self.notifier.restore(&restored, self.now).unwrap();
                assert_eq!(self.notifier.snapshot(), restored, "a second restart changes nothing");
                return;
            }
            "reload" => {
                self.routing = alertmanager(rest);
                self.notifier.reconfigure(self.routing.clone(), self.now);
                return;
            }
            "wait" => return,
            "silence" | "expire" => return silences::command(&mut self.notifier, verb, rest, self.now),
            other => panic!("{other}?"),
        }
        self.publish();
    }
}

pub(super) fn short() -> Arc<Routing> {
    Arc::new(Routing::terminal())
}

fn show(notification: &Notification) -> String {
    let alert = |alert: &Arc<Alert>| {
        let more: Vec<&str> =
            alert.labels.iter().filter(|label| &*label.name != "alertname").map(|label| &*label.value).collect();
        [&[alert.name()], more.as_slice()].concat().join("/")
    };
    let list = |alerts: Vec<String>| if alerts.is_empty() { "-".to_owned() } else { alerts.join(",") };
    format!(
        "{} {} {} {} firing {} ended {}",
        crate::model::format_duration_ms(notification.at.millis()),
        notification.receiver,
        serde_json::to_string(&notification.reason).unwrap().trim_matches('"'),
        notification.group_key,
        list(notification.firing().map(alert).collect()),
        list(notification.resolved().map(alert).collect()),
    )
}

/// Runs a timeline (`1s fire A x=1`, one step a line) and compares what was sent.
#[track_caller]
pub(super) fn check(routing: Arc<Routing>, steps: &str, expected: &str) {
    let mut world = World::new(routing);
    world.play(steps);
    let sent: Vec<String> = world.sent.iter().map(show).collect();
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(sent, expected, "\n{}", sent.join("\n"));
}

pub(super) const ONE: &str =
    "{route: {receiver: r, group_by: [alertname]}, receivers: [{name: r, webhook_configs: [{url: 'http://x'}]}]}";

#[test]
fn the_short_form_tells_at_once_and_bundles_a_storm() {
    check(
        short(),
        "1s fire A x=1
         1200ms fire A x=2
         1300ms fire A x=3
         1400ms end A x=1
         1500ms fire B
         60s end A x=2, A x=3
         60s end B
         10h wait",
        r#"1s terminal first {}:{alertname="A"} firing A/1 ended -
           1s500ms terminal first {}:{alertname="B"} firing B ended -
           2s terminal new_member {}:{alertname="A"} firing A/2,A/3 ended A/1
           1m terminal all_resolved {}:{alertname="A"} firing - ended A/2,A/3
           1m terminal all_resolved {}:{alertname="B"} firing - ended B"#,
    );
}

#[test]
fn the_short_form_bounds_a_flapping_alert() {
    check(
        short(),
        "1s fire A
         1100ms end A
         1200ms fire A
         1300ms end A
         2100ms fire A
         2200ms end A
         5s wait",
        r#"1s terminal first {}:{alertname="A"} firing A ended -
           2s terminal all_resolved {}:{alertname="A"} firing - ended A"#,
    );
}

#[test]
fn the_short_form_repeats_after_four_hours() {
    check(
        short(),
        "1s fire A x=1
         3h fire A x=2
         8h wait",
        r#"1s terminal first {}:{alertname="A"} firing A/1 ended -
           3h terminal new_member {}:{alertname="A"} firing A/1,A/2 ended -
           7h terminal repeat {}:{alertname="A"} firing A/1,A/2 ended -"#,
    );
}

#[test]
fn alertmanagers_delays_are_literal() {
    check(
        alertmanager(ONE),
        "1s fire A x=1
         20s fire A x=2
         40s fire A x=3
         6m end A x=1
         20m end A x=2, A x=3
         30m wait",
        r#"31s r first {}:{alertname="A"} firing A/1,A/2 ended -
           5m31s r new_member {}:{alertname="A"} firing A/1,A/2,A/3 ended -
           10m31s r some_resolved {}:{alertname="A"} firing A/2,A/3 ended A/1
           20m31s r all_resolved {}:{alertname="A"} firing - ended A/2,A/3"#,
    );
}

#[test]
fn what_ended_before_anybody_was_told_is_not_told() {
    check(alertmanager(ONE), "1s fire A\n20s end A\n1h wait", "");
}

#[test]
fn an_ending_is_told_even_when_the_alert_leaves_the_set() {
    check(
        short(),
        "1s fire A
         5s gone A
         10s wait",
        r#"1s terminal first {}:{alertname="A"} firing A ended -
           5s terminal all_resolved {}:{alertname="A"} firing - ended A"#,
    );
}

#[test]
fn after_a_restart_nothing_is_said_before_every_rule_was_evaluated() {
    // B ended while nobody watched: its absence counts only once the rules have been evaluated.
    check(
        short(),
        "1s fire A
         1s fire B
         10s restart
         10s gone B
         11s fire C
         15s ready
         20s wait",
        r#"1s terminal first {}:{alertname="A"} firing A ended -
           1s terminal first {}:{alertname="B"} firing B ended -
           15s terminal all_resolved {}:{alertname="B"} firing - ended B
           15s terminal first {}:{alertname="C"} firing C ended -"#,
    );
}

#[test]
fn a_restart_does_not_repeat_what_was_told() {
    check(
        alertmanager(ONE),
        "1s fire A x=1
         40s restart
         41s fire A x=2
         42s ready
         6m wait",
        r#"31s r first {}:{alertname="A"} firing A/1 ended -
           5m31s r new_member {}:{alertname="A"} firing A/1,A/2 ended -"#,
    );
}

const TREE: &str = r#"{
  route: {receiver: all, group_by: ['...'], group_wait: 0s, group_interval: 1m, routes: [
    {matchers: ['severity="page"'], receiver: oncall, continue: true, group_by: [alertname]},
    {match: {severity: page}, receiver: archive, group_by: []},
    {match_re: {team: 'db|cache'}, receiver: data, routes: [{matchers: ['{team=cache}'], receiver: cache}]}]},
  receivers: [{name: all, webhook_configs: [{url: 'http://x'}]}, {name: oncall, webhook_configs: [{url: 'http://x'}]},
    {name: archive, webhook_configs: [{url: 'http://x'}]}, {name: data, webhook_configs: [{url: 'http://x'}]},
    {name: cache, webhook_configs: [{url: 'http://x'}]}]}"#;

#[test]
fn the_route_tree_and_its_group_keys() {
    check(
        alertmanager(TREE),
        "1s fire A severity=page
         2s fire B team=db
         3s fire C team=cache
         4s fire D team=web",
        r#"1s archive first {}/{severity="page"}:{alertname="A", severity="page"} firing A/page ended -
           1s oncall first {}/{severity="page"}:{alertname="A"} firing A/page ended -
           2s data first {}/{team=~"^(?:db|cache)$"}:{alertname="B", team="db"} firing B/db ended -
           3s cache first {}/{team=~"^(?:db|cache)$"}/{team="cache"}:{alertname="C", team="cache"} firing C/cache ended -
           4s all first {}:{alertname="D", team="web"} firing D/web ended -"#,
    );
}

pub(super) const INHIBIT: &str = r#"{
  route: {receiver: r, group_by: [alertname], group_wait: 0s, group_interval: 1m},
  inhibit_rules: [{source_matchers: ['severity="critical"'], target_matchers: ['severity=~"warning|critical"'], equal: [dc]}],
  receivers: [{name: r, webhook_configs: [{url: 'http://x'}]}]}"#;

#[test]
fn inhibition_mutes_firing_and_never_an_ending() {
    check(
        alertmanager(INHIBIT),
        "1s fire Crit severity=critical dc=a, Warn severity=warning dc=a, Other severity=warning dc=b
         90s end Crit severity=critical dc=a
         200s fire Crit severity=critical dc=a
         210s end Warn severity=warning dc=a
         5m wait",
        r#"1s r first {}:{alertname="Crit"} firing Crit/a/critical ended -
           1s r first {}:{alertname="Other"} firing Other/b/warning ended -
           2m1s r all_resolved {}:{alertname="Crit"} firing - ended Crit/a/critical
           2m1s r first {}:{alertname="Warn"} firing Warn/a/warning ended -
           3m20s r first {}:{alertname="Crit"} firing Crit/a/critical ended -
           4m1s r all_resolved {}:{alertname="Warn"} firing - ended Warn/a/warning"#,
    );
}

#[test]
fn send_resolved_false_is_kept_and_a_new_firing_is_news() {
    let quiet = ONE
        .replace("url: 'http://x'", "url: 'http://x', send_resolved: false")
        .replace("group_by: [alertname]", "group_by: [alertname], group_wait: 0s, group_interval: 1m");
    check(
        alertmanager(&quiet),
        "1s fire A x=1, A x=2
         30s end A x=1
         70s fire A x=1
         130s end A x=1, A x=2
         10m wait",
        r#"1s r first {}:{alertname="A"} firing A/1,A/2 ended -
           2m1s r new_member {}:{alertname="A"} firing A/1,A/2 ended -"#,
    );
}

#[test]
fn time_intervals_mute_a_route() {
    let text = r#"{route: {receiver: r, group_wait: 0s, group_interval: 1m,
        routes: [{matchers: ['a=b'], mute_time_intervals: [early]}]},
        time_intervals: [{name: early, time_intervals: [{times: [{start_time: '00:00', end_time: '00:05'}]}]}],
        receivers: [{name: r, webhook_configs: [{url: 'http://x'}]}]}"#;
    check(
        alertmanager(text),
        "1m fire A a=b
         20m wait",
        r#"5m r first {}/{a="b"}:{} firing A/b ended -"#,
    );
}

#[test]
fn a_reload_keeps_timers_and_tells_the_old_receiver_of_the_ending() {
    let moved = r#"reload {route: {receiver: r, group_by: [alertname], routes: [{matchers: [x="1"], receiver: s, group_wait: 0s}]},
        receivers: [{name: r, webhook_configs: [{url: 'http://x'}]}, {name: s, webhook_configs: [{url: 'http://x'}]}]}"#
        .replace('\n', " ");
    check(
        alertmanager(ONE),
        &format!(
            "1s fire A x=1
             1s fire B
             60s {moved}
             100s end A x=1
             100s end B
             10m wait"
        ),
        r#"31s r first {}:{alertname="A"} firing A/1 ended -
           31s r first {}:{alertname="B"} firing B ended -
           1m s first {}/{x="1"}:{alertname="A"} firing A/1 ended -
           1m40s r all_resolved {}:{alertname="A"} firing - ended A/1
           5m31s r all_resolved {}:{alertname="B"} firing - ended B
           6m s all_resolved {}/{x="1"}:{alertname="A"} firing - ended A/1"#,
    );
}

#[test]
fn named_receivers_of_single_rules_come_first() {
    let mut found = Diagnostics::new();
    let names = |names: &[&str]| names.iter().map(|n| crate::config::Spanned::bare((*n).to_owned())).collect();
    let routes = [
        ShortRoute { alertname: "A".into(), receivers: names(&["cache", "data"]) },
        ShortRoute { alertname: "B".into(), receivers: names(&["dta"]) },
    ];
    let none = NotifyConfig::default();
    assert!(Routing::compile(&none, Some(("am.yaml", TREE)), &routes, &mut found).is_none());
    assert_eq!(found.to_string(), "error: there is no receiver \"dta\"\n  hint: did you mean \"data\"?\n");
    let routing = Routing::compile(&none, Some(("am.yaml", TREE)), &routes[..1], &mut Diagnostics::new()).unwrap();
    check(
        Arc::new(routing),
        "1s fire A severity=page
         2s fire B severity=page",
        r#"1s cache first {}/{alertname="A"}:{alertname="A"} firing A/page ended -
           1s data first {}/{alertname="A"}:{alertname="A"} firing A/page ended -
           2s archive first {}/{severity="page"}:{alertname="B", severity="page"} firing B/page ended -
           2s oncall first {}/{severity="page"}:{alertname="B"} firing B/page ended -"#,
    );
}

/// What happens to the world of the property test.
#[derive(Clone, Debug)]
enum Act {
    Fire(usize),
    End(usize),
    Gone(usize),
    Pass(i64),
    Restart,
    Reload(usize),
    /// Which matcher, and for how many milliseconds.
    Silence(usize, i64),
    /// All silences.
    Expire,
}

const ALERTS: [&str; 6] =
    ["A x=1 severity=page", "A x=2", "B x=1 team=db", "B x=2 team=cache", "C severity=page team=db", "D"];

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..ALERTS.len()).prop_map(Act::Fire),
        3 => (0..ALERTS.len()).prop_map(Act::End),
        1 => (0..ALERTS.len()).prop_map(Act::Gone),
        5 => (0_i64..400_000).prop_map(Act::Pass),
        1 => Just(Act::Restart),
        1 => (0_usize..3).prop_map(Act::Reload),
        2 => (0_usize..3, 1_i64..3_600_000).prop_map(|(at, ms)| Act::Silence(at, ms)),
        1 => Just(Act::Expire),
    ]
}

/// Runs the acts and returns everything that was sent, checking what must hold at each message.
fn live(acts: &[Act]) -> Vec<Notification> {
    let routings = [alertmanager(TREE), alertmanager(INHIBIT), short()];
    let mut world = World::new(routings[0].clone());
    let mut checked = 0;
    // What each receiver believes to fire, by group; and when it was last told.
    let mut believed: BTreeMap<(Arc<str>, Arc<str>), BTreeSet<u64>> = BTreeMap::new();
    for act in acts {
        match act {
            Act::Fire(at) => world.step(&format!("fire {}", ALERTS[*at])),
            Act::End(at) => {
                let labels = alert(ALERTS[*at], world.now).labels;
                if world.set.get(&labels).is_some_and(|alert| alert.status() == AlertStatus::Firing) {
                    world.step(&format!("end {}", ALERTS[*at]));
                }
            }
            Act::Gone(at) => world.step(&format!("gone {}", ALERTS[*at])),
            Act::Pass(ms) => world.run_to(world.now.plus_millis(*ms)),
            Act::Restart => {
                world.step("restart");
                world.run_to(world.now.plus_millis(1_000));
                assert_eq!(world.sent.len(), checked, "nothing is sent while it is held");
                world.step("ready");
            }
            Act::Silence(at, ms) => {
                let (name, matcher) = (world.sent.len(), ["x=1", "alertname=~\"A|B\"", "severity=page"][*at]);
                world.step(&format!("silence {name}{at}{ms} 0 {ms}ms {matcher}"));
            }
            Act::Expire => {
                let silences = world.notifier.silences(world.now).list(world.now);
                for silence in silences.iter().filter(|silence| silence.state(world.now) != SilenceState::Expired) {
                    world.notifier.expire_silence(&silence.id, world.now).unwrap();
                }
            }
            Act::Reload(at) => {
                world.routing = routings[*at].clone();
                world.notifier.reconfigure(world.routing.clone(), world.now);
                let routing = &world.routing;
                believed.retain(|(receiver, _), _| routing.receiver(receiver).is_some());
            }
        }
        world.run_to(world.now);
        for sent in &world.sent[checked..] {
            let known = believed.entry((sent.receiver.clone(), sent.group_key.clone())).or_default();
            let firing: BTreeSet<u64> = sent.firing().map(|alert| alert.fingerprint()).collect();
            let ended: BTreeSet<u64> = sent.resolved().map(|alert| alert.fingerprint()).collect();
            assert!(!sent.alerts.is_empty() && firing.is_disjoint(&ended), "{sent:?}");
            let is_silenced =
                |alert: &Arc<Alert>| !world.notifier.suppression(&alert.labels, sent.at).silences.is_empty();
            assert!(!sent.alerts.iter().any(is_silenced), "what is silenced is not told: {sent:?}");
            let news = !firing.is_subset(known) || !ended.is_empty();
            // That it flaps, or is steady again, is news although the receiver knows that it fires.
            let says_state = matches!(sent.reason, Reason::Repeat | Reason::Steady | Reason::Flapping);
            assert!(news || says_state, "no message without news, but for repeats: {sent:?}");
            assert!(!news || sent.reason != Reason::Repeat, "a repeat holds no news: {sent:?}");
            known.extend(&firing);
            known.retain(|fingerprint| !ended.contains(fingerprint));
        }
        checked = world.sent.len();
    }
    // In the end all is quiet: every receiver that is still there knows it.
    let names: Vec<Labels> = world.set.keys().cloned().collect();
    for name in names {
        if world.set[&name].status() == AlertStatus::Firing {
            let mut ended = Alert::clone(&world.set[&name]);
            ended.resolved_at = Some(world.now);
            world.set.insert(name, Arc::new(ended));
        }
    }
    world.publish();
    // Long enough for every silence to end.
    world.run_to(world.now.plus_millis(2 * 3_600_000));
    for sent in &world.sent[checked..] {
        let known = believed.entry((sent.receiver.clone(), sent.group_key.clone())).or_default();
        sent.resolved().for_each(|alert| {
            known.remove(&alert.fingerprint());
        });
    }
    for (who, known) in believed {
        assert!(known.is_empty(), "{who:?} was never told of the end");
    }
    assert!(world.notifier.groups().is_empty(), "nothing is kept of what is over");
    world.sent
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_promises_hold(acts in proptest::collection::vec(act(), 1..40)) {
        let once = live(&acts);
        prop_assert_eq!(once, live(&acts), "the same acts send the same messages");
    }
}
