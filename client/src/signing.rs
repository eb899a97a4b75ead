//! How a person establishes, revises and ends labels and declares events. The key stays with whoever calls this: the daemon gets what was signed.

use std::io::Write as _;
use std::path::Path;
use std::slice::from_ref;

use data_encoding::BASE64;
use ordonnans_identity::{FileSigner, Signer};
use ordonnans_label::{Kind, Label, Name, State};
use ordonnans_message::{
    Act, ActKind, Content, Declaration, Digest, Follows, Frame, MessageId, Second, SignedAct,
    Timestamp,
};
use ordonnans_seal::{SealSecret, SystemEntropy, sign_statement};
use serde_json::{Value, json};

use crate::acts;
use crate::cli::{EventCommand, ExtractArgs, LabelCommand, Listing, SignerArgs};
use crate::commands::{decided, message_id, show, submission};
use crate::config::Config;
use crate::desk::{now, policies, usage};
use crate::drafts::DraftId;
use crate::failure::{Exit, Failure};
use crate::local::{Handed, Opener, Request, Submission, ask, undocumented};
use crate::opening::{Person, unseal};
use crate::partners;
use crate::passing;
use crate::table;

/// A person's certificate and key.
///
/// # Errors
/// [`Failure`]: the files, or the certificate is nobody's who may sign.
pub fn person(certificate: &Path, key: &Path) -> Result<FileSigner, Failure> {
    let signer = FileSigner::load(certificate, key).map_err(|e| {
        usage(
            format!("the person's certificate and key: {e}"),
            "the workshop issues both; the key file has mode 0600",
        )
    })?;
    let who = signer.certificate().name();
    if who.kind() == Kind::Person {
        return Ok(signer);
    }
    Err(usage(
        format!("{who} is no person"),
        "a label is established by a person of the register, with a personal certificate",
    ))
}

/// How long a package counts that is signed for one draft, in milliseconds: until that is sealed, after its attachments are.
const OWN_KEY_MS: u64 = 60 * 60 * 1000;

/// A part of an answer, read.
fn part<T: std::str::FromStr>(answer: &Value, key: &str) -> Result<T, Failure> {
    answer[key]
        .as_str()
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| undocumented(()))
}

/// A label as it is typed, established by this person. Whom the text names as vaststeller must be the same.
fn established(config: &Config, text: &str, by: &Name) -> Result<Label, Failure> {
    let label = policies(config.policies.as_deref())?
        .read(text)
        .map_err(|e| {
            usage(
                format!("the label: {e}"),
                "for example -l \"Dep.V // TOT 2036-01-01\"",
            )
        })?;
    match label.state {
        State::Established { by: other } if other != *by => Err(usage(
            format!("the label names {other} as its vaststeller, and {by} signs"),
            "leave VASTGESTELD out: whoever signs is named",
        )),
        _ if acts::needed(&label) && label.duration.is_none() => Err(acts::endless()),
        _ => Ok(Label {
            state: State::Established { by: by.clone() },
            ..label
        }),
    }
}

fn signed(act: &Act, signer: &FileSigner) -> Result<ordonnans_message::SignedAct, Failure> {
    sign_statement(act, signer).map_err(|_| {
        usage(
            "this label cannot be established by a person here",
            "a label under another policy is its originator's; the end of a rubricering has no duration",
        )
    })
}

/// The content of a draft: as the daemon has it, or as this person opens it.
struct Drafted {
    content: Content,
    /// What the daemon cannot open is handed over with what was signed.
    handed: Option<Handed>,
}

/// Who opens, and with what.
type Opens<'a> = (&'a Name, &'a [SealSecret]);

fn drafted(answer: &mut Value, by: Option<Opens<'_>>) -> Result<Drafted, Failure> {
    let sealed = answer.as_object_mut().and_then(|o| o.remove("sealed"));
    if let Some(sealed) = sealed {
        let (me, secrets) = by.ok_or_else(|| {
            usage(
                "the draft is sealed to persons",
                "open it with --as CERT, --key KEY and --seal-key FILE",
            )
        })?;
        let opened = unseal(&sealed, me, secrets)?.map_err(|e| {
            Failure::new(
                Exit::Refused,
                format!("the draft does not open for {me}: {e}"),
                "name the file of the encryption key it is sealed to with --seal-key FILE; it may be given more than once",
            )
        })?;
        let handed = Some(Handed(BASE64.encode(&opened.content.encode())));
        return Ok(Drafted {
            content: opened.content,
            handed,
        });
    }
    let content = answer.as_object_mut().and_then(|o| o.remove("content"));
    let content = content.unwrap_or_default();
    let content = content.as_str().unwrap_or_default().as_bytes();
    let content = BASE64.decode(content).map_err(undocumented)?;
    let content = Content::decode(&content).map_err(undocumented)?;
    Ok(Drafted {
        content,
        handed: None,
    })
}

