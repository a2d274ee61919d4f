use super::*;
use crate::config::{Overrides, load_text};
use serde_json::json;

/// What the findings say, and what each payload of type `a` is found guilty of.
fn compile(schemas: &str) -> (Schemas, String) {
    let (config, mut found) = load_text("s.yaml", schemas, &Default::default(), &Overrides::default());
    let schemas = Schemas::compile(&config.unwrap(), &mut found);
    (schemas, found.to_string())
}

#[track_caller]
fn check(schema: &str, payload: Value, expected: &str) {
    let (schemas, found) = compile(&format!("schemas: {{a: {{schema: {schema}}}}}\n"));
    assert_eq!(found, "");
    let faults = schemas.get(0).unwrap().faults(&payload);
    let said: Vec<String> = faults.iter().map(|fault| format!("{}: {}", fault.pointer, fault.message)).collect();
    assert_eq!(said.join("; "), expected);
}

#[test]
fn formats_are_asserted_in_every_draft() {
    for draft in ["", "$schema: 'http://json-schema.org/draft-07/schema#', "] {
        let schema = |format: &str| format!("{{{draft}properties: {{x: {{format: {format}}}}}}}");
        for (format, valid, invalid) in [
            ("hostname", json!("web-1.local"), json!("-web_1.")),
            ("ipv4", json!("10.0.0.1"), json!("10.0.0.256")),
            ("ipv6", json!("::1"), json!("::g")),
            ("date-time", json!("2026-11-20T09:00:00Z"), json!("2026-11-31T09:00:00Z")),
            ("email", json!("a@example.org"), json!("a.example.org")),
            ("uri", json!("http://h/p"), json!("no uri")),
        ] {
            check(&schema(format), json!({"x": valid}), "");
            check(&schema(format), json!({"x": invalid}), &format!("/x: value is not a \"{format}\""));
        }
    }
}

#[test]
fn sentences_say_where_and_never_what() {
    let schema = "{type: object, required: [id], properties: {n: {type: number, minimum: 1}, s: {enum: [a, b]}, l: {items: {type: string}}}, additionalProperties: false}";
    check(
        "{properties: {n: {type: number}}, additionalProperties: false}",
        json!({"id": 1}),
        ": Additional properties are not allowed ('id' was unexpected)",
    );
    let payload = json!({"n": "SECRET", "s": "SECRET", "l": ["x", {"SECRET": "SECRET"}]});
    let (schemas, _) = compile(&format!("schemas: {{a: {{schema: {schema}}}}}\n"));
    let faults = schemas.get(0).unwrap().faults(&payload);
    let pointers: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
    for pointer in ["/n", "/s", "/l/1", ""] {
        assert!(pointers.contains(&pointer), "{pointer}: {faults:?}");
    }
    assert!(faults.iter().all(|fault| !fault.message.contains("SECRET")), "{faults:?}");
}

#[test]
fn what_is_wrong_with_a_schema_has_its_place() {
    for (schemas, expected) in [
        ("schemas: {a: {schema: {type: objekt}}}", "s.yaml:1:30: error: not a valid JSON Schema at /type: "),
        ("schemas: {a: {schema: {pattern: '('}}}", "s.yaml:1:33: error: not a valid JSON Schema at /pattern: "),
        ("schemas: {a: {schema: {$ref: 'http://127.0.0.1:1/x.json'}}}", "never the network"),
        ("schemas: {a: {schema: {$ref: nowhere.json}}}", "cannot be read"),
        ("schemas: {a: nowhere.json}", "s.yaml:1:14: error: the schema nowhere.json cannot be read"),
        ("schemas: {a: {schema: {format: int33}}}", "warning: the format \"int33\" is not one of JSON Schema's"),
        ("schemas: [{schema: true}]", "an entry of schemas needs `match`"),
    ] {
        let (_, found) = compile(&format!("{schemas}\n"));
        assert!(found.contains(expected), "{schemas}\n{found}");
    }
}

#[test]
fn references_lead_to_files_and_versions_choose() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("common.json", "{\"$defs\": {\"id\": {\"type\": \"string\"}}}");
    write("v1.json", "{\n\t\"version\": 1, \"properties\": {\"id\": {\"$ref\": \"common.json#/$defs/id\"}}}");
    write("v2.yaml", "$id: urn:order:2\nversion: '2'\nrequired: [id]\n");
    write(
        "sidewatch.yaml",
        "schemas: {one: {match: 'order.*', schema: v1.json}, two: {match: 'order.*', schema: v2.yaml}}\n",
    );
    let path = dir.path().join("sidewatch.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (config, mut found) = load_text(&path.display().to_string(), &text, &Default::default(), &Overrides::default());
    let mut config = config.unwrap();
    config.base_dir = dir.path().to_owned();
    let schemas = Schemas::compile(&config, &mut found);
    assert_eq!((found.to_string().as_str(), schemas.files().len()), ("", 3), "{:?}", schemas.files());
    let places = schemas.of_type("order.placed");
    assert_eq!((places.as_slice(), schemas.of_type("x").is_empty()), (&[0, 1][..], true));
    let chosen = |document: Value| schemas.choose(&places, &document);
    assert_eq!(chosen(json!({})), Some(0));
    assert_eq!(chosen(json!({"schemaversion": "2"})), Some(1));
    assert_eq!(chosen(json!({"dataschema": "urn:order:2"})), Some(1));
    assert_eq!(chosen(json!({"data": {"schema_version": 1}})), Some(0));
    assert_eq!(schemas.get(0).unwrap().faults(&json!({"id": 7})).len(), 1);
    assert_eq!(schemas.get(1).unwrap().faults(&json!({})).len(), 1);
}
