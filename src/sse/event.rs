//! An event as its publisher means it, checked so that it survives `text/event-stream` (WHATWG HTML
//! 9.2.5).
//!
//! A client does not see an event's targets, its `ttl` or the event that it replaces, so they are not
//! here.

use crate::base::limits::{EVENT_ID_BYTES_MAX, EVENT_TYPE_BYTES_MAX};

/// One event: data, and optionally a type, an id and a reconnection time. Every value of this type can
/// be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Event<'a> {
    data: &'a str,
    event_type: Option<&'a str>,
    id: Option<&'a str>,
    retry_ms: Option<u64>,
}

impl<'a> Event<'a> {
    /// An event with `data` alone. The data may be any text: empty, of several lines, with any
    /// characters.
    ///
    /// CR and CRLF in it reach the client as LF, since the format cannot express them.
    #[must_use]
    pub const fn new(data: &'a str) -> Event<'a> {
        Event { data, event_type: None, id: None, retry_ms: None }
    }

    /// Gives the event a type: 1 to [`EVENT_TYPE_BYTES_MAX`] bytes without CR, LF and NUL.
    ///
    /// # Errors
    /// [`EventError`] says what is wrong with it; the publisher sees it as the detail of a 400.
    pub fn with_type(self, event_type: &'a str) -> Result<Event<'a>, EventError> {
        check(Field::Type, event_type)?;
        Ok(Event { event_type: Some(event_type), ..self })
    }

    /// Gives the event the publisher's id: 1 to [`EVENT_ID_BYTES_MAX`] bytes without control characters
    /// (C0, DEL, C1), and without a space at its beginning or end. Such an id comes back unchanged in a
    /// header.
    ///
    /// # Errors
    /// As [`Event::with_type`].
    pub fn with_id(self, id: &'a str) -> Result<Event<'a>, EventError> {
        check(Field::Id, id)?;
        Ok(Event { id: Some(id), ..self })
    }

    /// Makes the event set how long a client waits before it reconnects, in milliseconds above 0.
    ///
    /// # Errors
    /// As [`Event::with_type`].
    pub fn with_retry(self, retry_ms: u64) -> Result<Event<'a>, EventError> {
        if retry_ms == 0 {
            return Err(EventError::RetryZero);
        }
        Ok(Event { retry_ms: Some(retry_ms), ..self })
    }

    /// The data, as it was given.
    #[must_use]
    pub fn data(&self) -> &'a str {
        self.data
    }

    /// The type. A client treats an event without a type as a `message`.
    #[must_use]
    pub fn event_type(&self) -> Option<&'a str> {
        self.event_type
    }

    /// The publisher's own id.
    #[must_use]
    pub fn id(&self) -> Option<&'a str> {
        self.id
    }

    /// The reconnection time, in milliseconds.
    #[must_use]
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }
}

fn check(field: Field, text: &str) -> Result<(), EventError> {
    if text.is_empty() {
        return Err(EventError::Empty { field });
    }
    if text.len() > field.bytes_max() {
        return Err(EventError::TooLong { field, bytes: text.len(), limit_bytes: field.bytes_max() });
    }
    match field {
        Field::Type => match text.find(['\r', '\n', '\0']) {
            Some(at) => Err(EventError::Forbidden { field, at }),
            None => Ok(()),
        },
        Field::Id => match text.find(char::is_control) {
            Some(at) => Err(EventError::IdControl { at }),
            None if text.starts_with(' ') || text.ends_with(' ') => Err(EventError::IdSpace),
            None => Ok(()),
        },
    }
}

/// A one-line field of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The type, called `event` on the wire.
    Type,
    /// The id.
    Id,
}

impl Field {
    /// The field's name on the wire and in the HTTP contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Field::Type => "event",
            Field::Id => "id",
        }
    }

    const fn bytes_max(self) -> usize {
        match self {
            Field::Type => EVENT_TYPE_BYTES_MAX,
            Field::Id => EVENT_ID_BYTES_MAX,
        }
    }
}

