//! A connection over QUIC (RFC 9000): a stream for each lane, one for each attachment.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use quinn::{
    ConnectionError, ReadError, ReadExactError, RecvStream, SendStream, VarInt, WriteError,
};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use tokio::sync::mpsc;

use crate::bulk::{self, BulkRecv, Receiving};
use crate::closed::{CloseCode, Closed};
use crate::lanes::{self, Ended, Ends, Inlet, Lane, Queue, Queued, Read};
use crate::line::Line;

/// Below every precedence class.
const BULK_PRIORITY: i32 = -1;
/// Bytes of datagrams that may wait for a turn of the program, each way. What the system gives unasked is less than one attachment may have on its way, and
/// what does not fit is lost and sent again.
const SOCKET_BUFFER: usize = 4 << 20;

/// A socket for an endpoint.
pub(crate) fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    // The system gives at most `net.core.rmem_max` and `wmem_max`. One with less works, and loses more.
    let _ = set_socket_recv_buffer_size(&socket, SOCKET_BUFFER);
    let _ = set_socket_send_buffer_size(&socket, SOCKET_BUFFER);
    Ok(socket)
}

/// The QUIC connection, and why this end closed it.
pub(crate) struct Quic {
    pub(crate) quinn: quinn::Connection,
    /// A client's own endpoint lives as long as its connection.
    endpoint: Option<quinn::Endpoint>,
    ended: OnceLock<Closed>,
}

pub(crate) fn on_the_wire(code: CloseCode) -> VarInt {
    VarInt::from_u32(code as u32)
}

impl Quic {
    pub(crate) fn new(quinn: quinn::Connection, endpoint: Option<quinn::Endpoint>) -> Arc<Self> {
        Arc::new(Self {
            quinn,
            endpoint,
            ended: OnceLock::new(),
        })
    }

    /// Closes it. Who closes first is who is believed: quinn would forget what the peer said.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        if self.quinn.close_reason().is_some() {
            return;
        }
        // Two ends of this process may close at the same time; both name a reason that holds.
        let _ = self.ended.set(Closed::ours(code, reason));
        self.quinn.close(on_the_wire(code), reason.as_bytes());
    }

    fn why(&self, e: &ConnectionError) -> Closed {
        match (e, self.ended.get()) {
            (ConnectionError::LocallyClosed, Some(ours)) => ours.clone(),
            _ => e.into(),
        }
    }

    pub(crate) async fn closed(&self) -> Closed {
        self.why(&self.quinn.closed().await)
    }

    pub(crate) fn end(&self) -> Option<Closed> {
        self.quinn.close_reason().map(|e| self.why(&e))
    }

    /// Of a listener's connections its endpoint takes care.
    pub(crate) async fn told(&self) {
        if let Some(endpoint) = &self.endpoint {
            endpoint.wait_idle().await;
        }
    }

    pub(crate) async fn open_bulk(&self, head: &[u8]) -> Result<SendStream, ()> {
        let mut stream = self.quinn.open_uni().await.map_err(drop)?;
        // The stream may have been stopped already; then writing finds out.
        let _ = stream.set_priority(BULK_PRIORITY);
        stream.write_all(head).await.map_err(drop)?;
        Ok(stream)
    }

    /// Opens every lane: the client's part.
    pub(crate) async fn open_lanes(
        self: &Arc<Self>,
        mut ends: Vec<Option<Ends>>,
    ) -> Result<(), Closed> {
        for lane in Lane::URGENT_FIRST {
            let (mut send, recv) = self.quinn.open_bi().await.map_err(|e| Closed::from(&e))?;
            if send.write_all(&[lane.code()]).await.is_err() {
                return Err(self.closed().await);
            }
            if let Some(ends) = ends.get_mut(lane.index()).and_then(Option::take) {
                self.run(lane, send, recv, ends);
            }
        }
        Ok(())
    }

    /// Takes the lanes that the peer opens, each once.
    pub(crate) async fn take_lanes(self: Arc<Self>, mut ends: Vec<Option<Ends>>) {
        while let Ok((send, recv)) = self.quinn.accept_bi().await {
            if let Err(what) = self.take_lane(&mut ends, send, recv).await {
                return self.close(CloseCode::Violation, what);
            }
        }
    }

    async fn take_lane(
        self: &Arc<Self>,
        ends: &mut [Option<Ends>],
        send: SendStream,
        mut recv: RecvStream,
    ) -> Result<(), &'static str> {
        let mut code = [0];
        recv.read_exact(&mut code)
            .await
            .map_err(|_| "a stream without a lane")?;
        let lane = Lane::from_code(code[0]).ok_or("a lane that is none")?;
        let ends = ends.get_mut(lane.index()).and_then(Option::take);
        self.run(lane, send, recv, ends.ok_or("a lane a second time")?);
        Ok(())
    }

    /// Runs both directions of a lane. They end with the connection; a lane that ends before is a violation.
    fn run(self: &Arc<Self>, lane: Lane, send: SendStream, recv: RecvStream, ends: Ends) {
        // The stream may have been stopped already; then writing finds out.
        let _ = send.set_priority(lane.priority());
        tokio::spawn(write(Arc::clone(self), send, ends.outgoing));
        tokio::spawn(read(Arc::clone(self), recv, ends.incoming));
    }

    /// Takes the streams that the peer opens for attachments. One that says nothing holds up no other.
    pub(crate) async fn take_bulk(self: Arc<Self>, heads: mpsc::Sender<(Bytes, BulkRecv)>) {
        while let Ok(stream) = self.quinn.accept_uni().await {
            let (line, heads) = (Line::Quic(Arc::clone(&self)), heads.clone());
            tokio::spawn(bulk::head(line, BulkRecv(Receiving::Quic(stream)), heads));
        }
    }
}

async fn read(line: Arc<Quic>, mut recv: RecvStream, incoming: Queue) {
    loop {
        match lanes::next(&mut recv).await {
            Ok(Read::Frame(frame)) => {
                if incoming.put(frame).await.is_err() {
                    return;
                }
            }
            // QUIC has its own.
            Ok(Read::Signal(..)) | Err(Ended::Line(_)) => return,
            Err(Ended::Violation(what)) => return line.close(CloseCode::Violation, what),
        }
    }
}

/// Writes what waits, all of it at once.
async fn write(line: Arc<Quic>, mut send: SendStream, mut outgoing: mpsc::Receiver<Queued>) {
    while let Some(first) = outgoing.recv().await {
        let batch = lanes::gather(first, &mut outgoing);
        match send.write_all_chunks(&mut lanes::together(&batch)).await {
            Ok(()) => {}
            Err(WriteError::Stopped(_)) => {
                return line.close(CloseCode::Violation, "a lane was stopped");
            }
            Err(_) => return,
        }
    }
}

impl From<ReadError> for Ended {
    fn from(e: ReadError) -> Self {
        match e {
            ReadError::ConnectionLost(e) => Self::Line(e.to_string()),
            _ => Self::Violation("a lane ended"),
        }
    }
}

impl Inlet for RecvStream {
    async fn exact(&mut self, into: &mut [u8]) -> Result<(), Ended> {
        self.read_exact(into).await.map_err(|e| match e {
            ReadExactError::ReadError(e) => e.into(),
            ReadExactError::FinishedEarly(_) => Ended::Violation("a lane ended"),
        })
    }

    async fn chunk(&mut self, most: usize) -> Result<Bytes, Ended> {
        match self.read_chunk(most, true).await? {
            Some(chunk) => Ok(chunk.bytes),
            None => Err(Ended::Violation("a lane ended")),
        }
    }
}
