//! `rules` and `alerts`.

use super::params::{Params, invalid};
use super::{PromError, success};
use crate::api::Shared;
use crate::rules::describe::{GroupView, RuleView};
use crate::series::Matcher;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

/// What is asked for.
#[derive(Debug, Default)]
struct Filter {
    alerting: Option<bool>,
    names: Vec<String>,
    groups: Vec<String>,
    files: Vec<String>,
    matchers: Vec<Vec<Matcher>>,
    excludes_alerts: bool,
    group_limit: Option<usize>,
    next_token: Option<String>,
}

impl Filter {
    fn read(params: &Params) -> Result<Self, PromError> {
        let all = |name: &str| params.all(name).map(str::to_owned).collect::<Vec<_>>();
        let alerting = match params.get("type") {
            None => None,
            Some("alert") => Some(true),
            Some("record") => Some(false),
            Some(other) => return Err(invalid("type", &format!("not supported value {other:?}"))),
        };
        let excludes_alerts = match params.get("exclude_alerts") {
            None | Some("false" | "0") => false,
            Some("true" | "1") => true,
            Some(other) => return Err(invalid("exclude_alerts", &format!("{other:?} is neither true nor false"))),
        };
        let (group_limit, next_token) =
            (params.limit("group_limit")?, params.get("group_next_token").map(str::to_owned));
        if next_token.is_some() && group_limit.is_none() {
            return Err(invalid("group_limit", "group_limit needs to be set in order to paginate over the groups"));
        }
        let matchers = params.all("match[]").map(|text| {
            let selector = crate::promql::parse_metric_selector(text);
            selector.map(|selector| selector.matchers).map_err(|error| invalid("match[]", &error.to_string()))
        });
        Ok(Self {
            alerting,
            names: all("rule_name[]"),
            groups: all("rule_group[]"),
            files: all("file[]"),
            matchers: matchers.collect::<Result<_, _>>()?,
            excludes_alerts,
            group_limit,
            next_token,
        })
    }

    fn takes(&self, rule: &RuleView) -> bool {
        let (is_alert, name, labels) = match rule {
            RuleView::Alerting(rule) => (true, &rule.name, &rule.labels),
            RuleView::Recording(rule) => (false, &rule.name, &rule.labels),
        };
        let value = |wanted: &str| labels.iter().find(|(name, _)| &**name == wanted).map_or("", |(_, value)| value);
        self.alerting.is_none_or(|wanted| wanted == is_alert)
            && (self.names.is_empty() || self.names.iter().any(|wanted| **wanted == **name))
            && (self.matchers.is_empty()
                || self.matchers.iter().any(|set| set.iter().all(|matcher| matcher.matches(value(&matcher.name)))))
    }

    /// The groups of one page, and the token of the next one.
    fn apply(&self, groups: Vec<GroupView>) -> Result<(Vec<GroupView>, Option<String>), PromError> {
        let listed = |list: &[String], value: &str| list.is_empty() || list.iter().any(|wanted| wanted == value);
        let narrowed = self.alerting.is_some() || !self.names.is_empty() || !self.matchers.is_empty();
        let mut kept: Vec<GroupView> = groups
            .into_iter()
            .filter(|group| listed(&self.groups, &group.name) && listed(&self.files, &group.file))
            .map(|mut group| {
                group.rules.retain(|rule| self.takes(rule));
                if self.excludes_alerts {
                    for rule in &mut group.rules {
                        if let RuleView::Alerting(rule) = rule {
                            rule.alerts.clear();
                        }
                    }
                }
                group
            })
            .filter(|group| !narrowed || !group.rules.is_empty())
            .collect();
        if let Some(token) = &self.next_token {
            let Some(start) = kept.iter().position(|group| page_token(group) == *token) else {
                return Err(invalid("group_next_token", "invalid group_next_token: no group begins there any more"));
            };
            kept.drain(..start);
        }
        let next = self.group_limit.and_then(|limit| kept.get(limit)).map(page_token);
        kept.truncate(self.group_limit.unwrap_or(usize::MAX));
        Ok((kept, next))
    }
}

/// Names a group without showing its file's path in an address.
fn page_token(group: &GroupView) -> String {
    format!("{:016x}", crate::model::Labels::from_pairs([("file", &*group.file), ("name", &*group.name)]).fingerprint())
}

