//! The program `ordonnans-ca`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use data_encoding::HEXLOWER;
use ordonnans_identity::Certificate;
use ordonnans_identity::read_policies;
use ordonnans_label::{Clearance, Clearances, Kind, Level, Policies};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::authorities::authorities;
use crate::enrolment::{self, KeyCommand, RequestArgs, SignArgs};
use crate::request::Request;
use crate::workshop::{AuthorityKeys, Workshop, WorkshopError};

#[derive(Parser)]
#[command(
    name = "ordonnans-ca",
    version,
    about = "Makes and revokes the certificates of a structure"
)]
#[command(after_help = "Exit codes: 0 done, 1 refused, 2 usage, 5 internal.")]
struct Arguments {
    /// The workshop's folder.
    #[arg(short, long, default_value = "workshop", global = true)]
    dir: PathBuf,
    /// A folder with policy files (*.toml) beside the built-in NL, NATO and EU.
    #[arg(long, value_name = "DIR", global = true)]
    policies: Option<PathBuf>,
    /// Where the passphrase of an encrypted key, or the PIN of a token, comes from: credential:NAME, fd:N or terminal. Without it, what
    /// ORDONNANS_PASSPHRASE_FROM names, else the terminal.
    #[arg(long, value_name = "SOURCE", global = true)]
    passphrase: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum Subject {
    Node,
    Person,
    Officer,
    Broker,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Issuing,
    Root,
}

#[derive(Subcommand)]
enum Command {
    /// Make an offline root, an issuing authority, and a list of revoked certificates for each.
    Init {
        /// The structure all names end with, such as crisis.example.
        #[arg(long)]
        structure: String,
        /// The most the issuing authority may give under a policy, with every circle and compartment it may give, such as
        /// "Stg.G // KRING ICCB"; once a policy. Without any it may give everything.
        #[arg(long, value_name = "CLEARANCE")]
        up_to: Vec<String>,
        /// Encrypt both key files under a new passphrase.
        #[arg(long)]
        encrypt: bool,
        /// Make the root's key in this token (pkcs11:token=…;object=…), out of which it never comes.
        #[arg(long, value_name = "URI")]
        root_key: Option<String>,
        /// Make the issuing authority's key in this token.
        #[arg(long, value_name = "URI")]
        issuing_key: Option<String>,
    },
    /// Issue a certificate and its key.
    Issue {
        /// What it is for.
        kind: Subject,
        /// The name before the kind, such as `ncc`.
        name: String,
        /// Highest level the subject may hold, with what else it holds, such as "Stg.G" or "NATO SECRET // CONTEXT NATO"; once a policy. Brokers
        /// read nothing and need none.
        #[arg(long, required_if_eq_any([("kind", "node"), ("kind", "person"), ("kind", "officer")]))]
        clearance: Vec<String>,
        /// A circle of the Dutch policy the subject is in; may be repeated.
        #[arg(long)]
        circle: Vec<String>,
        /// A compartment of the Dutch policy the subject holds; may be repeated.
        #[arg(long)]
        compartment: Vec<String>,
        /// Days it is valid.
        #[arg(long, default_value_t = 90)]
        days: i64,
        /// Although the subject has a live certificate, which is about to end and stays valid until then.
        #[arg(long)]
        renew: bool,
    },
    /// Make a key where it stays, and a request to certify it; needs no workshop.
    Request(RequestArgs),
    /// Certify the key of a request, after its fingerprint was compared.
    Sign(SignArgs),
    /// Encrypt a key file, change its passphrase, or decrypt it; needs no workshop.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Revoke a certificate by name or serial number, and publish a new list.
    Revoke {
        /// A full name, a local name, or a serial number.
        who: String,
    },
    /// Publish the lists anew, before they end.
    Crl,
    /// Make another issuing authority, or another root with an issuing authority of its own, beside those that are in trust.
    Rollover {
        /// What to make. `issuing` needs the newest root's key; `root` needs no key of another.
        what: Role,
        /// The most the new issuing authority may give, once a policy; without any it is what the one before may give.
        #[arg(long, value_name = "CLEARANCE")]
        up_to: Vec<String>,
        /// Encrypt new key files; they are encrypted without it where the key of the authority that issues is.
        #[arg(long)]
        encrypt: bool,
        /// Make a new root's key in this token (pkcs11:token=…;object=…), as an object of its own.
        #[arg(long, value_name = "URI")]
        root_key: Option<String>,
        /// Make the new issuing authority's key in this token, as an object of its own.
        #[arg(long, value_name = "URI")]
        issuing_key: Option<String>,
    },
    /// Take an authority out of trust, and with a root those below it.
    Retire {
        /// Its name in the workshop, such as `issuing` or `root-2`; `show --authorities` lists them.
        authority: String,
        /// Although subjects have no other live certificate: they are believed no more.
        #[arg(long)]
        with_live: bool,
    },
    /// Everything issued, or what a file with a certificate or a request says.
    Show {
        /// A certificate or a request, PEM.
        #[arg(conflicts_with = "authorities")]
        file: Option<PathBuf>,
        /// The roots and issuing authorities in place of what they have issued.
        #[arg(long)]
        authorities: bool,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Completions for a shell, on stdout.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// The manual page, on stdout.
    Man,
}

pub(crate) const REFUSED: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const INTERNAL: u8 = 5;

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) hint: &'static str,
    pub(crate) code: u8,
}

