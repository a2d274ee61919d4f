//! Numbers as JSON writes them.

/// Powers of ten that a double holds exactly.
const EXACT: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The nearest double of a text that already is a JSON number. Beyond the range it is infinite.
pub(super) fn to_f64(text: &str) -> f64 {
    let bytes = text.as_bytes();
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    let (mut mantissa, mut decimals, mut in_fraction) = (0_u64, 0_usize, false);
    if digits.len() <= 18 {
        for byte in digits {
            match byte {
                b'0'..=b'9' => {
                    mantissa = mantissa * 10 + u64::from(byte - b'0');
                    decimals += usize::from(in_fraction);
                }
                b'.' => in_fraction = true,
                _ => return slow(text),
            }
        }
        // Both operands are exact, so the one division is rounded correctly (Clinger's fast path).
        if mantissa < (1 << 53) {
            let value = mantissa as f64 / EXACT[decimals];
            return if negative { -value } else { value };
        }
    }
    slow(text)
}

#[cold]
fn slow(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}

/// A number in a text, as people write numbers in strings: JSON's grammar, blanks around it allowed.
pub(crate) fn read(text: &str) -> Option<f64> {
    let text = text.trim();
    let first = text.bytes().find(|byte| *byte != b'-' && *byte != b'+')?;
    if !first.is_ascii_digit() && first != b'.' {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn every_number_is_the_nearest_double(text in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?") {
            prop_assert_eq!(to_f64(&text).to_bits(), text.parse::<f64>().unwrap().to_bits());
        }
    }

    #[test]
    fn numbers_in_text() {
        assert_eq!(read(" 12.5 "), Some(12.5));
        for text in ["", "-", "inf", "nan", "1x", "0x10", "1e999"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
