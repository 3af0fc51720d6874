//! Figures for people: three digits, with a unit that suits their size.

use std::fmt::Display;

/// A unit: its size in the base unit, and its name.
pub type Unit = (f64, &'static str);

/// Units of nanoseconds.
pub const TIMES: [Unit; 4] = [(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")];

/// Units of bytes of memory.
pub const BYTES: [Unit; 3] = [(1.0, "B"), (1e3, "kB"), (1e6, "MB")];

/// Units of bytes of data, which come in powers of two.
const SIZES: [Unit; 2] = [(1.0, "B"), (1024.0, "KiB")];

/// Units of counts.
pub const COUNTS: [Unit; 3] = [(1.0, ""), (1e3, "k"), (1e6, "M")];

/// The largest unit not above the number, or the smallest.
pub fn unit_of(number: f64, units: &[Unit]) -> Unit {
    let fitting = units.iter().rev().find(|unit| number >= unit.0);
    *fitting.unwrap_or(&units[0])
}

/// A number in a unit, without its name: three digits, more only before the point.
pub fn in_unit(number: f64, unit: Unit) -> String {
    let number = number / unit.0;
    match number {
        _ if number < 9.995 => format!("{number:.2}"),
        _ if number < 99.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

/// A number with its unit.
pub fn with_unit(number: f64, units: &[Unit]) -> String {
    let unit = unit_of(number, units);
    join(&in_unit(number, unit), unit)
}

/// A number on an axis, without superfluous digits.
pub fn on_axis(number: f64, units: &[Unit]) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let unit = unit_of(number * (1.0 + f64::EPSILON), units);
    let text = format!("{:.3}", number / unit.0);
    join(text.trim_end_matches('0').trim_end_matches('.'), unit)
}

/// A count without fractions, with its thousands separated.
pub fn grouped(count: impl Display) -> String {
    let digits = format!("{count:.0}");
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{a0}');
        }
        text.push(digit);
    }
    text
}

/// Bytes of data: 64 B, 1 KiB.
pub fn size(bytes: u64) -> String {
    on_axis(bytes as f64, &SIZES)
}

/// A number, in text, beside the name of its unit.
pub fn join(number: &str, unit: Unit) -> String {
    if unit.1.is_empty() { number.to_owned() } else { format!("{number}\u{a0}{}", unit.1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit_of_their_size() {
        let text = |number, units: &[Unit]| with_unit(number, units).replace('\u{a0}', " ");
        assert_eq!(text(0.0, &TIMES), "0.00 ns");
        assert_eq!(text(43.84, &TIMES), "43.8 ns");
        assert_eq!(text(4_812.0, &TIMES), "4.81 µs");
        assert_eq!(text(99.96e6, &TIMES), "100 ms");
        assert_eq!(text(3.2e9, &TIMES), "3.20 s");
        assert_eq!(text(11_820_000.0, &COUNTS), "11.8 M");
        assert_eq!(text(254.2, &BYTES), "254 B");
        assert_eq!(text(10_263.0, &BYTES), "10.3 kB");
    }

    #[test]
    fn axes_and_sizes_have_no_digits_without_a_meaning() {
        let text = |number, units: &[Unit]| on_axis(number, units).replace('\u{a0}', " ");
        assert_eq!([0.0, 2500.0, 10_000.0].map(|ns| text(ns, &TIMES)), ["0", "2.5 µs", "10 µs"]);
        assert_eq!(
            [64, 1024, 16384].map(|bytes| size(bytes).replace('\u{a0}', " ")),
            ["64 B", "1 KiB", "16 KiB"]
        );
        assert_eq!(
            [1, 1000, 15_000, 1_234_567].map(grouped),
            ["1", "1\u{a0}000", "15\u{a0}000", "1\u{a0}234\u{a0}567"]
        );
    }
}
