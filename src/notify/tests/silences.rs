//! Silences: what they hold back and what follows, what may be changed, and those of the configuration.

use super::timeline::{INHIBIT, ONE, check, short};
use super::*;
use crate::config::{Overrides, load_text};

const HOUR_MS: i64 = 3_600_000;

/// `silence ID FROM UNTIL MATCHERS` (FROM and UNTIL after now) and `expire ID`, as timelines write them.
pub(super) fn command(notifier: &mut Notifier, verb: &str, rest: &str, now: Timestamp) {
    let mut parts = rest.splitn(4, ' ');
    let id = uuid(parts.next().unwrap());
    if verb == "expire" {
        notifier.expire_silence(&id, now).unwrap();
        return;
    }
    let mut after = || now.plus_millis(crate::model::parse_duration_ms(parts.next().unwrap()).unwrap());
    let (starts_at, ends_at) = (after(), after());
    let draft = SilenceDraft {
        id: None,
        matchers: parse_matchers(parts.next().unwrap()).unwrap(),
        starts_at,
        ends_at,
        created_by: "me".into(),
        comment: "because".into(),
    };
    assert_eq!(&*notifier.set_silence(draft, &id, now).unwrap(), id);
}

fn uuid(short: &str) -> String {
    format!("00000000-0000-4000-8000-{short:0>12}")
}

#[test]
fn a_snapshot_that_cannot_be_read_to_its_end_changes_nothing() {
    let now = Timestamp::from_micros(1_000_000);
    let mut notifier = Notifier::new(short());
    let empty = notifier.snapshot();
    command(&mut notifier, "silence", "a 0 1h alertname=A", now);
    // What flaps stands last.
    let mut bytes = notifier.snapshot();
    *bytes.last_mut().unwrap() = 0xff;
    let mut other = Notifier::new(short());
    let error = other.restore(&bytes, now).unwrap_err();
    assert!(error.contains("what flaps cannot be read"), "{error}");
    assert_eq!(other.snapshot(), empty);
}

#[test]
fn what_is_silenced_is_told_when_the_silence_is_over_and_it_still_fires() {
    check(
        short(),
        "1s silence a 0 1h alertname=A
         2s fire A
         3s fire B
         10m end B
         2h wait",
        r#"3s terminal first {}:{alertname="B"} firing B ended -
           10m terminal all_resolved {}:{alertname="B"} firing - ended B
           1h1s terminal first {}:{alertname="A"} firing A ended -"#,
    );
    check(
        short(),
        "1s silence a 0 1h alertname=A
         2s fire A
         5m expire a
         6m wait",
        r#"5m terminal first {}:{alertname="A"} firing A ended -"#,
    );
    // At the next flush of the group, where it keeps to its interval.
    check(
        alertmanager(ONE),
        "1s silence a 0 1h x=1
         2s fire A x=1
         8m fire A x=2
         9m expire a
         20m wait",
        r#"10m32s r first {}:{alertname="A"} firing A/1,A/2 ended -"#,
    );
}

#[test]
fn what_ended_unheard_under_a_silence_is_never_told() {
    check(
        short(),
        "1s silence a 0 1h alertname=A
         2s fire A
         5m end A
         3h wait",
        "",
    );
}

#[test]
fn a_silence_takes_single_alerts_out_of_a_group() {
    check(
        short(),
        "1s silence a 0 1h x=~\"1|2\"
         2s fire A x=1, A x=2, A x=3
         5m end A x=1
         10m end A x=3
         2h wait",
        r#"2s terminal first {}:{alertname="A"} firing A/3 ended -
           10m terminal all_resolved {}:{alertname="A"} firing - ended A/3
           1h1s terminal first {}:{alertname="A"} firing A/2 ended -"#,
    );
}

