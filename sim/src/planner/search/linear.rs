//! A dense simplex for the small linear programs whose shadow prices bound the search.
//!
//! `max c·x` subject to `A·x ≤ 1`, `x ≥ 0`: the origin is a start. Only the shadow prices are wanted, and any prices
//! ≥ 0 make valid bounds, so a program that is left after [`MOST_PIVOTS`] costs strength, not correctness.

/// Pivots after which a program is left as it is.
const MOST_PIVOTS: usize = 200;
/// Smallest pivot, and smallest gain worth one; coefficients are of order 1.
const TINY: f64 = 1e-9;

/// The shadow price of each row of `max gain·x`, `rows·x ≤ 1`, `x ≥ 0`; `rows[row · columns + column]`.
pub(super) fn shadow_prices(gain: &[f64], rows: Vec<f64>) -> Vec<f64> {
    let columns = gain.len();
    let count = rows.len() / columns.max(1);
    let mut program = Dictionary {
        columns,
        table: rows,
        room: vec![1.0; count],
        cost: gain.iter().map(|gain| -gain).collect(),
        // variables 0 … columns are x, the others the slack of a row
        outside: (0..columns).collect(),
        inside: (columns..columns + count).collect(),
    };
    for _ in 0..MOST_PIVOTS {
        let Some((row, column)) = program.entering().and_then(|column| program.leaving(column)) else {
            break;
        };
        program.pivot(row, column);
    }
    let mut prices = vec![0.0; count];
    for (&variable, &cost) in program.outside.iter().zip(&program.cost) {
        if variable >= columns {
            prices[variable - columns] = cost.max(0.0);
        }
    }
    prices
}

/// The basic variables (`inside`) in terms of the others (`outside`).
struct Dictionary {
    columns: usize,
    table: Vec<f64>,
    room: Vec<f64>,
    cost: Vec<f64>,
    outside: Vec<usize>,
    inside: Vec<usize>,
}

impl Dictionary {
    /// The column that gains most per unit; the first of equals.
    fn entering(&self) -> Option<usize> {
        let mut best = None;
        let mut least = -TINY;
        for (column, &cost) in self.cost.iter().enumerate() {
            if cost < least {
                (least, best) = (cost, Some(column));
            }
        }
        best
    }

    /// The row that runs out first as `column` grows; the first of equals.
    fn leaving(&self, column: usize) -> Option<(usize, usize)> {
        let mut best = None;
        let mut least = f64::INFINITY;
        for (row, &room) in self.room.iter().enumerate() {
            let use_ = self.table[row * self.columns + column];
            if use_ > TINY && room / use_ < least {
                (least, best) = (room / use_, Some((row, column)));
            }
        }
        best
    }

    fn pivot(&mut self, row: usize, column: usize) {
        let columns = self.columns;
        let inverse = 1.0 / self.table[row * columns + column];
        let mut pivot_row: Vec<f64> =
            self.table[row * columns..(row + 1) * columns].iter().map(|entry| entry * inverse).collect();
        pivot_row[column] = inverse;
        let pivot_room = self.room[row] * inverse;
        let eliminate = |entries: &mut [f64]| {
            let factor = entries[column];
            entries[column] = 0.0;
            for (entry, pivot) in entries.iter_mut().zip(&pivot_row) {
                *entry -= factor * pivot;
            }
            factor
        };
        for (other, entries) in self.table.chunks_exact_mut(columns).enumerate() {
            if other != row && entries[column] != 0.0 {
                let factor = eliminate(entries);
                self.room[other] = (self.room[other] - factor * pivot_room).max(0.0);
            }
        }
        eliminate(&mut self.cost);
        self.table[row * columns..(row + 1) * columns].copy_from_slice(&pivot_row);
        self.room[row] = pivot_room;
        std::mem::swap(&mut self.inside[row], &mut self.outside[column]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shadow_prices_are_those_of_the_textbook() {
        // max 3x + 5y, x ≤ 4, 2y ≤ 12, 3x + 2y ≤ 18, scaled to rooms of 1: 36 = 0·1 + 18·1 + 18·1
        let rows = vec![1.0 / 4.0, 0.0, 0.0, 2.0 / 12.0, 3.0 / 18.0, 2.0 / 18.0];
        let prices = shadow_prices(&[3.0, 5.0], rows);
        for (price, expected) in prices.iter().zip([0.0, 18.0, 18.0]) {
            assert!((price - expected).abs() < 1e-9, "{prices:?}");
        }
        assert_eq!(shadow_prices(&[], Vec::new()), Vec::<f64>::new());
    }
}
