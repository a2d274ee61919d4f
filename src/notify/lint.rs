//! Routes that nothing reaches, receivers that nobody is sent to, inhibition by alerts that no rule has.

use super::matcher::{self, MatchOp, Matcher};
use super::routing::Routing;
use crate::config::schema::NotifyConfig;
use crate::config::yaml::{self, Node};
use crate::config::{Diagnostics, Span};
use crate::model::Labels;
use std::collections::{BTreeMap, BTreeSet};

/// The labels that a rule gives its alerts, `alertname` among them; `None` is a value that only the alert knows.
pub type RuleLabels = BTreeMap<String, Option<String>>;

/// Looks at the routing as a whole; `file` is Alertmanager's (name and text). All findings are warnings.
pub fn lint(
    routing: &Routing,
    config: &NotifyConfig,
    file: Option<(&str, &str)>,
    rules: &[RuleLabels],
    found: &mut Diagnostics,
) {
    let tree = file.and_then(|(name, text)| yaml::parse(name, text, &mut Diagnostics::new()));
    receivers(routing, config, tree.as_ref(), found);
    let root = tree.as_ref().and_then(|tree| tree.get("route"));
    if let Some(node) = root {
        unreachable(routing, routing.root, node, &mut Vec::new(), found);
    }
    let nodes = tree.as_ref().and_then(|tree| tree.get("inhibit_rules")).and_then(Node::as_seq).unwrap_or(&[]);
    for (inhibit, node) in routing.inhibit_rules.iter().zip(nodes) {
        if !rules.iter().any(|labels| may_match(&inhibit.source, labels)) {
            found.warning_hint(
                &node.span,
                format!(
                    "no rule has alerts that match the source {}: this inhibits nothing",
                    matcher::print(&inhibit.source)
                ),
                "compare alertname and labels with those of the rules; alerts that others post are not known here",
            );
        }
    }
}

fn receivers(routing: &Routing, config: &NotifyConfig, tree: Option<&Node>, found: &mut Diagnostics) {
    let used: BTreeSet<&str> = routing
        .routes()
        .iter()
        .filter_map(|route| routing.receivers().get(route.receiver))
        .map(|receiver| &*receiver.name)
        .collect();
    let mut names: Vec<(&str, &Span)> =
        config.receivers.iter().map(|named| (named.name.value.as_str(), &named.name.span)).collect();
    let listed = tree.and_then(|tree| tree.get("receivers")).and_then(Node::as_seq).unwrap_or(&[]);
    names.extend(
        listed.iter().filter_map(|node| node.get("name")).filter_map(|name| Some((name.as_str()?, &name.span))),
    );
    for (name, span) in names.into_iter().filter(|(name, _)| !used.contains(name)) {
        found.warning_hint(
            span,
            format!("nothing is sent to the receiver {name:?}"),
            format!("name it in a route or at an alert (notify: {name}), or remove it"),
        );
    }
}

fn unreachable(routing: &Routing, at: usize, node: &Node, above: &mut Vec<usize>, found: &mut Diagnostics) {
    let children = &routing.routes()[at].children;
    let nodes = node.get("routes").and_then(Node::as_seq).unwrap_or(&[]);
    if nodes.len() != children.len() {
        return;
    }
    above.push(at);
    for (place, (child, child_node)) in children.iter().zip(nodes).enumerate() {
        let route = &routing.routes()[*child];
        let earlier = children[..place].iter().zip(nodes).find(|(before, _)| {
            let before = &routing.routes()[**before];
            !before.continues && before.matchers.iter().all(|matcher| implied(matcher, &route.matchers))
        });
        let kept_out = above.iter().flat_map(|at| &routing.routes()[*at].matchers).find(|parent| {
            route.matchers.iter().any(|own| own.op == MatchOp::Equal && own.name == parent.name && !meets(own, parent))
        });
        if let Some((_, before)) = earlier {
            found.warning_hint(
                &child_node.span,
                format!("no alert reaches this route: the one in line {} takes all that it matches", before.span.line),
                "put it before that one, or give that one `continue: true`",
            );
        } else if let Some(parent) = kept_out {
            found.warning_hint(
                &child_node.span,
                format!(
                    "no alert reaches this route: the route above takes only {}",
                    matcher::print(std::slice::from_ref(parent))
                ),
                "move it out of that route, or correct its matchers",
            );
        }
        unreachable(routing, *child, child_node, above, found);
    }
    above.pop();
}

