//! Operators between two vectors: which element meets which.

use super::binary::{Operand, element, with_bool};
use super::{Collector, Evaluated, Evaluator, METADATA_LABELS, Series, Steps, fail};
use crate::model::Labels;
use crate::promql::ast::{Binary, Cardinality, Matching, Op};
use crate::promql::plan::Frame;
use std::collections::{BTreeMap, BTreeSet};

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

/// The labels of results, by the series they are made of; `usize::MAX` stands for a filled side.
type Places = BTreeMap<(usize, usize), usize>;

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
        let (mut many_steps, mut one_steps) = (Steps::new(many), Steps::new(one));
        let (mut collector, mut places) = (Collector::default(), Places::new());
        let mut ones: Vec<Option<One<'_>>> = vec![None; signatures.labels.len()];
        let mut matched: Vec<Vec<usize>> = vec![Vec::new(); signatures.labels.len()];
        for t_ms in frame.times() {
            ones.iter_mut().for_each(|one| *one = None);
            matched.iter_mut().for_each(Vec::clear);
            let (one_vector, many_vector) = (one_steps.vector(t_ms), many_steps.vector(t_ms));
            self.work(one_vector.len() + many_vector.len())?;
            // Prometheus does not look for duplicates when the other side is empty and nothing is filled in.
            let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
            if !fills && (one_vector.is_empty() || many_vector.is_empty()) {
                continue;
            }
            for (series, sample) in one_vector {
                let signature = signatures.right[series];
                if let Some(known) = ones[signature] {
                    return fail(duplicate_message(
                        matching,
                        &signatures.labels[signature],
                        &one[series].labels,
                        &one[known.series].labels,
                    ));
                }
                ones[signature] = Some(One { series, value: sample.into() });
            }
            let mut pairs: Vec<(usize, usize, usize, Operand<'_>, Operand<'_>)> = Vec::new();
            for (series, sample) in many_vector {
                let signature = signatures.left[series];
                match (ones[signature], matching.fill_right) {
                    (Some(one), _) => pairs.push((signature, series, one.series, sample.into(), one.value)),
                    (None, Some(fill)) => {
                        pairs.push((signature, series, usize::MAX, sample.into(), Operand::Float(fill.0)));
                    }
                    (None, None) => {}
                }
            }
            for pair in pairs {
                self.pair(
                    binary,
                    matching,
                    (many, one),
                    &signatures,
                    pair,
                    t_ms,
                    &mut matched,
                    (&mut collector, &mut places),
                )?;
            }
            if let Some(fill) = matching.fill_left {
                for (signature, found) in ones.iter().enumerate() {
                    if let Some(found) = found
                        && matched[signature].is_empty()
                    {
                        let pair = (signature, usize::MAX, found.series, Operand::Float(fill.0), found.value);
                        self.pair(
                            binary,
                            matching,
                            (many, one),
                            &signatures,
                            pair,
                            t_ms,
                            &mut matched,
                            (&mut collector, &mut places),
                        )?;
                    }
                }
            }
        }
        Ok(collector.finish())
    }

    #[expect(clippy::too_many_arguments, reason = "one step of a loop, apart only to be called twice")]
    fn pair(
        &mut self,
        binary: &Binary,
        matching: &Matching,
        (many, one): (&[Series], &[Series]),
        signatures: &Signatures,
        (signature, many_at, one_at, many_value, one_value): (usize, usize, usize, Operand<'_>, Operand<'_>),
        t_ms: i64,
        matched: &mut [Vec<usize>],
        (collector, places): (&mut Collector, &mut Places),
    ) -> Evaluated<()> {
        let swapped = matching.cardinality == Cardinality::OneToMany;
        let (left, right) = if swapped { (one_value, many_value) } else { (many_value, one_value) };
        let Some((value, keep)) = element(binary.op, left, right, &mut self.notes, binary.span) else {
            return Ok(());
        };
        let filled = &signatures.labels[signature];
        let place = *places.entry((many_at, one_at)).or_insert_with(|| {
            let many_labels = many.get(many_at).map_or(filled, |series| &series.labels);
            let one_labels = one.get(one_at).map_or(filled, |series| &series.labels);
            let drop_name = binary.return_bool
                || ((binary.op.is_comparison() || binary.op.is_trim())
                    && many.get(many_at).is_some_and(|series| series.drop_name));
            collector.place(&result_labels(binary.op, matching, many_labels, one_labels), drop_name)
        });
        let seen = &mut matched[signature];
        if matching.cardinality == Cardinality::OneToOne && !seen.is_empty() {
            return fail("multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)");
        }
        if seen.contains(&place) {
            return fail("multiple matches for labels: grouping labels must ensure unique matches");
        }
        seen.push(place);
        match with_bool(binary.return_bool, value, keep) {
            Some(value) => collector.push(place, t_ms, value),
            None => Ok(()),
        }
    }

    /// `and`, `or`, `unless`.
    pub(super) fn set_operation(
        &mut self,
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
        let mut present: BTreeMap<usize, BTreeSet<i64>> = BTreeMap::new();
        for (series, signature) in other.iter().zip(other_signatures) {
            let times = present.entry(*signature).or_default();
            times.extend(series.floats.iter().map(|point| point.t_ms));
            times.extend(series.histograms.iter().map(|point| point.t_ms));
            self.work(series.floats.len())?;
        }
        let nothing = BTreeSet::new();
        let mut out: Vec<Series> = Vec::new();
        for (series, signature) in kept.iter().zip(kept_signatures) {
            let times = present.get(signature).unwrap_or(&nothing);
            let mut series = series.clone();
            series.floats.retain(|point| times.contains(&point.t_ms) == keep_present);
            series.histograms.retain(|point| times.contains(&point.t_ms) == keep_present);
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
