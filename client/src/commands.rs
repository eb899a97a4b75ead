//! What each command does: asks the daemon or the broker, prints the answer.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use data_encoding::BASE64;
use ordonnans_message::{MessageId, ReceiptKind, Timestamp, limits};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::audit;
use crate::cli::{
    AuditCommand, Cli, Command, DestroyArgs, ForwardArgs, KeyCommand, LabelArgs, Listing,
    PrintArgs, ReadArgs, SendArgs, SignerArgs, Whereto, WitnessCommand,
};
use crate::config::Config;
use crate::daemon::Daemon;
use crate::desk::{now, usage};
use crate::failure::{Exit, Failure};
use crate::labels;
use crate::local::{Request, Submission, ask};
use crate::opening::{Person, make_key, open_message, pages, publish_key};
use crate::partners;
use crate::passing::wanted;
use crate::signing;
use crate::table;

/// Runs the program with its arguments, the first of which is its name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            let code = if e.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            // Help goes to stdout, errors to stderr; neither can be helped if closed.
            drop(e.print());
            return (code as u8).into();
        }
    };
    match command(cli) {
        Ok(exit) => (exit as u8).into(),
        Err(f) => {
            // Where stderr cannot be written, as on a disk that can only be read, the exit code says it.
            drop(writeln!(std::io::stderr(), "{f}\nHint: {}", f.hint()));
            (f.exit() as u8).into()
        }
    }
}

fn command(cli: Cli) -> Result<Exit, Failure> {
    match cli.command {
        Command::Completions { shell } => {
            let mut program = Cli::command();
            clap_complete::generate(shell, &mut program, "ordonnans", &mut std::io::stdout());
            return Ok(Exit::Done);
        }
        Command::Man => {
            let page = clap_mangen::Man::new(Cli::command());
            return page
                .render(&mut std::io::stdout())
                .map(|()| Exit::Done)
                .map_err(|e| Failure::internal(e.to_string()));
        }
        Command::Label(ref args) if args.command.is_local() => {
            return labels::local(&cli.config, args);
        }
        Command::Import(ref args) => return partners::import(&cli.config, args),
        _ => {}
    }
    if let Command::Audit(args) = cli.command {
        if let AuditCommand::Verify(args) = &args.command {
            return audit::verify(args);
        }
        return runtime()?.block_on(audit::audit(&cli.config, args.command));
    }
    let config = Config::load(&cli.config).map_err(|e| {
        usage(
            e.to_string(),
            "name the file with -c; docs/operate.md lists every key",
        )
    })?;
    let simple =
        |request: &Request, listing: Listing| show(&ask(&config.socket, request)?, listing);
    match cli.command {
        Command::Daemon => daemon(config),
        Command::Send(args) => send(&config, &args),
        Command::Forward(args) => forward(&config, &args),
        Command::Extract(args) => signing::extracted(&config, &args),
        Command::Read(args) => read(&config, args),
        Command::Inbox(listing) => simple(&Request::Inbox, listing),
        Command::Board { all, listing } => simple(&Request::Board { all }, listing),
        Command::Directory(listing) => simple(&Request::Directory, listing),
        Command::Status(listing) => simple(&Request::Status, listing),
        Command::Reload(listing) => simple(&Request::Reload, listing),
        Command::Receipts { id, listing } => {
            let id = id.map(|id| message_id(&id)).transpose()?;
            simple(&Request::Receipts { id }, listing)
        }
        Command::Print(args) => print(&config, &args),
        Command::Destroy(args) => destroy(&config, &args),
        Command::Key(args) => key(&config, args.command),
        Command::Recall { id } => {
            let id = message_id(&id)?;
            ask(&config.socket, &Request::Recall { id }).map(|_| Exit::Done)
        }
        Command::Witness(args) => match args.command {
            WitnessCommand::Show(listing) => simple(&Request::Witness, listing),
            WitnessCommand::Forget(listing) => simple(&Request::ForgetLog, listing),
        },
        Command::Label(LabelArgs { command, .. }) => signing::label(&config, command),
        Command::Export(args) => partners::export(&config, &args),
        Command::Event(args) => signing::event(&config, args.command),
        Command::Explain(args) => {
            let (value, listing) = runtime()?.block_on(labels::explain(&config, args))?;
            show(&value, listing)
        }
        Command::Completions { .. } | Command::Man | Command::Import(_) | Command::Audit(_) => {
            Ok(Exit::Done)
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::internal(e.to_string()))
}

/// Prints an answer: JSON, one object a line, or a table.
pub(crate) fn show(value: &Value, listing: Listing) -> Result<Exit, Failure> {
    let text = match value {
        Value::Array(rows) if listing.json => rows.iter().map(|r| format!("{r}\n")).collect(),
        value if listing.json => format!("{value}\n"),
        value => table::render(value),
    };
    if text.is_empty() {
        eprintln!("nothing");
    }
    // A reader that went away, like `head`, is no failure.
    drop(std::io::stdout().write_all(text.as_bytes()));
    Ok(Exit::Done)
}

pub(crate) fn message_id(text: &str) -> Result<MessageId, Failure> {
    text.parse()
        .map_err(|e| usage(format!("{e}"), "`ordonnans inbox` and `receipts` print ids"))
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
    let set = if std::io::stderr().is_terminal() {
        lines.try_init()
    } else {
        lines.json().try_init()
    };
    // A second call, in tests, finds the first one's.
    drop(set);
}

fn daemon(config: Config) -> Result<Exit, Failure> {
    log();
    runtime()?.block_on(async {
        let stop = CancellationToken::new();
        let handler = |kind| signal(kind).map_err(|e| Failure::internal(e.to_string()));
        let (mut terminate, mut interrupt) = (
            handler(SignalKind::terminate())?,
            handler(SignalKind::interrupt())?,
        );
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stopped.cancel();
        });
        Daemon::run(config, stop).await.map(|()| Exit::Done)
    })
}

