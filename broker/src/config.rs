//! The broker's configuration file, parsed once.
//!
//! The file is TOML; a key this page does not name is refused, so that a misspelt limit cannot pass for a set one.
//! Relative paths are relative to the folder of the file. Nothing past [`Config`] sees the file's form.
//!
//! Whoever can write this file can point the broker at another register and other trust anchors, and so decide who
//! may read: guard it as the register itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ordonnans_audit::siem::Format;
use ordonnans_engine::{AlarmLimits, Quotas, Retention};
use ordonnans_identity::{GRACE_HOURS, InvalidSource, KeyPlace, MAX_GRACE_HOURS};
use ordonnans_label::{Kind, Level, Name};
use ordonnans_message::{Digest, limits, sha256};
use serde::Deserialize;

/// What the broker needs to know before it can start. Every path is absolute or relative to the process.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address and UDP port to listen on.
    pub listen: SocketAddr,
    /// Address and TCP port for nodes whose UDP is blocked. Nobody comes over TCP without it.
    pub listen_tcp: Option<SocketAddr>,
    /// Whether a peer without hybrid post-quantum key exchange is refused. Default true.
    pub hybrid_only: bool,
    /// The data directory: journal, audit log, mailbox, attachments. One broker at a time.
    pub data: PathBuf,
    /// Certificate chain of the broker, PEM, leaf first.
    pub certificate: PathBuf,
    /// Private key of the broker: a file (PKCS#8 PEM, mode 0600) or a token, and where its passphrase or PIN comes from.
    pub key: KeyPlace,
    /// Folder with `root.pem`, `issuing.pem` and a CRL for each.
    pub trust: PathBuf,
    /// The register of nodes, persons, officers and circles.
    pub register: PathBuf,
    /// Folder with policy files beside the built-in ones, where there are any.
    pub policies: Option<PathBuf>,
    /// The folder in which nodes' requests for their next certificates are kept, and whoever signs puts the certificates. Without it nodes are told that
    /// they are not taken.
    pub renewals: Option<PathBuf>,
    /// Unix socket for `status`, mode 0600.
    pub admin_socket: PathBuf,
    /// Bounds on what peers may use.
    pub limits: Limits,
    /// When the log is signed.
    pub checkpoints: Checkpoints,
    /// What somebody may do within an hour before it is an alarm.
    pub alarms: AlarmLimits,
    /// What one node may send.
    pub quotas: Quotas,
    /// Nodes that are told what is late although its recipient was reminded.
    pub contacts: Vec<Name>,
    /// How long details of the log are kept.
    pub retention: Retention,
    /// Where records go beside the log.
    pub sinks: Vec<Sink>,
    /// How long a list of revoked certificates still counts after the next one was due.
    pub crl_grace: Duration,
    /// SHA-256 of the file's text.
    pub digest: Digest,
}

/// When the log is signed, where it has grown: whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoints {
    /// Seconds since the last one (1 to 3,600; default 5).
    pub seconds: u64,
    /// Records since the last one (1 to 1,000,000; default 10,000).
    pub records: u64,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self {
            seconds: 5,
            records: 10_000,
        }
    }
}

/// Somewhere else that records go to, as they are made: a file or a syslog collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// Its name, which its cursor in the data directory has too.
    pub name: String,
    /// Where.
    pub to: SinkTo,
    /// In which form.
    pub format: Format,
    /// Details above this level stay here.
    pub level: Level,
    /// Alarms alone, and nothing else.
    pub alarms_only: bool,
}

/// Where a sink is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkTo {
    /// A file, to which lines are added; mode 0600 where it is made.
    File(PathBuf),
    /// A collector that takes RFC 5424 over TLS (RFC 5425).
    Syslog {
        /// Host and port.
        address: String,
        /// The name that its certificate carries.
        name: String,
        /// Its certificate authority, PEM.
        ca: PathBuf,
    },
}

