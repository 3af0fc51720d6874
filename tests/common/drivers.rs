//! Runs each test case under both drivers.

use downpour::Io;
use downpour::driver::uring;

/// A driver that a case runs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DriverKind {
    Epoll,
    IoUring,
}

impl DriverKind {
    /// The value for `--io`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            DriverKind::Epoll => "epoll",
            DriverKind::IoUring => "uring",
        }
    }

    /// The value for a builder.
    pub(crate) fn choice(self) -> Io {
        match self {
            DriverKind::Epoll => Io::Epoll,
            DriverKind::IoUring => Io::Uring,
        }
    }

    /// Returns true if and only if a case can run under it here. Otherwise prints that the case is
    /// skipped, or fails with `DOWNPOUR_TEST_STRICT=1`.
    pub(crate) fn is_available(self) -> bool {
        let Err(error) = (match self {
            DriverKind::Epoll => return true,
            DriverKind::IoUring => uring::prove(),
        }) else {
            return true;
        };
        let is_strict = std::env::var_os("DOWNPOUR_TEST_STRICT").is_some_and(|strict| strict == "1");
        assert!(!is_strict, "{error}");
        println!("skipped: {error}");
        false
    }
}

/// Makes a test of each case for each driver, in modules `epoll` and `io_uring`.
macro_rules! for_each_driver {
    ($($case:ident),+ $(,)?) => {
        mod epoll {
            $(#[test] fn $case() { super::$case(super::DriverKind::Epoll) })+
        }
        mod io_uring {
            $(#[test] fn $case() {
                if super::DriverKind::IoUring.is_available() {
                    super::$case(super::DriverKind::IoUring);
                }
            })+
        }
    };
}
pub(crate) use for_each_driver;
