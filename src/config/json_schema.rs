//! The JSON Schema (2020-12) of sidewatch.yaml, for editors. Each mapping that the reader knows is a definition with the
//! reader's name for it; a test holds the keys of both against each other.

mod amqp;
mod docker;
mod export;
mod hosts;
mod kafka;
mod mqtt;
mod nats;
mod policy;
mod publish;
mod redis;
mod scrape;
mod sse;
mod statsd;
#[cfg(test)]
mod tests;
mod tls;
mod websocket;

use serde_json::{Map, Value, json};

/// The schema as text.
pub fn json_schema() -> String {
    let mut root = object("configuration", &top());
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    root["$defs"] = definitions().into();
    format!("{root:#}")
}

/// A mapping with these keys and no others.
fn object(title: &str, properties: &[(&str, Value)]) -> Value {
    let properties: Map<String, Value> =
        properties.iter().map(|(key, schema)| ((*key).to_owned(), schema.clone())).collect();
    json!({"title": title, "type": "object", "properties": properties, "additionalProperties": false})
}

fn reference(title: &str) -> Value {
    json!({"$ref": format!("#/$defs/{}", title.replace(' ', "_"))})
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn flag(description: &str) -> Value {
    json!({"type": "boolean", "description": description})
}

fn number(description: &str) -> Value {
    json!({"type": "number", "description": description})
}

fn integer(description: &str) -> Value {
    json!({"type": "integer", "minimum": 1, "description": description})
}

/// Where 0 means something, too.
fn whole(description: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": description})
}

/// Zero is the one duration without a unit.
fn time(description: &str) -> Value {
    json!({"type": ["string", "integer"], "minimum": 0, "maximum": 0, "pattern": "^(0|([0-9]+(y|w|d|h|m|s|ms))+)$", "description": description})
}

fn rate(description: &str) -> Value {
    json!({"type": ["number", "string"], "pattern": "^[0-9.]+(/[smh])?$", "description": description})
}

fn bytes(description: &str) -> Value {
    json!({"type": ["integer", "string"], "description": description})
}

fn one_of(words: &[&str], description: &str) -> Value {
    json!({"enum": words, "description": description})
}

/// The same for words that are numbers: YAML reads them as such.
fn one_of_values(words: &[Value], description: &str) -> Value {
    json!({"enum": words, "description": description})
}

/// One's own names, each with one of these under it.
fn named(schema: &Value, description: &str) -> Value {
    json!({"type": "object", "additionalProperties": schema, "description": description})
}

fn one_or_list(schema: &Value, description: &str) -> Value {
    json!({"anyOf": [schema, {"type": "array", "items": schema}], "description": description})
}

fn either(schemas: &[Value], description: &str) -> Value {
    json!({"anyOf": schemas, "description": description})
}

fn texts(description: &str) -> Value {
    json!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}, "description": description})
}

fn scalar() -> Value {
    json!({"type": ["string", "number", "boolean", "null"]})
}

fn top() -> Vec<(&'static str, Value)> {
    let plain = text("");
    vec![
        ("profile", one_of(&["development", "production", "testing"], "Which defaults hold.")),
        ("service", either(&[plain.clone(), reference("service")], "Who is watched: the labels job and instance.")),
        ("listen", reference("listen")),
        (
            "sources",
            named(
                &either(&[plain.clone(), reference("source")], "An address or a mapping."),
                "Where events come from.",
            ),
        ),
        ("metrics", named(&reference("metric"), "Metrics from events.")),
        ("schemas", policy::schemas()),
        ("redact", policy::redact()),
        ("health", named(&reference("health check"), "What /health says.")),
        ("alerts", named(&reference("alert"), "The short form of alert rules.")),
        ("rules", one_or_list(&plain, "Prometheus rule files; * and ? in the last part of the path.")),
        ("bundled_rules", flag("Whether the rule packs that come with sidewatch are loaded.")),
        (
            "notify",
            named(
                &either(
                    &[
                        one_or_list(&plain, ""),
                        flag(""),
                        reference("receiver"),
                        reference("flapping"),
                        one_or_list(&reference("silence"), ""),
                    ],
                    "A receiver; under alertmanager: a file; under exec_allowed: programs that may be run; under silences: a list; under flapping: when messages are damped, or false.",
                ),
                "Receivers; the first is the default.",
            ),
        ),
        ("export", named(&reference("export"), "What leaves besides messages.")),
        ("watchdog", reference("watchdog")),
        ("publish", named(&reference("publisher"), "Alerts, health and life cycle as CloudEvents.")),
        ("state", either(&[plain, reference("state")], "Where state survives a restart.")),
        ("external_labels", texts("Labels that every alert carries.")),
        ("external_url", text("Where people reach this sidewatch.")),
        ("evaluation_interval", time("How often rules without an interval of their own are evaluated.")),
        ("limits", reference("limits")),
    ]
}

