//! The bounds of settings, and the macro that turns a row of the builder's table into code.

use std::time::Duration;

use super::ServeError;
use crate::hub::SHARDS_MAX;

/// The values that a setting may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds<T> {
    pub(crate) least: T,
    pub(crate) most: T,
    /// The text of an error after the setting's name.
    pub(crate) rule: &'static str,
}

impl<T: PartialOrd> Bounds<T> {
    pub(crate) fn allow(&self, value: &T) -> bool {
        (&self.least..=&self.most).contains(&value)
    }

    /// `None` is always allowed: the feature is off, or the server chooses the number.
    pub(super) fn require(
        &self,
        setting: &'static str,
        value: impl Into<Option<T>>,
    ) -> Result<(), ServeError> {
        require(value.into().is_none_or(|value| self.allow(&value)), setting, self.rule)
    }
}

pub(super) fn require(holds: bool, setting: &'static str, rule: &'static str) -> Result<(), ServeError> {
    if holds { Ok(()) } else { Err(ServeError::Setting { setting, rule }) }
}

/// The longest duration. It can be added to any instant; a longer one is a mistake.
pub(crate) const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

pub(super) const TIME: Bounds<Duration> = Bounds {
    least: Duration::from_millis(1),
    most: DURATION_MAX,
    rule: "must be from a millisecond to ten years",
};

pub(super) const TIME_OR_ZERO: Bounds<Duration> =
    Bounds { least: Duration::ZERO, most: DURATION_MAX, rule: "must be at most ten years" };

/// Counts are kept in 32 bits where there are many of them.
pub(super) const COUNT: Bounds<usize> =
    Bounds { least: 1, most: u32::MAX as usize, rule: "must be from 1 to 4294967295" };

pub(super) const SHARDS: Bounds<usize> = Bounds { least: 1, most: SHARDS_MAX, rule: "must be from 1 to 64" };

const _: () = assert!(SHARDS_MAX == 64, "the rule for shards says so");

/// Far above any machine's memory, far below overflow in sums of a few sizes, in bytes.
const BYTES_MAX: usize = 1 << 50;

/// Below this the history's fixed-size parts leave no room for events.
pub(super) const HISTORY_BYTES: Bounds<usize> =
    Bounds { least: 1 << 20, most: BYTES_MAX, rule: "must be 1 MiB at least" };

/// Below this a queue could not even hold the events that the server itself sends.
pub(super) const OUTBOX_BYTES: Bounds<usize> =
    Bounds { least: 1 << 10, most: BYTES_MAX, rule: "must be 1 KiB at least" };

pub(super) const BODY_MEMORY: Bounds<usize> =
    Bounds { least: 64 << 10, most: BYTES_MAX, rule: "must be 64 KiB at least" };

/// In a frame each byte of a body may become seven (a line of its own). The largest frame stays below
/// 4 GiB.
pub(super) const BODY_BYTES: Bounds<usize> = Bounds {
    least: 1,
    most: 256 << 20,
    rule: "must be from 1 to 256 MiB and history_bytes_max: an event that is taken must find a place in the history",
};

/// Makes a builder from the fields that are written out and a table of settings. A setting is a row:
///
/// ```text
/// /// What it does, the option of the command line that sets it, and its default.
/// name: Type = default, BOUNDS;
/// ```
///
/// A row becomes a field, its default, a method that sets it, a line of `check_bounds`, and
/// `bounds::name` for the option that fills it. Without bounds every value of the type is allowed. The
/// method of an `Option` takes the plain value too.
macro_rules! settings {
    (
        $(#[$attributes:meta])+
        pub struct $Builder:ident { $($(#[$field_docs:meta])* $field:ident: $field_type:ty,)+ }
        $($(#[$docs:meta])+ $name:ident: $type:ident $(<$inner:ident>)? = $default:expr $(, $bounds:ident)?;)+
    ) => {
        $(#[$attributes])+
        pub struct $Builder {
            $($(#[$field_docs])* pub(crate) $field: $field_type,)+
            $(pub(crate) $name: $type $(<$inner>)?,)+
        }

        impl Default for $Builder {
            fn default() -> $Builder {
                $Builder { $($field: Default::default(),)+ $($name: $default,)+ }
            }
        }

        impl $Builder {
            $(settings! { @setter $(#[$docs])+ $name: $type $(<$inner>)? })+

            fn check_bounds(&self) -> Result<(), ServeError> {
                $($($bounds.require(stringify!($name), self.$name)?;)?)+
                Ok(())
            }
        }

        /// The bounds of each setting that has any, under its name.
        #[cfg(feature = "cli")]
        #[expect(non_upper_case_globals, reason = "they have the names of the settings")]
        pub(crate) mod bounds {
            use super::*;
            use crate::server::settings::Bounds;

            $(settings! { @bounds $name: $type $(<$inner>)? $(, $bounds)? })+
        }
    };
    (@setter $(#[$docs:meta])+ $name:ident: Option<$inner:ident>) => {
        $(#[$docs])+
        pub fn $name(mut self, $name: impl Into<Option<$inner>>) -> Self {
            self.$name = $name.into();
            self
        }
    };
    (@setter $(#[$docs:meta])+ $name:ident: $type:ident) => {
        $(#[$docs])+
        pub fn $name(mut self, $name: $type) -> Self {
            self.$name = $name;
            self
        }
    };
    (@bounds $name:ident: Option<$inner:ident>, $bounds:ident) => {
        pub(crate) const $name: Bounds<$inner> = $bounds;
    };
    (@bounds $name:ident: $type:ident, $bounds:ident) => {
        pub(crate) const $name: Bounds<$type> = $bounds;
    };
    (@bounds $name:ident: $type:ident) => {};
}

pub(super) use settings;
