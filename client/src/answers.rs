//! What the daemon answers to each command.

use std::cmp::Reverse;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER};
use ordonnans_identity::Signer;
use ordonnans_label::{Language, Level};
use ordonnans_message::{
    Addressee, Content, Envelope, Frame, Header, MessageId, Receipt, ReceiptKind, SignedAct, limits,
};
use serde_json::{Value, json};

use crate::acts::{Answered, Review};
use crate::address::Address;
use crate::addressing::Expanded;
use crate::daemon::Daemon;
use crate::desk::{Desk, internal, usage};
use crate::drafts::{Draft, DraftId};
use crate::failure::{Exit, Failure};
use crate::incoming::{Inside, Read};
use crate::local::{Handed, Request, Submission};
use crate::opening::{chosen, show};
use crate::passing::shown as shown_of;
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
        Request::Establish {
            draft,
            act,
            content,
            wait,
        } => {
            let act = BASE64.decode(act.as_bytes());
            let act = act.map_err(|_| internal("the statement is not base64"))?;
            let content = handed(content)?;
            let desk = Arc::clone(&daemon.desk);
            let message = desk.kept(draft)?.message;
            let level = SignedAct::decode(&act).map(|a| a.said().label.confidentiality.level());
            with_keys(daemon, &message, level.map_err(internal)?).await?;
            let expanded = expand(daemon, &message).await?;
            let out = blocking(move || {
                if desk.sign_first(draft, &act, content.as_ref())? {
                    return Ok(None);
                }
                let id = desk.establish(draft, &act, content.as_ref(), &expanded);
                id.map(Some)
            });
            let Some(id) = out.await? else {
                return Ok(json!({ "draft": draft, "state": "waits for a second person" }));
            };
            sent(daemon, id, wait).await
        }
        Request::Second {
            draft,
            second,
            content,
            wait,
        } => {
            let second = BASE64.decode(second.as_bytes());
            let second = second.map_err(|_| internal("the second signature is not base64"))?;
            let content = handed(content)?;
            let desk = Arc::clone(&daemon.desk);
            let kept = desk.kept(draft)?;
            let level = desk.level_of(&kept)?;
            with_keys(daemon, &kept.message, level).await?;
            let expanded = expand(daemon, &kept.message).await?;
            let id = blocking(move || desk.second(draft, &second, content.as_ref(), &expanded));
            sent(daemon, id.await?, wait).await
        }
        Request::Propose { message, openers } => {
            let desk = Arc::clone(&daemon.desk);
            listed(daemon, || desk.unlisted(&openers)).await?;
            let draft = blocking(move || desk.propose(&message, &openers)).await?;
            Ok(json!({ "draft": draft }))
        }
        Request::Extract {
            of,
            message,
            openers,
        } => {
            let desk = Arc::clone(&daemon.desk);
            listed(daemon, || desk.unlisted(&openers)).await?;
            let draft = blocking(move || desk.extract(of, &message, &openers)).await?;
            Ok(json!({ "draft": draft }))
        }
        Request::Forward {
            id,
            receipt,
            message,
            wait,
        } => {
            let receipt = decoded(receipt)?;
            let desk = Arc::clone(&daemon.desk);
            let label = desk.passable(id)?;
            let message = Submission {
                label: label.to_string(),
                ..*message
            };
            with_keys(daemon, &message, label.confidentiality.level()).await?;
            let expanded = expand(daemon, &message).await?;
            let id = blocking(move || desk.forward(id, receipt.as_deref(), &message, &expanded));
            sent(daemon, id.await?, wait).await
        }
        Request::State { frame, wait } => state(daemon, &frame, wait).await,
        other => {
            let daemon = Arc::clone(daemon);
            blocking(move || listing(&daemon, other)).await
        }
    }
}

async fn send(daemon: &Arc<Daemon>, message: Submission, wait: bool) -> Result<Value, Failure> {
    let level = daemon.desk.label(&message)?.confidentiality.level();
    with_keys(daemon, &message, level).await?;
    let expanded = expand(daemon, &message).await?;
    let keeper = Arc::clone(&daemon.desk);
    let id = blocking(move || keeper.submit_to(&message, &expanded)).await?;
    sent(daemon, id, wait).await
}

/// Waits for the keys of the recipients, where one is not known yet.
async fn with_keys(daemon: &Daemon, message: &Submission, level: Level) -> Result<(), Failure> {
    let missing = || Ok(!daemon.desk.keys(message, level)?.1.is_empty());
    listed(daemon, missing).await
}