/// Bounds on what peers may use. Each has a default that suits a structure of some hundred nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Live connections in total (1 to 100,000; default 1,024).
    pub connections: usize,
    /// Live connections of one source address (1 to 100,000; default 64).
    pub connections_per_address: usize,
    /// Undelivered messages for one node (1 to 1,000,000; default 10,000).
    pub queue: usize,
    /// Inputs that wait for the engine (16 to 65,536; default 1,024).
    pub inputs: usize,
    /// Accepted messages that are remembered, about 0.5 KiB of memory each; beyond it senders get `Busy` (1,000 to 100,000,000; default 1,000,000).
    pub remembered: usize,
    /// How long each is remembered after it has expired (a minute to a year; default 30 days). So long a repeat gets its first answer and a late receipt
    /// is taken. Who can write this can shorten the time in which a sender learns that its message was opened.
    pub remember: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_024,
            connections_per_address: 64,
            queue: 10_000,
            inputs: 1_024,
            remembered: 1_000_000,
            remember: Duration::from_millis(limits::MAX_LIFETIME_MS),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    listen: SocketAddr,
    listen_tcp: Option<SocketAddr>,
    hybrid_only: Option<bool>,
    data: PathBuf,
    identity: IdentityFile,
    trust: PathBuf,
    register: PathBuf,
    policies: Option<PathBuf>,
    renewals: Option<PathBuf>,
    admin_socket: Option<PathBuf>,
    #[serde(default)]
    limits: LimitsFile,
    #[serde(default)]
    checkpoints: CheckpointsFile,
    #[serde(default)]
    alarms: AlarmsFile,
    #[serde(default)]
    quotas: QuotasFile,
    #[serde(default)]
    crl: CrlFile,
    #[serde(default)]
    late: LateFile,
    #[serde(default)]
    retention: RetentionFile,
    #[serde(default)]
    sink: Vec<SinkFile>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointsFile {
    seconds: Option<u64>,
    records: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AlarmsFile {
    opened: Option<u32>,
    printed: Option<u32>,
    exported: Option<u32>,
    refused: Option<u32>,
    state_secret: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct QuotasFile {
    messages: Option<u32>,
    urgent: Option<u32>,
    megabytes: Option<u64>,
    state_secret: Option<u32>,
    copies: Option<u64>,
    stored_megabytes: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CrlFile {
    grace_hours: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LateFile {
    #[serde(default)]
    contacts: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetentionFile {
    days: Option<u32>,
    incident_days: Option<u32>,
    state_secret_incident_days: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SinkFile {
    name: String,
    file: Option<PathBuf>,
    syslog: Option<SyslogFile>,
    format: Format,
    level: Level,
    #[serde(default)]
    alarms_only: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SyslogFile {
    address: String,
    name: String,
    ca: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    certificate: PathBuf,
    key: PathBuf,
    passphrase: Option<String>,
    module: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsFile {
    connections: Option<usize>,
    connections_per_address: Option<usize>,
    queue: Option<usize>,
    inputs: Option<usize>,
    remembered: Option<usize>,
    remember_seconds: Option<u64>,
}

/// Why a configuration was refused. The caller tells the operator and stops.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// The file could not be read.
    #[error("the configuration {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML of the documented form; the text says where.
    #[error("the configuration {path} is not valid: {why}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        why: String,
    },
    /// A number is outside its bounds.
    #[error("{key} is {value}; it must be from {least} to {most}")]
    OutOfBounds {
        /// The key, with its table.
        key: &'static str,
        /// What the file says.
        value: u64,
        /// Smallest value allowed.
        least: u64,
        /// Largest value allowed.
        most: u64,
    },
    /// The source of the passphrase.
    #[error("identity.passphrase: {0}")]
    Passphrase(#[from] InvalidSource),
    /// A contact that is no node.
    #[error(
        "late.contacts: {name}: {why}; write the full name of a node, such as ncc.node.crisis.example"
    )]
    Contact {
        /// What the file says.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A sink that cannot be one.
    #[error("sink {name}: {why}")]
    Sink {
        /// Its name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the file, the key and the bound.
    pub fn load(path: &Path) -> Result<Self, InvalidConfig> {
        let text = std::fs::read_to_string(path).map_err(|source| InvalidConfig::Unreadable {
            path: path.into(),
            source,
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, folder, path)
    }

    fn parse(text: &str, folder: &Path, path: &Path) -> Result<Self, InvalidConfig> {
        let file: ConfigFile = toml::from_str(text).map_err(|e| InvalidConfig::Malformed {
            path: path.into(),
            why: e.to_string().trim_end().to_owned(),
        })?;
        let data = folder.join(file.data);
        let (usual, l) = (Limits::default(), file.limits);
        let limits = Limits {
            connections: within(
                "limits.connections",
                l.connections,
                usual.connections,
                1,
                100_000,
            )?,
            connections_per_address: within(
                "limits.connections_per_address",
                l.connections_per_address,
                usual.connections_per_address,
                1,
                100_000,
            )?,
            queue: within("limits.queue", l.queue, usual.queue, 1, 1_000_000)?,
            inputs: within("limits.inputs", l.inputs, usual.inputs, 16, 65_536)?,
            remembered: within(
                "limits.remembered",
                l.remembered,
                usual.remembered,
                1_000,
                100_000_000,
            )?,
            remember: Duration::from_secs(within(
                "limits.remember_seconds",
                l.remember_seconds,
                usual.remember.as_secs(),
                60,
                365 * 86_400,
            )?),
        };
        let (usual, c) = (Checkpoints::default(), file.checkpoints);
        let checkpoints = Checkpoints {
            seconds: within("checkpoints.seconds", c.seconds, usual.seconds, 1, 3_600)?,
            records: within(
                "checkpoints.records",
                c.records,
                usual.records,
                1,
                1_000_000,
            )?,
        };
        let (usual, a) = (AlarmLimits::default(), file.alarms);
        let most = 1_000_000;
        let alarms = AlarmLimits {
            opened: within("alarms.opened", a.opened, usual.opened, 1, most)?,
            printed: within("alarms.printed", a.printed, usual.printed, 1, most)?,
            exported: within("alarms.exported", a.exported, usual.exported, 1, most)?,
            refused: within("alarms.refused", a.refused, usual.refused, 1, most)?,
            state_secret: within(
                "alarms.state_secret",
                a.state_secret,
                usual.state_secret,
                1,
                most,
            )?,
        };
        let quotas = quotas(&file.quotas)?;
        let contacts = file.late.contacts.into_iter().map(contact);
        let contacts = contacts.collect::<Result<_, _>>()?;
        let (usual, r) = (Retention::default(), file.retention);
        let most = 36_600;
        let retention = Retention {
            days: within("retention.days", r.days, usual.days, 92, most)?,
            incident_days: within(
                "retention.incident_days",
                r.incident_days,
                usual.incident_days,
                3 * 365,
                most,
            )?,
            state_secret_incident_days: within(
                "retention.state_secret_incident_days",
                r.state_secret_incident_days,
                usual.state_secret_incident_days,
                5 * 365,
                most,
            )?,
        };
        let grace = file.crl.grace_hours;
        let grace = within("crl.grace_hours", grace, GRACE_HOURS, 0, MAX_GRACE_HOURS)?;
        let sinks: Vec<Sink> = file
            .sink
            .into_iter()
            .map(|s| sink(s, folder))
            .collect::<Result<_, _>>()?;
        for (i, one) in sinks.iter().enumerate() {
            if sinks[..i].iter().any(|s| s.name == one.name) {
                let (name, why) = (one.name.clone(), "the name is taken");
                return Err(InvalidConfig::Sink { name, why });
            }
        }
        Ok(Self {
            listen: file.listen,
            listen_tcp: file.listen_tcp,
            hybrid_only: file.hybrid_only.unwrap_or(true),
            certificate: folder.join(file.identity.certificate),
            key: KeyPlace::configured(
                folder,
                &file.identity.key,
                file.identity.passphrase.as_deref(),
                file.identity.module.as_deref(),
            )?,
            trust: folder.join(file.trust),
            register: folder.join(file.register),
            policies: file.policies.map(|p| folder.join(p)),
            renewals: file.renewals.map(|p| folder.join(p)),
            admin_socket: file
                .admin_socket
                .map_or_else(|| data.join("admin.sock"), |p| folder.join(p)),
            data,
            limits,
            checkpoints,
            alarms,
            quotas,
            contacts,
            retention,
            sinks,
            crl_grace: Duration::from_secs(grace * 3_600),
            digest: sha256(&[text.as_bytes()]),
        })
    }
}

fn quotas(q: &QuotasFile) -> Result<Quotas, InvalidConfig> {
    let (usual, most) = (Quotas::default(), 1_000_000_000);
    let mib = |key, given, usual: u64| within(key, given, usual >> 20, 1, most).map(|n| n << 20);
    Ok(Quotas {
        messages: within(
            "quotas.messages",
            q.messages,
            usual.messages,
            1,
            1_000_000_000,
        )?,
        urgent: within("quotas.urgent", q.urgent, usual.urgent, 1, 1_000_000_000)?,
        bytes: mib("quotas.megabytes", q.megabytes, usual.bytes)?,
        state_secret: within(
            "quotas.state_secret",
            q.state_secret,
            usual.state_secret,
            1,
            1_000_000_000,
        )?,
        copies: within("quotas.copies", q.copies, usual.copies, 1, most)?,
        stored: mib("quotas.stored_megabytes", q.stored_megabytes, usual.stored)?,
    })
}

fn contact(text: String) -> Result<Name, InvalidConfig> {
    let wrong = |why: String| InvalidConfig::Contact {
        name: text.chars().take(Name::MAX_BYTES).collect(),
        why,
    };
    let name: Name = text.parse().map_err(|e| wrong(format!("{e}")))?;
    if name.kind() != Kind::Node {
        return Err(wrong("it is no node".into()));
    }
    Ok(name)
}

/// A number within its bounds, or the usual one.
fn within<N: Copy + Ord + TryInto<u64>>(
    key: &'static str,
    given: Option<N>,
    usual: N,
    least: N,
    most: N,
) -> Result<N, InvalidConfig> {
    let number = |n: N| n.try_into().unwrap_or(u64::MAX);
    match given {
        None => Ok(usual),
        Some(value) if (least..=most).contains(&value) => Ok(value),
        Some(value) => Err(InvalidConfig::OutOfBounds {
            key,
            value: number(value),
            least: number(least),
            most: number(most),
        }),
    }
}

fn sink(file: SinkFile, folder: &Path) -> Result<Sink, InvalidConfig> {
    let name = file.name;
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let wrong = |why| InvalidConfig::Sink {
        name: name.clone(),
        why,
    };
    if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
        return Err(wrong(
            "a name has 1 to 64 lower-case letters, digits and hyphens",
        ));
    }
    let to = match (file.file, file.syslog) {
        (Some(path), None) => SinkTo::File(folder.join(path)),
        (None, Some(s)) => SinkTo::Syslog {
            address: s.address,
            name: s.name,
            ca: folder.join(s.ca),
        },
        _ => return Err(wrong("it has either `file` or `syslog`")),
    };
    Ok(Sink {
        name,
        to,
        format: file.format,
        level: file.level,
        alarms_only: file.alarms_only,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        listen = "127.0.0.1:4433"
        data = "data"
        trust = "trust"
        register = "/etc/register.toml"
        [identity]
        certificate = "cert.pem"
        key = "key.pem"
    "#;

    fn parse(text: &str) -> Result<Config, InvalidConfig> {
        Config::parse(text, Path::new("/srv"), Path::new("/srv/broker.toml"))
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let c = parse(GOOD).expect("valid");
        assert_eq!(c.data, Path::new("/srv/data"));
        assert_eq!(c.register, Path::new("/etc/register.toml"));
        assert_eq!(c.admin_socket, Path::new("/srv/data/admin.sock"));
        assert_eq!(c.limits, Limits::default());
        assert_eq!((c.listen_tcp, c.hybrid_only), (None, true));
        let both = GOOD.replace(
            "data =",
            "listen_tcp = \"127.0.0.1:443\"\nhybrid_only = false\ndata =",
        );
        let c = parse(&both).expect("valid");
        assert_eq!(c.listen_tcp, Some(([127, 0, 0, 1], 443).into()));
        assert!(!c.hybrid_only, "by configuration alone");
    }

    #[test]
    fn an_unknown_key_is_refused_and_named() {
        let e = parse(&GOOD.replace("trust =", "thrust =")).expect_err("misspelt");
        assert!(e.to_string().contains("thrust"), "{e}");
        let e = parse(&format!("{GOOD}\n[limits]\nqueues = 3")).expect_err("unknown");
        assert!(e.to_string().contains("queues"), "{e}");
    }

    #[test]
    fn both_sides_of_a_bound() {
        assert_eq!(
            parse(&format!("{GOOD}\n[limits]\nqueue = 1"))
                .expect("least")
                .limits
                .queue,
            1
        );
        let e = parse(&format!("{GOOD}\n[limits]\nqueue = 0")).expect_err("none");
        assert_eq!(
            e.to_string(),
            "limits.queue is 0; it must be from 1 to 1000000"
        );
        let remember = |n: u64| parse(&format!("{GOOD}\n[limits]\nremember_seconds = {n}"));
        assert_eq!(remember(60).expect("least").limits.remember.as_secs(), 60);
        let e = remember(59).expect_err("too short").to_string();
        assert_eq!(
            e,
            "limits.remember_seconds is 59; it must be from 60 to 31536000"
        );
    }

    #[test]
    fn a_grace_may_be_nothing_and_not_without_end() {
        let grace = |text: &str| parse(&format!("{GOOD}\n[crl]\ngrace_hours = {text}"));
        let hours = |c: Config| c.crl_grace.as_secs() / 3_600;
        assert_eq!(hours(parse(GOOD).expect("valid")), 72);
        assert_eq!(hours(grace("0").expect("least")), 0);
        assert_eq!(hours(grace("720").expect("most")), 720);
        let e = grace("721").expect_err("too long").to_string();
        assert_eq!(e, "crl.grace_hours is 721; it must be from 0 to 720");
        assert!(grace("-1").is_err());
    }

    #[test]
    fn quotas_and_contacts() {
        let text = "[quotas]\nmessages = 60\nmegabytes = 512\n[late]\ncontacts = [\"ncc.node.crisis.example\"]";
        let c = parse(&format!("{GOOD}\n{text}")).expect("valid");
        assert_eq!((c.quotas.messages, c.quotas.bytes), (60, 512 << 20));
        assert_eq!(c.quotas.urgent, Quotas::default().urgent);
        assert_eq!(c.contacts[0].local(), "ncc");
        for (bad, says) in [
            ("[quotas]\nmessages = 0", "quotas.messages is 0"),
            (
                "[late]\ncontacts = [\"ncc\"]",
                "write the full name of a node",
            ),
            (
                "[late]\ncontacts = [\"jansen.person.crisis.example\"]",
                "it is no node",
            ),
        ] {
            let e = parse(&format!("{GOOD}\n{bad}")).expect_err("refused");
            assert!(e.to_string().contains(says), "{e}");
        }
    }

    #[test]
    fn what_is_kept_for_less_than_the_least_is_refused_and_a_sink_has_one_place() {
        let e = parse(&format!("{GOOD}\n[retention]\ndays = 91")).expect_err("too short");
        assert_eq!(
            e.to_string(),
            "retention.days is 91; it must be from 92 to 36600"
        );
        let sink = |more: &str| {
            let text = format!(
                "{GOOD}\n[[sink]]\nname = \"siem\"\nformat = \"ocsf\"\nlevel = \"Dep.V\"\n{more}"
            );
            parse(&text)
        };
        let good = sink("file = \"siem.jsonl\"").expect("a sink");
        let to = SinkTo::File("/srv/siem.jsonl".into());
        assert_eq!((&good.sinks[0].to, good.sinks[0].level), (&to, Level::DepV));
        assert!(sink("").is_err());
        let both = "file = \"a\"\nsyslog = { address = \"a:1\", name = \"a\", ca = \"a\" }";
        assert!(sink(both).is_err());
        let twice = "file = \"a\"\n[[sink]]\nname = \"siem\"\nformat = \"cef\"\nlevel = \"Dep.V\"\nfile = \"b\"";
        assert!(
            sink(twice)
                .expect_err("twice")
                .to_string()
                .contains("taken")
        );
    }
}
