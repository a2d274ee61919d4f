//! Golden values: what promtool 2.42 prints for the same template, and Alertmanager's documentation for messages.

use super::*;

fn check_data(text: &str, data: &AlertData) -> String {
    let query = |expr: &str| match expr {
        "m" => Ok(vec![sample(&Labels::from_pairs([("__name__", "m"), ("host", "h.b.c:80"), ("x", "y")]), 7.5)]),
        "nope" => Ok(Vec::new()),
        other => Err(format!("no such query: {other}")),
    };
    let functions = Functions {
        query: Some(&query),
        ..Functions::new(Dialect::Prometheus, Timestamp::from_millis(0), "http://ex.com/pre")
    };
    Template::parse(text).unwrap().expand("A", data, &functions)
}

fn check(text: &str) -> String {
    let labels = Labels::from_pairs([("__name__", "m"), ("host", "h.b.c:80"), ("x", "y")]);
    let external = Labels::from_pairs([("dc", "eu")]);
    check_data(text, &AlertData::new(&labels, 7.5, &external, "http://ex.com/pre", Value::Nil))
}

#[test]
fn values_print_as_promtool_prints_them() {
    for (text, expected) in [
        ("{{ $value }}|{{ 1000000.0 }}|{{ 123456789.0 }}|{{ 1e21 }}|{{ 1e20}}", "7.5|1e+06|1.23456789e+08|1e+21|1e+20"),
        (
            r#"{{ printf "%v" 123456789.5 }}|{{ printf "%g" 1e20 }}|{{ printf "%g" 1000000.0 }}"#,
            "1.234567895e+08|1e+20|1e+06",
        ),
        (
            r#"{{ $labels.nope }}|{{ $labels }}|{{ eq $labels.nope "" }}|{{ with $labels.x }}{{.}}{{end}}"#,
            "|map[__name__:m host:h.b.c:80 x:y]|true|y",
        ),
        (
            r#"{{ printf "%.3f %5.1f|%-6s|%06.2f %q %x %d" $value 2.25 "ab" 3.14159 "q\"x" "hi" 5 }}"#,
            r#"7.500   2.2|ab    |003.14 "q\"x" 6869 5"#,
        ),
        (
            r#"{{ query "m" | first | value }} {{ range query "m" }}{{ .Labels.x }}={{ .Value }} {{ . }}{{ end }}"#,
            "7.5 y=7.5 {map[__name__:m host:h.b.c:80 x:y] 7.5}",
        ),
        (
            r#"{{ humanize 1234567.0 }} {{ humanize 0.0001 }} {{ humanize 0.0 }} {{ humanize1024 123456.0}}"#,
            "1.235M 100u 0 120.6ki",
        ),
        (
            r#"{{ humanizeDuration 93784.5 }} {{ humanizeDuration 0.5 }} {{ humanizeDuration 59.123456 }} {{ humanizePercentage 0.12345 }} {{ humanizeTimestamp 1435065584.128 }}"#,
            "1d 2h 3m 4s 500ms 59.12s 12.35% 2015-06-23 13:19:44.128 +0000 UTC",
        ),
        (
            r#"{{ title "hello world" }} {{ "a.b.c:80" | stripPort }} {{ stripDomain "a.b.c:80" }} {{ match "^a" "abc" }} {{ parseDuration "1h30m" }}"#,
            "Hello World a.b.c a:80 true 5400",
        ),
        (
            r#"{{ toTime 1435065584.128 }} {{ (toTime 1435065584.0).Format "2006-01-02T15:04:05Z07:00 Mon Jan _2 3PM" }}"#,
            "2015-06-23 13:19:44.128 +0000 UTC 2015-06-23T13:19:44Z Tue Jun 23 1PM",
        ),
        (
            "{{ if gt $value 5.0 }}big{{ else if lt $value 1.0 }}small{{ else }}mid{{ end }} {{ and 1 0 }} {{ or \"\" \"x\" }} {{ not true }} {{ len $labels }} {{ index $labels \"x\" }} {{ print 1 2 \"a\" 3 }} {{ println 1 \"b\" }}",
            "big 0 x false 3 y 1 2a3 1 b\n",
        ),
        (
            r#"{{ define "t" }}<{{ . }}>{{ end }}{{ template "t" $value }} {{ range $k, $v := $labels }}{{ $k }}:{{ $v }},{{ end }}"#,
            "<7.5> __name__:m,host:h.b.c:80,x:y,",
        ),
        (
            r#"{{ query "m" | sortByLabel "x" | len }} {{ args 1 "a" }} {{ safeHtml "<b>" }} {{ html "<b>" }} {{ urlquery "a b&c" }} {{ slice "hello" 1 3 }} {{ printf "%s" $value }} {{ printf "%d" $value }} {{ $labels.x | toUpper }}"#,
            "1 map[arg0:1 arg1:a] <b> &lt;b&gt; a+b%26c el %!s(float64=7.5) %!d(float64=7.5) Y",
        ),
        (
            r#"{{ -0.000012 }} {{ 0.0001 }} {{ 100.0 }} {{ 1.5e300 }} {{ printf "%e" 12345.678 }} {{ printf "%8.3g|" 12345.678 }} {{ printf "%+d % d" 5 6 }} {{ printf "%t" true }} {{ printf "%d %d" 1 }} {{ printf "%d" 1 2 }}"#,
            "-1.2e-05 0.0001 100 1.5e+300 1.234568e+04 1.23e+04| +5  6 true 1 %!d(MISSING) 1%!(EXTRA int=2)",
        ),
        (
            r#"{{ (query "m" | first).Labels.x }} {{ $v := 3 }}{{ $v }} {{ strvalue (query "m" | first) }} {{ label "x" (query "m" | first) }}"#,
            "y 3  y",
        ),
        (
            r#"{{ $externalLabels.dc }} {{ $externalURL }} {{ externalURL }} {{ pathPrefix }} {{ tableLink "up > 0" }}"#,
            "eu http://ex.com/pre http://ex.com/pre /pre /graph?g0.expr=up+%3E+0&g0.tab=1",
        ),
    ] {
        assert_eq!(check(text), expected, "{text}");
    }
}

