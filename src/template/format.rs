//! Go's `strconv.FormatFloat`, `strconv.Quote` and `fmt.Sprintf` for the values of templates.

use super::Value;

/// `strconv.FormatFloat(value, verb, precision, 64)` for the verbs e, f and g; `None` is the shortest text that reads
/// back as the same number.
pub fn float(value: f64, verb: char, precision: Option<usize>) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    match verb {
        'e' => exponent_form(&scientific(value, precision)),
        'f' => precision.map_or_else(|| format!("{value}"), |precision| format!("{value:.precision$}")),
        _ => {
            // %g: precision counts significant digits; trailing zeros go.
            let digits = precision.map(|precision| precision.max(1) - 1);
            let text = scientific(value, digits);
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i32 = exponent.parse().unwrap_or(0);
            let mantissa =
                if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
            let significant = mantissa.bytes().filter(u8::is_ascii_digit).count() as i32;
            // The exponent form begins at the precision; the shortest form decides as with precision 6: a million prints as 1e+06.
            let limit = match precision {
                None => 6,
                Some(precision) => {
                    let precision = precision.max(1) as i32;
                    if precision > significant && significant > exponent { significant } else { precision }
                }
            };
            if exponent < -4 || exponent >= limit {
                return exponent_form(&format!("{mantissa}e{exponent}"));
            }
            plain(mantissa, exponent)
        }
    }
}

/// `d.ddde±x` with an exponent as Rust writes it.
fn scientific(value: f64, precision: Option<usize>) -> String {
    precision.map_or_else(|| format!("{value:e}"), |precision| format!("{value:.precision$e}"))
}

/// Go writes the exponent with a sign and at least two digits.
fn exponent_form(text: &str) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// A mantissa `d.ddd` shifted by its exponent, written out.
fn plain(mantissa: &str, exponent: i32) -> String {
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat((-exponent - 1) as usize));
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        return format!("{sign}{digits}{}", "0".repeat(whole - digits.len()));
    }
    format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
}

/// `strconv.Quote`.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `fmt.Sprint`: blanks between operands when neither is a string.
pub fn sprint(args: &[Value]) -> String {
    let mut out = String::new();
    for (at, arg) in args.iter().enumerate() {
        if at > 0 && args[at - 1].as_str().is_none() && arg.as_str().is_none() {
            out.push(' ');
        }
        out.push_str(&arg.to_string());
    }
    out
}

/// `fmt.Sprintln`.
pub fn sprintln(args: &[Value]) -> String {
    let texts: Vec<String> = args.iter().map(Value::to_string).collect();
    texts.join(" ") + "\n"
}

/// The most characters that a width or precision may ask for.
const MAX_WIDTH: usize = 1_000;

