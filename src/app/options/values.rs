//! From the text of an option to its value. Responsible for what is allowed and for saying so; where the text
//! came from is added by the caller.
//!
//! Every parser takes the same text from the command line, the environment and the file, and its error is one
//! clause that says what was expected, so that it reads well after "invalid value … for …:".

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::nearest::nearest;
use crate::driver::unix::PATH_BYTES_MAX;
use crate::server::DURATION_MAX;

/// What was wrong with a text and what would be right.
pub(in crate::app) type Problem = String;

/// A duration that may be nothing: `0` is [`Duration::ZERO`].
pub(in crate::app) fn duration(text: &str) -> Result<Duration, Problem> {
    const ALLOWED: &str =
        "a duration is 0 or a number with one of the units ms, s, m, h, such as 250ms, 30s, 5m or 1h";
    let (digits, unit) = split_unit(text);
    let number: u64 = digits.parse().map_err(|_| ALLOWED.to_owned())?;
    let milliseconds_per_unit = match unit {
        "" if number == 0 => 1,
        "" => {
            return Err(format!(
                "its unit is missing; write {number}s for seconds or {number}ms for milliseconds"
            ));
        }
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        _ => return Err(ALLOWED.to_owned()),
    };
    number
        .checked_mul(milliseconds_per_unit)
        .map(Duration::from_millis)
        .filter(|&duration| duration <= DURATION_MAX)
        .ok_or_else(|| "a duration is at most ten years".to_owned())
}

/// A duration where `0` turns the feature off.
pub(super) fn duration_or_off(text: &str) -> Result<Option<Duration>, Problem> {
    duration(text).map(|duration| Some(duration).filter(|duration| !duration.is_zero()))
}

/// A duration that must not be nothing.
pub(in crate::app) fn duration_above_zero(text: &str) -> Result<Duration, Problem> {
    duration_or_off(text)?.ok_or_else(|| "it cannot be 0; the least is 1ms".to_owned())
}

/// A number of bytes within `allowed`.
pub(in crate::app) fn bytes_within(
    allowed: RangeInclusive<usize>,
) -> impl Fn(&str) -> Result<usize, Problem> + Clone + Send + Sync + 'static {
    move |text| {
        let count = bytes(text)?;
        if allowed.contains(&count) {
            return Ok(count);
        }
        Err(format!("it must be from {} to {}", Bytes(*allowed.start()), Bytes(*allowed.end())))
    }
}

fn bytes(text: &str) -> Result<usize, Problem> {
    const ALLOWED: &str = "a size is a number of bytes, or a number with one of the units KiB, MiB, GiB, such as 256KiB or 1MiB";
    let (digits, unit) = split_unit(text);
    let number: usize = digits.parse().map_err(|_| ALLOWED.to_owned())?;
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => match unit.to_ascii_lowercase().as_str() {
            "k" | "kb" | "kib" => {
                return Err(format!("write {number}KiB, which is {number} times 1024 bytes"));
            }
            "m" | "mb" | "mib" => return Err(format!("write {number}MiB, which is {number} times 1024 KiB")),
            "g" | "gb" | "gib" => return Err(format!("write {number}GiB, which is {number} times 1024 MiB")),
            _ => return Err(ALLOWED.to_owned()),
        },
    };
    number.checked_mul(1 << shift).ok_or_else(|| "that is more than this machine can address".to_owned())
}

/// A whole number within `allowed`.
pub(in crate::app) fn count_within(
    allowed: RangeInclusive<usize>,
) -> impl Fn(&str) -> Result<usize, Problem> + Clone + Send + Sync + 'static {
    move |text| {
        let problem = || format!("it must be a whole number from {} to {}", allowed.start(), allowed.end());
        // `parse` alone would take a leading `+` too.
        if !text.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(problem());
        }
        text.parse().ok().filter(|count| allowed.contains(count)).ok_or_else(problem)
    }
}