/// A point in time, or a span from now: `90s`, `30m`, `12h`, `7d`.
fn when(text: &str) -> Result<Timestamp, Failure> {
    point(text).map(|p| match p {
        Point::At(at) => at,
        Point::Span(ms) => now().after(ms),
    })
}

/// A point in time, or a span back from now.
pub(crate) fn ago(text: &str) -> Result<Timestamp, Failure> {
    point(text).map(|p| match p {
        Point::At(at) => at,
        Point::Span(ms) => Timestamp::from_millis(now().as_millis().saturating_sub(ms)),
    })
}

enum Point {
    At(Timestamp),
    /// Milliseconds.
    Span(u64),
}

fn point(text: &str) -> Result<Point, Failure> {
    let bad = || {
        usage(
            format!("`{}` is no time", text.chars().take(40).collect::<String>()),
            "write a span such as 30m, 12h or 7d, or 2026-12-31T12:00:00Z",
        )
    };
    if let Ok(at) = text.parse() {
        return Ok(Point::At(at));
    }
    let unit = text.chars().last().ok_or_else(bad)?;
    let ms = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return Err(bad()),
    };
    let n: u64 = text[..text.len() - 1].parse().map_err(|_| bad())?;
    Ok(Point::Span(n.saturating_mul(ms)))
}

/// Where a message goes, and nothing of what it says.
fn addressed(to: &Whereto) -> Result<Submission, Failure> {
    if to.to.is_empty() && to.info.is_empty() {
        return Err(usage(
            "the message has no recipient",
            "name one with --to NODE or --to PERSON@NODE",
        ));
    }
    Ok(Submission {
        to: to.to.clone(),
        info: to.info.clone(),
        precedence: to.precedence.clone(),
        info_precedence: to.info_precedence.clone(),
        expires: when(&to.expires)?,
        reply_by: to.reply_by.as_deref().map(when).transpose()?,
        label: String::new(),
        exercise: false,
        subject: String::new(),
        media_type: String::new(),
        name: None,
        body: vec![],
        attachments: vec![],
        author: None,
        references: vec![],
        supersedes: None,
    })
}

/// A message as it is typed.
pub(crate) fn submission(args: &SendArgs) -> Result<Submission, Failure> {
    let addressed = addressed(&args.whereto)?;
    let mut body = vec![];
    let most = limits::MAX_CONTENT as u64 + 1;
    let read = match &args.file {
        Some(path) => std::fs::File::open(path).and_then(|f| f.take(most).read_to_end(&mut body)),
        None => std::io::stdin().take(most).read_to_end(&mut body),
    };
    read.map_err(|e| usage(format!("the content cannot be read: {e}"), "check the file"))?;
    if body.len() > limits::MAX_CONTENT {
        return Err(usage(
            format!("the content has more than {} bytes", limits::MAX_CONTENT),
            "give the file with --attach",
        ));
    }
    let absolute = |p: &std::path::PathBuf| {
        std::path::absolute(p).map_err(|e| usage(format!("{}: {e}", p.display()), "check the path"))
    };
    let file_name = args.file.as_ref().and_then(|p| p.file_name());
    Ok(Submission {
        name: file_name.map(|n| n.to_string_lossy().into_owned()),
        label: args.label.clone(),
        exercise: args.exercise,
        subject: args.subject.clone(),
        media_type: args.media_type.clone(),
        body,
        attachments: args.attach.iter().map(absolute).collect::<Result<_, _>>()?,
        author: args.author.clone(),
        references: args
            .references
            .iter()
            .map(|id| message_id(id))
            .collect::<Result<_, _>>()?,
        supersedes: args.supersedes.as_deref().map(message_id).transpose()?,
        ..addressed
    })
}

