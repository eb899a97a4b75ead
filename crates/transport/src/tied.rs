//! A stream that ends with its session, and when nothing comes for too long.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A stream of a session. One task at a time uses it: the last that waits is woken.
pub(crate) struct Tied<S> {
    stream: S,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Runs while somebody waits for bytes, so that one who does not read in time is not taken for a silent peer.
    silence: Pin<Box<Sleep>>,
    waiting: bool,
    idle_timeout: Duration,
}

impl<S> Tied<S> {
    pub(crate) fn new(stream: S, over: &CancellationToken, idle_timeout: Duration) -> Self {
        Self {
            stream,
            over: Box::pin(over.clone().cancelled_owned()),
            silence: Box::pin(tokio::time::sleep(idle_timeout)),
            waiting: false,
            idle_timeout,
        }
    }

    /// The stream, past the end of its session.
    pub(crate) fn untied(&mut self) -> &mut S {
        &mut self.stream
    }

    fn ended(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.over.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Tied<S> {
    /// Says that this was all, and waits until the peer has closed its end or the session is over.
    pub(crate) async fn finish(self) {
        let Self {
            mut stream, over, ..
        } = self;
        let finished = async {
            stream.shutdown().await?;
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
        };
        tokio::select! {
            // A stream that broke is over, too.
            _ = finished => {}
            () = over => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tied<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.ended(cx)?;
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            self.waiting = false;
            return Poll::Ready(read);
        }
        if !self.waiting {
            let until = Instant::now() + self.idle_timeout;
            self.silence.as_mut().reset(until);
            self.waiting = true;
        }
        let silence = self.silence.as_mut().poll(cx);
        silence.map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tied<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.ended(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ended(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ended(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
