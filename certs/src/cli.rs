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
use crate::workshop::{Workshop, WorkshopError};

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
    },
    /// Take an authority out of trust, and with a root those below it.
    Retire {
        /// Its name in the workshop, such as `issuing` or `root-2`; `show --authorities` lists them.
        authority: String,
        /// Although subjects have no other live certificate: they are believed no more.
        #[arg(long)]
        with_live: bool,
    },
    /// Everything issued, or what a certificate file says.
    Show {
        /// A certificate, PEM.
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

const REFUSED: u8 = 1;
const USAGE: u8 = 2;
const INTERNAL: u8 = 5;

struct Failure {
    what: String,
    hint: &'static str,
    code: u8,
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

fn usage(what: impl std::fmt::Display, hint: &'static str) -> Failure {
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
fn remark(text: &str) {
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
    match arguments.command {
        Command::Init { structure, up_to } => {
            let most = clearances("--up-to", &up_to, &policies)?;
            let w = Workshop::init_up_to(&dir, &structure, &most, &policies, now)?;
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
            let mut w = Workshop::open(&dir)?.with_policies(policies);
            let path = if renew {
                w.renew(kind, &name, &holds, days, now)?
            } else {
                w.issue(kind, &name, &holds, days, now)?
            };
            line(out, path.display());
        }
        Command::Revoke { who } => {
            let mut w = Workshop::open(&dir)?;
            let n = w.revoke(&who, now)?;
            line(out, format_args!("{n} revoked"));
            remark(&format!(
                "Bring {} to the broker and the nodes, and have the broker read it again.",
                w.trust_dir().display()
            ));
        }
        Command::Crl => {
            let mut w = Workshop::open(&dir)?;
            w.lists(now)?;
            line(out, w.trust_dir().display());
        }
        Command::Rollover { what, up_to } => {
            let most = clearances("--up-to", &up_to, &policies)?;
            let mut w = Workshop::open(&dir)?;
            match what {
                Role::Issuing => line(out, w.rollover_issuing(&most, &policies, now)?),
                Role::Root => {
                    let [root, issuing] = w.rollover_root(&most, &policies, now)?;
                    remark(&format!("Keep `{root}/{root}.key.pem` offline."));
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
            let mut w = Workshop::open(&dir)?;
            w.retire(&authority, with_live, now)?;
            line(out, w.trust_dir().display());
            remark("Bring the folder above everywhere, to the broker first.");
        }
        Command::Show {
            file: None,
            authorities: true,
            json,
        } => authorities(&Workshop::open(&dir)?, json, out),
        Command::Show {
            file: None, json, ..
        } => {
            let w = Workshop::open(&dir)?;
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

fn holds(
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
