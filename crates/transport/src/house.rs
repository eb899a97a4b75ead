//! A structure for the tests inside: an authority, a broker, a node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ordonnans_certs::memory::Authority;
use ordonnans_certs::{Flaw, Issued, Validity};
use ordonnans_identity::Trust;
use ordonnans_label::{Clearance, Level, Name};
use ordonnans_message::Timestamp;

use crate::tls::{self, KeyExchange};
use crate::{
    ClientOptions, Clock, CloseCode, Closed, Connection, Identity, Limits, Listen, Listener,
};

pub(crate) struct House {
    pub(crate) authority: Authority,
    pub(crate) broker: Identity,
    pub(crate) node: Identity,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
}

pub(crate) fn identity(issued: &Issued) -> Identity {
    Identity::from_der(vec![issued.certificate.to_vec()], issued.key_pkcs8()).expect("fits")
}

impl House {
    pub(crate) fn new() -> Self {
        let now = std::time::SystemTime::now();
        let validity = Validity {
            from: (now - Duration::from_secs(60)).into(),
            until: (now + Duration::from_secs(3600)).into(),
        };
        let clock: Clock = Arc::new(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            Timestamp::from_millis(now.map_or(0, |d| d.as_millis() as u64))
        });
        let mut authority = Authority::new("crisis.example", validity).expect("an authority");
        let mut issue = |name: &str| {
            let name: Name = name.parse().expect("a name");
            let holds = Clearance::new(Level::DepV);
            identity(&authority.issue(&name, &holds).expect("issues"))
        };
        Self {
            broker: issue("b1.broker.crisis.example"),
            node: issue("a.node.crisis.example"),
            authority,
            clock,
            limits: Limits::default(),
        }
    }

    /// A node that shows a certificate with a flaw, as no identity of ours can.
    pub(crate) fn flawed(&mut self, flaw: Flaw) -> Identity {
        let name: Name = "a.node.crisis.example".parse().expect("a name");
        let holds = Clearance::new(Level::DepV);
        let good = self.authority.issue(&name, &holds).expect("issues");
        let validity = Validity {
            from: (std::time::SystemTime::now() - Duration::from_secs(60)).into(),
            until: (std::time::SystemTime::now() + Duration::from_secs(60)).into(),
        };
        let bad = self
            .authority
            .issue_with(&name, &holds, validity, Some(flaw))
            .expect("issues");
        let mut shown = identity(&good);
        shown.shown = Identity::unread(&bad);
        shown
    }

    /// Another node of the structure.
    pub(crate) fn issue(&mut self, local: &str) -> Identity {
        let name = format!("{local}.node.crisis.example");
        let name: Name = name.parse().expect("a name");
        let holds = Clearance::new(Level::DepV);
        identity(&self.authority.issue(&name, &holds).expect("issues"))
    }

    pub(crate) fn trust(&self) -> Trust {
        self.authority.trust().expect("trust")
    }

    pub(crate) fn broker_name(&self) -> Name {
        self.broker.certificate().name().clone()
    }

    pub(crate) fn listen(&self) -> Listener {
        self.listen_to(true)
    }

    /// A listener for both carriers.
    pub(crate) fn listen_to(&self, hybrid_only: bool) -> Listener {
        let any = "127.0.0.1:0".parse().expect("an address");
        let (clock, trust) = (Arc::clone(&self.clock), self.trust());
        let listen = Listen {
            quic: any,
            tcp: Some(any),
            hybrid_only,
        };
        Listener::bind_all(listen, &self.broker, &trust, self.limits, clock).expect("listens")
    }

    pub(crate) fn options(&self, hybrid_only: bool) -> ClientOptions {
        ClientOptions {
            hybrid_only,
            limits: self.limits,
            clock: Arc::clone(&self.clock),
        }
    }

    /// What a client of ours would do, with another key exchange.
    pub(crate) fn client(&self, shown: &Identity, groups: KeyExchange) -> quinn::ClientConfig {
        let (trust, name) = (self.trust(), self.broker_name());
        tls::client(shown, &trust, &self.clock, &self.limits, &name, groups).expect("fits")
    }

    /// A QUIC connection of the node with a good handshake, without lanes.
    pub(crate) async fn raw(&self, to: &Listener) -> Raw {
        let config = self.client(&self.node, KeyExchange::HybridFirst);
        self.raw_with(to, config).await
    }

    pub(crate) async fn raw_with(&self, to: &Listener, config: quinn::ClientConfig) -> Raw {
        let endpoint = endpoint();
        let quinn = endpoint
            .connect_with(config, to.local_addr(), self.broker_name().as_str())
            .expect("begins")
            .await
            .expect("connects");
        Raw {
            quinn,
            _endpoint: endpoint,
        }
    }

    /// Both ends of a connection of ours.
    pub(crate) async fn pair(&self, listener: &Listener) -> (Connection, Connection) {
        self.pair_through(listener, listener.local_addr()).await
    }

    /// The same, where the client goes by another address.
    pub(crate) async fn pair_through(
        &self,
        listener: &Listener,
        server: SocketAddr,
    ) -> (Connection, Connection) {
        let (trust, name) = (self.trust(), self.broker_name());
        let client = crate::connect(server, &name, &self.node, &trust, self.options(false));
        let (client, served) = soon(async { tokio::join!(client, listener.accept()) }).await;
        (client.expect("connects"), served.expect("comes in"))
    }
}

pub(crate) struct Raw {
    pub(crate) quinn: quinn::Connection,
    _endpoint: quinn::Endpoint,
}

pub(crate) fn endpoint() -> quinn::Endpoint {
    quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("a socket")
}

/// The end of a connection as the other end hears of it. On a machine that stands still for longer than QUIC keeps a closed connection
/// (RFC 9000 section 10.2, here some 80 ms) a reset comes in its place; our own end is asked where the code matters.
pub(crate) fn told(closed: &Closed, code: CloseCode) {
    let reset = closed.reason == "reset by peer";
    assert!(closed.by_peer, "{closed}");
    assert!(closed.code == Some(code) || reset, "{closed}");
}

/// Fails where something does not come at all. Nothing here takes a tenth of this.
pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
    let within = Duration::from_secs(20);
    tokio::time::timeout(within, what).await.expect("in time")
}

/// Lets everything else run until something holds.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
