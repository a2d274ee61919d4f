//! Alertmanager's templates: the data they see, the definitions they may call, and what happens when one fails.

use super::notification::Notification;
use super::receiver::parse_url;
use crate::model::{Alert, AlertStatus};
use crate::template::{Dialect, Functions, GoTime, Template, Templates, Value};
use reqwest::Url;

/// The definitions that Alertmanager's own files call (template/default.tmpl), with its defaults' outcomes.
pub(super) const DEFAULT_DEFINITIONS: &str = r#"
{{ define "__alertmanager" }}sidewatch{{ end }}
{{ define "__alertmanagerURL" }}{{ .ExternalURL }}{{ end }}
{{ define "__subject" }}[{{ .Status | toUpper }}{{ if eq .Status "firing" }}:{{ .Alerts.Firing | len }}{{ end }}] {{ .GroupLabels.SortedPairs.Values | join " " }} {{ if gt (len .CommonLabels) (len .GroupLabels) }}({{ with .CommonLabels.Remove .GroupLabels.Names }}{{ .Values | join " " }}{{ end }}){{ end }}{{ end }}
{{ define "__description" }}{{ end }}
{{ define "__text_alert_list" }}{{ range . }}Labels:
{{ range .Labels.SortedPairs }} - {{ .Name }} = {{ .Value }}
{{ end }}Annotations:
{{ range .Annotations.SortedPairs }} - {{ .Name }} = {{ .Value }}
{{ end }}Source: {{ .GeneratorURL }}
{{ end }}{{ end }}
{{ define "slack.default.title" }}{{ template "__subject" . }}{{ end }}
{{ define "slack.default.username" }}{{ template "__alertmanager" . }}{{ end }}
{{ define "slack.default.fallback" }}{{ template "slack.default.title" . }} | {{ template "slack.default.titlelink" . }}{{ end }}
{{ define "slack.default.callbackid" }}{{ end }}
{{ define "slack.default.pretext" }}{{ end }}
{{ define "slack.default.titlelink" }}{{ template "__alertmanagerURL" . }}{{ end }}
{{ define "slack.default.iconemoji" }}{{ end }}
{{ define "slack.default.iconurl" }}{{ end }}
{{ define "slack.default.text" }}{{ end }}
{{ define "slack.default.footer" }}{{ end }}
{{ define "slack.default.color" }}{{ if eq .Status "firing" }}danger{{ else }}good{{ end }}{{ end }}
{{ define "pagerduty.default.description" }}{{ template "__subject" . }}{{ end }}
{{ define "pagerduty.default.client" }}{{ template "__alertmanager" . }}{{ end }}
{{ define "pagerduty.default.clientURL" }}{{ template "__alertmanagerURL" . }}{{ end }}
{{ define "pagerduty.default.instances" }}{{ template "__text_alert_list" . }}{{ end }}
{{ define "email.default.subject" }}{{ template "__subject" . }}{{ end }}
{{ define "email.default.html" }}<h3>{{ template "__subject" . }}</h3>{{ range .Alerts }}<p><b>{{ .Status }}</b>{{ range .Labels.SortedPairs }}<br>{{ .Name }} = {{ .Value }}{{ end }}{{ range .Annotations.SortedPairs }}<br>{{ .Name }}: {{ .Value }}{{ end }}</p>{{ end }}{{ end }}
"#;

