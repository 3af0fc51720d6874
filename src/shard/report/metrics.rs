//! A report as metrics in the text format of OpenMetrics, which Prometheus reads. `docs/operations.md`
//! lists them.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelValue, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::Report;
use super::counters::{Counters, Durations, FramesPerSend, StreamRefusal};
use crate::conn::CloseReason;
use crate::frame::notice::GapReason;

/// Renders a report.
pub(in crate::shard) fn render(report: Report) -> String {
    let mut registry = Registry::with_prefix("downpour");
    registry.register_collector(Box::new(Metrics { total: report.total(), report }));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("a string takes whatever is written to it");
    out
}

#[derive(Debug)]
struct Metrics {
    report: Report,
    total: Counters,
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Exposition(encoder);
        self.encode_server(&mut out)?;
        self.encode_connections(&mut out)?;
        self.encode_streams(&mut out)?;
        self.encode_deliveries(&mut out)?;
        self.encode_publishing(&mut out)?;
        self.encode_shards(&mut out)
    }
}

impl Metrics {
    fn encode_server(&self, out: &mut Exposition<'_>) -> fmt::Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        out.0
            .encode_descriptor("build", "The version of the server.", None, MetricType::Info)?
            .encode_info(&version)?;
        out.gauge("shards", "Event loops, one thread each.", None, self.report.shards.len() as u64)?;
        let help = "Event loops that did not answer in time: their part of this report is an earlier one.";
        out.gauge("shards_late", help, None, self.report.late as u64)?;
        let Some(lines) = self.report.log_lines_dropped else { return Ok(()) };
        out.counter("log_lines_dropped", "Lines of the log that could not be written.", None, lines)
    }

    fn encode_connections(&self, out: &mut Exposition<'_>) -> fmt::Result {
        let total = &self.total;
        out.gauge_by("connections", "Open connections.", "shard", self.by_shard(|shard| shard.connections))?;
        out.counter("connections_accepted", "Connections that were taken.", None, total.accepted)?;
        let help = "Connections that were dropped unheard, far beyond the limit.";
        out.counter("connections_dropped", help, None, total.dropped)?;
        out.counter(
            "accept_failures",
            "Failures to accept connections, such as a full file table.",
            None,
            total.accept_failures,
        )?;
        let reasons =
            CloseReason::ALL.iter().zip(total.closes).map(|(reason, count)| (reason.as_str(), count));
        let closes = reasons.chain([("panic", total.closes_by_panic)]);
        out.counter_by("connections_closed", "Connections that were closed.", "reason", closes)
    }

    fn encode_streams(&self, out: &mut Exposition<'_>) -> fmt::Result {
        let total = &self.total;
        let live = total.streams.saturating_sub(total.streams_catching_up);
        let states = [("live", live), ("catching-up", total.streams_catching_up)];
        out.gauge_by("streams", "Open streams.", "state", states)?;
        out.counter("streams_begun", "Streams that were begun.", None, total.streams_begun)?;
        let refusals = StreamRefusal::ALL.iter().zip(total.streams_refused);
        let refusals = refusals.map(|(refusal, count)| (refusal.as_str(), count));
        let help = "Streams that were refused for a while.";
        out.counter_by("streams_refused", help, "reason", refusals)?;
        out.counter("replays", "Streams that began with events from the history.", None, total.replays)?;
        let help = "Times that a live stream was over its bound and turned to the history.";
        out.counter("streams_fallen_behind", help, None, total.falls_behind)?;
        let help = "Events that streams read from the history.";
        out.counter("history_events_read", help, None, total.history_reads)?;
        let gaps = GapReason::ALL.iter().zip(total.gaps).map(|(reason, count)| (reason.as_str(), count));
        out.counter_by("gaps", "Gaps that streams were told.", "reason", gaps)
    }

