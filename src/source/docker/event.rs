//! One event: as the daemon writes it, and as sidewatch tells it.

use crate::config::schema::DockerConfig;
use crate::model::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Characters of an id that people and the daemon's own messages use.
const SHORT: usize = 12;

/// Attributes of a container's event that are no labels of the container (Engine API 1.43; Podman 4 and 5).
const NOT_LABELS: [&str; 17] = [
    "name",
    "image",
    "exitCode",
    "containerExitCode",
    "execDuration",
    "execID",
    "signal",
    "oldName",
    "podId",
    "comment",
    "containerName",
    "health_status",
    "healthStatus",
    "health_failing_streak",
    "resource",
    "destination",
    "containerLabels",
];

/// What is known about a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Details {
    pub name: String,
    pub image: String,
    pub labels: Vec<(String, String)>,
    /// Network and address.
    pub addresses: Vec<(String, String)>,
    pub network_mode: String,
}

impl Details {
    pub fn has_address(&self) -> bool {
        !self.addresses.is_empty() || self.network_mode == "host" || self.network_mode == "none"
    }
}

/// A container that ran when the daemon was asked.
#[derive(Clone, Debug)]
pub(super) struct Running {
    /// Short.
    pub id: String,
    pub details: Details,
}

/// An event on its way.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    pub time_nano: i64,
    /// container, image, network, volume, ...
    pub kind: String,
    /// start, die, connect, ...
    pub action: String,
    /// What follows the action (`health_status: healthy`).
    detail: String,
    /// The whole id of what it is about.
    actor: String,
    attributes: Map<String, Value>,
    /// From asking the daemon.
    details: Option<Details>,
    /// Not an event of the daemon: found when it was asked what runs.
    pub replayed: bool,
}

/// Why a line is no event.
#[derive(Debug, PartialEq)]
pub(super) enum Unreadable {
    /// The daemon says why it sends none.
    Refusal(String),
    Broken(String),
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default, rename = "Type")]
    kind: Option<String>,
    #[serde(default, rename = "Action")]
    action: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    from: Option<String>,
    #[serde(default, rename = "Actor")]
    actor: Option<Actor>,
    #[serde(default)]
    time: Option<i64>,
    #[serde(default, rename = "timeNano")]
    time_nano: Option<i64>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    cause: Option<String>,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(default, rename = "ID")]
    id: Option<String>,
    #[serde(default, rename = "Attributes")]
    attributes: Option<Map<String, Value>>,
}

/// Whether events of containers are listened to at all.
pub(super) fn wants_containers(config: &DockerConfig) -> bool {
    let types: Vec<_> =
        config.filters.iter().filter(|(key, _)| key.value == "type").flat_map(|(_, list)| list).collect();
    types.is_empty() || types.iter().any(|kind| kind.value == "container")
}

/// The first characters of an id; names and ids of other kinds are short or kept as they are.
pub(super) fn short(id: &str) -> &str {
    let is_hash = id.len() > SHORT && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { &id[..SHORT] } else { id }
}

impl Event {
    /// Reads a line of the daemon.
    pub fn read(line: &[u8]) -> Result<Self, Unreadable> {
        let raw: Raw = serde_json::from_slice(line)
            .map_err(|error| Unreadable::Broken(format!("no event of the daemon: {error}")))?;
        // API versions before 1.22 knew only `status`.
        let Some(whole) = raw.action.or(raw.status).filter(|action| !action.is_empty()) else {
            return Err(match raw.message.or(raw.cause) {
                Some(message) => Unreadable::Refusal(message),
                None => Unreadable::Broken("an event without Action".into()),
            });
        };
        let kind = raw.kind.filter(|kind| !kind.is_empty()).unwrap_or_else(|| "container".into());
        let (action, detail) = match whole.split_once(':') {
            Some((action, detail)) => (action.trim().to_owned(), detail.trim().to_owned()),
            None => (whole, String::new()),
        };
        let (id, mut attributes) = match raw.actor {
            Some(actor) => (actor.id, actor.attributes.unwrap_or_default()),
            None => (None, Map::new()),
        };
        if let Some(from) = raw.from.filter(|from| !from.is_empty()) {
            attributes.entry("image").or_insert_with(|| from.into());
        }
        let time_nano = raw.time_nano.or_else(|| raw.time.map(|seconds| seconds.saturating_mul(1_000_000_000)));
        Ok(Self {
            time_nano: time_nano.ok_or_else(|| Unreadable::Broken("an event without time".into()))?,
            action: common_name(&kind, action),
            kind,
            detail,
            actor: id.or(raw.id).unwrap_or_default(),
            attributes,
            details: None,
            replayed: false,
        })
    }

    /// A container that ran when the daemon was asked.
    pub fn running(container: Running, now: Timestamp) -> Self {
        Self { details: Some(container.details), ..Self::found("running", &container.id, now) }
    }

    /// A container that ran, and does not any more, without a word from the daemon.
    pub fn gone(id: &str, now: Timestamp) -> Self {
        Self::found("gone", id, now)
    }

