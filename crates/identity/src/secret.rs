//! Files that hold secrets: mode 0600 or refused.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Bytes of a key file. The largest key in use is below 4 KiB.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a file with a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system refused.
    #[error("the key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than the owner could use it.
    #[error(
        "the key file {path} has mode {mode:o}; it must be 600 (chmod 600 it, and replace the key if others may have read it)"
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Too large for a key.
    #[error("the key file {path} is too large for a key")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a secret. The mode is that of the opened file, so that it cannot be exchanged in between.
///
/// # Errors
/// [`KeyFileError`] names the file and the next step.
pub fn read_secret_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let io = |source| KeyFileError::Io {
        path: path.into(),
        source,
    };
    let mut file = OpenOptions::new().read(true).open(path).map_err(io)?;
    let about = file.metadata().map_err(io)?;
    let mode = about.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Mode {
            path: path.into(),
            mode,
        });
    }
    if about.len() > MAX_BYTES {
        return Err(KeyFileError::TooLarge { path: path.into() });
    }
    // The whole capacity at once, so that no smaller copy is left behind in memory.
    let mut secret = Zeroizing::new(Vec::with_capacity(MAX_BYTES as usize));
    Read::by_ref(&mut file)
        .take(MAX_BYTES)
        .read_to_end(&mut secret)
        .map_err(io)?;
    Ok(secret)
}

/// Writes a secret to a new file of mode 0600 and syncs it. An existing file is never overwritten, and a process that is killed meanwhile leaves no
/// half file under the name.
///
/// # Errors
/// [`KeyFileError::Io`], with `AlreadyExists` for an existing file.
pub fn write_secret_file(path: &Path, secret: &[u8]) -> Result<(), KeyFileError> {
    let io = |source| KeyFileError::Io {
        path: path.into(),
        source,
    };
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = Path::new(&draft);
    let write = || {
        match std::fs::remove_file(draft) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(draft)?;
        file.write_all(secret)?;
        file.sync_all()?;
        // Unlike a rename, a link does not take the place of what is there.
        std::fs::hard_link(draft, path)
    };
    let written = write();
    // A draft that cannot be removed is removed by the next try.
    drop(std::fs::remove_file(draft));
    written.map_err(io)?;
    sync_folder_of(path).map_err(io)
}

/// Makes the names in the folder of a file durable.
///
/// # Errors
/// What the system says; the names are there, and may be gone after a power cut.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Writes what is no secret in the place of a file: it is the old one or the new one, whole and durable, with this mode (as `open` takes it, cut by the
/// mask of the process). The draft stands beside it, under its name with `.new` in
/// the place of the extension: nothing else there may be called so, for it is removed.
///
/// # Errors
/// What the system says: the file is as it was, or, where only its folder could not be synced, the new one.
pub fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = path.with_extension("new");
    // What a run that was cut short left; or a link that somebody put there, which is not followed.
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    sync_folder_of(path)
}

/// Writes a secret in the place of another: the file is the old one or the new one, whole, and of mode 0600.
///
/// # Errors
/// [`KeyFileError::Io`]: the file is as it was, or, where only its folder could not be synced, the new one.
pub fn replace_secret_file(path: &Path, secret: &[u8]) -> Result<(), KeyFileError> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".changed");
    let fresh = Path::new(&fresh);
    // What a run that was cut short left is of no use to anybody.
    drop(std::fs::remove_file(fresh));
    write_secret_file(fresh, secret)?;
    std::fs::rename(fresh, path)
        .and_then(|()| sync_folder_of(path))
        .map_err(|source| KeyFileError::Io {
            path: path.into(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_or_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("key");
        write_secret_file(&path, b"secret").expect("written");
        assert_eq!(read_secret_file(&path).expect("read").as_slice(), b"secret");
        assert!(
            matches!(write_secret_file(&path, b"x"), Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists)
        );
        for mode in [0o640, 0o604, 0o660, 0o777] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("owner");
            let e = read_secret_file(&path).expect_err("open to others");
            assert!(e.to_string().contains(&format!("mode {mode:o}")), "{e}");
        }
        assert!(matches!(
            read_secret_file(&dir.path().join("none")),
            Err(KeyFileError::Io { .. })
        ));
    }
}
