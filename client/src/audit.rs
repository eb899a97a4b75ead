//! The commands of a security officer, over the wire or on an exported folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ordonnans_audit::{Account, Copy, Entry, Verb, export, proof};
use ordonnans_label::{Kind, Level, Name};
use ordonnans_message::{AuditQuery, MessageId, OrderKind, ProofOf, Readers, Timestamp, sha256};
use serde_json::{Value, json};

use crate::cli::{AuditCommand, IncidentCommand, Listing, QueryArgs, SourceArgs, VerifyArgs};
use crate::commands::{ago, message_id, show};
use crate::config::Config;
use crate::desk::usage;
use crate::exports::{self, TileExport, quorum, write_excerpt, write_lines};
use crate::failure::{Exit, Failure};
use crate::officer::Officer;

/// Records that one report rests on at most.
const REPORTED: u64 = 1_000_000;

/// Where records come from.
enum Source {
    Wire(Box<Officer>),
    Folder(std::path::PathBuf, ordonnans_audit::Quorum),
}

impl Source {
    async fn open(config: &Path, args: &SourceArgs) -> Result<Self, Failure> {
        match &args.offline {
            Some(dir) => {
                let quorum = quorum(args.key.as_deref(), args.policy.as_deref())?;
                Ok(Self::Folder(dir.clone(), quorum))
            }
            None => {
                let officer = Officer::connect(&load(config)?).await?;
                Ok(Self::Wire(Box::new(officer)))
            }
        }
    }

    async fn search(&mut self, query: &AuditQuery, limit: u64) -> Result<Vec<Entry>, Failure> {
        match self {
            Self::Wire(officer) => officer.search(query, limit).await,
            Self::Folder(dir, quorum) => exports::search(dir, quorum, query, limit),
        }
    }

    /// The last records that answer a question.
    async fn last(&mut self, query: AuditQuery, limit: u64) -> Result<Vec<Entry>, Failure> {
        let mut query = query;
        if let (Self::Wire(officer), true) = (&mut *self, query == AuditQuery::default()) {
            let size = size_of(&officer.checkpoint().await?)?;
            query.from = size.saturating_sub(limit);
        }
        let mut entries = self.search(&query, REPORTED).await?;
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let skip = entries.len().saturating_sub(most);
        entries.drain(..skip);
        Ok(entries)
    }

    async fn of_message(&mut self, id: MessageId) -> Result<Account, Failure> {
        let query = AuditQuery {
            message: Some(id),
            ..AuditQuery::default()
        };
        let entries = self.search(&query, REPORTED).await?;
        let account = Account::of(id, &entries);
        if account.accepted.is_none() && account.copies.is_empty() {
            return Err(Failure::new(
                Exit::Refused,
                format!("the log has no open record about {id}"),
                "it was never accepted, or its details are above your level or were dropped; `audit list` shows what there is",
            ));
        }
        Ok(account)
    }

    async fn finish(self) {
        if let Self::Wire(officer) = self {
            officer.finish().await;
        }
    }
}

fn load(config: &Path) -> Result<Config, Failure> {
    Config::load(config).map_err(|e| {
        usage(
            e.to_string(),
            "name the officer's file with -c; docs/operate.md lists every key",
        )
    })
}

/// A name as it is typed, short or in full.
fn name(text: &str, structure: Option<&str>, kinds: &[Kind]) -> Result<Name, Failure> {
    if let Ok(name) = text.parse() {
        return Ok(name);
    }
    let short = structure.and_then(|s| Name::new(text, *kinds.first()?, s).ok());
    short.ok_or_else(|| {
        usage(
            format!("`{text}` is no name"),
            "write it in full: ncc.node.crisis.example",
        )
    })
}

fn query(args: &QueryArgs, structure: Option<&str>) -> Result<AuditQuery, Failure> {
    let verb = |text: &String| {
        let of = |v: &&Verb| v.as_str().eq_ignore_ascii_case(text);
        let found = Verb::ALL.iter().find(of).map(|v| v.code());
        found.ok_or_else(|| usage(format!("`{text}` is no verb"), "docs/audit.md lists them"))
    };
    let rule = |text: &String| {
        let digits = text.trim_start_matches("POL-").parse();
        digits.map_err(|_| usage(format!("`{text}` is no rule"), "write POL-07 or 7"))
    };
    let level = |text: &String| {
        let level = text.parse::<Level>();
        level.map_err(|e| {
            usage(
                e.to_string(),
                "write Ongerubriceerd, Dep.V, Stg.C, Stg.G or Stg.ZG",
            )
        })
    };
    Ok(AuditQuery {
        from: args.from.unwrap_or(0),
        limit: 0,
        message: args.message.as_deref().map(message_id).transpose()?,
        since: args.since.as_deref().map(ago).transpose()?,
        until: args.until.as_deref().map(ago).transpose()?,
        level: args.level.as_ref().map(level).transpose()?,
        verb: args.verb.as_ref().map(verb).transpose()?,
        rule: args.rule.as_ref().map(rule).transpose()?,
        node: args
            .node
            .as_deref()
            .map(|n| name(n, structure, &[Kind::Node]))
            .transpose()?,
        person: args
            .person
            .as_deref()
            .map(|n| name(n, structure, &[Kind::Person]))
            .transpose()?,
    })
}

