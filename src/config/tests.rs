//! What `load` makes of whole files.

use super::schema::{Config, Profile};
use super::{LoadOptions, Overrides, load, show};
use std::collections::BTreeMap;
use std::path::Path;

fn load_with(text: Option<&str>, env: &[(&str, &str)], overrides: Overrides) -> (Option<Config>, String) {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let read_file = |_: &Path| text.map(str::to_owned).ok_or_else(|| std::io::ErrorKind::NotFound.into());
    let (config, found) = load(&LoadOptions { file: None, env: &env, overrides, read_file: &read_file });
    (config, found.to_string())
}

/// Loads a text as ./sidewatch.yaml; the configuration and everything found.
pub(super) fn load_text(text: &str, env: &[(&str, &str)]) -> (Option<Config>, String) {
    load_with(Some(text), env, Overrides::default())
}

/// The configuration with all places removed, so that two can be compared wherever their keys stand.
fn without_places(config: &Config) -> String {
    let place = regex::Regex::new(r"span: [^ ]*:\d+:\d+").unwrap();
    place.replace_all(&format!("{config:#?}"), "span").into_owned()
}

#[test]
fn without_a_file_the_defaults_hold() {
    let (config, found) = load_with(None, &[("HOSTNAME", "web-1")], Overrides::default());
    let config = config.unwrap();
    assert_eq!(found, "");
    assert!(config.sources.is_none() && config.bundled_rules && config.files.is_empty());
    assert_eq!((config.listen.observe.value.as_str(), config.service.instance.as_str()), ("127.0.0.1:9180", "web-1"));
}

#[test]
fn layers_win_in_their_order() {
    let text = "profile: testing\nservice: shop\nlisten: {observe: \"127.0.0.1:1\"}\nstate: /tmp/a\n";
    let env = [
        ("SIDEWATCH_LISTEN_OBSERVE", "127.0.0.1:2"),
        ("SIDEWATCH_LIMITS_SERIES", "7"),
        ("SIDEWATCH_STATE_SYNC", "full"),
    ];
    let overrides = Overrides { listen_ingest: Some("127.0.0.1:3".into()), ..Overrides::default() };
    let (config, found) = load_with(Some(text), &env, overrides);
    let config = config.unwrap();
    assert_eq!(found, "");
    assert_eq!((config.profile, config.evaluation_interval_ms, config.bundled_rules), (Profile::Testing, 100, false));
    assert_eq!(
        (config.listen.observe.value.as_str(), config.listen.ingest.value.as_str()),
        ("127.0.0.1:2", "127.0.0.1:3")
    );
    assert_eq!((config.limits.series, config.limits.series_bytes), (7, 64 << 20));
    let state = config.state.unwrap();
    assert_eq!((state.dir.value.as_str(), state.sync_full, config.service.name.as_str()), ("/tmp/a", true, "shop"));
}

#[test]
fn a_mistake_in_the_environment_names_its_variable() {
    let env = [
        ("SIDEWATCH_LIMITS_SERIES", "many"),
        ("SIDEWATCH_LISTEN_OBSERV", "x"),
        ("SIDEWATCH_SERVICE_HOST", "10.0.0.1"),
        ("SIDEWATCH_CONFIG", "x.yaml"),
    ];
    assert_eq!(
        load_text("{}", &env).1,
        "environment SIDEWATCH_LISTEN_OBSERV: warning: no key has this name, so it sets nothing; did you mean SIDEWATCH_LISTEN_OBSERVE?
environment SIDEWATCH_LIMITS_SERIES: error: series: expected a whole number, found \"many\"
"
    );
}

#[test]
fn a_named_file_that_is_missing_is_an_error() {
    let read_file = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    let file = Some("conf/x.yaml".into());
    let options = LoadOptions { file, env: &BTreeMap::new(), overrides: Overrides::default(), read_file: &read_file };
    let (config, found) = load(&options);
    assert!(config.is_none());
    assert_eq!(found.to_string(), "conf/x.yaml: error: cannot be read: entity not found\n");
}