fn definitions() -> Map<String, Value> {
    let definitions = [
        object(
            "service",
            &[
                ("name", text("service.name: the label job.")),
                ("instance", text("service.instance: the label instance.")),
            ],
        ),
        object(
            "listen",
            &[("observe", text("/health, /metrics, API and page.")), ("ingest", text("Events and commands."))],
        ),
        object(
            "state",
            &[
                ("dir", text("The folder.")),
                ("sync", one_of(&["normal", "full"], "full survives power loss.")),
                ("checkpoint_interval", time("How often changes are written.")),
            ],
        ),
        object(
            "watchdog",
            &[
                ("url", text("What is asked while rules are evaluated in time.")),
                ("url_file", text("A file that holds the address.")),
                ("every", time("How often.")),
                ("method", one_of(&["GET", "POST"], "How.")),
            ],
        ),
        object(
            "flapping",
            &[
                ("changes", integer("More changes than this within the window.")),
                ("window", time("The window.")),
                ("steady", time("Without a change for so long, it is over.")),
            ],
        ),
        limits(),
    ];
    let all = definitions
        .into_iter()
        .chain(sources())
        .chain(redis::definitions())
        .chain(scrape::definitions())
        .chain(statsd::definitions())
        .chain(nats::definitions())
        .chain(kafka::definitions())
        .chain(sse::definitions())
        .chain(tls::definitions())
        .chain(amqp::definitions())
        .chain(mqtt::definitions())
        .chain(websocket::definitions())
        .chain(docker::definitions())
        .chain(hosts::definitions())
        .chain(export::definitions())
        .chain(publish::definitions())
        .chain(metrics())
        .chain(policy::definitions())
        .chain(health())
        .chain(alerts())
        .chain(receivers())
        .chain(silences());
    all.map(|schema| (schema["title"].as_str().unwrap_or_default().replace(' ', "_"), schema)).collect()
}

fn limits() -> Value {
    object(
        "limits",
        &[
            ("series", integer("Series in all.")),
            ("series_per_metric", integer("Series of one metric.")),
            ("histogram_series", integer("Histogram series.")),
            ("labels_per_series", integer("Labels of one series.")),
            ("label_value_bytes", bytes("Bytes of a label's value.")),
            ("series_bytes", bytes("Bytes of all samples.")),
            ("idle_series", time("After which a series is forgotten.")),
            ("queue_batches", integer("Inputs that wait for the core.")),
            ("queue_bytes", bytes("Bytes that wait for the core.")),
            ("queue_events", integer("Events that wait for the core.")),
            ("quarantine_events", integer("Refused items that are kept to be looked at.")),
            ("quarantine_bytes", bytes("Bytes of them.")),
            ("high_priority", integer("Events of at least this priority, 1 to 10, overtake others in the queue.")),
            ("body_bytes", bytes("Bytes of a request's body.")),
            ("event_bytes", bytes("Bytes of one event.")),
            ("event_depth", integer("Levels of nesting in one event.")),
            ("query_samples", integer("Samples that one query may touch.")),
            ("late_samples", time("How late a sample of remote write may come.")),
            ("query_timeout", time("Time that one query may take.")),
            ("pattern_keys", integer("Keys that one event condition may hold.")),
            ("alerts_per_rule", integer("Alerts that one rule may hold.")),
            ("outbox_messages", integer("Messages that may wait for receivers.")),
            ("posted_alerts", integer("Alerts that others may post.")),
        ],
    )
}

fn silences() -> Vec<Value> {
    let words = |description| one_or_list(&text(""), description);
    vec![
        object(
            "silence",
            &[
                ("matchers", words("What is silenced: severity=\"page\", team=~\"a|b\"; all must match.")),
                ("starts", text("From when on: RFC 3339, without a zone UTC.")),
                ("ends", text("Until when: RFC 3339, without a zone UTC.")),
                (
                    "time_interval",
                    either(
                        &[text(""), one_or_list(&reference("time interval"), "")],
                        "Only within these times, again and again: a name of the Alertmanager file, or the times.",
                    ),
                ),
                ("comment", text("Why.")),
            ],
        ),
        object(
            "time interval",
            &[
                ("times", json!({"type": "array", "items": reference("time range")})),
                ("weekdays", words("monday:friday, sunday.")),
                ("days_of_month", words("1, 1:7, -3:-1.")),
                ("months", words("january:march, 12.")),
                ("years", words("2026, 2026:2028.")),
                ("location", text("A time zone; UTC without it.")),
            ],
        ),
        object("time range", &[("start_time", text("09:00")), ("end_time", text("17:00; 24:00 ends the day."))]),
    ]
}