/// Signs the label of a draft, or another, and has it sent. The digest is made of the content itself, so that what is signed is what was shown. With
/// `wait`, the answer has the broker's verdict. An extract that a second person signs, too, waits for that: the answer has no `id`.
///
/// # Errors
/// [`Failure`]: the label, the daemon, or there is no such draft; it stays a draft.
pub fn establish(
    config: &Config,
    draft: DraftId,
    label: Option<&str>,
    by: &Person,
    wait: bool,
) -> Result<Value, Failure> {
    sign_draft(config, draft, label, by.signer(), by.secrets(), wait)
}

fn sign_draft(
    config: &Config,
    draft: DraftId,
    label: Option<&str>,
    signer: &FileSigner,
    secrets: &[SealSecret],
    wait: bool,
) -> Result<Value, Failure> {
    let mut answer = ask(&config.socket, &Request::Draft { draft })?;
    let by = signer.certificate().name().clone();
    let Drafted { content, handed } = drafted(&mut answer, Some((&by, secrets)))?;
    let proposed: String = part(&answer, "label")?;
    let label = established(config, label.unwrap_or(&proposed), &by)?;
    let extract = answer.get("extract").filter(|e| e.is_object());
    let follows = extract
        .map(|e| {
            Ok::<_, Failure>(Follows {
                message: part(e, "parent")?,
                act: part(e, "follows")?,
            })
        })
        .transpose()?;
    let act = Act {
        kind: follows.map_or(ActKind::Establish, |_| ActKind::Extract),
        subject: content.digest(),
        label,
        node: part(extract.unwrap_or(&answer), "node")?,
        by,
        at: now(),
        follows,
    };
    let act = BASE64.encode(&signed(&act, signer)?.encode());
    let request = Request::Establish {
        draft,
        act,
        content: handed,
        wait,
    };
    ask(&config.socket, &request)
}

/// Signs, as a second person, the act by which an extract was established, and has it sent. It is looked at first: the act is about the content of the
/// draft, and by another person.
///
/// # Errors
/// [`Failure`]: there is no such draft, nobody has established it yet, or the same person signs twice.
pub fn second(config: &Config, draft: DraftId, by: &Person, wait: bool) -> Result<Value, Failure> {
    sign_second(config, draft, by.signer(), (by.name(), by.secrets()), wait)
}

/// The second signature on a draft that somebody opens, who in one step with the first is the first.
fn sign_second(
    config: &Config,
    draft: DraftId,
    signer: &FileSigner,
    opens: Opens<'_>,
    wait: bool,
) -> Result<Value, Failure> {
    let mut answer = ask(&config.socket, &Request::Draft { draft })?;
    let Drafted { content, handed } = drafted(&mut answer, Some(opens))?;
    let Some(act) = answer["extract"]["act"].as_str() else {
        return Err(Failure::new(
            Exit::Refused,
            format!("the draft {draft} waits for no second person"),
            "`ordonnans label drafts` shows what is an extract and whether its vaststeller has signed",
        ));
    };
    let act = BASE64.decode(act.as_bytes()).map_err(undocumented)?;
    let act = SignedAct::decode(&act).map_err(undocumented)?;
    let by = signer.certificate().name().clone();
    if act.said().by == by {
        return Err(passing::same_person());
    }
    if act.said().subject != content.digest() {
        return Err(Failure::new(
            Exit::Proof,
            "the vaststeller signed another content than that of the draft",
            "do not sign; have the draft established anew, and tell your security officer",
        ));
    }
    let said = Second {
        act: act.digest(),
        by,
        at: now(),
    };
    let second = sign_statement(&said, signer).map_err(|e| Failure::internal(e.to_string()))?;
    let second = BASE64.encode(&second.encode());
    let request = Request::Second {
        draft,
        second,
        content: handed,
        wait,
    };
    ask(&config.socket, &request)
}

