//! Tokens of SoftHSM, made in one place for every test that has keys in one. Where it is not installed a test is skipped, and says so.
//!
//! The module reads where its tokens are from the environment of the process, which a test cannot change: each test runs once more as a process of its own.

use std::path::Path;
use std::process::Command;

/// The module.
pub(crate) const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// The PIN of every token.
pub(crate) const PIN: &str = "482915";
/// Set in the second process; its folder.
const AGAIN: &str = "ORDONNANS_TEST_TOKEN";

/// Runs a test, by its whole name, in a process that has a fresh token of its own, called `test`, and a folder in which the credential `pin` has its PIN.
pub(crate) fn with_token(name: &str, test: impl FnOnce(&Path)) {
    if let Some(dir) = std::env::var_os(AGAIN) {
        return test(Path::new(&dir));
    }
    if !Path::new(MODULE).exists() {
        eprintln!("skipped: SoftHSM is not here ({MODULE})");
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let tokens = dir.path().join("tokens");
    std::fs::create_dir(&tokens).expect("a folder");
    let conf = dir.path().join("softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}\nlog.level = ERROR\n",
        tokens.display()
    );
    std::fs::write(&conf, text).expect("writes");
    std::fs::write(dir.path().join("pin"), PIN).expect("writes");
    let mut made = Command::new("softhsm2-util");
    made.args([
        "--init-token",
        "--free",
        "--label",
        "test",
        "--so-pin",
        "00000000",
    ]);
    made.args(["--pin", PIN]).env("SOFTHSM2_CONF", &conf);
    assert!(made.output().expect("runs").status.success(), "a token");
    let mut again = Command::new(std::env::current_exe().expect("a program"));
    again
        .env("SOFTHSM2_CONF", &conf)
        .env("PKCS11_MODULE", MODULE);
    again
        .env("CREDENTIALS_DIRECTORY", dir.path())
        .env(AGAIN, dir.path());
    let done = again
        .args(["--exact", name, "--nocapture"])
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let ran = String::from_utf8_lossy(&done.stdout).contains("1 passed");
    assert!(ran && !said.contains(PIN), "{said}");
}
