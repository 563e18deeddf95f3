//! Functions of one float: the same for every sample, histograms are left out.

use std::f64::consts::PI;

/// The function of that name.
pub fn lookup(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sgn" => sgn,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        "deg" => |v| v * 180.0 / PI,
        "rad" => |v| v * PI / 180.0,
        _ => return None,
    })
}

fn sgn(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

/// `round(value, to)`: to the nearest multiple, ties upwards.
#[inline]
pub fn round(value: f64, to_nearest: f64) -> f64 {
    // The inverse causes fewer inaccuracies than dividing twice.
    let inverse = 1.0 / to_nearest;
    (value * inverse + 0.5).floor() / inverse
}

/// `clamp(value, min, max)`; NaN stays.
#[inline]
pub fn clamp(value: f64, min: f64, max: f64) -> f64 {
    go_max(min, go_min(max, value))
}

/// The smaller one; NaN if either is.
#[inline]
pub fn go_min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
            f64::NEG_INFINITY
        } else {
            f64::NAN
        }
    } else {
        a.min(b)
    }
}

/// The larger one; NaN if either is.
#[inline]
pub fn go_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        if a == f64::INFINITY || b == f64::INFINITY {
            f64::INFINITY
        } else {
            f64::NAN
        }
    } else {
        a.max(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_and_clamping() {
        assert_eq!(round(2.5, 1.0), 3.0);
        assert_eq!(round(-2.5, 1.0), -2.0);
        assert_eq!(round(7.3, 5.0), 5.0);
        assert_eq!(clamp(5.0, 0.0, 3.0), 3.0);
        assert!(clamp(f64::NAN, 0.0, 3.0).is_nan());
        assert_eq!(lookup("sgn").unwrap()(-0.5), -1.0);
    }
}
