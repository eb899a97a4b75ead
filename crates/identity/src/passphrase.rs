//! Where a passphrase or a PIN comes from. Nothing else in the project asks for one.
//!
//! | written | from |
//! |---|---|
//! | `credential:NAME` | the file `NAME` in `$CREDENTIALS_DIRECTORY`, where systemd puts the credentials of a unit |
//! | `fd:N` | an open file descriptor, as a pipe from a program that keeps secrets |
//! | `terminal` | the terminal, without echo |
//!
//! A passphrase never stands in a configuration, an argument or an environment variable: those are read by others, copied and printed. What was read from
//! a descriptor or a terminal is kept in memory until the source is dropped, for it can be read once; memory is wiped then.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// Bytes of a passphrase. Longer than anybody types, and than any PIN.
pub const MAX_PASSPHRASE: usize = 1024;

/// Characters that a new passphrase has at least: at some tens of milliseconds a guess, fewer are found by trying.
pub const MIN_NEW_PASSPHRASE: usize = 12;

/// The environment variable that names a source for commands that have no configuration. It never holds a passphrase.
pub const SOURCE_VARIABLE: &str = "ORDONNANS_PASSPHRASE_FROM";

/// A passphrase. It is wiped when dropped, and never prints.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Its bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// One of a test.
    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Self {
        Self(text.as_bytes().to_vec().into())
    }

    /// Reads one line, without its end.
    fn read(mut from: impl Read) -> Result<Self, Unreadable> {
        // The whole capacity at once, so that no smaller copy is left behind in memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PASSPHRASE + 3));
        let mut one = Zeroizing::new([0; 1]);
        // A line ends it, so that one can be typed; of a pipe nothing is taken that is not needed.
        while bytes.len() <= MAX_PASSPHRASE + 1 {
            match from.read(&mut *one) {
                Ok(0) => break,
                Ok(_) if one[0] == b'\n' => break,
                Ok(_) => bytes.push(one[0]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Unreadable::System(e)),
            }
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        match bytes.len() {
            0 => Err(Unreadable::Empty),
            n if n > MAX_PASSPHRASE => Err(Unreadable::TooLong),
            _ => Ok(Self(bytes)),
        }
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

/// What is wrong with what a source gave.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The system refused.
    #[error("{0}")]
    System(io::Error),
    /// Nothing was there.
    #[error("it is empty")]
    Empty,
    /// More than [`MAX_PASSPHRASE`] bytes.
    #[error("it is longer than {MAX_PASSPHRASE} bytes")]
    TooLong,
    /// Nobody sits at a terminal.
    #[error(
        "there is none ({0}); name another source: credential:NAME or fd:N, in identity.passphrase or {SOURCE_VARIABLE}"
    )]
    NoTerminal(io::Error),
    /// `$CREDENTIALS_DIRECTORY` is not set: the program is not run by a unit that has credentials.
    #[error("CREDENTIALS_DIRECTORY is not set, so no unit gave it a credential")]
    NoCredentials,
}

/// Why there is no passphrase. The operator mends the source.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// The source gives none.
    #[error("the passphrase for {what} cannot be read from {from}: {why}")]
    Unreadable {
        /// What it would open.
        what: String,
        /// The source, as it is written.
        from: String,
        /// What is wrong.
        why: Unreadable,
    },
    /// Typed twice, and not the same.
    #[error("the two passphrases are not the same; nothing was changed")]
    Different,
    /// A new one that is found by trying.
    #[error("a new passphrase has at least {MIN_NEW_PASSPHRASE} characters; nothing was changed")]
    Short,
}

/// A text that names no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' names no source of a passphrase; it is credential:NAME, fd:NUMBER or terminal")]
pub struct InvalidSource(String);

#[derive(Clone, PartialEq, Eq)]
enum Place {
    Credential(String),
    Descriptor(u32),
    Terminal,
}

/// A source of one passphrase. Clones are the same source: what one has read the other has too.
#[derive(Clone)]
pub struct PassphraseSource {
    place: Place,
    kept: Arc<Mutex<Option<Passphrase>>>,
}

