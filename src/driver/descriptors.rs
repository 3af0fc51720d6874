//! The process's limit on file descriptors.

use std::io;

/// The current limit on open files (`getrlimit(2)`: the soft limit).
///
/// # Errors
/// If the kernel refuses to tell, as in some sandboxes.
pub fn open_files_limit() -> io::Result<usize> {
    limit().map(|limit| usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

/// Raises the limit on open files as far as the process may (`getrlimit(2)`: the hard limit), and
/// returns it. The limit applies to the whole process, so only its owner should call this.
///
/// # Errors
/// If the kernel refuses to tell or to set the limit, as in some sandboxes.
pub fn raise_open_files_limit() -> io::Result<usize> {
    let limit = limit()?;
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        #[expect(unsafe_code, reason = "std has no call for resource limits")]
        // SAFETY: `raised` is ours. It lives through the call, which reads it and keeps nothing
        // (`setrlimit(2)`).
        let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(usize::try_from(limit.rlim_max).unwrap_or(usize::MAX))
}

fn limit() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    #[expect(unsafe_code, reason = "std has no call for resource limits")]
    // SAFETY: `limit` is ours. It lives through the call, which writes to it and keeps nothing
    // (`getrlimit(2)`).
    let read = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if read == 0 { Ok(limit) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_once_and_then_stays() {
        let limit = raise_open_files_limit().unwrap();
        assert!(limit > 0);
        assert_eq!(raise_open_files_limit().unwrap(), limit);
        assert_eq!(open_files_limit().unwrap(), limit);
    }
}
