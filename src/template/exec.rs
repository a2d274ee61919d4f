//! Runs a parsed template: Go's `text/template` semantics on [`Value`].
//!
//! gotmpl's own executor is not used because it prints floats and missing keys differently from Go, has no methods and
//! takes only functions that outlive the call (a query reads a storage that is borrowed).

use super::{Functions, Value, functions};
use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, Number, PipeNode, Pos};
use std::collections::BTreeMap;

/// Nested template calls and blocks.
const MAX_DEPTH: usize = 100;
/// Turns of all `range` loops of one rendering.
const MAX_ITERATIONS: usize = 100_000;
/// Bytes of one rendering.
const MAX_OUTPUT_BYTES: usize = 1 << 20;

/// Why a rendering stopped.
pub(super) enum Stop {
    /// Something is wrong, at a byte offset.
    Error(Pos, String),
    Break,
    Continue,
}

type Run<T> = Result<T, Stop>;

pub(super) struct Executor<'a> {
    pub defines: [Option<&'a BTreeMap<String, ListNode>>; 2],
    pub functions: &'a Functions<'a>,
    pub variables: Vec<(String, Value)>,
    pub depth: usize,
    pub iterations: usize,
    pub out: String,
}

fn fail<T>(pos: Pos, message: impl Into<String>) -> Run<T> {
    Err(Stop::Error(pos, message.into()))
}

