//! Weighted least squares on relative error with coefficients that are never negative, for a handful of them.
//!
//! Minimises `Σ w·((Σ_j a_j·x_j − t)/t)²` over `x ≥ 0`. With at most four coefficients the exact answer is found by trying
//! every subset of them; columns are scaled to length 1, so that seconds and seconds per byte may stand side by side.

/// One point: what each coefficient is multiplied with, the measured seconds, and how often the point counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<const P: usize> {
    pub columns: [f64; P],
    pub seconds: f64,
    pub weight: f64,
}

/// Below this share of its length a column is taken as a combination of the others.
const COLLINEAR: f64 = 1e-9;

/// The coefficients, or `None` if no subset of the columns gives any. A column that the points cannot tell from earlier
/// ones gets 0.
pub(super) fn solve<const P: usize>(rows: &[Row<P>]) -> Option<[f64; P]> {
    let normal = Normal::of(rows)?;
    let everything = (1_u32 << P) - 1;
    if let Some(solution) = normal.solve(everything)
        && solution.iter().all(|value| *value >= 0.0)
    {
        return Some(normal.unscaled(solution));
    }
    let mut best: Option<(f64, [f64; P])> = None;
    for columns in 1..everything {
        let Some(solution) = normal.solve(columns) else { continue };
        if solution.iter().any(|value| *value < 0.0) {
            continue;
        }
        let error = normal.error(&solution);
        if best.is_none_or(|(least, _)| error < least - 1e-12) {
            best = Some((error, solution));
        }
    }
    best.map(|(_, solution)| normal.unscaled(solution))
}

/// The normal equations over scaled columns.
struct Normal<const P: usize> {
    products: [[f64; P]; P],
    right: [f64; P],
    total: f64,
    lengths: [f64; P],
}

impl<const P: usize> Normal<P> {
    fn of(rows: &[Row<P>]) -> Option<Self> {
        let mut normal = Normal { products: [[0.0; P]; P], right: [0.0; P], total: 0.0, lengths: [0.0; P] };
        for row in rows.iter().filter(|row| row.weight > 0.0) {
            let relative = row.columns.map(|column| column / row.seconds);
            normal.total += row.weight;
            for (i, left) in relative.iter().enumerate() {
                normal.right[i] += row.weight * left;
                for (j, right) in relative.iter().enumerate() {
                    normal.products[i][j] += row.weight * left * right;
                }
            }
        }
        for i in 0..P {
            normal.lengths[i] = normal.products[i][i].sqrt();
        }
        let lengths = normal.lengths;
        let scale = |i: usize| if lengths[i] > 0.0 { 1.0 / lengths[i] } else { 0.0 };
        for i in 0..P {
            normal.right[i] *= scale(i);
            for j in 0..P {
                normal.products[i][j] *= scale(i) * scale(j);
            }
        }
        let finite = normal.right.iter().chain(normal.products.iter().flatten()).all(|v| v.is_finite());
        (finite && normal.total > 0.0).then_some(normal)
    }

    /// Over the columns whose bit is set, by Cholesky's decomposition; `None` if they depend on each other.
    fn solve(&self, columns: u32) -> Option<[f64; P]> {
        let used: Vec<usize> = (0..P).filter(|column| columns & (1 << column) != 0).collect();
        let n = used.len();
        let mut lower = [[0.0; P]; P];
        for i in 0..n {
            for j in 0..=i {
                let dot: f64 = (0..j).map(|k| lower[i][k] * lower[j][k]).sum();
                let rest = self.products[used[i]][used[j]] - dot;
                if i == j {
                    if rest <= COLLINEAR {
                        return None;
                    }
                    lower[i][i] = rest.sqrt();
                } else {
                    lower[i][j] = rest / lower[j][j];
                }
            }
        }
        let mut forward = [0.0; P];
        for i in 0..n {
            let dot: f64 = (0..i).map(|k| lower[i][k] * forward[k]).sum();
            forward[i] = (self.right[used[i]] - dot) / lower[i][i];
        }
        let mut solution = [0.0; P];
        for i in (0..n).rev() {
            let dot: f64 = (i + 1..n).map(|k| lower[k][i] * solution[used[k]]).sum();
            solution[used[i]] = (forward[i] - dot) / lower[i][i];
        }
        Some(solution)
    }

