//! What Go finds wrong when it parses a template and the syntax alone does not show: unknown functions and variables.

use super::{Dialect, TemplateError, functions};
use gotmpl::parse::{BranchNode, Expr, ListNode, Node, PipeNode, Pos};

/// Walks a tree with the variables in scope.
pub(super) struct Check<'a> {
    pub source: &'a str,
    pub dialect: Dialect,
    pub variables: Vec<String>,
    /// Paths below `$event`.
    pub event_paths: Vec<Vec<String>>,
}

impl Check<'_> {
    fn error(&self, pos: Pos, message: String) -> TemplateError {
        TemplateError::at(self.source, pos.offset, message)
    }

    pub fn list(&mut self, list: &ListNode) -> Result<(), TemplateError> {
        for node in &list.nodes {
            self.node(node)?;
        }
        Ok(())
    }

    fn node(&mut self, node: &Node) -> Result<(), TemplateError> {
        match node {
            Node::Action(action) => self.pipe(&action.pipe),
            Node::If(branch) | Node::With(branch) | Node::Range(branch) => self.branch(branch),
            Node::Template(call) => call.pipe.as_ref().map_or(Ok(()), |pipe| self.pipe(pipe)),
            Node::List(list) => self.list(list),
            Node::Define(_) | Node::Text(_) | Node::Break(_) | Node::Continue(_) => Ok(()),
        }
    }

    fn branch(&mut self, branch: &BranchNode) -> Result<(), TemplateError> {
        let scope = self.variables.len();
        self.pipe(&branch.pipe)?;
        let inner = self.variables.len();
        self.list(&branch.body)?;
        self.variables.truncate(inner);
        if let Some(other) = &branch.else_body {
            self.list(other)?;
        }
        self.variables.truncate(scope);
        Ok(())
    }

    fn pipe(&mut self, pipe: &PipeNode) -> Result<(), TemplateError> {
        for command in &pipe.commands {
            for arg in &command.args {
                self.expr(arg)?;
            }
        }
        for name in &pipe.decl {
            if pipe.is_assign && !self.variables.iter().any(|known| known == name.as_str()) {
                return Err(self.error(pipe.pos, format!("undefined variable {:?}", name.as_str())));
            }
            self.variables.push(name.to_string());
        }
        Ok(())
    }

    fn expr(&mut self, expr: &Expr) -> Result<(), TemplateError> {
        match expr {
            Expr::Identifier(pos, name) if !functions::exists(name, self.dialect) => {
                let names = functions::names(self.dialect);
                let mut error = self.error(*pos, format!("function {:?} not defined", name.as_str()));
                error.hint =
                    crate::config::diagnostic::nearest(name, names).map(|near| format!("did you mean {near:?}?"));
                Err(error)
            }
            Expr::Variable(pos, name, fields) => {
                if !self.variables.iter().any(|known| known == name.as_str()) {
                    return Err(self.error(*pos, format!("undefined variable {:?}", name.as_str())));
                }
                if name == "$event" && !fields.is_empty() {
                    let path: Vec<String> = fields.iter().map(ToString::to_string).collect();
                    if !self.event_paths.contains(&path) {
                        self.event_paths.push(path);
                    }
                }
                Ok(())
            }
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) => self.expr(inner),
            _ => Ok(()),
        }
    }
}

/// The first `end` or `else` that closes nothing; gotmpl's parser stops there silently. Called for texts that parse, so
/// that every action is closed.
pub(super) fn stray_end(source: &str) -> Option<(usize, &'static str)> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(open) = source[at..].find("{{") {
        let start = at + open + 2;
        let inner = source[start..].strip_prefix('-').unwrap_or(&source[start..]).trim_start();
        let word_len = inner.bytes().take_while(u8::is_ascii_alphabetic).count();
        match &inner[..word_len] {
            "if" | "range" | "with" | "define" | "block" => depth += 1,
            "else" if depth == 0 => return Some((start, "else")),
            "end" if depth == 0 => return Some((start, "end")),
            "end" => depth -= 1,
            _ => {}
        }
        at = end_of_action(source, start);
    }
    None
}

/// The byte after the `}}` that closes an action: quotes and comments may hold braces.
fn end_of_action(source: &str, start: usize) -> usize {
    let bytes = source.as_bytes();
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'}' if bytes.get(at + 1) == Some(&b'}') => return at + 2,
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = source[at + 2..].find("*/").map_or(bytes.len(), |len| at + 2 + len + 2);
            }
            quote @ (b'"' | b'`' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' && quote != b'`' { 2 } else { 1 };
                }
                at += 1;
            }
            _ => at += 1,
        }
    }
    bytes.len()
}