    fn encode_deliveries(&self, out: &mut Exposition<'_>) -> fmt::Result {
        let total = &self.total;
        let help =
            "Events that were written whole, each counted once for every stream that it was written to.";
        out.counter("deliveries", help, None, total.deliveries())?;
        out.counter("sends", "Sends that the kernel took bytes of.", None, total.sends())?;
        let help = "Bytes that the kernel took, of streams and of answers.";
        out.counter("sent", help, Some(&Unit::Bytes), total.sent_bytes)?;
        let FramesPerSend { sum, buckets } = total.frames_per_send;
        let count = total.frames_per_send.count();
        let bounds = FramesPerSend::BOUNDS.map(f64::from).into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(buckets).collect();
        let help = "Events in each send to a stream, counted where their last byte went.";
        out.0
            .encode_descriptor("frames_per_send", help, None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(sum as f64, count, &buckets, None)
    }

    fn encode_publishing(&self, out: &mut Exposition<'_>) -> fmt::Result {
        let (total, hub) = (&self.total, &self.report.hub);
        out.counter("events_published", "Events that took their place in the sequence.", None, hub.events)?;
        let refused = total.publishes_refused.iter().map(|&(status, count)| (status.code(), count));
        let help = "Requests to publish that were answered with an error.";
        out.counter_by("publishes_refused", help, "status", refused)?;
        let help = "Publishes that had to wait for event loops that were behind.";
        out.counter("publish_pauses", help, None, total.publish_pauses)?;
        let help = "Connections whose publish waits for event loops that are behind.";
        out.gauge("publishers_paused", help, None, total.publishers_paused)?;
        let help = "Requests and envelopes that were published before, under the same idempotency key.";
        out.counter("publish_duplicates", help, None, total.publish_duplicates)?;
        let help = "Idempotency keys that are remembered.";
        out.gauge("idempotency_keys", help, None, self.report.idempotency_keys as u64)?;
        let help = "Unfinished bodies and unread answers that are held.";
        out.gauge("body_memory", help, Some(&Unit::Bytes), self.report.body_memory_bytes as u64)?;
        let help = "Memory of the history as held: segments, indexes and names.";
        out.gauge("history", help, Some(&Unit::Bytes), hub.held_bytes as u64)?;
        let help = "Channels that have subscribers or retained events.";
        out.gauge("channels", help, None, hub.channels as u64)
    }

    fn encode_shards(&self, out: &mut Exposition<'_>) -> fmt::Result {
        let mailboxes = self.report.mailbox_messages.iter().map(|&messages| messages as u64).enumerate();
        out.gauge_by("mailbox_messages", "Messages that wait for an event loop.", "shard", mailboxes)?;
        let help = "Timers that an event loop keeps: one for each connection at the most.";
        out.gauge_by("timer_entries", help, "shard", self.by_shard(|shard| shard.timers))?;
        let help = "Time from taking events until all streams that they concern were sent to.";
        out.durations("fan_out_duration", help, self.by_shard(|shard| shard.fan_outs))?;
        let help = "Time that an event loop was busy in one turn, which whatever comes meanwhile waits.";
        out.durations("loop_lag", help, self.by_shard(|shard| shard.turns))?;
        let help = "Times that an event loop began anew after a panic, which is a bug.";
        out.counter_by("shard_restarts", help, "shard", self.by_shard(|shard| shard.restarts))
    }

    fn by_shard<T>(&self, count: impl Fn(&Counters) -> T) -> impl Iterator<Item = (usize, T)> {
        self.report.shards.iter().map(count).enumerate().collect::<Vec<_>>().into_iter()
    }
}

/// Writes metrics one by one.
struct Exposition<'a>(DescriptorEncoder<'a>);

