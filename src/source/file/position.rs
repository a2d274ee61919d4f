//! Where a file source has read to, as stored in the checkpoint.

use serde::{Deserialize, Serialize};

/// How far before the position the content is remembered.
pub(super) const REMEMBERED_BYTES: usize = 256;

/// The place after the last whole line that was read of one file.
///
/// The number of the device is deliberately absent: it changes when a container's file systems are mounted again. The
/// content just before the place tells whether the file is still the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePosition {
    /// The file's inode.
    pub inode: u64,
    /// Bytes from its beginning.
    pub offset: u64,
    /// FNV-1a of the last 256 bytes (or fewer) before the offset.
    pub before: u64,
}

/// The first byte of the encoding.
const VERSION: u8 = 1;

/// Encodes the positions of a file and of its rotated predecessors that are still read, oldest first.
pub(super) fn encode(positions: &[FilePosition]) -> Vec<u8> {
    let mut out = vec![VERSION];
    for position in positions {
        for number in [position.inode, position.offset, position.before] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
    out
}

/// `None` for an encoding that is not ours (another transport stood under this name).
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<FilePosition>> {
    let (&VERSION, rest) = bytes.split_first()? else { return None };
    let (numbers, left_over) = rest.as_chunks::<8>();
    let (positions, odd) = numbers.as_chunks::<3>();
    if !left_over.is_empty() || !odd.is_empty() {
        return None;
    }
    let position = |[inode, offset, before]: &[[u8; 8]; 3]| FilePosition {
        inode: u64::from_le_bytes(*inode),
        offset: u64::from_le_bytes(*offset),
        before: u64::from_le_bytes(*before),
    };
    Some(positions.iter().map(position).collect())
}

/// FNV-1a, 64 bits. Stored, so that it must never change.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_their_encoding_and_foreign_ones_are_refused() {
        let positions = [1, 2].map(|inode| FilePosition { inode, offset: inode << 40, before: hash(b"x") });
        assert_eq!(decode(&encode(&positions)).unwrap(), positions);
        assert_eq!(decode(&[VERSION]), Some(Vec::new()));
        for foreign in [&b""[..], b"\x02", b"\x01123", b"1795165200-0", &[VERSION; 17]] {
            assert_eq!(decode(foreign), None, "{foreign:?}");
        }
    }
}