#[test]
fn short_forms_mean_the_long_ones() {
    let check = |short: &str, long: &str| {
        let (short_config, found) = load_text(short, &[]);
        assert_eq!(found, "", "{short}");
        let (long_config, found) = load_text(long, &[]);
        assert_eq!(found, "", "{long}");
        assert_eq!(without_places(&short_config.unwrap()), without_places(&long_config.unwrap()), "{short}");
    };
    for (short, long) in [
        ("sources: {a: \"tcp://[::]:9000\"}", "sources: {a: {tcp: {listen: \"[::]:9000\"}}}"),
        ("sources: {a: \"file:///var/log/x\"}", "sources: {a: {file: {path: /var/log/x}}}"),
        ("sources: {a: \"file:x.log\"}", "sources: {a: {file: {path: x.log, start: first}}}"),
        ("sources: {a: \"unix:///run/x.sock\"}", "sources: {a: {unix: {path: /run/x.sock}}}"),
        ("sources: {a: \"stdin:\", b: http}", "sources: {a: {stdin: {}}, b: {http: }}"),
        ("metrics: {a: {counter: {match: x}}}", "metrics: {a: {counter: {match: [x]}}}"),
        ("metrics: {a: {drop: \"x.*\"}}", "metrics: {a: {drop: {match: [\"x.*\"]}}}"),
        (
            "metrics: {a: {counter: {where: {data.a: 1, data.b: [x, 2]}, labels: {l: data.l}}}}",
            "metrics: {a: {counter: {where: {all: [{data.a: {eq: 1}}, {data.b: {in: [x, 2]}}]}, labels: {l: {from: data.l}}}}}",
        ),
        (
            "health: {a: {http: \"http://x/\"}}",
            "health: {a: {http: {url: \"http://x/\", timeout: 2s, every: 10s}, status: unhealthy}}",
        ),
        (
            "alerts: {A: {event: {match: x, count: 5, within: 1m, by: data.r}}}",
            "alerts: {A: {event: {match: [x], count: \">= 5\", within: 60s, by: [data.r]}}}",
        ),
        (
            "alerts: {A: {expr: up, notify: t}}\nnotify: {t: terminal}",
            "alerts: {A: {expr: up, notify: [t]}}\nnotify: {t: {terminal: {}}}",
        ),
        ("rules: a.yaml\nstate: /x\nservice: s", "rules: [a.yaml]\nstate: {dir: /x}\nservice: {name: s}"),
        (
            "alerts: {A: {event: {absent: x, where: {data.a: 1}, within: 1m}}}",
            "alerts: {A: {event: {absent: {match: x, where: {data.a: 1}}, within: 1m}}}",
        ),
    ] {
        check(short, long);
    }
}

