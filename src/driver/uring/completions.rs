//! Takes in the kernel's completions. Each becomes an event to hand over, or starts the next operation.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use io_uring::cqueue;

use super::buffers::{self, Buffers};
use super::connection::{Connection, Receiving, Room};
use super::key::Key;
use super::ring::Ring;
use super::sends::Done;
use super::{Event, UringDriver};
use crate::base::id::ConnId;
use crate::driver::Driver;
use crate::driver::table::Table;

/// The poll mask after a short send.
const ROOM: libc::c_int = libc::POLLOUT as libc::c_int;

impl UringDriver {
    /// Submits what is queued, waits for `timeout`, and takes in all completions. Returns how many there
    /// were.
    pub(super) fn go_round(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        self.ring.enter(timeout)?;
        let all_consumed = !self.ring.has_queued();
        let mut reaped = std::mem::take(&mut self.reaped);
        self.ring.reap(&mut reaped)?;
        let completions = reaped.len();
        for entry in reaped.drain(..) {
            self.note(&entry);
        }
        self.reaped = reaped;
        let UringDriver { sends, ring, table, events, .. } = self;
        if let Some(sends) = sends {
            sends.settle(all_consumed, |done| note_sent(done, ring, table, events));
        }
        Ok(completions)
    }

    /// Takes in a completion.
    fn note(&mut self, entry: &cqueue::Entry) {
        let (result, flags) = (entry.result(), entry.flags());
        match Key::of(entry.user_data()) {
            Key::Nobody => {}
            Key::HandOver => self.note_handed_over(result),
            Key::TakeOver => self.note_taken_over(result),
            Key::Waker => {
                if !cqueue::more(flags) {
                    self.ring.poll_edges(self.waker.raw(), Key::Waker);
                }
            }
            Key::Listener(number) => self.acceptor.note(number, result, !cqueue::more(flags)),
            Key::Send(number) => {
                if let Some(sends) = &mut self.sends {
                    sends.note(number, result);
                }
            }
            Key::Arrival(conn) => {
                if let Some(connection) = self.table.get_mut(conn) {
                    connection.receiving = Receiving::No;
                    self.recv(conn); // The receive returns bytes, the end or an error.
                }
            }
            Key::Room(conn) => {
                let Some(connection) = self.table.get_mut(conn) else { return };
                let room = std::mem::replace(&mut connection.room, Room::Enough);
                if room == Room::Awaited && !connection.has_failed {
                    self.events.push_back(Event::Writable(conn));
                }
            }
            Key::Shutdown(conn) => match self.table.get_mut(conn) {
                Some(connection) => connection.is_ending = false,
                None => {
                    if let Some(file) = self.ending.remove(&conn) {
                        self.close_file(file);
                    }
                }
            },
            Key::Receive(conn) => self.note_received(conn, result, cqueue::buffer_select(flags)),
        }
    }

    fn note_received(&mut self, conn: ConnId, result: i32, buffer: Option<u16>) {
        self.receives -= 1;
        let UringDriver { table, buffers: Some(buffers), events, starved, .. } = self else { return };
        if let Some(buffer) = buffer {
            buffers.take(buffer);
        }
        let connection = table.get_mut(conn).filter(|connection| !connection.has_failed);
        let bytes = u32::try_from(result).unwrap_or(0);
        if let (Some(buffer), false) = (buffer, connection.is_some() && bytes > 0) {
            buffers.give_back(buffer); // Nobody wants its contents.
        }
        let Some(connection) = connection else { return };
        connection.receiving = Receiving::Ended;
        let event = match (result, buffer) {
            (1.., Some(buffer)) => Event::Received { conn, buffer, bytes },
            (0.., _) => Event::ReceiveEnded(conn),
            (_, _) if result == -libc::ENOBUFS => {
                connection.receiving = Receiving::Starved;
                starved.push_back(conn); // Behind those that have waited longer.
                return;
            }
            (_, _) if matches!(-result, libc::EAGAIN | libc::EINTR) => {
                connection.receiving = Receiving::No;
                self.recv(conn);
                return;
            }
            (error, _) => {
                connection.has_failed = true;
                Event::Failed(conn, -error)
            }
        };
        events.push_back(event);
    }

    /// Starts receives for connections that wait for a buffer, into small ones, as many as are free now.
    /// The other connections keep waiting. They may still find a free buffer, since a receive with
    /// nothing to receive keeps none.
    pub(super) fn feed_starved(&mut self) {
        let free = self.buffers.as_ref().map_or(0, Buffers::free_len);
        for _ in 0..free.min(self.starved.len()) {
            let Some(conn) = self.starved.pop_front() else { return };
            if let Some(connection) = self.table.get_mut(conn)
                && connection.receiving == Receiving::Starved
            {
                self.begin_receive(conn, &buffers::SMALL);
            }
        }
    }
}

/// Takes in the result of a send.
#[inline]
fn note_sent(done: Done, ring: &mut Ring, table: &mut Table<Connection>, events: &mut VecDeque<Event>) {
    let Done { conn, offered, outcome } = done;
    if outcome == Ok(offered) {
        events.push_back(Event::Sent { conn, bytes: offered }); // Whether anybody wants it is checked later.
        return;
    }
    let connection = table.get_mut(conn).filter(|connection| !connection.has_failed);
    let Some(connection) = connection else { return };
    let bytes = match outcome {
        Ok(bytes) => bytes,
        Err(error) if matches!(-error, libc::EAGAIN | libc::EINTR) => 0,
        Err(error) => {
            connection.has_failed = true;
            events.push_back(Event::Failed(conn, -error));
            return;
        }
    };
    if bytes < offered && std::mem::replace(&mut connection.room, Room::Awaited) == Room::Enough {
        ring.poll(connection.file, ROOM, Key::Room(conn));
    }
    events.push_back(Event::Sent { conn, bytes });
}
