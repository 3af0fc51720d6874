//! Turns direct descriptors into file descriptors and back, for connections that one shard has accepted
//! for another. A direct descriptor is valid only in its ring.
//!
//! The kernel does both at once. If it has no memory for that, the result comes when nobody waits for it
//! any more, and its descriptor is closed.

use std::cell::UnsafeCell;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::Socket;

use super::key::Key;
use super::{UringDriver, UringSocket};

/// The exchange that is under way.
pub(super) struct DescriptorExchange {
    /// The kernel reads a file descriptor here and writes a direct one. If the driver ends while this is
    /// under way, it is leaked, once per driver.
    place: Box<UnsafeCell<RawFd>>,
    /// Exchanges of either kind that the kernel has not completed.
    handing_over: usize,
    taking_over: usize,
    /// A caller waits for the result.
    is_awaited: bool,
    outcome: Option<i32>,
}

impl DescriptorExchange {
    pub(super) fn new() -> DescriptorExchange {
        let place = Box::new(UnsafeCell::new(-1));
        DescriptorExchange { place, handing_over: 0, taking_over: 0, is_awaited: false, outcome: None }
    }

    /// Gives up without freeing memory that the kernel may still write to.
    pub(super) fn leak(self) {
        if self.taking_over > 0 {
            std::mem::forget(self.place);
        }
    }
}

impl UringDriver {
    /// Takes in the result of handing a connection over.
    pub(super) fn note_handed_over(&mut self, result: i32) {
        let Some(exchange) = &mut self.exchange else { return };
        exchange.handing_over -= 1;
        if exchange.is_awaited {
            exchange.outcome = Some(result);
        } else if result >= 0 {
            drop(own(result));
        }
    }

    /// Takes in the result of taking a connection over.
    pub(super) fn note_taken_over(&mut self, result: i32) {
        let Some(exchange) = &mut self.exchange else { return };
        exchange.taking_over -= 1;
        if exchange.is_awaited {
            exchange.outcome = Some(result);
        } else if let (1, Ok(file)) = (result, u32::try_from(*exchange.place.get_mut())) {
            self.ring.close(file);
        }
    }

    /// Turns a socket into a file descriptor, or returns the socket.
    pub(super) fn make_descriptor(&mut self, socket: UringSocket) -> Result<OwnedFd, UringSocket> {
        match &mut self.exchange {
            Some(exchange) if exchange.handing_over + exchange.taking_over == 0 => exchange.handing_over += 1,
            _ => return Err(socket),
        }
        self.ring.install(socket.file, Key::HandOver);
        let Some(fd) = self.finish_exchange().filter(|&fd| fd >= 0) else { return Err(socket) };
        Ok(own(fd)) // Dropping the socket closes only the direct descriptor.
    }

    /// Makes a file descriptor of an open connection, asks for its peer's address, and closes the
    /// descriptor.
    pub(super) fn ask_peer_address(&mut self, file: u32) -> Option<IpAddr> {
        match &mut self.exchange {
            Some(exchange) if exchange.handing_over + exchange.taking_over == 0 => exchange.handing_over += 1,
            _ => return None,
        }
        self.ring.install(file, Key::HandOver);
        let fd = self.finish_exchange().filter(|&fd| fd >= 0)?;
        let address = Socket::from(own(fd)).peer_addr().ok()?;
        address.as_socket().map(|address| address.ip())
    }

    /// Turns a file descriptor into a socket of this driver.
    pub(super) fn make_socket(&mut self, descriptor: &OwnedFd) -> io::Result<UringSocket> {
        let full = || io::Error::from_raw_os_error(libc::ENFILE);
        if !self.acceptor.note_taken_over() {
            return Err(full());
        }
        let place = match &mut self.exchange {
            Some(exchange) if exchange.handing_over + exchange.taking_over == 0 => {
                exchange.taking_over += 1;
                *exchange.place.get_mut() = descriptor.as_raw_fd();
                exchange.place.get()
            }
            _ => {
                self.acceptor.note_closed();
                return Err(full());
            }
        };
        #[expect(unsafe_code, reason = "the kernel writes to memory that is named here")]
        // SAFETY: the place is a box of its own. Nobody touches it while `taking_over` says that the
        // kernel may. It is not freed in that case (`DescriptorExchange::leak`).
        unsafe {
            self.ring.register(place, Key::TakeOver);
        }
        let outcome = self.finish_exchange();
        let file = self.exchange.as_mut().map_or(-1, |exchange| *exchange.place.get_mut());
        match (outcome, u32::try_from(file)) {
            (Some(1), Ok(file)) => Ok(UringSocket { file, dropped: Some(self.dropped.clone()) }),
            (outcome, _) => {
                self.acceptor.note_closed();
                Err(io::Error::from_raw_os_error(outcome.map_or(libc::ENOMEM, |error| -error)))
            }
        }
    }

    fn finish_exchange(&mut self) -> Option<i32> {
        let awaits = |driver: &mut UringDriver, is_awaited| {
            driver.exchange.as_mut().and_then(|exchange| {
                exchange.is_awaited = is_awaited;
                exchange.outcome.take()
            })
        };
        awaits(self, true);
        if let Err(error) = self.go_round(Some(Duration::ZERO)) {
            self.broken.get_or_insert(error);
        }
        awaits(self, false)
    }
}

/// A file descriptor that an exchange has made.
fn own(fd: RawFd) -> OwnedFd {
    #[expect(unsafe_code, reason = "the kernel hands descriptors out as numbers")]
    // SAFETY: the kernel has made this descriptor for this ring's completion and nobody else
    // (`io_uring_enter(2)`, IORING_OP_FIXED_FD_INSTALL).
    unsafe {
        OwnedFd::from_raw_fd(fd)
    }
}
