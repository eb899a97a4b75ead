//! The command line: what each command takes. What it does is in `commands` and `officer`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::failure::Failure;
use crate::opening::Person;

/// Sends, receives and accounts for classified messages of one node.
#[derive(Debug, Parser)]
#[command(name = "ordonnans", version, about, propagate_version = true)]
#[command(after_help = "Exit codes: 0 done, 1 refused, 2 usage, 3 unreachable, \
4 proof or verification failed, 5 internal.")]
pub struct Cli {
    /// The node's (for `audit`: the officer's) configuration file.
    #[arg(
        long,
        short,
        global = true,
        default_value = "node.toml",
        value_name = "FILE"
    )]
    pub config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep the line to the broker, the outbox and the inbox, until stopped.
    Daemon,
    /// Seal, sign and send a message; prints its id once the outbox is synced.
    Send(Box<SendArgs>),
    /// Pass a message on as it is: same content, label and vaststeller's statement, new copies. Signs the receipt *opened* first.
    Forward(Box<ForwardArgs>),
    /// Make an extract of a message: another content under a lower label. The parent's vaststeller signs, and of Stg.C or higher a second person;
    /// without their keys it is kept as a draft for `label establish` and `label second`.
    Extract(Box<ExtractArgs>),
    /// Show who has each copy we sent, who opened it and who is late, what waits here, and what we are asked to look after.
    Board {
        /// What is done with, too.
        #[arg(long)]
        all: bool,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// List the messages that arrived.
    Inbox(Listing),
    /// Open a message: signs the receipt *opened*, then writes the content.
    Read(ReadArgs),
    /// What became of our messages, and who received and opened them.
    Receipts {
        /// The message; without it all of ours are listed.
        id: Option<String>,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// List the nodes of the structure and whether they can be sealed for.
    Directory(Listing),
    /// Show the state of the daemon.
    Status(Listing),
    /// Have the daemon read certificate, key, trust and policies again now; it does so by itself every minute.
    Reload(Listing),
    /// Print a message on paper: signs the receipt *printed*, then hands the content to a program that prints.
    Print(PrintArgs),
    /// The encryption key of a person, for what is sealed to them from Stg.G up.
    Key(KeyArgs),
    /// Take a message of ours back: copies that wait are dropped, and who has one is asked to destroy it.
    Recall {
        /// The message.
        id: String,
    },
    /// Destroy this node's copy of a message: signs the receipt *destroyed*, which its originator and the log get.
    Destroy(DestroyArgs),
    /// The node as a witness of the broker's log.
    Witness(WitnessArgs),
    /// Labels: what one says, which may be used, and the acts of those who establish them.
    Label(LabelArgs),
    /// Take a message out of the system into a new folder, with its label bound to each file; the originator and the log hear of it.
    Export(ExportArgs),
    /// Read a label that is bound to a file by STANAG 4778, and check that it is that file.
    Import(ImportArgs),
    /// Events that labels last until.
    Event(EventArgs),
    /// Every rule for a message that is only thought of, for security officers; the asking is recorded.
    Explain(ExplainArgs),
    /// The broker's audit log, for security officers.
    Audit(AuditArgs),
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// How a listing is printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct Listing {
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// To whom a message goes, how fast and for how long.
#[derive(Debug, Args)]
pub struct Whereto {
    /// Action addressee: NODE or PERSON@NODE, short or in full, or a group of the register: role:NAME, circle:NAME, list:NAME; may be repeated.
    #[arg(long = "to", value_name = "NAME")]
    pub to: Vec<String>,
    /// Information addressee; may be repeated.
    #[arg(long = "info", value_name = "NAME")]
    pub info: Vec<String>,
    /// DEFERRED, ROUTINE, PRIORITY, IMMEDIATE, FLASH or OVERRIDE, or a prosign.
    #[arg(long, short, default_value = "ROUTINE")]
    pub precedence: String,
    /// The precedence of information addressees, where it is another.
    #[arg(long, value_name = "PRECEDENCE")]
    pub info_precedence: Option<String>,
    /// Until when to deliver: RFC 3339, or a span such as 90m, 12h, 7d.
    #[arg(long, value_name = "WHEN", default_value = "7d")]
    pub expires: String,
    /// By when an answer is asked for, in the same forms.
    #[arg(long, value_name = "WHEN")]
    pub reply_by: Option<String>,
    /// Wait for the broker's verdict; a refusal ends with exit code 1.
    #[arg(long)]
    pub wait: bool,
}

/// What `send` takes.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// To whom, how fast and for how long.
    #[command(flatten)]
    pub whereto: Whereto,
    /// The confidentiality label, for example
    /// "Stg.C // KRING ICCB // TOT 2036-01-01 // VASTGESTELD vermeer.person.crisis.example".
    #[arg(long, short)]
    pub label: String,
    /// Mark as an exercise message.
    #[arg(long)]
    pub exercise: bool,
    /// The subject line; it is sealed with the content.
    #[arg(long, short, default_value = "")]
    pub subject: String,
    /// The content; without it standard input is read.
    #[arg(long, short, visible_alias = "content", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The media type of the content.
    #[arg(long, default_value = "application/octet-stream", value_name = "TYPE")]
    pub media_type: String,
    /// A file to send along, sealed apart; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub attach: Vec<PathBuf>,
    /// The person who wrote it, short or in full.
    #[arg(long, value_name = "PERSON")]
    pub author: Option<String>,
    /// A message this one refers to; may be repeated.
    #[arg(long = "reference", value_name = "ID")]
    pub references: Vec<String>,
    /// The message this one takes the place of.
    #[arg(long, value_name = "ID")]
    pub supersedes: Option<String>,
    /// Establish the label in the same step, as the person of this certificate.
    #[arg(long = "as", value_name = "CERT", requires = "key")]
    pub vaststeller: Option<PathBuf>,
    /// That person's private key, mode 0600; it never leaves this command.
    #[arg(long, value_name = "KEY", requires = "vaststeller")]
    pub key: Option<PathBuf>,
    /// That person's encryption key, with which a message of Stg.G or higher that waits or was refused can be opened again; without it what is refused
    /// then is gone.
    #[arg(long = "seal-key", value_name = "FILE", requires = "key")]
    pub seal_keys: Vec<PathBuf>,
    /// How to print.
    #[command(flatten)]
    pub listing: Listing,
}

impl SendArgs {
    /// Reads the files of whoever establishes the label in the same step.
    pub(crate) fn vaststeller(&self) -> Result<Option<Person>, Failure> {
        Person::named(
            self.vaststeller.as_deref(),
            self.key.as_deref(),
            &self.seal_keys,
        )
    }
}

/// What `forward` takes.
#[derive(Debug, Args)]
pub struct ForwardArgs {
    /// The message.
    pub id: String,
    /// To whom, how fast and for how long.
    #[command(flatten)]
    pub whereto: Whereto,
    /// The certificate of the person who passes it on and signs the receipt *opened*.
    #[arg(long = "as", value_name = "CERT", requires = "key")]
    pub reader: Option<PathBuf>,
    /// That person's private key, mode 0600; it never leaves this command.
    #[arg(long, value_name = "KEY", requires = "reader")]
    pub key: Option<PathBuf>,
    /// How to print.
    #[command(flatten)]
    pub listing: Listing,
}

/// What `label propose` takes.
#[derive(Debug, Args)]
pub struct ProposeArgs {
    /// The message.
    #[command(flatten)]
    pub message: SendArgs,
    /// A person who can open the draft while it waits: from Stg.G up whoever is to establish it. Repeat it for several.
    #[arg(long = "for", value_name = "PERSON")]
    pub openers: Vec<String>,
}

/// What `extract` takes: of `send`, with `--as` and `--key` for the vaststeller of the parent.
#[derive(Debug, Args)]
pub struct ExtractArgs {
    /// The message it is made from: one that arrived, or one of ours.
    pub id: String,
    /// The extract.
    #[command(flatten)]
    pub message: SendArgs,
    /// The certificate of the second person, in the same step.
    #[arg(
        long = "second-as",
        value_name = "CERT",
        requires_all = ["second_key", "vaststeller"]
    )]
    pub second: Option<PathBuf>,
    /// That person's private key, mode 0600; it never leaves this command.
    #[arg(long, value_name = "KEY", requires = "second")]
    pub second_key: Option<PathBuf>,
    /// A person who can open the draft while it waits: of a message of Stg.G or higher, whoever is to sign later. Repeat it for several.
    #[arg(long = "for", value_name = "PERSON")]
    pub openers: Vec<String>,
}