/// The persons who sign an extract in one step, each with a key of their own.
#[derive(Clone, Copy, Debug)]
pub struct Signers<'a> {
    /// The vaststeller of the parent, or a registered successor.
    pub first: &'a Person,
    /// The second person, of a parent of Stg.C or higher.
    pub second: Option<&'a FileSigner>,
}

/// Makes an extract of a message. Without signers it stays a draft; so it does with the first alone, where a second person must sign, too. Where
/// signing fails, nothing stays behind. Of a message of Stg.G or higher it waits sealed to the persons who are named, short or whole: those who are to
/// sign later.
///
/// # Errors
/// [`Failure`]: the message is not known here, the label, nobody is named who could go on, or as [`establish`] and [`second`].
pub fn extract(
    config: &Config,
    of: MessageId,
    message: Box<Submission>,
    signers: Option<Signers<'_>>,
    later: &[String],
    wait: bool,
) -> Result<Value, Failure> {
    let own = signers.map(|s| own_key(s.first)).transpose()?;
    let (key, opener) = own.unzip();
    let named = later.iter().cloned().map(Opener::Named);
    let request = Request::Extract {
        of,
        message,
        openers: named.chain(opener).collect(),
    };
    let answer = ask(&config.socket, &request)?;
    let (Some(signers), Some(key)) = (signers, key) else {
        return Ok(answer);
    };
    let draft: DraftId = part(&answer, "draft")?;
    let secrets = key.as_ref().map_or(signers.first.secrets(), from_ref);
    let signed = sign_extract(config, draft, signers, secrets, later, wait);
    if signed.is_err() {
        drop(ask(&config.socket, &Request::Discard { draft }));
    }
    signed
}

fn sign_extract(
    config: &Config,
    draft: DraftId,
    signers: Signers<'_>,
    secrets: &[SealSecret],
    later: &[String],
    wait: bool,
) -> Result<Value, Failure> {
    if signers.second.is_none() && later.is_empty() {
        somebody_goes_on(&ask(&config.socket, &Request::Draft { draft })?)?;
    }
    let answer = sign_draft(config, draft, None, signers.first.signer(), secrets, wait)?;
    match signers.second {
        Some(by) if answer["id"].is_null() => {
            sign_second(config, draft, by, (signers.first.name(), secrets), wait)
        }
        _ => Ok(answer),
    }
}

/// What a draft that is signed in the same step is sealed to: the person's encryption key, the first that was brought, or one that ends with this
/// command, which is given then.
fn own_key(by: &Person) -> Result<(Option<SealSecret>, Opener), Failure> {
    let signed = |secret: &SealSecret| {
        let package = secret.package(by.name(), now().after(OWN_KEY_MS));
        let package = sign_statement(&package, by.signer());
        let package = package.map_err(|e| Failure::internal(e.to_string()))?;
        Ok(BASE64.encode(&package.encode()))
    };
    if let Some(brought) = by.secrets().first() {
        return Ok((None, Opener::Key(signed(brought)?)));
    }
    let made = SealSecret::generate(&mut SystemEntropy);
    let package = signed(&made)?;
    Ok((Some(made), Opener::Once(package)))
}

/// Whether somebody can open a draft that waits for a second person, who is not named.
fn somebody_goes_on(answer: &Value) -> Result<(), Failure> {
    if answer["sealed"].is_null() || answer["extract"]["second"] == false {
        return Ok(());
    }
    Err(usage(
        "the second person could not open the draft: from Stg.G up it is sealed to persons",
        "name the second person with --for PERSON, or sign in the same step with --second-as and --second-key",
    ))
}

