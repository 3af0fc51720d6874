//! What the benches make of repeated measurements.

use crate::interval::Interval;

fn of(count: u32) -> (f64, f64, f64) {
    // In no order.
    let numbers = (0..count).map(|number| f64::from((number * 7) % count + 1));
    let Interval { lower, median, upper } = Interval::of(numbers).expect("there are numbers");
    (lower, median, upper)
}

#[test]
fn an_interval_leaves_out_as_many_numbers_as_a_table_of_the_sign_test_says() {
    for (count, expected) in [
        (1, (1.0, 1.0, 1.0)),
        (5, (1.0, 3.0, 5.0)),
        (6, (1.0, 3.5, 6.0)),
        (9, (2.0, 5.0, 8.0)),
        (15, (4.0, 8.0, 12.0)),
        (31, (10.0, 16.0, 22.0)),
    ] {
        assert_eq!(of(count), expected, "{count}");
    }
}

#[test]
fn without_numbers_there_is_no_interval() {
    assert!(Interval::of([]).is_none());
}

#[test]
fn it_is_written_with_its_median_first() {
    let interval = Interval::of([1.0, 2.0, 3.0]).unwrap();
    assert_eq!(interval.to_string(), "2.000 [1.000 3.000]");
}
