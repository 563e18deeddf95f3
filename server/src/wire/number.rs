//! Numbers as Prometheus writes them.
//!
//! Values: the shortest digits that read back to the same double; positional notation from 1e-6
//! up to 1e21, beyond that an exponent of at least two digits (`1e-07`, `1e+21`), as Go's `'f'`
//! and `'e'` formats have it. Timestamps: seconds with up to three decimals.

/// Appends a value.
pub fn push_float(out: &mut String, value: f64) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    if value == 0.0 {
        return out.push_str(if value.is_sign_negative() { "-0" } else { "0" });
    }
    if value.fract() == 0.0 && value.abs() < 9e15 {
        let mut buffer = itoa::Buffer::new();
        #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
        return out.push_str(buffer.format(value as i64));
    }
    if push_short_decimal(out, value) {
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    if !text.contains('e') && value.abs() < 9e15 {
        // Positional, with a fraction that is not 0: already as it should be.
        return out.push_str(text);
    }
    let (text, sign) = match text.strip_prefix('-') {
        Some(rest) => (rest, "-"),
        None => (text, ""),
    };
    let (mantissa, exponent) = match text.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, exponent.parse().unwrap_or(0)),
        None => (text, 0_i32),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = if fraction == "0" { "" } else { fraction };
    out.push_str(sign);
    push_decimal(out, whole, fraction, exponent);
}

/// Writes a value that has at most three decimals, as most measured ones have; false, and nothing
/// written, if it has more.
///
/// A decimal of up to 15 digits is the only one that short to read back to its double, so it is
/// the shortest text.
fn push_short_decimal(out: &mut String, value: f64) -> bool {
    let magnitude = value.abs();
    if magnitude >= 1e12 {
        return false;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 1e15")]
    #[expect(clippy::cast_sign_loss, reason = "a magnitude")]
    let thousandths = (magnitude * 1000.0 + 0.5) as u64;
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    if thousandths as f64 / 1000.0 != magnitude {
        return false;
    }
    if value < 0.0 {
        out.push('-');
    }
    push_thousandths(out, thousandths);
    true
}

/// Writes `thousandths / 1000` with up to three decimals.
fn push_thousandths(out: &mut String, thousandths: u64) {
    push_unsigned(out, thousandths / 1000);
    let fraction = thousandths % 1000;
    if fraction == 0 {
        return;
    }
    let digit = |number: u64| char::from(b'0' + (number % 10) as u8);
    out.push('.');
    out.push(digit(fraction / 100));
    if !fraction.is_multiple_of(100) {
        out.push(digit(fraction / 10));
    }
    if !fraction.is_multiple_of(10) {
        out.push(digit(fraction));
    }
}

/// Writes `whole.fraction * 10^exponent`.
fn push_decimal(out: &mut String, whole: &str, fraction: &str, exponent: i32) {
    let mut digits = String::with_capacity(24);
    digits.push_str(whole);
    digits.push_str(fraction);
    let leading_zeros = digits.len() - digits.trim_start_matches('0').len();
    let significant = digits.trim_matches('0');
    // The value is 0.<significant> * 10^point.
    let point = whole.len() as i32 + exponent - leading_zeros as i32;
    let scientific = point - 1;
    if !(-6..21).contains(&scientific) {
        let (first, rest) = significant.split_at(1);
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        out.push('e');
        out.push(if scientific < 0 { '-' } else { '+' });
        let magnitude = scientific.unsigned_abs();
        if magnitude < 10 {
            out.push('0');
        }
        return push_unsigned(out, u64::from(magnitude));
    }
    if point <= 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', point.unsigned_abs() as usize));
        return out.push_str(significant);
    }
    let point = point.unsigned_abs() as usize;
    if significant.len() <= point {
        out.push_str(significant);
        out.extend(std::iter::repeat_n('0', point - significant.len()));
    } else {
        let (before, after) = significant.split_at(point);
        out.push_str(before);
        out.push('.');
        out.push_str(after);
    }
}

/// Appends a whole number.
pub fn push_unsigned(out: &mut String, number: u64) {
    out.push_str(itoa::Buffer::new().format(number));
}

/// Appends a time in milliseconds as seconds with up to three decimals: `1.5`, `-0.001`.
pub fn push_timestamp(out: &mut String, time_ms: i64) {
    let magnitude = time_ms.unsigned_abs();
    if time_ms < 0 {
        out.push('-');
    }
    push_thousandths(out, magnitude);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_go_writes_them() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-17.0, "-17"),
            (0.1, "0.1"),
            (123.456, "123.456"),
            (1e-6, "0.000001"),
            (1.5e-6, "0.0000015"),
            (1e-7, "1e-07"),
            (1.25e-7, "1.25e-07"),
            (5e-324, "5e-324"),
            (1e20, "100000000000000000000"),
            (1.2345e20, "123450000000000000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (f64::MAX, "1.7976931348623157e+308"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (1e16, "10000000000000000"),
            (-2.5e-8, "-2.5e-08"),
            (100.25, "100.25"),
            (0.012, "0.012"),
            (-0.125, "-0.125"),
            (999_999_999_999.5, "999999999999.5"),
            (1_000_000_000_000.5, "1000000000000.5"),
            (8_999_999_999_999_999.5, "9000000000000000"),
            (0.0005, "0.0005"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ];
        for (value, expected) in cases {
            let mut out = String::new();
            push_float(&mut out, value);
            assert_eq!(out, expected, "{value:?}");
        }
    }

    #[test]
    fn values_read_back_to_the_same_bits() {
        let mut x = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..20_000 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let value = f64::from_bits(x);
            if value.is_nan() {
                continue;
            }
            let mut out = String::new();
            push_float(&mut out, value);
            let back: f64 = out.replace("+Inf", "inf").parse().unwrap();
            assert_eq!(back.to_bits(), value.to_bits(), "{out}");
        }
    }

    #[test]
    fn timestamps_have_up_to_three_decimals() {
        for (ms, expected) in [
            (0, "0"),
            (1, "0.001"),
            (1_500, "1.5"),
            (1_010, "1.01"),
            (-1, "-0.001"),
            (-1_500, "-1.5"),
            (1_435_781_451_781, "1435781451.781"),
            (i64::MIN, "-9223372036854775.808"),
        ] {
            let mut out = String::new();
            push_timestamp(&mut out, ms);
            assert_eq!(out, expected);
        }
    }
}
