//! The kernel's figures about processes, this process's threads, and the machine (`proc(5)`).

use std::fs;
use std::io;
use std::ops::Sub;

use procfs::process::{Process, Schedstat, Task};
use procfs::{CpuInfo, Current, Meminfo, ProcError, ProcResult};
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
        let mut usage = Usage::default();
        pids.iter().try_for_each(|&pid| usage.add_process(pid)).map_err(io::Error::other)?;
        if usage.cpu_ns == 0 {
            // A kernel without schedstat has only the ticks.
            usage.cpu_ns = usage.user_ns + usage.system_ns;
        }
        Ok(usage)
    }

    fn add_process(&mut self, pid: u32) -> ProcResult<()> {
        let process = process(pid)?;
        let stat = process.stat()?;
        let ns_per_tick = 1_000_000_000 / procfs::ticks_per_second().max(1);
        self.user_ns += stat.utime * ns_per_tick;
        self.system_ns += stat.stime * ns_per_tick;
        process.tasks()?.flatten().for_each(|task| self.add_thread(&task));
        Ok(())
    }

    /// A thread may end meanwhile.
    fn add_thread(&mut self, task: &Task) {
        self.cpu_ns += ThreadTime::read(task.schedstat()).running_ns;
        if let Ok(status) = task.status() {
            self.voluntary_switches += status.voluntary_ctxt_switches.unwrap_or(0);
            self.involuntary_switches += status.nonvoluntary_ctxt_switches.unwrap_or(0);
        }
    }
}

impl ThreadTime {
    /// The time of a thread of this process; 0 if the kernel does not report it.
    pub(super) fn of(thread_id: i32) -> ThreadTime {
        let task = Process::myself().and_then(|process| process.task_from_tid(thread_id));
        ThreadTime::read(task.and_then(|task| task.schedstat()))
    }

    fn read(account: ProcResult<Schedstat>) -> ThreadTime {
        account.map_or(ThreadTime::default(), |account| ThreadTime {
            running_ns: account.sum_exec_runtime,
            waiting_ns: account.run_delay,
        })
    }
}

impl Memory {
    /// # Errors
    /// As [`Usage::of`].
    pub(super) fn of(pids: &[u32]) -> io::Result<Memory> {
        let mut memory = Memory { rss_bytes: 0, pss_bytes: Some(0) };
        pids.iter().try_for_each(|&pid| memory.add_process(pid)).map_err(io::Error::other)?;
        Ok(memory)
    }

    fn add_process(&mut self, pid: u32) -> ProcResult<()> {
        let process = process(pid)?;
        let rss_kib = process.status()?.vmrss;
        self.rss_bytes += 1024 * rss_kib.ok_or_else(|| ProcError::Other(format!("{pid} has no memory")))?;
        let rollup = process.smaps_rollup().ok();
        let pss =
            rollup.and_then(|rollup| rollup.memory_map_rollup.0.first()?.extension.map.get("Pss").copied());
        self.pss_bytes = self.pss_bytes.zip(pss).map(|(sum, pss)| sum + pss);
        Ok(())
    }
}

impl Kernel {
    /// The present counts; 0 if the kernel does not report them. `procfs` reads neither file.
    pub(super) fn now() -> Kernel {
        let sockets = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
        let backlogs = fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
        Kernel { tcp_bytes: procfs::page_size() * tcp_pages(&sockets), dropped_packets: dropped(&backlogs) }
    }
}

/// The kernel's id of this thread; 0 if unknown.
pub(super) fn thread_id() -> i32 {
    let link = fs::read_link("/proc/thread-self").unwrap_or_default();
    link.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or(0)
}

fn process(pid: u32) -> ProcResult<Process> {
    Process::new(i32::try_from(pid).map_err(|_| ProcError::NotFound(None))?)
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
        let cpus = CpuInfo::current().ok();
        let model = cpus.as_ref().and_then(|cpus| cpus.model_name(0));
        Machine {
            kernel: format!(
                "{} {}",
                read("/proc/sys/kernel/ostype").trim(),
                read("/proc/sys/kernel/osrelease").trim()
            ),
            cpu: model.unwrap_or(std::env::consts::ARCH).to_owned(),
            cpus: cpus.as_ref().map_or(0, CpuInfo::num_cores),
            memory_bytes: Meminfo::current().map_or(0, |memory| memory.mem_total),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let machine = Machine::this();
        assert!(machine.cpus > 0 && machine.memory_bytes > 1 << 20, "{machine:?}");
        assert!(Usage::of(&[u32::MAX]).is_err());
    }
}
