//! A small structure in memory: certificates, register, sealed messages and receipts, made once and used by every test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use ordonnans_certs::memory::Authority;
use ordonnans_certs::{Issued, Validity};
use ordonnans_identity::{Certificate, FileSigner, Signer as _, Trust};
use ordonnans_label::{Clearance, Kind, Label, Level, Name};
use ordonnans_message::{
    Act, ActKind, Content, ContentRef, Digest, Envelope, Follows, Header, How, MessageId, PassedOn,
    Precedence, Receipt, ReceiptKind, Recipient, Role, SUITE_X_WING, Sealing, SignedAct,
    SignedKeyPackage, SignedReceipt, Timestamp, sha256,
};
use ordonnans_policy::{Approved, Register};
use ordonnans_seal::{
    Entropy, SealSecret, SeededEntropy, Verified, open, seal, sign_statement, verify_envelope,
    verify_statement,
};

/// The structure's name.
pub const STRUCTURE: &str = "crisis.example";

/// The nodes: name, level, whether it is in the circle ICCB.
pub const NODES: [(&str, Level, bool); 6] = [
    ("ncc", Level::StgZg, true),
    ("def", Level::StgG, true),
    ("locc", Level::StgC, false),
    ("politie", Level::StgC, true),
    ("vr", Level::DepV, false),
    ("water", Level::Ongerubriceerd, false),
];

/// One node with everything it needs to speak for itself.
pub struct Node {
    /// Its name.
    pub name: Name,
    /// Certificate and key, as the authority handed them out.
    pub issued: Issued,
    /// The certificate, read.
    pub certificate: Certificate,
    /// Signs for it.
    pub signer: FileSigner,
    /// What it opens with.
    pub secret: SealSecret,
    /// Its published key.
    pub package: Verified<SignedKeyPackage>,
    /// Opens what is sealed for its person.
    pub persons_secret: SealSecret,
    /// The other half of that key, signed by its person.
    pub persons_package: Verified<SignedKeyPackage>,
    /// Its vaststeller, `p-` and its name.
    pub vaststeller: FileSigner,
    /// What the authority handed that person.
    pub persons: Issued,
}

/// The structure.
pub struct House {
    /// Its authority.
    pub authority: Authority,
    /// Whom everyone believes.
    pub trust: Trust,
    /// The nodes, in the order of the members.
    pub nodes: Vec<Node>,
    /// Who they are.
    pub members: Vec<Member>,
    receipts: Mutex<BTreeMap<(MessageId, usize, u8), Verified<SignedReceipt>>>,
}

/// Three o'clock in the morning.
#[must_use]
pub fn night() -> Timestamp {
    Timestamp::from_millis(1_795_402_800_000)
}

fn name(local: &str, kind: Kind) -> Name {
    Name::new(local, kind, STRUCTURE).unwrap_or_else(|e| panic!("{e}"))
}

/// The register, with one node suspended where asked.
#[must_use]
pub fn register(version: u64, suspended: Option<usize>) -> Register {
    Register::parse(&register_text(version, suspended)).unwrap_or_else(|e| panic!("{e}"))
}

/// The same, as it takes force where nobody has to sign.
#[must_use]
pub fn approved(version: u64, suspended: Option<usize>) -> Approved {
    approved_of(&members(), version, suspended)
}

/// A register of these members, as it takes force where nobody has to sign.
#[must_use]
pub fn approved_of(members: &[Member], version: u64, suspended: Option<usize>) -> Approved {
    let register = Register::parse(&register_of(members, version, suspended));
    let register = register.unwrap_or_else(|e| panic!("{e}"));
    let approved = register.approve(None, &BTreeSet::new());
    approved.unwrap_or_else(|e| panic!("{e}"))
}

/// The register's file.
#[must_use]
pub fn register_text(version: u64, suspended: Option<usize>) -> String {
    register_of(&members(), version, suspended)
}

/// A member of a structure: local name, level, whether it is in the circle ICCB.
pub type Member = (String, Level, bool);

fn members() -> Vec<Member> {
    NODES
        .iter()
        .map(|(n, l, c)| ((*n).into(), *l, *c))
        .collect()
}

/// The members of a larger structure: those of [`NODES`], and regions and vital sectors of all levels.
#[must_use]
pub fn many(count: usize) -> Vec<Member> {
    let levels = [
        Level::DepV,
        Level::StgC,
        Level::Ongerubriceerd,
        Level::DepV,
        Level::StgG,
        Level::DepV,
    ];
    let more = (0..).map(|i| (format!("vr{i:02}"), levels[i % 6], i % 3 == 0));
    members().into_iter().chain(more).take(count).collect()
}

