//! The program `ordonnans-ca`, as a person at a terminal meets it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn program(dir: &Path) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_ordonnans-ca"));
    c.arg("--dir").arg(dir);
    c
}

fn run(dir: &Path, args: &[&str]) -> Output {
    program(dir).args(args).output().expect("runs")
}

fn out(o: &Output) -> &str {
    std::str::from_utf8(&o.stdout).expect("text")
}

fn err(o: &Output) -> &str {
    std::str::from_utf8(&o.stderr).expect("text")
}

/// Runs what must work, and gives stdout.
fn good(dir: &Path, args: &[&str]) -> String {
    let o = run(dir, args);
    assert_eq!(o.status.code(), Some(0), "{args:?}: {}", err(&o));
    out(&o).to_owned()
}

/// Runs what must fail: nothing on stdout, on stderr one sentence with `about` in it and one hint.
fn bad(dir: &Path, args: &[&str], code: i32, about: &str) {
    let o = run(dir, args);
    assert_eq!(o.status.code(), Some(code), "{args:?}: {}", err(&o));
    assert_eq!(out(&o), "", "{args:?}");
    let lines: Vec<_> = err(&o).lines().collect();
    assert!(
        matches!(lines[..], [what, hint] if what.contains(about) && hint.starts_with("Hint: ")),
        "{args:?}: {lines:?}"
    );
}

fn init(dir: &Path) {
    good(dir, &["init", "--structure", "crisis.example"]);
}

#[test]
fn a_life_of_certificates() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path();
    let trust = format!("{}\n", at.join("trust").display());
    assert_eq!(
        good(at, &["init", "--structure", "crisis.example"]),
        trust,
        "the result is a path"
    );
    let node = [
        "issue",
        "node",
        "ncc",
        "--clearance",
        "Stg. Geheim",
        "--circle",
        "iccb",
        "--circle",
        "NCC",
        "--compartment",
        "crypto",
        "--days",
        "30",
    ];
    let folder = at.join("issued/ncc.node.crisis.example");
    assert_eq!(good(at, &node), format!("{}\n", folder.display()));
    good(at, &["issue", "broker", "b1"]);
    let cert = folder.join("cert.pem");
    let show = good(at, &["show", cert.to_str().expect("a path"), "--json"]);
    let show: Value = serde_json::from_str(&show).expect("JSON");
    assert_eq!(show["name"], "ncc.node.crisis.example");
    assert_eq!(show["clearance"], "Stg.G");
    assert_eq!(show["circles"], serde_json::json!(["ICCB", "NCC"]));
    assert_eq!(show["compartments"], serde_json::json!(["CRYPTO"]));
    assert_eq!(
        (&show["client"], &show["server"]),
        (&true.into(), &false.into())
    );

    let serial = show["serial"].as_str().expect("a number");
    assert_eq!(good(at, &["revoke", serial]), "1 revoked\n");
    assert_eq!(good(at, &["crl"]), trust);
    let rows = good(at, &["show", "--json"]);
    let rows: Vec<Value> = rows
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect();
    let told: Vec<_> = rows.iter().map(|r| (&r["name"], &r["standing"])).collect();
    let is = |s: &str| Value::from(s);
    let expected = [
        (&is("b1.broker.crisis.example"), &is("live")),
        (&is("ncc.node.crisis.example"), &is("revoked")),
    ];
    assert_eq!(told, expected);
    assert_eq!(rows[1]["serial"], *serial);
    assert!(rows[1]["revoked"].is_string() && rows[0]["revoked"].is_null());
}

