//! Numbers and texts as Go prints and reads them.

pub use crate::series::histogram::ShortFloat;

/// A sample's value as Prometheus prints it (`strconv.FormatFloat(v, 'f', -1, 64)`): shortest digits, no exponent.
pub fn format_value(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value == f64::INFINITY {
        "+Inf".into()
    } else if value == f64::NEG_INFINITY {
        "-Inf".into()
    } else {
        format!("{value}")
    }
}

/// `%g` of Go with the shortest digits: `0.5`, `1e+06`.
pub fn format_short(value: f64) -> String {
    ShortFloat(value).to_string()
}

/// `%e` of Go with `precision` decimals (`None`: as many as needed): `9.58e+01`, how alerts carry their value.
pub fn format_exponent(value: f64, precision: Option<usize>) -> String {
    if !value.is_finite() {
        return format_value(value);
    }
    let text = match precision {
        Some(precision) => format!("{value:.precision$e}"),
        None => format!("{value:e}"),
    };
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// `labels.FormatOpenMetricsFloat`: `1.0`, `0.5`, `1e+06`.
pub fn format_open_metrics(value: f64) -> String {
    let text = format_short(value);
    if value.is_finite() && !text.contains(['.', 'e']) { text + ".0" } else { text }
}

/// Reads a float as Go's `strconv.ParseFloat` does, with the words that PromQL knows (`Inf`, `NaN` in any case).
pub fn parse_float(text: &str) -> Option<f64> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'+' => (false, &text[1..]),
        b'-' => (true, &text[1..]),
        _ => (false, text),
    };
    let lower = rest.to_ascii_lowercase();
    let value = match lower.as_str() {
        "inf" | "infinity" => f64::INFINITY,
        "nan" => f64::NAN,
        _ => match lower.strip_prefix("0x") {
            Some(hex) => parse_hex(hex)?,
            None if rest.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-')) => {
                rest.parse().ok()?
            }
            None => return None,
        },
    };
    Some(if negative { -value } else { value })
}

fn parse_hex(hex: &str) -> Option<f64> {
    let (digits, exponent) = match hex.split_once('p') {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (hex, 0),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let mut value = 0.0;
    for digit in whole.chars().chain(part.chars()) {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let scale = exponent.checked_sub(4 * i32::try_from(part.len()).ok()?)?;
    Some(value * f64::from(scale).exp2())
}

/// A number literal of PromQL: decimal, hexadecimal, octal after a leading 0, `Inf`, `NaN`, underscores between digits.
pub(crate) fn parse_literal(text: &str) -> Option<f64> {
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    if let Some(hex) = plain.strip_prefix("0x").or_else(|| plain.strip_prefix("0X")) {
        return i64::from_str_radix(hex, 16).ok().map(|value| value as f64);
    }
    let octal = plain.len() > 1 && plain.starts_with('0') && plain.bytes().all(|b| (b'0'..=b'7').contains(&b));
    if octal {
        return i64::from_str_radix(&plain, 8).ok().map(|value| value as f64);
    }
    parse_float(&plain)
}

/// `strconv.Quote`.
pub fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if !is_printable(c) && u32::from(c) < 0x10000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if !is_printable(c) => out.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `strconv.Quote` of bytes that may not be UTF-8.
pub(crate) fn go_quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let quoted = go_quote(chunk.valid());
        out.push_str(&quoted[1..quoted.len() - 1]);
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

/// Close to Go's `unicode.IsPrint`: no control, format, private or separator characters (but the plain space).
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return true;
    }
    let escaped: String = c.escape_debug().collect();
    // Rust escapes combining marks as well, which Go prints.
    escaped.chars().count() == 1 || (c.is_alphanumeric() && !c.is_control())
}

