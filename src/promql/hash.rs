//! The hash by which Prometheus's `limit_ratio` chooses series, so that the same ones are chosen here.

use crate::model::Labels;

const PRIMES: [u64; 5] =
    [0x9e37_79b1_85eb_ca87, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0x85eb_ca77_c2b2_ae63, 0x27d4_eb2f_1656_67c5];

/// `labels.Labels.Hash` of Prometheus (its default build): xxHash64 over names and values, each behind its length.
pub(super) fn hash_labels(labels: &Labels) -> u64 {
    let mut data = Vec::with_capacity(64);
    for text in labels.iter().flat_map(|label| [&label.name, &label.value]) {
        // A length takes one byte, or 255 and three bytes.
        match u8::try_from(text.len()) {
            Ok(length) if length < 255 => data.push(length),
            _ => {
                data.push(255);
                data.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
            }
        }
        data.extend_from_slice(text.as_bytes());
    }
    xxhash64(&data)
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte))
}

fn round(accumulator: u64, input: u64) -> u64 {
    accumulator.wrapping_add(input.wrapping_mul(PRIMES[1])).rotate_left(31).wrapping_mul(PRIMES[0])
}

fn merge(hash: u64, accumulator: u64) -> u64 {
    (hash ^ round(0, accumulator)).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3])
}

/// xxHash64 with seed 0.
fn xxhash64(data: &[u8]) -> u64 {
    let stripes = data.chunks_exact(32);
    let rest = stripes.remainder();
    let mut hash = PRIMES[4];
    if data.len() >= 32 {
        let mut lanes = [PRIMES[0].wrapping_add(PRIMES[1]), PRIMES[1], 0, 0_u64.wrapping_sub(PRIMES[0])];
        for stripe in stripes {
            for (lane, bytes) in lanes.iter_mut().zip(stripe.chunks_exact(8)) {
                *lane = round(*lane, word(bytes));
            }
        }
        let rotated = lanes.iter().zip([1, 7, 12, 18]).map(|(lane, by)| lane.rotate_left(by));
        hash = lanes.iter().fold(rotated.fold(0, u64::wrapping_add), |hash, lane| merge(hash, *lane));
    }
    hash = hash.wrapping_add(data.len() as u64);
    let words = rest.chunks_exact(8);
    let mut rest = words.remainder();
    for bytes in words {
        hash = (hash ^ round(0, word(bytes))).rotate_left(27).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]);
    }
    if let Some((bytes, after)) = rest.split_at_checked(4) {
        hash = (hash ^ word(bytes).wrapping_mul(PRIMES[0])).rotate_left(23).wrapping_mul(PRIMES[1]);
        hash = hash.wrapping_add(PRIMES[2]);
        rest = after;
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte).wrapping_mul(PRIMES[4])).rotate_left(11).wrapping_mul(PRIMES[0]);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(PRIMES[1]);
    hash = (hash ^ (hash >> 29)).wrapping_mul(PRIMES[2]);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::xxhash64;

    #[test]
    fn the_hash_is_xxhash64() {
        for (text, hash) in [
            ("", 0xef46_db37_51d8_e999),
            ("a", 0xd24e_c4f1_a98c_6e5b),
            ("abc", 0x44bc_2cf5_ad77_0999),
            ("Call me Ishmael. Some years ago--never mind how long precisely-", 0x02a2_e854_70d6_fd96),
        ] {
            assert_eq!(xxhash64(text.as_bytes()), hash, "{text}");
        }
    }
}
