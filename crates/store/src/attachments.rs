//! Attachments: files named by the digest of their sealed bytes.
//!
//! While bytes arrive the file ends in `.part`; it gets its name once all bytes are durable and lead to the digest. An upload that broke off goes
//! on from the bytes it has.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ordonnans_message::{Blake3Stream, Digest, limits};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, oneshot};

use crate::journal::sync_dir;
use crate::views::stand_back;

/// Bytes after which an upload is made durable beside its writing, so that it resumes from there after a power cut.
const SYNC_EVERY: u64 = 8 << 20;
/// Where the disk is slower than the line, what is not durable may grow so far before the line waits for it.
const SYNC_WITHIN: u64 = 8 * SYNC_EVERY;
/// Bytes read from a stream before they are written.
const CHUNK: usize = 256 * 1024;
/// Such pieces that wait for the disk at most: 4 MiB for each upload.
const AHEAD: usize = 16;
/// Bytes that are read and hashed in one turn of the runtime: some tens of microseconds, so that nothing urgent waits for it.
const TURN: usize = 64 * 1024;

/// Why an attachment was not kept.
#[derive(Debug, thiserror::Error)]
pub enum AttachmentError {
    /// The disk.
    #[error("the attachment cannot be kept: {0}")]
    Io(#[from] io::Error),
    /// More bytes than were announced, or more than [`limits::MAX_ATTACHMENT`].
    #[error("the attachment is larger than announced or allowed")]
    TooLarge,
    /// The bytes lead to another digest. They were thrown away.
    #[error("the attachment is not the one announced; send it again from the start")]
    Digest,
}

/// The folder of attachments.
#[derive(Clone, Debug)]
pub struct AttachmentStore {
    dir: PathBuf,
}

impl AttachmentStore {
    /// Opens or makes the folder.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.into() })
    }

