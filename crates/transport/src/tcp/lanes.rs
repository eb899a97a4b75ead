//! The lanes of a session over TCP: frames, and between them the signals for what QUIC does by itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::{Side, Tcp, Tls};
use crate::closed::{CloseCode, Closed};
use crate::lanes::{self, Ended, Ends, Inlet, Lane, Queue, Queued, Read};
use crate::tied::Tied;

/// This end is still there.
const HERE: u8 = 0;
/// The broker has an attachment and wants a connection for it.
const BULK: u8 = 1;
/// This end closes the session: a code and a reason.
const CLOSE: u8 = 2;
/// Bytes of a reason that are sent.
const REASON: usize = 200;

/// How long the end of a session may take: to write what was begun, to be told, and for the last lane to hear why the others ended.
const CLOSING: Duration = Duration::from_secs(1);

impl Tcp {
    pub(super) fn run(
        self: &Arc<Self>,
        lane: Lane,
        tls: Tls,
        ends: Ends,
        questions: Option<mpsc::Receiver<()>>,
    ) {
        let (read, write) = tokio::io::split(tls);
        let inlet = self.tie(read);
        tokio::spawn(Arc::clone(self).read(lane, inlet, ends.incoming));
        tokio::spawn(Arc::clone(self).write(lane, write, ends.outgoing, questions));
    }

    async fn read(self: Arc<Self>, lane: Lane, mut inlet: Tied<ReadHalf<Tls>>, incoming: Queue) {
        loop {
            match lanes::next(&mut inlet).await {
                Ok(Read::Frame(frame)) => tokio::select! {
                    taken = incoming.put(frame) => if taken.is_err() { break },
                    () = self.over.cancelled() => break,
                },
                Ok(Read::Signal(kind, bytes)) => {
                    if let Err(what) = self.signalled(lane, kind, &bytes) {
                        self.close(Closed::ours(CloseCode::Violation, what));
                        break;
                    }
                }
                Err(Ended::Violation(what)) => {
                    self.close(Closed::ours(CloseCode::Violation, what));
                    break;
                }
                Err(Ended::Line(why)) => {
                    self.lost(lane, why).await;
                    break;
                }
            }
        }
        if lane == Lane::Control {
            // Closed with bytes unread, TCP would reset, and the peer perhaps not read why the session ended.
            self.over.cancelled().await;
            drop(tokio::time::timeout(CLOSING, drain(inlet.untied())).await);
            self.heard.cancel();
        }
    }

    fn signalled(self: &Arc<Self>, lane: Lane, kind: u8, bytes: &[u8]) -> Result<(), &'static str> {
        match (kind, lane, bytes) {
            (HERE, _, []) => Ok(()),
            (BULK, Lane::Control, []) if matches!(self.side, Side::Client(_)) => {
                tokio::spawn(Arc::clone(self).fetch());
                Ok(())
            }
            (CLOSE, Lane::Control, [code, reason @ ..]) => {
                let reason = String::from_utf8_lossy(reason);
                self.close(Closed {
                    code: CloseCode::from_code(u64::from(*code)),
                    by_peer: true,
                    reason: format!("closed by peer: {reason} (code {code})"),
                });
                Ok(())
            }
            _ => Err("a signal that is none"),
        }
    }

    /// A connection broke. Why the session ended is said on the first one and may come after the others' end.
    async fn lost(&self, lane: Lane, why: String) {
        if lane != Lane::Control {
            let wait = tokio::time::timeout(CLOSING, self.over.cancelled());
            drop(wait.await);
        }
        self.close(Closed::lost(why, true));
    }

    async fn write(
        self: Arc<Self>,
        lane: Lane,
        mut out: WriteHalf<Tls>,
        mut outgoing: mpsc::Receiver<Queued>,
        mut questions: Option<mpsc::Receiver<()>>,
    ) {
        let late = async {
            self.over.cancelled().await;
            tokio::time::sleep(CLOSING).await;
        };
        tokio::pin!(late);
        loop {
            let batch;
            let chunks = tokio::select! {
                biased;
                () = self.over.cancelled() => break,
                Some(()) = question(&mut questions) => vec![signal(BULK, &[])],
                first = outgoing.recv() => match first {
                    Some(first) => {
                        batch = lanes::gather(first, &mut outgoing);
                        lanes::together(&batch)
                    }
                    // With the last handle the session ends.
                    None => {
                        self.over.cancelled().await;
                        break;
                    }
                },
                () = tokio::time::sleep(self.limits.keep_alive) => vec![signal(HERE, &[])],
            };
            let written = tokio::select! {
                written = put(&mut out, &chunks) => written,
                () = &mut late => break,
            };
            if let Err(e) = written {
                self.lost(lane, e.to_string()).await;
                break;
            }
        }
        if lane == Lane::Control {
            drop(tokio::time::timeout(CLOSING, self.tell(&mut out)).await);
            self.said.cancel();
        }
    }

    /// Says why the session ends, where this end has ended it.
    async fn tell(&self, out: &mut WriteHalf<Tls>) -> io::Result<()> {
        if let Some(Closed {
            code: Some(code),
            by_peer: false,
            reason,
        }) = self.ended.get()
        {
            let reason = &reason.as_bytes()[..reason.len().min(REASON)];
            let why = [&[*code as u8][..], reason].concat();
            put(out, &[signal(CLOSE, &why)]).await?;
        }
        out.shutdown().await
    }
}

async fn question(questions: &mut Option<mpsc::Receiver<()>>) -> Option<()> {
    match questions {
        Some(questions) => questions.recv().await,
        None => std::future::pending().await,
    }
}

async fn put(out: &mut WriteHalf<Tls>, chunks: &[Bytes]) -> io::Result<()> {
    for chunk in chunks {
        out.write_all(chunk).await?;
    }
    out.flush().await
}

/// Reads what still comes, and drops it.
pub(crate) async fn drain(from: &mut (impl AsyncRead + Unpin)) {
    // How it ends is all the same.
    drop(tokio::io::copy(from, &mut tokio::io::sink()).await);
}

/// A signal: the length that no frame has, its kind, the length of the rest, the rest.
fn signal(kind: u8, bytes: &[u8]) -> Bytes {
    let length = u8::try_from(bytes.len()).unwrap_or(0);
    let head = lanes::SIGNAL.to_be_bytes();
    [&head[..], &[kind, length], bytes].concat().into()
}

impl Inlet for Tied<ReadHalf<Tls>> {
    const SIGNALS: bool = true;

    async fn exact(&mut self, into: &mut [u8]) -> Result<(), Ended> {
        let read = self.read_exact(into).await;
        read.map(drop).map_err(|e| Ended::Line(e.to_string()))
    }

    async fn chunk(&mut self, most: usize) -> Result<Bytes, Ended> {
        let mut some = Vec::with_capacity(most.min(lanes::PIECE));
        let mut at_most = self.take(some.capacity() as u64);
        match at_most.read_buf(&mut some).await {
            Ok(0) => Err(Ended::Line("a lane ended".into())),
            Ok(_) => Ok(some.into()),
            Err(e) => Err(Ended::Line(e.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_what_the_page_says() {
        // `docs/wire.md`, *Over TCP*.
        let close = [&[CloseCode::Stopping as u8][..], b"stopped"].concat();
        let page = b"\xff\xff\xff\xff\x02\x08\x04stopped";
        assert_eq!(signal(CLOSE, &close), page[..]);
        assert_eq!(signal(HERE, &[]), b"\xff\xff\xff\xff\0\0"[..]);
        assert_eq!(signal(BULK, &[]), b"\xff\xff\xff\xff\x01\0"[..]);
    }
}
