//! The folder of renewals: what nodes ask for lies there as `NAME.request.pem` until `NAME.cert.pem` is put beside it, by whoever signs. That goes to the
//! node, and both are removed once the node shows it.
//!
//! Whoever can write this folder can hold a renewal up, and nothing else: a certificate that is not the node's own, on the key it asked for and believed here, is
//! put aside and is an alarm; and the node looks for itself.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ordonnans_engine::{Input, Session};
use ordonnans_identity::{Certificate, Renewal, Trust, Usage, replace_file};
use ordonnans_label::{Kind, Name};
use ordonnans_message::{Digest, Frame, ReplyCode, Timestamp};
use rustix::fs::OFlags;
use tokio::sync::mpsc;

use crate::core::{Out, now};
use crate::session::Shared;

const REQUEST: &str = ".request.pem";
const CERTIFICATE: &str = ".cert.pem";
const REFUSED: &str = ".cert.pem.refused";
/// Bytes of a file in the folder: many times a certificate and those behind it.
const MAX_BYTES: u64 = 64 * 1024;
/// Files that are looked at; more is no folder of renewals.
const MAX_FILES: usize = 20_000;
/// How often the folder is looked at. A file counts once two looks have found it the same, so that one that is being written is left alone.
const LOOK: Duration = Duration::from_secs(1);
/// A node that does not show its new certificate is given it again after this time, in milliseconds.
const AGAIN_MS: u64 = 60_000;

/// A request to keep.
#[derive(Debug)]
pub(crate) struct Keep {
    pub(crate) session: Session,
    pub(crate) node: Name,
    /// SHA-256 of the frame it came in.
    pub(crate) of: Digest,
    pub(crate) text: Bytes,
}

/// Why a certificate in the folder is not given to its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Unfit {
    #[error("it cannot be read: it must be a plain file that the broker may read")]
    Unreadable,
    #[error("it holds no certificate in PEM")]
    Form,
    #[error("its file is not called after a node")]
    FileName,
    #[error("it names another subject")]
    Name,
    #[error("nobody has asked for it: there is no request beside it")]
    Unasked,
    #[error("it is not on the key that was asked for")]
    Key,
    #[error("it is not believed: {0}")]
    Untrusted(&'static str),
    #[error("it does not outlive the one that it is to renew")]
    Life,
}

/// Who is on the line.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// The number of the connection.
    number: u64,
    /// SHA-256 of the certificate that the node shows.
    shows: Digest,
}

/// What a look has found.
#[derive(Debug, PartialEq)]
enum Found {
    Unfit {
        node: Option<Name>,
        why: Unfit,
    },
    /// To be given to its node.
    Signed {
        node: Name,
        certificate: Bytes,
    },
    /// In use, and no longer in the folder.
    Shown {
        node: Name,
        certificate: Digest,
        until: Timestamp,
    },
}

/// By what a file is known as the same.
type Stamp = (u64, Option<SystemTime>);

/// The folder, and what is known of its files.
struct Folder {
    path: PathBuf,
    seen: BTreeMap<String, Stamp>,
    /// When a certificate was given to a node, and on which connection.
    given: BTreeMap<Name, (u64, Timestamp)>,
}

