//! The daemon renews its own certificate: it asks in time, with the old key, and puts what comes back in the place of what there was.
//!
//! What belongs to a renewal lies in `renewal` in the data folder: `key.pem`, the new key; `request.pem`, what is asked; and, once it is there, `cert.pem`.
//! With that the renewal is certain to be finished: key and certificate are put in their places, which are two files, and a daemon that was killed
//! between them finishes it at its start.
//!
//! A key in a token stays the node's: what comes is another certificate on it, for only a person can say how the next one is called there.

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ordonnans_identity::{
    Certificate, FileSigner, KeyError, KeyPlace, Renewal, SecretKey, Signer, Usage,
    certificate_request, pem, read_secret_file, replace_file, replace_secret_file, sync_folder_of,
};
use ordonnans_message::{Digest, Frame, ReplyCode};

use crate::config::Config;
use crate::desk::{Desk, lock};

/// How long it waits before it asks again, at first and at most. The broker hears one request of a node in a minute.
const FIRST: Duration = Duration::from_secs(61);
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Why the node does not take a certificate that it was given, or why its renewal does not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRenewed {
    #[error("no renewal was asked for")]
    Unasked,
    #[error("the certificate that came cannot be read")]
    Form,
    #[error("the certificate that came names another subject")]
    Name,
    #[error("the certificate that came is not on the key that was asked for")]
    Key,
    #[error("the certificate that came is not believed: {0}")]
    Untrusted(&'static str),
    #[error("the certificate that came does not outlive the one there is")]
    Life,
    #[error("the key for the next certificate: {0}")]
    Secret(#[from] KeyError),
    #[error("the request could not be signed: {0}")]
    Sign(#[from] ordonnans_identity::SignError),
    #[error("{path} cannot be written: {why}")]
    Place { path: PathBuf, why: io::Error },
    #[error("the new certificate and key are in their place and cannot be used: {0}")]
    Use(String),
    #[error("the broker does not take the request: {0}")]
    Answer(&'static str),
}

/// How far the renewal is, in this run.
#[derive(Debug, Default)]
pub(crate) struct Renewing {
    /// Not to be asked before then.
    next: Option<Instant>,
    wait: Option<Duration>,
    /// The frame that was said last.
    said: Option<Digest>,
    /// Whether the broker keeps what was asked.
    kept: bool,
    /// What is in the way.
    trouble: Option<String>,
}

/// The files of a renewal.
struct Files {
    key: PathBuf,
    request: PathBuf,
    certificate: PathBuf,
}

impl Files {
    fn of(config: &Config) -> Self {
        let folder = config.data.join("renewal");
        Self {
            key: folder.join("key.pem"),
            request: folder.join("request.pem"),
            certificate: folder.join("cert.pem"),
        }
    }

    /// Where the key of the next certificate is.
    fn key_of(&self, config: &Config) -> KeyPlace {
        match config.key.file() {
            Some(_) => config.key.at_file(&self.key),
            None => config.key.clone(),
        }
    }

    /// Whether that is there already.
    fn has_key_of(&self, config: &Config) -> bool {
        config.key.file().is_none() || self.key.exists()
    }

    /// The certificate first: what is left without it is a renewal that was not answered.
    fn remove(&self) {
        for file in [&self.certificate, &self.request, &self.key] {
            drop(fs::remove_file(file));
        }
    }
}

fn place(path: &Path) -> impl Fn(io::Error) -> NotRenewed + '_ {
    move |why| NotRenewed::Place {
        path: path.into(),
        why,
    }
}

/// A file beside another, whole and synced, that is to take its place.
fn draft(path: &Path, text: &str) -> io::Result<PathBuf> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(draft)
}

fn put(path: &Path, text: &str) -> Result<(), NotRenewed> {
    replace_file(path, text.as_bytes(), 0o666).map_err(place(path))
}

/// Puts key and certificate of a renewal in the places that the configuration names. A key in a token is in its place.
fn put_in_place(config: &Config, files: &Files) -> Result<(), NotRenewed> {
    let secret = match config.key.file() {
        Some(file) => Some((file, read_secret_file(&files.key).map_err(KeyError::from)?)),
        None => None,
    };
    let chain = fs::read_to_string(&files.certificate).map_err(place(&files.certificate))?;
    // The second place is made ready before the first is changed: where one cannot be written to, neither is touched.
    let ready = draft(&config.certificate, &chain).map_err(place(&config.certificate))?;
    if let Some(Err(e)) = secret.map(|(file, secret)| replace_secret_file(file, &secret)) {
        drop(fs::remove_file(ready));
        return Err(KeyError::from(e).into());
    }
    fs::rename(ready, &config.certificate)
        .and_then(|()| sync_folder_of(&config.certificate))
        .map_err(place(&config.certificate))
}

/// Finishes a renewal that a daemon was killed in: its certificate is there, and was checked before it was written.
///
/// # Errors
/// The places cannot be written to. What lies in them is as it was; where that is half of a change it does not fit, and the daemon does not start.
pub(crate) fn finish(config: &Config) -> Result<(), NotRenewed> {
    let files = Files::of(config);
    let read = |path: &Path| Certificate::from_pem(&fs::read(path).ok()?).ok();
    let Some(new) = read(&files.certificate) else {
        return Ok(());
    };
    // A person may have put a later one there meanwhile.
    let later = |old: Certificate| old.not_after() >= new.not_after();
    if !read(&config.certificate).is_some_and(later) {
        put_in_place(config, &files)?;
    }
    files.remove();
    Ok(())
}

impl Desk {
    /// The request that is due now, if one is.
    pub(crate) fn renewal_due(&self, now: Instant) -> Option<Frame> {
        let (signer, at) = (self.signer(), self.now());
        let certificate = signer.certificate();
        let due = certificate.is_within(self.config.renew_percent, at);
        if !due || certificate.not_after() <= at {
            return None;
        }
        let mut state = lock(&self.renewing);
        if state.next.is_some_and(|next| now < next) {
            return None;
        }
        let wait = state.wait.unwrap_or(FIRST);
        state.next = Some(now + wait);
        state.wait = Some((wait * 2).min(LONGEST));
        let asked = self.renewal_frame(&signer);
        let (said, trouble) = match &asked {
            Ok(Some(frame)) => (Some(frame.digest()), None),
            Ok(None) => (None, None),
            Err(why) => {
                tracing::warn!(%why, "the node's certificate is not renewed");
                (None, Some(why.to_string()))
            }
        };
        state.said = said;
        if trouble.is_some() {
            state.trouble = trouble;
        }
        asked.ok().flatten()
    }

    /// What is to be asked; nothing where the certificate is here already, and is put in its place now.
    fn renewal_frame(&self, old: &FileSigner) -> Result<Option<Frame>, NotRenewed> {
        let files = Files::of(&self.config);
        if files.certificate.exists() {
            self.take_into_use(&files)?;
            return Ok(None);
        }
        let folder = self.config.data.join("renewal");
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
        builder.create(&folder).map_err(place(&folder))?;
        let renewal = match self.asked_before(&files, old) {
            Some(renewal) => renewal,
            None => {
                drop(fs::remove_file(&files.request));
                let at = files.key_of(&self.config);
                let key = if files.has_key_of(&self.config) {
                    SecretKey::open(&at)?
                } else {
                    SecretKey::generate_like(&at, &self.config.key)?
                };
                let renewal = Renewal::sign(certificate_request(&self.name, &key)?, old)?;
                put(&files.request, &renewal.to_pem())?;
                renewal
            }
        };
        Ok(Some(Frame::RenewalAsk {
            request: Bytes::copy_from_slice(renewal.request()),
            signature: Bytes::copy_from_slice(renewal.signature()),
        }))
    }

    /// The request that was made before, where it is by the certificate in use: the same bytes, so that it is no news to the broker.
    fn asked_before(&self, files: &Files, old: &FileSigner) -> Option<Renewal> {
        let renewal = Renewal::from_pem(&fs::read(&files.request).ok()?).ok()?;
        let same = files.has_key_of(&self.config) && renewal.old() == old.certificate();
        same.then_some(renewal)
    }

    /// Takes an answer to a request; `None` where it is about something else.
    pub(crate) fn renewal_answered(&self, of: &Digest, code: Option<ReplyCode>) -> Option<()> {
        let mut state = lock(&self.renewing);
        if state.said.as_ref() != Some(of) {
            return None;
        }
        state.kept = code.is_none();
        let why = match code {
            None => None,
            Some(ReplyCode::Unsupported) => Some("it keeps no requests for whoever signs"),
            Some(ReplyCode::NotAuthentic) => Some("the old key has not signed it"),
            Some(_) => Some("it is not heard"),
        };
        state.trouble = why.map(|why| NotRenewed::Answer(why).to_string());
        match &state.trouble {
            Some(why) => tracing::warn!(why, "the node's certificate is not renewed"),
            None => tracing::info!("the broker keeps the request for the node's next certificate"),
        }
        Some(())
    }

    /// Takes the certificate that was asked for, puts it in place with its key, and uses it from now on.
    pub(crate) fn renewed(&self, der: &[u8]) -> Result<(), NotRenewed> {
        let done = self.take_renewed(der);
        let trouble = done.as_ref().err().map(ToString::to_string);
        // Given again after it was taken: the broker has not seen it shown yet.
        if !matches!(done, Err(NotRenewed::Unasked)) {
            lock(&self.renewing).trouble = trouble;
        }
        done
    }

    fn take_renewed(&self, der: &[u8]) -> Result<(), NotRenewed> {
        let (files, signer) = (Files::of(&self.config), self.signer());
        let asked = fs::read(&files.request).ok();
        let asked = asked.and_then(|text| Renewal::from_pem(&text).ok());
        let asked = asked.ok_or(NotRenewed::Unasked)?;
        let new = Certificate::parse_der(der).map_err(|_| NotRenewed::Form)?;
        if new.name() != &self.name {
            return Err(NotRenewed::Name);
        }
        // The key itself, and not what was written of it: it is the one that must sign.
        let key = SecretKey::open(&files.key_of(&self.config))?;
        let fits = |point: &[u8]| point == new.public_key();
        if !fits(key.public_key()) || !fits(asked.public_key()) {
            return Err(NotRenewed::Key);
        }
        let trust = self.trust();
        let believed = trust.verify(der, Usage::Client, self.now());
        believed.map_err(|e| NotRenewed::Untrusted(e.reason()))?;
        if new.not_after() <= signer.certificate().not_after() {
            return Err(NotRenewed::Life);
        }
        let issuer = trust.issuer_of(der).unwrap_or_default();
        let issuer = (!issuer.is_empty()).then(|| pem("CERTIFICATE", issuer));
        let chain = pem("CERTIFICATE", der) + &issuer.unwrap_or_default();
        put(&files.certificate, &chain)?;
        self.take_into_use(&files)
    }

    fn take_into_use(&self, files: &Files) -> Result<(), NotRenewed> {
        put_in_place(&self.config, files)?;
        files.remove();
        self.reload_signer().map_err(NotRenewed::Use)?;
        *lock(&self.renewing) = Renewing::default();
        Ok(())
    }

    /// What is to be said of a certificate that is due.
    pub(crate) fn renewal_state(&self) -> String {
        let by_hand = "have a new one issued, and put it in the place of this one";
        let state = lock(&self.renewing);
        match &state.trouble {
            Some(why) => format!("{why}; {by_hand}"),
            None if state.kept => "the broker keeps its request for the next one".into(),
            None => by_hand.into(),
        }
    }
}
