//! Accounts for memory held on behalf of peers. All peers share one account, and each address has a
//! share of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Limits the memory held for all peers together, and counts it.
#[derive(Debug)]
pub struct Account {
    bytes_max: usize,
    held: Mutex<Sums>,
}

#[derive(Debug, Default)]
struct Sums {
    all: usize,
    /// Only addresses with bytes held have an entry.
    by_address: HashMap<IpAddr, usize>,
}

impl Account {
    /// An account of at most `bytes_max` bytes. One address gets an eighth of it at most.
    #[must_use]
    pub fn new(bytes_max: usize) -> Account {
        Account { bytes_max, held: Mutex::default() }
    }

    /// Bytes held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.sums().all
    }

    fn address_bytes_max(&self) -> usize {
        self.bytes_max / 8
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner) // No change is partial.
    }
}

/// The memory held for one peer. Dropping this gives it back.
#[derive(Debug)]
pub struct Held {
    account: Arc<Account>,
    /// The address whose share pays. `None` where the peer has no known address, as on a unix socket.
    address: Option<IpAddr>,
    bytes: usize,
}

impl Held {
    /// Holds nothing yet.
    #[must_use]
    pub fn new(account: Arc<Account>, address: Option<IpAddr>) -> Held {
        Held { account, address: address.map(|address| address.to_canonical()), bytes: 0 }
    }

    /// Sets the bytes held. Returns false and changes nothing if `bytes` grew and there is no room for
    /// it. A change that stays within the same KiB does not touch the account.
    #[must_use]
    pub fn set(&mut self, bytes: usize) -> bool {
        let bytes = bytes.next_multiple_of(STEP_BYTES);
        if bytes == self.bytes {
            return true;
        }
        let account = &*self.account;
        let mut sums = account.sums();
        let all = sums.all - self.bytes + bytes;
        let of_address = self
            .address
            .map(|address| sums.by_address.get(&address).copied().unwrap_or(0) - self.bytes + bytes);
        if bytes > self.bytes
            && (all > account.bytes_max || of_address.is_some_and(|sum| sum > account.address_bytes_max()))
        {
            return false;
        }
        sums.all = all;
        match self.address.zip(of_address) {
            Some((address, 0)) => drop(sums.by_address.remove(&address)),
            Some((address, sum)) => drop(sums.by_address.insert(address, sum)),
            None => {}
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let given_back = self.set(0);
        debug_assert!(given_back, "there is always room for less");
    }
}

/// Bytes held are rounded up to a multiple of this.
const STEP_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const KIB: usize = 1024;

    fn address(last: u8) -> Option<IpAddr> {
        Some(Ipv4Addr::new(10, 0, 0, last).into())
    }

    #[test]
    fn no_address_holds_more_than_an_eighth() {
        let account = Arc::new(Account::new(64 * KIB));
        let [mut one, mut same, mut other] =
            [1, 1, 2].map(|last| Held::new(Arc::clone(&account), address(last)));
        assert!(one.set(5 * KIB) && same.set(3 * KIB));
        assert!(!same.set(3 * KIB + 1) && !one.set(6 * KIB));
        assert!(other.set(8 * KIB) && !other.set(9 * KIB));
        assert_eq!(account.held(), 16 * KIB, "what was refused is not counted");
        assert!(one.set(4 * KIB) && same.set(4 * KIB));
        drop(one);
        assert!(same.set(8 * KIB));
        let mapped = "::ffff:10.0.0.2".parse().unwrap();
        assert!(!Held::new(Arc::clone(&account), Some(mapped)).set(1), "it is the other address");
    }

    #[test]
    fn all_together_hold_no_more_than_there_is() {
        let account = Arc::new(Account::new(64 * KIB));
        let mut held: Vec<Held> = (0..8).map(|last| Held::new(Arc::clone(&account), address(last))).collect();
        assert!(held.iter_mut().all(|held| held.set(8 * KIB)));
        for address in [address(9), None] {
            assert!(!Held::new(Arc::clone(&account), address).set(1));
        }
        held.pop();
        assert!(Held::new(Arc::clone(&account), None).set(8 * KIB), "who has no address has no share of one");
        assert!(!Held::new(Arc::clone(&account), None).set(8 * KIB + 1));
    }

    #[test]
    fn what_is_dropped_is_given_back_and_forgotten() {
        let account = Arc::new(Account::new(64 * KIB));
        for last in 0..100 {
            assert!(Held::new(Arc::clone(&account), address(last)).set(1));
        }
        assert_eq!(account.held(), 0);
        assert!(account.sums().by_address.is_empty());
    }
}
