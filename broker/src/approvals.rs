//! The signatures beside a register: `register.toml.sig`, one line of base64 for each, a COSE_Sign1 over its digest and version.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use ordonnans_identity::{FileSigner, Signer as _, Trust};
use ordonnans_label::{Kind, Name};
use ordonnans_message::{Approval, SignedApproval, Timestamp};
use ordonnans_policy::Register;
use ordonnans_seal::{sign_statement, verify_statement};

/// Signatures that are looked at: more than any structure has registrars.
const MAX_LINES: usize = 64;
/// Bytes of the file.
const MAX_FILE: u64 = 1 << 20;

/// Why a signature cannot be given or read.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    /// The file of signatures.
    #[error("the signatures {path} cannot be used: {why}")]
    File {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Who signs is not one of the persons of the register's structure.
    #[error("{0} is no person; a registrar signs with a personal certificate")]
    NoPerson(Name),
    /// The key.
    #[error("the register could not be signed: the key gave no signature")]
    Key,
}

/// Where the signatures of a register lie.
pub(crate) fn beside(register: &Path) -> PathBuf {
    let mut name = register.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// The signatures that lie beside a register. None where there is no file.
fn read(path: &Path) -> Result<Vec<SignedApproval>, ApprovalError> {
    let bad = |why: String| ApprovalError::File {
        path: path.into(),
        why,
    };
    let length = match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(bad(e.to_string())),
        Ok(m) => m.len(),
    };
    if length > MAX_FILE {
        return Err(bad(format!(
            "it has {length} bytes; remove it and have it signed again"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.trim().is_empty());
    lines
        .take(MAX_LINES)
        .map(|(i, line)| {
            let bytes = BASE64
                .decode(line.trim().as_bytes())
                .map_err(|e| bad(format!("line {}: {e}", i + 1)))?;
            SignedApproval::decode(&bytes).map_err(|e| bad(format!("line {}: {e}", i + 1)))
        })
        .collect()
}

fn is_of(approval: &SignedApproval, register: &Register) -> bool {
    let a = approval.said();
    (a.register, a.version) == (register.digest(), register.version())
}

/// Whose signatures over this register are right at this time. One that is not believed counts for nothing and is logged.
pub(crate) fn signers(
    register: &Register,
    path: &Path,
    trust: &Trust,
    now: Timestamp,
) -> Result<BTreeSet<Name>, ApprovalError> {
    let mut all = BTreeSet::new();
    for approval in read(&beside(path))? {
        if !is_of(&approval, register) {
            continue;
        }
        let by = approval.said().by.clone();
        match verify_statement(approval, trust, now) {
            Ok(_) => {
                all.insert(by);
            }
            Err(why) => {
                tracing::warn!(%by, %why, "a signature over the register counts for nothing")
            }
        }
    }
    Ok(all)
}

/// Adds a signature to those beside the register. Those of other texts of the register go; who signs twice stands once.
pub(crate) fn sign(
    register: &Register,
    path: &Path,
    signer: &FileSigner,
    now: Timestamp,
) -> Result<PathBuf, ApprovalError> {
    let by = signer.certificate().name().clone();
    if by.kind() != Kind::Person {
        return Err(ApprovalError::NoPerson(by));
    }
    let approval = Approval {
        register: register.digest(),
        version: register.version(),
        by: by.clone(),
        at: now,
    };
    let signed = sign_statement(&approval, signer).map_err(|_| ApprovalError::Key)?;
    let beside = beside(path);
    let mut all = read(&beside)?;
    all.retain(|a| is_of(a, register) && a.said().by != by);
    all.push(signed);
    let text: String = all
        .iter()
        .map(|a| BASE64.encode(&a.encode()) + "\n")
        .collect();
    let failed = |e: std::io::Error| ApprovalError::File {
        path: beside.clone(),
        why: e.to_string(),
    };
    // The whole or nothing: a reload may read it at any moment.
    let mut new = beside.clone().into_os_string();
    new.push(".new");
    let mut file = std::fs::File::create(&new).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&new, &beside).map_err(failed)?;
    Ok(beside)
}
