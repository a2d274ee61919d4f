//! The syntax tree of PromQL.

use super::functions::Function;
pub use super::token::Op;
use crate::series::Matcher;

/// A place in the query, in bytes. Places do not take part in comparisons of trees.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One after the last byte.
    pub end: usize,
}

impl Span {
    pub(crate) const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    pub(crate) fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

impl PartialEq for Span {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What an expression evaluates to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of PromQL")]
pub enum ValueType {
    Scalar,
    String,
    Vector,
    Matrix,
}

impl ValueType {
    /// As the documentation calls it.
    pub fn documented(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
        }
    }
}

/// An aggregation operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of PromQL")]
pub enum Aggregator {
    Avg,
    BottomK,
    Count,
    CountValues,
    Group,
    LimitK,
    LimitRatio,
    Max,
    Min,
    Quantile,
    Stddev,
    Stdvar,
    Sum,
    TopK,
}

impl Aggregator {
    const ALL: [Self; 14] = [
        Self::Avg,
        Self::BottomK,
        Self::Count,
        Self::CountValues,
        Self::Group,
        Self::LimitK,
        Self::LimitRatio,
        Self::Max,
        Self::Min,
        Self::Quantile,
        Self::Stddev,
        Self::Stdvar,
        Self::Sum,
        Self::TopK,
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avg => "avg",
            Self::BottomK => "bottomk",
            Self::Count => "count",
            Self::CountValues => "count_values",
            Self::Group => "group",
            Self::LimitK => "limitk",
            Self::LimitRatio => "limit_ratio",
            Self::Max => "max",
            Self::Min => "min",
            Self::Quantile => "quantile",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Sum => "sum",
            Self::TopK => "topk",
        }
    }

    pub(crate) fn from_name(lower: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|aggregator| aggregator.name() == lower)
    }

    pub(crate) fn has_parameter(self) -> bool {
        matches!(
            self,
            Self::TopK | Self::BottomK | Self::CountValues | Self::Quantile | Self::LimitK | Self::LimitRatio
        )
    }

    pub(crate) fn is_experimental(self) -> bool {
        matches!(self, Self::LimitK | Self::LimitRatio)
    }
}

/// A part of a duration expression; numbers are seconds.
#[derive(Clone, Debug, PartialEq)]
pub enum DurationExpr {
    /// A number of seconds.
    Seconds(Number),
    /// A duration literal, kept in milliseconds.
    Literal(i64),
    /// `step()`: the step of the query.
    Step,
    /// `range()`: from the start to the end of the query.
    Range,
    /// `+x` or `-x`
    Unary(Op, Box<DurationExpr>),
    /// `a + b` and the other arithmetic operators
    Binary(Op, Box<DurationExpr>, Box<DurationExpr>),
    /// `min_of(a, b)`
    MinOf(Box<DurationExpr>, Box<DurationExpr>),
    /// `max_of(a, b)`
    MaxOf(Box<DurationExpr>, Box<DurationExpr>),
    /// `(x)`
    Paren(Box<DurationExpr>),
}

/// A range, offset or step.
#[derive(Clone, Debug, PartialEq)]
pub enum Duration {
    /// Milliseconds.
    Fixed(i64),
    /// Known only when the query's times are known.
    Computed(DurationExpr),
}

impl Duration {
    pub(crate) fn fixed_ms(&self) -> i64 {
        match self {
            Self::Fixed(ms) => *ms,
            Self::Computed(_) => 0,
        }
    }
}

/// The `@` modifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Milliseconds since the epoch.
    Time(i64),
    /// The first moment of the query.
    Start,
    /// The last moment of the query.
    End,
}

/// `anchored` and `smoothed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Extension {
    /// Neither.
    #[default]
    None,
    /// The last sample before the range counts as one at its start.
    Anchored,
    /// Values at the ends are interpolated between the samples around them.
    Smoothed,
}

impl Extension {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Anchored => "anchored",
            Self::Smoothed => "smoothed",
        }
    }
}

/// The modifiers of selectors and subqueries.
#[derive(Clone, Debug, PartialEq)]
pub struct Modifiers {
    /// `offset`
    pub offset: Option<Duration>,
    /// `@`
    pub at: Option<At>,
    /// `anchored` or `smoothed`
    pub extension: Extension,
}

impl Modifiers {
    pub(crate) const NONE: Self = Self { offset: None, at: None, extension: Extension::None };

    pub(crate) fn offset_ms(&self) -> i64 {
        self.offset.as_ref().map_or(0, Duration::fixed_ms)
    }
}

