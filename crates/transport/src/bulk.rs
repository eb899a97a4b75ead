//! Attachments on the line: streams of their own, below everything else.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::closed::{CloseCode, Closed};
use crate::connection::Connection;
use crate::line::Line;
use crate::tcp::Tls;
use crate::tied::Tied;

/// Bytes of what stands at the head of such a stream.
const MAX_HEADER: usize = 256;

/// The way out of an attachment's bytes.
pub(crate) enum Sending {
    Quic(SendStream),
    Tcp(Box<Tied<Tls>>),
}

/// Bytes going out. Dropped before [`Self::finish`], the stream is reset and the other end knows that it is not all.
pub struct BulkSend {
    // Taken only when it is dropped.
    stream: Option<Sending>,
    finished: bool,
    // One of the places that all streams of the connection share.
    place: Option<OwnedSemaphorePermit>,
}

impl std::fmt::Debug for BulkSend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BulkSend")
    }
}

impl BulkSend {
    /// Marks the end: these were all bytes.
    ///
    /// # Errors
    /// The stream was closed.
    pub fn finish(mut self) -> io::Result<()> {
        self.finished = true;
        match &mut self.stream {
            Some(Sending::Quic(stream)) => stream.finish().map_err(io::Error::other),
            // The end is written when it is dropped.
            _ => Ok(()),
        }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut (dyn AsyncWrite + Send + Unpin)>> {
        match &mut self.stream {
            Some(Sending::Quic(stream)) => Ok(Pin::new(stream)),
            Some(Sending::Tcp(stream)) => Ok(Pin::new(&mut **stream)),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for BulkSend {
    fn drop(&mut self) {
        match self.stream.take() {
            Some(Sending::Quic(mut stream)) if !self.finished => {
                // Closed already is as good.
                let _ = stream.reset(quinn::VarInt::from_u32(0));
            }
            // The other end knows a whole one by TLS's own end (RFC 8446 section 6.1). The place is free when the peer has read it to there.
            Some(Sending::Tcp(stream)) if self.finished => {
                if let Ok(runtime) = Handle::try_current() {
                    let place = self.place.take();
                    runtime.spawn(async move {
                        stream.finish().await;
                        drop(place);
                    });
                }
            }
            _ => {}
        }
    }
}

impl AsyncWrite for BulkSend {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finished = true;
        self.stream()?.poll_shutdown(cx)
    }
}

/// The way in.
pub(crate) enum Receiving {
    Quic(RecvStream),
    /// The place is given back before the connection is closed: the peer takes the end for a free place.
    Tcp {
        _place: OwnedSemaphorePermit,
        stream: Box<Tied<Tls>>,
    },
}

/// Bytes coming in; an end that is not the end reads as an error.
pub struct BulkRecv(pub(crate) Receiving);

impl std::fmt::Debug for BulkRecv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BulkRecv")
    }
}

impl AsyncRead for BulkRecv {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Receiving::Quic(stream) => AsyncRead::poll_read(Pin::new(stream), cx, buffer),
            Receiving::Tcp { stream, .. } => Pin::new(&mut **stream).poll_read(cx, buffer),
        }
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
        let length = u32::try_from(header.len()).unwrap_or(0).to_be_bytes();
        let head = [&length[..], &header].concat();
        let Ok(stream) = inner.line.open_bulk(&head).await else {
            return Err(self.closed().await);
        };
        Ok(BulkSend {
            stream: Some(stream),
            finished: false,
            place: Some(place),
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

/// Reads the head of a stream that the peer opened. One that is reset before counts as none.
pub(crate) async fn head(line: Line, mut stream: BulkRecv, heads: mpsc::Sender<(Bytes, BulkRecv)>) {
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
        let _ = heads.send((header.into(), stream)).await;
    }
}
