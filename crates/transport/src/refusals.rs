//! Why peers are refused before they are known, counted for the record.
//!
//! Whoever shows a certificate that is not believed has proven nothing, not even that it holds the key: so a record has reasons and numbers, and no
//! name. The reasons are a fixed few, so however many strangers there are, they fill nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use quinn::ConnectionError;

pub(crate) const FULL: &str = "too many connections";
pub(crate) const SILENT: &str = "fell silent";
/// It broke off.
pub(crate) const LEFT: &str = "left";
/// A further connection of a session over TCP that shows no token of one, or another certificate.
pub(crate) const TOKEN: &str = "no session of its own";
/// The handshake went well, and what it gave is none of ours.
pub(crate) const FORM: &str = "certificate of another form";

/// How often each reason was met.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<&'static str, u64>>);

impl Refusals {
    pub(crate) fn add(&self, why: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(why).or_default() += 1;
    }

    /// What was counted, together and in words; it begins anew.
    pub(crate) fn take(&self) -> (u64, String) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut *counts);
        let each: Vec<String> = all.iter().map(|(why, n)| format!("{n} {why}")).collect();
        (all.values().sum(), each.join(", "))
    }
}

/// The reason for which a handshake failed. Those about certificates are what `why` in `tls` tells the peer.
pub(crate) fn of(e: &ConnectionError) -> &'static str {
    let ConnectionError::TransportError(e) = e else {
        return match e {
            ConnectionError::TimedOut => SILENT,
            _ => LEFT,
        };
    };
    of_text(&e.reason)
}

/// The same over TCP.
pub(crate) fn of_tcp(e: &std::io::Error) -> &'static str {
    match e.get_ref() {
        Some(tls) => of_text(&tls.to_string()),
        None => LEFT,
    }
}

fn of_text(reason: &str) -> &'static str {
    match reason.strip_prefix("invalid peer certificate: ") {
        Some("Revoked") => "certificate revoked",
        Some("Expired") => "certificate ended",
        Some("NotValidYet") => "certificate not valid yet",
        Some("ExpiredRevocationList") => "list beyond its grace",
        Some("UnknownRevocationStatus") => "no list for the certificate",
        Some("UnknownIssuer") => "unknown authority",
        Some("BadEncoding") => FORM,
        Some(_) => "certificate not believed",
        None if reason.contains("peer sent no certificates") => "no certificate",
        None => "handshake failed",
    }
}
