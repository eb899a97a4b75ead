//! Records in the forms that other systems collect: OCSF (JSON), CEF, and the frame of RFC 5424 around either.
//!
//! Each carries the sequence number and the hash of the leaf, so that what a collector holds can be traced back to the log and checked
//! there. A detail that is not in the entry is not in the form: whoever makes the entry has taken away what is above the collector's level.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use crate::merkle::leaf_hash;
use crate::{Detail, Entry, Public, Verb};

/// The version of the schema the first form follows.
const OCSF: &str = "1.6.0";

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Open Cybersecurity Schema Framework, a JSON object.
    Ocsf,
    /// Common Event Format.
    Cef,
}

/// How bad it is: by OCSF 1 informational, 2 low, 3 medium, 4 high.
fn severity(verb: Verb) -> u8 {
    match verb {
        Verb::Alarm | Verb::Escalated => 4,
        Verb::Refused
        | Verb::Withheld
        | Verb::SessionRefused
        | Verb::ClockStepped
        | Verb::Chased => 3,
        Verb::Exported
        | Verb::Printed
        | Verb::Expired
        | Verb::IncidentOpened
        | Verb::IncidentClosed
        | Verb::DetailsDropped => 2,
        _ => 1,
    }
}

/// Whether what was asked for was done: by OCSF 1 success, 2 failure.
fn status(verb: Verb) -> u8 {
    match verb {
        Verb::Refused | Verb::Withheld | Verb::SessionRefused | Verb::Expired => 2,
        _ => 1,
    }
}

/// OCSF class and activity of a verb: 3002 Authentication, 6003 API Activity, 2004 Detection Finding.
fn class(verb: Verb) -> (u32, u32) {
    match verb {
        Verb::SessionOpened | Verb::SessionRefused => (3002, 1),
        Verb::SessionClosed => (3002, 2),
        Verb::Alarm | Verb::Escalated => (2004, 1),
        // Create, read, update, delete.
        Verb::Accepted | Verb::CopyMade | Verb::IncidentOpened => (6003, 1),
        Verb::Opened | Verb::AuditRead | Verb::Reviewed => (6003, 2),
        Verb::Regraded
        | Verb::RegisterChanged
        | Verb::PolicyChanged
        | Verb::ConfigurationChanged
        | Verb::CrlChanged
        | Verb::IncidentClosed => (6003, 3),
        Verb::Destroyed
        | Verb::DetailsDropped
        | Verb::Expired
        | Verb::Recalled
        | Verb::Superseded
        | Verb::AttachmentRemoved => (6003, 4),
        _ => (6003, 99),
    }
}

/// A record as one line, without its end. `None` where the entry is no record.
#[must_use]
pub fn line(entry: &Entry, format: Format, broker: &str) -> Option<String> {
    let (public, detail) = entry.read()?;
    let leaf = leaf_hash(&entry.public).to_string();
    Some(match format {
        Format::Ocsf => ocsf(&public, detail.as_ref(), &leaf, broker).to_string(),
        Format::Cef => cef(&public, detail.as_ref(), &leaf),
    })
}

fn ocsf(public: &Public, detail: Option<&Detail>, leaf: &str, broker: &str) -> Value {
    let (class, activity) = class(public.verb);
    let d = detail;
    let actor = d.and_then(|d| d.person.as_ref().or(d.who.as_ref()));
    json!({
        "class_uid": class, "category_uid": class / 1000, "activity_id": activity,
        "type_uid": u64::from(class) * 100 + u64::from(activity),
        "time": public.time.as_millis(), "severity_id": severity(public.verb), "status_id": status(public.verb),
        "message": public.verb.as_str(),
        "metadata": {
            "version": OCSF, "uid": leaf, "sequence": public.sequence, "original_time": public.time,
            "product": { "name": "Ordonnans", "vendor_name": "Ordonnans", "version": env!("CARGO_PKG_VERSION") },
            "log_name": broker,
        },
        "actor": { "user": { "name": actor } },
        "api": { "operation": public.verb.as_str() },
        "unmapped": {
            "level": public.level, "clock": public.clock.as_str(), "commitment": public.commitment,
            "detail": d.map(|d| json!({
                "who": d.who, "person": d.person, "to": d.to, "message": d.message, "digest": d.digest,
                "rule": d.rule.map(|n| format!("POL-{n:02}")), "register_version": d.register.map(|r| r.version),
                "policy": d.policy, "copy": d.copy, "note": d.note,
            })),
        },
    })
}

