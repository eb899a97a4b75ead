//! Attachments on the line: streams of their own, below everything else.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::connection::{CloseCode, Closed, Connection, Line};

/// Bytes of what stands at the head of such a stream.
const MAX_HEADER: usize = 256;
/// Below every precedence class.
const PRIORITY: i32 = -1;

/// Bytes going out. Dropped before [`Self::finish`], the stream is reset and the other end knows that it is not all.
#[derive(Debug)]
pub struct BulkSend {
    stream: SendStream,
    finished: bool,
    // One of the places that all streams of the connection share.
    _place: OwnedSemaphorePermit,
}

impl BulkSend {
    /// Marks the end: these were all bytes.
    ///
    /// # Errors
    /// The stream was closed.
    pub fn finish(mut self) -> io::Result<()> {
        self.finished = true;
        self.stream.finish().map_err(io::Error::other)
    }
}

impl Drop for BulkSend {
    fn drop(&mut self) {
        if !self.finished {
            // Closed already is as good.
            let _ = self.stream.reset(quinn::VarInt::from_u32(0));
        }
    }
}

impl AsyncWrite for BulkSend {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.stream), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.stream), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finished = true;
        AsyncWrite::poll_shutdown(Pin::new(&mut self.stream), cx)
    }
}

/// Bytes coming in; an end that is not the end reads as an error.
#[derive(Debug)]
pub struct BulkRecv(RecvStream);

impl AsyncRead for BulkRecv {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.0), cx, buffer)
    }
}

impl Connection {
    /// Opens a stream for bulk bytes, with what the other end must know first (at most 256 bytes). Waits for a place: all such streams
    /// together stay below the connection's send window.
    ///
    /// # Errors
    /// [`Closed`].
    ///
    /// # Panics
    /// Where `header` is longer.
    pub async fn send_bulk(&self, header: Bytes) -> Result<BulkSend, Closed> {
        assert!(header.len() <= MAX_HEADER, "the head of a bulk stream");
        let inner = &self.0;
        let Ok(place) = Arc::clone(&inner.places).acquire_owned().await else {
            return Err(self.why_closed());
        };
        let Ok(mut stream) = inner.line.quinn.open_uni().await else {
            return Err(self.closed().await);
        };
        let _ = stream.set_priority(PRIORITY);
        let length = u32::try_from(header.len()).unwrap_or(0).to_be_bytes();
        let head = [&length[..], &header].concat();
        if stream.write_all(&head).await.is_err() {
            return Err(self.why_closed());
        }
        Ok(BulkSend {
            stream,
            finished: false,
            _place: place,
        })
    }

    /// The next stream of bulk bytes, and what stands at its head. Cancel-safe.
    ///
    /// # Errors
    /// [`Closed`]; a head that is too long closes the connection.
    pub async fn accept_bulk(&self) -> Result<(Bytes, BulkRecv), Closed> {
        let mut bulk = self.0.bulk.lock().await;
        tokio::select! {
            biased;
            next = bulk.recv() => match next {
                Some(next) => Ok(next),
                None => Err(self.closed().await),
            },
            closed = self.closed() => Err(closed),
        }
    }
}

/// Takes the streams that the peer opens. One that says nothing holds up no other.
pub(crate) async fn accept(line: Arc<Line>, heads: mpsc::Sender<(Bytes, BulkRecv)>) {
    while let Ok(stream) = line.quinn.accept_uni().await {
        tokio::spawn(head(Arc::clone(&line), stream, heads.clone()));
    }
}

/// Reads the head. A stream that is reset before counts as none.
async fn head(line: Arc<Line>, mut stream: RecvStream, heads: mpsc::Sender<(Bytes, BulkRecv)>) {
    let mut length = [0; 4];
    if stream.read_exact(&mut length).await.is_err() {
        return;
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_HEADER {
        return line.close(
            CloseCode::Violation,
            "the head of a bulk stream is too long",
        );
    }
    let mut header = vec![0; length];
    if stream.read_exact(&mut header).await.is_ok() {
        // Nobody takes it once the connection is dropped.
        let _ = heads.send((header.into(), BulkRecv(stream))).await;
    }
}
