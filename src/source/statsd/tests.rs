use super::lines::Lines;
use crate::config::schema::{StatsdConfig, TagStyles};
use crate::config::{Diagnostics, statsd_mapping};
use crate::source::counts::{CountKind, Means};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

fn config() -> StatsdConfig {
    StatsdConfig {
        udp: None,
        unixgram: None,
        tcp: None,
        mapping: None,
        rules: None,
        receive_buffer: 0,
        service_checks: true,
        tags: TagStyles::default(),
    }
}

/// What packets give: each change with its series, what was refused, events.
fn told(lines: &mut Lines, packets: &[&str]) -> String {
    let mut out = String::new();
    let mut series = BTreeMap::new();
    for packet in packets {
        lines.read(packet.as_bytes());
        let (batches, events) = lines.take();
        for batch in batches {
            for (at, fresh) in &batch.fresh {
                series.insert((batch.session, *at), fresh.clone());
            }
            for change in &batch.changes {
                let series = &series[&(batch.session, change.series)];
                let kind = match series.kind {
                    CountKind::Counter => "c",
                    CountKind::Gauge => "g",
                    CountKind::Set => "s",
                    CountKind::Histogram { .. } => "h",
                };
                let means = match change.means {
                    Means::Add => "+".to_owned(),
                    Means::Set => "=".to_owned(),
                    Means::Times(times) => format!("{times}x"),
                };
                writeln!(out, "{kind} {}{} {means}{}", series.metric, series.labels, change.value).unwrap();
            }
            for (at, hash) in &batch.members {
                writeln!(out, "s {} {}", series[&(batch.session, *at)].metric, hash % 1_000).unwrap();
            }
            for (at, t_ms, value) in &batch.stamped {
                writeln!(out, "g {} ={value} at {t_ms}", series[&(batch.session, *at)].metric).unwrap();
            }
            for (reason, count) in &batch.refused {
                writeln!(out, "{reason} {count}").unwrap();
            }
            for check in &batch.checks {
                writeln!(out, "check {} {} {}", check.name, check.status, check.message).unwrap();
            }
        }
        events.iter().for_each(|event| writeln!(out, "{event}").unwrap());
    }
    out
}

/// As [`check`], with a mapping file.
fn check_mapped(mapping: &str, packets: &[&str], expected: &str) {
    let mut found = Diagnostics::new();
    let rules = statsd_mapping(&"map.yaml".into(), mapping, &mut found);
    assert!(!found.has_errors(), "{found}");
    let config = StatsdConfig { rules: rules.map(Arc::new), ..config() };
    let mut lines = Lines::new("s".into(), config, 1_000);
    assert_eq!(told(&mut lines, packets), expected);
}

fn check(packets: &[&str], expected: &str) {
    let mut lines = Lines::new("s".into(), config(), 1_000);
    assert_eq!(told(&mut lines, packets), expected);
}

#[test]
fn lines_become_changes() {
    check(
        &[
            "api.requests:1|c\napi.requests:2|c|@0.5\r\n\nlat:320|ms|@0.1\ntemp:21.5|g\ntemp:-3|g\nup:1|c|#env:prod,zone:a\n",
        ],
        "c api_requests{} +1\nc api_requests{} +4\nh lat{} 10x0.32\ng temp{} =21.5\ng temp{} +-3\nc up{env=\"prod\", zone=\"a\"} +1\n",
    );
    check(
        &["d:1:2:3|d|#le:1", "m,a=b:5|h", "x:7|g|T1700000000", "x:1|c|T1700000000"],
        "h d{exported_le=\"1\"} 1x1\nh d{exported_le=\"1\"} 1x2\nh d{exported_le=\"1\"} 1x3\nh m{a=\"b\"} 1x5\ng x =7 at 1700000000000\nc x{} +1\n",
    );
}

#[test]
fn what_is_bad_stops_nothing() {
    check(
        &["a:1|c\nrubbish\nb:x|g\nc:-1|c\nd:1|c|#bare\n:\ne:1|c\n"],
        "c a{} +1\nc d{} +1\nc e{} +1\nmalformed_line 2\nmalformed_value 1\nnegative_counter 1\nmalformed_tag 1\n",
    );
    check(&["_e{1,1}:a\n_sc|x|9\nok:1|c"], "c ok{} +1\nmalformed_event 2\n");
    let long = format!("{}:1|c\nshort:1|c", "x".repeat(1_000));
    check(&[&long], "c short{} +1\ntoo_large 1\n");
}

