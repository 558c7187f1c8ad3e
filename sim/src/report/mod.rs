//! Tables and files from what the metrics counted.

pub mod rows;