/// The person who reads; without one the node itself does.
#[derive(Debug, Args)]
pub struct ReaderArgs {
    /// The certificate of the person who reads.
    #[arg(long = "as", value_name = "CERT", requires = "key")]
    pub reader: Option<PathBuf>,
    /// That person's private key, mode 0600; it never leaves this command.
    #[arg(long, value_name = "KEY", requires = "reader")]
    pub key: Option<PathBuf>,
    /// That person's encryption key, for what is sealed to them (from Stg.G up); it never leaves this command. Repeat it for older keys.
    #[arg(long = "seal-key", value_name = "FILE", requires = "key")]
    pub seal_keys: Vec<PathBuf>,
}

impl ReaderArgs {
    /// Reads the files.
    pub(crate) fn person(&self) -> Result<Option<Person>, Failure> {
        Person::named(self.reader.as_deref(), self.key.as_deref(), &self.seal_keys)
    }
}

/// What `read` takes.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// The message.
    pub id: String,
    /// Where to write the content; without it standard output. Not overwritten.
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write this attachment, counted from 1, instead of the content.
    #[arg(long, value_name = "N")]
    pub attachment: Option<usize>,
    /// Who reads and signs the receipt *opened*.
    #[command(flatten)]
    pub reader: ReaderArgs,
    /// How to print what is known beside the content (on standard error).
    #[command(flatten)]
    pub listing: Listing,
}

