//! The commands about labels and rules.

use std::path::Path;

use ordonnans_label::{CategoryType, Confidentiality, Kind, Language, Level, Policies, PolicyId};
use ordonnans_message::{Addressee, Supposed, limits};
use serde_json::{Value, json};

use crate::address::{Address, name};
use crate::cli::{ExplainArgs, LabelArgs, LabelCommand, Listing, Tongue};
use crate::commands::show;
use crate::config::Config;
use crate::desk::{policies, usage};
use crate::failure::{Exit, Failure};
use crate::officer::Officer;
use crate::partners;

/// Bytes of a text that is looked through for portion marks.
const MAX_TEXT: u64 = 16 << 20;

/// The commands that need no daemon. Without `--policies` those of the configuration are used, where that can be read.
pub(crate) fn local(config: &Path, args: &LabelArgs) -> Result<Exit, Failure> {
    let configured = || Config::load(config).ok().and_then(|c| c.policies);
    let folder = args.policies.clone().or_else(configured);
    let all = policies(folder.as_deref())?;
    match &args.command {
        LabelCommand::Parse {
            label,
            ess,
            listing,
        } => {
            let text = if *ess {
                partners::from_ess(&all, label)?
            } else {
                label.clone()
            };
            let value = parsed(&all, &text)?;
            let valid = value["valid"] == true;
            show(&value, *listing)?;
            Ok(if valid { Exit::Done } else { Exit::Refused })
        }
        LabelCommand::Render { label, language } => {
            let text = match language {
                Tongue::Nl => all.marking(&read(&all, label)?, Language::Nl),
                Tongue::En => all.marking(&read(&all, label)?, Language::En),
                Tongue::Xml => partners::xml(&all, label)?,
                Tongue::Ess => partners::to_ess(&all, &read(&all, label)?)?,
            };
            show(&json!(text), Listing { json: false })
        }
        LabelCommand::Join {
            labels,
            file,
            listing,
        } => {
            let mut parts = labels
                .iter()
                .map(|l| read(&all, l).map(|c| (l.clone(), c)))
                .collect::<Result<Vec<_>, _>>()?;
            if let Some(path) = file {
                let portions = portions(&all, path)?;
                parts.extend(portions);
            }
            show(&joined(&all, &parts)?, *listing)
        }
        LabelCommand::Policies(listing) => {
            let rows = all.iter().map(|p| {
                let levels: Vec<String> = p
                    .levels()
                    .iter()
                    .map(|l| {
                        let sure = if l.unconfirmed { " (unconfirmed)" } else { "" };
                        let c = &l.classification;
                        format!("{} = {}{sure}", c.name(), c.level())
                    })
                    .collect();
                json!({
                    "id": p.id().as_str(), "oid": p.oid(), "version": p.version(), "title": p.title().nl,
                    "levels": levels,
                })
            });
            show(&rows.collect(), *listing)
        }
        LabelCommand::ImportSpif { file } => partners::import_spif(file, &all),
        _ => Err(Failure::internal("answered elsewhere")),
    }
}

fn bad_label(e: &impl std::fmt::Display) -> Failure {
    usage(
        format!("the label: {e}"),
        "for example \"Dep.V // TOT 2036-01-01\" or \"NATO SECRET // CONTEXT NATO\"; `ordonnans label policies` lists levels",
    )
}

fn read(all: &Policies, text: &str) -> Result<Confidentiality, Failure> {
    all.read(text)
        .map(|l| l.confidentiality)
        .map_err(|e| bad_label(&e))
}

/// What a label says, part by part.
fn parsed(all: &Policies, text: &str) -> Result<Value, Failure> {
    let label = all.read(text).map_err(|e| bad_label(&e))?;
    let c = &label.confidentiality;
    let checked = all.check(c);
    let sets = |kind| -> Value {
        let of = c.categories(kind).map(|(set, values)| {
            let values: Vec<&str> = values.iter().map(|v| v.as_str()).collect();
            (set.as_str().to_owned(), json!(values))
        });
        Value::Object(of.collect())
    };
    let policy = all.get(c.policy());
    let level = policy.and_then(|p| p.level(c.classification().name()));
    Ok(json!({
        "label": label.to_string(),
        "policy": c.policy().as_str(),
        "classification": c.classification().name(),
        "dutch_level": c.level(),
        "alternative": c.alternative().map(|a| a.to_string()),
        "restrictive": sets(CategoryType::Restrictive),
        "permissive": sets(CategoryType::Permissive),
        "informative": sets(CategoryType::Informative),
        "marking_nl": all.marking(c, Language::Nl),
        "marking_en": all.marking(c, Language::En),
        "colour": level.map(|l| l.colour.clone()),
        "unconfirmed": level.is_some_and(|l| l.unconfirmed),
        "valid": checked.is_ok(),
        "why_not": checked.err().map(|e| e.to_string()),
    }))
}