/// What templates see: Alertmanager's `template.Data`, with the alerts' values, what stands out and the last
/// event's fields added.
pub(super) fn data(notification: &Notification, external_url: &str) -> Value {
    let status = |status: AlertStatus| Value::text(if status == AlertStatus::Firing { "firing" } else { "resolved" });
    let time = |micros: Option<i64>| {
        // Go's zero time for what has not ended: the year 1.
        let micros = micros.unwrap_or(-62_135_596_800_000_000);
        GoTime::from_micros(micros).map_or(Value::Nil, Value::Time)
    };
    let alert = |alert: &Alert| {
        Value::structure(
            "template.Alert",
            vec![
                ("Status", status(alert.status())),
                ("Labels", Value::labels(&alert.labels)),
                ("Annotations", Value::labels(&alert.annotations)),
                ("StartsAt", time(Some(alert.fired_at.micros()))),
                ("EndsAt", time(alert.resolved_at.map(|at| at.micros()))),
                ("GeneratorURL", Value::text(&alert.generator_url)),
                ("Fingerprint", Value::text(format!("{:016x}", alert.fingerprint()))),
                ("Value", Value::Float(alert.value)),
                ("ValueAtFiring", Value::Float(alert.value_at_firing)),
                ("ValueAtResolve", alert.value_at_resolve.map_or(Value::Nil, Value::Float)),
                ("StandsOut", Value::list(alert.context.stands_out.iter().map(Value::text).collect())),
                ("LastEvent", Value::map(alert.context.event.iter().map(|(path, text)| (path, Value::text(text))))),
            ],
        )
    };
    Value::structure(
        "template.Data",
        vec![
            ("Receiver", Value::text(&*notification.receiver)),
            ("Status", status(notification.status)),
            ("Alerts", Value::list(notification.alerts.iter().map(|it| alert(it)).collect())),
            ("GroupLabels", Value::labels(&notification.group_labels)),
            ("CommonLabels", Value::labels(&notification.common_labels)),
            ("CommonAnnotations", Value::labels(&notification.common_annotations)),
            ("ExternalURL", Value::text(external_url)),
            ("GroupKey", Value::text(&*notification.group_key)),
        ],
    )
}

/// Renders the texts of one message.
pub(super) struct Renderer<'a> {
    data: Value,
    functions: Functions<'a>,
}

impl<'a> Renderer<'a> {
    pub(super) fn new(notification: &Notification, external_url: &'a str, shared: &'a Templates) -> Self {
        let mut functions = Functions::new(Dialect::Alertmanager, notification.at, external_url);
        functions.shared = Some(shared);
        Self { data: data(notification, external_url), functions }
    }

    /// Renders one text. A failure becomes a text that says so: a message with a bad field is better than none.
    pub(super) fn text(&self, template: &Template) -> String {
        template.render(&self.data, &self.functions).unwrap_or_else(failure)
    }

    /// As [`Self::text`]. Where nothing is configured: the template of this name if the user's template files define it
    /// anew, as Alertmanager's defaults call it; what `default` says otherwise.
    pub(super) fn text_or(&self, template: Option<&Template>, name: &str, default: impl FnOnce() -> String) -> String {
        match template {
            Some(template) => self.text(template),
            None => self.redefined(name).map_or_else(default, |template| self.text(&template)),
        }
    }

    /// The template of this name, if the user's template files define it.
    pub(super) fn redefined(&self, name: &str) -> Option<Template> {
        self.functions.shared.filter(|shared| shared.is_redefined(name))?;
        Template::parse_as(&format!("{{{{ template \"{name}\" . }}}}"), Dialect::Alertmanager).ok()
    }

    /// An address that may hold a template.
    pub(super) fn address(&self, text: &str) -> Result<Url, String> {
        if !text.contains("{{") {
            return parse_url(text);
        }
        let template = Template::parse_as(text, Dialect::Alertmanager)
            .map_err(|error| format!("the address is no template: {}", error.message))?;
        let rendered = template.render(&self.data, &self.functions);
        parse_url(&rendered.map_err(|error| format!("the address cannot be made: {error}"))?)
    }

    /// Renders HTML: what actions print is escaped.
    pub(super) fn html(&mut self, template: &Template) -> String {
        self.functions.escape_html = true;
        let text = template.render(&self.data, &self.functions).unwrap_or_else(failure);
        self.functions.escape_html = false;
        text
    }
}

fn failure(message: String) -> String {
    format!("<error expanding template: {message}>")
}
