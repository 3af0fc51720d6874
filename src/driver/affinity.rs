//! The processors that threads run on.

use std::io;

/// The processors that the calling thread may run on, by their numbers, in order (`sched_getaffinity(2)`).
///
/// If the kernel refuses to tell, as in some sandboxes, or has more processors than the fixed set of
/// bits.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let mut set = no_cpus();
    #[expect(unsafe_code, reason = "std has no call for the processors of a thread")]
    // SAFETY: `set` is ours and has the stated size. It lives through the call, which writes to it and
    // keeps nothing (`sched_getaffinity(2)`). 0 is the calling thread.
    let read = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if read != 0 {
        return Err(io::Error::last_os_error());
    }
    #[expect(unsafe_code, reason = "the library's macro for bits of the set")]
    // SAFETY: `CPU_ISSET(3)` reads a bit of `set`. Every `cpu` is below the set's size in bits.
    let is_allowed = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
    Ok((0..8 * size_of::<libc::cpu_set_t>()).filter(is_allowed).collect())
}

/// Makes the calling thread run on one processor only (`sched_setaffinity(2)`).
///
/// # Errors
/// If there is no such processor, the process may not use it, or a sandbox forbids the call.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    if cpu >= 8 * size_of::<libc::cpu_set_t>() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = no_cpus();
    #[expect(unsafe_code, reason = "the library's macro for bits of the set")]
    // SAFETY: `CPU_SET(3)` sets a bit of `set`. `cpu` is below the set's size in bits, as checked above.
    unsafe {
        libc::CPU_SET(cpu, &mut set);
    }
    #[expect(unsafe_code, reason = "std has no call for the processors of a thread")]
    // SAFETY: `set` is ours and has the stated size. It lives through the call, which reads it and keeps
    // nothing (`sched_setaffinity(2)`). 0 is the calling thread.
    let written = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if written == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn no_cpus() -> libc::cpu_set_t {
    #[expect(unsafe_code, reason = "the type has private fields and no constructor")]
    // SAFETY: it is a plain array of bits (`CPU_SET(3)`). All zeros are the empty set.
    unsafe {
        std::mem::zeroed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_pinned_to_a_processor_that_it_may_run_on() {
        let allowed = allowed_cpus().unwrap();
        let last = *allowed.last().unwrap();
        let pinned = std::thread::spawn(move || {
            pin_to_cpu(last).unwrap();
            allowed_cpus().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), [last]);
        assert_eq!(allowed_cpus().unwrap(), allowed, "other threads go on as they were");
    }

    #[test]
    fn a_processor_that_is_not_there_is_an_error() {
        for cpu in [1000, 100_000] {
            assert_eq!(pin_to_cpu(cpu).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{cpu}");
        }
    }
}
