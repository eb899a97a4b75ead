//! Policy files beside the built-in ones.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ordonnans_label::{InvalidPolicy, MAX_POLICY_BYTES, Policies, Policy};

/// Why a policy file was not taken. Nothing is done without it: what it would say may be asked for.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// The folder or the file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no policy, or does not go with the others.
    #[error("{path}: {why}")]
    Policy {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: InvalidPolicy,
    },
}

/// The built-in policies and those of the files `*.toml` in a folder, which are read in the order of their names.
///
/// # Errors
/// [`PolicyFileError`] names the first file that is not right.
pub fn read_policies(dir: &Path) -> Result<Policies, PolicyFileError> {
    let io_at = |path: &Path| {
        let path = path.to_path_buf();
        move |source| PolicyFileError::Io { path, source }
    };
    let mut paths = vec![];
    for entry in dir.read_dir().map_err(io_at(dir))? {
        let path = entry.map_err(io_at(dir))?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut all = Policies::built_in().clone();
    for path in paths {
        let mut text = String::new();
        // One byte more than a policy may have: the reader of policies says what is wrong.
        let most = MAX_POLICY_BYTES as u64 + 1;
        File::open(&path)
            .and_then(|f| f.take(most).read_to_string(&mut text))
            .map_err(io_at(&path))?;
        Policy::parse(&text)
            .and_then(|p| all.add(p))
            .map_err(|why| PolicyFileError::Policy { path, why })?;
    }
    Ok(all)
}
