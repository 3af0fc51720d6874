//! The peer's end of a simulated connection, which a test plays.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use super::world::World;

/// A client of the server under test. Dropping it closes its connection, as the end of a process would.
pub struct SimPeer {
    world: Rc<RefCell<World>>,
    link: usize,
}

impl SimPeer {
    pub(super) fn new(world: Rc<RefCell<World>>, listener: usize) -> SimPeer {
        let link = world.borrow_mut().connect(listener);
        SimPeer { world, link }
    }

    /// Writes as many of `bytes` as the connection holds, and returns how many. Takes none after the
    /// peer has ended its side or the connection was reset.
    #[must_use]
    pub fn write(&self, bytes: &[u8]) -> usize {
        self.world.borrow_mut().peer_write(self.link, bytes)
    }

    /// Reads at most `bytes_max` bytes of those sent. Empty if there are none.
    #[must_use]
    pub fn read(&self, bytes_max: usize) -> Vec<u8> {
        self.world.borrow_mut().peer_read(self.link, bytes_max)
    }

    /// Ends the peer's side, after its written bytes. It can still read.
    pub fn shutdown_write(&self) {
        self.world.borrow_mut().peer_shutdown(self.link);
    }

    /// Breaks the connection.
    pub fn reset(&self) {
        self.world.borrow_mut().reset(self.link);
    }

    /// Returns true if and only if the server has ended its side and everything before that was read.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.world.borrow().link(self.link).is_read_out()
    }

    /// Returns true if and only if the connection was refused or broken, by either side.
    #[must_use]
    pub fn was_reset(&self) -> bool {
        self.world.borrow().link(self.link).is_reset
    }
}

impl Drop for SimPeer {
    fn drop(&mut self) {
        // A panic in the middle of a call leaves the world borrowed. Nobody looks at it then.
        if let Ok(mut world) = self.world.try_borrow_mut() {
            world.peer_close(self.link);
        }
    }
}

impl fmt::Debug for SimPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimPeer").field("link", &self.link).finish_non_exhaustive()
    }
}
