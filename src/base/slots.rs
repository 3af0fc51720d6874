//! TODO by helper
