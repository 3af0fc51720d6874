//! The progress of a run, for people: a bar on a terminal, otherwise a line now and then.

use std::io::Write;

use indicatif::{ProgressBar, ProgressStyle};

/// Shows the progress of a run.
pub(super) struct Notices<'a> {
    /// Hidden where standard error is no terminal.
    bar: ProgressBar,
    /// Gets lines in place of a hidden bar.
    out: &'a mut dyn Write,
    shown_ns: u64,
    /// The counts at the last line.
    shown: (u64, u64),
}

impl<'a> Notices<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Notices<'a> {
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is well formed");
        Notices { bar: ProgressBar::new(0).with_style(style), out, shown_ns: 0, shown: (0, 0) }
    }

    /// Begins a part of the run. Progress counts from here.
    pub(super) fn begin(&mut self, now_ns: u64, counts: (u64, u64)) {
        (self.shown_ns, self.shown) = (now_ns, counts);
    }

    /// Shows that a part is `done` of `all`, at most once in an interval; `line` gets the growth of the
    /// two counts per second.
    pub(super) fn show(
        &mut self,
        now_ns: u64,
        (done, all): (u64, u64),
        counts: (u64, u64),
        line: impl FnOnce(u64, u64) -> String,
    ) {
        let interval_ns = if self.bar.is_hidden() { 5 * NS_PER_SECOND } else { NS_PER_SECOND / 2 };
        let passed_ns = now_ns.saturating_sub(self.shown_ns);
        if passed_ns < interval_ns {
            return;
        }
        let grown = |now: u64, before: u64| per_second(now.saturating_sub(before), passed_ns);
        let line = line(grown(counts.0, self.shown.0), grown(counts.1, self.shown.1));
        self.begin(now_ns, counts);
        if self.bar.is_hidden() {
            // Standard error may be closed; only the result matters.
            drop(writeln!(self.out, "{line}").and_then(|()| self.out.flush()));
        } else {
            self.bar.update(|state| {
                state.set_len(all);
                state.set_pos(done);
            });
            self.bar.set_message(line);
        }
    }

    /// Clears the bar, if there is one.
    pub(super) fn end(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn per_second(count: u64, ns: u64) -> u64 {
    u64::try_from(u128::from(count) * u128::from(NS_PER_SECOND) / u128::from(ns.max(1))).unwrap_or(u64::MAX)
}

const TEMPLATE: &str = "{bar:24} {percent:>3} % {msg}";

const NS_PER_SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_reported_now_and_then_with_rates() {
        let mut out = Vec::new();
        let mut notices = Notices::new(&mut out);
        notices.bar = ProgressBar::hidden();
        notices.begin(0, (10, 0));
        let line = |a: u64, b: u64| format!("{a} {b}");
        notices.show(NS_PER_SECOND, (1, 10), (100, 100), line);
        notices.show(5 * NS_PER_SECOND, (5, 10), (510, 1000), line);
        notices.end();
        assert_eq!(out, b"100 200\n");
    }
}
