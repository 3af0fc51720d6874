//! Names of channels and of users.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Most bytes of a channel's name.
pub const CHANNEL_NAME_BYTES_MAX: usize = 256;

/// The name of a channel: 1 to 256 bytes of UTF-8 without control characters, space or comma. It does
/// not end in `*`.
///
/// Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// Checks `text` and makes it a name.
    ///
    /// # Errors
    /// [`NameError`] says what is wrong with it and where; the peer sees it as the detail of a 400.
    pub fn parse(text: &str) -> Result<ChannelName, NameError> {
        ChannelName::check(text)?;
        Ok(ChannelName(Arc::from(text)))
    }

    /// Checks `text` without making it a name, for callers that only pass it on.
    ///
    /// # Errors
    /// As [`ChannelName::parse`].
    pub fn check(text: &str) -> Result<(), NameError> {
        check(text)?;
        match prefix_of(text) {
            Some(_) => Err(NameError::Pattern),
            None => Ok(()),
        }
    }

    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > CHANNEL_NAME_BYTES_MAX {
        return Err(NameError::TooLong { bytes: text.len() });
    }
    match text.char_indices().find(|&(_, c)| c.is_control() || c == ' ' || c == ',') {
        Some((at, character)) => Err(NameError::Forbidden { character, at }),
        None => Ok(()),
    }
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// What a subscription names: one channel, or a pattern with a trailing `*`. A pattern selects every
/// channel whose name begins with the text before the `*` (`entity:*`; `*` selects all).
///
/// Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector(Arc<str>);

impl Selector {
    /// Parses a channel name or a pattern.
    ///
    /// # Errors
    /// As [`ChannelName::parse`]. The part before a trailing `*` follows the same rules.
    pub fn parse(text: &str) -> Result<Selector, NameError> {
        match prefix_of(text) {
            Some("") => {}
            Some(prefix) => check(prefix)?,
            None => check(text)?,
        }
        Ok(Selector(Arc::from(text)))
    }

    /// The text as it was parsed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The prefix of a pattern. `None` if and only if this is one channel.
    #[must_use]
    pub fn prefix(&self) -> Option<&str> {
        prefix_of(&self.0)
    }

    /// Returns true if and only if this selects every channel that `other` selects.
    #[must_use]
    pub fn covers(&self, other: &Selector) -> bool {
        match (self.prefix(), other.prefix()) {
            (Some(prefix), Some(others)) => others.starts_with(prefix),
            (Some(prefix), None) => other.0.starts_with(prefix),
            (None, Some(_)) => false,
            (None, None) => self == other,
        }
    }
}

impl From<ChannelName> for Selector {
    fn from(name: ChannelName) -> Selector {
        Selector(name.0)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The prefix of a pattern. `None` if `text` is not a pattern.
#[must_use]
pub fn prefix_of(text: &str) -> Option<&str> {
    text.strip_suffix('*')
}

/// Why a text is not a channel's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// There is no text.
    #[error("a channel name must not be empty")]
    Empty,
    /// More than [`CHANNEL_NAME_BYTES_MAX`] bytes.
    #[error("a channel name has at most {CHANNEL_NAME_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong {
        /// Bytes of the text.
        bytes: usize,
    },
    /// A control character, a space or a comma.
    #[error(
        "a channel name must not contain control characters, spaces or commas; found {character:?} at byte {at}"
    )]
    Forbidden {
        /// The first forbidden character.
        character: char,
        /// Its place in bytes.
        at: usize,
    },
    /// A trailing `*`, which makes a pattern in a subscription.
    #[error("a channel name must not end in `*`, which stands for many channels in a subscription")]
    Pattern,
}

/// Most bytes of a user's id.
pub const USER_ID_BYTES_MAX: usize = 256;

/// The id of a user: 1 to 256 bytes of UTF-8 without control characters. Unlike a channel's name it may
/// contain spaces and commas, so that an application can use its own ids.
///
/// Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

