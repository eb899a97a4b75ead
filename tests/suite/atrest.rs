//! What a run leaves on disks and in the broker's memory: nothing of what was written, and no key outside its own file.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use ordonnans_client::config::Config;
use ordonnans_client::local::{Opener, Request, Submission, ask};
use ordonnans_client::opening::{Person, make_key, open_message, publish_key};
use ordonnans_client::signing::{self, Signers};
use ordonnans_message::{MessageId, ReceiptKind};
use ordonnans_tests::site::{WITHIN, now};
use ordonnans_tests::whole::Whole;
use serde_json::Value;

const FROM: usize = 0;
const TO: usize = 1;
/// Bytes of memory that are looked at in one go.
const PART: usize = 1 << 20;

fn found(bytes: &[u8], needle: &[u8]) -> bool {
    // The first byte rules most places out.
    let first = needle[0];
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| *b == first) {
        rest = &rest[at..];
        if rest.starts_with(needle) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

fn files(dir: &Path, all: &mut Vec<PathBuf>) {
    for item in fs::read_dir(dir).expect("a folder") {
        let item = item.expect("an entry");
        let kind = item.file_type().expect("a kind");
        if kind.is_dir() {
            files(&item.path(), all);
        } else if kind.is_file() {
            all.push(item.path());
        }
    }
}

/// The readable memory of a process, given to `look` in parts that overlap; `None` where this machine does not let us.
fn memory(pid: u32, mut look: impl FnMut(&[u8])) -> Option<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mut mem = File::open(format!("/proc/{pid}/mem")).ok()?;
    let (mut part, mut seen) = (vec![0; PART], 0);
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let from = u64::from_str_radix(from, 16).ok()?;
        let to = u64::from_str_radix(to, 16).ok()?;
        if !rest.starts_with('r') {
            continue;
        }
        let mut at = from;
        while at < to {
            let want = usize::try_from(to - at).unwrap_or(PART).min(PART);
            let there = mem.seek(SeekFrom::Start(at));
            let read = there.and_then(|_| mem.read_exact(&mut part[..want]));
            if read.is_ok() {
                look(&part[..want]);
                seen += want as u64;
            }
            // Parts overlap by more than anything that is looked for.
            at += if want == PART { PART - 256 } else { want } as u64;
        }
    }
    (seen > 0).then_some(seen)
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < WITHIN * 3, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn message(to: &str, label: &str, marker: &str, file: &Path) -> Box<Submission> {
    Box::new(Submission {
        to: vec![to.into()],
        info: vec![],
        precedence: "FLASH".into(),
        info_precedence: None,
        label: label.into(),
        exercise: true,
        subject: format!("subject-{marker}"),
        media_type: "text/plain".into(),
        name: None,
        body: format!("body-{marker}").into_bytes(),
        attachments: vec![file.into()],
        author: None,
        expires: now().after(86_400_000),
        reply_by: None,
        references: vec![],
        supersedes: None,
    })
}

/// Waits until a message lies in the inbox and opens it with its attachment.
fn opened(config: &Config, id: MessageId, reader: Option<&Person>, out: &Path) -> Value {
    let text = id.to_string();
    until("it arrives", || {
        let rows = ask(&config.socket, &Request::Inbox).unwrap_or_default();
        let mut rows = rows.as_array().into_iter().flatten();
        rows.any(|r| r["id"] == text.as_str())
    });
    let (socket, kind) = (&config.socket, ReceiptKind::Opened);
    let saved = Some((1, out.to_path_buf()));
    open_message(socket, id, kind, reader, saved).expect("saved");
    open_message(socket, id, kind, reader, None).expect("opens")
}

