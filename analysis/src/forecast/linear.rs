//! Small dense least squares: a symmetric matrix of cross products, ridge, Cholesky.
//!
//! Made for some tens of unknowns. Cost: p³/6 multiplications.

/// Cross products of p regressors and of them with the target.
#[derive(Clone, Debug)]
pub(crate) struct Normal {
    size: usize,
    /// Row-major; the lower triangle is what counts.
    gram: Vec<f64>,
    target: Vec<f64>,
}

impl Normal {
    /// Nothing observed yet.
    pub(crate) fn new(size: usize) -> Self {
        Self {
            size,
            gram: vec![0.0; size * size],
            target: vec![0.0; size],
        }
    }

    /// Adds to the product of regressors `row` >= `column`.
    pub(crate) fn add(&mut self, row: usize, column: usize, product: f64) {
        debug_assert!(row >= column, "bug: only the lower triangle is kept");
        self.gram[row * self.size + column] += product;
    }

    /// Adds to the product of a regressor with the target.
    pub(crate) fn add_target(&mut self, row: usize, product: f64) {
        self.target[row] += product;
    }

    /// The product of two regressors, in either order.
    pub(crate) fn product(&self, row: usize, column: usize) -> f64 {
        self.gram[row.max(column) * self.size + row.min(column)]
    }

    /// The column of the inverse of the cross products with this index.
    pub(crate) fn solve_unit(&self, column: usize) -> Vec<f64> {
        let mut unit = Self {
            target: vec![0.0; self.size],
            ..self.clone()
        };
        unit.target[column] = 1.0;
        unit.solve(0.0)
    }

    /// The coefficients that minimise the squares plus `ridge`, a share of each regressor's own
    /// square, times the squared coefficients.
    ///
    /// Regressors that say nothing new (dependent or zero) get about 0; never fails, and is
    /// finite for finite products.
    pub(crate) fn solve(&self, ridge: f64) -> Vec<f64> {
        let n = self.size;
        let mut factor = vec![0.0; n * n];
        let mut solution = vec![0.0; n];
        for i in 0..n {
            let own = self.gram[i * n + i];
            for j in 0..=i {
                let (head, tail) = factor.split_at_mut(i * n);
                let row_i = &tail[..j];
                let product = if i == j {
                    own * (1.0 + ridge)
                } else {
                    self.gram[i * n + j]
                };
                let row_j = if i == j {
                    row_i
                } else {
                    &head[j * n..j * n + j]
                };
                let rest = product - dot(row_i, row_j);
                tail[j] = if i == j {
                    // A dependent regressor leaves nothing: give it an infinite price.
                    if rest > own * 1e-13 {
                        rest.sqrt()
                    } else {
                        f64::INFINITY
                    }
                } else {
                    rest / head[j * n + j]
                };
            }
            let row = &factor[i * n..i * n + i];
            solution[i] = (self.target[i] - dot(row, &solution[..i])) / factor[i * n + i];
        }
        for i in (0..n).rev() {
            let mut rest = solution[i];
            for k in i + 1..n {
                rest -= factor[k * n + i] * solution[k];
            }
            solution[i] = rest / factor[i * n + i];
        }
        solution
    }
}

/// The inner product, in four independent sums so that the processor need not wait.
pub(crate) fn dot(left: &[f64], right: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (left_chunks, left_rest) = left.as_chunks::<4>();
    let (right_chunks, right_rest) = right.as_chunks::<4>();
    for (a, b) in left_chunks.iter().zip(right_chunks) {
        for lane in 0..4 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = left_rest.iter().zip(right_rest).map(|(a, b)| a * b).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(rows: &[(&[f64], f64)], ridge: f64) -> Vec<f64> {
        let size = rows[0].0.len();
        let mut normal = Normal::new(size);
        for (x, y) in rows {
            for i in 0..size {
                for j in 0..=i {
                    normal.add(i, j, x[i] * x[j]);
                }
                normal.add_target(i, x[i] * y);
            }
        }
        normal.solve(ridge)
    }

    #[test]
    fn finds_the_line() {
        let rows: Vec<([f64; 2], f64)> = (0..10)
            .map(|i| ([1.0, f64::from(i)], 3.0 - 2.0 * f64::from(i)))
            .collect();
        let rows: Vec<(&[f64], f64)> = rows.iter().map(|(x, y)| (&x[..], *y)).collect();
        let found = fit(&rows, 0.0);
        assert!((found[0] - 3.0).abs() < 1e-9 && (found[1] + 2.0).abs() < 1e-9);
    }

    #[test]
    fn dependent_and_empty_regressors_do_no_harm() {
        let rows: Vec<(&[f64], f64)> = vec![(&[1.0, 1.0, 0.0], 2.0), (&[2.0, 2.0, 0.0], 4.0)];
        let found = fit(&rows, 0.0);
        assert!((found[0] + found[1] - 2.0).abs() < 1e-9, "{found:?}");
        assert_eq!(found[2], 0.0);
    }

    #[test]
    fn the_inner_product_takes_any_length() {
        for length in 0..9 {
            let values: Vec<f64> = (0..length).map(f64::from).collect();
            let expected: f64 = values.iter().map(|v| v * v).sum();
            assert_eq!(dot(&values, &values), expected);
        }
    }
}
