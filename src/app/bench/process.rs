//! The kernel's figures about processes, this process's threads, and the machine (`proc(5)`).

use std::fs;
use std::io;
use std::ops::Sub;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// CPU time and context switches of processes so far. Threads that have ended are not included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Time on a CPU, in ns.
    pub(super) cpu_ns: u64,
    /// The part in user space, in ns, as coarse as the kernel's clock tick.
    pub(super) user_ns: u64,
    /// The part in the kernel, likewise.
    pub(super) system_ns: u64,
    pub(super) voluntary_switches: u64,
    pub(super) involuntary_switches: u64,
}

/// Time of one thread, in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ThreadTime {
    /// On a CPU.
    pub(super) running_ns: u64,
    /// Ready to run, without a CPU.
    pub(super) waiting_ns: u64,
}

/// The memory of processes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Memory {
    pub(super) rss_bytes: u64,
    /// Memory with shared pages divided among their users; `None` without permission.
    pub(super) pss_bytes: Option<u64>,
}

/// The kernel's counts for the whole machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kernel {
    /// Memory of all TCP sockets, in bytes: those of this process and the server.
    pub(super) tcp_bytes: u64,
    /// Packets dropped because a CPU's backlog was full.
    pub(super) dropped_packets: u64,
}

impl Sub for Usage {
    type Output = Usage;

    fn sub(self, before: Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            user_ns: self.user_ns.saturating_sub(before.user_ns),
            system_ns: self.system_ns.saturating_sub(before.system_ns),
            voluntary_switches: self.voluntary_switches.saturating_sub(before.voluntary_switches),
            involuntary_switches: self.involuntary_switches.saturating_sub(before.involuntary_switches),
        }
    }
}

impl Usage {
    /// # Errors
    /// If one of the processes is gone, or may not be inspected.
    pub(super) fn of(pids: &[u32]) -> io::Result<Usage> {
        let ns_per_tick = 1_000_000_000 / auxiliary(AT_CLKTCK).unwrap_or(100).max(1);
        let mut usage = Usage::default();
        for pid in pids {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let (user, system) = ticks(&stat).ok_or_else(|| unreadable("stat"))?;
            usage.user_ns += user * ns_per_tick;
            usage.system_ns += system * ns_per_tick;
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                usage.add_thread(&task?.path());
            }
        }
        if usage.cpu_ns == 0 {
            // A kernel without schedstat has only the ticks.
            usage.cpu_ns = usage.user_ns + usage.system_ns;
        }
        Ok(usage)
    }

    /// A thread may end meanwhile.
    fn add_thread(&mut self, path: &Path) {
        self.cpu_ns += ThreadTime::read(path).running_ns;
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        self.voluntary_switches += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        self.involuntary_switches += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
}

impl ThreadTime {
    /// The time of a thread of this process; 0 if the kernel does not report it.
    pub(super) fn of(thread_id: u64) -> ThreadTime {
        ThreadTime::read(Path::new(&format!("/proc/self/task/{thread_id}")))
    }

    fn read(path: &Path) -> ThreadTime {
        let text = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap_or(0));
        ThreadTime { running_ns: numbers.next().unwrap_or(0), waiting_ns: numbers.next().unwrap_or(0) }
    }
}

impl Memory {
    /// # Errors
    /// As [`Usage::of`].
    pub(super) fn of(pids: &[u32]) -> io::Result<Memory> {
        let mut memory = Memory { rss_bytes: 0, pss_bytes: Some(0) };
        for pid in pids {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            memory.rss_bytes += 1024 * field(&status, "VmRSS:").ok_or_else(|| unreadable("status"))?;
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let pss = field(&rollup, "Pss:").map(|kib| 1024 * kib);
            memory.pss_bytes = memory.pss_bytes.zip(pss).map(|(sum, pss)| sum + pss);
        }
        Ok(memory)
    }
}

impl Kernel {
    /// The present counts; 0 if the kernel does not report them.
    pub(super) fn now() -> Kernel {
        let page_bytes = auxiliary(AT_PAGESZ).unwrap_or(4096);
        let sockets = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
        let backlogs = fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
        Kernel { tcp_bytes: page_bytes * tcp_pages(&sockets), dropped_packets: dropped(&backlogs) }
    }
}

/// The kernel's id of this thread; 0 if unknown.
pub(super) fn thread_id() -> u64 {
    let link = fs::read_link("/proc/thread-self").unwrap_or_default();
    link.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or(0)
}

/// The machine, for readers of the result.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Machine {
    kernel: String,
    cpu: String,
    /// CPUs of the machine.
    cpus: usize,
    memory_bytes: u64,
}

impl Machine {
    pub(super) fn this() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu_info = read("/proc/cpuinfo");
        let model = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Machine {
            kernel: format!(
                "{} {}",
                read("/proc/sys/kernel/ostype").trim(),
                read("/proc/sys/kernel/osrelease").trim()
            ),
            cpu: model
                .map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.trim().to_owned()),
            cpus: cpu_info.lines().filter(|line| line.starts_with("processor")).count(),
            memory_bytes: field(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) * 1024,
        }
    }
}

fn unreadable(file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc/PID/{file} is not as proc(5) says"))
}

/// User and system time from `/proc/PID/stat`. The name in it may have spaces and parentheses.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The number after a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}

fn tcp_pages(sockets: &str) -> u64 {
    let line = sockets.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().collect();
    words.chunks(2).find(|pair| pair[0] == "mem").and_then(|pair| pair.get(1)?.parse().ok()).unwrap_or(0)
}

/// The sum of the second column, in hexadecimal, one line for each CPU.
fn dropped(backlogs: &str) -> u64 {
    let columns = backlogs.lines().filter_map(|line| line.split_whitespace().nth(1));
    columns.filter_map(|column| u64::from_str_radix(column, 16).ok()).sum()
}

/// A number that the kernel gave the process at its start (`getauxval(3)`).
fn auxiliary(key: usize) -> Option<u64> {
    const WORD_BYTES: usize = size_of::<usize>();
    let bytes = fs::read("/proc/self/auxv").ok()?;
    let words: Vec<usize> = bytes
        .chunks_exact(WORD_BYTES)
        .map(|word| usize::from_ne_bytes(word.try_into().expect("the chunks have the size of a word")))
        .collect();
    words.chunks_exact(2).find(|pair| pair[0] == key).map(|pair| pair[1] as u64)
}

const AT_PAGESZ: usize = 6;
const AT_CLKTCK: usize = 17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 12 34 0 0 20 0 1 0 5 0 0";
        assert_eq!(ticks(stat), Some((12, 34)));
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[test]
    fn the_numbers_of_the_kernel_are_read() {
        let sockets = "sockets: used 9\nTCP: inuse 5 orphan 0 tw 2 alloc 7 mem 3\nUDP: inuse 1 mem 8\n";
        assert_eq!((tcp_pages(sockets), tcp_pages("")), (3, 0));
        assert_eq!(dropped("0000 0000000a 01\n0000 00000001 02\n"), 11);
    }

    #[test]
    fn this_process_and_its_machine_are_known() {
        let pids = [std::process::id()];
        let usage = Usage::of(&pids).unwrap();
        assert!(usage.cpu_ns > 0);
        assert!(Memory::of(&pids).unwrap().rss_bytes > 100_000);
        assert!(ThreadTime::of(thread_id()).running_ns <= Usage::of(&pids).unwrap().cpu_ns);
        assert!(auxiliary(AT_PAGESZ).unwrap() >= 4096);
        assert!(Machine::this().cpus > 0);
        assert!(Usage::of(&[u32::MAX]).is_err());
    }
}