impl PassphraseSource {
    fn new(place: Place) -> Self {
        Self {
            place,
            kept: Arc::default(),
        }
    }

    /// The terminal.
    #[must_use]
    pub fn terminal() -> Self {
        Self::new(Place::Terminal)
    }

    /// The source that [`SOURCE_VARIABLE`] names, else the terminal.
    ///
    /// # Errors
    /// [`InvalidSource`]: the variable names none.
    pub fn usual() -> Result<Self, InvalidSource> {
        match std::env::var(SOURCE_VARIABLE) {
            Ok(text) => text.parse(),
            Err(_) => Ok(Self::terminal()),
        }
    }

    /// The same source for another passphrase: a person is asked for each, a descriptor gives the same one.
    #[must_use]
    pub fn again(&self) -> Self {
        match self.place {
            Place::Terminal => Self::terminal(),
            _ => self.clone(),
        }
    }

    /// The passphrase for something, which a person at the terminal is told.
    ///
    /// # Errors
    /// [`PassphraseError::Unreadable`] names the source.
    pub fn ask(&self, what: &str) -> Result<Passphrase, PassphraseError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*kept {
            return Ok(known.clone());
        }
        let read = self.read(&format!("Passphrase for {what}: "));
        let given = read.map_err(|why| self.unreadable(what, why))?;
        // A credential is a file: it stays where it is, and may be replaced.
        if !matches!(self.place, Place::Credential(_)) {
            *kept = Some(given.clone());
        }
        Ok(given)
    }

    /// A new passphrase for something: at the terminal it is asked for twice.
    ///
    /// # Errors
    /// [`PassphraseError`].
    pub fn ask_new(&self, what: &str) -> Result<Passphrase, PassphraseError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*kept {
            return Ok(known.clone());
        }
        let unreadable = |why| self.unreadable(what, why);
        let given = self
            .read(&format!("New passphrase for {what}: "))
            .map_err(unreadable)?;
        if String::from_utf8_lossy(given.expose()).chars().count() < MIN_NEW_PASSPHRASE {
            return Err(PassphraseError::Short);
        }
        if self.place == Place::Terminal {
            let again = self.read("The same once more: ").map_err(unreadable)?;
            if again.expose() != given.expose() {
                return Err(PassphraseError::Different);
            }
        }
        *kept = Some(given.clone());
        Ok(given)
    }

    /// Forgets a passphrase that was wrong, so that a person is asked again.
    pub fn forget(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn unreadable(&self, what: &str, why: Unreadable) -> PassphraseError {
        PassphraseError::Unreadable {
            what: what.into(),
            from: self.to_string(),
            why,
        }
    }

    fn read(&self, prompt: &str) -> Result<Passphrase, Unreadable> {
        match &self.place {
            Place::Credential(name) => {
                let folder =
                    std::env::var_os("CREDENTIALS_DIRECTORY").ok_or(Unreadable::NoCredentials)?;
                let path = PathBuf::from(folder).join(name);
                Passphrase::read(File::open(path).map_err(Unreadable::System)?)
            }
            Place::Descriptor(0) => Passphrase::read(io::stdin().lock()),
            // The descriptor is not ours to close, so it is opened once more.
            Place::Descriptor(n) => {
                let path = format!("/dev/fd/{n}");
                Passphrase::read(File::open(path).map_err(Unreadable::System)?)
            }
            Place::Terminal => at_terminal(prompt),
        }
    }
}

impl fmt::Display for PassphraseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Credential(name) => write!(f, "credential:{name}"),
            Place::Descriptor(n) => write!(f, "fd:{n}"),
            Place::Terminal => f.write_str("terminal"),
        }
    }
}

impl fmt::Debug for PassphraseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PassphraseSource({self})")
    }
}

