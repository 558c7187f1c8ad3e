//! Why the numbers are as they are: sentences written after looking at `summary.md`, for the program and seeds of this version.

/// The reason of one claim.
pub fn of(key: &str, semantics: &str) -> &'static str {
    match (key, semantics) {
        _ => "",
    }
}

/// The reason of the design validation at one SLO scale.
pub fn of_scale(key: &str, scale: f64) -> &'static str {
    match (key, scale > 1.0) {
        _ => "",
    }
}

/// What to make of the comparisons that the paper does not have.
pub const NOT_IN_THE_PAPER: &str = "";
