//! The commands of enrolment: a request is made where the key stays, and signed at the workshop after two people have compared its fingerprint.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ordonnans_identity::{
    FileSigner, KeyError, KeyPlace, PassphraseSource, Rekey, SecretKey, Signer, rekey,
};
use ordonnans_label::{Name, Policies};
use time::OffsetDateTime;

use crate::cli::{Failure, INTERNAL, REFUSED, USAGE, holds, line, remark, usage};
use crate::request::{Fingerprint, Request, renewing, request};
use crate::state::replace;
use crate::workshop::{AuthorityKeys, Workshop};

/// Makes a key where it stays, and a request to certify it.
#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    /// Whom the certificate is to name, in full, such as ncc.node.crisis.example.
    name: String,
    /// Where the key is made: a file that is not there yet, or a token by its URI (pkcs11:token=…;object=…).
    #[arg(long, value_name = "KEY")]
    key: PathBuf,
    /// Where the request goes.
    #[arg(long, value_name = "FILE", default_value = "request.pem")]
    out: PathBuf,
    /// Encrypt the key file under a new passphrase.
    #[arg(long, conflicts_with = "have")]
    encrypt: bool,
    /// The key is there already: ask for a certificate on that one.
    #[arg(long)]
    have: bool,
    /// Renew this certificate: its key signs the request too, so that `sign --renew` needs nobody to compare a fingerprint.
    #[arg(long, value_name = "CERT", requires = "old_key")]
    renew: Option<PathBuf>,
    /// The key of the certificate to renew.
    #[arg(long, value_name = "KEY", requires = "renew")]
    old_key: Option<PathBuf>,
}

/// Certifies the key of a request.
#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// The request; with --renew also a folder, in which a broker keeps its nodes' requests: each of them.
    request: PathBuf,
    /// The fingerprint that the other end has read out. Without it, it is shown and asked about at the terminal.
    #[arg(long, value_name = "GROUPS")]
    fingerprint: Option<String>,
    /// Renew by the rule: the old key has signed the request, and the new certificate says no more than the old one.
    #[arg(long, conflicts_with = "fingerprint")]
    renew: bool,
    /// Highest level the subject may hold, with what else it holds; once a policy. Brokers read nothing and need none.
    #[arg(long)]
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
}

/// What to do with the passphrase of a key file.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Encrypt a plain key file.
    Encrypt {
        /// The file.
        file: PathBuf,
    },
    /// Put a new passphrase in the place of the one it has.
    Change {
        /// The file.
        file: PathBuf,
        /// Where the new one comes from.
        #[arg(long, value_name = "SOURCE", default_value = "terminal")]
        new_passphrase: String,
    },
    /// Take the passphrase away.
    Decrypt {
        /// The file.
        file: PathBuf,
    },
}

/// The source of passphrases that the command line names, else the usual one.
pub(crate) fn source(given: Option<&str>) -> Result<PassphraseSource, Failure> {
    let source = match given {
        Some(text) => text.parse(),
        None => PassphraseSource::usual(),
    };
    source.map_err(|e| {
        usage(
            e,
            "for example --passphrase fd:3 3< <(pass show ordonnans/node)",
        )
    })
}

impl From<KeyError> for Failure {
    fn from(e: KeyError) -> Self {
        let hint = hint(&e);
        Self {
            what: e.to_string(),
            hint,
            code: match e {
                KeyError::Source(_) | KeyError::NoFile(_) => USAGE,
                KeyError::Random => INTERNAL,
                _ => REFUSED,
            },
        }
    }
}

