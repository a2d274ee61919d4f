//! Alerts that others post, in virtual time.

use super::*;
use crate::model::AlertStatus;

/// Seconds after the epoch.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

fn posted(text: &str, starts: Option<i64>, ends: Option<i64>) -> PostedAlert {
    let labels = alert(text, at(0)).labels;
    PostedAlert { labels, starts_at: starts.map(at), ends_at: ends.map(at), ..PostedAlert::default() }
}

/// Posts `(now, starts, ends)` one after the other, lets time pass to `then` and shows the alert: from, until, firing.
#[track_caller]
fn check(posts: &[(i64, Option<i64>, Option<i64>)], then: i64, expected: &str) {
    let mut all = PostedAlerts::new(10);
    for (now, starts, ends) in posts {
        all.advance(at(*now));
        all.post(posted("A", *starts, *ends), 300_000, at(*now)).unwrap();
    }
    while let Some(due) = all.next_change().filter(|due| *due <= at(then)) {
        all.advance(due);
        assert!(all.next_change().is_none_or(|next| next > due), "a step leaves nothing due");
    }
    let show = |alert: &Arc<Alert>| {
        let times = all.times(alert.fingerprint()).unwrap();
        let state = if alert.status() == AlertStatus::Firing { "firing" } else { "ended" };
        assert!(alert.resolved_at.is_none_or(|end| end == times.ends_at));
        format!("{}-{} {state}", alert.fired_at.seconds(), times.ends_at.seconds())
    };
    assert_eq!(all.alerts().map(show).collect::<Vec<_>>().join("; "), expected);
}

#[test]
fn an_alert_ends_when_nobody_posts_it_again() {
    check(&[(10, None, None)], 309, "10-310 firing");
    check(&[(10, None, None)], 310, "10-310 ended");
    check(&[(10, None, None), (200, None, None)], 400, "10-500 firing");
    check(&[(10, None, None)], 310 + 900, "");
}

#[test]
fn times_are_filled_in_and_merged_as_alertmanager_does() {
    check(&[(10, Some(5), Some(100))], 50, "5-100 firing");
    // Without a beginning it begins at its end.
    check(&[(10, None, Some(100))], 50, "100-100 firing");
    // The earliest beginning of what overlaps counts.
    check(&[(10, Some(5), Some(100)), (20, Some(8), Some(110))], 50, "5-110 firing");
    // A named end that is later stays; a timeout gives way.
    check(&[(10, Some(5), Some(400)), (20, Some(5), Some(90))], 50, "5-400 firing");
    check(&[(10, Some(5), None), (20, Some(5), Some(90))], 50, "5-90 firing");
    // Ended by word, and of two ends in the past the later one.
    check(&[(10, Some(5), None), (60, Some(5), Some(50))], 60, "5-50 ended");
    check(&[(10, Some(5), Some(40)), (60, Some(5), Some(30))], 60, "5-40 ended");
    // After its end it is another one.
    check(&[(10, Some(5), Some(40)), (60, None, None)], 70, "60-360 firing");
    // What is over and was not known is nothing.
    check(&[(100, Some(5), Some(40))], 100, "");
}

#[test]
fn what_is_not_valid_or_too_much_is_refused_by_reason() {
    let mut all = PostedAlerts::new(2);
    let mut check = |posted: PostedAlert, expected: &str| {
        let found = all.post(posted, 300_000, at(10));
        assert_eq!(found.map_or_else(|refused| refused.reason(), |()| "taken"), expected);
    };
    check(PostedAlert::default(), "invalid");
    check(posted("A", Some(20), Some(15)), "invalid");
    check(PostedAlert { generator_url: "x".repeat(70_000), ..posted("A", None, None) }, "too_large");
    check(posted("A", None, None), "taken");
    check(posted("B", None, None), "taken");
    check(posted("C", None, None), "limit");
    // Those that are known are taken on.
    check(posted("A", None, None), "taken");
    assert_eq!(all.len(), 2);
}

#[test]
fn a_restart_ends_nothing_that_may_be_posted_again() {
    let mut before = PostedAlerts::new(10);
    before.post(posted("Short", Some(5), Some(100)), 300_000, at(10)).unwrap();
    before.post(posted("Long", Some(5), Some(9_000)), 300_000, at(10)).unwrap();
    before.post(posted("Over", Some(5), Some(40)), 300_000, at(10)).unwrap();
    before.advance(at(50));
    // Down from second 60 to 200.
    let mut after = PostedAlerts::new(10);
    after.restore(&before.snapshot(), at(60), at(200)).unwrap();
    after.advance(at(200));
    let mut shown: Vec<String> = after
        .alerts()
        .map(|alert| format!("{} {}", alert.name(), after.times(alert.fingerprint()).unwrap().ends_at.seconds()))
        .collect();
    shown.sort();
    assert_eq!(shown, ["Long 9000", "Over 40", "Short 275"]);
    assert_eq!(after.alerts().filter(|alert| alert.status() == AlertStatus::Firing).count(), 2);
    assert!(PostedAlerts::new(10).snapshot().is_empty());
    assert!(after.restore(&[1, 2, 3], at(0), at(0)).is_err());
}

#[test]
fn what_is_said_again_unchanged_is_the_same_alert() {
    let mut all = PostedAlerts::new(10);
    all.post(posted("A", None, None), 300_000, at(10)).unwrap();
    let (version, first) = (all.version(), all.alerts().next().unwrap().clone());
    all.post(posted("A", Some(10), None), 300_000, at(70)).unwrap();
    assert!(all.version() == version && Arc::ptr_eq(&first, all.alerts().next().unwrap()));
    let noted = PostedAlert { annotations: Labels::from_pairs([("summary", "new")]), ..posted("A", Some(10), None) };
    all.post(noted, 300_000, at(80)).unwrap();
    assert_eq!(all.alerts().next().unwrap().annotations.get("summary"), Some("new"));
    assert_ne!(all.version(), version);
}
