//! What a message was believed by: the authorities and lists of the moment it came in, kept beside it. Whoever is revoked later does not take
//! back what was received before; and a list of then is the only one by which a check of then can be done again.

use std::time::Duration;

use data_encoding::BASE64;
use ordonnans_identity::Trust;
use ordonnans_message::{Digest, sha256};
use serde::{Deserialize, Serialize};

use crate::desk::internal;
use crate::failure::Failure;

/// Authorities and lists, DER in base64.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Belief {
    roots: Vec<String>,
    intermediates: Vec<String>,
    lists: Vec<String>,
    /// How long lists counted beyond their ends, in milliseconds.
    grace: u64,
}

impl Belief {
    pub(crate) fn of(trust: &Trust) -> Self {
        fn texts(all: &[impl AsRef<[u8]>]) -> Vec<String> {
            all.iter().map(|d| BASE64.encode(d.as_ref())).collect()
        }
        Self {
            roots: texts(trust.roots()),
            intermediates: texts(trust.intermediates()),
            lists: texts(trust.lists()),
            grace: u64::try_from(trust.grace().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// How a message names it.
    pub(crate) fn digest(&self) -> Digest {
        let all = [&self.roots, &self.intermediates, &self.lists];
        let text = all.map(|part| part.join(" ")).join("\n");
        let text = format!("{text}\n{}", self.grace);
        sha256(&[text.as_bytes()])
    }

    pub(crate) fn trust(&self) -> Result<Trust, Failure> {
        fn ders<T: From<Vec<u8>>>(texts: &[String]) -> Result<Vec<T>, Failure> {
            let der = |t: &String| BASE64.decode(t.as_bytes()).map(T::from).map_err(internal);
            texts.iter().map(der).collect()
        }
        Trust::from_parts(
            ders(&self.roots)?,
            ders(&self.intermediates)?,
            ders(&self.lists)?,
        )
        .map(|t| t.with_grace(Duration::from_millis(self.grace)))
        .map_err(internal)
    }
}
