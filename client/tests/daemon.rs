//! The program against a broker that the test plays, over loopback QUIC: what `send` promised survives SIGKILL, and what the commands say.

mod played;

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use ordonnans_message::{Envelope, Frame, SignedReceipt};
use ordonnans_transport::{CloseCode, Lane};
use played::{Node, directory, greets, hears, next, published, says, structure, text};

#[tokio::test(flavor = "multi_thread")]
async fn what_send_promised_survives_a_kill() {
    let dir = tempfile::tempdir().expect("a folder");
    let (node, listener) = structure(dir.path());
    std::fs::write(dir.path().join("text"), "the water rises").expect("written");
    let mut daemon = node.daemon();
    let (line, _) = greets(&listener).await;
    let sent = node.says(&[
        "send",
        "--to",
        "ncc",
        "-p",
        "FLASH",
        "-l",
        "Ongerubriceerd",
        "-s",
        "secret",
        "-f",
        "text",
    ]);
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let id = text(&sent.stdout).trim().to_owned();
    let envelope = published(&line).await;
    // Without an answer: the daemon is killed, and the line breaks off.
    daemon.0.kill().expect("killed");
    daemon.0.wait().expect("gone");
    line.close(CloseCode::Stopping, "gone");

    let mut daemon = node.daemon();
    let (line, early) = greets(&listener).await;
    let again = match early {
        Some(envelope) => envelope,
        None => published(&line).await,
    };
    assert_eq!(again, envelope, "the same bytes");
    let header = Envelope::decode(&envelope).expect("an envelope");
    let header = header.header();
    assert_eq!(header.id.to_string(), id);
    let accepted = Frame::Accepted {
        id: header.id,
        at: header.created,
        sequence: 4,
    };
    says(&line, Lane::Control, accepted).await;
    let lane = Lane::Class(header.precedence());
    for _ in 0..2 {
        let envelope = envelope.clone();
        says(&line, lane, Frame::Deliver { envelope }).await;
    }
    let Frame::Receipt { receipt } = next(&line).await else {
        panic!("a receipt");
    };
    let of = SignedReceipt::decode(&receipt).expect("a receipt");
    assert_eq!(of.said().message, header.id);
    says(&line, Lane::Control, Frame::Receipt { receipt }).await;
    while !matches!(next(&line).await, Frame::ReceiptStored { .. }) {}

    let sent = node.rows(&["receipts", "--json"]);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["state"], "accepted");
    assert_eq!(sent[0]["delivered"], 1);
    let receipts = node.rows(&["receipts", &id, "--json"]);
    assert_eq!(receipts[0]["by"], "ncc.node.crisis.example");
    let inbox = node.rows(&["inbox", "--json"]);
    assert_eq!(inbox.len(), 1, "one copy");
    assert_eq!(inbox[0]["precedence"], "flash");
    let read = node.says(&["read", &id]);
    assert_eq!(text(&read.stdout), "the water rises");
    assert_eq!(node.rows(&["inbox", "--json"])[0]["opened"], true);
    let status = node.rows(&["status", "--json"]);
    assert_eq!(status[0]["connected"], true);
    assert_eq!(status[0]["key_exchange"], "X25519MLKEM768");
    assert_eq!(status[0]["cipher_suite"], "TLS13_AES_256_GCM_SHA384");
    assert_eq!(status[0]["carrier"], "quic");
    assert_eq!(status[0]["broker"], "b1.broker.crisis.example");
    assert!(status[0]["broker_certificate_until"].is_string());
    assert_eq!(status[0]["clearance"][0], "Stg.C");
    assert_eq!(status[0]["outbox"], 0);
    assert_eq!(node.rows(&["directory", "--json"])[0]["key"], true);
    assert!(node.says(&["read", &id, "-o", "out"]).status.success());
    let out = std::fs::metadata(dir.path().join("out")).expect("a file");
    assert_eq!(out.permissions().mode() & 0o777, 0o600);
    // The file exists: refused before anything is opened.
    let refused = node.says(&["read", &id, "-o", "text"]);
    assert_eq!(refused.status.code(), Some(2));
    // Nobody of that name has a key.
    let mut unknown = node.command(&["send", "--to", "locc", "-l", "Ongerubriceerd", "-f", "text"]);
    unknown.stderr(Stdio::piped());
    let unknown = unknown.spawn().expect("runs");
    while !matches!(hears(&line).await, Frame::DirectoryGet) {}
    says(&line, Lane::Control, directory(None)).await;
    let unknown = unknown.wait_with_output().expect("ends");
    assert_eq!(unknown.status.code(), Some(1), "{}", text(&unknown.stderr));
    assert!(text(&unknown.stderr).contains("\nHint: "));

    let pid = rustix::process::Pid::from_child(&daemon.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
    assert_eq!(daemon.0.wait().expect("ends").code(), Some(0));
    assert_eq!(line.closed().await.code, Some(CloseCode::Done));
    let nobody = node.says(&["inbox"]);
    assert_eq!(nobody.status.code(), Some(3));
    // Content and subject lie on the disk only sealed.
    let keys = std::fs::read_dir(dir.path().join("data/keys")).expect("a folder");
    let mut files: Vec<_> = keys.map(|k| k.expect("a file").path()).collect();
    assert_eq!(files.len(), 1);
    files.push(dir.path().join("data/spool.redb"));
    for file in files {
        let bytes = std::fs::read(&file).expect("a file");
        for word in [&b"the water"[..], b"secret"] {
            let found = bytes.windows(word.len()).any(|w| w == word);
            assert!(!found, "{}", file.display());
        }
    }
}

#[test]
fn what_cannot_be_done_says_why_and_what_next() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node {
        dir: dir.path().into(),
    };
    let fails = |args: &[&str], code: i32, why: &str| {
        let out = node.says(args);
        assert_eq!(out.status.code(), Some(code), "{args:?}");
        let stderr = text(&out.stderr);
        assert!(stderr.contains(why), "{args:?}: {stderr}");
        assert!(out.stdout.is_empty());
    };
    fails(&["inbox"], 2, "node.toml cannot be read");
    fails(&["frobnicate"], 2, "unrecognized");
    let good = "broker = \"localhost:1\"\nbroker_name = \"b1.broker.crisis.example\"\ntrust = \"t\"\n[identity]\ncertificate = \"c\"\nkey = \"k\"\n";
    let write = |t: &str| std::fs::write(dir.path().join("node.toml"), t).expect("written");
    write(&format!("lisen = 1\n{good}"));
    fails(&["inbox"], 2, "lisen");
    write(good);
    fails(&["inbox"], 3, "Hint: start it with `ordonnans daemon`");
    fails(&["daemon"], 2, "Hint: ");
    fails(&["send", "-l", "Dep.V"], 2, "no recipient");
    fails(&["read", "not-an-id"], 2, "Hint: ");
    fails(&["receipts", "not-an-id"], 2, "Hint: ");
    let when = ["send", "--to", "a", "-l", "x", "--expires", "soon"];
    fails(&when, 2, "`soon` is no time");
    fails(&["audit", "list"], 2, "Hint: ");
    fails(&["audit", "verify", "log", "--key", "k"], 2, "Hint: ");
    for works in [&["completions", "bash"][..], &["man"], &["--version"]] {
        assert!(node.says(works).status.success(), "{works:?}");
    }
}