/// What `key` takes.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// The key commands.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make an encryption key in a new file, mode 0600; prints how a seal names it. Publish it next.
    Make {
        /// The file to make.
        file: PathBuf,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// Sign an encryption key and have it listed in the directory, to be sealed to for 90 days. Keep the file for 30 days more, for what is on its
    /// way then; after that destroy it.
    Publish {
        /// Whose it is.
        #[command(flatten)]
        signer: SignerArgs,
        /// The encryption key.
        #[arg(long = "seal-key", value_name = "FILE")]
        seal_key: PathBuf,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
}

/// What `label` takes.
#[derive(Debug, Args)]
pub struct LabelArgs {
    /// Folder with policy files beside the built-in ones; without it that of the configuration, where there is one.
    #[arg(long, global = true, value_name = "DIR")]
    pub policies: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: LabelCommand,
}

/// The label commands. `parse`, `render`, `join`, `policies` and `import-spif` work without a daemon.
#[derive(Debug, Subcommand)]
pub enum LabelCommand {
    /// Read a label as it is typed, and say whether its policy allows it; exit code 1 when not.
    Parse {
        /// The label.
        label: String,
        /// It is an ESS label (RFC 2634), DER in base64.
        #[arg(long)]
        ess: bool,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// How a label is shown to people.
    Render {
        /// The label.
        label: String,
        /// In Dutch, in English, as XML of STANAG 4774, or as an ESS label in base64.
        #[arg(long, value_enum, default_value = "nl")]
        language: Tongue,
    },
    /// The label that a whole of these parts needs.
    Join {
        /// Labels of parts.
        labels: Vec<String>,
        /// A text whose lines begin with portion marks, such as (Stg.C).
        #[arg(long, short, value_name = "FILE")]
        file: Option<PathBuf>,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// Which labels this node may use to all of these.
    Catalog {
        /// Addressees: NODE or PERSON@NODE, short or in full.
        #[arg(
            long = "to",
            value_name = "NAME",
            required = true,
            value_delimiter = ','
        )]
        to: Vec<String>,
        /// Print a catalogue of XEP-0258, with ESS labels.
        #[arg(long, conflicts_with = "json")]
        xmpp: bool,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// The policies that are known here.
    Policies(Listing),
    /// Make a policy file of an XML-SPIF, on standard output, for a person to look through; what was not carried over is told on standard error.
    ImportSpif {
        /// The XML-SPIF, schema version 2.0 or 2.1.
        file: PathBuf,
    },
    /// Keep a message until its label is established; prints the name of the draft.
    Propose(Box<ProposeArgs>),
    /// List the drafts.
    Drafts(Listing),
    /// Write the content of a draft to standard output, and what is known beside it to standard error.
    Draft {
        /// The draft.
        draft: String,
        /// Who opens it, from Stg.G up.
        #[command(flatten)]
        reader: ReaderArgs,
    },
    /// Establish the label of a draft and send it; prints the id of the message, or the draft where a second person is to sign, too.
    Establish {
        /// The draft.
        draft: String,
        /// Another label than was proposed.
        #[arg(long, short)]
        label: Option<String>,
        /// Who establishes it.
        #[command(flatten)]
        signer: DraftSignerArgs,
        /// Wait for the broker's verdict; a refusal ends with exit code 1.
        #[arg(long)]
        wait: bool,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// Sign, as a second person, an extract whose vaststeller has signed, and send it; prints the id of the message. Look at it first: `label draft`.
    Second {
        /// The draft.
        draft: String,
        /// The second person: another than the vaststeller, cleared for the parent.
        #[command(flatten)]
        signer: DraftSignerArgs,
        /// Wait for the broker's verdict; a refusal ends with exit code 1.
        #[arg(long)]
        wait: bool,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// Drop a draft.
    Discard {
        /// The draft.
        draft: String,
    },
    /// Put another label in the place of a message's; every holder of a copy is told.
    Revise {
        /// The message.
        id: String,
        /// The label from now on.
        #[arg(long, short)]
        label: String,
        /// Who revises it: the vaststeller, or a registered successor.
        #[command(flatten)]
        signer: SignerArgs,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// End the rubricering of a message; every holder of a copy is told.
    End {
        /// The message.
        id: String,
        /// Who ends it: the vaststeller, or a registered successor.
        #[command(flatten)]
        signer: SignerArgs,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// The acts on the label of a message; the last is in force.
    History {
        /// The message.
        id: String,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// Labels that are due for review: their day has passed, or their event was declared.
    Due(Listing),
}

impl LabelCommand {
    /// Whether it needs no daemon.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(
            self,
            Self::Parse { .. }
                | Self::Render { .. }
                | Self::Join { .. }
                | Self::Policies(_)
                | Self::ImportSpif { .. }
        )
    }
}

/// What `export` takes.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The message.
    pub id: String,
    /// The folder to make: the content and each attachment, as files of mode 0600.
    pub dir: PathBuf,
    /// Bind the label in force to each file, by STANAG 4774 and 4778: FILE.bdo beside it.
    #[arg(long, required = true)]
    pub stanag: bool,
    /// Put each file into its binding instead of beside it.
    #[arg(long)]
    pub encapsulate: bool,
    /// Who exports it and signs the receipt *exported*.
    #[command(flatten)]
    pub reader: ReaderArgs,
    /// How to print.
    #[command(flatten)]
    pub listing: Listing,
}

/// What `import` takes.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The binding (.bdo). A file that it names is looked for beside it.
    pub binding: PathBuf,
    /// Where to write a file that the binding holds. Not overwritten.
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Folder with policy files beside the built-in ones; without it that of the configuration, where there is one.
    #[arg(long, value_name = "DIR")]
    pub policies: Option<PathBuf>,
    /// How to print.
    #[command(flatten)]
    pub listing: Listing,
}

/// A person who signs.
#[derive(Debug, Args)]
pub struct SignerArgs {
    /// The person's certificate.
    #[arg(long = "as", value_name = "CERT")]
    pub certificate: PathBuf,
    /// That person's private key, mode 0600; it never leaves this command.
    #[arg(long, value_name = "KEY")]
    pub key: PathBuf,
}

/// Who signs a draft.
#[derive(Debug, Args)]
pub struct DraftSignerArgs {
    /// Who it is.
    #[command(flatten)]
    pub signer: SignerArgs,
    /// That person's encryption key, for a draft that is sealed to persons (from Stg.G up); it never leaves this command. Repeat it for older keys.
    #[arg(long = "seal-key", value_name = "FILE")]
    pub seal_keys: Vec<PathBuf>,
}

impl DraftSignerArgs {
    /// Reads the files.
    pub(crate) fn person(&self) -> Result<Person, Failure> {
        let SignerArgs { certificate, key } = &self.signer;
        Person::load(certificate, key, &self.seal_keys)
    }
}

/// What `event` takes.
#[derive(Debug, Args)]
pub struct EventArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: EventCommand,
}

/// The event commands.
#[derive(Debug, Subcommand)]
pub enum EventCommand {
    /// Say that an event of the register has happened. Labels that last until then are due for review; none changes by it.
    Declare {
        /// The event, as the register names it.
        name: String,
        /// Who says so: a person whom the register lets declare it.
        #[command(flatten)]
        signer: SignerArgs,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
}

/// A language.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Tongue {
    /// Dutch.
    Nl,
    /// English.
    En,
    /// A confidentiality label of STANAG 4774.
    Xml,
    /// An ESS label (RFC 2634), DER in base64.
    Ess,
}

/// What `explain` takes.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The sender: a node, short or in full.
    #[arg(long, value_name = "NAME")]
    pub from: String,
    /// Addressees: NODE or PERSON@NODE, short or in full.
    #[arg(
        long = "to",
        value_name = "NAME",
        required = true,
        value_delimiter = ','
    )]
    pub to: Vec<String>,
    /// The label.
    #[arg(long, short)]
    pub label: String,
    /// As at this time: RFC 3339. The register and the certificates are those of now.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub listing: Listing,
}

