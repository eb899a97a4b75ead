//! The exercise's own node: it speaks the protocol itself, to publish twice and to misbehave.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ordonnans_identity::{FileSigner, Signer, Trust};
use ordonnans_label::{Kind, Label, State};
use ordonnans_message::{
    Act, ActKind, Content, ContentRef, Envelope, Frame, Header, MessageId, PROTOCOL_VERSION,
    Precedence, Recipient, Role, SUITE_X_WING, Sealing, SignedKeyPackage, sha256,
};
use ordonnans_seal::{Entropy, SystemEntropy, seal, sign_statement, verify_statement};
use ordonnans_transport::{ClientOptions, CloseCode, Connection, Identity, Lane, Limits, connect};

use crate::play::now;
use crate::scenario::Message;
use crate::structure::{Structure, Trouble};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

struct Control {
    connection: Connection,
    signer: FileSigner,
    trust: Trust,
}

impl Control {
    async fn connect(s: &Structure, node: &str) -> Result<Self, Trouble> {
        let (certificate, key) = s.credentials(Kind::Node, node)?;
        let said = |e: &dyn std::fmt::Display| format!("{node}: {e}");
        let identity = Identity::load(&certificate, &key).map_err(|e| said(&e))?;
        let signer = FileSigner::load(&certificate, &key).map_err(|e| said(&e))?;
        let trust = Trust::load_dir(&s.trust_dir()).map_err(|e| said(&e))?;
        let options = ClientOptions {
            hybrid_only: true,
            limits: Limits::default(),
            clock: Arc::new(now),
        };
        let broker = s.name(Kind::Broker, "b1")?;
        let connection = connect(s.address, &broker, &identity, &trust, options)
            .await
            .map_err(|e| said(&e))?;
        let control = Self {
            connection,
            signer,
            trust,
        };
        let hello = Frame::Hello {
            version: PROTOCOL_VERSION,
            checkpoint: None,
        };
        let welcome = |f: &Frame| matches!(f, Frame::Welcome { .. });
        control.ask(Lane::Control, hello, welcome).await?;
        Ok(control)
    }

    /// Says something and waits for its answer; what the broker has to say besides is passed over.
    async fn ask(
        &self,
        lane: Lane,
        frame: Frame,
        answers: impl Fn(&Frame) -> bool,
    ) -> Result<Frame, Trouble> {
        let answer = async {
            self.connection
                .send(lane, frame.encode())
                .await
                .map_err(|e| e.to_string())?;
            loop {
                let (_, bytes) = self.connection.recv().await.map_err(|e| e.to_string())?;
                let frame = Frame::decode(&bytes).map_err(|e| e.to_string())?;
                if answers(&frame) {
                    return Ok(frame);
                }
            }
        };
        tokio::time::timeout(ANSWER_WITHIN, answer)
            .await
            .map_err(|_| "the broker does not answer".to_owned())?
    }

    async fn publish(&self, lane: Lane, envelope: Bytes) -> Result<Frame, Trouble> {
        let decided = |f: &Frame| matches!(f, Frame::Accepted { .. } | Frame::Refused { .. });
        self.ask(lane, Frame::Publish { envelope }, decided).await
    }

    async fn sealed(&self, s: &Structure, m: &Message) -> Result<Envelope, Trouble> {
        let listing = |f: &Frame| matches!(f, Frame::Directory { .. });
        let answer = self.ask(Lane::Control, Frame::DirectoryGet, listing);
        // An exercise's structure fits one part.
        let Frame::Directory { entries, .. } = answer.await? else {
            return Err("the broker gives no directory".into());
        };
        let said = |e: &dyn std::fmt::Display| format!("{}: {e}", m.from);
        let precedence: Precedence = m.precedence.parse().map_err(|e| said(&e))?;
        let (mut recipients, mut keys) = (vec![], vec![]);
        for (to, role) in
            m.to.iter()
                .map(|t| (t, Role::Action))
                .chain(m.info.iter().map(|t| (t, Role::Info)))
        {
            let (person, node) = match to.split_once('@') {
                None => (None, to.as_str()),
                Some((person, node)) => (Some(s.name(Kind::Person, person)?), node),
            };
            let node = s.name(Kind::Node, node)?;
            // It takes the keys of both, and seals to which the level asks for.
            let mut found = false;
            for owner in person.iter().chain([&node]) {
                let listed = entries.iter().find(|e| e.name == *owner);
                let package =
                    listed.and_then(|e| SignedKeyPackage::decode(e.package.as_ref()?).ok());
                if let Some(package) = package {
                    keys.push(verify_statement(package, &self.trust, now()).map_err(|e| said(&e))?);
                    found = true;
                }
            }
            if !found {
                return Err(format!("{node} has published no key"));
            }
            recipients.push(Recipient {
                node,
                person,
                role,
                precedence,
            });
        }
        let mut random = [0; 10];
        SystemEntropy.fill(&mut random);
        let none = sha256(&[]);
        let label: Label = m.label.parse().map_err(|e| format!("{e}"))?;
        let mut salt = [0; 32];
        SystemEntropy.fill(&mut salt);
        let content = Content {
            salt,
            subject: m.subject.clone(),
            media_type: "text/plain; charset=utf-8".into(),
            body: m.body.clone().into_bytes(),
            ..Content::default()
        };
        let originator = self.signer.certificate().name().clone();
        let act = match &label.state {
            State::Established { by } if s.works_at(by.local(), &m.from) => {
                let (certificate, key) = s.credentials(Kind::Person, by.local())?;
                let signer = FileSigner::load(&certificate, &key).map_err(|e| said(&e))?;
                let act = Act {
                    kind: ActKind::Establish,
                    subject: content.digest(),
                    label: label.clone(),
                    node: originator.clone(),
                    by: by.clone(),
                    at: now(),
                    follows: None,
                };
                Some(sign_statement(&act, &signer).map_err(|e| said(&e))?)
            }
            _ => None,
        };
        let header = Header {
            id: MessageId::new(now(), random),
            originator,
            author: None,
            label,
            recipients,
            exercise: true,
            created: now(),
            expires: now().after(60 * 60 * 1000),
            reply_by: None,
            references: vec![],
            supersedes: None,
            content: ContentRef {
                digest: none,
                length: 0,
            },
            attachments: vec![],
            sealing: Sealing {
                suite: SUITE_X_WING,
                commitment: none,
                seals: none,
            },
            act,
            groups: vec![],
            passed: None,
        };
        seal(header, &content, &keys, &self.signer, &mut SystemEntropy).map_err(|e| said(&e))
    }
}

