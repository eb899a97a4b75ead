//! What the daemon answers to each command.

use std::cmp::Reverse;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use ordonnans_identity::Signer;
use ordonnans_label::Language;
use ordonnans_message::{Addressee, Envelope, Header, MessageId, Receipt, ReceiptKind};
use serde_json::{Value, json};

use crate::address::Address;
use crate::daemon::Daemon;
use crate::desk::{internal, usage};
use crate::failure::{Exit, Failure};
use crate::incoming::Opened;
use crate::local::{Request, Submission};
use crate::spool::{Arrived, Listed, Sent, Verdict};

/// How long `label catalog` waits for the broker.
const CATALOG_WITHIN: Duration = Duration::from_secs(10);
/// How long `send` waits for a directory that may have a recipient's key by now.
const KEY_WITHIN: Duration = Duration::from_secs(5);

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(internal)?
}

pub(crate) async fn answer(daemon: &Arc<Daemon>, request: Request) -> Result<Value, Failure> {
    match request {
        Request::Send { message, wait } => send(daemon, *message, wait).await,
        Request::Catalog { to } => catalog(daemon, &to).await,
        other => {
            let daemon = Arc::clone(daemon);
            blocking(move || listing(&daemon, other)).await
        }
    }
}

async fn send(daemon: &Arc<Daemon>, message: Submission, wait: bool) -> Result<Value, Failure> {
    let desk = Arc::clone(&daemon.desk);
    let mut changed = desk.changed();
    // A node may have published its key a moment ago: one look at the directory, where there is a line.
    let before = desk.directories();
    if !desk.keys(&message)?.1.is_empty() {
        desk.want_directory();
        let listed =
            async { while desk.directories() == before && changed.changed().await.is_ok() {} };
        // If the key is still not known, submitting says so.
        drop(tokio::time::timeout(KEY_WITHIN, listed).await);
    }
    let keeper = Arc::clone(&desk);
    let id = blocking(move || keeper.submit(&message)).await?;
    if !wait {
        return Ok(json!({ "id": id }));
    }
    let decided = async {
        loop {
            if let Some(verdict) = desk.spool.sent(id)?.and_then(|s| s.verdict) {
                return Ok(json!({ "id": id, "verdict": verdict }));
            }
            changed.changed().await.map_err(internal)?;
        }
    };
    tokio::select! {
        answer = decided => answer,
        () = daemon.stop.cancelled() => Err(Failure::new(
            Exit::Unreachable,
            format!("the daemon stops; {id} stays in the outbox"),
            "start it again; `ordonnans receipts` shows what became of the message",
        )),
    }
}

