//! What follows a selector or another expression: ranges, subqueries, `@`, `offset`, `anchored`, `smoothed`.

use super::error::Failure;
use super::{Node, Parsed, Parser, literal_value};
use crate::promql::ast::{At, Duration, Expr, Extension, Modifiers, Span, Subquery};
use crate::promql::token::Kind;

impl Parser<'_> {
    pub(super) fn postfix(&mut self, mut expr: Expr, mut depth: usize) -> Parsed<Node> {
        loop {
            let token = self.peek();
            match token.kind {
                Kind::LeftBracket => {
                    expr = self.range_or_subquery(expr)?;
                    depth += 1;
                    (expr, depth) = self.node(expr, depth)?;
                }
                Kind::At => self.at_modifier(&mut expr)?,
                Kind::Keyword if token.is("offset") => self.offset_modifier(&mut expr)?,
                Kind::Keyword if token.is("anchored") => self.extension(&mut expr, Extension::Anchored)?,
                Kind::Keyword if token.is("smoothed") => self.extension(&mut expr, Extension::Smoothed)?,
                _ => return Ok((expr, depth)),
            }
        }
    }

    fn range_or_subquery(&mut self, expr: Expr) -> Parsed<Expr> {
        let open = self.next();
        let range = self.duration_in_brackets("subquery or range selector", "number, duration, step(), or range()")?;
        if self.take(Kind::Colon).is_some() {
            let step = match self.peek().kind {
                Kind::RightBracket => None,
                _ => {
                    Some(self.duration_in_brackets("subquery selector", "number, duration, step(), range(), or \"]\"")?)
                }
            };
            let close = self.expect(Kind::RightBracket, "subquery selector", "\"]\"")?;
            let span = Span::new(expr.span().start, close.end());
            let modifiers = Modifiers::NONE;
            return Ok(Expr::Subquery(Box::new(Subquery { expr, range, step, modifiers, span })));
        }
        let close = self.expect(Kind::RightBracket, "subquery or range", "\":\" or \"]\"")?;
        let brackets = Span::new(open.start, close.end());
        let message = match &expr {
            Expr::Vector(selector) if selector.modifiers.offset.is_some() => "no offset modifiers allowed before range",
            Expr::Vector(selector) if selector.modifiers.at.is_some() => "no @ modifiers allowed before range",
            Expr::Vector(selector) if selector.modifiers.extension == Extension::Anchored => {
                "no anchored modifiers allowed before range"
            }
            Expr::Vector(selector) if selector.modifiers.extension == Extension::Smoothed => {
                "no smoothed modifiers allowed before range"
            }
            Expr::Vector(_) => "",
            _ => "ranges only allowed for vector selectors",
        };
        match expr {
            Expr::Vector(selector) if message.is_empty() => {
                let span = Span::new(selector.span.start, close.end());
                Ok(Expr::Matrix { selector, range, span })
            }
            _ => Err(Failure::new(brackets, message)),
        }
    }

    fn at_modifier(&mut self, expr: &mut Expr) -> Parsed<()> {
        self.next();
        let token = self.peek();
        let at = if self.peek_at(1).kind == Kind::LeftParen && (token.is("start") || token.is("end")) {
            self.next();
            self.next();
            self.expect(Kind::RightParen, "@", "timestamp")?;
            if token.is("start") { At::Start } else { At::End }
        } else {
            let negative = self.sign();
            let number = match self.peek().kind {
                Kind::Number | Kind::Duration => self.next(),
                _ => return self.unexpected("@", "timestamp"),
            };
            let value = literal_value(&number)?;
            let value = if negative { -value } else { value };
            let ms = (value * 1000.0).round();
            if value.is_nan() || ms.abs() >= i64::MAX as f64 {
                let message = format!("timestamp out of bounds for @ modifier: {value:.6}");
                return Err(Failure { span: expr.span(), message });
            }
            At::Time(ms as i64)
        };
        let end = self.last_end();
        let (modifiers, span) = self.modifiers_of(
            expr,
            "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        )?;
        if modifiers.at.is_some() {
            return Err(Failure::new(*span, "@ <timestamp> may not be set multiple times"));
        }
        modifiers.at = Some(at);
        span.end = end;
        Ok(())
    }

    fn offset_modifier(&mut self, expr: &mut Expr) -> Parsed<()> {
        self.next();
        let offset = self.offset_duration()?;
        let end = self.last_end();
        let (modifiers, span) = self.modifiers_of(
            expr,
            "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        )?;
        if modifiers.offset.is_some() {
            return Err(Failure::new(*span, "offset may not be set multiple times"));
        }
        // As in Prometheus an offset of nothing is none, and may be followed by another.
        modifiers.offset = Some(offset).filter(|offset| *offset != Duration::Fixed(0));
        span.end = end;
        Ok(())
    }

    fn extension(&mut self, expr: &mut Expr, extension: Extension) -> Parsed<()> {
        self.next();
        let end = self.last_end();
        let name = extension.name();
        let message = format!(
            "{name} modifier must be preceded by an instant vector selector or range vector selector or a subquery"
        );
        if matches!(expr, Expr::Subquery(_)) {
            return Err(Failure {
                span: expr.span(),
                message: format!("{name} modifier is not supported for subqueries"),
            });
        }
        let (modifiers, span) = self.modifiers_of(expr, &message)?;
        if modifiers.extension != Extension::None {
            return Err(Failure::new(*span, "anchored and smoothed modifiers cannot be used together"));
        }
        modifiers.extension = extension;
        span.end = end;
        Ok(())
    }

    fn modifiers_of<'e>(&self, expr: &'e mut Expr, otherwise: &str) -> Parsed<(&'e mut Modifiers, &'e mut Span)> {
        let span = expr.span();
        match expr {
            Expr::Vector(selector) => Ok((&mut selector.modifiers, &mut selector.span)),
            Expr::Matrix { selector, span, .. } => Ok((&mut selector.modifiers, span)),
            Expr::Subquery(subquery) => Ok((&mut subquery.modifiers, &mut subquery.span)),
            _ => Err(Failure::new(span, otherwise)),
        }
    }
}