#[test]
fn a_failing_template_says_so_in_its_place() {
    for (text, part) in [
        (r#"{{ query "nope" | first | value }}"#, "first() called on vector with no elements"),
        ("{{ .Foo }}", "can't evaluate field Foo in type struct { Labels map[string]string"),
        ("{{ gt $value 5 }}", "error calling gt: incompatible types for comparison"),
        (r#"{{ humanize "abc" }}"#, r#"error calling humanize: strconv.ParseFloat: parsing "abc": invalid syntax"#),
        ("{{ nil }}", "nil is not a command"),
        (r#"{{ template "gone" }}"#, r#"template "gone" not defined"#),
        ("{{ range 100000000 }}x{{ end }}", "more than"),
    ] {
        let rendered = check(text);
        assert!(
            rendered
                .starts_with("<error expanding template: error executing template __alert_A: template: __alert_A:1:"),
            "{rendered}"
        );
        assert!(rendered.contains(part), "{rendered}");
    }
}

#[test]
fn what_go_refuses_at_parse_time_is_refused_at_load() {
    for (text, place, message) in [
        ("{{ $labels.x", (1, 1), "unclosed action"),
        ("a\n{{ humanise 1 }}", (2, 4), "function \"humanise\" not defined"),
        ("{{ $nope }}", (1, 4), "undefined variable \"$nope\""),
        ("{{ if true }}{{ $x := 1 }}{{ end }}{{ $x }}", (1, 39), "undefined variable \"$x\""),
        ("{{ end }}", (1, 4), "end"),
        ("{{ join \",\" . }}", (1, 4), "function \"join\" not defined"),
    ] {
        let error = Template::parse(text).unwrap_err();
        assert!(error.message.contains(message), "{text}: {error}");
        if message.contains("defined") {
            assert_eq!((error.line, error.column), place, "{text}: {error}");
        }
    }
    assert_eq!(Template::parse("{{ humanise 1 }}").unwrap_err().hint.as_deref(), Some("did you mean \"humanize\"?"));
}

#[test]
fn the_fields_of_an_event_are_at_hand() {
    let template =
        Template::parse("{{ $event.data.amount }} {{ if $event.subject }}{{ $event.subject }}{{ end }}").unwrap();
    assert_eq!(template.event_paths(), [vec!["data".to_owned(), "amount".to_owned()], vec!["subject".to_owned()]]);
    let event = Value::map([("data", Value::map([("amount", Value::Float(12.5))])), ("subject", Value::text("o-1"))]);
    let data = AlertData::new(&Labels::default(), 1.0, &Labels::default(), "", event);
    assert_eq!(check_data(template.source(), &data), "12.5 o-1");
}

#[test]
fn alertmanagers_messages_render() {
    let alert = |status: &str, name: &str| {
        Value::structure(
            "template.Alert",
            vec![
                ("Status", Value::text(status)),
                ("Labels", Value::labels(&Labels::from_pairs([("alertname", name), ("b", "2"), ("a", "1")]))),
                ("StartsAt", Value::Time(GoTime::from_micros(1_435_065_584_000_000).unwrap())),
            ],
        )
    };
    let labels = Labels::from_pairs([("alertname", "Down"), ("a", "1")]);
    let data = Value::structure(
        "template.Data",
        vec![
            ("Status", Value::text("firing")),
            ("Alerts", Value::list(vec![alert("firing", "X"), alert("resolved", "Y")])),
            ("GroupLabels", Value::labels(&labels)),
        ],
    );
    let mut shared = Templates::default();
    shared.add(r#"{{ define "subject" }}[{{ .Status | toUpper }}{{ if eq .Status "firing" }}:{{ .Alerts.Firing | len }}{{ end }}] {{ .GroupLabels.SortedPairs.Values | join " " }}{{ end }}"#).unwrap();
    let functions = Functions {
        shared: Some(&shared),
        ..Functions::new(Dialect::Alertmanager, Timestamp::from_micros(1_435_065_674_000_000), "")
    };
    for (text, expected) in [
        (r#"{{ template "subject" . }}"#, "[FIRING:1] Down 1"),
        (
            r#"{{ range .Alerts.Resolved }}{{ range .Labels.SortedPairs }}{{ .Name }}={{ .Value }} {{ end }}{{ end }}"#,
            "alertname=Y a=1 b=2 ",
        ),
        (
            r#"{{ with index .Alerts 0 }}{{ .Labels.Remove (stringSlice "a" "alertname") }} {{ .StartsAt | date "15:04 MST" }} {{ .StartsAt | tz "Europe/Paris" | date "15:04" }} {{ since .StartsAt | humanizeDuration }}{{ end }}"#,
            "map[b:2] 13:19 UTC 15:19 1m 30s",
        ),
        (r#"{{ .GroupLabels.nope }}{{ reReplaceAll "(.)n" "$1-" "Down" }}"#, "Dow-"),
    ] {
        assert_eq!(
            Template::parse_as(text, Dialect::Alertmanager).unwrap().render(&data, &functions).unwrap(),
            expected,
            "{text}"
        );
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Whatever is written: an error or a text, never a panic.
    #[test]
    fn any_text_is_no_panic(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "{{", "}}", "{{-", "-}}", "if", "end", "else", "range", "with", "define", "template", "block", "$x", ":=", "=",
                "$labels", ".a", ".", "|", "(", ")", "\"s\"", "`r`", "'c'", "1", "-2.5e3", "0x", "printf", "\"%*.*f%\"", "index",
                "slice", "query", "first", "$event.data.x", "é", "\n", " ", "/*", "*/", "break", "nil", ",",
            ]),
            0..24,
        ),
    ) {
        let text = words.join(" ");
        if let Ok(template) = Template::parse(&text) {
            let data = AlertData::new(&Labels::default(), 1.5, &Labels::default(), "", Value::Nil);
            let functions = Functions::new(Dialect::Prometheus, Timestamp::EPOCH, "");
            let _ = template.expand("A", &data, &functions);
        }
        let _ = Template::parse_as(&text.replace(' ', ""), Dialect::Alertmanager);
    }
}