/// `true` or `false`, for options that are switches.
pub(super) fn switch(text: &str) -> Result<bool, Problem> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("it is either true or false".to_owned()),
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(choices: &'static [(&'static str, T)]) -> impl Fn(&str) -> Result<T, Problem> {
    move |text| {
        if let Some(&(_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Ok(value);
        }
        let words: Vec<&str> = choices.iter().map(|&(word, _)| word).collect();
        let hint = match nearest(text, words.iter().copied()) {
            Some(word) => format!("; did you mean {word}?"),
            None => String::new(),
        };
        Err(format!("it must be one of {}{hint}", words.join(", ")))
    }
}

/// Where to listen: a TCP address, or the path of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A path, written `unix:/path`.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address to listen on, or `unix:` and a path.
pub(super) fn listen_address(text: &str) -> Result<ListenAddress, Problem> {
    match text.strip_prefix("unix:") {
        Some(path) => unix_path(path).map(ListenAddress::Unix),
        None => tcp_address(text).map(ListenAddress::Tcp),
    }
}

fn unix_path(path: &str) -> Result<PathBuf, Problem> {
    if path.is_empty() || path.ends_with('/') {
        return Err("a file's path must follow unix:, such as unix:/run/downpour.sock".to_owned());
    }
    if path.contains('\0') {
        return Err("a path contains no NUL".to_owned());
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(format!(
            "the path of a unix socket has at most {PATH_BYTES_MAX} bytes, this one has {}",
            path.len()
        ));
    }
    Ok(PathBuf::from(path))
}

fn tcp_address(text: &str) -> Result<SocketAddr, Problem> {
    if text.contains("://") {
        return Err("it is an ADDRESS:PORT such as 127.0.0.1:8080, not a URL".to_owned());
    }
    if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err("its port is missing; write 127.0.0.1:8080, or [::1]:8080 for IPv6".to_owned());
    }
    text.parse().map_err(|_| {
        "it must be an IP address and a port, such as 127.0.0.1:8080, [::1]:8080, or 0.0.0.0:8080 for all interfaces; \
         or unix: and the path of a socket"
            .to_owned()
    })
}

