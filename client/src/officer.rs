//! What a security officer asks of the broker, over the wire.

use std::time::Duration;

use ordonnans_audit::Entry;
use ordonnans_identity::{FileSigner, Signer, Trust};
use ordonnans_label::{Level, Name};
use ordonnans_message::{
    AuditQuery, Digest, ExplainedRule, Frame, Order, OrderKind, PROTOCOL_VERSION, ProofOf, Readers,
    ReplyCode, Supposed, limits,
};
use ordonnans_seal::sign_statement;
use ordonnans_transport::{CloseCode, Connection, Identity, Lane, connect};

use crate::config::Config;
use crate::daemon::{options, server};
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
    /// Where to go on; `None` at the end of the log.
    pub next: Option<u64>,
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
    signer: FileSigner,
    requests: u32,
}

impl Officer {
    /// Connects with the certificate of the configuration.
    ///
    /// # Errors
    /// [`Failure`]: the keys, the line, or the broker refuses.
    pub async fn connect(config: &Config) -> Result<Self, Failure> {
        let identity = Identity::load(&config.certificate, &config.key).map_err(usage)?;
        let signer = FileSigner::load(&config.certificate, &config.key).map_err(usage)?;
        let trust = Trust::load_dir(&config.trust).map_err(usage)?;
        let trust = trust.with_grace(config.crl_grace);
        let server = server(config).await.map_err(unreachable)?;
        let options = options(config, std::sync::Arc::new(now));
        let connection = connect(server, &config.broker_name, &identity, &trust, &options)
            .await
            .map_err(unreachable)?;
        let officer = Self {
            connection,
            signer,
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

    async fn hear(&self) -> Result<Frame, Failure> {
        let (_, bytes) = self.connection.recv().await.map_err(unreachable)?;
        Frame::decode(&bytes).map_err(unreachable)
    }

    async fn ask(&self, frame: &Frame) -> Result<Frame, Failure> {
        let asked = async {
            let sent = self.connection.send(Lane::Control, frame.encode()).await;
            sent.map_err(unreachable)?;
            self.hear().await
        };
        tokio::time::timeout(ANSWER_WITHIN, asked)
            .await
            .map_err(|_| unreachable("no answer in time"))?
    }

    fn request(&mut self) -> u32 {
        self.requests += 1;
        self.requests
    }

    /// Records that answer a question, and where to go on. Each call is itself a record.
    ///
    /// # Errors
    /// [`Failure`]: the line, or the broker says that this subject is no officer.
    pub async fn page(&mut self, query: AuditQuery) -> Result<Page, Failure> {
        let request = self.request();
        let query = Box::new(query);
        match self.ask(&Frame::AuditGet { request, query }).await? {
            frame @ Frame::AuditPage { .. } => {
                read_page(frame, request).ok_or_else(|| unreachable("it answered something else"))
            }
            frame => Err(not(&frame, "read the log")),
        }
    }

    /// Up to `limit` records that answer a question, however many pages that takes.
    ///
    /// # Errors
    /// [`Failure`], as [`Self::page`].
    pub async fn search(&mut self, query: &AuditQuery, limit: u64) -> Result<Vec<Entry>, Failure> {
        let mut entries: Vec<Entry> = vec![];
        let mut from = query.from;
        while (entries.len() as u64) < limit {
            let most = (limit - entries.len() as u64).min(limits::MAX_PAGE as u64);
            let page = self
                .page(AuditQuery {
                    from,
                    limit: u16::try_from(most).unwrap_or(u16::MAX),
                    ..query.clone()
                })
                .await?;
            entries.extend(page.entries);
            // Each reading makes a record: who read on until nothing is left would read what that makes.
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        Ok(entries)
    }

    /// Records as they are made, until `each` says that it is enough or the line ends. `from` the end of the log where that is beyond it.
    ///
    /// # Errors
    /// [`Failure`]: the line, or the broker says that this subject is no officer.
    pub async fn watch(
        &mut self,
        query: AuditQuery,
        mut each: impl FnMut(Entry) -> bool,
    ) -> Result<(), Failure> {
        let request = self.request();
        let query = Box::new(query);
        let frame = Frame::WatchGet { request, query };
        let sent = self.connection.send(Lane::Control, frame.encode()).await;
        sent.map_err(unreachable)?;
        loop {
            match self.hear().await? {
                frame @ Frame::AuditPage { .. } => {
                    let page = read_page(frame, request);
                    for entry in page.into_iter().flat_map(|p| p.entries) {
                        if !each(entry) {
                            return Ok(());
                        }
                    }
                }
                frame @ Frame::Refused { .. } => return Err(not(&frame, "watch the log")),
                _ => {}
            }
        }
    }

    /// A checkpoint of the log as it is now.
    ///
    /// # Errors
    /// [`Failure`]: the line, or the broker says that this subject is no officer.
    pub async fn checkpoint(&mut self) -> Result<String, Failure> {
        let request = self.request();
        match self.ask(&Frame::CheckpointGet { request }).await? {
            Frame::Checkpoint { checkpoint, .. } => Ok(checkpoint),
            frame => Err(not(&frame, "have the log signed")),
        }
    }

    /// A proof; `None` where the log is not so long.
    ///
    /// # Errors
    /// [`Failure`]: the line, or the broker says that this subject is no officer.
    pub async fn proof(&mut self, of: ProofOf) -> Result<Option<Vec<Digest>>, Failure> {
        let request = self.request();
        match self.ask(&Frame::ProofGet { request, of }).await? {
            Frame::Proof { hashes, .. } => Ok(hashes),
            frame => Err(not(&frame, "ask for proofs")),
        }
    }

    /// Who at these nodes could read something of a level, by the register in force.
    ///
    /// # Errors
    /// [`Failure`]: the line, or the broker says that this subject is no officer of that level.
    pub async fn readers(&mut self, nodes: &[Name], level: Level) -> Result<Vec<Readers>, Failure> {
        let mut all = vec![];
        for nodes in nodes.chunks(limits::MAX_RECIPIENTS) {
            let request = self.request();
            let nodes = nodes.to_vec();
            let frame = Frame::ReadersGet {
                request,
                nodes,
                level,
            };
            match self.ask(&frame).await? {
                Frame::Readers { rows, .. } => all.extend(rows),
                frame => return Err(not(&frame, "know who could read it")),
            }
        }
        Ok(all)
    }

    /// Signs an order and gives it to the broker.
    ///
    /// # Errors
    /// [`Failure`]: the line, or the broker does not take it.
    pub async fn order(&mut self, what: OrderKind) -> Result<(), Failure> {
        let order = Order {
            what,
            by: self.signer.certificate().name().clone(),
            at: now(),
        };
        let signed = sign_statement(&order, &self.signer);
        let signed = signed.map_err(|e| Failure::internal(e.to_string()))?;
        let frame = Frame::Order {
            order: signed.encode(),
        };
        match self.ask(&frame).await? {
            Frame::Kept { .. } => Ok(()),
            Frame::NotKept { code, .. } => {
                let (why, hint) = match code {
                    ReplyCode::Conflict => (
                        "there is no such incident, or it is closed".to_owned(),
                        "open another; what was closed stays closed",
                    ),
                    ReplyCode::Expired => (
                        "the clocks are more than ten minutes apart".to_owned(),
                        "set the clock of this machine",
                    ),
                    code => (
                        format!("the broker does not take the order: {code:?}"),
                        "use the certificate of an officer who stands in the register",
                    ),
                };
                Err(Failure::new(Exit::Refused, why, hint))
            }
            frame => Err(not(&frame, "order this")),
        }
    }

    /// Every record up to a checkpoint of now, as they come, and the checkpoint. `each` may fail.
    ///
    /// # Errors
    /// [`Failure`], as [`Self::page`]; or the broker gives fewer records than it signed.
    pub async fn whole(
        &mut self,
        mut each: impl FnMut(&Entry) -> Result<(), Failure>,
    ) -> Result<String, Failure> {
        let text = self.checkpoint().await?;
        let size: u64 = text
            .lines()
            .nth(1)
            .and_then(|l| l.parse().ok())
            .ok_or_else(|| unreachable("its checkpoint is not one"))?;
        let mut have = 0;
        while have < size {
            let page = self
                .page(AuditQuery {
                    from: have,
                    limit: u16::try_from(limits::MAX_PAGE).unwrap_or(u16::MAX),
                    ..AuditQuery::default()
                })
                .await?;
            if page.entries.is_empty() {
                return Err(Failure::new(
                    Exit::Proof,
                    format!("the checkpoint covers {size} records, the broker gives {have}"),
                    "keep this checkpoint: it is evidence",
                ));
            }
            for entry in page
                .entries
                .iter()
                .take(usize::try_from(size - have).unwrap_or(usize::MAX))
            {
                each(entry)?;
                have += 1;
            }
        }
        Ok(text)
    }

    /// Every rule for a message that is only thought of. The asking is a record.
    ///
    /// # Errors
    /// [`Failure`]: the line; or this subject is no officer, or not one for labels of this level.
    pub async fn explain(&mut self, about: Supposed) -> Result<Vec<ExplainedRule>, Failure> {
        let request = self.request();
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

fn read_page(frame: Frame, request: u32) -> Option<Page> {
    let Frame::AuditPage {
        request: answered,
        records,
        details,
        checkpoint,
        next,
    } = frame
    else {
        return None;
    };
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
    (answered == request).then_some(Page {
        entries,
        checkpoint,
        next,
    })
}

fn not(frame: &Frame, what: &str) -> Failure {
    match frame {
        Frame::Refused { .. } => Failure::new(
            Exit::Refused,
            format!("the broker does not let this subject {what}"),
            "use the certificate of an officer who stands in the register and holds the level",
        ),
        _ => unreachable("it answered something else"),
    }
}
