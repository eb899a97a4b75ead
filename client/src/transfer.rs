//! Attachments on their way to the broker and from it.

use std::future::ready;
use std::io::SeekFrom;

use ordonnans_message::BulkHead;
use ordonnans_transport::{BulkRecv, Connection};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::desk::Desk;
use crate::machine::Transfer;

/// Bytes of an attachment that are read at once.
const PIECE: usize = 256 << 10;

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
    // In pieces that cost few turns on the disk's threads.
    let mut file = tokio::io::BufReader::with_capacity(PIECE, file);
    tokio::io::copy_buf(&mut file, &mut bulk).await?;
    bulk.flush().await?;
    bulk.finish()
}

/// Takes the bytes of an attachment we asked for. Gives whether it is whole now.
pub(crate) async fn download(desk: &Desk, transfer: Transfer, mut stream: BulkRecv) -> bool {
    let Transfer {
        digest,
        length,
        offset,
    } = transfer;
    let taken = desk
        .attachments
        .receive(digest, length, offset, &mut stream, |_| ready(()))
        .await;
    taken.map_or_else(
        |why| {
            tracing::warn!(%digest, %why, "an attachment was not kept");
            false
        },
        |(_, whole)| whole,
    )
}
