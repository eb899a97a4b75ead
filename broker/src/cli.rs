//! The program `ordonnans-broker`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use ordonnans_identity::{FileSigner, NumbersError, Signer as _, Trust};
use ordonnans_label::Name;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin;
use crate::approvals;
use crate::config::Config;
use crate::core::now;
use crate::serve::{Broker, Files, StartError, book, numbers, read_register};

#[derive(Parser)]
#[command(
    name = "ordonnans-broker",
    version,
    about = "Routes classified messages by their label, and proves it"
)]
struct Arguments {
    /// The configuration file.
    #[arg(short, long, default_value = "broker.toml", global = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or Ctrl-C; SIGHUP reads certificate, trust, policies and register again.
    Serve,
    /// Check configuration, certificate, trust, policies and register, and change nothing.
    Check,
    /// Look at register files; no broker and no configuration is needed.
    Register {
        /// Folder with policy files beside the built-in ones.
        #[arg(long, global = true, value_name = "DIR")]
        policies: Option<PathBuf>,
        /// What to do.
        #[command(subcommand)]
        command: RegisterCommand,
    },
    /// What a running broker is doing.
    Status {
        /// One JSON object.
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

#[derive(Subcommand)]
enum RegisterCommand {
    /// Read a register as the broker would, and count what it holds.
    Check {
        /// The register.
        file: PathBuf,
        /// The trust folder, to check the signatures beside it.
        #[arg(long, value_name = "DIR")]
        trust: Option<PathBuf>,
    },
    /// Sign a register, for the registrars it or the one before it names; the signature is kept beside it, in FILE.sig.
    Sign {
        /// The register.
        file: PathBuf,
        /// The registrar's certificate, PEM.
        #[arg(long = "as", value_name = "CERT")]
        certificate: PathBuf,
        /// Its key, PKCS#8 PEM, mode 0600.
        #[arg(long)]
        key: PathBuf,
        /// The register in force, so that what changes is seen before it is signed.
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
    },
    /// What a new register changes; exit code 1 where a change widens anybody's access.
    Diff {
        /// The register in force.
        old: PathBuf,
        /// The new one.
        new: PathBuf,
        /// One JSON object a change.
        #[arg(long)]
        json: bool,
    },
}

/// A failure as the user sees it: what is wrong, what to do, and the exit code.
struct Failure {
    what: String,
    hint: &'static str,
    code: u8,
}

const REFUSED: u8 = 1;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;
const PROOF: u8 = 4;
const INTERNAL: u8 = 5;

impl From<StartError> for Failure {
    fn from(e: StartError) -> Self {
        use ordonnans_store::OpenError;
        let (hint, code) = match &e {
            StartError::Identity(_) | StartError::Certificate(_) => (
                "issue a certificate with `ordonnans-ca issue broker NAME`, and keep its key at mode 0600",
                REFUSED,
            ),
            StartError::Trust(_) => (
                "copy the four files of the workshop's folder `trust`; `ordonnans-ca crl` renews the lists",
                REFUSED,
            ),
            StartError::StaleList(_) => (
                "make new lists with `ordonnans-ca crl` and bring the folder `trust`; `crl.grace_hours` is how long they may be late",
                REFUSED,
            ),
            StartError::Numbers(NumbersError::RolledBack { .. }) => (
                "bring the authority's newest list; `ordonnans-ca show --authorities` says its number",
                REFUSED,
            ),
            StartError::Numbers(_) => (
                "compare the lists' numbers with `ordonnans-ca show --authorities`; where they are the newest, remove the file",
                INTERNAL,
            ),
            StartError::Policies(_) => (
                "correct the policy file; docs/policies.md describes it",
                REFUSED,
            ),
            StartError::Approvals(_) => (
                "remove the broken file of signatures, and have the register signed again",
                REFUSED,
            ),
            StartError::Unapproved { .. } => (
                "the register that was in force stays the one that counts; put it back, or have the new one signed",
                REFUSED,
            ),
            StartError::InForce { .. } => (
                "a policy is taken away in two steps: first from the register, then from the folder",
                REFUSED,
            ),
            StartError::RegisterFile { .. } | StartError::Register { .. } => {
                ("correct the register; docs/policy.md describes it", REFUSED)
            }
            StartError::Store(OpenError::InUse(_)) => (
                "stop the other broker, or give this one its own `data`",
                REFUSED,
            ),
            StartError::Store(
                OpenError::Checkpoint(_)
                | OpenError::History { .. }
                | OpenError::Apart { .. }
                | OpenError::Trail(..),
            ) => (
                "keep the data directory as it is for the security officer; docs/operate.md says how to go on",
                PROOF,
            ),
            StartError::Store(_) | StartError::Mailbox(_) | StartError::Io { .. } => {
                ("see docs/operate.md, section 'The disk'", INTERNAL)
            }
            StartError::AuditKey(_) => (
                "audit.key in the data directory is a secret of mode 0600; restore it, never make it anew",
                REFUSED,
            ),
            StartError::Bind(_) => (
                "choose another `listen` address, or stop who has it",
                UNREACHABLE,
            ),
        };
        Self {
            what: e.to_string(),
            hint,
            code,
        }
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
    match command(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(f) => {
            // Where stderr cannot be written, as on a disk that can only be read, the exit code says it.
            drop(writeln!(std::io::stderr(), "{}\nHint: {}", f.what, f.hint));
            f.code.into()
        }
    }
}

fn command(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Completions { shell } => {
            let mut program = Arguments::command();
            clap_complete::generate(
                *shell,
                &mut program,
                "ordonnans-broker",
                &mut std::io::stdout(),
            );
            return Ok(());
        }
        Command::Man => {
            return clap_mangen::Man::new(Arguments::command())
                .render(&mut std::io::stdout())
                .map_err(|e| internal(&e));
        }
        Command::Register { policies, command } => {
            return register(policies.as_deref(), command);
        }
        _ => {}
    }
    let config = Config::load(&arguments.config).map_err(|e| Failure {
        what: e.to_string(),
        hint: "docs/operate.md lists every key; -c names the file",
        code: USAGE,
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| internal(&e))?;
    match arguments.command {
        Command::Check => check(&config),
        Command::Status { json } => runtime.block_on(status(&config, json)),
        _ => {
            log();
            runtime.block_on(serve(config))
        }
    }
}

fn internal(e: &dyn std::fmt::Display) -> Failure {
    Failure {
        what: e.to_string(),
        hint: "this should not happen; please report it with the broker's log",
        code: INTERNAL,
    }
}

/// Structured log lines on stderr: JSON for machines, text on a terminal. RUST_LOG chooses what.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        // Where stderr cannot be written, there is nobody to tell; to try all the same would be a panic.
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second call, in tests, finds the first one's.
    let set = if std::io::stderr().is_terminal() {
        lines.try_init()
    } else {
        lines.json().try_init()
    };
    drop(set);
}

fn register(policies: Option<&Path>, command: &RegisterCommand) -> Result<(), Failure> {
    let book = book(policies).map_err(StartError::from)?;
    match command {
        RegisterCommand::Check { file, trust } => {
            let r = read_register(file, &book)?;
            let signers = match trust {
                None => None,
                Some(dir) => {
                    let trust = Trust::load_dir(dir).map_err(StartError::from)?;
                    let all = approvals::signers(&r, file, &trust, now());
                    Some(all.map_err(StartError::from)?)
                }
            };
            println!("version     {}", r.version());
            println!("structure   {}", r.structure());
            println!("nodes       {}", r.nodes().count());
            println!("persons     {}", r.persons().count());
            println!("officers    {}", r.officers().count());
            println!("roles       {}", r.roles().count());
            println!("circles     {}", r.circles().count());
            println!("consents    {}", r.consents().len());
            println!("registrars  {}", listed(r.registrars()));
            if let Some(signers) = &signers {
                println!("signed by   {}", listed(signers));
            }
            println!("digest      {}", r.digest());
            println!("good");
            Ok(())
        }
        RegisterCommand::Sign {
            file,
            certificate,
            key,
            against,
        } => {
            let r = read_register(file, &book)?;
            if let Some(old) = against {
                let old = read_register(old, &book)?;
                old.changes(&r).iter().for_each(|c| println!("{c}"));
            }
            let signer = FileSigner::load(certificate, key).map_err(|e| Failure {
                what: e.to_string(),
                hint: "--as names the registrar's certificate, --key its key",
                code: REFUSED,
            })?;
            let by = signer.certificate().name().clone();
            let beside = approvals::sign(&r, file, &signer, now()).map_err(StartError::from)?;
            if !r.registrars().contains(&by) {
                println!(
                    "{by} is no registrar of this version; the signature counts if the one in force names it"
                );
            }
            println!(
                "version {} signed by {by}, in {}",
                r.version(),
                beside.display()
            );
            Ok(())
        }
        RegisterCommand::Diff { old, new, json } => {
            let (old, new) = (read_register(old, &book)?, read_register(new, &book)?);
            let changes = old.changes(&new);
            for c in &changes {
                if *json {
                    let line =
                        serde_json::json!({"entry": c.entry, "what": c.what, "widens": c.widens});
                    println!("{line}");
                } else {
                    println!("{c}");
                }
            }
            if new.version() <= old.version() && !changes.is_empty() {
                return Err(Failure {
                    what: format!(
                        "the new register has version {}, the old one {}",
                        new.version(),
                        old.version()
                    ),
                    hint: "raise `version` in the new one",
                    code: REFUSED,
                });
            }
            match changes.iter().filter(|c| c.widens).count() {
                0 => Ok(()),
                n => Err(Failure {
                    what: format!("{n} of {} changes widen access", changes.len()),
                    hint: "a register that names registrars takes two signatures for them: `register sign`",
                    code: REFUSED,
                }),
            }
        }
    }
}

fn listed(names: &BTreeSet<Name>) -> String {
    if names.is_empty() {
        "none".into()
    } else {
        Name::locals(names)
    }
}

fn check(config: &Config) -> Result<(), Failure> {
    let files = Files::load(config)?;
    numbers(config)
        .and_then(|n| n.check(&files.trust))
        .map_err(StartError::from)?;
    let certificate = files.identity.certificate();
    println!("broker      {}", certificate.name());
    println!("certificate valid until {}", certificate.not_after());
    println!("trust       {:?}", files.trust);
    for l in files.trust.list_details() {
        println!(
            "list        {}, number {}, until {}",
            l.authority, l.number, l.until
        );
    }
    for l in files.trust.late(now()) {
        println!("WARNING     {l}");
    }
    println!(
        "register    version {}, {} nodes",
        files.register.version(),
        files.register.nodes().count()
    );
    for p in files.book.policies().iter() {
        let digest = files
            .book
            .digest_of(p.id())
            .map_or_else(String::new, |d| d.to_string());
        println!("policy      {} version {}, {digest}", p.id(), p.version());
    }
    println!("good");
    Ok(())
}

async fn status(config: &Config, json: bool) -> Result<(), Failure> {
    let status = admin::ask(&config.admin_socket)
        .await
        .map_err(|e| Failure {
            what: format!(
                "no broker answers on {}: {e}",
                config.admin_socket.display()
            ),
            hint: "start it with `ordonnans-broker serve`; if it runs, see its log, and `LimitNOFILE` of its service",
            code: UNREACHABLE,
        })?;
    if json {
        let line = serde_json::to_string(&status).map_err(|e| internal(&e))?;
        println!("{line}");
        return Ok(());
    }
    println!("broker    {} on {}", status.broker, status.listen);
    if let Some(listen) = &status.listen_tcp {
        println!("tcp       {listen}");
    }
    println!("audit log {} records, root {}", status.records, status.root);
    println!("durable   {} commits", status.durable);
    println!("waiting   {} copies", status.queued);
    println!("register  version {}", status.register);
    println!("own       certificate until {}", status.certificate_until);
    for l in &status.lists {
        println!(
            "list      {}, number {}, until {}",
            l.authority, l.number, l.until
        );
    }
    for w in &status.warnings {
        println!("WARNING   {w}");
    }
    println!("sessions  {}", status.sessions.len());
    for s in &status.sessions {
        println!(
            "  {:<40} {:<4} {:<14} {} until {}, may hold {}",
            s.peer,
            s.carrier,
            s.key_exchange,
            s.cipher_suite,
            s.certificate_until,
            if s.clearance.is_empty() {
                "nothing".into()
            } else {
                s.clearance.join("; ")
            },
        );
    }
    Ok(())
}

async fn serve(config: Config) -> Result<(), Failure> {
    let mut broker = Broker::start(config).await?;
    tracing::info!(broker = %broker.name(), listen = %broker.local_addr(), "serving");
    let handler = |kind| signal(kind).map_err(|e| internal(&e));
    let mut terminate = handler(SignalKind::terminate())?;
    let mut interrupt = handler(SignalKind::interrupt())?;
    let mut hangup = handler(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                if let Err(why) = broker.reload().await {
                    tracing::error!(%why, "reload failed");
                }
            }
            why = broker.failed() => {
                tracing::error!(why, "the broker stops");
                // What can still be closed is closed; the reason to stop is the one above.
                drop(broker.stop().await);
                return Err(Failure {
                    what: why,
                    hint: "see docs/operate.md, section 'The disk'; what was acknowledged is kept",
                    code: INTERNAL,
                });
            }
        }
    }
    tracing::info!("stopping");
    broker.stop().await.map_err(|e| internal(&e))
}
