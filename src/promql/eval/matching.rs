//! Operators between two vectors: which element meets which.

use super::binary::{Operand, element, with_bool};
use super::{Collector, Evaluated, Evaluator, METADATA_LABELS, Series, Steps, fail};
use crate::model::Labels;
use crate::promql::ast::{Binary, Cardinality, Matching, Op};
use crate::promql::notes::Notes;
use crate::promql::plan::Frame;
use std::collections::BTreeMap;

/// Series of both sides by the labels that matter for the matching.
struct Signatures {
    left: Vec<usize>,
    right: Vec<usize>,
    labels: Vec<Labels>,
}

impl Signatures {
    fn new(matching: &Matching, left: &[Series], right: &[Series]) -> Self {
        let mut known: BTreeMap<Labels, usize> = BTreeMap::new();
        let mut labels = Vec::new();
        let mut signature = |series: &Series| {
            let key = match_labels(matching, &series.labels);
            *known.entry(key.clone()).or_insert_with(|| {
                labels.push(key);
                labels.len() - 1
            })
        };
        let (left, right) = (left.iter().map(&mut signature).collect(), right.iter().map(&mut signature).collect());
        Self { left, right, labels }
    }
}

/// The labels by which an element is matched.
fn match_labels(matching: &Matching, labels: &Labels) -> Labels {
    let listed = |name: &str| matching.labels.iter().any(|label| label == name);
    if matching.on {
        labels.filtered(listed)
    } else {
        labels.filtered(|name| name != crate::model::METRIC_NAME && !listed(name))
    }
}

/// The labels of a result.
fn result_labels(op: Op, matching: &Matching, many: &Labels, one: &Labels) -> Labels {
    let listed = |name: &str| matching.labels.iter().any(|label| label == name);
    let drop_name = !(op.is_comparison() || op.is_trim());
    let one_to_one = matching.cardinality == Cardinality::OneToOne;
    let mut labels = many.filtered(|name| {
        let dropped = drop_name && METADATA_LABELS.contains(&name);
        let matched = !one_to_one || listed(name) == matching.on;
        !dropped && matched
    });
    for name in &matching.include {
        labels = labels.with(name, one.get(name).unwrap_or(""));
    }
    labels
}

/// The element of the side of the one.
#[derive(Clone, Copy)]
struct One<'o> {
    series: usize,
    value: Operand<'o>,
}

/// A place that is not there yet, or a side that is filled in.
const NONE: usize = usize::MAX;

/// Two elements that meet; one of them may be filled in.
struct Pair<'o> {
    signature: usize,
    many: usize,
    one: usize,
    many_value: Operand<'o>,
    one_value: Operand<'o>,
}

/// The course of matching two vectors.
struct Join<'j> {
    binary: &'j Binary,
    matching: &'j Matching,
    many: &'j [Series],
    one: &'j [Series],
    signatures: Signatures,
    collector: Collector,
    /// Of each series with many: the series it met last, and the place of their result. They seldom change.
    last: Vec<(usize, usize)>,
    places: BTreeMap<(usize, usize), usize>,
    /// Of each signature: the step (from 1) at which something met.
    matched: Vec<usize>,
    /// Of each result: the step (from 1) and signature of the last pair.
    seen: Vec<(usize, usize)>,
}

