//! Receivers of Alertmanager that this build has not: their keys are known, so that a file with them reads, and `check`
//! says at each that nobody is told by it (config/notifiers.go).

use crate::config::Diagnostics;
use crate::config::reader::MapReader;
use crate::config::yaml::Node;

/// A kind of receiver and its keys, besides `send_resolved` and `http_config`.
type Kind = (&'static str, &'static [&'static str]);

/// The kinds. Values are not looked into.
const KINDS: [Kind; 14] = [
    ("discord_configs", &["webhook_url", "webhook_url_file", "content", "title", "message", "username", "avatar_url"]),
    (
        "incidentio_configs",
        &["url", "url_file", "alert_source_token", "alert_source_token_file", "max_alerts", "timeout", "metadata"],
    ),
    (
        "jira_configs",
        &[
            "api_url",
            "api_type",
            "project",
            "summary",
            "description",
            "labels",
            "priority",
            "issue_type",
            "reopen_transition",
            "resolve_transition",
            "wont_fix_resolution",
            "reopen_duration",
            "fields",
            "custom_fields",
        ],
    ),
    (
        "mattermost_configs",
        &[
            "webhook_url",
            "webhook_url_file",
            "channel",
            "username",
            "text",
            "icon_url",
            "icon_emoji",
            "attachments",
            "type",
            "props",
            "priority",
            "color",
            "title",
            "title_link",
            "pretext",
            "fields",
            "footer",
        ],
    ),
    ("msteams_configs", &["webhook_url", "webhook_url_file", "title", "summary", "text"]),
    ("msteamsv2_configs", &["webhook_url", "webhook_url_file", "title", "text"]),
    (
        "opsgenie_configs",
        &[
            "api_key",
            "api_key_file",
            "api_url",
            "message",
            "description",
            "source",
            "details",
            "entity",
            "responders",
            "actions",
            "tags",
            "note",
            "priority",
            "update_alerts",
            "teams",
        ],
    ),
    (
        "pushover_configs",
        &[
            "user_key",
            "user_key_file",
            "token",
            "token_file",
            "title",
            "message",
            "url",
            "url_title",
            "device",
            "sound",
            "priority",
            "retry",
            "expire",
            "ttl",
            "html",
            "monospace",
        ],
    ),
    (
        "rocketchat_configs",
        &[
            "api_url",
            "token_id",
            "token_id_file",
            "token",
            "token_file",
            "channel",
            "color",
            "title",
            "title_link",
            "text",
            "fields",
            "short_fields",
            "emoji",
            "icon_url",
            "image_url",
            "thumb_url",
            "link_names",
            "actions",
        ],
    ),
    (
        "sns_configs",
        &["api_url", "sigv4", "topic_arn", "phone_number", "target_arn", "subject", "message", "attributes"],
    ),
    (
        "telegram_configs",
        &[
            "api_url",
            "bot_token",
            "bot_token_file",
            "chat_id",
            "chat_id_file",
            "message_thread_id",
            "message",
            "disable_notifications",
            "parse_mode",
        ],
    ),
    (
        "victorops_configs",
        &[
            "api_key",
            "api_key_file",
            "api_url",
            "routing_key",
            "message_type",
            "state_message",
            "entity_display_name",
            "monitoring_tool",
            "custom_fields",
        ],
    ),
    ("webex_configs", &["api_url", "room_id", "message"]),
    (
        "wechat_configs",
        &[
            "api_secret",
            "api_secret_file",
            "corp_id",
            "api_url",
            "message",
            "to_user",
            "to_party",
            "to_tag",
            "agent_id",
            "message_type",
        ],
    ),
];

/// Keys of `global` that only concern those.
pub(super) const GLOBALS: [&str; 23] = [
    "incidentio_url",
    "jira_api_url",
    "mattermost_webhook_url",
    "mattermost_webhook_url_file",
    "msteams_api_url",
    "opsgenie_api_key",
    "opsgenie_api_key_file",
    "opsgenie_api_url",
    "rocketchat_api_url",
    "rocketchat_token",
    "rocketchat_token_file",
    "rocketchat_token_id",
    "rocketchat_token_id_file",
    "telegram_api_url",
    "telegram_bot_token",
    "telegram_bot_token_file",
    "victorops_api_key",
    "victorops_api_key_file",
    "victorops_api_url",
    "webex_api_url",
    "wechat_api_corp_id",
    "wechat_api_secret",
    "wechat_api_url",
];

/// Says of each kind that stands in a receiver that it is not served. `served` is how many integrations are.
pub(super) fn read(map: &mut MapReader<'_, '_>, receiver: &str, served: usize) {
    for (kind, keys) in KINDS {
        let Some((place, value)) = map.entry(kind) else { continue };
        let Some(configs) = value.as_seq().filter(|configs| !configs.is_empty()) else { continue };
        for config in configs {
            know(config, kind, keys, map.found());
        }
        let rest = if served == 0 { "; nobody is told of its alerts by them" } else { "" };
        map.found().warning(&place.span, format!("receiver {receiver:?}: {kind} are not served by this build{rest}"));
    }
}

fn know(node: &Node, kind: &'static str, keys: &[&'static str], found: &mut Diagnostics) {
    let Some(mut map) = MapReader::new(node, kind, found) else { return };
    map.boolean("send_resolved");
    map.know(&["http_config"]);
    map.know(keys);
    map.finish();
}