/// Makes the folder, of mode 0700, where there is none.
pub(crate) fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Reads a plain file within its bound; neither a link to what is elsewhere nor a pipe that would be waited for.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut options = File::options();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let options = options.read(true).custom_flags(flags.bits().cast_signed());
    let (file, mut bytes) = (options.open(path)?, vec![]);
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Puts a request in the place of the one that its node had, whole or not at all.
fn keep(folder: &Path, node: &Name, text: &[u8]) -> io::Result<()> {
    let path = folder.join(format!("{node}{REQUEST}"));
    if read(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    replace_file(&path, text, 0o600)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

impl Folder {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            seen: BTreeMap::new(),
            given: BTreeMap::new(),
        }
    }

    /// The certificates that are there, by the name in their file's name, and that are no longer being written.
    fn settled(&mut self) -> io::Result<Vec<String>> {
        let mut stamps = BTreeMap::new();
        for item in fs::read_dir(&self.path)?.take(MAX_FILES) {
            let item = item?;
            let file = item.file_name();
            let Some(of) = file.to_str().and_then(|f| f.strip_suffix(CERTIFICATE)) else {
                continue;
            };
            let about = match item.metadata() {
                Ok(about) if about.is_file() => about,
                _ => continue,
            };
            stamps.insert(of.to_owned(), (about.len(), about.modified().ok()));
        }
        let same =
            |(of, stamp): (&String, &Stamp)| (self.seen.get(of) == Some(stamp)).then(|| of.clone());
        let settled = stamps.iter().filter_map(same).collect();
        self.seen = stamps;
        Ok(settled)
    }

    /// Looks at all of it; what cannot be done with one file holds up no other, and is said last.
    fn look(
        &mut self,
        on_line: &BTreeMap<Name, Line>,
        trust: &Trust,
        at: Timestamp,
    ) -> (Vec<Found>, io::Result<()>) {
        let settled = match self.settled() {
            Ok(settled) => settled,
            Err(e) => return (vec![], Err(e)),
        };
        let (mut found, mut done) = (vec![], Ok(()));
        for of in settled {
            match self.look_at(&of, on_line, trust, at) {
                Ok(one) => found.extend(one),
                Err(e) => done = Err(e),
            }
        }
        (found, done)
    }

    fn look_at(
        &mut self,
        of: &str,
        on_line: &BTreeMap<Name, Line>,
        trust: &Trust,
        at: Timestamp,
    ) -> io::Result<Option<Found>> {
        let file = |ending| self.path.join(format!("{of}{ending}"));
        let node = of.parse().ok().filter(|n: &Name| n.kind() == Kind::Node);
        let line = node.as_ref().and_then(|n| on_line.get(n));
        let read = read(&file(CERTIFICATE)).map_err(|_| Unfit::Unreadable);
        let certificate = read.and_then(|t| Certificate::from_pem(&t).map_err(|_| Unfit::Form));
        let request = self::read(&file(REQUEST)).ok();
        let shown = certificate
            .as_ref()
            .is_ok_and(|c| line.is_some_and(|l| l.shows == c.fingerprint()));
        let judged = judge(node.as_ref(), certificate, request.as_deref(), trust, at);
        let Some(node) = node else {
            fs::rename(file(CERTIFICATE), file(REFUSED))?;
            let why = Unfit::FileName;
            return Ok(Some(Found::Unfit { node, why }));
        };
        match judged {
            // What is shown on the line has been believed. Without its request it is here a second time, and no news.
            judged if shown => {
                remove(&file(CERTIFICATE))?;
                self.given.remove(&node);
                let Ok(c) = judged else {
                    return Ok(None);
                };
                remove(&file(REQUEST))?;
                Ok(Some(Found::Shown {
                    node,
                    certificate: c.fingerprint(),
                    until: c.not_after(),
                }))
            }
            Err(why) => {
                fs::rename(file(CERTIFICATE), file(REFUSED))?;
                let node = Some(node);
                Ok(Some(Found::Unfit { node, why }))
            }
            Ok(c) => {
                let Some(line) = line else {
                    return Ok(None);
                };
                let soon = |t: Timestamp| t <= at && at.since(t) < AGAIN_MS;
                let given = self.given.get(&node);
                if given.is_some_and(|(number, t)| *number == line.number && soon(*t)) {
                    return Ok(None);
                }
                self.given.insert(node.clone(), (line.number, at));
                let certificate = Bytes::copy_from_slice(c.der());
                Ok(Some(Found::Signed { node, certificate }))
            }
        }
    }
}

/// Whether a certificate is what its node has asked for.
fn judge(
    node: Option<&Name>,
    certificate: Result<Certificate, Unfit>,
    request: Option<&[u8]>,
    trust: &Trust,
    at: Timestamp,
) -> Result<Certificate, Unfit> {
    let node = node.ok_or(Unfit::FileName)?;
    let certificate = certificate?;
    if certificate.name() != node {
        return Err(Unfit::Name);
    }
    let request = request.and_then(|text| Renewal::from_pem(text).ok());
    let request = request.ok_or(Unfit::Unasked)?;
    if certificate.public_key() != request.public_key() {
        return Err(Unfit::Key);
    }
    let believed = trust.verify(certificate.der(), Usage::Client, at);
    believed.map_err(|e| Unfit::Untrusted(e.reason()))?;
    if certificate.not_after() <= request.old().not_after() {
        return Err(Unfit::Life);
    }
    Ok(certificate)
}

