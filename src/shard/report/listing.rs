//! The list of channels. A page is collected over several turns, a part of the table at a time.

use std::time::Instant;

use crate::api::{self, ListRequest};
use crate::base::id::ConnId;
use crate::driver::Driver;
use crate::http::Problem;
use crate::hub::counts::ChannelPage;
use crate::shard::Shard;

/// Parts of the table that one turn reads, for all requests together: a few tenths of a millisecond.
const PARTS_PER_TURN_MAX: usize = 8;

/// A request for a page of channels that is being collected.
#[derive(Debug)]
pub(super) struct Listing {
    conn: ConnId,
    page: ChannelPage,
    /// Before the connection stops waiting for its answer.
    deadline: Instant,
}

impl<D: Driver> Shard<D> {
    /// Begins to collect a page of channels for a connection.
    pub(in crate::shard) fn begin_listing(&mut self, conn: ConnId, request: &ListRequest) {
        let page = ChannelPage::new(&request.prefix, request.after.as_deref(), request.len_max);
        let deadline = self.clock.now + self.options.conn.publish_timeout / 2;
        self.reports.listings.push_back(Listing { conn, page, deadline });
    }

    /// Reads some parts of the table, and answers the requests whose pages are complete or whose time is
    /// over.
    pub(in crate::shard) fn go_on_listing(&mut self) {
        for _ in 0..PARTS_PER_TURN_MAX {
            let Some(mut listing) = self.reports.listings.pop_front() else { return };
            if self.connections.peers.get_mut(listing.conn).is_none() {
                continue;
            }
            let response = if self.core.hub.look_for_page(&mut listing.page) {
                let (channels, has_more) = listing.page.into_channels();
                api::answer_list(&channels, has_more)
            } else if self.clock.now >= listing.deadline {
                let detail = "the server is too busy to list its channels";
                Problem::unavailable(detail, self.options.retry).into_response()
            } else {
                // Ahead of requests that have not begun, so that only one half-collected page takes
                // memory at a time.
                self.reports.listings.push_front(listing);
                continue;
            };
            self.answer(listing.conn, &response);
            self.act(listing.conn);
        }
    }
}
