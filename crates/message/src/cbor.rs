//! Deterministic CBOR (RFC 8949 section 4.2): writing and strict reading.
//!
//! [`Writer`] only writes the deterministic form: shortest lengths, definite lengths. [`Reader`] takes what it is told to expect,
//! bounds every length before anything is copied, and never recurses, so depth cannot hurt it. That the bytes were the
//! deterministic form is settled by [`exactly`]: what was read is written again and must be the same bytes.

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

/// Why bytes were refused. The name is stable and stands in the vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside an item.
    #[error("the bytes end too early")]
    Truncated,
    /// Bytes are left over.
    #[error("bytes are left over after the end")]
    Trailing,
    /// An item has another type, count or value than the form says.
    #[error("{0} has the wrong form")]
    Form(&'static str),
    /// A length or count is above its limit.
    #[error("{0} is above its limit")]
    Limit(&'static str),
    /// The same value has a shorter or otherwise ordered form.
    #[error("the encoding is not the deterministic one")]
    NotDeterministic,
    /// A key, kind, version, suite or policy that this version does not know.
    #[error("{0} is not known to this version")]
    Unknown(&'static str),
    /// A form that is reserved for later.
    #[error("{0} is not supported yet")]
    Unsupported(&'static str),
}

impl DecodeError {
    /// The stable name, as the vectors write it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Truncated => "Truncated",
            Self::Trailing => "Trailing",
            Self::Form(_) => "Form",
            Self::Limit(_) => "Limit",
            Self::NotDeterministic => "NotDeterministic",
            Self::Unknown(_) => "Unknown",
            Self::Unsupported(_) => "Unsupported",
        }
    }
}

/// Reads a value from the whole of `bytes` and proves that they are its one encoding.
///
/// # Errors
/// Whatever `decode` refuses; [`DecodeError::Trailing`]; [`DecodeError::NotDeterministic`].
pub fn exactly<T>(
    bytes: &[u8],
    decode: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
    encode: impl FnOnce(&T, &mut Writer),
) -> Result<T, DecodeError> {
    let mut r = Reader::new(bytes);
    let value = decode(&mut r)?;
    r.finish()?;
    let mut w = Writer::default();
    encode(&value, &mut w);
    if w.into_bytes() == bytes {
        Ok(value)
    } else {
        Err(DecodeError::NotDeterministic)
    }
}

/// Writes deterministic CBOR. Map keys are written by the caller in ascending order.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

/// Writing to memory cannot fail; the encoder's error type has no value.
macro_rules! put {
    ($self:ident, $method:ident $(, $arg:expr)?) => {{
        let mut e = Encoder::new(&mut $self.out);
        let Ok(_) = e.$method($($arg)?) else { unreachable!("memory takes every byte") };
    }};
}

impl Writer {
    /// The bytes written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// The head of an array of `n` items.
    pub fn array(&mut self, n: usize) -> &mut Self {
        put!(self, array, n as u64);
        self
    }

    /// The head of a map of `n` pairs.
    pub fn map(&mut self, n: usize) -> &mut Self {
        put!(self, map, n as u64);
        self
    }

    /// An unsigned integer.
    pub fn uint(&mut self, n: u64) -> &mut Self {
        put!(self, u64, n);
        self
    }

    /// A signed integer.
    pub fn int(&mut self, n: i64) -> &mut Self {
        put!(self, i64, n);
        self
    }

    /// A byte string.
    pub fn bytes(&mut self, b: &[u8]) -> &mut Self {
        put!(self, bytes, b);
        self
    }

    /// A text string.
    pub fn text(&mut self, s: &str) -> &mut Self {
        put!(self, str, s);
        self
    }

    /// True or false.
    pub fn bool(&mut self, b: bool) -> &mut Self {
        put!(self, bool, b);
        self
    }

    /// A tag.
    pub fn tag(&mut self, n: u64) -> &mut Self {
        put!(self, tag, minicbor::data::Tag::new(n));
        self
    }

    /// Null, or the value where there is one.
    pub fn option<T>(&mut self, v: Option<T>, write: impl FnOnce(&mut Self, T)) -> &mut Self {
        match v {
            None => put!(self, null),
            Some(v) => {
                write(self, v);
            }
        }
        self
    }
}

/// Reads what it is told to expect.
#[derive(Debug)]
pub struct Reader<'b> {
    d: Decoder<'b>,
}