fn rows(entries: &[Entry]) -> Value {
    entries
        .iter()
        .filter_map(export::record)
        .map(flat)
        .collect()
}

/// Checks what was exported; nothing but the files is needed.
pub(crate) fn verify(args: &VerifyArgs) -> Result<Exit, Failure> {
    let quorum = quorum(args.key.as_deref(), args.policy.as_deref())?;
    show(
        &exports::verify(&args.path, &quorum, args.excerpt)?,
        args.listing,
    )
}

/// Prints an answer; for people without the hashes, which `--json` and `show` have.
fn brief(value: &Value, listing: Listing) -> Result<Exit, Failure> {
    fn without(value: &mut Value) {
        match value {
            Value::Array(all) => all.iter_mut().for_each(without),
            Value::Object(fields) => {
                for key in ["commitment", "digest", "policy", "register", "clock"] {
                    fields.remove(key);
                }
                fields.values_mut().for_each(without);
            }
            _ => {}
        }
    }
    let mut value = value.clone();
    if !listing.json {
        without(&mut value);
    }
    show(&value, listing)
}

/// Runs an audit command.
pub(crate) async fn audit(config: &Path, command: AuditCommand) -> Result<Exit, Failure> {
    // Short names are of the structure of the configuration, where there is one.
    let structure = Config::load(config).ok();
    let structure = structure
        .as_ref()
        .map(|c| c.broker_name.structure().to_owned());
    let structure = structure.as_deref();
    match command {
        AuditCommand::Verify(args) => verify(&args),
        AuditCommand::List {
            args,
            limit,
            last,
            source,
            listing,
        } => {
            let query = query(&args, structure)?;
            let mut from = Source::open(config, &source).await?;
            let entries = if last {
                from.last(query, limit).await?
            } else {
                from.search(&query, limit).await?
            };
            from.finish().await;
            brief(&rows(&entries), listing)
        }
        AuditCommand::Show {
            sequence,
            source,
            listing,
        } => {
            let one = AuditQuery {
                from: sequence,
                ..AuditQuery::default()
            };
            let mut from = Source::open(config, &source).await?;
            let entries = from.search(&one, 1).await?;
            from.finish().await;
            let record = entries.first().and_then(export::record);
            let record = record.ok_or_else(|| no_record(sequence))?;
            show(&flat(record), listing)
        }
        AuditCommand::Watch {
            args,
            count,
            listing,
        } => {
            let mut query = query(&args, structure)?;
            query.from = args.from.unwrap_or(u64::MAX);
            let mut officer = Officer::connect(&load(config)?).await?;
            let mut left = count;
            let mut failed = Ok(Exit::Done);
            officer
                .watch(query, |entry| {
                    failed = brief(&rows(&[entry]), listing);
                    left = left.map(|n| n.saturating_sub(1));
                    failed.is_ok() && left != Some(0)
                })
                .await?;
            officer.finish().await;
            failed
        }
        AuditCommand::Prove {
            sequence,
            out,
            listing,
        } => prove(config, sequence, &out, listing).await,
        AuditCommand::Export {
            dir,
            lines,
            args,
            listing,
        } => export(config, &dir, lines, &query(&args, structure)?, listing).await,
        AuditCommand::Copies {
            id,
            source,
            listing,
        } => {
            let id = message_id(&id)?;
            let mut from = Source::open(config, &source).await?;
            let account = from.of_message(id).await?;
            from.finish().await;
            show(&account.copies.iter().map(copy).collect(), listing)
        }
        AuditCommand::Exposure {
            id,
            since,
            source,
            listing,
        } => {
            let since = since.as_deref().map(ago).transpose()?;
            show(
                &exposure(config, message_id(&id)?, since, &source).await?,
                listing,
            )
        }
        AuditCommand::Review {
            level,
            since,
            until,
            sign,
            source,
            listing,
        } => {
            let level: Level = level.parse().map_err(|e: ordonnans_label::InvalidLevel| {
                usage(e.to_string(), "write Dep.V, Stg.C, Stg.G or Stg.ZG")
            })?;
            review(
                config,
                level,
                (since.as_deref(), until.as_deref()),
                sign,
                &source,
                listing,
            )
            .await
        }
        AuditCommand::Incident { command } => {
            let what = match command {
                IncidentCommand::Open { name, messages } => OrderKind::Open {
                    incident: incident(name)?,
                    messages: messages
                        .iter()
                        .map(|m| message_id(m))
                        .collect::<Result<_, _>>()?,
                },
                IncidentCommand::Close { name } => OrderKind::Close {
                    incident: incident(name)?,
                },
            };
            let mut officer = Officer::connect(&load(config)?).await?;
            officer.order(what).await?;
            officer.finish().await;
            Ok(Exit::Done)
        }
        AuditCommand::Checkpoint => {
            let mut officer = Officer::connect(&load(config)?).await?;
            print!("{}", officer.checkpoint().await?);
            officer.finish().await;
            Ok(Exit::Done)
        }
    }
}