async fn catalog(daemon: &Arc<Daemon>, to: &[String]) -> Result<Value, Failure> {
    let desk = &daemon.desk;
    let structure = desk.name.structure();
    let to = to
        .iter()
        .map(|t| {
            let a = Address::parse(t, structure)
                .map_err(|e| usage(e.to_string(), "`ordonnans directory` lists the nodes"))?;
            Ok(Addressee {
                node: a.node,
                person: a.person,
            })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let answered = tokio::time::timeout(CATALOG_WITHIN, desk.ask(to)).await;
    let Ok(Ok(labels)) = answered else {
        return Err(Failure::new(
            Exit::Unreachable,
            "the broker did not answer",
            "`ordonnans status` shows whether there is a line",
        ));
    };
    let policies = desk.policies();
    Ok(labels
        .iter()
        .map(|l| {
            let c = &l.confidentiality;
            json!({
                "label": c.to_string(), "dutch_level": c.level(),
                "marking": policies.marking(c, Language::Nl),
            })
        })
        .collect())
}

fn listing(daemon: &Daemon, request: Request) -> Result<Value, Failure> {
    let desk = &daemon.desk;
    match request {
        Request::Send { .. } | Request::Catalog { .. } => Err(internal("answered elsewhere")),
        Request::Inbox => {
            let mut all = desk.spool.inbox()?;
            // Most urgent first, then as they came.
            all.sort_by_key(|(e, a)| (Reverse(e.header().precedence()), a.received));
            let row = |(e, a): (Envelope, Arrived)| {
                let mut row = about(e.header());
                row["received"] = json!(a.received);
                row["opened"] = json!(a.opened);
                row
            };
            Ok(all.into_iter().map(row).collect())
        }
        Request::Prepare { id, by } => {
            let r = desk.to_be_opened(id, by)?;
            Ok(json!({ "message": r.message, "envelope": r.envelope, "at": r.at }))
        }
        Request::Read {
            id,
            receipt,
            attachment,
        } => {
            let receipt = receipt.map(|r| BASE64.decode(r.as_bytes())).transpose();
            let receipt = receipt.map_err(|_| internal("the receipt is not base64"))?;
            let opened = desk.read(id, receipt.as_deref())?;
            read(daemon, &opened, attachment)
        }
        Request::Receipts { id: Some(id) } => {
            let row = |r: &Receipt| json!({ "message": r.message, "kind": r.kind, "by": r.by, "at": r.at });
            Ok(desk.spool.receipts(id)?.iter().map(row).collect())
        }
        Request::Receipts { id: None } => {
            let sent = desk.spool.all_sent()?.into_iter();
            sent.map(|(id, sent)| Ok(accounted(id, sent, &desk.spool.receipts(id)?)))
                .collect()
        }
        Request::Directory => {
            let row = |(name, l): &(String, Listed)| json!({ "name": name, "title": l.title, "key": l.package.is_some() });
            Ok(desk.spool.directory()?.iter().map(row).collect())
        }
        Request::Status => {
            let mut status = daemon.line_status();
            status["node"] = json!(desk.name);
            status["certificate_until"] = json!(desk.signer.certificate().not_after());
            status["outbox"] = json!(desk.outbox().order.len());
            status["receipts_owed"] = json!(desk.owed().len());
            status["directory"] = json!(desk.spool.directory()?.len());
            status["log_contradicted"] = json!(desk.spool.contradicted()?);
            Ok(status)
        }
    }
}

/// What became of a message of ours.
fn accounted(id: MessageId, sent: Sent, receipts: &[Receipt]) -> Value {
    let of = |kind| receipts.iter().filter(|r| r.kind == kind).count();
    let mut row = json!({
        "id": id, "created": sent.created, "label": sent.label, "precedence": sent.precedence.as_str(),
        "recipients": sent.recipients, "state": "waiting", "delivered": of(ReceiptKind::Delivered),
        "opened": of(ReceiptKind::Opened), "unusable": of(ReceiptKind::Refused),
    });
    match sent.verdict {
        None => {}
        Some(Verdict::Accepted { at, sequence }) => {
            row["state"] = json!("accepted");
            row["accepted_at"] = json!(at);
            row["sequence"] = json!(sequence);
        }
        Some(Verdict::Refused {
            code,
            rule,
            recipient,
        }) => {
            row["state"] = json!("refused");
            row["code"] = json!(code);
            row["rule"] = json!(rule);
            row["recipient"] = json!(recipient);
        }
    }
    row
}

fn about(h: &Header) -> Value {
    json!({
        "id": h.id, "originator": h.originator, "author": h.author, "label": h.label.to_string(),
        "precedence": h.precedence().as_str(), "exercise": h.exercise, "created": h.created, "expires": h.expires,
        "reply_by": h.reply_by, "attachments": h.attachments.len(),
        "persons": h.recipients.iter().filter_map(|r| r.person.as_ref()).collect::<Vec<_>>(),
    })
}

fn read(
    daemon: &Daemon,
    opened: &Opened,
    attachment: Option<(usize, PathBuf)>,
) -> Result<Value, Failure> {
    let content = &opened.content;
    let mut value = about(&opened.header);
    value["still_believed"] = json!(opened.still_believed);
    value["subject"] = json!(content.subject);
    value["media_type"] = json!(content.media_type);
    value["name"] = json!(content.name);
    let names: Vec<Value> = content
        .attachments
        .iter()
        .map(|a| json!({ "name": a.name, "media_type": a.media_type, "length": a.length }))
        .collect();
    value["attachments"] = json!(names);
    match attachment {
        None => value["body"] = json!(BASE64.encode(&content.body)),
        Some((n, path)) => {
            let a = n.checked_sub(1).and_then(|n| content.attachments.get(n));
            let a = a.ok_or_else(|| {
                let all = content.attachments.len();
                usage(format!("the message has {all} attachments"), "count from 1")
            })?;
            daemon.desk.save_attachment(a, &path)?;
            value["saved"] = json!(path);
        }
    }
    Ok(value)
}
