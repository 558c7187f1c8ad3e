//! Numbers with their units, as the figures write them: three significant digits, thousands apart.

/// Seconds as `0.25 ms`, `105 ms`, `3.2 s` or `1,240 s`.
pub fn seconds(value: f64) -> String {
    if value == 0.0 {
        "0 s".to_owned()
    } else if value < 1e-3 {
        format!("{} µs", number(value * 1e6))
    } else if value < 0.9995 {
        format!("{} ms", number(value * 1e3))
    } else {
        format!("{} s", number(value))
    }
}

/// A percentage as `93.4 %`.
pub fn percent(value: f64) -> String {
    format!("{value:.1} %")
}

/// A factor as `1.5×`.
pub fn factor(value: f64) -> String {
    format!("{}×", number(value))
}

/// A number ≥ 0 to three significant digits: `0.0123`, `1.5`, `105`, `12,300`, `1.23 M`, `4.56e12`.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let magnitude = value.abs();
    if magnitude >= 999_500_000_000.0 || (magnitude > 0.0 && magnitude < 0.000_999_5) {
        return format!("{value:.2e}");
    }
    for (size, suffix) in [(1e9, " G"), (1e6, " M")] {
        if magnitude >= size * 0.9995 {
            return trimmed(value / size) + suffix;
        }
    }
    if magnitude >= 999.5 { thousands(value.round()) } else { trimmed(value) }
}

/// Three significant digits of a number below 1000, without trailing zeros.
fn trimmed(value: f64) -> String {
    let decimals = match value.abs() {
        magnitude if magnitude >= 99.95 => 0,
        magnitude if magnitude >= 9.995 => 1,
        magnitude if magnitude >= 0.9995 => 2,
        magnitude if magnitude >= 0.099_95 => 3,
        magnitude if magnitude >= 0.009_995 => 4,
        _ => 5,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A whole number below a million with a comma between thousands.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let split = digits.len().saturating_sub(3);
    format!("{},{}", &digits[..split], &digits[split..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits_and_lose_trailing_zeros() {
        let written = [0.0, 0.01234, 0.5, 1.5, 12.0, 105.4, 999.6, 12_345.0, 1_234_567.0].map(number);
        assert_eq!(written, ["0", "0.0123", "0.5", "1.5", "12", "105", "1,000", "12,345", "1.23 M"]);
        assert_eq!([f64::NAN, 4.56e13, 1e-7].map(number), ["–", "4.56e13", "1.00e-7"]);
    }

    #[test]
    fn seconds_take_the_unit_that_keeps_them_short() {
        assert_eq!(
            [0.0, 2.5e-5, 0.00025, 0.105, 0.9996, 3.2, 1240.0].map(seconds),
            ["0 s", "25 µs", "250 µs", "105 ms", "1 s", "3.2 s", "1,240 s"]
        );
    }
}
