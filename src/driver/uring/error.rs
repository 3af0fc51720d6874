//! Why io_uring cannot be used here, with what to do about it.

use std::fs;
use std::io;

/// Why a server cannot use io_uring. The operator can mend every variant, or use epoll.
#[derive(Debug, thiserror::Error)]
pub enum UringError {
    /// The kernel gives no ring at all.
    #[error("io_uring cannot be used here: {cause}")]
    Refused {
        /// What is in the way.
        cause: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The kernel gives rings, but lacks a feature.
    #[error("the io_uring of this kernel lacks {what}; it needs Linux 6.1 or newer")]
    Lacks {
        /// The feature or operation that was tried.
        what: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The kernel gives no sufficiently large table of direct descriptors.
    #[error("io_uring cannot hold {files} connections in each shard")]
    Table {
        /// Places asked for.
        files: u32,
        /// The kernel's error.
        source: io::Error,
    },
    /// There is no eventfd for the waker: file descriptors have run out.
    #[error("io_uring cannot be used here: there is no eventfd for its waker")]
    Waker(#[source] io::Error),
}

impl UringError {
    /// Makes an error for a missing feature, for `map_err`. If the error hides whether the feature
    /// exists, names the obstacle.
    pub(super) fn lacks(what: &'static str) -> impl Fn(io::Error) -> UringError {
        move |source| match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => {
                UringError::refused(source)
            }
            _ => UringError::Lacks { what, source },
        }
    }

    /// Explains why the kernel gave no ring.
    pub(super) fn refused(source: io::Error) -> UringError {
        let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
        let disabled = sysctl.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        match source.raw_os_error() {
            Some(libc::EINVAL) => UringError::Lacks { what: RINGS, source },
            errno => UringError::Refused { cause: cause_of(errno, disabled), source },
        }
    }
}

pub(super) const RINGS: &str = "rings of one issuer with deferred task work";

/// The obstacle, from the error of `io_uring_setup(2)` and the sysctl `kernel.io_uring_disabled`.
fn cause_of(errno: Option<i32>, disabled: u8) -> &'static str {
    match (errno, disabled) {
        (Some(libc::EPERM), 2) => "the sysctl kernel.io_uring_disabled is 2, which forbids it to everybody",
        (Some(libc::EPERM), 1) => {
            "the sysctl kernel.io_uring_disabled is 1, which forbids it to all but the privileged \
             (CAP_SYS_ADMIN) and the group kernel.io_uring_group"
        }
        (Some(libc::EPERM | libc::EACCES), _) => {
            "this process is forbidden to, most likely by a seccomp filter: that of a container, or \
             SystemCallFilter in systemd"
        }
        (Some(libc::ENOSYS), _) => {
            "the kernel has none (it is older than Linux 5.1, or built without it), or a seccomp filter says so"
        }
        (Some(libc::ENOMEM), _) => {
            "there is no memory for a ring, perhaps as the limit on locked memory (ulimit -l) is too low"
        }
        (Some(libc::EMFILE | libc::ENFILE), _) => "file descriptors have run out (ulimit -n)",
        _ => "the kernel refuses a ring",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_named() {
        for (errno, disabled, word) in [
            (libc::EPERM, 2, "io_uring_disabled is 2"),
            (libc::EPERM, 1, "io_uring_disabled is 1"),
            (libc::EPERM, 0, "seccomp"),
            (libc::ENOSYS, 0, "older"),
            (libc::ENOMEM, 0, "locked memory"),
            (libc::EMFILE, 0, "ulimit -n"),
        ] {
            let cause = cause_of(Some(errno), disabled);
            assert!(cause.contains(word), "{cause}");
        }
    }
}