/// The register's file for these members.
#[must_use]
pub fn register_of(members: &[Member], version: u64, suspended: Option<usize>) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "version = {version}\nstructure = \"{STRUCTURE}\"\n[[circle]]\nname = \"ICCB\"\ntitle = \"Interdepartementale Commissie Crisisbeheersing\"\n"
    );
    for (i, (local, level, circle)) in members.iter().enumerate() {
        let circles = if *circle { "[\"ICCB\"]" } else { "[]" };
        let standing = if suspended == Some(i) {
            "suspended"
        } else {
            "active"
        };
        let _ = write!(
            text,
            "[[node]]\nname = \"{local}\"\ntitle = \"{local}\"\nclearance = \"{level}\"\ncircles = {circles}\nrijksdienst = true\nlink = {{ up_to = \"{level}\", decision = \"test\", until = \"2036-01-01\", stg_zg = \"test\" }}\naccredited_until = \"2036-01-01\"\nstanding = \"{standing}\"\n\
             [[person]]\nname = \"p-{local}\"\nnode = \"{local}\"\nclearance = \"{level}\"\ncircles = {circles}\nmandate = {{ up_to = \"{level}\", decision = \"test\", until = \"2036-01-01\" }}\n"
        );
    }
    text.push_str("[[officer]]\nname = \"bva\"\nclearance = \"Stg.ZG\"\n");
    let all: Vec<String> = members.iter().map(|(n, ..)| format!("\"{n}\"")).collect();
    let duty = on_duty(members.len(), version);
    let _ = write!(
        text,
        "[[role]]\nname = \"piket\"\ntitle = \"Piket\"\nheld_by = [\"p-{}\"]\n[[list]]\nname = \"allen\"\ntitle = \"Allen\"\nmembers = [{}]\n",
        members[duty].0,
        all[..all.len().min(64)].join(", ")
    );
    text
}

/// Whose person is on duty: the role goes from hand to hand with the versions of the register.
#[must_use]
pub fn on_duty(members: usize, version: u64) -> usize {
    usize::try_from(version / 4).unwrap_or(0) % members.min(6)
}

/// A message to be sealed: who sends it, to whom, at what level, within the circle or not.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Index of the sender.
    pub from: usize,
    /// Indices of the recipients.
    pub to: Vec<usize>,
    /// Level.
    pub level: Level,
    /// Whether the label names the circle ICCB.
    pub circle: bool,
    /// Precedence.
    pub precedence: Precedence,
    /// Lifetime, in milliseconds.
    pub lifetime: u64,
    /// Body.
    pub body: Vec<u8>,
}

impl Draft {
    /// Whether a member may have it, by the facts alone. Shares nothing with the policy.
    #[must_use]
    pub fn may_reach(&self, (_, level, circle): &Member) -> bool {
        self.level <= *level && (!self.circle || *circle)
    }
}

impl House {
    /// Makes the structure. Its keys are new each time; nothing that is decided depends on them.
    #[must_use]
    pub fn new() -> Self {
        Self::of(members())
    }

    /// Makes a structure of these members.
    #[must_use]
    pub fn of(members: Vec<Member>) -> Self {
        let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
        let validity = Validity {
            from: at(night().as_millis() - 365 * 86_400_000).into(),
            until: at(night().as_millis() + 3650 * 86_400_000).into(),
        };
        let mut authority = Authority::new(STRUCTURE, validity).unwrap_or_else(|e| panic!("{e}"));
        let trust = authority.trust().unwrap_or_else(|e| panic!("{e}"));
        let mut entropy = SeededEntropy::new(7);
        let nodes = members
            .iter()
            .map(|(local, level, circle)| {
                let name = name(local, Kind::Node);
                let mut holds = Clearance::new(*level);
                if *circle {
                    holds = holds.with_circle("ICCB").unwrap_or_else(|e| panic!("{e}"));
                }
                let issued = authority
                    .issue(&name, &holds)
                    .unwrap_or_else(|e| panic!("{e}"));
                let signer = FileSigner::from_der(&issued.certificate, &issued.key_pkcs8())
                    .unwrap_or_else(|e| panic!("{e}"));
                let certificate =
                    Certificate::parse_der(&issued.certificate).unwrap_or_else(|e| panic!("{e}"));
                let vaststeller = Name::new(&format!("p-{local}"), Kind::Person, STRUCTURE)
                    .unwrap_or_else(|e| panic!("{e}"));
                let persons = authority
                    .issue(&vaststeller, &holds)
                    .unwrap_or_else(|e| panic!("{e}"));
                let vaststeller = FileSigner::from_der(&persons.certificate, &persons.key_pkcs8())
                    .unwrap_or_else(|e| panic!("{e}"));
                let secret = SealSecret::generate(&mut entropy);
                let persons_secret = SealSecret::generate(&mut entropy);
                let published = |secret: &SealSecret, by: &FileSigner| {
                    let until = night().after(400 * 86_400_000);
                    let package = secret.package(by.certificate().name(), until);
                    sign_statement(&package, by)
                        .ok()
                        .and_then(|p| verify_statement(p, &trust, night()).ok())
                        .unwrap_or_else(|| panic!("a key package"))
                };
                let package = published(&secret, &signer);
                let persons_package = published(&persons_secret, &vaststeller);
                Node {
                    name,
                    issued,
                    certificate,
                    signer,
                    secret,
                    package,
                    persons_secret,
                    persons_package,
                    vaststeller,
                    persons,
                }
            })
            .collect();
        Self {
            authority,
            trust,
            nodes,
            members,
            receipts: Mutex::default(),
        }
    }

