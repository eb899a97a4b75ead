//! `ordonnans-ca show --authorities`.

use serde_json::json;
use x509_parser::prelude::{ASN1Time, CertificateRevocationList, FromDer, X509Certificate};

use crate::cli::line;
use crate::workshop::Workshop;

/// Roots and issuing authorities: until when they and their last lists are valid, and whether their keys are here.
pub(crate) fn authorities(w: &Workshop, json: bool, out: &mut Vec<u8>) {
    for a in w.authorities() {
        let (certificate, list) = (a.certificate(), a.list());
        let certificate = X509Certificate::from_der(&certificate).ok();
        let list = CertificateRevocationList::from_der(&list).ok();
        let date = |t: ASN1Time| t.to_datetime().date().to_string();
        let until = certificate.map(|(_, c)| date(c.validity().not_after));
        let number = list.as_ref().and_then(|(_, l)| l.crl_number());
        let row = json!({
            "authority": a.name,
            "under": a.under,
            "standing": if a.retired.is_some() { "retired" } else { "in trust" },
            "until": until,
            "list": number.map(ToString::to_string),
            "list_until": list.as_ref().and_then(|(_, l)| l.next_update()).map(date),
            "key": w.has_key(&a.name),
        });
        if json {
            line(out, row);
            continue;
        }
        let text = |field: &str| row[field].as_str().unwrap_or("-").to_owned();
        let key = if w.has_key(&a.name) { "here" } else { "away" };
        line(
            out,
            format_args!(
                "{:<12} {:<8} until {}  list {} until {}  key {key}",
                a.name,
                text("standing"),
                text("until"),
                text("list"),
                text("list_until")
            ),
        );
    }
}