#[test]
fn what_was_told_and_ends_under_a_silence_is_told_after_it() {
    // Alertmanager says nothing while the silence lasts, and nothing after it; here each firing message finds its end.
    check(
        short(),
        "1s fire A
         2m silence a 0 1h alertname=A
         10m end A
         20m gone A
         2h wait",
        r#"1s terminal first {}:{alertname="A"} firing A ended -
           1h2m terminal all_resolved {}:{alertname="A"} firing - ended A"#,
    );
    check(
        alertmanager(ONE),
        "1s fire A x=1, A x=2
         2m silence a 0 1h x=1
         10m end A x=1, A x=2
         2h wait",
        r#"31s r first {}:{alertname="A"} firing A/1,A/2 ended -
           10m31s r some_resolved {}:{alertname="A"} firing - ended A/2
           1h5m31s r all_resolved {}:{alertname="A"} firing - ended A/1"#,
    );
    // Over a restart as well.
    check(
        short(),
        "1s fire A
         2m silence a 0 1h alertname=A
         10m end A
         11m restart
         12m ready
         2h wait",
        r#"1s terminal first {}:{alertname="A"} firing A ended -
           1h2m terminal all_resolved {}:{alertname="A"} firing - ended A"#,
    );
}

#[test]
fn a_reload_forgets_no_ending_that_a_silence_holds_back() {
    let other = ONE.replace("group_by: [alertname]", "group_by: [alertname], group_interval: 1m");
    let moved = "{route: {receiver: s}, receivers: [{name: r, webhook_configs: [{url: 'http://x'}]}, {name: s}]}";
    for routing in [other.as_str(), moved] {
        check(
            alertmanager(ONE),
            &format!(
                "1s fire A
                 2m silence a 0 1h alertname=A
                 10m end A
                 30m gone A
                 31m reload {routing}
                 2h wait"
            ),
            r#"31s r first {}:{alertname="A"} firing A ended -
               1h2m r all_resolved {}:{alertname="A"} firing - ended A"#,
        );
    }
}

#[test]
fn what_fires_again_under_the_silence_is_no_news_after_it() {
    check(
        short(),
        "1s fire A
         2m silence a 0 1h alertname=A
         10m end A
         20m fire A
         2h wait
         5h wait",
        r#"1s terminal first {}:{alertname="A"} firing A ended -
           4h1s terminal repeat {}:{alertname="A"} firing A ended -"#,
    );
}

#[test]
fn nothing_is_repeated_under_a_silence() {
    check(
        short(),
        "1s fire A
         3h silence a 0 3h alertname=A
         7h wait",
        r#"1s terminal first {}:{alertname="A"} firing A ended -
           6h terminal repeat {}:{alertname="A"} firing A ended -"#,
    );
}

#[test]
fn a_silence_that_is_to_come_holds_when_it_comes() {
    check(
        short(),
        "1s silence a 1h 2h severity=warning
         2s fire A severity=warning
         70m fire B severity=warning
         3h wait",
        r#"2s terminal first {}:{alertname="A"} firing A/warning ended -
           2h1s terminal first {}:{alertname="B"} firing B/warning ended -"#,
    );
}

#[test]
fn a_restart_keeps_silences() {
    check(
        short(),
        "1s silence a 0 1h alertname=A
         2s fire A
         10m restart
         11m ready
         12m fire B
         2h wait",
        r#"12m terminal first {}:{alertname="B"} firing B ended -
           1h1s terminal first {}:{alertname="A"} firing A ended -"#,
    );
}

#[test]
fn silence_and_inhibition_stand_side_by_side() {
    check(
        alertmanager(INHIBIT),
        "1s silence a 0 10m alertname=Warn
         2s fire Crit severity=critical dc=a, Warn severity=warning dc=a
         5m end Crit severity=critical dc=a
         15m wait",
        r#"2s r first {}:{alertname="Crit"} firing Crit/a/critical ended -
           5m2s r all_resolved {}:{alertname="Crit"} firing - ended Crit/a/critical
           10m2s r first {}:{alertname="Warn"} firing Warn/a/warning ended -"#,
    );
}

#[test]
fn the_reason_is_named_and_who_silences_is_known() {
    let now = Timestamp::from_millis(1_000);
    let mut notifier = Notifier::new(short());
    command(&mut notifier, "silence", "a 0 1h alertname=A", now);
    let fired = Arc::new(alert("A x=1", now));
    notifier.update(now, std::slice::from_ref(&fired));
    assert_eq!(notifier.tick(now), []);
    let decisions = notifier.groups()[0].decisions.clone();
    assert_eq!(decisions, [Decision::Withhold(Withheld::Silenced)]);
    let suppression = notifier.suppression(&fired.labels, now);
    let ids: Vec<&str> = suppression.silences.iter().map(|silence| &*silence.id).collect();
    assert_eq!((ids, suppression.is_suppressed()), (vec![uuid("a").as_str()], true));
    assert_eq!(suppression.receivers, [Arc::<str>::from("terminal")]);
    assert!(!notifier.suppression(&fired.labels, now.plus_millis(HOUR_MS)).is_suppressed());
    assert_eq!(notifier.alert_groups(now)[0].alerts, [fired]);
}