/// One person who drafts and establishes in a single step. Where it fails, nothing stays behind. What the broker refuses is a draft again; from Stg.G up
/// only where the person has brought an encryption key, which opens it.
///
/// # Errors
/// [`Failure`], as for both steps.
pub fn at_once(
    config: &Config,
    message: Box<Submission>,
    by: &Person,
    wait: bool,
) -> Result<Value, Failure> {
    let (key, opener) = own_key(by)?;
    let openers = vec![opener];
    let answer = ask(&config.socket, &Request::Propose { message, openers })?;
    let draft: DraftId = part(&answer, "draft")?;
    let secrets = key.as_ref().map_or(by.secrets(), from_ref);
    let sent = sign_draft(config, draft, None, by.signer(), secrets, wait);
    if sent.is_err() {
        // Where it went out all the same, the draft is gone already.
        drop(ask(&config.socket, &Request::Discard { draft }));
    }
    sent
}

/// Signs an act that follows the last on a message, and waits until the broker has it in force.
///
/// # Errors
/// [`Failure`]: the label, the daemon, or the broker refuses.
pub fn follow(
    config: &Config,
    id: MessageId,
    kind: ActKind,
    label: &str,
    signer: &FileSigner,
) -> Result<Value, Failure> {
    let by = signer.certificate().name().clone();
    let history = ask(&config.socket, &Request::History { id })?;
    let last = history.as_array().and_then(|a| a.last());
    let last = last.ok_or_else(|| undocumented(()))?;
    let act = Act {
        kind,
        subject: part::<Digest>(last, "subject")?,
        label: established(config, label, &by)?,
        node: part(last, "node")?,
        by,
        // A clock behind that of the act before would be no reason to refuse; the broker records its own time.
        at: now().max(part::<Timestamp>(last, "at")?),
        follows: Some(Follows {
            // Of what is passed on as it is, the message that it passes on.
            message: part(last, "message")?,
            act: part(last, "digest")?,
        }),
    };
    let act = signed(&act, signer)?.encode();
    let frame = BASE64.encode(&Frame::Act { act }.encode());
    let mut answer = ask(&config.socket, &Request::State { frame, wait: true })?;
    answer["id"] = json!(id);
    Ok(answer)
}

/// Signs that an event of the register has happened, and waits until the broker has recorded it.
///
/// # Errors
/// [`Failure`]: the daemon, or the broker refuses.
pub fn declare(config: &Config, event: &str, signer: &FileSigner) -> Result<Value, Failure> {
    let declaration = Declaration {
        event: event.into(),
        by: signer.certificate().name().clone(),
        at: now(),
    };
    let declaration = sign_statement(&declaration, signer)
        .map_err(|_| {
            usage(
                "the event could not be declared: it cannot be the name of one",
                "a name has 1 to 200 characters, without quotation marks",
            )
        })?
        .encode();
    let frame = BASE64.encode(&Frame::Declare { declaration }.encode());
    let mut answer = ask(&config.socket, &Request::State { frame, wait: true })?;
    answer["event"] = json!(event);
    Ok(answer)
}

/// The label of what has no rubricering any more.
const NONE: &str = "Ongerubriceerd";

/// What is shown of an extract: its parent, and what whoever signed it signed, for the second person to look at.
fn signed_so_far(answer: &mut Value) -> Result<(), Failure> {
    let extract = answer.as_object_mut().and_then(|o| o.remove("extract"));
    let Some(extract) = extract.filter(Value::is_object) else {
        return Ok(());
    };
    answer["extract_of"] = extract["of"].clone();
    answer["parent_level"] = extract["level"].clone();
    answer["second_person"] = extract["second"].clone();
    if let Some(act) = extract["act"].as_str() {
        let act = BASE64.decode(act.as_bytes()).map_err(undocumented)?;
        let act = SignedAct::decode(&act).map_err(undocumented)?;
        answer["signed_label"] = json!(act.said().label.to_string());
        answer["signed_by"] = json!(act.said().by);
        answer["signed_at"] = json!(act.said().at);
    }
    Ok(())
}

fn signed_in(by: &SignerArgs) -> Result<FileSigner, Failure> {
    person(&by.certificate, &by.key)
}

fn draft_id(text: &str) -> Result<DraftId, Failure> {
    text.parse()
        .map_err(|e: &str| usage(e, "`ordonnans label drafts` lists them"))
}

