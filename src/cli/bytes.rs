//! Sizes as people write them.

/// Parses `2G`, `512M`, `1.5GiB`, `65536`: powers of 1024.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    parse_in(text, 1024.0)
}

/// Parses `2G`, `512M`, `65536` in powers of 1000, and `1.5GiB` in powers of 1024.
pub(super) fn parse_decimal(text: &str) -> Result<u64, String> {
    let binary = text.to_ascii_uppercase().trim_end_matches('B').ends_with('I');
    parse_in(text, if binary { 1024.0 } else { 1000.0 })
}

/// Parses a size whose units are powers of `base`.
fn parse_in(text: &str, base: f64) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_uppercase();
    let exponent = match unit.trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return Err(format!("unknown unit `{unit}`; use K, M, G or T, e.g. 512M")),
    };
    let number: f64 = digits.parse().map_err(|_| format!("`{text}` is no size; write e.g. 512M or 2G"))?;
    let bytes = number * base.powi(exponent);
    if (1.0..=2f64.powi(60)).contains(&bytes) {
        Ok(bytes as u64)
    } else {
        Err(format!("`{text}` is out of range"))
    }
}

/// `bytes` with three digits or so: `4.2 MiB`.
pub(super) fn show(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse("64M"), Ok(64 << 20));
        assert_eq!(parse("1.5GiB"), Ok(3 << 29));
        assert_eq!(parse("2g"), Ok(2 << 30));
        assert_eq!(parse("4096"), Ok(4096));
        for bad in ["", "M", "-1M", "3X", "0", "nanG", "1e30T"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_decimal("2G"), Ok(2_000_000_000));
        assert_eq!(parse_decimal("1.5gib"), Ok(3 << 29));
        assert_eq!(parse_decimal("65536"), Ok(65536));
        assert_eq!(show(4_404_019), "4.2 MiB");
        assert_eq!(show(12), "12 B");
    }
}