impl UserId {
    /// Checks `text` and makes it an id.
    ///
    /// # Errors
    /// [`UserIdError`] says what is wrong with it and where; the peer sees it as the detail of a 400.
    pub fn parse(text: &str) -> Result<UserId, UserIdError> {
        if text.is_empty() {
            return Err(UserIdError::Empty);
        }
        if text.len() > USER_ID_BYTES_MAX {
            return Err(UserIdError::TooLong { bytes: text.len() });
        }
        match text.char_indices().find(|(_, c)| c.is_control()) {
            Some((at, character)) => Err(UserIdError::Forbidden { character, at }),
            None => Ok(UserId(Arc::from(text))),
        }
    }

    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for UserId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Why a text is not a user's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserIdError {
    /// There is no text.
    #[error("a user's id must not be empty")]
    Empty,
    /// More than [`USER_ID_BYTES_MAX`] bytes.
    #[error("a user's id has at most {USER_ID_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong {
        /// Bytes of the text.
        bytes: usize,
    },
    /// A control character.
    #[error("a user's id must not contain control characters; found {character:?} at byte {at}")]
    Forbidden {
        /// The first forbidden character.
        character: char,
        /// Its place in bytes.
        at: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_are_accepted() {
        for name in ["a", "entity:42", "chat/7", "user.9", "größe", "a*b", &"x".repeat(256)] {
            assert_eq!(ChannelName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn a_name_that_is_not_one_is_refused_with_what_is_wrong_and_where() {
        assert_eq!(ChannelName::parse(""), Err(NameError::Empty));
        assert_eq!(ChannelName::parse(&"x".repeat(257)), Err(NameError::TooLong { bytes: 257 }));
        for (name, character, at) in
            [("a b", ' ', 1), ("a,b", ',', 1), ("ab\n", '\n', 2), ("ü\0", '\0', 2), ("\u{85}", '\u{85}', 0)]
        {
            assert_eq!(ChannelName::parse(name), Err(NameError::Forbidden { character, at }));
        }
    }

    #[test]
    fn a_trailing_star_makes_a_pattern_and_no_name() {
        for (text, prefix) in
            [("entity:*", Some("entity:")), ("*", Some("")), ("a**", Some("a*")), ("a*b", None), ("a", None)]
        {
            let selector = Selector::parse(text).unwrap();
            assert_eq!((selector.as_str(), selector.prefix()), (text, prefix));
            assert_eq!(ChannelName::parse(text).is_ok(), prefix.is_none(), "{text}");
        }
        assert_eq!(ChannelName::parse("a*"), Err(NameError::Pattern));
        assert_eq!(Selector::parse("a b*"), Err(NameError::Forbidden { character: ' ', at: 1 }));
    }

    #[test]
    fn a_pattern_covers_what_begins_as_it_does() {
        for (wide, narrow, covers) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("a*", "ab", true),
            ("a*", "ab*", true),
            ("a*", "a*", true),
            ("ab*", "a*", false),
            ("a", "a*", false),
            ("*", "*", true),
        ] {
            let selector = |text| Selector::parse(text).unwrap();
            assert_eq!(selector(wide).covers(&selector(narrow)), covers, "{wide} {narrow}");
        }
    }

    #[test]
    fn a_user_is_called_by_nearly_any_text() {
        for id in ["7", "jane doe", "a,b", "größe", "*", &"x".repeat(256)] {
            assert_eq!(UserId::parse(id).unwrap().as_str(), id);
        }
        assert_eq!(UserId::parse(""), Err(UserIdError::Empty));
        assert_eq!(UserId::parse(&"ü".repeat(129)), Err(UserIdError::TooLong { bytes: 258 }));
        for (id, character, at) in [("a\tb", '\t', 1), ("ü\0", '\0', 2), ("\u{9f}", '\u{9f}', 0)] {
            assert_eq!(UserId::parse(id), Err(UserIdError::Forbidden { character, at }));
        }
    }
}