/// What `audit` takes.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// Which records.
#[derive(Debug, Default, Args)]
pub struct QueryArgs {
    /// The first sequence number.
    #[arg(long)]
    pub from: Option<u64>,
    /// Not before: RFC 3339, or a span back from now such as 30m, 12h, 7d.
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Before this time, in the same forms.
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// Of this level.
    #[arg(long)]
    pub level: Option<String>,
    /// About this message.
    #[arg(long, value_name = "ID")]
    pub message: Option<String>,
    /// Of this verb, such as Refused.
    #[arg(long)]
    pub verb: Option<String>,
    /// That rest on this rule, such as POL-07.
    #[arg(long)]
    pub rule: Option<String>,
    /// By or for this node, officer or broker; a node may be short.
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Of this person, short or in full.
    #[arg(long, value_name = "NAME")]
    pub person: Option<String>,
}

/// Where the records come from.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// An exported folder in place of the broker; the whole of it is checked first.
    #[arg(long, value_name = "DIR")]
    pub offline: Option<PathBuf>,
    /// With --offline: the file with the log's public key.
    #[arg(
        long,
        value_name = "AUDIT.pub",
        requires = "offline",
        conflicts_with = "policy"
    )]
    pub key: Option<PathBuf>,
    /// With --offline: a policy that says which witnesses must have countersigned (C2SP tlog-policy).
    #[arg(long, value_name = "FILE", requires = "offline")]
    pub policy: Option<PathBuf>,
}

