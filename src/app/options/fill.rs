//! Fills the configuration with the text of an option: parsers that keep the bounds of the builder's
//! settings, and the options that take several values.

use std::time::Duration;

use super::ServeConfig;
use super::values::{
    ListenAddress, Problem, bytes_within, count_within, duration, duration_above_zero, host_name,
    listen_address,
};
use crate::server::Bounds;

/// A whole number.
pub(super) fn count(text: &str, bounds: Bounds<usize>) -> Result<usize, Problem> {
    count_within(bounds.least..=bounds.most)(text)
}

/// A whole number, or `auto`, which is `None`.
pub(super) fn count_or_auto(text: &str, bounds: Bounds<usize>) -> Result<Option<usize>, Problem> {
    match text {
        "auto" => Ok(None),
        _ => count(text, bounds).map(Some).map_err(|problem| format!("{problem}, or auto")),
    }
}

/// A number of bytes.
pub(super) fn size(text: &str, bounds: Bounds<usize>) -> Result<usize, Problem> {
    bytes_within(bounds.least..=bounds.most)(text)
}

/// A duration.
pub(super) fn time(text: &str, bounds: Bounds<Duration>) -> Result<Duration, Problem> {
    let is_above_zero = bounds.least == Duration::from_millis(1);
    let time = if is_above_zero { duration_above_zero(text)? } else { duration(text)? };
    if bounds.allow(&time) { Ok(time) } else { Err(format!("it {}", bounds.rule)) }
}

/// A duration, or `0`, which turns the feature off and is `None`.
pub(super) fn time_or_off(text: &str, bounds: Bounds<Duration>) -> Result<Option<Duration>, Problem> {
    if duration(text)?.is_zero() { Ok(None) } else { time(text, bounds).map(Some) }
}

/// Adds an address or path to listen on.
pub(super) fn listen(config: &mut ServeConfig, text: &str) -> Result<(), Problem> {
    match listen_address(text)? {
        ListenAddress::Tcp(address) => config.server.listen.push(address),
        ListenAddress::Unix(path) => config.server.listen_unix.push(path),
    }
    Ok(())
}

/// Adds a name that clients reach the server by.
pub(super) fn host(config: &mut ServeConfig, text: &str) -> Result<(), Problem> {
    match host_name(text)? {
        any if any == "*" => config.server.hosts.any = true,
        name => config.server.hosts.names.push(name),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: Bounds<usize> = Bounds { least: 1, most: 9, rule: "must be from 1 to 9" };

    fn seconds(least: u64, most: u64) -> Bounds<Duration> {
        let [least, most] = [least, most].map(Duration::from_secs);
        Bounds { least, most, rule: "must be from here to there" }
    }

    #[test]
    fn a_count_may_be_left_to_the_server() {
        assert_eq!(count_or_auto("auto", COUNT), Ok(None));
        assert_eq!(count_or_auto("9", COUNT), Ok(Some(9)));
        assert_eq!(
            count_or_auto("many", COUNT).unwrap_err(),
            "it must be a whole number from 1 to 9, or auto"
        );
        assert_eq!(count("10", COUNT).unwrap_err(), "it must be a whole number from 1 to 9");
    }

    #[test]
    fn a_time_keeps_the_bounds_of_its_setting() {
        let least = Bounds { least: Duration::from_millis(1), ..seconds(0, 9) };
        assert_eq!(time("0", least).unwrap_err(), "it cannot be 0; the least is 1ms");
        assert_eq!(time("0", seconds(0, 9)), Ok(Duration::ZERO));
        for text in ["0", "4s", "10s"] {
            assert_eq!(time(text, seconds(5, 9)).unwrap_err(), "it must be from here to there", "{text}");
        }
        assert_eq!(time_or_off("0", seconds(5, 9)), Ok(None));
        assert_eq!(time_or_off("5s", seconds(5, 9)), Ok(Some(Duration::from_secs(5))));
        assert!(time_or_off("4s", seconds(5, 9)).is_err());
    }
}