impl<'b> Reader<'b> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'b [u8]) -> Self {
        Self {
            d: Decoder::new(bytes),
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] if bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.d.position() == self.d.input().len() {
            Ok(())
        } else {
            Err(DecodeError::Trailing)
        }
    }

    /// The head of an array with at most `max` items; its count.
    ///
    /// # Errors
    /// [`DecodeError`] naming `what`, as for every method here.
    pub fn array(&mut self, what: &'static str, max: usize) -> Result<usize, DecodeError> {
        let n = self
            .d
            .array()
            .map_err(|e| refused(&e, what))?
            .ok_or(DecodeError::NotDeterministic)?;
        usize::try_from(n)
            .ok()
            .filter(|n| *n <= max)
            .ok_or(DecodeError::Limit(what))
    }

    /// The head of an array of exactly `n` items.
    ///
    /// # Errors
    /// [`DecodeError::Form`] for another count.
    pub fn tuple(&mut self, what: &'static str, n: usize) -> Result<(), DecodeError> {
        if self.array(what, usize::MAX)? == n {
            Ok(())
        } else {
            Err(DecodeError::Form(what))
        }
    }

    /// Reads a map with ascending integer keys; `field` reads the value of each key and refuses keys it does not know.
    ///
    /// # Errors
    /// [`DecodeError::NotDeterministic`] for keys out of order or twice; what `field` refuses.
    pub fn map(
        &mut self,
        what: &'static str,
        max: usize,
        mut field: impl FnMut(&mut Self, i64) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let n = self
            .d
            .map()
            .map_err(|e| refused(&e, what))?
            .ok_or(DecodeError::NotDeterministic)?;
        if n > max as u64 {
            return Err(DecodeError::Limit(what));
        }
        let mut last: Option<i64> = None;
        for _ in 0..n {
            let key = self.int(what)?;
            // Bytewise order of the encoded keys: 0, 1, 2, … then -1, -2, …
            let rank = |k: i64| {
                if k < 0 {
                    (1, k.unsigned_abs())
                } else {
                    (0, k.unsigned_abs())
                }
            };
            if last.is_some_and(|l| rank(l) >= rank(key)) {
                return Err(DecodeError::NotDeterministic);
            }
            last = Some(key);
            field(self, key)?;
        }
        Ok(())
    }

    /// An unsigned integer up to `max`.
    ///
    /// # Errors
    /// [`DecodeError::Limit`] above `max`.
    pub fn uint(&mut self, what: &'static str, max: u64) -> Result<u64, DecodeError> {
        let n = self.d.u64().map_err(|e| refused(&e, what))?;
        if n <= max {
            Ok(n)
        } else {
            Err(DecodeError::Limit(what))
        }
    }

    /// A signed integer.
    ///
    /// # Errors
    /// [`DecodeError::Form`].
    pub fn int(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        self.d.i64().map_err(|e| refused(&e, what))
    }

    /// A byte string of at most `max` bytes, borrowed.
    ///
    /// # Errors
    /// [`DecodeError::Limit`].
    pub fn bytes(&mut self, what: &'static str, max: usize) -> Result<&'b [u8], DecodeError> {
        if matches!(self.d.datatype(), Ok(Type::BytesIndef)) {
            return Err(DecodeError::NotDeterministic);
        }
        let b = self.d.bytes().map_err(|e| refused(&e, what))?;
        if b.len() <= max {
            Ok(b)
        } else {
            Err(DecodeError::Limit(what))
        }
    }

    /// A byte string of exactly `N` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Form`] for another length.
    pub fn fixed<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        self.bytes(what, N)?
            .try_into()
            .map_err(|_| DecodeError::Form(what))
    }

    /// A text string of at most `max` bytes, borrowed.
    ///
    /// # Errors
    /// [`DecodeError::Limit`]; [`DecodeError::Form`] where it is not UTF-8.
    pub fn text(&mut self, what: &'static str, max: usize) -> Result<&'b str, DecodeError> {
        if matches!(self.d.datatype(), Ok(Type::StringIndef)) {
            return Err(DecodeError::NotDeterministic);
        }
        let s = self.d.str().map_err(|e| refused(&e, what))?;
        if s.len() <= max {
            Ok(s)
        } else {
            Err(DecodeError::Limit(what))
        }
    }

    /// A text of at most `max` bytes that must parse.
    ///
    /// # Errors
    /// [`DecodeError::Form`] where it does not.
    pub fn parsed<T: std::str::FromStr>(
        &mut self,
        what: &'static str,
        max: usize,
    ) -> Result<T, DecodeError> {
        self.text(what, max)?
            .parse()
            .map_err(|_| DecodeError::Form(what))
    }

    /// True or false.
    ///
    /// # Errors
    /// [`DecodeError::Form`].
    pub fn bool(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        self.d.bool().map_err(|e| refused(&e, what))
    }

    /// A tag, which must be this one.
    ///
    /// # Errors
    /// [`DecodeError::Form`] for another.
    pub fn tag(&mut self, what: &'static str, n: u64) -> Result<(), DecodeError> {
        let t = self.d.tag().map_err(|e| refused(&e, what))?;
        if t.as_u64() == n {
            Ok(())
        } else {
            Err(DecodeError::Form(what))
        }
    }

    /// `None` for null, else what `read` reads.
    ///
    /// # Errors
    /// What `read` refuses.
    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if matches!(self.d.datatype(), Ok(Type::Null)) {
            self.d.null().map_err(|e| refused(&e, "null"))?;
            return Ok(None);
        }
        read(self).map(Some)
    }
}