    /// The broker's name.
    #[must_use]
    pub fn broker(&self) -> Name {
        name("b1", Kind::Broker)
    }

    /// A certificate and key for the broker.
    #[must_use]
    pub fn broker_identity(&mut self) -> Option<ordonnans_transport::Identity> {
        let name = self.broker();
        let issued = self
            .authority
            .issue(&name, &Clearance::new(Level::Ongerubriceerd))
            .ok()?;
        ordonnans_transport::Identity::from_der(
            vec![issued.certificate.to_vec()],
            issued.key_pkcs8(),
        )
        .ok()
    }

    /// Which node has this name.
    #[must_use]
    pub fn index(&self, name: &Name) -> Option<usize> {
        self.nodes.iter().position(|n| n.name == *name)
    }

    /// Seals and signs a message, made at `at`.
    #[must_use]
    pub fn seal(&self, d: &Draft, at: Timestamp, entropy: &mut dyn Entropy) -> Verified<Envelope> {
        self.seal_with(d, at, entropy, |_| ())
    }

    /// The same, with another header.
    #[must_use]
    pub fn seal_with(
        &self,
        d: &Draft,
        at: Timestamp,
        entropy: &mut dyn Entropy,
        change: impl FnOnce(&mut Header),
    ) -> Verified<Envelope> {
        self.seal_as(d, at, entropy, d.level > Level::Ongerubriceerd, change)
    }