impl Join<'_> {
    fn place(&mut self, pair: &Pair<'_>) -> usize {
        if let Some((one, place)) = self.last.get(pair.many)
            && *one == pair.one
            && *place != NONE
        {
            return *place;
        }
        let (op, matching) = (self.binary.op, self.matching);
        let filled = &self.signatures.labels[pair.signature];
        let many = self.many.get(pair.many);
        let collector = &mut self.collector;
        let place = *self.places.entry((pair.many, pair.one)).or_insert_with(|| {
            let many_labels = many.map_or(filled, |series| &series.labels);
            let one_labels = self.one.get(pair.one).map_or(filled, |series| &series.labels);
            let keeps_name = op.is_comparison() || op.is_trim();
            let drop_name = self.binary.return_bool || (keeps_name && many.is_some_and(|series| series.drop_name));
            collector.place(&result_labels(op, matching, many_labels, one_labels), drop_name)
        });
        if let Some(last) = self.last.get_mut(pair.many) {
            *last = (pair.one, place);
        }
        self.seen.resize(self.collector.series.len(), (0, NONE));
        place
    }

    fn meet(&mut self, step: usize, t_ms: i64, pair: &Pair<'_>, notes: &mut Notes) -> Evaluated<()> {
        let swapped = self.matching.cardinality == Cardinality::OneToMany;
        let (left, right) = if swapped { (pair.one_value, pair.many_value) } else { (pair.many_value, pair.one_value) };
        let Some((value, keep)) = element(self.binary.op, left, right, notes, self.binary.span) else {
            return Ok(());
        };
        let matched = &mut self.matched[pair.signature];
        if self.matching.cardinality == Cardinality::OneToOne && *matched == step + 1 {
            return fail("multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)");
        }
        *matched = step + 1;
        let place = self.place(pair);
        if self.seen[place] == (step + 1, pair.signature) {
            return fail("multiple matches for labels: grouping labels must ensure unique matches");
        }
        self.seen[place] = (step + 1, pair.signature);
        match with_bool(self.binary.return_bool, value, keep) {
            Some(value) => self.collector.push(place, t_ms, value),
            None => Ok(()),
        }
    }
}

impl Evaluator<'_> {
    pub(super) fn vectors(
        &mut self,
        frame: Frame,
        binary: &Binary,
        left: &[Series],
        right: &[Series],
    ) -> Evaluated<Vec<Series>> {
        let Some(matching) = &binary.matching else {
            return fail("two vectors need a matching");
        };
        // From here on the left side is the one with many elements.
        let swapped = matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        let signatures = Signatures::new(matching, many, one);
        let mut ones: Vec<Option<One<'_>>> = vec![None; signatures.labels.len()];
        let matched = vec![0; signatures.labels.len()];
        let (collector, places, last) = (Collector::default(), BTreeMap::new(), vec![(NONE, NONE); many.len()]);
        let mut join =
            Join { binary, matching, many, one, signatures, collector, last, places, matched, seen: Vec::new() };
        let (mut many_steps, mut one_steps) = (Steps::new(many), Steps::new(one));
        let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
        for (step, t_ms) in frame.times().enumerate() {
            let (one_vector, many_vector) = (one_steps.vector(t_ms), many_steps.vector(t_ms));
            self.account(many_vector.len())?;
            // Prometheus does not look for duplicates when the other side is empty and nothing is filled in.
            if !fills && (one_vector.is_empty() || many_vector.is_empty()) {
                continue;
            }
            ones.iter_mut().for_each(|one| *one = None);
            for (series, sample) in one_vector {
                let signature = join.signatures.right[series];
                if let Some(known) = ones[signature] {
                    let (new, known) = (&one[series].labels, &one[known.series].labels);
                    return fail(duplicate_message(matching, &join.signatures.labels[signature], new, known));
                }
                ones[signature] = Some(One { series, value: sample.into() });
            }
            for (many, sample) in many_vector {
                let signature = join.signatures.left[many];
                let (one, one_value) = match (ones[signature], matching.fill_right) {
                    (Some(one), _) => (one.series, one.value),
                    (None, Some(fill)) => (NONE, Operand::Float(fill.0)),
                    (None, None) => continue,
                };
                let pair = Pair { signature, many, one, many_value: sample.into(), one_value };
                join.meet(step, t_ms, &pair, &mut self.notes)?;
            }
            let Some(fill) = matching.fill_left else {
                continue;
            };
            for (signature, found) in ones.iter().enumerate() {
                let Some(found) = found.filter(|_| join.matched[signature] != step + 1) else {
                    continue;
                };
                let many_value = Operand::Float(fill.0);
                let pair = Pair { signature, many: NONE, one: found.series, many_value, one_value: found.value };
                join.meet(step, t_ms, &pair, &mut self.notes)?;
            }
        }
        Ok(join.collector.finish())
    }

    /// `and`, `or`, `unless`.
    pub(super) fn set_operation(
        &mut self,
        frame: Frame,
        binary: &Binary,
        left: Vec<Series>,
        right: Vec<Series>,
    ) -> Evaluated<Vec<Series>> {
        let Some(matching) = &binary.matching else {
            return fail("two vectors need a matching");
        };
        let signatures = Signatures::new(matching, &left, &right);
        let (kept, other, kept_signatures, other_signatures) = match binary.op {
            // `or` keeps the left side as it is and those of the right side that it does not have.
            Op::Or => (&right, &left, &signatures.right, &signatures.left),
            _ => (&left, &right, &signatures.left, &signatures.right),
        };
        let keep_present = binary.op == Op::And;
        // Of each signature: the steps at which the other side has something.
        let words = frame.steps().div_ceil(64);
        self.account(words.saturating_mul(signatures.labels.len()) / 2)?;
        let mut present: Vec<Vec<u64>> = vec![Vec::new(); signatures.labels.len()];
        let step_of =
            |t_ms: i64| usize::try_from(t_ms.saturating_sub(frame.start_ms) / frame.step_ms.max(1)).unwrap_or(0);
        for (series, signature) in other.iter().zip(other_signatures) {
            let steps = &mut present[*signature];
            steps.resize(words, 0);
            let histograms = series.histograms.iter().map(|point| point.t_ms);
            for t_ms in series.floats.iter().map(|point| point.t_ms).chain(histograms) {
                let step = step_of(t_ms);
                steps[step / 64] |= 1 << (step % 64);
            }
            self.work(series.floats.len())?;
        }
        let mut out: Vec<Series> = Vec::new();
        for (series, signature) in kept.iter().zip(kept_signatures) {
            let steps = &present[*signature];
            let keep = |t_ms: i64| {
                let step = step_of(t_ms);
                steps.get(step / 64).is_some_and(|word| word & (1 << (step % 64)) != 0) == keep_present
            };
            let mut series = series.clone();
            series.floats.retain(|point| keep(point.t_ms));
            series.histograms.retain(|point| keep(point.t_ms));
            self.work(series.floats.len())?;
            if !series.is_empty() {
                out.push(series);
            }
        }
        if binary.op != Op::Or {
            return Ok(out);
        }
        let mut all = left;
        all.extend(out);
        join_equal(all)
    }
}

