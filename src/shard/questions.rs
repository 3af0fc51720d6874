//! How a shard reaches streams of the others: by questions to their mailboxes, which they answer to its own.
//!
//! Every question is answered. One that is lost, since its shard panics over it or has ended, answers for itself when it
//! is dropped. Both ways are bounded, so that neither takes the room of outcomes in a mailbox.

use std::collections::{BTreeMap, HashMap};

use crate::api::{self, ClientAnswer, ClientError, ClientRequest};
use crate::base::id::{ClientId, ConnId};
use crate::base::mailbox::Sender;
use crate::driver::Driver;
use crate::frame::batch::Addressed;

use super::publishing::{Form, LinesEnd, Submission};
use super::{Message, Shard};

/// Questions of one shard that may be unanswered, and messages in a mailbox that is asked nothing more.
pub(super) const QUESTIONS_MAX: usize = 1024;

/// What a shard is asked about its streams.
#[derive(Debug)]
enum Order {
    /// To do what a request asks for.
    CarryOut(ClientRequest),
    /// To see to it that these events can be applied for its streams.
    Attach(Vec<Addressed>),
}

/// What it answers.
#[derive(Debug)]
enum Told {
    /// What came of the request.
    CarriedOut(Result<ClientAnswer, ClientError>),
    /// The place of the first event whose stream does not live.
    Attached(Result<Option<usize>, ClientError>),
}

impl Order {
    /// The answer of a shard that does not get to it.
    fn failed(&self, error: ClientError) -> Told {
        match self {
            Order::CarryOut(_) => Told::CarriedOut(Err(error)),
            Order::Attach(_) => Told::Attached(Err(error)),
        }
    }
}

/// A question of one shard to another.
#[derive(Debug)]
pub struct Question {
    order: Order,
    serial: u64,
    /// Who is to be answered; none once that is done.
    asker: Option<Sender<Message>>,
}

impl Question {
    fn answer(&mut self, told: Told) {
        let Some(asker) = self.asker.take() else { return };
        if asker.try_send(Message::Answer(Box::new(Answer { serial: self.serial, told }))).is_err() {
            tracing::warn!("the answer to a question about a stream found no shard");
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let told = self.order.failed(ClientError::Lost);
        self.answer(told);
    }
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub struct Answer {
    serial: u64,
    told: Told,
}

/// What a shard has asked others and waits for.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// Questions that are not answered.
    unanswered: usize,
    waiting: HashMap<u64, Asked>,
}

/// Who waits for answers.
#[derive(Debug)]
enum Asked {
    /// A request about one stream.
    Request(ConnId, ClientId),
    /// A publish to streams, of which other shards have some.
    Publish(Box<Finding>),
}

/// A publish whose streams are looked for.
#[derive(Debug)]
struct Finding {
    conn: ConnId,
    submission: Submission,
    /// Answers that are still to come.
    left: usize,
    /// The place of the first event whose stream does not live.
    unknown: Option<usize>,
    error: Option<ClientError>,
}

impl Finding {
    fn note(&mut self, attached: Result<Option<usize>, ClientError>) {
        match attached {
            Ok(unknown) => self.unknown = self.unknown.into_iter().chain(unknown).min(),
            Err(error) => self.error = Some(error),
        }
    }
}

impl<D: Driver> Shard<D> {
    /// Does what a request asks of a stream, wherever that is, and answers it.
    pub(super) fn begin_client_request(&mut self, conn: ConnId, request: ClientRequest) {
        let (client, shard) = (request.client, usize::from(request.client.shard));
        if shard == self.options.number {
            let answer = self.carry_out(&request);
            return self.answer_client(conn, client, answer);
        }
        let serial = self.next_question(conn);
        match self.ask(shard, serial, Order::CarryOut(request)) {
            Ok(()) => drop(self.questions.waiting.insert(serial, Asked::Request(conn, client))),
            Err(error) => self.answer_client(conn, client, Err(error)),
        }
    }

    /// Publishes a batch with events for single streams once all of these are known to live.
    pub(super) fn find_clients(&mut self, conn: ConnId, submission: Submission) {
        let missing = self.core.hub.without_target(submission.batch.addressed());
        let mut finding = Box::new(Finding { conn, submission, left: 0, unknown: None, error: None });
        let mut by_shard: BTreeMap<usize, Vec<Addressed>> = BTreeMap::new();
        for event in missing {
            by_shard.entry(usize::from(event.client.shard)).or_default().push(event);
        }
        if let Some(own) = by_shard.remove(&self.options.number) {
            finding.note(self.attach_all(&own));
        }
        let serial = self.next_question(conn);
        for (shard, events) in by_shard {
            let first = events[0].place;
            match self.ask(shard, serial, Order::Attach(events)) {
                Ok(()) => finding.left += 1,
                Err(ClientError::Unknown) => finding.note(Ok(Some(first))),
                Err(error) => finding.note(Err(error)),
            }
        }
        if finding.left == 0 {
            return self.publish_to_found(finding);
        }
        self.questions.waiting.insert(serial, Asked::Publish(finding));
    }

