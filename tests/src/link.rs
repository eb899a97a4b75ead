//! A bad line in user space: between a node and the broker, datagrams wait for a slow wire, are late, lost or too large, or come from another address.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::sim::Dice;

/// The largest datagram there is.
const DATAGRAM: usize = 65_536;

/// What a line is like, the same in both directions.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Bits a second; nothing waits at 0.
    pub rate: u64,
    /// One way.
    pub delay: Duration,
    /// Bytes that wait for the wire; what comes on top is lost.
    pub queue: u64,
    /// Datagrams in a hundred that are lost besides.
    pub loss: usize,
    /// Bytes of a datagram; larger ones are lost without a word.
    pub mtu: usize,
}

impl Default for Line {
    /// A line without any fault.
    fn default() -> Self {
        Self {
            rate: 0,
            delay: Duration::ZERO,
            queue: u64::MAX,
            loss: 0,
            mtu: DATAGRAM,
        }
    }
}

/// What is on the wire and when it comes out, and until when the wire is taken.
struct Wire {
    datagrams: VecDeque<(Instant, Vec<u8>)>,
    taken: Instant,
}

/// One direction.
struct Way {
    wire: Mutex<Wire>,
    more: Notify,
}

struct Shared {
    line: Mutex<Line>,
    dice: Mutex<Dice>,
    front: UdpSocket,
    client: Mutex<Option<SocketAddr>>,
    back: Mutex<Arc<UdpSocket>>,
    /// The socket to the broker is another.
    moved: Notify,
    broker: SocketAddr,
    up: Way,
    down: Way,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Way {
    fn new() -> Self {
        Self {
            wire: Mutex::new(Wire {
                datagrams: VecDeque::new(),
                taken: Instant::now(),
            }),
            more: Notify::new(),
        }
    }

    /// Puts a datagram on the wire, or loses it.
    fn put(&self, bytes: &[u8], line: &Line, lost: bool) {
        if lost || bytes.len() > line.mtu {
            return;
        }
        let now = Instant::now();
        let mut wire = lock(&self.wire);
        let begins = wire.taken.max(now);
        let takes = |n: u64| {
            let micros = (n * 8 * 1_000_000).checked_div(line.rate);
            Duration::from_micros(micros.unwrap_or(0))
        };
        if begins - now > takes(line.queue.min(1 << 32)) && line.rate > 0 {
            return;
        }
        wire.taken = begins + takes(bytes.len() as u64);
        let there = wire.taken + line.delay;
        wire.datagrams.push_back((there, bytes.to_vec()));
        drop(wire);
        self.more.notify_one();
    }

    /// The next datagram that comes out at the other end.
    async fn take(&self) -> Vec<u8> {
        loop {
            let next = lock(&self.wire).datagrams.front().map(|(at, _)| *at);
            let Some(at) = next else {
                self.more.notified().await;
                continue;
            };
            sleep_until(at).await;
            if let Some((_, bytes)) = lock(&self.wire).datagrams.pop_front() {
                return bytes;
            }
        }
    }
}

/// A socket of any port that reaches a broker: from loopback to loopback, as nodes of one machine do.
async fn to_broker(broker: SocketAddr) -> std::io::Result<UdpSocket> {
    let from = if broker.ip().is_loopback() {
        Ipv4Addr::LOCALHOST
    } else {
        Ipv4Addr::UNSPECIFIED
    };
    let back = UdpSocket::bind((from, 0)).await?;
    back.connect(broker).await?;
    Ok(back)
}

impl Shared {
    fn lost(&self) -> bool {
        let loss = lock(&self.line).loss;
        lock(&self.dice).chance(loss)
    }

    async fn hear_client(&self) {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let Ok((n, from)) = self.front.recv_from(&mut buffer).await else {
                continue;
            };
            *lock(&self.client) = Some(from);
            let line = *lock(&self.line);
            self.up.put(&buffer[..n], &line, self.lost());
        }
    }

    async fn hear_broker(&self) {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let back = Arc::clone(&lock(&self.back));
            tokio::select! {
                heard = back.recv(&mut buffer) => if let Ok(n) = heard {
                    let line = *lock(&self.line);
                    self.down.put(&buffer[..n], &line, self.lost());
                },
                () = self.moved.notified() => {}
            }
        }
    }

    async fn say_to_broker(&self) {
        loop {
            let bytes = self.up.take().await;
            let back = Arc::clone(&lock(&self.back));
            // A broker that is not there is a lost datagram.
            drop(back.send(&bytes).await);
        }
    }

    async fn say_to_client(&self) {
        loop {
            let bytes = self.down.take().await;
            let client = *lock(&self.client);
            if let Some(client) = client {
                drop(self.front.send_to(&bytes, client).await);
            }
        }
    }
}

/// The line of one node.
pub struct Link {
    shared: Arc<Shared>,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Link {
    /// A line to a broker. What is lost follows from the seed.
    ///
    /// # Errors
    /// The system has no socket.
    pub async fn to(broker: SocketAddr, line: Line, seed: u64) -> std::io::Result<Self> {
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let back = to_broker(broker).await?;
        let address = front.local_addr()?;
        let shared = Arc::new(Shared {
            line: Mutex::new(line),
            dice: Mutex::new(Dice::new(seed)),
            front,
            client: Mutex::default(),
            back: Mutex::new(Arc::new(back)),
            moved: Notify::new(),
            broker,
            up: Way::new(),
            down: Way::new(),
        });
        let mut tasks = JoinSet::new();
        let s = |s: &Arc<Shared>| Arc::clone(s);
        let (a, b, c, d) = (s(&shared), s(&shared), s(&shared), s(&shared));
        tasks.spawn(async move { a.hear_client().await });
        tasks.spawn(async move { b.hear_broker().await });
        tasks.spawn(async move { c.say_to_broker().await });
        tasks.spawn(async move { d.say_to_client().await });
        Ok(Self {
            shared,
            address,
            _tasks: tasks,
        })
    }

    /// Where the node finds the broker.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From here on the line is like this.
    pub fn set(&self, line: Line) {
        *lock(&self.shared.line) = line;
    }

    /// The node has another address from here on, as its broker sees it.
    ///
    /// # Errors
    /// The system has no socket.
    pub async fn moves(&self) -> std::io::Result<()> {
        let back = to_broker(self.shared.broker).await?;
        *lock(&self.shared.back) = Arc::new(back);
        self.shared.moved.notify_one();
        Ok(())
    }
}
