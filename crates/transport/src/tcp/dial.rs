//! The client's part: opens the connections of a session.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::{Parts, Side, TOKEN, Tcp, Tls, Token, speaks};
use crate::closed::Closed;
use crate::lanes::Lane;
use crate::tls::Limits;

/// How a client opens the further connections of a session.
pub(super) struct Dial {
    connector: TlsConnector,
    name: ServerName<'static>,
    server: SocketAddr,
    within: Duration,
    token: Token,
}

impl Dial {
    async fn tls(&self) -> io::Result<Tls> {
        let tcp = TcpStream::connect(self.server).await?;
        tcp.set_nodelay(true)?;
        let tls = self.connector.connect(self.name.clone(), tcp).await?;
        let tls = Tls::from(tls);
        speaks(&tls)?;
        Ok(tls)
    }

    /// A further connection of the session.
    pub(super) async fn further(&self, what: u8) -> io::Result<Tls> {
        let dialled = async {
            let mut tls = self.tls().await?;
            tls.write_all(&[&[what][..], &self.token].concat()).await?;
            tls.flush().await?;
            Ok(tls)
        };
        tokio::time::timeout(self.within, dialled)
            .await
            .unwrap_or_else(|e| Err(e.into()))
    }
}

/// The first connection of a session, and what the client needs for the others.
pub(crate) struct First {
    dial: Dial,
    pub(crate) tls: Tls,
}

impl First {
    /// Opens it. When this returns the broker has let us in.
    pub(crate) async fn dial(
        server: SocketAddr,
        config: rustls::ClientConfig,
        name: ServerName<'static>,
        limits: &Limits,
    ) -> io::Result<Self> {
        let mut dial = Dial {
            connector: Arc::new(config).into(),
            name,
            server,
            within: limits.handshake_timeout,
            token: [0; TOKEN],
        };
        let first = async {
            let mut tls = dial.tls().await?;
            tls.write_all(&[Lane::Control.code()]).await?;
            tls.flush().await?;
            tls.read_exact(&mut dial.token).await?;
            Ok(tls)
        };
        let tls = tokio::time::timeout(limits.handshake_timeout, first)
            .await
            .unwrap_or_else(|e| Err(io::Error::from(e)))?;
        Ok(Self { dial, tls })
    }

    /// Opens the other lanes.
    pub(crate) async fn open_lanes(self, limits: Limits, parts: Parts) -> io::Result<Arc<Tcp>> {
        let Self { dial, tls } = self;
        let remote = dial.server;
        let line = Tcp::new(Side::Client(Box::new(dial)), remote, limits, parts);
        line.run_first(tls, None);
        let mut dialling = JoinSet::new();
        for lane in Lane::URGENT_FIRST {
            if lane != Lane::Control {
                let line = Arc::clone(&line);
                dialling.spawn(async move { line.open_lane(lane).await });
            }
        }
        while let Some(opened) = dialling.join_next().await {
            if let Err(e) = opened.map_err(io::Error::other).flatten() {
                line.close(Closed::lost(e.to_string(), false));
                return Err(e);
            }
        }
        Ok(line)
    }
}
