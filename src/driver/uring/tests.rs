use super::*;

/// Whether the kernel has what the driver needs. Where it has not, that is a failure, or said where skipping is allowed.
pub(in crate::driver) fn proven() -> Option<Proven> {
    match prove() {
        Ok(proven) => Some(proven),
        Err(error) if std::env::var_os("DOWNPOUR_TEST_STRICT").is_some_and(|strict| strict == "1") => {
            panic!("{error}")
        }
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

#[test]
fn this_kernel_tells_of_failures_alone() {
    let Some(proven) = proven() else { return };
    assert_eq!(proven.telling(), sends::Telling::Failures);
}