/// `/api/v1/rules`.
///
/// # Errors
/// In Prometheus's envelope.
pub async fn rules(State(backend): State<Shared>, params: Params) -> Result<Response, PromError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Page {
        groups: Vec<GroupView>,
        #[serde(skip_serializing_if = "Option::is_none")]
        group_next_token: Option<String>,
    }
    let filter = Filter::read(&params)?;
    let described = backend.core.call(|core, _| core.engine.rules().describe()).await?;
    let (groups, group_next_token) = filter.apply(described.groups)?;
    success(&Page { groups, group_next_token })
}

/// `/api/v1/alerts`.
///
/// # Errors
/// In Prometheus's envelope.
pub async fn alerts(State(backend): State<Shared>) -> Result<Response, PromError> {
    let alerts = backend.core.call(|core, _| core.engine.rules().describe_alerts()).await?;
    success(&alerts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::AlertPhase;
    use crate::rules::describe::{AlertingView, RecordingView};

    fn groups() -> Vec<GroupView> {
        let alert = |name: &str, severity: &str| {
            RuleView::Alerting(AlertingView {
                state: AlertPhase::Inactive,
                name: name.into(),
                query: "up == 0".into(),
                duration: 0.0,
                keep_firing_for: 0.0,
                labels: vec![("severity".into(), severity.into())],
                annotations: Vec::new(),
                alerts: Vec::new(),
                health: "ok",
                last_error: None,
                evaluation_time: 0.0,
                last_evaluation: String::new(),
            })
        };
        let record = RuleView::Recording(RecordingView {
            name: "r:sum".into(),
            query: "sum(up)".into(),
            labels: Vec::new(),
            health: "ok",
            last_error: None,
            evaluation_time: 0.0,
            last_evaluation: String::new(),
        });
        let group = |name: &str, file: &str, rules| GroupView {
            name: name.into(),
            file: file.into(),
            rules,
            interval: 1.0,
            limit: 0,
            evaluation_time: 0.0,
            last_evaluation: String::new(),
        };
        vec![
            group("g1", "a.yaml", vec![alert("A", "page"), record]),
            group("g2", "a.yaml", vec![alert("B", "warning")]),
            group("g3", "b.yaml", vec![]),
        ]
    }

    fn check(query: &str, expected: &str) {
        let filter = Filter::read(&Params::parse(query)).unwrap();
        let (kept, next) = filter.apply(groups()).unwrap();
        let names = kept.iter().map(|group| {
            let rules: Vec<&str> = group
                .rules
                .iter()
                .map(|rule| match rule {
                    RuleView::Alerting(rule) => &*rule.name,
                    RuleView::Recording(rule) => &*rule.name,
                })
                .collect();
            format!("{}[{}]", group.name, rules.join(","))
        });
        let more = if next.is_some() { " ..." } else { "" };
        assert_eq!(names.collect::<Vec<_>>().join(" ") + more, expected, "{query}");
    }

    #[test]
    fn filters_narrow_what_is_shown() {
        check("", "g1[A,r:sum] g2[B] g3[]");
        check("type=alert", "g1[A] g2[B]");
        check("type=record", "g1[r:sum]");
        check("rule_name[]=B&rule_name[]=r:sum", "g1[r:sum] g2[B]");
        check("rule_group[]=g3", "g3[]");
        check("file[]=b.yaml", "g3[]");
        check("match[]={severity=~\"p.*\"}", "g1[A]");
        check("group_limit=2", "g1[A,r:sum] g2[B] ...");
        for wrong in ["type=x", "exclude_alerts=maybe", "group_next_token=abc", "match[]={"] {
            assert!(Filter::read(&Params::parse(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pages_follow_each_other() {
        let first = Filter::read(&Params::parse("group_limit=2")).unwrap().apply(groups()).unwrap();
        let query = format!("group_limit=2&group_next_token={}", first.1.unwrap());
        let second = Filter::read(&Params::parse(&query)).unwrap().apply(groups()).unwrap();
        assert_eq!((&*second.0[0].name, second.0.len(), second.1), ("g3", 1, None));
        let gone = Filter::read(&Params::parse("group_limit=2&group_next_token=abc")).unwrap();
        assert!(gone.apply(groups()).is_err());
    }
}
