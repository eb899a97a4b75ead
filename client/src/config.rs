//! The daemon's configuration: one TOML file, parsed once, unknown keys refused.
//!
//! Paths in the file that are relative are taken from the folder the file stands in, so that a
//! node's whole folder can be moved. Nothing past this module sees the form of the file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ordonnans_identity::{GRACE_HOURS, KeyPlace, MAX_GRACE_HOURS};
use ordonnans_label::{Kind, Name};
use ordonnans_message::limits;
use serde::Deserialize;

/// The largest configuration file read, in bytes: a hundred times what a real one needs.
pub const MAX_CONFIG: u64 = 64 * 1024;

/// How often a node on TCP tries QUIC again. Rarely: a network that swallows UDP mostly goes on with that, and an attempt costs a handshake.
pub const QUIC_AGAIN: Duration = Duration::from_secs(10 * 60);

/// How many hundredths of a certificate's life are left when the daemon begins to renew it: a third.
pub const RENEW_PERCENT: u8 = 33;
/// More than half, and whoever signs by the rule refuses.
const MAX_RENEW_PERCENT: u8 = 50;

/// A configuration that was read and found whole.
#[derive(Debug, Clone)]
pub struct Config {
    /// `host:port` of the broker. Who can write this can point the node at a machine that will
    /// still be refused unless it holds a certificate for [`Config::broker_name`].
    pub broker: String,
    /// `host:port` of the broker for TCP, which is taken where UDP is blocked. Without it the node waits for UDP.
    pub broker_tcp: Option<String>,
    /// How often QUIC is tried again from TCP. Default [`QUIC_AGAIN`]; 1 second to a day.
    pub quic_again: Duration,
    /// How long what was sent, its receipts, and that something came in and was destroyed is remembered after the message has expired. Default 30 days; a
    /// minute to ten years. Not shorter than the broker's: what the broker hands over a second time must be known.
    pub remember: Duration,
    /// The only name the broker's certificate may carry.
    pub broker_name: Name,
    /// The node's certificate chain, PEM, leaf first.
    pub certificate: PathBuf,
    /// The node's private key: a file (PKCS#8 PEM, mode 0600) or a token, and where its passphrase or PIN comes from.
    pub key: KeyPlace,
    /// The folder with `root.pem`, `issuing.pem`, `root.crl.pem` and `issuing.crl.pem`.
    pub trust: PathBuf,
    /// The folder with policy files beside the built-in ones, where there are any.
    pub policies: Option<PathBuf>,
    /// The folder of the outbox, the inbox, sealed attachments and the sealing key. Default `data`.
    pub data: PathBuf,
    /// The Unix socket of the local API; it is made with mode 0600. Default `ordonnans.sock`
    /// in [`Config::data`].
    pub socket: PathBuf,
    /// The file `audit.pub` of the broker: the key that its log is verified by. Without it the key that the broker shows first is believed from
    /// then on.
    pub log_key: Option<PathBuf>,
    /// Whether a broker without hybrid post-quantum key exchange is refused. Default true.
    pub hybrid_only: bool,
    /// How long a list of revoked certificates still counts after the next one was due (0 to 720 hours; default 72). Who can write this can keep a
    /// revoked peer believed for so long, where no newer list comes.
    pub crl_grace: Duration,
    /// How many hundredths of its certificate's life are left when the daemon begins to ask for the next one (0 to 50; default [`RENEW_PERCENT`]). With 0 it
    /// never asks.
    pub renew_percent: u8,
}