/// A vector selector, the heart of a range selector too. The order of the matchers does not matter in comparisons.
#[derive(Clone, Debug)]
pub struct Selector {
    /// The name before the braces, empty when there is none.
    pub name: String,
    /// All matchers; the name is among them.
    pub matchers: Vec<Matcher>,
    /// Offset, `@`, `anchored`, `smoothed`.
    pub modifiers: Modifiers,
    /// Where it stands.
    pub span: Span,
}

impl Selector {
    /// The one metric name it reads, if it names one.
    pub fn metric_name(&self) -> Option<&str> {
        self.matchers
            .iter()
            .find(|matcher| matcher.name == crate::model::METRIC_NAME && matcher.op == crate::series::MatchOp::Equal)
            .map(|matcher| matcher.value.as_str())
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        let sorted = |selector: &Self| {
            let mut matchers = selector.matchers.clone();
            matchers.sort_by(|a, b| (&a.name, &a.value, a.op as u8).cmp(&(&b.name, &b.value, b.op as u8)));
            matchers
        };
        self.name == other.name && self.modifiers == other.modifiers && sorted(self) == sorted(other)
    }
}

/// A text literal.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// The text; bytes that are not UTF-8 are replaced.
    pub value: String,
    /// The bytes, when they are not UTF-8.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// How many series of one side may match one of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of PromQL")]
pub enum Cardinality {
    OneToOne,
    ManyToOne,
    OneToMany,
    ManyToMany,
}

/// How two vectors are matched.
#[derive(Clone, Debug, PartialEq)]
pub struct Matching {
    /// One to one unless `group_left` or `group_right` or a set operator says otherwise.
    pub cardinality: Cardinality,
    /// The labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Whether it is `on`.
    pub on: bool,
    /// The labels taken from the side of the one.
    pub include: Vec<String>,
    /// `fill_left`
    pub fill_left: Option<Number>,
    /// `fill_right`
    pub fill_right: Option<Number>,
}

/// A binary operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: Op,
    /// Left side.
    pub left: Expr,
    /// Right side.
    pub right: Expr,
    /// `bool`
    pub return_bool: bool,
    /// Present between two vectors.
    pub matching: Option<Matching>,
    /// Where the operator stands.
    pub op_span: Span,
    /// From the first to the last byte of both sides.
    pub span: Span,
}

/// An aggregation.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// The operator.
    pub op: Aggregator,
    /// What is aggregated.
    pub expr: Expr,
    /// `k`, the quantile, the ratio or the label's name.
    pub parameter: Option<Expr>,
    /// The labels of `by` or `without`.
    pub grouping: Vec<String>,
    /// Whether it is `without`.
    pub without: bool,
    /// Where it stands.
    pub span: Span,
}

/// A call of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The function.
    pub function: &'static Function,
    /// Its arguments.
    pub args: Vec<Expr>,
    /// Where it stands.
    pub span: Span,
}

/// A subquery.
#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    /// What is evaluated at each step.
    pub expr: Expr,
    /// How far back.
    pub range: Duration,
    /// How far apart; the default interval when absent.
    pub step: Option<Duration>,
    /// Offset and `@`.
    pub modifiers: Modifiers,
    /// Where it stands.
    pub span: Span,
}

/// A number as it was written; NaN is the same as NaN.
#[derive(Clone, Copy, Debug)]
pub struct Number(pub f64);

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || (self.0.is_nan() && other.0.is_nan())
    }
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A number; `duration` when it was written as one (`5m`).
    Number {
        /// Seconds, if it is a duration.
        value: Number,
        /// Written as a duration.
        duration: bool,
        /// Where it stands.
        span: Span,
    },
    /// A text.
    String(Text, Span),
    /// `name{...}`
    Vector(Selector),
    /// `name{...}[5m]`
    Matrix {
        /// What is selected.
        selector: Selector,
        /// How far back.
        range: Duration,
        /// Where it stands, the range included.
        span: Span,
    },
    /// `expr[5m:1m]`
    Subquery(Box<Subquery>),
    /// `(expr)`
    Paren(Box<Expr>, Span),
    /// `+expr` or `-expr`; `true` for the minus.
    Unary {
        /// Whether it is a minus.
        negative: bool,
        /// What is signed.
        expr: Box<Expr>,
        /// Where it stands.
        span: Span,
    },
    /// `a op b`
    Binary(Box<Binary>),
    /// `sum by (x) (expr)`
    Aggregate(Box<Aggregate>),
    /// `rate(expr)`
    Call(Call),
    /// The same at every step; made when a query is prepared, never by the parser.
    #[doc(hidden)]
    Invariant(Box<Expr>),
}

