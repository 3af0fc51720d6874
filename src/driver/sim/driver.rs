//! The server's end of the simulated network.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::world::{Listening, Step, World};
use crate::base::id::ConnId;
use crate::base::limits::{COMPLETIONS_PER_WAIT_MAX, SEND_SLICES_MAX};
use crate::base::mailbox::Wake;
use crate::driver::{Completion, Driver, SendStart};
use crate::frame::offer::Offer;

/// Serves a simulated network. Its waits never block. See the [module](super).
pub struct SimDriver {
    world: Rc<RefCell<World>>,
    waker: Arc<SimWaker>,
    /// The link of each open connection, by slot.
    open: Vec<Option<(u32, usize)>>,
    read_buffer: Vec<u8>,
    /// Completions handed over since the last wait.
    completions: usize,
}

impl SimDriver {
    pub(super) fn new(world: Rc<RefCell<World>>) -> SimDriver {
        let before = world.borrow().listening;
        assert_eq!(before, Listening::Absent, "a simulated network has one server at a time");
        world.borrow_mut().set_listening(Listening::Taking);
        SimDriver {
            world,
            waker: Arc::new(SimWaker(AtomicBool::new(false))),
            open: Vec::new(),
            read_buffer: Vec::new(),
            completions: 0,
        }
    }

    /// Returns true, once, if and only if the waker was used since the last wait or the last call of
    /// this.
    ///
    /// A driver that is not simulated would not have slept. A test with threads checks this before it
    /// takes the server for idle.
    #[must_use]
    pub fn take_woken(&self) -> bool {
        self.waker.0.swap(false, Ordering::AcqRel)
    }

    fn link(&self, conn: ConnId) -> usize {
        match self.open.get(conn.index as usize) {
            Some(&Some((generation, link))) if generation == conn.generation => link,
            _ => panic!("{conn:?} is not open"),
        }
    }
}

impl Driver for SimDriver {
    type Socket = SimSocket;

    fn adopt(&mut self, mut socket: SimSocket, conn: ConnId) -> io::Result<()> {
        let index = conn.index as usize;
        if index >= self.open.len() {
            self.open.resize(index + 1, None);
        }
        assert!(self.open[index].is_none(), "{conn:?} takes the slot of an open connection");
        if let Some(link) = socket.link.take() {
            self.open[index] = Some((conn.generation, link));
            self.world.borrow_mut().adopt(link, conn);
        }
        Ok(())
    }

    fn recv(&mut self, conn: ConnId) {
        self.world.borrow_mut().recv(self.link(conn));
    }

    fn send(&mut self, conn: ConnId, offer: Offer<'_>) -> SendStart {
        let slices = offer.slices();
        assert!((1..=SEND_SLICES_MAX).contains(&slices.len()), "an offer of {} slices", slices.len());
        assert!(offer.bytes() > 0, "an offer of no bytes");
        self.world.borrow_mut().send(self.link(conn), slices)
    }

    fn shutdown(&mut self, conn: ConnId) {
        self.world.borrow_mut().shutdown(self.link(conn));
    }

    fn close(&mut self, conn: ConnId) {
        self.world.borrow_mut().close(self.link(conn));
        self.open[conn.index as usize] = None;
    }

    fn pause_accepting(&mut self, paused: bool) {
        let mut world = self.world.borrow_mut();
        match (world.listening, paused) {
            (Listening::Taking, true) => world.set_listening(Listening::Paused),
            (Listening::Paused, false) => world.set_listening(Listening::Taking),
            (Listening::Absent | Listening::Stopped | Listening::Taking | Listening::Paused, _) => {}
        }
    }

    fn stop_listening(&mut self) {
        self.world.borrow_mut().set_listening(Listening::Stopped);
    }

    fn is_listening(&self) -> bool {
        self.world.borrow().is_listening()
    }

    fn wait(&mut self, _timeout: Option<Duration>) -> io::Result<()> {
        self.completions = 0;
        self.waker.0.store(false, Ordering::Release);
        self.world.borrow_mut().begin_wait();
        Ok(())
    }

    fn next(&mut self) -> Option<Completion<'_, SimSocket>> {
        if self.completions == COMPLETIONS_PER_WAIT_MAX {
            return None;
        }
        let step = self.world.borrow_mut().next_step(&mut self.read_buffer)?;
        self.completions += 1;
        Some(match step {
            Step::Accepted { link, listener } => {
                let socket = SimSocket { world: Rc::clone(&self.world), link: Some(link) };
                Completion::Accepted { socket, listener }
            }
            Step::AcceptFailed(error) => Completion::AcceptFailed { error },
            Step::Received(conn) => Completion::Received { conn, bytes: &self.read_buffer },
            Step::ReceiveEnded(conn) => Completion::ReceiveEnded { conn },
            Step::Sent(conn, bytes) => Completion::Sent { conn, bytes },
            Step::Writable(conn) => Completion::Writable { conn },
            Step::Failed(conn, error) => Completion::Failed { conn, error },
        })
    }

    fn hear(&mut self) -> Option<u64> {
        Some(self.world.borrow().checks_scheduled())
    }

    fn handed_over(&self) -> u64 {
        self.world.borrow().checks_done()
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::<SimWaker>::clone(&self.waker)
    }
}

impl Drop for SimDriver {
    fn drop(&mut self) {
        // A panic in the middle of a call leaves the world borrowed. Nobody looks at it then.
        if let Ok(mut world) = self.world.try_borrow_mut() {
            world.end_server();
        }
    }
}

impl fmt::Debug for SimDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDriver").field("completions", &self.completions).finish_non_exhaustive()
    }
}

/// A simulated accepted connection. Dropping it closes it.
pub struct SimSocket {
    world: Rc<RefCell<World>>,
    /// Taken out when the driver takes the connection over.
    link: Option<usize>,
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        if let (Some(link), Ok(mut world)) = (self.link, self.world.try_borrow_mut()) {
            world.close(link);
        }
    }
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimSocket").field("link", &self.link).finish_non_exhaustive()
    }
}

struct SimWaker(AtomicBool);

impl Wake for SimWaker {
    fn wake(&self) {
        self.0.store(true, Ordering::Release);
    }
}
