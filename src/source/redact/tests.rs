use super::*;
use crate::config::schema::SecretSource;
use proptest::prelude::*;

/// A redactor of these entries: a path, `#path` to hash, `/regex`.
fn redactor(entries: &[&str]) -> Redactor {
    let fields = entries.iter().map(|entry| match entry.as_bytes()[0] {
        b'/' => RedactEntry::Regex(Spanned::bare(entry[1..].to_owned())),
        b'#' => RedactEntry::Path { path: Spanned::bare(FieldPath::parse(&entry[1..]).unwrap()), hash: true },
        _ => RedactEntry::Path { path: Spanned::bare(FieldPath::parse(entry).unwrap()), hash: false },
    });
    let key = SecretSource::Inline(Spanned::bare(Secret::new("0123456789abcdef".to_owned())));
    let config = RedactConfig { fields: fields.collect(), hash_key: Some(key), span: Default::default() };
    let format = FormatConfig::default();
    let mut found = Diagnostics::new();
    let sources = [RedactedSource { name: "s", format: &format }];
    let redactor = Redactor::compile(&config, &sources, &mut found);
    assert!(!found.has_errors(), "{found}");
    redactor
}

#[track_caller]
fn check(entries: &[&str], shape: Shape, raw: &str, expected: &str) {
    assert_eq!(redactor(entries).document("s", shape, raw, 4_096), expected);
}

#[test]
fn hidden_values_are_left_out_of_every_shape() {
    let all = &["data.card", "data.*.email", "headers.authorization"];
    check(
        all,
        Shape::CloudEvents,
        r#"{"type":"a", "data": {"card": {"n":"4111"}, "n": 1, "buyer":{"email":"x@y", "name":"n"}}}"#,
        r#"{"type":"a", "data": {"card": "[redacted]", "n": 1, "buyer":{"email":"[redacted]", "name":"n"}}}"#,
    );
    check(
        all,
        Shape::Router,
        r#"{"type":"a","payload":{"c\u0061rd":4111,"items":[{"email":"a"},{"email":["b"]}]},"headers":{"Authorization":"Bearer"}}"#,
        r#"{"type":"a","payload":{"card":"[redacted]","items":[{"email":"[redacted]"},{"email":"[redacted]"}]},"headers":{"Authorization":"[redacted]"}}"#,
    );
    check(all, Shape::Typed, r#"{"event_type":"a","card":"4111"}"#, r#"{"event_type":"a","card":"[redacted]"}"#);
    check(
        all,
        Shape::DomainEnvelope,
        r#"{"event":{"data":{"card":1}}}"#,
        r#"{"event":{"data":{"card":"[redacted]"}}}"#,
    );
    check(all, Shape::CloudEvents, r#"{"data_base64":"NDExMQ=="}"#, r#"{"data_base64":"[redacted]"}"#);
    check(&["subject"], Shape::CloudEvents, r#"{"subject":"me","data":{}}"#, r#"{"subject":"[redacted]","data":{}}"#);
    check(&["subject"], Shape::Router, r#"{"target":"me","payload":{}}"#, r#"{"target":"[redacted]","payload":{}}"#);
    check(&[], Shape::Router, r#"{"card":1}"#, r#"{"card":1}"#);
}

#[test]
fn hashes_are_stable_and_patterns_find_their_text_anywhere() {
    let hashed = redactor(&["#data.user"]);
    let of = |user: &str| hashed.document("s", Shape::Foreign, &format!("{{\"data\":{{\"user\":{user}}}}}"), 4_096);
    assert_eq!(of("\"ann\""), of("\"\\u0061nn\""), "of the value, not of its spelling");
    assert!(of("\"ann\"").contains("\"hash:") && of("\"ann\"") != of("\"bob\""), "{}", of("\"ann\""));
    check(
        &[r"/\d{16}"],
        Shape::Foreign,
        r#"{"note":"card 4111111111111111 ok","n":4111111111111111,"4111111111111111":1}"#,
        r#"{"note":"card [redacted] ok","n":"[redacted]","[redacted]":1}"#,
    );
    check(&[r"/\d{16}"], Shape::Line, "paid with 4111111111111111", "paid with [redacted]");
}

#[test]
fn what_is_broken_is_shown_up_to_the_fault() {
    let redactor = redactor(&["data.card"]);
    for (raw, expected) in [
        (r#"{"type":"a","data":{"card":"4111"#, r#"{"type":"a","data":{"card":"[redacted]""#),
        (r#"{"data":{"card":4111 "x":2}}"#, r#"{"data":{"card":"[redacted]" [redacted]"#),
        (r#"{"data":{"a":tru,"card":1}}"#, r#"{"data":{"a":[redacted]"#),
        (r#"[1,{"card":1}]"#, r#"[1,{"card":"[redacted]"}]"#),
        ("4111", "4111"),
        ("{} {\"card\":1}", "{} "),
        ("nonsense card=4111", "[redacted]"),
    ] {
        assert_eq!(redactor.refused(raw, false, 4_096), expected, "{raw}");
    }
    assert_eq!(redactor.refused("card 4111", true, 4_096), "[redacted]");
}

/// Documents with the marker in every hidden place.
fn document() -> impl Strategy<Value = serde_json::Value> {
    let leaf =
        prop_oneof![Just(serde_json::json!("SECRET")), Just(serde_json::json!(7)), Just(serde_json::Value::Null)];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
            prop::collection::btree_map("card|a|b|Card", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The same by another way: on the tree.
fn hide(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                if key.eq_ignore_ascii_case("card") { *value = REDACTED.into() } else { hide(value) }
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
    #[test]
    fn it_hides_what_a_walk_over_the_tree_hides(value in document(), cut in 0..400_usize) {
        // `card` at the first, second and third level is named; the walk hides all, so deeper ones are cut off.
        let redactor = redactor(&["card", "*.card", "*.*.card", "*.*.*.card", "*.*.*.*.card", "*.*.*.*.*.card"]);
        let raw = value.to_string();
        let shown = redactor.document("s", Shape::Foreign, &raw, 100_000);
        let mut expected = value.clone();
        hide(&mut expected);
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), expected);
        // Cut anywhere, nothing more is shown than of the whole.
        let mut at = cut.min(raw.len());
        while !raw.is_char_boundary(at) { at -= 1 }
        let part = redactor.refused(&raw[..at], false, 100_000);
        prop_assert!(part.matches("SECRET").count() <= shown.matches("SECRET").count());
        let short = redactor.document("s", Shape::Foreign, &raw, cut);
        prop_assert!(short.len() <= cut);
    }
}
