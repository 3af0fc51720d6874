//! The verdict on a result: why a run failed, and what limits the meaning of its figures.

use super::course::Course;
use super::plan::{Pace, Plan};
use super::report::{Connect, Losses, Report};

/// Why the exit code is not 0.
pub(super) fn findings(course: &Course, connect: &Connect, losses: &Losses) -> Vec<String> {
    let mut findings = course.troubles.clone();
    let mut sum = losses.fast;
    sum += losses.slow;
    if !sum.is_honest() {
        let kinds = [
            (sum.lost_untold, "lost untold"),
            (sum.doubled, "doubled"),
            (sum.reordered, "reordered"),
            (sum.misdelivered, "on a stream of another channel"),
        ];
        let kinds =
            kinds.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        findings
            .push(format!("events did not come once and in order: {}", kinds.collect::<Vec<_>>().join(", ")));
    }
    if connect.fast_ended > 0 {
        findings.push(format!("{} streams ended though nobody asked for it", connect.fast_ended));
    }
    let is_empty = course.measured.as_ref().is_none_or(|measured| measured.places.is_empty());
    if is_empty && findings.is_empty() {
        findings.push("the run was ended before anything was measured".to_owned());
    }
    findings
}

/// What limits the meaning of the figures.
pub(super) fn remarks(plan: &Plan, course: &Course, report: &Report) -> Vec<String> {
    let mut remarks = Vec::new();
    if course.is_signalled {
        remarks.push("a signal ended the run: it is shorter than asked for".to_owned());
    }
    let Some(run) = &report.run else { return remarks };
    let busiest = run.readers.iter().map(|busy| busy.running + busy.waiting_for_cpu).fold(0.0, f64::max);
    if busiest > BUSY {
        remarks.push(format!(
            "a reading thread had something to do {:.0} % of the time: the readers are the limit, not the server; more \
             --threads or CPUs are needed",
            100.0 * busiest
        ));
    }
    if run.publisher.running == 0.0 {
        remarks.push(
            "the kernel does not tell how busy threads are: whether the bench was the limit is not known"
                .to_owned(),
        );
    }
    let publisher = run.publisher.running + run.publisher.waiting_for_cpu;
    if publisher > BUSY {
        remarks.push(format!(
            "the publishing thread had something to do {:.0} % of the time: it is the limit; a larger --batch costs it less",
            100.0 * publisher
        ));
    }
    if let (Pace::Rate(rate), false) = (plan.pace, course.is_signalled) {
        let lateness = run.publish_lateness.map_or(0, |lateness| lateness.p99_ns);
        if run.events_per_second < KEPT_RATE * rate && run.events > 1 || lateness > LATE_NS {
            remarks.push(format!(
                "the publisher fell behind --rate (p99 {:.1} ms late): latencies leave that out; --pipeline, --publishers \
                 or --batch let it send more at once",
                lateness as f64 / 1e6
            ));
        }
    }
    if report.kernel.dropped_packets.is_some_and(|dropped| dropped > 0) {
        remarks
            .push("the kernel dropped packets in the measured part, which costs retransmissions".to_owned());
    }
    let told = report.losses.fast.lost_told;
    if told > 0 {
        remarks.push(format!("{told} events were lost by streams that are not slow, which they were told"));
    }
    remarks
}

/// The share of busy time above which a thread is taken for the limit.
const BUSY: f64 = 0.95;

/// The share of its rate that a run must reach.
const KEPT_RATE: f64 = 0.98;

/// The lateness of publishes at p99 above which a remark is made.
const LATE_NS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::super::report::tests::{course, report};
    use super::super::sequence::Tally;
    use super::*;

    #[test]
    fn a_reader_without_idle_time_is_named_as_the_limit() {
        let remarks = report(course(1900), Tally::default()).remarks;
        assert!(
            remarks[0].starts_with("a reading thread had something to do 97 % of the time"),
            "{remarks:?}"
        );
    }

    #[test]
    fn what_was_not_reported_is_a_finding_and_what_was_reported_a_remark() {
        let tally = Tally { lost_untold: 1, doubled: 2, ..Tally::default() };
        let findings = report(course(100), tally).findings;
        assert_eq!(findings, ["events did not come once and in order: 1 lost untold, 2 doubled"]);
        let told = report(course(100), Tally { lost_told: 3, gaps: 1, ..Tally::default() });
        assert!(told.findings.is_empty() && told.remarks[0].starts_with("3 events were lost"), "{told:?}");
    }

    #[test]
    fn a_run_that_measured_nothing_is_no_success() {
        let nothing = Course { measured: None, is_signalled: true, ..course(0) };
        assert_eq!(
            report(nothing, Tally::default()).findings,
            ["the run was ended before anything was measured"]
        );
        let mut empty = course(100);
        empty.measured.as_mut().unwrap().places = 5..5;
        assert_eq!(report(empty, Tally::default()).findings.len(), 1);
    }
}
