//! `${VAR}` and `${VAR:-default}` in the values of sidewatch.yaml and of notify files.

use super::yaml::{Kind, Node};
use super::{Diagnostics, Spanned};
use std::collections::BTreeMap;

/// Replaces variables in every value of a tree (not in keys, not in comments): `${VAR}` by its value, `${VAR:-default}`
/// by the default where the variable is unset or empty, `$$` by one `$`. A `$` before anything else stays, so that
/// templates (`{{ $value }}`) and regular expressions (`^a$`, `${1}`) need no care.
///
/// A variable that is not set and has no default is an error at its place. What replaces is not looked through again.
pub fn expand(node: &mut Node, env: &BTreeMap<String, String>, found: &mut Diagnostics) {
    match &mut node.kind {
        Kind::Map(entries) => entries.iter_mut().for_each(|(_, value)| expand(value, env, found)),
        Kind::Seq(items) => items.iter_mut().for_each(|item| expand(item, env, found)),
        Kind::Scalar { text, .. } if text.contains('$') => {
            let written = Spanned::new(std::mem::take(text), node.span.clone());
            *text = expand_text(&written, env, found);
        }
        Kind::Scalar { .. } => {}
    }
}

fn expand_text(written: &Spanned<String>, env: &BTreeMap<String, String>, found: &mut Diagnostics) -> String {
    let text = written.value.as_str();
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    while let Some(len) = text[at..].find('$') {
        out.push_str(&text[at..at + len]);
        at += len;
        let rest = &text[at + 1..];
        if rest.starts_with('$') {
            out.push('$');
            at += 2;
            continue;
        }
        let starts_a_name = |c: char| c.is_ascii_alphabetic() || c == '_' || c == '}';
        let Some(inside) = rest.strip_prefix('{').filter(|inside| inside.starts_with(starts_a_name)) else {
            out.push('$');
            at += 1;
            continue;
        };
        let Some(end) = inside.find('}') else {
            found.error_hint(&found.locate_offset(written, at), "${ without }", "write $${ for the text ${");
            return out;
        };
        let (name, default) = match inside[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inside[..end], None),
        };
        let value = env.get(name).map(String::as_str);
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let message = format!("${{{}}} is not a variable", &inside[..end]);
            let hint = "write ${NAME} or ${NAME:-default}; $${ for the text ${";
            found.error_hint(&found.locate_offset(written, at), message, hint);
        } else {
            match value.filter(|value| default.is_none() || !value.is_empty()).or(default) {
                Some(value) => out.push_str(value),
                None => found.error_hint(
                    &found.locate_offset(written, at),
                    format!("the environment variable {name} is not set"),
                    format!("set it, or write ${{{name}:-default}}"),
                ),
            }
        }
        at += 1 + 1 + end + 1;
    }
    out.push_str(&text[at..]);
    out
}

/// The text that [`expand`] turns back into `text`.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(c);
        if c == '$' && matches!(chars.peek(), Some('$' | '{')) {
            out.push('$');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;
    use proptest::prelude::*;

    fn check(text: &str) -> (String, String) {
        let env = BTreeMap::from([("A".to_owned(), "x".to_owned()), ("E".to_owned(), String::new())]);
        let mut found = Diagnostics::new();
        let mut tree = yaml::parse("t", text, &mut found).unwrap();
        expand(&mut tree, &env, &mut found);
        (tree.get("k").and_then(Node::as_str).unwrap_or_default().to_owned(), found.to_string())
    }

    #[test]
    fn variables_are_replaced_and_everything_else_stays() {
        for (text, expected) in [
            ("k: ${A}", "x"),
            ("k: \"a-${A}-${A:-y}\"", "a-x-x"),
            ("k: ${B:-y}${E:-z}[${E}]", "yz[]"),
            ("k: ${B:-}", ""),
            ("k: $$ $${A} $x ^a$", "$ ${A} $x ^a$"),
            ("k: '${1} {{ $value }}'", "${1} {{ $value }}"),
        ] {
            assert_eq!(check(text), (expected.to_owned(), String::new()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_said_at_its_place() {
        assert_eq!(
            check("k: \"a\\t${A}${B} ${C}\"").1,
            "t:1:12: error: the environment variable B is not set
  1 | k: \"a\\t${A}${B} ${C}\"
    |            ^
  hint: set it, or write ${B:-default}
t:1:17: error: the environment variable C is not set
  1 | k: \"a\\t${A}${B} ${C}\"
    |                 ^
  hint: set it, or write ${C:-default}
"
        );
        assert!(check("k: \"${A\"").1.starts_with("t:1:5: error: ${ without }"));
        assert!(check("k: \"${A-b}\"").1.starts_with("t:1:5: error: ${A-b} is not a variable"));
        assert!(check("k: \"${}\"").1.starts_with("t:1:5: error: ${} is not a variable"));
    }

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn an_escaped_text_reads_back(text in "[${}a:-]{0,12}") {
            let mut found = Diagnostics::new();
            let written = Spanned::bare(escape(&text));
            prop_assert_eq!(expand_text(&written, &BTreeMap::new(), &mut found), text);
            prop_assert!(!found.has_errors());
        }
    }
}