/// `strutil.Unquote` of PromQL: double, single or back quotes with Go's escapes. The result may not be UTF-8.
///
/// # Errors
/// "invalid syntax", as `strconv.ErrSyntax` says.
pub(crate) fn unquote(text: &str) -> Result<Vec<u8>, &'static str> {
    const BAD: &str = "invalid syntax";
    let quote = text.chars().next().ok_or(BAD)?;
    if text.len() < 2 || !text.ends_with(quote) || !matches!(quote, '"' | '\'' | '`') {
        return Err(BAD);
    }
    let inner = &text[1..text.len() - 1];
    if quote == '`' {
        return if inner.contains('`') { Err(BAD) } else { Ok(inner.as_bytes().to_vec()) };
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(c) = rest.chars().next() {
        if c == quote || c == '\n' {
            return Err(BAD);
        }
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.chars().next().ok_or(BAD)?;
        rest = &rest[escape.len_utf8()..];
        match escape {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '\\' => out.push(b'\\'),
            '\'' | '"' if escape == quote => out.push(escape as u8),
            'x' => out.push(take_digits(&mut rest, 2, 16).and_then(|code| u8::try_from(code).ok()).ok_or(BAD)?),
            '0'..='7' => {
                rest = &inner[inner.len() - rest.len() - 1..];
                out.push(take_digits(&mut rest, 3, 8).and_then(|code| u8::try_from(code).ok()).ok_or(BAD)?);
            }
            'u' | 'U' => {
                let length = if escape == 'u' { 4 } else { 8 };
                let c = take_digits(&mut rest, length, 16).and_then(char::from_u32).ok_or(BAD)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return Err(BAD),
        }
    }
    Ok(out)
}

fn take_digits(rest: &mut &str, length: usize, radix: u32) -> Option<u32> {
    let digits = rest.get(..length)?;
    if !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let value = u32::from_str_radix(digits, radix).ok()?;
    *rest = &rest[length..];
    Some(value)
}

/// Whether a label's name needs no quotes (`[a-zA-Z_][a-zA-Z0-9_]*`).
pub(crate) fn is_plain_label(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_in_go() {
        for (value, plain, short, open_metrics, exponent) in [
            (0.5, "0.5", "0.5", "0.5", "5e-01"),
            (1.0, "1", "1", "1.0", "1e+00"),
            (1e6, "1000000", "1e+06", "1e+06", "1e+06"),
            (1e21, "1000000000000000000000", "1e+21", "1e+21", "1e+21"),
            (0.000_01, "0.00001", "1e-05", "1e-05", "1e-05"),
            (-0.0, "-0", "-0", "-0.0", "-0e+00"),
            (f64::INFINITY, "+Inf", "+Inf", "+Inf", "+Inf"),
            (f64::NAN, "NaN", "NaN", "NaN", "NaN"),
        ] {
            assert_eq!(format_value(value), plain);
            assert_eq!(format_short(value), short);
            assert_eq!(format_open_metrics(value), open_metrics);
            assert_eq!(format_exponent(value, None), exponent);
        }
        assert_eq!(format_exponent(95.8, Some(2)), "9.58e+01");
    }

    #[test]
    fn literals_and_quotes_read_as_in_go() {
        for (text, value) in
            [("0x1F", 31.0), ("017", 15.0), ("09", 9.0), ("1_000", 1000.0), ("1e3", 1000.0), (".5", 0.5)]
        {
            assert_eq!(parse_literal(text), Some(value), "{text}");
        }
        assert_eq!(unquote(r#""a\"\xc5\n\u00e4""#), Ok(b"a\"\xc5\n\xc3\xa4".to_vec()));
        assert_eq!(unquote(r"'\101'"), Ok(b"A".to_vec()));
        assert_eq!(unquote(r"`\n`"), Ok(br"\n".to_vec()));
        assert!(unquote(r#""\q""#).is_err());
        assert_eq!(go_quote_bytes(b"a\xc5z"), r#""a\xc5z""#);
        assert_eq!(go_quote("a\"\u{0}ü\u{200b}"), "\"a\\\"\\x00ü\\u200b\"");
    }
}
