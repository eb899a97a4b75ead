//! Values with their own checksum: the database below does not check what it reads.

use crc32c::{crc32c, crc32c_append};

fn sum(key: &[u8], value: &[u8]) -> [u8; 4] {
    crc32c_append(crc32c(key), value).to_le_bytes()
}

/// The value as it is kept: checksum over key and value, then the value.
pub(crate) fn close(key: &[u8], value: &[u8]) -> Vec<u8> {
    [&sum(key, value)[..], value].concat()
}

/// The value, where its checksum holds for this key.
pub(crate) fn open<'v>(key: &[u8], kept: &'v [u8]) -> Option<&'v [u8]> {
    let (own, value) = kept.split_first_chunk::<4>()?;
    (*own == sum(key, value)).then_some(value)
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_bit_flips_unseen() {
        let kept = super::close(b"key", b"value");
        assert_eq!(super::open(b"key", &kept), Some(&b"value"[..]));
        assert_eq!(super::open(b"kez", &kept), None, "under another key");
        assert_eq!(super::open(b"key", &kept[..3]), None);
        for at in 0..kept.len() * 8 {
            let mut other = kept.clone();
            other[at / 8] ^= 1 << (at % 8);
            assert_eq!(super::open(b"key", &other), None, "bit {at}");
        }
    }
}