impl Expr {
    /// Where it stands in the query.
    pub fn span(&self) -> Span {
        match self {
            Self::Number { span, .. } | Self::String(_, span) | Self::Paren(_, span) => *span,
            Self::Unary { span, .. } | Self::Matrix { span, .. } => *span,
            Self::Vector(selector) => selector.span,
            Self::Subquery(subquery) => subquery.span,
            Self::Binary(binary) => binary.span,
            Self::Aggregate(aggregate) => aggregate.span,
            Self::Call(call) => call.span,
            Self::Invariant(expr) => expr.span(),
        }
    }

    /// What it evaluates to.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Number { .. } => ValueType::Scalar,
            Self::String(..) => ValueType::String,
            Self::Vector(_) | Self::Aggregate(_) => ValueType::Vector,
            Self::Matrix { .. } | Self::Subquery(_) => ValueType::Matrix,
            Self::Paren(expr, _) | Self::Unary { expr, .. } | Self::Invariant(expr) => expr.value_type(),
            Self::Binary(binary) => match (binary.left.value_type(), binary.right.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
            Self::Call(call) => call.function.returns,
        }
    }

    /// The parts it is made of, in the order of the text.
    pub fn children(&self) -> Vec<&Self> {
        match self {
            Self::Number { .. } | Self::String(..) | Self::Vector(_) | Self::Matrix { .. } => Vec::new(),
            Self::Subquery(subquery) => vec![&subquery.expr],
            Self::Paren(expr, _) | Self::Unary { expr, .. } | Self::Invariant(expr) => vec![expr],
            Self::Binary(binary) => vec![&binary.left, &binary.right],
            Self::Aggregate(aggregate) => aggregate.parameter.iter().chain([&aggregate.expr]).collect(),
            Self::Call(call) => call.args.iter().collect(),
        }
    }

    /// Goes through the tree, parents first.
    pub fn visit<'a>(&'a self, see: &mut dyn FnMut(&'a Self)) {
        see(self);
        for child in self.children() {
            child.visit(see);
        }
    }

    /// The selectors, in the order of the text; the second argument of `info()` is not one.
    pub fn selectors(&self) -> Vec<&Selector> {
        let mut found = Vec::new();
        self.collect_selectors(&mut found);
        found
    }

    fn collect_selectors<'a>(&'a self, found: &mut Vec<&'a Selector>) {
        match self {
            Self::Vector(selector) | Self::Matrix { selector, .. } => found.push(selector),
            Self::Call(call) if call.function.name == "info" => {
                if let Some(first) = call.args.first() {
                    first.collect_selectors(found);
                }
            }
            _ => {
                for child in self.children() {
                    child.collect_selectors(found);
                }
            }
        }
    }

    /// Without parentheses and preparation around it.
    pub(crate) fn unwrapped(&self) -> &Self {
        let mut expr = self;
        while let Self::Paren(inner, _) | Self::Invariant(inner) = expr {
            expr = inner;
        }
        expr
    }

    /// What it uses that Prometheus has only behind a feature flag: functions, aggregations, syntax; each once.
    pub fn experimental(&self) -> Vec<&'static str> {
        let mut found: Vec<&'static str> = Vec::new();
        self.visit(&mut |expr| {
            let mut durations: Vec<&Duration> = Vec::new();
            let mut modifiers = None;
            match expr {
                Self::Call(call) if call.function.experimental => found.push(call.function.name),
                Self::Aggregate(aggregate) if aggregate.op.is_experimental() => found.push(aggregate.op.name()),
                Self::Binary(binary) => {
                    let fills = |matching: &Matching| matching.fill_left.is_some() || matching.fill_right.is_some();
                    if binary.matching.as_ref().is_some_and(fills) {
                        found.push("fill");
                    }
                }
                Self::Vector(selector) => modifiers = Some(&selector.modifiers),
                Self::Matrix { selector, range, .. } => {
                    durations.push(range);
                    modifiers = Some(&selector.modifiers);
                }
                Self::Subquery(subquery) => {
                    durations.push(&subquery.range);
                    durations.extend(&subquery.step);
                    modifiers = Some(&subquery.modifiers);
                }
                _ => {}
            }
            if let Some(modifiers) = modifiers {
                durations.extend(&modifiers.offset);
                if modifiers.extension != Extension::None {
                    found.push(modifiers.extension.name());
                }
            }
            if durations.iter().any(|duration| matches!(duration, Duration::Computed(_))) {
                found.push("duration expressions");
            }
        });
        found.sort_unstable();
        found.dedup();
        found
    }
}
