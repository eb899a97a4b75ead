//! Records on their way to other systems: each sink has a cursor that survives restarts, and gets every record at least once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ordonnans_audit::{Entry, Verb, siem};
use ordonnans_label::Name;
use ordonnans_message::{AuditQuery, limits};
use ordonnans_store::Reader;
use ordonnans_transport::Collector;

use crate::config::{Sink, SinkTo};

/// How often a sink looks for new records.
const LOOK: Duration = Duration::from_millis(500);
/// Nothing answers a syslog message. What was written counts as arrived when the line was still open so much later.
const SETTLED: Duration = Duration::from_secs(5);
/// Pauses between tries to reach a collector.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// Where a sink is open to.
enum Line {
    File(File),
    Syslog(Box<Collector>),
}

impl Line {
    fn open(to: &SinkTo) -> io::Result<Self> {
        match to {
            SinkTo::File(path) => {
                let mut options = OpenOptions::new();
                let file = options.create(true).append(true).mode(0o600).open(path)?;
                Ok(Self::File(file))
            }
            SinkTo::Syslog { address, name, ca } => {
                let ca = fs::read(ca)?;
                let collector = Collector::connect(address, name, &ca)?;
                Ok(Self::Syslog(Box::new(collector)))
            }
        }
    }

    fn put(&mut self, entry: &Entry, sink: &Sink, broker: &Name) -> io::Result<()> {
        let broken = || io::Error::from(io::ErrorKind::InvalidData);
        match self {
            Self::File(file) => {
                let line = siem::line(entry, sink.format, broker.as_str()).ok_or_else(broken)?;
                writeln!(file, "{line}")
            }
            Self::Syslog(collector) => {
                let line = siem::syslog(entry, sink.format, broker.as_str()).ok_or_else(broken)?;
                collector.send(&line)
            }
        }
    }

    /// What was put is with the other end as far as can be known.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.sync_data(),
            Self::Syslog(collector) => collector.flush(),
        }
    }
}

/// The cursor of a sink: the first record that may not have arrived.
struct Cursor {
    path: PathBuf,
    at: u64,
}

impl Cursor {
    fn open(data: &Path, name: &str) -> io::Result<Self> {
        let path = data.join(format!("sink-{name}.cursor"));
        let at = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(io::Error::other)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(e),
        };
        Ok(Self { path, at })
    }

    fn put(&mut self, at: u64) -> io::Result<()> {
        if at == self.at {
            return Ok(());
        }
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        writeln!(file, "{at}")?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.at = at;
        Ok(())
    }
}

/// A sink at work on a thread of its own. It never holds the broker up: what it has not said stays in the log.
pub(crate) struct Sinking {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Sinking {
    /// Begins where the cursor is.
    ///
    /// # Errors
    /// The cursor cannot be read, or a thread not be made.
    pub(crate) fn begin(sink: Sink, data: &Path, reader: Reader, broker: Name) -> io::Result<Self> {
        let cursor = Cursor::open(data, &sink.name)?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name(format!("sink {}", sink.name))
            .spawn(move || follow(&sink, cursor, &reader, &broker, &asked))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Sinking {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic there has been reported.
            drop(thread.join());
        }
    }
}

fn follow(sink: &Sink, mut cursor: Cursor, reader: &Reader, broker: &Name, stop: &AtomicBool) {
    let mut failures = 0usize;
    while !stop.load(Ordering::Acquire) {
        let result = Line::open(&sink.to).and_then(|line| {
            if failures > 0 {
                tracing::info!(sink = sink.name, "the sink can be reached again");
            }
            failures = 0;
            feed(sink, line, &mut cursor, reader, broker, stop)
        });
        let Err(why) = result else {
            return;
        };
        if failures == 0 {
            tracing::warn!(sink = sink.name, %why, "a sink cannot be reached; what it lacks is in the log and comes later");
        }
        let pause = PAUSES[failures.min(PAUSES.len() - 1)];
        failures += 1;
        if !stop.load(Ordering::Acquire) {
            std::thread::park_timeout(pause);
        }
    }
}

/// Says what there is until it fails or is told to stop, and then one page more. What was said may come again after the next start, and nothing is
/// left out.
fn feed(
    sink: &Sink,
    mut line: Line,
    cursor: &mut Cursor,
    reader: &Reader,
    broker: &Name,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut next = cursor.at;
    // What was written when, and not yet known to have arrived.
    let mut written: Option<(u64, Instant)> = None;
    loop {
        let stopping = stop.load(Ordering::Acquire);
        let query = AuditQuery {
            from: next,
            limit: u16::try_from(limits::MAX_PAGE).unwrap_or(u16::MAX),
            verb: sink.alarms_only.then_some(Verb::Alarm.code()),
            ..AuditQuery::default()
        };
        let found = reader.search(&query, sink.level);
        let found = found.map_err(io::Error::other)?;
        for entry in &found.entries {
            line.put(entry, sink, broker)?;
        }
        next = found.next;
        line.flush()?;
        match (&line, written) {
            (Line::File(_), _) => cursor.put(next)?,
            (Line::Syslog(_), Some((through, at))) if at.elapsed() >= SETTLED => {
                cursor.put(through)?;
                written = (through < next).then(|| (next, Instant::now()));
            }
            (Line::Syslog(_), None) if next > cursor.at => written = Some((next, Instant::now())),
            _ => {}
        }
        // What is left at a stop stays in the log and comes after the next start.
        if stopping {
            return Ok(());
        }
        if !found.more {
            std::thread::park_timeout(LOOK);
        }
    }
}