/// Whether a value that `equal` fixes meets the matcher.
fn meets(equal: &Matcher, matcher: &Matcher) -> bool {
    matcher.matches(&Labels::from_pairs([(equal.name.as_str(), equal.value.as_str())]))
}

/// Whether everything that meets `all` meets `matcher` too, as far as it can be told.
fn implied(matcher: &Matcher, all: &[Matcher]) -> bool {
    all.iter().filter(|own| own.name == matcher.name).any(|own| {
        (own.op == matcher.op && own.value == matcher.value) || (own.op == MatchOp::Equal && meets(own, matcher))
    })
}

/// Whether alerts of the rule may match; labels that the rule does not set may come from the series, but for `severity`.
fn may_match(matchers: &[Matcher], labels: &RuleLabels) -> bool {
    matchers.iter().all(|matcher| match labels.get(&matcher.name) {
        Some(Some(value)) => matcher.matches(&Labels::from_pairs([(matcher.name.as_str(), value.as_str())])),
        Some(None) => true,
        None => matcher.name != "severity" || matcher.matches(&Labels::default()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Vec<String> {
        let mut found = Diagnostics::new();
        let config = NotifyConfig::default();
        let routing = Routing::compile(&config, Some(("am.yaml", text)), &[], &mut found);
        let routing = routing.unwrap_or_else(|| panic!("{found}"));
        let mut found = Diagnostics::new();
        let rule = |name: &str, severity: Option<&str>| {
            let severity = ("severity".to_owned(), severity.map(str::to_owned));
            RuleLabels::from([("alertname".to_owned(), Some(name.to_owned())), severity])
        };
        let rules = [rule("Down", Some("page"))];
        lint(&routing, &config, Some(("am.yaml", text)), &rules, &mut found);
        found
            .iter()
            .map(|finding| format!("{}:{} {}", finding.span.line, finding.span.column, finding.message))
            .collect()
    }

    #[test]
    fn routes_receivers_and_inhibition_are_looked_at_as_a_whole() {
        for (text, says) in [
            ("route: {receiver: a}\nreceivers: [{name: a}, {name: b}]\n", "2:31 nothing is sent to the receiver \"b\""),
            ("route: {receiver: a, routes: [{receiver: b}]}\nreceivers: [{name: a}, {name: b}]\n", ""),
            (
                "route:\n  receiver: a\n  routes:\n  - matchers: [x=~\"1|2\"]\n  - matchers: [x=1, y=2]\nreceivers: [{name: a}]\n",
                "5:5 no alert reaches this route: the one in line 4",
            ),
            (
                "route:\n  receiver: a\n  routes:\n  - matchers: [x=~\"1|2\"]\n    continue: true\n  - matchers: [x=1]\nreceivers: [{name: a}]\n",
                "",
            ),
            (
                "route:\n  receiver: a\n  routes:\n  - matchers: [x=1]\n  - matchers: [x=2]\nreceivers: [{name: a}]\n",
                "",
            ),
            (
                "route:\n  receiver: a\n  routes:\n  - matchers: [x=1]\n    routes:\n    - matchers: [x=2]\nreceivers: [{name: a}]\n",
                "6:7 no alert reaches this route: the route above takes only",
            ),
            (
                "route: {receiver: a}\nreceivers: [{name: a}]\ninhibit_rules:\n- source_matchers: [alertname=Gone]\n  target_matchers: [severity=info]\n",
                "4:3 no rule has alerts that match the source",
            ),
            (
                "route: {receiver: a}\nreceivers: [{name: a}]\ninhibit_rules:\n- source_matchers: [severity=page, region=x]\n  target_matchers: [severity=info]\n",
                "",
            ),
        ] {
            let found = check(text);
            let right = if says.is_empty() { found.is_empty() } else { found.len() == 1 && found[0].starts_with(says) };
            assert!(right, "{text}{found:#?}");
        }
    }
}