fn refused(e: &minicbor::decode::Error, what: &'static str) -> DecodeError {
    if e.is_end_of_input() {
        DecodeError::Truncated
    } else {
        DecodeError::Form(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8]) -> Result<u64, DecodeError> {
        exactly(
            bytes,
            |r| r.uint("n", u64::MAX),
            |n, w| {
                w.uint(*n);
            },
        )
    }

    #[test]
    fn one_number_one_form() {
        assert_eq!(number(&[0x17]), Ok(23));
        assert_eq!(number(&[0x18, 0x18]), Ok(24));
        assert_eq!(number(&[0x18, 0x17]), Err(DecodeError::NotDeterministic));
        assert_eq!(number(&[0x17, 0x17]), Err(DecodeError::Trailing));
        assert_eq!(number(&[0x18]), Err(DecodeError::Truncated));
        assert_eq!(number(&[0x20]), Err(DecodeError::Form("n")));
        assert_eq!(number(&[]), Err(DecodeError::Truncated));
    }

    #[test]
    fn lengths_are_bounded_before_use() {
        // An array that claims 2^32 items, a byte string that claims 2^40 bytes.
        assert_eq!(
            Reader::new(&[0x9a, 0xff, 0xff, 0xff, 0xff]).array("a", 3),
            Err(DecodeError::Limit("a"))
        );
        assert!(
            Reader::new(&[0x5b, 0, 0, 1, 0, 0, 0, 0, 0])
                .bytes("b", 3)
                .is_err()
        );
        assert_eq!(
            Reader::new(&[0x9f]).array("a", 3),
            Err(DecodeError::NotDeterministic)
        );
        assert_eq!(
            Reader::new(&[0x5f, 0xff]).bytes("b", 3),
            Err(DecodeError::NotDeterministic)
        );
    }

    #[test]
    fn keys_ascend() {
        let read = |bytes| Reader::new(bytes).map("m", 4, |r, _| r.uint("v", 9).map(drop));
        assert_eq!(read(&[0xa2, 1, 0, 2, 0]), Ok(()));
        assert_eq!(read(&[0xa2, 1, 0, 0x20, 0]), Ok(()));
        assert_eq!(
            read(&[0xa2, 2, 0, 1, 0]),
            Err(DecodeError::NotDeterministic)
        );
        assert_eq!(
            read(&[0xa2, 1, 0, 1, 0]),
            Err(DecodeError::NotDeterministic)
        );
    }
}
