//! A network namespace behind a wire whose rate the kernel holds: where queues are those of a real machine. Needs root and `ip` and `tc`.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Command;

use ordonnans_broker::Broker;
use ordonnans_broker::config::Config;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio_util::sync::CancellationToken;

/// A namespace with one end of the wire; the other end is here. It goes with the value.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    wire: String,
    net: u8,
}

fn run(line: &str) -> Result<(), String> {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let done = Command::new(program).args(words).output();
    let done = done.map_err(|e| format!("{program}: {e}"))?;
    if done.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&done.stderr);
    Err(format!("{line}: {}", why.trim()))
}

impl Namespace {
    /// Makes one with a wire of so many bits a second each way, and as many bytes that wait for it. `net` tells wires of one machine apart.
    ///
    /// # Errors
    /// Why there can be none here: no root, no programs, no such queue in the kernel. Nothing is left behind.
    pub fn new(net: u8, rate: u64, queue: u64) -> Result<Self, String> {
        let tag = format!("{}-{net}", std::process::id());
        let space = Self {
            name: format!("ordonnans-{tag}"),
            wire: format!("o{tag}"),
            net,
        };
        let Self { name, wire, .. } = &space;
        let shaped = format!("root tbf rate {rate}bit burst 16kb limit {queue}");
        run(&format!("ip netns add {name}"))?;
        run(&format!(
            "ip link add {wire} type veth peer name far netns {name}"
        ))?;
        run(&format!("ip address add 10.213.{net}.1/30 dev {wire}"))?;
        run(&format!(
            "ip -n {name} address add 10.213.{net}.2/30 dev far"
        ))?;
        run(&format!("ip link set {wire} up"))?;
        run(&format!("ip -n {name} link set far up"))?;
        run(&format!("tc qdisc add dev {wire} {shaped}"))?;
        run(&format!(
            "ip netns exec {name} tc qdisc add dev far {shaped}"
        ))?;
        Ok(space)
    }

    /// The far end.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.net, 2)
    }

    /// Starts a broker there, on a thread of its own, for the kernel knows namespaces by thread. It listens when this returns.
    ///
    /// # Errors
    /// What the system says, or why it does not start.
    pub fn start(&self, config: Config) -> Result<Far, String> {
        let space = std::fs::File::open(format!("/run/netns/{}", self.name));
        let space = space.map_err(|e| e.to_string())?;
        let leave = CancellationToken::new();
        let leaving = leave.clone();
        let (say, said) = std::sync::mpsc::channel::<Result<(), String>>();
        let thread = std::thread::spawn(move || {
            let begin = || -> Result<_, String> {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(space.as_fd(), kind).map_err(|e| e.to_string())?;
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|e| e.to_string())?;
                let broker = runtime.block_on(Broker::start(config));
                Ok((runtime, broker.map_err(|e| e.to_string())?))
            };
            match begin() {
                Err(why) => drop(say.send(Err(why))),
                Ok((runtime, broker)) => {
                    drop(say.send(Ok(())));
                    runtime.block_on(async {
                        leaving.cancelled().await;
                        if let Err(why) = broker.stop().await {
                            eprintln!("the broker did not stop well: {why}");
                        }
                    });
                }
            }
        });
        said.recv().map_err(|e| e.to_string())??;
        Ok(Far {
            leave,
            thread: Some(thread),
        })
    }
}

/// A broker in a namespace; it stops when this goes.
#[derive(Debug)]
pub struct Far {
    leave: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Far {
    fn drop(&mut self) {
        self.leave.cancel();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The wire goes with either end. One that was not made is not there.
        drop(run(&format!("ip link del {}", self.wire)));
        drop(run(&format!("ip netns del {}", self.name)));
    }
}
