//! Cuts PromQL into tokens.

use super::ast::Span;
use super::number::go_quote;
use super::token::{Kind, Op, Token, word_kind};

/// What could not be cut, and where.
#[derive(Debug)]
pub(crate) struct LexError {
    pub message: String,
    pub span: Span,
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Token<'a>>,
    parens: usize,
    brace: bool,
    bracket: bool,
    colon: bool,
}

/// The tokens up to the end of the text or up to the first error (the last token is `Eof` or `Error`).
pub(crate) fn tokens(text: &str) -> (Vec<Token<'_>>, Option<LexError>) {
    let mut lexer = Lexer { text, at: 0, tokens: Vec::new(), parens: 0, brace: false, bracket: false, colon: false };
    let mut failure = None;
    loop {
        match lexer.next() {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                let start = error.span.start.min(text.len());
                lexer.tokens.push(Token { kind: Kind::Error, text: "", start });
                failure = Some(error);
                break;
            }
        }
    }
    (lexer.tokens, failure)
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn push(&mut self, kind: Kind, length: usize) {
        let text = &self.text[self.at..self.at + length];
        self.tokens.push(Token { kind, text, start: self.at });
        self.at += length;
    }

    fn error<T>(&self, start: usize, message: String) -> Result<T, LexError> {
        Err(LexError { message, span: Span::new(start, (start + 1).max(self.at)) })
    }

    /// Takes what `accept` takes, from `at + from` on; returns the length from `at`.
    fn run(&self, from: usize, accept: impl Fn(char) -> bool) -> usize {
        let rest = &self.rest()[from..];
        from + rest.find(|c| !accept(c)).unwrap_or(rest.len())
    }

    fn next(&mut self) -> Result<bool, LexError> {
        let blank = self.run(0, char::is_whitespace);
        self.at += blank;
        if self.rest().starts_with('#') {
            let comment = self.run(0, |c| c != '\n');
            self.at += comment;
            return Ok(true);
        }
        let Some(c) = self.peek() else {
            return self.finish();
        };
        if self.brace { self.inside_braces(c) } else { self.statement(c) }
    }

    fn finish(&mut self) -> Result<bool, LexError> {
        let end = self.text.len();
        if self.brace {
            return self.error(end, "unexpected end of input inside braces".into());
        }
        if self.parens > 0 {
            return self.error(end, "unclosed left parenthesis".into());
        }
        if self.bracket {
            return self.error(end, "unclosed left bracket".into());
        }
        self.push(Kind::Eof, 0);
        Ok(false)
    }

    fn statement(&mut self, c: char) -> Result<bool, LexError> {
        let second = self.rest()[c.len_utf8()..].chars().next();
        let (kind, length) = match (c, second) {
            (',', _) => (Kind::Comma, 1),
            ('*', _) => (Kind::Op(Op::Mul), 1),
            ('/', _) => (Kind::Op(Op::Div), 1),
            ('%', _) => (Kind::Op(Op::Mod), 1),
            ('+', _) => (Kind::Op(Op::Add), 1),
            ('-', _) => (Kind::Op(Op::Sub), 1),
            ('^', _) => (Kind::Op(Op::Pow), 1),
            ('@', _) => (Kind::At, 1),
            ('=', Some('=')) => (Kind::Op(Op::Equal), 2),
            ('=', Some('~')) => return self.error(self.at, "unexpected character after '=': '~'".into()),
            ('=', _) => (Kind::Assign, 1),
            ('!', Some('=')) => (Kind::Op(Op::NotEqual), 2),
            ('!', other) => {
                let found = other.map_or_else(|| "end of input".into(), quote_char);
                return self.error(self.at, format!("unexpected character after '!': {found}"));
            }
            ('<', Some('=')) => (Kind::Op(Op::LessOrEqual), 2),
            ('<', Some('/')) => (Kind::Op(Op::TrimUpper), 2),
            ('<', _) => (Kind::Op(Op::Less), 1),
            ('>', Some('=')) => (Kind::Op(Op::GreaterOrEqual), 2),
            ('>', Some('/')) => (Kind::Op(Op::TrimLower), 2),
            ('>', _) => (Kind::Op(Op::Greater), 1),
            ('(', _) => {
                self.parens += 1;
                (Kind::LeftParen, 1)
            }
            (')', _) => {
                if self.parens == 0 {
                    // As in Prometheus, the place is behind the parenthesis.
                    return self.error(self.at + 1, "unexpected right parenthesis ')'".into());
                }
                self.parens -= 1;
                (Kind::RightParen, 1)
            }
            ('{', _) => {
                self.brace = true;
                (Kind::LeftBrace, 1)
            }
            ('[', _) => {
                if self.bracket {
                    return self.error(self.at, "unexpected left bracket '['".into());
                }
                self.bracket = true;
                self.colon = false;
                (Kind::LeftBracket, 1)
            }
            (']', _) => {
                if !self.bracket {
                    return self.error(self.at, "unexpected right bracket ']'".into());
                }
                self.bracket = false;
                (Kind::RightBracket, 1)
            }
            (':', _) if self.bracket => {
                if self.colon {
                    return self.error(self.at, "unexpected colon ':'".into());
                }
                self.colon = true;
                (Kind::Colon, 1)
            }
            ('"' | '\'' | '`', _) => return self.string(c),
            ('0'..='9', _) | ('.', Some('0'..='9')) => return self.number(),
            (c, _) if is_word_start(c) || c == ':' => {
                let bracket = self.bracket;
                let length = self.run(0, |c| is_word(c) || (c == ':' && !bracket));
                (word_kind(&self.rest()[..length]), length)
            }
            (c, _) => {
                let place = if self.bracket { " inside brackets" } else { "" };
                return self.error(self.at, format!("unexpected character{place}: {}", quote_char(c)));
            }
        };
        self.push(kind, length);
        Ok(true)
    }

    fn inside_braces(&mut self, c: char) -> Result<bool, LexError> {
        let second = self.rest()[c.len_utf8()..].chars().next();
        let (kind, length) = match (c, second) {
            ('{', _) => return self.error(self.at, "unexpected left brace '{'".into()),
            ('}', _) => {
                self.brace = false;
                (Kind::RightBrace, 1)
            }
            (',', _) => (Kind::Comma, 1),
            ('=', Some('~')) => (Kind::EqualRegex, 2),
            ('=', _) => (Kind::Assign, 1),
            ('!', Some('~')) => (Kind::NotEqualRegex, 2),
            ('!', Some('=')) => (Kind::Op(Op::NotEqual), 2),
            ('!', other) => {
                let found = other.map_or_else(|| "end of input".into(), quote_char);
                return self.error(self.at, format!("unexpected character after '!' inside braces: {found}"));
            }
            ('"' | '\'' | '`', _) => return self.string(c),
            (c, _) if is_word_start(c) => (Kind::Identifier, self.run(0, is_word)),
            (c, _) => return self.error(self.at, format!("unexpected character inside braces: {}", quote_char(c))),
        };
        self.push(kind, length);
        Ok(true)
    }

    fn string(&mut self, quote: char) -> Result<bool, LexError> {
        let mut escaped = false;
        for (at, c) in self.rest().char_indices().skip(1) {
            match c {
                _ if escaped => {
                    self.check_escape(quote, at)?;
                    escaped = false;
                }
                '\\' if quote != '`' => escaped = true,
                '\n' if quote != '`' => break,
                _ if c == quote => {
                    self.push(Kind::Text, at + 1);
                    return Ok(true);
                }
                _ => {}
            }
        }
        let what = if quote == '`' { "unterminated raw string" } else { "unterminated quoted string" };
        self.error(self.at, what.into())
    }

    /// Checks the escape sequence whose letter is at `at`.
    fn check_escape(&self, quote: char, at: usize) -> Result<(), LexError> {
        let rest = &self.rest()[at..];
        let shown = |c: char| format!("U+{:04X} '{c}'", u32::from(c));
        let letter = rest.chars().next().unwrap_or(quote);
        let (digits, radix, from) = match letter {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            c if c == quote => return Ok(()),
            '0'..='7' => (3, 8, 0),
            'x' => (2, 16, 1),
            'u' => (4, 16, 1),
            'U' => (8, 16, 1),
            c => return self.error(self.at, format!("unknown escape sequence {}", shown(c))),
        };
        let mut code = 0_u64;
        for at in 0..digits {
            let Some(c) = rest[from..].chars().nth(at) else {
                return self.error(self.at, "escape sequence not terminated".into());
            };
            match c.to_digit(radix) {
                Some(digit) => code = code * u64::from(radix) + u64::from(digit),
                None => return self.error(self.at, format!("illegal character {} in escape sequence", shown(c))),
            }
        }
        let largest = if digits <= 3 { 255 } else { 0x0010_ffff };
        if code > largest || (digits > 3 && (0xd800..0xe000).contains(&code)) {
            return self.error(self.at, "escape sequence is an invalid Unicode code point".into());
        }
        Ok(())
    }

    fn number(&mut self) -> Result<bool, LexError> {
        if let Some(length) = self.duration_length() {
            self.push(Kind::Duration, length);
            return Ok(true);
        }
        let rest = self.rest();
        let hex = rest.len() > 1 && rest.as_bytes()[0] == b'0' && matches!(rest.as_bytes()[1], b'x' | b'X');
        let mut length = if hex { self.run(2, |c| c.is_ascii_hexdigit() || c == '_') } else { self.digits(0) };
        if !hex {
            if rest[length..].starts_with('.') {
                length = self.digits(length + 1);
            }
            if rest[length..].starts_with(['e', 'E']) {
                let sign = usize::from(rest[length + 1..].starts_with(['+', '-']));
                length = self.digits(length + 1 + sign);
            }
        }
        if rest[length..].starts_with(is_word) {
            let read = length.max(self.duration_run());
            return self.error(self.at, format!("bad number or duration syntax: {}", go_quote(&rest[..read])));
        }
        self.push(Kind::Number, length);
        Ok(true)
    }

    fn digits(&self, from: usize) -> usize {
        self.run(from, |c| c.is_ascii_digit() || c == '_')
    }

    /// The length of numbers with units, the last perhaps without one.
    fn duration_run(&self) -> usize {
        let rest = self.rest();
        let mut at = self.run(0, |c| c.is_ascii_digit());
        while let Some(unit) = ["ms", "s", "m", "h", "d", "w", "y"].iter().find(|unit| rest[at..].starts_with(**unit)) {
            at = self.run(at + unit.len(), |c| c.is_ascii_digit());
        }
        at
    }

    /// The length of `1h30m`, when it stands here as a whole word.
    fn duration_length(&self) -> Option<usize> {
        let rest = self.rest();
        let mut at = 0;
        loop {
            let digits = self.run(at, |c| c.is_ascii_digit());
            if digits == at {
                break;
            }
            let unit = ["ms", "s", "m", "h", "d", "w", "y"].iter().find(|unit| rest[digits..].starts_with(**unit))?;
            at = digits + unit.len();
        }
        (at > 0 && !rest[at..].starts_with(is_word)).then_some(at)
    }
}

fn quote_char(c: char) -> String {
    match c {
        '"' => "'\"'".into(),
        '\'' => "'\\''".into(),
        '\\' => "'\\\\'".into(),
        c => {
            let quoted = go_quote(c.encode_utf8(&mut [0; 4]));
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}