impl Executor<'_> {
    pub fn list(&mut self, list: &ListNode, dot: &Value) -> Run<()> {
        for node in &list.nodes {
            self.node(node, dot)?;
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Run<()> {
        match node {
            Node::Text(text) => self.write(text.pos, &text.text),
            Node::Action(action) => {
                let value = self.pipe(&action.pipe, dot)?;
                if !action.pipe.decl.is_empty() {
                    return Ok(());
                }
                let text = if matches!(value, Value::Nil) { "<no value>".into() } else { value.to_string() };
                if self.functions.escape_html {
                    return self.write(action.pos, &gotmpl::html_escape(&text));
                }
                self.write(action.pos, &text)
            }
            Node::If(branch) => self.conditional(branch, dot, false),
            Node::With(branch) => self.conditional(branch, dot, true),
            Node::Range(branch) => {
                let scope = self.variables.len();
                let result = self.range(branch, dot);
                self.variables.truncate(scope);
                result
            }
            Node::Template(call) => {
                let data = call.pipe.as_ref().map_or(Ok(Value::Nil), |pipe| self.pipe(pipe, dot))?;
                let body = self.defines.iter().flatten().find_map(|defines| defines.get(call.name.as_str()));
                let Some(body) = body else {
                    return fail(call.pos, format!("template {:?} not defined", call.name.as_str()));
                };
                self.enter(call.pos)?;
                let outer = std::mem::replace(&mut self.variables, vec![("$".into(), data.clone())]);
                let result = self.list(body, &data);
                self.variables = outer;
                self.depth -= 1;
                result
            }
            Node::List(list) => self.list(list, dot),
            Node::Define(_) => Ok(()),
            Node::Break(_) => Err(Stop::Break),
            Node::Continue(_) => Err(Stop::Continue),
        }
    }

    fn write(&mut self, pos: Pos, text: &str) -> Run<()> {
        if self.out.len() + text.len() > MAX_OUTPUT_BYTES {
            return fail(pos, format!("the text is longer than {MAX_OUTPUT_BYTES} bytes"));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn enter(&mut self, pos: Pos) -> Run<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return fail(pos, format!("nested deeper than {MAX_DEPTH} levels"));
        }
        Ok(())
    }

    fn conditional(&mut self, branch: &BranchNode, dot: &Value, with: bool) -> Run<()> {
        self.enter(branch.pos)?;
        let scope = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let result = if value.is_true() {
            self.list(&branch.body, if with { &value } else { dot })
        } else if let Some(other) = &branch.else_body {
            self.list(other, dot)
        } else {
            Ok(())
        };
        self.variables.truncate(scope);
        self.depth -= 1;
        result
    }

    fn range(&mut self, branch: &BranchNode, dot: &Value) -> Run<()> {
        // The loop variables are set for each turn; the pipeline itself is evaluated without them.
        let over = self.commands(&branch.pipe, dot)?;
        let items: Vec<(Value, Value)> = match &over {
            Value::Nil => Vec::new(),
            Value::List(items) => {
                items.iter().enumerate().map(|(at, item)| (Value::Int(at as i64), item.clone())).collect()
            }
            Value::Labels(map) => {
                map.iter().map(|(key, value)| (Value::Text(key.clone()), Value::Text(value.clone()))).collect()
            }
            Value::Map(map) => map.iter().map(|(key, value)| (Value::Text(key.clone()), value.clone())).collect(),
            Value::Int(count) => {
                (0..(*count).min(MAX_ITERATIONS as i64 + 1)).map(|at| (Value::Int(at), Value::Int(at))).collect()
            }
            other => return fail(branch.pos, format!("range can't iterate over {other}")),
        };
        if items.is_empty() {
            return branch.else_body.as_ref().map_or(Ok(()), |other| self.list(other, dot));
        }
        let scope = self.variables.len();
        for (key, item) in items {
            self.iterations += 1;
            if self.iterations > MAX_ITERATIONS {
                return fail(branch.pos, format!("more than {MAX_ITERATIONS} turns"));
            }
            match branch.pipe.decl.as_slice() {
                [] => {}
                [value] => self.set(value, item.clone(), branch.pipe.is_assign),
                [first, value, ..] => {
                    self.set(first, key, branch.pipe.is_assign);
                    self.set(value, item.clone(), branch.pipe.is_assign);
                }
            }
            let turn = self.list(&branch.body, &item);
            self.variables.truncate(scope);
            match turn {
                Err(Stop::Break) => break,
                Ok(()) | Err(Stop::Continue) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: Value, assign: bool) {
        if assign && let Some((_, slot)) = self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            *slot = value;
            return;
        }
        self.variables.push((name.into(), value));
    }

    fn pipe(&mut self, pipe: &PipeNode, dot: &Value) -> Run<Value> {
        let value = self.commands(pipe, dot)?;
        if let Some(name) = pipe.decl.first() {
            self.set(name, value.clone(), pipe.is_assign);
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &PipeNode, dot: &Value) -> Run<Value> {
        let mut piped = None;
        for command in &pipe.commands {
            piped = Some(self.command(command, dot, piped)?);
        }
        Ok(piped.unwrap_or_default())
    }

    fn command(&mut self, command: &CommandNode, dot: &Value, piped: Option<Value>) -> Run<Value> {
        let (first, rest) = match command.args.as_slice() {
            [first, rest @ ..] => (first, rest),
            [] => return fail(command.pos, "missing value for command"),
        };
        match first {
            Expr::Identifier(pos, name) => self.call(*pos, name, rest, dot, piped),
            Expr::Field(pos, fields) => self.fields(*pos, dot.clone(), fields, rest, dot, piped),
            Expr::Variable(pos, name, fields) => {
                let base = self.variable(*pos, name)?;
                self.fields(*pos, base, fields, rest, dot, piped)
            }
            Expr::Chain(pos, inner, fields) => {
                let base = match inner.as_ref() {
                    Expr::Identifier(pos, name) => self.call(*pos, name, &[], dot, None)?,
                    inner => self.expr(inner, dot)?,
                };
                self.fields(*pos, base, fields, rest, dot, piped)
            }
            Expr::Nil(pos) => fail(*pos, "nil is not a command"),
            other if !rest.is_empty() || piped.is_some() => fail(other.pos(), "can't give argument to non-function"),
            other => self.expr(other, dot),
        }
    }

    fn expr(&mut self, expr: &Expr, dot: &Value) -> Run<Value> {
        Ok(match expr {
            Expr::Dot(_) => dot.clone(),
            Expr::Field(pos, fields) => self.fields(*pos, dot.clone(), fields, &[], dot, None)?,
            Expr::Variable(pos, name, fields) => {
                let base = self.variable(*pos, name)?;
                self.fields(*pos, base, fields, &[], dot, None)?
            }
            Expr::Identifier(pos, name) => self.call(*pos, name, &[], dot, None)?,
            Expr::String(_, text) => Value::Text(text.clone()),
            Expr::Number(_, Number::Int(value)) => Value::Int(*value),
            Expr::Number(_, Number::Float(value)) => Value::Float(*value),
            Expr::Number(pos, Number::Uint(value)) => return fail(*pos, format!("{value} overflows int")),
            Expr::Bool(_, value) => Value::Bool(*value),
            Expr::Nil(_) => Value::Nil,
            Expr::Pipe(_, pipe) => self.pipe(pipe, dot)?,
            Expr::Chain(pos, inner, fields) => {
                let base = self.expr(inner, dot)?;
                self.fields(*pos, base, fields, &[], dot, None)?
            }
        })
    }

    fn variable(&self, pos: Pos, name: &str) -> Run<Value> {
        match self.variables.iter().rev().find(|(known, _)| known == name) {
            Some((_, value)) => Ok(value.clone()),
            None => fail(pos, format!("undefined variable {name:?}")),
        }
    }

    /// Fields and methods in a row; arguments belong to the last one, which then must be a method.
    fn fields(
        &mut self,
        pos: Pos,
        base: Value,
        fields: &[gotmpl::parse::SmolStr],
        args: &[Expr],
        dot: &Value,
        piped: Option<Value>,
    ) -> Run<Value> {
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.expr(arg, dot)?);
        }
        values.extend(piped);
        if fields.is_empty() {
            return if values.is_empty() { Ok(base) } else { fail(pos, "can't give argument to non-function") };
        }
        let mut value = base;
        for (at, name) in fields.iter().enumerate() {
            let args = if at + 1 == fields.len() { values.as_slice() } else { &[] };
            value = functions::field(&value, name, args).or_else(|message| fail(pos, message))?;
        }
        Ok(value)
    }

    fn call(&mut self, pos: Pos, name: &str, args: &[Expr], dot: &Value, piped: Option<Value>) -> Run<Value> {
        if matches!(name, "and" | "or") {
            let mut last = None;
            for arg in args {
                let value = self.expr(arg, dot)?;
                if value.is_true() == (name == "or") {
                    return Ok(value);
                }
                last = Some(value);
            }
            return match piped.or(last) {
                Some(value) => Ok(value),
                None => fail(pos, format!("wrong number of args for {name}: want at least 1 got 0")),
            };
        }
        let mut values = Vec::with_capacity(args.len() + 1);
        for arg in args {
            values.push(self.expr(arg, dot)?);
        }
        values.extend(piped);
        functions::call(name, &values, self.functions)
            .or_else(|message| fail(pos, format!("error calling {name}: {message}")))
    }
}