#[derive(Default)]
struct Directive {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// `fmt.Sprintf` with the verbs v d s q x X o b c U t e E f F g G T and %; an int under a float verb counts as a float
/// (Go prints `%!f(int=5)` there, which nobody wants in a message).
pub fn sprintf(format: &str, args: &[Value]) -> String {
    let mut out = String::with_capacity(format.len() + 16);
    let mut next = 0;
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = Directive::default();
        while let Some(flag) = chars.peek() {
            match flag {
                '-' => directive.minus = true,
                '+' => directive.plus = true,
                '#' => directive.sharp = true,
                ' ' => directive.space = true,
                '0' => directive.zero = true,
                _ => break,
            }
            chars.next();
        }
        let number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>, next: &mut usize| {
            if chars.peek() == Some(&'*') {
                chars.next();
                let value = args.get(*next).and_then(Value::number);
                *next += 1;
                return value.map(|value| (value.max(0.0) as usize).min(MAX_WIDTH));
            }
            let mut value = None;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                value = Some((value.unwrap_or(0) * 10 + digit as usize).min(MAX_WIDTH));
                chars.next();
            }
            value
        };
        directive.width = number(&mut chars, &mut next);
        if chars.peek() == Some(&'.') {
            chars.next();
            directive.precision = Some(number(&mut chars, &mut next).unwrap_or(0));
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(arg) = args.get(next) else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        next += 1;
        pad(&mut out, &one(verb, &directive, arg), &directive, arg);
    }
    if next < args.len() {
        let extra: Vec<String> = args[next..].iter().map(|arg| format!("{}={arg}", arg.type_name())).collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn one(verb: char, directive: &Directive, arg: &Value) -> String {
    let bad = || format!("%!{verb}({}={arg})", arg.type_name());
    let signed = |text: String, negative: bool| match (negative, directive.plus, directive.space) {
        (false, true, _) if !text.starts_with('+') => format!("+{text}"),
        (false, false, true) => format!(" {text}"),
        _ => text,
    };
    match (verb, arg) {
        ('v', Value::Float(value)) => signed(float(*value, 'g', directive.precision), *value < 0.0),
        ('v', Value::Int(value)) => signed(value.to_string(), *value < 0),
        ('v', Value::Text(text)) if directive.sharp => quote(text),
        ('v' | 's', Value::Text(text)) => truncated(text, directive.precision),
        ('v', other) => other.to_string(),
        ('T', other) => other.type_name().into(),
        ('t', Value::Bool(value)) => value.to_string(),
        ('s', Value::Time(_) | Value::Duration(_) | Value::List(_) | Value::Labels(_) | Value::Map(_)) => {
            arg.to_string()
        }
        ('q', Value::Text(text)) => quote(&truncated(text, directive.precision)),
        ('x', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('X', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
        ('d', Value::Int(value) | Value::Duration(value)) => signed(value.to_string(), *value < 0),
        ('x', Value::Int(value)) => signed(radix(*value, |v| format!("{v:x}")), *value < 0),
        ('X', Value::Int(value)) => signed(radix(*value, |v| format!("{v:X}")), *value < 0),
        ('o', Value::Int(value)) => signed(radix(*value, |v| format!("{v:o}")), *value < 0),
        ('b', Value::Int(value)) => signed(radix(*value, |v| format!("{v:b}")), *value < 0),
        ('c', Value::Int(value)) => {
            u32::try_from(*value).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string()
        }
        ('U', Value::Int(value)) => format!("U+{value:04X}"),
        ('e' | 'E' | 'f' | 'F' | 'g' | 'G', Value::Float(_) | Value::Int(_)) => {
            let value = arg.number().unwrap_or(f64::NAN);
            let lower = verb.to_ascii_lowercase();
            let precision = if lower == 'g' { directive.precision } else { Some(directive.precision.unwrap_or(6)) };
            let text = float(value, lower, precision);
            let text = if verb.is_ascii_uppercase() { text.to_ascii_uppercase() } else { text };
            signed(text, value.is_sign_negative())
        }
        _ => bad(),
    }
}

fn radix(value: i64, print: impl Fn(u64) -> String) -> String {
    format!("{}{}", if value < 0 { "-" } else { "" }, print(value.unsigned_abs()))
}

fn truncated(text: &str, precision: Option<usize>) -> String {
    precision.map_or_else(|| text.to_owned(), |precision| text.chars().take(precision).collect())
}

fn pad(out: &mut String, text: &str, directive: &Directive, arg: &Value) {
    let missing = directive.width.unwrap_or(0).saturating_sub(text.chars().count());
    let finite = arg.number().is_some_and(f64::is_finite);
    if missing == 0 {
        out.push_str(text);
    } else if directive.minus {
        out.push_str(text);
        out.push_str(&" ".repeat(missing));
    } else if directive.zero && finite {
        let split = usize::from(text.starts_with(['-', '+', ' ']));
        out.push_str(&text[..split]);
        out.push_str(&"0".repeat(missing));
        out.push_str(&text[split..]);
    } else {
        out.push_str(&" ".repeat(missing));
        out.push_str(text);
    }
}
