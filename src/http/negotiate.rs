//! The media types that a client accepts (`Accept`, RFC 9110 12.5.1) and sends (`Content-Type`, RFC 9110
//! 8.3).

/// Returns true if and only if `accept` allows `text/event-stream`: there is no such header, or the most
/// specific range that covers the type has a quality above 0. Parameters other than `q` are ignored. A
/// quality that is not a number counts as 1.
#[must_use]
pub fn accepts_event_stream(accept: Option<&str>) -> bool {
    let Some(accept) = accept.map(str::trim).filter(|accept| !accept.is_empty()) else {
        return true;
    };
    let mut best = (0, false); // How specific the range is, and whether it allows the type.
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let specific = match parts.next().unwrap_or_default() {
            "*/*" => 1,
            kind if kind.eq_ignore_ascii_case("text/*") => 2,
            kind if kind.eq_ignore_ascii_case("text/event-stream") => 3,
            _ => continue,
        };
        let is_allowed = parts.find_map(quality).is_none_or(|quality| quality > 0.0);
        if specific > best.0 {
            best = (specific, is_allowed);
        } else if specific == best.0 {
            best.1 |= is_allowed; // The same range with other parameters: one that allows the type is enough.
        }
    }
    best.1
}

/// The value of a `q` parameter.
fn quality(parameter: &str) -> Option<f32> {
    let (name, value) = parameter.split_once('=')?;
    name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse().unwrap_or(1.0))
}

/// The media types of request bodies that the server distinguishes. Parameters such as `charset` are
/// ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaType {
    /// No `Content-Type`, or an empty one.
    Absent,
    /// `application/json`
    Json,
    /// `application/x-ndjson`
    NdJson,
    /// `application/x-www-form-urlencoded`, the default of curl.
    Form,
    /// `text/event-stream`
    EventStream,
    /// Anything else.
    Other,
}

impl MediaType {
    /// Reads a `Content-Type`.
    #[must_use]
    pub fn of(content_type: Option<&str>) -> MediaType {
        let essence = content_type.unwrap_or("").split(';').next().unwrap_or("").trim();
        match essence {
            "" => MediaType::Absent,
            _ if essence.eq_ignore_ascii_case("application/json") => MediaType::Json,
            _ if essence.eq_ignore_ascii_case("application/x-ndjson") => MediaType::NdJson,
            _ if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") => MediaType::Form,
            _ if essence.eq_ignore_ascii_case("text/event-stream") => MediaType::EventStream,
            _ => MediaType::Other,
        }
    }

    /// Returns true if a JSON endpoint reads a body of this type as JSON.
    #[must_use]
    pub fn is_read_as_json(self) -> bool {
        matches!(self, MediaType::Json | MediaType::Absent | MediaType::Form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_range_decides() {
        for accept in [
            "",
            "*/*",
            "text/*",
            "text/event-stream",
            "Text/Event-Stream; charset=utf-8",
            "text/html, */*;q=0.1",
            "text/*;q=0, text/event-stream",
            "*/*;q=0, text/*;q=0.001",
            "text/event-stream;q=x",
            "text/event-stream;q=0, text/event-stream",
        ] {
            assert!(accepts_event_stream(Some(accept)), "{accept:?}");
        }
        for accept in [
            "text/html",
            "application/json, image/*",
            "*/*;q=0",
            "text/event-stream;q=0.000, */*",
            "text/event-stream; Q=0",
            "text/*; q=0, */*;q=1",
            "garbage",
            "text/event-streams",
        ] {
            assert!(!accepts_event_stream(Some(accept)), "{accept:?}");
        }
        assert!(accepts_event_stream(None));
    }

    #[test]
    fn json_is_read_if_the_type_says_so_or_is_absent() {
        for (content_type, expected) in [
            (None, MediaType::Absent),
            (Some(" "), MediaType::Absent),
            (Some("Application/JSON; charset=utf-8"), MediaType::Json),
            (Some("application/x-ndjson"), MediaType::NdJson),
            (Some("application/x-www-form-urlencoded"), MediaType::Form),
            (Some("text/plain"), MediaType::Other),
            (Some("application/jsonp"), MediaType::Other),
        ] {
            assert_eq!(MediaType::of(content_type), expected);
        }
        assert!(MediaType::Absent.is_read_as_json() && MediaType::Form.is_read_as_json());
        assert!(!MediaType::NdJson.is_read_as_json() && !MediaType::Other.is_read_as_json());
    }
}
