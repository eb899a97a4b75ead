//! What comes in: verified, kept once, answered with a receipt, opened for readers.

use std::path::{Path, PathBuf};

use ordonnans_label::{Kind, Name};
use ordonnans_message::{
    AttachmentKey, AttachmentRef, Content, CopyNumber, Envelope, Header, Holder, MessageId,
    Receipt, ReceiptKind, SignedReceipt, Timestamp,
};
use ordonnans_seal::{Grant, NotAuthentic, sign_statement, verify_envelope, verify_statement};

use crate::belief::Belief;
use crate::desk::{Desk, internal};
use crate::failure::{Exit, Failure};
use crate::opening::{authentic, save};
use crate::spool::{Arrived, Granted, ReceiptKey, receipt_key};

/// What becomes of a message that was delivered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It cannot be believed, or is not for us: nothing is said.
    Ignored(String),
    /// These attachments are not here yet.
    Missing(Vec<AttachmentRef>),
    /// It is kept, or was before, or can never be used: this receipt is durable and owed.
    Receipted(ReceiptKey),
}

/// A message that a reader may have.
pub(crate) struct Read {
    pub(crate) header: Header,
    pub(crate) inside: Inside,
    /// Whether the originator's certificate is believed now too.
    pub(crate) still_believed: bool,
}

#[cfg(test)]
impl Read {
    /// The content, where it was sealed to the node.
    pub(crate) fn content(&self) -> &Content {
        match &self.inside {
            Inside::Open(content, _) => content,
            Inside::Sealed { .. } => panic!("sealed to a person"),
        }
    }
}

/// What is in it.
pub(crate) enum Inside {
    /// It was sealed to this node, and is open.
    Open(Content, Option<CopyNumber>),
    /// It is sealed to the reader, who alone can open it; with what it was believed by when it came in, and where its sealed attachments are.
    Sealed {
        envelope: Box<Envelope>,
        belief: Belief,
        received: Timestamp,
        attachments: Vec<PathBuf>,
    },
}

impl Desk {
    fn sign(&self, envelope: &Envelope, kind: ReceiptKind) -> Result<SignedReceipt, Failure> {
        let receipt = Receipt {
            message: envelope.header().id,
            envelope: envelope.digest(),
            kind,
            by: self.name.clone(),
            at: self.now(),
        };
        sign_statement(&receipt, &*self.signer()).map_err(internal)
    }

    /// Takes a delivered message: verified, complete and openable, it is kept once, together with its receipt.
    pub(crate) fn arrive(&self, envelope: Envelope) -> Result<Arrival, Failure> {
        let ignored = |why: String| Ok(Arrival::Ignored(why));
        if !envelope.header().nodes().contains(&self.name) {
            return ignored("it is not addressed to this node".into());
        }
        if let Some(arrived) = self.spool.arrived(envelope.header().id)? {
            if arrived.envelope != envelope.digest() {
                return ignored("another message has this id".into());
            }
            return self.answer(&envelope, ReceiptKind::Delivered);
        }
        let (trust, now) = (self.trust(), self.now());
        let verified = match authentic(&envelope, &trust, now) {
            Ok(verified) => verified,
            // A list or a clock of ours may be behind: it may be believed yet.
            Err(NotAuthentic::Certificate(why)) => return ignored(why.to_string()),
            Err(
                NotAuthentic::Signer { .. } | NotAuthentic::Signature(_) | NotAuthentic::Seals(_),
            ) => {
                return self.answer(&envelope, ReceiptKind::Refused);
            }
        };
        // What is sealed to persons here, only they can open.
        let mut grant = Granted::None;
        if self.holds(&envelope).any(|h| h.person.is_none()) {
            let known = self.grant(&envelope)?;
            if self.open_own(&verified, known.as_ref()).is_err() {
                // It will never open: say so, rather than have it sent again and again. Of an epoch the next one brings the key again.
                return self.answer(&envelope, ReceiptKind::Refused);
            }
            grant = match (Grant::of(&envelope, &self.name), known) {
                (Ok(Some((epoch, brought))), _) => Granted::Brings(epoch, brought),
                (_, Some(known)) => Granted::Needs(known),
                _ => Granted::None,
            };
        }
        let here = |a: &AttachmentRef| self.attachments.have(&a.digest) == (a.length, true);
        let mut missing = envelope.header().attachments.clone();
        missing.retain(|a| !here(a));
        if !missing.is_empty() {
            return Ok(Arrival::Missing(missing));
        }
        let receipt = self.sign(&envelope, ReceiptKind::Delivered)?;
        let belief = Belief::of(&trust);
        let arrived = Arrived {
            received: now,
            expires: envelope.header().expires,
            envelope: envelope.digest(),
            belief: belief.digest(),
            opened: false,
            recalled: None,
            destroyed: vec![],
        };
        self.spool
            .arrive(&envelope, &arrived, &belief, &receipt, &grant)?;
        self.owes(&receipt);
        Ok(Arrival::Receipted(receipt_key(receipt.said())))
    }