    fn whole(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.to_string())
    }

    fn part(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{digest}.part"))
    }

    /// Bytes held of an attachment, and whether that is all of it.
    #[must_use]
    pub fn have(&self, digest: &Digest) -> (u64, bool) {
        let length = |path: PathBuf| std::fs::metadata(path).ok().map(|m| m.len());
        match length(self.whole(digest)) {
            Some(n) => (n, true),
            None => (length(self.part(digest)).unwrap_or(0), false),
        }
    }

    /// All whole attachments and their lengths.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> io::Result<Vec<(Digest, u64)>> {
        let mut all = vec![];
        for item in std::fs::read_dir(&self.dir)? {
            let item = item?;
            let digest = item.file_name().to_str().and_then(|n| n.parse().ok());
            if let Some(digest) = digest {
                all.push((digest, item.metadata()?.len()));
            }
        }
        Ok(all)
    }

    /// Goes on with an upload from what is held, or begins it.
    ///
    /// # Errors
    /// [`AttachmentError::TooLarge`] above the bound; the disk.
    pub fn upload(&self, digest: Digest, length: u64) -> Result<Upload, AttachmentError> {
        if length > limits::MAX_ATTACHMENT {
            return Err(AttachmentError::TooLarge);
        }
        let path = self.part(&digest);
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).read(true).open(&path)?;
        let mut hash = Blake3Stream::default();
        // What an upload that broke off has left.
        let at = hashed(&mut file, &mut hash)?;
        Ok(Upload {
            store: self.clone(),
            digest,
            length,
            file: Arc::new(file),
            hash,
            at,
            syncing: None,
            synced: at,
        })
    }

    /// Ends an upload all of whose bytes are here, and that was not ended: what should have followed failed. Gives whether it is whole now.
    ///
    /// # Errors
    /// [`AttachmentError`]: as [`Upload::finish`].
    pub async fn complete(&self, digest: Digest, length: u64) -> Result<bool, AttachmentError> {
        let store = self.clone();
        beside(move || store.upload(digest, length)?.finish()).await
    }

    /// Takes the bytes of an attachment from `offset` on, until the stream ends or breaks off; what came before a break stays. Where `offset`
    /// is not how far it is, nothing is taken. Before more is read `turn` is awaited, with the bytes of the last piece: it sets the pace. Gives the
    /// bytes held then, and whether that is all of it. One caller at a time for a digest. Must run to its end: the disk is written beside the runtime.
    ///
    /// # Errors
    /// As [`Upload::append`] and [`Upload::finish`].
    pub async fn receive<T: Future<Output = ()>>(
        &self,
        digest: Digest,
        length: u64,
        offset: u64,
        from: &mut (impl AsyncRead + Unpin),
        turn: impl Fn(usize) -> T,
    ) -> Result<(u64, bool), AttachmentError> {
        let (have, whole) = self.have(&digest);
        if whole || have != offset {
            return Ok((have, whole));
        }
        let store = self.clone();
        let mut upload = beside(move || store.upload(digest, length)).await?;
        let mut hash = std::mem::take(&mut upload.hash);
        // What comes is hashed here, between two pieces, and written behind that: with both in one place the line stood still for the disk's turns.
        let (pieces, to_write) = mpsc::channel(AHEAD);
        // The room of a piece that was written is used again: memory that is new for each costs as much as its bytes.
        let (written, spare) = std::sync::mpsc::channel::<Vec<u8>>();
        let writing = write_beside(upload, to_write, written)?;
        loop {
            let spare = spare.try_recv();
            let mut piece = spare.unwrap_or_else(|_| Vec::with_capacity(CHUNK));
            let last = !fill(&mut piece, from, &mut hash).await;
            let bytes = piece.len();
            // Nobody takes it: the writer has failed, and says why.
            if pieces.send(piece).await.is_err() || last {
                break;
            }
            turn(bytes).await;
        }
        drop(pieces);
        let ended = || io::Error::other("the writing of an attachment ended");
        let mut upload = writing.await.unwrap_or_else(|_| Err(ended().into()))?;
        upload.hash = hash;
        let have = upload.at();
        Ok((have, beside(move || upload.finish()).await?))
    }

    /// A whole attachment, to read from the start.
    ///
    /// # Errors
    /// It is not here.
    pub fn read(&self, digest: &Digest) -> io::Result<File> {
        File::open(self.whole(digest))
    }

    /// Takes over a durable file of this folder's file system whose bytes lead to this digest, as its maker knows.
    ///
    /// # Errors
    /// The disk.
    pub fn adopt(&self, path: &Path, digest: &Digest) -> io::Result<()> {
        std::fs::rename(path, self.whole(digest))?;
        sync_dir(&self.dir)
    }

    /// Removes what uploads have left that broke off and were not gone on with for so long.
    ///
    /// # Errors
    /// What the system says; what was not looked at stays.
    pub fn forget_broken_off(&self, after: Duration) -> io::Result<()> {
        for item in std::fs::read_dir(&self.dir)? {
            let path = item?.path();
            if path.extension().is_none_or(|e| e != "part") {
                continue;
            }
            // One that is gone meanwhile is whole. A clock that was set back makes nothing old.
            let age = std::fs::metadata(&path).and_then(|m| m.modified());
            let age = age.ok().and_then(|t| t.elapsed().ok());
            if age.is_some_and(|a| a > after) {
                std::fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Removes an attachment; one that is not here is removed already.
    ///
    /// # Errors
    /// The disk.
    pub fn remove(&self, digest: &Digest) -> io::Result<()> {
        for path in [self.whole(digest), self.part(digest)] {
            match std::fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Takes a file up to its end; gives its length.
fn hashed(file: &mut File, hash: &mut Blake3Stream) -> io::Result<u64> {
    let (mut buffer, mut all) = (vec![0; CHUNK], 0);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(all);
        }
        hash.update(&buffer[..n]);
        all += n as u64;
    }
}

/// Fills a piece and hashes what comes. Gives whether it is full: otherwise the stream has ended or broken off.
async fn fill(
    piece: &mut Vec<u8>,
    from: &mut (impl AsyncRead + Unpin),
    hash: &mut Blake3Stream,
) -> bool {
    while piece.len() < CHUNK {
        let had = piece.len();
        let most = TURN.min(CHUNK - had) as u64;
        match (&mut *from).take(most).read_buf(piece).await {
            Ok(1..) => hash.update(&piece[had..]),
            Ok(0) | Err(_) => return false,
        }
    }
    true
}

/// Writes pieces on a thread of its own, until none come or one cannot be written. What has been written is given back, to be used again.
fn write_beside(
    mut upload: Upload,
    mut pieces: mpsc::Receiver<Vec<u8>>,
    spare: std::sync::mpsc::Sender<Vec<u8>>,
) -> io::Result<oneshot::Receiver<Result<Upload, AttachmentError>>> {
    let (done, writing) = oneshot::channel();
    let write = move || {
        // What comes from the line is not to wait for a turn of this.
        stand_back();
        let written = loop {
            let Some(mut piece) = pieces.blocking_recv() else {
                break Ok(upload);
            };
            if let Err(why) = upload.write(&piece) {
                break Err(why);
            }
            piece.clear();
            drop(spare.send(piece));
        };
        drop(done.send(written));
    };
    std::thread::Builder::new()
        .name("attachment".into())
        .spawn(write)?;
    Ok(writing)
}

/// Runs what waits for the disk beside the runtime.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AttachmentError> + Send + 'static,
) -> Result<T, AttachmentError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(io::Error::other(e).into()))
}