    /// `Σ w·(relative error)²` of a scaled solution.
    fn error(&self, solution: &[f64; P]) -> f64 {
        let mut error = self.total;
        for i in 0..P {
            error -= 2.0 * self.right[i] * solution[i];
            for j in 0..P {
                error += self.products[i][j] * solution[i] * solution[j];
            }
        }
        error
    }

    fn unscaled(&self, solution: [f64; P]) -> [f64; P] {
        let mut plain = solution;
        for (value, length) in plain.iter_mut().zip(self.lengths) {
            *value = if length > 0.0 { *value / length } else { 0.0 };
        }
        plain
    }
}

/// The least relative error that counts as a difference between two forms of a model: no timer here is better than 1 ppm.
const EXACT: f64 = 1e-6;

/// The Bayesian information criterion, `n·ln(Σe²/n) + p·ln(n)`: the lower the better.
pub(super) fn criterion(sum_of_squares: f64, points: f64, coefficients: usize) -> f64 {
    let mean = (sum_of_squares / points).max(EXACT * EXACT);
    points * mean.ln() + coefficients as f64 * points.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: [f64; 2], seconds: f64) -> Row<2> {
        Row { columns, seconds, weight: 1.0 }
    }

    #[test]
    fn exact_points_give_exact_coefficients_whatever_their_units() {
        // 3 µs + 20 ps/B · bytes
        let rows: Vec<Row<2>> =
            [1e3, 1e5, 1e8].iter().map(|&bytes| row([1.0, bytes], 3e-6 + 2e-11 * bytes)).collect();
        let [constant, slope] = solve(&rows).unwrap();
        assert!((constant / 3e-6 - 1.0).abs() < 1e-6, "{constant}");
        assert!((slope / 2e-11 - 1.0).abs() < 1e-9, "{slope}");
    }

    #[test]
    fn a_coefficient_that_would_be_negative_is_zero_and_the_other_is_best_without_it() {
        // t = x − 1 wants the constant −1; without it Σ((s·x − t)/t)² is least at s = Σ(x/t)/Σ(x/t)².
        let rows = [row([1.0, 2.0], 1.0), row([1.0, 4.0], 3.0)];
        let [constant, slope] = solve(&rows).unwrap();
        // x/t = 2 and 4/3: (2 + 4/3)/(4 + 16/9) = (10/3)/(52/9) = 15/26
        assert_eq!(constant, 0.0);
        assert!((slope - 15.0 / 26.0).abs() < 1e-12, "{slope}");
    }

    #[test]
    fn columns_that_cannot_be_told_apart_go_to_the_first_of_them() {
        let rows = [row([2.0, 4.0], 6.0), row([1.0, 2.0], 3.0)];
        let [first, second] = solve(&rows).unwrap();
        assert!((first - 3.0).abs() < 1e-12 && second == 0.0, "{first} {second}");
        assert_eq!(solve::<2>(&[]), None);
        assert_eq!(solve(&[row([0.0, 0.0], 1.0)]), None);
    }

    #[test]
    fn a_point_that_counts_twice_is_two_points() {
        let points = [row([1.0, 1.0], 1.1), row([1.0, 3.0], 2.9), row([1.0, 5.0], 5.2)];
        let weighted = [points[0], points[1], Row { weight: 2.0, ..points[2] }];
        let doubled = [points[0], points[1], points[2], points[2]];
        let (one, other) = (solve(&weighted).unwrap(), solve(&doubled).unwrap());
        assert!((one[0] - other[0]).abs() < 1e-12 && (one[1] - other[1]).abs() < 1e-12);
    }
}