    /// Owes a receipt for a message; where it is owed already, that one stands.
    fn answer(&self, envelope: &Envelope, kind: ReceiptKind) -> Result<Arrival, Failure> {
        let key = (envelope.header().id, kind, self.name.clone());
        if !self.owed().contains_key(&key) {
            self.owe(&self.sign(envelope, kind)?)?;
        }
        Ok(Arrival::Receipted(key))
    }

    pub(crate) fn message(&self, id: MessageId) -> Result<Envelope, Failure> {
        self.spool.incoming(id)?.ok_or_else(|| {
            Failure::new(
                Exit::Refused,
                format!("{id} is not in the inbox"),
                "`ordonnans inbox` lists what is",
            )
        })
    }

    /// What a person signs before a message is opened for them.
    pub(crate) fn to_be_opened(
        &self,
        id: MessageId,
        by: Name,
        kind: ReceiptKind,
    ) -> Result<Receipt, Failure> {
        let envelope = self.message(id)?;
        Ok(Receipt {
            message: id,
            envelope: envelope.digest(),
            kind,
            by,
            at: self.now(),
        })
    }

    /// Opens a message. First the receipt *opened* or *exported* is kept: the person's, where one is given, else the node's.
    pub(crate) fn read(
        &self,
        id: MessageId,
        kind: ReceiptKind,
        receipt: Option<&[u8]>,
    ) -> Result<Read, Failure> {
        let envelope = self.message(id)?;
        let receipt = self.of_reader(&envelope, kind, receipt)?;
        // As it was verified when it came, so again: the originator may have been revoked since.
        let arrived = self.spool.arrived(id)?;
        let arrived = arrived.ok_or_else(|| internal("a message has no row of its arrival"))?;
        let still_believed = verify_envelope(envelope.clone(), &self.trust(), self.now()).is_ok();
        let by = &receipt.said().by;
        if arrived.destroyed.contains(by) {
            return Err(Failure::new(
                Exit::Refused,
                format!("{by} has destroyed this copy"),
                "ask the originator to send it again",
            ));
        }
        let belief = self.spool.belief(&arrived.belief)?;
        let verified = authentic(&envelope, &belief.trust()?, arrived.received).map_err(|e| {
            Failure::new(
                Exit::Proof,
                format!("the message is not as it came in: {e}"),
                "keep the data folder as it is and ask your security officer",
            )
        })?;
        let header = verified.get().header().clone();
        let inside = if self.holds(&envelope).any(|h| h.person.is_none()) {
            let grant = self.grant(&envelope)?;
            let opened = self.open_own(&verified, grant.as_ref()).map_err(|e| {
                Failure::new(
                    Exit::Proof,
                    e.to_string(),
                    "what was sealed to an encryption key of this node ends with that key; ask the originator to send it again",
                )
            })?;
            Inside::Open(opened.content, opened.copy)
        } else {
            let file = |a: &AttachmentRef| {
                let path = self.config.data.join("attachments");
                std::path::absolute(path.join(a.digest.to_string())).map_err(internal)
            };
            let attachments = header.attachments.iter().map(file);
            Inside::Sealed {
                attachments: attachments.collect::<Result<_, _>>()?,
                envelope: Box::new(envelope),
                belief,
                received: arrived.received,
            }
        };
        // Durable before anything is given out.
        self.owe(&receipt)?;
        Ok(Read {
            header,
            inside,
            still_believed,
        })
    }