fn incident(name: String) -> Result<String, Failure> {
    if ordonnans_message::is_incident_name(&name) {
        return Ok(name);
    }
    Err(usage(
        format!("`{name}` cannot name an incident"),
        "1 to 64 lower-case letters, digits and hyphens, such as uitval-2026-1",
    ))
}

fn no_record(sequence: u64) -> Failure {
    Failure::new(
        Exit::Refused,
        format!("the log has no record {sequence} yet"),
        "`ordonnans audit list` shows what there is",
    )
}

async fn prove(
    config: &Path,
    sequence: u64,
    out: &Path,
    listing: Listing,
) -> Result<Exit, Failure> {
    let mut officer = Officer::connect(&load(config)?).await?;
    let query = AuditQuery {
        from: sequence,
        ..AuditQuery::default()
    };
    let entry = officer
        .search(&query, 1)
        .await?
        .pop()
        .ok_or_else(|| no_record(sequence))?;
    let checkpoint = officer.checkpoint().await?;
    let size = size_of(&checkpoint)?;
    let hashes = officer.proof(ProofOf::Inclusion { sequence, size }).await?;
    officer.finish().await;
    let hashes = hashes.ok_or_else(|| no_record(sequence))?;
    let text = proof::write(&entry.public, sequence, &hashes, &checkpoint);
    let written = std::fs::File::create_new(out)
        .and_then(|mut f| std::io::Write::write_all(&mut f, text.as_bytes()));
    written.map_err(|e| {
        usage(
            format!("{}: {e}", out.display()),
            "name a file that does not exist yet",
        )
    })?;
    show(
        &json!({ "written": out, "sequence": sequence, "of": size }),
        listing,
    )
}

fn size_of(checkpoint: &str) -> Result<u64, Failure> {
    let size = checkpoint.lines().nth(1).and_then(|l| l.parse().ok());
    size.ok_or_else(|| Failure::internal("the broker's checkpoint is none"))
}

async fn export(
    config: &Path,
    dir: &Path,
    lines: bool,
    query: &AuditQuery,
    listing: Listing,
) -> Result<Exit, Failure> {
    let mut officer = Officer::connect(&load(config)?).await?;
    let narrow = *query != AuditQuery::default();
    let value = if narrow {
        let entries = officer.search(query, REPORTED).await?;
        let checkpoint = officer.checkpoint().await?;
        let size = size_of(&checkpoint)?;
        let mut proofs = vec![];
        for entry in &entries {
            let (public, _) = entry
                .read()
                .ok_or_else(|| Failure::internal("a record is none"))?;
            let sequence = public.sequence;
            let hashes = officer.proof(ProofOf::Inclusion { sequence, size }).await?;
            let hashes = hashes.ok_or_else(|| no_record(sequence))?;
            proofs.push(export::proof_line(sequence, &public.leaf(), &hashes));
        }
        write_excerpt(dir, &entries, &proofs, &checkpoint)?;
        json!({ "written": dir, "records": entries.len(), "of": size, "complete": false })
    } else if lines {
        let mut entries = vec![];
        let checkpoint = officer
            .whole(|e| {
                entries.push(e.clone());
                Ok(())
            })
            .await?;
        let head = write_lines(dir, &entries, &checkpoint)?;
        json!({ "written": dir, "records": head.size, "root": head.root, "complete": true })
    } else {
        let mut tiles = TileExport::begin(dir)?;
        let checkpoint = officer.whole(|e| tiles.push(e)).await?;
        let head = tiles.finish(&checkpoint)?;
        json!({ "written": dir, "records": head.size, "root": head.root, "complete": true })
    };
    officer.finish().await;
    show(&value, listing)
}