fn draft(id: Option<&str>, matchers: &str, starts_ms: i64, ends_ms: i64) -> SilenceDraft {
    SilenceDraft {
        id: id.map(str::to_owned),
        matchers: parse_matchers(matchers).unwrap(),
        starts_at: Timestamp::from_millis(starts_ms),
        ends_at: Timestamp::from_millis(ends_ms),
        created_by: "me".into(),
        comment: String::new(),
    }
}

/// Applies `edit` at `at_ms` to a silence on `a=b` that holds from 1 h to 3 h, and shows all silences after that.
#[track_caller]
fn check_edit(at_ms: i64, edit: impl FnOnce(&mut Notifier, Timestamp) -> Result<(), SilenceError>, expected: &str) {
    let mut notifier = Notifier::new(short());
    notifier.set_silence(draft(None, "a=b", HOUR_MS, 3 * HOUR_MS), "old", Timestamp::EPOCH).unwrap();
    let now = Timestamp::from_millis(at_ms);
    let outcome = edit(&mut notifier, now);
    let silences = notifier.silences(now).list(now);
    let hours = |at: Timestamp| at.millis() as f64 / HOUR_MS as f64;
    let show = |silence: &Arc<Silence>| {
        let (from, to) = (hours(silence.starts_at), hours(silence.ends_at));
        format!("{} {} {from}-{to} {:?}", silence.id, silence.state(now).name(), silence.matchers)
    };
    let mut shown: Vec<String> = silences.iter().map(show).collect();
    shown.extend(outcome.err().map(|error| error.to_string()));
    assert_eq!(shown.join("; "), expected);
}