    /// The copies of a message that are for this node or persons here.
    fn holds<'e>(&self, envelope: &'e Envelope) -> impl Iterator<Item = Holder<'e>> {
        let copies = envelope.header().copies().into_iter();
        copies.filter(|h| *h.node == self.name)
    }

    /// Which key of a person a message is sealed to; `None` where it is sealed to this node.
    pub(crate) fn sealed_to(
        &self,
        id: MessageId,
        person: &Name,
    ) -> Result<Option<[u8; 8]>, Failure> {
        let seals = self.message(id)?.seals().map_err(internal)?;
        Ok(seals.iter().find(|s| s.to == *person).map(|s| s.kid))
    }

    /// Until when a message that is sealed to this node can be opened; `None` where it is sealed to persons.
    pub(crate) fn openable_until(&self, envelope: &Envelope) -> Result<Option<Timestamp>, Failure> {
        let seals = envelope.seals().map_err(internal)?;
        let own = seals.iter().find(|s| s.to == self.name).map(|s| s.kid);
        let kid = match own {
            Some(kid) => Some(kid),
            None => self.grant(envelope)?.map(|g| g.kid()),
        };
        Ok(kid.and_then(|kid| self.opens_until(kid)))
    }

    /// A recall of a message that came in, by whom it is from: it is marked, for a person to destroy it. Of one that is not here nothing is to be done.
    pub(crate) fn recalled(&self, r: &Receipt) -> Result<bool, Failure> {
        let (id, envelope) = (r.message, self.spool.incoming(r.message)?);
        let Some((envelope, mut arrived)) = envelope.zip(self.spool.arrived(id)?) else {
            return Ok(true);
        };
        if envelope.header().originator != r.by || arrived.envelope != r.envelope {
            return Ok(false);
        }
        arrived.recalled = Some(self.now());
        self.spool.recalled(id, &arrived)?;
        Ok(true)
    }

    /// Destroys a copy: the receipt is kept in the same breath in which the sealed message goes.
    pub(crate) fn destroy(&self, id: MessageId, receipt: Option<&[u8]>) -> Result<(), Failure> {
        let envelope = self.message(id)?;
        let receipt = self.of_reader(&envelope, ReceiptKind::Destroyed, receipt)?;
        let arrived = self.spool.arrived(id)?;
        let mut arrived = arrived.ok_or_else(|| internal("a message has no row of its arrival"))?;
        if !arrived.destroyed.contains(&receipt.said().by) {
            arrived.destroyed.push(receipt.said().by.clone());
        }
        // Each person here has a copy: the sealed message goes with the last.
        let has = |h: Holder<'_>| h.person.is_some_and(|p| !arrived.destroyed.contains(p));
        if self.holds(&envelope).any(has) {
            self.spool.destroyed_by(id, &arrived, &receipt)?;
            self.owes(&receipt);
            return Ok(());
        }
        self.spool.destroy(id, &receipt)?;
        self.owes(&receipt);
        let others = self.spool.inbox()?;
        let kept = others.iter().flat_map(|(e, _)| &e.header().attachments);
        for a in &envelope.header().attachments {
            if !kept.clone().any(|k| k.digest == a.digest) {
                self.attachments.remove(&a.digest).map_err(internal)?;
            }
        }
        Ok(())
    }

    /// The receipt of a reader: a named person's own, else the node's.
    fn of_reader(
        &self,
        envelope: &Envelope,
        kind: ReceiptKind,
        receipt: Option<&[u8]>,
    ) -> Result<SignedReceipt, Failure> {
        if !kind.is_of_reader() {
            return Err(internal("no receipt of a reader"));
        }
        let named: Vec<&Name> = envelope
            .header()
            .recipients
            .iter()
            .filter(|r| r.node == self.name)
            .filter_map(|r| r.person.as_ref())
            .collect();
        match receipt {
            Some(bytes) => self.persons(envelope, &named, kind, bytes),
            None if named.is_empty() => self.sign(envelope, kind),
            None => Err(Failure::new(
                Exit::Refused,
                "this message is for a named person",
                "open it with --as CERT --key KEY of that person",
            )),
        }
    }

    fn persons(
        &self,
        envelope: &Envelope,
        named: &[&Name],
        kind: ReceiptKind,
        bytes: &[u8],
    ) -> Result<SignedReceipt, Failure> {
        let wrong = |what: String| {
            Failure::new(
                Exit::Refused,
                what,
                "use the certificate and key of a person this message is for",
            )
        };
        let receipt =
            SignedReceipt::decode(bytes).map_err(|e| wrong(format!("the receipt: {e}")))?;
        let receipt = verify_statement(receipt, &self.trust(), self.now())
            .map_err(|e| wrong(format!("the person's certificate: {e}")))?
            .into_inner();
        let r = receipt.said();
        let fits = r.kind == kind && r.envelope == envelope.digest() && r.by.kind() == Kind::Person;
        if !fits || (!named.is_empty() && !named.contains(&&r.by)) {
            return Err(wrong(format!("this message is not for {}", r.by)));
        }
        Ok(receipt)
    }

    /// Opens an attachment of an opened message into a new file.
    pub(crate) fn save_attachment(&self, a: &AttachmentKey, to: &Path) -> Result<(), Failure> {
        let from = self.attachments.read(&a.digest).map_err(internal)?;
        save(from, a, to)
    }
}