/// The label commands that ask the daemon.
pub(crate) fn label(config: &Config, command: LabelCommand) -> Result<Exit, Failure> {
    let simple = |request: &Request, listing| show(&ask(&config.socket, request)?, listing);
    match command {
        LabelCommand::Catalog { to, xmpp: true, .. } => {
            let all = policies(config.policies.as_deref())?;
            let shown = to.join(",");
            let labels = ask(&config.socket, &Request::Catalog { to })?;
            print!("{}", partners::catalog(&all, &shown, &labels)?);
            Ok(Exit::Done)
        }
        LabelCommand::Catalog { to, listing, .. } => simple(&Request::Catalog { to }, listing),
        LabelCommand::Propose(args) => {
            let message = Box::new(submission(&args.message)?);
            let openers = args.openers.iter().cloned().map(Opener::Named).collect();
            let answer = ask(&config.socket, &Request::Propose { message, openers })?;
            if args.message.listing.json {
                return show(&answer, args.message.listing);
            }
            show(&answer["draft"], args.message.listing)
        }
        LabelCommand::Drafts(listing) => simple(&Request::Drafts, listing),
        LabelCommand::Draft { draft, reader } => {
            let draft = draft_id(&draft)?;
            let person = reader.person()?;
            let mut answer = ask(&config.socket, &Request::Draft { draft })?;
            let opens = person.as_ref().map(|p| (p.name(), p.secrets()));
            let Drafted { content, .. } = drafted(&mut answer, opens)?;
            answer["subject"] = json!(content.subject);
            answer["media_type"] = json!(content.media_type);
            signed_so_far(&mut answer)?;
            eprint!("{}", table::render(&answer));
            // A reader that went away, like `head`, is no failure.
            drop(std::io::stdout().write_all(&content.body));
            Ok(Exit::Done)
        }
        LabelCommand::Establish {
            draft,
            label,
            signer,
            wait,
            listing,
        } => {
            let (by, draft) = (signer.person()?, draft_id(&draft)?);
            let answer = establish(config, draft, label.as_deref(), &by, wait)?;
            decided(&answer, listing)
        }
        LabelCommand::Second {
            draft,
            signer,
            wait,
            listing,
        } => {
            let (by, draft) = (signer.person()?, draft_id(&draft)?);
            decided(&second(config, draft, &by, wait)?, listing)
        }
        LabelCommand::Discard { draft } => {
            let draft = draft_id(&draft)?;
            simple(&Request::Discard { draft }, Listing { json: false })
        }
        LabelCommand::Revise {
            id,
            label,
            signer,
            listing,
        } => {
            let (id, by) = (message_id(&id)?, signed_in(&signer)?);
            show(&follow(config, id, ActKind::Revise, &label, &by)?, listing)
        }
        LabelCommand::End {
            id,
            signer,
            listing,
        } => {
            let (id, by) = (message_id(&id)?, signed_in(&signer)?);
            show(&follow(config, id, ActKind::End, NONE, &by)?, listing)
        }
        LabelCommand::History { id, listing } => {
            let id = message_id(&id)?;
            simple(&Request::History { id }, listing)
        }
        LabelCommand::Due(listing) => simple(&Request::Due, listing),
        LabelCommand::Parse { .. }
        | LabelCommand::Render { .. }
        | LabelCommand::Join { .. }
        | LabelCommand::Policies(_)
        | LabelCommand::ImportSpif { .. } => Err(Failure::internal("answered elsewhere")),
    }
}

/// The command `extract`.
pub(crate) fn extracted(config: &Config, args: &ExtractArgs) -> Result<Exit, Failure> {
    let of = message_id(&args.id)?;
    let first = args.message.vaststeller()?;
    let second = match (&args.second, &args.second_key) {
        (Some(certificate), Some(key)) => Some(person(certificate, key)?),
        _ => None,
    };
    let by = second.as_ref().map(|s| s.certificate().name());
    if by.is_some() && first.as_ref().map(Person::name) == by {
        return Err(passing::same_person());
    }
    let signers = first.as_ref().map(|first| Signers {
        first,
        second: second.as_ref(),
    });
    let message = Box::new(submission(&args.message)?);
    let wait = args.message.whereto.wait;
    let answer = extract(config, of, message, signers, &args.openers, wait)?;
    decided(&answer, args.message.listing)
}

/// The event commands.
pub(crate) fn event(config: &Config, command: EventCommand) -> Result<Exit, Failure> {
    let EventCommand::Declare {
        name,
        signer,
        listing,
    } = command;
    show(&declare(config, &name, &signed_in(&signer)?)?, listing)
}
