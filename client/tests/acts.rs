//! The program where labels are established, revised and taken out of the system: the test plays the broker.

mod played;

use std::os::unix::fs::PermissionsExt;

use ordonnans_label::State;
use ordonnans_message::{
    ActKind, Envelope, Frame, ReceiptKind, ReplyCode, SignedAct, SignedDeclaration, SignedReceipt,
};
use ordonnans_transport::{Connection, Lane};
use played::{Node, greets, next, published, says, structure, text};

const CERT: &str = "ca/issued/vermeer.person.crisis.example/cert.pem";
const KEY: &str = "ca/issued/vermeer.person.crisis.example/key.pem";
const SIGN: [&str; 4] = ["--as", CERT, "--key", KEY];
const LABEL: &str = "Dep.V // TOT 2036-01-01";

fn done(node: &Node, args: &[&str]) -> String {
    let out = node.says(args);
    assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
    text(&out.stdout).trim().to_owned()
}

/// Runs a command that waits for the broker, which the test plays meanwhile.
async fn waits<T>(node: &Node, args: &[&str], play: impl Future<Output = T>) -> (i32, String, T) {
    let mut command = node.command(args);
    command.stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let child = command.spawn().expect("runs");
    let played = play.await;
    let out = tokio::task::spawn_blocking(move || child.wait_with_output());
    let out = out.await.expect("joined").expect("ends");
    let said = text(&out.stdout) + &text(&out.stderr);
    (out.status.code().unwrap_or(-1), said, played)
}

async fn accept(line: &Connection, envelope: &Envelope) {
    let header = envelope.header();
    let accepted = Frame::Accepted {
        id: header.id,
        at: header.created,
        sequence: 4,
    };
    says(line, Lane::Control, accepted).await;
}

