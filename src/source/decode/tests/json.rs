//! The scanner beside serde_json: the same documents are accepted, the same values found.

use super::super::{DecodeLimits, Decoder, Framing};
use super::plan;
use crate::config::Diagnostics;
use crate::config::schema::FormatConfig;
use crate::model::{EventBatch, Field, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

fn decode(text: &str, paths: &[&str]) -> EventBatch {
    let limits = DecodeLimits { event_bytes: 1 << 20, depth: 100 };
    let decoder = Decoder::compile(&FormatConfig::default(), limits, &mut Diagnostics::new()).unwrap();
    decoder.decode(text.as_bytes().to_vec(), Framing::CloudEvents, &plan(paths), &Arc::from("s"), Timestamp::EPOCH)
}

fn to_value(batch: &EventBatch, field: Field) -> Option<Value> {
    Some(match field {
        Field::Missing => return None,
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        // serde_json's doubles of many digits may be one place off; ours are the nearest.
        Field::Number(value, text) => batch.text(text).parse::<i64>().map_or(json!(value), Value::from),
        Field::Json(text) => serde_json::from_str(batch.text(text)).unwrap(),
        Field::Text(text) => batch.text(text).into(),
        Field::List { start, len } => {
            let elements = batch.list(start, len).iter();
            elements.map(|field| to_value(batch, *field).unwrap_or_else(|| json!("absent"))).collect()
        }
    })
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|eighths| (f64::from(eighths) / 8.0).into()),
        "\\PC{0,12}|[\\x00-\\x1f\"\\\\é😀]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[abc]|a\"b|é", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

const PATHS: [&str; 6] = ["data.a", "data.b.a", "data.c[0]", "data.a[].b", "data.\"é\"", "data.b[1].c"];

fn expected(data: &Value) -> Vec<Option<Value>> {
    let each = data["a"].as_array().map(|elements| {
        elements.iter().map(|element| element.get("b").cloned().unwrap_or_else(|| json!("absent"))).collect()
    });
    vec![
        data.get("a").cloned(),
        data.get("b").and_then(|b| b.get("a")).cloned(),
        data.get("c").and_then(|c| c.get(0)).cloned(),
        each,
        data.get("é").cloned(),
        data.get("b").and_then(|b| b.get(1)).and_then(|second| second.get("c")).cloned(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_values_are_found(data in values(), pretty in any::<bool>()) {
        let event = json!({"specversion": "1.0", "id": "i", "source": "s", "x": data, "type": "t", "data": data});
        let text = if pretty { serde_json::to_string_pretty(&event) } else { serde_json::to_string(&event) }.unwrap();
        let batch = decode(&text, &PATHS);
        prop_assert_eq!(&batch.refused, &[]);
        let found: Vec<_> = batch.row(0).iter().map(|field| to_value(&batch, *field)).collect();
        prop_assert_eq!(found, expected(&data));
    }

    #[test]
    fn the_same_documents_are_accepted(
        data in values(), cut in 0_usize..200, put in "[{}\\[\\]\",:\\\\0-9eE+.tn \\x01-]{0,3}", remove in 0_usize..3,
    ) {
        let mut text = format!(r#"{{"type":"t","specversion":"1.0","id":"i","source":"s","data":{data}}}"#);
        let at = |at: usize, text: &str| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        let (from, to) = (at(cut + 44, &text), at(cut + 44 + remove, &text));
        text.replace_range(from..to.max(from), &put);
        let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
        let batch = decode(&text, &PATHS);
        // Other reasons than these are about what the document says, not about whether it is JSON.
        let ours = !batch.refused.iter().any(|refusal| matches!(refusal.reason, "invalid_json" | "truncated"));
        prop_assert_eq!(ours, theirs, "{} {:?}", text, batch.refused);
    }

    #[test]
    fn no_bytes_panic(input in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\\n01tn-e. ".to_vec())], 0..200)) {
        let decoder = super::decoder(&FormatConfig::default());
        for framing in [Framing::Auto, Framing::Ndjson, Framing::CloudEventsBatch] {
            let batch = decoder.decode(input.clone(), framing, &plan(&PATHS), &Arc::from("s"), Timestamp::EPOCH);
            let _ = super::show(&batch);
        }
    }
}
