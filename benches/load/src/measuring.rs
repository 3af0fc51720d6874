//! How a bench was started: by `cargo bench`, or without `--bench` by `cargo test --all-targets`; and
//! with which settings from the environment.

/// Returns true if this program was started by `cargo bench`. Otherwise prints that it was not.
pub fn is_asked_to_measure(bench: &str) -> bool {
    let is_asked = std::env::args().any(|argument| argument == "--bench");
    if !is_asked {
        println!("{bench} measures under `cargo bench` alone");
    }
    is_asked
}

/// A positive number from the environment.
///
/// # Panics
/// If the variable has something else.
pub fn number(name: &str, default: usize) -> usize {
    let Ok(text) = std::env::var(name) else { return default };
    match text.parse() {
        Ok(number) if number > 0 => number,
        _ => panic!("{name} is {text:?}: a number from 1 on was expected"),
    }
}
