//! Attachments on their way to the broker and from it.

use std::io::SeekFrom;

use ordonnans_message::BulkHead;
use ordonnans_store::{AttachmentError, Upload};
use ordonnans_transport::{BulkRecv, Connection};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::desk::Desk;
use crate::machine::Transfer;

/// Bytes read before they are written.
const CHUNK: usize = 256 * 1024;

/// Sends an attachment from an offset on. If it breaks off, the broker is asked what it has and it goes on from there.
pub(crate) async fn upload(
    desk: &Desk,
    connection: &Connection,
    transfer: Transfer,
) -> std::io::Result<()> {
    let Transfer { digest, offset, .. } = transfer;
    let mut file = tokio::fs::File::from_std(desk.sealed.read(&digest)?);
    file.seek(SeekFrom::Start(offset)).await?;
    let mut bulk = connection
        .send_bulk(BulkHead { digest, offset }.encode())
        .await
        .map_err(std::io::Error::other)?;
    tokio::io::copy(&mut file, &mut bulk).await?;
    bulk.flush().await?;
    bulk.finish()
}

/// Takes the bytes of an attachment we asked for. Gives whether it is whole now.
pub(crate) async fn download(desk: &Desk, transfer: Transfer, mut stream: BulkRecv) -> bool {
    let Transfer { digest, length, .. } = transfer;
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
    taken.await.unwrap_or_else(|why: AttachmentError| {
        tracing::warn!(%digest, %why, "an attachment was not kept");
        false
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AttachmentError> + Send + 'static,
) -> Result<T, AttachmentError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(std::io::Error::other(e).into()))
}
