//! Full mutual handshakes with the hybrid key exchange, beside the same with the classical one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ordonnans_label::Name;
use ordonnans_tests::house::House;
use ordonnans_tests::site::now;
use ordonnans_transport::{
    ClientOptions, CloseCode, Identity, Limits, Listen, Listener, connect, connect_classical,
};
use rustix::time::{ClockId, clock_gettime};

use crate::{crowd, percentile, runtime};

/// Handshakes of each kind in a round.
const EACH: u32 = 200;
/// Rounds. Both kinds take turns in each, so that what else the machine does disturbs both.
const ROUNDS: usize = 15;

const KINDS: [&str; 2] = ["X25519MLKEM768", "X25519"];

/// Both ends of the line.
struct Ends {
    listener: Listener,
    broker: Name,
    node: Identity,
    house: House,
    options: ClientOptions,
}

impl Ends {
    fn new() -> Option<Self> {
        let mut house = crowd(2);
        let server = house.broker_identity()?;
        // One address makes them all, and those that have ended may be counted for a while.
        let limits = Limits {
            connections: 100_000,
            connections_per_address: 100_000,
            handshakes: 100_000,
            ..Limits::default()
        };
        let clock: ordonnans_transport::Clock = Arc::new(now);
        let listen = Listen {
            hybrid_only: false,
            ..Listen::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))
        };
        let bound = Listener::bind_all(listen, &server, &house.trust, limits, Arc::clone(&clock));
        let issued = &house.nodes[1].issued;
        let node = Identity::from_der(vec![issued.certificate.to_vec()], issued.key_pkcs8());
        Some(Self {
            listener: bound.ok()?,
            broker: house.broker(),
            node: node.ok()?,
            house,
            options: ClientOptions {
                hybrid_only: false,
                limits,
                clock,
            },
        })
    }

    /// One, until both ends have the other's name.
    async fn one(&self, kind: &str) -> Option<()> {
        let (at, trust) = (self.listener.local_addr(), &self.house.trust);
        let (name, node, options) = (&self.broker, &self.node, &self.options);
        let connecting = async {
            if kind == KINDS[0] {
                connect(at, name, node, trust, options).await
            } else {
                connect_classical(at, name, node, trust, options).await
            }
        };
        let (client, served) = tokio::join!(connecting, self.listener.accept());
        let (client, served) = (client.ok()?, served?);
        assert_eq!((client.key_exchange(), served.key_exchange()), (kind, kind));
        client.close(CloseCode::Done, "done");
        served.closed().await;
        Some(())
    }

    /// So many one after the other: how many a second, and microseconds of the processor for each, of both ends together.
    async fn round(&self, kind: &str) -> Option<(f64, f64)> {
        let (began, before) = (Instant::now(), processor());
        for _ in 0..EACH {
            self.one(kind).await?;
        }
        let spent = (processor() - before).as_secs_f64() * 1e6;
        let each = f64::from(EACH);
        Some((each / began.elapsed().as_secs_f64(), spent / each))
    }
}

/// What this program has had of the processors.
fn processor() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = Duration::from_secs(time.tv_sec.unsigned_abs());
    seconds + Duration::from_nanos(time.tv_nsec.unsigned_abs())
}

fn spread(what: &str, mut all: Vec<f64>, digits: usize) {
    all.sort_by(f64::total_cmp);
    let (least, most) = (percentile(&all, 0), percentile(&all, 99));
    println!(
        "{what:44} {:.digits$} ({least:.digits$} to {most:.digits$})",
        percentile(&all, 50)
    );
}

pub(crate) fn run() {
    let rounds = runtime().block_on(async {
        let ends = Ends::new()?;
        // Not counted: what is believed of the certificates is remembered from here on.
        for kind in KINDS {
            ends.round(kind).await?;
        }
        let mut rounds = vec![];
        for n in 0..ROUNDS {
            let mut pair = [(0.0, 0.0); 2];
            for turn in [n % 2, 1 - n % 2] {
                pair[turn] = ends.round(KINDS[turn]).await?;
            }
            rounds.push(pair);
        }
        Some(rounds)
    });
    let Some(rounds) = rounds else {
        println!("a handshake did not come about");
        return;
    };
    println!("{ROUNDS} rounds of {EACH} each, the median and the range of the rounds");
    for (n, kind) in KINDS.into_iter().enumerate() {
        let of = |what: fn((f64, f64)) -> f64| rounds.iter().map(|r| what(r[n])).collect();
        spread(&format!("{kind}: handshakes a second"), of(|r| r.0), 0);
        spread(&format!("{kind}: us of the processor"), of(|r| r.1), 0);
    }
    let ratio = |what: fn((f64, f64)) -> f64| {
        let of_round = |r: &[(f64, f64); 2]| what(r[0]) / what(r[1]);
        rounds.iter().map(of_round).collect()
    };
    spread("hybrid beside classical: a second", ratio(|r| r.0), 2);
    spread("hybrid beside classical: processor", ratio(|r| r.1), 2);
}