#[test]
fn bad_input_is_named_with_a_next_step() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path();
    let issue = |name, level| ["issue", "node", name, "--clearance", level];
    bad(at, &issue("a", "Stg.G"), 2, "is no workshop");
    bad(at, &["revoke", "a"], 2, "is no workshop");
    bad(at, &["crl"], 2, "is no workshop");
    bad(at, &["show"], 2, "is no workshop");
    bad(at, &["init", "--structure", "Not A Name"], 2, "Not A Name");
    init(at);
    bad(
        at,
        &["init", "--structure", "crisis.example"],
        1,
        "is a workshop already",
    );
    bad(at, &issue("a", "Top Secret"), 2, "--clearance");
    bad(at, &issue("A b", "Stg.G"), 2, "name");
    let mut long = issue("a", "Stg.G").to_vec();
    long.extend(["--days", "4000"]);
    bad(at, &long, 2, "1 to 1825 days");
    long[6] = "1825";
    bad(at, &long, 1, "cannot outlive");
    let circle = "x".repeat(65);
    long[5..].copy_from_slice(&["--circle", &circle]);
    bad(at, &long, 2, "--circle");
    long[5] = "--compartment";
    bad(at, &long, 2, "--compartment");
    good(at, &issue("a", "Stg.G"));
    bad(
        at,
        &issue("a", "Stg.G"),
        1,
        "a.node.crisis.example has a live",
    );
    bad(at, &["revoke", "nobody"], 1, "'nobody'");
    good(at, &["issue", "person", "a", "--clearance", "Dep.V"]);
    bad(at, &["revoke", "a"], 1, "more than one subject");
    bad(at, &["show", "/dev/null"], 2, "/dev/null");
    let root = at.join("root/root.pem");
    bad(at, &["show", root.to_str().expect("a path")], 2, "DNS name");
    std::fs::write(at.join("issuing/state.toml"), "nonsense").expect("writes");
    bad(at, &["crl"], 5, "state.toml was damaged");

    // Usage: the parser says which argument.
    for args in [
        &["nonsense"][..],
        &["issue", "node", "a"],
        &["issue", "ship", "a", "--clearance", "Stg.G"],
        &["init"],
        &["issue", "node", "a", "--clearance", "Stg.G", "--days", "x"],
    ] {
        assert_eq!(run(at, args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn no_key_is_ever_printed() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path();
    init(at);
    let key = at.join("issued/a.node.crisis.example/key.pem");
    let steps: [&[&str]; 5] = [
        &["issue", "node", "a", "--clearance", "Stg.G"],
        &["show"],
        &["show", key.to_str().expect("a path")],
        &["revoke", "a"],
        &["crl"],
    ];
    let mut printed = String::new();
    for args in steps {
        let o = run(at, args);
        printed += out(&o);
        printed += err(&o);
    }
    for file in [
        key,
        at.join("issuing/issuing.key.pem"),
        at.join("root/root.key.pem"),
    ] {
        let pem = std::fs::read_to_string(file).expect("a key");
        for line in pem.lines().filter(|l| l.len() > 8) {
            assert!(!printed.contains(line), "a line of a key was printed");
        }
    }
}

#[test]
fn a_reader_who_leaves_does_not_stop_it() {
    let dir = tempfile::tempdir().expect("a folder");
    init(dir.path());
    let args = ["issue", "node", "a", "--clearance", "Stg.G"];
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut child = program(dir.path());
    child.args(args).stdout(writer).stderr(Stdio::piped());
    let o = child.output().expect("runs");
    assert_eq!(o.status.code(), Some(0), "{}", err(&o));
    assert!(good(dir.path(), &["show"]).contains("a.node.crisis.example"));
}

#[test]
fn it_describes_itself() {
    let dir = tempfile::tempdir().expect("a folder");
    for (args, word) in [
        (&["completions", "bash"][..], "complete"),
        (&["man"], ".TH ordonnans-ca"),
        (&["--help"], "Exit codes: 0 done"),
        (&["--version"], "ordonnans-ca"),
    ] {
        assert!(good(dir.path(), args).contains(word), "{args:?}");
    }
}

/// A policy of one level above the lowest.
const OWN: &str = r##"
id = "XX"
oid = "2.25.7"
version = 1
title = { nl = "x", en = "x" }

[[level]]
name = "OPEN"
code = 1
equals = "Ongerubriceerd"
marking = { nl = "XX OPEN", en = "XX OPEN" }
colour = "#000000"

[[level]]
name = "CLOSED"
code = 9
equals = "Stg.C"
marking = { nl = "XX DICHT", en = "XX CLOSED" }
colour = "#000000"

[[level]]
name = "FAR"
code = 64
equals = "Stg.G"
marking = { nl = "XX VER", en = "XX FAR" }
colour = "#000000"
"##;

#[test]
fn clearances_of_several_policies() {
    let dir = tempfile::tempdir().expect("a folder");
    let (at, files) = (dir.path().join("ca"), dir.path().join("policies"));
    std::fs::create_dir(&files).expect("makes");
    std::fs::write(files.join("xx.toml"), OWN).expect("writes");
    std::fs::write(files.join("notes.txt"), "no policy").expect("writes");
    let files = files.to_str().expect("a path");
    init(&at);
    let issue = |more: &[&'static str]| {
        let mut args = vec![
            "issue",
            "node",
            "ncc",
            "--clearance",
            "NATO SECRET // CONTEXT NATO",
        ];
        args.extend(more);
        args
    };
    bad(&at, &issue(&["--circle", "ICCB"]), 2, "belong to a Dutch");
    bad(
        &at,
        &issue(&["--clearance", "NATO SECRET"]),
        2,
        "NATO stands twice",
    );
    bad(
        &at,
        &issue(&["--clearance", "Stg.G // RING A"]),
        2,
        "'RING A'",
    );
    bad(&at, &issue(&["--clearance", "XX CLOSED"]), 2, "'XX CLOSED'");
    let mut far = issue(&["--clearance", "XX FAR", "--policies"]);
    far.push(files);
    bad(&at, &far, 2, "no level 'FAR'");
    let mut all = issue(&["--clearance", "Stg.G // KRING NCC", "--circle", "iccb"]);
    all.extend(["--clearance", "xx closed", "--policies", files]);
    good(&at, &all);

    let cert = at.join("issued/ncc.node.crisis.example/cert.pem");
    let cert = cert.to_str().expect("a path");
    let shown = good(&at, &["show", cert, "--json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let texts = ["NATO SECRET // CONTEXT NATO", "Stg.G // KRING ICCB, NCC"];
    assert_eq!(shown["clearances"], serde_json::json!(texts));
    assert_eq!(shown["unknown"], serde_json::json!(["2.25.7"]));
    assert_eq!(shown["clearance"], "Stg.G");
    let lines = good(&at, &["show", cert, "--policies", files]);
    for text in [texts[0], texts[1], "XX CLOSED"] {
        assert!(
            lines.contains(&format!("clearances    {text}\n")),
            "{lines}"
        );
    }
    assert!(!lines.contains("unknown"), "{lines}");

    for (name, text, says) in [
        ("xx.toml", "nonsense", "not valid"),
        ("yy.toml", OWN, "known already"),
    ] {
        let file = Path::new(files).join(name);
        let before = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::write(&file, text).expect("writes");
        let o = run(&at, &["show", "--policies", files]);
        assert_eq!(o.status.code(), Some(2));
        assert!(
            err(&o).contains(name) && err(&o).contains(says),
            "{}",
            err(&o)
        );
        std::fs::write(&file, before).expect("writes");
    }
    bad(&at, &["show", "--policies", "/nowhere"], 2, "/nowhere");
}

#[test]
fn an_authority_gives_no_more_than_it_may() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path();
    let start = ["init", "--structure", "crisis.example", "--up-to"];
    bad(at, &[&start[..], &["Top Secret"]].concat(), 2, "--up-to");
    let twice = [&start[..], &["Stg.G", "--up-to", "Dep.V"]].concat();
    bad(at, &twice, 2, "NL stands twice");
    let most = ["Stg.C // KRING ICCB", "--up-to", "NATO RESTRICTED"];
    good(at, &[&start[..], &most].concat());
    let issue = |c: &'static [&'static str]| [&["issue", "node", "a", "--clearance"], c].concat();
    for c in [
        &["Stg.G"][..],
        &["Dep.V", "--circle", "NCC"],
        &["Dep.V", "--compartment", "CRYPTO"],
        &["NATO RESTRICTED // CONTEXT NATO"],
        &["EU RESTRICTED"],
        &["Stg.C", "--clearance", "NATO SECRET"],
    ] {
        let most = "at most 'NATO RESTRICTED' and 'Stg.C // KRING ICCB'";
        bad(at, &issue(c), 1, most);
    }
    let good_ones = [
        "Stg.C",
        "--circle",
        "ICCB",
        "--clearance",
        "NATO RESTRICTED",
    ];
    good(
        at,
        &[&["issue", "node", "a", "--clearance"], &good_ones[..]].concat(),
    );
    // A broker needs no clearance, also where the authority may give none of the kind.
    good(at, &["issue", "broker", "b1"]);
    let cert = at.join("issued/b1.broker.crisis.example/cert.pem");
    let shown = good(at, &["show", cert.to_str().expect("a path"), "--json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["clearances"], serde_json::json!([]));
}
