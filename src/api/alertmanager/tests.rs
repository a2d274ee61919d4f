//! Requests and answers; `tests/it/amtool.rs` holds them against a real Alertmanager.

use super::*;
use crate::api::tests::{Answer, Bench, bench};
use axum::body::Body;
use serde_json::{Value, json};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

fn silence(fields: Value) -> String {
    let mut silence = json!({
        "matchers": [{"name": "alertname", "value": "A", "isRegex": false, "isEqual": true}],
        "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2100-01-01T00:00:00Z", "createdBy": "me", "comment": "c",
    });
    for (name, value) in fields.as_object().unwrap() {
        if value == "absent" {
            silence.as_object_mut().unwrap().shift_remove(name);
        } else {
            silence[name] = value.clone();
        }
    }
    silence.to_string()
}

fn post(bench: &Bench, path: &str, body: &str) -> Answer {
    bench.post(&format!("/api/v2/{path}"), JSON, body.as_bytes())
}

#[test]
fn what_alertmanager_refuses_is_refused_in_its_words() {
    let bench = bench();
    let coded = |code: u16, message: &str| json!({"code": code, "message": message}).to_string();
    let text = |text: &str| Value::from(text).to_string();
    for (path, body, status, expected) in [
        ("silences", silence(json!({"comment": "absent"})), 422, coded(602, "comment in body is required")),
        ("silences", silence(json!({"startsAt": "absent"})), 422, coded(602, "startsAt in body is required")),
        (
            "silences",
            silence(json!({"matchers": []})),
            422,
            coded(612, "matchers in body should have at least 1 items"),
        ),
        ("silences", silence(json!({"matchers": "absent"})), 422, coded(602, "matchers in body is required")),
        (
            "silences",
            silence(json!({"matchers": [{"name": "a", "value": "x"}]})),
            422,
            coded(602, "matchers.0.isRegex in body is required"),
        ),
        (
            "silences",
            silence(json!({"matchers": [{"name": "a", "value": "", "isRegex": false}]})),
            400,
            text("silence invalid: at least one matcher must not match the empty string"),
        ),
        (
            "silences",
            silence(json!({"endsAt": "2020-01-01T00:00:00Z"})),
            400,
            text("Failed to create silence: start time must be before end time"),
        ),
        (
            "silences",
            silence(json!({"endsAt": "2020-01-01T01:00:00Z"})),
            400,
            text("Failed to create silence: end time can't be in the past"),
        ),
        ("silences", silence(json!({"id": "nope"})), 404, text("silence not found")),
        ("silences", String::new(), 422, coded(602, "silence in body is required")),
        ("alerts", String::new(), 422, coded(602, "alerts in body is required")),
        ("alerts", r#"[{"labels":{}}]"#.into(), 400, text("at least one label pair required")),
        ("alerts", r#"[{"annotations":{}}]"#.into(), 422, coded(602, "0.labels in body is required")),
        (
            "alerts",
            r#"[{"labels":{"a":"1"},"generatorURL":"not a url"}]"#.into(),
            422,
            coded(601, "0.generatorURL in body must be of type uri: \"not a url\""),
        ),
        (
            "alerts",
            r#"[{"labels":{"a":"1"},"startsAt":"2026-01-02T00:00:00Z","endsAt":"2026-01-01T00:00:00Z"}]"#.into(),
            400,
            text("start time must be before end time"),
        ),
    ] {
        let answer = post(&bench, path, &body);
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (status, expected.as_str()), "{body}");
    }
    for body in ["{", "{}", "[1]", r#"[{"labels":{"a":1}}]"#, r#"[{"labels":{"a":"1"},"startsAt":"x"}]"#] {
        let answer = post(&bench, "alerts", body);
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (400, &400.into()), "{body}");
    }
    let answer = bench.post("/api/v2/alerts", &[("content-type", "text/plain")], b"[]");
    let expected = coded(415, "unsupported media type \"text/plain\", only [application/json] are allowed");
    assert_eq!((answer.status.as_u16(), answer.text), (415, expected));
    for (path, status, expected) in [
        ("alerts?filter=alertname", 400, text("bad matcher format: alertname")),
        ("silences?filter=nope", 400, text("bad matcher format: nope")),
        ("silence/abc", 422, coded(601, "silenceID in path must be of type uuid: \"abc\"")),
        ("silence/00000000-0000-4000-8000-000000000000", 404, String::new()),
    ] {
        let answer = bench.get(&format!("/api/v2/{path}"));
        assert_eq!((answer.status.as_u16(), answer.text), (status, expected), "{path}");
    }
    assert!(bench.get("/api/v2/alerts?receiver=(").text.contains("failed to parse receiver param"));
}