/// Why a configuration cannot be used. All of them are for the operator to mend.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// The file cannot be read.
    #[error("the configuration {path} cannot be read: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// The file is larger than [`MAX_CONFIG`].
    #[error("the configuration {0} is larger than {MAX_CONFIG} bytes")]
    TooLarge(PathBuf),
    /// The text is not TOML of the expected form; the message names the line and the key.
    #[error("the configuration does not parse: {0}")]
    Form(String),
    /// A key holds a value that cannot be used.
    #[error("the configuration key `{key}` cannot be used: {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    broker: String,
    broker_tcp: Option<String>,
    quic_again_seconds: Option<u64>,
    remember_seconds: Option<u64>,
    broker_name: String,
    identity: Identity,
    trust: PathBuf,
    policies: Option<PathBuf>,
    #[serde(default = "default_data")]
    data: PathBuf,
    socket: Option<PathBuf>,
    log_key: Option<PathBuf>,
    #[serde(default = "yes")]
    hybrid_only: bool,
    #[serde(default)]
    crl: Crl,
    #[serde(default)]
    renewal: Renewal,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Renewal {
    last_percent: Option<u8>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Crl {
    grace_hours: Option<u64>,
}

fn yes() -> bool {
    true
}

fn default_data() -> PathBuf {
    PathBuf::from("data")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    passphrase: Option<String>,
    module: Option<PathBuf>,
}

impl Config {
    /// Reads and checks the file at `path`. Does not open the keys it names.
    ///
    /// # Errors
    /// See [`InvalidConfig`]; nothing was changed.
    pub fn load(path: &Path) -> Result<Self, InvalidConfig> {
        let unreadable = |cause| InvalidConfig::Unreadable {
            path: path.to_owned(),
            cause,
        };
        if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_CONFIG {
            return Err(InvalidConfig::TooLarge(path.to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let folder = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        Self::parse(&text, folder)
    }

    /// Checks `text`; relative paths are taken from `folder`.
    ///
    /// # Errors
    /// [`InvalidConfig::Form`] and [`InvalidConfig::Value`].
    pub fn parse(text: &str, folder: &Path) -> Result<Self, InvalidConfig> {
        let file: File = toml::from_str(text)
            .map_err(|e| InvalidConfig::Form(e.to_string().trim_end().replace('\n', " ")))?;
        let value = |key, why: &str| InvalidConfig::Value {
            key,
            why: why.to_owned(),
        };
        let form = "it is not of the form host:port";
        if !is_host_and_port(&file.broker) {
            return Err(value("broker", form));
        }
        if file
            .broker_tcp
            .as_deref()
            .is_some_and(|b| !is_host_and_port(b))
        {
            return Err(value("broker_tcp", form));
        }
        let quic_again = match file.quic_again_seconds {
            None => QUIC_AGAIN,
            Some(seconds @ 1..=86_400) => Duration::from_secs(seconds),
            Some(_) => return Err(value("quic_again_seconds", "it is not from 1 to 86400")),
        };
        let remember = match file.remember_seconds {
            None => Duration::from_millis(limits::MAX_LIFETIME_MS),
            Some(seconds @ 60..=315_360_000) => Duration::from_secs(seconds),
            Some(_) => return Err(value("remember_seconds", "it is not from 60 to 315360000")),
        };
        let broker_name: Name = file.broker_name.parse().map_err(|e| InvalidConfig::Value {
            key: "broker_name",
            why: format!("{e}"),
        })?;
        if broker_name.kind() != Kind::Broker {
            return Err(value("broker_name", "it does not name a broker"));
        }
        let inside = |key, path: PathBuf| {
            if path.as_os_str().is_empty() {
                return Err(value(key, "the path is empty"));
            }
            Ok(folder.join(path))
        };
        let grace = file.crl.grace_hours.unwrap_or(GRACE_HOURS);
        if grace > MAX_GRACE_HOURS {
            let why = format!("it is {grace}; it must be from 0 to {MAX_GRACE_HOURS}");
            return Err(value("crl.grace_hours", &why));
        }
        let renew_percent = file.renewal.last_percent.unwrap_or(RENEW_PERCENT);
        if renew_percent > MAX_RENEW_PERCENT {
            let why = format!("it is {renew_percent}; it must be from 0 to {MAX_RENEW_PERCENT}");
            return Err(value("renewal.last_percent", &why));
        }
        let data = inside("data", file.data)?;
        let socket = match file.socket {
            Some(path) => inside("socket", path)?,
            None => data.join("ordonnans.sock"),
        };
        // The kernel keeps 108 bytes for the path of a Unix socket, its closing zero included.
        if socket.as_os_str().len() > 107 {
            return Err(value("socket", "the path is longer than 107 bytes"));
        }
        let identity = &file.identity;
        if identity.key.as_os_str().is_empty() {
            return Err(value("identity.key", "the path is empty"));
        }
        let key = KeyPlace::configured(
            folder,
            &identity.key,
            identity.passphrase.as_deref(),
            identity.module.as_deref(),
        )
        .map_err(|e| value("identity.passphrase", &e.to_string()))?;
        Ok(Self {
            broker: file.broker,
            broker_tcp: file.broker_tcp,
            quic_again,
            remember,
            broker_name,
            certificate: inside("identity.certificate", file.identity.certificate)?,
            key,
            trust: inside("trust", file.trust)?,
            policies: file.policies.map(|p| inside("policies", p)).transpose()?,
            data,
            socket,
            log_key: file.log_key.map(|p| inside("log_key", p)).transpose()?,
            hybrid_only: file.hybrid_only,
            crl_grace: Duration::from_secs(grace * 3_600),
            renew_percent,
        })
    }
}

fn is_host_and_port(text: &str) -> bool {
    let port = |p: &str| p.parse::<u16>().is_ok_and(|p| p > 0);
    text.rsplit_once(':')
        .is_some_and(|(host, p)| !host.is_empty() && port(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
broker = "127.0.0.1:4433"
broker_name = "b1.broker.crisis.example"
trust = "trust"
data = "/var/lib/ordonnans"
socket = "node.sock"

[identity]
certificate = "cert.pem"
key = "key.pem"
"#;

    #[test]
    fn a_good_file_parses_and_paths_start_at_its_folder() {
        let config = Config::parse(GOOD, Path::new("/etc/ordonnans")).expect("good");
        assert_eq!(config.trust, Path::new("/etc/ordonnans/trust"));
        assert_eq!(config.data, Path::new("/var/lib/ordonnans"));
        assert_eq!(config.broker_name.as_str(), "b1.broker.crisis.example");
        assert!(
            config.hybrid_only,
            "the classical one by configuration alone"
        );
        assert_eq!((config.broker_tcp, config.quic_again), (None, QUIC_AGAIN));
        let more = "broker_tcp = \"b:443\"\nquic_again_seconds = 60\nhybrid_only = false";
        let config = Config::parse(&format!("{more}\n{GOOD}"), Path::new(".")).expect("good");
        assert_eq!(config.broker_tcp.as_deref(), Some("b:443"));
        assert_eq!(config.quic_again, Duration::from_secs(60));
        assert!(!config.hybrid_only);
    }

    #[test]
    fn a_key_is_a_file_of_the_folder_or_a_token_with_a_source_of_its_pin() {
        let key = |key: &str| {
            let text = GOOD.replace("\"key.pem\"", key);
            Config::parse(&text, Path::new("/n")).expect("good").key
        };
        assert_eq!(key("\"key.pem\"").to_string(), "/n/key.pem");
        let token =
            "\"pkcs11:token=a;object=b\"\nmodule = \"/m.so\"\npassphrase = \"credential:pin\"";
        let token = key(token);
        assert_eq!(token.to_string(), "pkcs11:token=a;object=b");
        let source = token.passphrase().expect("a source").to_string();
        assert_eq!((source.as_str(), token.file()), ("credential:pin", None));
    }

    #[test]
    fn data_and_socket_have_defaults_beside_the_file() {
        let text = GOOD
            .replace("data = \"/var/lib/ordonnans\"", "")
            .replace("socket = \"node.sock\"", "");
        let config = Config::parse(&text, Path::new("/n")).expect("good");
        assert_eq!(config.data, Path::new("/n/data"));
        assert_eq!(config.socket, Path::new("/n/data/ordonnans.sock"));
    }

    #[test]
    fn a_grace_may_be_nothing_and_not_without_end() {
        let with = |text: &str| {
            let text = format!("{GOOD}\n[crl]\ngrace_hours = {text}");
            Config::parse(&text, Path::new("."))
        };
        let hours = |c: Config| c.crl_grace.as_secs() / 3_600;
        let usual = Config::parse(GOOD, Path::new(".")).expect("good");
        assert_eq!(hours(usual), 72);
        assert_eq!(hours(with("0").expect("least")), 0);
        assert_eq!(hours(with("720").expect("most")), 720);
        let e = with("721").expect_err("too long").to_string();
        assert!(e.contains("crl.grace_hours") && e.contains("721"), "{e}");
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let text = format!("brokre = 1\n{GOOD}");
        let error = Config::parse(&text, Path::new(".")).expect_err("bad");
        assert!(error.to_string().contains("brokre"), "{error}");
        let text = format!("{GOOD}\npassphrase = \"x\"\n");
        let error = Config::parse(&text, Path::new(".")).expect_err("bad");
        assert!(error.to_string().contains("passphrase"), "{error}");
    }

    #[test]
    fn a_missing_key_is_refused_by_name() {
        let text = GOOD.replace("trust = \"trust\"", "");
        let error = Config::parse(&text, Path::new(".")).expect_err("bad");
        assert!(error.to_string().contains("trust"), "{error}");
    }

    #[test]
    fn values_that_cannot_be_used_name_their_key() {
        for (from, to, key) in [
            ("127.0.0.1:4433", "127.0.0.1", "broker"),
            ("127.0.0.1:4433", "127.0.0.1:0", "broker"),
            ("127.0.0.1:4433", ":4433", "broker"),
            ("b1.broker.crisis", "b1.node.crisis", "broker_name"),
            ("b1.broker.crisis.example", "B 1", "broker_name"),
            ("\"node.sock\"", "\"\"", "socket"),
            ("\"key.pem\"", "\"\"", "identity.key"),
            (
                "\"key.pem\"",
                "\"key.pem\"\npassphrase = \"hunter2\"",
                "identity.passphrase",
            ),
            ("trust =", "broker_tcp = \"b\"\ntrust =", "broker_tcp"),
            (
                "trust =",
                "quic_again_seconds = 0\ntrust =",
                "quic_again_seconds",
            ),
            (
                "[identity]",
                "[renewal]\nlast_percent = 51\n[identity]",
                "renewal.last_percent",
            ),
        ] {
            let error = Config::parse(&GOOD.replace(from, to), Path::new(".")).expect_err("bad");
            match error {
                InvalidConfig::Value { key: named, .. } => assert_eq!(named, key),
                other => panic!("{from} -> {to}: {other}"),
            }
        }
    }

    #[test]
    fn the_socket_path_fits_the_kernel_at_the_bound_and_not_past_it() {
        let at = "s".repeat(107);
        let past = "s".repeat(108);
        let folder = Path::new("");
        assert!(Config::parse(&GOOD.replace("node.sock", &at), folder).is_ok());
        assert!(Config::parse(&GOOD.replace("node.sock", &past), folder).is_err());
    }
}
