//! What a run is at, for people who wait for it: one line that is written over on a terminal, else a line now and then.

use std::io::Write;

/// Tells the progress of a run.
pub(super) struct Notices<'a> {
    out: &'a mut dyn Write,
    is_terminal: bool,
    told_ns: u64,
    /// What was counted when progress was last told.
    told: (u64, u64),
}

impl<'a> Notices<'a> {
    pub(super) fn new(out: &'a mut dyn Write, is_terminal: bool) -> Notices<'a> {
        Notices { out, is_terminal, told_ns: 0, told: (0, 0) }
    }

    /// Begins a part of the run, from which progress counts.
    pub(super) fn begin(&mut self, now_ns: u64, counts: (u64, u64)) {
        (self.told_ns, self.told) = (now_ns, counts);
    }

    /// Tells a line, at most once in an interval; `line` gets what the two counts have grown by in a second.
    pub(super) fn tell(&mut self, now_ns: u64, counts: (u64, u64), line: impl FnOnce(u64, u64) -> String) {
        let interval_ns = if self.is_terminal { NS_PER_SECOND / 2 } else { 5 * NS_PER_SECOND };
        let passed_ns = now_ns.saturating_sub(self.told_ns);
        if passed_ns < interval_ns {
            return;
        }
        let grown = |now: u64, before: u64| per_second(now.saturating_sub(before), passed_ns);
        let line = line(grown(counts.0, self.told.0), grown(counts.1, self.told.1));
        self.begin(now_ns, counts);
        // Standard error may be closed; the result is what counts.
        drop(if self.is_terminal {
            write!(self.out, "\r{line}\x1b[K")
        } else {
            writeln!(self.out, "{line}")
        });
        drop(self.out.flush());
    }

    /// Clears the line, where there is one.
    pub(super) fn end(&mut self) {
        if self.is_terminal {
            drop(write!(self.out, "\r\x1b[K"));
            drop(self.out.flush());
        }
    }
}

fn per_second(count: u64, ns: u64) -> u64 {
    u64::try_from(u128::from(count) * u128::from(NS_PER_SECOND) / u128::from(ns.max(1))).unwrap_or(u64::MAX)
}

const NS_PER_SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_now_and_then_with_rates() {
        let mut out = Vec::new();
        let mut notices = Notices::new(&mut out, false);
        notices.begin(0, (10, 0));
        let line = |a: u64, b: u64| format!("{a} {b}");
        notices.tell(NS_PER_SECOND, (100, 100), line);
        notices.tell(5 * NS_PER_SECOND, (510, 1000), line);
        notices.end();
        assert_eq!(out, b"100 200\n");
    }
}