fn sources() -> Vec<Value> {
    let none = reference("source without options");
    vec![
        object(
            "source",
            &[
                ("http", reference("http source")),
                ("stdin", none.clone()),
                ("file", either(&[text(""), reference("file source")], "A file that grows.")),
                ("unix", either(&[text(""), reference("unix source")], "A unix stream socket.")),
                ("tcp", either(&[text(""), reference("tcp source")], "A TCP listener.")),
                ("scrape", either(&[text(""), reference("scrape source")], "Metrics fetched over HTTP.")),
                ("amqp", either(&[text(""), reference("amqp source")], "A queue of RabbitMQ.")),
                ("mqtt", either(&[text(""), reference("mqtt source")], "Topics of an MQTT broker.")),
                ("otlp", none.clone()),
                ("statsd", either(&[text(""), reference("statsd source")], "StatsD and DogStatsD lines.")),
                ("websocket", either(&[text(""), reference("websocket source")], "Events of a WebSocket server.")),
                ("docker", either(&[text(""), reference("docker source")], "Events of the Docker Engine API.")),
                ("hosts", either(&[text(""), reference("hosts source")], "Hosts files whose records are watched.")),
                ("nats", either(&[text(""), reference("nats source")], "Subjects or a stream of NATS.")),
                ("redis", either(&[text(""), reference("redis source")], "Streams or channels of Redis or Valkey.")),
                ("kafka", either(&[text(""), reference("kafka source")], "Topics of Kafka.")),
                ("sse", either(&[text(""), reference("sse source")], "Server-sent events over HTTP.")),
                ("memory", none.clone()),
                ("demo", none.clone()),
                ("none", none),
                ("lines", either(&[text(""), reference("lines")], "Text lines, cut by a named regex.")),
                ("type", text("The type of events that name none.")),
                ("shape", texts("Attribute -> path, for JSON of another shape.")),
                (
                    "overflow",
                    one_of(
                        &["block", "drop_oldest", "drop_newest"],
                        "What happens when the queue to the core is full.",
                    ),
                ),
                ("rate_limit", either(&[rate(""), reference("rate limit")], "How many events are taken.")),
                ("dedup", either(&[flag(""), reference("dedup")], "Events are counted once by their id.")),
            ],
        ),
        object("source without options", &[]),
        object(
            "http source",
            &[(
                "ack",
                one_of(&["queued", "checkpoint"], "When a request is answered: queued, or stored in a checkpoint."),
            )],
        ),
        object(
            "rate limit",
            &[
                ("events", rate("Of the whole source.")),
                ("burst", integer("So many at once.")),
                ("per_client", rate("Of each client: by address, or by user of a unix socket.")),
            ],
        ),
        object(
            "dedup",
            &[("by", one_of(&["id"], "What tells events apart.")), ("window", integer("Events remembered."))],
        ),
        object(
            "file source",
            &[
                ("path", text("The file.")),
                ("start", one_of(&["first", "last"], "Where to begin without a known position.")),
            ],
        ),
        object("unix source", &[("path", text("The socket's path."))]),
        object("tcp source", &[("listen", text("HOST:PORT."))]),
        object("lines", &[("regex", text("Named groups are fields."))]),
    ]
}

fn selection() -> Vec<(&'static str, Value)> {
    vec![
        (
            "match",
            one_or_list(&either(&[text(""), reference("pattern")], "* any text, + one segment."), "Event types."),
        ),
        ("where", json!({"type": "object", "description": "Paths with comparisons; all, any, not."})),
    ]
}

fn selector() -> Value {
    either(&[text(""), json!({"type": "array"}), reference("event selector"), reference("pattern")], "Which events.")
}

