//! Whoever is no longer believed is cut off, gets nothing meanwhile, and stands in the log; lists that are late, forged or put back.

use std::time::{Duration, Instant, SystemTime};

use ordonnans_audit::{Detail, Public, Verb};
use ordonnans_broker::{Broker, admin};
use ordonnans_certs::Validity;
use ordonnans_client::Daemon;
use ordonnans_client::config::Config;
use ordonnans_client::local::{Request, ask};
use ordonnans_client::officer::Officer;
use ordonnans_identity::Trust;
use ordonnans_label::{Clearance, Level};
use ordonnans_message::{Envelope, Frame, Precedence};
use ordonnans_seal::{SeededEntropy, Verified};
use ordonnans_tests::house::{Draft, House, STRUCTURE, register_text};
use ordonnans_tests::site::{Peer, Site, WITHIN, now, whole, write_credentials, write_trust};
use ordonnans_transport::CloseCode;
use tokio_util::sync::CancellationToken;

const NCC: usize = 0;
const DEF: usize = 1;
/// What was brought takes force within this time.
const AT_ONCE: Duration = Duration::from_secs(1);

struct World {
    house: House,
    site: Site,
    broker: Option<Broker>,
    entropy: SeededEntropy,
    _dir: tempfile::TempDir,
}

/// From a minute ago until so many seconds from now.
fn until(seconds: i64) -> Validity {
    let now = SystemTime::now();
    Validity {
        from: (now - Duration::from_secs(60)).into(),
        until: time(now, seconds).into(),
    }
}

fn time(from: SystemTime, seconds: i64) -> SystemTime {
    let span = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        from - span
    } else {
        from + span
    }
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut house = House::new();
        let site = Site::new(dir.path(), &mut house);
        let broker = Broker::start(site.config()).await.expect("starts");
        // What a node may hold is known once its certificate was seen.
        for node in [NCC, DEF] {
            site.peer(&house, node)
                .await
                .expect("comes in")
                .leave()
                .await;
        }
        Self {
            house,
            site,
            broker: Some(broker),
            entropy: SeededEntropy::new(9),
            _dir: dir,
        }
    }

    fn broker(&self) -> &Broker {
        self.broker.as_ref().expect("it runs")
    }

    async fn stop(&mut self) {
        let broker = self.broker.take().expect("it runs");
        broker.stop().await.expect("stops");
    }

    async fn start(&mut self) -> Result<(), String> {
        let started = Broker::start(self.site.config()).await;
        self.broker = Some(started.map_err(|e| e.to_string())?);
        Ok(())
    }

    async fn peer(&self, node: usize) -> Peer {
        self.site.peer(&self.house, node).await.expect("comes in")
    }

    fn put(&self, trust: &Trust) {
        write_trust(&self.site.dir, trust);
    }

    /// A certificate for DEF in place of the one it has.
    fn reissue(&mut self, validity: Validity) {
        let node = &mut self.house.nodes[DEF];
        let holds = Clearance::new(Level::StgG).with_circle("ICCB");
        let holds = holds.expect("a circle");
        let issued = self
            .house
            .authority
            .issue_with(&node.name, &holds, validity, None);
        node.issued = issued.expect("made");
    }

    async fn publish(&mut self, from: &Peer) -> (Verified<Envelope>, Frame) {
        let draft = Draft {
            from: NCC,
            to: vec![DEF],
            level: Level::DepV,
            circle: false,
            precedence: Precedence::Routine,
            lifetime: 3_600_000,
            body: b"inhoud".to_vec(),
        };
        let e = self.house.seal(&draft, now(), &mut self.entropy);
        from.publish(e.get().encode()).await.expect("sends");
        (e, from.decision().await.expect("decides"))
    }

    async fn status(&self) -> admin::Status {
        let socket = self.site.config().admin_socket;
        admin::ask(&socket).await.expect("answers")
    }

    /// Waits until a record of this kind holds this, and gives its detail.
    async fn record(&self, verb: Verb, holds: impl Fn(&Detail) -> bool) -> Detail {
        let began = Instant::now();
        loop {
            let mut officer = Officer::connect(&self.site.officer())
                .await
                .expect("comes in");
            let (entries, _) = whole(&mut officer).await.expect("reads");
            officer.finish().await;
            let all = entries.iter().filter_map(|e| e.read());
            let mut found = all
                .filter(|(p, _): &(Public, _)| p.verb == verb)
                .filter_map(|(_, d)| d);
            if let Some(detail) = found.find(|d| holds(d)) {
                return detail;
            }
            assert!(began.elapsed() < WITHIN, "the record does not come");
        }
    }

    /// One copy lies with DEF, who has not confirmed it. What DEF hears of it.
    async fn owed(&mut self, from: &Peer, to: &Peer) -> Verified<Envelope> {
        let (e, answer) = self.publish(from).await;
        assert!(matches!(answer, Frame::Accepted { .. }), "{answer:?}");
        assert_eq!(delivered(to).await, e.get().digest());
        e
    }

    /// DEF was cut off: it stands in the log, does not come in as what it was, and its copy is held.
    async fn cut_and_held(&self, to: &Peer, why: &str) {
        let closed = tokio::time::timeout(WITHIN, to.connection.closed()).await;
        let closed = closed.expect("is cut off");
        assert_eq!(closed.code, Some(CloseCode::NotBelieved), "{closed}");
        let name = self.house.nodes[DEF].name.clone();
        let ended = |d: &Detail| d.who.as_ref() == Some(&name) && noted(d, why);
        self.record(Verb::SessionClosed, ended).await;
        assert!(self.site.peer(&self.house, DEF).await.is_none());
        let began = Instant::now();
        while self.status().await.queued != 1 {
            assert!(began.elapsed() < WITHIN, "the copy is not held");
            tokio::task::yield_now().await;
        }
    }
}