    fn found(action: &str, id: &str, now: Timestamp) -> Self {
        Self {
            time_nano: now.micros().saturating_mul(1_000),
            kind: "container".into(),
            action: action.into(),
            detail: String::new(),
            actor: id.to_owned(),
            attributes: Map::new(),
            details: None,
            replayed: true,
        }
    }

    /// The container that it is about, short.
    pub fn container(&self) -> Option<&str> {
        (self.kind == "container" && !self.actor.is_empty()).then(|| short(&self.actor))
    }

    pub fn starts_container(&self) -> bool {
        self.kind == "container" && matches!(self.action.as_str(), "start" | "running")
    }

    pub fn ends_container(&self) -> bool {
        self.kind == "container" && matches!(self.action.as_str(), "die" | "destroy" | "gone")
    }

    /// What asking the daemon gave.
    pub fn complete(&mut self, details: Details) {
        self.details = Some(details);
    }

    /// Tells it apart from every other event.
    pub fn key(&self) -> String {
        // One network event is told for each container that it is about.
        let container = self.attributes.get("container").and_then(Value::as_str).map_or("", short);
        let separator = if container.is_empty() { "" } else { "-" };
        format!("{}-{}-{}.{}{separator}{container}", self.time_nano, short(&self.actor), self.kind, self.action)
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// The event in the coordinator's shape.
    pub fn json(&self) -> String {
        let mut data = Map::new();
        let mut put = |key: &str, value: Option<&str>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                data.insert(key.to_owned(), value.into());
            }
        };
        let details = self.details.as_ref();
        match self.container() {
            Some(id) => {
                put("container_id", Some(id));
                put("id", Some(&self.actor));
                put(
                    "name",
                    details
                        .map(|details| details.name.as_str())
                        .filter(|name| !name.is_empty())
                        .or(self.attribute("name")),
                );
                put("image", self.attribute("image").or(details.map(|details| details.image.as_str())));
            }
            None => {
                put("id", Some(&self.actor));
                put("name", self.attribute("name"));
                put("container_id", self.attribute("container").map(short));
                put("network_type", self.attribute("type").filter(|_| self.kind == "network"));
            }
        }
        put("action", Some(&self.action));
        put("detail", Some(&self.detail));
        put("signal", self.attribute("signal"));
        put("old_name", self.attribute("oldName"));
        // Podman writes an exit code of 0 into every event.
        if matches!(self.action.as_str(), "die" | "exec_die")
            && let Some(code) = self.attribute("exitCode").or(self.attribute("containerExitCode"))
            && let Ok(code) = code.parse::<i64>()
        {
            data.insert("exit_code".into(), code.into());
        }
        if let Some(seconds) = self.attribute("execDuration").and_then(|text| text.parse::<u64>().ok()) {
            data.insert("duration_s".into(), seconds.into());
        }
        if self.container().is_some() {
            let labels = self.labels();
            if !labels.is_empty() {
                data.insert("labels".into(), Value::Object(labels));
            }
        } else {
            let known = ["name", "container", "type"];
            let others = self.attributes.iter().filter(|(name, value)| {
                !known.contains(&name.as_str()) && !NOT_LABELS.contains(&name.as_str()) && value.as_str() != Some("")
            });
            let others: Map<String, Value> = others.map(|(name, value)| (name.clone(), value.clone())).collect();
            if !others.is_empty() {
                data.insert("attributes".into(), Value::Object(others));
            }
        }
        if let Some(details) = details {
            if let Some((_, address)) = details.addresses.first() {
                data.insert("address".into(), address.as_str().into());
                let mut networks = Map::new();
                for (network, address) in &details.addresses {
                    networks.entry(network.clone()).or_insert_with(|| address.as_str().into());
                }
                data.insert("networks".into(), Value::Object(networks));
                let all: Vec<&str> = details.addresses.iter().map(|(_, address)| address.as_str()).collect();
                data.insert("addresses".into(), all.into());
            }
            if !details.network_mode.is_empty() {
                data.insert("network_mode".into(), details.network_mode.as_str().into());
            }
        }
        if self.replayed {
            data.insert("replayed".into(), true.into());
        }
        let time = Timestamp::from_micros(self.time_nano.div_euclid(1_000)).rfc3339();
        json!({
            "event_id": self.key(),
            "event_type": format!("{}.{}", self.kind, self.action),
            "timestamp": time,
            "data": data,
        })
        .to_string()
    }

    /// Labels of the container: what was found out, else what the event carries beside its own attributes.
    fn labels(&self) -> Map<String, Value> {
        if let Some(details) = self.details.as_ref().filter(|details| !details.labels.is_empty()) {
            return details.labels.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        }
        let own = self.attributes.iter().filter(|(name, _)| !NOT_LABELS.contains(&name.as_str()));
        own.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// Podman's words as Docker's.
fn common_name(kind: &str, action: String) -> String {
    let docker = match (kind, action.as_str()) {
        ("container" | "volume" | "network", "remove") => "destroy",
        ("container", "died") => "die",
        ("container", "exec_died") => "exec_die",
        ("image", "remove") => "delete",
        _ => return action.replace(char::is_whitespace, "_"),
    };
    docker.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(line: &str, event_type: &str, expected: &Value) {
        let event = Event::read(line.as_bytes()).unwrap();
        let told: Value = serde_json::from_str(&event.json()).unwrap();
        assert_eq!(told["event_type"], event_type);
        assert_eq!(&told["data"], expected, "{line}");
    }

    const ID: &str = "fbfd22e454911fc98b6672d083bfe2dc4d887c78dae3eb5d9fd4d893cf3dd5e9";

    #[test]
    fn docker_and_podman_are_told_alike() {
        check(
            &format!(
                r#"{{"status":"die","id":"{ID}","from":"web:1","Type":"container","Action":"die","Actor":{{"ID":"{ID}","Attributes":{{"execDuration":"7","exitCode":"137","image":"web:1","name":"web","team":"shop"}}}},"scope":"local","time":1795259421,"timeNano":1795259421129818516}}"#
            ),
            "container.die",
            &json!({"container_id": "fbfd22e45491", "id": ID, "name": "web", "image": "web:1", "action": "die", "exit_code": 137, "duration_s": 7, "labels": {"team": "shop"}}),
        );
        check(
            &format!(
                r#"{{"Type":"container","Action":"died","Actor":{{"ID":"{ID}","Attributes":{{"containerExitCode":"1","image":"web:1","name":"web","podId":""}}}},"time":1795259421,"timeNano":1795259421129818516}}"#
            ),
            "container.die",
            &json!({"container_id": "fbfd22e45491", "id": ID, "name": "web", "image": "web:1", "action": "die", "exit_code": 1}),
        );
        check(
            &format!(
                r#"{{"Type":"container","Action":"remove","Actor":{{"ID":"{ID}","Attributes":{{"containerExitCode":"0","name":"web"}}}},"timeNano":5}}"#
            ),
            "container.destroy",
            &json!({"container_id": "fbfd22e45491", "id": ID, "name": "web", "action": "destroy"}),
        );
        check(
            &format!(
                r#"{{"Type":"container","Action":"health_status: unhealthy","Actor":{{"ID":"{ID}","Attributes":{{"name":"web"}}}},"time":5}}"#
            ),
            "container.health_status",
            &json!({"container_id": "fbfd22e45491", "id": ID, "name": "web", "action": "health_status", "detail": "unhealthy"}),
        );
        check(
            &format!(
                r#"{{"Type":"network","Action":"connect","Actor":{{"ID":"net1","Attributes":{{"container":"{ID}","name":"bridge","type":"bridge"}}}},"timeNano":5}}"#
            ),
            "network.connect",
            &json!({"id": "net1", "name": "bridge", "container_id": "fbfd22e45491", "network_type": "bridge", "action": "connect"}),
        );
        check(
            r#"{"Type":"pod","Action":"create","Actor":{"ID":"p1","Attributes":{"name":"pod"}},"timeNano":5}"#,
            "pod.create",
            &json!({"id": "p1", "name": "pod", "action": "create"}),
        );
    }

    #[test]
    fn what_is_no_event_says_why() {
        let read = |line: &str| Event::read(line.as_bytes()).unwrap_err();
        assert_eq!(
            read(r#"{"message":"bogus is an invalid filter","response":500}"#),
            Unreadable::Refusal("bogus is an invalid filter".into())
        );
        assert!(matches!(read("nonsense"), Unreadable::Broken(_)));
        assert!(matches!(read("{}"), Unreadable::Broken(_)));
        assert!(matches!(read(r#"{"Type":"container","Action":"start"}"#), Unreadable::Broken(_)));
    }

    #[test]
    fn addresses_are_told_with_their_networks() {
        let details = Details {
            name: "web".into(),
            image: "web:1".into(),
            labels: vec![("a".into(), "b".into())],
            addresses: vec![("front".into(), "10.0.0.2".into()), ("front".into(), "fd00::2".into())],
            network_mode: "front".into(),
        };
        let event = Event::running(Running { id: "abc".into(), details }, Timestamp::from_millis(1));
        let told: Value = serde_json::from_str(&event.json()).unwrap();
        assert_eq!(told["event_type"], "container.running");
        assert_eq!(
            told["data"],
            json!({"container_id": "abc", "id": "abc", "name": "web", "image": "web:1", "action": "running",
                "labels": {"a": "b"}, "address": "10.0.0.2", "networks": {"front": "10.0.0.2"},
                "addresses": ["10.0.0.2", "fd00::2"], "network_mode": "front", "replayed": true})
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn nothing_panics_and_what_is_told_is_json(kind in "\\PC{0,8}", action in "\\PC{0,12}", id in "\\PC{0,20}", time: i64, name in "\\PC{0,8}") {
            let line = json!({"Type": kind, "Action": action, "Actor": {"ID": id, "Attributes": {"name": name, "x": 5}}, "timeNano": time}).to_string();
            if let Ok(event) = Event::read(line.as_bytes()) {
                prop_assert!(serde_json::from_str::<Value>(&event.json()).is_ok());
            }
            let _ = Event::read(&line.as_bytes()[..line.len() / 2]);
        }
    }
}