/// Escapes what separates fields, and line ends.
fn escaped(text: &str, also: char) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c if c == also => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn cef(public: &Public, detail: Option<&Detail>, leaf: &str) -> String {
    // CEF counts from 0 to 10.
    let severity = severity(public.verb) * 2;
    let verb = public.verb.as_str();
    let mut out = format!(
        "CEF:0|Ordonnans|Ordonnans|{}|{}|{}|{severity}|",
        escaped(env!("CARGO_PKG_VERSION"), '|'),
        public.verb.code(),
        escaped(verb, '|'),
    );
    let mut fields = vec![
        ("rt", public.time.as_millis().to_string()),
        ("externalId", public.sequence.to_string()),
        ("act", verb.to_owned()),
        ("cs1Label", "level".into()),
        ("cs1", public.level.to_string()),
        ("cs2Label", "leaf".into()),
        ("cs2", leaf.to_owned()),
    ];
    if let Some(d) = detail {
        let mut add = |name, value: Option<String>| fields.extend(value.map(|v| (name, v)));
        add("suser", d.person.as_ref().map(ToString::to_string));
        add("shost", d.who.as_ref().map(ToString::to_string));
        add("dhost", d.to.as_ref().map(ToString::to_string));
        add("cs3Label", d.message.map(|_| "message".into()));
        add("cs3", d.message.map(|m| m.to_string()));
        add("cs4Label", d.rule.map(|_| "rule".into()));
        add("cs4", d.rule.map(|n| format!("POL-{n:02}")));
        add("cn1Label", d.copy.map(|_| "copy".into()));
        add("cn1", d.copy.map(|n| n.to_string()));
        add("msg", d.note.clone());
    }
    let fields: Vec<String> = fields
        .iter()
        .map(|(k, v)| format!("{k}={}", escaped(v, '=')))
        .collect();
    out.push_str(&fields.join(" "));
    out
}

/// The frame of RFC 5424 around a line: facility 13 (log audit), the time, the broker as host name, the verb as message id, and structured data with
/// sequence, level and the beginning of the leaf. `None` where the entry is no record.
#[must_use]
pub fn syslog(entry: &Entry, format: Format, broker: &str) -> Option<String> {
    let (public, _) = entry.read()?;
    let severity = match severity(public.verb) {
        4 => 1,
        3 => 4,
        2 => 5,
        _ => 6,
    };
    let leaf = leaf_hash(&entry.public);
    // The enterprise number for documentation (RFC 5612), until there is one of our own.
    Some(format!(
        "<{}>1 {} {broker} ordonnans-broker - {} [audit@32473 seq=\"{}\" level=\"{}\" leaf=\"{}\"] \u{feff}{}",
        13 * 8 + severity,
        public.time,
        public.verb.as_str(),
        public.sequence,
        public.level,
        HEXLOWER.encode(&leaf.as_bytes()[..16]),
        line(entry, format, broker)?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClockQuality, Record};
    use ordonnans_label::Level;
    use ordonnans_message::Timestamp;

    fn entry(note: &str) -> Entry {
        let detail = Detail {
            who: "ncc.node.crisis.example".parse().ok(),
            rule: Some(7),
            note: Some(note.into()),
            ..Detail::default()
        };
        let at = Timestamp::from_millis(1_790_000_000_000);
        let level = Level::StgG;
        Entry::from(&Record::new(
            9,
            at,
            ClockQuality::Unknown,
            Verb::Refused,
            level,
            detail,
            [1; 32],
        ))
    }

    #[test]
    fn nothing_in_a_text_breaks_out_of_its_field() {
        let e = entry("a=b|c\\d\ne\u{7}");
        let cef = line(&e, Format::Cef, "b1").expect("a record");
        assert!(cef.starts_with("CEF:0|Ordonnans|Ordonnans|"), "{cef}");
        assert!(cef.ends_with("msg=a\\=b|c\\\\d\\ne "), "{cef}");
        assert!(!cef.contains('\n'));
        let ocsf = line(&e, Format::Ocsf, "b1").expect("a record");
        let v: Value = serde_json::from_str(&ocsf).expect("JSON");
        assert_eq!(v["unmapped"]["detail"]["rule"], "POL-07");
        assert_eq!(
            (v["type_uid"].as_u64(), v["metadata"]["sequence"].as_u64()),
            (Some(600_399), Some(9))
        );
        assert!(!ocsf.contains('\n'));
        let framed = syslog(&e, Format::Cef, "b1.broker.crisis.example").expect("a record");
        assert!(framed.starts_with("<108>1 2026-09-21T"), "{framed}");
        assert!(
            framed.contains("[audit@32473 seq=\"9\" level=\"Stg.G\" leaf=\""),
            "{framed}"
        );
    }

    #[test]
    fn what_is_above_a_collector_does_not_go_to_it() {
        let e = entry("geheim").up_to(Level::DepV);
        for format in [Format::Ocsf, Format::Cef] {
            let text = syslog(&e, format, "b1").expect("a record");
            assert!(!text.contains("geheim") && !text.contains("ncc"), "{text}");
            assert!(text.contains("Refused") && text.contains("Stg.G"));
        }
    }
}