impl FromStr for PassphraseSource {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        let place = match text.split_once(':') {
            None if text == "terminal" => Some(Place::Terminal),
            // systemd.exec(5): a credential is named as a file is.
            Some(("credential", name))
                if !name.is_empty() && !name.starts_with('.') && !name.contains('/') =>
            {
                Some(Place::Credential(name.into()))
            }
            Some(("fd", n)) => n.parse().ok().map(Place::Descriptor),
            _ => None,
        };
        // What stands here by mistake may be a passphrase: only a short beginning is said.
        let said = || text.chars().take(4).chain(['…']).collect();
        place.map(Self::new).ok_or_else(|| InvalidSource(said()))
    }
}

/// A terminal without echo, as it was when dropped. As getpass(3), signals from the keyboard wait until the line is read, so that none leaves it so.
struct Quiet {
    terminal: File,
    before: Termios,
}

impl Quiet {
    fn new() -> io::Result<Self> {
        let terminal = File::options().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Where this fails the terminal is gone.
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
        drop(writeln!(&self.terminal));
    }
}

fn at_terminal(prompt: &str) -> Result<Passphrase, Unreadable> {
    let quiet = Quiet::new().map_err(Unreadable::NoTerminal)?;
    let mut terminal = &quiet.terminal;
    terminal
        .write_all(prompt.as_bytes())
        .map_err(Unreadable::System)?;
    Passphrase::read(terminal)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn sources_have_one_form_and_nothing_prints_a_passphrase() {
        for text in ["credential:node-key", "fd:3", "terminal"] {
            let source: PassphraseSource = text.parse().expect("a source");
            assert_eq!(source.to_string(), text);
        }
        for text in [
            "",
            "hunter2hunter2",
            "credential:",
            "credential:../x",
            "credential:.x",
            "fd:",
            "fd:-1",
            "fd:x",
            "file:/x",
            "terminal:1",
        ] {
            let e = text.parse::<PassphraseSource>().expect_err("none");
            assert!(!e.to_string().contains("hunter2"), "{e}");
        }
        let p = Passphrase::read(&b"hunter2"[..]).expect("read");
        assert_eq!(format!("{p:?}"), "Passphrase");
    }

    #[test]
    fn a_line_is_read_within_its_bounds() {
        let read = |bytes: &[u8]| Passphrase::read(bytes).map(|p| p.expose().to_vec());
        assert_eq!(read(b"one two\nthree").expect("a line"), b"one two");
        assert_eq!(read(b"one\r\n").expect("a line"), b"one");
        assert_eq!(read(b" one ").expect("no line end"), b" one ");
        assert!(matches!(read(b""), Err(Unreadable::Empty)));
        assert!(matches!(read(b"\n"), Err(Unreadable::Empty)));
        assert!(read(&[b'x'; MAX_PASSPHRASE]).is_ok());
        assert!(matches!(
            read(&[b'x'; MAX_PASSPHRASE + 1]),
            Err(Unreadable::TooLong)
        ));
    }

    #[test]
    fn a_descriptor_is_read_once_and_remembered_until_it_was_wrong() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"correct horse battery\n").expect("writes");
        let text = format!("fd:{}", file.as_raw_fd());
        let source: PassphraseSource = text.parse().expect("a source");
        let same = source.clone();
        assert_eq!(
            source.ask("a").expect("read").expose(),
            b"correct horse battery"
        );
        file.set_len(0).expect("empties");
        assert_eq!(
            same.ask("a").expect("kept").expose(),
            b"correct horse battery"
        );
        same.forget();
        let e = source.ask("the key a.pem").expect_err("nothing is there");
        let said =
            format!("the passphrase for the key a.pem cannot be read from {text}: it is empty");
        assert_eq!(e.to_string(), said);
    }

    #[test]
    fn a_new_one_is_long_enough() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"elevenchars").expect("writes");
        let source = || -> PassphraseSource {
            let text = format!("fd:{}", file.as_raw_fd());
            text.parse().expect("a source")
        };
        let short = source().ask_new("a").expect_err("short");
        assert!(matches!(short, PassphraseError::Short));
        (&file).write_all(b"2").expect("writes");
        assert_eq!(
            source().ask_new("a").expect("new").expose(),
            b"elevenchars2"
        );
    }
}
