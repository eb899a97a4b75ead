//! The commands of a security officer.

use std::path::Path;

use ordonnans_audit::export;
use ordonnans_message::limits;
use serde_json::{Value, json};

use crate::cli::{AuditCommand, Listing};
use crate::commands::message_id;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::officer::{Officer, verify_export, write_export};

/// Checks an export with the key alone.
pub(crate) fn verify(dir: &Path, key: &Path) -> Result<Value, Failure> {
    let report = verify_export(dir, key)?;
    Ok(json!({
        "verified": true, "records": report.head.size, "root": report.head.root, "opened": report.opened,
    }))
}

/// Reads the log of the broker, as an officer.
pub(crate) async fn audit(
    config: &Config,
    command: AuditCommand,
) -> Result<(Value, Listing), Failure> {
    let mut officer = Officer::connect(config).await?;
    let (value, listing) = match command {
        AuditCommand::List {
            from,
            limit,
            message,
            listing,
        } => {
            let message = message.as_deref().map(message_id).transpose()?;
            let mut rows = vec![];
            let mut at = from;
            while (rows.len() as u64) < limit {
                let most = (limit - rows.len() as u64).min(limits::MAX_PAGE as u64);
                let page = officer.page(at, most, message).await?;
                let got = page.entries.len() as u64;
                let more = page.entries.iter().filter_map(export::record).map(flat);
                rows.extend(more);
                // Each reading makes a record: who reads on until nothing is left reads what it makes.
                let last = rows.last().and_then(|r: &Value| r["sequence"].as_u64());
                match last {
                    Some(last) if got == most => at = last + 1,
                    _ => break,
                }
            }
            (Value::from(rows), listing)
        }
        AuditCommand::Show { sequence, listing } => {
            let page = officer.page(sequence, 1, None).await?;
            let entry = page.entries.first();
            let record = entry.and_then(export::record);
            let record = record.ok_or_else(|| {
                Failure::new(
                    Exit::Refused,
                    format!("the log has no record {sequence} yet"),
                    "`ordonnans audit list` shows what there is",
                )
            })?;
            (flat(record), listing)
        }
        AuditCommand::Export { dir, listing } => {
            let page = officer.whole().await?;
            let head = write_export(&dir, &page)?;
            let value = json!({ "written": dir, "records": head.size, "root": head.root });
            (value, listing)
        }
        AuditCommand::Verify { .. } => return Err(Failure::internal("answered elsewhere")),
    };
    officer.finish().await;
    Ok((value, listing))
}

/// A record with its detail beside it, for people: without the bytes.
fn flat(mut record: Value) -> Value {
    let detail = record["detail"].take();
    let Some(row) = record.as_object_mut() else {
        return record;
    };
    for key in ["detail", "detail_bytes", "salt", "public"] {
        row.remove(key);
    }
    match detail {
        Value::Object(fields) => row.extend(fields),
        // Above the officer's clearance.
        _ => drop(row.insert("detail".into(), json!("closed"))),
    }
    record
}
