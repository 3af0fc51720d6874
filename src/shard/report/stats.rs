//! A report as the JSON of `/sse/stats`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Report;
use crate::api::DEFAULT_CHANNEL;
use crate::conn::CloseReason;
use crate::frame::notice::GapReason;
use crate::hub::counts::Subscribed;

/// The members of `/sse/stats`, in order.
#[derive(Serialize)]
struct Stats<'a> {
    total_clients: u64,
    global_channel: u32,
    channels: BTreeMap<&'a str, u32>,
    users: u64,
    version: &'static str,
    shards: usize,
    shards_late: usize,
    connections: u64,
    connections_accepted: u64,
    connections_closed: BTreeMap<&'static str, u64>,
    streams_catching_up: u64,
    streams_begun: u64,
    replays: u64,
    gaps: BTreeMap<&'static str, u64>,
    events_published: u64,
    publishes_refused: BTreeMap<u16, u64>,
    publish_pauses: u64,
    publish_duplicates: u64,
    idempotency_keys: usize,
    deliveries: u64,
    sends: u64,
    sent_bytes: u64,
    history_bytes: usize,
    history_channels: usize,
    shard_restarts: u64,
}

/// Renders a report, with the subscriptions of all channels.
pub(in crate::shard) fn render(report: &Report, subscribed: &Subscribed) -> String {
    let total = report.total();
    let channels: BTreeMap<&str, u32> =
        subscribed.channels.iter().map(|(name, streams)| (&**name, *streams)).collect();
    let closes = CloseReason::ALL.iter().zip(total.closes).map(|(reason, count)| (reason.as_str(), count));
    let stats = Stats {
        total_clients: total.streams,
        global_channel: channels.get(DEFAULT_CHANNEL).copied().unwrap_or(0),
        channels,
        users: subscribed.users,
        version: env!("CARGO_PKG_VERSION"),
        shards: report.shards.len(),
        shards_late: report.late,
        connections: total.connections,
        connections_accepted: total.accepted,
        connections_closed: closes.chain([("panic", total.closes_by_panic)]).collect(),
        streams_catching_up: total.streams_catching_up,
        streams_begun: total.streams_begun,
        replays: total.replays,
        gaps: GapReason::ALL.iter().zip(total.gaps).map(|(reason, count)| (reason.as_str(), count)).collect(),
        events_published: report.hub.events,
        publishes_refused: total
            .publishes_refused
            .iter()
            .map(|&(status, count)| (status.code(), count))
            .collect(),
        publish_pauses: total.publish_pauses,
        publish_duplicates: total.publish_duplicates,
        idempotency_keys: report.idempotency_keys,
        deliveries: total.deliveries(),
        sends: total.sends(),
        sent_bytes: total.sent_bytes,
        history_bytes: report.hub.held_bytes,
        history_channels: report.hub.channels,
        shard_restarts: total.restarts,
    };
    serde_json::to_string(&stats).expect("maps with names and numbers as keys are JSON objects")
}
