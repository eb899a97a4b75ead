//! The repair of sled's flush.
//!
//! sled 0.34.7 makes its writes durable with `sync_file_range`, which on Linux does not cover file growth or the disk's cache: a power cut
//! emptied the database in 22 of 25 trials (docs/adr/0001). Where that call answers `ENOSYS`, sled takes `fsync` instead. So a seccomp
//! filter gives it that answer, in every thread of the process and every child. The same filter gives one other call, with
//! an argument nobody uses, the same answer: asking it shows that the filter is in force.

use std::collections::BTreeMap;

use rustix::io::Errno;
use rustix::process::{Pid, getpgid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

#[cfg(target_arch = "x86_64")]
const CALLS: (i64, i64) = (277, 121);
#[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
const CALLS: (i64, i64) = (84, 155);

/// A process number above every possible one: the question whose answer shows the filter.
const SENTINEL: i32 = 0x7fff_fff1;

/// The repair is not in force, so the audit log would not survive a power cut. The broker must not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the durability of the audit log cannot be ensured ({0}); the kernel must allow seccomp filters"
)]
pub struct NotRepaired(String);

/// Whether the filter answers in this thread.
fn in_force() -> bool {
    Pid::from_raw(SENTINEL).is_some_and(|pid| getpgid(Some(pid)) == Err(Errno::NOSYS))
}

/// Puts the repair in force for the whole process, once, and proves it.
///
/// # Errors
/// [`NotRepaired`]: the filter could not be set, or does not answer.
pub fn repair_sled_sync() -> Result<(), NotRepaired> {
    if in_force() {
        return Ok(());
    }
    let filter = filter().map_err(|e| NotRepaired(e.to_string()))?;
    seccompiler::apply_filter_all_threads(&filter).map_err(|e| NotRepaired(e.to_string()))?;
    if in_force() {
        Ok(())
    } else {
        Err(NotRepaired("the filter does not answer".into()))
    }
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let (sync_file_range, getpgid) = CALLS;
    let sentinel = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        SENTINEL as u64,
    )?;
    let rules: BTreeMap<i64, Vec<SeccompRule>> = [
        (sync_file_range, vec![]),
        (getpgid, vec![SeccompRule::new(vec![sentinel])?]),
    ]
    .into();
    let enosys = SeccompAction::Errno(Errno::NOSYS.raw_os_error().unsigned_abs());
    SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        enosys,
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_force_in_every_thread() {
        // A thread that was there before, and one that comes after.
        let (ask, asked) = std::sync::mpsc::channel::<()>();
        let early = std::thread::spawn(move || {
            asked.recv().expect("asked");
            in_force()
        });
        assert_eq!(repair_sled_sync(), Ok(()));
        ask.send(()).expect("alive");
        assert!(early.join().expect("answers"));
        assert!(std::thread::spawn(in_force).join().expect("answers"));
        assert_eq!(repair_sled_sync(), Ok(()), "a second time changes nothing");
        let own = rustix::process::getpid();
        assert!(
            getpgid(Some(own)).is_ok(),
            "the call works for everyone else"
        );
    }
}