/// Where a key is missing it may have been published a moment ago: one look at the directory, where there is a line.
async fn listed(
    daemon: &Daemon,
    missing: impl FnOnce() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let desk = &daemon.desk;
    let mut changed = desk.changed();
    let before = desk.directories();
    if missing()? {
        desk.want_directory();
        let listed =
            async { while desk.directories() == before && changed.changed().await.is_ok() {} };
        // If the key is still not known, what needs it says so.
        drop(tokio::time::timeout(KEY_WITHIN, listed).await);
    }
    Ok(())
}

/// The content of a draft, as whoever opened it hands it over.
fn handed(content: Option<Handed>) -> Result<Option<Content>, Failure> {
    let wrong = || internal("the content is not one");
    let content = content.map(|c| BASE64.decode(c.0.as_bytes()));
    let content = content.transpose().map_err(|_| wrong())?;
    let content = content.map(|c| Content::decode(&c));
    content.transpose().map_err(|_| wrong())
}

/// Who is in the groups that a message is for, and may have it.
async fn expand(daemon: &Daemon, message: &Submission) -> Result<Expanded, Failure> {
    let groups = message.groups();
    if groups.is_empty() {
        return Ok(Expanded::new());
    }
    if groups.len() > limits::MAX_GROUPS {
        return Err(usage(
            format!("a message is for at most {} groups", limits::MAX_GROUPS),
            "make a list of the register that has them all",
        ));
    }
    let desk = &daemon.desk;
    let label = desk.label(message)?;
    let asked = desk.ask_members(groups.clone(), label);
    let Ok(Ok(members)) = tokio::time::timeout(CATALOG_WITHIN, asked).await else {
        return Err(Failure::new(
            Exit::Unreachable,
            "the broker, who knows the members of groups, did not answer",
            "name nodes or persons: that waits in the outbox until there is a line",
        ));
    };
    let known = groups.into_iter().zip(members);
    Ok(known.filter_map(|(g, m)| Some((g, m?))).collect())
}

