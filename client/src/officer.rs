//! What a security officer does: read the audit log over the wire, take it away, check it offline.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::net::ToSocketAddrs;
use std::path::Path;
use std::time::Duration;

use ordonnans_audit::export::{self, CHECKPOINT, Entry, PROOFS, RECORDS, Report};
use ordonnans_audit::merkle::leaf_hash;
use ordonnans_audit::{TreeHead, VerifierKey, merkle::Frontier};
use ordonnans_identity::Trust;
use ordonnans_message::{
    AuditQuery, ExplainedRule, Frame, MessageId, PROTOCOL_VERSION, Supposed, limits,
};
use ordonnans_transport::{CloseCode, Connection, Identity, Lane, connect};

use crate::config::Config;
use crate::daemon::options;
use crate::desk::now;
use crate::failure::{Exit, Failure};

/// An answer must come within this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Records as they came, and the newest checkpoint at that moment.
#[derive(Debug, Default)]
pub struct Page {
    /// The records, in order.
    pub entries: Vec<Entry>,
    /// The checkpoint's text.
    pub checkpoint: Option<String>,
}

fn unreachable(e: impl std::fmt::Display) -> Failure {
    Failure::new(
        Exit::Unreachable,
        format!("the broker cannot be reached: {e}"),
        "check `broker` in the configuration, and that the broker runs",
    )
}

fn usage(e: impl std::fmt::Display) -> Failure {
    Failure::new(
        Exit::Usage,
        e.to_string(),
        "`audit` needs the configuration of an officer: certificate, key and trust folder",
    )
}

/// A connection of an officer with the broker.
#[derive(Debug)]
pub struct Officer {
    connection: Connection,
    requests: u32,
}

impl Officer {
    /// Connects with the certificate of the configuration.
    ///
    /// # Errors
    /// [`Failure`]: the keys, the line, or the broker refuses.
    pub async fn connect(config: &Config) -> Result<Self, Failure> {
        let identity = Identity::load(&config.certificate, &config.key).map_err(usage)?;
        let trust = Trust::load_dir(&config.trust).map_err(usage)?;
        let mut addresses = config.broker.to_socket_addrs().map_err(unreachable)?;
        let address = addresses
            .next()
            .ok_or_else(|| unreachable("its name has no address"))?;
        let options = options(config, std::sync::Arc::new(now));
        let connection = connect(address, &config.broker_name, &identity, &trust, &options)
            .await
            .map_err(unreachable)?;
        let officer = Self {
            connection,
            requests: 0,
        };
        let hello = Frame::Hello {
            version: PROTOCOL_VERSION,
            checkpoint: None,
        };
        match officer.ask(&hello).await? {
            Frame::Welcome { .. } => Ok(officer),
            _ => Err(unreachable("it does not speak this protocol")),
        }
    }

    async fn ask(&self, frame: &Frame) -> Result<Frame, Failure> {
        let asked = async {
            self.connection.send(Lane::Control, frame.encode()).await?;
            self.connection.recv().await
        };
        let (_, bytes) = tokio::time::timeout(ANSWER_WITHIN, asked)
            .await
            .map_err(|_| unreachable("no answer in time"))?
            .map_err(unreachable)?;
        Frame::decode(&bytes).map_err(unreachable)
    }

    /// Records from `from` on, at most `limit`; with `message`, that message's only. Each call is itself a record.
    ///
    /// # Errors
    /// [`Failure`]: the line, or the broker says that this subject is no officer.
    pub async fn page(
        &mut self,
        from: u64,
        limit: u64,
        message: Option<MessageId>,
    ) -> Result<Page, Failure> {
        let limit = limit.min(limits::MAX_PAGE as u64);
        let query = AuditQuery {
            from,
            limit: u16::try_from(limit).unwrap_or(u16::MAX),
            message,
        };
        self.requests += 1;
        let request = self.requests;
        match self.ask(&Frame::AuditGet { request, query }).await? {
            Frame::AuditPage {
                request: answered,
                records,
                details,
                checkpoint,
            } if answered == request => {
                let open = |d: bytes::Bytes| {
                    let (salt, detail) = d.split_first_chunk::<32>()?;
                    Some((*salt, detail.to_vec()))
                };
                let entries = records
                    .into_iter()
                    .zip(details)
                    .map(|(public, detail)| Entry {
                        public: public.to_vec(),
                        opened: detail.and_then(open),
                    })
                    .collect();
                Ok(Page {
                    entries,
                    checkpoint,
                })
            }
            Frame::Refused { .. } => Err(Failure::new(
                Exit::Refused,
                "the broker does not let this subject read the log",
                "use the certificate of an officer who stands in the register",
            )),
            _ => Err(unreachable("it answered something else")),
        }
    }