/// An attachment on its way in.
#[derive(Debug)]
pub struct Upload {
    store: AttachmentStore,
    digest: Digest,
    length: u64,
    file: Arc<File>,
    /// Of the bytes so far.
    hash: Blake3Stream,
    at: u64,
    /// Bytes that are durable or are being made so.
    synced: u64,
    /// The sync of what was written, while more is.
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl Upload {
    /// Bytes held.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`AttachmentError::TooLarge`] beyond the announced length; the disk.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), AttachmentError> {
        self.write(bytes)?;
        self.hash.update(bytes);
        Ok(())
    }

    /// Writes the next bytes, which are hashed elsewhere.
    fn write(&mut self, bytes: &[u8]) -> Result<(), AttachmentError> {
        if self.at + bytes.len() as u64 > self.length {
            return Err(AttachmentError::TooLarge);
        }
        (&*self.file).write_all(bytes)?;
        self.at += bytes.len() as u64;
        let unsynced = self.at - self.synced;
        let under_way = self.syncing.as_ref().is_some_and(|s| !s.is_finished());
        if unsynced >= SYNC_WITHIN || unsynced >= SYNC_EVERY && !under_way {
            self.synced()?;
            let file = Arc::clone(&self.file);
            let beside = std::thread::Builder::new().name("attachment".into());
            match beside.spawn(move || file.sync_data()) {
                Ok(syncing) => self.syncing = Some(syncing),
                // No thread is left.
                Err(_) => self.file.sync_data()?,
            }
            self.synced = self.at;
        }
        Ok(())
    }

    /// Waits for the sync under way.
    fn synced(&mut self) -> io::Result<()> {
        let Some(syncing) = self.syncing.take() else {
            return Ok(());
        };
        let ended = || io::Error::other("the sync of an attachment ended");
        syncing.join().unwrap_or_else(|_| Err(ended()))
    }

    /// Ends the upload. Where all bytes are there, they are checked, made durable and given their name: `true`. Where some are
    /// missing, what is there stays for the next time: `false`.
    ///
    /// # Errors
    /// [`AttachmentError::Digest`] where the bytes are others.
    pub fn finish(mut self) -> Result<bool, AttachmentError> {
        self.synced()?;
        self.file.sync_all()?;
        if self.at < self.length {
            return Ok(false);
        }
        let part = self.store.part(&self.digest);
        if self.hash.finish() != self.digest {
            std::fs::remove_file(&part)?;
            return Err(AttachmentError::Digest);
        }
        // All that may fail for want of something comes before the name: what has it is whole, and whoever asks is told so.
        let folder = File::open(&self.store.dir)?;
        let whole = self.store.whole(&self.digest);
        std::fs::rename(&part, &whole)?;
        if let Err(e) = folder.sync_all() {
            // Not durable, so it never was.
            drop(std::fs::remove_file(&whole));
            return Err(e.into());
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ordonnans_message::blake3;

    #[test]
    fn resumes_checks_and_removes() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = AttachmentStore::open(dir.path()).expect("opens");
        let digest = blake3(b"abcdef");
        let mut up = store.upload(digest, 6).expect("begins");
        up.append(b"abc").expect("takes");
        assert!(!up.finish().expect("keeps"));
        assert_eq!(store.have(&digest), (3, false));
        assert!(store.read(&digest).is_err());
        let mut up = store.upload(digest, 6).expect("goes on");
        assert_eq!(up.at(), 3);
        assert!(matches!(up.append(b"defg"), Err(AttachmentError::TooLarge)));
        up.append(b"def").expect("takes");
        assert!(up.finish().expect("whole"));
        assert_eq!(store.have(&digest), (6, true));
        assert_eq!(store.list().expect("lists"), [(digest, 6)]);
        store.remove(&digest).expect("removes");
        store.remove(&digest).expect("removes twice");
        assert_eq!(store.have(&digest), (0, false));
        let mut up = store.upload(digest, 6).expect("begins");
        up.append(b"xxxxxx").expect("takes");
        assert!(matches!(up.finish(), Err(AttachmentError::Digest)));
        assert_eq!(store.have(&digest), (0, false), "thrown away");
    }
}
