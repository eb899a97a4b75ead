//! Attachments on their way to the broker and from it.

use std::io::SeekFrom;
use std::sync::Arc;

use bytes::Bytes;
use ordonnans_message::cbor::{DecodeError, Reader, Writer, exactly};
use ordonnans_message::{Digest, limits};
use ordonnans_store::{AttachmentError, Upload};
use ordonnans_transport::{BulkRecv, Connection};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::desk::Desk;

/// Bytes read before they are written.
const CHUNK: usize = 256 * 1024;

/// The head of a stream of attachment bytes: which, and from where.
fn head(digest: &Digest, offset: u64) -> Bytes {
    let mut w = Writer::default();
    w.array(2).bytes(digest.as_bytes()).uint(offset);
    w.into_bytes().into()
}

fn read_head(bytes: &[u8]) -> Result<(Digest, u64), DecodeError> {
    let read = |r: &mut Reader<'_>| {
        r.tuple("bulk head", 2)?;
        let digest = Digest::from(r.fixed::<32>("digest")?);
        Ok((digest, r.uint("offset", limits::MAX_ATTACHMENT)?))
    };
    exactly(bytes, read, |(digest, offset), w| {
        w.array(2).bytes(digest.as_bytes()).uint(*offset);
    })
}

/// Sends an attachment from an offset on. If it breaks off, the broker is asked what it has and it goes on from there.
pub(crate) async fn upload(
    desk: &Desk,
    connection: &Connection,
    digest: Digest,
    offset: u64,
) -> std::io::Result<()> {
    let mut file = tokio::fs::File::from_std(desk.attachments.read(&digest)?);
    file.seek(SeekFrom::Start(offset)).await?;
    let mut bulk = connection
        .send_bulk(head(&digest, offset))
        .await
        .map_err(std::io::Error::other)?;
    tokio::io::copy(&mut file, &mut bulk).await?;
    bulk.flush().await?;
    bulk.finish()
}

/// Takes the bytes of an attachment we asked for. Gives which, and whether it is whole now.
pub(crate) async fn download(
    desk: &Arc<Desk>,
    wanted: impl Fn(&Digest) -> Option<u64>,
    bytes: &[u8],
    mut stream: BulkRecv,
) -> Option<(Digest, bool)> {
    let (digest, offset) = read_head(bytes).ok()?;
    let length = wanted(&digest)?;
    let (have, whole) = desk.attachments.have(&digest);
    if whole || have != offset {
        return Some((digest, whole));
    }
    let taken = async {
        let mut upload = desk.attachments.upload(digest, length)?;
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            let ended = (&mut stream)
                .take(CHUNK as u64)
                .read_to_end(&mut chunk)
                .await;
            let last = chunk.len() < CHUNK || ended.is_err();
            upload = blocking(move || {
                let mut upload: Upload = upload;
                upload.append(&chunk).map(|()| upload)
            })
            .await?;
            if last {
                return blocking(move || upload.finish()).await;
            }
        }
    };
    match taken.await {
        Ok(whole) => Some((digest, whole)),
        Err(why) => {
            tracing::warn!(%digest, %why, "an attachment was not kept");
            Some((digest, false))
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AttachmentError> + Send + 'static,
) -> Result<T, AttachmentError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(std::io::Error::other(e).into()))
}