/// The next step where a key is not opened or not made.
pub(crate) fn hint(e: &KeyError) -> &'static str {
    match e {
        KeyError::File(_) => "a key file has mode 0600 and one owner, and is never overwritten",
        KeyError::Form(_) | KeyError::Kind(_) => "`ordonnans-ca request` makes a key that fits",
        KeyError::Encrypted { .. } => "look whether it is the right file and the right passphrase",
        KeyError::Passphrase(_) | KeyError::Source(_) => {
            "--passphrase names its source: credential:NAME, fd:N or terminal"
        }
        KeyError::Token(_) => {
            "the URI names token and object; PKCS11_MODULE or module-path its module"
        }
        KeyError::NoFile(_) => "change the token's PIN with the token's own tool",
        KeyError::Plain(_) => "`ordonnans-ca key encrypt FILE` encrypts it",
        KeyError::Sealed(_) => "`ordonnans-ca key change FILE` changes its passphrase",
        KeyError::Random => "the system gives random numbers a while after it was started",
    }
}

pub(crate) fn make_request(
    args: &RequestArgs,
    passphrase: &PassphraseSource,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let name: Name = args.name.parse().map_err(|e| {
        usage(
            format_args!("'{}' is no full name: {e}", args.name),
            "<name>.<kind>.<structure>, such as ncc.node.crisis.example",
        )
    })?;
    if args.out.exists() {
        return Err(Failure {
            what: format!("{} is there already; nothing was made", args.out.display()),
            hint: "name another file with --out, or remove it",
            code: REFUSED,
        });
    }
    let old = old_signer(args, passphrase)?;
    let place = KeyPlace::new(&args.key, passphrase.clone());
    let key = if args.have {
        SecretKey::open(&place)?
    } else {
        SecretKey::generate(&place, args.encrypt)?
    };
    let again = |what: String| Failure {
        what,
        hint: "the key is there: ask again with --have",
        code: INTERNAL,
    };
    let (mut text, fingerprint) = request(&name, &key).map_err(|e| again(e.to_string()))?;
    if let Some(old) = old {
        text = renewing(&text, &old).map_err(|e| again(e.to_string()))?;
    }
    replace(&args.out, &text)?;
    line(out, args.out.display());
    line(out, format_args!("fingerprint   {fingerprint}"));
    remark(
        "Bring the request to the workshop by any way. Read the fingerprint to it over the telephone; \
         the key stays here.",
    );
    Ok(())
}

/// The certificate to renew and its key, before anything is made.
fn old_signer(
    args: &RequestArgs,
    passphrase: &PassphraseSource,
) -> Result<Option<FileSigner>, Failure> {
    let (Some(certificate), Some(key)) = (&args.renew, &args.old_key) else {
        return Ok(None);
    };
    let key = KeyPlace::new(key, passphrase.again());
    let old = FileSigner::load(certificate, key).map_err(|e| Failure {
        what: format!("the certificate to renew: {e}"),
        hint: "--renew names a certificate, --old-key its key; without both enrol anew",
        code: REFUSED,
    })?;
    let named = old.certificate().name();
    if named.as_str() != args.name {
        return Err(usage(
            format_args!("{} is the certificate of {named}", certificate.display()),
            "a renewal is for the same name",
        ));
    }
    Ok(Some(old))
}

pub(crate) fn sign(
    args: &SignArgs,
    dir: &Path,
    keys: &AuthorityKeys,
    policies: Policies,
    now: OffsetDateTime,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    if args.request.is_dir() {
        return sign_folder(args, dir, keys, policies, now, out);
    }
    let asked = Request::load(&args.request).map_err(|e| Failure {
        what: format!("{}: {e}", args.request.display()),
        hint: "`ordonnans-ca request` makes one that fits, where the key is to stay",
        code: REFUSED,
    })?;
    let kind = asked.name().kind();
    if args.renew {
        let given = [&args.clearance, &args.circle, &args.compartment];
        let less = given.iter().any(|v| !v.is_empty());
        let less = less.then(|| holds(&args.clearance, &args.circle, &args.compartment, &policies));
        let less = less.transpose()?;
        let mut w = Workshop::open_with(dir, keys)?.with_policies(policies);
        let path = w.renew(&asked, less.as_ref(), args.days, now)?;
        line(out, path.display());
        return Ok(());
    }
    if args.clearance.is_empty() && kind != ordonnans_label::Kind::Broker {
        return Err(usage(
            format_args!(
                "{} is to hold something, and no --clearance says what",
                asked.name()
            ),
            "for example --clearance \"Stg.G // KRING ICCB\"; it never comes from the request",
        ));
    }
    let holds = holds(&args.clearance, &args.circle, &args.compartment, &policies)?;
    compared(&asked, args.fingerprint.as_deref())?;
    let mut w = Workshop::open_with(dir, keys)?.with_policies(policies);
    let path = w.sign(&asked, &holds, args.days, now)?;
    line(out, path.display());
    Ok(())
}