#[test]
fn events_and_checks_come_beside() {
    check(
        &["_e{1,1}:a|b\n_sc|db|1|m:slow"],
        "check db 1 slow\n{\"type\":\"statsd.event\",\"severity\":\"info\",\"data\":{\"title\":\"a\",\"text\":\"b\",\"alert_type\":\"info\"}}\n{\"type\":\"statsd.service_check\",\"subject\":\"db\",\"severity\":\"warning\",\"data\":{\"name\":\"db\",\"status_code\":1,\"state\":\"warning\",\"message\":\"slow\"}}\n",
    );
}

/// The example of statsd_exporter's README.
const EXAMPLE: &str = r#"
mappings:
- match: "test.dispatcher.*.*.*"
  name: "dispatcher_events_total"
  labels:
    processor: "$1"
    action: "$2"
    outcome: "$3"
    job: "test_dispatcher"
- match: "*.signup.*.*"
  name: "signup_events_total"
  labels:
    provider: "$2"
    outcome: "$3"
    job: "${1}_server"
"#;

#[test]
fn the_documented_mapping_maps_as_documented() {
    check_mapped(
        EXAMPLE,
        &[
            "test.dispatcher.FooProcessor.send.success:1|c\nfoo_product.signup.facebook.failure:1|c\ntest.web-server.foo.bar:1|c",
        ],
        "c dispatcher_events_total{action=\"send\", job=\"test_dispatcher\", outcome=\"success\", processor=\"FooProcessor\"} +1\nc signup_events_total{job=\"foo_product_server\", outcome=\"failure\", provider=\"facebook\"} +1\nc test_web_server_foo_bar{} +1\n",
    );
}

#[test]
fn rules_are_chosen_as_statsd_exporter_chooses() {
    let ordered = "mappings:\n- {match: 'a.*.c', name: first, labels: {x: $1}}\n- {match: 'a.b.*', name: second, labels: {x: $1}}\n- {match: 'a.b.c', name: third}\n- {match: '^(.*)$', match_type: regex, name: 'rest_$1'}\n";
    check_mapped(
        ordered,
        &["a.b.c:1|c\na.b.d:1|c\nq:1|c"],
        "c first{x=\"b\"} +1\nc second{x=\"d\"} +1\nc rest_q{} +1\n",
    );
    let specific = format!("defaults: {{glob_disable_ordering: true}}\n{ordered}");
    check_mapped(
        &specific,
        &["a.b.c:1|c\na.b.d:1|c\na.z.c:1|c"],
        "c third{} +1\nc second{x=\"d\"} +1\nc first{x=\"z\"} +1\n",
    );
    check_mapped(
        "mappings:\n- {match: 'a.*', match_metric_type: observer, name: seen, observer_type: histogram}\n- {match: 'a.*', name: other}\n- {match: '*.*', name: dropped, action: drop}\n",
        &["a.x:5|ms\na.x:1|c\nb.x:1|c"],
        "h seen{} 1x0.005\nc other{} +1\nmapping_drop 1\n",
    );
    check_mapped(
        "mappings:\n- {match: 'a\\.([a-z]+)_bytes', match_type: regex, name: 'size_${1}', labels: {part: '$1', tag: rule}, scale: 0.001}\n- {match: 'h.*', name: 'h', labels: {tag: rule}, honor_labels: true}\n",
        &["a.disk_bytes:40|g|#tag:line\nh.x:1|c|#tag:line"],
        "g size_disk{part=\"disk\", tag=\"rule\"} =0.04\nc h{tag=\"line\"} +1\n",
    );
}

