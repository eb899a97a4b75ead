//! The names of keys in tokens: RFC 7512 URIs.
//!
//! Understood: `token`, `manufacturer`, `model`, `serial`, `slot-id`, `object`, `id`, `type` (which can only be `private`) and `module-path`. Any other attribute
//! is refused, for it would name less than was meant. A PIN in a URI (`pin-value`, `pin-source`) is refused too: it has its own sources.

use std::path::PathBuf;

use super::TokenError;

/// Bytes of a URI: some times what its attributes can hold.
const MAX_BYTES: usize = 2048;

/// What a URI says. What it does not say is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TokenUri {
    pub(super) token: Option<String>,
    pub(super) manufacturer: Option<String>,
    pub(super) model: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) slot: Option<u64>,
    pub(super) object: Option<String>,
    pub(super) id: Option<Vec<u8>>,
    pub(super) module: Option<PathBuf>,
}

impl TokenUri {
    /// Reads a URI.
    pub(super) fn parse(text: &str) -> Result<Self, TokenError> {
        let wrong = |why: String| TokenError::Uri { why };
        if text.len() > MAX_BYTES {
            return Err(wrong(format!("it is longer than {MAX_BYTES} bytes")));
        }
        let rest = text
            .strip_prefix("pkcs11:")
            .ok_or_else(|| wrong("it does not start with pkcs11:".into()))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Self::default();
        let mut seen = vec![];
        let parts = path.split(';').chain(query.split('&'));
        for part in parts.filter(|p| !p.is_empty()) {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| wrong("an attribute has no value".into()))?;
            if seen.contains(&key) {
                return Err(wrong(format!("{key} stands twice")));
            }
            seen.push(key);
            let bytes =
                decode(value).ok_or_else(|| wrong(format!("the value of {key} is damaged")))?;
            let text = || {
                String::from_utf8(bytes.clone())
                    .map(Some)
                    .map_err(|_| wrong(format!("the value of {key} is no text")))
            };
            match key {
                "token" => uri.token = text()?,
                "manufacturer" => uri.manufacturer = text()?,
                "model" => uri.model = text()?,
                "serial" => uri.serial = text()?,
                "object" => uri.object = text()?,
                "id" => uri.id = Some(bytes),
                "module-path" => uri.module = text()?.map(PathBuf::from),
                "slot-id" => {
                    let n = text()?.and_then(|t| t.parse().ok());
                    uri.slot = Some(n.ok_or_else(|| wrong("slot-id is no number".into()))?);
                }
                "type" if bytes == b"private" => {}
                "type" => return Err(wrong("type is other than private".into())),
                "pin-value" | "pin-source" => {
                    return Err(wrong(format!(
                        "{key} does not belong in it; the PIN has a source of its own, as a passphrase has"
                    )));
                }
                _ => {
                    let key: String = key.chars().take(32).collect();
                    return Err(wrong(format!("the attribute {key} is not known here")));
                }
            }
        }
        Ok(uri)
    }
}

/// Percent-decoding (RFC 3986 section 2.1).
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = vec![];
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        // Two digits are a byte.
        out.push((high << 4 | low) as u8);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_uri_says_is_read_and_what_is_not_known_is_named() {
        let uri = "pkcs11:token=The%20token;object=node;id=%01%ff;type=private;slot-id=7?module-path=/m.so";
        let expected = TokenUri {
            token: Some("The token".into()),
            object: Some("node".into()),
            id: Some(vec![1, 0xff]),
            slot: Some(7),
            module: Some("/m.so".into()),
            ..TokenUri::default()
        };
        assert_eq!(TokenUri::parse(uri), Ok(expected));
        assert_eq!(TokenUri::parse("pkcs11:"), Ok(TokenUri::default()));
        for (uri, why) in [
            ("token=a", "does not start"),
            ("pkcs11:token", "has no value"),
            ("pkcs11:token=a;token=b", "token stands twice"),
            ("pkcs11:token=%4", "token is damaged"),
            ("pkcs11:token=%zz", "token is damaged"),
            ("pkcs11:token=%ff", "token is no text"),
            ("pkcs11:slot-id=x", "no number"),
            ("pkcs11:type=cert", "other than private"),
            (
                "pkcs11:object=a?pin-value=1234",
                "pin-value does not belong",
            ),
            (
                "pkcs11:object=a?pin-source=/p",
                "pin-source does not belong",
            ),
            ("pkcs11:x-vendor=1", "x-vendor is not known"),
        ] {
            let e = TokenUri::parse(uri).expect_err(uri).to_string();
            assert!(e.contains(why) && !e.contains("1234"), "{uri}: {e}");
        }
        assert!(TokenUri::parse(&format!("pkcs11:token={}", "a".repeat(MAX_BYTES))).is_err());
    }
}