    /// Answers what another shard asks.
    pub(super) fn take_question(&mut self, mut question: Question) {
        let told = match &question.order {
            Order::CarryOut(request) => Told::CarriedOut(self.carry_out(request)),
            Order::Attach(clients) => Told::Attached(self.attach_all(clients)),
        };
        question.answer(told);
    }

    /// Goes on with what waited for an answer.
    pub(super) fn take_answer(&mut self, answer: Answer) {
        let Answer { serial, told } = answer;
        let Some(mut asked) = self.questions.waiting.remove(&serial) else { return };
        self.questions.unanswered -= 1;
        let conn = match &mut asked {
            Asked::Request(conn, _) => *conn,
            Asked::Publish(finding) => finding.conn,
        };
        match (asked, told) {
            (Asked::Request(_, client), Told::CarriedOut(answer)) => {
                if !self.claim_answer(conn, serial) {
                    return;
                }
                self.answer_client(conn, client, answer);
            }
            (Asked::Publish(mut finding), Told::Attached(attached)) => {
                finding.note(attached);
                finding.left -= 1;
                if finding.left > 0 {
                    self.questions.waiting.insert(serial, Asked::Publish(finding));
                    return;
                }
                if !self.claim_answer(conn, serial) {
                    return;
                }
                self.publish_to_found(finding);
            }
            (Asked::Request(..), Told::Attached(_)) | (Asked::Publish(_), Told::CarriedOut(_)) => {
                unreachable!("a shard answers what it was asked")
            }
        }
        self.act(conn);
    }

    fn publish_to_found(&mut self, finding: Box<Finding>) {
        let Finding { conn, mut submission, unknown, error, .. } = *finding;
        if let Some(error) = error {
            return self.refuse_batch(conn, submission.form, error.problem(self.options.retry));
        }
        let is_unknown = |event: &Addressed| Some(event.place) == unknown;
        let found = submission.batch.addressed().find(is_unknown);
        let Some(Addressed { place, part, .. }) = found else {
            return self.publish_found(conn, submission);
        };
        match &mut submission.form {
            Form::Whole(form) => {
                let problem = form.unknown_client(part);
                self.answer(conn, &problem.into_response());
            }
            Form::Lines(places, end) => {
                // As at any bad line, what stands before it is published.
                let bad = api::unknown_client_in_line(part);
                *end = Some(LinesEnd::Failed(bad.problem, Some(bad.line)));
                places.truncate(place);
                submission.batch.retain(|at| at < place);
                submission.release_keys_from(place);
                if submission.batch.is_empty() {
                    return self.acknowledge_form(conn, submission.form, None, None);
                }
                self.publish_found(conn, submission);
            }
        }
    }

    fn answer_client(&mut self, conn: ConnId, client: ClientId, answer: Result<ClientAnswer, ClientError>) {
        let response = api::answer_client(client, answer, self.options.retry);
        self.answer(conn, &response);
    }

    /// Puts a question into another shard's mailbox.
    ///
    /// # Errors
    /// [`ClientError::Unknown`] where there is no such shard, [`ClientError::Busy`] where too many questions wait.
    fn ask(&mut self, shard: usize, serial: u64, order: Order) -> Result<(), ClientError> {
        let other = self.core.publishers.mailbox(shard).ok_or(ClientError::Unknown)?;
        let asker = self.core.publishers.mailbox(self.options.number).cloned();
        if self.questions.unanswered >= QUESTIONS_MAX || other.len() >= QUESTIONS_MAX {
            return Err(ClientError::Busy);
        }
        let question = Box::new(Question { order, serial, asker });
        if let Err(Message::Question(mut question)) = other.try_send(Message::Question(question)) {
            question.asker = None; // Nobody has it who could answer.
            return Err(ClientError::Busy);
        }
        self.questions.unanswered += 1;
        Ok(())
    }

    /// The number of a connection's next question; whatever it had asked before is not waited for any more.
    fn next_question(&mut self, conn: ConnId) -> u64 {
        let serial = self.take_serial();
        if let Some(peer) = self.connections.peers.get_mut(conn) {
            peer.open_request.get_or_insert_default().question = Some(serial);
        }
        serial
    }

    /// Returns true if and only if the connection still waits for the answer to this question.
    fn claim_answer(&mut self, conn: ConnId, serial: u64) -> bool {
        let Some(peer) = self.connections.peers.get_mut(conn) else { return false };
        let Some(request) = &mut peer.open_request else { return false };
        request.question == Some(serial) && {
            request.question = None;
            peer.conn.awaits_answer()
        }
    }
}