#[test]
fn the_example_says_everything_and_shows_what_it_reads() {
    let (config, found) = load_text(include_str!("../../deploy/sidewatch.yaml"), &[("HOOK_TOKEN", "t0p-s3cret")]);
    assert_eq!(found, "");
    let config = config.unwrap();
    let shown = show(&config);
    assert!(!shown.contains("s3cret"), "{shown}");
    let (again, found) = load_text(&shown, &[]);
    assert_eq!(found, "", "{shown}");
    let again = again.unwrap();
    assert_eq!(show(&again), shown);
    // No header is shown, so that none can be the same; all of them say "shop" in the example.
    let header = regex::Regex::new(r#""(shop|<secret>)""#).unwrap();
    let compared = |config: &Config| header.replace_all(&without_places(config), "?").into_owned();
    let (before, after) = (compared(&config), compared(&again));
    for (before, after) in before.lines().zip(after.lines()) {
        assert_eq!(before, after);
    }
    assert_eq!(before.len(), after.len());
}

#[test]
fn secrets_and_dollars_survive_being_shown() {
    let text = "service: {name: \"a$${B}$$\"}
notify:
  s: {slack: {url: \"https://hooks.example/T/KEY\"}}
  e: {email: {to: a@b, smtp: \"smtp://me:pw@host:25\", password: pw}}
alerts: {A: {expr: \"up == 0\", annotations: {s: \"yes\", t: \"{{ $value }}: \\\"q\\\"\\nx\"}}}
";
    let (config, found) = load_text(text, &[]);
    assert_eq!(found, "");
    let config = config.unwrap();
    assert_eq!(config.service.name, "a${B}$");
    let shown = show(&config);
    assert!(!shown.contains("KEY") && !shown.contains("pw"), "{shown}");
    assert!(shown.contains("smtp://me:<secret>@host:25"), "{shown}");
    let (again, found) = load_text(&shown, &[]);
    assert_eq!(found, "", "{shown}");
    let again = again.unwrap();
    assert_eq!(
        (again.service, again.alerts[0].value.annotations.clone()),
        (config.service, config.alerts[0].value.annotations.clone())
    );
}

#[test]
fn a_broken_file_tells_all_its_mistakes() {
    let text = "\
service: {nam: shop}
listen: {observe: 9180, ingest: \"127.0.0.1:99999\"}
sources:
  bus: {nats: {url: \"nats://bus\"}}
  log: {file: {pth: /var/log/x}}
  net: \"tpc://0.0.0.0:9000\"
metrics:
  orders-total: {counter: {match: order.*}}
  both: {counter: {match: x}, gauge: {match: x, value: 1}}
  none: {match: x}
  lat: {histogram: {match: x, value: data..ms, buckets: [1, 1]}}
  ok_total: {counter: {match: x, labels: {le gal: data.x, job: data.y}, where: {data.a: {gtt: 1}}}}
health:
  beat: {event: {match: beat, within: 30}}
alerts:
  A: {metric: m, expr: up, above: 5}
  B: {event: {rate_change: x, within: 1m, count: 3}}
  C: {metric: m, above: 1, notify: oncal}
  E: {metric: m}
  D: {expr: up, for: 5 minutes, above: 5}
  A: {expr: up}
notify:
  oncall: {telegram: {}}
  hook: {webhook: {url: \"${HOOK}\"}}
limits: {series: -1, queue_bytes: lots}
journal: {}
evaluation_intervall: 1s
";
    let (_, found) = load_text(text, &[]);
    let mut places = String::new();
    let lines: Vec<&str> = found.lines().collect();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("sidewatch.yaml:")) {
        places.push_str(line.trim_start_matches("sidewatch.yaml:"));
        places.push('\n');
        let number = line.split(':').nth(1).unwrap();
        assert_eq!(
            lines[at + 1],
            format!("  {number} | {}", text.lines().nth(number.parse::<usize>().unwrap() - 1).unwrap())
        );
        assert!(lines[at + 2].trim_start().starts_with('|') && lines[at + 2].ends_with('^'));
        if let Some(hint) = lines.get(at + 3).filter(|line| line.starts_with("  hint")) {
            places.push_str(hint);
            places.push('\n');
        }
    }
    assert_eq!(places, EXPECTED, "\n{places}");
}

const EXPECTED: &str = r#"1:11: error: service: unknown key "nam"
  hint: did you mean "name"?
2:19: error: observe: "9180" is not HOST:PORT
  hint: write "127.0.0.1:9180", or "0.0.0.0:9180" to listen on every interface
2:33: error: ingest: "127.0.0.1:99999" is not HOST:PORT
  hint: addresses look like "127.0.0.1:9180" or "[::]:9180"
4:15: error: nats source: subjects or stream is missing
  hint: write subjects: ["order.>"], or stream: NAME with durable: NAME for JetStream
5:15: error: file source: the key "path" is missing
5:16: error: file source: unknown key "pth"
  hint: did you mean "path"?
6:8: error: "tpc://0.0.0.0:9000" is not a source
  hint: did you mean "tcp"?
8:3: error: "orders-total" is not a metric name: letters, digits, _ and : only, no digit first
  hint: write orders_total
9:31: error: metric: exactly one of counter, gauge, histogram, timer or drop is needed, found counter and gauge
10:9: error: metric: exactly one of counter, gauge, histogram, timer or drop is needed, found none
10:10: error: metric: unknown key "match"
  hint: it takes counter, gauge, histogram, timer and drop
11:43: error: value: "data..ms" is not a field path: a name is missing
  hint: a path looks like data.items[0].sku or subject
11:61: error: buckets: 1 does not rise above 1
12:43: error: "le gal" is not a label name: letters, digits and _ only, no digit first
  hint: write le_gal
12:59: error: the label "job" is service.name on every series
  hint: give it another name
12:90: error: comparison: unknown key "gtt"
  hint: did you mean "gt"?
14:39: error: within: a duration needs a unit
  hint: write 30s or 30ms
16:18: error: alert: exactly one of metric, event, expr or slo is needed, found metric and expr
17:43: error: count goes with match, not with rate_change
18:36: error: there is no receiver "oncal" under notify
  hint: did you mean "oncall"?
19:6: error: alert: exactly one of above, below, at_least or at_most is needed, found none
20:22: error: for: not a valid duration: "5 minutes" (examples: 30s, 5m, 1h30m, 500ms)
20:33: error: above goes with metric, not with expr
21:3: error: the key "A" stands here a second time; first in line 16
23:12: error: telegram receivers are not in this build; it has terminal, slack, webhook, email, pagerduty, alertmanager and exec
24:25: error: url: not an address that begins with http:// or https://
24:26: error: the environment variable HOOK is not set
  hint: set it, or write ${HOOK:-default}
25:18: error: series: expected a number from 1 to 1000000000, found -1
25:35: error: queue_bytes: expected a number of bytes such as 64MiB, found "lots"
26:1: error: journal is not in this build
27:1: error: configuration: unknown key "evaluation_intervall"
  hint: did you mean "evaluation_interval"?
"#;

/// `type` is near to `tcp`, and once that silenced the missing transport: the source was left out without a word.
#[test]
fn a_source_without_a_transport_is_never_left_out_silently() {
    let (_, found) = load_text("sources: {a: {type: order}}", &[]);
    assert!(found.starts_with("sidewatch.yaml:1:14: error: source: exactly one of http, stdin"), "{found}");
}