/// What is to be said of a request: it goes on to the engine, or is refused.
pub(crate) fn asked(
    session: Session,
    of: Digest,
    peer: &Certificate,
    request: &Bytes,
    signature: &Bytes,
) -> Input {
    match Renewal::check(request.to_vec(), peer.clone(), signature.to_vec()) {
        Ok(renewal) => Input::RenewalAsked {
            session,
            of,
            request: ordonnans_message::sha256(&[request]),
            text: renewal.to_pem().into(),
        },
        Err(_) => Input::NotKept {
            session,
            of,
            code: ReplyCode::NotAuthentic,
        },
    }
}

/// Keeps what nodes ask for and gives them what was signed, until the broker stops.
pub(crate) async fn run(
    shared: Arc<Shared>,
    path: PathBuf,
    mut requests: mpsc::UnboundedReceiver<Keep>,
) {
    let mut every = tokio::time::interval(LOOK);
    let mut folder = Folder::new(path.clone());
    let mut failing = false;
    loop {
        let done = tokio::select! {
            one = requests.recv() => match one {
                None => return,
                Some(one) => keep_one(&shared, &path, one).await,
            },
            _ = every.tick() => {
                let (on_line, trust) = (on_line(&shared), shared.trust());
                let look = move || {
                    let found = folder.look(&on_line, &trust, now());
                    (folder, found)
                };
                // The task was cancelled: the broker stops.
                let Ok((back, found)) = tokio::task::spawn_blocking(look).await else {
                    return;
                };
                folder = back;
                let (found, done) = found;
                for one in found {
                    shared.tell(told(one)).await;
                }
                done
            }
        };
        match done {
            Ok(()) => failing = false,
            Err(why) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(folder = %path.display(), %why, "the folder of renewals cannot be used");
                    let note = "the folder of renewals cannot be used".into();
                    shared.tell(Input::Alarm { who: None, note }).await;
                }
            }
        }
    }
}

async fn keep_one(shared: &Shared, path: &Path, one: Keep) -> io::Result<()> {
    let (folder, of, session) = (path.to_owned(), one.of, one.session);
    let kept = tokio::task::spawn_blocking(move || keep(&folder, &one.node, &one.text)).await;
    let kept = kept.map_err(io::Error::other).flatten();
    let answer = match &kept {
        Ok(()) => Frame::Kept { of },
        Err(_) => Frame::NotKept {
            of,
            code: ReplyCode::Busy,
            rule: None,
        },
    };
    shared.sessions.tell(session, Out::Frame(answer));
    kept
}

fn on_line(shared: &Shared) -> BTreeMap<Name, Line> {
    let all = shared.sessions.connections().into_iter();
    let nodes = all.filter(|c| c.peer().name().kind() == Kind::Node);
    // The newest connection of a node counts, and has the highest number.
    let line = |c: ordonnans_transport::Connection| {
        let line = Line {
            number: c.id(),
            shows: c.peer().fingerprint(),
        };
        (c.peer().name().clone(), line)
    };
    nodes.map(line).collect()
}

fn told(found: Found) -> Input {
    match found {
        Found::Unfit { node, why } => {
            tracing::warn!(node = node.as_ref().map(tracing::field::display), %why, "a certificate in the folder of renewals is refused");
            let note = format!("a certificate in the folder of renewals is refused: {why}");
            Input::Alarm { who: node, note }
        }
        Found::Signed { node, certificate } => Input::RenewalSigned { node, certificate },
        Found::Shown {
            node,
            certificate,
            until,
        } => {
            tracing::info!(%node, %until, "a certificate was renewed");
            Input::Renewed {
                node,
                certificate,
                until,
            }
        }
    }
}
