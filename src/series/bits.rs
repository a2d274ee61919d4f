//! Bit strings and variable-length integers: what the chunk codecs are written with.

/// Appends the low `width` bits of `value`, highest first; `bits` is the length of the string so far.
pub(super) fn put_bits(out: &mut Vec<u8>, bits: &mut usize, value: u64, width: u32) {
    let mut left = width;
    while left > 0 {
        let used = (*bits & 7) as u32;
        if used == 0 {
            out.push(0);
        }
        let free = 8 - used;
        let take = free.min(left);
        let part = (value >> (left - take)) & ((1_u64 << take) - 1);
        if let Some(last) = out.last_mut() {
            *last |= (part as u8) << (free - take);
        }
        *bits += take as usize;
        left -= take;
    }
}

/// Reads `width` bits at `bits`; `None` past the end.
pub(super) fn get_bits(input: &[u8], bits: &mut usize, width: u32) -> Option<u64> {
    let (mut value, mut left) = (0_u64, width);
    while left > 0 {
        let byte = *input.get(*bits >> 3)?;
        let free = 8 - (*bits & 7) as u32;
        let take = free.min(left);
        let part = (u64::from(byte) >> (free - take)) & ((1_u64 << take) - 1);
        value = if take == 64 { part } else { (value << take) | part };
        *bits += take as usize;
        left -= take;
    }
    Some(value)
}

/// LEB128: seven bits a byte, lowest first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads what [`put_varint`] wrote; `None` when it is cut off or too long.
pub(super) fn get_varint(input: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *input.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Small numbers of either sign become small numbers without sign.
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Undoes [`zigzag`].
pub(super) fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

/// A float as its difference to the one before: few bytes when they share sign, exponent and trailing zeros.
pub(super) fn put_float(out: &mut Vec<u8>, previous: f64, value: f64) {
    put_varint(out, (previous.to_bits() ^ value.to_bits()).reverse_bits());
}

/// Reads what [`put_float`] wrote.
pub(super) fn get_float(input: &[u8], at: &mut usize, previous: f64) -> Option<f64> {
    get_varint(input, at).map(|bits| f64::from_bits(bits.reverse_bits() ^ previous.to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn bits_and_numbers_come_back(values in prop::collection::vec((any::<u64>(), 1_u32..=64), 0..40), number in any::<i64>()) {
            let (mut out, mut bits) = (Vec::new(), 0);
            let masked = |value: u64, width: u32| if width == 64 { value } else { value & ((1 << width) - 1) };
            for (value, width) in &values {
                put_bits(&mut out, &mut bits, *value, *width);
            }
            let mut at = 0;
            for (value, width) in &values {
                prop_assert_eq!(get_bits(&out, &mut at, *width), Some(masked(*value, *width)));
            }
            let (mut out, mut at) = (Vec::new(), 0);
            put_varint(&mut out, zigzag(number));
            prop_assert_eq!(get_varint(&out, &mut at).map(unzigzag), Some(number));
        }
    }
}