#[test]
fn nothing_of_what_was_written_lies_anywhere_in_the_open() {
    let program = Path::new(env!("CARGO_BIN_EXE_crash"));
    let (dir, own) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let mut whole = Whole::begin(program, dir.path()).expect("begins");
    let (from, to) = (whole.config(FROM).clone(), whole.config(TO).clone());
    let local = |c: &Config| {
        let name = c.data.file_name().expect("a name");
        name.to_string_lossy().into_owned()
    };
    let (sender, receiver) = (local(&from), local(&to));
    let person = |of: &str| {
        let file = |what: &str| dir.path().join(format!("p-{of}.{what}.pem"));
        (file("cert"), file("key"))
    };
    // The reader's key is the reader's own: it lies outside of everything the node has.
    let seal_key = own.path().join("reader.x-wing");
    make_key(&seal_key).expect("made");
    let (certificate, key) = person(&receiver);
    publish_key(&to.socket, &certificate, &key, &seal_key).expect("published");
    let name = format!("p-{receiver}.person.crisis.example");
    until("the key is listed", || {
        let rows = ask(&to.socket, &Request::Directory).unwrap_or_default();
        let mut rows = rows.as_array().into_iter().flatten();
        rows.any(|r| r["name"] == name.as_str() && r["key"] == true)
    });
    let reader = Person::load(&certificate, &key, std::slice::from_ref(&seal_key)).expect("read");
    let (certificate, key) = person(&sender);
    let vaststeller = Person::load(&certificate, &key, &[]).expect("a person");

    let mut markers = vec![];
    for (level, to_whom, reader) in [
        ("Dep.V", receiver.clone(), None),
        ("Stg.G", format!("p-{receiver}@{receiver}"), Some(&reader)),
    ] {
        let marker = format!("planted-{}-9d41c7", level.replace('.', ""));
        let file = own.path().join(format!("{marker}.bin"));
        fs::write(&file, format!("attachment-{marker} ").repeat(20_000)).expect("written");
        let label = format!("{level} // TOT 2036-01-01");
        let sent = message(&to_whom, &label, &marker, &file);
        let sent = signing::at_once(&from, sent, &vaststeller, true).expect("sent");
        assert_eq!(sent["verdict"]["state"], "accepted", "{sent}");
        let id = sent["id"].as_str().and_then(|t| t.parse().ok());
        let out = own.path().join(format!("{marker}.out"));
        let read = opened(&to, id.expect("an id"), reader, &out);
        let body = read["body"].as_str().unwrap_or_default();
        let body = BASE64.decode(body.as_bytes()).expect("base64");
        assert_eq!(body, format!("body-{marker}").into_bytes());
        assert_eq!(read["subject"], format!("subject-{marker}"));
        let copy = (level == "Stg.G").then_some("exemplaar 1 van 1");
        assert_eq!(read["copy"].as_str(), copy);
        assert_eq!(
            fs::read(&out).expect("read"),
            fs::read(&file).expect("read")
        );
        if reader.is_some() {
            // Without that person there is no opening it: the daemon has no key.
            let node = open_message(
                &to.socket,
                id.expect("an id"),
                ReceiptKind::Opened,
                None,
                None,
            );
            assert!(node.is_err());
        }
        markers.push(marker.into_bytes());
    }

    // A draft at Stg.G waits for the person it is for, and its node cannot open it either.
    let author_key = own.path().join("author.x-wing");
    make_key(&author_key).expect("made");
    publish_key(&from.socket, &certificate, &key, &author_key).expect("published");
    let file = own.path().join("planted-draft-9d41c7.bin");
    fs::write(&file, "attachment-planted-draft-9d41c7").expect("written");
    let to_whom = format!("p-{receiver}@{receiver}");
    let proposed = |marker: &str| message(&to_whom, "Stg.G // TOT 2036-01-01", marker, &file);
    let propose = Request::Propose {
        message: proposed("planted-draft-9d41c7"),
        openers: vec![Opener::Named(format!("p-{sender}"))],
    };
    let draft = ask(&from.socket, &propose).expect("proposed");
    let draft = draft["draft"]
        .as_str()
        .and_then(|d| d.parse().ok())
        .expect("a draft");
    let shown = ask(&from.socket, &Request::Draft { draft }).expect("shown");
    assert!(shown["content"].is_null() && shown["sealed"].is_object());
    let without = Person::load(&certificate, &key, &[]).expect("a person");
    let refused = signing::establish(&from, draft, None, &without, true);
    assert!(
        refused
            .expect_err("no key")
            .to_string()
            .contains("does not open")
    );
    let author =
        Person::load(&certificate, &key, std::slice::from_ref(&author_key)).expect("a person");
    let sent = signing::establish(&from, draft, None, &author, true).expect("sent");
    assert_eq!(sent["verdict"]["state"], "accepted", "{sent}");
    let id = sent["id"]
        .as_str()
        .and_then(|t| t.parse().ok())
        .expect("an id");
    let read = opened(&to, id, Some(&reader), &own.path().join("draft.out"));
    assert_eq!(read["subject"], "subject-planted-draft-9d41c7");
    markers.push(b"planted-draft-9d41c7".to_vec());

    // So does an extract of it, whatever its level. Who signs first, alone, names who can go on; or both sign in one step.
    let (second, second_key) = person(&receiver);
    let second = signing::person(&second, &second_key).expect("a person");
    let extract = |second, later: &[String]| {
        let (first, mut lower) = (&vaststeller, proposed("planted-extract-9d41c7"));
        lower.label = "Dep.V // TOT 2036-01-01".into();
        let signers = Some(Signers { first, second });
        signing::extract(&from, id, lower, signers, later, true)
    };
    let stuck = extract(None, &[]).expect_err("nobody could go on");
    assert!(stuck.hint().contains("--for"), "{stuck}");
    let same = extract(None, &[format!("p-{sender}")]).expect_err("signs already");
    assert!(same.to_string().contains("signs in this step"), "{same}");
    let waits = extract(None, &[format!("p-{receiver}")]).expect("kept");
    let draft = waits["draft"]
        .as_str()
        .and_then(|d| d.parse().ok())
        .expect("a draft");
    let twice = signing::second(&from, draft, &author, true).expect_err("not for the first");
    assert!(twice.to_string().contains("does not open"), "{twice}");
    let sent = signing::second(&from, draft, &reader, true).expect("sent");
    assert_eq!(sent["verdict"]["state"], "accepted", "{sent}");
    let sent = extract(Some(&second), &[]).expect("signed by both");
    assert_eq!(sent["verdict"]["state"], "accepted", "{sent}");
    markers.push(b"planted-extract-9d41c7".to_vec());

    let mut secrets = vec![
        fs::read(&seal_key).expect("read"),
        fs::read(&author_key).expect("read"),
    ];
    let mut keys = vec![];
    for config in [&from, &to] {
        files(&config.data.join("keys"), &mut keys);
    }
    secrets.extend(keys.iter().map(|k| fs::read(k).expect("read")));
    assert_eq!(secrets.len(), 4);
    assert!(secrets.iter().all(|s| s.len() == 32));

    let broker = whole.broker().expect("it runs");
    let mut open = 0;
    let looked = memory(broker, |part| {
        let all = markers.iter().chain(&secrets);
        open += all.filter(|n| found(part, n)).count();
    });
    match looked {
        Some(bytes) => assert!(bytes > 1 << 20, "{bytes} bytes of memory"),
        None => eprintln!("skipped: the memory of another process cannot be read here"),
    }
    assert_eq!(open, 0, "the broker's memory has what it must not have");
    // That this looking would find it: here it is, in this process and on its own disk.
    let mut here = 0;
    if memory(std::process::id(), |part| {
        here += usize::from(found(part, &markers[0]));
    })
    .is_some()
    {
        assert!(here > 0);
    }
    let mut theirs = vec![];
    files(own.path(), &mut theirs);
    let shows = |f: &PathBuf| found(&fs::read(f).expect("read"), &markers[1]);
    assert!(theirs.iter().any(shows));

    whole.kill_all().expect("killed");
    let mut left = vec![];
    files(dir.path(), &mut left);
    assert!(left.len() > 20, "{} files", left.len());
    assert!(left.iter().any(|f| f.ends_with("nodes.log")));
    for file in left {
        let bytes = fs::read(&file).expect("a file");
        for marker in &markers {
            assert!(!found(&bytes, marker), "content in {}", file.display());
        }
        let own_file = keys.contains(&file);
        for secret in secrets.iter().filter(|_| !own_file) {
            assert!(!found(&bytes, secret), "a key in {}", file.display());
        }
    }
}