/// Joins series of the same labels and fate, which both sides of `or` may have at different times.
fn join_equal(matrix: Vec<Series>) -> Evaluated<Vec<Series>> {
    let mut collector = Collector::default();
    for series in matrix {
        let place = collector.place(&series.labels, series.drop_name);
        let into = &mut collector.series[place];
        if into.is_empty() {
            *into = series;
            continue;
        }
        into.floats.extend(series.floats);
        into.histograms.extend(series.histograms);
        into.floats.sort_by_key(|point| point.t_ms);
        into.histograms.sort_by_key(|point| point.t_ms);
        if into.floats.windows(2).any(|pair| pair[0].t_ms == pair[1].t_ms)
            || into.histograms.windows(2).any(|pair| pair[0].t_ms == pair[1].t_ms)
        {
            return fail(super::SAME_LABELSET);
        }
    }
    Ok(collector.finish())
}

fn duplicate_message(matching: &Matching, signature: &Labels, new: &Labels, known: &Labels) -> String {
    let side = if matching.cardinality == Cardinality::OneToMany { "left" } else { "right" };
    // In a stable order, whichever came first.
    let (first, second) = if known <= new { (known, new) } else { (new, known) };
    format!(
        "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];\
         many-to-many matching not allowed: matching labels must be unique on one side",
        go_labels(signature),
        go_labels(first),
        go_labels(second)
    )
}

/// Labels as Go prints the set, the name among them.
fn go_labels(labels: &Labels) -> String {
    let texts: Vec<String> =
        labels.iter().map(|label| format!("{}={}", label.name, crate::promql::go_quote(&label.value))).collect();
    format!("{{{}}}", texts.join(", "))
}