#[test]
fn what_may_be_changed_is_changed_and_everything_else_makes_a_new_one() {
    let set = |matchers: &'static str, from: f64, to: f64| {
        move |notifier: &mut Notifier, now: Timestamp| {
            let hours = |hours: f64| (hours * HOUR_MS as f64) as i64;
            notifier.set_silence(draft(Some("old"), matchers, hours(from), hours(to)), "new", now).map(drop)
        }
    };
    let (pending, active, expired) = (HOUR_MS / 2, 2 * HOUR_MS, 4 * HOUR_MS);
    // Alertmanager's canUpdate: a pending one may move, an active one may end at another time.
    check_edit(pending, set("a=b", 2.0, 5.0), r#"old pending 2-5 [a="b"]"#);
    check_edit(pending, set("a=b", 0.0, 5.0), r#"new active 0.5-5 [a="b"]; old expired 0.5-0.5 [a="b"]"#);
    check_edit(active, set("a=b", 1.0, 5.0), r#"old active 1-5 [a="b"]"#);
    check_edit(active, set("a=b", 1.5, 5.0), r#"new active 2-5 [a="b"]; old expired 1-2 [a="b"]"#);
    check_edit(active, set("a=c", 1.0, 3.0), r#"new active 2-3 [a="c"]; old expired 1-2 [a="b"]"#);
    check_edit(expired, set("a=b", 1.0, 5.0), r#"new active 4-5 [a="b"]; old expired 1-3 [a="b"]"#);
    check_edit(
        active,
        |notifier, now| notifier.set_silence(draft(Some("nope"), "a=b", 0, 9 * HOUR_MS), "new", now).map(drop),
        r#"old active 1-3 [a="b"]; silence not found"#,
    );
    for (matchers, reason) in [
        ("a=\"\"", "at least one matcher must not match the empty string"),
        ("a=~\".*\"", "at least one matcher must not match the empty string"),
        ("{}", "at least one matcher required"),
    ] {
        let expected = format!(r#"old active 1-3 [a="b"]; silence invalid: {reason}"#);
        check_edit(active, set(matchers, 1.0, 5.0), &expected);
    }
    check_edit(
        active,
        set("a=b", 5.0, 4.0),
        r#"old active 1-3 [a="b"]; silence invalid: end time must not be before start time"#,
    );
}

#[test]
fn a_silence_ends_once_and_is_forgotten_after_five_days() {
    let expire = |notifier: &mut Notifier, now| notifier.expire_silence("old", now);
    check_edit(HOUR_MS / 2, expire, r#"old expired 0.5-0.5 [a="b"]"#);
    check_edit(2 * HOUR_MS, expire, r#"old expired 1-2 [a="b"]"#);
    check_edit(4 * HOUR_MS, expire, r#"old expired 1-3 [a="b"]"#);
    check_edit(123 * HOUR_MS - 1, expire, r#"old expired 1-3 [a="b"]"#);
    check_edit(123 * HOUR_MS, expire, "silence not found");
}

#[test]
fn there_is_a_limit_on_silences() {
    let mut silences = Silences::new(Vec::new());
    let at = |hours: i64| Timestamp::from_millis(hours * HOUR_MS);
    for number in 0..SILENCES {
        silences.set(draft(None, "a=b", 0, HOUR_MS), &number.to_string(), at(0)).unwrap();
    }
    assert_eq!(silences.set(draft(None, "a=b", 0, HOUR_MS), "more", at(0)), Err(SilenceError::Full));
    // Room is made when they are forgotten.
    assert!(silences.set(draft(None, "a=b", 0, 200 * HOUR_MS), "more", at(121)).is_ok());
    let huge = SilenceDraft { comment: "x".repeat(20_000), ..draft(None, "a=b", 0, HOUR_MS) };
    let error = silences.set(huge, "huge", at(0)).unwrap_err().to_string();
    assert_eq!(error, "silence invalid: its texts have 20004 bytes, at most 16384 are kept");
}

/// The routing of a configuration, and its findings as text.
fn configured(notify: &str, file: Option<&str>) -> (Option<Routing>, String) {
    let text = format!("notify:\n  silences:\n{notify}");
    let (config, mut found) = load_text("t.yaml", &text, &Default::default(), &Overrides::default());
    let file = file.map(|text| ("am.yaml", text));
    let routing = config.and_then(|config| Routing::compile(&config.notify, file, &[], &mut found));
    let errors = found.iter().map(|finding| format!("{}: {}", finding.span.line, finding.message));
    (routing, errors.collect::<Vec<_>>().join("; "))
}

fn at(moment: &str) -> Timestamp {
    Timestamp::from_micros(moment.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

#[test]
fn silences_of_the_configuration_come_and_go() {
    let (routing, found) = configured(
        "  - {matchers: [alertname=A], ends: 2026-11-21T10:00:00Z, comment: known}
  - {matchers: 'alertname=B', time_interval: {weekdays: [saturday, sunday], times: [{start_time: '02:00', end_time: '04:00'}]}}
  - {matchers: 'alertname=C', starts: '2026-11-22 00:00', time_interval: nights, ends: 2026-11-24T00:00:00+01:00}
",
        Some("{time_intervals: [{name: nights, time_intervals: [{times: [{start_time: '22:00', end_time: '24:00'}, {start_time: '00:00', end_time: '06:00'}]}]}],
               route: {receiver: r, group_by: [alertname], group_wait: 0s, group_interval: 1m}, receivers: [{name: r}]}"),
    );
    assert_eq!(found, "");
    let mut notifier = Notifier::new(Arc::new(routing.unwrap()));
    let mut states = |moment: &str| {
        let now = at(moment);
        let list = notifier.silences(now).list(now);
        let mut shown: Vec<String> = list
            .iter()
            .map(|one| {
                let (name, state) = (&one.matchers[0].value, one.state(now).name());
                assert_eq!((one.configured, one.created_by.as_str()), (true, CONFIGURATION));
                format!("{name} {state} {} {}", &one.starts_at.rfc3339()[..16], &one.ends_at.rfc3339()[..16])
            })
            .collect();
        shown.sort();
        shown
    };
    // 2026-11-21 is a Saturday.
    assert_eq!(
        states("2026-11-21T03:00:00Z"),
        [
            "A active 1970-01-01T00:00 2026-11-21T10:00",
            "B active 2026-11-21T02:00 2026-11-21T04:00",
            "C pending 2026-11-22T00:00 2026-11-22T06:00"
        ]
    );
    assert_eq!(
        states("2026-11-22T04:00:00Z"),
        [
            "A expired 1970-01-01T00:00 2026-11-21T10:00",
            "B pending 2026-11-28T02:00 2026-11-28T04:00",
            "C active 2026-11-22T00:00 2026-11-22T06:00"
        ]
    );
    // Two times that touch at midnight are one night.
    assert_eq!(states("2026-11-22T23:00:00Z")[2], "C active 2026-11-22T22:00 2026-11-23T06:00");
    assert_eq!(states("2026-11-24T00:00:00Z")[2], "C expired 2026-11-23T23:00 2026-11-23T23:00");
}

#[test]
fn a_maintenance_window_holds_back_and_lets_go() {
    let (routing, found) = configured(
        "  - {matchers: [alertname=A], time_interval: {times: [{start_time: '01:00', end_time: '02:00'}]}}\n",
        None,
    );
    assert_eq!(found, "");
    check(
        Arc::new(routing.unwrap()),
        "65m fire A
         150m end A
         26h fire A x=1
         1d1h30m wait",
        r#"2h terminal first {}:{alertname="A"} firing A ended -
           2h30m terminal all_resolved {}:{alertname="A"} firing - ended A
           1d2h terminal first {}:{alertname="A"} firing A/1 ended -"#,
    );
}

#[test]
fn the_api_does_not_change_what_stands_in_the_configuration() {
    let (routing, _) = configured("  - {matchers: [a=b], ends: 2030-01-01T00:00:00Z}\n", None);
    let now = at("2026-01-01T00:00:00Z");
    let mut notifier = Notifier::new(Arc::new(routing.unwrap()));
    let silence = notifier.silences(now).list(now).remove(0);
    assert_eq!(silence.id.len(), 36);
    let error = notifier.expire_silence(&silence.id, now).unwrap_err();
    assert!(error.to_string().contains("edit its entry under notify: silences:"), "{error}");
    let change = SilenceDraft { ends_at: silence.ends_at, ..draft(Some(&silence.id), "a=b", 0, 0) };
    assert_eq!(notifier.set_silence(change, "new", now), Err(SilenceError::Configured(silence.id.clone())));
    // A reload keeps its id, and removes it with its entry.
    let (again, _) = configured("\n\n  - {matchers: 'a=b', ends: 2030-01-01T00:00:00Z}\n", None);
    notifier.reconfigure(Arc::new(again.unwrap()), now);
    assert_eq!(notifier.silences(now).list(now), [silence]);
    notifier.reconfigure(short(), now);
    assert_eq!(notifier.silences(now).list(now), []);
}

#[test]
fn mistakes_in_silences_are_said_with_their_place() {
    let check = |notify: &str, expected: &str| {
        let (_, found) = configured(notify, None);
        assert!(found.contains(expected), "{notify}: {found}");
    };
    check("  - {ends: 2030-01-01T00:00:00Z}\n", "3: silence: the key \"matchers\" is missing");
    check("  - {matchers: [a=b]}\n", "3: silence: it says neither when it ends nor when it comes");
    check("  - {matchers: ['a~b'], ends: 2030-01-01T00:00:00Z}\n", "3: character 2 of \"a~b\"");
    check("  - {matchers: ['a=\"\"'], ends: 2030-01-01T00:00:00Z}\n", "3: silence: at least one matcher must not");
    check("  - {matchers: [a=b], ends: tomorrow}\n", "3: ends: \"tomorrow\" is no moment");
    check("  - {matchers: [a=b], starts: 2030-01-02, ends: 2030-01-01}\n", "3: ends: it is not after starts");
    check("  - {matchers: [a=b], time_interval: nights}\n", "3: there is no time interval \"nights\"");
    check("  - {matchers: [a=b], time_interval: {weekdays: [funday]}}\n", "3: \"funday\" is no weekday");
    check("  - {matchers: [a=b], time_interval: {location: Mars}}\n", "3: there is no time zone \"Mars\"");
    check(
        "  - {matchers: [a=b], time_interval: {times: [{start_time: '05:00', end_time: '04:00'}]}}\n",
        "3: the time range",
    );
    check("  - {matcher: [a=b], ends: 2030-01-01T00:00:00Z}\n", "matcher");
}