#[test]
fn options_of_rules_reach_the_series() {
    let mapping = "defaults: {observer_type: histogram, buckets: [1, 2], ttl: 1m}\nmappings:\n- {match: a.*, name: a, ttl: 5s, histogram_options: {buckets: [0.1, .inf]}, help: Text.}\n- {match: b.*, name: b, observer_type: summary, summary_options: {quantiles: [{quantile: 0.9, error: 0.01}]}}\n- {match: c.*, name: c, timer_type: summary}\n";
    let rules = statsd_mapping(&"map.yaml".into(), mapping, &mut Diagnostics::new()).map(Arc::new);
    let mut lines = Lines::new("s".into(), StatsdConfig { rules, ..config() }, 1_000);
    lines.read(b"a.x:1|ms\nb.x:1|ms\nc.x:1|h\nd.x:1|d");
    let told: Vec<String> = lines.take().0[0]
        .fresh
        .iter()
        .map(|(_, series)| {
            let CountKind::Histogram { bounds, quantiles } = &series.kind else { panic!("{series:?}") };
            format!(
                "{} {:?} {quantiles:?} {}ms {} {}",
                series.metric,
                bounds.as_deref().unwrap_or_default(),
                series.ttl_ms,
                series.unit,
                series.help
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "a [0.1] [] 5000ms seconds Text.",
            "b [1.0, 2.0] [0.9] 60000ms seconds StatsD metrics that match b.*",
            "c [1.0, 2.0] [0.5, 0.9, 0.99] 60000ms  StatsD metrics that match c.*",
            "d_x [1.0, 2.0] [] 60000ms  StatsD metric.",
        ]
    );
}

#[test]
fn mistakes_in_a_mapping_file_are_said_with_their_place() {
    let mapping = "default: {}\nmappings:\n- match: a.b*.c\n  name: x\n- match: a.*\n  name: 'a b'\n  labels: {0x: $2}\n- match: '('\n  match_type: regex\n  name: y\n- match: c\n- match: d\n  nmae: z\n  observer_type: sumary\n  buckets: [2, 1]\n";
    let mut found = Diagnostics::new();
    statsd_mapping(&"map.yaml".into(), mapping, &mut found);
    let told: String = found
        .iter()
        .map(|one| format!("{:?} {} | {}\n", one.span, one.message, one.hint.as_deref().unwrap_or("")))
        .collect();
    assert_eq!(
        told,
        r#"map.yaml:3:12 match: "b*": a * stands for a whole part between dots | use match_type: regex for less than a part
map.yaml:6:9 name: "a b" is not a metric's name: letters, digits, _ and $1 | 
map.yaml:7:16 labels: $2 is always empty: match has one * | 
map.yaml:7:12 labels: "0x" is not a label's name: letters, digits and _ | 
map.yaml:8:10 match: not a regular expression: unclosed group | 
map.yaml:11:3 StatsD mapping: the key "name" is missing | 
map.yaml:12:3 StatsD mapping: the key "name" is missing | 
map.yaml:14:18 observer_type: "sumary" is not one of histogram or summary | did you mean "summary"?
map.yaml:15:12 buckets: each must be a number larger than the one before | 
map.yaml:13:3 StatsD mapping: unknown key "nmae" | did you mean "name"?
map.yaml:1:1 StatsD mapping file: unknown key "default" | did you mean "defaults"?
"#
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
    #[test]
    fn no_packet_is_a_panic_and_good_lines_count(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut lines = Lines::new("s".into(), config(), 1_000);
        lines.read(&bytes);
        lines.read(b"\nsure:1|c\n");
        let (batches, _) = lines.take();
        prop_assert!(batches.iter().any(|batch| batch.fresh.iter().any(|(_, series)| &*series.metric == "sure")));
    }

    /// The trie finds the rule that a scan of the list finds.
    #[test]
    fn the_first_glob_wins(globs in prop::collection::vec("([ab*])(\\.[ab*]){0,3}", 1..12), name in "([abc])(\\.[abc]){0,3}") {
        let rules: String = globs.iter().enumerate().map(|(at, glob)| format!("- {{match: '{glob}', name: r{at}}}\n")).collect();
        let file = statsd_mapping(&"m".into(), &format!("mappings:\n{rules}"), &mut Diagnostics::new()).unwrap();
        let mapping = super::mapping::Mapping::compile(Arc::new(file));
        let takes = |glob: &str| {
            let (glob, name): (Vec<&str>, Vec<&str>) = (glob.split('.').collect(), name.split('.').collect());
            glob.len() == name.len() && glob.iter().zip(&name).all(|(glob, name)| *glob == "*" || glob == name)
        };
        let expected = globs.iter().position(|glob| takes(glob)).map(|at| format!("r{at}"));
        prop_assert_eq!(mapping.find(&name, super::line::Kind::Counter).map(|mapped| mapped.name), expected);
    }
}
