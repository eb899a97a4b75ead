//! The broker's configuration file, parsed once.
//!
//! The file is TOML; a key this page does not name is refused, so that a misspelt limit cannot pass for a set one.
//! Relative paths are relative to the folder of the file. Nothing past [`Config`] sees the file's form.
//!
//! Whoever can write this file can point the broker at another register and other trust anchors, and so decide who
//! may read: guard it as the register itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What the broker needs to know before it can start. Every path is absolute or relative to the process.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address and UDP port to listen on.
    pub listen: SocketAddr,
    /// The data directory: journal, audit log, mailbox, attachments. One broker at a time.
    pub data: PathBuf,
    /// Certificate chain of the broker, PEM, leaf first.
    pub certificate: PathBuf,
    /// Private key of the broker, PKCS#8 PEM, mode 0600.
    pub key: PathBuf,
    /// Folder with `root.pem`, `issuing.pem` and a CRL for each.
    pub trust: PathBuf,
    /// The register of nodes, persons, officers and circles.
    pub register: PathBuf,
    /// Folder with policy files beside the built-in ones, where there are any.
    pub policies: Option<PathBuf>,
    /// Unix socket for `status`, mode 0600.
    pub admin_socket: PathBuf,
    /// Bounds on what peers may use.
    pub limits: Limits,
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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_024,
            connections_per_address: 64,
            queue: 10_000,
            inputs: 1_024,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    listen: SocketAddr,
    data: PathBuf,
    identity: IdentityFile,
    trust: PathBuf,
    register: PathBuf,
    policies: Option<PathBuf>,
    admin_socket: Option<PathBuf>,
    #[serde(default)]
    limits: LimitsFile,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsFile {
    connections: Option<usize>,
    connections_per_address: Option<usize>,
    queue: Option<usize>,
    inputs: Option<usize>,
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
    #[error("limits.{key} is {value}; it must be from {least} to {most}")]
    OutOfBounds {
        /// The key below `limits`.
        key: &'static str,
        /// What the file says.
        value: usize,
        /// Smallest value allowed.
        least: usize,
        /// Largest value allowed.
        most: usize,
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
        let usual = Limits::default();
        let limits = Limits {
            connections: within(
                "connections",
                file.limits.connections,
                usual.connections,
                1,
                100_000,
            )?,
            connections_per_address: within(
                "connections_per_address",
                file.limits.connections_per_address,
                usual.connections_per_address,
                1,
                100_000,
            )?,
            queue: within("queue", file.limits.queue, usual.queue, 1, 1_000_000)?,
            inputs: within("inputs", file.limits.inputs, usual.inputs, 16, 65_536)?,
        };
        Ok(Self {
            listen: file.listen,
            certificate: folder.join(file.identity.certificate),
            key: folder.join(file.identity.key),
            trust: folder.join(file.trust),
            register: folder.join(file.register),
            policies: file.policies.map(|p| folder.join(p)),
            admin_socket: file
                .admin_socket
                .map_or_else(|| data.join("admin.sock"), |p| folder.join(p)),
            data,
            limits,
        })
    }
}

fn within(
    key: &'static str,
    given: Option<usize>,
    usual: usize,
    least: usize,
    most: usize,
) -> Result<usize, InvalidConfig> {
    match given {
        None => Ok(usual),
        Some(value) if (least..=most).contains(&value) => Ok(value),
        Some(value) => Err(InvalidConfig::OutOfBounds {
            key,
            value,
            least,
            most,
        }),
    }
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
    }
}