/// Renews by the rule what the nodes of a folder ask for.
fn sign_folder(
    args: &SignArgs,
    dir: &Path,
    keys: &AuthorityKeys,
    policies: Policies,
    now: OffsetDateTime,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let more = [&args.clearance, &args.circle, &args.compartment];
    if !args.renew || more.iter().any(|v| !v.is_empty()) {
        return Err(usage(
            format_args!("{} is a folder", args.request.display()),
            "its requests are signed by the rule alone: --renew, and no clearance",
        ));
    }
    let mut w = Workshop::open_with(dir, keys)?.with_policies(policies);
    let (all, mut refused) = (w.renew_folder(&args.request, args.days, now)?, 0);
    let count = all.len();
    for one in all {
        match one.certificate {
            Ok(path) => line(out, path.display()),
            Err(why) => {
                refused += 1;
                remark(&format!("{}: {why}", one.request.display()));
            }
        }
    }
    if refused == 0 {
        return Ok(());
    }
    Err(Failure {
        what: format!("of {count} requests {refused} were not signed"),
        hint: "look at each: sign it by hand after comparing its fingerprint, or remove it",
        code: REFUSED,
    })
}

/// Goes on only where the fingerprint is the one at the other end.
fn compared(asked: &Request, heard: Option<&str>) -> Result<(), Failure> {
    let (name, fingerprint) = (asked.name(), asked.fingerprint());
    let refused = |what: String, hint| Failure {
        what,
        hint,
        code: REFUSED,
    };
    let another = || {
        refused(
            format!("the key of this request is not the one at {name}; nothing was signed"),
            "somebody may have put another request in its place: have it brought again, and report it",
        )
    };
    if let Some(heard) = heard {
        return if fingerprint.is(heard) {
            Ok(())
        } else {
            Err(another())
        };
    }
    if !io::stdin().is_terminal() {
        return Err(refused(
            format!("nobody has compared the fingerprint {fingerprint} of {name}"),
            "have the other end read out its own, and give that with --fingerprint",
        ));
    }
    if asks_at_terminal(name, fingerprint) {
        Ok(())
    } else {
        Err(another())
    }
}

fn asks_at_terminal(name: &Name, fingerprint: Fingerprint) -> bool {
    let mut err = io::stderr();
    let asked = writeln!(
        err,
        "{name} asks for a certificate on the key\n\n    {fingerprint}\n"
    )
    .and_then(|()| write!(err, "Does {name} read out the same? [yes/no] "))
    .and_then(|()| err.flush());
    let mut answer = String::new();
    asked.is_ok() && io::stdin().lock().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}

pub(crate) fn change_key(
    command: &KeyCommand,
    passphrase: &PassphraseSource,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let (file, how, done) = match command {
        KeyCommand::Encrypt { file } => (file, Rekey::Encrypt(passphrase.again()), "encrypted"),
        KeyCommand::Change {
            file,
            new_passphrase,
        } => {
            let new = source(Some(new_passphrase))?;
            (file, Rekey::Change(new), "has a new passphrase")
        }
        KeyCommand::Decrypt { file } => (file, Rekey::Decrypt, "decrypted"),
    };
    rekey(&KeyPlace::new(file, passphrase.clone()), &how)?;
    line(out, format_args!("{} {done}", file.display()));
    Ok(())
}
