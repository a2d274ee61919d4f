//! Functions that change labels, and the natural order of labels' values.

use super::{Evaluated, Evaluator, Series, fail, merge_same_labels};
use crate::model::METRIC_NAME;
use crate::promql::ast::{Call, Text};
use crate::promql::number::go_quote_bytes;
use crate::promql::plan::Frame;
use std::cmp::Ordering;

/// A label's name may be any text that is UTF-8 and not empty.
pub(super) fn label_name<'t>(text: &'t Text, place: &str) -> Evaluated<&'t str> {
    match &text.bytes {
        None if !text.value.is_empty() => Ok(&text.value),
        None => fail(format!("invalid {place}: ")),
        Some(bytes) => {
            let quoted = go_quote_bytes(bytes);
            fail(format!("invalid {place}: {}", &quoted[1..quoted.len() - 1]))
        }
    }
}

impl Evaluator<'_> {
    pub(super) fn label_replace(&mut self, frame: Frame, call: &Call) -> Evaluated<Vec<Series>> {
        let target = Self::text_argument(call, 1)?;
        let replacement = &Self::text_argument(call, 2)?.value;
        let source = &Self::text_argument(call, 3)?.value;
        let pattern = &Self::text_argument(call, 4)?.value;
        let Ok(regex) = regex::RegexBuilder::new(&format!("^(?s:{pattern})$")).size_limit(1 << 20).build() else {
            return fail(format!("invalid regular expression in label_replace(): {pattern}"));
        };
        let target = label_name(target, "destination label name in label_replace()")?;
        let mut matrix = self.matrix(frame, Self::argument(call, 0)?)?;
        for series in &mut matrix {
            if let Some(captures) = regex.captures(series.labels.get(source).unwrap_or("")) {
                let mut value = String::new();
                captures.expand(replacement, &mut value);
                series.labels = series.labels.with(target, &value);
                series.drop_name &= target != METRIC_NAME;
            }
        }
        merge_same_labels(matrix)
    }

    pub(super) fn label_join(&mut self, frame: Frame, call: &Call) -> Evaluated<Vec<Series>> {
        let separator = &Self::text_argument(call, 2)?.value;
        let mut sources = Vec::new();
        for at in 3..call.args.len() {
            sources.push(label_name(Self::text_argument(call, at)?, "source label name in label_join()")?);
        }
        let target = label_name(Self::text_argument(call, 1)?, "destination label name in label_join()")?;
        let mut matrix = self.matrix(frame, Self::argument(call, 0)?)?;
        for series in &mut matrix {
            let values: Vec<&str> = sources.iter().map(|source| series.labels.get(source).unwrap_or("")).collect();
            series.labels = series.labels.with(target, &values.join(separator));
            series.drop_name &= target != METRIC_NAME;
        }
        merge_same_labels(matrix)
    }
}

/// The order of texts with numbers in them as people expect it: `a2` before `a10`.
pub(super) fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() && !b.is_empty() {
        let (left, right) = (chunk(a), chunk(b));
        let order = match (left.parse::<i64>(), right.parse::<i64>()) {
            (Ok(left), Ok(right)) => left.cmp(&right),
            _ => left.cmp(right),
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (&a[left.len()..], &b[right.len()..]);
    }
    a.len().cmp(&b.len())
}

/// The digits, or the other characters, that a text begins with.
fn chunk(text: &str) -> &str {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_count_as_numbers() {
        let mut values = vec!["a10", "a2", "b1", "a", "4", "a2b", "12", ""];
        values.sort_by(|a, b| natural_order(a, b));
        assert_eq!(values, ["", "4", "12", "a", "a2", "a2b", "a10", "b1"]);
    }
}