fn delete(bench: &Bench, id: &str, headers: &[(&str, &str)], peer: &str) -> Answer {
    let mut request = Request::delete(format!("/api/v2/silence/{id}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    bench.send(&bench.observe, request.body(Body::empty()).unwrap(), peer)
}

#[test]
fn a_silence_is_made_listed_and_expired() {
    let bench = bench();
    let answer = post(&bench, "silences", &silence(json!({})));
    let id = answer.json()["silenceID"].as_str().unwrap().to_owned();
    assert_eq!((answer.status.as_u16(), id.len(), &id[14..15]), (200, 36, "4"));
    let list = bench.get("/api/v2/silences?filter=alertname%3DA").json();
    let one = &list[0];
    assert_eq!((&one["id"], &one["status"]["state"]), (&Value::from(id.as_str()), &Value::from("active")));
    assert_eq!((&one["endsAt"], &one["comment"]), (&"2100-01-01T00:00:00.000Z".into(), &"c".into()));
    assert_eq!(one["matchers"], json!([{"isEqual": true, "isRegex": false, "name": "alertname", "value": "A"}]));
    assert_eq!(bench.get("/api/v2/silences?filter=alertname%3DB").json(), json!([]));
    assert_eq!(bench.get(&format!("/api/v2/silence/{id}")).json(), *one);
    // From elsewhere, and for a page of another site, nothing changes.
    assert_eq!(delete(&bench, &id, &[], "10.0.0.9:5").status, StatusCode::FORBIDDEN);
    let foreign = [("host", "127.0.0.1:9180"), ("origin", "https://evil.example")];
    assert_eq!(delete(&bench, &id, &foreign, "127.0.0.1:5").status, StatusCode::FORBIDDEN);
    assert_eq!(delete(&bench, &id, &[("x-forwarded-for", "10.0.0.9")], "127.0.0.1:5").status, StatusCode::FORBIDDEN);
    let own = [("host", "127.0.0.1:9180"), ("origin", "http://127.0.0.1:9180")];
    assert_eq!(delete(&bench, &id, &own, "127.0.0.1:5").status, StatusCode::OK);
    let unknown = delete(&bench, "00000000-0000-4000-8000-000000000000", &[], "127.0.0.1:5");
    assert_eq!((unknown.status.as_u16(), unknown.text.as_str()), (404, "\"silence not found\""));
    assert_eq!(delete(&bench, &id, &[], "127.0.0.1:5").status, StatusCode::OK);
    assert_eq!(bench.get("/api/v2/silences").json()[0]["status"]["state"], "expired");
    let request = || Request::post("/api/v2/silences").header("content-type", "application/json");
    let remote = |router| {
        let request = request().body(Body::from(silence(json!({})))).unwrap();
        bench.send(router, request, "10.0.0.9:5").status.as_u16()
    };
    // The ingest listener is where changes come from elsewhere, where it is opened for them.
    assert_eq!((remote(&bench.observe), remote(&bench.ingest)), (403, 200));
}

#[test]
fn posted_alerts_are_shown_with_what_suppresses_them() {
    let bench = bench();
    let alerts = json!([
        {"labels": {"alertname": "A", "x": "1", "empty": ""}, "annotations": {"summary": "s"}, "generatorURL": "http://g/x"},
        {"labels": {"alertname": "B", "größe": "5"}, "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2100-01-01T00:00:00.5Z"},
        {"labels": {"alertname": "over"}, "endsAt": "2020-01-01T00:00:00Z"},
    ]);
    let answer = post(&bench, "alerts", &alerts.to_string());
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""));
    let names = |query: &str| {
        let list = bench.get(&format!("/api/v2/alerts{query}")).json();
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().unwrap().to_owned();
        let mut names: Vec<String> = list.as_array().unwrap().iter().map(name).collect();
        names.sort();
        names.join(",")
    };
    assert_eq!(names(""), "A,B");
    let id = post(&bench, "silences", &silence(json!({}))).json()["silenceID"].clone();
    for (query, expected) in [
        ("?silenced=false", "B"),
        ("?silenced=0&active=true", "B"),
        ("?active=false&unprocessed=no", "A"),
        ("?inhibited=false", "A,B"),
        ("?filter=x%3D1", "A"),
        ("?filter=x%3D%22%22", "B"),
        ("?filter=x!%3D%22%22", "A"),
        ("?filter=alertname%3D~%22A%7CB%22&filter=x!~1", "B"),
        ("?receiver=term.*", "A,B"),
        ("?receiver=term", ""),
    ] {
        assert_eq!(names(query), expected, "{query}");
    }
    let list = bench.get("/api/v2/alerts?filter=alertname%3DA").json();
    let expected = json!({"inhibitedBy": [], "mutedBy": [], "silencedBy": [id], "state": "suppressed"});
    assert_eq!((&list[0]["status"], &list[0]["receivers"]), (&expected, &json!([{"name": "terminal"}])));
    assert_eq!(list[0]["fingerprint"], "6051004c729abe0e");
    let other = bench.get("/api/v2/alerts?filter=alertname%3DB").json();
    assert_eq!(
        (&other[0]["startsAt"], &other[0]["endsAt"]),
        (&"2026-01-01T00:00:00.000Z".into(), &"2100-01-01T00:00:00.500Z".into())
    );
    // Said again with its end, it is over.
    let ended = json!([{"labels": {"alertname": "B", "größe": "5"}, "endsAt": "2026-01-02T00:00:00Z"}]);
    assert_eq!(post(&bench, "alerts", &ended.to_string()).status, StatusCode::OK);
    assert_eq!(names(""), "A");
    let dashboard = bench.get("/api/dashboard").json();
    let shown = dashboard["alerts"].as_array().unwrap().iter().find(|alert| alert["name"] == "A").unwrap();
    assert_eq!((&shown["silenced_by"][0]["id"], &shown["value"]), (&id, &"".into()), "{shown}");
}

#[test]
fn the_status_holds_a_configuration_that_is_one() {
    let bench = bench();
    let status = bench.get("/api/v2/status").json();
    let original = status["config"]["original"].as_str().unwrap();
    assert!(original.contains("receiver: \"terminal\""), "{original}");
    assert_eq!(
        (&status["cluster"]["status"], &status["versionInfo"]["version"]),
        (&"disabled".into(), &"0.25.0".into())
    );
    assert_eq!(bench.get("/api/v2/receivers").text, r#"[{"name":"terminal"}]"#);
}