    /// Every record of the newest checkpoint, and the checkpoint.
    ///
    /// # Errors
    /// [`Failure`], as [`Self::page`]; or there is no checkpoint yet.
    pub async fn whole(&mut self) -> Result<Page, Failure> {
        let first = self.page(0, limits::MAX_PAGE as u64, None).await?;
        let text = first.checkpoint.ok_or_else(|| {
            Failure::new(
                Exit::Refused,
                "the broker has signed no checkpoint yet",
                "try again in a few seconds",
            )
        })?;
        let size: u64 = text
            .lines()
            .nth(1)
            .and_then(|l| l.parse().ok())
            .ok_or_else(|| unreachable("its checkpoint is not one"))?;
        let mut entries = first.entries;
        while (entries.len() as u64) < size {
            let next = self
                .page(entries.len() as u64, limits::MAX_PAGE as u64, None)
                .await?;
            if next.entries.is_empty() {
                return Err(Failure::new(
                    Exit::Proof,
                    format!(
                        "the checkpoint covers {size} records, the broker gives {}",
                        entries.len()
                    ),
                    "keep this checkpoint: it is evidence",
                ));
            }
            entries.extend(next.entries);
        }
        entries.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(Page {
            entries,
            checkpoint: Some(text),
        })
    }

    /// Every rule for a message that is only thought of. The asking is a record.
    ///
    /// # Errors
    /// [`Failure`]: the line; or this subject is no officer, or not one for labels of this level.
    pub async fn explain(&mut self, about: Supposed) -> Result<Vec<ExplainedRule>, Failure> {
        self.requests += 1;
        let request = self.requests;
        let about = Box::new(about);
        match self.ask(&Frame::ExplainGet { request, about }).await? {
            Frame::Explanation {
                request: answered,
                rules,
            } if answered == request => Ok(rules),
            Frame::Refused { .. } => Err(Failure::new(
                Exit::Refused,
                "the broker does not explain this to this subject",
                "use the certificate of an officer who stands in the register and holds the level of the label",
            )),
            _ => Err(unreachable("it answered something else")),
        }
    }

    /// Ends the connection.
    pub async fn finish(self) {
        self.connection.finish(CloseCode::Done, "done").await;
    }
}

/// Writes an export to a new folder.
///
/// # Errors
/// [`Failure`]: the folder exists or cannot be written; the records do not lead to the checkpoint.
pub fn write_export(dir: &Path, page: &Page) -> Result<TreeHead, Failure> {
    let failed = |e: std::io::Error| {
        Failure::new(
            Exit::Usage,
            format!("{} cannot be made: {e}", dir.display()),
            "name a folder that does not exist yet",
        )
    };
    let mut tree = Frontier::default();
    let leaves: Vec<_> = page.entries.iter().map(|e| leaf_hash(&e.public)).collect();
    leaves.iter().for_each(|l| drop(tree.append(*l)));
    let head = tree.head();
    let broken = || {
        Failure::new(
            Exit::Proof,
            "the broker's records do not fit together",
            "keep what it gave: it is evidence",
        )
    };
    let proofs = export::proofs(&leaves, &head).ok_or_else(broken)?;
    fs::create_dir(dir).map_err(failed)?;
    let write = |name: &str, lines: &mut dyn Iterator<Item = String>| {
        let mut file = std::io::BufWriter::new(File::create_new(dir.join(name))?);
        for line in lines {
            file.write_all(line.as_bytes())?;
        }
        file.into_inner()
            .map_err(std::io::IntoInnerError::into_error)?
            .sync_all()
    };
    let records: Vec<String> = page
        .entries
        .iter()
        .map(|e| export::record_line(e).map(|l| l + "\n"))
        .collect::<Option<_>>()
        .ok_or_else(broken)?;
    write(RECORDS, &mut records.into_iter()).map_err(failed)?;
    write(PROOFS, &mut proofs.into_iter().map(|l| l + "\n")).map_err(failed)?;
    let checkpoint = VecDeque::from([page.checkpoint.clone().unwrap_or_default()]);
    write(CHECKPOINT, &mut checkpoint.into_iter()).map_err(failed)?;
    Ok(head)
}

/// Checks an exported folder with nothing but the log's public key.
///
/// # Errors
/// [`Exit::Proof`] names the file, the record and what does not hold.
pub fn verify_export(dir: &Path, key: &Path) -> Result<Report, Failure> {
    let unreadable = |path: &Path, e: &dyn std::fmt::Display| {
        Failure::new(
            Exit::Usage,
            format!("{} cannot be read: {e}", path.display()),
            "name the exported folder, and the file `audit.pub` of the broker",
        )
    };
    let text = fs::read_to_string(key).map_err(|e| unreadable(key, &e))?;
    let key: VerifierKey = text.trim().parse().map_err(|e| unreadable(key, &e))?;
    let open = |name: &str| {
        let path = dir.join(name);
        File::open(&path)
            .map(BufReader::new)
            .map_err(|e| unreadable(&path, &e))
    };
    let path = dir.join(CHECKPOINT);
    let checkpoint = fs::read(&path).map_err(|e| unreadable(&path, &e))?;
    export::verify(&checkpoint, open(RECORDS)?, open(PROOFS)?, &key).map_err(|fault| {
        Failure::new(
            Exit::Proof,
            format!("the export does not hold: {fault}"),
            "take the log from the broker again; if it still does not hold, keep both: they are evidence",
        )
    })
}
