//! `cargo run --release -p ordonnans-tests --bin bench [-- SECTION…]`: how fast it is, beside what bounds it.
//!
//! Sections: `pure`, `rules`, `engine`, `store`, `wire`, `idle`, `log`, `flash`, `backlog` (`ORDONNANS_BACKLOG=1000000` for a million), `attachment`, `neighbours`, `reload`, `seal`, `strangers`, `handshakes`; all of
//! them without a name. `docs/benchmarks.md` has the questions and answers.
//! Figures of one run mean something beside each other, on one machine; nothing here fails.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ordonnans_audit::ClockQuality;
use ordonnans_engine::{
    AlarmLimits, Commit, Effect, Engine, Input, Quotas, Recovered, Retention, Seq, Session,
    Settings,
};
use ordonnans_identity::verify_signature;
use ordonnans_label::{Clearances, Level, Name};
use ordonnans_message::{Envelope, Frame, MessageId, Precedence, Recipient, Role, sha256};
use ordonnans_policy::{Book, Grounds, Question, Register, decide};
use ordonnans_seal::{SeededEntropy, Verified, open, verify_envelope};
use ordonnans_store::{Options, Store};
use ordonnans_tests::crash;
use ordonnans_tests::house::{Draft, House, Member, approved, night};
use ordonnans_tests::power::Series;
use ordonnans_tests::site::{Site, now};
use ordonnans_transport::{ClientOptions, Identity, Lane, Limits, Listener, connect};

mod handshakes;
mod log;
mod neighbours;
mod reload;
mod sealing;
mod strangers;
mod urgent;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let Some(code) = crash::in_the_role(&args) {
        return code;
    }
    let wanted = |name: &str| args.len() < 2 || args.iter().any(|a| a == name);
    let sections: [(&str, fn()); 15] = [
        ("pure", pure),
        ("rules", rules),
        ("engine", engine),
        ("store", store),
        ("wire", wire),
        ("idle", idle),
        ("log", log::run),
        ("flash", urgent::flash),
        ("backlog", urgent::backlog),
        ("attachment", urgent::attachment),
        ("neighbours", neighbours::run),
        ("reload", reload::run),
        ("seal", sealing::run),
        ("strangers", strangers::run),
        ("handshakes", handshakes::run),
    ];
    for (name, run) in sections {
        if wanted(name) {
            println!("\n== {name}");
            run();
        }
    }
    ExitCode::SUCCESS
}

fn draft(from: usize, to: Vec<usize>, body: usize) -> Draft {
    Draft {
        from,
        to,
        level: Level::DepV,
        circle: false,
        precedence: Precedence::Routine,
        lifetime: 86_400_000,
        body: vec![7; body],
    }
}

/// Time of one call, in microseconds: the best of five rounds, so that a noisy machine disturbs least.
fn each(n: u32, mut call: impl FnMut()) -> f64 {
    let round = |call: &mut dyn FnMut()| {
        let began = Instant::now();
        (0..n).for_each(|_| call());
        began.elapsed().as_secs_f64() * 1e6 / f64::from(n)
    };
    (0..5).map(|_| round(&mut call)).fold(f64::MAX, f64::min)
}

fn pure() {
    let house = House::new();
    let mut entropy = SeededEntropy::new(1);
    let d = draft(0, vec![1, 2, 3], 256);
    let sealed = house.seal(&d, night(), &mut entropy);
    let e = sealed.get();
    let bytes = e.encode();
    println!(
        "an envelope to 3 nodes, 256 bytes of content: {} bytes",
        bytes.len()
    );
    let signer = sealed.signer();
    let signed = e.signed();
    let signature = each(2000, || {
        let ok = verify_signature(
            signer,
            signed.algorithm(),
            &signed.to_be_signed(),
            signed.signature(),
        );
        assert!(ok.is_ok());
    });
    let line = |what: &str, us: f64| {
        println!(
            "{what:34} {us:9.2} us   {:6.2} x the signature check",
            us / signature
        );
    };
    line("the signature check alone", signature);
    line("encode", each(5000, || drop(e.encode())));
    line("decode", each(5000, || drop(Envelope::decode(&bytes))));
    line(
        "verify (chain, revocation, signature)",
        each(1000, || {
            drop(verify_envelope(e.clone(), &house.trust, night()))
        }),
    );
    for n in [1, 3, 5] {
        let d = draft(0, (1..=n).collect(), 256);
        let us = each(200, || drop(house.seal(&d, night(), &mut entropy)));
        line(&format!("seal, sign and verify for {n}"), us);
    }
    let node = &house.nodes[1];
    let keys = std::slice::from_ref(&node.secret);
    line("open", each(500, || drop(open(&sealed, keys, &node.name))));
}