fn send(config: &Config, args: &SendArgs) -> Result<Exit, Failure> {
    let (message, wait) = (Box::new(submission(args)?), args.whereto.wait);
    let answer = match args.vaststeller()? {
        Some(by) => signing::at_once(config, message, &by, wait)?,
        None => ask(&config.socket, &Request::Send { message, wait })?,
    };
    decided(&answer, args.listing)
}

/// Prints the id of a message that was handed in; a refusal of the broker is a failure.
pub(crate) fn decided(answer: &Value, listing: Listing) -> Result<Exit, Failure> {
    let refused = answer["verdict"]["state"] == "refused";
    if listing.json {
        show(answer, listing)?;
    } else {
        // An extract that waits to be signed has no id yet.
        let named = answer["id"].as_str().or(answer["draft"].as_str());
        println!("{}", named.unwrap_or_default());
        if let Some(state) = answer["state"].as_str() {
            eprintln!(
                "the draft {state}: `ordonnans label second DRAFT --as CERT --key KEY`, with --seal-key FILE where persons hold it"
            );
        }
    }
    if !refused {
        return Ok(Exit::Done);
    }
    let v = &answer["verdict"];
    let text = |v: &Value| v.as_str().unwrap_or("-").to_owned();
    let (who, hint) = match (v["recipient"].as_str(), v["rule"].as_u64()) {
        (Some(name), _) => (
            format!(" for {name}"),
            "check the addressee and the label; your security officer sees the rule in the audit log".to_owned(),
        ),
        (None, Some(rule)) => (
            String::new(),
            format!(
                "rule POL-{rule:02} in docs/policy.md says what must hold{}",
                wanted(rule)
            ),
        ),
        (None, None) => (String::new(), "correct the message and send it again".to_owned()),
    };
    let hint = match answer["draft"].as_str() {
        Some(draft) => format!("{hint}; the message is kept as draft {draft}"),
        None => hint,
    };
    Err(Failure::new(
        Exit::Refused,
        format!("the broker refused the message{who}: {}", text(&v["code"])),
        hint,
    ))
}

/// Passes a message on as it is.
fn forward(config: &Config, args: &ForwardArgs) -> Result<Exit, Failure> {
    let id = message_id(&args.id)?;
    // Label and content are those of the message; whether it is of an exercise, too.
    let addressed = addressed(&args.whereto)?;
    let reader = Person::named(args.reader.as_deref(), args.key.as_deref(), &[])?;
    let message = Submission {
        author: reader.as_ref().map(|r| r.name().to_string()),
        ..addressed
    };
    let receipt = reader.map(|r| r.receipt(&config.socket, id, ReceiptKind::Opened));
    let request = Request::Forward {
        id,
        receipt: receipt.transpose()?,
        message: Box::new(message),
        wait: args.whereto.wait,
    };
    decided(&ask(&config.socket, &request)?, args.listing)
}

