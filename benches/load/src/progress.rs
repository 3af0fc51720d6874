//! How far a load of many minutes has come, for people: a bar on standard error, if that is a terminal.

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

/// A bar for `count` steps, which is cleared when it is dropped. What else goes to standard error meanwhile must be written within
/// [`ProgressBar::suspend`].
pub fn bar(count: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(TEMPLATE).expect("the template is well formed");
    ProgressBar::new(count).with_style(style).with_finish(ProgressFinish::AndClear)
}

const TEMPLATE: &str = "{bar:24} {pos} of {len}{msg}, {elapsed} so far, {eta} left";