impl Exposition<'_> {
    fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, count: u64) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, unit, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&count, None)
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn counter_by<V: EncodeLabelValue>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        counts: impl IntoIterator<Item = (V, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, count) in counts {
            metric.encode_family(&[(label, value)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn gauge_by<V: EncodeLabelValue>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (V, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (value, count) in values {
            metric.encode_family(&[(label, value)])?.encode_gauge(&count)?;
        }
        Ok(())
    }

    /// A histogram for each shard, in seconds.
    fn durations(
        &mut self,
        name: &str,
        help: &str,
        shards: impl Iterator<Item = (usize, Durations)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (shard, durations) in shards {
            let bounds =
                Durations::BOUNDS.iter().map(std::time::Duration::as_secs_f64).chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(durations.buckets).collect();
            let seconds = durations.sum_ns as f64 / 1e9;
            metric.encode_family(&[("shard", shard)])?.encode_histogram::<NoLabelSet>(
                seconds,
                durations.count(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::Status;
    use crate::hub::counts::HubCounts;

    #[test]
    fn a_report_is_rendered_as_prometheus_reads_it() {
        let mut first =
            Counters { connections: 3, streams: 2, streams_catching_up: 1, ..Counters::default() };
        first.note_sent(100, Some(5));
        first.note_sent(20, None);
        first.note_gap(GapReason::UnknownId);
        first.note_close(CloseReason::TooSlow);
        first.publishes_refused = vec![(Status::BAD_REQUEST, 4)];
        first.publish_duplicates = 3;
        first.timers = 2;
        first.turns.note(Duration::from_millis(2));
        let mut second = Counters { connections: 1, restarts: 1, ..Counters::default() };
        second.note_sent(1, Some(1));
        let report = Report {
            shards: vec![first, second],
            mailbox_messages: vec![0, 7],
            late: 1,
            hub: HubCounts { events: 6, held_bytes: 65_536, channels: 2 },
            idempotency_keys: 5,
            body_memory_bytes: 3072,
            log_lines_dropped: Some(9),
        };
        let text = render(report);
        for expected in [
            "# HELP downpour_streams Open streams.\n# TYPE downpour_streams gauge\n\
             downpour_streams{state=\"live\"} 1\ndownpour_streams{state=\"catching-up\"} 1\n",
            "\ndownpour_connections{shard=\"0\"} 3\ndownpour_connections{shard=\"1\"} 1\n",
            "\n# TYPE downpour_sent_bytes counter\n# UNIT downpour_sent_bytes bytes\ndownpour_sent_bytes_total 121\n",
            "\ndownpour_deliveries_total 6\n",
            "\ndownpour_sends_total 3\n",
            "\n# TYPE downpour_frames_per_send histogram\ndownpour_frames_per_send_sum 6.0\n\
             downpour_frames_per_send_count 2\ndownpour_frames_per_send_bucket{le=\"1.0\"} 1\n\
             downpour_frames_per_send_bucket{le=\"4.0\"} 1\ndownpour_frames_per_send_bucket{le=\"16.0\"} 2\n\
             downpour_frames_per_send_bucket{le=\"64.0\"} 2\ndownpour_frames_per_send_bucket{le=\"256.0\"} 2\n\
             downpour_frames_per_send_bucket{le=\"+Inf\"} 2\n",
            "\ndownpour_gaps_total{reason=\"unknown-id\"} 1\n",
            "\ndownpour_connections_closed_total{reason=\"too-slow\"} 1\n",
            "\ndownpour_publishes_refused_total{status=\"400\"} 4\n",
            "\ndownpour_publish_duplicates_total 3\n",
            "\ndownpour_idempotency_keys 5\n",
            "\ndownpour_body_memory_bytes 3072\n",
            "\ndownpour_history_bytes 65536\n",
            "\ndownpour_mailbox_messages{shard=\"1\"} 7\n",
            "\ndownpour_timer_entries{shard=\"0\"} 2\ndownpour_timer_entries{shard=\"1\"} 0\n",
            "\ndownpour_loop_lag_seconds_sum{shard=\"0\"} 0.002\n",
            "\ndownpour_loop_lag_seconds_bucket{le=\"0.0005\",shard=\"0\"} 0\n",
            "\ndownpour_loop_lag_seconds_bucket{le=\"0.0025\",shard=\"0\"} 1\n",
            "\ndownpour_shard_restarts_total{shard=\"1\"} 1\n",
            "\ndownpour_shards_late 1\n",
            "\ndownpour_log_lines_dropped_total 9\n",
        ] {
            assert!(text.contains(expected), "{expected}\nis not in\n{text}");
        }
        assert!(text.starts_with("# HELP downpour_build The version of the server.\n"), "{text}");
        assert!(text.ends_with("\n# EOF\n"), "{text}");
    }
}
