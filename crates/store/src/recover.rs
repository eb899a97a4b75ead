//! Recovery of the views: what was found of each, and what is replayed into them.

use std::path::{Path, PathBuf};

use ordonnans_engine::{Commit, Seq};

use crate::mailbox::{Mailbox, MailboxError};
use crate::store::{OpenError, Recovery};
use crate::trail::{Position, Trail, TrailError};

/// The views during recovery: what was found of each, and what is replayed into them.
pub(crate) struct Views {
    trail: Result<(Position, Trail), TrailError>,
    mailbox: Result<(Seq, Mailbox), MailboxError>,
    trail_dir: PathBuf,
    mailbox_file: PathBuf,
    open: OpenTrail,
    first: Option<u64>,
    replayed: u64,
    rebuilt: Vec<String>,
    group: Vec<Commit>,
}

/// Opens an audit log in a folder.
pub(crate) type OpenTrail = Box<dyn Fn(&Path) -> Result<Trail, TrailError>>;

/// Commits replayed at once.
const REPLAY: usize = 256;

impl Views {
    pub(crate) fn new(
        trail: Result<(Position, Trail), TrailError>,
        mailbox: Result<(Seq, Mailbox), MailboxError>,
        trail_dir: &Path,
        mailbox_file: &Path,
        open: OpenTrail,
    ) -> Self {
        Self {
            open,
            trail,
            mailbox,
            trail_dir: trail_dir.into(),
            mailbox_file: mailbox_file.into(),
            first: None,
            replayed: 0,
            rebuilt: vec![],
            group: vec![],
        }
    }

    pub(crate) fn replay(&mut self, commit: Commit) -> Result<(), OpenError> {
        let first = *self.first.get_or_insert(commit.seq.0);
        if first == commit.seq.0 {
            self.rebuild(first)?;
        }
        self.group.push(commit);
        if self.group.len() >= REPLAY {
            self.drain(first)?;
        }
        Ok(())
    }

    /// A broken view is set aside and begun anew, where the journal still goes back to the first commit.
    fn rebuild(&mut self, first: u64) -> Result<(), OpenError> {
        let aside = |path: &Path| {
            let to = path.with_extension("broken");
            let gone = std::fs::remove_dir_all(&to).or_else(|_| std::fs::remove_file(&to));
            drop(gone);
            std::fs::rename(path, &to).map_err(|source| OpenError::Io {
                path: path.into(),
                source,
            })
        };
        if first == 1 {
            if let Err(why) = &self.trail {
                self.rebuilt.push(why.to_string());
                aside(&self.trail_dir)?;
                self.trail = (self.open)(&self.trail_dir).and_then(|t| Ok((t.verify(None)?.0, t)));
            }
            if let Err(why) = &self.mailbox {
                self.rebuilt.push(why.to_string());
                aside(&self.mailbox_file)?;
                self.mailbox =
                    Mailbox::open(&self.mailbox_file).and_then(|m| Ok((m.position()?, m)));
            }
        }
        Ok(())
    }

    fn drain(&mut self, first: u64) -> Result<(), OpenError> {
        let group = std::mem::take(&mut self.group);
        if let Ok((position, trail)) = &mut self.trail {
            let from = group.partition_point(|c| c.seq <= position.seq);
            if let Some(commit) = group.get(from) {
                if commit.seq.0 != position.seq.0 + 1 {
                    return Err(OpenError::Apart {
                        view: "audit log",
                        held: position.seq.0,
                        first,
                        last: group.last().map_or(first, |c| c.seq.0),
                    });
                }
                trail
                    .apply(position, &group[from..])
                    .map_err(|e| OpenError::Trail(e, first))?;
                self.replayed += (group.len() - from) as u64;
            }
        }
        if let Ok((seq, mailbox)) = &mut self.mailbox {
            let from = group.partition_point(|c| c.seq <= *seq);
            if let Some(commit) = group.get(from) {
                if commit.seq.0 != seq.0 + 1 {
                    return Err(OpenError::Apart {
                        view: "mailbox",
                        held: seq.0,
                        first,
                        last: group.last().map_or(first, |c| c.seq.0),
                    });
                }
                mailbox
                    .apply(&group[from..], false)
                    .map_err(|e| OpenError::Mailbox(e, first))?;
                *seq = group.last().map_or(*seq, |c| c.seq);
            }
        }
        Ok(())
    }

    pub(crate) fn finish(
        mut self,
        first: u64,
        last: u64,
        recovery: &mut Recovery,
    ) -> Result<(Position, Trail, Mailbox), OpenError> {
        if self.first.is_none() && last == 0 {
            // Killed during its very first start.
            self.rebuild(first)?;
        }
        self.drain(first)?;
        (recovery.replayed, recovery.rebuilt) = (self.replayed, std::mem::take(&mut self.rebuilt));
        let (position, trail) = self.trail.map_err(|e| OpenError::Trail(e, first))?;
        let (seq, mailbox) = self.mailbox.map_err(|e| OpenError::Mailbox(e, first))?;
        for (view, held) in [("audit log", position.seq.0), ("mailbox", seq.0)] {
            if held != last {
                return Err(OpenError::Apart {
                    view,
                    held,
                    first,
                    last,
                });
            }
        }
        Ok((position, trail, mailbox))
    }
}
