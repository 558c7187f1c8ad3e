//! A number that was really measured or stated: finite and above 0, so that "missing" can never read as zero.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A finite number above 0.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Positive(f64);

/// A number that is not finite and above 0.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{value} is refused: expected a finite number above 0")]
pub struct BadNumber {
    /// The number that was given.
    pub value: f64,
}

impl Positive {
    /// `value`, if it is finite and above 0.
    ///
    /// # Errors
    /// Zero, negative, NaN, infinite.
    pub fn new(value: f64) -> Result<Self, BadNumber> {
        if value.is_finite() && value > 0.0 { Ok(Positive(value)) } else { Err(BadNumber { value }) }
    }

    /// A constant of the program. Panics if it is not finite and above 0.
    pub fn literal(value: f64) -> Self {
        Positive::new(value).expect("Invariant: constants of the program are finite and above 0")
    }

    /// The plain number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Positive {
    type Error = BadNumber;
    fn try_from(value: f64) -> Result<Self, BadNumber> {
        Positive::new(value)
    }
}

impl From<Positive> for f64 {
    fn from(value: Positive) -> f64 {
        value.0
    }
}

impl fmt::Display for Positive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl JsonSchema for Positive {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Positive".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "exclusiveMinimum": 0 })
    }
}