/// A name that the server is reached by, in lower case and without brackets; `*` stands for any.
pub(super) fn host_name(text: &str) -> Result<String, Problem> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() {
        return Ok(bare.to_ascii_lowercase());
    }
    if text.contains(['/', ':']) {
        return Err("it is a name alone, without scheme, port or path, such as events.example.org".to_owned());
    }
    let is_name = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if is_name {
        return Ok(text.to_ascii_lowercase());
    }
    Err("it must be a host name such as events.example.org, an IP address, or * for any".to_owned())
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// Shows a number of bytes in the largest unit that loses nothing.
pub(super) struct Bytes(pub(super) usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.into_iter().find(|&(shift, _)| self.0 >= 1 << shift && self.0.is_multiple_of(1 << shift))
        {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_four_units_and_a_bare_zero() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration_or_off("0"), Ok(None));
        assert_eq!(duration_or_off("1ms"), Ok(Some(Duration::from_millis(1))));
        assert_eq!(duration_above_zero("1s"), Ok(Duration::from_secs(1)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "s", "-1s", "+1s", "1.5s", "1 s", "1d", "1S", "0x10s", "18446744073709551616s"] {
            assert!(duration(text).unwrap_err().contains("250ms"), "{text}");
        }
        assert!(duration("30").unwrap_err().contains("30s"));
        assert!(duration("18446744073709551615h").unwrap_err().contains("ten years"));
        assert!(duration_above_zero("0ms").unwrap_err().contains("cannot be 0"));
    }

    #[test]
    fn sizes_take_binary_units_and_plain_bytes() {
        let size = bytes_within(0..=usize::MAX);
        assert_eq!(size("1048576"), Ok(1 << 20));
        assert_eq!(size("17B"), Ok(17));
        assert_eq!(size("256KiB"), Ok(256 << 10));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert_eq!(size("2GiB"), Ok(2 << 30));
    }

    #[test]
    fn what_is_no_size_is_refused_with_what_to_write() {
        let size = bytes_within(1024..=1 << 20);
        assert!(size("5MB").unwrap_err().contains("write 5MiB"));
        assert!(size("5k").unwrap_err().contains("write 5KiB"));
        assert!(size("5g").unwrap_err().contains("write 5GiB"));
        assert!(size("1.5MiB").unwrap_err().contains("a size is"));
        assert!(size("-1").unwrap_err().contains("a size is"));
        assert!(size("17179869184GiB").unwrap_err().contains("address"));
        assert_eq!(size("1023").unwrap_err(), "it must be from 1KiB to 1MiB");
        assert_eq!(size("2MiB").unwrap_err(), "it must be from 1KiB to 1MiB");
    }

    #[test]
    fn counts_stay_within_their_bounds() {
        let count = count_within(1..=100);
        assert_eq!(count("100"), Ok(100));
        for text in ["0", "101", "+1", "-1", "ten", "", "1e2"] {
            assert_eq!(count(text).unwrap_err(), "it must be a whole number from 1 to 100", "{text}");
        }
    }

    #[test]
    fn a_choice_names_the_words_and_the_nearest() {
        let color = choice(&[("red", 1), ("green", 2)]);
        assert_eq!(color("green"), Ok(2));
        assert_eq!(color("gren").unwrap_err(), "it must be one of red, green; did you mean green?");
        assert_eq!(color("xxxxxx").unwrap_err(), "it must be one of red, green");
    }

    #[test]
    fn addresses_need_an_ip_and_a_port() {
        let tcp = |port| Ok(ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], port))));
        assert_eq!(listen_address("127.0.0.1:8080"), tcp(8080));
        assert_eq!(listen_address("localhost:0"), tcp(0));
        assert_eq!(listen_address("[::1]:80").unwrap().to_string(), "[::1]:80");
        for (text, hint) in [
            ("http://127.0.0.1:80", "not a URL"),
            ("127.0.0.1", "port is missing"),
            ("::1", "port is missing"),
            ("8080", "an IP address and a port"),
            ("example.org:80", "an IP address and a port"),
            ("127.0.0.1:70000", "an IP address and a port"),
            ("", "an IP address and a port"),
        ] {
            let problem = listen_address(text).unwrap_err();
            assert!(problem.contains(hint), "{text}: {problem}");
        }
    }

    #[test]
    fn a_unix_socket_has_a_path_of_bounded_length() {
        let unix = |path: &str| listen_address(&format!("unix:{path}"));
        assert_eq!(unix("/run/a.sock"), Ok(ListenAddress::Unix("/run/a.sock".into())));
        assert_eq!(unix("a.sock").unwrap().to_string(), "unix:a.sock");
        assert!(unix(&"x".repeat(107)).is_ok());
        assert!(unix(&"x".repeat(108)).unwrap_err().contains("at most 107 bytes, this one has 108"));
        for path in ["", "/run/"] {
            assert!(unix(path).unwrap_err().contains("such as unix:/run/downpour.sock"), "{path}");
        }
        assert!(unix("a\0b").unwrap_err().contains("NUL"));
    }

    #[test]
    fn host_names_are_bare_and_in_lower_case() {
        assert_eq!(host_name("Events.Example.org").as_deref(), Ok("events.example.org"));
        assert_eq!(host_name("[::1]").as_deref(), Ok("::1"));
        assert_eq!(host_name("10.0.0.7").as_deref(), Ok("10.0.0.7"));
        assert_eq!(host_name("*").as_deref(), Ok("*"));
        assert!(host_name("https://example.org").unwrap_err().contains("without scheme"));
        assert!(host_name("example.org:80").unwrap_err().contains("without scheme, port"));
        assert!(host_name("").is_err() && host_name("*.example.org").is_err() && host_name("a b").is_err());
    }

    #[test]
    fn switches_are_true_or_false() {
        assert_eq!((switch("true"), switch("1")), (Ok(true), Ok(true)));
        assert_eq!((switch("false"), switch("0")), (Ok(false), Ok(false)));
        assert!(switch("yes").unwrap_err().contains("true or false"));
    }
}