/// A register of so many nodes, each in ten circles and ten compartments.
fn large_register(nodes: usize) -> String {
    use std::fmt::Write as _;
    let list = |of: &str| {
        let all: Vec<String> = (0..10).map(|i| format!("\"{of}{i}\"")).collect();
        format!("[{}]", all.join(", "))
    };
    let mut t = String::from("version = 1\nstructure = \"crisis.example\"\n");
    for i in 0..10 {
        let _ = writeln!(t, "[[circle]]\nname = \"K{i}\"\ntitle = \"K\"");
    }
    for i in 0..nodes {
        let _ = writeln!(
            t,
            "[[node]]\nname = \"n{i}\"\ntitle = \"node\"\nclearance = \"Stg.G\"\ncircles = {}\ncompartments = {}\nrijksdienst = false\n\
             assurance = {{ up_to = \"Stg.G\", decision = \"d\", until = \"2036-01-01\" }}\n\
             link = {{ up_to = \"Stg.G\", decision = \"d\", until = \"2036-01-01\" }}\naccredited_until = \"2036-01-01\"\nstanding = \"active\"",
            list("K"),
            list("C")
        );
    }
    t
}

/// The decision, with ten categories in the label and a thousand nodes in the register, beside a hash of 256 bytes.
fn rules() {
    let text = large_register(1000);
    let Ok(register) = Register::parse(&text) else {
        return;
    };
    let says: std::collections::BTreeMap<Name, Clearances> = register
        .nodes()
        .map(|n| (n.name.clone(), n.clearances.clone()))
        .collect();
    let book = Book::built_in();
    let grounds = Grounds {
        register: &register,
        book: &book,
        says: &says,
    };
    let label =
        "Stg.C // KRING K9 // COMPARTIMENT C0, C1, C2, C3, C4, C5, C6, C7, C8 // TOT 2036-01-01";
    let Ok(label) = label.parse() else { return };
    let names: Vec<Name> = register.nodes().map(|n| n.name.clone()).collect();
    let question = Question {
        stated: true,
        originator: &names[0],
        label: &label,
        created: night(),
        made: night(),
        expires: night().after(60_000),
        passed: None,
    };
    let to: Vec<Recipient> = names
        .iter()
        .map(|n| Recipient {
            node: n.clone(),
            person: None,
            role: Role::Action,
            precedence: Precedence::Routine,
        })
        .collect();
    let id = MessageId::new(night(), [0; 10]);
    let ask = |n: usize| {
        for r in &to[..n] {
            assert!(decide(&grounds, id, &question, r, night()).is_ok());
        }
    };
    let hash = each(20_000, || {
        std::hint::black_box(sha256(&[&[7; 256]]));
    });
    let mut single: Vec<f64> = (0..9999)
        .map(|i| {
            let r = &to[i % to.len()];
            let began = Instant::now();
            assert!(decide(&grounds, id, &question, r, night()).is_ok());
            began.elapsed().as_secs_f64() * 1e9
        })
        .collect();
    single.sort_by(f64::total_cmp);
    println!("a hash of 256 bytes                {:9.0} ns", hash * 1e3);
    println!(
        "decide, one recipient              {:9.0} ns median, {:.0} ns 99th of 100",
        single[single.len() / 2],
        single[single.len() * 99 / 100]
    );
    for n in [1, 50, 500] {
        let us = each(200, || ask(n));
        println!(
            "decide, {n:3} recipients            {:9.1} us, {:.0} ns each",
            us,
            us * 1e3 / n as f64
        );
    }
    let text = large_register(10_000);
    let ms = each(1, || drop(Register::parse(&text))) / 1e3;
    println!("reading a register of 10,000 nodes {ms:9.0} ms");
}

fn settings(house: &House) -> Settings {
    Settings {
        broker: house.broker(),
        queue: 10_000_000,
        remembered: 10_000_000,
        remember_ms: ordonnans_message::limits::MAX_LIFETIME_MS,
        labelled: 10_000_000,
        clock: ClockQuality::Unknown,
        configuration: sha256(&[]),
        alarms: AlarmLimits::default(),
        // What is measured here is more than a node may send.
        quotas: Quotas {
            messages: u32::MAX,
            urgent: u32::MAX,
            bytes: u64::MAX,
            state_secret: u32::MAX,
            copies: u64::MAX,
            stored: u64::MAX,
        },
        contacts: vec![],
        retention: Retention::default(),
    }
}