/// What became of a message that was handed in.
async fn sent(daemon: &Daemon, id: MessageId, wait: bool) -> Result<Value, Failure> {
    if !wait {
        return Ok(json!({ "id": id }));
    }
    let desk = &daemon.desk;
    let mut changed = desk.changed();
    let decided = async {
        loop {
            if let Some(sent) = desk.spool.sent(id)?
                && let Some(verdict) = sent.verdict
            {
                return Ok(json!({ "id": id, "verdict": verdict, "draft": sent.draft }));
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

/// Hands a statement to the broker.
async fn state(daemon: &Arc<Daemon>, frame: &str, wait: bool) -> Result<Value, Failure> {
    let bytes = BASE64.decode(frame.as_bytes());
    let bytes = bytes.map_err(|_| internal("the statement is not base64"))?;
    let frame = Frame::decode(&bytes).map_err(internal)?;
    let desk = Arc::clone(&daemon.desk);
    let mut changed = desk.changed();
    let keeper = Arc::clone(&desk);
    let of = blocking(move || keeper.state(&frame)).await?;
    if !wait {
        return Ok(json!({ "statement": of, "state": "waiting" }));
    }
    let decided = async {
        loop {
            if let Some(verdict) = desk.spool.statement(&of)?.and_then(|s| s.verdict) {
                return Ok(verdict);
            }
            changed.changed().await.map_err(internal)?;
        }
    };
    let verdict = tokio::select! {
        verdict = decided => verdict?,
        () = daemon.stop.cancelled() => {
            return Err(Failure::new(
                Exit::Unreachable,
                "the daemon stops; the statement stays with it",
                "start it again: it goes to the broker as soon as there is a line",
            ));
        }
    };
    match verdict {
        Answered::Kept => Ok(json!({ "statement": of, "state": "in force" })),
        Answered::Refused { code, rule } => Err(Failure::new(
            Exit::Refused,
            format!("the broker refused the statement: {code}"),
            rule.map_or_else(
                || "`ordonnans label history ID` shows the acts so far, and who may act on the label".into(),
                |r| format!("rule POL-{r:02} in docs/policy.md says what must hold"),
            ),
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

fn decoded(receipt: Option<String>) -> Result<Option<Vec<u8>>, Failure> {
    let receipt = receipt.map(|r| BASE64.decode(r.as_bytes())).transpose();
    receipt.map_err(|_| internal("the receipt is not base64"))
}

fn listing(daemon: &Daemon, request: Request) -> Result<Value, Failure> {
    let desk = &daemon.desk;
    match request {
        Request::Send { .. }
        | Request::Catalog { .. }
        | Request::Establish { .. }
        | Request::Second { .. }
        | Request::Propose { .. }
        | Request::Extract { .. }
        | Request::Forward { .. }
        | Request::State { .. } => Err(internal("answered elsewhere")),
        Request::Drafts => {
            let row = |(id, d): (DraftId, Draft)| {
                Ok(json!({
                    "draft": id, "proposed": d.proposed, "label": d.message.label, "to": d.message.to,
                    "info": d.message.info, "precedence": d.message.precedence, "author": d.message.author, "sent_as": d.sent,
                    "extract_of": d.parent, "established": d.act.is_some(), "held_by": d.held_by()?,
                }))
            };
            desk.spool.drafts()?.into_iter().map(row).collect()
        }
        Request::Draft { draft } => {
            let (kept, inside) = desk.inside(draft)?;
            let mut value = json!({
                "draft": draft, "label": kept.message.label, "node": desk.name,
                "to": kept.message.to, "info": kept.message.info, "extract": desk.extract_of(&kept)?,
            });
            match inside {
                Inside::Open(content, _) => {
                    value["content"] = json!(BASE64.encode(&content.encode()));
                }
                sealed @ Inside::Sealed { .. } => value["sealed"] = to_open(&sealed),
            }
            Ok(value)
        }
        Request::Discard { draft } => {
            desk.discard_draft(draft)?;
            Ok(json!({ "discarded": draft }))
        }
        Request::History { id } => {
            let (history, line) = (desk.history(id)?, desk.line_of(id)?);
            let row = |a: &SignedAct| {
                let act = a.said();
                json!({
                    "act": act.kind.as_str(), "label": act.label.to_string(), "by": act.by, "at": act.at,
                    "node": act.node, "subject": act.subject, "digest": a.digest(), "message": line,
                })
            };
            Ok(history.iter().map(row).collect())
        }
        Request::Due => {
            let row = |(id, r): (MessageId, Review)| {
                let label = desk.history(id).ok();
                let label = label.and_then(|h| Some(h.last()?.said().label.to_string()));
                Ok(
                    json!({ "id": id, "by": r.by, "event": r.event, "since": r.since, "label": label }),
                )
            };
            desk.spool.reviews()?.into_iter().map(row).collect()
        }
        Request::Board { all } => desk.board(all),
        Request::Inbox => {
            let mut all = desk.spool.inbox()?;
            // Most urgent first, then as they came.
            all.sort_by_key(|(e, a)| (Reverse(e.header().precedence()), a.received));
            let row = |(e, a): (Envelope, Arrived)| {
                let mut row = about(e.header());
                row["received"] = json!(a.received);
                row["opened"] = json!(a.opened);
                row["recalled"] = json!(a.recalled);
                row["opens_until"] = json!(desk.openable_until(&e)?);
                let told = desk.spool.told_of(e.header().id)?;
                let due = told.iter().find(|t| t.what == "due");
                row["reminded"] = json!(due.map(|t| t.at));
                row["supersedes"] = json!(e.header().supersedes);
                row["label_now"] = json!(label_now(desk, e.header().id)?);
                Ok(row)
            };
            all.into_iter().map(row).collect()
        }
        Request::Prepare { id, by, kind } => {
            let kid = desk.sealed_to(id, &by)?.map(|k| HEXLOWER.encode(&k));
            let r = desk.to_be_opened(id, by, kind)?;
            Ok(json!({ "message": r.message, "envelope": r.envelope, "at": r.at, "kid": kid }))
        }
        Request::Read {
            id,
            kind,
            receipt,
            attachment,
        } => {
            let receipt = decoded(receipt)?;
            let opened = desk.read(id, kind, receipt.as_deref())?;
            read(daemon, opened, attachment)
        }
        Request::Publish { package } => {
            let package = BASE64.decode(package.as_bytes());
            let kept = desk.publish(&package.map_err(|_| internal("the key is not base64"))?)?;
            let p = kept.said();
            Ok(
                json!({ "name": p.name, "kid": HEXLOWER.encode(&p.kid()), "seal_until": p.not_after }),
            )
        }
        Request::Recall { id } => {
            desk.recall(id)?;
            Ok(json!({ "recalled": id }))
        }
        Request::Destroy { id, receipt } => {
            desk.destroy(id, decoded(receipt)?.as_deref())?;
            Ok(json!({ "destroyed": id }))
        }
        Request::Receipts { id: Some(id) } => {
            let row = |r: &Receipt| json!({ "message": r.message, "kind": r.kind, "by": r.by, "at": r.at });
            let mut rows: Vec<Value> = desk.spool.receipts(id)?.iter().map(row).collect();
            // What the broker says of copies that got no receipt, and why there may be none.
            rows.extend(desk.spool.told_of(id)?.iter().map(|t| {
                let kind = match t.count {
                    Some(n) => format!("{} {n}", t.what),
                    None => t.what.clone(),
                };
                json!({ "message": id, "kind": kind, "by": t.node, "at": t.at })
            }));
            Ok(rows.into())
        }
        Request::Receipts { id: None } => {
            let sent = desk.spool.all_sent()?.into_iter();
            sent.map(|(id, sent)| {
                let mut row = accounted(id, sent, &desk.spool.receipts(id)?);
                row["label_now"] = json!(label_now(desk, id)?);
                Ok(row)
            })
            .collect()
        }
        Request::Directory => {
            let row = |(name, l): &(String, Listed)| json!({ "name": name, "title": l.title, "key": l.package.is_some() });
            Ok(desk.spool.directory()?.iter().map(row).collect())
        }
        Request::Witness => desk.witnessing(),
        Request::ForgetLog => {
            desk.forget_log()?;
            desk.witnessing()
        }
        Request::Reload => {
            let problems = desk.reload();
            if !problems.is_empty() {
                let hint = "what was in force stays; put the files right and reload again";
                return Err(Failure::new(Exit::Refused, problems.join("; "), hint));
            }
            Ok(json!({ "reloaded": true }))
        }
        Request::Status => {
            let mut status = daemon.line_status();
            status["node"] = json!(desk.name);
            status["certificate_until"] = json!(desk.signer().certificate().not_after());
            status["warnings"] = json!(desk.warnings());
            status["clearance"] = json!(desk.clearance(desk.signer().certificate()));
            status["outbox"] = json!(desk.outbox().order.len());
            status["receipts_owed"] = json!(desk.owed().len());
            status["directory"] = json!(desk.spool.directory()?.len());
            status["log_in_doubt"] = json!(desk.spool.doubt()?);
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
        "opened": of(ReceiptKind::Opened), "exported": of(ReceiptKind::Exported), "unusable": of(ReceiptKind::Refused),
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

/// The label in force, where it is not the one the message came with.
fn label_now(desk: &Desk, id: MessageId) -> Result<Option<String>, Failure> {
    Ok(desk.revised(id)?.map(|l| l.to_string()))
}

fn about(h: &Header) -> Value {
    json!({
        "id": h.id, "originator": h.originator, "author": h.author, "label": h.label.to_string(),
        "precedence": h.precedence().as_str(), "exercise": h.exercise, "created": h.created, "expires": h.expires,
        "reply_by": h.reply_by, "attachments": h.attachments.len(),
        "passed_on": shown_of(h),
        "persons": h.recipients.iter().filter_map(|r| r.person.as_ref()).collect::<Vec<_>>(),
    })
}

fn read(
    daemon: &Daemon,
    read: Read,
    attachment: Option<(usize, PathBuf)>,
) -> Result<Value, Failure> {
    let mut value = about(&read.header);
    value["label_now"] = json!(label_now(&daemon.desk, read.header.id)?);
    value["still_believed"] = json!(read.still_believed);
    match read.inside {
        Inside::Open(content, copy) => {
            show(&mut value, &content, copy);
            match attachment {
                None => value["body"] = json!(BASE64.encode(&content.body)),
                Some((n, path)) => {
                    daemon.desk.save_attachment(chosen(&content, n)?, &path)?;
                    value["saved"] = json!(path);
                }
            }
        }
        sealed @ Inside::Sealed { .. } => value["sealed"] = to_open(&sealed),
    }
    Ok(value)
}

/// What a person's command opens.
fn to_open(inside: &Inside) -> Value {
    match inside {
        Inside::Open(..) => Value::Null,
        Inside::Sealed {
            envelope,
            belief,
            received,
            attachments,
        } => json!({
            "envelope": BASE64.encode(&envelope.encode()), "belief": belief, "received": received,
            "attachments": attachments,
        }),
    }
}