fn portions(all: &Policies, path: &Path) -> Result<Vec<(String, Confidentiality)>, Failure> {
    let unreadable = |e: &dyn std::fmt::Display| {
        usage(
            format!("{} cannot be read: {e}", path.display()),
            "name a text file",
        )
    };
    let size = std::fs::metadata(path).map_err(|e| unreadable(&e))?.len();
    if size > MAX_TEXT {
        return Err(unreadable(&"it has more than 16 MiB"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(&e))?;
    Ok(all
        .portions(&text)
        .map(|p| (format!("line {}", p.line), p.confidentiality))
        .collect())
}

/// The least label that protects every part. Parts of several policies have none: a person decides, and is told how far the decision must go.
fn joined(all: &Policies, parts: &[(String, Confidentiality)]) -> Result<Value, Failure> {
    let Some(((_, first), rest)) = parts.split_first() else {
        return Err(usage(
            "there is no part to join",
            "give labels, or a text with portion marks such as (Stg.C)",
        ));
    };
    let mut whole = first.clone();
    for (_, part) in rest {
        whole = whole.join(part).map_err(|_| {
            let least = parts.iter().map(|(_, p)| p.level()).fold(first.level(), Level::max);
            Failure::new(
                Exit::Refused,
                "the parts stand under different policies, and no label is made of two",
                format!(
                    "somebody has to decide: the whole needs at least {least}, and the consent of every originator"
                ),
            )
        })?;
    }
    let nobody = whole
        .categories(CategoryType::Permissive)
        .any(|(_, values)| values.is_empty());
    let dutch = *whole.policy() == PolicyId::nl();
    Ok(json!({
        "label": whole.to_string(),
        "marking": all.marking(&whole, Language::Nl),
        "parts": parts.len(),
        // A circle that the parts do not share was emptied: the whole may go to nobody until somebody decides.
        "for_nobody": nobody,
        "valid": all.check(&whole).is_ok(),
        "alternative": (!dutch).then(|| whole.level()),
    }))
}

/// Asks the broker about a message that is only thought of, as an officer.
pub(crate) async fn explain(
    config: &Config,
    args: ExplainArgs,
) -> Result<(Value, Listing), Failure> {
    let structure = config.broker_name.structure();
    let bad =
        |e: crate::address::InvalidAddress| usage(e.to_string(), "the register lists the nodes");
    let to = args
        .to
        .iter()
        .map(|t| {
            let a = Address::parse(t, structure).map_err(bad)?;
            Ok(Addressee {
                node: a.node,
                person: a.person,
            })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    if to.len() > limits::MAX_EXPLAINED {
        return Err(usage(
            format!(
                "at most {} addressees are explained at a time",
                limits::MAX_EXPLAINED
            ),
            "ask in parts",
        ));
    }
    let all = policies(config.policies.as_deref())?;
    let at = args.at.as_deref().map(str::parse).transpose();
    let about = Supposed {
        from: name(&args.from, Kind::Node, structure).map_err(bad)?,
        to,
        label: all.read(&args.label).map_err(|e| bad_label(&e))?,
        at: at.map_err(|e: ordonnans_message::InvalidTimestamp| {
            usage(e.to_string(), "for example 2026-12-31T12:00:00Z")
        })?,
    };
    let mut officer = Officer::connect(config).await?;
    let rules = officer.explain(about).await?;
    officer.finish().await;
    let rows = rules.into_iter().map(|r| {
        json!({
            "rule": format!("POL-{:02}", r.rule),
            "for": r.recipient,
            "verdict": if r.holds { "holds" } else { "REFUSES" },
            "fact": r.fact,
        })
    });
    Ok((rows.collect(), args.listing))
}