impl From<WorkshopError> for Failure {
    fn from(e: WorkshopError) -> Self {
        let (hint, code) = match &e {
            WorkshopError::Exists(_) => ("name another folder with --dir", REFUSED),
            WorkshopError::InTheWay(_) => (
                "an init that was cut short leaves such a folder; look, then remove it, or name another with --dir",
                REFUSED,
            ),
            WorkshopError::Ambiguous(_) => (
                "give the full name or the serial number; `ordonnans-ca show` lists them",
                REFUSED,
            ),
            WorkshopError::Outlives(_) => ("ask for fewer --days, or make a new workshop", REFUSED),
            WorkshopError::Beyond { .. } => (
                "ask for less, or make a workshop whose --up-to has it: verifiers cut what is beyond",
                REFUSED,
            ),
            WorkshopError::Clearance(_) => (
                "a policy's file says which levels and values it has; `--policies DIR` adds policies",
                USAGE,
            ),
            WorkshopError::Authority(_) => ("restore both files from the same copy", REFUSED),
            WorkshopError::KeyAway(_) => (
                "bring the key back for this, and take it away again after it",
                REFUSED,
            ),
            WorkshopError::NoAuthority(_) => {
                ("`ordonnans-ca show --authorities` lists them", REFUSED)
            }
            WorkshopError::Last(_) => ("make another first with `ordonnans-ca rollover`", REFUSED),
            WorkshopError::StillUsed { .. } => (
                "issue them new certificates and bring those around first, or give them up with --with-live",
                REFUSED,
            ),
            WorkshopError::Live(_) => (
                "use it, revoke it first, or ask for the next one with --renew",
                REFUSED,
            ),
            WorkshopError::Missing(_) => (
                "make one with `ordonnans-ca --dir DIR init --structure NAME`",
                USAGE,
            ),
            WorkshopError::Unknown(_) => ("`ordonnans-ca show` lists what was issued", REFUSED),
            WorkshopError::Name(_) | WorkshopError::Structure(_) | WorkshopError::Days => {
                ("`ordonnans-ca help` shows the form", USAGE)
            }
            WorkshopError::Secret(e) => (enrolment::hint(e), REFUSED),
            WorkshopError::Elsewhere(_) => ("ask the workshop of its own structure", REFUSED),
            WorkshopError::NotRenewed { .. } => (
                "enrol it anew: compare the fingerprint, and leave --renew out",
                REFUSED,
            ),
            WorkshopError::Reused(_) => (
                "make a new key with `ordonnans-ca request`, and ask with that",
                REFUSED,
            ),
            WorkshopError::Key(_) => ("a key file has mode 0600 and one owner", REFUSED),
            WorkshopError::State(_) => (
                "the state says what was issued and revoked: without it nothing can be revoked",
                INTERNAL,
            ),
            WorkshopError::Io { .. } | WorkshopError::Random | WorkshopError::Mint(_) => {
                ("check the folder", INTERNAL)
            }
        };
        Self {
            what: e.to_string(),
            hint,
            code,
        }
    }
}