fn read(config: &Config, args: ReadArgs) -> Result<Exit, Failure> {
    let id = message_id(&args.id)?;
    // Before anything is opened: who reads must be able to keep it.
    if let Some(path) = args.out.as_ref().filter(|p| p.exists()) {
        return Err(usage(
            format!("{} exists", path.display()),
            "name a file that does not exist yet",
        ));
    }
    let reader = args.reader.person()?;
    let attachment = match (args.attachment, &args.out) {
        (None, _) => None,
        (Some(n), Some(out)) => {
            let out = std::path::absolute(out)
                .map_err(|e| usage(format!("{}: {e}", out.display()), "check the path"))?;
            Some((n, out))
        }
        (Some(_), None) => {
            return Err(usage(
                "an attachment is written to a file",
                "name it with -o FILE",
            ));
        }
    };
    let saved = attachment.is_some();
    let kind = ReceiptKind::Opened;
    let mut answer = open_message(&config.socket, id, kind, reader.as_ref(), attachment)?;
    let body = answer
        .as_object_mut()
        .and_then(|o| o.remove("body"))
        .unwrap_or_default();
    let remark = if args.listing.json {
        format!("{answer}\n")
    } else {
        table::render(&answer)
    };
    eprint!("{remark}");
    if answer["still_believed"] == false {
        eprintln!(
            "The originator's certificate was believed when the message came in, and is not now."
        );
    }
    if saved {
        return Ok(Exit::Done);
    }
    let body = BASE64
        .decode(body.as_str().unwrap_or_default().as_bytes())
        .map_err(|_| Failure::internal("the daemon's answer is not base64"))?;
    match &args.out {
        None => drop(std::io::stdout().write_all(&body)),
        Some(path) => OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut f| f.write_all(&body))
            .map_err(|e| {
                usage(
                    format!("{} cannot be made: {e}", path.display()),
                    "name a file that does not exist yet; the message stays in the inbox",
                )
            })?,
    }
    Ok(Exit::Done)
}

/// Hands a message to a program that prints. The receipt *printed* is kept before anything is opened.
fn print(config: &Config, args: &PrintArgs) -> Result<Exit, Failure> {
    let (id, kind) = (message_id(&args.id)?, ReceiptKind::Printed);
    let reader = args.reader.person()?;
    let cannot = |e: &dyn std::fmt::Display| {
        usage(
            format!("{} does not print: {e}", args.with),
            "name a program that prints its standard input with --with",
        )
    };
    let mut program = std::process::Command::new(&args.with);
    let mut program = program
        .stdin(std::process::Stdio::piped())
        .spawn()
        .map_err(|e| cannot(&e))?;
    let opened = open_message(&config.socket, id, kind, reader.as_ref(), None);
    let mut answer = opened.inspect_err(|_| drop(program.kill()))?;
    let body = answer.as_object_mut().and_then(|o| o.remove("body"));
    let body = body.as_ref().and_then(Value::as_str).unwrap_or_default();
    let body = BASE64
        .decode(body.as_bytes())
        .map_err(|_| Failure::internal("the daemon's answer is not base64"))?;
    let body = numbered(&answer, body).inspect_err(|_| drop(program.kill()))?;
    if let Some(mut to) = program.stdin.take() {
        to.write_all(&body).map_err(|e| cannot(&e))?;
    }
    let ended = program.wait().map_err(|e| cannot(&e))?;
    if !ended.success() {
        return Err(cannot(&format!(
            "it ended with {ended}; the log says that it was printed"
        )));
    }
    Ok(Exit::Done)
}

fn destroy(config: &Config, args: &DestroyArgs) -> Result<Exit, Failure> {
    let (id, kind) = (message_id(&args.id)?, ReceiptKind::Destroyed);
    let reader = Person::named(args.reader.as_deref(), args.key.as_deref(), &[])?;
    let receipt = reader
        .map(|r| r.receipt(&config.socket, id, kind))
        .transpose()?;
    ask(&config.socket, &Request::Destroy { id, receipt })?;
    Ok(Exit::Done)
}

/// What goes to the printer: of a numbered copy, which is text then, every page with its label and number.
fn numbered(answer: &Value, body: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let Some(copy) = answer["copy"].as_str() else {
        return Ok(body);
    };
    let text = answer["media_type"]
        .as_str()
        .is_some_and(|t| t.starts_with("text/"));
    let body = String::from_utf8(body).ok().filter(|_| text).ok_or_else(|| {
        Failure::new(
            Exit::Refused,
            "the copy is numbered and no text, so its number cannot be put on every page",
            "take it out with `ordonnans export`, and print it with the sheet `copy.txt`; the log says that it was printed",
        )
    })?;
    let label = answer["label_now"].as_str().or(answer["label"].as_str());
    let head = format!("{}  -  {copy}", label.unwrap_or_default());
    Ok(pages(&body, &head))
}

fn key(config: &Config, command: KeyCommand) -> Result<Exit, Failure> {
    match command {
        KeyCommand::Make { file, listing } => show(&make_key(&file)?, listing),
        KeyCommand::Publish {
            signer,
            seal_key,
            listing,
        } => {
            let SignerArgs { certificate, key } = signer;
            let published = publish_key(&config.socket, &certificate, &key, &seal_key)?;
            show(&published, listing)
        }
    }
}
