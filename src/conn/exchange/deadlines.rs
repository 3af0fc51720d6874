//! The time limit of each step of an exchange, and what happens when it passes.

use std::time::{Duration, Instant};

use super::{Exchange, Progress, UNKNOWN_ASKER};
use crate::conn::state::{CloseReason, ConnOptions, Context};
use crate::http::{Problem, Status};

/// Once the server drains, a connection without a request so far has this long to send one.
pub(super) const NEWCOMER_HEARD: Duration = Duration::from_secs(1);

impl Exchange {
    pub(in crate::conn) fn deadline(&self, options: &ConnOptions) -> Option<Instant> {
        let reading = match &self.progress {
            Progress::Head if self.scanner.has_begun() => Some(self.began + options.head_timeout),
            Progress::Head => Some(self.began + self.patience(options)),
            Progress::Lines(lines) if lines.is_handed_over => Some(self.began + options.publish_timeout),
            Progress::Body { .. } | Progress::Lines(_) | Progress::Discard { .. } => {
                Some(self.began + options.body_timeout)
            }
            Progress::HandedOver => Some(self.began + options.publish_timeout),
            Progress::Undecided { .. } | Progress::Ready(_) | Progress::Ended => None,
        };
        let writing = (!self.out.is_empty()).then(|| self.written + options.idle_timeout);
        [reading, writing].into_iter().flatten().min()
    }

    /// Answers a request whose time is over. Returns a reason if the connection must close without an
    /// answer.
    pub(in crate::conn) fn deadline_reached(&mut self, context: &Context<'_>) -> Option<CloseReason> {
        let ConnOptions { head_timeout, body_timeout, idle_timeout, publish_timeout, .. } = *context.options;
        if !self.out.is_empty() && context.now >= self.written + idle_timeout {
            return Some(CloseReason::TooSlow);
        }
        let waited = context.now.saturating_duration_since(self.began);
        match &self.progress {
            Progress::Head if self.scanner.has_begun() => {
                if waited >= head_timeout {
                    self.asker = UNKNOWN_ASKER;
                    let detail = format!("the request's head did not come whole within {head_timeout:?}");
                    self.refuse(context, Problem::new(Status::REQUEST_TIMEOUT, detail));
                }
            }
            Progress::Head => {
                if waited >= self.patience(context.options) {
                    return Some(CloseReason::Idle);
                }
            }
            Progress::Lines(lines) if lines.is_handed_over => {
                self.time_out_publish(context, waited >= publish_timeout)
            }
            Progress::HandedOver => self.time_out_publish(context, waited >= publish_timeout),
            Progress::Body { .. } | Progress::Lines(_) => {
                if waited >= body_timeout {
                    let detail = format!("the request's body did not come on within {body_timeout:?}");
                    self.refuse_body(context, Problem::new(Status::REQUEST_TIMEOUT, detail));
                }
            }
            Progress::Discard { .. } => {
                if waited >= body_timeout {
                    self.progress = Progress::Ended; // It is already answered.
                }
            }
            Progress::Undecided { .. } | Progress::Ready(_) | Progress::Ended => {}
        }
        None
    }

    /// How long the next request may take to begin.
    fn patience(&self, options: &ConnOptions) -> Duration {
        match (self.has_answered, self.is_last) {
            (true, _) => options.idle_timeout,
            (false, false) => options.head_timeout,
            (false, true) => options.head_timeout.min(NEWCOMER_HEARD),
        }
    }

    fn time_out_publish(&mut self, context: &Context<'_>, is_due: bool) {
        if is_due {
            let detail = format!(
                "the log did not commit within {:?}; the event may still appear, and a retry with the same \
                 idempotency key settles it",
                context.options.publish_timeout
            );
            let problem = Problem::unavailable(detail, Duration::from_secs(1));
            self.answer(context, &problem.into_response());
        }
    }
}