pub(crate) fn usage(what: impl std::fmt::Display, hint: &'static str) -> Failure {
    Failure {
        what: what.to_string(),
        hint,
        code: USAGE,
    }
}

/// Runs the program with its arguments, the first of which is its name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(a) => a,
        Err(e) => {
            let code = if e.use_stderr() { USAGE } else { 0 };
            // Help goes to stdout, errors to stderr; neither can be helped if closed.
            drop(e.print());
            return code.into();
        }
    };
    // Collected, so that a reader who left cannot stop what is being done.
    let mut out = vec![];
    let done = command(arguments, &mut out).and_then(|()| {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(&out).and_then(|()| stdout.flush()) {
            // A reader who has seen enough, as `head` does.
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure {
                what: format!("it was done, but the result could not be written: {e}"),
                hint: "`ordonnans-ca show` lists what was issued",
                code: INTERNAL,
            }),
            _ => Ok(()),
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(f) => {
            remark(&format!("{}\nHint: {}", f.what, f.hint));
            f.code.into()
        }
    }
}

/// Says something on stderr; where nobody listens there is nobody to tell.
pub(crate) fn remark(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

pub(crate) fn line(out: &mut Vec<u8>, text: impl std::fmt::Display) {
    out.extend_from_slice(format!("{text}\n").as_bytes());
}

fn command(arguments: Arguments, out: &mut Vec<u8>) -> Result<(), Failure> {
    let (dir, now) = (arguments.dir, OffsetDateTime::now_utc());
    let policies = match &arguments.policies {
        Some(dir) => read_policies(dir).map_err(|e| {
            usage(
                e,
                "--policies names a folder; each *.toml in it is a policy",
            )
        })?,
        None => Policies::built_in().clone(),
    };
    let passphrase = enrolment::source(arguments.passphrase.as_deref())?;
    let keys = AuthorityKeys::new(passphrase.clone());
    match arguments.command {
        Command::Init {
            structure,
            up_to,
            encrypt,
            root_key,
            issuing_key,
        } => {
            let most = clearances("--up-to", &up_to, &policies)?;
            let keys = AuthorityKeys {
                encrypt,
                root: root_key,
                issuing: issuing_key,
                ..keys
            };
            let w = Workshop::init_with(&dir, &structure, &most, &policies, &keys, now)?;
            line(out, w.trust_dir().display());
            remark("The folder above is what everyone gets. Keep `root` offline.");
        }
        Command::Issue {
            kind,
            name,
            clearance,
            circle,
            compartment,
            days,
            renew,
        } => {
            let kind = match kind {
                Subject::Node => Kind::Node,
                Subject::Person => Kind::Person,
                Subject::Officer => Kind::Officer,
                Subject::Broker => Kind::Broker,
            };
            let holds = holds(&clearance, &circle, &compartment, &policies)?;
            let mut w = Workshop::open_with(&dir, &keys)?.with_policies(policies);
            let path = if renew {
                w.issue_beside(kind, &name, &holds, days, now)?
            } else {
                w.issue(kind, &name, &holds, days, now)?
            };
            line(out, path.display());
        }
        Command::Request(args) => enrolment::make_request(&args, &passphrase, out)?,
        Command::Sign(args) => enrolment::sign(&args, &dir, &keys, policies, now, out)?,
        Command::Key(command) => enrolment::change_key(&command, &passphrase, out)?,
        Command::Revoke { who } => {
            let mut w = Workshop::open_with(&dir, &keys)?;
            let n = w.revoke(&who, now)?;
            line(out, format_args!("{n} revoked"));
            remark(&format!(
                "Bring {} to the broker and the nodes, and have the broker read it again.",
                w.trust_dir().display()
            ));
        }
        Command::Crl => {
            let mut w = Workshop::open_with(&dir, &keys)?;
            w.lists(now)?;
            line(out, w.trust_dir().display());
        }
        Command::Rollover {
            what,
            up_to,
            encrypt,
            root_key,
            issuing_key,
        } => {
            if matches!(what, Role::Issuing) && root_key.is_some() {
                return Err(usage(
                    "no root is made, and --root-key says where its key is to be",
                    "`ordonnans-ca rollover root` makes one",
                ));
            }
            let most = clearances("--up-to", &up_to, &policies)?;
            let keys = AuthorityKeys {
                encrypt,
                root: root_key,
                issuing: issuing_key,
                ..keys
            };
            let mut w = Workshop::open_with(&dir, &keys)?;
            match what {
                Role::Issuing => line(out, w.rollover_issuing(&most, &policies, now)?),
                Role::Root => {
                    let [root, issuing] = w.rollover_root(&most, &policies, now)?;
                    remark(&format!("Keep `{root}` offline."));
                    line(out, root);
                    line(out, issuing);
                }
            }
            remark(&format!(
                "Bring {} everywhere before the first certificate of the new authority is used.",
                w.trust_dir().display()
            ));
        }
        Command::Retire {
            authority,
            with_live,
        } => {
            let mut w = Workshop::open_with(&dir, &keys)?;
            w.retire(&authority, with_live, now)?;
            line(out, w.trust_dir().display());
            remark("Bring the folder above everywhere, to the broker first.");
        }
        Command::Show {
            file: None,
            authorities: true,
            json,
        } => authorities(&Workshop::open_with(&dir, &keys)?, json, out),
        Command::Show {
            file: None, json, ..
        } => {
            let w = Workshop::open_with(&dir, &keys)?;
            list(&w, json, now, out);
            if !w.published() {
                remark("The list in `trust` is not the last one; `ordonnans-ca crl` publishes it.");
            }
        }
        Command::Show {
            file: Some(path),
            json,
            ..
        } => {
            if let Ok(asked) = Request::load(&path) {
                let said = json!({
                    "name": asked.name(),
                    "kind": asked.name().kind().as_str(),
                    "fingerprint": asked.fingerprint().to_string(),
                });
                print(&said, json, out);
                return Ok(());
            }
            let hint = "name a certificate in PEM, such as issued/NAME/cert.pem";
            let der = CertificateDer::from_pem_file(&path)
                .map_err(|_| usage(format!("{} is no certificate in PEM", path.display()), hint))?;
            let c = Certificate::parse_der(&der)
                .map_err(|e| usage(format!("{}: {e}", path.display()), hint))?;
            print(&about(&c, &policies), json, out);
        }
        Command::Completions { shell } => {
            let mut program = Arguments::command();
            clap_complete::generate(shell, &mut program, "ordonnans-ca", out);
        }
        Command::Man => {
            let page = clap_mangen::Man::new(Arguments::command());
            page.render(out).map_err(|e| Failure {
                what: format!("the manual page could not be made: {e}"),
                hint: "`ordonnans-ca help` says the same",
                code: INTERNAL,
            })?;
        }
    }
    Ok(())
}

/// The clearances of an option, at most one a policy.
fn clearances(option: &str, texts: &[String], policies: &Policies) -> Result<Clearances, Failure> {
    let hint =
        "for example \"Stg.G // KRING ICCB\" or \"NATO SECRET // CONTEXT NATO\", once a policy";
    let mut all = Clearances::default();
    for text in texts {
        let c = policies
            .read_clearance(text)
            .map_err(|e| usage(format!("{option}: {e}"), hint))?;
        if let Some(before) = all.insert(c) {
            let policy = before.policy();
            return Err(usage(
                format!("{option}: the policy {policy} stands twice"),
                hint,
            ));
        }
    }
    Ok(all)
}

pub(crate) fn holds(
    texts: &[String],
    circles: &[String],
    compartments: &[String],
    policies: &Policies,
) -> Result<Clearances, Failure> {
    let mut all = clearances("--clearance", texts, policies)?;
    if circles.is_empty() && compartments.is_empty() {
        return Ok(all);
    }
    let mut dutch = match all.nl() {
        Some(c) => c.clone(),
        None if texts.is_empty() => Clearance::new(Level::Ongerubriceerd),
        None => {
            return Err(usage(
                "--circle and --compartment belong to a Dutch clearance, and there is none",
                "name the values in the clearance, as in \"NATO SECRET // CONTEXT NATO\"",
            ));
        }
    };
    for c in circles {
        dutch = dutch
            .with_circle(c)
            .map_err(|e| usage(format!("--circle: {e}"), "for example --circle ICCB"))?;
    }
    for c in compartments {
        let hint = "for example --compartment CRYPTO";
        dutch = dutch
            .with_compartment(c)
            .map_err(|e| usage(format!("--compartment: {e}"), hint))?;
    }
    all.insert(dutch);
    Ok(all)
}

/// What a certificate says. `clearance`, `circles` and `compartments` are those of the Dutch policy; `unknown` are policies that are not known here.
fn about(c: &Certificate, policies: &Policies) -> Value {
    let holds = c.certified().clearances(policies);
    let texts = |values: &mut dyn Iterator<Item = String>| values.collect::<Vec<_>>();
    let unknown = c.certified().statements().map(|s| s.policy());
    let mut unknown = unknown
        .filter(|oid| policies.of_oid(oid).is_none())
        .map(str::to_owned);
    json!({
        "name": c.name(),
        "kind": c.name().kind().as_str(),
        "serial": HEXLOWER.encode(c.serial()),
        "clearances": texts(&mut holds.iter().map(ToString::to_string)),
        "unknown": texts(&mut unknown),
        "clearance": holds.nl().map(|h| h.level()),
        "circles": holds.nl().map(|h| texts(&mut h.circles().iter().map(|v| v.as_str().to_owned()))),
        "compartments": holds.nl().map(|h| texts(&mut h.compartments().iter().map(|v| v.as_str().to_owned()))),
        "not_before": c.not_before(),
        "not_after": c.not_after(),
        "fingerprint": c.fingerprint(),
        "client": c.allows_client(),
        "server": c.allows_server(),
    })
}

/// One object a line, or one field a line; of a list each item has a line of its own.
fn print(v: &Value, json: bool, out: &mut Vec<u8>) {
    if json {
        return line(out, v);
    }
    for (key, value) in v.as_object().into_iter().flatten() {
        let one = std::slice::from_ref(value);
        for value in value.as_array().map_or(one, Vec::as_slice) {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            line(out, format_args!("{key:<13} {text}"));
        }
    }
}

fn list(w: &Workshop, json: bool, now: OffsetDateTime, out: &mut Vec<u8>) {
    let date = |at| OffsetDateTime::from_unix_timestamp(at).map(|t| t.date().to_string());
    let mut all: Vec<_> = w.issued().collect();
    all.sort_by_key(|(_, e)| (&e.name, e.until));
    for (serial, e) in all {
        let until = date(e.until).unwrap_or_default();
        let standing = e.standing(now).as_str();
        if json {
            let row = json!({
                "serial": serial,
                "name": e.name,
                "kind": e.name.kind().as_str(),
                "until": until,
                "standing": standing,
                "by": e.by,
                "revoked": e.revoked.and_then(|at| date(at).ok()),
            });
            line(out, row);
        } else {
            let name = e.name.as_str();
            line(
                out,
                format_args!(
                    "{serial}  {name:<40} {standing:<8} until {until} by {}",
                    e.by
                ),
            );
        }
    }
}
