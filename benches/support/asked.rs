//! Whether a bench is to measure: `cargo test --all-targets` runs it too, without saying so.

/// Returns true if and only if this program was started by `cargo bench`; says so where it was not.
pub(crate) fn is_asked_to_measure(bench: &str) -> bool {
    let is_asked = std::env::args().any(|argument| argument == "--bench");
    if !is_asked {
        println!("{bench} measures under `cargo bench` alone");
    }
    is_asked
}