fn metrics() -> Vec<Value> {
    let with = |title: &str, more: Vec<(&'static str, Value)>| {
        let mut keys = selection();
        keys.extend(more);
        keys.push(("labels", named(&either(&[text(""), reference("label")], "A path or a mapping."), "Labels.")));
        keys.push(("help", text("Shown in /metrics.")));
        object(title, &keys)
    };
    let value = || ("value", json!({"type": ["string", "number"], "description": "A path or a number."}));
    let unit = || ("unit", text("The field's unit: ms, us, s, KiB, percent, ..."));
    let buckets =
        || ("buckets", json!({"type": "array", "items": {"type": "number"}, "description": "Upper bounds, rising."}));
    vec![
        object(
            "metric",
            &[
                ("counter", reference("counter")),
                ("gauge", reference("gauge")),
                ("histogram", reference("histogram")),
                ("timer", reference("timer")),
                ("drop", selector()),
            ],
        ),
        with("counter", vec![value(), unit()]),
        with("gauge", vec![value(), unit(), ("op", one_of(&["set", "add"], "Set or add."))]),
        with("histogram", vec![value(), unit(), buckets()]),
        object(
            "timer",
            &[
                ("from", selector()),
                ("to", selector()),
                ("by", text("The path whose value links the two events.")),
                ("within", time("How long a beginning is remembered.")),
                buckets(),
                ("labels", named(&either(&[text(""), reference("label")], ""), "Labels.")),
                ("help", text("Shown in /metrics.")),
            ],
        ),
        object("drop", &selection()),
        object(
            "label",
            &[
                ("from", text("A path.")),
                ("value", json!({"type": ["string", "number", "boolean"], "description": "A constant."})),
                ("replace", one_or_list(&reference("replacement"), "In order.")),
                ("map", texts("Looked up after the replacements.")),
                ("default", text("For an absent field.")),
            ],
        ),
        object("replacement", &[("regex", text("What.")), ("with", text("$1 is a group."))]),
        object("pattern", &[("regex", text("Anchored."))]),
        object("event selector", &selection()),
        object(
            "comparison",
            &[
                ("gt", number("Greater.")),
                ("gte", number("Greater or equal.")),
                ("lt", number("Less.")),
                ("lte", number("Less or equal.")),
                ("eq", scalar()),
                ("ne", scalar()),
                ("in", json!({"type": "array", "items": scalar()})),
                ("exists", flag("Present and not null.")),
                ("regex", text("Anchored.")),
            ],
        ),
    ]
}

fn source() -> (&'static str, Value) {
    ("source", one_or_list(&text(""), "Configured sources: their events count, and only their loss pauses this."))
}

fn health() -> Vec<Value> {
    let mut heartbeat = selection();
    heartbeat.push(("within", time("The longest silence.")));
    heartbeat.push(source());
    vec![
        object(
            "health check",
            &[
                ("event", reference("heartbeat")),
                ("expr", text("PromQL; fails while its result is not empty.")),
                ("http", either(&[text(""), reference("http probe")], "An HTTP probe.")),
                ("status", one_of(&["unhealthy", "degraded"], "What the service is while it fails.")),
            ],
        ),
        object("heartbeat", &heartbeat),
        object(
            "http probe",
            &[
                ("url", text("What to ask.")),
                ("expect", either(&[integer(""), reference("expect")], "What is right; any 2xx without it.")),
                ("timeout", time("How long to wait.")),
                ("every", time("How often to ask.")),
            ],
        ),
        object("expect", &[("status", integer("The status.")), ("body", text("A text in the answer."))]),
    ]
}

