//! Whether a bench should measure: `cargo test --all-targets` runs it too, without `--bench`.

/// Returns true if this program was started by `cargo bench`. Otherwise prints that it was not.
pub(crate) fn is_asked_to_measure(bench: &str) -> bool {
    let is_asked = std::env::args().any(|argument| argument == "--bench");
    if !is_asked {
        println!("{bench} measures under `cargo bench` alone");
    }
    is_asked
}