/// Publishes a message. Gives its id and whether it was accepted.
pub(crate) async fn send(s: &Structure, m: &Message) -> Result<(String, bool), Trouble> {
    let control = Control::connect(s, &m.from).await?;
    let envelope = control.sealed(s, m).await?;
    let (id, lane) = (
        envelope.header().id,
        Lane::Class(envelope.header().precedence()),
    );
    let envelope = envelope.encode();
    let answer = control.publish(lane, envelope).await?;
    control.connection.finish(CloseCode::Done, "done").await;
    Ok((id.to_string(), matches!(answer, Frame::Accepted { .. })))
}

/// Publishes one envelope twice, and the second time again from another connection: one answer, three times. Gives the message's id.
pub(crate) async fn duplicate(s: &Structure, m: &Message) -> Result<String, Trouble> {
    let control = Control::connect(s, &m.from).await?;
    let envelope = control.sealed(s, m).await?;
    let lane = Lane::Class(Precedence::Routine);
    let bytes = envelope.encode();
    let first = control.publish(lane, bytes.clone()).await?;
    let second = control.publish(lane, bytes.clone()).await?;
    control.connection.finish(CloseCode::Done, "done").await;
    let control = Control::connect(s, &m.from).await?;
    let third = control.publish(lane, bytes).await?;
    control.connection.finish(CloseCode::Done, "done").await;
    match first {
        Frame::Accepted { id, .. } if first == second && first == third => Ok(id.to_string()),
        _ => Err("a message published twice was not answered twice the same".into()),
    }
}

/// A stranger sends garbage, and an accredited node a frame that cannot be read: the broker must cut it off and serve on.
pub(crate) async fn malformed(s: &Structure, m: &Message) -> Result<(), Trouble> {
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| e.to_string())?;
    let mut garbage = vec![0; 1200];
    for _ in 0..200 {
        SystemEntropy.fill(&mut garbage);
        stranger
            .send_to(&garbage, s.address)
            .map_err(|e| e.to_string())?;
    }
    let control = Control::connect(s, &m.from).await?;
    let nonsense = Bytes::from_static(b"\xff\xff nothing of the kind");
    let sent = control.connection.send(Lane::Control, nonsense).await;
    sent.map_err(|e| e.to_string())?;
    let closed = tokio::time::timeout(ANSWER_WITHIN, control.connection.closed());
    let closed = closed
        .await
        .map_err(|_| "a frame that cannot be read was let pass".to_owned())?;
    if closed.code != Some(CloseCode::Violation) {
        return Err(format!(
            "a frame that cannot be read ended otherwise: {closed}"
        ));
    }
    // A header that was tampered with: the signature does not fit.
    let control = Control::connect(s, &m.from).await?;
    let envelope = control.sealed(s, m).await?;
    let mut bytes = envelope.encode().to_vec();
    let at = bytes.len() / 8;
    bytes[at] ^= 1;
    let lane = Lane::Class(Precedence::Routine);
    let envelope = Bytes::from(bytes);
    match control.publish(lane, envelope).await? {
        Frame::Refused { .. } => {}
        _ => return Err("a message that was tampered with was not refused".into()),
    }
    control.connection.finish(CloseCode::Done, "done").await;
    Ok(())
}