fn alerts() -> Vec<Value> {
    let threshold = || json!({"type": ["string", "number"], "description": "5%, 500ms, 10."});
    let path = text("A path or a label.");
    let part = |description: &str| {
        let description =
            format!("{description} Events (a pattern, {{match, where}}) or counters (a selector, {{series}}).");
        either(&[selector(), reference("slo series")], &description)
    };
    let mut event = selection();
    event.extend([
        ("count", json!({"type": ["string", "integer"], "description": "\">= 5\""})),
        ("absent", selector()),
        (
            "rate_change",
            either(
                &[selector()],
                "Far more or fewer of these events in a window than in the windows before. Ends when a whole window lies within \
                 the threshold again; a change that stays becomes the baseline after half of its time.",
            ),
        ),
        ("baseline", time("rate_change: how far back the windows reach (20 windows).")),
        ("direction", one_of(&["up", "down", "both"], "rate_change: which changes count (both).")),
        ("threshold", number("rate_change: robust deviations from the median of the baseline (3.5).")),
        ("min_samples", integer("rate_change: windows heard in full before anything is concluded (8).")),
        (
            "floor",
            json!({"type": ["string", "number"], "description": "rate_change: the least deviation assumed: a share of the median (10%) or events of a window."}),
        ),
        ("lateness", time("rate_change: how long a window waits for late events (a tenth of it, at most 5s).")),
        ("first_seen", text("The path of a value that was never seen within `for`. Ends `within` (15m) after it was seen.")),
        ("for", time("first_seen: how long a value is remembered (7d).")),
        ("learn", time("first_seen: after the first event, values are only remembered for so long (1h).")),
        (
            "gap",
            text(
                "The path of a number that should grow by one. Fires when numbers left out do not come `within` (30s); ends when all \
                 of them came after all, when the number starts anew, or after an hour.",
            ),
        ),
        ("keys", one_or_list(&text(""), "Keys that must be heard from.")),
        ("sequence", json!({"type": "array", "minItems": 2, "items": selector()})),
        ("missing", one_of(&["last"], "Fires when the last step did not come.")),
        ("by", one_or_list(&path, "Each value is a case of its own.")),
        ("within", time("The window.")),
        source(),
    ]);
    vec![
        object(
            "alert",
            &[
                ("metric", text("A metric against a threshold.")),
                ("event", reference("event condition")),
                ("expr", text("PromQL.")),
                ("slo", reference("slo")),
                ("of", text("The metric that it is a share of.")),
                ("stat", text("rate, increase, last, avg, min, max, sum, p50, p90, p99, ...")),
                ("over", time("The window.")),
                ("by", one_or_list(&path, "Each value is a case of its own.")),
                ("where", json!({"type": "object", "description": "Label -> value or {regex: ...}."})),
                ("above", threshold()),
                ("below", threshold()),
                ("at_least", threshold()),
                ("at_most", threshold()),
                ("for", time("How long it must hold.")),
                ("keep_firing_for", time("How long it goes on after its end.")),
                ("severity", text("The label severity.")),
                ("labels", texts("More labels.")),
                ("annotations", texts("Go templates.")),
                ("runbook", text("The annotation runbook_url.")),
                ("notify", one_or_list(&text(""), "Receivers; the default without it.")),
            ],
        ),
        object("event condition", &event),
        object(
            "slo",
            &[
                ("good", part("What is good.")),
                ("error", part("What is bad, in place of good.")),
                ("total", part("All of it.")),
                ("target", json!({"type": ["string", "number"], "description": "99.9% or 0.999."})),
                ("window", time("The time that the error budget is for (30d).")),
                source(),
            ],
        ),
        object("slo series", &[("series", text("A PromQL selector of counters."))]),
    ]
}

fn receivers() -> Vec<Value> {
    let resolved = || ("send_resolved", flag("Whether endings are told."));
    let url = || [("url", text("The address.")), ("url_file", text("A file that holds the address."))];
    let [webhook_url, webhook_file] = url();
    let [slack_url, slack_file] = url();
    vec![
        object(
            "receiver",
            &[
                ("terminal", reference("terminal receiver")),
                ("slack", reference("slack receiver")),
                ("webhook", reference("webhook receiver")),
                ("email", reference("email receiver")),
                ("pagerduty", reference("pagerduty receiver")),
                ("alertmanager", reference("alertmanager receiver")),
                ("exec", reference("exec receiver")),
            ],
        ),
        object("terminal receiver", &[resolved()]),
        object(
            "slack receiver",
            &[
                slack_url,
                slack_file,
                ("app_token", text("A bot's token, instead of a webhook's address.")),
                ("app_token_file", text("A file that holds the bot's token.")),
                ("app_url", text("Where the bot's messages go: chat.postMessage.")),
                ("channel", text("Another channel.")),
                ("update_message", flag("Whether a bot edits a group's first message.")),
                resolved(),
            ],
        ),
        object(
            "pagerduty receiver",
            &[
                ("routing_key", text("The integration's key.")),
                ("routing_key_file", text("A file that holds the key.")),
                ("url", text("Where events go.")),
                ("severity", text("critical, error, warning or info.")),
                resolved(),
            ],
        ),
        object("alertmanager receiver", &[("url", one_or_list(&text(""), "Alertmanagers.")), resolved()]),
        object(
            "exec receiver",
            &[
                ("command", one_or_list(&text(""), "The program's path and its arguments.")),
                ("timeout", text("How long it may run.")),
                resolved(),
            ],
        ),
        object(
            "webhook receiver",
            &[webhook_url, webhook_file, ("headers", texts("Headers of the request.")), resolved()],
        ),
        object(
            "email receiver",
            &[
                ("to", one_or_list(&text(""), "Addresses.")),
                ("from", text("The sender.")),
                ("smtp", text("smtp://HOST:25 or smtps://HOST:465.")),
                ("username", text("For the login.")),
                ("password", text("For the login.")),
                ("password_file", text("A file that holds the password.")),
                ("require_tls", flag("Whether a server without TLS is refused.")),
                resolved(),
            ],
        ),
    ]
}