fn engine() {
    let house = House::new();
    let mut entropy = SeededEntropy::new(1);
    let d = draft(0, vec![1], 256);
    let pool: Vec<Verified<Envelope>> = (0..12_000)
        .map(|_| house.seal(&d, night(), &mut entropy))
        .collect();
    let entropy = Box::new(SeededEntropy::new(2));
    let made = Engine::new(
        settings(&house),
        approved(1, None),
        Book::built_in(),
        Recovered::default(),
        vec![],
        entropy,
        night(),
    );
    let Ok(mut engine) = made else { return };
    for (i, node) in [1, 0].into_iter().enumerate() {
        let (session, peer) = (Session(i as u64), house.nodes[node].certificate.clone());
        engine.handle(
            night(),
            Input::Opened {
                session,
                peer,
                line: "simulated".into(),
            },
        );
        if node == 1 {
            let note = "gone";
            engine.handle(night(), Input::Closed { session, note });
        }
    }
    // Half and half: the second must not be slower than the first.
    for (name, half) in [("first", &pool[..6000]), ("second", &pool[6000..])] {
        let began = Instant::now();
        for e in half {
            let (session, envelope) = (Session(1), Box::new(e.clone()));
            engine.handle(night(), Input::Publish { session, envelope });
            let mut last = Seq(0);
            while let Some(effect) = engine.poll_effect() {
                if let Effect::Commit(commit) = effect {
                    last = commit.seq;
                    std::hint::black_box(commit);
                    engine.durable_through(last);
                }
            }
            std::hint::black_box(last);
        }
        let rate = half.len() as f64 / began.elapsed().as_secs_f64();
        println!("{name} 6,000 messages without I/O: {rate:.0} a second");
    }
}

/// Writes of so many bytes with a sync each, on a file filled beforehand: what the disk can do.
fn raw_syncs(dir: &Path, bytes: usize, time: Duration) -> f64 {
    let Ok(file) = std::fs::File::create(dir.join("raw")) else {
        return f64::NAN;
    };
    let (size, data) = (64 << 20, vec![1u8; bytes]);
    for at in (0..size).step_by(1 << 20) {
        drop(file.write_all_at(&vec![0; 1 << 20], at));
    }
    drop(file.sync_all());
    let (began, mut n, mut at) = (Instant::now(), 0u32, 0);
    while began.elapsed() < time {
        if file
            .write_all_at(&data, at)
            .and_then(|()| file.sync_data())
            .is_err()
        {
            return f64::NAN;
        }
        at = (at + bytes as u64) % (size - bytes as u64);
        n += 1;
    }
    f64::from(n) / began.elapsed().as_secs_f64()
}