    /// The same, without the statement of its vaststeller.
    #[must_use]
    pub fn seal_unstated(
        &self,
        d: &Draft,
        at: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Verified<Envelope> {
        self.seal_as(d, at, entropy, false, |_| ())
    }

    /// The content and the statement of a message once more, under another id.
    #[must_use]
    pub fn seal_again(&self, d: &Draft, first: &Envelope, at: Timestamp) -> Verified<Envelope> {
        let (from, to) = (&self.nodes[d.from], &self.nodes[d.to[0]]);
        let verified =
            verify_envelope(first.clone(), &self.trust, at).unwrap_or_else(|e| panic!("{e}"));
        let content = open(&verified, std::slice::from_ref(&to.secret), &to.name)
            .unwrap_or_else(|e| panic!("{e}"))
            .content;
        let header = Header {
            id: MessageId::new(at, [0xaa; 10]),
            ..first.header().clone()
        };
        let keys = [to.package.clone()];
        let sealed = seal(
            header,
            &content,
            &keys,
            &from.signer,
            &mut SeededEntropy::new(3),
        )
        .unwrap_or_else(|e| panic!("{e}"));
        verify_envelope(sealed, &self.trust, at).unwrap_or_else(|e| panic!("{e}"))
    }

    /// A message passed on as it is, by one that it is for, to others; of the draft, content and level are those of the message.
    #[must_use]
    pub fn pass_on(
        &self,
        d: &Draft,
        parent: &Envelope,
        at: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Verified<Envelope> {
        let from = &self.nodes[d.from];
        let verified =
            verify_envelope(parent.clone(), &self.trust, at).unwrap_or_else(|e| panic!("{e}"));
        let content = open(&verified, std::slice::from_ref(&from.secret), &from.name)
            .unwrap_or_else(|e| panic!("{e}"))
            .content;
        let mut random = [0; 10];
        entropy.fill(&mut random);
        let to = d.to.iter().map(|i| &self.nodes[*i]);
        let recipient = |n: &Node| Recipient {
            node: n.name.clone(),
            person: None,
            role: Role::Action,
            precedence: d.precedence,
        };
        let header = Header {
            id: MessageId::new(at, random),
            originator: from.name.clone(),
            recipients: to.clone().map(recipient).collect(),
            created: at,
            expires: at.after(d.lifetime),
            reply_by: None,
            references: vec![],
            supersedes: None,
            groups: vec![],
            passed: Some(PassedOn {
                how: How::AsItIs,
                parent: parent.header().id,
                second: None,
            }),
            ..parent.header().clone()
        };
        let keys: Vec<_> = to.map(|n| n.package.clone()).collect();
        let sealed =
            seal(header, &content, &keys, &from.signer, entropy).unwrap_or_else(|e| panic!("{e}"));
        verify_envelope(sealed, &self.trust, at).unwrap_or_else(|e| panic!("{e}"))
    }

    fn seal_as(
        &self,
        d: &Draft,
        at: Timestamp,
        entropy: &mut dyn Entropy,
        stated: bool,
        change: impl FnOnce(&mut Header),
    ) -> Verified<Envelope> {
        let from = &self.nodes[d.from];
        let mut random = [0; 10];
        entropy.fill(&mut random);
        let none = sha256(&[]);
        let circle = if d.circle { " // KRING ICCB" } else { "" };
        let label = if d.level == Level::Ongerubriceerd {
            format!("{}{circle}", d.level)
        } else {
            format!(
                "{}{circle} // TOT 2036-01-01 // VASTGESTELD {}",
                d.level,
                from.vaststeller.certificate().name()
            )
        };
        let person = |i: &usize| {
            (d.level >= Level::StgG)
                .then(|| name(&format!("p-{}", self.members[*i].0), Kind::Person))
        };
        let mut header = Header {
            id: MessageId::new(at, random),
            originator: from.name.clone(),
            author: None,
            label: label.parse().unwrap_or_else(|e| panic!("{e}")),
            recipients: d
                .to
                .iter()
                .map(|i| Recipient {
                    node: self.nodes[*i].name.clone(),
                    person: person(i),
                    role: Role::Action,
                    precedence: d.precedence,
                })
                .collect(),
            exercise: true,
            created: at,
            expires: at.after(d.lifetime),
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
            act: None,
            groups: vec![],
            passed: None,
        };
        let mut salt = [0; 32];
        entropy.fill(&mut salt);
        let content = Content {
            salt,
            subject: "s".into(),
            media_type: "text/plain".into(),
            body: d.body.clone(),
            ..Content::default()
        };
        change(&mut header);
        if stated {
            let act = self.establishes(d.from, header.label.clone(), content.digest(), at);
            header.act = Some(act);
        }
        let keys: Vec<_> =
            d.to.iter()
                .map(|i| &self.nodes[*i])
                .flat_map(|n| [n.package.clone(), n.persons_package.clone()])
                .collect();
        let sealed =
            seal(header, &content, &keys, &from.signer, entropy).unwrap_or_else(|e| panic!("{e}"));
        verify_envelope(sealed, &self.trust, at).unwrap_or_else(|e| panic!("{e}"))
    }

    /// What the vaststeller of a node signs before a message is sent.
    #[must_use]
    pub fn establishes(
        &self,
        node: usize,
        label: Label,
        subject: Digest,
        at: Timestamp,
    ) -> SignedAct {
        let n = &self.nodes[node];
        let act = Act {
            kind: ActKind::Establish,
            subject,
            label,
            node: n.name.clone(),
            by: n.vaststeller.certificate().name().clone(),
            at,
            follows: None,
        };
        sign_statement(&act, &n.vaststeller).unwrap_or_else(|e| panic!("{e}"))
    }

    /// What revises or ends the label of a message of that node.
    #[must_use]
    pub fn revises(
        &self,
        by: usize,
        first: &Envelope,
        follows: Digest,
        kind: ActKind,
        label: &str,
    ) -> Option<SignedAct> {
        let established = first.header().act.as_ref()?.said();
        let signer = &self.nodes[by].vaststeller;
        let who = signer.certificate().name().clone();
        let act = Act {
            kind,
            label: format!("{label} // VASTGESTELD {who}").parse().ok()?,
            by: who,
            follows: Some(Follows {
                message: first.header().id,
                act: follows,
            }),
            ..established.clone()
        };
        sign_statement(&act, signer).ok()
    }

    /// The receipt of a node for a message, signed once and given again.
    #[must_use]
    pub fn receipt(
        &self,
        envelope: &Envelope,
        node: usize,
        kind: ReceiptKind,
    ) -> Verified<SignedReceipt> {
        let id = envelope.header().id;
        let mut kept = self.receipts.lock().unwrap_or_else(|e| e.into_inner());
        kept.entry((id, node, kind.code()))
            .or_insert_with(|| {
                let n = &self.nodes[node];
                let receipt = Receipt {
                    message: id,
                    envelope: envelope.digest(),
                    kind,
                    by: n.name.clone(),
                    at: night(),
                };
                sign_statement(&receipt, &n.signer)
                    .ok()
                    .and_then(|r| verify_statement(r, &self.trust, night()).ok())
                    .unwrap_or_else(|| panic!("a receipt"))
            })
            .clone()
    }
}

impl Default for House {
    fn default() -> Self {
        Self::new()
    }
}