/// The audit commands. Each reading over the wire is itself recorded by the broker.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List records.
    List {
        /// Which.
        #[command(flatten)]
        args: QueryArgs,
        /// The most records to list.
        #[arg(long, default_value_t = 100)]
        limit: u64,
        /// The last of them in place of the first.
        #[arg(long)]
        last: bool,
        /// From where.
        #[command(flatten)]
        source: SourceArgs,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// Show one record.
    Show {
        /// Its sequence number.
        sequence: u64,
        /// From where.
        #[command(flatten)]
        source: SourceArgs,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// Print records as they are made.
    Watch {
        /// Which; with --from, those from there on first.
        #[command(flatten)]
        args: QueryArgs,
        /// End after so many.
        #[arg(long)]
        count: Option<u64>,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// Write the proof that a record is in the log to a file (C2SP tlog-proof).
    Prove {
        /// Its sequence number.
        sequence: u64,
        /// The file to make.
        #[arg(long, short, value_name = "FILE")]
        out: PathBuf,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// Check an export, a proof or the evidence of a fork, offline; exit code 4 when it does not hold.
    Verify(VerifyArgs),
    /// Write the log to a new folder, as C2SP tlog-tiles with the details beside them; with a question, an excerpt of what answers it.
    Export {
        /// The folder to make.
        dir: PathBuf,
        /// As lines of JSON with a proof for each record, in place of tiles.
        #[arg(long)]
        lines: bool,
        /// Which records.
        #[command(flatten)]
        args: QueryArgs,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// The copy register of a message: number, maker, holder, receipt.
    Copies {
        /// The message.
        id: String,
        /// From where.
        #[command(flatten)]
        source: SourceArgs,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// Everyone who had a message, everyone who could have had it, and who must be told.
    Exposure {
        /// The message.
        id: String,
        /// At or after this time: RFC 3339, or a span back from now. Without it, from the beginning.
        #[arg(long, value_name = "WHEN")]
        since: Option<String>,
        /// From where.
        #[command(flatten)]
        source: SourceArgs,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// What an officer must look at in a period, by level; with --sign it is signed off, and the log has that too.
    Review {
        /// The level.
        #[arg(long)]
        level: String,
        /// From when; without it, one period of that level before the end.
        #[arg(long, value_name = "WHEN")]
        since: Option<String>,
        /// Until when; without it, now.
        #[arg(long, value_name = "WHEN")]
        until: Option<String>,
        /// Sign it off with the officer's own key.
        #[arg(long)]
        sign: bool,
        /// From where.
        #[command(flatten)]
        source: SourceArgs,
        /// How to print.
        #[command(flatten)]
        listing: Listing,
    },
    /// Incidents: what waits of their messages is frozen, and their details are kept.
    Incident {
        /// What to do.
        #[command(subcommand)]
        command: IncidentCommand,
    },
    /// Have the log signed as it is now, and print the checkpoint.
    Checkpoint,
}

/// What `audit verify` takes.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The exported folder, the proof, or the evidence.
    pub path: PathBuf,
    /// The file with the log's public key (a C2SP verifier key).
    #[arg(
        long,
        value_name = "AUDIT.pub",
        required_unless_present = "policy",
        conflicts_with = "policy"
    )]
    pub key: Option<PathBuf>,
    /// A policy that says which witnesses must have countersigned (C2SP tlog-policy).
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// It is an excerpt: some records, each with its proof.
    #[arg(long)]
    pub excerpt: bool,
    /// How to print.
    #[command(flatten)]
    pub listing: Listing,
}

/// The incident commands. Each is signed with the officer's own key.
#[derive(Debug, Subcommand)]
pub enum IncidentCommand {
    /// Open an incident, or add messages to it.
    Open {
        /// Its name: lower-case letters, digits and hyphens.
        name: String,
        /// The messages.
        #[arg(long = "message", value_name = "ID", required = true)]
        messages: Vec<String>,
    },
    /// Close it: what was frozen goes on, and the time that its details are kept begins.
    Close {
        /// Its name.
        name: String,
    },
}

/// What `witness` takes.
#[derive(Debug, Args)]
pub struct WitnessArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: WitnessCommand,
}

/// The witness commands.
#[derive(Debug, Subcommand)]
pub enum WitnessCommand {
    /// What this node remembers of the broker's log, its own key as a witness, and whether there is evidence against the log.
    Show(Listing),
    /// Forget what it remembers, once people have settled what happened. Files with evidence stay.
    Forget(Listing),
}

/// What `print` takes.
#[derive(Debug, Args)]
pub struct PrintArgs {
    /// The message.
    pub id: String,
    /// The program that prints its standard input.
    #[arg(long = "with", value_name = "PROGRAM", default_value = "lp")]
    pub with: String,
    /// Who prints it and signs the receipt *printed*.
    #[command(flatten)]
    pub reader: ReaderArgs,
}

/// What `destroy` takes.
#[derive(Debug, Args)]
pub struct DestroyArgs {
    /// The message.
    pub id: String,
    /// The certificate of the person who destroys it and signs the receipt *destroyed*.
    #[arg(long = "as", value_name = "CERT", requires = "key")]
    pub reader: Option<PathBuf>,
    /// That person's private key, mode 0600; it never leaves this command.
    #[arg(long, value_name = "KEY", requires = "reader")]
    pub key: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