fn store() {
    println!(
        "{:>6} {:>12} {:>12} {:>14} {:>8}",
        "group", "groups/s", "commits/s", "raw syncs/s", "ratio"
    );
    for group in [1, 8, 64, 512] {
        let Ok(dir) = tempfile::tempdir() else { return };
        let Ok((mut store, recovered, _)) = Store::open(dir.path(), Options::default()) else {
            return;
        };
        let mut series = Series::after(&recovered);
        let time = Duration::from_secs(3);
        let (mut n, mut bytes, mut spent) = (0u32, 0, Duration::ZERO);
        while spent < time {
            let commits: Vec<Commit> = (0..group).map(|_| series.next_small()).collect();
            bytes = commits.iter().map(|c| c.encode().len()).sum();
            let began = Instant::now();
            if store.commit(commits).is_err() {
                return;
            }
            spent += began.elapsed();
            n += 1;
        }
        let rate = f64::from(n) / spent.as_secs_f64();
        let raw = raw_syncs(dir.path(), bytes, Duration::from_secs(1));
        println!(
            "{group:>6} {rate:>12.0} {:>12.0} {raw:>14.0} {:>8.2}",
            rate * group as f64,
            rate / raw
        );
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap_or_else(|e| panic!("{e}"))
}

fn crowd(n: usize) -> House {
    let members: Vec<Member> = (0..n)
        .map(|i| (format!("n{i}"), Level::StgC, false))
        .collect();
    House::of(members)
}

fn percentile(sorted: &[f64], p: usize) -> f64 {
    sorted
        .get(sorted.len() * p / 100)
        .copied()
        .unwrap_or(f64::NAN)
}

/// A frame there and back over a connection, with nothing behind it: what the line can do.
async fn echo(house: &mut House, bytes: usize) -> f64 {
    let clock: ordonnans_transport::Clock = Arc::new(now);
    let name = house.broker();
    let Some(server) = house.broker_identity() else {
        return f64::NAN;
    };
    let (any, trust, node) = (
        ([127, 0, 0, 1], 0).into(),
        &house.trust,
        &house.nodes[1].issued,
    );
    let Ok(client) = Identity::from_der(vec![node.certificate.to_vec()], node.key_pkcs8()) else {
        return f64::NAN;
    };
    let Ok(listener) = Listener::bind(any, &server, trust, Limits::default(), Arc::clone(&clock))
    else {
        return f64::NAN;
    };
    let options = ClientOptions {
        hybrid_only: false,
        limits: Limits::default(),
        clock,
    };
    let at = listener.local_addr();
    let (client, served) = tokio::join!(
        connect(at, &name, &client, trust, &options),
        listener.accept()
    );
    let (Ok(client), Some(served)) = (client, served) else {
        return f64::NAN;
    };
    tokio::spawn(async move {
        while let Ok((lane, frame)) = served.recv().await {
            drop(served.send(lane, frame).await);
        }
    });
    let frame = Bytes::from(vec![1; bytes]);
    let began = Instant::now();
    let n = 3000;
    for _ in 0..n {
        drop(client.send(Lane::Control, frame.clone()).await);
        drop(client.recv().await);
    }
    f64::from(n) / began.elapsed().as_secs_f64()
}

fn wire() {
    let runtime = runtime();
    println!(
        "{:>10} {:>8} {:>12} {:>10} {:>10} {:>12} {:>12}",
        "publishers", "bytes", "accepted/s", "p50 ms", "p99 ms", "raw echo/s", "raw sync/s"
    );
    for body in [256, 4096] {
        for publishers in [1, 8, 64] {
            let mut house = crowd(publishers + 1);
            let Ok(dir) = tempfile::tempdir() else { return };
            let site = Site::new(dir.path(), &mut house);
            let Ok(mut child) = broker(&site) else { return };
            let each = (4_000 / publishers).max(60);
            let mut entropy = SeededEntropy::new(1);
            let pools: Vec<Vec<Bytes>> = (1..=publishers)
                .map(|p| {
                    let d = draft(p, vec![0], body);
                    let one = |_| house.seal(&d, now(), &mut entropy).get().encode();
                    (0..each).map(one).collect()
                })
                .collect();
            let bytes = pools[0][0].len();
            let (rate, times) = runtime.block_on(async {
                // The recipient comes once, so that its certificate is known.
                drop(site.peer_soon(&house, 0).await);
                let mut tasks = vec![];
                let mut peers = vec![];
                for p in 1..=publishers {
                    peers.push(site.peer_soon(&house, p).await);
                }
                let began = Instant::now();
                for (peer, pool) in peers.into_iter().zip(pools) {
                    tasks.push(tokio::spawn(async move {
                        let mut times = Vec::with_capacity(pool.len());
                        for e in pool {
                            let at = Instant::now();
                            peer.publish(e).await?;
                            match peer.decision().await? {
                                Frame::Accepted { .. } => {
                                    times.push(at.elapsed().as_secs_f64() * 1e3)
                                }
                                other => panic!("{other:?}"),
                            }
                        }
                        Some(times)
                    }));
                }
                let mut times = vec![];
                for task in tasks {
                    times.extend(task.await.ok().flatten().unwrap_or_default());
                }
                (times.len() as f64 / began.elapsed().as_secs_f64(), times)
            });
            drop((child.kill(), child.wait()));
            let mut times = times;
            times.sort_by(f64::total_cmp);
            let raw = runtime.block_on(echo(&mut house, bytes));
            let syncs = raw_syncs(dir.path(), bytes + 700, Duration::from_millis(500));
            println!(
                "{publishers:>10} {body:>8} {rate:>12.0} {:>10.2} {:>10.2} {raw:>12.0} {syncs:>12.0}",
                percentile(&times, 50),
                percentile(&times, 99)
            );
        }
    }
}

fn broker(site: &Site) -> std::io::Result<std::process::Child> {
    Command::new(std::env::current_exe()?)
        .arg(crash::ROLE)
        .arg("-c")
        .arg(site.broker_toml())
        .arg("serve")
        .env("RUST_LOG", "error")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN)
}

fn idle() {
    const CONNECTIONS: usize = 1000;
    let runtime = runtime();
    let mut house = crowd(CONNECTIONS + 1);
    let Ok(dir) = tempfile::tempdir() else { return };
    let site = Site::new(dir.path(), &mut house);
    let Ok(mut child) = broker(&site) else { return };
    runtime.block_on(async {
        drop(site.peer_soon(&house, 0).await);
        let before = resident(child.id());
        let mut held = vec![];
        for (n, at) in [(250, 250), (250, 500), (500, CONNECTIONS)] {
            for i in (at - n + 1)..=at {
                held.push(site.peer_soon(&house, i).await);
            }
            let kib = (resident(child.id()) - before) / at as f64;
            println!("{at:>6} idle connections: {kib:.1} KiB each");
        }
    });
    drop((child.kill(), child.wait()));
}