/// Who did something, and when first.
fn by(all: &BTreeMap<Name, Timestamp>) -> Option<String> {
    let all: Vec<String> = all
        .iter()
        .map(|(n, t)| format!("{} {t}", n.local()))
        .collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// One copy, for people.
fn copy(c: &Copy) -> Value {
    json!({
        "copy": format!("{} van {}", c.number, c.of), "maker": c.maker, "node": c.holder, "person": c.person, "made": c.made,
        "delivered": c.delivered, "receipt": c.receipt, "opened": by(&c.opened), "printed": by(&c.printed),
        "exported": by(&c.exported), "withheld": c.withheld, "expired": c.expired, "recalled": c.recalled, "destroyed": c.destroyed,
    })
}

/// Everyone who had a message at or after a time, and everyone who could have. Compromise is by law the possibility of knowledge (VIRBI 2025
/// article 1), so this says rather too much than too little.
async fn exposure(
    config: &Path,
    id: MessageId,
    since: Option<Timestamp>,
    source: &SourceArgs,
) -> Result<Value, Failure> {
    let mut from = Source::open(config, source).await?;
    let account = from.of_message(id).await?;
    let since = since.or(account.accepted).unwrap_or_default();
    let level = account.level.unwrap_or(Level::Ongerubriceerd);
    let nodes: Vec<Name> = account.nodes().into_iter().collect();
    let there: Option<BTreeMap<Name, Readers>> = match &mut from {
        Source::Wire(officer) => {
            let rows = officer.readers(&nodes, level).await?;
            Some(rows.into_iter().map(|r| (r.node.clone(), r)).collect())
        }
        Source::Folder(..) => None,
    };
    from.finish().await;
    let at = |node: &Name| there.as_ref().and_then(|t| t.get(node));
    let persons =
        |node: &Name| -> Vec<&Name> { at(node).iter().flat_map(|r| &r.persons).collect() };
    let had: Vec<Value> = account
        .had(since)
        .into_iter()
        .map(|c| {
            json!({
                "node": c.holder, "copy": c.number, "delivered": c.delivered, "opened_by": by(&c.opened), "printed_by": by(&c.printed),
                "exported_by": by(&c.exported), "recalled": c.recalled, "destroyed": c.destroyed, "persons_who_could_open": persons(&c.holder),
            })
        })
        .collect();
    let could: Vec<Value> = account
        .could(since)
        .into_iter()
        .map(|c| {
            let why = if c.recalled.is_some() {
                "recalled before it left, after this time"
            } else if c.expired.is_some() {
                "it expired, after this time"
            } else if c.withheld.is_some() {
                "sealed for it, held back at the broker"
            } else {
                "sealed for it, waits at the broker"
            };
            json!({
                "node": c.holder, "copy": c.number, "why": why, "on_line": at(&c.holder).map(|r| r.on_line),
                "persons_who_could_open": persons(&c.holder),
            })
        })
        .collect();
    let originator = account.originator.iter().map(|n| {
        json!({ "node": n, "why": "it made the message", "persons_who_could_open": persons(n) })
    });
    let referred: Vec<Value> = account
        .referred
        .iter()
        .map(|(who, id, at)| json!({ "node": who, "message": id, "at": at, "next": "ask for the exposure of that message too" }))
        .collect();
    Ok(json!({
        "message": id, "level": level, "since": since, "had": had,
        "could_have_had": originator.chain(could).collect::<Vec<_>>(), "referred_to_by": referred,
        "exports": account.copies.iter().map(|c| c.exported.len()).sum::<usize>(),
        "prints": account.copies.iter().map(|c| c.printed.len()).sum::<usize>(),
        "tell": tell(&account, level, there.as_ref()),
        "records_not_open": account.closed,
        "not_in_the_log": "backups of a node, and what a person said on: what left the system is beyond it",
    }))
}

/// Which authorities must be told (VIRBI 2025 articles 3, 8 and 9).
fn tell(account: &Account, level: Level, there: Option<&BTreeMap<Name, Readers>>) -> Value {
    let bva = |n: &Name| there.and_then(|t| t.get(n)).and_then(|r| r.bva.clone());
    let mut all = vec![];
    if let Some(originator) = &account.originator {
        all.push(json!({
            "who": format!("the security authority (BVA) of {}", originator.local()), "how": bva(originator),
            "why": "the information is of that organisation (article 8)",
        }));
    }
    let holders: BTreeSet<&Name> = account.copies.iter().map(|c| &c.holder).collect();
    for node in holders {
        let outside = there
            .and_then(|t| t.get(node))
            .is_some_and(|r| !r.rijksdienst);
        let why = if outside {
            "it holds a copy, outside the Rijksdienst: supervision goes with the information (article 7)"
        } else {
            "it holds a copy (article 8)"
        };
        all.push(json!({ "who": format!("the security authority (BVA) of {}", node.local()), "how": bva(node), "why": why }));
    }
    if level >= Level::StgC {
        all.push(json!({
            "who": "the secretary-general, who tells the head of the AIVD (Defence: the MIVD) of the results", "how": Value::Null,
            "why": "it is a state secret (article 9)",
        }));
    }
    Value::from(all)
}

/// How often this level is to be looked at, and whether every action counts (Vir-bi 2004, as a default).
fn cadence(level: Level) -> (&'static str, u64) {
    match level {
        Level::StgZg => ("daily, every action", 1),
        Level::StgG => ("daily, summary", 1),
        Level::StgC => ("weekly, summary", 7),
        Level::DepV => ("monthly, summary", 31),
        Level::Ongerubriceerd => ("none prescribed", 31),
    }
}

async fn review(
    config: &Path,
    level: Level,
    (since, until): (Option<&str>, Option<&str>),
    sign: bool,
    source: &SourceArgs,
    listing: Listing,
) -> Result<Exit, Failure> {
    let (cadence, days) = cadence(level);
    let until = until.map(ago).transpose()?.unwrap_or_else(crate::desk::now);
    let usual = Timestamp::from_millis(until.as_millis().saturating_sub(days * 86_400_000));
    let since = since.map(ago).transpose()?.unwrap_or(usual);
    let mut from = Source::open(config, source).await?;
    let of = |level, verb: Option<Verb>| AuditQuery {
        since: Some(since),
        until: Some(until),
        level,
        verb: verb.map(Verb::code),
        ..AuditQuery::default()
    };
    let entries = from.search(&of(Some(level), None), REPORTED).await?;
    let alarms = from.search(&of(None, Some(Verb::Alarm)), REPORTED).await?;
    let reads = from
        .search(&of(None, Some(Verb::AuditRead)), REPORTED)
        .await?;
    let (mut verbs, mut persons, mut refusals, mut closed) = (
        BTreeMap::<&str, u64>::new(),
        BTreeMap::<String, BTreeMap<&str, u64>>::new(),
        vec![],
        0u64,
    );
    let mut actions = vec![];
    let (mut first, mut last) = (None, 0);
    for entry in &entries {
        let Some((p, d)) = entry.read() else { continue };
        first = first.or(Some(p.sequence));
        last = p.sequence + 1;
        *verbs.entry(p.verb.as_str()).or_default() += 1;
        let Some(d) = d else {
            closed += 1;
            continue;
        };
        if let Some(who) = d.person.as_ref().or(d.who.as_ref()) {
            *persons
                .entry(who.to_string())
                .or_default()
                .entry(p.verb.as_str())
                .or_default() += 1;
        }
        let readable = export::record(entry).map(flat);
        if matches!(p.verb, Verb::Refused | Verb::Withheld) {
            refusals.extend(readable.clone());
        }
        if level == Level::StgZg {
            actions.extend(readable);
        }
    }
    let subjects: Vec<Value> = persons
        .iter()
        .map(|(who, did)| {
            let did: Vec<String> = did.iter().map(|(v, n)| format!("{v} {n}")).collect();
            json!({ "who": who, "did": did.join(", ") })
        })
        .collect();
    let did: Vec<String> = verbs.iter().map(|(v, n)| format!("{v} {n}")).collect();
    let range = (first.unwrap_or(last), last);
    let page = json!({
        "level": level, "cadence": cadence, "since": since, "until": until, "records": entries.len(), "closed": closed,
        "from": range.0, "to": range.1, "by_verb": did.join(", "), "by_subject": subjects, "refusals": refusals, "actions": actions,
        "alarms": rows(&alarms), "readings_of_the_log": reads.len(),
    });
    let exit = brief(&page, listing)?;
    if sign {
        let Source::Wire(officer) = &mut from else {
            return Err(usage(
                "a review is signed off on the log itself",
                "do it without --offline",
            ));
        };
        let page = sha256(&[page.to_string().as_bytes()]);
        let (from, until) = range;
        officer
            .order(OrderKind::Review {
                level,
                from,
                until,
                page,
            })
            .await?;
        eprintln!("Signed off: the log has the record, with the digest {page} of this page.");
    }
    from.finish().await;
    Ok(exit)
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
        // Above the officer's clearance, or dropped.
        _ => drop(row.insert("detail".into(), json!("closed"))),
    }
    record
}
