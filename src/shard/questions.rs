//! How a shard reaches streams of the others: by questions to their mailboxes. The answers come to its
//! own mailbox.
//!
//! Every question is answered. A question that is lost, because its shard panics over it or has ended,
//! sends an answer when it is dropped. Questions and answers are bounded, so that neither takes the room
//! of outcomes in a mailbox.

use std::collections::{BTreeMap, HashMap};

use crate::api::{self, ClientAnswer, ClientError, ClientRequest};
use crate::base::id::{ClientId, ConnId};
use crate::base::mailbox::Sender;
use crate::driver::Driver;
use crate::record::Addressed;

use super::publishing::{Form, LinesEnd, Submission};
use super::{Message, Shard};

/// Most unanswered questions of one shard. A mailbox with this many messages is sent no question.
pub(super) const QUESTIONS_MAX: usize = 1024;

/// The task of a question.
#[derive(Debug)]
enum Task {
    /// Carry out a request about one stream.
    CarryOut(ClientRequest),
    /// Make the streams of these events targets.
    Attach(Vec<Addressed>),
}

/// The reply to a [`Task`].
#[derive(Debug)]
enum TaskResult {
    /// The result of the request.
    CarriedOut(Result<ClientAnswer, ClientError>),
    /// The place of the first event whose stream is not open.
    Attached(Result<Option<usize>, ClientError>),
}

impl Task {
    /// The reply if the shard did not handle the task.
    fn failed(&self, error: ClientError) -> TaskResult {
        match self {
            Task::CarryOut(_) => TaskResult::CarriedOut(Err(error)),
            Task::Attach(_) => TaskResult::Attached(Err(error)),
        }
    }
}

/// A question of one shard to another.
#[derive(Debug)]
pub struct Question {
    task: Task,
    serial: u64,
    /// The mailbox that the answer goes to; `None` once it was sent.
    asker: Option<Sender<Message>>,
}

impl Question {
    fn answer(&mut self, result: TaskResult) {
        let Some(asker) = self.asker.take() else { return };
        if asker.try_send(Message::Answer(Box::new(Answer { serial: self.serial, result }))).is_err() {
            tracing::warn!("the answer to a question about a stream found no shard");
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let result = self.task.failed(ClientError::Lost);
        self.answer(result);
    }
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub struct Answer {
    serial: u64,
    result: TaskResult,
}

/// The questions of a shard that wait for answers.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// The number of questions without an answer.
    unanswered: usize,
    waiting: HashMap<u64, Asked>,
}

/// What waits for answers.
#[derive(Debug)]
enum Asked {
    /// A request about one stream.
    Request(ConnId, ClientId),
    /// A publish to streams, some of them of other shards.
    Publish(Box<Finding>),
}

/// A publish whose streams are being looked up.
#[derive(Debug)]
struct Finding {
    conn: ConnId,
    submission: Submission,
    /// The number of answers to come.
    left: usize,
    /// The place of the first event whose stream is not open.
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
    /// Carries out a request about a stream of any shard, and answers it.
    pub(super) fn begin_client_request(&mut self, conn: ConnId, request: ClientRequest) {
        let client = request.client;
        let Some(shard) = self.shard_of(client) else {
            return self.answer_client(conn, client, Err(ClientError::Unknown));
        };
        if shard == self.options.number {
            let answer = self.carry_out(&request);
            return self.answer_client(conn, client, answer);
        }
        let serial = self.next_question(conn);
        match self.ask(shard, serial, Task::CarryOut(request)) {
            Ok(()) => drop(self.questions.waiting.insert(serial, Asked::Request(conn, client))),
            Err(error) => self.answer_client(conn, client, Err(error)),
        }
    }

    /// Publishes a batch with events for single streams once all of these are known to be open.
    pub(super) fn find_clients(&mut self, conn: ConnId, submission: Submission) {
        let missing = self.core.hub.without_target(submission.batch.addressed());
        let mut finding = Box::new(Finding { conn, submission, left: 0, unknown: None, error: None });
        let mut by_shard: BTreeMap<usize, Vec<Addressed>> = BTreeMap::new();
        for event in missing {
            match self.shard_of(event.client) {
                Some(shard) => by_shard.entry(shard).or_default().push(event),
                None => finding.note(Ok(Some(event.place))),
            }
        }
        if let Some(own) = by_shard.remove(&self.options.number) {
            finding.note(self.attach_all(&own));
        }
        let serial = self.next_question(conn);
        for (shard, events) in by_shard {
            let first = events[0].place;
            match self.ask(shard, serial, Task::Attach(events)) {
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

    /// Answers a question of another shard.
    pub(super) fn answer_question(&mut self, mut question: Question) {
        let result = match &question.task {
            Task::CarryOut(request) => TaskResult::CarriedOut(self.carry_out(request)),
            Task::Attach(clients) => TaskResult::Attached(self.attach_all(clients)),
        };
        question.answer(result);
    }

    /// Goes on with the request that waited for an answer.
    pub(super) fn handle_answer(&mut self, answer: Answer) {
        let Answer { serial, result } = answer;
        let Some(mut asked) = self.questions.waiting.remove(&serial) else { return };
        self.questions.unanswered -= 1;
        let conn = match &mut asked {
            Asked::Request(conn, _) => *conn,
            Asked::Publish(finding) => finding.conn,
        };
        match (asked, result) {
            (Asked::Request(_, client), TaskResult::CarriedOut(answer)) => {
                if !self.claim_answer(conn, serial) {
                    return;
                }
                self.answer_client(conn, client, answer);
            }
            (Asked::Publish(mut finding), TaskResult::Attached(attached)) => {
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
            (Asked::Request(..), TaskResult::Attached(_))
            | (Asked::Publish(_), TaskResult::CarriedOut(_)) => {
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
                // As at any bad line, the lines before it are published.
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

    /// Sends a question to another shard.
    ///
    /// # Errors
    /// [`ClientError::Unknown`] if there is no such shard, [`ClientError::Busy`] if too many questions
    /// wait.
    fn ask(&mut self, shard: usize, serial: u64, task: Task) -> Result<(), ClientError> {
        let other = self.core.publishers.mailbox(shard).ok_or(ClientError::Unknown)?;
        let asker = self.core.publishers.mailbox(self.options.number).cloned();
        if self.questions.unanswered >= QUESTIONS_MAX || other.len() >= QUESTIONS_MAX {
            return Err(ClientError::Busy);
        }
        let question = Box::new(Question { task, serial, asker });
        if let Err(Message::Question(mut question)) = other.try_send(Message::Question(question)) {
            question.asker = None; // It was not sent: the caller answers.
            return Err(ClientError::Busy);
        }
        self.questions.unanswered += 1;
        Ok(())
    }

    /// A number for a connection's next question. Answers to its earlier questions are ignored from now
    /// on.
    fn next_question(&mut self, conn: ConnId) -> u64 {
        let serial = self.new_serial();
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