/// Why a value is not an event. Every variant is the publisher's fault and answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// The field is present but empty.
    #[error("`{}` must not be empty; leave it out instead", field.name())]
    Empty {
        /// Which field.
        field: Field,
    },
    /// The field is longer than its limit.
    #[error("`{}` has at most {limit_bytes} bytes, this one has {bytes}", field.name())]
    TooLong {
        /// Which field.
        field: Field,
        /// Bytes of the text.
        bytes: usize,
        /// Most bytes that it may have.
        limit_bytes: usize,
    },
    /// CR or LF would end the field's line. Nothing compares a type with NUL in it.
    #[error("`{}` must not contain CR, LF or NUL; found one at byte {at}", field.name())]
    Forbidden {
        /// Which field.
        field: Field,
        /// The place of the first such character in bytes.
        at: usize,
    },
    /// CR or LF would end the id's line, clients ignore an id with NUL, and a header cannot carry the
    /// others.
    #[error("`id` must not contain control characters; found one at byte {at}")]
    IdControl {
        /// The place of the first such character in bytes.
        at: usize,
    },
    /// Space around a header's value is not part of the value, so the id would come back changed.
    #[error("`id` must not begin or end with a space")]
    IdSpace,
    /// A reconnection time of 0 would make clients reconnect in a loop.
    #[error("`retry` is a number of milliseconds above 0")]
    RetryZero,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_kept() {
        let event = Event::new("a\r\nb\0").with_type("ü :").unwrap().with_id("1 é").unwrap();
        let event = event.with_retry(1).unwrap();
        assert_eq!(
            (event.data(), event.event_type(), event.id(), event.retry_ms()),
            ("a\r\nb\0", Some("ü :"), Some("1 é"), Some(1))
        );
    }

    #[test]
    fn fields_that_would_break_the_stream_are_refused() {
        for (text, at) in [("\n", 0), ("a\rb", 1), ("ü\0", 2)] {
            let error = EventError::Forbidden { field: Field::Type, at };
            assert_eq!(Event::new("").with_type(text), Err(error), "{text:?}");
            assert_eq!(Event::new("").with_id(text), Err(EventError::IdControl { at }), "{text:?}");
        }
    }

    #[test]
    fn an_id_is_one_that_a_header_brings_back_as_it_was_sent() {
        for control in ('\0'..=' ').chain('\u{7f}'..='\u{a0}') {
            let (inside, at_the_end) = (format!("a{control}b"), format!("a{control}"));
            match control {
                ' ' => {
                    assert!(Event::new("").with_id(&inside).is_ok());
                    for text in [at_the_end.as_str(), " a", " "] {
                        assert_eq!(Event::new("").with_id(text), Err(EventError::IdSpace), "{text:?}");
                    }
                }
                '\u{a0}' => assert!(Event::new("").with_id(&at_the_end).is_ok()),
                _ => assert_eq!(Event::new("").with_id(&inside), Err(EventError::IdControl { at: 1 })),
            }
            assert_eq!(Event::new("").with_type(&inside).is_ok(), !['\0', '\r', '\n'].contains(&control));
        }
    }

    #[test]
    fn fields_are_bounded_at_both_ends() {
        let (longest, too_long) = ("x".repeat(256), "x".repeat(257));
        assert!(Event::new("").with_id(&longest).is_ok() && Event::new("").with_type(&longest).is_ok());
        let error = EventError::TooLong { field: Field::Id, bytes: 257, limit_bytes: 256 };
        assert_eq!(Event::new("").with_id(&too_long), Err(error));
        assert_eq!(Event::new("").with_type(""), Err(EventError::Empty { field: Field::Type }));
        assert_eq!(Event::new("").with_retry(0), Err(EventError::RetryZero));
    }

    #[test]
    fn errors_name_the_field_as_the_contract_does() {
        let error = Event::new("").with_type("a\nb").unwrap_err();
        assert_eq!(error.to_string(), "`event` must not contain CR, LF or NUL; found one at byte 1");
    }
}
