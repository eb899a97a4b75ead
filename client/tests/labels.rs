//! The commands about labels, which need neither daemon nor configuration.

use std::process::{Command, Output};

use serde_json::Value;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ordonnans"))
        .arg("label")
        .args(args)
        .current_dir(std::env::temp_dir())
        .output()
        .expect("runs")
}

fn code(out: &Output) -> Option<i32> {
    out.status.code()
}

fn json(args: &[&str]) -> Value {
    let out = run(args);
    serde_json::from_slice(&out.stdout).expect("JSON")
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn a_label_is_taken_apart() {
    let v = json(&["parse", "--json", "nato secret // context nato"]);
    assert_eq!(v["policy"], "NATO");
    assert_eq!(v["classification"], "SECRET");
    assert_eq!(v["dutch_level"], "Stg.G");
    assert_eq!(v["alternative"], "Stg.G");
    assert_eq!(v["permissive"]["Context"][0], "NATO");
    assert_eq!((&v["valid"], &v["why_not"]), (&true.into(), &Value::Null));
    let bad = run(&["parse", "--json", "NATO SECRET // RELEASABLE TO NATO"]);
    assert_eq!(code(&bad), Some(1), "read, and not allowed");
    let v: Value = serde_json::from_slice(&bad.stdout).expect("JSON");
    assert!(
        v["why_not"]
            .as_str()
            .is_some_and(|w| w.contains("Context RELEASABLE"))
    );
    let none = run(&["parse", "SECRET"]);
    assert_eq!((code(&none), none.stdout.len()), (Some(2), 0));
    assert!(
        stderr(&none).contains("begins with 'SECRET'"),
        "{}",
        stderr(&none)
    );
}

#[test]
fn a_label_is_shown_in_two_languages() {
    let shown = |language| {
        let out = run(&[
            "render",
            "COSMIC TOP SECRET // ONLY NLD",
            "--language",
            language,
        ]);
        String::from_utf8(out.stdout).expect("text")
    };
    assert_eq!(shown("nl"), "COSMIC TOP SECRET - Uitsluitend NLD\n");
    assert_eq!(shown("en"), "COSMIC TOP SECRET - Only NLD\n");
}

#[test]
fn parts_are_joined_and_a_text_is_looked_through() {
    let v = json(&[
        "join",
        "--json",
        "Stg.C // KRING A, B",
        "Dep.V // KRING B // COMPARTIMENT X",
    ]);
    assert_eq!(v["label"], "Stg.C // KRING B // COMPARTIMENT X");
    assert_eq!(v["for_nobody"], false);
    let v = json(&["join", "--json", "Stg.C // KRING A", "Dep.V // KRING B"]);
    assert_eq!(
        (&v["label"], &v["for_nobody"]),
        (&"Stg.C // KRING NIEMAND".into(), &true.into())
    );
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("sitrep.txt");
    std::fs::write(
        &file,
        "(Dep.V) een\n- (Stg.G // KRING ICCB) twee\n(zie bijlage) drie\n",
    )
    .expect("written");
    let v = json(&[
        "join",
        "--json",
        "Dep.V",
        "--file",
        file.to_str().expect("text"),
    ]);
    assert_eq!(
        (&v["label"], &v["parts"]),
        (&"Stg.G // KRING ICCB".into(), &3.into())
    );
    let apart = run(&["join", "NATO SECRET", "Dep.V"]);
    assert_eq!(code(&apart), Some(1));
    assert!(
        stderr(&apart).contains("at least Stg.G"),
        "{}",
        stderr(&apart)
    );
    assert_eq!(code(&run(&["join"])), Some(2));
    assert_eq!(code(&run(&["join", "--file", "/nowhere"])), Some(2));
}

#[test]
fn policies_of_a_folder_are_known() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().to_str().expect("text");
    let policy = "id = \"XX\"\noid = \"2.25.7\"\nversion = 1\ntitle = { nl = \"Voorbeeld\", en = \"Example\" }\n\
        [[level]]\nname = \"SECRET\"\ncode = 4\nequals = \"Stg.G\"\nmarking = { nl = \"XX SECRET\", en = \"XX SECRET\" }\ncolour = \"#ff0000\"\n";
    std::fs::write(dir.path().join("xx.toml"), policy).expect("written");
    let v = json(&["parse", "--json", "--policies", folder, "XX SECRET"]);
    assert_eq!(
        (&v["dutch_level"], &v["valid"]),
        (&"Stg.G".into(), &true.into())
    );
    assert_eq!(code(&run(&["parse", "XX SECRET"])), Some(2), "not built in");
    let out = run(&["policies", "--json", "--policies", folder]);
    assert_eq!(String::from_utf8_lossy(&out.stdout).lines().count(), 4);
    std::fs::write(dir.path().join("yy.toml"), "id = 1").expect("written");
    let broken = run(&["parse", "--policies", folder, "Dep.V"]);
    assert_eq!(code(&broken), Some(2));
    assert!(stderr(&broken).contains("yy.toml"), "{}", stderr(&broken));
}