fn noted(d: &Detail, text: &str) -> bool {
    d.note.as_ref().is_some_and(|n| n.contains(text))
}

async fn delivered(to: &Peer) -> ordonnans_message::Digest {
    let delivered = async {
        loop {
            if let Frame::Deliver { envelope } = to.hear().await.expect("hears") {
                return Envelope::decode(&envelope).expect("decodes").digest();
            }
        }
    };
    tokio::time::timeout(WITHIN, delivered)
        .await
        .expect("in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_peer_is_cut_at_once_its_copies_are_held_and_it_stands_in_the_log() {
    let mut w = World::new().await;
    let (from, to) = (w.peer(NCC).await, w.peer(DEF).await);
    let e = w.owed(&from, &to).await;
    w.house.authority.revoke(&w.house.nodes[DEF].issued);
    w.put(&w.house.authority.trust().expect("trust"));
    let began = Instant::now();
    w.broker().reload().await.expect("reloads");
    tokio::time::timeout(
        AT_ONCE.saturating_sub(began.elapsed()),
        to.connection.closed(),
    )
    .await
    .expect("within a second of the reload");
    w.cut_and_held(&to, "believed: it is revoked").await;
    w.record(Verb::CrlChanged, |d| noted(d, "1 nodes and 1 connections"))
        .await;
    // It came back and was not let in: that is counted with its reason.
    let refused = |d: &Detail| noted(d, "refused before they were known: 1 certificate revoked");
    w.record(Verb::SessionRefused, refused).await;
    let (_, answer) = w.publish(&from).await;
    assert!(matches!(answer, Frame::Refused { .. }), "{answer:?}");
    // With another certificate it gets what was kept for it.
    w.reissue(until(3_600));
    assert_eq!(delivered(&w.peer(DEF).await).await, e.get().digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_whose_certificate_ends_on_the_line_is_cut_its_copies_are_held_and_it_stands_in_the_log()
 {
    let mut w = World::new().await;
    let short = until(6);
    w.reissue(short);
    let (from, to) = (w.peer(NCC).await, w.peer(DEF).await);
    let e = w.owed(&from, &to).await;
    let closed = tokio::time::timeout(WITHIN, to.connection.closed()).await;
    closed.expect("is cut off");
    // The last second of a certificate counts, and live ones are looked at every second; a busy machine has two more.
    let after = now().as_millis() / 1_000 - short.until.unix_timestamp().unsigned_abs();
    assert!(after <= 4, "{after} s after its end");
    w.cut_and_held(&to, "believed: it has ended").await;
    // Whose certificate has merely ended is written to still: it comes back with another.
    let (_, answer) = w.publish(&from).await;
    assert!(matches!(answer, Frame::Accepted { .. }), "{answer:?}");
    w.reissue(until(3_600));
    assert_eq!(delivered(&w.peer(DEF).await).await, e.get().digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_the_register_suspends_is_cut_at_once_its_copies_are_held_and_it_stands_in_the_log()
 {
    let mut w = World::new().await;
    let (from, to) = (w.peer(NCC).await, w.peer(DEF).await);
    let e = w.owed(&from, &to).await;
    let register = w.site.dir.join("register.toml");
    std::fs::write(&register, register_text(2, Some(DEF))).expect("writes");
    let began = Instant::now();
    w.broker().reload().await.expect("reloads");
    tokio::time::timeout(
        AT_ONCE.saturating_sub(began.elapsed()),
        to.connection.closed(),
    )
    .await
    .expect("within a second of the reload");
    w.cut_and_held(&to, "standing").await;
    w.record(Verb::RegisterChanged, |_| true).await;
    let (_, answer) = w.publish(&from).await;
    assert!(matches!(answer, Frame::Refused { .. }), "{answer:?}");
    std::fs::write(&register, register_text(3, None)).expect("writes");
    w.broker().reload().await.expect("reloads");
    assert_eq!(delivered(&w.peer(DEF).await).await, e.get().digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_list_is_an_alarm_and_nobody_stands_still_until_the_grace_is_over() {
    let mut w = World::new().await;
    w.stop().await;
    let late = w.house.authority.lists_of(until(-30)).expect("lists");
    let late = w.house.authority.trust_with(late.into()).expect("trust");
    w.put(&late);
    w.start().await.expect("within the grace");
    w.record(Verb::Alarm, |d| noted(d, "issuing', number 1, ended"))
        .await;
    let warned = w.status().await;
    assert_eq!(warned.lists.len(), 2);
    assert!(
        warned
            .warnings
            .iter()
            .all(|t| t.contains("without a new one"))
    );
    assert_eq!(warned.warnings.len(), 2);
    let (from, to) = (w.peer(NCC).await, w.peer(DEF).await);
    w.owed(&from, &to).await;
    // New lists end it.
    w.put(&w.house.authority.trust().expect("trust"));
    w.broker().reload().await.expect("reloads");
    let began = Instant::now();
    while !w.status().await.warnings.is_empty() {
        assert!(began.elapsed() < WITHIN, "it still warns");
        tokio::task::yield_now().await;
    }
    // Where there is no grace, they are refused by name.
    w.stop().await;
    let toml = w.site.broker_toml();
    let text = std::fs::read_to_string(&toml).expect("reads");
    std::fs::write(&toml, format!("{text}[crl]\ngrace_hours = 0\n")).expect("writes");
    w.put(&late);
    let why = w.start().await.expect_err("without grace");
    assert!(
        why.contains("revocation list by") && why.contains("believed since"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_are_put_back_or_forged_change_nothing_and_are_an_alarm() {
    let mut w = World::new().await;
    let from = w.peer(NCC).await;
    let before = w.house.authority.trust().expect("trust");
    w.house.authority.revoke(&w.house.nodes[DEF].issued);
    let after = w.house.authority.trust().expect("trust");
    w.put(&after);
    w.broker().reload().await.expect("reloads");
    // Older ones, on a reload and at a start.
    w.put(&before);
    let numbers = "has number 1, and number 2 was in force";
    let why = w.broker().reload().await.expect_err("older").to_string();
    assert!(why.contains(numbers), "{why}");
    w.record(Verb::Alarm, |d| noted(d, "has number 1")).await;
    assert!(w.site.peer(&w.house, DEF).await.is_none(), "still revoked");
    // One by somebody of the same name.
    let other = House::new().authority.lists().expect("lists");
    let [root, _] = w.house.authority.lists().expect("lists");
    let pem = |der: &[u8]| {
        let text = data_encoding::BASE64.encode(der);
        format!("-----BEGIN X509 CRL-----\n{text}\n-----END X509 CRL-----\n")
    };
    let trust = w.site.dir.join("trust");
    std::fs::write(trust.join("root.crl.pem"), pem(&root)).expect("writes");
    std::fs::write(trust.join("issuing.crl.pem"), pem(&other[1])).expect("writes");
    let why = w.broker().reload().await.expect_err("forged").to_string();
    assert!(why.contains("wrong signature"), "{why}");
    // The officer reads the same folder.
    w.put(&after);
    w.record(Verb::Alarm, |d| noted(d, "wrong signature")).await;
    // Who was in is served, and who belongs in comes in.
    let (_, answer) = w.publish(&from).await;
    assert!(
        matches!(answer, Frame::Refused { .. }),
        "the recipient is revoked"
    );
    w.peer(NCC).await.leave().await;
    w.stop().await;
    w.put(&before);
    let why = w.start().await.expect_err("older");
    assert!(why.contains(numbers), "{why}");
    // A record that is damaged is named; one that is gone is an alarm.
    let kept = w.site.dir.join("data/crl.numbers");
    let good = std::fs::read_to_string(&kept).expect("kept");
    std::fs::write(&kept, good.replacen(' ', "  ", 1)).expect("writes");
    let why = w.start().await.expect_err("damaged");
    assert!(why.contains("crl.numbers is damaged"), "{why}");
    std::fs::remove_file(&kept).expect("removes");
    w.put(&after);
    w.start().await.expect("begins anew");
    w.record(Verb::Alarm, |d| noted(d, "list numbers is gone"))
        .await;
    assert_eq!(std::fs::read_to_string(&kept).expect("kept"), good);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_leaves_a_broker_that_is_revoked_and_comes_back_to_its_successor() {
    let mut w = World::new().await;
    let (dir, name) = (w.site.dir.clone(), w.house.broker());
    let shown = |w: &mut World| {
        let issued = w
            .house
            .authority
            .issue(&name, &Clearance::new(Level::Ongerubriceerd));
        let issued = issued.expect("made");
        std::fs::remove_file(dir.join("b1.key.pem")).expect("removes");
        write_credentials(&dir, "b1", &issued);
        issued
    };
    let first = shown(&mut w);
    w.broker().reload().await.expect("reloads");
    let own = w.site.dir.join("own");
    write_trust(&own, &w.house.authority.trust().expect("trust"));
    let credentials = write_credentials(&w.site.dir, "def", &w.house.nodes[DEF].issued);
    let text = format!(
        "broker = \"{}\"\nbroker_name = \"b1.broker.{STRUCTURE}\"\ntrust = \"own/trust\"\ndata = \"def\"\n{credentials}",
        w.site.address
    );
    let toml = w.site.dir.join("def.toml");
    std::fs::write(&toml, text).expect("writes");
    let config = Config::load(&toml).expect("a configuration");
    let stop = CancellationToken::new();
    let running = tokio::spawn(Daemon::run(config.clone(), stop.clone()));
    let says = |request: Request| {
        let socket = config.socket.clone();
        async move {
            let asked = tokio::task::spawn_blocking(move || ask(&socket, &request));
            asked.await.expect("runs")
        }
    };
    let until = async |connected: bool, why: &str| {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < WITHIN, "connected is not {connected}");
            let Ok(status) = says(Request::Status).await else {
                continue;
            };
            let said = status["why"].as_str().unwrap_or_default();
            if status["connected"] == connected && said.contains(why) {
                return;
            }
        }
    };
    until(true, "").await;
    w.house.authority.revoke(&first);
    write_trust(&own, &w.house.authority.trust().expect("trust"));
    says(Request::Reload).await.expect("takes it");
    // It is left first, and then not believed at its door.
    until(false, "evoked").await;
    shown(&mut w);
    w.broker().reload().await.expect("reloads");
    until(true, "").await;
    // Lists that are put back are named to whoever asks, and change nothing.
    let good = std::fs::read(own.join("trust/issuing.crl.pem")).expect("reads");
    let before = std::fs::read(w.site.dir.join("trust/issuing.crl.pem")).expect("reads");
    std::fs::write(own.join("trust/issuing.crl.pem"), before).expect("writes");
    let why = says(Request::Reload).await.expect_err("older").to_string();
    assert!(
        why.contains("has number 1, and number 2 was in force"),
        "{why}"
    );
    until(true, "").await;
    std::fs::write(own.join("trust/issuing.crl.pem"), good).expect("writes");
    says(Request::Reload).await.expect("takes it");
    stop.cancel();
    running.await.expect("runs").expect("stops");
}
