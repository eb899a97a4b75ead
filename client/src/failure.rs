//! What went wrong, as the user of a command needs it: one sentence, the next step, an exit code.

/// The exit codes of every Ordonnans program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The broker, the policy or the recipient's state refused it.
    Refused = 1,
    /// The command or the configuration is wrong.
    Usage = 2,
    /// The daemon or the broker cannot be reached.
    Unreachable = 3,
    /// A signature, digest or proof does not hold.
    Proof = 4,
    /// A disk, a bug: not for the user to mend.
    Internal = 5,
}

impl Exit {
    /// The code `n` stands for; anything unknown is [`Exit::Internal`].
    #[must_use]
    pub fn from_code(n: u8) -> Self {
        match n {
            0 => Self::Done,
            1 => Self::Refused,
            2 => Self::Usage,
            3 => Self::Unreachable,
            4 => Self::Proof,
            _ => Self::Internal,
        }
    }
}

/// An error with its next step. Never holds content, a subject line or a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    exit: Exit,
    what: String,
    hint: String,
}

impl Failure {
    /// `what` is one sentence without a full stop, `hint` the next step.
    #[must_use]
    pub fn new(exit: Exit, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            hint: hint.into(),
        }
    }

    /// A disk or a part of ours failed.
    #[must_use]
    pub fn internal(what: impl Into<String>) -> Self {
        Self::new(
            Exit::Internal,
            what,
            "look at the daemon's log; if it stays, keep the data folder as it is and report it",
        )
    }

    /// The code to end with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The next step.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.hint
    }
}
