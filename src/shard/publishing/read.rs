//! Bodies of lines. They are published in parts as they are read, and answered at the end.

use super::{Form, LinesEnd, Submission};
use crate::api::{self, BadLine, Checks, LinesAccount, ReadLines};
use crate::base::id::ConnId;
use crate::driver::Driver;
use crate::shard::Shard;

impl<D: Driver> Shard<D> {
    /// Publishes the lines that a connection has read.
    pub(in crate::shard) fn handle_lines(&mut self, conn: ConnId) {
        let status = self.status();
        let Some(peer) = self.connections.peers.get_mut(conn) else { return };
        let Some(lines) = peer.conn.take_lines(self.clock.now) else { return };
        let request = peer.open_request.get_or_insert_default();
        if let Some(permission) = &lines.permission {
            request.lines = LinesAccount::default();
            request.forget_request(); // An earlier request timed out.
            request.permission = Some(permission.clone());
            if let Err(problem) = api::check_ready(status) {
                return self.answer(conn, &problem.into_response());
            }
        }
        let Some(permission) = &request.permission else { return };
        let ReadLines { batch, places, claims, error } = api::read_lines(
            &lines,
            permission,
            Checks { fingerprints: self.core.keys.fingerprints(), hub: &self.core.hub },
        );
        let end = match (error, lines.failure) {
            (Some(BadLine { line, problem }), _) => Some(LinesEnd::Failed(problem, Some(line))),
            (None, Some(problem)) => Some(LinesEnd::Failed(problem, None)),
            (None, None) => lines.is_end.then_some(LinesEnd::Whole),
        };
        if batch.is_empty() {
            self.go_on_with_lines(conn, end);
        } else {
            self.publish(conn, Submission::new(batch, Form::Lines(places, end), claims));
        }
    }

    /// Reads more lines, or answers a body that has ended.
    pub(super) fn go_on_with_lines(&mut self, conn: ConnId, end: Option<LinesEnd>) {
        let context = self.clock.context(&self.options.conn, &self.common);
        let Some(peer) = self.connections.peers.get_mut(conn) else { return };
        let Some(end) = end else { return peer.conn.take_more_lines(&context) };
        let account = peer.open_request.as_mut().map(|request| std::mem::take(&mut request.lines));
        let account = account.unwrap_or_default();
        let response = match end {
            LinesEnd::Whole => {
                let answer = account.answer();
                let is_refused = self.unless_it_fits(conn, &answer).is_some();
                if is_refused { account.answer_without_ids() } else { answer }
            }
            LinesEnd::Failed(problem, line) => account.refuse(problem, line),
        };
        self.answer(conn, &response);
    }
}