async fn hears_act(line: &Connection) -> (SignedAct, Frame) {
    loop {
        if let frame @ Frame::Act { .. } = next(line).await {
            let Frame::Act { act } = &frame else {
                unreachable!()
            };
            return (SignedAct::decode(act).expect("an act"), frame);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_draft_to_the_end_of_its_rubricering() {
    let dir = tempfile::tempdir().expect("a folder");
    let (node, listener) = structure(dir.path());
    std::fs::write(dir.path().join("text"), "(Dep.V) the dike").expect("written");
    let _daemon = node.daemon();
    let (line, _) = greets(&listener).await;
    let message = ["--to", "ncc", "-l", LABEL, "-s", "secret", "-f", "text"];
    let words = |first: &[&'static str], rest: &[&'static str]| [first, rest].concat();

    // Without anyone to establish it, it does not go out.
    let refused = node.says(&words(&["send"], &message));
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("ordonnans label propose"),
        "{}",
        text(&refused.stderr)
    );
    let draft = done(&node, &words(&["label", "propose"], &message));
    let drafts = node.rows(&["label", "drafts", "--json"]);
    assert_eq!(
        (&drafts[0]["draft"], &drafts[0]["label"]),
        (&draft.clone().into(), &LABEL.into())
    );
    assert_eq!(done(&node, &["label", "draft", &draft]), "(Dep.V) the dike");
    let id = done(
        &node,
        &words(&["label", "establish"], &[])
            .into_iter()
            .chain([draft.as_str()])
            .chain(SIGN)
            .collect::<Vec<_>>(),
    );
    let envelope = Envelope::decode(&published(&line).await).expect("an envelope");
    let header = envelope.header().clone();
    assert_eq!(header.id.to_string(), id);
    let act = header.act.clone().expect("an act");
    assert_eq!(
        header.label.state,
        State::Established {
            by: act.said().by.clone()
        }
    );
    accept(&line, &envelope).await;
    let began = std::time::Instant::now();
    while !node.rows(&["label", "drafts", "--json"]).is_empty() {
        assert!(began.elapsed().as_secs() < 20, "it is a draft no more");
    }
    let gone = node.says(&["label", "discard", &draft]);
    assert_eq!(gone.status.code(), Some(1));

    // What the broker refuses is a draft still.
    let fast = [&["send"][..], &message, &SIGN, &["--wait"]].concat();
    let (code, said, ()) = waits(&node, &fast, async {
        let envelope = Envelope::decode(&published(&line).await).expect("an envelope");
        let no = Frame::Refused {
            id: Some(envelope.header().id),
            code: ReplyCode::NotPermitted,
            rule: Some(7),
            recipient: None,
            retry_after_ms: None,
        };
        says(&line, Lane::Control, no).await;
    })
    .await;
    let kept = node.rows(&["label", "drafts", "--json"]);
    let kept = kept[0]["draft"].as_str().expect("a draft");
    assert!(
        code == 1 && said.contains(&format!("kept as draft {kept}")),
        "{said}"
    );
    done(&node, &["label", "discard", kept]);

    // In one step, at three in the morning.
    let fast = [&["send"][..], &message, &SIGN, &["--wait"]].concat();
    let (code, said, second) = waits(&node, &fast, async {
        let envelope = Envelope::decode(&published(&line).await).expect("an envelope");
        accept(&line, &envelope).await;
        envelope
    })
    .await;
    assert_eq!(
        (code, said.trim()),
        (0, second.header().id.to_string().as_str())
    );
    assert!(second.header().act.is_some());
    assert_ne!(
        second.header().act,
        header.act,
        "another salt, another content"
    );

    // Another label, and the end.
    let revise = [
        &["label", "revise", &id, "-l", "Stg.C // TOT 2036-01-01"][..],
        &SIGN,
    ]
    .concat();
    let (code, said, revised) = waits(&node, &revise, async {
        let (revised, frame) = hears_act(&line).await;
        says(&line, Lane::Control, Frame::Kept { of: frame.digest() }).await;
        revised
    })
    .await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("in force"), "{said}");
    assert_eq!(revised.said().follows.map(|f| f.act), Some(act.digest()));
    let end = [&["label", "end", &id][..], &SIGN].concat();
    let (code, said, ended) = waits(&node, &end, async {
        let (ended, frame) = hears_act(&line).await;
        let no = Frame::NotKept {
            of: frame.digest(),
            code: ReplyCode::NotPermitted,
            rule: Some(7),
        };
        says(&line, Lane::Control, no).await;
        ended
    })
    .await;
    assert_eq!((code, ended.said().kind), (1, ActKind::End));
    assert!(said.contains("POL-07"), "{said}");
    let history = node.rows(&["label", "history", &id, "--json"]);
    let acts: Vec<&str> = history.iter().filter_map(|r| r["act"].as_str()).collect();
    assert_eq!(acts, ["establish", "revise"]);
    let sent = node.rows(&["receipts", "--json"]);
    let row = sent.iter().find(|r| r["id"] == id.as_str()).expect("ours");
    assert!(
        row["label"]
            .as_str()
            .is_some_and(|l| l.starts_with("Dep.V")),
        "{row}"
    );
    assert!(
        row["label_now"]
            .as_str()
            .is_some_and(|l| l.starts_with("Stg.C")),
        "{row}"
    );

    // An event, and what comes of it.
    let declare = [&["event", "declare", "einde"][..], &SIGN].concat();
    let (code, said, event) = waits(&node, &declare, async {
        let frame = loop {
            if let frame @ Frame::Declare { .. } = next(&line).await {
                break frame;
            }
        };
        says(&line, Lane::Control, Frame::Kept { of: frame.digest() }).await;
        let Frame::Declare { declaration } = frame else {
            unreachable!()
        };
        SignedDeclaration::decode(&declaration).expect("a declaration")
    })
    .await;
    assert_eq!((code, &*event.said().event), (0, "einde"), "{said}");
    let due = Frame::ReviewDue {
        id: header.id,
        by: act.said().by.clone(),
        event: Some("einde".into()),
    };
    let of = due.digest();
    says(&line, Lane::Control, due).await;
    while !matches!(next(&line).await, Frame::Kept { of: said } if said == of) {}
    let due = node.rows(&["label", "due", "--json"]);
    assert_eq!(
        (&due[0]["id"], &due[0]["event"]),
        (&id.into(), &"einde".into())
    );
    // What a draft says lies on the disk only sealed.
    let bytes = std::fs::read(dir.path().join("data/spool.redb")).expect("a file");
    for word in [&b"the dike"[..], b"secret"] {
        assert!(!bytes.windows(word.len()).any(|w| w == word));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_the_system_with_its_label_and_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let (node, listener) = structure(dir.path());
    std::fs::write(dir.path().join("rapport.txt"), "the dike").expect("written");
    let _daemon = node.daemon();
    let (line, _) = greets(&listener).await;
    let send = [
        "send",
        "--to",
        "ncc",
        "-l",
        LABEL,
        "-f",
        "rapport.txt",
        "--media-type",
        "text/plain",
    ];
    let id = done(&node, &[&send[..], &SIGN].concat());
    let envelope = Envelope::decode(&published(&line).await).expect("an envelope");
    accept(&line, &envelope).await;
    let lane = Lane::Class(envelope.header().precedence());
    let bytes = envelope.encode();
    says(&line, lane, Frame::Deliver { envelope: bytes }).await;
    let kind = |frame| match frame {
        Frame::Receipt { receipt } => Some(
            SignedReceipt::decode(&receipt)
                .expect("a receipt")
                .said()
                .kind,
        ),
        _ => None,
    };
    while kind(next(&line).await) != Some(ReceiptKind::Delivered) {}
    let rows = node.rows(&["export", &id, "out", "--stanag", "--json"]);
    // The log hears of it.
    while kind(next(&line).await) != Some(ReceiptKind::Exported) {}
    assert_eq!((rows.len(), &rows[0]["file"]), (1, &"rapport.txt".into()));
    let file = dir.path().join("out/rapport.txt");
    assert_eq!(std::fs::read(&file).expect("a file"), b"the dike");
    let mode = std::fs::metadata(&file)
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = node.says(&["export", &id, "out", "--stanag"]);
    assert_eq!(again.status.code(), Some(2), "the folder is there");

    let read = node.rows(&["import", "out/rapport.txt.bdo", "--json"]);
    assert!(
        read[0]["label"]
            .as_str()
            .is_some_and(|l| l.starts_with(LABEL)),
        "{read:?}"
    );
    assert_eq!(
        (&read[0]["file_is_the_one"], &read[0]["valid"]),
        (&true.into(), &true.into())
    );
    assert_eq!(read[0]["originator"], "ncc.node.crisis.example");
    std::fs::write(&file, "another").expect("written");
    let other = node.says(&["import", "out/rapport.txt.bdo"]);
    assert_eq!(other.status.code(), Some(4), "it is bound to another file");

    done(&node, &["export", &id, "held", "--stanag", "--encapsulate"]);
    assert!(!dir.path().join("held/rapport.txt").exists());
    done(&node, &["import", "held/rapport.txt.bdo", "-o", "back.txt"]);
    assert_eq!(
        std::fs::read(dir.path().join("back.txt")).expect("a file"),
        b"the dike"
    );
    std::fs::write(dir.path().join("x.bdo"), "<!DOCTYPE a>").expect("written");
    let bad = node.says(&["import", "x.bdo"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(
        text(&bad.stderr).contains("document type"),
        "{}",
        text(&bad.stderr)
    );
    let xml = done(
        &node,
        &[
            "label",
            "render",
            "NATO SECRET // CONTEXT NATO",
            "--language",
            "xml",
        ],
    );
    assert!(xml.contains("originatorConfidentialityLabel"), "{xml}");
    let nato = "NATO SECRET // CONTEXT NATO";
    let ess = done(&node, &["label", "render", nato, "--language", "ess"]);
    let back = node.rows(&["label", "parse", &ess, "--ess", "--json"]);
    assert!(
        back[0]["label"]
            .as_str()
            .is_some_and(|l| l.starts_with(nato)),
        "{back:?}"
    );
    let bad = node.says(&["label", "parse", "MQYCAQQGASk=", "--ess"]);
    assert!(
        text(&bad.stderr).contains("'1.1' is known here"),
        "{}",
        text(&bad.stderr)
    );
    let list = ["label", "catalog", "--to", "ncc", "--xmpp"];
    let (code, said, ()) = waits(&node, &list, async {
        let Frame::CatalogGet { request, .. } = next(&line).await else {
            panic!("a question");
        };
        let labels = vec!["Dep.V".parse().expect("a label")];
        says(&line, Lane::Control, Frame::Catalog { request, labels }).await;
    })
    .await;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("esssecuritylabel") && said.contains("selector=\"Dep.V\""),
        "{said}"
    );
}

/// The next message that a daemon publishes; receipts of its own are passed over.
async fn publishes(line: &Connection) -> bytes::Bytes {
    loop {
        if let Frame::Publish { envelope } = next(line).await {
            return envelope;
        }
    }
}

/// What a daemon was given, and its broker has.
async fn sent_and_delivered(line: &Connection) -> Envelope {
    let bytes = publishes(line).await;
    let envelope = Envelope::decode(&bytes).expect("an envelope");
    accept(line, &envelope).await;
    let deliver = Frame::Deliver { envelope: bytes };
    says(
        line,
        Lane::Class(ordonnans_message::Precedence::Routine),
        deliver,
    )
    .await;
    envelope
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_passed_on_and_an_extract_is_signed_by_two() {
    const BOS: [&str; 4] = [
        "--as",
        "ca/issued/bos.person.crisis.example/cert.pem",
        "--key",
        "ca/issued/bos.person.crisis.example/key.pem",
    ];
    let dir = tempfile::tempdir().expect("a folder");
    let (node, listener) = structure(dir.path());
    std::fs::write(dir.path().join("text"), "(Stg.C) the dike").expect("written");
    std::fs::write(dir.path().join("less"), "be careful").expect("written");
    let _daemon = node.daemon();
    let (line, _) = greets(&listener).await;
    let stg_c = "Stg.C // TOT 2036-01-01";
    let first = [
        &["send", "--to", "ncc", "-l", stg_c, "-f", "text"][..],
        &SIGN,
    ]
    .concat();
    let id = done(&node, &first);
    let parent = sent_and_delivered(&line).await;
    let began = std::time::Instant::now();
    while node.rows(&["inbox", "--json"]).is_empty() {
        assert!(began.elapsed().as_secs() < 20, "it comes in");
    }

    // As it is: the same act, and the reader's own receipt.
    let forward = [&["forward", &id, "--to", "ncc"][..], &SIGN].concat();
    let on = done(&node, &forward);
    let passed = Envelope::decode(&publishes(&line).await).expect("an envelope");
    accept(&line, &passed).await;
    let (h, of) = (passed.header(), parent.header());
    assert_eq!(h.id.to_string(), on);
    assert_eq!((&h.act, &h.label), (&of.act, &of.label));
    assert_eq!(h.passed.as_ref().map(|p| p.parent), Some(of.id));
    let author = h.author.as_ref().map(ToString::to_string);
    assert_eq!(author.as_deref(), Some("vermeer.person.crisis.example"));
    for (words, code, what) in [
        (
            &["forward", &on, "--to", "ncc"][..],
            1,
            "is not in the inbox",
        ),
        (&["forward", "x", "--to", "ncc"], 2, "not a message id"),
        (&["forward", &id], 2, "no recipient"),
    ] {
        let out = node.says(words);
        assert_eq!(out.status.code(), Some(code), "{words:?}");
        assert!(text(&out.stderr).contains(what), "{}", text(&out.stderr));
    }

    // An extract: a draft, the vaststeller, and somebody else.
    let extract = [
        "extract",
        &id,
        "-l",
        LABEL,
        "--content",
        "less",
        "--to",
        "ncc",
    ];
    let draft = done(&node, &extract);
    let second = |by: [&'static str; 4]| {
        let words = ["label", "second", &draft].map(str::to_owned);
        let rest = by.iter().chain(&["--wait"]).map(|w| (*w).to_owned());
        words.into_iter().chain(rest).collect::<Vec<String>>()
    };
    let refused = |words: &[String], what: &str| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let out = node.says(&words);
        assert_eq!(out.status.code(), Some(1), "{words:?}");
        assert!(text(&out.stderr).contains(what), "{}", text(&out.stderr));
    };
    refused(&second(BOS), "waits for no second person");
    let establish = [&["label", "establish", &draft][..], &SIGN].concat();
    assert_eq!(done(&node, &establish), draft, "it waits");
    refused(&second(SIGN), "POL-29");
    let shown = node.says(&["label", "draft", &draft]);
    assert!(
        text(&shown.stderr).contains("signed_by"),
        "{}",
        text(&shown.stderr)
    );
    let words = second(BOS);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (code, said, ()) = waits(&node, &words, async {
        let envelope = Envelope::decode(&publishes(&line).await).expect("an envelope");
        let no = Frame::Refused {
            id: Some(envelope.header().id),
            code: ReplyCode::NotPermitted,
            rule: Some(30),
            recipient: None,
            retry_after_ms: None,
        };
        says(&line, Lane::Control, no).await;
    })
    .await;
    assert_eq!(code, 1);
    assert!(
        said.contains("POL-30") && said.contains("cleared for the parent"),
        "{said}"
    );
    let (code, said, extract) = waits(&node, &words, async {
        let envelope = Envelope::decode(&publishes(&line).await).expect("an envelope");
        accept(&line, &envelope).await;
        envelope
    })
    .await;
    assert_eq!(
        (code, said.trim()),
        (0, extract.header().id.to_string().as_str())
    );
    let passed = extract.header().passed.as_ref().expect("it says so");
    let act = extract.header().act.as_ref().expect("an act");
    let word = passed.second.as_ref().expect("a second").said();
    assert_eq!((word.act, passed.parent), (act.digest(), of.id));
    assert_eq!(act.said().kind, ActKind::Extract);
}
